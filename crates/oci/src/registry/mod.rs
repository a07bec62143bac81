//! The built-in registry: the store served as an OCI distribution v1.1 registry. Repository `app` here is the name
//! `registry.windlass.internal/app` of the store. Must never let anyone push or delete whom [`Authorize`] does not
//! allow.

mod blobs;
mod fault;
mod manifests;
mod tokens;
mod uploads;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, RANGE};
use http::{Method, StatusCode};

pub use uploads::Uploads;

use crate::client::Secret;
use crate::{Reference, Store};
use fault::Fault;

/// What a request wants to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read manifests, blobs and tags.
    Pull,
    /// Write blobs and manifests.
    Push,
    /// Delete blobs, manifests and tags.
    Delete,
}

/// What a request brought to show who it is. Secrets only: it has no `Debug`.
#[derive(Clone)]
pub enum Credentials {
    /// A user and a password; tools that only know passwords send a token as one.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
}

impl Credentials {
    /// The password or token.
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Basic { password, .. } => password,
            Self::Bearer(token) => token,
        }
    }

    fn of(header: &HeaderValue) -> Option<Self> {
        let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return tokens::read(rest.trim());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        // Some tools send an empty user and password for "nobody".
        (!password.is_empty()).then(|| Self::Basic { user: user.to_owned(), password: Secret::new(password) })
    }
}

/// Decides who may do what. `repo` is the repository within this registry. It is empty for the catalogue, and for a
/// login: that is a [`Action::Push`] to no repository, allowed when the credentials are good for anything at all.
pub trait Authorize: Send + Sync {
    /// Whether this is allowed.
    fn allow(&self, credentials: Option<&Credentials>, action: Action, repo: &str) -> bool;
}

/// Pulling for everyone, pushing and deleting for those who have the token.
pub struct TokenAuthorize {
    token: Secret,
}

impl TokenAuthorize {
    /// The token that pushing needs.
    pub fn new(token: Secret) -> Self {
        Self { token }
    }
}

impl Authorize for TokenAuthorize {
    fn allow(&self, credentials: Option<&Credentials>, action: Action, _repo: &str) -> bool {
        action == Action::Pull || credentials.is_some_and(|given| same(given.secret(), &self.token))
    }
}

/// Compares without telling by the time taken how much was right.
fn same(given: &Secret, wanted: &Secret) -> bool {
    let digest = |secret: &Secret| crate::Digest::of(secret.expose().as_bytes());
    let (given, wanted) = (digest(given), digest(wanted));
    given.as_str().bytes().zip(wanted.as_str().bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[derive(Clone)]
struct Served {
    store: Store,
    authorize: Arc<dyn Authorize>,
    uploads: Arc<Uploads>,
}

/// The registry's routes (`/v2/…`), to be mounted on any server.
pub fn router(store: Store, authorize: Arc<dyn Authorize>) -> Router {
    let served = Served { store, authorize, uploads: Arc::default() };
    // Repository names contain slashes, so the paths are taken apart here and not by the router.
    Router::new()
        .route("/v2", axum::routing::any(serve))
        .route("/v2/", axum::routing::any(serve))
        .route("/v2/{*path}", axum::routing::any(serve))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(served)
}

/// What a path below `/v2/` names.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Root,
    Token,
    Catalog,
    Tags(&'a str),
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Uploads(&'a str),
    Upload(&'a str, &'a str),
    Referrers(&'a str, &'a str),
}

impl<'a> Place<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let path = path.trim_start_matches("/v2").trim_start_matches('/');
        if path.is_empty() {
            return Some(Self::Root);
        }
        if path == "token" {
            return Some(Self::Token);
        }
        if path == "_catalog" {
            return Some(Self::Catalog);
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return Some(Self::Tags(repository));
        }
        if let Some(repository) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
            return Some(Self::Uploads(repository));
        }
        let (head, last) = path.rsplit_once('/')?;
        if let Some(repository) = head.strip_suffix("/blobs/uploads") {
            return Some(Self::Upload(repository, last));
        }
        if let Some(repository) = head.strip_suffix("/manifests") {
            return Some(Self::Manifest(repository, last));
        }
        if let Some(repository) = head.strip_suffix("/blobs") {
            return Some(Self::Blob(repository, last));
        }
        head.strip_suffix("/referrers").map(|repository| Self::Referrers(repository, last))
    }

    fn repository(&self) -> &'a str {
        match self {
            Self::Root | Self::Token | Self::Catalog => "",
            Self::Tags(repository) | Self::Uploads(repository) => repository,
            Self::Manifest(repository, _)
            | Self::Blob(repository, _)
            | Self::Upload(repository, _)
            | Self::Referrers(repository, _) => repository,
        }
    }
}

async fn serve(State(served): State<Served>, request: Request) -> Response {
    let head = request.method() == Method::HEAD;
    let path = request.uri().path().to_owned();
    let realm = tokens::realm(&request);
    let mut response = match answer(&served, &path, request).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        tokens::challenge(&mut response, &realm);
    }
    response
        .headers_mut()
        .insert(HeaderName::from_static("docker-distribution-api-version"), HeaderValue::from_static("registry/2.0"));
    if head {
        // The server keeps Content-Length and sends no body.
        *response.body_mut() = Body::empty();
    }
    response
}

async fn answer(served: &Served, path: &str, request: Request) -> Result<Response, Fault> {
    let place = Place::of(path).ok_or_else(|| Fault::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such path"))?;
    let method = request.method().clone();
    let reading = method == Method::GET || method == Method::HEAD;
    let action = match (&place, &method) {
        (Place::Uploads(_) | Place::Upload(..), _) => Action::Push,
        (_, &Method::DELETE) => Action::Delete,
        _ if reading => Action::Pull,
        _ => Action::Push,
    };
    let repository = place.repository();
    let named = !matches!(place, Place::Root | Place::Token | Place::Catalog);
    if named && !crate::reference::is_repository(repository) {
        return Err(Fault::new(StatusCode::BAD_REQUEST, "NAME_INVALID", "not a repository name"));
    }
    let credentials = request.headers().get(AUTHORIZATION).and_then(Credentials::of);
    if place == Place::Token {
        return tokens::issue(served, credentials, &request);
    }
    if place == Place::Root {
        // Clients learn here how to log in, and most never send a credential to a registry that did not ask. So nobody
        // is let in without at least the token that everybody gets; and a login with a wrong one must not look right.
        let known = request.headers().get(AUTHORIZATION).is_some_and(tokens::is_anonymous);
        if credentials.is_none() && !known {
            return Err(Fault::unauthorized(false, Action::Push, ""));
        }
    }
    let action = if place == Place::Root && credentials.is_some() { Action::Push } else { action };
    if !served.authorize.allow(credentials.as_ref(), action, repository) {
        return Err(Fault::unauthorized(credentials.is_some(), action, repository));
    }
    let query = query_of(&request);
    let range = request.headers().get(RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    match (place, method) {
        (Place::Root, Method::GET | Method::HEAD) => Ok(axum::Json(serde_json::json!({})).into_response()),
        (Place::Catalog, Method::GET) => manifests::catalog(served, &query).await,
        (Place::Tags(repository), Method::GET) => manifests::tags(served, repository, &query).await,
        (Place::Manifest(repository, version), Method::GET | Method::HEAD) => {
            manifests::get(served, repository, version).await
        }
        (Place::Manifest(repository, version), Method::PUT) => {
            manifests::put(served, repository, version, request).await
        }
        (Place::Manifest(repository, version), Method::DELETE) => manifests::delete(served, repository, version).await,
        (Place::Referrers(repository, digest), Method::GET) => {
            manifests::referrers(served, repository, digest, &query).await
        }
        (Place::Blob(_, digest), Method::GET | Method::HEAD) => blobs::get(served, digest, range.as_deref()).await,
        (Place::Blob(_, digest), Method::DELETE) => blobs::delete(served, digest).await,
        (Place::Uploads(repository), Method::POST) => uploads::start(served, repository, &query, request).await,
        (Place::Upload(repository, id), Method::PATCH) => uploads::patch(served, repository, id, request).await,
        (Place::Upload(repository, id), Method::PUT) => uploads::put(served, repository, id, &query, request).await,
        (Place::Upload(repository, id), Method::GET) => uploads::status(served, repository, id),
        (Place::Upload(repository, id), Method::DELETE) => uploads::cancel(served, repository, id),
        _ => Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "not supported here")),
    }
}

fn query_of(request: &Request) -> HashMap<String, String> {
    query_pairs(request).into_iter().collect()
}

fn query_pairs(request: &Request) -> Vec<(String, String)> {
    let query = request.uri().query().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|digits| hex::decode(digits).ok());
        rest = after;
        match (byte, pair) {
            (b'%', Some(value)) => {
                out.extend(value);
                rest = &after[2..];
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The name in the store of a repository's manifest.
fn reference(repository: &str, version: &str) -> Result<Reference, Fault> {
    let separator = if version.contains(':') { '@' } else { ':' };
    Reference::parse(&format!("{}/{repository}{separator}{version}", crate::LOCAL_REGISTRY))
        .map_err(|error| Fault::new(StatusCode::BAD_REQUEST, "NAME_INVALID", &error.to_string()))
}

/// Runs the store's blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry has a fault")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, place) in [
            ("/v2/", Place::Root),
            ("/v2/_catalog", Place::Catalog),
            ("/v2/token", Place::Token),
            ("/v2/a/b/tags/list", Place::Tags("a/b")),
            ("/v2/a/manifests/latest", Place::Manifest("a", "latest")),
            ("/v2/a/b/blobs/sha256:1", Place::Blob("a/b", "sha256:1")),
            ("/v2/a/blobs/uploads/", Place::Uploads("a")),
            ("/v2/a/blobs/uploads/x", Place::Upload("a", "x")),
            ("/v2/manifests/manifests/blobs", Place::Manifest("manifests", "blobs")),
        ] {
            assert_eq!(Place::of(path).unwrap(), place);
        }
        assert_eq!(Place::of("/v2/a/b"), None);
    }

    #[test]
    fn percent_encoding() {
        assert_eq!(decode("sha256%3Aab+c%2"), "sha256:ab c%2");
    }
}
