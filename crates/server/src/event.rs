//! `POST /api/v1/events/NAMESPACE/DISCRIMINATOR`, as Argo's server has it: an event becomes workflows by the namespace's
//! WorkflowEventBindings. Everything is read and created with the token that came along, so the API's own rules say what a
//! sender may start; this server adds no right. A forge that signs instead is looked up by `sender`. Nothing is queued: an answer of 200 says that the workflows are stored, any
//! other one says what is not. What an event says is looked at as data (`schedule::binding`), and never logged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawPathParams, Request, State};
use axum::routing::post;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use windlass_model::event_binding::WorkflowEventBinding;
use windlass_model::{ARGO_API_VERSION, ARGO_GROUP, VERSION};
use windlass_schedule::binding::{self, Event, Fault};

use crate::answer::Answer;
use crate::caller::{NoToken, bearer, bearing};
use crate::sender;

/// How events are taken.
#[derive(Clone, Copy, Debug)]
pub struct EventOptions {
    /// The largest body; what Argo takes of a webhook.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// So many events are dispatched at a time.
    pub at_a_time: usize,
    /// So many more may wait for it; the next one is told to come again.
    pub waiting_max: usize,
    /// How long dispatching may take, waiting included.
    pub dispatch_timeout: Duration,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: 2 << 20,
            body_timeout: Duration::from_secs(10),
            at_a_time: 4,
            waiting_max: 16,
            dispatch_timeout: Duration::from_secs(30),
        }
    }
}

/// The receiver of events.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    /// Brings no credential of its own: each sender's is put into its requests.
    anonymous: kube::Client,
    /// For Events about bindings that are wrong, and to look up who signs; nothing else.
    keeper: kube::Client,
    options: EventOptions,
    room: Arc<Semaphore>,
    turns: Semaphore,
}

/// Why a binding was not dispatched.
struct Failure {
    binding: String,
    uid: String,
    message: String,
    /// Whether trying again may help.
    transient: bool,
}

impl Events {
    /// Creates in the cluster behind `anonymous`, whose requests carry no credential, with the sender's own. `keeper` may
    /// write Events, and where there are signed events read the Secret of their senders and make tokens of these.
    pub fn new(anonymous: kube::Client, keeper: kube::Client, options: EventOptions) -> Self {
        let room = Arc::new(Semaphore::new(options.at_a_time + options.waiting_max));
        let turns = Semaphore::new(options.at_a_time);
        Self { inner: Arc::new(Inner { anonymous, keeper, options, room, turns }) }
    }

    /// The routes.
    pub fn routes(&self) -> Router {
        let method = post(receive).fallback(wrong_method);
        let mut router = Router::new();
        for path in
            ["/api/v1/events/{namespace}", "/api/v1/events/{namespace}/", "/api/v1/events/{namespace}/{discriminator}"]
        {
            router = router.route(path, method.clone());
        }
        router.with_state(self.clone())
    }
}

async fn wrong_method() -> axum::response::Response {
    use axum::response::IntoResponse;
    let answer = Answer::new(StatusCode::METHOD_NOT_ALLOWED, "error", "events are sent with POST");
    ([(header::ALLOW, "POST")], answer).into_response()
}

async fn receive(State(events): State<Events>, params: RawPathParams, request: Request) -> Answer {
    let part = |name: &str| params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    let namespace = part("namespace").unwrap_or_default();
    let discriminator = part("discriminator").unwrap_or_default();
    let answer = events.inner.receive(namespace, discriminator, request).await.unwrap_or_else(|refused| refused);
    tracing::info!(code = answer.code().as_u16(), "event");
    answer
}

impl Inner {
    async fn receive(&self, namespace: String, discriminator: String, request: Request) -> Result<Answer, Answer> {
        // It becomes a part of addresses at the API.
        if !is_label(&namespace) {
            return Err(Answer::new(
                StatusCode::BAD_REQUEST,
                "error",
                "the namespace in the address is no name of one",
            ));
        }
        let (parts, body) = request.into_parts();
        let token = bearer(&parts.headers).map_err(|NoToken| unknown())?;
        if token.is_none() && !sender::is_webhook(&parts.headers) {
            return Err(unknown());
        }
        let _room: OwnedSemaphorePermit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            Answer::new(StatusCode::SERVICE_UNAVAILABLE, "error", "too many events at a time; send it again")
                .retry_after_s(1)
        })?;
        let body = self.body(&parts.headers, body).await?;
        let signed = async || sender::authorization(&self.keeper, &namespace, &parts.headers, &body).await;
        let headers = told(&parts.headers, token.is_none());
        let token = match token {
            Some(token) => token,
            None => match tokio::time::timeout(self.options.dispatch_timeout, signed()).await {
                Ok(token) => token?.ok_or_else(unknown)?,
                Err(_) => return Err(silent()),
            },
        };
        let payload = payload(&body)?;
        let event = Event { namespace, discriminator, headers, payload };
        match tokio::time::timeout(self.options.dispatch_timeout, self.dispatch(event, token)).await {
            Ok(answer) => answer,
            Err(_) => Err(silent()),
        }
    }

    async fn body(&self, headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, Answer> {
        let too_large = || {
            let message = format!("the body is larger than {} bytes", self.options.body_bytes_max);
            Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "error", message)
        };
        if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let message = "compressed bodies are not taken";
            return Err(Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "error", message));
        }
        let limited = Limited::new(body, self.options.body_bytes_max);
        match tokio::time::timeout(self.options.body_timeout, limited.collect()).await {
            Err(_) => Err(Answer::new(StatusCode::REQUEST_TIMEOUT, "error", "the body did not arrive in time")),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
            Ok(Err(_)) => Err(Answer::new(StatusCode::BAD_REQUEST, "error", "the body was cut off")),
            Ok(Ok(body)) => Ok(body.to_bytes()),
        }
    }

    async fn dispatch(&self, event: Event, token: HeaderValue) -> Result<Answer, Answer> {
        let _turn = self.turns.acquire().await.expect("invariant: the semaphore is never closed");
        let client = bearing(&self.anonymous, token);
        let bindings = api(&client, &event.namespace, "WorkflowEventBinding", "workfloweventbindings");
        let bindings = bindings.list(&ListParams::default()).await.map_err(|error| refused(&error))?.items;
        let env = event.environment();
        let (mut made, mut failures) = (Vec::new(), Vec::new());
        for object in bindings {
            let binding = object.metadata.name.clone().unwrap_or_default();
            let uid = object.metadata.uid.clone().unwrap_or_default();
            match submit(&client, &event.namespace, object, &env).await {
                Ok(None) => {}
                Ok(Some(name)) => {
                    tracing::info!(namespace = event.namespace, binding, workflow = name, "an event submitted");
                    made.push(name);
                }
                Err((message, transient)) => {
                    tracing::warn!(namespace = event.namespace, binding, message, "an event was not dispatched");
                    failures.push(Failure { binding, uid, message, transient });
                }
            }
        }
        for failure in failures.iter().filter(|f| !f.transient) {
            self.report(&event.namespace, failure).await;
        }
        if failures.is_empty() {
            let message = match made.len() {
                0 => "no binding of this namespace wants this event".to_owned(),
                1 => "1 workflow".to_owned(),
                n => format!("{n} workflows"),
            };
            return Ok(Answer::new(StatusCode::OK, "dispatched", message).with("workflows", made));
        }
        let all: Vec<String> = failures.iter().map(|f| format!("{}: {}", f.binding, f.message)).collect();
        let message = format!("failed to dispatch event: {}", all.join("; "));
        let answer = match made.is_empty() && failures.iter().all(|f| f.transient) {
            // Nothing came of it, so sending it again makes nothing twice.
            true => Answer::new(StatusCode::SERVICE_UNAVAILABLE, "error", message).retry_after_s(5),
            false => Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "error", message),
        };
        Err(answer.with("workflows", made))
    }

    /// Tells whoever looks at the binding. One object a binding and fault, however often it comes.
    async fn report(&self, namespace: &str, failure: &Failure) {
        let digest = hex::encode(Sha256::digest(format!("{} {}", failure.uid, failure.message)));
        let mut stem = failure.binding.clone();
        stem.truncate(200);
        let name = format!("{stem}.{}", &digest[..16]);
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut message = format!("failed to dispatch event: {}", failure.message);
        while message.len() > 1000 {
            message.pop();
        }
        let object = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": ARGO_API_VERSION, "kind": "WorkflowEventBinding", "name": failure.binding,
                "namespace": namespace, "uid": failure.uid,
            },
            "type": "Warning", "reason": "WorkflowEventBindingError", "message": message,
            "source": {"component": "windlass"}, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        });
        let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Event"), "events");
        let events = Api::<DynamicObject>::namespaced_with(self.keeper.clone(), namespace, &kind);
        let Ok(object) = serde_json::from_value(object) else { return };
        let answer = match events.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                let patch = Patch::Merge(json!({"lastTimestamp": now}));
                events.patch(&name, &PatchParams::default(), &patch).await.map(drop)
            }
            other => other.map(drop),
        };
        if let Err(error) = answer {
            tracing::warn!(namespace, %error, "an Event about a binding could not be written");
        }
    }
}

/// What comes of one binding: the workflow's name, or why not and whether it may come later.
async fn submit(
    client: &kube::Client,
    namespace: &str,
    object: DynamicObject,
    env: &binding::Env,
) -> Result<Option<String>, (String, bool)> {
    let of_fault = |fault: Fault| (fault.to_string(), false);
    let binding: WorkflowEventBinding = serde_json::to_value(&object)
        .and_then(serde_json::from_value)
        .map_err(|e| (format!("this cannot be read: {e}"), false))?;
    if !binding::meets(&binding, env).map_err(of_fault)? {
        return Ok(None);
    }
    let Some(submit) = &binding.spec.submit else { return Ok(None) };
    let reference = &submit.workflow_template_ref;
    if !is_subdomain(&reference.name) {
        let at = "spec.submit.workflowTemplateRef.name";
        return Err((format!("{at}: `{}` is no name of a template", reference.name), false));
    }
    let said = |what: &str, error: kube::Error| {
        let transient = is_transient(&error);
        let words = match error {
            kube::Error::Api(status) => status.message.clone(),
            _ => "the API did not answer".to_owned(),
        };
        (format!("{what}: {words}"), transient)
    };
    let templates = if reference.cluster_scope {
        let gvk = GroupVersionKind::gvk(ARGO_GROUP, VERSION, "ClusterWorkflowTemplate");
        Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&gvk, "clusterworkflowtemplates"))
    } else {
        api(client, namespace, "WorkflowTemplate", "workflowtemplates")
    };
    let template = templates.get(&reference.name).await;
    let template: DynamicObject = template.map_err(|e| said("failed to get workflow template", e))?;
    let workflow = binding::workflow(&binding, env, &template.data).map_err(of_fault)?;
    let workflow: DynamicObject = serde_json::from_value(workflow).map_err(|e| (e.to_string(), false))?;
    let workflows = api(client, namespace, "Workflow", "workflows");
    let made = workflows.create(&PostParams::default(), &workflow).await;
    let made = made.map_err(|e| said("failed to create workflow", e))?;
    Ok(Some(made.metadata.name.unwrap_or_default()))
}

fn api(client: &kube::Client, namespace: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(ARGO_GROUP, VERSION, kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&gvk, plural))
}

fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}

/// What the API says of who sent it.
fn refused(error: &kube::Error) -> Answer {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404) => {
            let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::FORBIDDEN);
            Answer::new(code, "error", status.message.clone())
        }
        _ => Answer::new(StatusCode::SERVICE_UNAVAILABLE, "error", "the API does not answer; send it again")
            .retry_after_s(5),
    }
}

fn silent() -> Answer {
    let message = "the API did not answer in time; some workflows of this event may be there";
    Answer::new(StatusCode::GATEWAY_TIMEOUT, "error", message)
}

/// Nobody knows the sender.
fn unknown() -> Answer {
    let message = "an access token is needed: send `Authorization: Bearer TOKEN` of an account that may list \
                   workfloweventbindings, get workflowtemplates and create workflows; a webhook is signed with a secret \
                   that the namespace's Secret argo-workflows-webhook-clients has";
    Answer::new(StatusCode::UNAUTHORIZED, "error", message)
}

fn payload(body: &[u8]) -> Result<Value, Answer> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is no JSON: line {}, column {}", error.line(), error.column());
        Answer::new(StatusCode::BAD_REQUEST, "error", message)
    })
}

/// The headers that expressions may see; what the sender is known by is not among them.
fn told(headers: &HeaderMap, is_webhook: bool) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let shown = |name: &str| name.starts_with("x-") && !(is_webhook && sender::IS_SECRET.contains(&name));
    for (name, value) in headers.iter().filter(|(name, _)| shown(name.as_str())) {
        if let Ok(value) = value.to_str() {
            out.entry(name.as_str().to_owned()).or_default().push(value.to_owned());
        }
    }
    out
}

fn is_label(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(plain)
}

pub(crate) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}
