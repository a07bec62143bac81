//! What a registry asks before it lets somebody in, and how that is answered: a password, a token of the user's, or one
//! that its token service gives. No secret is in an error or a log.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use reqwest::Response;
use reqwest::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::target::Target;
use super::transport::{Transport, percent};
use super::{Credential, Secret, blocking};
use crate::{Error, Result};

/// What goes with a request, and for how long it is good.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) until: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Transport {
    /// Answers the registry's challenge; `None` when there is nothing to answer with.
    pub(super) async fn satisfy(&self, target: &Target, response: &Response) -> Result<Option<Token>> {
        let (config, about) = (self.options.credentials.clone(), target.clone());
        let credential = blocking(move || about.credential(&config)).await?;
        let challenges: Vec<&str> =
            response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let scheme = |name: &str| {
            challenges.iter().find_map(|challenge| {
                let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
                scheme.eq_ignore_ascii_case(name).then(|| parameters(rest))
            })
        };
        let hour = Instant::now() + Duration::from_secs(3600);
        if let Some(Credential::Bearer(token)) = &credential {
            return Ok(Some(Token { header: secret_header("Bearer", token.expose())?, until: hour }));
        }
        if let Some(parameters) = scheme("Bearer") {
            return self.exchange(target, &parameters, credential).await.map(Some);
        }
        match (scheme("Basic"), credential) {
            (Some(_), Some(Credential::Basic { user, password })) => {
                Ok(Some(Token { header: basic(&user, &password)?, until: hour }))
            }
            _ => Ok(None),
        }
    }

    /// Gets a token from the registry's token service.
    async fn exchange(
        &self,
        target: &Target,
        parameters: &HashMap<String, String>,
        credential: Option<Credential>,
    ) -> Result<Token> {
        let Some(realm) = parameters.get("realm") else {
            return Err(self.refused(target, "its challenge names no token service", credential.is_some()));
        };
        let plain_base = self.bases().get(&target.registry).is_some_and(|base| base.starts_with("http://"));
        if realm.starts_with("http://") && !plain_base && credential.is_some() {
            return Err(self.refused(target, "its token service is not on TLS, so no credential was sent to it", true));
        }
        let client = self.client(&target.registry, realm)?;
        let service = parameters.get("service").map(|service| ("service", service.clone()));
        let scopes = target.scopes.iter().map(|scope| ("scope", scope.clone()));
        let had_credential = credential.is_some();
        let request = match credential {
            Some(Credential::Identity(token)) => {
                let mut form: Vec<(&str, String)> = service.into_iter().collect();
                form.push(("scope", target.scopes.join(" ")));
                form.push(("grant_type", "refresh_token".to_owned()));
                form.push(("client_id", "windlass".to_owned()));
                form.push(("refresh_token", token.expose().to_owned()));
                let body: Vec<String> = form.iter().map(|(key, value)| format!("{key}={}", percent(value))).collect();
                client.post(realm).header("content-type", "application/x-www-form-urlencoded").body(body.join("&"))
            }
            other => {
                let query: Vec<String> = service
                    .into_iter()
                    .chain(scopes)
                    .map(|(key, value)| format!("{key}={}", percent(&value)))
                    .collect();
                let join = if realm.contains('?') { '&' } else { '?' };
                let request = client.get(format!("{realm}{join}{}", query.join("&")));
                match other {
                    Some(Credential::Basic { user, password }) => {
                        request.header(AUTHORIZATION, basic(&user, &password)?)
                    }
                    _ => request,
                }
            }
        };
        let response = self.answer(target, request.timeout(self.options.silence), None).await.map_err(|f| f.error)?;
        let status = response.status();
        if !status.is_success() {
            return match status.as_u16() {
                400..=403 => Err(self.refused(target, &format!("its token service answered {status}"), had_credential)),
                _ => Err(self.failed(target, "getting a token", response).await),
            };
        }
        let answer: TokenAnswer = response.json().await.map_err(|e| self.unreachable(target, &e))?;
        let Some(token) = answer.token.or(answer.access_token) else {
            return Err(self.refused(target, "its token service gave no token", had_credential));
        };
        let seconds = answer.expires_in.unwrap_or(60).clamp(10, 3600);
        // A little less, so that it does not end on the way.
        Ok(Token {
            header: secret_header("Bearer", &token)?,
            until: Instant::now() + Duration::from_secs(seconds * 9 / 10),
        })
    }
}

fn secret_header(scheme: &str, text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {text}"))
        .map_err(|_| Error::malformed("credential", "it contains characters that cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic(user: &str, password: &Secret) -> Result<HeaderValue> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.expose()));
    secret_header("Basic", &text)
}

/// `realm="…",service="…"`
fn parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        rest = next.trim_start_matches([',', ' ']);
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let found =
            parameters(r#"realm="https://auth.x/token",service="x,y", scope="repository:a/b:pull,push",error=bad"#);
        assert_eq!(found["realm"], "https://auth.x/token");
        assert_eq!(found["service"], "x,y");
        assert_eq!(found["scope"], "repository:a/b:pull,push");
        assert_eq!(found["error"], "bad");
    }
}
