//! Artifact garbage collection: which artifacts of a run go, and when; the ledgers that say so; the pods that remove them;
//! what of it is told in the status. Pure: who watches and writes is above. Nothing here keeps a workflow from being
//! deleted: once a ledger is written, the workflow is not needed any more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use windlass_model::artifact::Artifact;
use windlass_model::garbage::{NodeGarbage, NodeRemovals, Removal, Removals, Strategy, WorkflowArtifactGcTask};
use windlass_model::places::{IMAGE_PROGRAM, VERB, WORK};
use windlass_model::status::Condition;
use windlass_model::task::Task;
use windlass_model::workflow::{Workflow, WorkflowSpec};
use windlass_model::{ARGO_API_VERSION, NodeType, ObjectMeta, labels};

use crate::artifact_plugins::{self, ArtifactDriver};
use crate::names::fnv32a;

/// What one ledger may hold of artifacts, as JSON: it goes into an annotation of the pod.
const LEDGER_BYTES_MAX: usize = 96 << 10;
/// The reason of the Event about artifacts that stayed.
pub const FAILED: &str = "ArtifactGCFailed";
/// So many pods are made for one ledger when none of them can say how it went.
pub const PODS_MAX: u32 = 3;

/// When an artifact goes; nothing where it stays.
pub fn strategy(spec: &WorkflowSpec, artifact: &Artifact) -> Option<Strategy> {
    let own = artifact.artifact_gc.as_ref().and_then(|gc| gc.strategy.as_deref()).filter(|s| !s.is_empty());
    let of_run = spec.artifact_gc.as_ref().and_then(|gc| gc.strategy.as_deref());
    Strategy::parse(own.or(of_run)?)
}

/// The spec that was run: the workflow's own, or what it was merged into.
fn run_spec(workflow: &Workflow) -> &WorkflowSpec {
    let stored = workflow.status.as_ref().and_then(|s| s.stored_workflow_template_spec.as_deref());
    stored.unwrap_or(&workflow.spec)
}

/// The artifacts that are still there and go one day: node, artifact, when.
fn garbage(workflow: &Workflow) -> impl Iterator<Item = (&str, &Artifact, Strategy)> {
    let spec = run_spec(workflow);
    let nodes = workflow.status.iter().flat_map(|s| s.nodes.values());
    let nodes = nodes.filter(|node| node.type_ == NodeType::Pod);
    nodes.flat_map(move |node| {
        let artifacts = node.outputs.iter().flat_map(|o| &o.artifacts).filter(|a| !a.deleted);
        artifacts.filter_map(move |a| Some((node.id.as_str(), a, strategy(spec, a)?)))
    })
}

/// Whether a plugin keeps something that goes one day.
pub fn has_plugins(workflow: &Workflow, config: &crate::Config) -> bool {
    config.artifact_repository.plugin.is_some() || garbage(workflow).any(|(_, artifact, _)| artifact.plugin.is_some())
}

/// What the pod that removes an artifact is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Remover {
    account: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Remover {
    /// The artifact's own word before the workflow's.
    fn of(spec: &WorkflowSpec, artifact: &Artifact) -> Self {
        let mut remover = Self::default();
        let of_run = spec.artifact_gc.as_ref().map(|gc| (&gc.service_account_name, &gc.pod_metadata));
        let own = artifact.artifact_gc.as_ref().map(|gc| (&gc.service_account_name, &gc.pod_metadata));
        for (account, metadata) in of_run.into_iter().chain(own) {
            if let Some(account) = account.as_deref().filter(|a| !a.is_empty()) {
                account.clone_into(&mut remover.account);
            }
            if let Some(metadata) = metadata {
                remover.labels.extend(metadata.labels.clone());
                remover.annotations.extend(metadata.annotations.clone());
            }
        }
        remover
    }

    /// Argo's name of the pod. The uid is in the hash, so that a later workflow of the same name has other ledgers.
    fn name(&self, workflow: &Workflow, strategy: Strategy) -> String {
        let mut text = self.account.clone();
        for (key, value) in self.labels.iter().chain(&self.annotations) {
            text.push_str(key);
            text.push_str(value);
        }
        text.push_str(workflow.metadata.uid.as_deref().unwrap_or_default());
        let when = match strategy {
            Strategy::OnWorkflowCompletion => "wfcomp",
            Strategy::OnWorkflowDeletion => "wfdel",
        };
        let mut name = workflow.metadata.name.clone().unwrap_or_default();
        name.truncate(253 - 40);
        format!("{name}-artgc-{when}-{}", fnv32a(&text))
    }

    fn pod(
        &self,
        spec: &WorkflowSpec,
        workflow: &str,
        strategy: Strategy,
        image: &str,
        plugins: &[&ArtifactDriver],
    ) -> Result<Value, String> {
        let mut of_pod = json!({
            "containers": [{"name": "main", "image": image, "command": [IMAGE_PROGRAM, VERB, WORK]}],
            "restartPolicy": "Never",
        });
        if let Value::Object(of_pod) = &mut of_pod {
            artifact_plugins::into_pod(of_pod, plugins);
        }
        if let Some(patch) = spec.artifact_gc.as_ref().and_then(|gc| gc.pod_spec_patch.as_deref()) {
            let patch = crate::pod_spec::parse_text(patch)
                .filter(Value::is_object)
                .ok_or_else(|| "artifactGC.podSpecPatch is neither YAML nor JSON of a pod's spec".to_owned())?;
            crate::merge::strategic(&mut of_pod, &patch);
        }
        if !self.account.is_empty() {
            of_pod["serviceAccountName"] = json!(self.account);
        }
        let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
        labels.extend(self.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        labels.extend([(labels::COMPONENT, labels::ARTIFACT_GC), (labels::GARBAGE, label(workflow))]);
        let mut annotations: BTreeMap<&str, &str> = BTreeMap::new();
        annotations.extend(self.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        annotations.insert(labels::ARTIFACT_GC_STRATEGY, strategy.as_str());
        Ok(json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": of_pod}))
    }
}

/// The value of the label [`labels::GARBAGE`] on what belongs to a workflow of this name: a label holds no more.
pub fn label(name: &str) -> &str {
    name.get(..63).unwrap_or(name).trim_end_matches(['-', '.'])
}

/// The ledgers that are missing: every artifact that goes one day and is in none of `known`, the workflow's ledgers so far.
/// `config` is the run's own, with its artifact repository. What cannot be a pod is a text, and all the rest goes on.
pub fn ledgers(
    workflow: &Workflow,
    known: &[WorkflowArtifactGcTask],
    config: &crate::Config,
) -> (Vec<WorkflowArtifactGcTask>, Option<String>) {
    let written: BTreeSet<(&str, &str)> = known
        .iter()
        .flat_map(|ledger| &ledger.spec.artifacts_by_node)
        .flat_map(|(node, garbage)| garbage.artifacts.keys().map(move |name| (node.as_str(), name.as_str())))
        .collect();
    let spec = run_spec(workflow);
    let mut groups: BTreeMap<(Strategy, Remover), Vec<(&str, Artifact)>> = BTreeMap::new();
    for (node, artifact, strategy) in garbage(workflow) {
        if written.contains(&(node, artifact.name.as_str())) {
            continue;
        }
        let mut location = artifact.location();
        location.relocate(&config.artifact_repository);
        location.archive_logs = None;
        let mut found = Artifact { name: artifact.name.clone(), ..Artifact::default() };
        found.set_location(location);
        groups.entry((strategy, Remover::of(spec, artifact))).or_default().push((node, found));
    }
    let (mut ledgers, mut fault) = (Vec::new(), None);
    let name = workflow.metadata.name.as_deref().unwrap_or_default();
    for ((strategy, remover), artifacts) in groups {
        let mut artifacts = artifacts;
        let all = artifacts.iter_mut().map(|(_, artifact)| artifact);
        let plugins = artifact_plugins::complete_all(all, &config.artifact_drivers);
        let pod = plugins.and_then(|plugins| remover.pod(spec, name, strategy, &config.executor_image, &plugins));
        let pod = match pod {
            Ok(pod) => pod,
            Err(text) => {
                fault = Some(text);
                continue;
            }
        };
        let prefix = remover.name(workflow, strategy);
        let mut number =
            known.iter().filter(|l| l.metadata.name.as_ref().is_some_and(|n| n.starts_with(&prefix))).count();
        let mut open = Ledger::default();
        let mut close = |open: &mut Ledger| {
            let by_node = std::mem::take(open).by_node;
            let mut ledger = blank(workflow, strategy, format!("{prefix}-{number}"));
            ledger.spec.pod.clone_from(&pod);
            ledger.spec.artifacts_by_node = by_node;
            ledgers.push(ledger);
            number += 1;
        };
        for (node, artifact) in artifacts {
            let bytes = serde_json::to_string(&artifact).map_or(0, |text| text.len());
            if open.bytes > 0 && open.bytes + bytes > LEDGER_BYTES_MAX {
                close(&mut open);
            }
            open.bytes += bytes;
            open.by_node.entry(node.to_owned()).or_default().artifacts.insert(artifact.name.clone(), artifact);
        }
        close(&mut open);
    }
    (ledgers, fault)
}

#[derive(Default)]
struct Ledger {
    by_node: BTreeMap<String, NodeGarbage>,
    bytes: usize,
}

/// It has no owner: it is what is left when the workflow is gone.
fn blank(workflow: &Workflow, strategy: Strategy, name: String) -> WorkflowArtifactGcTask {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    WorkflowArtifactGcTask {
        api_version: ARGO_API_VERSION.to_owned(),
        kind: "WorkflowArtifactGCTask".to_owned(),
        metadata: ObjectMeta {
            name: Some(name),
            namespace: workflow.metadata.namespace.clone(),
            labels: [(labels::GARBAGE.to_owned(), label(&text(&workflow.metadata.name)).to_owned())]
                .into_iter()
                .chain(workflow.metadata.labels.get_key_value(labels::INSTANCE).map(|(k, v)| (k.clone(), v.clone())))
                .collect(),
            annotations: [
                (labels::ARTIFACT_GC_STRATEGY.to_owned(), strategy.as_str().to_owned()),
                (labels::GARBAGE_OF.to_owned(), text(&workflow.metadata.uid)),
                (labels::WORKFLOW.to_owned(), text(&workflow.metadata.name)),
            ]
            .into(),
            ..ObjectMeta::default()
        },
        ..WorkflowArtifactGcTask::default()
    }
}

/// A ledger's artifacts, in the order in which they are answered for.
fn in_order(ledger: &WorkflowArtifactGcTask) -> impl Iterator<Item = (&str, &Artifact)> {
    let nodes = ledger.spec.artifacts_by_node.iter();
    nodes.flat_map(|(node, garbage)| garbage.artifacts.values().map(move |artifact| (node.as_str(), artifact)))
}

/// The pod that carries a ledger out; `attempt` counts those that could not say how it went.
pub fn pod(ledger: &WorkflowArtifactGcTask, attempt: u32) -> Result<Value, String> {
    let name = ledger.metadata.name.clone().unwrap_or_default();
    let uid = ledger.metadata.uid.clone().unwrap_or_default();
    let task = Task {
        template: labels::ARTIFACT_GC.to_owned(),
        include_result: true,
        garbage: in_order(ledger).map(|(_, artifact)| artifact.clone()).collect(),
        workflow_name: ledger.metadata.annotations.get(labels::WORKFLOW).cloned().unwrap_or_default(),
        workflow_uid: uid.clone(),
        node_id: name.clone(),
        attempt,
        ..Task::default()
    };
    let text = serde_json::to_string(&task).map_err(|e| e.to_string())?;
    let mut pod = ledger.spec.pod.clone();
    if !pod["spec"]["containers"].is_array() {
        return Err("the ledger says of no pod; it is not one of ours".to_owned());
    }
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(pod_name(&name, attempt));
    pod["metadata"]["annotations"][labels::TASK] = json!(text);
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": ARGO_API_VERSION, "kind": "WorkflowArtifactGCTask", "name": name, "uid": uid, "controller": true,
    }]);
    Ok(pod)
}

/// The name of that pod.
pub fn pod_name(ledger: &str, attempt: u32) -> String {
    if attempt == 0 { ledger.to_owned() } else { format!("{ledger}-r{attempt}") }
}

/// What became of a ledger's artifacts. `report` is what the pod's executor reported, or why it did not.
pub fn removals(ledger: &WorkflowArtifactGcTask, report: Result<&str, &str>) -> Removals {
    let count = in_order(ledger).count();
    let answers = match report {
        Ok(text) => serde_json::from_str::<Vec<Option<String>>>(text)
            .ok()
            .filter(|answers| answers.len() == count)
            .unwrap_or_else(|| vec![Some("the pod's report cannot be read".to_owned()); count]),
        Err(why) => vec![Some(why.to_owned()); count],
    };
    let mut removals = Removals::default();
    for ((node, artifact), error) in in_order(ledger).zip(answers) {
        let results: &mut NodeRemovals = removals.artifact_results_by_node.entry(node.to_owned()).or_default();
        let removal = Removal { name: artifact.name.clone(), success: error.is_none(), error };
        results.artifact_results.insert(artifact.name.clone(), removal);
    }
    removals
}

impl Leftover {
    /// The first that stayed, and how many.
    pub fn of(removals: &Removals) -> Option<Self> {
        let all = || removals.artifact_results_by_node.values().flat_map(|n| n.artifact_results.values());
        let first = all().find_map(|r| r.error.clone().filter(|_| !r.success))?;
        Some(Self { count: all().filter(|r| !r.success).count(), first })
    }
}

/// What the Event says of a ledger whose artifacts stayed, in Argo's words. `silent` is the last pod where none could say
/// how it went.
pub fn failure(ledger: &WorkflowArtifactGcTask, left: &Leftover, silent: Option<&str>) -> String {
    let strategy =
        ledger.metadata.annotations.get(labels::ARTIFACT_GC_STRATEGY).map(String::as_str).unwrap_or_default();
    let failed = format!("Artifact Garbage Collection failed for strategy {strategy}");
    match silent {
        Some(pod) => {
            format!("{failed}, pod {pod} exited with non-zero exit code: check pod logs for more information")
        }
        None => format!("{failed}, err:{}", left.first),
    }
}

/// Artifacts that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// How many.
    pub count: usize,
    /// Why the first of them.
    pub first: String,
}

/// What the workflow's status tells when its end was seen, as a merge patch; nothing where it tells that already.
pub fn seen_patch(workflow: &Workflow, fault: Option<&str>) -> Option<Value> {
    let gc = workflow.status.as_ref().and_then(|s| s.artifact_gc_status.clone()).unwrap_or_default();
    let key = Strategy::OnWorkflowCompletion.as_str();
    if gc["strategiesProcessed"][key] == true && fault.is_none() {
        return None;
    }
    let mut status = json!({"artifactGCStatus": {"strategiesProcessed": {key: true}}});
    if let Some(fault) = fault {
        status["conditions"] = conditions(workflow, fault);
    }
    Some(only_if_unchanged(workflow, status))
}

/// What the workflow's status tells of a ledger that was carried out by `pod`, as a merge patch.
pub fn removed_patch(workflow: &Workflow, ledger: &WorkflowArtifactGcTask, pod: &str, removals: &Removals) -> Value {
    let mut nodes = Map::new();
    let rows = workflow.status.as_ref().map(|s| &s.nodes);
    for (id, results) in &removals.artifact_results_by_node {
        let Some(outputs) = rows.and_then(|rows| rows.get(id)).and_then(|row| row.outputs.as_ref()) else { continue };
        let mut artifacts = outputs.artifacts.clone();
        for artifact in &mut artifacts {
            artifact.deleted |= results.artifact_results.get(&artifact.name).is_some_and(|r| r.success);
        }
        nodes.insert(id.clone(), json!({"outputs": {"artifacts": artifacts}}));
    }
    let mut status = json!({"nodes": nodes, "artifactGCStatus": {"podsRecouped": {pod: true}}});
    if let Some(left) = Leftover::of(removals) {
        let name = ledger.metadata.name.as_deref().unwrap_or_default();
        status["conditions"] = conditions(workflow, &format!("{} (artifactGCTask: {name})", left.first));
    }
    only_if_unchanged(workflow, status)
}

fn conditions(workflow: &Workflow, message: &str) -> Value {
    const TYPE: &str = "ArtifactGCError";
    let mut all = workflow.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default();
    all.retain(|c| c.type_ != TYPE);
    all.push(Condition { type_: TYPE.to_owned(), status: "True".to_owned(), message: Some(message.to_owned()) });
    json!(all)
}

/// Lists are replaced whole: not on top of what somebody else wrote meanwhile.
fn only_if_unchanged(workflow: &Workflow, status: Value) -> Value {
    let meta = &workflow.metadata;
    json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "status": status})
}
