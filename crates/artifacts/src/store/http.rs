//! Argo's `http` and `artifactory` drivers: GET to load, PUT to save, DELETE, HEAD. It must never print credentials,
//! nor send them on to another host after a redirect (reqwest drops them).

use super::spool::Spool;
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
    /// OAuth2 with a client's own credentials: a token is asked for before each request.
    OAuth2(Box<OAuth2>),
    /// A client's certificate and its key, in PEM.
    Certificate(Secret),
}

/// Who asks for a token, and where.
#[derive(Clone)]
pub struct OAuth2 {
    /// The client's id.
    pub client_id: Secret,
    /// The client's secret.
    pub client_secret: Secret,
    /// Where tokens come from.
    pub token_url: Secret,
    /// Scopes.
    pub scopes: Vec<String>,
    /// More parameters of the request.
    pub parameters: Vec<(String, String)>,
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
    tokens: Option<Client>,
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
        let failed = |message: String| StoreError::Http {
            method: "GET",
            url: shown(&url),
            message: format!("{}; {help}", hidden.hide(&message)),
            retry: false,
        };
        let identity = match &auth {
            Some(HttpAuth::Certificate(pem)) => Some(pem),
            _ => None,
        };
        let client = outside.client_as(mapped.as_ref().unwrap_or(&named), None, identity).map_err(failed)?;
        let tokens = match &auth {
            Some(HttpAuth::OAuth2(oauth)) => {
                let place = oauth.token_url.expose_str().and_then(|text| url::Url::parse(text).ok());
                let place = place.filter(|p| matches!(p.scheme(), "http" | "https"));
                let place = place.ok_or_else(|| failed("the token URL is no http or https URL".to_owned()))?;
                let server = Server {
                    secure: place.scheme() == "https",
                    host: place.host_str().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase(),
                    port: place.port(),
                };
                Some(outside.client(&server, None).map_err(failed)?)
            }
            _ => None,
        };
        Ok(Self { url, headers, auth, asked, client, hidden, tokens, help })
    }

    fn shown(&self) -> String {
        shown(&self.url)
    }

    fn fail(&self, method: &'static str, error: &reqwest::Error) -> StoreError {
        let message = format!("{}; {}", self.hidden.hide(&cause(error)), self.help);
        StoreError::Http { method, url: self.shown(), message, retry: error.is_connect() || error.is_timeout() }
    }

    /// A token; the client names itself in the header, and where that is refused in the body, as Go's client does.
    fn token(&self, oauth: &OAuth2) -> Result<Secret, StoreError> {
        let place = oauth.token_url.expose_str().unwrap_or_default();
        let place = url::Url::parse(place).map_err(|_| StoreError::Unsupported("the token URL is none".to_owned()))?;
        let failed = |message: String, retry| StoreError::Http { method: "POST", url: shown(&place), message, retry };
        let client = self.tokens.as_ref().ok_or_else(|| failed("there is no way to it".to_owned(), false))?;
        let (id, secret) = (oauth.client_id.expose_str(), oauth.client_secret.expose_str());
        let (id, secret) = (id.unwrap_or_default(), secret.unwrap_or_default());
        let mut last = None;
        for in_body in [false, true] {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "client_credentials");
            if !oauth.scopes.is_empty() {
                form.append_pair("scope", &oauth.scopes.join(" "));
            }
            for (key, value) in &oauth.parameters {
                form.append_pair(key, value);
            }
            if in_body {
                form.append_pair("client_id", id).append_pair("client_secret", secret);
            }
            let mut request = client.http.post(place.clone());
            request = request.header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            if !in_body {
                let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                request = request.basic_auth(encoded(id), Some(encoded(secret)));
            }
            let answer = request.body(form.finish()).send();
            let answer = answer.map_err(|e| failed(cause(&e), e.is_connect() || e.is_timeout()))?;
            let status = answer.status();
            let text = answer.text().map_err(|e| failed(cause(&e), true))?;
            if !status.is_success() {
                last = Some(failed(format!("no token: {status}"), status.is_server_error()));
                continue;
            }
            let told: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let token = told["access_token"].as_str();
            return token.map(Secret::from).ok_or_else(|| failed("the answer has no access_token".to_owned(), false));
        }
        Err(last.unwrap_or_else(|| failed("no token".to_owned(), false)))
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
        match &self.auth {
            Some(HttpAuth::Basic { username, password }) => {
                request = request.basic_auth(username.expose_str().unwrap_or_default(), password.expose_str());
            }
            Some(HttpAuth::OAuth2(oauth)) => {
                let token = self.token(oauth)?;
                request = request.bearer_auth(token.expose_str().unwrap_or_default());
            }
            Some(HttpAuth::Certificate(_)) | None => {}
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
        let spool = Spool::of(reader, &self.shown(), cancel)?;
        self.send("PUT", Some(spool.body()?))?;
        Ok(Saved { bytes: spool.bytes, digest: None })
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
