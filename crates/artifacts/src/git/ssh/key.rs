//! Private keys as people keep them in Secrets: OpenSSH's format and PEM (PKCS#1, PKCS#8, SEC1). A key with a passphrase
//! is refused by name: nobody is there to be asked. It must never put a part of a key into a message.

use russh::keys::{Algorithm, PrivateKey, decode_secret_key};

use crate::secret::Secret;

/// Reads a private key.
pub(super) fn read(secret: &Secret) -> Result<PrivateKey, String> {
    let text = std::str::from_utf8(secret.expose()).map_err(|_| "the ssh private key is not text".to_owned())?;
    // Secrets that came through editors and command lines.
    let text = text.replace("\r\n", "\n");
    let text = text.trim();
    if !text.starts_with("-----BEGIN ") {
        let found = match text.split(' ').next().unwrap_or_default() {
            public if public.starts_with("ssh-") || public.starts_with("ecdsa-") => "it is the public key",
            _ => "it does not begin with `-----BEGIN`",
        };
        return Err(format!(
            "the ssh private key cannot be read: {found}; give the file that ssh-keygen wrote without .pub"
        ));
    }
    const PASSPHRASE: &str = "the ssh private key has a passphrase, and there is nobody to ask for it; give one \
         without (ssh-keygen -p -N '' -f KEY)";
    if text.contains("ENCRYPTED") {
        return Err(PASSPHRASE.to_owned());
    }
    let key = decode_secret_key(text, None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => PASSPHRASE.to_owned(),
        // Its text could quote what it read.
        _ => "the ssh private key cannot be read: its text is damaged, or its kind is none of RSA, ECDSA and Ed25519"
            .to_owned(),
    })?;
    match key.algorithm() {
        Algorithm::Rsa { .. } | Algorithm::Ecdsa { .. } | Algorithm::Ed25519 => Ok(key),
        other => Err(format!("ssh keys of the kind {other} are not taken; make one with ssh-keygen -t ed25519")),
    }
}
