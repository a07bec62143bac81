//! Containers for real. A host is entered while the process has one thread, so that this has its own `main`: it runs
//! the cases one after the other, as root where it is root and then again as an ordinary user.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod cases;
mod root;
mod switch;
mod terminals;
mod work;

use std::{
    future::Future,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Command, ExitCode},
    time::Duration,
};

use windlass_sandbox::{EnterOptions, Host, Probe};

/// What every case gets.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) host: Host,
    /// A layer with busybox, owned by whoever runs this.
    pub(crate) layer: PathBuf,
    pub(crate) scratch: PathBuf,
}

type Case = fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Names and cases; a case that cannot run here says why.
pub(crate) type List = Vec<(&'static str, fn(&Probe) -> Result<(), String>, Case)>;

const ORDINARY_USER: u32 = 65534;

fn main() -> ExitCode {
    windlass_sandbox::early();
    if std::env::args().next().as_deref() == Some(work::ROLE) {
        work::main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1)).cloned();
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Some(scratch) = value("--victim") {
        return root::victim(Path::new(&scratch));
    }
    if let Some(scratch) = value("--passing") {
        return root::passing(Path::new(&scratch));
    }
    let filter = match arguments.first() {
        Some(first) if !first.starts_with('-') => first.clone(),
        _ => value("--only").unwrap_or_default(),
    };
    let as_root = rustix_is_root();
    let directory = tempfile::Builder::new().prefix("windlass-sandbox-it-").tempdir().unwrap();
    let layer = directory.path().join("layer");
    if let Err(why) = root::build(&layer) {
        println!("NOT RUN: the container cases need a static busybox (package busybox-static): {why}");
        return ExitCode::from(if std::env::var_os("CI").is_some() { 1 } else { 0 });
    }
    let scratch = directory.path().join("scratch");
    let tmpfs_bytes = value("--tmpfs").map(|t| t.parse().unwrap());
    let options = EnterOptions { tmpfs_bytes, ..EnterOptions::new(&scratch) };
    let host = match Host::enter(options) {
        Ok(host) => host,
        Err(error) => {
            println!("NOT RUN: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{:#?}", host.probe());
    let bench = Bench { host: host.clone(), layer, scratch: directory.path().to_owned() };
    let (passed, failed, not_run) = run(&bench, &filter);
    println!("{passed} passed, {failed} failed, {not_run} not run");
    let mut ok = failed == 0;
    // The same again as somebody else, and with scratch on disk.
    if as_root && value("--only").is_none() {
        for (user, extra) in [(Some(ORDINARY_USER), vec![]), (None, vec!["--tmpfs", "0"])] {
            println!("\nas {}, {extra:?}:", user.map_or("root".into(), |u| format!("user {u}")));
            ok &= again(user, &extra, &filter);
        }
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn rustix_is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|l| l.starts_with("Uid:\t0\t"))
}

/// Run this program again in a child: from a copy, since an ordinary user may not reach the original.
fn again(user: Option<u32>, extra: &[&str], filter: &str) -> bool {
    let directory = tempfile::Builder::new().prefix("windlass-sandbox-again-").tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let program = directory.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(program);
    command.arg("--only").arg(filter).args(extra).current_dir("/").env("TMPDIR", "/tmp");
    if let Some(user) = user {
        command.uid(user).gid(user).env_remove("HOME");
    }
    command.status().unwrap().success()
}

fn run(bench: &Bench, filter: &str) -> (u32, u32, u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut passed, mut failed, mut not_run) = (0, 0, 0);
    let all = cases::list()
        .into_iter()
        .chain(switch::list())
        .chain(terminals::list())
        .chain(work::list())
        .chain(root::list());
    for (name, possible, case) in all.filter(|(name, ..)| name.contains(filter)) {
        if let Err(why) = possible(bench.host.probe()) {
            println!("NOT RUN {name}: {why}");
            not_run += 1;
            continue;
        }
        let task = runtime.spawn(case(bench.clone()));
        match runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), task).await }) {
            Ok(Ok(())) => {
                println!("ok {name}");
                passed += 1;
            }
            Ok(Err(error)) => {
                println!("FAILED {name}: {error}");
                failed += 1;
            }
            Err(_) => {
                println!("FAILED {name}: not done after 30 s");
                failed += 1;
            }
        }
    }
    (passed, failed, not_run)
}
