//! HMAC signatures over raw bodies. Secrets have neither `Display` nor `Debug`; comparing takes the same time whether a
//! signature is right or wrong.

use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The secrets that are accepted now; several while they are rotated.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Box<[u8]>>);

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file cannot be read.
    #[error("webhook secret file {path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// There is nothing in it.
    #[error("webhook secret file {0} is empty")]
    Empty(std::path::PathBuf),
}

impl Secrets {
    /// No secret: signatures are not looked at.
    pub fn none() -> Self {
        Self::default()
    }

    /// One secret.
    pub fn one(secret: impl AsRef<[u8]>) -> Self {
        let mut secrets = Self::none();
        secrets.add(secret);
        secrets
    }

    /// One secret a line, the newest first.
    pub fn from_file(path: &Path) -> Result<Self, SecretsError> {
        let bytes = std::fs::read(path).map_err(|source| SecretsError::Io { path: path.to_owned(), source })?;
        let mut secrets = Self::none();
        for line in bytes.split(|byte| *byte == b'\n') {
            secrets.add(line.strip_suffix(b"\r").unwrap_or(line));
        }
        match secrets.is_empty() {
            // An empty file must not switch checking off.
            true => Err(SecretsError::Empty(path.to_owned())),
            false => Ok(secrets),
        }
    }

    /// Adds one that is accepted too; an empty one is none.
    pub fn add(&mut self, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref();
        if !secret.is_empty() {
            self.0.push(secret.into());
        }
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `X-Hub-Signature-256` for a body with the first secret.
    pub fn sign(&self, body: &[u8]) -> Option<String> {
        let digest = mac(self.0.first()?, body).finalize().into_bytes();
        Some(format!("sha256={}", hex::encode(digest)))
    }

    /// Whether `X-Hub-Signature-256` is right for the body. Every secret is tried, whatever the first one says.
    pub fn verify(&self, header: Option<&str>, body: &[u8]) -> bool {
        let Some(claimed) = header.and_then(|h| h.trim().strip_prefix("sha256=")).and_then(|h| hex::decode(h).ok())
        else {
            return false;
        };
        self.0.iter().fold(false, |any, secret| mac(secret, body).verify_slice(&claimed).is_ok() | any)
    }

    /// Whether a header is one of the secrets itself. How long either is cannot be told from how long this takes.
    pub fn is(&self, header: Option<&str>) -> bool {
        let Some(claimed) = header else { return false };
        let claimed = mac(b"compared", claimed.as_bytes()).finalize().into_bytes();
        self.0.iter().fold(false, |any, secret| mac(b"compared", secret).verify_slice(&claimed).is_ok() | any)
    }
}

fn mac(secret: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("invariant: HMAC takes keys of any length");
    mac.update(body);
    mac
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        let secrets = Secrets::one("It's a Secret to Everybody");
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(secrets.sign(b"Hello, World!").unwrap(), right);
        assert!(secrets.verify(Some(right), b"Hello, World!"));
        assert!(secrets.verify(Some(&right.to_uppercase().replace("SHA256", "sha256")), b"Hello, World!"));
        for wrong in ["", "sha256=", "sha256=zz", &right[..70], "sha1=757107ea", &right.replace('7', "8")] {
            assert!(!secrets.verify(Some(wrong), b"Hello, World!"), "{wrong}");
        }
        assert!(!secrets.verify(Some(right), b"Hello, World"));
        assert!(!secrets.verify(None, b"Hello, World!"));
    }

    #[test]
    fn rotation() {
        let mut secrets = Secrets::one("new");
        secrets.add("old");
        let old = Secrets::one("old").sign(b"x").unwrap();
        assert!(secrets.verify(Some(&old), b"x"));
        assert_eq!(secrets.sign(b"x"), Secrets::one("new").sign(b"x"));
    }

    #[test]
    fn the_secret_itself() {
        let mut secrets = Secrets::one("new");
        secrets.add("old");
        assert!(secrets.is(Some("new")) && secrets.is(Some("old")));
        for wrong in [None, Some(""), Some("ol"), Some("old "), Some("OLD")] {
            assert!(!secrets.is(wrong), "{wrong:?}");
        }
        assert!(!Secrets::none().is(Some("")));
    }

    #[test]
    fn files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Secrets::from_file(file.path()), Err(SecretsError::Empty(_))));
        std::fs::write(file.path(), "a\r\n\nb\n").unwrap();
        assert_eq!(Secrets::from_file(file.path()).ok().unwrap().0.len(), 2);
    }
}
