//! A kubelet that runs nothing: each pod begins and ends after a while that the seed decides, and how it ends is said by
//! its image: `ok`, `alone` (under a mutex), `fail`, `flaky` (one in three, by the node's name, so that a run without
//! faults ends the same), `second` (which fails the first time) or `stays` (until it is deleted).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use windlass_model::labels;

use super::dice::Dice;

/// Lost pods are made again so many times without a word; after that the step fails, and rightly.
const LOSSES_MAX: i32 = 3;

/// How this kubelet works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habit {
    /// Some pods are lost with their node.
    pub(super) loses: bool,
    /// How long a pod waits, and how long it runs, at most.
    pub(super) pace_ms: [u64; 2],
}

/// Runs until it is dropped.
pub(super) async fn run(client: Client, namespace: String, seed: u64, habit: Habit) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let mut events = watcher::watcher(pods, watcher::Config::default()).boxed();
    let mut begun = BTreeSet::new();
    // By node and workflow; the names of the workflows tell their nodes apart.
    let mut lost = BTreeMap::new();
    let mut dice = Dice::of(seed, "kubelet");
    let mut lives = tokio::task::JoinSet::new();
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        let stays = image(&pod) == "stays";
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
        if stays && pod.metadata.deletion_timestamp.is_some() && phase == "Running" {
            set(&client, &pod, "Failed", Some(143)).await;
        }
        if begun.insert(pod.uid().unwrap()) {
            let [before, during] = habit.pace_ms.map(|most| Duration::from_millis(dice.below(most)));
            // As a node that went away: the infrastructure's fault, which no run may end differently for.
            let losses = lost.entry(pod.annotations().get(labels::NODE_ID).cloned()).or_insert(0);
            let is_lost = habit.loses && *losses < LOSSES_MAX && dice.hits(6);
            *losses += i32::from(is_lost);
            let client = client.clone();
            lives.spawn(async move {
                tokio::time::sleep(before).await;
                set(&client, &pod, "Running", None).await;
                tokio::time::sleep(during).await;
                if stays {
                    return;
                }
                if is_lost {
                    set(&client, &pod, "Failed", None).await;
                    return;
                }
                let code = code(seed, &pod);
                if code == 0 {
                    report(&client, &pod).await;
                }
                set(&client, &pod, if code == 0 { "Succeeded" } else { "Failed" }, Some(code)).await;
            });
        }
    }
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap_or_default()
}

/// How the pod's container ends.
fn code(seed: u64, pod: &Pod) -> i64 {
    let node = pod.annotations().get(labels::NODE_NAME).map_or("", String::as_str);
    let mut hasher = DefaultHasher::new();
    (seed, node).hash(&mut hasher);
    match image(pod) {
        "ok" | "alone" => 0,
        // Our own, in a pod of a manifest or of artifacts to remove.
        own if own == windlass_engine::Config::default().executor_image => 0,
        "fail" => 1,
        "second" => i64::from(node.ends_with("(0)")),
        "flaky" => i64::from(hasher.finish().is_multiple_of(3)),
        other => panic!("no such image in a simulation: {other}"),
    }
}

/// What a step declares to give comes before its pod ends, as a node agent does it.
async fn report(client: &Client, pod: &Pod) {
    let task: Value = serde_json::from_str(&pod.annotations()[labels::TASK]).unwrap();
    let mut outputs = json!({});
    let names = task["outputs"]["parameters"].as_array().into_iter().flatten().map(|p| p["name"].clone());
    let parameters: Vec<Value> = names.map(|name| json!({"name": name, "value": "made"})).collect();
    if !parameters.is_empty() {
        outputs["parameters"] = json!(parameters);
    }
    let artifacts = &task["outputs"]["artifacts"];
    if artifacts.as_array().is_some_and(|a| !a.is_empty()) {
        outputs["artifacts"] = artifacts.clone();
    }
    let garbage = task["garbage"].as_array().map_or(0, Vec::len);
    if garbage > 0 {
        outputs["result"] = json!(json!(vec![Value::Null; garbage]).to_string());
    } else if task["includeResult"] == true {
        outputs["result"] = json!("[1,2,3]");
    }
    if outputs == json!({}) {
        return;
    }
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "WorkflowTaskResult");
    let kind = ApiResource::from_gvk_with_plural(&kind, "workflowtaskresults");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &pod.namespace().unwrap(), &kind);
    let name = task["nodeId"].as_str().unwrap();
    let object = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskResult",
        "metadata": {"name": name, "labels": {labels::WORKFLOW: task["workflowName"],
            labels::REPORT_OUTPUTS_COMPLETED: "true"}},
        "outputs": outputs,
    });
    // A node that is run again reports again.
    if api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await.is_err() {
        let patch = Patch::Merge(json!({"outputs": object["outputs"]}));
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

async fn set(client: &Client, pod: &Pod, phase: &str, code: Option<i64>) {
    let at = "2026-01-01T00:00:00Z";
    let state = match code {
        None if phase == "Failed" => json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}),
        None => json!({"running": {"startedAt": at}}),
        Some(code) => json!({"terminated": {"exitCode": code, "startedAt": at, "finishedAt": at}}),
    };
    let mut status = json!({"phase": phase, "containerStatuses": [{"name": "main", "image": "i", "imageID": "",
        "ready": code.is_none(), "restartCount": 0, "state": state}]});
    if phase == "Failed" && code.is_none() {
        status["reason"] = json!("NodeLost");
    }
    let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid()}, "status": status}));
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    // A pod that was deleted meanwhile has no status to set.
    let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
}
