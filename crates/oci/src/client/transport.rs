//! One HTTP conversation with a registry: TLS or not, retries, and errors that say what to do. Who may is asked in
//! `token`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::AUTHORIZATION;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use super::patience::{Failure, Moved, SILENT_RETRIES_MAX, is_overloaded, retry_after};
use super::target::Target;
use super::token::Token;
use super::{ClientOptions, Mapped, blocking};
use crate::{Error, Reference, Result};

pub(super) struct Transport {
    pub(super) options: ClientOptions,
    /// Each client is made when first needed: reading the system's certificate authorities takes longer than a small
    /// build.
    http: OnceLock<reqwest::Client>,
    /// For registries on this machine: no proxy knows those.
    direct: OnceLock<reqwest::Client>,
    /// For registries on this machine that speak plain HTTP: it knows no certificate authority.
    plain: OnceLock<reqwest::Client>,
    /// It checks no certificate.
    unchecked: OnceLock<reqwest::Client>,
    extra_roots: Vec<reqwest::Certificate>,
    /// Without certificate authorities there is no TLS; plain registries still work.
    no_roots: OnceLock<String>,
    /// Base URLs that answered, by registry.
    bases: Mutex<HashMap<String, String>>,
    /// What each registry and scope was last satisfied with.
    tokens: Mutex<HashMap<(String, String), Token>>,
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Transport {
    pub(super) fn new(options: ClientOptions) -> Result<Self> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another part of the process may be first; either way there is one then.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut roots = Vec::new();
        for pem in &options.extra_roots {
            roots.extend(
                reqwest::Certificate::from_pem_bundle(pem)
                    .map_err(|e| Error::malformed("certificate authority (PEM)", e))?,
            );
        }
        Ok(Self {
            options,
            http: OnceLock::new(),
            direct: OnceLock::new(),
            plain: OnceLock::new(),
            unchecked: OnceLock::new(),
            extra_roots: roots,
            no_roots: OnceLock::new(),
            bases: Mutex::default(),
            tokens: Mutex::default(),
        })
    }

    /// The name to ask for: mapped if a rule says so, which is one log line each time.
    pub(super) fn place(&self, reference: &Reference) -> Reference {
        if reference.is_local() {
            return reference.clone();
        }
        match self.options.remap.apply(reference) {
            Some(Mapped { reference: place, rule }) => {
                tracing::info!(image = %reference, asked = %place, rule, "registry mapped");
                place
            }
            None => reference.clone(),
        }
    }

    /// The client for a URL of this registry.
    pub(super) fn client(&self, registry: &str, url: &str) -> Result<&reqwest::Client> {
        let broken = |e: reqwest::Error| Error::malformed("TLS", chain(&e));
        let local = is_loopback(registry);
        if local && url.starts_with("http://") {
            // It cannot follow to a store on TLS; `send_once` does.
            let plain_only = reqwest::redirect::Policy::custom(|attempt| match attempt.url().scheme() {
                "http" if attempt.previous().len() < 10 => attempt.follow(),
                _ => attempt.stop(),
            });
            let make = || builder().no_proxy().tls_certs_only([]).redirect(plain_only).build().map_err(broken);
            return kept(&self.plain, make);
        }
        if self.options.skip_tls_verify_all || self.options.skip_tls_verify.iter().any(|r| r == registry) {
            return kept(&self.unchecked, || builder().tls_danger_accept_invalid_certs(true).build().map_err(broken));
        }
        let builder = || if local { builder().no_proxy() } else { builder() };
        kept(if local { &self.direct } else { &self.http }, || {
            builder().tls_certs_merge(self.extra_roots.clone()).build().or_else(|error| {
                let _told_before = self.no_roots.set(chain(&error));
                builder().tls_certs_only(self.extra_roots.clone()).build().map_err(broken)
            })
        })
    }

    /// Sends a request for a path below `/v2/`, with credentials where the registry asks for them.
    pub(super) async fn send(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        prepare: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let base = self.base(target).await?;
        self.send_url(target, method, &format!("{base}/v2/{path}"), prepare).await
    }

    /// Sends a request to a URL of the registry.
    pub(super) async fn send_url(
        &self,
        target: &Target,
        method: Method,
        url: &str,
        prepare: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let mut attempt = 0;
        loop {
            let result = self.send_once(target, method.clone(), url, &prepare, None).await;
            let (again, attempts_max) = match &result {
                // The name is unknown, or the connection was waited for: more of the same is only more waiting.
                Err(failure) if failure.lost => (false, 0),
                Err(failure) if failure.silent => (true, self.options.retries.min(SILENT_RETRIES_MAX)),
                Err(failure) => (failure.error.is_transient(), self.options.retries),
                Ok(response) => (is_overloaded(response), self.options.retries),
            };
            if !again || attempt >= attempts_max {
                return result.map_err(|failure| failure.error);
            }
            let told = result.ok().as_ref().and_then(retry_after);
            self.pause(target, attempt, told).await;
            attempt += 1;
        }
    }

    /// Sends a large body once: an upload that broke off is begun anew, which is the caller's.
    pub(super) async fn upload(
        &self,
        target: &Target,
        url: &str,
        moved: &Moved,
        prepare: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        self.send_once(target, Method::PUT, url, &prepare, Some(moved)).await.map_err(|failure| failure.error)
    }

    async fn send_once(
        &self,
        target: &Target,
        method: Method,
        url: &str,
        prepare: &impl Fn(RequestBuilder) -> RequestBuilder,
        moved: Option<&Moved>,
    ) -> Result<Response, Failure> {
        let client = self.client(&target.registry, url)?;
        let key = (target.registry.clone(), target.scopes.join(" "));
        // A registry may hand out upload and download addresses elsewhere: credentials are not for those.
        let home = self.bases().get(&target.registry).is_some_and(|base| url.starts_with(&format!("{base}/")));
        let known = self.tokens().get(&key).filter(|token| home && token.until > Instant::now()).cloned();
        let mut request = prepare(client.request(method.clone(), url));
        if let Some(token) = &known {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        let response = self.answer(target, request, moved).await?;
        if let Some(elsewhere) = elsewhere(&response) {
            // What the registry keeps elsewhere is reached by a URL that needs no credential.
            let request = prepare(
                self.client(elsewhere.host_str().unwrap_or_default(), elsewhere.as_str())?.request(method, elsewhere),
            );
            return self.answer(target, request, moved).await;
        }
        if response.status() != StatusCode::UNAUTHORIZED || !home {
            return Ok(response);
        }
        self.tokens().remove(&key);
        let Some(token) = self.satisfy(target, &response).await? else { return Ok(response) };
        let request = prepare(client.request(method, url)).header(AUTHORIZATION, token.header.clone());
        let response = self.answer(target, request, moved).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            self.tokens().insert(key, token);
        }
        Ok(response)
    }

    /// The registry's base URL. Where plain HTTP may be spoken, it is tried out once.
    async fn base(&self, target: &Target) -> Result<String> {
        let registry = target.registry.as_str();
        if let Some(base) = self.bases().get(registry) {
            return Ok(base.clone());
        }
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let (secure, plain) = (format!("https://{host}"), format!("http://{host}"));
        let listed = self.options.insecure_all
            || self.options.insecure.iter().any(|name| name == registry)
            || self.options.remap.is_plain(registry);
        let probe = async |base: &str| {
            let Ok(client) = self.client(registry, base) else { return Probe::Other };
            let request = client.get(format!("{base}/v2/")).timeout(PROBE_MAX).send();
            match request.await {
                // What a TLS server says to plain HTTP.
                Ok(response) if response.status() == StatusCode::BAD_REQUEST => Probe::Other,
                Ok(_) => Probe::Answers,
                Err(error) if is_lost(&error) => Probe::Lost(self.unreachable(target, &error)),
                Err(error) if error.is_timeout() => Probe::Silent,
                Err(_) => Probe::Other,
            }
        };
        let silent = || Error::Unreachable {
            registry: target.shown().0,
            detail: format!("it takes connections and said nothing for {} s", PROBE_MAX.as_secs()),
            help: "check that it is well, or try again later".to_owned(),
        };
        // On this machine plain HTTP is what is expected, listed or not.
        let listed = listed && !is_loopback(registry);
        let base = if is_loopback(registry) || listed {
            // What speaks one of them may wait for ever when it hears the other: the preferred one first, and the
            // other beside it only where that takes long.
            let (first, second) = if listed { (&secure, &plain) } else { (&plain, &secure) };
            let mut asked = std::pin::pin!(probe(first));
            let (first, second) = match tokio::time::timeout(HEAD_START, &mut asked).await {
                Ok(Probe::Answers) => (Probe::Answers, Probe::Other),
                Ok(found) => (found, probe(second).await),
                Err(_) => futures::join!(asked, probe(second)),
            };
            let (found_plain, found_secure) = if listed { (second, first) } else { (first, second) };
            match (found_plain, found_secure) {
                (Probe::Answers, Probe::Answers) if listed => secure.clone(),
                (Probe::Answers, _) => plain.clone(),
                (_, Probe::Answers) => secure.clone(),
                // Asked again it would only keep us waiting longer. A handshake that nobody takes part in looks like a
                // connection that is not made: what was said to plain HTTP tells the two apart.
                (Probe::Silent, Probe::Lost(_)) => return Err(silent()),
                (Probe::Silent, Probe::Silent | Probe::Other) if !listed => return Err(silent()),
                (Probe::Silent | Probe::Other, Probe::Silent) if listed => return Err(silent()),
                (Probe::Lost(error), _) | (_, Probe::Lost(error)) => return Err(error),
                _ if listed => secure.clone(),
                _ => plain.clone(),
            }
        } else {
            secure
        };
        self.bases().insert(registry.to_owned(), base.clone());
        Ok(base)
    }

    /// Turns an answer that is not a success into an error.
    pub(super) async fn failed(&self, target: &Target, doing: &str, response: Response) -> Error {
        let status = response.status();
        let bytes = tokio::time::timeout(self.options.silence, response.bytes()).await;
        let bytes = bytes.ok().and_then(Result::ok).unwrap_or_default();
        let said: Vec<String> = serde_json::from_slice::<ErrorBody>(&bytes)
            .map(|body| {
                body.errors.into_iter().map(|e| format!("{} {}", e.code, e.message).trim().to_owned()).collect()
            })
            .unwrap_or_default();
        let said = target.hide(&said.join("; "));
        match status.as_u16() {
            401 | 403 => {
                let detail =
                    if said.is_empty() { format!("{doing}: {status}") } else { format!("{doing}: {status}, {said}") };
                let (config, about) = (self.options.credentials.clone(), target.clone());
                let known = blocking(move || about.credential(&config)).await;
                self.refused(target, &detail, matches!(known, Ok(Some(_))))
            }
            code => {
                let help = match code {
                    404 => "; check the name and the tag",
                    429 => "; too many requests: log in, use a mirror (--remap-registry) or wait",
                    500.. => "; the registry has a fault: try again later",
                    _ => "",
                };
                let said = if said.is_empty() { String::new() } else { format!(": {said}") };
                let (registry, repository) = target.shown();
                Error::Registry {
                    registry,
                    repository,
                    doing: doing.to_owned(),
                    status: code,
                    detail: format!("{said}{help}"),
                }
            }
        }
    }

    pub(super) fn refused(&self, target: &Target, detail: &str, had_credential: bool) -> Error {
        let (registry, repository) = target.shown();
        let help = if had_credential {
            "the configured credential was not enough: check its password and its rights".to_owned()
        } else {
            format!("no credential for it was found: add `{registry}` to the auths of the docker config.json")
        };
        Error::Denied { registry, repository, detail: detail.to_owned(), help }
    }

    pub(super) fn unreachable(&self, target: &Target, error: &reqwest::Error) -> Error {
        let lower = chain(error).to_lowercase();
        let mut detail = innermost(error);
        let help = if let Some(why) = self.no_roots.get()
            && (lower.contains("certificate") || lower.contains("issuer"))
        {
            format!("this system has no certificate authorities ({why}): install ca-certificates")
        } else if lower.contains("certificate") || lower.contains("issuer") {
            "its certificate is not trusted: add its authority, or skip the check for this registry".to_owned()
        } else if lower.contains("corrupt message") || lower.contains("invalidcontenttype") {
            "it does not speak TLS: allow plain HTTP for this registry if that is intended".to_owned()
        } else {
            if lower.contains("dns error") {
                detail = "its name cannot be resolved".to_owned();
            } else if is_lost(error) {
                detail = format!("no connection within {} s", CONNECT_MAX.as_secs());
            }
            match &target.named {
                Some((named, _)) => format!(
                    "{named} is mapped by --remap-registry: check that what answers for it runs, the log names it"
                ),
                None => {
                    format!("check that it runs, or map it with --remap-registry {}=HOST:PORT", target.registry)
                }
            }
        };
        Error::Unreachable { registry: target.shown().0, detail: target.hide(&detail), help }
    }

    pub(super) fn bases(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<(String, String), Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a redirection leads that the client did not follow.
fn elsewhere(response: &Response) -> Option<reqwest::Url> {
    let location = response.headers().get(reqwest::header::LOCATION).filter(|_| response.status().is_redirection())?;
    response.url().join(location.to_str().ok()?).ok()
}

/// The client in this cell, made where there is none.
fn kept(cell: &OnceLock<reqwest::Client>, make: impl FnOnce() -> Result<reqwest::Client>) -> Result<&reqwest::Client> {
    match cell.get() {
        Some(client) => Ok(client),
        None => make().map(|client| cell.get_or_init(|| client)),
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
        // No timeout of the client's own for what follows: it would count a whole upload as one silence.
        .connect_timeout(CONNECT_MAX)
}

/// How long a connection may take to be made, the name's resolution included.
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// Whether nobody was there: the name is unknown, or the connection was waited for long enough.
pub(super) fn is_lost(error: &reqwest::Error) -> bool {
    error.is_connect() && (error.is_timeout() || chain(error).contains("dns error"))
}

/// How long the first question may take.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// So long the preferred protocol has for itself.
const HEAD_START: Duration = Duration::from_millis(500);

/// What the first question found.
enum Probe {
    Answers,
    Silent,
    /// Nobody was there.
    Lost(Error),
    Other,
}

/// The cause of all causes, without the URL and the layers above it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

/// An error with its causes: the outermost alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        cause = inner.source();
    }
    parts.join(": ")
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Percent-encodes everything but unreserved characters.
pub(super) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.example.com", "10.0.0.1:5000", "docker.io"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
