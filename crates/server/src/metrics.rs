//! `/metrics`: what was counted, as Prometheus reads it. It tells what it is handed, and counts nothing itself.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

/// Makes the text of all metrics.
pub type Text = Arc<dyn Fn() -> String + Send + Sync>;

/// The one path.
pub fn routes(text: Text) -> Router {
    let answer = move || {
        let text = text.clone();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text()).into_response() }
    };
    Router::new().route("/metrics", get(answer))
}
