//! The workflow loop over the embedded API, with the test as the kubelet.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use windlass_apiserver::Identity;
use windlass_control::clock::Clock;
use windlass_control::{Scope, retention, workflow};
use windlass_model::labels;

use crate::counting;
use crate::stage::Stage;

/// The stage with the loop of workflows.
pub(crate) struct House {
    stage: Stage,
}

impl std::ops::Deref for House {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self { stage: Stage::new().await }
    }

    pub(crate) fn start(&self, client: &kube::Client) {
        tokio::spawn(workflow::run(client.clone(), workflow::Settings::default(), self.stop.clone()));
        tokio::spawn(retention::run(client.clone(), Scope::default(), Clock::default(), self.stop.clone()));
    }

    async fn submit(&self, name: &str) {
        let workflow = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name},
            "spec": {"entrypoint": "main", "templates": [{"name": "main", "container": {"image": "i"}}]},
        });
        let workflow = serde_json::from_value(workflow).unwrap();
        self.workflows().create(&PostParams::default(), &workflow).await.unwrap();
    }

    async fn node_phase(&self, name: &str) -> String {
        let status = self.workflows().get(name).await.unwrap().data["status"].clone();
        status["nodes"][name]["phase"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) async fn set_phase(&self, name: &str, phase: &str) {
        let state = match phase {
            "Running" => json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            _ => json!({"terminated": {"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:00:01Z"}}),
        };
        let status = json!({"phase": phase, "containerStatuses": [{"name": "main", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": state}]});
        let patch = Patch::Merge(json!({"status": status}));
        self.pods().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn label(&self, name: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"labels": {labels::COMPLETED: value}}}));
        self.pods().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn is_released(&self, name: &str) -> bool {
        let pod = self.pods().get_opt(name).await.unwrap();
        pod.and_then(|p| p.metadata.labels).is_some_and(|l| l.get(labels::COMPLETED).is_some_and(|v| v == "true"))
    }
}

#[tokio::test]
async fn a_start_reads_none_of_what_has_ended() {
    let house = House::new().await;
    for n in 0..40 {
        let name = format!("old-{n}");
        let pod = json!({
            "metadata": {"name": name, "labels": {labels::WORKFLOW: "old", labels::COMPLETED: "true"}},
            "spec": {"containers": [{"name": "main", "image": "i"}]},
        });
        house.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        house.set_phase(&name, "Succeeded").await;
    }
    let (client, listed) = counting::client(&house.server);
    house.start(&client);
    house.submit("new").await;
    house.until("a pod", async || house.pods().get_opt("new").await.unwrap().is_some()).await;
    house.set_phase("new", "Succeeded").await;
    house.until("the end", async || house.node_phase("new").await == "Succeeded").await;
    house.until("the release", async || house.is_released("new").await).await;
    let listed = listed.lock().unwrap().clone();
    assert_eq!(listed.get("PodList"), Some(&0), "{listed:?}");
    // The counter counts: what there is can be listed through it.
    let pods: Api<Pod> = Api::namespaced(client, "default");
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 41);
}

#[tokio::test]
async fn a_running_pod_that_somebody_labels_as_done_is_not_lost() {
    let house = House::new().await;
    house.start(&house.client);
    house.submit("w").await;
    house.until("a pod", async || house.pods().get_opt("w").await.unwrap().is_some()).await;
    house.set_phase("w", "Running").await;
    house.until("it runs", async || house.node_phase("w").await == "Running").await;
    house.label("w", "true").await;
    house.until("it is taken back", async || !house.is_released("w").await).await;
    assert_eq!(house.node_phase("w").await, "Running");
    house.set_phase("w", "Succeeded").await;
    house.until("the end", async || house.node_phase("w").await == "Succeeded").await;
    house.until("the release", async || house.is_released("w").await).await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_while_it_runs_is_gone() {
    let house = House::new().await;
    house.start(&house.client);
    house.submit("w").await;
    house.until("a pod", async || house.pods().get_opt("w").await.unwrap().is_some()).await;
    house.set_phase("w", "Running").await;
    house.until("it runs", async || house.node_phase("w").await == "Running").await;
    let now = kube::api::DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    house.pods().delete("w", &now).await.unwrap();
    house.until("the end", async || house.node_phase("w").await == "Error").await;
    let workflow = house.workflows().get("w").await.unwrap();
    assert_eq!(workflow.data["status"]["nodes"]["w"]["message"], "pod deleted");
}

#[tokio::test]
async fn pods_go_by_themselves_while_their_workflow_runs() {
    let house = House::new().await;
    house.start(&house.client);
    let step = |name: &str| json!([{"name": name, "template": "one"}]);
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "w"},
        "spec": {"entrypoint": "main", "podGC": {"strategy": "OnPodCompletion", "deleteDelayDuration": "0s"},
            "templates": [{"name": "main", "steps": [step("a"), step("b")]},
                {"name": "one", "container": {"image": "i"}}]},
    });
    house.workflows().create(&PostParams::default(), &serde_json::from_value(workflow).unwrap()).await.unwrap();
    let names = async || {
        let pods = house.pods().list(&ListParams::default()).await.unwrap().items;
        pods.into_iter().filter_map(|p| p.metadata.name).collect::<Vec<_>>()
    };
    house.until("the first pod", async || names().await.len() == 1).await;
    let first = names().await.remove(0);
    house.set_phase(&first, "Succeeded").await;
    // The first goes although the second has not ended, and the second stays.
    house.until("the first gone, the second there", async || names().await.iter().all(|n| *n != first)).await;
    house.until("the second pod", async || names().await.len() == 1).await;
    assert_eq!(house.node_phase("w").await, "Running");
}

/// The task that the pod of a one-step workflow was given.
async fn task(house: &House, name: &str) -> Value {
    house.until("the pod", async || house.pods().get_opt(name).await.unwrap().is_some()).await;
    let annotations = house.pods().get(name).await.unwrap().metadata.annotations.unwrap_or_default();
    serde_json::from_str(&annotations[labels::TASK]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_is_the_references_the_namespaces_or_the_controllers() {
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    let house = House::new().await;
    let namespaces: Api<Namespace> = Api::all(house.client.clone());
    for name in ["default", "windlass-system"] {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let _ = namespaces.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await;
    }
    house.start(&house.client);
    let submit = async |name: &str, reference: Option<Value>| {
        let mut spec = json!({"entrypoint": "main", "templates": [{"name": "main", "container": {"image": "i"},
            "outputs": {"artifacts": [{"name": "out", "path": "/o"}]}}]});
        if let Some(reference) = reference {
            spec["artifactRepositoryRef"] = reference;
        }
        let workflow =
            json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec});
        house.workflows().create(&PostParams::default(), &serde_json::from_value(workflow).unwrap()).await.unwrap();
    };
    let create = async |namespace: &str, body: Value| {
        let api: Api<ConfigMap> = Api::namespaced(house.client.clone(), namespace);
        api.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    };
    // Nothing said: the built-in store, and not a word in the status.
    submit("a", None).await;
    let location = |task: &Value| task["outputs"]["artifacts"][0].clone();
    assert_eq!(location(&task(&house, "a").await)["local"]["key"], "a/a/out.tgz");
    house
        .until("the status", async || house.workflows().get("a").await.unwrap().data["status"]["phase"] == "Running")
        .await;
    assert!(house.workflows().get("a").await.unwrap().data["status"]["artifactRepositoryRef"].is_null());
    // The controller's configuration, in the controller's namespace.
    let s3 =
        |bucket: &str| format!("archiveLogs: true\ns3: {{endpoint: 'minio:9000', bucket: {bucket}, insecure: true}}\n");
    create(
        "windlass-system",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "workflow-controller-configmap"},
        "data": {"artifactRepository": s3("controller"), "executor": "resources: {}"}}),
    )
    .await;
    submit("b", None).await;
    let given = task(&house, "b").await;
    assert_eq!(
        location(&given)["s3"],
        json!({"endpoint": "minio:9000", "bucket": "controller", "insecure": true, "key": "b/b/out.tgz"})
    );
    assert_eq!(given["logArtifact"]["s3"]["key"], "b/b/main.log");
    // The pod is asked for before the status is written: its being there says nothing of the status yet.
    let chosen = async || house.workflows().get("b").await.unwrap().data["status"]["artifactRepositoryRef"].clone();
    house.until("the repository in the status", async || !chosen().await.is_null()).await;
    let status = chosen().await;
    assert_eq!(
        (&status["default"], &status["artifactRepository"]["s3"]["bucket"]),
        (&json!(true), &json!("controller"))
    );
    // The namespace's own default, and a reference by key.
    create("default", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "artifact-repositories",
        "annotations": {"workflows.argoproj.io/default-artifact-repository": "v1"}},
        "data": {"v1": s3("namespace"), "other": s3("other").replace("s3: {", "s3: {keyFormat: 'x/{{workflow.uid}}', ")}})).await;
    submit("c", None).await;
    assert_eq!(location(&task(&house, "c").await)["s3"]["bucket"], "namespace");
    submit("d", Some(json!({"key": "other"}))).await;
    let other = location(&task(&house, "d").await);
    assert_eq!(other["s3"]["bucket"], "other");
    assert!(
        other["s3"]["key"].as_str().unwrap().starts_with("x/") && other["s3"].get("keyFormat").is_none(),
        "{other}"
    );
    // What cannot be found ends the run in Argo's words; the log says where it was looked for.
    submit("e", Some(json!({"key": "nothing"}))).await;
    submit("f", Some(json!({"configMap": "nowhere", "key": "k"}))).await;
    for (name, text) in [
        ("e", "missing key nothing"),
        ("f", "failed to find any artifact repository for artifact repository ref \"nowhere#k\""),
    ] {
        house
            .until("an error", async || house.workflows().get(name).await.unwrap().data["status"]["phase"] == "Error")
            .await;
        let message = house.workflows().get(name).await.unwrap().data["status"]["message"].clone();
        assert!(message.as_str().unwrap().contains(text), "{message}");
    }
}

/// The budget is there with the first pod, keeps the run's own pods, and goes with the end.
#[tokio::test]
async fn a_budget_stands_while_its_run_goes_on() {
    let house = House::new().await;
    house.start(&house.client);
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "kept"},
        "spec": {
            "entrypoint": "main", "podDisruptionBudget": {"minAvailable": "100%"},
            "templates": [{"name": "main", "container": {"image": "i"}}],
        },
    });
    house.workflows().create(&PostParams::default(), &serde_json::from_value(workflow).unwrap()).await.unwrap();
    house.until("a pod", async || house.pods().get_opt("kept").await.unwrap().is_some()).await;
    let gvk = GroupVersionKind::gvk("policy", "v1", "PodDisruptionBudget");
    let kind = ApiResource::from_gvk_with_plural(&gvk, "poddisruptionbudgets");
    let budgets: Api<DynamicObject> = Api::namespaced_with(house.client.clone(), "default", &kind);
    house.until("a budget", async || budgets.get_opt("kept").await.unwrap().is_some()).await;
    let budget = budgets.get("kept").await.unwrap();
    assert_eq!(budget.metadata.owner_references.as_ref().unwrap()[0].name, "kept");
    assert_eq!(
        budget.data["spec"],
        json!({"minAvailable": "100%", "selector": {"matchLabels": {labels::WORKFLOW: "kept"}}})
    );
    let pod = house.pods().get("kept").await.unwrap();
    assert_eq!(pod.metadata.labels.unwrap()[labels::WORKFLOW], "kept");
    house.set_phase("kept", "Succeeded").await;
    house.until("the end", async || house.node_phase("kept").await == "Succeeded").await;
    house.until("no budget", async || budgets.get_opt("kept").await.unwrap().is_none()).await;
}

/// The versions of somebody else that lie between ours are not ours.
#[tokio::test]
async fn what_somebody_writes_just_before_us_is_not_lost() {
    let house = House::new().await;
    let resumed = Arc::new(Mutex::new(0));
    let (server, own, count) = (house.server.clone(), house.workflows(), resumed.clone());
    let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        request.extensions_mut().insert(Identity::admin());
        let (server, own, count) = (server.clone(), own.clone(), count.clone());
        async move {
            if request.method() == http::Method::PATCH && request.uri().path().ends_with("/workflows/w") {
                let wf = own.get("w").await.unwrap();
                let mut rows = wf.data["status"]["nodes"].as_object().into_iter().flatten();
                let waits = rows.any(|(_, row)| row["type"] == "Suspend" && row["phase"] == "Running");
                let so_far = *count.lock().unwrap();
                // First the run is let go, and then its node, each while a status of ours is on the way.
                if so_far == 0 || (so_far == 1 && waits) {
                    *count.lock().unwrap() += 1;
                    let value = serde_json::to_value(&wf).unwrap();
                    let all = windlass_engine::manual::Selector::default();
                    let patch = windlass_engine::manual::resume(&value, &all, jiff::Timestamp::now()).unwrap();
                    own.patch("w", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
                }
            }
            Ok::<_, Infallible>(server.handle(request).await)
        }
    });
    house.start(&kube::Client::new(service, "default"));
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "w"},
        "spec": {"entrypoint": "main", "suspend": true, "templates": [
            {"name": "main", "steps": [[{"name": "pause", "template": "pause"}, {"name": "work", "template": "work"}]]},
            {"name": "pause", "suspend": {}}, {"name": "work", "container": {"image": "i"}},
        ]},
    });
    house.workflows().create(&PostParams::default(), &serde_json::from_value(workflow).unwrap()).await.unwrap();
    let pod = async || {
        let pods = house.pods().list(&ListParams::default()).await.unwrap().items;
        pods.into_iter().find_map(|pod| pod.metadata.name)
    };
    house.until("the run goes on", async || pod().await.is_some()).await;
    let pod = pod().await.unwrap();
    let row = async |display: &str| -> Value {
        let status = house.workflows().get("w").await.unwrap().data["status"].clone();
        let mut rows = status["nodes"].as_object().into_iter().flatten();
        rows.find(|(_, row)| row["displayName"] == display).map(|(_, row)| row["phase"].clone()).unwrap_or_default()
    };
    house.until("it waits", async || row("pause").await == "Running" && row("work").await == "Pending").await;
    house.set_phase(&pod, "Running").await;
    house.until("the node is let go", async || *resumed.lock().unwrap() == 2).await;
    house.set_phase(&pod, "Succeeded").await;
    house.until("the end", async || house.node_phase("w").await == "Succeeded").await;
}
