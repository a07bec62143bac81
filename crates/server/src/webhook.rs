//! `POST /webhooks/github`, `POST /webhooks/bitbucket`, `POST /webhooks/bitbucketserver` and `POST /`, which tells them
//! apart by their headers: an authentic event is stored as a Delivery, durably, before it is answered with 202.
//! Everything that takes time (fetching, deciding, creating) happens elsewhere, from that object.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use windlass_model::delivery::{Delivery, DeliveryEvent, DeliveryPhase, DeliverySpec};
use windlass_model::{ObjectMeta, WINDLASS_API_VERSION, WINDLASS_GROUP};
use windlass_schedule::forge::Parsed;
use windlass_schedule::names;
use windlass_schedule::{bitbucket, github};

use crate::answer::Answer;
use crate::signature::Secrets;

/// How webhooks are taken.
#[derive(Clone)]
pub struct WebhookOptions {
    /// Accepted secrets; without any, signatures are not checked.
    pub secrets: Secrets,
    /// Where Delivery objects are stored.
    pub namespace: String,
    /// The largest body; GitHub's own limit is 25 MB.
    pub body_bytes_max: usize,
    /// All bodies that are being read at a time, together.
    pub memory_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long storing may take; GitHub waits ten seconds.
    pub store_timeout: Duration,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            secrets: Secrets::none(),
            namespace: "default".to_owned(),
            body_bytes_max: 25_000_000,
            memory_bytes_max: 128 << 20,
            body_timeout: Duration::from_secs(10),
            store_timeout: Duration::from_secs(8),
        }
    }
}

/// The receiver of webhooks.
#[derive(Clone)]
pub struct Webhook {
    inner: Arc<Inner>,
}

struct Inner {
    api: Api<DynamicObject>,
    resource: ApiResource,
    options: WebhookOptions,
    memory: Arc<Semaphore>,
}

const KIB: usize = 1024;
const GITHUB: &str = "/webhooks/github";
const BITBUCKET: &str = "/webhooks/bitbucket";
const BITBUCKET_SERVER: &str = "/webhooks/bitbucketserver";

/// Whose words a request speaks.
#[derive(Clone, Copy, PartialEq)]
enum Forge {
    GitHub,
    /// Cloud and Server: which of them, the event's own name tells.
    Bitbucket,
}

impl Forge {
    fn of(path: &str, headers: &HeaderMap) -> Self {
        match path {
            GITHUB => Self::GitHub,
            BITBUCKET | BITBUCKET_SERVER => Self::Bitbucket,
            _ if headers.contains_key("x-event-key") && !headers.contains_key("x-github-event") => Self::Bitbucket,
            _ => Self::GitHub,
        }
    }
}

/// The API resource of Delivery.
pub fn delivery_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk(WINDLASS_GROUP, windlass_model::VERSION, "Delivery");
    ApiResource::from_gvk_with_plural(&kind, "deliveries")
}

impl Webhook {
    /// Stores into the cluster behind `client`.
    pub fn new(client: kube::Client, options: WebhookOptions) -> Self {
        let resource = delivery_resource();
        let api = Api::namespaced_with(client, &options.namespace, &resource);
        let memory = Arc::new(Semaphore::new((options.memory_bytes_max / KIB).max(options.body_bytes_max / KIB + 1)));
        Self { inner: Arc::new(Inner { api, resource, options, memory }) }
    }

    /// The routes.
    pub fn routes(&self) -> Router {
        let method = post(receive).fallback(wrong_method);
        let mut router = Router::new();
        for path in ["/", GITHUB, BITBUCKET, BITBUCKET_SERVER] {
            router = router.route(path, method.clone());
        }
        router.with_state(self.clone())
    }
}

async fn wrong_method() -> axum::response::Response {
    use axum::response::IntoResponse;
    let answer = Answer::new(StatusCode::METHOD_NOT_ALLOWED, "error", "webhooks are sent with POST");
    ([(header::ALLOW, "POST")], answer).into_response()
}

async fn receive(State(webhook): State<Webhook>, request: Request) -> Answer {
    let answer = webhook.inner.receive(request).await.unwrap_or_else(|refused| refused);
    tracing::info!(code = answer.code().as_u16(), "webhook");
    answer
}

impl Inner {
    async fn receive(&self, request: Request) -> Result<Answer, Answer> {
        let (parts, body) = request.into_parts();
        let form = content_type(&parts.headers)?;
        let announced = announced(&parts.headers)?;
        if announced.is_some_and(|length| length > self.options.body_bytes_max) {
            return Err(self.too_large());
        }
        let _memory = self.reserve(announced).await?;
        let limited = Limited::new(body, self.options.body_bytes_max);
        let body = match tokio::time::timeout(self.options.body_timeout, limited.collect()).await {
            Err(_) => {
                return Err(Answer::new(StatusCode::REQUEST_TIMEOUT, "error", "the body did not arrive in time"));
            }
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => return Err(self.too_large()),
            Ok(Err(_)) => return Err(Answer::new(StatusCode::BAD_REQUEST, "error", "the body was cut off")),
            Ok(Ok(body)) => body.to_bytes(),
        };
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let forge = Forge::of(parts.uri.path(), &parts.headers);
        let asked = bitbucket::Headers {
            event: header("x-event-key"),
            request: header("x-request-uuid").or_else(|| header("x-request-id")),
            hook: header("x-hook-uuid"),
        };
        // Bitbucket writes the digest's name into the header's value and not into its name.
        let name = if forge == Forge::GitHub { "X-Hub-Signature-256" } else { "X-Hub-Signature" };
        let signature = header(&name.to_ascii_lowercase());
        // Bitbucket Server asks whether anybody is there without signing; the answer says nothing else.
        let unsigned_ping = forge == Forge::Bitbucket && signature.is_none() && bitbucket::is_ping(asked);
        if !self.options.secrets.is_empty() && !unsigned_ping && !self.options.secrets.verify(signature, &body) {
            let message = format!(
                "{name} is missing or does not fit the body; \
                 use the same secret here and in the repository's webhook settings"
            );
            return Err(Answer::new(StatusCode::UNAUTHORIZED, "error", message));
        }
        let decoded = if form { Some(form_payload(&body)?) } else { None };
        let payload = decoded.as_deref().unwrap_or(&body);
        let parsed = match forge {
            Forge::Bitbucket => bitbucket::parse(asked, payload),
            Forge::GitHub => {
                let headers =
                    github::Headers { event: header("x-github-event"), delivery: header("x-github-delivery") };
                github::parse(headers, payload)
            }
        };
        match parsed {
            Parsed::Ping => Ok(Answer::new(StatusCode::OK, "pong", "the webhook works; push to start a workflow")),
            Parsed::Ignored { reason, message } => {
                Ok(Answer::new(StatusCode::ACCEPTED, "ignored", message).with("reason", reason))
            }
            Parsed::Invalid { message } => Err(Answer::new(StatusCode::BAD_REQUEST, "error", message)),
            Parsed::Event(event) => self.store_in_time(vec![*event]).await,
            Parsed::Events(events) => self.store_in_time(events).await,
        }
    }

    async fn store_in_time(&self, events: Vec<DeliveryEvent>) -> Result<Answer, Answer> {
        match tokio::time::timeout(self.options.store_timeout, self.store_all(events)).await {
            Ok(answer) => answer,
            Err(_) => Err(unavailable()),
        }
    }

    /// Stores what came with one request, in its order. When one cannot be stored the sender is told to come again: what
    /// is stored by then is known by its name.
    async fn store_all(&self, events: Vec<DeliveryEvent>) -> Result<Answer, Answer> {
        let mut stored = Vec::with_capacity(events.len());
        for event in events {
            stored.push(self.store(event).await?);
        }
        let first = stored.iter().find(|answer| answer.status() == "accepted").or(stored.first()).cloned();
        let Some(first) = first else { return Err(unavailable()) };
        match stored.len() {
            1 => Ok(first),
            _ => Ok(first.with("deliveries", stored.iter().filter_map(Answer::delivery).collect::<Vec<_>>())),
        }
    }

    /// Room for a body, so that many large ones at a time cannot exhaust the memory.
    async fn reserve(&self, announced: Option<usize>) -> Result<OwnedSemaphorePermit, Answer> {
        let bytes = announced.unwrap_or(self.options.body_bytes_max);
        let units = u32::try_from(bytes / KIB + 1).unwrap_or(u32::MAX);
        let permit =
            tokio::time::timeout(Duration::from_secs(5), Arc::clone(&self.memory).acquire_many_owned(units)).await;
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Answer::new(StatusCode::SERVICE_UNAVAILABLE, "error", "too many large bodies at a time")
                .retry_after_s(10)),
        }
    }

    fn too_large(&self) -> Answer {
        let message = format!("the body is larger than {} bytes", self.options.body_bytes_max);
        Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "error", message)
    }

    /// Creates the Delivery. Its name follows from the delivery id: a repeat is answered by the API itself.
    async fn store(&self, event: DeliveryEvent) -> Result<Answer, Answer> {
        let name = names::delivery(&event.provider, &event.delivery_id);
        let delivery = Delivery {
            api_version: WINDLASS_API_VERSION.to_owned(),
            kind: "Delivery".to_owned(),
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.options.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: DeliverySpec { event },
            status: None,
        };
        let object: DynamicObject = serde_json::to_value(&delivery)
            .and_then(serde_json::from_value)
            .map_err(|_| Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "error", "the event cannot be stored"))?;
        match self.api.create(&PostParams::default(), &object).await {
            Ok(_) => Ok(self.accepted(&name, "accepted", "stored; the manifest is fetched next")),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => self.again(&name).await,
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
                tracing::error!(%name, message = %status.message, "the API refused a delivery");
                Err(Answer::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "error",
                    "the delivery was refused by the API; see the log",
                ))
            }
            Err(error) => {
                tracing::error!(%name, %error, "a delivery was not stored");
                Err(unavailable())
            }
        }
    }

    /// The same id came before. One that failed is tried again: somebody pressed "Redeliver".
    async fn again(&self, name: &str) -> Result<Answer, Answer> {
        let duplicate = || self.accepted(name, "duplicate", "this delivery is known already; nothing is started twice");
        let Ok(existing) = self.api.get(name).await else { return Ok(duplicate()) };
        let version = existing.metadata.resource_version.clone();
        let known: Option<Delivery> = serde_json::to_value(&existing).and_then(serde_json::from_value).ok();
        let failed = known.and_then(|d| d.status).is_some_and(|status| status.phase == DeliveryPhase::Failed);
        if !failed {
            return Ok(duplicate());
        }
        let patch = json!({
            "apiVersion": self.resource.api_version, "kind": self.resource.kind,
            "metadata": {"resourceVersion": version},
            "status": {"phase": DeliveryPhase::Received, "reason": "Redelivered", "message": null, "diagnostics": null},
        });
        match self.api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(self.accepted(name, "accepted", "this delivery had failed; it is tried again")),
            // Somebody else was faster with the same wish.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(duplicate()),
            Err(_) => Err(unavailable()),
        }
    }

    fn accepted(&self, name: &str, status: &str, message: &str) -> Answer {
        Answer::new(StatusCode::ACCEPTED, status, message)
            .with("delivery", name)
            .with("next", format!("windlass get delivery {name} -n {}", self.options.namespace))
    }
}

fn unavailable() -> Answer {
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, "error", "the delivery could not be stored; send it again")
        .retry_after_s(5)
}

/// Whether the body is a form. JSON and forms only, not compressed.
fn content_type(headers: &HeaderMap) -> Result<bool, Answer> {
    let unsupported = |message: &str| Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "error", message);
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unsupported("compressed bodies are not taken"));
    }
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(false),
        "application/x-www-form-urlencoded" => Ok(true),
        _ => Err(unsupported("the content type must be application/json or application/x-www-form-urlencoded")),
    }
}

fn announced(headers: &HeaderMap) -> Result<Option<usize>, Answer> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Answer::new(StatusCode::BAD_REQUEST, "error", "Content-Length is not a number"))
}

/// The one `payload` field of a form.
fn form_payload(body: &[u8]) -> Result<Vec<u8>, Answer> {
    let bad = |message: &str| Answer::new(StatusCode::BAD_REQUEST, "error", message);
    let mut found = None;
    for pair in body.split(|byte| *byte == b'&') {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        if unescape(name).as_deref() == Some(b"payload") {
            let value = unescape(value).ok_or_else(|| bad("the payload field is not well escaped"))?;
            if found.replace(value).is_some() {
                return Err(bad("the form has two payload fields"));
            }
        }
    }
    found.ok_or_else(|| bad("the form has no payload field"))
}

/// `%41` and `+`.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || char::from(*bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            byte => out.push(*byte),
        }
    }
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(form_payload(b"a=1&payload=%7B%22a+b%22%7d").unwrap(), b"{\"a b\"}");
        for bad in [&b""[..], b"a=1", b"payload=%7", b"payload=%zz", b"payload=1&payload=2"] {
            assert!(form_payload(bad).is_err());
        }
    }
}
