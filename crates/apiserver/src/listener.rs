//! The HTTPS listener: TLS, HTTP/1.1 and HTTP/2 with upgrades, in front of the same server that runs in process. A
//! request from outside is given its identity here, from its token; nothing else is decided. Opens nothing but loopback
//! unless told to.

use crate::answer::{ApiError, Body};
use crate::{ApiServer, edge};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

const HANDSHAKE_SECONDS_MAX: u64 = 10;
const GRACE_SECONDS: u64 = 3;

/// Binds an address; anything but loopback only where `beyond_loopback` says so.
pub async fn bind(address: SocketAddr, beyond_loopback: bool) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() && !beyond_loopback {
        let why = format!("{address} is not a loopback address; the API listens on loopback unless told otherwise");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    TcpListener::bind(address).await
}

/// Serves the API until cancelled: then nothing new is accepted, what is under way gets a moment, and the rest is cut.
pub async fn serve(server: ApiServer, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
    let gate = tower::service_fn(move |request: Request<Incoming>| {
        let server = server.clone();
        async move { Ok::<Response<Body>, std::convert::Infallible>(answer(&server, request).await) }
    });
    accept(listener, tls, gate, stop).await;
}

/// One request from outside: who is it, and then the same as in process.
async fn answer(server: &ApiServer, mut request: Request<Incoming>) -> Response<Body> {
    match edge::identify(server, request.headers()) {
        Ok(who) => {
            request.extensions_mut().insert(who);
            server.handle(request).await
        }
        Err(error) => ApiError::response(&error),
    }
}

async fn accept<S, B>(listener: TcpListener, tls: Arc<rustls::ServerConfig>, service: S, stop: CancellationToken)
where
    S: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let acceptor = TlsAcceptor::from(tls);
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(1000);
    let cut = stop.child_token();
    let tasks = tokio_util::task::TaskTracker::new();
    let hard = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = cut.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: wait for some to come back instead of spinning.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, builder, service) = (acceptor.clone(), builder.clone(), service.clone());
        let (watcher, stop, hard) = (graceful.watcher(), stop.clone(), hard.clone());
        tasks.spawn(async move {
            let limit = Duration::from_secs(HANDSHAKE_SECONDS_MAX);
            let handshake = tokio::select! {
                () = stop.cancelled() => return,
                made = tokio::time::timeout(limit, acceptor.accept(stream)) => made,
            };
            let tls = match handshake {
                Ok(Ok(tls)) => tls,
                Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => return tracing::debug!("TLS handshake took too long"),
            };
            let connection =
                builder.serve_connection_with_upgrades(TokioIo::new(tls), TowerToHyperService::new(service));
            let connection = watcher.watch(connection.into_owned());
            tokio::select! {
                () = hard.cancelled() => {}
                ended = connection => if let Err(error) = ended { tracing::debug!(%error, "connection ended"); }
            }
        });
    }
    drop(listener);
    tasks.close();
    let _ = tokio::time::timeout(Duration::from_secs(GRACE_SECONDS), graceful.shutdown()).await;
    hard.cancel();
    tasks.wait().await;
}
