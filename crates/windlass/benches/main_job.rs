//! What the main job costs on this machine, as ratios to floors measured in the same run. Prints, asserts nothing.
//!
//! `main_job [--quick] [--tasks N] [--runs N] [--parallel N]`
//!
//! 1. `run` of hello-world, image present, process start to exit, beside `sh -c echo` and one bare container; and once
//!    more with the finished Pods of 2. stored.
//! 2. A flat DAG of real containers running `true`, beside the bare sandbox runner for as many; writes a Pod. The faster
//!    of two runs each.
//! 3. Memory of `up` at rest.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Io};
use std::time::{Duration, Instant};

use windlass_oci::{Reference, Store};
use windlass_sandbox::net::{Cidr, Netns, Switch};
use windlass_sandbox::{EnterOptions, Host, Rootfs, Spec, Stdio, Upper};

const WINDLASS: &str = env!("CARGO_BIN_EXE_windlass");

/// What one container of the floor gets for a network.
#[derive(Clone, Copy)]
enum Wire {
    /// One namespace for all of them, without a link.
    Shared,
    /// One for each, connected to a switch: what a Pod has.
    Own,
}

fn main() {
    windlass_sandbox::early();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|a| a == "--quick");
    let number = |flag: &str, usual: usize| {
        let given = arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1));
        given.map_or(usual, |n| n.parse().unwrap())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tasks = number("--tasks", if quick { 100 } else { 1000 });
    let runs = number("--runs", if quick { 5 } else { 20 });
    let parallel = number("--parallel", cores * 4);
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let programs = ["busybox", "true", "sh", "echo"].map(|p| ["--program", p]).concat();
    done(windlass(&home).args(["image", "from-host", "busybox"]).args(programs));
    let hello = file(directory.path(), "hello", 0);
    let flat = file(directory.path(), "flat", tasks);

    // Everything that starts processes comes before the sandbox is entered, which changes what they would find.
    done(windlass(&home).arg("run").arg(&hello));
    let run = median((0..runs).map(|_| timed(|| done(windlass(&home).arg("run").arg(&hello)))));
    let shell = median((0..runs).map(|_| timed(|| done(Command::new("sh").args(["-c", "echo hello world"])))));
    let rest = memory_at_rest(&directory.path().join("rest"), Duration::from_secs(if quick { 3 } else { 10 }));
    let before = version_after(&home, &hello);
    let between = version_after(&home, &hello);
    let dag = faster([0; TIMES].map(|_| timed(|| done(windlass(&home).arg("run").arg(&flat)))));
    let after = version_after(&home, &hello);
    let stored = tasks * TIMES;
    let writes = (after - between).saturating_sub(between - before) as f64 / stored as f64;
    let full = median((0..runs).map(|_| timed(|| done(windlass(&home).arg("run").arg(&hello)))));

    let store = Store::open(home.join("images")).unwrap();
    let image = store.get(&"busybox".parse::<Reference>().unwrap()).unwrap().unwrap();
    let lowers = store.rootfs(&image).unwrap();
    let host = Host::enter(EnterOptions::new(directory.path().join("scratch"))).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (one, shared, own) = runtime.block_on(async {
        let one = bare(&host, &lowers, runs.max(5), 1, Wire::Shared).await / runs.max(5) as u32;
        let (mut shared, mut own) = ([Duration::ZERO; TIMES], [Duration::ZERO; TIMES]);
        for time in 0..TIMES {
            shared[time] = bare(&host, &lowers, tasks, parallel, Wire::Shared).await;
            own[time] = bare(&host, &lowers, tasks, parallel, Wire::Own).await;
        }
        (one, faster(shared), faster(own))
    });

    println!("run of hello-world, process start to exit, median of {runs}: {}", ms(run));
    println!(
        "  sh -c echo: {}, ratio {:.0}; one bare container: {}, ratio {:.0}",
        ms(shell),
        run.div_duration_f64(shell),
        ms(one),
        run.div_duration_f64(one)
    );
    println!("  with {stored} finished pods stored: {}, ratio {:.2}", ms(full), full.div_duration_f64(run));
    println!("flat DAG of {tasks} containers, process start to exit: {}, {writes:.1} API writes a pod", ms(dag));
    println!(
        "  bare runner, {parallel} at a time, one network: {}, ratio {:.2}",
        ms(shared),
        dag.div_duration_f64(shared)
    );
    println!(
        "  bare runner, {parallel} at a time, a network each: {}, ratio {:.2}",
        ms(own),
        dag.div_duration_f64(own)
    );
    println!("up at rest: {} KiB resident, {} KiB at most", rest.0, rest.1);
}

fn windlass(home: &Path) -> Command {
    let mut command = Command::new(WINDLASS);
    command.arg("--home").arg(home);
    command
}

/// Runs a program to its end, which must be a good one.
fn done(command: &mut Command) {
    let output = command.stdin(Io::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn timed(what: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    what();
    begin.elapsed()
}

fn median(durations: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = durations.collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// How often what takes long is done.
const TIMES: usize = 2;

fn faster(durations: [Duration; TIMES]) -> Duration {
    durations.into_iter().min().unwrap()
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// A Workflow: one container that says hello, or a flat DAG of `tasks` that run `true`.
fn file(directory: &Path, name: &str, tasks: usize) -> PathBuf {
    let mut text = format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {{generateName: {name}-}}\nspec:\n  \
         entrypoint: main\n  templates:\n"
    );
    if tasks == 0 {
        text.push_str("  - name: main\n    container: {image: busybox, command: [echo], args: [hello world]}\n");
    } else {
        text.push_str("  - name: one\n    container: {image: busybox, command: [\"true\"]}\n");
        text.push_str("  - name: main\n    dag:\n      tasks:\n");
        text.extend((0..tasks).map(|i| format!("      - {{name: t{i}, template: one}}\n")));
    }
    let path = directory.join(format!("{name}.yaml"));
    std::fs::write(&path, text).unwrap();
    path
}

/// The store's version after one more hello-world: versions count writes.
fn version_after(home: &Path, hello: &Path) -> u64 {
    let output = windlass(home).arg("run").arg(hello).args(["-o", "json"]).output().unwrap();
    let workflow: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    workflow["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Resident memory of `up` after it had nothing to do for a while, now and at most, in KiB.
fn memory_at_rest(home: &Path, pause: Duration) -> (u64, u64) {
    struct Up(Child);
    impl Drop for Up {
        fn drop(&mut self) {
            let pid = rustix::process::Pid::from_child(&self.0);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = self.0.wait();
        }
    }
    let free = ["--api-listen", "--registry-listen", "--webhook-listen"].map(|f| [f, "127.0.0.1:0"]).concat();
    let up = windlass(home).arg("up").args(free).stdin(Io::null()).stdout(Io::null()).stderr(Io::null()).spawn();
    let up = Up(up.unwrap());
    std::thread::sleep(pause);
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.0.id())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// `number` containers that run `true`, `parallel` at a time, with nothing but the sandbox.
async fn bare(host: &Host, lowers: &[PathBuf], number: usize, parallel: usize, wire: Wire) -> Duration {
    let shared = Netns::create().unwrap();
    let switch = Switch::create(Cidr::new([10, 42, 0, 1].into(), 16), &[]).unwrap();
    let spec = Spec {
        network: shared.network(),
        rootfs: Rootfs::Overlay { lowers: lowers.to_vec(), upper: Upper::Scratch },
        args: vec!["true".into()],
        env: vec![("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())],
        ..Spec::default()
    };
    let begin = Instant::now();
    let workers: Vec<_> = (0..parallel)
        .map(|worker| {
            let (host, spec, switch) = (host.clone(), spec.clone(), switch.clone());
            tokio::spawn(async move {
                for index in (worker..number).step_by(parallel) {
                    let address = std::net::Ipv4Addr::from_bits(0x0a2a_0002 + u32::try_from(index).unwrap());
                    let own = match wire {
                        Wire::Shared => None,
                        Wire::Own => Some(switch.attach(address).await.unwrap()),
                    };
                    let network = own.as_ref().map_or_else(|| spec.network.clone(), |n: &Netns| n.network());
                    let spec = Spec { network, ..spec.clone() };
                    let container = host.spawn(spec, Stdio::null()).await.unwrap();
                    assert_eq!(container.wait().await.code, 0);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    begin.elapsed()
}
