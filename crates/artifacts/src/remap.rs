//! The remap table: git URLs by git's `insteadOf` rule, S3 and HTTP servers by host. Mapped names are used for the
//! connection only; they must never enter objects, status or the work tree.

use std::fmt;

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
        // The first of the longest: `max_by_key` alone would give the last.
        let matching = self.rules.iter().rev().filter(|(from, _)| url.starts_with(from.as_str()));
        let (from, to) = matching.max_by_key(|(from, _)| from.len())?;
        Some(format!("{to}{}", &url[from.len()..]))
    }
}

/// A server as a URL or an S3 endpoint names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whether TLS is spoken.
    pub secure: bool,
    /// The host, without brackets, in lower case.
    pub host: String,
    /// The port, where one is named.
    pub port: Option<u16>,
}

impl Server {
    /// Reads `host`, `host:port` or `http(s)://host[:port]`; the second part tells whether a scheme was written.
    pub fn parse(text: &str, secure: bool) -> Option<(Self, bool)> {
        let (secure, written, rest) = match text.trim().split_once("://") {
            Some(("http", rest)) => (false, true, rest),
            Some(("https", rest)) => (true, true, rest),
            Some(_) => return None,
            None => (secure, false, text.trim()),
        };
        let url = url::Url::parse(&format!("http://{}", rest.trim_end_matches('/'))).ok()?;
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !plain || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = url.host_str()?.trim_matches(['[', ']']).to_ascii_lowercase();
        // `url` drops the port that belongs to its scheme.
        let port = match rest.trim_end_matches('/').rsplit_once(':') {
            Some((_, digits)) if !digits.ends_with(']') => Some(digits.parse().ok()?),
            _ => None,
        };
        Some((Self { secure, host, port }, written))
    }

    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.secure { 443 } else { 80 })
    }
}

impl Server {
    /// A text of a lower layer with another name where it has this server's: for one that a rule led to.
    pub(crate) fn hide(&self, text: &str, named: &str) -> String {
        let port = self.port();
        let ways = [
            self.to_string(),
            format!("{}:{port}", self.host),
            format!("[{}]:{port}", self.host),
            format!("{} port {port}", self.host),
            self.host.clone(),
        ];
        ways.iter().fold(text.to_owned(), |text, way| text.replace(way, named))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Which S3 or HTTP server stands in for which: rules of the form `s3.amazonaws.com=http://minio:9000`.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    from: Server,
    /// A scheme in FROM makes the rule hold for that scheme only.
    from_scheme: bool,
    to: Server,
    /// Without a scheme in TO that of the request stays.
    to_scheme: bool,
}

/// A rule that is not `HOST[:PORT]=[http://|https://]HOST[:PORT]`.
#[derive(Debug, thiserror::Error)]
#[error("an endpoint rule is FROM=TO, such as s3.amazonaws.com=http://minio:9000, got {0:?}")]
pub struct EndpointError(String);

impl Endpoints {
    /// No rules.
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses rules as given to `--remap-endpoint`.
    pub fn parse<I, S>(rules: I) -> Result<Self, EndpointError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut table = Self::default();
        for rule in rules {
            let rule = rule.as_ref();
            let read = || {
                let (from, to) = rule.split_once('=')?;
                let (from, from_scheme) = Server::parse(from, true)?;
                let (to, to_scheme) = Server::parse(to, true)?;
                Some(Rule { from, from_scheme, to, to_scheme })
            };
            table.rules.push(read().ok_or_else(|| EndpointError(rule.to_owned()))?);
        }
        Ok(table)
    }

    /// The server to really use, if a rule matches: one that names the port before one that does not.
    pub fn apply(&self, server: &Server) -> Option<Server> {
        let matches = |rule: &&Rule| {
            rule.from.host == server.host
                && rule.from.port.is_none_or(|port| port == server.port())
                && (!rule.from_scheme || rule.from.secure == server.secure)
        };
        // The first of the most exact.
        let rule = self.rules.iter().rev().filter(matches).max_by_key(|r| (r.from.port.is_some(), r.from_scheme))?;
        let secure = if rule.to_scheme { rule.to.secure } else { server.secure };
        Some(Server { secure, ..rule.to.clone() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let table = Endpoints::parse([
            "s3.amazonaws.com=http://minio:9000",
            "s3.amazonaws.com=http://second:1",
            "files.example.org:8443=127.0.0.1:8444",
            "http://files.example.org=https://[::1]",
        ])
        .unwrap();
        let lines = [
            ("s3.amazonaws.com", true),
            ("S3.amazonaws.com:443", true),
            ("https://files.example.org:8443", true),
            ("http://files.example.org:8443", true),
            ("files.example.org", true),
            ("files.example.org", false),
            ("bucket.s3.amazonaws.com", true),
        ]
        .map(|(text, secure)| {
            let (server, _) = Server::parse(text, secure).unwrap();
            let to = table.apply(&server).map_or_else(|| "-".to_owned(), |to| to.to_string());
            format!("{server} => {to}")
        });
        insta::assert_snapshot!(lines.join("\n"), @r"
        https://s3.amazonaws.com => http://minio:9000
        https://s3.amazonaws.com:443 => http://minio:9000
        https://files.example.org:8443 => https://127.0.0.1:8444
        http://files.example.org:8443 => http://127.0.0.1:8444
        https://files.example.org => -
        http://files.example.org => https://[::1]
        https://bucket.s3.amazonaws.com => -
        ");
        for bad in ["a", "a=", "=b", "a/b=c", "ftp://a=b", "u@a=b", "a:x=b", "a b=c"] {
            assert!(Endpoints::parse([bad]).is_err(), "{bad}");
        }
    }

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
