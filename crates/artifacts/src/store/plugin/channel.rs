//! gRPC over a unix socket, as far as Argo's `ArtifactService` needs it: one call at a time, a message each way or a stream
//! of messages to the plugin. Everything blocks. It must never trust a length that the plugin announces.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::fs::{Mode, OFlags};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::beneath::Root;
use crate::cancel::Cancel;

/// What gRPC's own clients accept.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// How often it is looked whether the socket is there, or somebody has cancelled.
const LOOK: Duration = Duration::from_millis(20);
/// How long an answer may take after the stream to the plugin has broken off.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The names of gRPC's codes.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const INTERNAL: usize = 13;
const UNAVAILABLE: usize = 14;

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The call ended with a status that is not OK; of the connection's faults too.
    Status { code: usize, message: String },
    /// Nobody answers at the socket. The words of Argo.
    Socket(String),
    /// What was to be sent could not be read.
    Source(io::Error),
    /// Stopped from outside.
    Cancelled,
}

impl Fault {
    fn internal(message: impl Into<String>) -> Self {
        Self::Status { code: INTERNAL, message: message.into() }
    }

    fn broken(error: &hyper::Error) -> Self {
        let mut last = error.to_string();
        let mut next = std::error::Error::source(error);
        while let Some(inner) = next {
            last = inner.to_string();
            next = inner.source();
        }
        Self::Status { code: UNAVAILABLE, message: format!("the connection broke off: {last}") }
    }

    /// Whether it is this code of gRPC.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Status { code, .. } if CODES.get(*code) == Some(&name))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status { code, message } => {
                let name = CODES.get(*code).map_or_else(|| format!("Code({code})"), |name| (*name).to_owned());
                write!(f, "rpc error: code = {name} desc = {message}")
            }
            Self::Socket(text) => f.write_str(text),
            Self::Source(error) => write!(f, "{error}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// A connection to a plugin.
pub(super) struct Channel {
    runtime: Runtime,
    sender: SendRequest<Outgoing>,
}

/// Where the socket is, as this process and as its own container name it, and how long to wait for what.
pub(super) struct Address<'a> {
    pub(super) directory: &'a Path,
    pub(super) name: &'a str,
    pub(super) shown: PathBuf,
    /// For the socket to be there.
    pub(super) patience: Duration,
    /// For somebody to answer at it.
    pub(super) timeout: Duration,
}

impl Channel {
    /// Waits for the socket, and connects.
    pub(super) fn open(address: &Address<'_>, plugin: &str, cancel: &Cancel) -> Result<Self, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Fault::Socket(format!("plugin {plugin}: {e}")))?;
        let sender = runtime.block_on(async {
            wait_for_socket(address, plugin, cancel).await?;
            let stream = dial(address, plugin, cancel).await?;
            let (sender, connection) = Builder::new(TokioExecutor::new())
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|e| Fault::broken(&e))?;
            tokio::spawn(async move {
                // Whoever waits for an answer is told.
                let _ = connection.await;
            });
            Ok(sender)
        })?;
        Ok(Self { runtime, sender })
    }

    /// One message there, one back.
    pub(super) fn call(&mut self, method: &str, message: &[u8], cancel: &Cancel) -> Result<Vec<u8>, Fault> {
        let body = Full::new(framed(message)).map_err(|never: Infallible| match never {}).boxed_unsync();
        let request = request(method, body)?;
        let Self { runtime, sender } = self;
        runtime.block_on(async {
            let answer = async { answer(sender.send_request(request).await.map_err(|e| Fault::broken(&e))?).await };
            unless(cancel, answer).await?
        })
    }

    /// Messages there as long as `next` has some, one back. A plugin that ends the call early is heard at once. Where
    /// `next` fails the call is broken off, so that the plugin does not take for whole what is cut.
    pub(super) fn send(
        &mut self,
        method: &str,
        mut next: impl FnMut() -> io::Result<Option<Vec<u8>>>,
        cancel: &Cancel,
    ) -> Result<Vec<u8>, Fault> {
        let (frames, body) = mpsc::channel(1);
        let request = request(method, Frames(body).boxed_unsync())?;
        let Self { runtime, sender } = self;
        runtime.block_on(async {
            let mut answer =
                pin!(async { answer(sender.send_request(request).await.map_err(|e| Fault::broken(&e))?).await });
            loop {
                let message = match next() {
                    Ok(Some(message)) => framed(&message),
                    Ok(None) => break,
                    Err(error) => {
                        let _ = frames.send(Err(io::Error::other("cut"))).await;
                        let _ = tokio::time::timeout(LAST_WORD, answer).await;
                        return Err(Fault::Source(error));
                    }
                };
                tokio::select! {
                    early = &mut answer => return early,
                    sent = unless(cancel, frames.send(Ok(message))) => match sent {
                        Ok(_) => {}
                        Err(cancelled) => {
                            let _ = frames.try_send(Err(io::Error::other("cut")));
                            return Err(cancelled);
                        }
                    },
                }
            }
            drop(frames);
            unless(cancel, answer).await?
        })
    }
}

/// What comes of it, unless somebody cancels before.
async fn unless<T>(cancel: &Cancel, work: impl Future<Output = T>) -> Result<T, Fault> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(LOOK) => if cancel.is_cancelled() {
                return Err(Fault::Cancelled);
            },
        }
    }
}

/// As in Argo: a plugin has its time until its socket is there, whatever its timeout is.
async fn wait_for_socket(address: &Address<'_>, plugin: &str, cancel: &Cancel) -> Result<(), Fault> {
    let begun = Instant::now();
    let shown = address.shown.display();
    loop {
        match std::fs::symlink_metadata(address.directory.join(address.name)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Fault::Socket(format!("plugin {plugin} cannot stat unix socket at \"{shown}\": {error}")));
            }
        }
        if begun.elapsed() >= address.patience {
            return Err(Fault::Socket(format!(
                "plugin {plugin} expected unix socket at \"{shown}\" but it does not exist after waiting for {} seconds",
                address.patience.as_secs()
            )));
        }
        if cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Connects, through the directory that nothing leads out of: the plugin may have put a link there. A socket's address is
/// short, the directory's path may be long.
async fn dial(address: &Address<'_>, plugin: &str, cancel: &Cancel) -> Result<UnixStream, Fault> {
    let begun = Instant::now();
    let connect = async || -> io::Result<UnixStream> {
        let socket = Root::open(address.directory)?.open_at(Path::new(address.name), OFlags::PATH, Mode::empty())?;
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
    };
    loop {
        let error = match connect().await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if begun.elapsed() >= address.timeout {
            return Err(Fault::Socket(format!(
                "timeout waiting for plugin {plugin} connection to become ready, last state: TRANSIENT_FAILURE: {error} \
                 (socket=\"{}\")",
                address.shown.display()
            )));
        }
        if cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn request(method: &str, body: Outgoing) -> Result<Request<Outgoing>, Fault> {
    Request::post(format!("http://localhost/artifact.ArtifactService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", concat!("windlass/", env!("CARGO_PKG_VERSION")))
        .body(body)
        .map_err(|e| Fault::internal(e.to_string()))
}

/// A message with its length, not compressed.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The one message of an answer, if its status is OK.
async fn answer(response: Response<Incoming>) -> Result<Vec<u8>, Fault> {
    let http = response.status();
    let (parts, mut body) = response.into_parts();
    if let Some(status) = status(&parts.headers) {
        status?;
    }
    if !http.is_success() {
        return Err(Fault::Status {
            code: UNAVAILABLE,
            message: format!("unexpected HTTP status code received from server: {http}"),
        });
    }
    let mut bytes = Vec::new();
    let mut ended = None;
    while let Some(frame) = body.frame().await {
        match frame.map_err(|e| Fault::broken(&e))?.into_data() {
            Ok(data) if bytes.len() + data.len() > MESSAGE_BYTES_MAX + 5 => {
                return Err(Fault::Status {
                    code: 8,
                    message: format!("a message of more than {MESSAGE_BYTES_MAX} bytes"),
                });
            }
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => ended = frame.trailers_ref().and_then(status),
        }
    }
    ended.unwrap_or_else(|| Err(Fault::internal("server closed the stream without sending trailers")))?;
    let length = match bytes.first_chunk::<5>() {
        Some([0, length @ ..]) => u32::from_be_bytes(*length) as usize,
        Some(_) => return Err(Fault::internal("the answer is compressed, which nobody asked for")),
        None => return Err(Fault::internal("the answer holds no message")),
    };
    bytes.drain(..5);
    if bytes.len() != length {
        return Err(Fault::internal("the answer is not one message"));
    }
    Ok(bytes)
}

/// What headers or trailers say of the call's end; nothing where they do not.
fn status(headers: &HeaderMap) -> Option<Result<(), Fault>> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(2);
    if code == 0 {
        return Some(Ok(()));
    }
    let message = headers.get("grpc-message").map(|value| unescaped(value.as_bytes())).unwrap_or_default();
    Some(Err(Fault::Status { code, message }))
}

/// `grpc-message` has bytes that are no plain ASCII as `%41`.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escape = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match escape.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A body out of what is handed over.
struct Frames(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|given| given.map(|bytes| bytes.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_status() {
        assert_eq!(unescaped(b"no such %E2%82%AC: 100%"), "no such \u{20ac}: 100%");
        assert_eq!(unescaped(b"%zz%4"), "%zz%4");
        let fault = Fault::Status { code: 5, message: "gone".to_owned() };
        assert!(fault.is("NotFound") && !fault.is("Unimplemented"));
        assert_eq!(fault.to_string(), "rpc error: code = NotFound desc = gone");
        assert_eq!(
            Fault::Status { code: 99, message: String::new() }.to_string(),
            "rpc error: code = Code(99) desc = "
        );
    }
}
