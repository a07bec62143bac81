//! Where the loops play: an API server in this process that knows our kinds, a client that may do everything, and the
//! word to stop. The loops themselves are each test's own, and so is who plays the kubelet.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use windlass_apiserver::{ApiServer, Identity, Options};

/// An empty cluster. What was started with its `stop` ends with it.
pub(crate) struct Stage {
    pub(crate) server: ApiServer,
    pub(crate) client: kube::Client,
    pub(crate) stop: CancellationToken,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let server = ApiServer::open(Options::memory()).await.unwrap();
        server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
        Self { client: server.client(Identity::admin()), server, stop: CancellationToken::new() }
    }

    /// The objects of one of Argo's kinds.
    pub(crate) fn of(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("argoproj.io", "v1alpha1", kind);
        Api::namespaced_with(self.client.clone(), "default", &ApiResource::from_gvk_with_plural(&gvk, plural))
    }

    pub(crate) fn workflows(&self) -> Api<DynamicObject> {
        self.of("Workflow", "workflows")
    }

    pub(crate) async fn status(&self, workflow: &str) -> Value {
        self.workflows().get(workflow).await.unwrap().data["status"].clone()
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFnMut() -> bool) {
        assert!(comes(is_so).await, "never: {what}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether it becomes so within half a minute.
pub(crate) async fn comes(mut is_so: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..1200 {
        if is_so().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    false
}
