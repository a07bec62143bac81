//! What the API's listener answers beside Kubernetes: the routes of `server`, each with its caller's own client. Only the
//! bridge between the two.

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use futures::TryStreamExt;
use http::{Request, Response};
use tower::ServiceExt;
use windlass_apiserver::{Annex, Body};
use windlass_archive::SqliteArchive;
use windlass_server::archived::{self, Caller};
use windlass_server::{remembered, sync};

/// The routes.
pub(super) struct Routes(Router);

impl Routes {
    pub(super) fn new(kept: Arc<SqliteArchive>) -> Self {
        Self(archived::routes(kept.clone()).merge(remembered::routes(kept.clone())).merge(sync::routes(kept)))
    }
}

#[async_trait::async_trait]
impl Annex for Routes {
    fn has(&self, path: &str) -> bool {
        archived::has(path) || remembered::has(path) || sync::has(path)
    }

    async fn answer(&self, caller: kube::Client, request: Request<Bytes>) -> Response<Body> {
        let mut request = request.map(axum::body::Body::from);
        request.extensions_mut().insert(Caller(caller));
        let answer = match self.0.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        answer.map(|body| {
            let frames = body.into_data_stream().map_ok(http_body::Frame::data).map_err(std::io::Error::other);
            Body::new(http_body_util::StreamBody::new(frames))
        })
    }
}
