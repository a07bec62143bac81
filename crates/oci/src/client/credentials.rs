//! Credentials from a docker `config.json`. Must never print, log or store one: [`Secret`] has neither `Display` nor
//! `Debug`.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde::Deserialize;

use crate::{Error, Result};

/// A password or token. It has no way to be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What a registry may ask for.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, exchanged at the registry's token service (`identitytoken`).
    Identity(Secret),
    /// A token sent as it is (`registrytoken`).
    Bearer(Secret),
}

/// A docker `config.json`: credentials by registry, or the programs that know them.
#[derive(Clone, Default)]
pub struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What `docker-credential-* get` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl DockerConfig {
    /// Reads the bytes of a `config.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        // The parser's message could quote what it read; only the place is told.
        let file: File = serde_json::from_slice(bytes).map_err(|error| {
            Error::malformed(
                "docker config.json",
                format!("not valid at line {}, column {}", error.line(), error.column()),
            )
        })?;
        Ok(Self {
            auths: file.auths.into_iter().map(|(key, auth)| (normal_key(&key), auth)).collect(),
            helpers: file.cred_helpers.into_iter().map(|(key, name)| (normal_key(&key), name)).collect(),
            store: file.creds_store.filter(|name| !name.is_empty()),
        })
    }

    /// Adds a user and password for a registry, or a registry and path.
    #[must_use]
    pub fn with_basic(mut self, registry: &str, user: &str, password: Secret) -> Self {
        let auth = Auth { username: Some(user.to_owned()), password: Some(password.0), ..Auth::default() };
        self.auths.insert(normal_key(registry), auth);
        self
    }

    /// The credential for a repository: the longest of the keys `host/path/…` that match, asking a credential program
    /// where one is configured. A program that is absent or fails is a named warning, and the next source is tried.
    /// May block: call it from `spawn_blocking`.
    pub fn credential(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        self.look_up(registry, repository, true)
    }

    /// The credential that is written down for a repository; no program is asked.
    pub fn written(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        self.look_up(registry, repository, false)
    }

    fn look_up(&self, registry: &str, repository: &str, programs: bool) -> Result<Option<Credential>> {
        let full = format!("{registry}/{repository}");
        let store = self.store.as_ref().filter(|_| programs);
        let mut keys: Vec<&str> = full.match_indices('/').map(|(at, _)| &full[..at]).chain([full.as_str()]).collect();
        keys.reverse();
        for key in &keys {
            if let Some(program) = self.helpers.get(*key).filter(|_| programs)
                && let Some(found) = ask_program(program, key)
            {
                return Ok(Some(found));
            }
            if let Some(auth) = self.auths.get(*key) {
                if let Some(found) = auth.read(key)? {
                    return Ok(Some(found));
                }
                // An empty entry is how docker notes that the store has the credential.
                if let Some(found) = store.and_then(|program| ask_program(program, key)) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(store.and_then(|program| ask_program(program, registry)))
    }
}

impl Auth {
    fn read(&self, key: &str) -> Result<Option<Credential>> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credential::Bearer(Secret(token))));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credential::Identity(Secret(token))));
        }
        if let (Some(user), Some(password)) = (given(&self.username), given(&self.password)) {
            return Ok(Some(Credential::Basic { user, password: Secret(password) }));
        }
        let Some(auth) = given(&self.auth) else { return Ok(None) };
        let wrong = || {
            Error::malformed(
                format!("docker config.json, auths `{key}`"),
                "`auth` is not base64 of `user:password`; log in again",
            )
        };
        let engine = base64::engine::GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            base64::engine::GeneralPurposeConfig::new()
                .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
        );
        let text = engine.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        let password = Secret(password.trim_end_matches('\0').to_owned());
        // Docker writes this user where the secret is a refresh token.
        if user == "<token>" {
            return Ok(Some(Credential::Identity(password)));
        }
        Ok(Some(Credential::Basic { user: user.to_owned(), password }))
    }
}

/// `https://index.docker.io/v1/` and `docker.io` are one registry; schemes and versions do not matter.
fn normal_key(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

fn ask_program(name: &str, key: &str) -> Option<Credential> {
    let program = format!("docker-credential-{name}");
    if name.contains('/') {
        tracing::warn!(program, "a credential program's name may not contain a slash; it was not run");
        return None;
    }
    // Docker Hub's credential is filed under its historical address.
    let server = if key == "docker.io" { "https://index.docker.io/v1/" } else { key };
    let child =
        Command::new(&program).arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!(
                program,
                registry = key,
                %error,
                "the credential program named in config.json cannot be run; continuing without it"
            );
            return None;
        }
    };
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().ok()?;
    if !output.status.success() {
        tracing::warn!(program, registry = key, "the credential program has no credential for this registry");
        return None;
    }
    let Ok(answer) = serde_json::from_slice::<HelperAnswer>(&output.stdout) else {
        tracing::warn!(program, registry = key, "the credential program's answer cannot be read");
        return None;
    };
    let secret = Secret(answer.secret);
    Some(if answer.username == "<token>" {
        Credential::Identity(secret)
    } else {
        Credential::Basic { user: answer.username, password: secret }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user(config: &DockerConfig, registry: &str, repository: &str) -> String {
        match config.credential(registry, repository).unwrap() {
            Some(Credential::Basic { user, password }) => format!("{user}/{}", password.expose()),
            Some(Credential::Identity(token)) => format!("identity {}", token.expose()),
            Some(Credential::Bearer(token)) => format!("bearer {}", token.expose()),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn every_form_and_the_longest_prefix() {
        let config = DockerConfig::parse(
            br#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnA6dw=="},
                "quay.io": {"username": "q", "password": "1"},
                "quay.io/team": {"username": "t", "password": "2"},
                "ghcr.io": {"identitytoken": "abc"},
                "r.io": {"registrytoken": "def"},
                "b.io": {"auth": "dTpw"},
                "empty.io": {}
            }, "credHelpers": {"gcr.io": "windlass-absent"}, "HttpHeaders": {}}"#,
        )
        .unwrap();
        assert_eq!(user(&config, "docker.io", "library/x"), "hub/p:w");
        assert_eq!(user(&config, "quay.io", "a/b"), "q/1");
        assert_eq!(user(&config, "quay.io", "team/b"), "t/2");
        assert_eq!(user(&config, "quay.io", "teams/b"), "q/1");
        assert_eq!(user(&config, "ghcr.io", "x"), "identity abc");
        assert_eq!(user(&config, "r.io", "x"), "bearer def");
        assert_eq!(user(&config, "b.io", "x"), "u/p");
        assert_eq!(user(&config, "empty.io", "x"), "none");
        assert_eq!(user(&config, "gcr.io", "x"), "none");
        assert_eq!(user(&config, "other.io", "x"), "none");
    }

    #[test]
    fn faults_do_not_quote_secrets() {
        let error = DockerConfig::parse(br#"{"auths": {"a.io": {"auth": hunter2}}}"#).err().unwrap().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let config = DockerConfig::parse(br#"{"auths": {"a.io": {"auth": "aHVudGVyMg=="}}}"#).unwrap();
        let error = config.credential("a.io", "x").err().unwrap().to_string();
        assert!(!error.contains("hunter2") && !error.contains("aHVu"), "{error}");
    }
}
