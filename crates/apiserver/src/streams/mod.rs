//! exec, attach and port-forward: from the request to the streams. Which pod, which container, which protocol is decided
//! here; the bytes are carried by `channels` (WebSocket) and `spdy`, and come from the node agent through
//! [`Kubelet`](crate::Kubelet). Starts no process and opens no socket itself.
//!
//! A request is refused before the upgrade wherever its caller could not read a refusal afterwards.

mod channels;
mod command;
mod forward;
pub(crate) mod inside;
mod session;
mod spdy;
mod upgrade;

pub use session::{Duplex, End, Ports, Resize, Session, StreamError, Wanted};

use crate::Kubelet;
use crate::answer::{ApiError, Body, bytes_response};
use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::upgrade::OnUpgrade;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use upgrade::bearer;
use upgrade::{Protocol, Refused};

/// A stream over which nothing goes for so long is closed, as a kubelet does it.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);

/// What is asked of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Exec,
    Attach,
    PortForward,
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) kind: Kind,
    pub(crate) pod: &'a Value,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) kubelet: Option<Arc<dyn Kubelet>>,
}

/// The query, whose keys may come more than once.
struct Query(Vec<(String, String)>);

impl Query {
    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> + Clone {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn flag(&self, key: &str) -> bool {
        let value = self.all(key).next();
        value.is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }
}

/// Words of a kubelet, which the API passes on as they are.
fn plain(code: u16, text: impl Into<String>) -> Response<Body> {
    bytes_response(code, "text/plain; charset=utf-8", Bytes::from(text.into()))
}

impl From<Refused> for Response<Body> {
    fn from(refused: Refused) -> Self {
        let mut response = plain(refused.code, refused.message);
        for accepted in refused.accepted {
            let value = http::HeaderValue::from_static(accepted);
            response.headers_mut().append("x-accepted-stream-protocol-versions", value);
        }
        response
    }
}

/// Answers a request: 101 and streams from then on, or why not.
pub(crate) async fn serve(ask: Ask<'_>) -> Result<Response<Body>, ApiError> {
    let query = Query(url::form_urlencoded::parse(ask.query.as_bytes()).into_owned().collect());
    let name = ask.pod["metadata"]["name"].as_str().unwrap_or_default();
    let container = match ask.kind {
        Kind::PortForward => String::new(),
        _ => container(ask.pod, query.all("container").next().unwrap_or_default())?,
    };
    let ports = forward::ports(&query)?;
    // A step's pod runs unbound (one write fewer): only one that has not begun has no host.
    let bound = ask.pod["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    let begun = ask.pod["status"]["phase"].as_str().is_some_and(|p| p != "Pending");
    if !bound && !begun {
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let Some(kubelet) = ask.kubelet.clone() else {
        return Err(ApiError::new(503, "ServiceUnavailable", "no node agent serves this pod's streams"));
    };
    if !upgrade::is_wanted(ask.headers) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let protocol = match Protocol::negotiate(ask.kind, ask.headers) {
        Ok(protocol) => protocol,
        Err(refused) => return Ok(refused.into()),
    };
    let Some(on) = ask.upgrade.clone() else {
        return Err(ApiError::bad_request("Upgrade request required"));
    };
    if ask.kind == Kind::PortForward {
        if ports.is_empty() && !protocol.is_spdy() {
            return Ok(plain(400, "query parameter \"port\" is required"));
        }
        let ports_of = match kubelet.ports(ask.pod).await {
            Ok(ports) => ports,
            Err(error) => return Ok(plain(500, error.to_string())),
        };
        let (response, io) = protocol.accept(ask.headers, on)?;
        tokio::spawn(async move {
            if let Some(io) = io.await {
                forward::run(protocol, io, ports, ports_of).await;
            }
        });
        return Ok(response);
    }
    let wanted = wanted(&query);
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Ok(plain(400, "you must specify at least 1 of stdin, stdout, stderr"));
    }
    let words: Vec<String> = query.all("command").map(str::to_owned).collect();
    let session = match ask.kind {
        Kind::Exec => kubelet.exec(ask.pod, &container, words.clone(), wanted).await,
        _ => kubelet.attach(ask.pod, &container, wanted).await,
    };
    let session = match session {
        Err(StreamError::NotRunning(why)) if !protocol.tells_late() => return Ok(plain(500, why)),
        Err(StreamError::NotRunning(why)) => Err(format!("unable to upgrade connection: {why}")),
        Err(StreamError::Failed(why)) => Err(format!(
            "error {}: {why}",
            if ask.kind == Kind::Exec { "executing command in container" } else { "attaching to container" }
        )),
        Ok(session) => Ok(session),
    };
    let (response, io) = protocol.accept(ask.headers, on)?;
    tokio::spawn(async move {
        if let Some(io) = io.await {
            command::run(protocol, io, wanted, words, session).await;
        }
    });
    Ok(response)
}

fn wanted(query: &Query) -> Wanted {
    let tty = query.flag("tty");
    // On a terminal both are one stream.
    let stderr = query.flag("stderr") && !tty;
    Wanted { stdin: query.flag("stdin"), stdout: query.flag("stdout"), stderr, tty }
}

/// The container that is meant, or Kubernetes' question which one.
pub(crate) fn container(pod: &Value, asked: &str) -> Result<String, ApiError> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names = |list: &str| -> Vec<String> {
        let list = pod["spec"][list].as_array().into_iter().flatten();
        list.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
    };
    let (init, main, late) = (names("initContainers"), names("containers"), names("ephemeralContainers"));
    if asked.is_empty() && main.len() == 1 {
        return Ok(main[0].clone());
    }
    let all = [init, main, late].concat();
    if asked.is_empty() {
        let list = all.join(" ");
        return Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{list}]"
        )));
    }
    if !all.iter().any(|n| n == asked) {
        return Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    Ok(asked.to_owned())
}
