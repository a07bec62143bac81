//! What has ended goes also when the API fails at the first attempt: by `ttlStrategy`, by both kinds of `podGC`, by the
//! history limit of a CronWorkflow.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_apiserver::{ApiServer, Identity, Options};
use windlass_control::clock::Clock;
use windlass_control::{Scope, cron, retention};

/// Requests that fail once each: method, and how the path ends.
type Failing = Arc<Mutex<Vec<(Method, &'static str)>>>;

struct House {
    client: kube::Client,
    failing: Failing,
    stop: CancellationToken,
}

impl House {
    /// The loops have a client for which each of these requests fails once, as when the API is away.
    async fn new(failing: &[(Method, &'static str)]) -> Self {
        let server = ApiServer::open(Options::memory()).await.unwrap();
        server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
        let failing: Failing = Arc::new(Mutex::new(failing.to_vec()));
        let (api, left) = (server.clone(), failing.clone());
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
        let stop = CancellationToken::new();
        let loops = kube::Client::new(service, "default");
        tokio::spawn(retention::run(loops.clone(), Scope::default(), Clock::default(), stop.clone()));
        tokio::spawn(cron::run(loops, Scope::default(), Clock::default(), stop.clone()));
        Self { client: server.client(Identity::admin()), failing, stop }
    }

    fn of(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("argoproj.io", "v1alpha1", kind);
        Api::namespaced_with(self.client.clone(), "default", &ApiResource::from_gvk_with_plural(&gvk, plural))
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

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        for _ in 0..1200 {
            if is_so().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never: {what}; not asked: {:?}", self.failing.lock().unwrap());
    }

    /// Every fault has happened.
    fn all_failed(&self) {
        assert_eq!(*self.failing.lock().unwrap(), []);
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
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
