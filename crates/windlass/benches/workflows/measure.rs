//! What a workload takes: submits it, waits for its end, and reads what the kernel and the API server counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use windlass_model::labels;

use super::work::Work;

/// How many workflows are submitted at the same time.
const SUBMITTERS: usize = 8;

/// What was seen of one workload.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// From the first submission to the last workflow's end; nothing when it did not come within the limit.
    pub(crate) seconds: Option<f64>,
    /// How many workflows succeeded.
    pub(crate) succeeded: usize,
    /// Of how many.
    pub(crate) of: usize,
    /// The process's time on a processor.
    pub(crate) cpu: f64,
    /// The most memory that it had, in MiB.
    pub(crate) memory: f64,
    /// What it wrote to the disk, in MiB.
    pub(crate) written: f64,
    /// The requests that the API server counted, without lists and watches; only beside a real one.
    pub(crate) requests: BTreeMap<String, u64>,
}

/// The Workflows of a namespace.
pub(crate) fn workflows(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind())
}

fn kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Workflow"), "workflows")
}

/// Makes a namespace.
pub(crate) async fn make_namespace(client: &Client, name: &str) {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
}

/// Runs a workload in a namespace that is there and empty. The figures of the process and of the API server are the caller's to add.
pub(crate) async fn run(client: &Client, work: &Work, namespace: &str, limit: Duration) -> Figures {
    let api = workflows(client, namespace);
    let labelled = Api::namespaced_with(client.clone(), namespace, &kind());
    let begin = Instant::now();
    let done = tokio::spawn(tokio::time::timeout(limit, ended(labelled, work.workflows.len())));
    let bodies = work.workflows.iter().map(|w| serde_json::from_value::<DynamicObject>(w.clone()).unwrap());
    let submit = |body: DynamicObject| {
        let api = api.clone();
        async move { api.create(&PostParams::default(), &body).await.map(drop) }
    };
    futures::stream::iter(bodies).map(submit).buffer_unordered(SUBMITTERS).try_collect::<()>().await.unwrap();
    let phases = done.await.unwrap();
    let seconds = phases.is_ok().then(|| begin.elapsed().as_secs_f64());
    let succeeded = phases.unwrap_or_default().iter().filter(|phase| *phase == "Succeeded").count();
    Figures { seconds, succeeded, of: work.workflows.len(), ..Figures::default() }
}

/// The phases of all workflows there, once so many have ended.
async fn ended(api: Api<PartialObjectMeta<DynamicObject>>, count: usize) -> Vec<String> {
    let chosen = watcher::Config::default().labels(&format!("{}=true", labels::COMPLETED));
    let mut events = watcher::watcher(api, chosen).boxed();
    let mut phases = BTreeMap::new();
    let mut see = |wf: PartialObjectMeta<DynamicObject>| {
        let phase = wf.labels().get(labels::PHASE).cloned().unwrap_or_default();
        phases.insert(wf.name_any(), phase);
        phases.len()
    };
    while let Some(event) = events.next().await {
        if let Ok(Event::Apply(wf) | Event::InitApply(wf)) = event
            && see(wf) >= count
        {
            break;
        }
    }
    phases.into_values().collect()
}

/// A process's time on a processor so far.
pub(crate) fn cpu(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|&i| fields[i].parse::<f64>().unwrap()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// One line of a process's status or of its counts of bytes, as a number.
pub(crate) fn told(pid: u32, file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Begins to look for a process's highest memory anew.
pub(crate) fn forget_peak(pid: u32) {
    // Where it is not allowed the peak is that since its start.
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// What an API server has been asked for so far, by verb and kind, without lists and watches.
pub(crate) async fn requests(client: &Client) -> BTreeMap<String, u64> {
    const KINDS: [&str; 6] = ["pods", "workflows", "workflowtaskresults", "events", "workflowtasksets", "configmaps"];
    let text = client.request_text(http::Request::get("/metrics").body(Vec::new()).unwrap()).await.unwrap();
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("apiserver_request_total{")) {
        let of = |label: &str| line.split(&format!("{label}=\"")).nth(1)?.split('"').next();
        let (Some(verb), Some(kind)) = (of("verb"), of("resource")) else { continue };
        if KINDS.contains(&kind) && !["LIST", "WATCH"].contains(&verb) {
            let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            *counts.entry(format!("{verb} {kind}")).or_default() += count as u64;
        }
    }
    counts
}

/// What was asked for in between.
pub(crate) fn between(before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = after.into_iter().map(|(what, n)| {
        let n = n - before.get(&what).copied().unwrap_or_default();
        (what, n)
    });
    more.filter(|(_, n)| *n > 0).collect()
}

/// The size of a namespace's workflows as JSON, in bytes.
pub(crate) async fn bytes(client: &Client, namespace: &str) -> usize {
    let all = workflows(client, namespace).list(&Default::default()).await.unwrap().items;
    all.iter().map(|wf| serde_json::to_vec::<Value>(&wf.data["status"]).unwrap().len()).sum()
}
