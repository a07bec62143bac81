//! The API as a bad day shows it to the controller: requests that are lost before or after they were done, conflicts,
//! answers that come late, watches that break, repeat themselves or have grown too old. The server behind it is never
//! wrong; only what the controller hears of it is.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::sync::Notify;
use windlass_apiserver::{ApiServer, Identity};

use super::dice::Dice;

/// The faults of one world.
pub(super) struct Faults {
    dice: Mutex<Dice>,
    on: AtomicBool,
    /// Writes that are left until the controller dies.
    until_crash: AtomicU64,
    /// Told when the controller dies.
    pub(super) crash: Notify,
    /// What was done, for the report of a failure.
    pub(super) done: Mutex<Vec<String>>,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Fine,
    /// It never reaches the server.
    LostBefore,
    /// It is done, and nobody hears of it.
    LostAfter,
    /// The server found somebody else faster.
    Conflict,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let mut dice = Dice::of(seed, "faults");
        let until_crash = AtomicU64::new(3 + dice.below(25));
        let (dice, done) = (Mutex::new(dice), Mutex::default());
        Arc::new(Self { dice, on: AtomicBool::new(true), until_crash, crash: Notify::new(), done })
    }

    /// From now on everything goes well.
    pub(super) fn end(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    fn are_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    fn throw<T>(&self, throw: impl FnOnce(&mut Dice) -> T) -> T {
        throw(&mut self.dice.lock().unwrap())
    }

    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }

    fn fate(&self, method: &Method) -> Fate {
        let reads = *method == Method::GET;
        match self.throw(|dice| dice.below(100)) {
            0..=3 => Fate::LostBefore,
            4..=7 if !reads => Fate::LostAfter,
            8..=11 if *method == Method::PATCH || *method == Method::PUT => Fate::Conflict,
            _ => Fate::Fine,
        }
    }

    /// A client through which the faults are seen.
    pub(super) fn client(self: &Arc<Self>, server: &ApiServer) -> kube::Client {
        let (faults, server) = (self.clone(), server.clone());
        let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
            request.extensions_mut().insert(Identity::admin());
            let (faults, server) = (faults.clone(), server.clone());
            async move { Ok::<_, Infallible>(faults.answer(&server, request).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(
        self: &Arc<Self>,
        server: &ApiServer,
        request: Request<kube::client::Body>,
    ) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
        if !self.are_on() {
            return server.handle(request).await.map(|body| body.boxed_unsync());
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let watches = request.uri().query().unwrap_or_default().contains("watch=true");
        let fate = self.fate(&method);
        if fate != Fate::Fine {
            self.note(format!("{fate:?}: {method} {path}"));
        }
        let late = self.throw(|dice| if dice.hits(20) { dice.below(60) } else { 0 });
        tokio::time::sleep(Duration::from_millis(late)).await;
        let answer = match fate {
            Fate::LostBefore => failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Fate::Conflict => failure(StatusCode::CONFLICT, "Conflict"),
            Fate::LostAfter => {
                server.handle(request).await;
                failure(StatusCode::GATEWAY_TIMEOUT, "Timeout")
            }
            Fate::Fine => server.handle(request).await.map(|body| body.boxed_unsync()),
        };
        if method != Method::GET && self.until_crash.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.until_crash.store(5 + self.throw(|dice| dice.below(60)), Ordering::SeqCst);
            self.note(format!("crash after {method} {path}"));
            self.crash.notify_one();
            // Whoever asked is dead and never hears the answer.
            std::future::pending::<()>().await;
        }
        if watches && answer.status() == StatusCode::OK {
            return answer.map(|body| Broken { body, faults: self.clone(), pause: None, held: None }.boxed_unsync());
        }
        answer
    }
}

fn failure(code: StatusCode, reason: &str) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "a fault of the simulation", "reason": reason, "code": code.as_u16()});
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

/// A watch's events: late, twice, or not any more.
struct Broken<B> {
    body: B,
    faults: Arc<Faults>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    held: Option<Bytes>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Broken<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Some(held) = self.held.take() {
                return Poll::Ready(Some(Ok(Frame::data(held))));
            }
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            let data = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            };
            if !self.faults.are_on() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            match self.faults.throw(|dice| dice.below(100)) {
                0..=2 => {
                    self.faults.note("a watch broke".to_owned());
                    return Poll::Ready(None);
                }
                3 => {
                    self.faults.note("a watch was too old".to_owned());
                    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
                        "status": "Failure", "message": "too old resource version", "reason": "Expired", "code": 410}});
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("{gone}\n"))))));
                }
                4..=8 => {
                    self.held = Some(data.clone());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                9..=20 => {
                    let late = self.faults.throw(|dice| dice.below(400));
                    self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_millis(late))));
                    self.held = Some(data);
                }
                _ => return Poll::Ready(Some(Ok(Frame::data(data)))),
            }
        }
    }
}
