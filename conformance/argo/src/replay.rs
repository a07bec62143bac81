//! One case played: objects are created, the real workflow loop runs, the stub kubelet tells what pods did, people's
//! actions fire, and when all has ended (or nothing goes on) the objects are read back. Time is tokio's stopped clock: it
//! jumps to the next thing that is due once everything is at rest. It must never look into the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_control::clock::Clock;
use windlass_control::{Scope, workflow};
use windlass_engine::manual::{self, Resubmit, Retry, Selector};

use crate::door::Door;
use crate::kubelet::Script;

/// Something that the harness itself could not do.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The API refused the harness.
    #[error("API: {0}")]
    Api(#[from] Box<kube::Error>),
    /// An object is none.
    #[error("object: {0}")]
    Object(#[from] serde_json::Error),
    /// What somebody did could not be done.
    #[error("action: {0}")]
    Action(String),
}

impl From<kube::Error> for Fault {
    fn from(e: kube::Error) -> Self {
        Self::Api(Box::new(e))
    }
}

/// What is played.
pub struct Play<'p> {
    /// Where.
    pub namespace: String,
    /// What time it is in the beginning.
    pub begun: Timestamp,
    /// Objects that are there before.
    pub objects: Vec<Value>,
    /// Workflows, and when each is submitted.
    pub workflows: Vec<(Timestamp, Value)>,
    /// What people do: when at the earliest, the words behind `argo`, and whether Argo does it.
    pub actions: Vec<(Timestamp, Vec<String>, bool)>,
    /// What the pods do.
    pub script: &'p mut dyn Script,
    /// The engine's configuration.
    pub engine: windlass_engine::Config,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Played {
    /// Workflows as they ended, by name.
    pub workflows: BTreeMap<String, Value>,
    /// Workflows just before somebody retried them.
    pub before: BTreeMap<String, Value>,
    /// Pods that a retry had deleted, by workflow.
    pub deleted: BTreeMap<String, BTreeSet<String>>,
    /// Every pod that was created, with the workflow it belongs to.
    pub pods: Vec<Value>,
    /// What does not fit: unknown pods, pods that did not come, runs that stand still, refused actions.
    pub misses: Vec<String>,
}

const GROUP: &str = "argoproj.io";
/// So long nothing may happen before a run counts as standing still.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// How the API calls a kind.
#[must_use]
pub fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let plural = match kind {
        "Pod" => "pods".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural)
}

struct Stage<'d> {
    door: &'d Door,
    namespace: String,
    clock: Clock,
}

impl Stage<'_> {
    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = resource(api_version, kind);
        if kind.starts_with("Cluster") || kind == "Namespace" {
            return Api::all_with(self.door.client.clone(), &resource);
        }
        Api::namespaced_with(self.door.client.clone(), &self.namespace, &resource)
    }

    fn workflows(&self) -> Api<DynamicObject> {
        self.api("argoproj.io/v1alpha1", "Workflow")
    }

    fn pods(&self) -> Api<DynamicObject> {
        self.api("v1", "Pod")
    }

    async fn create(&self, mut object: Value) -> Result<(), Fault> {
        let (version, kind) = (object["apiVersion"].clone(), object["kind"].clone());
        let (version, kind) = (version.as_str().unwrap_or("v1"), kind.as_str().unwrap_or_default());
        let cluster = kind.starts_with("Cluster") || kind == "Namespace";
        object["metadata"]["namespace"] = if cluster { Value::Null } else { json!(self.namespace) };
        let object: DynamicObject = serde_json::from_value(object)?;
        match self.api(version, kind).create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(s)) if s.code == 409 => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }

    async fn get(&self, name: &str) -> Result<Value, Fault> {
        Ok(serde_json::to_value(self.workflows().get(name).await?)?)
    }

    async fn set_status(&self, pod: &str, status: &Value) -> Result<(), Fault> {
        let patch = Patch::Merge(json!({"status": status}));
        match self.pods().patch_status(pod, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(s)) if s.code == 404 => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }

    async fn report(&self, pod: &Value, report: &Value) -> Result<(), Fault> {
        let mut object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskResult",
            "metadata": {
                "name": pod["metadata"]["annotations"]["workflows.argoproj.io/node-id"],
                "labels": {
                    "workflows.argoproj.io/workflow": pod["metadata"]["labels"]["workflows.argoproj.io/workflow"],
                    "workflows.argoproj.io/report-outputs-completed": "true",
                },
            },
        });
        for key in ["outputs", "message", "phase", "progress"] {
            if !report[key].is_null() {
                object[key] = report[key].clone();
            }
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let api = self.api("argoproj.io/v1alpha1", "WorkflowTaskResult");
        // A retry's report takes the place of the one before it.
        let _ = api.delete(&name, &DeleteParams::default()).await;
        self.create(object).await
    }
}

/// Whether a workflow has ended, and its controller is done with it.
#[must_use]
pub fn has_ended(workflow: &Value) -> bool {
    workflow["metadata"]["labels"]["workflows.argoproj.io/completed"] == "true"
}

/// Whether somebody may act: when a node of the kind runs, or when all has ended.
#[must_use]
pub fn may(verb: &str, workflow: &Value) -> bool {
    let runs = |kind: &str| {
        let mut rows = workflow["status"]["nodes"].as_object().into_iter().flatten().map(|(_, row)| row);
        rows.any(|row| row["type"] == kind && row["phase"] == "Running")
    };
    match verb {
        "resume" => runs("Suspend"),
        "stop" | "terminate" => runs("Pod"),
        _ => has_ended(workflow),
    }
}

/// Plays a case.
pub async fn play(door: &Door, play: Play<'_>) -> Result<Played, Fault> {
    let stage = Stage { door, namespace: play.namespace.clone(), clock: Clock::beginning(play.begun) };
    stage.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": play.namespace}})).await?;
    stage.create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await?;
    for object in &play.objects {
        stage.create(object.clone()).await?;
    }
    let stop = CancellationToken::new();
    let settings = workflow::Settings {
        engine: play.engine.clone(),
        scope: Scope { namespace: Some(play.namespace.clone()), ..Scope::default() },
        controller_namespace: play.namespace.clone(),
        clock: stage.clock.clone(),
        ..workflow::Settings::default()
    };
    let task = tokio::spawn(workflow::run(door.client.clone(), settings, stop.clone()));
    let played = acts(&stage, play).await;
    stop.cancel();
    let _ = task.await;
    played
}

async fn acts(stage: &Stage<'_>, mut play: Play<'_>) -> Result<Played, Fault> {
    let mut played = Played::default();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    // What is due: time, order of arrival, what.
    let mut due: BTreeMap<(Timestamp, usize), Due> = BTreeMap::new();
    let mut number = 0;
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (at, workflow) in std::mem::take(&mut play.workflows) {
        names.insert(workflow["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        due.insert((at, number), Due::Submit(workflow));
        number += 1;
    }
    let mut actions = std::mem::take(&mut play.actions);
    actions.reverse();
    let mut idle_since = tokio::time::Instant::now();
    loop {
        // A moment of the stopped clock passes only when all is at rest.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = stage.clock.now();
        let mut moved = false;
        for pod in stage.pods().list(&ListParams::default()).await?.items {
            let pod = serde_json::to_value(pod)?;
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if pod["metadata"]["deletionTimestamp"].is_string() {
                let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                let _ = stage.pods().delete(&name, &now).await;
            }
            if !seen.insert(uid) {
                continue;
            }
            moved = true;
            match play.script.fate(&pod, now) {
                None => {
                    let node = &pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"];
                    played.misses.push(format!("pod {name} of {node} was not recorded"));
                }
                Some(fate) => {
                    stage.set_status(&name, &fate.begins).await?;
                    for (at, status) in fate.meanwhile {
                        due.insert((at, number), Due::Status(name.clone(), status));
                        number += 1;
                    }
                    if let Some((at, status)) = fate.ends {
                        due.insert((at.max(now), number), Due::End(Box::new(pod.clone()), fate.report, status));
                        number += 1;
                    }
                }
            }
            played.pods.push(pod);
        }
        while let Some(((at, _), _)) = due.first_key_value()
            && *at <= now
        {
            let Some((_, what)) = due.pop_first() else { break };
            moved = true;
            match what {
                Due::Submit(workflow) => stage.create(workflow).await?,
                Due::Status(pod, status) => stage.set_status(&pod, &status).await?,
                Due::End(pod, report, status) => {
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                    // A retry by hand makes another pod of the same name.
                    let there = stage.pods().get_opt(name).await?.and_then(|there| there.metadata.uid);
                    if there.as_deref() != pod["metadata"]["uid"].as_str() {
                        continue;
                    }
                    if let Some(report) = report {
                        stage.report(&pod, &report).await?;
                    }
                    stage.set_status(name, &status).await?;
                }
            }
        }
        if moved {
            idle_since = tokio::time::Instant::now();
            continue;
        }
        let mut ended = due.values().all(|what| !matches!(what, Due::Submit(_)));
        for name in &names {
            let there = stage.workflows().get_opt(name).await?;
            ended &= there.is_some_and(|w| {
                w.metadata.labels.is_some_and(|l| l.get("workflows.argoproj.io/completed").is_some_and(|v| v == "true"))
            });
        }
        if let Some((at, words, done)) = actions.last()
            && *at <= now
        {
            let workflow = stage.get(words.get(1).map_or("", String::as_str)).await;
            if let Ok(workflow) = workflow
                && may(&words[0], &workflow)
            {
                let (words, done) = (words.clone(), *done);
                actions.pop();
                if words[0] == "retry" {
                    played.before.insert(words[1].clone(), workflow.clone());
                }
                // What is made of what succeeded is made by us; anything else is submitted as it was recorded.
                if words.iter().any(|w| w == "--memoized") {
                    let next = due.iter().find(|(_, what)| matches!(what, Due::Submit(_))).map(|(key, _)| *key);
                    if let Some(Due::Submit(recorded)) = next.and_then(|key| due.remove(&key)) {
                        stage.create(memoized(&workflow, &recorded, now)?).await?;
                    }
                }
                match act(stage, &words, &workflow, &mut played).await {
                    Err(fault) if done => played.misses.push(format!("{}: {fault}", words.join(" "))),
                    Ok(()) if !done => played.misses.push(format!("{}: Argo refuses it", words.join(" "))),
                    _ => {}
                }
                idle_since = tokio::time::Instant::now();
                continue;
            }
        }
        if ended && actions.is_empty() {
            break;
        }
        if idle_since.elapsed() > PATIENCE {
            played.misses.push("the run stands still".to_owned());
            break;
        }
        let next_due = due.first_key_value().map(|((at, _), _)| *at);
        // Somebody looks every 0.7 s.
        let look = actions.last().map(|(at, ..)| {
            let idle = SignedDuration::try_from(idle_since.elapsed() / 4).unwrap_or(SignedDuration::ZERO);
            if *at > now { *at } else { now + idle.max(SignedDuration::from_millis(700)) }
        });
        let wait = [next_due, look].into_iter().flatten().min().map_or(Duration::from_secs(3600), |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        tokio::select! {
            () = stage.door.pods_changed() => {}
            // A run may end by itself, so it is looked at now and then.
            () = tokio::time::sleep(wait.clamp(Duration::from_millis(1), idle_since.elapsed().max(Duration::from_secs(1)))) => {}
        }
    }
    for name in &names {
        if let Ok(workflow) = stage.get(name).await {
            played.workflows.insert(name.clone(), workflow);
        }
    }
    for name in play.script.left() {
        played.misses.push(format!("pod {name} was recorded and did not come"));
    }
    Ok(played)
}

enum Due {
    Submit(Value),
    Status(String, Value),
    End(Box<Value>, Option<Value>, Value),
}

/// `resubmit --memoized` under the name that was recorded.
fn memoized(workflow: &Value, recorded: &Value, now: Timestamp) -> Result<Value, Fault> {
    let name = recorded["metadata"]["name"].as_str().unwrap_or_default();
    let (prefix, suffix) = name.rsplit_once('-').unwrap_or_default();
    // A recorded workflow is played under its name, and has lost what that was made of.
    let mut workflow = workflow.clone();
    workflow["metadata"]["generateName"] = json!(format!("{prefix}-"));
    let how = Resubmit { memoized: Some(suffix.to_owned()), ..Resubmit::default() };
    manual::resubmit(&workflow, &how, now).map_err(Fault::Action)
}

async fn act(stage: &Stage<'_>, words: &[String], workflow: &Value, played: &mut Played) -> Result<(), Fault> {
    let name = words.get(1).map_or("", String::as_str);
    let now = stage.clock.now();
    let patch = match words[0].as_str() {
        "stop" => json!({"spec": {"shutdown": "Stop"}}),
        "terminate" => json!({"spec": {"shutdown": "Terminate"}}),
        "resume" => manual::resume(workflow, &Selector::default(), now).map_err(Fault::Action)?,
        "retry" => {
            let restart_successful = words.iter().any(|w| w == "--restart-successful");
            let nodes = words.iter().find_map(|w| w.strip_prefix("--node-field-selector="));
            let selector = Selector::parse(nodes.unwrap_or_default()).map_err(Fault::Action)?;
            let how = Retry { restart_successful, selector, ..Retry::default() };
            let retried = manual::retry(workflow, &how, now).map_err(Fault::Action)?;
            played.deleted.insert(name.to_owned(), retried.pods.iter().cloned().collect());
            for pod in &retried.pods {
                let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                let _ = stage.pods().delete(pod, &now).await;
            }
            retried.patch
        }
        // What it makes is submitted as it was recorded.
        "resubmit" => return Ok(()),
        verb => return Err(Fault::Action(format!("`{verb}` is not played"))),
    };
    let api = stage.api(&format!("{GROUP}/v1alpha1"), "Workflow");
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
