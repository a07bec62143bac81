//! How servers outside are reached: which one stands in for which, names inside the cluster, patience, and the HTTP client
//! that follows from these. It must never print a credential, and never wait longer than it was told.

use std::net::IpAddr;
use std::time::Duration;

use crate::dial::{Inside, Tunnel};
use crate::remap::{Endpoints, Server};
use crate::secret::Secret;
use crate::store::Plugins;

/// What S3 and HTTP locations are reached with.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Servers that stand in for others.
    pub endpoints: Endpoints,
    /// Names that only the cluster knows.
    pub inside: Inside,
    /// Credentials of this process's own surroundings, for S3 without keys.
    pub ambient: Ambient,
    /// Drivers that are programs of others.
    pub plugins: Plugins,
    /// How long making a connection may take, its name included.
    pub connect_timeout: Duration,
    /// How long a connection may stay silent.
    pub read_timeout: Duration,
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            endpoints: Endpoints::none(),
            inside: Inside::default(),
            ambient: Ambient::None,
            plugins: Plugins::default(),
            connect_timeout: Duration::from_secs(4),
            read_timeout: Duration::from_secs(60),
        }
    }
}

/// S3 credentials that no Secret names.
#[derive(Clone, Default)]
pub enum Ambient {
    /// There are none.
    #[default]
    None,
    /// Keys.
    Keys {
        /// The access key.
        access: Secret,
        /// The secret key.
        secret: Secret,
        /// The session's token, for keys that end.
        token: Option<Secret>,
    },
    /// There is something that is not asked, and what.
    Unsupported(&'static str),
}

impl std::fmt::Debug for Ambient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Keys { .. } => "Keys",
            Self::Unsupported(what) => what,
        })
    }
}

impl Ambient {
    /// What the environment says, and after it the shared credentials file's text, as AWS's own tools read both.
    pub fn read(environment: &dyn Fn(&str) -> Option<String>, file: Option<&str>) -> Self {
        let value = |name: &str| environment(name).filter(|v| !v.is_empty());
        if let (Some(access), Some(secret)) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY")) {
            let token = value("AWS_SESSION_TOKEN").map(Secret::from);
            return Self::Keys { access: access.into(), secret: secret.into(), token };
        }
        let profile = value("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        if let Some(keys) = file.and_then(|text| Self::profile(text, &profile)) {
            return keys;
        }
        let others = [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "a web identity token (AWS_WEB_IDENTITY_TOKEN_FILE)"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "a container's credentials (AWS_CONTAINER_CREDENTIALS_FULL_URI)"),
            (
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "a container's credentials (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI)",
            ),
        ];
        others
            .into_iter()
            .find(|(name, _)| value(name).is_some())
            .map_or(Self::None, |(_, what)| Self::Unsupported(what))
    }

    fn profile(text: &str, wanted: &str) -> Option<Self> {
        let (mut inside, mut access, mut secret, mut token) = (false, None, None, None);
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                inside = name.trim() == wanted;
            } else if let (true, Some((name, value))) = (inside, line.split_once('=')) {
                let value = Some(Secret::from(value.trim()));
                match name.trim() {
                    "aws_access_key_id" => access = value,
                    "aws_secret_access_key" => secret = value,
                    "aws_session_token" => token = value,
                    _ => {}
                }
            }
        }
        Some(Self::Keys { access: access?, secret: secret?, token })
    }
}

/// What must not be told of a server: the name that a rule led to. Messages say the name that the user wrote.
#[derive(Clone)]
pub(crate) struct Hidden {
    named: String,
    mapped: Option<Server>,
}

impl Hidden {
    pub(crate) fn of(named: &Server, mapped: Option<Server>) -> Self {
        Self { named: named.host.clone(), mapped }
    }

    /// A text of a lower layer, as it may be told.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.mapped.as_ref().map_or_else(|| text.to_owned(), |to| to.hide(text, &self.named))
    }
}

/// A client for one server; its tunnel, if it has one, lives as long.
pub(crate) struct Client {
    pub(crate) http: reqwest::blocking::Client,
    _tunnel: Option<Tunnel>,
}

impl Outside {
    /// The server to really ask. Each use of a rule is one line in the log.
    pub(crate) fn map(&self, server: &Server) -> Option<Server> {
        let to = self.endpoints.apply(server)?;
        tracing::info!(from = %server, %to, "endpoint remap");
        Some(to)
    }

    /// A client for this server; `ca` are certificates of authorities to trust and no others.
    pub(crate) fn client(&self, server: &Server, ca: Option<&Secret>) -> Result<Client, String> {
        self.client_as(server, ca, None)
    }

    /// The same, with a certificate of our own and its key (PEM).
    pub(crate) fn client_as(
        &self,
        server: &Server,
        ca: Option<&Secret>,
        identity: Option<&Secret>,
    ) -> Result<Client, String> {
        crate::git::ensure_tls();
        let tunnel = self.inside.tunnel(&server.host, server.port(), self.connect_timeout);
        let tunnel = tunnel.map_err(|e| e.to_string())?;
        let identity = identity.map(|pem| reqwest::Identity::from_pem(pem.expose()));
        let identity = identity.transpose().map_err(|_| "the client certificate or its key is not PEM".to_owned())?;
        let builder = || {
            let builder = reqwest::blocking::Client::builder()
                .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(self.connect_timeout)
                // The blocking client's timeout is for each read and write, not for the whole transfer.
                .timeout(self.read_timeout);
            let builder = match &identity {
                Some(identity) => builder.identity(identity.clone()),
                None => builder,
            };
            let builder = if is_loopback(&server.host) { builder.no_proxy() } else { builder };
            match &tunnel {
                Some(tunnel) => builder.unix_socket(tunnel.path()),
                None => builder,
            }
        };
        let built = match ca {
            Some(pem) => {
                let roots = reqwest::Certificate::from_pem_bundle(pem.expose());
                let roots = roots.map_err(|_| "caSecret is not a certificate in PEM".to_owned())?;
                builder().tls_certs_only(roots).build()
            }
            // A machine without authorities can still speak plain HTTP.
            None if !server.secure => builder().tls_certs_only([]).build(),
            None => builder().build(),
        };
        let http = built.map_err(|e| cause(&e))?;
        Ok(Client { http, _tunnel: tunnel })
    }

    /// Who else could answer for a server that does not.
    pub(crate) fn help(named: &Server, mapped: Option<&Server>) -> String {
        match mapped {
            Some(_) => format!(
                "{} is mapped by --remap-endpoint: check that what answers for it runs, the log names it",
                named.host
            ),
            None => {
                let port = named.port.map_or_else(String::new, |port| format!(":{port}"));
                format!("check that it runs, or map it with --remap-endpoint {}{port}=http://HOST:PORT", named.host)
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The innermost cause: the outer ones only say that a request failed.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut last = error.to_string();
    let mut next = std::error::Error::source(error);
    let mut unresolved = false;
    while let Some(inner) = next {
        last = inner.to_string();
        unresolved |= last.contains("dns error");
        next = inner.source();
    }
    if unresolved {
        return "its name cannot be resolved".to_owned();
    }
    if last.contains("corrupt message") || last.contains("InvalidContentType") {
        return "it does not speak TLS (insecure: true, or http:// in the rule that maps it)".to_owned();
    }
    if error.is_timeout() { format!("timed out: {last}") } else { last }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn surroundings() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        let file = "[default]\naws_access_key_id = file\naws_secret_access_key=s\n# x\n[other]\naws_access_key_id = o\naws_secret_access_key = p\naws_session_token = t\n";
        let key = |ambient: Ambient| match ambient {
            Ambient::Keys { access, token, .. } => format!("{} {}", access.expose_str().unwrap(), token.is_some()),
            other => format!("{other:?}"),
        };
        let keys: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", "env"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert_eq!(key(Ambient::read(&env(keys), Some(file))), "env false");
        assert_eq!(key(Ambient::read(&env(&[]), Some(file))), "file false");
        assert_eq!(key(Ambient::read(&env(&[("AWS_PROFILE", "other")]), Some(file))), "o true");
        assert_eq!(key(Ambient::read(&env(&[]), None)), "None");
        let web = Ambient::read(&env(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/x")]), None);
        assert!(key(web).contains("web identity"));
    }
}
