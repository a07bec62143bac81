//! Who sends an event without a token: a forge that signs, as Argo's Secret `argo-workflows-webhook-clients` of the event's
//! namespace knows it. Whose secret fits acts as the ServiceAccount of that key, with a token of ten minutes, and with no
//! right beyond it. It must never tell the sender which of this failed, and never log a secret or a body.

use http::{HeaderMap, HeaderValue, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use serde_json::Value;
use windlass_lang::yaml;

use crate::answer::Answer;
use crate::signature::Secrets;

/// Argo's name of the Secret: key = ServiceAccount, value = YAML of `type` and `secret`.
const CLIENTS: &str = "argo-workflows-webhook-clients";
/// The shortest that the API gives.
const TOKEN_SECONDS: i64 = 600;

/// Headers that hold the secret itself.
pub(crate) const IS_SECRET: [&str; 2] = ["x-gitlab-token", "x-hook-uuid"];

/// How a forge shows that it is the one that knows the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// A signature over the body.
    GitHub,
    /// The secret itself.
    GitLab,
    /// The webhook's own id as Argo has it, or a signature over the body.
    Bitbucket,
    /// A signature over the body.
    BitbucketServer,
}

impl Proof {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "github" => Some(Self::GitHub),
            "gitlab" => Some(Self::GitLab),
            "bitbucket" => Some(Self::Bitbucket),
            "bitbucketserver" => Some(Self::BitbucketServer),
            _ => None,
        }
    }

    /// The header that names the event; no forge sends another one's.
    fn event(self) -> &'static str {
        match self {
            Self::GitHub => "x-github-event",
            Self::GitLab => "x-gitlab-event",
            Self::Bitbucket | Self::BitbucketServer => "x-event-key",
        }
    }
}

/// One entry of the Secret.
struct Client {
    account: String,
    proof: Proof,
    secret: Secrets,
}

impl Client {
    /// What is wrong with an entry is said without a word of it.
    fn parse(account: &str, text: &[u8]) -> Result<Self, &'static str> {
        if !crate::event::is_subdomain(account) {
            return Err("the key is no name of a ServiceAccount");
        }
        let text = std::str::from_utf8(text).map_err(|_| "it is no text")?;
        let loaded = yaml::load_str(text);
        let value = loaded.documents.into_iter().next().map(|d| d.value).unwrap_or_default();
        let word = |key: &str| value.get(key).and_then(Value::as_str);
        let proof = word("type").and_then(Proof::parse);
        let proof = proof.ok_or("`type` is none of github, gitlab, bitbucket, bitbucketserver")?;
        let secret = Secrets::one(word("secret").unwrap_or_default());
        // An empty one would let everybody in.
        if secret.is_empty() {
            return Err("`secret` is missing, empty or no text");
        }
        Ok(Self { account: account.to_owned(), proof, secret })
    }

    fn fits(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if header(self.proof.event()).is_none() {
            return false;
        }
        match self.proof {
            Proof::GitHub => self.secret.verify(header("x-hub-signature-256"), body),
            Proof::GitLab => self.secret.is(header("x-gitlab-token")),
            Proof::Bitbucket => {
                self.secret.is(header("x-hook-uuid")) | self.secret.verify(header("x-hub-signature"), body)
            }
            Proof::BitbucketServer => self.secret.verify(header("x-hub-signature"), body),
        }
    }
}

/// Whether this looks like a webhook at all: nobody else is worth a question to the API.
pub(crate) fn is_webhook(headers: &HeaderMap) -> bool {
    let all = [Proof::GitHub, Proof::GitLab, Proof::Bitbucket, Proof::BitbucketServer];
    all.iter().any(|proof| headers.contains_key(proof.event()))
}

/// The `Authorization` of the account whose secret fits; nothing where none does. `keeper` may read the Secret and make
/// tokens of those accounts.
pub(crate) async fn authorization(
    keeper: &kube::Client,
    namespace: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<HeaderValue>, Answer> {
    let secrets: Api<Secret> = Api::namespaced(keeper.clone(), namespace);
    let clients = match secrets.get_opt(CLIENTS).await {
        Ok(Some(secret)) => secret.data.unwrap_or_default(),
        Ok(None) => return Ok(None),
        Err(error) => return Err(failed(namespace, CLIENTS, &error)),
    };
    let mut found = None;
    // All are looked at, whoever fits.
    for (account, text) in clients {
        match Client::parse(&account, &text.0) {
            Ok(client) if client.fits(headers, body) => drop(found.get_or_insert(client.account)),
            Ok(_) => {}
            Err(why) => tracing::warn!(namespace, key = account, why, "an entry of Secret {CLIENTS} is passed over"),
        }
    }
    let Some(account) = found else { return Ok(None) };
    let accounts: Api<ServiceAccount> = Api::namespaced(keeper.clone(), namespace);
    let asked = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let token = accounts.create_token_request(&account, &PostParams::default(), &asked).await;
    let token = token.map_err(|error| failed(namespace, &account, &error))?.status.map(|s| s.token);
    let mut header = HeaderValue::from_str(&format!("Bearer {}", token.unwrap_or_default()))
        .map_err(|_| Answer::new(StatusCode::BAD_GATEWAY, "error", "the API gave no token; send it again"))?;
    header.set_sensitive(true);
    tracing::info!(namespace, account, "a signed event");
    Ok(Some(header))
}

/// The sender learns that it failed, the log why.
fn failed(namespace: &str, what: &str, error: &kube::Error) -> Answer {
    tracing::warn!(namespace, what, %error, "a signed event cannot be looked at");
    match error {
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
            let message = "the sender's signature cannot be looked at or its account is not there; the log says which";
            Answer::new(StatusCode::FORBIDDEN, "error", message)
        }
        _ => Answer::new(StatusCode::SERVICE_UNAVAILABLE, "error", "the API does not answer; send it again")
            .retry_after_s(5),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let parse = |text: &str| Client::parse("github.com", text.as_bytes()).map(|c| c.proof);
        assert_eq!(parse("type: github\nsecret: \"shh!\"\n"), Ok(Proof::GitHub));
        assert_eq!(parse(r#"{"type": "bitbucketserver", "secret": "x"}"#), Ok(Proof::BitbucketServer));
        let kind = "`type` is none of github, gitlab, bitbucket, bitbucketserver";
        let secret = "`secret` is missing, empty or no text";
        for (text, why) in [
            ("type: gitea\nsecret: x", kind),
            ("- type: github", kind),
            ("", kind),
            ("type: github", secret),
            ("type: github\nsecret: ''", secret),
            ("type: gitlab\nsecret: 12", secret),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
        assert!(Client::parse("Not a name", b"type: github\nsecret: x").is_err());
        assert!(Client::parse("a", b"\xff").is_err());
    }

    #[test]
    fn each_forge_has_its_own_proof() {
        let body = br#"{"a": 1}"#;
        let signed = Secrets::one("shh").sign(body).unwrap();
        let fits = |kind: &str, pairs: &[(&'static str, &str)]| {
            let client = Client::parse("a", format!("type: {kind}\nsecret: shh").as_bytes()).ok().unwrap();
            let headers = pairs
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
            client.fits(&headers.collect(), body)
        };
        let github = ("x-github-event", "push");
        let (gitlab, bitbucket) = (("x-gitlab-event", "Push Hook"), ("x-event-key", "repo:push"));
        assert!(fits("github", &[github, ("x-hub-signature-256", &signed)]));
        assert!(fits("gitlab", &[gitlab, ("x-gitlab-token", "shh")]));
        assert!(fits("bitbucket", &[bitbucket, ("x-hook-uuid", "shh")]));
        assert!(fits("bitbucket", &[bitbucket, ("x-hub-signature", &signed)]));
        assert!(fits("bitbucketserver", &[bitbucket, ("x-hub-signature", &signed)]));
        for kind in ["github", "gitlab", "bitbucket", "bitbucketserver"] {
            for event in [github, gitlab, bitbucket] {
                assert!(!fits(kind, &[event]), "{kind}: unsigned");
                assert!(!fits(kind, &[event, ("x-gitlab-token", "sh")]), "{kind}: too short");
                assert!(!fits(kind, &[event, ("x-hub-signature-256", "sha256=00")]), "{kind}: wrong");
                assert!(!fits(kind, &[event, ("x-hub-signature", ""), ("x-hook-uuid", "")]), "{kind}: empty");
            }
            assert!(!fits(kind, &[("x-hub-signature-256", &signed), ("x-hub-signature", &signed)]), "{kind}: no event");
        }
        assert!(!fits("github", &[bitbucket, ("x-hub-signature-256", &signed)]), "another forge's event");
        assert!(!fits("bitbucketserver", &[bitbucket, ("x-hook-uuid", "shh")]), "the server signs");
    }
}
