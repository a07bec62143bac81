//! The client that loops and stub kubelet share. It wraps any `kube::Client`, holds a stopped tokio clock while a request
//! is under way (so that time only jumps when everything has come to rest), tells when pods come and go, and refuses the
//! pods that a recording says were refused. It must never change an answer otherwise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::BoxError;

/// A client and what is known of its traffic.
#[derive(Clone)]
pub struct Door {
    /// For loops and kubelet.
    pub client: Client,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    pods: Notify,
    requests: std::sync::atomic::AtomicUsize,
    /// Messages for pods that are refused, by name.
    refused: Mutex<HashMap<String, String>>,
}

/// Keeps a stopped clock from jumping: tokio does not move it while a blocking task is there.
struct Hold(mpsc::Sender<()>);

impl Hold {
    fn new(linger: Duration) -> Self {
        let (sender, dropped) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            let _ = dropped.recv();
            std::thread::sleep(linger);
        });
        Self(sender)
    }
}

impl Door {
    /// Wraps a client. `linger` is the real time in which watches hear of a change after its request was answered: none
    /// where everything is in one process.
    #[must_use]
    pub fn new(inner: &Client, namespace: &str, linger: Duration) -> Self {
        let seen = Arc::new(Seen::default());
        let (inner, told) = (inner.clone(), seen.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, seen) = (inner.clone(), told.clone());
            async move { pass(client, seen, request, linger).await }
        });
        Self { client: Client::new(service, namespace), seen }
    }

    /// How many requests went through.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.seen.requests.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits until a pod was created or deleted.
    pub async fn pods_changed(&self) {
        self.seen.pods.notified().await;
    }

    /// Refuses a pod from now on, with these words.
    pub fn refuse(&self, pod: &str, message: &str) {
        if let Ok(mut refused) = self.seen.refused.lock() {
            refused.insert(pod.to_owned(), message.to_owned());
        }
    }
}

async fn pass(
    client: Client,
    seen: Arc<Seen>,
    request: Request<Body>,
    linger: Duration,
) -> Result<Response<Body>, BoxError> {
    let query = request.uri().query().unwrap_or_default();
    let watch = query.split('&').any(|part| part == "watch=true" || part == "watch=1");
    if watch {
        return Ok(client.send(request).await?);
    }
    seen.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let pods = request.uri().path().contains("/pods");
    let change = pods && (request.method() == Method::POST || request.method() == Method::DELETE);
    let hold = Hold::new(linger);
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    if pods
        && parts.method == Method::POST
        && let Some(message) = refusal(&seen, &bytes)
    {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                            "reason": "Forbidden", "message": message});
        let answer = Response::builder().status(StatusCode::FORBIDDEN).header("content-type", "application/json");
        return Ok(answer.body(Body::from(status.to_string().into_bytes()))?);
    }
    let answer = client.send(Request::from_parts(parts, Body::from(bytes))).await?;
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await?.to_bytes();
    drop(hold.0);
    if change && parts.status.is_success() {
        seen.pods.notify_one();
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn refusal(seen: &Seen, pod: &[u8]) -> Option<String> {
    let refused = seen.refused.lock().ok()?;
    if refused.is_empty() {
        return None;
    }
    let pod: Value = serde_json::from_slice(pod).ok()?;
    refused.get(pod["metadata"]["name"].as_str()?).cloned()
}
