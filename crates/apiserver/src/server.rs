//! The server as one value: opened over a store, cloned freely, called as a service. Holds the wiring; the work is in the
//! other rooms.

use crate::Identity;
use crate::answer::{ApiError, Body};
use crate::kinds::Registry;
use crate::kubelet::Kubelet;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// In this SQLite file, durable when acknowledged.
    File(PathBuf),
    /// Nowhere but in memory.
    Memory,
}

/// How to open a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The place of the objects.
    pub store: Where,
    /// How many bytes of past events are kept for watchers, per kind.
    pub ring_bytes: usize,
    /// How many pages the database may have; for tests of a full disk.
    pub max_pages: Option<u32>,
}

impl Options {
    /// In memory.
    #[must_use]
    pub fn memory() -> Self {
        Self { store: Where::Memory, ring_bytes: 16 << 20, max_pages: None }
    }

    /// In a file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { store: Where::File(path.into()), ..Self::memory() }
    }
}

/// Why a server cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The API refused an object that every cluster has.
    #[error("cannot make the first objects: {0}")]
    Bootstrap(#[from] ApiError),
}

struct Inner {
    registry: RwLock<Arc<Registry>>,
    kubelet: OnceLock<Arc<dyn Kubelet>>,
}

/// The embedded Kubernetes API. A clone is the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

impl ApiServer {
    /// Opens the store, makes the objects that every cluster has, and starts the background loops (namespaces, garbage
    /// collection). Must be called inside a tokio runtime.
    pub async fn open(_options: Options) -> Result<Self, OpenError> {
        let registry = RwLock::new(Arc::new(Registry::builtin()));
        Ok(Self { inner: Arc::new(Inner { registry, kubelet: OnceLock::new() }) })
    }

    /// A client in this process, acting as `who`.
    #[must_use]
    pub fn client(&self, who: Identity) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
            request.extensions_mut().insert(who.clone());
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.handle(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Who runs the pods. Until this is called, logs are answered with 503.
    pub fn set_kubelet(&self, kubelet: Arc<dyn Kubelet>) {
        let _ = self.inner.kubelet.set(kubelet);
    }

    /// What is served now.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.inner.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The CustomResourceDefinitions, created or brought up to date, and served when this returns.
    pub async fn ensure_crds(&self, _definitions: &[Value]) -> Result<(), ApiError> {
        Ok(())
    }

    /// Answers one request. The caller is the extension [`Identity`]; without one it is `system:anonymous`.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::fmt::Display,
    {
        let _ = request;
        ApiError::no_such_path().response()
    }
}

impl<B> tower::Service<Request<B>> for ApiServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.handle(request).await) })
    }
}
