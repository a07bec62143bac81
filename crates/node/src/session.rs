//! Sessions with what runs here: a further process in a container, the container's own streams, a pod's ports. The table
//! of what runs is kept by the containers themselves. Whoever drops a session ends what was started for it; it never ends
//! a container.

use crate::agent::Agent;
use crate::audience::{Audience, Keyboard, Voice};
use crate::setup::Setup;
use crate::terminal::{self, Screen};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;
use windlass_sandbox::{Error, ExecSpec, Spec, Stdio};

/// How long a process has whose caller left: first it is hung up on, then killed.
const HANGUP: Duration = Duration::from_secs(2);

/// Which streams are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal, which is all three.
    pub tty: bool,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Nothing of that name runs: wait, or give up.
    #[error("{0}")]
    NotRunning(String),
    /// The process could not be started: give up.
    #[error("{0}")]
    Failed(String),
}

/// Tells a terminal its size, as columns and rows.
pub type Resize = Box<dyn Fn(u16, u16) + Send + Sync>;

/// A process as its caller holds it.
pub struct Session {
    /// What is typed.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What is printed.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// What is printed as errors.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where there is a terminal.
    pub resize: Option<Resize>,
    /// The exit code of a process that was started for the session; nothing for a container's own.
    pub ended: BoxFuture<'static, Option<i32>>,
}

/// The ports of one pod, on its own loopback. They do not keep the pod's network: it may serve another pod afterwards.
#[derive(Clone)]
pub struct PodPorts {
    setup: Weak<Setup>,
    name: String,
}

/// A container that runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) process: windlass_sandbox::Container,
    pub(crate) spec: Arc<Spec>,
    pub(crate) audience: Audience,
    pub(crate) keyboard: Option<Keyboard>,
}

/// What runs, by the pod's UID and the container's name; and the pods that are set up.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    containers: HashMap<(String, String), Running>,
    pods: HashMap<String, Weak<Setup>>,
}

/// Takes a container out of the table when it has ended.
pub(crate) struct Listed {
    sessions: Sessions,
    key: (String, String),
}

impl Drop for Listed {
    fn drop(&mut self) {
        let running = self.sessions.lock().containers.remove(&self.key);
        if let Some(running) = running {
            running.audience.dismiss();
        }
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container runs, until the answer is dropped.
    pub(crate) fn list(&self, uid: &str, container: &str, running: Running) -> Listed {
        let key = (uid.to_owned(), container.to_owned());
        self.lock().containers.insert(key.clone(), running);
        Listed { sessions: self.clone(), key }
    }

    /// A pod has its network, for as long as its setup.
    pub(crate) fn note_pod(&self, uid: &str, setup: &Arc<Setup>) {
        let mut table = self.lock();
        table.pods.retain(|_, setup| setup.strong_count() > 0);
        table.pods.insert(uid.to_owned(), Arc::downgrade(setup));
    }

    fn running(&self, uid: &str, container: &str) -> Option<Running> {
        let found = self.lock().containers.get(&(uid.to_owned(), container.to_owned())).cloned();
        found.filter(|running| running.process.exit().is_none())
    }
}

impl Agent {
    /// Starts `command` in a running container, with its user, directory, environment and privileges.
    pub async fn exec(
        &self,
        uid: &str,
        container: &str,
        command: Vec<String>,
        wanted: Wanted,
    ) -> Result<Session, SessionError> {
        let gone = || SessionError::NotRunning(format!("container not found ({container:?})"));
        let running = self.sessions().running(uid, container).ok_or_else(gone)?;
        if command.is_empty() {
            return Err(SessionError::Failed("failed to exec in container: the command is empty".to_owned()));
        }
        let mut spec = ExecSpec::like(&running.spec, command);
        let failed = |error: io::Error| SessionError::Failed(format!("failed to exec in container: {error}"));
        let (stdio, ours) = if wanted.tty {
            if !spec.env.iter().any(|(name, _)| name == "TERM") {
                spec.env.push(("TERM".to_owned(), "xterm".to_owned()));
            }
            (Stdio::terminal(), Pipes::default())
        } else {
            pipes(wanted).map_err(failed)?
        };
        let program = spec.args.first().cloned().unwrap_or_default();
        let process = match running.process.exec(spec, stdio).await {
            Ok(process) => process,
            Err(_) if running.process.exit().is_some() => return Err(gone()),
            Err(error) => {
                return Err(SessionError::Failed(format!("failed to exec in container: {}", why(&program, &error))));
            }
        };
        let left = Left(process.clone());
        let mut session = Session {
            stdin: ours.stdin.map(|s| Box::new(s) as _),
            stdout: ours.stdout.map(|s| Box::new(s) as _),
            stderr: ours.stderr.map(|s| Box::new(s) as _),
            resize: None,
            ended: Box::pin(async move {
                let exit = left.0.wait().await;
                Some(exit.code)
            }),
        };
        if let Some(terminal) = process.terminal() {
            if wanted.stdin {
                session.stdin = Some(Box::new(terminal::keys(terminal).map_err(failed)?));
            }
            if wanted.stdout {
                session.stdout = Some(Box::new(Screen::of(terminal).map_err(failed)?));
            }
            session.resize = Some(resizer(process));
        }
        Ok(session)
    }

    /// The streams of a running container's own process, from now on.
    pub fn attach(&self, uid: &str, pod: &str, container: &str, wanted: Wanted) -> Result<Session, SessionError> {
        let Some(running) = self.sessions().running(uid, container) else {
            return Err(SessionError::NotRunning(format!("container {container} not found in pod {pod}")));
        };
        let listen = |voice| -> Box<dyn AsyncRead + Send + Unpin> {
            let heard = ReceiverStream::new(running.audience.listen(voice));
            Box::new(StreamReader::new(heard.map(Ok::<Bytes, io::Error>)))
        };
        let stdout = wanted.stdout.then(|| listen(Voice::Out));
        let stderr = wanted.stderr.then(|| listen(Voice::Err));
        let typist = running.keyboard.as_ref().filter(|_| wanted.stdin).map(Keyboard::typist);
        let process = running.process.clone();
        let resize = process.terminal().is_some().then(|| resizer(process.clone()));
        Ok(Session {
            stdin: typist.map(|t| Box::new(t) as _),
            stdout,
            stderr,
            resize,
            ended: Box::pin(async move {
                process.wait().await;
                None
            }),
        })
    }

    /// The ports of a pod that is set up. `name` is how a refusal calls it.
    pub fn ports(&self, uid: &str, name: &str) -> Result<PodPorts, SessionError> {
        let setup = self.sessions().lock().pods.get(uid).cloned();
        match setup.filter(|setup| setup.strong_count() > 0) {
            Some(setup) => Ok(PodPorts { setup, name: name.to_owned() }),
            None => Err(SessionError::NotRunning(format!("pod not found ({name:?})"))),
        }
    }
}

impl PodPorts {
    /// A connection to a port on the pod's loopback.
    pub async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let setup = self.setup.upgrade().ok_or_else(|| format!("pod not found ({:?})", self.name))?;
        let mut refused = Vec::new();
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
            let connected = match &setup.attachment {
                Some(attachment) => attachment.netns().tcp_connect(address).await.map_err(|e| e.to_string()),
                None => TcpStream::connect(address).await.map_err(|e| e.to_string()),
            };
            match connected {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(why) => refused.push(why),
            }
        }
        Err(format!("failed to connect to localhost:{port} inside the pod: {}", refused.swap_remove(0)))
    }
}

/// Ends a process, and those whom it started, when its caller has left before it ended.
pub(crate) struct Left(pub(crate) windlass_sandbox::Container);

impl Drop for Left {
    fn drop(&mut self) {
        if self.0.exit().is_some() {
            return;
        }
        let process = self.0.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            let _ = process.signal_group(9);
            return;
        };
        runtime.spawn(async move {
            let _ = process.signal_group(rustix::process::Signal::HUP.as_raw());
            let _ = tokio::time::timeout(HANGUP, process.wait()).await;
            // Also where it has ended: those whom it started may be left.
            let _ = process.signal_group(rustix::process::Signal::KILL.as_raw());
        });
    }
}

#[derive(Default)]
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

fn pipes(wanted: Wanted) -> io::Result<(Stdio, Pipes)> {
    let (mut stdio, mut ours) = (Stdio::null(), Pipes::default());
    if wanted.stdin {
        let (reader, writer) = io::pipe()?;
        stdio.stdin = Some(reader.into());
        ours.stdin = Some(pipe::Sender::from_owned_fd(writer.into())?);
    }
    if wanted.stdout {
        let (reader, writer) = io::pipe()?;
        stdio.stdout = Some(writer.into());
        ours.stdout = Some(pipe::Receiver::from_owned_fd(reader.into())?);
    }
    if wanted.stderr {
        let (reader, writer) = io::pipe()?;
        stdio.stderr = Some(writer.into());
        ours.stderr = Some(pipe::Receiver::from_owned_fd(reader.into())?);
    }
    Ok((stdio, ours))
}

fn resizer(process: windlass_sandbox::Container) -> Resize {
    Box::new(move |columns, rows| {
        if let Some(terminal) = process.terminal()
            && let Err(error) = terminal.resize(columns, rows)
        {
            tracing::debug!(%error, "a terminal keeps its size");
        }
    })
}

/// Why a program did not start, in the words that container runtimes use and people look for.
fn why(program: &str, error: &Error) -> String {
    let Error::Start(start) = error else { return error.to_string() };
    if !start.exec {
        return error.to_string();
    }
    match (error.exit_code(), program.contains('/')) {
        (127, false) => format!("exec: {program:?}: executable file not found in $PATH"),
        (127, true) => format!("exec: {program:?}: stat {program}: no such file or directory"),
        _ => format!("exec: {program:?}: {}", io::Error::from_raw_os_error(start.errno)),
    }
}
