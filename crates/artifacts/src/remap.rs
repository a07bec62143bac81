//! The remap table for git URLs: git's `insteadOf` rule. Mapped names are used for the connection only; they must
//! never enter objects, status or the work tree.

/// Prefix rules; the longest matching prefix wins, as in git.
#[derive(Clone, Debug, Default)]
pub struct Remap {
    rules: Vec<(String, String)>,
}

/// A rule that is not `FROM=TO`.
#[derive(Debug, thiserror::Error)]
#[error("a remap rule is FROM=TO with a non-empty FROM, got {0:?}")]
pub struct RemapError(String);

impl Remap {
    /// No rules.
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses rules of the form `FROM=TO`, as given to `--remap-git`. The first `=` after the scheme divides.
    pub fn parse<I, S>(rules: I) -> Result<Self, RemapError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut table = Self::default();
        for rule in rules {
            let rule = rule.as_ref();
            match rule.split_once('=') {
                Some((from, to)) if !from.is_empty() => table.add(from, to),
                _ => return Err(RemapError(rule.to_owned())),
            }
        }
        Ok(table)
    }

    /// Adds one rule.
    pub fn add(&mut self, from: impl Into<String>, to: impl Into<String>) {
        self.rules.push((from.into(), to.into()));
    }

    /// True without any rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The URL to really use, if a rule matches.
    pub fn apply(&self, url: &str) -> Option<String> {
        let (from, to) =
            self.rules.iter().filter(|(from, _)| url.starts_with(from.as_str())).max_by_key(|(from, _)| from.len())?;
        Some(format!("{to}{}", &url[from.len()..]))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_wins() {
        let table = Remap::parse(["https://github.com/=file:///m/", "https://github.com/a/=file:///a/"]).unwrap();
        assert_eq!(table.apply("https://github.com/a/b.git").as_deref(), Some("file:///a/b.git"));
        assert_eq!(table.apply("https://github.com/c/b").as_deref(), Some("file:///m/c/b"));
        assert_eq!(table.apply("https://gitlab.com/c/b"), None);
        assert!(Remap::parse(["nothing"]).is_err());
        assert!(Remap::parse(["=x"]).is_err());
    }
}
