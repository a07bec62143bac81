//! Locks, remembered outputs and limits over several workflows, over the embedded API, with the test as the kubelet.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use windlass_archive::{Limits, SqliteArchive};
use windlass_control::workflow;

use crate::stage::Stage;

struct House {
    stage: Stage,
    loops: Option<tokio::task::JoinHandle<()>>,
    limits: Option<Arc<dyn Limits>>,
}

impl House {
    async fn new() -> Self {
        Self::with(None).await
    }

    async fn with(limits: Option<Arc<dyn Limits>>) -> Self {
        let mut house = Self { stage: Stage::new().await, loops: None, limits };
        house.start();
        house
    }

    fn start(&mut self) {
        let settings = workflow::Settings { limits: self.limits.clone(), ..workflow::Settings::default() };
        self.loops = Some(tokio::spawn(workflow::run(self.client.clone(), settings, self.stop.clone())));
    }

    /// As a controller that is killed: what it was about to do is not done.
    async fn kill(&mut self) {
        let loops = self.loops.take().unwrap();
        loops.abort();
        let _ = loops.await;
    }

    /// One workflow of one pod; the lock is the template's, or the run's.
    async fn submit(&self, name: &str, priority: i32, of_run: bool, wish: Value) {
        let mut template = json!({"name": "main", "container": {"image": "i"}});
        let mut spec = json!({"entrypoint": "main", "priority": priority});
        if of_run {
            spec["synchronization"] = wish;
        } else {
            template["synchronization"] = wish;
        }
        spec["templates"] = json!([template]);
        let workflow = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec,
        });
        self.workflows().create(&PostParams::default(), &serde_json::from_value(workflow).unwrap()).await.unwrap();
    }

    async fn has_pod(&self, name: &str) -> bool {
        self.pods().get_opt(name).await.unwrap().is_some()
    }

    /// Waits until the run has its pod, and is told to hold its lock.
    async fn begins(&self, name: &str) {
        self.until(&format!("{name} begins"), async || self.has_pod(name).await).await;
        let holds = |s: Value| s["synchronization"].to_string().contains(&format!("default/{name}"));
        assert!(holds(self.status(name).await), "the hold was written before the pod was made");
    }

    /// Waits until it says for what it waits.
    async fn waits(&self, name: &str, message: &str) {
        let says = |s: &Value| s["message"] == message || s["nodes"][name]["message"] == message;
        self.until(&format!("{name}: {message}"), async || says(&self.status(name).await)).await;
        assert!(!self.has_pod(name).await);
    }

    async fn end(&self, name: &str) {
        let ended = json!({"terminated": {"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:01Z"}});
        let status = json!({"phase": "Succeeded", "containerStatuses": [{"name": "main", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": ended}]});
        let patch = Patch::Merge(json!({"status": status}));
        self.pods().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn size(&self, key: &str, size: &str) {
        self.set("default", "limits", key, size).await;
    }

    /// The namespace of the configuration is there; all of them.
    async fn namespace_of_the_controller(&self) -> Api<Namespace> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces.get_opt("windlass-system").await.unwrap().is_none() {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "windlass-system"}});
            namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
        }
        namespaces
    }

    async fn configure(&self, key: &str, value: &str) {
        self.set("windlass-system", "workflow-controller-configmap", key, value).await;
    }

    async fn set(&self, namespace: &str, name: &str, key: &str, value: &str) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: value}});
        let patch = Patch::Merge(&map);
        if maps.get_opt(name).await.unwrap().is_some() {
            maps.patch(name, &PatchParams::default(), &patch).await.unwrap();
        } else {
            maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
        }
    }
}

impl std::ops::Deref for House {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

fn mutex() -> Value {
    json!({"mutexes": [{"name": "m"}]})
}

const MUTEX: &str = "Waiting for default/Mutex/m lock. Lock status: 0/1";

#[tokio::test]
async fn a_lock_goes_from_run_to_run_whatever_ends_them() {
    let house = House::new().await;
    house.submit("a", 0, false, mutex()).await;
    house.begins("a").await;
    house.submit("b", 0, true, mutex()).await;
    house.waits("b", MUTEX).await;
    assert_eq!(house.status("b").await["phase"], "Pending");
    house.submit("c", 0, false, mutex()).await;
    house.waits("c", MUTEX).await;
    house.submit("vip", 9, false, mutex()).await;
    house.waits("vip", MUTEX).await;
    // By priority, and then by age: deleted, stopped or ended well, the next one follows.
    house.end("a").await;
    house.begins("vip").await;
    house.until("a is over", async || house.status("a").await["phase"] == "Succeeded").await;
    assert_eq!(house.status("a").await["synchronization"], Value::Null);
    house.workflows().delete("vip", &DeleteParams::background()).await.unwrap();
    house.begins("b").await;
    let stop = Patch::Merge(json!({"spec": {"shutdown": "Terminate"}}));
    house.workflows().patch("b", &PatchParams::default(), &stop).await.unwrap();
    house.begins("c").await;
    house.end("c").await;
    house.until("c is over", async || house.status("c").await["phase"] == "Succeeded").await;
}

#[tokio::test]
async fn a_controller_that_was_killed_knows_who_holds_what() {
    let mut house = House::new().await;
    house.submit("a", 0, false, mutex()).await;
    house.begins("a").await;
    house.submit("b", 9, true, mutex()).await;
    house.waits("b", MUTEX).await;
    house.kill().await;
    // It comes while nobody is there, and is more important.
    house.submit("c", 99, false, mutex()).await;
    house.start();
    house.waits("c", MUTEX).await;
    assert!(!house.has_pod("b").await);
    house.kill().await;
    house.end("a").await;
    house.start();
    // Whichever of the two asked first after the start.
    house.until("one follows", async || house.has_pod("b").await || house.has_pod("c").await).await;
    let (one, other) = if house.has_pod("c").await { ("c", "b") } else { ("b", "c") };
    house.begins(one).await;
    assert!(!house.has_pod(other).await);
    // A holder that is deleted while nobody looks leaves nothing behind.
    house.kill().await;
    house.workflows().delete(one, &DeleteParams::background()).await.unwrap();
    house.start();
    house.begins(other).await;
}

#[tokio::test]
async fn a_semaphore_has_the_size_that_its_config_map_says_now() {
    let house = House::new().await;
    let wish = || json!({"semaphores": [{"configMapKeyRef": {"name": "limits", "key": "k"}}]});
    house.submit("early", 0, true, wish()).await;
    let message = "Failed to acquire the synchronization lock. failed to initialize semaphore default/ConfigMap/limits/k \
                   with limit";
    house.until("nobody gave a size", async || house.status("early").await["message"] == message).await;
    house.size("k", "1").await;
    house.submit("a", 0, false, wish()).await;
    house.begins("a").await;
    house.submit("b", 0, false, wish()).await;
    house.waits("b", "Waiting for default/ConfigMap/limits/k lock. Lock status: 0/1").await;
    house.size("k", "2").await;
    house.begins("b").await;
    house.size("k", "1").await;
    house.submit("c", 0, false, wish()).await;
    house.waits("c", "Waiting for default/ConfigMap/limits/k lock. Lock status: 0/1").await;
    house.end("a").await;
    house.until("a is over", async || house.status("a").await["phase"] == "Succeeded").await;
    assert!(!house.has_pod("c").await, "one place, and b has it");
    house.end("b").await;
    house.begins("c").await;
}

const POSTPONED: &str = "Workflow processing has been postponed because too many workflows are already running";

#[tokio::test]
async fn no_more_workflows_run_than_the_configuration_says() {
    let mut house = House::new().await;
    house.kill().await;
    let namespaces = house.namespace_of_the_controller().await;
    house.configure("parallelism", "1").await;
    house.start();
    house.submit("a", 0, false, Value::Null).await;
    house.until("a begins", async || house.has_pod("a").await).await;
    for (name, priority) in [("b", 0), ("vip", 5), ("c", 0)] {
        house.submit(name, priority, false, Value::Null).await;
        house.waits(name, POSTPONED).await;
        assert_eq!(house.status(name).await["phase"], "Pending");
    }
    // A controller that starts anew lets nobody in beside the one that runs.
    house.until("a is known to run", async || house.status("a").await["phase"] == "Running").await;
    house.kill().await;
    house.start();
    house.end("a").await;
    house.until("vip begins", async || house.has_pod("vip").await).await;
    assert!(!house.has_pod("b").await && !house.has_pod("c").await);
    house.workflows().delete("vip", &DeleteParams::background()).await.unwrap();
    house.until("b begins", async || house.has_pod("b").await).await;
    assert!(!house.has_pod("c").await);
    // More room counts at once, and the namespace has a word of its own.
    let label = |limit: Value| json!({"metadata": {"labels": {"workflows.argoproj.io/parallelism-limit": limit}}});
    namespaces.patch("default", &PatchParams::default(), &Patch::Merge(label(json!("1")))).await.unwrap();
    house.submit("d", 0, false, Value::Null).await;
    house.waits("d", POSTPONED).await;
    house.configure("parallelism", "5").await;
    namespaces.patch("default", &PatchParams::default(), &Patch::Merge(label(json!("2")))).await.unwrap();
    house.until("c begins", async || house.has_pod("c").await).await;
    assert!(!house.has_pod("d").await, "two in this namespace");
    namespaces.patch("default", &PatchParams::default(), &Patch::Merge(label(Value::Null))).await.unwrap();
    house.until("d begins", async || house.has_pod("d").await).await;
}

#[tokio::test]
async fn the_configuration_says_that_workflows_refer_to_templates() {
    let mut house = House::new().await;
    house.kill().await;
    house.namespace_of_the_controller().await;
    house.configure("workflowRestrictions", "templateReferencing: Strict").await;
    house.start();
    house.submit("a", 0, false, Value::Null).await;
    house.until("a is refused", async || house.status("a").await["phase"] == "Error").await;
    let refused = "workflows must use workflowTemplateRef to be executed when the controller is in reference mode";
    assert_eq!(house.status("a").await["message"], refused);
    // Without the setting it is as before.
    house.configure("workflowRestrictions", "{}").await;
    house.kill().await;
    house.start();
    house.submit("b", 0, false, Value::Null).await;
    house.until("b begins", async || house.has_pod("b").await).await;
}

#[tokio::test]
async fn what_one_run_made_another_remembers() {
    let house = House::new().await;
    let submit = async |name: &str| {
        let workflow = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name},
            "spec": {"entrypoint": "main", "templates": [{
                "name": "main", "container": {"image": "i"}, "synchronization": mutex(),
                "memoize": {"key": "k", "cache": {"configMap": {"name": "cache"}}},
            }]},
        });
        house.workflows().create(&PostParams::default(), &serde_json::from_value(workflow).unwrap()).await.unwrap();
    };
    submit("a").await;
    house.begins("a").await;
    // It waits for the lock, and then finds what was made under it.
    submit("b").await;
    house.waits("b", MUTEX).await;
    house.end("a").await;
    house.until("b is over", async || house.status("b").await["phase"] == "Succeeded").await;
    assert!(!house.has_pod("b").await);
    let row = house.status("b").await["nodes"]["b"].clone();
    assert_eq!(row["memoizationStatus"], json!({"hit": true, "key": "k", "cacheName": "cache"}));
    assert_eq!(row["outputs"]["exitCode"], "0");
    let maps: Api<ConfigMap> = Api::namespaced(house.client.clone(), "default");
    let cache = maps.get("cache").await.unwrap();
    assert_eq!(cache.metadata.labels.unwrap()["workflows.argoproj.io/configmap-type"], "Cache");
    let entry: Value = serde_json::from_str(&cache.data.unwrap()["k"]).unwrap();
    assert_eq!(entry["nodeID"], "a");
}

#[tokio::test]
async fn locks_in_a_database_have_their_limits_there_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Arc::new(SqliteArchive::new(dir.path().join("archive.db")));
    limits.create_limit("shared/k".to_owned(), 1).await.unwrap();
    let mut house = House::with(Some(limits.clone())).await;
    let semaphore = || json!({"semaphores": [{"namespace": "shared", "database": {"key": "k"}}]});
    let mutex = || json!({"mutexes": [{"namespace": "shared", "name": "k", "database": true}]});
    house.submit("one", 0, true, semaphore()).await;
    house.begins("one").await;
    // The mutex of that name is another lock.
    house.submit("mutex", 0, false, mutex()).await;
    house.begins("mutex").await;
    house.submit("two", 0, true, semaphore()).await;
    house.waits("two", "Waiting for shared/Database/k lock. Lock status: 0/1").await;
    house.submit("three", 0, false, mutex()).await;
    house.waits("three", "Waiting for shared/Database/k lock. Lock status: 0/1").await;
    // A controller that is killed knows afterwards who holds what.
    house.kill().await;
    house.start();
    house.submit("four", 9, true, semaphore()).await;
    house.waits("four", "Waiting for shared/Database/k lock. Lock status: 0/1").await;
    assert!(!house.has_pod("two").await && !house.has_pod("three").await);
    // A limit that is said anew counts, and the one of higher priority is first.
    limits.update_limit("shared/k".to_owned(), 2).await.unwrap();
    house.begins("four").await;
    assert!(!house.has_pod("two").await);
    house.end("one").await;
    house.begins("two").await;
    house.end("mutex").await;
    house.begins("three").await;
    for name in ["two", "three", "four"] {
        house.end(name).await;
    }
    house
        .until("nothing is held", async || {
            let mut free = true;
            for name in ["one", "two", "three", "four", "mutex"] {
                free &= house.status(name).await["synchronization"].is_null();
            }
            free
        })
        .await;
    // A limit that nobody has said is told.
    house.submit("five", 0, true, json!({"semaphores": [{"database": {"key": "k"}}]})).await;
    let says = async || house.status("five").await["message"].as_str().unwrap_or_default().to_owned();
    house.until("it fails", async || says().await.contains("failed to initialize semaphore default/Database/k")).await;
}

#[tokio::test]
async fn without_a_database_there_are_no_such_locks() {
    let house = House::new().await;
    house.submit("w", 0, true, json!({"mutexes": [{"name": "m", "database": true}]})).await;
    let says = async || house.status("w").await["message"].as_str().unwrap_or_default().to_owned();
    house.until("it fails", async || says().await.contains("synchronization database session is not available")).await;
}
