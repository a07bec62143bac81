//! Where cases are played: the embedded API in this process, with a stopped clock.

use std::future::Future;
use std::time::Duration;

use windlass_apiserver::{ApiServer, Identity, Options};
use windlass_conformance_argo::door::Door;

/// Runs something on a runtime of its own whose clock stands still.
pub(crate) fn with_stopped_clock<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(what)
}

/// The embedded API in this process.
pub(crate) async fn in_process() -> ApiServer {
    // While a request is under way nobody holds the clock yet: that is the door's doing.
    let server = ApiServer::open(Options::memory()).await.unwrap();
    server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
    server
}

/// A door to it.
pub(crate) fn door(server: &ApiServer, namespace: &str) -> Door {
    Door::new(&server.client(Identity::admin()), namespace, Duration::ZERO)
}
