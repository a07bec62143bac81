//! Our end of a container's terminal as streams. Its other end closing is an end of file here and no error.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use windlass_sandbox::Terminal;

/// What a terminal shows.
pub(crate) struct Screen(pipe::Receiver);

fn ours(terminal: &Terminal) -> io::Result<OwnedFd> {
    let fd = terminal.duplicate().map_err(io::Error::other)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

impl Screen {
    /// The screen of a process that was started with a terminal.
    pub(crate) fn of(terminal: &Terminal) -> io::Result<Self> {
        // No pipe, but read like one.
        pipe::Receiver::from_owned_fd_unchecked(ours(terminal)?).map(Self)
    }
}

/// The keys of a terminal. They have no end: who has nothing more to type says so with one of them.
pub(crate) fn keys(terminal: &Terminal) -> io::Result<pipe::Sender> {
    pipe::Sender::from_owned_fd_unchecked(ours(terminal)?)
}

impl AsyncRead for Screen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}
