//! Logging in, as every client does it: the registry names a token service, the service gives everybody a token, and
//! those with credentials one that carries them. Nothing is remembered; whoever asks for something is checked then.
//! Must never turn a credential into a right: that is for [`super::Authorize`].

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HOST, HeaderValue, WWW_AUTHENTICATE};
use serde_json::json;

use super::fault::Fault;
use super::{Action, Credentials, Served, query_pairs};
use crate::client::Secret;

/// The token of those who have none.
const ANONYMOUS: &str = "anonymous";
/// How a token starts that carries a user and a password.
const BASIC: &str = "basic.";

/// What a bearer token stands for.
pub(super) fn read(token: &str) -> Option<Credentials> {
    if token == ANONYMOUS {
        return None;
    }
    let pair = token.strip_prefix(BASIC).and_then(|text| {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Credentials::Basic { user: user.to_owned(), password: Secret::new(password) })
    });
    Some(pair.unwrap_or_else(|| Credentials::Bearer(Secret::new(token))))
}

/// Whether this header is the token that everybody gets.
pub(super) fn is_anonymous(header: &HeaderValue) -> bool {
    header.to_str().ok().and_then(|text| text.split_once(' ')).is_some_and(|(_, token)| token.trim() == ANONYMOUS)
}

/// Where tokens are given out, as this client sees it.
pub(super) fn realm(request: &Request) -> String {
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let scheme = header(http::HeaderName::from_static("x-forwarded-proto")).filter(|scheme| *scheme == "https");
    let host = header(HOST).or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
    format!("{}://{}/v2/token", scheme.unwrap_or("http"), host.unwrap_or("localhost"))
}

/// Says how to log in: by token, or by password with each request.
pub(super) fn challenge(response: &mut Response, realm: &str) {
    let bearer = HeaderValue::from_str(&format!("Bearer realm=\"{realm}\",service=\"windlass\""));
    let basic = HeaderValue::from_static("Basic realm=\"windlass\"");
    for value in bearer.into_iter().chain([basic]) {
        response.headers_mut().append(WWW_AUTHENTICATE, value);
    }
}

/// Gives out a token.
pub(super) fn issue(served: &Served, credentials: Option<Credentials>, request: &Request) -> Result<Response, Fault> {
    let token = match &credentials {
        None => ANONYMOUS.to_owned(),
        Some(given) => {
            // A login names no scope; a transfer names what it will do.
            let mut wanted: Vec<(String, Action)> = Vec::new();
            for (_, scope) in query_pairs(request).into_iter().filter(|(key, _)| key == "scope") {
                for scope in scope.split(' ') {
                    let mut parts = scope.splitn(3, ':');
                    let (Some("repository"), Some(repository), Some(actions)) =
                        (parts.next(), parts.next(), parts.next())
                    else {
                        continue;
                    };
                    wanted.extend(actions.split(',').filter_map(|action| match action {
                        "pull" => Some((repository.to_owned(), Action::Pull)),
                        "push" => Some((repository.to_owned(), Action::Push)),
                        "delete" | "*" => Some((repository.to_owned(), Action::Delete)),
                        _ => None,
                    }));
                }
            }
            if wanted.is_empty() {
                wanted.push((String::new(), Action::Push));
            }
            if !wanted.iter().any(|(repository, action)| served.authorize.allow(Some(given), *action, repository)) {
                return Err(Fault::unauthorized(true, wanted[0].1, &wanted[0].0));
            }
            match given {
                Credentials::Basic { user, password } => {
                    format!("{BASIC}{}", URL_SAFE_NO_PAD.encode(format!("{user}:{}", password.expose())))
                }
                Credentials::Bearer(token) => token.expose().to_owned(),
            }
        }
    };
    Ok(Json(json!({"token": token, "access_token": token, "expires_in": 3600})).into_response())
}
