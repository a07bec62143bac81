//! The archive's loop over the embedded API: what is kept, when, and what that says to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use windlass_archive::{Archive, Error, Page, SqliteArchive, Wanted};
use windlass_control::clock::Clock;
use windlass_control::{Scope, archive, retention, workflow};
use windlass_model::labels;

use crate::stage::Stage;

/// An archive whose disk can be full.
#[derive(Debug)]
struct Disk {
    archive: SqliteArchive,
    full: AtomicBool,
}

#[async_trait::async_trait]
impl Archive for Disk {
    async fn keep(&self, workflows: Vec<String>) -> Result<(), Error> {
        if self.full.load(Ordering::SeqCst) {
            return Err(Error::TooNew { found: 9, known: 1 });
        }
        self.archive.keep(workflows).await
    }
    async fn list(&self, wanted: Wanted) -> Result<Page, Error> {
        self.archive.list(wanted).await
    }
    async fn count(&self, wanted: Wanted) -> Result<u64, Error> {
        self.archive.count(wanted).await
    }
    async fn get(&self, uid: String) -> Result<Option<String>, Error> {
        self.archive.get(uid).await
    }
    async fn remove(&self, uid: String) -> Result<bool, Error> {
        self.archive.remove(uid).await
    }
    async fn expire(&self, finished_before: String) -> Result<usize, Error> {
        self.archive.expire(finished_before).await
    }
    async fn label_keys(&self, namespace: Option<String>) -> Result<Vec<String>, Error> {
        self.archive.label_keys(namespace).await
    }
    async fn label_values(&self, namespace: Option<String>, key: String) -> Result<Vec<String>, Error> {
        self.archive.label_values(namespace, key).await
    }
}

struct House {
    stage: Stage,
    disk: Arc<Disk>,
    _dir: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = SqliteArchive::new(dir.path().join("archive.db"));
        let disk = Arc::new(Disk { archive, full: AtomicBool::new(false) });
        Self { stage: Stage::new().await, disk, _dir: dir }
    }

    fn start(&self) {
        let settings = workflow::Settings { archive: Some(self.disk.clone()), ..workflow::Settings::default() };
        tokio::spawn(archive::run(self.client.clone(), settings.clone(), self.stop.clone()));
        tokio::spawn(retention::run(self.client.clone(), Scope::default(), Clock::default(), self.stop.clone()));
        tokio::spawn(workflow::run(self.client.clone(), settings, self.stop.clone()));
    }

    /// A workflow that needs no pod.
    async fn submit(&self, name: &str, more: Value) {
        let mut workflow = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name, "labels": {}},
            "spec": {"entrypoint": "main", "templates": [
                {"name": "main", "steps": [[{"name": "never", "template": "t", "when": "1 == 2"}]]},
                {"name": "t", "container": {"image": "i"}},
            ]},
        });
        workflow["metadata"]["labels"] = more["labels"].clone();
        if more["ttlStrategy"].is_object() {
            workflow["spec"]["ttlStrategy"] = more["ttlStrategy"].clone();
        }
        let workflow = serde_json::from_value(workflow).unwrap();
        self.workflows().create(&PostParams::default(), &workflow).await.unwrap();
    }

    async fn says(&self, name: &str, status: Option<&str>) -> bool {
        let Some(wf) = self.workflows().get_opt(name).await.unwrap() else { return false };
        let labels = wf.metadata.labels.unwrap_or_default();
        labels.get(labels::COMPLETED).is_some_and(|v| v == "true")
            && labels.get(labels::ARCHIVING_STATUS).map(String::as_str) == status
    }

    async fn kept(&self) -> Vec<String> {
        let page = self.disk.list(Wanted::default()).await.unwrap();
        let name = |text: &String| serde_json::from_str::<Value>(text).unwrap()["metadata"]["name"].clone();
        let mut names: Vec<String> = page.items.iter().map(|t| name(t).as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

impl std::ops::Deref for House {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

#[tokio::test]
async fn what_ends_is_kept_and_says_so() {
    let house = House::new().await;
    house.start();
    house.submit("one", json!({"labels": {"team": "red"}})).await;
    house.until("it is archived", async || house.says("one", Some("Archived")).await).await;
    let uid = house.workflows().get("one").await.unwrap().metadata.uid.unwrap();
    let copy: Value = serde_json::from_str(&house.disk.get(uid.clone()).await.unwrap().unwrap()).unwrap();
    assert_eq!(copy["status"]["phase"], "Succeeded");
    assert_eq!(copy["status"]["nodes"].as_object().unwrap().len(), 3, "{copy:#}");
    assert_eq!(copy["metadata"]["labels"][labels::ARCHIVING_STATUS], "Persisted");
    // It stays when its workflow goes, also by its ttlStrategy.
    house.workflows().delete("one", &DeleteParams::background()).await.unwrap();
    house.submit("two", json!({"ttlStrategy": {"secondsAfterCompletion": 0}})).await;
    house.until("it is gone", async || house.workflows().get_opt("two").await.unwrap().is_none()).await;
    assert_eq!(house.kept().await, ["one", "two"]);
}

#[tokio::test]
async fn a_delete_that_comes_first_and_a_full_disk() {
    let house = House::new().await;
    house.disk.full.store(true, Ordering::SeqCst);
    house.start();
    house.submit("waits", json!({"ttlStrategy": {"secondsAfterCompletion": 0}})).await;
    house.submit("deleted", json!({})).await;
    house.until("it has ended", async || house.says("deleted", Some("Pending")).await).await;
    house.until("it has ended", async || house.says("waits", Some("Pending")).await).await;
    // A person's delete waits for nothing, and what it took away is not lost.
    house.workflows().delete("deleted", &DeleteParams::background()).await.unwrap();
    assert!(house.workflows().get_opt("deleted").await.unwrap().is_none());
    // The ttlStrategy waits for the archive.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(house.says("waits", Some("Pending")).await && house.kept().await.is_empty());
    house.disk.full.store(false, Ordering::SeqCst);
    house.until("both are kept", async || house.kept().await == ["deleted", "waits"]).await;
    house.until("it is gone", async || house.workflows().get_opt("waits").await.unwrap().is_none()).await;
}

#[tokio::test]
async fn the_configuration_says_what_and_how_long() {
    let house = House::new().await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(house.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "windlass-system"}})).unwrap();
    let _ = namespaces.create(&PostParams::default(), &namespace).await;
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "ConfigMap"), "configmaps");
    let maps: Api<DynamicObject> = Api::namespaced_with(house.client.clone(), "windlass-system", &kind);
    let persistence = "archive: true\narchiveTTL: 1d\narchiveLabelSelector: {matchLabels: {keep: 'yes'}}\n";
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "workflow-controller-configmap"},
        "data": {"persistence": persistence},
    });
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    let old = json!({
        "metadata": {"uid": "old", "name": "old", "namespace": "default"},
        "status": {"startedAt": "2020-01-01T00:00:00Z", "finishedAt": "2020-01-01T00:00:00Z"},
    });
    house.disk.keep(vec![old.to_string()]).await.unwrap();
    house.start();
    house.submit("kept", json!({"labels": {"keep": "yes"}})).await;
    house.submit("passed-over", json!({"labels": {"keep": "no"}})).await;
    house.until("it is archived", async || house.says("kept", Some("Archived")).await).await;
    house.until("it has ended", async || house.says("passed-over", None).await).await;
    house.until("only it is kept", async || house.kept().await == ["kept"]).await;
    // And no more from now on.
    let off = Patch::Merge(json!({"data": {"persistence": "archive: false"}}));
    maps.patch("workflow-controller-configmap", &PatchParams::default(), &off).await.unwrap();
    let mut n = 0;
    house
        .until("it counts at once", async || {
            n += 1;
            let name = format!("later-{n}");
            house.submit(&name, json!({"labels": {"keep": "yes"}})).await;
            house
                .until("it has ended", async || {
                    house.says(&name, None).await
                        || house.says(&name, Some("Pending")).await
                        || house.says(&name, Some("Archived")).await
                })
                .await;
            house.says(&name, None).await
        })
        .await;
}
