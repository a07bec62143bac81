//! Argo's `http` and `artifactory` drivers: GET to load, PUT to save, DELETE, HEAD. It must never print credentials,
//! nor send them on to another host after a redirect (reqwest drops them).

use std::io::Read;
use std::time::Duration;

use super::{Content, Driver, Payload, Saved, StoreError};
use crate::cancel::Cancel;
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
    connect_timeout: Duration,
}

impl HttpDriver {
    /// A driver for `url` (http or https).
    pub fn new(url: &str, headers: Vec<(String, Secret)>, auth: Option<HttpAuth>) -> Result<Self, StoreError> {
        let bad = |reason| StoreError::BadKey { key: url.to_owned(), reason };
        let url = url::Url::parse(url).map_err(|_| bad("not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("only http and https URLs"));
        }
        Ok(Self { url, headers, auth, connect_timeout: Duration::from_secs(5) })
    }

    /// How long a connection may take to be made.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    fn shown(&self) -> String {
        let mut url = self.url.clone();
        // Query strings often carry signatures; user information is a credential.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.to_string()
    }

    fn fail(&self, method: &'static str, error: &reqwest::Error) -> StoreError {
        let mut message = if error.is_timeout() { "timed out: ".to_owned() } else { String::new() };
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        let mut last = "request failed".to_owned();
        while let Some(inner) = cause {
            last = inner.to_string();
            cause = inner.source();
        }
        message.push_str(&last);
        let retry = error.is_connect() || error.is_timeout();
        StoreError::Http { method, url: self.shown(), message, retry }
    }

    fn send(
        &self,
        method: &'static str,
        body: Option<reqwest::blocking::Body>,
    ) -> Result<reqwest::blocking::Response, StoreError> {
        crate::git::ensure_tls();
        let client = reqwest::blocking::Client::builder()
            .connect_timeout(self.connect_timeout)
            // The blocking client's timeout is for each read and write, not for the whole transfer.
            .timeout(Duration::from_secs(60))
            .build()
            .map_err(|e| self.fail(method, &e))?;
        let verb = reqwest::Method::from_bytes(method.as_bytes())
            .map_err(|_| StoreError::Unsupported(format!("HTTP method {method}")))?;
        let mut request = client.request(verb, self.url.clone());
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
