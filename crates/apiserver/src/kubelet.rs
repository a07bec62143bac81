//! What the API asks of whoever runs the pods: their logs, commands in their containers, their ports. The node agent
//! implements this and is given at wiring. Holds no pod and starts nothing.

use crate::answer::ApiError;
use crate::streams::{Ports, Session, StreamError, Wanted};
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::sync::Arc;

/// What `kubectl logs` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// The container; the API has already chosen the only or annotated one and checked that the pod has it.
    pub container: String,
    /// Keep sending as lines come.
    pub follow: bool,
    /// The container before the present one.
    pub previous: bool,
    /// Prefix each line with its time.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only lines of that time or later.
    pub since: Option<Timestamp>,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Bytes of a log as they come.
pub type LogStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Who runs the pods.
#[async_trait::async_trait]
pub trait Kubelet: Send + Sync {
    /// The log of one container of a pod (given as the stored object).
    async fn logs(&self, pod: &serde_json::Value, options: LogOptions) -> Result<LogStream, ApiError>;

    /// A command in a container of a pod that runs. The container is one that the pod has.
    async fn exec(
        &self,
        pod: &serde_json::Value,
        container: &str,
        command: Vec<String>,
        wanted: Wanted,
    ) -> Result<Session, StreamError>;

    /// The streams of a container's own process.
    async fn attach(&self, pod: &serde_json::Value, container: &str, wanted: Wanted) -> Result<Session, StreamError>;

    /// The ports of a pod that runs.
    async fn ports(&self, pod: &serde_json::Value) -> Result<Arc<dyn Ports>, StreamError>;
}
