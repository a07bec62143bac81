//! Spans on their way out: a bounded queue that never makes a loop wait, and the task that sends what is in it as OTLP over
//! HTTP, in JSON. What does not fit or cannot be sent is dropped and counted. It must never print a header's value.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use windlass_artifacts::Secret;
use windlass_artifacts::request::{self, Request};
use windlass_engine::spans::Span;

/// Spans that wait to be sent.
const QUEUE: usize = 8192;
/// So many are sent at once.
const BATCH: usize = 512;
/// So long the first of them waits for others.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a batch is tried.
const TRIES: u32 = 4;
/// What is read of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Who says so, where `OTEL_SERVICE_NAME` says nothing: Argo's name.
const SERVICE: &str = "workflows-controller";

/// Where spans go. Clones write to the same queue.
#[derive(Clone)]
pub struct Traces {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traces({} dropped)", self.dropped())
    }
}

/// The other end of the queue.
pub struct Waiting {
    queue: mpsc::Receiver<Span>,
    dropped: Arc<AtomicU64>,
}

impl Traces {
    /// A queue and its other end, which [`send`] empties.
    #[must_use]
    pub fn new() -> (Self, Waiting) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        (Self { queue: sender, dropped: dropped.clone() }, Waiting { queue, dropped })
    }

    /// Hands spans over, or drops them where there is no room.
    pub fn tell(&self, spans: impl IntoIterator<Item = Span>) {
        let lost = spans.into_iter().filter_map(|span| self.queue.try_send(span).err()).count();
        self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
    }

    /// How many were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Whom spans are sent to.
pub struct Endpoint {
    url: String,
    headers: Vec<(String, Secret)>,
    timeout: Duration,
    /// What the resource is, `service.name` among it.
    resource: Vec<(String, String)>,
}

impl Endpoint {
    /// As OpenTelemetry's variables say; nothing where there is no address. What cannot be is a text.
    pub fn read(environment: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let value = |name: &str| environment(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let own = |rest: &str| {
            let specific = format!("OTEL_EXPORTER_OTLP_TRACES_{rest}");
            value(&specific).or_else(|| value(&format!("OTEL_EXPORTER_OTLP_{rest}")))
        };
        if value("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"))
            || value("OTEL_TRACES_EXPORTER").is_some_and(|v| v == "none")
        {
            return Ok(None);
        }
        let url = match (value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), value("OTEL_EXPORTER_OTLP_ENDPOINT")) {
            (Some(whole), _) => whole,
            (None, Some(base)) => format!("{}/v1/traces", base.trim_end_matches('/')),
            (None, None) => return Ok(None),
        };
        if own("PROTOCOL").is_some_and(|protocol| protocol == "grpc") {
            let why =
                "spans are sent over HTTP: OTEL_EXPORTER_OTLP_PROTOCOL is http/json, and the collector's port 4318";
            return Err(why.to_owned());
        }
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err("OTEL_EXPORTER_OTLP_ENDPOINT begins with http:// or https://".to_owned());
        }
        let timeout = match own("TIMEOUT") {
            None => Duration::from_secs(10),
            Some(text) => {
                let millis = text.parse().map_err(|_| "OTEL_EXPORTER_OTLP_TIMEOUT is a number of milliseconds")?;
                Duration::from_millis(millis)
            }
        };
        let headers = pairs(&own("HEADERS").unwrap_or_default())
            .ok_or("OTEL_EXPORTER_OTLP_HEADERS is a list of KEY=VALUE, with commas between")?;
        let headers = headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        let mut resource = pairs(&value("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default())
            .ok_or("OTEL_RESOURCE_ATTRIBUTES is a list of KEY=VALUE, with commas between")?;
        if let Some(name) = value("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), name));
        } else if !resource.iter().any(|(key, _)| key == "service.name") {
            resource.push(("service.name".to_owned(), SERVICE.to_owned()));
        }
        Ok(Some(Self { url, headers, timeout, resource }))
    }

    fn body(&self, spans: &[Span]) -> Value {
        let text = |(key, value): (&str, &str)| json!({"key": key, "value": {"stringValue": value}});
        let resource: Vec<Value> = self.resource.iter().map(|(k, v)| text((k, v))).collect();
        let spans: Vec<Value> = spans.iter().map(encoded).collect();
        json!({"resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": {"name": "argo-workflows"}, "spans": spans}],
        }]})
    }

    /// Sends once; what may be tried again is `Err(true)`.
    async fn post(&self, body: &[u8]) -> Result<(), bool> {
        let mut headers = vec![("Content-Type".to_owned(), Secret::new("application/json"))];
        headers.extend(self.headers.clone());
        let (url, body, timeout) = (self.url.clone(), body.to_vec(), Some(self.timeout));
        let request = Request { method: "POST".to_owned(), url, headers, body, timeout, insecure: false };
        let sent = tokio::task::spawn_blocking(move || request::send(&request, ANSWER_BYTES_MAX)).await;
        match sent {
            Ok(Ok(answer)) if (200..300).contains(&answer.status) => Ok(()),
            Ok(Ok(answer)) => {
                debug!(code = answer.status, "spans were refused");
                Err(matches!(answer.status, 429 | 502..=504))
            }
            Ok(Err(why)) => {
                debug!(why, "spans were not sent");
                Err(true)
            }
            Err(_) => Err(false),
        }
    }
}

/// `a=b,c=d`, with values as in addresses.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let all = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    all.map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim().to_owned(), decoded(value.trim())?))
    })
    .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

fn encoded(span: &Span) -> Value {
    /// Protobuf's numbers, which OTLP's JSON has too.
    const INTERNAL: u8 = 1;
    const PRODUCER: u8 = 4;
    let hex = |id: u64| {
        let mut text = String::new();
        let _ = write!(text, "{id:016x}");
        text
    };
    let pairs = span.attributes.iter();
    let attributes: Vec<Value> = pairs.map(|(k, v)| json!({"key": k, "value": {"stringValue": v}})).collect();
    let mut value = json!({
        "traceId": format!("{:032x}", span.trace), "spanId": hex(span.id), "name": span.name,
        "kind": if span.name == "nodePhase" { PRODUCER } else { INTERNAL },
        "startTimeUnixNano": span.start.as_nanosecond().to_string(),
        "endTimeUnixNano": span.end.as_nanosecond().to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        value["parentSpanId"] = json!(hex(parent));
    }
    match &span.outcome {
        None => {}
        Some(Ok(())) => value["status"] = json!({"code": 1}),
        Some(Err(message)) => value["status"] = json!({"code": 2, "message": message}),
    }
    value
}

/// Sends what comes, until `stop` is cancelled; what is there by then is sent once more.
pub async fn send(mut waiting: Waiting, endpoint: Endpoint, stop: CancellationToken) {
    let mut told = 0;
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            n = waiting.queue.recv_many(&mut batch, BATCH) => if n == 0 {
                return;
            },
            () = stop.cancelled() => {}
        }
        if !stop.is_cancelled() {
            let _ = tokio::time::timeout(PAUSE, stop.cancelled()).await;
        } else {
            // The loops are told at the same moment, and some of them end well.
            tokio::time::sleep(PAUSE / 4).await;
        }
        loop {
            while batch.len() < BATCH
                && let Ok(span) = waiting.queue.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                break;
            }
            if !deliver(&endpoint, &batch, &stop).await {
                waiting.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                if stop.is_cancelled() {
                    return;
                }
            }
            batch.clear();
        }
        let dropped = waiting.dropped.load(Ordering::Relaxed);
        if dropped > told {
            warn!(dropped, "spans were dropped: nobody takes them at OTEL_EXPORTER_OTLP_ENDPOINT, or not fast enough");
            told = dropped.max(told * 2);
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn deliver(endpoint: &Endpoint, batch: &[Span], stop: &CancellationToken) -> bool {
    let Ok(body) = serde_json::to_vec(&endpoint.body(batch)) else { return false };
    let mut pause = Duration::from_secs(1);
    for _ in 0..TRIES {
        match endpoint.post(&body).await {
            Ok(()) => return true,
            Err(true) if !stop.is_cancelled() => {
                let _ = tokio::time::timeout(pause, stop.cancelled()).await;
                pause *= 2;
            }
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Endpoint>, String> {
        Endpoint::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_variables_of_opentelemetry() {
        assert!(read(&[]).unwrap().is_none());
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let plain = read(&[base]).unwrap().unwrap();
        assert_eq!(plain.url, "http://collector:4318/v1/traces");
        assert_eq!(plain.resource, [("service.name".to_owned(), SERVICE.to_owned())]);
        let whole = read(&[
            base,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://elsewhere/x"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t, k=v"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_SERVICE_NAME", "ci"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,team=a"),
        ]);
        let whole = whole.unwrap().unwrap();
        assert_eq!((whole.url.as_str(), whole.timeout), ("https://elsewhere/x", Duration::from_millis(250)));
        assert_eq!(whole.headers[0].1.expose(), b"Bearer t");
        let resource = [("team", "a"), ("service.name", "ci")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(whole.resource, resource);
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(read(&[base, off]).unwrap().is_none());
        }
        for wrong in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "novalue"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317"),
        ] {
            assert!(read(&[base, wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (traces, _waiting) = Traces::new();
        let at = jiff::Timestamp::UNIX_EPOCH;
        let span = Span {
            name: "node",
            trace: 1,
            id: 2,
            parent: None,
            start: at,
            end: at,
            attributes: Vec::new(),
            outcome: None,
        };
        traces.tell(std::iter::repeat_n(span, QUEUE + 3));
        assert_eq!(traces.dropped(), 3);
    }
}
