//! A kubelet that runs nothing: every pod of a workflow succeeds at once, its report comes first. It is the same for
//! whoever made the pods.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use windlass_model::labels;

/// How many pods are told of at the same time.
const AT_ONCE: usize = 64;

/// Runs until it is dropped. `output` bytes are what each declared output parameter holds.
pub(crate) async fn run(client: Client, output: usize) {
    let chosen = watcher::Config::default().labels(labels::WORKFLOW);
    let pods = watcher::watcher(Api::<Pod>::all(client.clone()), chosen);
    let mut begun = std::collections::HashSet::new();
    let fresh = pods.filter_map(move |event| {
        // A scheduler that finds no node writes to pods that wait, too.
        let fresh = match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                Some(pod).filter(|pod| waits(pod) && begun.insert(pod.uid()))
            }
            _ => None,
        };
        std::future::ready(fresh)
    });
    fresh.for_each_concurrent(AT_ONCE, |pod| succeed(client.clone(), pod, output)).await;
}

/// The floor: so many pods in a namespace, made by 64 callers who know nothing of workflows, while [`run`] runs. Returns
/// once the last has ended.
pub(crate) async fn bare(client: &Client, namespace: &str, count: usize) {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut events = watcher::watcher(api.clone(), watcher::Config::default().labels(labels::WORKFLOW)).boxed();
    let pod = |i: usize| -> Pod {
        let body = json!({
            "metadata": {"name": format!("p{i}"), "labels": {labels::WORKFLOW: "none"},
                "annotations": {labels::NODE_ID: format!("p{i}")}},
            "spec": {"restartPolicy": "Never",
                "containers": [{"name": "main", "image": "busybox", "command": ["true"]}]}});
        serde_json::from_value(body).unwrap()
    };
    let make = |i: usize| {
        let (api, pod) = (api.clone(), pod(i));
        async move { drop(api.create(&PostParams::default(), &pod).await.unwrap()) }
    };
    let made = futures::stream::iter(0..count).map(make).buffer_unordered(AT_ONCE).collect::<()>();
    let ended = async {
        let mut ended = std::collections::BTreeSet::new();
        while ended.len() < count {
            if let Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) = events.next().await
                && pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Succeeded")
            {
                ended.insert(pod.name_any());
            }
        }
    };
    tokio::join!(made, ended);
}

fn waits(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), None | Some("" | "Pending"))
        && pod.metadata.deletion_timestamp.is_none()
}

async fn succeed(client: Client, pod: Pod, output: usize) {
    let namespace = pod.namespace().unwrap_or_default();
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "WorkflowTaskResult");
    let kind = ApiResource::from_gvk_with_plural(&kind, "workflowtaskresults");
    let reports: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
    let mut report = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskResult", "metadata": {
        "name": pod.annotations().get(labels::NODE_ID),
        "labels": {labels::WORKFLOW: pod.labels().get(labels::WORKFLOW), labels::REPORT_OUTPUTS_COMPLETED: "true"}}});
    let names = declared(&pod);
    if !names.is_empty() {
        let value = "x".repeat(output);
        let all: Vec<Value> = names.iter().map(|name| json!({"name": name, "value": value})).collect();
        report["outputs"] = json!({"parameters": all});
    }
    let report = serde_json::from_value(report).unwrap();
    if let Err(e) = reports.create(&PostParams::default(), &report).await {
        eprintln!("the stub cannot report for {}: {e}", pod.name_any());
    }
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ended: Vec<Value> = containers
        .map(|c| {
            json!({"name": c.name, "image": c.image, "imageID": "", "ready": false, "restartCount": 0, "state": ended})
        })
        .collect();
    let patch = Patch::Merge(json!({"status": {"phase": "Succeeded", "containerStatuses": ended}}));
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    if let Err(e) = pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await {
        eprintln!("the stub cannot end {}: {e}", pod.name_any());
    }
}

/// The names of the output parameters that the step's pod is to give.
fn declared(pod: &Pod) -> Vec<String> {
    let task = pod.annotations().get(labels::TASK);
    let task: Value = task.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let all = task["outputs"]["parameters"].as_array().into_iter().flatten();
    all.filter_map(|p| p["name"].as_str().map(str::to_owned)).collect()
}
