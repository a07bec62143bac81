//! What has ended goes also when the API fails at the first attempt: by `ttlStrategy`, by both kinds of `podGC`, by the
//! history limit of a CronWorkflow. And what waits for the archive does not wait for ever.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use windlass_apiserver::Identity;
use windlass_control::clock::Clock;
use windlass_control::{Scope, cron, retention};

use crate::stage::{self, Stage};

/// Requests that fail once each: method, and how the path ends.
type Failing = Arc<Mutex<Vec<(Method, &'static str)>>>;

struct House {
    stage: Stage,
    failing: Failing,
}

impl House {
    /// The loops have a client for which each of these requests fails once, as when the API is away.
    async fn new(failing: &[(Method, &'static str)]) -> Self {
        let stage = Stage::new().await;
        let failing: Failing = Arc::new(Mutex::new(failing.to_vec()));
        let (api, left) = (stage.server.clone(), failing.clone());
        let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
            request.extensions_mut().insert(Identity::admin());
            let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
            let mut left = left.lock().unwrap();
            let meant =
                |(method, end): &(Method, &str)| request.method() == method && request.uri().path().ends_with(end);
            let fault = left.iter().position(meant).filter(|_| !is_watch).map(|index| left.remove(index));
            let api = api.clone();
            async move {
                match fault {
                    None => Ok(api.handle(request).await),
                    Some(_) => Err(std::io::Error::other("a fault of the test")),
                }
            }
        });
        let loops = kube::Client::new(service, "default");
        tokio::spawn(retention::run(loops.clone(), Scope::default(), Clock::default(), stage.stop.clone()));
        tokio::spawn(cron::run(loops, Scope::default(), Clock::default(), stage.stop.clone()));
        Self { stage, failing }
    }

    async fn workflow(&self, name: &str, spec: Value, completed: bool, owner: Value) {
        let object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
            "metadata": {"name": name, "ownerReferences": owner, "labels": {
                "workflows.argoproj.io/completed": completed.to_string(),
                "workflows.argoproj.io/cron-workflow": "nightly",
            }},
            "spec": spec,
            "status": {"phase": if completed { "Succeeded" } else { "Running" }, "finishedAt": "2026-01-01T00:00:00Z"},
        });
        let object = serde_json::from_value(object).unwrap();
        self.of("Workflow", "workflows").create(&PostParams::default(), &object).await.unwrap();
    }

    /// A pod of the workflow whose result is in the status.
    async fn pod(&self, name: &str, workflow: &str) {
        let pods = self.pods();
        let pod = json!({
            "metadata": {"name": name, "labels": {
                "workflows.argoproj.io/workflow": workflow, "workflows.argoproj.io/completed": "true",
            }},
            "spec": {"containers": [{"name": "main", "image": "i"}]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
        pods.patch_status(name, &PatchParams::default(), &ended).await.unwrap();
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        assert!(stage::comes(is_so).await, "never: {what}; not asked: {:?}", self.failing.lock().unwrap());
    }

    /// Every fault has happened.
    fn all_failed(&self) {
        assert_eq!(*self.failing.lock().unwrap(), []);
    }
}

impl std::ops::Deref for House {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

const WORKFLOW: &str = "/workflows/wf";

#[tokio::test]
async fn a_workflow_goes_by_its_ttl() {
    // The look before, twice, and the delete.
    let house = House::new(&[(Method::GET, WORKFLOW), (Method::GET, WORKFLOW), (Method::DELETE, WORKFLOW)]).await;
    house.workflow("wf", json!({"ttlStrategy": {"secondsAfterCompletion": 0}}), true, json!([])).await;
    let there = async || house.of("Workflow", "workflows").get_opt("wf").await.unwrap().is_some();
    house.until("the workflow goes", async || !there().await).await;
    house.all_failed();
}

#[tokio::test]
async fn a_run_that_is_retried_between_two_attempts_stays() {
    // It fails until the run has been retried, however long that takes.
    let many = vec![(Method::DELETE, WORKFLOW); 50];
    let house = House::new(&many).await;
    house.workflow("wf", json!({"ttlStrategy": {"secondsAfterCompletion": 0}}), true, json!([])).await;
    house.until("the delete fails", async || house.failing.lock().unwrap().len() < many.len()).await;
    let workflows = house.of("Workflow", "workflows");
    let again =
        json!({"metadata": {"labels": {"workflows.argoproj.io/completed": null}}, "status": {"phase": "Running"}});
    workflows.patch("wf", &PatchParams::default(), &Patch::Merge(again)).await.unwrap();
    // Another workflow, which ended later, goes: so this one's second attempt has been.
    *house.failing.lock().unwrap() = vec![(Method::DELETE, "/later"), (Method::DELETE, "/later")];
    house.workflow("later", json!({"ttlStrategy": {"secondsAfterCompletion": 0}}), true, json!([])).await;
    house.until("the other one goes", async || workflows.get_opt("later").await.unwrap().is_none()).await;
    assert!(workflows.get_opt("wf").await.unwrap().is_some());
}

#[tokio::test]
async fn pods_go_with_their_workflow() {
    let list = (Method::GET, "/namespaces/default/pods");
    let house = House::new(&[(Method::GET, WORKFLOW), list, (Method::DELETE, "/pods/a")]).await;
    house.pod("a", "wf").await;
    house.pod("b", "wf").await;
    let gc = json!({"podGC": {"strategy": "OnWorkflowCompletion", "deleteDelayDuration": "0s"}});
    house.workflow("wf", gc, true, json!([])).await;
    let left = async || house.pods().list(&Default::default()).await.unwrap().items.len();
    house.until("both pods go", async || left().await == 0).await;
    house.all_failed();
}

#[tokio::test]
async fn a_pod_goes_with_itself() {
    let house = House::new(&[(Method::DELETE, "/pods/a"), (Method::DELETE, "/pods/a")]).await;
    let gc = json!({"podGC": {"strategy": "OnPodCompletion", "deleteDelayDuration": "0s"}});
    house.workflow("wf", gc, false, json!([])).await;
    house.pod("a", "wf").await;
    house.until("the pod goes", async || house.pods().get_opt("a").await.unwrap().is_none()).await;
    house.all_failed();
}

#[tokio::test]
async fn a_workflow_goes_by_the_history_limit() {
    let house = House::new(&[(Method::DELETE, "/workflows/nightly-1")]).await;
    let object = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "metadata": {"name": "nightly"},
        "spec": {"schedules": ["0 0 1 1 *"], "successfulJobsHistoryLimit": 0, "workflowSpec": {
            "entrypoint": "main", "templates": [{"name": "main", "suspend": {}}],
        }},
    });
    let crons = house.of("CronWorkflow", "cronworkflows");
    let cron = crons.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let owner = json!([{
        "apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "name": "nightly", "uid": cron.metadata.uid,
        "controller": true,
    }]);
    house.workflow("nightly-1", json!({}), true, owner).await;
    let there = async || house.of("Workflow", "workflows").get_opt("nightly-1").await.unwrap().is_some();
    house.until("the workflow goes", async || !there().await).await;
    house.all_failed();
}

/// What says that it is to be archived waits for it: for ten minutes where the archive is this machine's, for a day where it is
/// a database.
#[tokio::test]
async fn a_database_is_waited_for_longer() {
    let ahead_s = Arc::new(AtomicI64::new(0));
    let ahead = ahead_s.clone();
    let clock = Clock::of(move || Timestamp::now() + SignedDuration::from_secs(ahead.load(Ordering::SeqCst)));
    let (near, far) = (Stage::new().await, Stage::new().await);
    tokio::spawn(retention::run(near.client.clone(), Scope::default(), clock.clone(), near.stop.clone()));
    let waits = retention::run_with_database(far.client.clone(), Scope::default(), clock.clone(), far.stop.clone());
    tokio::spawn(waits);
    let there = async |stage: &Stage| stage.workflows().get_opt("w").await.unwrap().is_some();
    for stage in [&near, &far] {
        let object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
            "metadata": {"name": "w", "labels": {
                "workflows.argoproj.io/completed": "true", "workflows.argoproj.io/workflow-archiving-status": "Pending",
            }},
            "spec": {"ttlStrategy": {"secondsAfterCompletion": 0}},
            "status": {"phase": "Succeeded", "finishedAt": "2026-01-01T00:00:00Z"},
        });
        stage.workflows().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    // Both have begun to wait.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(there(&near).await && there(&far).await);
    ahead_s.store(11 * 60, Ordering::SeqCst);
    near.until("ten minutes are over", async || !there(&near).await).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(there(&far).await);
    ahead_s.store(25 * 60 * 60, Ordering::SeqCst);
    far.until("a day is over", async || !there(&far).await).await;
}
