//! Two controllers on one API, each with its `instanceID`: everything has one that tends it, and only one.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_control::clock::Clock;
use windlass_control::{Instance, Scope, cron, garbage, retention, workflow};
use windlass_model::labels;

use crate::runs::House;

/// The loops of a controller that runs what `instance` says.
fn start(client: &kube::Client, instance: Instance, stop: &CancellationToken) {
    let scope = Scope { namespace: None, instance };
    let settings = workflow::Settings { scope: scope.clone(), ..workflow::Settings::default() };
    tokio::spawn(workflow::run(client.clone(), settings.clone(), stop.clone()));
    tokio::spawn(garbage::run(client.clone(), settings, stop.clone()));
    tokio::spawn(retention::run(client.clone(), scope.clone(), Clock::default(), stop.clone()));
    tokio::spawn(cron::run(client.clone(), scope, Clock::default(), stop.clone()));
}

/// The instances that pods say, in order.
async fn pods(house: &House) -> Vec<Option<String>> {
    let pods = house.pods().list(&ListParams::default()).await.unwrap();
    let label = |pod: &k8s_openapi::api::core::v1::Pod| pod.metadata.labels.as_ref()?.get(labels::INSTANCE).cloned();
    let mut all: Vec<_> = pods.items.iter().map(label).collect();
    all.sort();
    all
}

#[tokio::test]
async fn each_runs_its_own() {
    let house = House::new().await;
    let made = |kind: &str, name: &str, instance: Option<&str>, spec: Value| {
        let mut object =
            json!({"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        if let Some(id) = instance {
            object["metadata"]["labels"] = json!({labels::INSTANCE: id});
        }
        let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(house.client.clone(), "default", &ApiResource::from_gvk(&kind));
        async move { api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap() }
    };
    let spec = json!({"entrypoint": "main", "templates": [{"name": "main", "container": {"image": "i"}}]});
    // Who tends a CronWorkflow says what is wrong with it.
    let wrong = json!({"schedules": ["at noon"], "workflowSpec": spec});
    for (name, instance) in [("of-nobody", None), ("of-a", Some("a")), ("of-b", Some("b"))] {
        made("Workflow", name, instance, spec.clone()).await;
        made("CronWorkflow", name, instance, wrong.clone()).await;
    }

    let crons: Api<DynamicObject> = Api::namespaced_with(
        house.client.clone(),
        "default",
        &ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "CronWorkflow")),
    );
    let faulty = async || {
        let all = crons.list(&ListParams::default()).await.unwrap().items;
        let has_said = |cron: &&DynamicObject| cron.data["status"]["conditions"].is_array();
        all.iter().filter(has_said).map(ResourceExt::name_any).collect::<Vec<_>>()
    };

    // Who cannot read its configuration does not guess whose workflows are whose.
    let maps: Api<ConfigMap> = Api::namespaced(house.client.clone(), "default");
    let map = |id: &str| json!({"metadata": {"name": workflow::CONFIGURATION}, "data": {"instanceID": id}});
    let configured = async || workflow::configured(&house.client, "default").await.map(|c| c.instance);
    assert_eq!(configured().await.unwrap(), None);
    maps.create(&PostParams::default(), &serde_json::from_value(map("a")).unwrap()).await.unwrap();
    assert_eq!(configured().await.unwrap().as_deref(), Some("a"));
    maps.patch(workflow::CONFIGURATION, &PatchParams::default(), &Patch::Merge(map("not one"))).await.unwrap();
    assert!(configured().await.unwrap_err().to_string().contains("instanceID: it is the value of a label"));
    // It would be the repository's configuration of these workflows, too.
    maps.delete(workflow::CONFIGURATION, &DeleteParams::default()).await.unwrap();

    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    start(&house.client, Instance::Named("a".to_owned()), &first);
    house.until("a pod and a condition", async || !pods(&house).await.is_empty() && !faulty().await.is_empty()).await;
    start(&house.client, Instance::Unnamed, &second);
    house.until("two of both", async || pods(&house).await.len() == 2 && faulty().await.len() == 2).await;
    // What would be the third one's had its time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pods(&house).await, [None, Some("a".to_owned())]);
    assert_eq!(faulty().await, ["of-a", "of-nobody"]);
    let phase = async |name: &str| house.workflows().get(name).await.unwrap().data["status"]["phase"].clone();
    assert_eq!(phase("of-b").await, Value::Null);

    // Each hears of its own pods.
    for name in ["of-a", "of-nobody"] {
        house.set_phase(name, "Succeeded").await;
        house.until("its end", async || phase(name).await == "Succeeded").await;
    }
    first.cancel();
    second.cancel();
    start(&house.client, Instance::Any, &CancellationToken::new());
    house.until("the third one's", async || phase("of-b").await == "Running" && faulty().await.len() == 3).await;
}
