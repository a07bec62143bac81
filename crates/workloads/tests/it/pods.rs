//! Which pods the loops look at: those that live. What has ended wakes them once, when it ends, and is never listed.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use windlass_apiserver::{ApiServer, Identity, Options};

use crate::counting;

async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

async fn set_status(pods: &Api<Pod>, name: &str, phase: &str, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    let status = json!({"phase": phase, "podIP": "10.42.0.7", "podIPs": [{"ip": "10.42.0.7"}],
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let patch = Patch::Merge(json!({"status": status}));
    pods.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn what_has_ended_is_not_listed_and_what_ends_is_replaced() {
    let server = ApiServer::open(Options::memory()).await.unwrap();
    let client = server.client(Identity::admin());
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for n in 0..30 {
        let pod = json!({"metadata": {"name": format!("step-{n}"), "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "i"}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        set_status(&pods, &format!("step-{n}"), "Succeeded", false).await;
    }
    let (counted, listed) = counting::client(&server);
    let stop = CancellationToken::new();
    let loops = tokio::spawn(windlass_workloads::run(counted.clone(), String::new(), stop.clone()));
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8000}]}]}}}});
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();

    let replica = async |not: &str| {
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        let names = all.into_iter().filter_map(|p| p.metadata.name);
        names.into_iter().find(|n| n.starts_with("web-") && n != not)
    };
    let first = until("a replica", async || replica("").await).await;
    set_status(&pods, &first, "Running", true).await;
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), "default");
    let addresses = async || {
        let endpoints = endpoints.get_opt("web").await.unwrap()?;
        Some(endpoints.subsets.into_iter().flatten().flat_map(|s| s.addresses.unwrap_or_default()).count())
    };
    until("its address", async || addresses().await.filter(|n| *n == 1)).await;
    // It ends, so it leaves what the loops watch: that is news to both.
    set_status(&pods, &first, "Failed", false).await;
    until("another replica", async || replica(&first).await).await;
    until("no address", async || addresses().await.filter(|n| *n == 0)).await;

    stop.cancel();
    loops.await.unwrap();
    let of_loops = listed.lock().unwrap().clone();
    let lists = of_loops.get("PodList").copied().unwrap_or_default();
    assert!(lists < 30, "the pods that have ended were listed: {of_loops:?}");
    // The counter counts.
    let all: Api<Pod> = Api::namespaced(counted, "default");
    assert_eq!(all.list(&ListParams::default()).await.unwrap().items.len(), 32);
    assert_eq!(listed.lock().unwrap()["PodList"], lists + 32);
}
