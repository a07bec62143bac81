//! An API through which one controller dies at its n-th write, and the next ones live. Writes are counted over all lives.
//! Whoever asks in a life that is over never hears an answer, and nothing it asks for is done: also of a task that the
//! loops have let go and that no abort reaches.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::Notify;
use windlass_apiserver::{ApiServer, Identity};

/// How the controller dies at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The write never reaches the API.
    Before,
    /// It is done, and the controller never hears of it.
    Unheard,
    /// It is done and heard of; nothing else is asked for any more.
    After,
}

impl Death {
    pub(super) const ALL: [Self; 3] = [Self::Before, Self::Unheard, Self::After];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Unheard => "unheard",
            Self::After => "after",
        }
    }
}

/// The writes of all lives, and at which of them one ends.
pub(super) struct Killer {
    at: Option<(u64, Death)>,
    writes: AtomicU64,
    /// Told when a life is over.
    pub(super) died: Notify,
    trace: Mutex<Vec<String>>,
}

impl Killer {
    pub(super) fn new(at: Option<(u64, Death)>) -> Arc<Self> {
        Arc::new(Self { at, writes: AtomicU64::new(0), died: Notify::new(), trace: Mutex::default() })
    }

    /// How many writes there were.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// What was written, one line each.
    pub(super) fn trace(&self) -> String {
        self.trace.lock().unwrap().join("\n")
    }

    fn note(&self, line: String) {
        self.trace.lock().unwrap().push(line);
    }

    /// The client of one life.
    pub(super) fn client(self: &Arc<Self>, server: &ApiServer, life: usize) -> kube::Client {
        let (killer, server, over) = (self.clone(), server.clone(), Arc::new(AtomicBool::new(false)));
        let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
            request.extensions_mut().insert(Identity::admin());
            let (killer, server, over) = (killer.clone(), server.clone(), over.clone());
            async move { Ok::<_, Infallible>(killer.answer(&server, life, &over, request).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(
        &self,
        server: &ApiServer,
        life: usize,
        over: &AtomicBool,
        request: Request<kube::client::Body>,
    ) -> Response<UnsyncBoxBody<bytes::Bytes, std::io::Error>> {
        if over.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let mut death = None;
        if *request.method() != Method::GET {
            let n = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
            death = self.at.filter(|(at, _)| *at == n).map(|(_, death)| death);
            let (method, path) = (request.method(), request.uri().path());
            self.note(format!("{n:3} life {life}: {method} {path}{}", death.map_or("", |_| "  <- dies here")));
        }
        if death.is_some() {
            over.store(true, Ordering::SeqCst);
        }
        if death == Some(Death::Before) {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        let answer = server.handle(request).await.map(|body| body.boxed_unsync());
        match death {
            Some(Death::After) => {
                // What is done with the answer has its moment; it is not seen from outside.
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.died.notify_one();
            }
            Some(_) => self.died.notify_one(),
            None => {}
        }
        if death != Some(Death::After) && over.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        answer
    }
}
