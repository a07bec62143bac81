//! Argo's `http` and `artifactory` drivers: GET to load, PUT to save, DELETE, HEAD. It must never print credentials,
//! nor send them on to another host after a redirect (reqwest drops them).

use std::io::Read;

use super::{Content, Driver, Payload, Saved, StoreError};
use crate::cancel::Cancel;
use crate::outside::{Client, Hidden, Outside, cause};
use crate::remap::Server;
use crate::secret::Secret;

/// How to authenticate.
#[derive(Clone)]
pub enum HttpAuth {
    /// User name and password.
    Basic {
        /// The user.
        username: Secret,
        /// The password.
        password: Secret,
    },
}

/// One URL.
pub struct HttpDriver {
    url: url::Url,
    headers: Vec<(String, Secret)>,
    auth: Option<HttpAuth>,
    /// The URL to really ask, where a rule says so.
    asked: url::Url,
    client: Client,
    hidden: Hidden,
    help: String,
}

impl HttpDriver {
    /// A driver for `url` (http or https), reached as `outside` says. Nothing is asked yet.
    pub fn new(
        url: &str,
        headers: Vec<(String, Secret)>,
        auth: Option<HttpAuth>,
        outside: &Outside,
    ) -> Result<Self, StoreError> {
        let bad = |reason| StoreError::BadKey { key: url.to_owned(), reason };
        let url = url::Url::parse(url).map_err(|_| bad("not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("only http and https URLs"));
        }
        let named = Server {
            secure: url.scheme() == "https",
            host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase(),
            port: url.port(),
        };
        let mapped = outside.map(&named);
        let mut asked = url.clone();
        if let Some(to) = &mapped {
            let base = url::Url::parse(&to.to_string()).map_err(|_| bad("it is mapped to what is no host"))?;
            // The scheme first: it decides which port is written.
            let set = asked.set_scheme(base.scheme()).and_then(|()| asked.set_port(to.port));
            if set.is_err() || asked.set_host(base.host_str()).is_err() {
                return Err(bad("it is mapped to what is no host"));
            }
        }
        let help = Outside::help(&named, mapped.as_ref());
        let hidden = Hidden::of(&named, mapped.clone());
        let client = outside.client(mapped.as_ref().unwrap_or(&named), None).map_err(|message| StoreError::Http {
            method: "GET",
            url: shown(&url),
            message: format!("{}; {help}", hidden.hide(&message)),
            retry: false,
        })?;
        Ok(Self { url, headers, auth, asked, client, hidden, help })
    }

    fn shown(&self) -> String {
        shown(&self.url)
    }

    fn fail(&self, method: &'static str, error: &reqwest::Error) -> StoreError {
        let message = format!("{}; {}", self.hidden.hide(&cause(error)), self.help);
        StoreError::Http { method, url: self.shown(), message, retry: error.is_connect() || error.is_timeout() }
    }

    fn send(
        &self,
        method: &'static str,
        body: Option<reqwest::blocking::Body>,
    ) -> Result<reqwest::blocking::Response, StoreError> {
        let verb = reqwest::Method::from_bytes(method.as_bytes())
            .map_err(|_| StoreError::Unsupported(format!("HTTP method {method}")))?;
        let mut request = self.client.http.request(verb, self.asked.clone());
        for (name, value) in &self.headers {
            let bad = |reason| StoreError::BadKey { key: format!("header {name}"), reason };
            let mut header = reqwest::header::HeaderValue::from_bytes(value.expose())
                .map_err(|_| bad("its value cannot be sent"))?;
            header.set_sensitive(true);
            let header_name =
                reqwest::header::HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("not a header name"))?;
            request = request.header(header_name, header);
        }
        if let Some(HttpAuth::Basic { username, password }) = &self.auth {
            request = request.basic_auth(username.expose_str().unwrap_or_default(), password.expose_str());
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().map_err(|e| self.fail(method, &e))?;
        let status = response.status();
        if status == reqwest::StatusCode::NOT_FOUND {
            return Err(StoreError::NotFound(self.shown()));
        }
        if !status.is_success() {
            let retry = status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS;
            return Err(StoreError::Http { method, url: self.shown(), message: status.to_string(), retry });
        }
        Ok(response)
    }
}

/// Without what may be a credential: user information, and queries, which often carry signatures.
fn shown(url: &url::Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

impl Driver for HttpDriver {
    fn load(&self, _cancel: &Cancel) -> Result<Content, StoreError> {
        Ok(Content::File(Box::new(self.send("GET", None)?)))
    }

    fn save(&self, payload: Payload<'_>, cancel: &Cancel) -> Result<Saved, StoreError> {
        let reader = match payload {
            Payload::File(reader) => reader,
            Payload::Tree(_) => {
                return Err(StoreError::Unsupported(
                    "http artifacts cannot hold a directory without an archive; use archive.tar".to_owned(),
                ));
            }
        };
        // A request body must own its bytes: spooled to disk, so that its length is known and memory stays small.
        let io = |source| StoreError::Io { key: self.shown(), source };
        let mut spool = tempfile::tempfile().map_err(io)?;
        let bytes = std::io::copy(&mut Watched { reader, cancel }, &mut spool).map_err(io)?;
        std::io::Seek::rewind(&mut spool).map_err(io)?;
        self.send("PUT", Some(reqwest::blocking::Body::sized(spool, bytes)))?;
        Ok(Saved { bytes, digest: None })
    }

    fn delete(&self, _cancel: &Cancel) -> Result<(), StoreError> {
        match self.send("DELETE", None) {
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn exists(&self, _cancel: &Cancel) -> Result<bool, StoreError> {
        match self.send("HEAD", None) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

struct Watched<'a> {
    reader: &'a mut dyn Read,
    cancel: &'a Cancel,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(std::io::Error::other("cancelled"));
        }
        self.reader.read(buffer)
    }
}
