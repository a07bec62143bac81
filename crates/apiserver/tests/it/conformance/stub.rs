//! Who runs the pods where the API is embedded and there is no node agent: commands become processes of this machine,
//! ports are those of its loopback. As a kubelet it only has what the cases ask.

use serde_json::Value;
use std::process::Stdio;
use std::sync::Arc;
use tokio::net::TcpStream;
use windlass_apiserver::{ApiError, Duplex, End, Kubelet, LogOptions, LogStream, Ports, Session, StreamError, Wanted};

pub(super) struct Stub;

struct Loopback;

#[async_trait::async_trait]
impl Ports for Loopback {
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        stream.map(|s| Box::new(s) as _).map_err(|e| format!("failed to connect to localhost:{port}: {e}"))
    }
}

fn runs(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

#[async_trait::async_trait]
impl Kubelet for Stub {
    async fn logs(&self, _: &Value, _: LogOptions) -> Result<LogStream, ApiError> {
        Err(ApiError::bad_request("nothing was logged"))
    }

    async fn exec(
        &self,
        pod: &Value,
        container: &str,
        command: Vec<String>,
        wanted: Wanted,
    ) -> Result<Session, StreamError> {
        if !runs(pod) {
            return Err(StreamError::NotRunning(format!("container not found ({container:?})")));
        }
        let or_null = |is_wanted| if is_wanted { Stdio::piped() } else { Stdio::null() };
        let mut process = tokio::process::Command::new(&command[0])
            .args(&command[1..])
            .stdin(or_null(wanted.stdin))
            .stdout(or_null(wanted.stdout))
            .stderr(or_null(wanted.stderr))
            .kill_on_drop(true)
            .spawn()
            .map_err(|_| StreamError::Failed(format!("exec: {:?}: executable file not found in $PATH", command[0])))?;
        Ok(Session {
            stdin: process.stdin.take().map(|s| Box::new(s) as _),
            stdout: process.stdout.take().map(|s| Box::new(s) as _),
            stderr: process.stderr.take().map(|s| Box::new(s) as _),
            resize: None,
            ended: Box::pin(async move { End::Exited(process.wait().await.unwrap().code().unwrap_or(137)) }),
        })
    }

    async fn attach(&self, _: &Value, container: &str, _: Wanted) -> Result<Session, StreamError> {
        Err(StreamError::NotRunning(format!("container {container} not found in pod")))
    }

    async fn ports(&self, pod: &Value) -> Result<Arc<dyn Ports>, StreamError> {
        if !runs(pod) {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            return Err(StreamError::NotRunning(format!("pod not found ({name:?})")));
        }
        Ok(Arc::new(Loopback))
    }
}
