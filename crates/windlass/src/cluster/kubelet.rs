//! The node agent as the API's kubelet: whose log is asked for, and in what words a log that is not there is refused.

use futures::StreamExt;
use serde_json::Value;
use windlass_apiserver::{ApiError, Kubelet, LogOptions, LogStream};
use windlass_node::{Agent, LogError};

/// Gives the agent's logs to the API.
pub(super) struct Logs(pub(super) Agent);

#[async_trait::async_trait]
impl Kubelet for Logs {
    async fn logs(&self, pod: &Value, options: LogOptions) -> Result<LogStream, ApiError> {
        let meta = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
        let wanted = windlass_node::LogOptions {
            follow: options.follow,
            previous: options.previous,
            timestamps: options.timestamps,
            tail_lines: options.tail_lines,
            since: options.since,
            limit_bytes: options.limit_bytes,
        };
        match self.0.logs(meta("namespace"), meta("name"), meta("uid"), &options.container, wanted) {
            Ok(stream) => Ok(stream.boxed()),
            Err(LogError::Io(e)) => Err(ApiError::internal(e)),
            Err(e) => Err(ApiError::bad_request(e.to_string())),
        }
    }
}
