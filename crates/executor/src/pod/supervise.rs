//! The supervisor, beside the step's containers: it lets them begin, takes what the step made when it has ended, ends the
//! sidecars, and writes the one report before the pod can end. It never sees the step's ServiceAccount.

use std::fs::Permissions;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::signal::unix::{SignalKind, signal};
use windlass_artifacts::Cancel;
use windlass_model::parameter::Outputs;
use windlass_model::places;
use windlass_model::task::Task;

use super::link::{self, Ended, Hello, Orders};
use super::{open_shared, secrets, shared, stores, task};
use crate::{outputs, report, resource};

/// No result is longer, whatever the other end announces.
const RESULT_BYTES_MAX: u64 = 1 << 20;
const EXCHANGE_BYTES_MAX: u64 = 4 << 20;

/// A connection, after its first word.
enum Guest {
    Main(UnixStream),
    Sidecar(UnixStream),
}

/// What the step's own container handed over.
#[derive(Default)]
struct Made {
    /// Whether its command ended well.
    succeeded: bool,
    /// Whether it ended at all, so that there is something to take.
    ended: bool,
    outputs: Outputs,
    problem: Option<String>,
}

/// `supervise`
pub(super) fn run() -> Result<(), String> {
    let task = task()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("executor: {e}"))?;
    let told = stopped()?;
    let guests = listen()?;
    let sidecars = Vec::new();
    let made = attend(&task, &guests, sidecars, &told);
    report(&runtime, &task, made)
}

/// Whether somebody stops the pod. Whoever does stops the step, and this container ends after it, by itself; only where the
/// step never came there is nothing to wait for.
fn stopped() -> Result<Arc<AtomicBool>, String> {
    let told = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("executor: {e}"))?;
    let hear = |kind| {
        let _inside = runtime.enter();
        signal(kind).map_err(|e| format!("executor: signals: {e}"))
    };
    let (mut term, mut int) = (hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?);
    let flag = told.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            flag.store(true, Ordering::Relaxed);
            // Held, so that further signals have no effect either.
            loop {
                term.recv().await;
            }
        });
    });
    Ok(told)
}

fn listen() -> Result<Receiver<Guest>, String> {
    let at = |e: io::Error| format!("{}: {e}", places::SOCKET);
    let _ = std::fs::remove_file(places::SOCKET);
    let listener = UnixListener::bind(places::SOCKET).map_err(at)?;
    // The user's containers may run as anybody.
    std::fs::set_permissions(places::SOCKET, Permissions::from_mode(0o777)).map_err(at)?;
    let (sender, guests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || welcome(stream, &sender));
        }
    });
    Ok(guests)
}

fn welcome(stream: UnixStream, sender: &Sender<Guest>) {
    let hello: io::Result<Option<Hello>> = link::hear(&mut BufReader::new(&stream));
    let guest = match hello {
        Ok(Some(hello)) if hello.role == places::MAIN => Guest::Main(stream),
        Ok(Some(hello)) if hello.role == places::SIDECAR => Guest::Sidecar(stream),
        _ => return,
    };
    let _ = sender.send(guest);
}

/// Lets everybody begin until the step's own command has ended. Dropping a sidecar's connection ends it.
fn attend(task: &Task, guests: &Receiver<Guest>, mut sidecars: Vec<UnixStream>, stopped: &AtomicBool) -> Made {
    let (done, ended) = channel();
    let mut done = Some(done);
    loop {
        // Both kinds of news come through one wait.
        match guests.recv_timeout(std::time::Duration::from_millis(50)) {
            Ok(Guest::Sidecar(mut stream)) => {
                if link::say(&mut stream, &Orders::default()).is_ok() {
                    sidecars.push(stream);
                }
            }
            // The first is the step's own; the user's program may not be another.
            Ok(Guest::Main(stream)) => {
                if let Some(done) = done.take() {
                    let task = task.clone();
                    std::thread::spawn(move || {
                        let _ = serve_main(&task, stream, &done);
                    });
                }
            }
            Err(_) => {}
        }
        match ended.try_recv() {
            Ok(News::Ended) => sidecars.clear(),
            Ok(News::Made(made)) => return *made,
            Err(std::sync::mpsc::TryRecvError::Disconnected) if done.is_none() => return Made::default(),
            Err(_) if done.is_some() && stopped.load(Ordering::Relaxed) => return Made::default(),
            Err(_) => {}
        }
    }
}

enum News {
    /// The command has ended; its outputs are being taken.
    Ended,
    Made(Box<Made>),
}

fn serve_main(task: &Task, mut stream: UnixStream, news: &Sender<News>) -> io::Result<()> {
    let request = match task.resource {
        Some(_) => Ok(None),
        None => outputs::request(task),
    };
    let (request, fault) = match request {
        Ok(request) => (request, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let orders = Orders { capture: task.include_result, keep_log: task.archive_logs, request: request.clone() };
    link::say(&mut stream, &orders)?;
    let mut from = BufReader::with_capacity(64 * 1024, &stream);
    let ended: Option<Ended> = link::hear(&mut from)?;
    let _ = news.send(News::Ended);
    // Killed with its wrapper: the pod's status says why.
    let Some(ended) = ended else { return Ok(()) };
    let mut made = Made { succeeded: ended.code == 0, ended: true, problem: fault, ..Made::default() };
    let mut result = Vec::new();
    (&mut from).take(ended.result_bytes.min(RESULT_BYTES_MAX)).read_to_end(&mut result)?;
    if request.is_some() {
        match stores(places::SUPERVISE).and_then(|stores| Ok((stores, secrets(task)?))) {
            Ok((stores, secrets)) => {
                let (outputs, error) = outputs::collect(task, &mut from, &stores, &secrets, &Cancel::new());
                made.outputs = outputs;
                made.problem = made.problem.or(error.map(|e| e.to_string()));
            }
            Err(error) => made.problem = Some(error),
        }
    }
    if task.include_result {
        made.outputs.result = Some(outputs::trimmed(String::from_utf8_lossy(&result).into_owned()));
    }
    let _ = news.send(News::Made(Box::new(made)));
    Ok(())
}

/// Adds what is in the shared directory, and writes the report. An error is the infrastructure's.
fn report(runtime: &tokio::runtime::Runtime, task: &Task, mut made: Made) -> Result<(), String> {
    if task.resource.is_some() {
        let file = Path::new(places::RUN_DIR).join(resource::OUTPUTS_FILE);
        let read = shared(&file.to_string_lossy(), EXCHANGE_BYTES_MAX).map_err(|e| format!("resource outputs: {e}"));
        match read {
            Ok(None) => {}
            Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
                Ok(outputs) => made.outputs = outputs,
                Err(error) => made.problem = made.problem.or(Some(format!("resource outputs: {error}"))),
            },
            Err(error) => made.problem = made.problem.or(Some(error)),
        }
    }
    if let Some(artifact) = task.log_artifact.as_ref().filter(|_| task.archive_logs && made.ended) {
        let saved = keep_log(task, artifact);
        match saved {
            Ok(()) => made.outputs.artifacts.push(artifact.clone()),
            Err(error) => made.problem = made.problem.or(Some(error)),
        }
    }
    // A container that failed says why by its exit code; outputs that it did not make are no reason.
    let problem = made.problem.filter(|_| made.succeeded);
    if let Some(object) = report::task_result(task, &made.outputs, problem.as_deref()) {
        windlass_artifacts::git::ensure_tls();
        let sent = runtime.block_on(async {
            let config = kube::Config::incluster().map_err(|e| format!("no API to report to: {e}"))?;
            let namespace = config.default_namespace.clone();
            let client = kube::Client::try_from(config).map_err(|e| format!("no API to report to: {e}"))?;
            report::send(&client, &namespace, &task.node_id, object).await
        });
        sent?;
    }
    problem.map_or(Ok(()), Err)
}

fn keep_log(task: &Task, artifact: &windlass_model::Artifact) -> Result<(), String> {
    let log = open_shared(places::LOG).map_err(|e| format!("log: {e}"))?;
    let (stores, secrets) = (stores(places::SUPERVISE)?, secrets(task)?);
    let mut empty = io::empty();
    let mut log = log;
    let from: &mut dyn Read = match &mut log {
        Some(file) => file,
        None => &mut empty,
    };
    outputs::save_stream(artifact, from, &stores, &secrets, &Cancel::new()).map_err(|e| e.to_string())
}
