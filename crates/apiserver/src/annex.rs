//! Paths that are answered beside the Kubernetes API, for callers who were identified here: the API of Argo's server, say.
//! Holds none; who wires the house gives one. What a caller may do there, the annex asks with the caller's own client.

use crate::answer::Body;
use bytes::Bytes;
use http::{Request, Response};

/// Who answers such paths.
#[async_trait::async_trait]
pub trait Annex: Send + Sync {
    /// Whether this path is one of them.
    fn has(&self, path: &str) -> bool;

    /// Answers a request whose body was read. The client has the rights of who asks, and no others.
    async fn answer(&self, caller: kube::Client, request: Request<Bytes>) -> Response<Body>;
}
