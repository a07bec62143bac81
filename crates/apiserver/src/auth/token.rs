//! Tokens: the administrator's static one, and ServiceAccount tokens, which are JSON web tokens signed with ES256 by a
//! key of this home. Keys and tokens live in 0600 files and types without `Debug`. Never asks the store; that is
//! `authn`'s.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Who signs ServiceAccount tokens, and the audience that the API itself wants.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The administrator's bearer token. Has no `Debug` and no `Display`.
#[derive(Clone)]
pub struct StaticToken(String);

impl StaticToken {
    /// Reads the token from a 0600 file, or makes one.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().len() >= 32 => Ok(Self(text.trim().to_owned())),
            Ok(_) => Self::create(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(e) => Err(e),
        }
    }

    fn create(path: &Path) -> io::Result<Self> {
        let mut bytes = [0_u8; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let token = hex::encode(bytes);
        write_private(path, token.as_bytes())?;
        Ok(Self(token))
    }

    /// The token itself, for a kubeconfig or a header. Keep it out of logs and arguments.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn is(&self, presented: &str) -> bool {
        // Digests of equal length, so that neither length nor content can be timed.
        let digest = |s: &str| ring::digest::digest(&ring::digest::SHA256, s.as_bytes());
        let (a, b) = (digest(&self.0), digest(presented));
        a.as_ref().iter().zip(b.as_ref()).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
    }
}

/// Writes a file that only its owner reads, and makes it appear whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_there(path, bytes) {
        return Ok(());
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// Whether the file has that content and is the owner's alone: it is then not flushed to the disk again at each start.
fn is_there(path: &Path, bytes: &[u8]) -> bool {
    let is_private = |meta: std::fs::Metadata| {
        meta.is_file() && meta.permissions().mode() & 0o7777 == 0o600 && meta.len() == bytes.len() as u64
    };
    std::fs::symlink_metadata(path).is_ok_and(is_private) && std::fs::read(path).is_ok_and(|there| there == bytes)
}

/// What a token is bound to: it dies with that object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundObject {
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
}

/// The `kubernetes.io` claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaim {
    /// The ServiceAccount's namespace.
    pub namespace: String,
    /// The ServiceAccount.
    pub serviceaccount: BoundObject,
    /// The pod that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<BoundObject>,
    /// The secret that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<BoundObject>,
    /// The node that the token is bound to, or that its pod runs on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<BoundObject>,
}

/// The claims of a ServiceAccount token, field for field as Kubernetes writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom the token is.
    pub aud: Vec<String>,
    /// Seconds since 1970 at which it ends.
    pub exp: i64,
    /// When it was made.
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// Its own id.
    pub jti: String,
    /// What Kubernetes wants to know.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaim,
    /// From when it holds.
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
}

/// Why a token is refused. Goes to the log only: the caller just reads `Unauthorized`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three dots-joined parts of base64 JSON with our algorithm and issuer.
    #[error("not a token of this cluster")]
    Foreign,
    /// The signature is not ours.
    #[error("the signature does not match")]
    Signature,
    /// Past its end, or not yet valid.
    #[error("expired or not yet valid")]
    Expired,
}

/// The key that signs ServiceAccount tokens. Has no `Debug`.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
    random: SystemRandom,
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

impl SigningKey {
    /// Reads the key from a 0600 PEM file, or makes one.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let body = text.replace(PEM_BEGIN, "").replace(PEM_END, "");
                let body: String = body.split_whitespace().collect();
                let der = STANDARD.decode(body).map_err(|_| broken(path))?;
                Self::of(&der).ok_or_else(|| broken(path))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let der = Self::new_der()?;
                let body = STANDARD.encode(&der);
                let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|c| std::str::from_utf8(c).ok()).collect();
                write_private(path, format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", lines.join("\n")).as_bytes())?;
                Self::of(&der).ok_or_else(|| broken(path))
            }
            Err(e) => Err(e),
        }
    }

    /// A key that nobody keeps, for servers without a home.
    pub fn ephemeral() -> io::Result<Self> {
        Self::of(&Self::new_der()?).ok_or_else(|| io::Error::other("a key just made is not readable"))
    }

    fn new_der() -> io::Result<Vec<u8>> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        made.map(|d| d.as_ref().to_vec()).map_err(|_| io::Error::other("the system gives no random numbers"))
    }

    fn of(der: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        Some(Self { id: URL_SAFE_NO_PAD.encode(digest.as_ref()), pair, random })
    }

    /// Signs claims into a token.
    pub fn sign(&self, claims: &Claims) -> io::Result<String> {
        let header = serde_json::json!({"alg": "ES256", "kid": self.id});
        let body = serde_json::to_vec(claims).map_err(io::Error::other)?;
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(body));
        let signature = self.pair.sign(&self.random, text.as_bytes());
        let signature = signature.map_err(|_| io::Error::other("signing failed"))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// The claims of a token whose signature, issuer and times are right.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (header, body) = signed.split_once('.').ok_or(TokenError::Foreign)?;
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Foreign);
        let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| TokenError::Foreign)?;
        if header.alg != "ES256" {
            return Err(TokenError::Foreign);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &bytes(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&bytes(body)?).map_err(|_| TokenError::Foreign)?;
        if claims.iss != ISSUER {
            return Err(TokenError::Foreign);
        }
        let now = now.as_second();
        if now >= claims.exp || now < claims.nbf - LEEWAY_SECONDS {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// Clocks step; a token made "a moment from now" is still ours.
const LEEWAY_SECONDS: i64 = 60;

fn broken(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no ES256 private key", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn claims(exp: i64) -> Claims {
        Claims {
            aud: vec![ISSUER.to_owned()],
            exp,
            iat: 100,
            iss: ISSUER.to_owned(),
            jti: "id".to_owned(),
            kubernetes: KubernetesClaim {
                namespace: "ns".to_owned(),
                serviceaccount: BoundObject { name: "sa".to_owned(), uid: "u".to_owned() },
                pod: None,
                secret: None,
                node: None,
            },
            nbf: 100,
            sub: "system:serviceaccount:ns:sa".to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_holds_until_its_end_and_only_with_our_signature() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sa.key");
        let token = SigningKey::load_or_create(&path).unwrap().sign(&claims(200)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let key = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(key.verify(&token, at(150)).unwrap(), claims(200));
        assert_eq!(key.verify(&token, at(200)), Err(TokenError::Expired));
        assert_eq!(key.verify(&token, at(10)), Err(TokenError::Expired));
        assert_eq!(SigningKey::ephemeral().unwrap().verify(&token, at(150)), Err(TokenError::Signature));
        let mut parts: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        parts[0] = &none;
        assert_eq!(key.verify(&parts.join("."), at(150)), Err(TokenError::Foreign));
        assert_eq!(key.verify("garbage", at(150)), Err(TokenError::Foreign));
    }

    #[test]
    fn the_static_token_is_kept_and_compared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let made = StaticToken::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = StaticToken::load_or_create(&path).unwrap();
        assert!(read.is(made.reveal()));
        assert!(!read.is("") && !read.is(&made.reveal()[1..]));
    }
}
