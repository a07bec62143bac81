//! Whether the server is there. It says nothing about the rest of the house.

use axum::Router;
use axum::routing::any;

/// `/healthz`, and `/-/alive` as k8s-webhook-handler has it.
pub fn routes() -> Router {
    Router::new().route("/healthz", any(ok)).route("/-/alive", any(ok))
}

async fn ok() -> &'static str {
    "OK"
}
