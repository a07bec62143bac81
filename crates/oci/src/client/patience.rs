//! Patience with registries: how long one may stay silent, when it is asked again, and how an upload tells that it
//! moves. Must never take a long upload for a silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use reqwest::{RequestBuilder, Response, StatusCode};

use super::target::Target;
use super::transport::{Transport, is_lost};
use crate::{Error, Result};

/// A registry that says nothing is asked again so often: each time costs the whole wait.
pub(super) const SILENT_RETRIES_MAX: u32 = 1;

/// So many times the usual patience for a registry that has a whole upload and checks it.
const CHECKING_FACTOR: u32 = 4;

/// A request that got no answer.
pub(super) struct Failure {
    pub(super) error: Error,
    /// Nothing came for as long as we wait: asking often costs that long each time.
    pub(super) silent: bool,
    /// Nobody was there: the name is unknown, or no connection came about in time.
    pub(super) lost: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, silent: false, lost: false }
    }
}

/// How much of a request's body was taken by the connection, told by the body itself.
#[derive(Clone)]
pub(super) struct Moved {
    bytes: Arc<AtomicU64>,
    size: u64,
}

impl Moved {
    pub(super) fn nothing_of(size: u64) -> Self {
        Self { bytes: Arc::default(), size }
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn is_whole(&self) -> bool {
        self.bytes() >= self.size
    }
}

/// Whether the registry asks for patience.
pub(super) fn is_overloaded(response: &Response) -> bool {
    response.status() == StatusCode::TOO_MANY_REQUESTS || response.status().is_server_error()
}

/// How long the registry says to wait.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    response.headers().get("retry-after")?.to_str().ok()?.parse::<u64>().ok().map(Duration::from_secs)
}

impl Transport {
    /// Waits before the next attempt: longer each time, or as long as the registry said.
    pub(super) async fn pause(&self, target: &Target, attempt: u32, told: Option<Duration>) {
        let pause = told.unwrap_or(Duration::from_millis(250 << attempt.min(6))).min(Duration::from_secs(30));
        tracing::debug!(registry = target.registry, repository = target.repository, ?pause, "asking again");
        tokio::time::sleep(pause).await;
    }

    /// Sends a request, and waits for the head of its answer as long as anything moves.
    pub(super) async fn answer(
        &self,
        target: &Target,
        request: RequestBuilder,
        moved: Option<&Moved>,
    ) -> Result<Response, Failure> {
        let mut sending = std::pin::pin!(request.send());
        let mut seen = 0;
        loop {
            // Who has taken everything may need its time to check it.
            let patience = if moved.is_some_and(Moved::is_whole) { CHECKING_FACTOR } else { 1 };
            match tokio::time::timeout(self.options.silence * patience, &mut sending).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => {
                    let (silent, lost) = (error.is_timeout(), is_lost(&error));
                    return Err(Failure { silent, lost, error: self.unreachable(target, &error) });
                }
                Err(_) => {
                    let now = moved.map_or(seen, Moved::bytes);
                    if now == seen {
                        return Err(Failure { error: self.silent(target), silent: true, lost: false });
                    }
                    seen = now;
                }
            }
        }
    }

    /// The next part of an answer's body.
    pub(super) async fn next<T>(
        &self,
        target: &Target,
        stream: &mut (impl futures::Stream<Item = reqwest::Result<T>> + Unpin),
    ) -> Option<Result<T>> {
        match tokio::time::timeout(self.options.silence, stream.next()).await {
            Ok(part) => part.map(|part| part.map_err(|e| self.unreachable(target, &e))),
            Err(_) => Some(Err(self.silent(target))),
        }
    }

    pub(super) fn silent(&self, target: &Target) -> Error {
        Error::Unreachable {
            registry: target.shown().0,
            detail: format!("it said nothing for {} s", self.options.silence.as_secs()),
            help: "check that it is well, or try again later".to_owned(),
        }
    }
}
