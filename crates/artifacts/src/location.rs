//! Where an artifact lies: Argo's drivers, read from the artifact's JSON. Drivers that are not built yet are refused
//! by name. This must never fetch a secret: the caller looks up what [`secret_refs`] names and hands values in.

use std::time::Duration;

use serde_json::Value;

use crate::cancel::Cancel;
use crate::git::{Credentials, GitSource};
use crate::outside::Outside;
use crate::secret::Secret;
use crate::store::{
    AzureSource, CreateBucket, Driver, GcsSource, HttpAuth, HttpDriver, LocalStore, OAuth2, OssSource, PluginDriver,
    PluginSource, RawDriver, S3Driver, S3Source, StoreError, Style,
};

/// A key in a Secret of the run's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretRef {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// One place that holds, or will hold, an artifact.
#[derive(Clone)]
pub enum Location {
    /// The store on this machine.
    Local {
        /// The key.
        key: String,
    },
    /// Text in the workflow.
    Raw {
        /// The text.
        data: String,
    },
    /// A URL.
    Http {
        /// The URL.
        url: String,
        /// Request headers.
        headers: Vec<(String, Secret)>,
        /// Credentials.
        auth: Option<HttpAuth>,
    },
    /// An object, or objects beneath a prefix.
    S3(Box<S3Source>),
    /// The same at Google.
    Gcs(Box<GcsSource>),
    /// The same at Azure.
    Azure(Box<AzureSource>),
    /// The same at Alibaba.
    Oss(Box<OssSource>),
    /// What a plugin keeps.
    Plugin(Box<PluginSource>),
    /// A repository; it can only be loaded.
    Git(Box<GitSource>),
}

/// Why there is no location in an artifact.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// None of the fields that name a driver.
    #[error("artifact {artifact} has no location: give it `from`, `raw`, `git`, `http` or a key")]
    Missing {
        /// The artifact's name.
        artifact: String,
    },
    /// A driver that is not here, or a field of one.
    #[error("artifact {artifact}: {what}")]
    Unsupported {
        /// The artifact's name.
        artifact: String,
        /// What, and what to use instead.
        what: String,
    },
    /// A field is missing or has the wrong type.
    #[error("artifact {artifact}: {field} {problem}")]
    Field {
        /// The artifact's name.
        artifact: String,
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A Secret or a key in it does not exist.
    #[error("artifact {artifact}: secret {name} has no key {key}, or does not exist")]
    Secret {
        /// The artifact's name.
        artifact: String,
        /// The Secret.
        name: String,
        /// The key.
        key: String,
    },
}

/// Drivers that exist in Argo and not here.
const ABSENT: [&str; 1] = ["hdfs"];
/// How long a plugin is waited for where nobody says it.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The secrets an artifact (Argo's JSON) needs before [`Location::parse`] can read it.
pub fn secret_refs(artifact: &Value) -> Vec<SecretRef> {
    let mut refs = Vec::new();
    for driver in ["git", "http", "s3", "artifactory", "gcs", "azure", "oss"] {
        if let Some(fields) = artifact.get(driver) {
            collect(fields, &mut refs);
        }
    }
    refs.sort();
    refs.dedup();
    refs
}

fn collect(value: &Value, refs: &mut Vec<SecretRef>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                if name.ends_with("Secret") || name == "secretKeyRef" {
                    refs.extend(secret_ref(inner));
                } else {
                    collect(inner, refs);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, refs)),
        _ => {}
    }
}

fn secret_ref(value: &Value) -> Option<SecretRef> {
    let text = |field| value.get(field).and_then(Value::as_str).map(str::to_owned);
    Some(SecretRef { name: text("name")?, key: text("key")? })
}

impl Location {
    /// Reads the location out of an artifact (Argo's JSON, tags resolved). `secrets` answers what [`secret_refs`] named.
    pub fn parse(artifact: &Value, secrets: &dyn Fn(&SecretRef) -> Option<Secret>) -> Result<Self, LocationError> {
        let name = artifact.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
        let reader = Fields { artifact: &name, secrets };
        let has = |driver: &str| artifact.get(driver).filter(|v| !v.is_null());
        if let Some(fields) = has("local") {
            return Ok(Self::Local { key: reader.text(fields, "local", "key")? });
        }
        if let Some(fields) = has("raw") {
            return Ok(Self::Raw { data: fields.get("data").and_then(Value::as_str).unwrap_or_default().to_owned() });
        }
        if let Some(fields) = has("git") {
            return Ok(Self::Git(Box::new(reader.git(fields)?)));
        }
        if let Some(fields) = has("http") {
            return reader.http(fields);
        }
        if let Some(fields) = has("s3") {
            return Ok(Self::S3(Box::new(reader.s3(fields)?)));
        }
        if let Some(fields) = has("artifactory") {
            return reader.artifactory(fields);
        }
        if let Some(fields) = has("gcs") {
            return Ok(Self::Gcs(Box::new(reader.gcs(fields)?)));
        }
        if let Some(fields) = has("azure") {
            return Ok(Self::Azure(Box::new(reader.azure(fields)?)));
        }
        if let Some(fields) = has("oss") {
            return Ok(Self::Oss(Box::new(reader.oss(fields)?)));
        }
        if let Some(fields) = has("plugin") {
            return Ok(Self::Plugin(Box::new(reader.plugin(fields, artifact)?)));
        }
        for driver in ABSENT {
            if has(driver).is_some() {
                return Err(LocationError::Unsupported {
                    artifact: name,
                    what: format!(
                        "there is no {driver} driver; use s3, gcs, azure, oss or http, or leave the location out to use \
                         the artifact repository"
                    ),
                });
            }
        }
        Err(LocationError::Missing { artifact: name })
    }

    /// The driver for this place. Git has none: use [`crate::transfer::load`].
    pub fn driver(&self, local: &LocalStore, outside: &Outside) -> Result<Box<dyn Driver>, StoreError> {
        Ok(match self {
            Self::Local { key } => Box::new(local.at(key)?),
            Self::Raw { data } => Box::new(RawDriver::new(data.clone())),
            Self::Http { url, headers, auth } => {
                Box::new(HttpDriver::new(url, headers.clone(), auth.clone(), outside)?)
            }
            Self::S3(source) => Box::new(S3Driver::new(source, outside)?),
            Self::Gcs(source) => source.driver(outside)?,
            Self::Azure(source) => source.driver(outside)?,
            Self::Oss(source) => source.driver(outside)?,
            Self::Plugin(source) => Box::new(PluginDriver::new(source, &outside.plugins)?),
            Self::Git(_) => {
                return Err(StoreError::Unsupported("git artifacts cannot be outputs, only inputs".to_owned()));
            }
        })
    }
}

/// The keys of what lies beneath an artifact's location (Argo's JSON), whose key may be absent: then all there is. Only
/// stores that can list do it. An error is a text.
pub fn list(
    artifact: &Value,
    secrets: &dyn Fn(&SecretRef) -> Option<Secret>,
    local: &LocalStore,
    outside: &Outside,
    cancel: &Cancel,
) -> Result<Vec<String>, String> {
    let mut whole = artifact.clone();
    let mut key = String::new();
    let keys = [("s3", "key"), ("local", "key"), ("gcs", "key"), ("oss", "key"), ("plugin", "key"), ("azure", "blob")];
    for (driver, name) in keys {
        if let Some(fields) = whole.get_mut(driver).and_then(Value::as_object_mut) {
            key = fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            // A location has one; here it need not.
            fields.insert(name.to_owned(), Value::from("-"));
        }
    }
    let keys = match Location::parse(&whole, secrets).map_err(|e| e.to_string())? {
        Location::Local { .. } => local.list(&key, cancel),
        Location::S3(source) => S3Driver::list(&S3Source { key, ..*source }, outside, cancel),
        Location::Gcs(source) => GcsSource { key, ..*source }.list(outside, cancel),
        Location::Azure(source) => AzureSource { blob: key, ..*source }.list(outside, cancel),
        Location::Oss(source) => OssSource { key, ..*source }.list(outside, cancel),
        Location::Plugin(mut source) => {
            source.artifact = artifact.clone();
            PluginDriver::new(&source, &outside.plugins).and_then(|driver| driver.list(cancel))
        }
        _ => return Err("only s3, gcs, azure, oss, plugins and the built-in store can list what they hold".to_owned()),
    };
    keys.map_err(|e| e.to_string())
}

struct Fields<'a> {
    artifact: &'a str,
    secrets: &'a dyn Fn(&SecretRef) -> Option<Secret>,
}

impl Fields<'_> {
    fn problem(&self, field: impl Into<String>, problem: &'static str) -> LocationError {
        LocationError::Field { artifact: self.artifact.to_owned(), field: field.into(), problem }
    }

    fn text(&self, fields: &Value, driver: &str, field: &str) -> Result<String, LocationError> {
        match fields.get(field).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(self.problem(format!("{driver}.{field}"), "is required")),
        }
    }

    fn secret(&self, value: Option<&Value>, field: &str) -> Result<Option<Secret>, LocationError> {
        let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(None) };
        let reference = secret_ref(value).ok_or_else(|| self.problem(field, "needs a name and a key"))?;
        match (self.secrets)(&reference) {
            Some(secret) => Ok(Some(secret)),
            None if value.get("optional").and_then(Value::as_bool) == Some(true) => Ok(None),
            None => Err(LocationError::Secret {
                artifact: self.artifact.to_owned(),
                name: reference.name,
                key: reference.key,
            }),
        }
    }

    fn plugin(&self, fields: &Value, artifact: &Value) -> Result<PluginSource, LocationError> {
        let key = self.text(fields, "plugin", "key")?;
        let seconds = fields.get("connectionTimeoutSeconds").and_then(Value::as_u64).filter(|s| *s > 0);
        Ok(PluginSource {
            plugin: self.text(fields, "plugin", "name")?,
            timeout: seconds.map_or(PLUGIN_TIMEOUT, Duration::from_secs),
            shown: format!("{} at {key}", self.artifact),
            artifact: artifact.clone(),
        })
    }

    fn git(&self, fields: &Value) -> Result<GitSource, LocationError> {
        let text = |field: &str| fields.get(field).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
        let flag = |field: &str| fields.get(field).and_then(Value::as_bool).unwrap_or(false);
        let depth = match fields.get("depth").filter(|v| !v.is_null()) {
            None => None,
            Some(value) => match value.as_u64().and_then(|d| u32::try_from(d).ok()) {
                Some(0) => None,
                Some(depth) => Some(depth),
                None => return Err(self.problem("git.depth", "is not a positive number")),
            },
        };
        let fetch = match fields.get("fetch").and_then(Value::as_array) {
            None => Vec::new(),
            Some(specs) => specs
                .iter()
                .map(|spec| {
                    spec.as_str().map(str::to_owned).ok_or_else(|| self.problem("git.fetch", "is a list of refspecs"))
                })
                .collect::<Result<_, _>>()?,
        };
        if flag("singleBranch") && text("branch").is_none() {
            return Err(self.problem("git.singleBranch", "needs git.branch"));
        }
        let username = self.secret(fields.get("usernameSecret"), "git.usernameSecret")?;
        let password = self.secret(fields.get("passwordSecret"), "git.passwordSecret")?;
        let credentials = match (username, password) {
            (None, None) => None,
            (username, password) => Some(Credentials {
                username: username.unwrap_or_else(|| Secret::from("git")),
                password: password.unwrap_or_else(|| Secret::from("")),
            }),
        };
        Ok(GitSource {
            repo: self.text(fields, "git", "repo")?,
            revision: text("revision"),
            branch: text("branch"),
            single_branch: flag("singleBranch"),
            depth,
            fetch,
            submodules: !flag("disableSubmodules"),
            credentials,
            ssh_key: self.secret(fields.get("sshPrivateKeySecret"), "git.sshPrivateKeySecret")?,
            ignore_host_key: flag("insecureIgnoreHostKey"),
            skip_tls_verify: flag("insecureSkipTLS"),
        })
    }

    fn http(&self, fields: &Value) -> Result<Location, LocationError> {
        let url = self.text(fields, "http", "url")?;
        let mut headers = Vec::new();
        for header in fields.get("headers").and_then(Value::as_array).into_iter().flatten() {
            let name = self.text(header, "http.headers", "name")?;
            let value = match header.pointer("/valueFrom/secretKeyRef") {
                Some(reference) => self.secret(Some(reference), "http.headers.valueFrom")?.unwrap_or_else(|| "".into()),
                None => Secret::from(header.get("value").and_then(Value::as_str).unwrap_or_default()),
            };
            headers.push((name, value));
        }
        let auth = fields.get("auth").filter(|v| !v.is_null());
        let given =
            |kind: &str| auth.and_then(|a| a.get(kind)).filter(|v| v.as_object().is_some_and(|o| !o.is_empty()));
        let needed = |of: &Value, kind: &str, field: &str| {
            let place = format!("http.auth.{kind}.{field}");
            self.secret(of.get(field), &place)?.ok_or_else(|| self.problem(place, "is required"))
        };
        if let Some(cert) = given("clientCert") {
            let mut pem = needed(cert, "clientCert", "clientCertSecret")?.expose().to_vec();
            pem.push(b'\n');
            pem.extend_from_slice(needed(cert, "clientCert", "clientKeySecret")?.expose());
            return Ok(Location::Http { url, headers, auth: Some(HttpAuth::Certificate(Secret::new(pem))) });
        }
        if let Some(oauth) = given("oauth2") {
            let list = |field: &str| oauth.get(field).and_then(Value::as_array).into_iter().flatten();
            let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
            let oauth = OAuth2 {
                client_id: needed(oauth, "oauth2", "clientIDSecret")?,
                client_secret: needed(oauth, "oauth2", "clientSecretSecret")?,
                token_url: needed(oauth, "oauth2", "tokenURLSecret")?,
                scopes: list("scopes").filter_map(Value::as_str).map(str::to_owned).collect(),
                parameters: list("endpointParams").map(|p| (text(p, "key"), text(p, "value"))).collect(),
            };
            return Ok(Location::Http { url, headers, auth: Some(HttpAuth::OAuth2(Box::new(oauth))) });
        }
        let basic = auth.and_then(|a| a.get("basicAuth"));
        let username =
            self.secret(basic.and_then(|b| b.get("usernameSecret")), "http.auth.basicAuth.usernameSecret")?;
        let password =
            self.secret(basic.and_then(|b| b.get("passwordSecret")), "http.auth.basicAuth.passwordSecret")?;
        let auth = match (username, password) {
            (None, None) => None,
            (username, password) => Some(HttpAuth::Basic {
                username: username.unwrap_or_else(|| "".into()),
                password: password.unwrap_or_else(|| "".into()),
            }),
        };
        Ok(Location::Http { url, headers, auth })
    }
}

impl Fields<'_> {
    /// Argo's `artifactory`: HTTP with basic authentication.
    fn artifactory(&self, fields: &Value) -> Result<Location, LocationError> {
        let url = self.text(fields, "artifactory", "url")?;
        let username = self.secret(fields.get("usernameSecret"), "artifactory.usernameSecret")?;
        let password = self.secret(fields.get("passwordSecret"), "artifactory.passwordSecret")?;
        let auth =
            username.map(|username| HttpAuth::Basic { username, password: password.unwrap_or_else(|| "".into()) });
        Ok(Location::Http { url, headers: Vec::new(), auth })
    }

    fn gcs(&self, fields: &Value) -> Result<GcsSource, LocationError> {
        Ok(GcsSource {
            bucket: self.text(fields, "gcs", "bucket")?,
            key: self.text(fields, "gcs", "key")?,
            account: self.secret(fields.get("serviceAccountKeySecret"), "gcs.serviceAccountKeySecret")?,
        })
    }

    fn azure(&self, fields: &Value) -> Result<AzureSource, LocationError> {
        let ambient = fields.get("useSDKCreds").and_then(Value::as_bool).unwrap_or(false);
        Ok(AzureSource {
            endpoint: self.text(fields, "azure", "endpoint")?,
            container: self.text(fields, "azure", "container")?,
            blob: self.text(fields, "azure", "blob")?,
            key: match ambient {
                true => None,
                false => self.secret(fields.get("accountKeySecret"), "azure.accountKeySecret")?,
            },
        })
    }

    fn oss(&self, fields: &Value) -> Result<OssSource, LocationError> {
        let flag = |field: &str| fields.get(field).and_then(Value::as_bool).unwrap_or(false);
        if fields.get("lifecycleRule").is_some_and(|v| !v.is_null()) {
            return Err(LocationError::Unsupported {
                artifact: self.artifact.to_owned(),
                what: "oss.lifecycleRule is not set from here; set it on the bucket".to_owned(),
            });
        }
        let access = self.secret(fields.get("accessKeySecret"), "oss.accessKeySecret")?;
        let secret = self.secret(fields.get("secretKeySecret"), "oss.secretKeySecret")?;
        let token = fields.get("securityToken").and_then(Value::as_str).filter(|t| !t.is_empty());
        Ok(OssSource {
            endpoint: self.text(fields, "oss", "endpoint")?,
            bucket: self.text(fields, "oss", "bucket")?,
            key: self.text(fields, "oss", "key")?,
            keys: access.zip(secret).filter(|_| !flag("useSDKCreds")),
            token: token.map(Secret::from),
            create_bucket: flag("createBucketIfNotPresent"),
        })
    }

    fn s3(&self, fields: &Value) -> Result<S3Source, LocationError> {
        let given = |field: &str| fields.get(field).filter(|v| !v.is_null());
        let text = |field: &str| given(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |field: &str| given(field).and_then(Value::as_bool).unwrap_or(false);
        let later =
            |what: &str| LocationError::Unsupported { artifact: self.artifact.to_owned(), what: what.to_owned() };
        if !text("roleARN").is_empty() {
            return Err(later(
                "s3.roleARN: roles are not assumed; give accessKeySecret and secretKeySecret, with sessionTokenSecret \
                 for keys of a role",
            ));
        }
        let keys = match (given("accessKeySecret"), given("secretKeySecret"), flag("useSDKCreds")) {
            (_, _, true) | (None, None, _) => None,
            (access, secret, false) => {
                let access = self.secret(access, "s3.accessKeySecret")?;
                let secret = self.secret(secret, "s3.secretKeySecret")?;
                match (access, secret) {
                    (Some(access), Some(secret)) => Some((access, secret)),
                    (None, None) => None,
                    _ => return Err(self.problem("s3", "needs both accessKeySecret and secretKeySecret, or none")),
                }
            }
        };
        let style = match text("addressingStyle").as_str() {
            "" => None,
            "path" => Some(Style::Path),
            "virtual-hosted" => Some(Style::VirtualHosted),
            _ => return Err(self.problem("s3.addressingStyle", "is `path`, `virtual-hosted` or empty")),
        };
        let create_bucket = given("createBucketIfNotPresent").map(|options| CreateBucket {
            object_locking: options.get("objectLocking").and_then(Value::as_bool).unwrap_or(false),
        });
        Ok(S3Source {
            endpoint: self.text(fields, "s3", "endpoint")?,
            bucket: self.text(fields, "s3", "bucket")?,
            key: self.text(fields, "s3", "key")?,
            region: text("region"),
            insecure: flag("insecure"),
            keys,
            session_token: self.secret(given("sessionTokenSecret"), "s3.sessionTokenSecret")?,
            ca: self.secret(given("caSecret"), "s3.caSecret")?,
            style,
            create_bucket,
            encryption: match given("encryptionOptions") {
                Some(options) => self.encryption(options)?,
                None => Vec::new(),
            },
        })
    }

    /// The headers that ask the server to encrypt.
    fn encryption(&self, options: &Value) -> Result<Vec<(&'static str, String)>, LocationError> {
        use base64::Engine as _;
        let text = |field: &str| options.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        if options.get("serverSideCustomerKeySecret").is_some_and(|v| !v.is_null()) {
            return Err(LocationError::Unsupported {
                artifact: self.artifact.to_owned(),
                what: "s3.encryptionOptions.serverSideCustomerKeySecret arrives later; use a KMS key, or encrypt the \
                       bucket by default"
                    .to_owned(),
            });
        }
        if options.get("enableEncryption").and_then(Value::as_bool) != Some(true) {
            return Ok(Vec::new());
        }
        let (key, context) = (text("kmsKeyId"), text("kmsEncryptionContext"));
        if key.is_empty() {
            return Ok(vec![("x-amz-server-side-encryption", "AES256".to_owned())]);
        }
        let mut headers = vec![
            ("x-amz-server-side-encryption", "aws:kms".to_owned()),
            ("x-amz-server-side-encryption-aws-kms-key-id", key),
        ];
        if !context.is_empty() {
            let encoded = base64::engine::general_purpose::STANDARD.encode(context);
            headers.push(("x-amz-server-side-encryption-context", encoded));
        }
        Ok(headers)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(artifact: Value) -> Result<Location, String> {
        Location::parse(&artifact, &|r| (r.name == "creds").then(|| Secret::from(r.key.as_str())))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn reads_git_with_credentials() {
        let artifact = json!({"name": "src", "git": {"repo": "https://x/y.git", "revision": "main", "depth": 1,
            "usernameSecret": {"name": "creds", "key": "user"}, "passwordSecret": {"name": "creds", "key": "pass"}}});
        assert_eq!(secret_refs(&artifact).len(), 2);
        let Location::Git(git) = parse(artifact).unwrap() else { panic!("git") };
        assert_eq!(git.depth, Some(1));
        assert!(git.submodules);
        assert!(git.credentials.unwrap().password.matches(b"pass"));
    }

    #[test]
    fn refuses_by_name() {
        let message = |artifact| parse(artifact).err().unwrap();
        assert!(message(json!({"name": "a", "hdfs": {"path": "x"}})).contains("no hdfs driver"));
        assert!(message(json!({"name": "a", "gcs": {"key": "x"}})).contains("gcs.bucket"));
        let oss = json!({"endpoint": "e", "bucket": "b", "key": "k", "lifecycleRule": {"markDeletionAfterDays": 1}});
        assert!(message(json!({"name": "a", "oss": oss})).contains("lifecycleRule"));
        assert!(message(json!({"name": "a", "s3": {"key": "x"}})).contains("s3.endpoint is required"));
        let s3 = |more: Value| {
            let mut s3 = json!({"endpoint": "e", "bucket": "b", "key": "k"});
            s3.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"name": "a", "s3": s3})
        };
        assert!(message(s3(json!({"roleARN": "arn"}))).contains("roles are not assumed"));
        assert!(message(s3(json!({"accessKeySecret": {"name": "creds", "key": "k"}}))).contains("needs both"));
        assert!(message(s3(json!({"addressingStyle": "x"}))).contains("virtual-hosted"));
        let own = json!({"encryptionOptions": {"serverSideCustomerKeySecret": {"name": "creds", "key": "k"}}});
        assert!(message(s3(own)).contains("serverSideCustomerKeySecret"));
        let Location::S3(kms) = parse(s3(json!({"encryptionOptions": {"enableEncryption": true, "kmsKeyId": "k",
            "kmsEncryptionContext": "{}"}})))
        .unwrap() else {
            panic!("s3")
        };
        assert_eq!(kms.encryption.len(), 3);
        assert!(message(json!({"name": "a"})).contains("has no location"));
        assert!(message(json!({"name": "a", "git": {}})).contains("git.repo is required"));
        let gone = json!({"name": "a", "git": {"repo": "r", "passwordSecret": {"name": "gone", "key": "k"}}});
        assert!(message(gone).contains("secret gone has no key k"));
    }
}
