//! Host keys that somebody vouched for: files in OpenSSH's format, and the published keys of the large forges, as
//! Argo's executor image has them. A key that is not known is refused with what would make it known.

use std::path::PathBuf;

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};

/// The keys that the forges publish.
const FORGES: &str = include_str!("forges");

/// What is known of one host.
pub(super) struct Known {
    name: String,
    /// A rule led to it: its name is for the log only.
    mapped: bool,
    keys: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
    /// The file that a new line goes to.
    advice: String,
}

impl Known {
    /// Reads what the files and the table say about `name` (`host`, or `[host]:port`).
    pub(super) fn read(name: &str, mapped: bool, files: &[PathBuf]) -> Self {
        let advice = files.first().map_or_else(|| "a known-hosts file".to_owned(), |f| f.display().to_string());
        let mut known = Self { name: name.to_owned(), mapped, keys: Vec::new(), revoked: Vec::new(), advice };
        for file in files {
            match std::fs::read_to_string(file) {
                Ok(text) => known.take(&text, &file.display().to_string()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(file = %file.display(), %error, "known hosts cannot be read"),
            }
        }
        known.take(FORGES, "the built-in table");
        known
    }

    fn take(&mut self, text: &str, source: &str) {
        let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.trim().starts_with('#'));
        for (number, line) in lines {
            let Ok(entry) = line.trim().parse::<Entry>() else {
                tracing::warn!(file = source, line = number + 1, "this line of the known hosts cannot be read");
                continue;
            };
            if !matches(entry.host_patterns(), &self.name) {
                continue;
            }
            match entry.marker() {
                None => self.keys.push(entry.public_key().clone()),
                Some(Marker::Revoked) => self.revoked.push(entry.public_key().clone()),
                // Certificates are not asked for.
                Some(Marker::CertAuthority) => {}
            }
        }
    }

    /// The algorithms to ask the host for: those of its known keys first, so that it shows one of these.
    pub(super) fn preferred(&self) -> Vec<Algorithm> {
        let mut all = russh::Preferred::DEFAULT.key.to_vec();
        let kind = |a: &Algorithm| match a {
            Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None },
            other => other.clone(),
        };
        let known: Vec<Algorithm> = self.keys.iter().map(|k| kind(&k.algorithm())).collect();
        all.sort_by_key(|a| !known.contains(&kind(a)));
        all
    }

    /// Whether this is the host: an error says what was shown and the way out.
    pub(super) fn check(&self, shown: &PublicKey) -> Result<(), String> {
        let same = |key: &PublicKey| key.key_data() == shown.key_data();
        let name = &self.name;
        let (kind, print) = (shown.algorithm(), shown.fingerprint(HashAlg::Sha256));
        if self.revoked.iter().any(same) {
            return Err(format!("the host {name} showed the key {kind} {print}, which is marked @revoked"));
        }
        if self.keys.iter().any(same) {
            return Ok(());
        }
        if self.keys.is_empty() {
            let line = shown.to_openssh().unwrap_or_default();
            // The comment is not part of a key.
            let line = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
            if self.mapped {
                tracing::warn!(line = %format!("{name} {line}"), file = self.advice, "this line makes the host known");
                return Err(format!(
                    "the ssh host key of {name} is not known: {kind} {print}. If this is its key, add the line that is \
                     in the log to {}, or set insecureIgnoreHostKey: true to accept any key",
                    self.advice
                ));
            }
            return Err(format!(
                "the ssh host key of {name} is not known: {kind} {print}. If this is its key, add the line\n  {name} {line}\nto {}, or set insecureIgnoreHostKey: true to accept any key",
                self.advice
            ));
        }
        let expected: Vec<String> = self.keys.iter().map(|k| k.fingerprint(HashAlg::Sha256).to_string()).collect();
        Err(format!(
            "the ssh host key of {name} is not the one that is known: it showed {kind} {print}, known is {}. Somebody may be in between; if the host has a new key, replace its line in {}",
            expected.join(", "),
            self.advice
        ))
    }
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => {
            let negated = patterns.iter().filter_map(|p| p.strip_prefix('!')).any(|p| glob(p, name));
            !negated && patterns.iter().any(|p| !p.starts_with('!') && glob(p, name))
        }
        HostPatterns::HashedName { salt, hash } => {
            let Ok(mut mac) = Hmac::<sha1::Sha1>::new_from_slice(salt) else { return false };
            mac.update(name.as_bytes());
            mac.verify_slice(hash).is_ok()
        }
    }
}

/// `*` and `?`, and case does not matter.
fn glob(pattern: &str, name: &str) -> bool {
    fn at(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => at(&pattern[1..], name) || (!name.is_empty() && at(pattern, &name[1..])),
            (Some(b'?'), Some(_)) => at(&pattern[1..], &name[1..]),
            (Some(p), Some(n)) => p.eq_ignore_ascii_case(n) && at(&pattern[1..], &name[1..]),
            _ => false,
        }
    }
    // No host name is longer; a pattern that is would only cost time.
    pattern.len() <= 255 && at(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn forges_are_known_by_their_published_fingerprints() {
        let prints = |host: &str| {
            let known = Known::read(host, false, &[]);
            let all = known.keys.iter().map(|k| format!("{host} {} {}", k.algorithm(), k.fingerprint(HashAlg::Sha256)));
            all.collect::<Vec<_>>().join("\n")
        };
        let hosts = ["github.com", "gitlab.com", "bitbucket.org", "ssh.dev.azure.com"];
        insta::assert_snapshot!(hosts.map(prints).join("\n"));
    }

    #[test]
    fn files_in_all_forms() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ssh_known_hosts");
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        let other: PublicKey =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAfuCHKVTjquxvt6CM6tdG4SLp1Btn/nOeHHE5UOzRdf".parse().unwrap();
        let key_of = key.parse::<PublicKey>().unwrap();
        // The second is what `ssh-keygen -H` makes of `hashed.example.org`.
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"01234567890123456789").unwrap();
        mac.update(b"hashed.example.org");
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let hash = engine.encode(mac.finalize().into_bytes());
        let salt = engine.encode(b"01234567890123456789");
        let text = format!(
            "# comment\n\nplain.example.org,*.wild.org,!not.wild.org {key} me@home\n|1|{salt}|{hash} {key}\n[127.0.0.1]:2222 {key}\n@revoked gone.example.org {key}\n@cert-authority *.ca.org {key}\nbroken\n"
        );
        std::fs::write(&file, text).unwrap();
        let say = |name: &str, key: &PublicKey| {
            let known = Known::read(name, false, std::slice::from_ref(&file));
            let text = known.check(key).err().unwrap_or_else(|| "known".to_owned());
            format!("{name}: {}", text.replace(dir.path().to_str().unwrap(), "$home"))
        };
        let mut lines: Vec<String> = [
            "plain.example.org",
            "a.wild.org",
            "not.wild.org",
            "hashed.example.org",
            "[127.0.0.1]:2222",
            "127.0.0.1",
            "gone.example.org",
            "x.ca.org",
        ]
        .map(|name| say(name, &key_of))
        .into();
        lines.push(say("plain.example.org", &other));
        insta::assert_snapshot!(lines.join("\n"));
    }
}
