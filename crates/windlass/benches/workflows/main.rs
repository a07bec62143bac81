//! What workflows cost without the containers: the real loops and a kubelet that runs nothing, so that what is measured is
//! the engine, its loop and the API. Prints, asserts nothing.
//!
//! `workflows [WORKLOAD…] [--runs N] [--limit SECONDS]`: over the embedded API, kept on disk as in `up`; API, loops and
//! stub in one fresh process a run, whose time and memory are counted together. The floor: as many pods made by 64 callers who
//! know nothing of workflows, told of by the same stub.
//!
//! `workflows --kubeconfig FILE [--argo PROGRAM [--stock]] [WORKLOAD…]`: `windlass controller` on a real API server, and
//! Argo's `workflow-controller` beside it in the same run. Argo's CRDs must be there (its minimal ones: the full ones
//! refuse a DAG of more than 200 tasks).
#![allow(clippy::unwrap_used)]

mod beside;
mod measure;
mod stub;
mod work;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use measure::Figures;
use tokio_util::sync::CancellationToken;
use windlass_apiserver::{ApiServer, Identity, Options};
use work::Work;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is run over the embedded API where nothing is said: each with its double, which must not take four times as long.
const INSIDE: [&str; 17] = [
    "dag:1000",
    "dag:2000",
    "layers:5",
    "layers:10",
    "items:5000",
    "items:10000",
    "items100:5000",
    "items100:10000",
    "chain:100",
    "chain:200",
    "five:500",
    "five:1000",
    "deep:45",
    "deep:90",
    "status:10",
    "status:50",
    "one:500",
];

/// What is run on a real API server where nothing is said; twice the first, for what lies about by then.
const OUTSIDE: [&str; 8] =
    ["one:500", "five:100", "chain:10", "dag:200", "items:1000", "five:500", "one:2000", "one:500"];

/// What stock Argo runs: the others take it a quarter of an hour.
const STOCK: [&str; 5] = ["one:500", "five:100", "chain:10", "dag:200", "items:1000"];

struct Flags {
    works: Vec<String>,
    runs: usize,
    limit: Duration,
    kubeconfig: Option<PathBuf>,
    argo: Option<PathBuf>,
    stock: bool,
    inside: Option<String>,
    floor: Option<usize>,
}

fn flags() -> Flags {
    let mut flags = Flags {
        works: Vec::new(),
        runs: 3,
        limit: Duration::from_secs(300),
        kubeconfig: None,
        argo: None,
        stock: false,
        inside: None,
        floor: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--runs" => flags.runs = value().parse().unwrap(),
            "--limit" => flags.limit = Duration::from_secs(value().parse().unwrap()),
            "--kubeconfig" => flags.kubeconfig = Some(value().into()),
            "--argo" => flags.argo = Some(value().into()),
            "--stock" => flags.stock = true,
            "--inside" => flags.inside = Some(value()),
            "--floor" => flags.floor = Some(value().parse().unwrap()),
            // What `cargo bench` says to every bench.
            "--bench" => {}
            _ => flags.works.push(word),
        }
    }
    flags
}

fn works(names: &[String], usual: &[&str]) -> Vec<Work> {
    let usual: Vec<String> = usual.iter().map(|&w| w.to_owned()).collect();
    let names = if names.is_empty() { &usual } else { names };
    let known = |name: &String| work::work(name).unwrap_or_else(|| panic!("{name}: no workload. {}", work::WORDS));
    names.iter().map(known).collect()
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let flags = flags();
    if let Some(name) = &flags.inside {
        let work = work::work(name).unwrap();
        println!("{}", serde_json::to_string(&inside(&work, flags.limit).await).unwrap());
    } else if let Some(count) = flags.floor {
        println!("{}", serde_json::to_string(&floor(count).await).unwrap());
    } else if let Some(kubeconfig) = flags.kubeconfig.clone() {
        outside(&flags, kubeconfig).await;
    } else {
        embedded(&flags);
    }
}

/// One run in this process: API on disk, loops, stub.
async fn inside(work: &Work, limit: Duration) -> (Figures, usize) {
    let home = tempfile::tempdir().unwrap();
    let server = ApiServer::open(Options::file(home.path().join("state"))).await.unwrap();
    server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
    let client = server.client(Identity::admin());
    let (stop, pid) = (CancellationToken::new(), std::process::id());
    let controller = server.client(Identity::system("windlass:controller"));
    let settings = windlass_control::workflow::Settings::default();
    let loops = tokio::spawn(windlass_control::workflow::run(controller, settings, stop.clone()));
    let kubelet = tokio::spawn(stub::run(client.clone(), work.output));
    let (cpu, written) = (measure::cpu(pid), measure::told(pid, "io", "write_bytes:"));
    measure::make_namespace(&client, "bench").await;
    let mut figures = measure::run(&client, work, "bench", limit).await;
    figures.cpu = measure::cpu(pid) - cpu;
    figures.memory = measure::told(pid, "status", "VmHWM:") / 1024.0;
    figures.written = (measure::told(pid, "io", "write_bytes:") - written) / 1048576.0;
    let bytes = measure::bytes(&client, "bench").await;
    stop.cancel();
    let _ = loops.await;
    kubelet.abort();
    (figures, bytes)
}

/// Seconds for so many bare pods over the same API, in this process.
async fn floor(pods: usize) -> f64 {
    let home = tempfile::tempdir().unwrap();
    let server = ApiServer::open(Options::file(home.path().join("state"))).await.unwrap();
    server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
    let client = server.client(Identity::admin());
    let begin = std::time::Instant::now();
    let kubelet = tokio::spawn(stub::run(client.clone(), 0));
    stub::bare(&client, "default", pods).await;
    kubelet.abort();
    begin.elapsed().as_secs_f64()
}

fn embedded(flags: &Flags) {
    println!(
        "| workload | s (median of {}) | bare pods s | ratio | processor s | peak MiB | written MiB | status kB | succeeded |",
        flags.runs
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for work in works(&flags.works, &INSIDE) {
        let limit = flags.limit.as_secs().to_string();
        let run = || -> (Figures, usize) { fresh(&["--inside", &work.name, "--limit", &limit]) };
        let mut all: Vec<(Figures, usize)> = (0..flags.runs).map(|_| run()).collect();
        all.sort_by(|a, b| seconds(&a.0).total_cmp(&seconds(&b.0)));
        let (f, bytes) = &all[all.len() / 2];
        let pods = work.pods.to_string();
        let mut floors: Vec<f64> = (0..flags.runs).map(|_| fresh(&["--floor", &pods])).collect();
        floors.sort_by(f64::total_cmp);
        let floor = floors[floors.len() / 2];
        println!(
            "| {} | {} | {floor:.2} | {:.1} | {:.2} | {:.0} | {:.1} | {:.0} | {}/{} |",
            work.name,
            time(f),
            seconds(f) / floor,
            f.cpu,
            f.memory,
            f.written,
            *bytes as f64 / 1000.0,
            f.succeeded,
            f.of
        );
    }
}

/// What this program says in a process of its own.
fn fresh<T: serde::de::DeserializeOwned>(arguments: &[&str]) -> T {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(arguments).stderr(Stdio::inherit()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}"))
}

async fn outside(flags: &Flags, kubeconfig: PathBuf) {
    let cluster = beside::Cluster::open(kubeconfig).await;
    let mut programs = vec![beside::Program::Windlass];
    if let Some(argo) = &flags.argo {
        programs.push(beside::Program::Tuned(argo.clone()));
        programs.extend(flags.stock.then(|| beside::Program::Stock(argo.clone())));
    }
    println!(
        "| program | workload | s | ratio to windlass | processor s | peak MiB | requests a workflow | succeeded |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let all = works(&flags.works, &OUTSIDE);
    for (work, floor) in all.iter().zip(cluster.bare(&all).await) {
        println!("| {} bare pods | {} | {floor:.2} | | | | | |", work.pods, work.name);
    }
    let mut ours = Vec::new();
    for program in programs {
        let usual: &[&str] = if matches!(program, beside::Program::Stock(_)) { &STOCK } else { &OUTSIDE };
        let works = works(&flags.works, usual);
        let seen = cluster.run(&program, &works, flags.limit, Stdio::null()).await;
        if program == beside::Program::Windlass {
            ours.clone_from(&seen);
        }
        for (i, (work, f)) in works.iter().zip(&seen).enumerate() {
            let total: u64 = f.requests.values().sum();
            println!(
                "| {} | {} | {} | {:.1} | {:.2} | {:.0} | {:.1} | {}/{} |",
                program.name(),
                work.name,
                time(f),
                seconds(f) / seconds(&ours[i]),
                f.cpu,
                f.memory,
                total as f64 / f.of as f64,
                f.succeeded,
                f.of
            );
        }
    }
}

/// For sorting and ratios: what never ended took for ever.
fn seconds(figures: &Figures) -> f64 {
    figures.seconds.unwrap_or(f64::INFINITY)
}

fn time(figures: &Figures) -> String {
    figures.seconds.map_or_else(|| "not within the limit".to_owned(), |s| format!("{s:.2}"))
}
