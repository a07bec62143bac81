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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    #[tokio::test]
    async fn it_tells_what_it_is_handed_each_time() {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let text = move || format!("n {}\n", count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let router = routes(Arc::new(text));
        for expected in ["n 0\n", "n 1\n"] {
            let request = http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected.as_bytes());
        }
    }
}
