//! `windlass logs`, and the log lines that other verbs show: all pods of a workflow, each line led by its pod's name.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::process::ExitCode;

use anstyle::AnsiColor;
use anyhow::{Context, Result};
use futures::io::AsyncBufReadExt;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use windlass_artifacts::store::Content;
use windlass_model::{NodePhase, NodeType, Workflow, labels};

use crate::cli::{LogsArgs, RemapArgs};
use crate::connect::{Connection, connect};
use crate::print::{Look, time, workflow};
use crate::start::Session;
use crate::verb::cp::Places;
use crate::{objects, verb::wait};

const COLORS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Green, AnsiColor::Yellow, AnsiColor::BrightBlue];
/// How many lines of a failed step are shown where the user looks.
const LAST_LINES: i64 = 10;

pub(super) async fn run(session: &Session, args: LogsArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let name = objects::resolve(&connection, &args.name).await?;
    let wf = objects::read_or_archived(&connection, &name).await?;
    let since_seconds = match &args.since {
        Some(text) => Some(time::parse(text).context("--since: write a number and s, m, h or d")?),
        None => None,
    };
    let params = LogParams {
        container: Some(args.container.clone()),
        follow: args.follow,
        since_seconds,
        tail_lines: args.tail,
        timestamps: args.timestamps,
        ..Default::default()
    };
    let wanted = Wanted { pod: args.pod, selector: args.selector, grep: args.grep, params };
    let look = session.look;
    if args.follow && !objects::has_ended(&wf) {
        let tail = stream(connection.clone(), name.clone(), wanted, look);
        wait::until_ended(&connection, &name, |_| {}).await?;
        tail.finish().await;
    } else {
        let selector = wanted.selector(&name);
        let mut pods = pods(&connection).list(&ListParams::default().labels(&selector)).await?.items;
        pods.sort_by_key(|p| p.metadata.creation_timestamp.as_ref().map(|t| t.0));
        let there: HashSet<String> = pods.iter().map(ResourceExt::name_any).collect();
        for pod in pods {
            let name = pod.name_any();
            if wanted.pod.as_ref().is_none_or(|p| *p == name) {
                one(&connection, &name, &wanted, look, color_of(&name)).await;
            }
        }
        let gone = kept(session, &connection, &wf, &there, &wanted).await?;
        if gone && there.is_empty() {
            eprintln!(
                "the pods of {name} are gone, and their logs were not kept as artifacts; `archiveLogs: true` keeps those of later runs"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn pods(connection: &Connection) -> Api<Pod> {
    Api::namespaced(connection.client.clone(), &connection.namespace)
}

/// Which logs, and how.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    pod: Option<String>,
    selector: Option<String>,
    grep: Option<String>,
    params: LogParams,
}

impl Wanted {
    /// All lines of `main`, as they come.
    pub(super) fn live() -> Self {
        let params = LogParams { container: Some("main".into()), follow: true, ..Default::default() };
        Self { params, ..Default::default() }
    }

    fn selector(&self, workflow: &str) -> String {
        let own = format!("{}={workflow}", labels::WORKFLOW);
        self.selector.iter().fold(own, |all, more| format!("{all},{more}"))
    }
}

/// Prints the logs that were kept as artifacts (`archiveLogs`) of pods that are not there any more; whether there were pods
/// and no such logs.
async fn kept(
    session: &Session,
    c: &Connection,
    wf: &Workflow,
    there: &HashSet<String>,
    wanted: &Wanted,
) -> Result<bool> {
    let container = wanted.params.container.as_deref().unwrap_or("main");
    let artifact = format!("{container}-logs");
    let places = Places::of(session, &RemapArgs::default(), wf)?;
    let mut nodes: Vec<_> = wf.status.iter().flat_map(|s| s.nodes.values()).collect();
    nodes.retain(|node| node.type_ == NodeType::Pod && wanted.selector.is_none());
    nodes.sort_by_key(|node| node.started_at.as_ref().map(|t| t.0));
    let (mut gone, mut printed) = (false, false);
    for node in nodes {
        let pod = workflow::pod_name(wf, node);
        if there.contains(&pod) || wanted.pod.as_ref().is_some_and(|p| *p != pod) {
            continue;
        }
        gone = true;
        let artifacts = node.outputs.iter().flat_map(|outputs| &outputs.artifacts);
        let Some(artifact) = artifacts.into_iter().find(|a| a.name == artifact) else { continue };
        printed = true;
        let (place, _) = places.find(c, artifact).await?;
        let opened = places.clone();
        let text = tokio::task::spawn_blocking(move || -> Result<String> {
            let mut bytes = Vec::new();
            match opened.open(&place)? {
                Content::File(mut from) | Content::Tree(mut from) => from.read_to_end(&mut bytes)?,
            };
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        });
        let text = text.await?.with_context(|| format!("the kept logs of {pod}"))?;
        let lines: Vec<&str> = text.lines().collect();
        let tail = wanted.params.tail_lines.and_then(|n| usize::try_from(n).ok()).unwrap_or(lines.len());
        let lead = session.look.paint(&format!("{pod}:"), color_of(&pod));
        for line in &lines[lines.len().saturating_sub(tail)..] {
            if wanted.grep.as_ref().is_none_or(|text| line.contains(text.as_str())) {
                println!("{lead} {line}");
            }
        }
    }
    Ok(gone && !printed)
}

fn color_of(pod: &str) -> AnsiColor {
    let sum: usize = pod.bytes().map(usize::from).sum();
    COLORS[sum % COLORS.len()]
}

async fn one(connection: &Connection, pod: &str, wanted: &Wanted, look: Look, color: AnsiColor) {
    let stream = match pods(connection).log_stream(pod, &wanted.params).await {
        Ok(stream) => stream,
        Err(kube::Error::Api(s)) => {
            eprintln!("{pod}: {}", s.message);
            return;
        }
        Err(e) => {
            eprintln!("{pod}: {e}");
            return;
        }
    };
    let lead = look.paint(&format!("{pod}:"), color);
    let mut lines = stream.lines();
    while let Ok(Some(line)) = lines.try_next().await {
        if wanted.grep.as_ref().is_none_or(|text| line.contains(text.as_str())) {
            println!("{lead} {line}");
        }
    }
}

/// Logs that are being printed.
pub(super) struct Tail {
    ended: mpsc::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Tail {
    /// The workflow has ended: waits for the last lines.
    pub(super) async fn finish(self) {
        drop(self.ended);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), self.task).await;
    }
}

/// Prints the logs of a workflow's pods as they come, pods that are made later included.
pub(super) fn stream(connection: Connection, workflow: String, wanted: Wanted, look: Look) -> Tail {
    let (ended, mut over) = mpsc::channel::<()>(1);
    let task = tokio::spawn(async move {
        let config = watcher::Config::default().labels(&wanted.selector(&workflow));
        let mut events = watcher::watcher(pods(&connection), config).boxed();
        let mut begun: HashSet<String> = HashSet::new();
        let mut readers = JoinSet::new();
        loop {
            tokio::select! {
                _ = over.recv() => break,
                event = events.next() => {
                    let Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) = event else { continue };
                    let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
                    let name = pod.name_any();
                    let chosen = wanted.pod.as_ref().is_none_or(|p| *p == name);
                    if phase != "Pending" && !phase.is_empty() && chosen && begun.insert(pod.uid().unwrap_or_default()) {
                        let (connection, wanted) = (connection.clone(), wanted.clone());
                        readers.spawn(async move { one(&connection, &name, &wanted, look, color_of(&name)).await });
                    }
                }
            }
        }
        // Pods that ended together with the workflow may not have been seen by the watch yet.
        if let Ok(list) = pods(&connection).list(&ListParams::default().labels(&wanted.selector(&workflow))).await {
            for pod in list.items {
                if begun.insert(pod.uid().unwrap_or_default()) {
                    let name = pod.name_any();
                    one(&connection, &name, &wanted, look, color_of(&name)).await;
                }
            }
        }
        while readers.join_next().await.is_some() {}
    });
    Tail { ended, task }
}

/// The exit code and the last lines of each step that failed, where the user looks.
pub(super) async fn print_failures(connection: &Connection, wf: &Workflow, look: Look) {
    let Some(status) = &wf.status else { return };
    let mut shown: HashMap<String, ()> = HashMap::new();
    let failed = |p: NodePhase| matches!(p, NodePhase::Failed | NodePhase::Error);
    for node in status.nodes.values().filter(|n| n.type_ == NodeType::Pod && failed(n.phase)) {
        let pod = workflow::pod_name(wf, node);
        if shown.insert(pod.clone(), ()).is_some() {
            continue;
        }
        let params = LogParams { container: Some("main".into()), tail_lines: Some(LAST_LINES), ..Default::default() };
        let Ok(text) = pods(connection).logs(&pod, &params).await else { continue };
        let why = node.message.as_deref().unwrap_or("failed");
        println!("\n{} {why}", look.paint(&format!("✖ {}:", node.display_name), AnsiColor::Red));
        if text.trim().is_empty() {
            println!("  it printed nothing");
            continue;
        }
        println!("  its last lines (all of them: windlass logs {} {pod}):", wf.metadata.name.as_deref().unwrap_or(""));
        for line in text.lines() {
            println!("  │ {line}");
        }
    }
}
