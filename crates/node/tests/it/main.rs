//! Pods for real: an embedded API, the agent and containers. A host is entered while the process has one thread, so that
//! this has its own `main`: it runs the cases one after the other, as root where it is root, then as an ordinary user.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod bench;
mod lives;
mod network;
mod pods;
mod steps;

use bench::Bench;
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use windlass_sandbox::{EnterOptions, Host};

type Case = fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>;
pub type List = Vec<(&'static str, Case)>;

/// A case by its function's name.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), |bench| Box::pin($name(bench)))),*] };
}

const ORDINARY_USER: u32 = 65534;

fn main() -> ExitCode {
    windlass_sandbox::early();
    if let Some(code) = windlass_executor::early() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let again = arguments.iter().any(|a| a == "--once");
    let filter = arguments.iter().find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    let directory = tempfile::Builder::new().prefix("windlass-node-it-").tempdir().unwrap();
    let host = match Host::enter(EnterOptions::new(directory.path().join("scratch"))) {
        Ok(host) => host,
        Err(error) => {
            println!("NOT RUN: {error}");
            return ExitCode::from(if std::env::var_os("CI").is_some() { 1 } else { 0 });
        }
    };
    let layer = directory.path().join("layer");
    if let Err(why) = bench::layer(&layer) {
        println!("NOT RUN: the cases need a static busybox (package busybox-static): {why}");
        return ExitCode::from(if std::env::var_os("CI").is_some() { 1 } else { 0 });
    }
    let mut ok = run(&host, directory.path(), &filter);
    if !again && is_root() {
        println!("\nas user {ORDINARY_USER}:");
        ok &= as_ordinary_user(&filter);
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Runs this program again, from a copy that the user can reach.
fn as_ordinary_user(filter: &str) -> bool {
    let directory = tempfile::Builder::new().prefix("windlass-node-again-").tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let program = directory.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["--once", filter]).current_dir("/").env("TMPDIR", "/tmp").env_remove("HOME");
    command.uid(ORDINARY_USER).gid(ORDINARY_USER).status().unwrap().success()
}

fn run(host: &Host, directory: &Path, filter: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::start(host.clone(), directory));
    let (mut passed, mut failed) = (0, 0);
    let all = pods::list().into_iter().chain(network::list()).chain(steps::list()).chain(lives::list());
    for (name, case) in all.filter(|(name, _)| name.contains(filter)) {
        let begun = Instant::now();
        let namespace = name.replace('_', "-");
        let task = runtime.spawn({
            let bench = bench.clone();
            async move { case(bench.enter(&namespace).await).await }
        });
        let outcome = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), task).await });
        let took = begun.elapsed().as_millis();
        match outcome {
            Ok(Ok(())) => {
                println!("ok {name} ({took} ms)");
                passed += 1;
            }
            Ok(Err(error)) => {
                println!("FAILED {name}: {error}");
                failed += 1;
            }
            Err(_) => {
                println!("FAILED {name}: not done after 60 s");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    runtime.shutdown_timeout(Duration::from_secs(5));
    failed == 0
}
