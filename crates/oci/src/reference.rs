//! Image references with Docker's normalisation: `busybox` is `docker.io/library/busybox:latest`. Pure text; must never
//! ask the network or the disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Images under this host live in the local store and are never asked for over the network.
pub const LOCAL_REGISTRY: &str = "registry.windlass.internal";

const DOCKER_HUB: &str = "docker.io";

/// A fully named image: registry, repository, and a tag or a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ReferenceError {
    /// The text as given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Reference {
    /// Reads a reference as Docker does: a name without a registry is on docker.io, a single word there is under
    /// `library/`, and without tag and digest the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: &str| Err(ReferenceError { text: text.to_owned(), reason: reason.to_owned() });
        if text.is_empty() {
            return fail("it is empty");
        }
        if text.contains("://") {
            return fail("leave out the scheme, as in `registry.example.com/app:1`");
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => match digest.parse::<Digest>() {
                Ok(digest) => (name, Some(digest)),
                Err(_) => return fail("after `@` there must be `sha256:` and 64 hexadecimal digits"),
            },
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the registry's port.
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[slash..].find(':') {
            Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
            None => (name, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return fail("a tag is 1 to 128 letters, digits, `_`, `.` and `-`, and starts with none of the last two");
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (DOCKER_HUB, name),
        };
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            other => other,
        };
        if !is_registry(registry) {
            return fail("the registry is not a host name");
        }
        let repository =
            if registry == DOCKER_HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if path.is_empty() {
            return fail("the repository is missing");
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return fail("repository names are in lower case");
        }
        if repository.len() > 255 {
            return fail("the repository is longer than 255 characters");
        }
        if !is_repository(&repository) {
            return fail(
                "a repository is words of lower-case letters and digits, joined by `.`, `_`, `__` or `-`, \
                 separated by `/`",
            );
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// The reference of a tag in the built-in registry.
    pub fn local(repository: &str, tag: &str) -> Result<Self, ReferenceError> {
        Self::parse(&format!("{LOCAL_REGISTRY}/{repository}:{tag}"))
    }

    /// The registry's host, with its port if one was given. Docker Hub is `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if any.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if any.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether the image lives in the local store only.
    pub fn is_local(&self) -> bool {
        self.registry == LOCAL_REGISTRY
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What a request for the manifest names: the digest, or else the tag.
    pub fn version(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        Self::parse(&format!("{}:{tag}", self.name()))
    }

    /// The same tag and digest in another place.
    pub(crate) fn moved(&self, registry: &str, repository: &str) -> Self {
        Self { registry: registry.to_owned(), repository: repository.to_owned(), ..self.clone() }
    }

    /// The short form that people write: `busybox` for `docker.io/library/busybox:latest`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest),
            None => &full,
        };
        if self.digest.is_none() { short.strip_suffix(":latest").unwrap_or(short).to_owned() } else { short.to_owned() }
    }
}

/// Whether the first word of a name is a registry: it has a dot or a port, or is `localhost`, or has capitals.
fn is_host(word: &str) -> bool {
    word == "localhost" || word.contains(['.', ':']) || word.bytes().any(|b| b.is_ascii_uppercase())
}

/// `host`, `host:port` or `[address]:port`. It becomes the name of a directory, so it must never be `..`.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.') || address.is_empty() {
                return false;
            }
            ("x", port.strip_prefix(':').or(if port.is_empty() { Some("0") } else { None }))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("0")),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.split('.').all(is_label) && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

pub(crate) fn is_tag(tag: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len()) && ok(tag.as_bytes()[0]) && tag.bytes().all(|b| ok(b) || b == b'.' || b == b'-')
}

pub(crate) fn is_repository(path: &str) -> bool {
    path.split('/').all(is_component)
}

/// `[a-z0-9]+ ((\.|_|__|-+) [a-z0-9]+)*`
fn is_component(word: &str) -> bool {
    let word = word.as_bytes();
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (word.first(), word.last()) else { return false };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    word.split(|b| alnum(*b)).filter(|gap| !gap.is_empty()).all(|gap| match gap {
        b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|b| *b == b'-'),
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn normalisation() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let pinned = format!("docker.io/library/alpine@sha256:{hex}");
        let both = format!("quay.io/a/b:1@sha256:{hex}");
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox"),
            ("golang:1.14", "docker.io/library/golang:1.14", "golang:1.14"),
            ("index.docker.io/library/x", "docker.io/library/x:latest", "x"),
            ("docker.io/x", "docker.io/library/x:latest", "x"),
            ("argoproj/argosay:v2", "docker.io/argoproj/argosay:v2", "argoproj/argosay:v2"),
            ("localhost/app", "localhost/app:latest", "localhost/app"),
            ("localhost:5000/a/b_c__d:x", "localhost:5000/a/b_c__d:x", "localhost:5000/a/b_c__d:x"),
            ("127.0.0.1:5055/base/busybox", "127.0.0.1:5055/base/busybox:latest", "127.0.0.1:5055/base/busybox"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1", "[::1]:5000/app:1"),
            (
                "registry.windlass.internal/app",
                "registry.windlass.internal/app:latest",
                "registry.windlass.internal/app",
            ),
            (&format!("alpine@sha256:{hex}"), &pinned, &format!("alpine@sha256:{hex}")),
            (&both, &both, &both),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(full).unwrap(), reference, "canonical form is stable: {text}");
            assert_eq!(Reference::parse(familiar).unwrap(), reference, "familiar form is stable: {text}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let texts = [
            "",
            "Busybox",
            "docker.io/App:1",
            "a b",
            "app:",
            "app:-x",
            "app@sha256:12",
            "https://x.io/a",
            "../etc",
            "a//b",
            "x.io/",
            "a/../b",
            "a.-b/c",
            ".hidden",
            "a:b:c",
        ];
        let said: Vec<String> = texts
            .iter()
            .map(|text| Reference::parse(text).err().map_or("accepted".into(), |e| e.to_string()))
            .collect();
        insta::assert_snapshot!(said.join("\n"));
    }
}
