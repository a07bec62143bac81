//! In front of the user's command, in the user's container: begins it when the supervisor says so, passes signals on,
//! and hands its outputs over when it has ended. Nothing of the command's doing may keep it from ending when the command
//! has.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use windlass_artifacts::Root;
use windlass_model::places;

use super::link::{self, Ended, Hello, Orders};
use crate::worker::{self, Request};

/// The supervisor's container is started before this one.
const SUPERVISOR_MAX: Duration = Duration::from_secs(120);
/// `outputs.result` keeps the end of what was printed.
const RESULT_BYTES_MAX: usize = 256 * 1024;
/// How long what a command leaves running may hold its output open.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// A sidecar that does not end by itself is killed after so long.
const SIDECAR_GRACE: Duration = Duration::from_secs(10);

type Answer = Result<i32, String>;

/// `member NAME -- COMMAND…`
pub(super) fn member(words: &[OsString]) -> Answer {
    let (name, words) = words.split_first().ok_or("executor member: the container has no name")?;
    let hello = Hello { role: places::MEMBER.to_owned(), name: name.to_string_lossy().into_owned() };
    carry_out(&hello, words)
}

/// `main -- COMMAND…`
pub(super) fn main(words: &[OsString]) -> Answer {
    carry_out(&Hello { role: places::MAIN.to_owned(), name: String::new() }, words)
}

fn carry_out(hello: &Hello, words: &[OsString]) -> Answer {
    let (mut socket, orders) = connect(hello)?.ok_or("the supervisor has ended")?;
    if let Some(why) = orders.never {
        return Err(why);
    }
    let kept = Arc::new(Mutex::new(Vec::new()));
    let status = runtime()?.block_on(async {
        let tee = Tee::new(orders.capture.then(|| kept.clone()), orders.keep_log.as_deref())?;
        let mut left = orders.attempts.max(1);
        loop {
            left -= 1;
            let mut child = start(words, orders.capture || orders.keep_log.is_some())?;
            let drained = tee.follow(&mut child);
            let (status, told) = attend(&mut child, std::future::pending()).await?;
            let _ = tokio::time::timeout(DRAIN_MAX, drained).await;
            // Who is told to end is not tried again.
            if status.success() || left == 0 || told {
                return Ok::<_, String>(status);
            }
            tokio::time::sleep(Duration::from_millis(orders.pause_ms)).await;
        }
    });
    let code = match &status {
        Ok(status) => code(*status),
        Err(_) => places::EXIT_EXECUTOR,
    };
    // The supervisor hears of a command that could not be started, too; there is nothing of it to read. If the supervisor is
    // gone, its own end says so.
    let request = orders.request.as_ref().filter(|_| status.is_ok());
    if let Err(error) = hand_over(&mut socket, code, &kept, request) {
        eprintln!("handing the step's outputs over: {error}");
    }
    status.map(|_| code)
}

/// `sidecar -- COMMAND…`
pub(super) fn sidecar(words: &[OsString]) -> Answer {
    // A sidecar that comes when the step has ended has nothing to do.
    let hello = Hello { role: places::SIDECAR.to_owned(), name: String::new() };
    let Some((socket, _)) = connect(&hello)? else { return Ok(0) };
    let (told, over) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Nothing more is said: the connection ends when the step does.
        let _ = (&socket).read(&mut [0; 1]);
        let _ = told.send(());
    });
    runtime()?.block_on(async {
        let mut child = start(words, false)?;
        let over = async {
            let _ = over.await;
        };
        attend(&mut child, over).await.map(|(status, _)| code(status))
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("executor: {e}"))
}

/// Waits for the supervisor, and for its word that the command may begin.
fn connect(hello: &Hello) -> Result<Option<(UnixStream, Orders)>, String> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    let mut socket = loop {
        match UnixStream::connect(places::SOCKET) {
            Ok(socket) => break socket,
            Err(error) if begun.elapsed() > SUPERVISOR_MAX => {
                return Err(format!("the supervisor does not answer at {}: {error}", places::SOCKET));
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    let failed = |e: io::Error| format!("the supervisor: {e}");
    link::say(&mut socket, hello).map_err(failed)?;
    // Nothing is said after the orders, so that nothing is lost with the buffer.
    let orders = link::hear(&mut BufReader::new(&socket)).map_err(failed)?;
    Ok(orders.map(|orders| (socket, orders)))
}

fn start(words: &[OsString], piped: bool) -> Result<Child, String> {
    let words = match words.split_first() {
        Some((dashes, words)) if dashes == "--" => words,
        _ => words,
    };
    let (program, arguments) = words.split_first().ok_or("there is no command to run")?;
    let mut command = Command::new(program);
    command.args(arguments);
    if piped {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    command.spawn().map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => return absent(&program.to_string_lossy()),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("exec {program:?}: {why}")
    })
}

/// That there is no such program, in the words of Argo's executor. The engine has the same for a container that nobody
/// wraps.
fn absent(program: &str) -> String {
    let why = match program.contains('/') {
        true => format!("stat {program}: no such file or directory"),
        false => "executable file not found in $PATH".to_owned(),
    };
    format!("failed to find name in PATH: exec: {program:?}: {why}")
}

/// Waits for the command's end and passes signals on; answers too whether it was told to end. When `over` is, it is ended:
/// asked to, and after a while killed.
async fn attend(child: &mut Child, over: impl Future<Output = ()>) -> Result<(ExitStatus, bool), String> {
    let listen = |kind| signal(kind).map_err(|e| format!("executor: signals: {e}"));
    let (mut term, mut int, mut hup, mut quit) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
        listen(SignalKind::hangup())?,
        listen(SignalKind::quit())?,
    );
    let (mut usr1, mut usr2) = (listen(SignalKind::user_defined1())?, listen(SignalKind::user_defined2())?);
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let tell = |signal: Signal| {
        if let Some(pid) = pid {
            let _ended_already = kill_process(pid, signal);
        }
    };
    tokio::pin!(over);
    let (mut is_over, mut told) = (false, false);
    let mut kill_at = None;
    loop {
        let killing = async {
            match kill_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = child.wait() => {
                return status.map(|s| (s, told)).map_err(|e| format!("waiting for the command: {e}"));
            }
            _ = term.recv() => {
                told = true;
                tell(Signal::TERM);
            }
            _ = int.recv() => {
                told = true;
                tell(Signal::INT);
            }
            _ = hup.recv() => tell(Signal::HUP),
            _ = quit.recv() => tell(Signal::QUIT),
            _ = usr1.recv() => tell(Signal::USR1),
            _ = usr2.recv() => tell(Signal::USR2),
            () = &mut over, if !is_over => {
                is_over = true;
                tell(Signal::TERM);
                kill_at = Some(tokio::time::Instant::now() + SIDECAR_GRACE);
            }
            () = killing => {
                tell(Signal::KILL);
                kill_at = None;
            }
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Where the command's output goes, beside the container's own.
#[derive(Clone)]
struct Tee {
    kept: Option<Arc<Mutex<Vec<u8>>>>,
    log: Option<Arc<std::fs::File>>,
}

impl Tee {
    fn new(kept: Option<Arc<Mutex<Vec<u8>>>>, keep_log: Option<&str>) -> Result<Self, String> {
        let log = |path: &str| {
            let mut options = std::fs::File::options();
            options.create(true).append(true).mode(0o644);
            options.open(path).map_err(|e| format!("{path}: {e}"))
        };
        Ok(Self { kept, log: keep_log.map(log).transpose()?.map(Arc::new) })
    }

    /// Copies both streams; the answer resolves when nobody holds them any more.
    fn follow(&self, child: &mut Child) -> impl Future<Output = ()> + use<> {
        let out = child.stdout.take().map(|stream| tokio::spawn(self.clone().copy(stream, false)));
        let err = child.stderr.take().map(|stream| tokio::spawn(self.clone().copy(stream, true)));
        async move {
            for task in [out, err].into_iter().flatten() {
                let _ = task.await;
            }
        }
    }

    async fn copy(self, mut from: impl tokio::io::AsyncRead + Unpin, is_err: bool) {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            let bytes = &chunk[..n];
            // The container runtime's pipe; it may make us wait, as it would the command.
            let _ = match is_err {
                true => io::stderr().write_all(bytes),
                false => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
            };
            if let Some(log) = &self.log {
                let _ = (&**log).write_all(bytes);
            }
            if !is_err && let Some(kept) = &self.kept {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(bytes);
                let surplus = kept.len().saturating_sub(RESULT_BYTES_MAX);
                if surplus > RESULT_BYTES_MAX {
                    kept.drain(..surplus);
                }
            }
        }
    }
}

fn hand_over(socket: &mut UnixStream, code: i32, kept: &Mutex<Vec<u8>>, request: Option<&Request>) -> io::Result<()> {
    let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    let result = &kept[kept.len().saturating_sub(RESULT_BYTES_MAX)..];
    let mut out = BufWriter::with_capacity(64 * 1024, &mut *socket);
    link::say(&mut out, &Ended { code, result_bytes: result.len() as u64 })?;
    out.write_all(result)?;
    if let Some(request) = request {
        worker::serve(request, &Root::open(Path::new("/"))?, &mut out)?;
    }
    out.flush()?;
    drop(out);
    socket.shutdown(Shutdown::Write)
}
