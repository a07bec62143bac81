//! What the API and whoever runs the pods hand each other for exec, attach and port-forward: plain byte streams and an
//! end. Nothing here knows of WebSocket, SPDY or processes.

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Which streams of a process are asked for. On a terminal there is no standard error beside standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// The process is, or gets to be, on a terminal.
    pub tty: bool,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Exited(i32),
    /// It goes on, or ended where exit codes are told elsewhere; nothing failed.
    Left,
    /// For a reason that is not the command's own.
    Failed(String),
}

/// Tells a terminal its size, as columns and rows.
pub type Resize = Box<dyn Fn(u16, u16) + Send + Sync>;

/// A process as its caller holds it. Whoever drops it has left: a process that was started for it ends.
pub struct Session {
    /// What is typed. Dropped at the end of it.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What is printed.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// What is printed as errors.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where there is a terminal.
    pub resize: Option<Resize>,
    /// Ready when the process has ended; what it printed may still be on its way.
    pub ended: BoxFuture<'static, End>,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// There is nothing to talk to: `container not found ("main")`.
    #[error("{0}")]
    NotRunning(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
}

/// The ports of one pod.
#[async_trait::async_trait]
pub trait Ports: Send + Sync {
    /// A connection to a port on the pod's own loopback. The error is a sentence for whoever asked.
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, String>;
}
