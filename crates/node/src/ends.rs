//! The agent's ends of a container's own streams: pipes, or a terminal where the Pod asks for one. They are read for the
//! log and for those who attach; standard input is held open where `stdin` asks for it, else it is `/dev/null`.

use crate::audience::Keyboard;
use crate::terminal::{self, Screen};
use k8s_openapi::api::core::v1::Container;
use std::io;
use tokio::io::AsyncRead;
use tokio::net::unix::pipe;
use windlass_sandbox::{Stdio, Terminal};

/// What the agent holds.
pub(crate) struct Ends {
    pub(crate) stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) stderr: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) keyboard: Option<Keyboard>,
}

impl Ends {
    /// Both ends for `container`. Those of a terminal come when it has started.
    pub(crate) fn make(container: &Container) -> io::Result<(Stdio, Self)> {
        if container.tty.unwrap_or(false) {
            let ends =
                Self { stdout: Box::new(tokio::io::empty()), stderr: Box::new(tokio::io::empty()), keyboard: None };
            return Ok((Stdio::terminal(), ends));
        }
        let (out_reader, out_writer) = io::pipe()?;
        let (err_reader, err_writer) = io::pipe()?;
        let mut stdio = Stdio { stdout: Some(out_writer.into()), stderr: Some(err_writer.into()), ..Stdio::null() };
        let mut keyboard = None;
        if container.stdin.unwrap_or(false) {
            let (reader, writer) = io::pipe()?;
            stdio.stdin = Some(reader.into());
            keyboard = Some(Keyboard::new(pipe::Sender::from_owned_fd(writer.into())?, once(container)));
        }
        let ends = Self {
            stdout: Box::new(pipe::Receiver::from_owned_fd(out_reader.into())?),
            stderr: Box::new(pipe::Receiver::from_owned_fd(err_reader.into())?),
            keyboard,
        };
        Ok((stdio, ends))
    }

    /// The container runs on this terminal.
    pub(crate) fn terminal(&mut self, terminal: &Terminal, container: &Container) -> io::Result<()> {
        // A terminal's input has no end that could come with the first who types.
        if container.stdin.unwrap_or(false) {
            self.keyboard = Some(Keyboard::new(terminal::keys(terminal)?, false));
        }
        self.stdout = Box::new(Screen::of(terminal)?);
        Ok(())
    }
}

fn once(container: &Container) -> bool {
    container.stdin_once.unwrap_or(false)
}
