//! The archive's database of a controller on a cluster: where it is says the configuration, who we are there say Secrets beside
//! it, which are read with the controller's own rights. Only wiring; it must never put a password anywhere but into a login.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use windlass_archive::{Login, Outside, Password, PostgresArchive, PostgresOptions, TlsMode};
use windlass_control::Scope;
use windlass_engine::persistence::{Database, SecretKey, SslMode};

/// The API is asked for no longer.
const SECRET_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is said that the database is away, at the start.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The archive in this database, of the rows that are this controller's.
pub(crate) fn open(client: &Client, namespace: &str, database: &Database, scope: &Scope) -> PostgresArchive {
    let tls = match database.ssl {
        SslMode::Disable => TlsMode::Disable,
        SslMode::Prefer => TlsMode::Prefer,
        SslMode::Require => TlsMode::Require,
        SslMode::VerifyCa => TlsMode::VerifyCa,
        SslMode::VerifyFull => TlsMode::VerifyFull,
    };
    let options = PostgresOptions {
        host: database.host.clone(),
        port: database.port,
        database: database.database.clone(),
        tls,
        cluster: database.cluster.clone(),
        instance: scope.instance.name().unwrap_or_default().to_owned(),
        namespace: scope.namespace.clone(),
        makes_tables: database.makes_tables,
        offload_table: database.offload_table.clone(),
        connections_max: database.connections_max,
        idle_max: database.idle_max,
        lifetime: database.lifetime_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis),
    };
    let secrets = Secrets {
        api: Api::namespaced(client.clone(), namespace),
        namespace: namespace.to_owned(),
        user: database.user.clone(),
        password: database.password.clone(),
    };
    PostgresArchive::new(options, Arc::new(secrets))
}

/// Says when the database is there, and until then now and then that it is not. Nothing waits for it.
pub(crate) async fn tell(archive: PostgresArchive, database: Database) {
    let (mut pause, most) = AGAIN;
    let Database { host, port, database, .. } = database;
    while let Err(error) = archive.check().await {
        tracing::warn!(%error, "the archive's database is not there; workflows run, and what ends waits for it");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(most);
    }
    tracing::info!(host, port, database, "finished workflows and remembered outputs are in this database");
}

/// Two keys of Secrets.
struct Secrets {
    api: Api<Secret>,
    namespace: String,
    user: SecretKey,
    password: SecretKey,
}

#[async_trait::async_trait]
impl Outside for Secrets {
    async fn login(&self) -> Result<Login, String> {
        let user = self.read(&self.user).await?;
        Ok(Login { user, password: Password::new(self.read(&self.password).await?) })
    }

    async fn addresses(&self, host: &str, within: Duration) -> io::Result<Vec<IpAddr>> {
        let host = host.to_owned();
        let looking = tokio::task::spawn_blocking(move || windlass_artifacts::resolve(&host, within));
        looking.await.map_err(io::Error::other)?
    }
}

impl Secrets {
    async fn read(&self, wanted: &SecretKey) -> Result<String, String> {
        let SecretKey { name, key } = wanted;
        let place = format!("{}/{name}", self.namespace);
        let secret = match tokio::time::timeout(SECRET_TIMEOUT, self.api.get_opt(name)).await {
            Ok(Ok(secret)) => {
                secret.ok_or_else(|| format!("there is no Secret {place}: make it, with the key {key}"))?
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                let right = format!("`windlass install --database-secret {name} …` gives that right");
                return Err(format!("the controller may not read the Secret {place}: {right}"));
            }
            Ok(Err(error)) => return Err(format!("the Secret {place} cannot be read: {error}")),
            Err(_) => return Err(format!("the Secret {place} cannot be read: the API did not answer in time")),
        };
        let value = secret.data.unwrap_or_default().remove(key);
        let value = value.ok_or_else(|| format!("the Secret {place} has no key {key}"))?;
        String::from_utf8(value.0).map_err(|_| format!("the key {key} of the Secret {place} is no text"))
    }
}
