//! What one container costs: the bare runner, under which no engine can be. Prints milliseconds and containers/s.
//!
//! `spawn [--n N] [--parallel 1,4,16] [--network join|none|host] [--rootfs DIR] [--scratch DIR] [--json]`
//! `join` (the default) is one pod's network for all of them, `none` a new namespace for each.
//! With `--rootfs` its `/bin/true` runs; without, busybox's.
#![allow(clippy::unwrap_used)]

use std::{
    path::PathBuf,
    process::{Command, Stdio as Io},
    time::{Duration, Instant},
};

use windlass_sandbox::{EnterOptions, Host, Network, Rootfs, Spec, Stdio, Upper, net::Netns};

fn main() {
    windlass_sandbox::early();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1)).cloned();
    let json = arguments.iter().any(|a| a == "--json");
    let number: usize = value("--n").map_or(500, |n| n.parse().unwrap());
    let parallel = value("--parallel").unwrap_or_else(|| "1,4,16".into());
    let directory = tempfile::tempdir().unwrap();
    let rootfs = value("--rootfs").map(PathBuf::from).unwrap_or_else(|| {
        let rootfs = directory.path().join("rootfs");
        std::fs::create_dir_all(rootfs.join("bin")).unwrap();
        std::fs::copy("/bin/busybox", rootfs.join("bin/true")).expect("a static busybox (package busybox-static)");
        rootfs
    });
    let program = rootfs.join("bin/true");
    let scratch = value("--scratch").map(PathBuf::from).unwrap_or_else(|| directory.path().join("scratch"));
    // The floor of the floor: the same program, no container.
    let floor = median((0..100).map(|_| {
        let begin = Instant::now();
        Command::new(&program).stdin(Io::null()).stdout(Io::null()).status().unwrap();
        begin.elapsed()
    }));
    let host = Host::enter(EnterOptions::new(scratch)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let pod = Netns::create().unwrap();
    let network = match value("--network").as_deref() {
        None | Some("join") => pod.network(),
        Some("none") => Network::None,
        Some(_) => Network::Host,
    };
    let spec = Spec {
        network,
        rootfs: Rootfs::Overlay { lowers: vec![rootfs], upper: Upper::Scratch },
        args: vec!["/bin/true".into()],
        ..Spec::default()
    };
    if !json {
        println!("plain fork and exec: {:.2} ms", floor.as_secs_f64() * 1e3);
    }
    for parallel in parallel.split(',').map(|p| p.parse::<usize>().unwrap()) {
        let (median, per_second) = runtime.block_on(measure(&host, &spec, number, parallel));
        let ms = median.as_secs_f64() * 1e3;
        if json {
            println!("{{\"parallel\":{parallel},\"n\":{number},\"medianMs\":{ms:.3},\"perSecond\":{per_second:.1}}}");
        } else {
            println!("{parallel:>3} at a time: median {ms:.2} ms, {per_second:.0} containers/s");
        }
    }
}

fn median(durations: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = durations.collect();
    all.sort_unstable();
    all[all.len() / 2]
}

async fn measure(host: &Host, spec: &Spec, number: usize, parallel: usize) -> (Duration, f64) {
    let begin = Instant::now();
    let workers = (0..parallel).map(|worker| {
        let (host, spec) = (host.clone(), spec.clone());
        let share = number / parallel + usize::from(worker < number % parallel);
        tokio::spawn(async move {
            let mut durations = Vec::with_capacity(share);
            for _ in 0..share {
                let begin = Instant::now();
                let container = host.spawn(spec.clone(), Stdio::null()).await.unwrap();
                assert_eq!(container.wait().await.code, 0);
                durations.push(begin.elapsed());
            }
            durations
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    (median(all.into_iter()), number as f64 / begin.elapsed().as_secs_f64())
}
