//! What a database that is somebody else's machine can do: be away, come back, refuse, be somebody else.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use windlass_archive::{
    Archive, Error, Login, Memory, Outside, Password, PostgresArchive, PostgresOptions, TlsMode, Wanted,
};

use crate::both::{Known, addresses, options, workflow};
use crate::database::{PASSWORD, Postgres, USER};

async fn until<T>(what: &str, mut there: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let begun = Instant::now();
    loop {
        match there().await {
            Ok(found) => return found,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn it_goes_away_and_comes_back() {
    let Some(mut server) = Postgres::start("a database that goes away") else { return };
    let archive = PostgresArchive::new(options(server.port, "postgres"), Arc::new(Known));
    archive.keep(vec![workflow("u1", "w", "ci", 1, json!({}))]).await.unwrap();
    server.end();
    let gone = archive.get("u1".into()).await.unwrap_err();
    assert!(gone.is_transient(), "{gone}");
    let gone = archive.keep(vec![workflow("u2", "w", "ci", 1, json!({}))]).await.unwrap_err();
    assert!(gone.is_transient() && gone.to_string().contains("cannot be reached"), "{gone}");
    // Nobody waits for it again and again.
    let begun = Instant::now();
    for _ in 0..100 {
        archive.recall("ci".into(), "c".into(), "k".into()).await.unwrap_err();
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    server.begin(&[]);
    assert!(until("it is back", async || archive.get("u1".into()).await).await.is_some());
    assert!(archive.get("u2".into()).await.unwrap().is_none());
    // Somebody made the database anew: so are the tables.
    server.ask(
        "postgres",
        "DROP TABLE argo_archived_workflows CASCADE; DROP TABLE argo_archived_workflows_labels, schema_history",
    );
    assert_eq!(until("there are tables", async || archive.count(Wanted::default()).await).await, 0);
}

/// Says what it is told to say, and counts.
struct Changing(Mutex<String>, AtomicUsize);

#[async_trait::async_trait]
impl Outside for Changing {
    async fn login(&self) -> Result<Login, String> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let password = self.0.lock().unwrap().clone();
        match password.is_empty() {
            true => Err("the Secret ns/db is not there".to_owned()),
            false => Ok(Login { user: USER.to_owned(), password: Password::new(password) }),
        }
    }
    async fn addresses(&self, host: &str, _: Duration) -> std::io::Result<Vec<IpAddr>> {
        addresses(host)
    }
}

#[tokio::test]
async fn a_login_is_read_again_when_it_is_refused() {
    let Some(server) = Postgres::start("a login that changes") else { return };
    let logins = Arc::new(Changing(Mutex::default(), AtomicUsize::new(0)));
    // No connection is kept, so that each question logs in.
    let chosen = PostgresOptions { idle_max: 0, ..options(server.port, "postgres") };
    let archive = PostgresArchive::new(chosen, logins.clone());
    let none = archive.check().await.unwrap_err();
    assert!(none.to_string().contains("the Secret ns/db is not there") && none.is_transient(), "{none}");
    let change = |to: &str| *logins.0.lock().unwrap() = to.to_owned();
    change("not-the-password");
    let refused = until("it is asked again", async || match archive.check().await {
        Err(error) if error.to_string().contains("passwordSecret") => Ok(error),
        Err(error) => Err(error),
        Ok(()) => panic!("nobody has this password"),
    })
    .await;
    assert!(refused.is_transient(), "{refused}");
    let shown = format!("{refused} {refused:?} {archive:?}");
    assert!(!shown.contains("not-the-password"), "{shown}");
    change(PASSWORD);
    until("the password is right", async || archive.check().await).await;
    let asked = logins.1.load(Ordering::SeqCst);
    archive.check().await.unwrap();
    assert_eq!(logins.1.load(Ordering::SeqCst), asked, "a login that is good is not read again");
    server.ask("postgres", &format!("ALTER USER {USER} PASSWORD 'another-one'"));
    change("another-one");
    archive.check().await.unwrap();
    assert_eq!(logins.1.load(Ordering::SeqCst), asked + 1);
}

#[tokio::test]
async fn what_cannot_be_kept_is_told_from_what_waits() {
    let Some(server) = Postgres::start("what a database refuses") else { return };
    let archive = PostgresArchive::new(options(server.port, "postgres"), Arc::new(Known));
    let refused = archive.keep(vec![workflow(&"u".repeat(200), "w", "ci", 1, json!({}))]).await.unwrap_err();
    assert!(!refused.is_transient(), "{refused}");
    let wrong = Wanted { started_after: Some("yesterday evening".to_owned()), ..Wanted::default() };
    assert!(matches!(archive.list(wrong).await.unwrap_err(), Error::Question(why) if why.contains("evening")));
    // A user who may read and write, and make nothing.
    server.ask("postgres", &format!("CREATE USER reader PASSWORD '{PASSWORD}'"));
    server.ask("postgres", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    struct Reader;
    #[async_trait::async_trait]
    impl Outside for Reader {
        async fn login(&self) -> Result<Login, String> {
            Ok(Login { user: "reader".to_owned(), password: Password::new(PASSWORD) })
        }
        async fn addresses(&self, host: &str, _: Duration) -> std::io::Result<Vec<IpAddr>> {
            addresses(host)
        }
    }
    let reader = PostgresArchive::new(options(server.port, "postgres"), Arc::new(Reader));
    let refused = reader.get("u".into()).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains("grant it"), "{refused}");
    let tables = "argo_archived_workflows, argo_archived_workflows_labels";
    server.ask("postgres", &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO reader"));
    reader.keep(vec![workflow("u", "w", "ci", 1, json!({"a": "b"}))]).await.unwrap();
    // Without a table for it nothing is remembered; the archive does not mind.
    let refused = reader.recall("ns".into(), "c".into(), "k".into()).await.unwrap_err();
    assert!(refused.to_string().contains("grant it"), "{refused}");
    assert!(reader.get("u".into()).await.unwrap().is_some());
    let nowhere = PostgresArchive::new(options(server.port, "nowhere"), Arc::new(Known));
    let refused = nowhere.check().await.unwrap_err();
    assert!(refused.to_string().contains("CREATE DATABASE"), "{refused}");
    let nobody = PostgresOptions { host: "windlass.invalid".to_owned(), ..options(server.port, "postgres") };
    let refused = PostgresArchive::new(nobody, Arc::new(Known)).check().await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains("nobody knows this name"), "{refused}");
}

#[tokio::test]
async fn it_is_encrypted_as_far_as_it_was_asked_for() {
    let Some(mut server) = Postgres::start("a database with TLS") else { return };
    let of = |port: u16, host: &str, tls: TlsMode| {
        let chosen = PostgresOptions { tls, host: host.to_owned(), ..options(port, "postgres") };
        PostgresArchive::new(chosen, Arc::new(Known))
    };
    let port = server.port;
    of(port, "127.0.0.1", TlsMode::Prefer).check().await.unwrap();
    let refused = of(port, "127.0.0.1", TlsMode::Require).check().await.unwrap_err();
    assert!(refused.to_string().contains("does not support TLS"), "{refused}");
    server.end();
    let made = rcgen::generate_simple_self_signed(vec!["db.example".to_owned()]).unwrap();
    server.write("server.crt", &made.cert.pem());
    server.write("server.key", &made.signing_key.serialize_pem());
    server.begin(&["ssl=on"]);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'windlass'";
    for mode in [TlsMode::Prefer, TlsMode::Require] {
        let archive = of(port, "127.0.0.1", mode);
        archive.keep(vec![workflow("u", "w", "ci", 1, json!({}))]).await.unwrap();
        assert_eq!(server.ask("postgres", encrypted), "1", "{mode:?}");
        drop(archive);
        until("it is gone", async || match server.ask("postgres", encrypted).as_str() {
            "0" => Ok(()),
            more => Err(Error::Question(more.to_owned())),
        })
        .await;
    }
    // Nobody here has signed it, whatever its name is.
    for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let refused = of(port, "localhost", mode).check().await.unwrap_err().to_string();
        assert!(refused.contains("certificate"), "{refused}");
    }
    of(port, "localhost", TlsMode::Disable).check().await.unwrap();
}
