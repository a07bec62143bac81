//! The server as one value: opened over a store, cloned freely, called as a service. Holds the wiring; the work is in the
//! other rooms.

use crate::Identity;
use crate::annex::Annex;
use crate::answer::{ApiError, Body};
use crate::edge::Edge;
use crate::kinds::Registry;
use crate::kubelet::Kubelet;
use crate::service::Addresses;
use crate::store::{Store, StoreError};
use crate::streams::inside;
use crate::{auth, background, bootstrap, crd, hooks, rest};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

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
    /// Where the administrator's token (`token`) and the key of ServiceAccount tokens (`sa.key`) are kept, 0600. Without it
    /// there is no such token, and the key ends with the process.
    pub keys: Option<PathBuf>,
    /// How often a watcher that asked for bookmarks gets one while nothing happens.
    pub bookmark_every: Duration,
}

impl Options {
    /// In memory.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            store: Where::Memory,
            ring_bytes: 16 << 20,
            max_pages: None,
            keys: None,
            bookmark_every: Duration::from_secs(60),
        }
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
    /// The file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key or token could not be read or made.
    #[error("cannot read or make the API's keys: {0}")]
    Keys(std::io::Error),
    /// The API refused an object that every cluster has.
    #[error("cannot make the first objects: {0}")]
    Bootstrap(#[from] ApiError),
}

struct Inner {
    store: Arc<Store>,
    registry: RwLock<Arc<Registry>>,
    addresses: Addresses,
    edge: Edge,
    kubelet: OnceLock<Arc<dyn Kubelet>>,
    annex: OnceLock<Arc<dyn Annex>>,
    bookmark_every: Duration,
}

/// The embedded Kubernetes API. A clone is the same server; when the last one is dropped, the store is closed.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

/// A server that a background loop does not keep alive.
pub(crate) struct WeakServer(Weak<Inner>);

impl WeakServer {
    /// The server, if somebody still has it.
    pub(crate) fn upgrade(&self) -> Option<ApiServer> {
        self.0.upgrade().map(|inner| ApiServer { inner })
    }
}

impl ApiServer {
    /// Opens the store, makes the objects that every cluster has, and starts the background loops (namespaces, garbage
    /// collection). Must be called inside a tokio runtime.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let bookmark_every = options.bookmark_every;
        let mut registry = Registry::builtin();
        // A definition is older than its objects, so each kind is known when its objects come.
        let mut known: HashMap<String, Arc<[String]>> = HashMap::new();
        let (store, work) = Store::open(&options, |storage, bytes| {
            if storage == crd::TABLE
                && let Ok(definition) = serde_json::from_slice(bytes)
            {
                crd::resources(&definition).into_iter().for_each(|resource| registry.insert(resource));
                known.clear();
            }
            if let Some(fields) = known.get(storage) {
                return fields.clone();
            }
            let fields: Arc<[String]> = registry.of_storage(storage).map(|r| r.selectable.clone()).unwrap_or_default();
            known.insert(storage.to_owned(), fields.clone());
            fields
        })?;
        let addresses = Addresses::default();
        for service in store.table("services").snapshot(None, None, None).unwrap_or_default().0 {
            addresses.note(&service.value());
        }
        let registry = RwLock::new(Arc::new(registry));
        let store = Arc::new(store);
        let edge = Edge::open(options.keys.as_deref(), store.clone()).map_err(OpenError::Keys)?;
        let inner = Inner {
            store,
            registry,
            addresses,
            edge,
            kubelet: OnceLock::new(),
            annex: OnceLock::new(),
            bookmark_every,
        };
        let server = Self { inner: Arc::new(inner) };
        tokio::spawn(background::run(WeakServer(Arc::downgrade(&server.inner)), work));
        bootstrap::run(&server).await?;
        hooks::bootstrap(&server).await?;
        Ok(server)
    }

    /// A client in this process, acting as `who`.
    #[must_use]
    pub fn client(&self, who: Identity) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
            let (server, who) = (server.clone(), who.clone());
            async move {
                if inside::is_upgrade(&request) {
                    return Ok(inside::send(server, who, request).await);
                }
                request.extensions_mut().insert(who);
                Ok::<_, std::convert::Infallible>(server.handle(request).await)
            }
        });
        kube::Client::new(service, "default")
    }

    /// A client in this process that is nobody by itself: a request is whoever its own token says, as from outside.
    #[must_use]
    pub fn outside_client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let response = match crate::edge::identify(&server, request.headers()) {
                    Ok(who) => {
                        request.extensions_mut().insert(who);
                        server.handle(request).await
                    }
                    Err(error) => error.response(),
                };
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        kube::Client::new(service, "default")
    }

    /// Who runs the pods; the first one given counts. Until then, logs are answered with 503.
    pub fn set_kubelet(&self, kubelet: Arc<dyn Kubelet>) {
        let _ = self.inner.kubelet.set(kubelet);
    }

    /// Who answers paths beside the API's own; the first one given counts.
    pub fn set_annex(&self, annex: Arc<dyn Annex>) {
        let _ = self.inner.annex.set(annex);
    }

    pub(crate) fn kubelet(&self) -> Option<Arc<dyn Kubelet>> {
        self.inner.kubelet.get().cloned()
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    pub(crate) fn edge(&self) -> &Edge {
        &self.inner.edge
    }

    /// The administrator's token, where keys are kept. For the kubeconfig; keep it out of logs and arguments.
    #[must_use]
    pub fn admin_token(&self) -> Option<&auth::StaticToken> {
        self.inner.edge.admin.as_ref()
    }

    /// A stored object of the core group.
    pub(crate) fn stored(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        auth::Objects::get(self.store().as_ref(), "", resource, Some(namespace), name)
    }

    pub(crate) fn bookmark_every(&self) -> Duration {
        self.inner.bookmark_every
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.inner.addresses
    }

    /// What is served now.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.inner.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is served.
    pub(crate) fn change_registry(&self, change: impl FnOnce(&mut Registry)) {
        let mut current = self.inner.registry.write().unwrap_or_else(PoisonError::into_inner);
        let mut registry = Registry::clone(&current);
        change(&mut registry);
        *current = Arc::new(registry);
    }

    /// The CustomResourceDefinitions, created or brought up to date, and served when this returns.
    pub async fn ensure_crds(&self, definitions: &[Value]) -> Result<(), ApiError> {
        crd::ensure(self, definitions).await
    }

    /// The ServiceAccount that every namespace has.
    pub(crate) async fn default_account(&self, namespace: &str) -> Result<(), ApiError> {
        Box::pin(bootstrap::default_account(self, namespace)).await
    }

    /// A request of the server to itself.
    pub(crate) async fn internal(
        &self,
        method: http::Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .extension(Identity::system("system:apiserver"))
            .body(())
            .map_err(ApiError::internal)?;
        let (parts, ()) = request.into_parts();
        let response = rest::serve(self, parts, Bytes::from(body.to_string())).await?;
        let bytes = response.into_body().collect().await.map_err(ApiError::internal)?.to_bytes();
        serde_json::from_slice(&bytes).map_err(ApiError::internal)
    }

    /// Answers one request. The caller is the extension [`Identity`]; without one it is `system:anonymous`.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, rest::BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return ApiError::too_large(rest::BODY_BYTES_MAX).response();
            }
            Err(error) => return ApiError::bad_request(format!("the body could not be read: {error}")).response(),
        };
        if let Some(annex) = self.inner.annex.get().filter(|annex| annex.has(parts.uri.path())) {
            let who = parts.extensions.get::<Identity>().cloned().unwrap_or_else(Identity::anonymous);
            return annex.answer(self.client(who), Request::from_parts(parts, body)).await;
        }
        match rest::serve(self, parts, body).await {
            Ok(response) => response,
            Err(error) => error.response(),
        }
    }
}

impl<B> tower::Service<Request<B>> for ApiServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
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
