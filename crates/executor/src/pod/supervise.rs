//! The supervisor, beside the step's containers: it lets them begin, takes what the step made when it has ended, ends the
//! sidecars, and writes the one report before the pod can end. It never sees the step's ServiceAccount.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::signal::unix::{SignalKind, signal};
use windlass_artifacts::Cancel;
use windlass_model::parameter::Outputs;
use windlass_model::places;
use windlass_model::task::{ContainerSetTask, Task, Turn, dependency_failed};

use super::link::{self, Ended, Hello, Orders};
use super::{open_shared, secrets, shared, stores, task};
use crate::{outputs, progress, report, work};

/// No result is longer, whatever the other end announces.
const RESULT_BYTES_MAX: u64 = 1 << 20;
const EXCHANGE_BYTES_MAX: u64 = 4 << 20;

/// A connection, after its first word.
enum Guest {
    Main(UnixStream),
    /// A container of a set, by its name.
    Member(String, UnixStream),
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
    if !task.is_ours() {
        follow_progress(task.clone());
    }
    let made = match &task.container_set {
        Some(set) => attend_set(&task, set, &guests, sidecars, &told),
        None => attend(&task, &guests, sidecars, &told),
    };
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
        Ok(Some(hello)) if hello.role == places::MEMBER => Guest::Member(hello.name, stream),
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
            Ok(Guest::Member(..)) | Err(_) => {}
        }
        match ended.try_recv() {
            Ok(News::Ended(_)) => sidecars.clear(),
            Ok(News::Made(_, made)) => return *made,
            Err(std::sync::mpsc::TryRecvError::Disconnected) if done.is_none() => return Made::default(),
            Err(_) if done.is_some() && stopped.load(Ordering::Relaxed) => return Made::default(),
            Err(_) => {}
        }
    }
}

/// Lets the containers of a set begin in their order, until all of them have ended; then the sidecars.
fn attend_set(
    task: &Task,
    set: &ContainerSetTask,
    guests: &Receiver<Guest>,
    mut sidecars: Vec<UnixStream>,
    stopped: &AtomicBool,
) -> Made {
    let (news, ended) = channel();
    let mut waiting: BTreeMap<String, UnixStream> = BTreeMap::new();
    let mut begun = BTreeSet::new();
    let mut codes: BTreeMap<String, i32> = BTreeMap::new();
    let mut all = Made { succeeded: true, ended: true, ..Made::default() };
    let mut serving = 0;
    loop {
        match guests.recv_timeout(std::time::Duration::from_millis(20)) {
            Ok(Guest::Sidecar(mut stream)) => {
                if link::say(&mut stream, &Orders::default()).is_ok() {
                    sidecars.push(stream);
                }
            }
            // The first of a name is the container; the user's program may not be another.
            Ok(Guest::Member(name, stream)) if set.container(&name).is_some() && begun.insert(name.clone()) => {
                waiting.insert(name, stream);
            }
            Ok(Guest::Member(..) | Guest::Main(_)) | Err(_) => {}
        }
        while let Ok(told) = ended.try_recv() {
            match told {
                News::Ended((name, code)) => drop(codes.insert(name, code)),
                News::Made(name, made) => {
                    serving -= 1;
                    // Killed with its wrapper, it never said its last word.
                    codes.entry(name).or_insert(if made.ended { 0 } else { KILLED });
                    all.outputs.parameters.extend(made.outputs.parameters);
                    all.outputs.artifacts.extend(made.outputs.artifacts);
                    all.outputs.result = all.outputs.result.or(made.outputs.result);
                    all.problem = all.problem.or(made.problem);
                }
            }
        }
        for name in waiting.keys().cloned().collect::<Vec<_>>() {
            match set.turn(&name, |other| codes.get(other).copied()) {
                Turn::Wait => {}
                Turn::Begin => {
                    let Some(stream) = waiting.remove(&name) else { continue };
                    serving += 1;
                    let (task, news) = (task.clone(), news.clone());
                    std::thread::spawn(move || {
                        let served = serve(&task, &name, stream, &news);
                        let _ = news.send(News::Made(name, Box::new(served.unwrap_or_default())));
                    });
                }
                Turn::Never { dependency, code } => {
                    if let Some(mut stream) = waiting.remove(&name) {
                        let never = Some(dependency_failed(&dependency, code));
                        let _ = link::say(&mut stream, &Orders { never, ..Orders::default() });
                    }
                    codes.insert(name, code);
                }
            }
        }
        if codes.len() == set.containers.len() && serving == 0 {
            drop(sidecars);
            all.succeeded = codes.values().all(|code| *code == 0);
            return all;
        }
        // Stopped: what never came will not come, and who waits has been told by the signal itself.
        if serving == 0 && stopped.load(Ordering::Relaxed) {
            all.succeeded = false;
            return all;
        }
    }
}

/// The code of who was killed and could not say so.
const KILLED: i32 = 137;

enum News {
    /// The command of this container has ended with this code; its outputs are being taken.
    Ended((String, i32)),
    /// What it handed over.
    Made(String, Box<Made>),
}

fn serve_main(task: &Task, stream: UnixStream, news: &Sender<News>) -> io::Result<()> {
    let made = serve(task, places::MAIN, stream, news)?;
    // Killed with its wrapper: the pod's status says why.
    if made.ended {
        let _ = news.send(News::Made(places::MAIN.to_owned(), Box::new(made)));
    }
    Ok(())
}

/// One command of the step's own, from its beginning to what it made.
fn serve(task: &Task, name: &str, mut stream: UnixStream, news: &Sender<News>) -> io::Result<Made> {
    let is_main = name == places::MAIN;
    let request = if is_main && !task.is_ours() { outputs::request(task) } else { Ok(None) };
    let (request, fault) = match request {
        Ok(request) => (request, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let capture = task.include_result && is_main && !task.is_ours();
    let keep_log = task.logs().any(|(container, _)| container == name).then(|| places::kept_log(name));
    let (attempts, pause_ms) = task.container_set.as_ref().map_or((1, 0), |set| (set.attempts, set.pause_ms));
    let orders = Orders { capture, keep_log, request: request.clone(), attempts, pause_ms, never: None };
    link::say(&mut stream, &orders)?;
    let mut from = BufReader::with_capacity(64 * 1024, &stream);
    let ended: Option<Ended> = link::hear(&mut from)?;
    // A set's others go on when what this one made is taken: it may be in a volume that they use.
    let last = |code| drop(news.send(News::Ended((name.to_owned(), code))));
    let Some(ended) = ended else {
        last(KILLED);
        return Ok(Made::default());
    };
    if task.container_set.is_none() {
        last(ended.code);
    }
    let mut made = Made { succeeded: ended.code == 0, ended: true, problem: fault, ..Made::default() };
    let mut result = Vec::new();
    (&mut from).take(ended.result_bytes.min(RESULT_BYTES_MAX)).read_to_end(&mut result)?;
    if request.is_some() {
        match stores(places::SUPERVISE, task).and_then(|stores| Ok((stores, secrets(task)?))) {
            Ok((stores, secrets)) => {
                let (outputs, error) = outputs::collect(task, &mut from, &stores, &secrets, &Cancel::new());
                made.outputs = outputs;
                made.problem = made.problem.or(error.map(|e| e.to_string()));
            }
            Err(error) => made.problem = Some(error),
        }
    }
    if capture {
        made.outputs.result = Some(outputs::trimmed(String::from_utf8_lossy(&result).into_owned()));
    }
    if task.container_set.is_some() {
        last(ended.code);
    }
    Ok(made)
}

/// Adds what is in the shared directory, and writes the report. An error is the infrastructure's.
fn report(runtime: &tokio::runtime::Runtime, task: &Task, mut made: Made) -> Result<(), String> {
    if task.is_ours() {
        let file = Path::new(places::RUN_DIR).join(work::OUTPUTS_FILE);
        let read = shared(&file.to_string_lossy(), EXCHANGE_BYTES_MAX).map_err(|e| format!("outputs: {e}"));
        match read {
            Ok(None) => {}
            Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
                Ok(outputs) => made.outputs = outputs,
                Err(error) => made.problem = made.problem.or(Some(format!("outputs: {error}"))),
            },
            Err(error) => made.problem = made.problem.or(Some(error)),
        }
    }
    for (container, artifact) in task.logs().filter(|_| made.ended) {
        match keep_log(task, container, artifact) {
            Ok(true) => made.outputs.artifacts.push(artifact.clone()),
            Ok(false) => {}
            Err(error) => made.problem = made.problem.or(Some(error)),
        }
    }
    // A container that failed says why by its exit code; outputs that it did not make are no reason.
    let problem = made.problem.filter(|_| made.succeeded);
    let told = progress::read(&progress_file());
    if let Some(object) = report::task_result(task, &made.outputs, problem.as_deref(), told.as_deref()) {
        let sent = runtime.block_on(async {
            let (client, namespace) = api()?;
            report::send(&client, &namespace, &task.node_id, object).await
        });
        sent?;
    }
    problem.map_or(Ok(()), Err)
}

fn progress_file() -> PathBuf {
    Path::new(places::RUN_DIR).join(places::PROGRESS_FILE)
}

/// The API, and the namespace of this pod.
fn api() -> Result<(kube::Client, String), String> {
    windlass_artifacts::git::ensure_tls();
    let config = kube::Config::incluster().map_err(|e| format!("no API to report to: {e}"))?;
    let namespace = config.default_namespace.clone();
    let client = kube::Client::try_from(config).map_err(|e| format!("no API to report to: {e}"))?;
    Ok((client, namespace))
}

/// Tells the step's progress as it changes, as long as this process lives.
fn follow_progress(task: Task) {
    let follow = move || -> Option<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let mut last = None;
        loop {
            std::thread::sleep(progress::PAUSE);
            let now = progress::read(&progress_file());
            if let Some(text) = now.as_deref().filter(|text| last.as_deref() != Some(*text)) {
                let sent = runtime.block_on(async {
                    let (client, namespace) = api()?;
                    report::send_progress(&client, &namespace, &task, text).await
                });
                // What is not told now is told with the next change, or in the end.
                if let Err(problem) = sent {
                    eprintln!("progress: {problem}");
                }
                last = now;
            }
        }
    };
    std::thread::spawn(follow);
}

/// False where a container of a set never ran.
fn keep_log(task: &Task, container: &str, artifact: &windlass_model::Artifact) -> Result<bool, String> {
    let log = open_shared(&places::kept_log(container)).map_err(|e| format!("log: {e}"))?;
    if log.is_none() && task.container_set.is_some() {
        return Ok(false);
    }
    let (stores, secrets) = (stores(places::SUPERVISE, task)?, secrets(task)?);
    let mut empty = io::empty();
    let mut log = log;
    let from: &mut dyn Read = match &mut log {
        Some(file) => file,
        None => &mut empty,
    };
    outputs::save_stream(artifact, from, &stores, &secrets, &Cancel::new()).map_err(|e| e.to_string())?;
    Ok(true)
}
