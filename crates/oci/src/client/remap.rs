//! Which registry stands in for which: `docker.io=127.0.0.1:5000/mirror`. Pure; a mapped name is for the request only
//! and must never be stored.

use crate::{Error, Reference, Result};

/// An ordered table of `FROM=TO` registry prefixes; the longest match wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remap {
    rules: Vec<(String, String)>,
    /// Registries that a rule wrote with `http://`.
    plain: Vec<String>,
}

/// Where to ask for an image instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The name to ask for.
    pub reference: Reference,
    /// The rule that said so, as written.
    pub rule: String,
}

impl Remap {
    /// Reads rules `FROM=TO`, where each side is a registry or a registry and a path. TO may begin with `http://`, which
    /// says that it has no TLS.
    pub fn parse<S: AsRef<str>>(rules: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut table = Self::default();
        for rule in rules {
            let rule = rule.as_ref();
            let wrong = || {
                Error::malformed(
                    format!("registry mapping `{rule}`"),
                    "expected FROM=TO, such as docker.io=registry.example.com/mirror",
                )
            };
            let (from, to) = rule.split_once('=').ok_or_else(wrong)?;
            let tidy = |side: &str| side.trim().trim_end_matches('/').to_owned();
            let (from, to) = (tidy(from), tidy(to));
            let to = match to.split_once("://") {
                Some(("http", rest)) => {
                    table.plain.push(rest.split('/').next().unwrap_or_default().to_owned());
                    rest.to_owned()
                }
                Some(("https", rest)) => rest.to_owned(),
                Some(_) => return Err(wrong()),
                None => to,
            };
            // Both sides must be able to start a reference.
            let valid = |side: &str| {
                Reference::parse(&format!("{side}/x")).is_ok_and(|r| r.to_string().starts_with(&format!("{side}/")))
            };
            let from = match from.as_str() {
                "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
                _ => from,
            };
            if (from != "docker.io" && !valid(&from)) || !valid(&to) {
                return Err(wrong());
            }
            table.rules.push((from, to));
        }
        Ok(table)
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule says that this registry has no TLS.
    pub fn is_plain(&self, registry: &str) -> bool {
        self.plain.iter().any(|known| known == registry)
    }

    /// Where to ask for this image, if a rule says so.
    pub fn apply(&self, reference: &Reference) -> Option<Mapped> {
        let name = reference.name();
        let matches = |from: &str| name.strip_prefix(from).is_some_and(|rest| rest.starts_with('/') || rest.is_empty());
        // The first of the longest: `max_by_key` alone would give the last.
        let (from, to) =
            self.rules.iter().rev().filter(|(from, _)| matches(from)).max_by_key(|(from, _)| from.len())?;
        let rest = name[from.len()..].trim_start_matches('/');
        let target = if rest.is_empty() { to.clone() } else { format!("{to}/{rest}") };
        let (registry, repository) = target.split_once('/')?;
        let moved = reference.moved(registry, repository);
        Some(Mapped { reference: moved, rule: format!("{from}={to}") })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_wins() {
        let table = Remap::parse([
            "docker.io=127.0.0.1:5055",
            "docker.io/library=127.0.0.1:5055/base",
            "gcr.io/kaniko-project/executor=localhost:5000/kaniko",
            "quay.io/argo=registry.windlass.internal/argo",
            "ghcr.io=http://registry.lan:5000/gh",
        ])
        .unwrap();
        for (from, to) in [
            ("busybox", Some("127.0.0.1:5055/base/busybox:latest")),
            ("argoproj/argosay:v2", Some("127.0.0.1:5055/argoproj/argosay:v2")),
            ("gcr.io/kaniko-project/executor:debug", Some("localhost:5000/kaniko:debug")),
            ("gcr.io/kaniko-project/executor2:debug", None),
            ("quay.io/argoproj/x", None),
            ("quay.io/argo/x", Some("registry.windlass.internal/argo/x:latest")),
            ("ghcr.io/a/x", Some("registry.lan:5000/gh/a/x:latest")),
        ] {
            let mapped = table.apply(&Reference::parse(from).unwrap()).map(|m| m.reference.to_string());
            assert_eq!(mapped.as_deref(), to, "{from}");
        }
        assert!(table.is_plain("registry.lan:5000") && !table.is_plain("localhost:5000"));
        assert!(Remap::parse(["docker.io"]).is_err());
        assert!(Remap::parse(["docker.io=ftp://x"]).is_err());
        assert!(Remap::parse(["a b=c.io"]).is_err());
    }
}
