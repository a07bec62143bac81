//! Artifact garbage collection over the embedded API, with the test as the kubelet and its executor.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_apiserver::Identity;
use windlass_control::clock::Clock;
use windlass_control::{Scope, garbage, retention, tables, workflow};
use windlass_model::packed;
use windlass_model::paged::Book;
use windlass_model::table::{self, Form};

use crate::stage::Stage;

struct House {
    stage: Stage,
}

impl House {
    async fn new() -> Self {
        Self { stage: Stage::new().await }
    }

    /// Starts the loop, and with it the one that hands over what Argo holds; cancel to stop it.
    fn start(&self) -> CancellationToken {
        let stop = self.stop.child_token();
        let client = self.server.client(Identity::admin());
        tokio::spawn(garbage::run(client.clone(), workflow::Settings::default(), stop.clone()));
        tokio::spawn(retention::run(client, Scope::default(), Clock::default(), stop.clone()));
        stop
    }

    /// A workflow that has ended, with an artifact for each of both times.
    fn has_ended(name: &str) -> Value {
        let artifact = |name: &str, strategy: &str| {
            json!({
                "name": name, "local": {"key": format!("wf/{name}")}, "artifactGC": {"strategy": strategy},
            })
        };
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
            "metadata": {"name": name, "labels": {
                "workflows.argoproj.io/completed": "true", "workflows.argoproj.io/phase": "Succeeded",
                "windlass.dev/artifact-gc": "true",
            }},
            "spec": {"entrypoint": "main", "templates": []},
            "status": {"phase": "Succeeded", "finishedAt": "2026-01-01T00:00:00Z", "nodes": {name: {
                "id": name, "name": name, "type": "Pod", "phase": "Succeeded", "outputs": {"artifacts": [
                    artifact("soon", "OnWorkflowCompletion"), artifact("later", "OnWorkflowDeletion"),
                ]},
            }}},
        })
    }

    async fn ended(&self, name: &str, finalizer: bool) {
        let mut object = Self::has_ended(name);
        if finalizer {
            // As Argo leaves it: without our label.
            object["metadata"]["labels"].as_object_mut().unwrap().remove("windlass.dev/artifact-gc");
            object["metadata"]["finalizers"] = json!(["workflows.argoproj.io/artifact-gc"]);
        }
        self.create(object).await;
    }

    async fn create(&self, object: Value) {
        let object = serde_json::from_value(object).unwrap();
        self.workflows().create(&PostParams::default(), &object).await.unwrap();
    }

    async fn ledgers(&self) -> Vec<DynamicObject> {
        let all = self.of("WorkflowArtifactGCTask", "workflowartifactgctasks").list(&ListParams::default()).await;
        all.unwrap().items
    }

    async fn pod_names(&self) -> Vec<String> {
        let all = self.pods().list(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter_map(|p| p.metadata.name).collect()
    }

    /// The only pod, once it is there and is not that one.
    async fn pod(&self, but: &str) -> String {
        let found = std::sync::Mutex::new(String::new());
        self.until("a pod", async || {
            let name = self.pod_names().await.into_iter().find(|name| name != but);
            name.map(|name| *found.lock().unwrap() = name).is_some()
        })
        .await;
        found.into_inner().unwrap()
    }

    /// The pod's executor reports, and the pod ends.
    async fn end(&self, pod: &str, answers: Option<Value>) {
        let ledger = self.ledgers().await.into_iter().find(|l| pod.starts_with(l.metadata.name.as_deref().unwrap()));
        let ledger = ledger.unwrap().metadata;
        if let Some(answers) = answers {
            let report = json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskResult",
                "metadata": {"name": ledger.name, "ownerReferences": [{
                    "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowArtifactGCTask",
                    "name": ledger.name, "uid": ledger.uid,
                }]},
                "outputs": {"result": answers.to_string()},
            });
            let api = self.of("WorkflowTaskResult", "workflowtaskresults");
            api.create(&PostParams::default(), &serde_json::from_value(report).unwrap()).await.unwrap();
        }
        let status = Patch::Merge(json!({"status": {"phase": "Failed", "message": "so it ended"}}));
        self.pods().patch_status(pod, &PatchParams::default(), &status).await.unwrap();
    }

    /// The Events about the workflow, and how often each was.
    async fn events(&self) -> Vec<(String, i32)> {
        let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(self.client.clone(), "default");
        let of_garbage = ListParams::default().fields("reason=ArtifactGCFailed,type=Warning,involvedObject.name=wf");
        let all = api.list(&of_garbage).await.unwrap().items;
        all.into_iter().map(|e| (e.message.unwrap_or_default(), e.count.unwrap_or_default())).collect()
    }

    async fn delete(&self, name: &str) {
        self.workflows().delete(name, &DeleteParams::background()).await.unwrap();
    }

    async fn until_gone(&self, name: &str) {
        self.until("the workflow goes", async || self.workflows().get_opt(name).await.unwrap().is_none()).await;
    }
}

impl std::ops::Deref for House {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

#[tokio::test]
async fn at_the_end_and_when_the_workflow_goes() {
    let house = House::new().await;
    house.ended("wf", false).await;
    let first = house.start();
    let soon = house.pod("").await;
    assert!(soon.starts_with("wf-artgc-wfcomp-"), "{soon}");
    house.until("both ledgers", async || house.ledgers().await.len() == 2).await;
    house.end(&soon, Some(json!([null]))).await;
    house.until("its ledger goes", async || house.ledgers().await.len() == 1).await;
    let status = house.status("wf").await;
    let artifacts = &status["nodes"]["wf"]["outputs"]["artifacts"];
    assert_eq!((&artifacts[0]["deleted"], &artifacts[1]["deleted"]), (&json!(true), &Value::Null), "{status:#}");
    assert_eq!(status["artifactGCStatus"]["strategiesProcessed"], json!({"OnWorkflowCompletion": true}));
    assert_eq!(status["artifactGCStatus"]["podsRecouped"], json!({soon.clone(): true}));
    // The pod goes with its ledger, and nothing of the other artifact happens while the workflow is there.
    house.until("the pod goes", async || house.pod_names().await.is_empty()).await;
    assert!(house.workflows().get("wf").await.unwrap().metadata.finalizers.is_none());

    // A delete while nobody looks is over at once, and what is left to do is found again.
    first.cancel();
    house.delete("wf").await;
    house.until_gone("wf").await;
    assert_eq!(house.ledgers().await.len(), 1);
    house.start();
    let later = house.pod("").await;
    assert!(later.starts_with("wf-artgc-wfdel-"), "{later}");
    house.end(&later, Some(json!([null]))).await;
    house.until("nothing is left", async || house.ledgers().await.is_empty()).await;
}

#[tokio::test]
async fn what_stays_is_told_and_tried_again() {
    let house = House::new().await;
    house.ended("wf", false).await;
    house.start();
    let pod = house.pod("").await;
    house.end(&pod, Some(json!(["no such bucket"]))).await;
    let orphan = async || {
        let all = house.ledgers().await;
        all.into_iter().find(|l| l.metadata.labels.iter().flatten().any(|(k, _)| k == "windlass.dev/orphans"))
    };
    house.until("the ledger says so", async || orphan().await.is_some()).await;
    let ledger = orphan().await.unwrap();
    let name = ledger.metadata.name.clone().unwrap();
    let removal = &ledger.data["status"]["artifactResultsByNode"]["wf"]["artifactResults"]["soon"];
    assert_eq!(*removal, json!({"name": "soon", "success": false, "error": "no such bucket"}));
    let conditions = house.status("wf").await["conditions"].clone();
    assert_eq!(conditions[0]["type"], "ArtifactGCError");
    assert_eq!(conditions[0]["message"], format!("no such bucket (artifactGCTask: {name})"));
    assert_eq!(house.pod_names().await, [pod.as_str()], "it is there to be looked at");
    let said = "Artifact Garbage Collection failed for strategy OnWorkflowCompletion, err:no such bucket";
    house.until("an Event", async || house.events().await == [(said.to_owned(), 1)]).await;

    // A delete does not wait for it, and takes nothing of the report along.
    house.delete("wf").await;
    house.until_gone("wf").await;
    let later = house.pod(&pod).await;
    house.end(&later, Some(json!([null]))).await;
    house.until("one is left", async || house.ledgers().await.len() == 1).await;
    let uid = house.pods().get(&pod).await.unwrap().metadata.uid;

    let again = Patch::Merge(json!({"metadata": {"labels": {"windlass.dev/orphans": null}}}));
    house
        .of("WorkflowArtifactGCTask", "workflowartifactgctasks")
        .patch(&name, &PatchParams::default(), &again)
        .await
        .unwrap();
    house
        .until("another pod", async || house.pods().get_opt(&pod).await.unwrap().is_some_and(|p| p.metadata.uid != uid))
        .await;
    // The same fault again is the same Event, counted; the workflow is gone.
    house.end(&pod, Some(json!(["no such bucket"]))).await;
    house.until("the Event is counted", async || house.events().await == [(said.to_owned(), 2)]).await;
    let (api, uid) = (house.pods(), house.pods().get(&pod).await.unwrap().metadata.uid);
    house
        .of("WorkflowArtifactGCTask", "workflowartifactgctasks")
        .patch(&name, &PatchParams::default(), &again)
        .await
        .unwrap();
    let is_new = |p: Option<Pod>| p.is_some_and(|p| p.metadata.uid != uid);
    house.until("a third pod", async || is_new(api.get_opt(&pod).await.unwrap())).await;
    house.end(&pod, Some(json!([null]))).await;
    house.until("nothing is left", async || house.ledgers().await.is_empty()).await;
}

#[tokio::test]
async fn a_pod_that_says_nothing_is_made_again_and_not_for_ever() {
    let house = House::new().await;
    house.ended("wf", false).await;
    house.start();
    let first = house.pod("").await;
    for n in 0..3 {
        let name = if n == 0 { first.clone() } else { format!("{first}-r{n}") };
        house.until("the pod", async || house.pods().get_opt(&name).await.unwrap().is_some()).await;
        house.end(&name, None).await;
    }
    let told = async || house.status("wf").await["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
    house.until("it is told", async || told().await.contains("without a report")).await;
    assert!(told().await.contains("so it ended"), "{}", told().await);
    assert_eq!(house.pod_names().await.len(), 3);
    let said = format!(
        "Artifact Garbage Collection failed for strategy OnWorkflowCompletion, \
         pod {first}-r2 exited with non-zero exit code: check pod logs for more information"
    );
    house.until("an Event", async || house.events().await == [(said.clone(), 1)]).await;
}

#[tokio::test]
async fn what_argo_holds_goes_when_it_is_deleted() {
    let house = House::new().await;
    house.ended("wf", true).await;
    house.start();
    house.delete("wf").await;
    house.until_gone("wf").await;
    house.until("both ledgers", async || house.ledgers().await.len() == 2).await;
    house.until("both pods", async || house.pod_names().await.len() == 2).await;
}

#[tokio::test]
async fn a_run_that_is_deleted_on_its_way_leaves_no_artifact() {
    let house = House::new().await;
    house.start();
    house.ended("other", false).await;
    let other = house.pod("").await;
    house.end(&other, Some(json!([null]))).await;
    house.until("the loop is awake", async || house.pod_names().await.is_empty()).await;
    house.ended("wf", false).await;
    // It goes on: nothing is removed before it is gone.
    let goes_on = Patch::Merge(json!({"metadata": {"labels": {"workflows.argoproj.io/completed": "false"}}}));
    house.workflows().patch("wf", &PatchParams::default(), &goes_on).await.unwrap();
    house.delete("wf").await;
    let of_wf = async || house.pod_names().await.into_iter().filter(|p| p.starts_with("wf-artgc-")).count();
    house.until("both pods", async || of_wf().await == 2).await;
}

/// What was removed is told in the node table, whatever its form: beside it, it would hide the other rows.
#[tokio::test]
async fn what_is_removed_is_told_in_a_table_that_is_packed_or_on_pages() {
    for form in [Form::Packed, Form::Paged] {
        let house = House::new().await;
        let mut object = House::has_ended("wf");
        let mut rows = object["status"].as_object_mut().unwrap().remove("nodes").unwrap();
        rows["other"] = json!({"id": "other", "name": "other", "type": "Steps", "phase": "Succeeded"});
        if form == Form::Packed {
            object["status"]["compressedNodes"] = packed::pack(&rows).into();
        } else {
            let mut book = Book::default();
            let written = book.write(["wf", "other"], |id| rows.get(id), &tables::stamp()).unwrap();
            tables::write(&house.client, "default", &object["metadata"], written.pages).await.unwrap();
            table::name_pages(&mut object, book.version());
            object["status"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        house.create(object).await;
        house.start();
        let soon = house.pod("").await;
        house.until("both ledgers", async || house.ledgers().await.len() == 2).await;
        house.end(&soon, Some(json!([null]))).await;
        house.until("its ledger goes", async || house.ledgers().await.len() == 1).await;
        let stored = serde_json::to_value(house.workflows().get("wf").await.unwrap()).unwrap();
        assert_eq!(Form::of(&stored), form, "{stored:#}");
        let whole = tables::whole(&house.client, stored).await.unwrap();
        let rows = &whole["status"]["nodes"];
        assert_eq!(rows["wf"]["outputs"]["artifacts"][0]["deleted"], true, "{whole:#}");
        assert_eq!(rows["other"]["phase"], "Succeeded", "{whole:#}");
        assert_eq!(whole["status"]["artifactGCStatus"]["podsRecouped"], json!({soon.clone(): true}));
        // The artifact of the other time is known when the workflow is gone.
        house.delete("wf").await;
        let later = house.pod(&soon).await;
        assert!(later.starts_with("wf-artgc-wfdel-"), "{later}");
    }
}
