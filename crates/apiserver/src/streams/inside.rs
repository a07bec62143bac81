//! Upgrades for clients in this process: they have no connection that could be upgraded, so that one is made for them,
//! in memory, and the request goes over it as it would over a socket. Decides nothing.

use crate::answer::{ApiError, Body};
use crate::{ApiServer, Identity};
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

const PIPE_BYTES: usize = 64 << 10;

/// Whether a request asks for an upgrade.
pub(crate) fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::UPGRADE)
}

/// Sends `request` as `who` over a connection of its own.
pub(crate) async fn send(server: ApiServer, who: Identity, mut request: Request<kube::client::Body>) -> Response<Body> {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(who.clone());
        let server = server.clone();
        async move { Ok::<_, std::convert::Infallible>(server.handle(request).await) }
    });
    tokio::spawn(
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades(),
    );
    let failed = |error: hyper::Error| ApiError::internal(error).response();
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(near)).await {
        Ok(made) => made,
        Err(error) => return failed(error),
    };
    tokio::spawn(connection.with_upgrades());
    // A relative path is all that there is between the two.
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = path.into();
    }
    match sender.send_request(request).await {
        Ok(response) => response.map(|body| body.map_err(std::io::Error::other).boxed_unsync()),
        Err(error) => failed(error),
    }
}
