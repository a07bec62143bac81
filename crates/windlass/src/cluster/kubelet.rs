//! The node agent as the API's kubelet: whose log is asked for, into which container a command goes, and in what words
//! what is not there is refused. Carries no bytes itself.

use futures::StreamExt;
use futures::future::FutureExt;
use serde_json::Value;
use std::sync::Arc;
use windlass_apiserver::{ApiError, Duplex, End, Kubelet, LogOptions, LogStream, Ports, Session, StreamError, Wanted};
use windlass_node::{Agent, LogError, PodPorts, SessionError};

/// Gives the agent's logs, commands and ports to the API.
pub(super) struct NodeAgent(pub(super) Agent);

fn meta<'a>(pod: &'a Value, key: &str) -> &'a str {
    pod["metadata"][key].as_str().unwrap_or_default()
}

/// As refusals call a pod.
fn full_name(pod: &Value) -> String {
    format!("{}_{}", meta(pod, "name"), meta(pod, "namespace"))
}

fn wanted(wanted: Wanted) -> windlass_node::Wanted {
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    windlass_node::Wanted { stdin, stdout, stderr, tty }
}

fn refused(error: SessionError) -> StreamError {
    match error {
        SessionError::NotRunning(why) => StreamError::NotRunning(why),
        SessionError::Failed(why) => StreamError::Failed(why),
    }
}

/// A kaniko step is built by the agent: there is no process that could be talked to.
fn built(pod: &Value, container: &str) -> Option<StreamError> {
    let mut containers = pod["spec"]["containers"].as_array()?.iter();
    let image = containers.find(|c| c["name"] == container)?["image"].as_str()?;
    let why = format!("container {container:?} has no process: the node agent builds it; `kubectl logs` shows how far");
    windlass_model::kaniko::is_kaniko(image).then_some(StreamError::NotRunning(why))
}

fn session(session: windlass_node::Session) -> Session {
    let windlass_node::Session { stdin, stdout, stderr, resize, ended } = session;
    Session { stdin, stdout, stderr, resize, ended: ended.map(|code| code.map_or(End::Left, End::Exited)).boxed() }
}

struct Connections(PodPorts);

#[async_trait::async_trait]
impl Ports for Connections {
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, String> {
        self.0.connect(port).await.map(|stream| Box::new(stream) as _)
    }
}

#[async_trait::async_trait]
impl Kubelet for NodeAgent {
    async fn logs(&self, pod: &Value, options: LogOptions) -> Result<LogStream, ApiError> {
        let wanted = windlass_node::LogOptions {
            follow: options.follow,
            previous: options.previous,
            timestamps: options.timestamps,
            tail_lines: options.tail_lines,
            since: options.since,
            limit_bytes: options.limit_bytes,
        };
        let (namespace, name, uid) = (meta(pod, "namespace"), meta(pod, "name"), meta(pod, "uid"));
        match self.0.logs(namespace, name, uid, &options.container, wanted) {
            Ok(stream) => Ok(stream.boxed()),
            Err(LogError::Io(e)) => Err(ApiError::internal(e)),
            Err(e) => Err(ApiError::bad_request(e.to_string())),
        }
    }

    async fn exec(
        &self,
        pod: &Value,
        container: &str,
        command: Vec<String>,
        streams: Wanted,
    ) -> Result<Session, StreamError> {
        let started = self.0.exec(meta(pod, "uid"), container, command, wanted(streams)).await;
        started.map(session).map_err(|error| built(pod, container).unwrap_or_else(|| refused(error)))
    }

    async fn attach(&self, pod: &Value, container: &str, streams: Wanted) -> Result<Session, StreamError> {
        let attached = self.0.attach(meta(pod, "uid"), &full_name(pod), container, wanted(streams));
        attached.map(session).map_err(refused)
    }

    async fn ports(&self, pod: &Value) -> Result<Arc<dyn Ports>, StreamError> {
        let ports = self.0.ports(meta(pod, "uid"), &full_name(pod)).map_err(refused)?;
        Ok(Arc::new(Connections(ports)))
    }
}
