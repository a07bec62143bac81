//! One recording played for real: its objects are submitted under their recorded names into the recorded namespace of a
//! running `up`, people's actions are the verbs of `windlass` and fire on their recorded condition, and what the workflows
//! came to is read back. Nothing here stands in for a kubelet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::watch;
use windlass_conformance_argo::corpus::Recording;
use windlass_conformance_argo::replay::{Played, has_ended, may, resource};

use super::bucket;
use crate::house::{BINARY, House};

/// No recording took longer than two minutes.
const CASE_MAX: Duration = Duration::from_secs(300);
/// So long the recorder waited before it looked for the last time.
const SETTLED: Duration = Duration::from_millis(700);

/// Workflows as last seen, by namespace and name: also those that are gone.
type Seen = Arc<Mutex<BTreeMap<(String, String), Value>>>;

/// A running `up`, as its clients see it.
pub(crate) struct Stage {
    client: Client,
    home: std::path::PathBuf,
    /// Whether executors report by an account of their own.
    in_pods: bool,
    seen: Seen,
    changed: watch::Receiver<u64>,
    watch: tokio::task::JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn value<T: serde::Serialize>(object: T) -> Value {
    serde_json::to_value(object).unwrap()
}

impl Stage {
    /// Becomes a client of it.
    pub(crate) async fn of(house: &House, in_pods: bool) -> Self {
        let path = house.home().join("run/kubeconfig");
        let config = Kubeconfig::read_from(path).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let seen = Seen::default();
        let (sender, changed) = watch::channel(0);
        let kind = resource("argoproj.io/v1alpha1", "Workflow");
        let all = Api::<DynamicObject>::all_with(client.clone(), &kind);
        let kept = seen.clone();
        let watch = tokio::spawn(async move {
            let mut events = watcher::watcher(all, watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) = event {
                    let meta = &object.metadata;
                    let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
                    kept.lock().unwrap().insert(key, value(&object));
                    sender.send_modify(|count| *count += 1);
                }
            }
        });
        Self { client, home: house.home().to_owned(), in_pods, seen, changed, watch }
    }

    fn api(&self, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let resource = resource(api_version, kind);
        if kind.starts_with("Cluster") || kind == "Namespace" {
            return Api::all_with(self.client.clone(), &resource);
        }
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    async fn create(&self, namespace: &str, mut object: Value) -> Result<(), String> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let is_of_all = kind.starts_with("Cluster") || kind == "Namespace";
        if !is_of_all {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let object: DynamicObject = serde_json::from_value(object).map_err(|e| e.to_string())?;
        match self.api(&version, &kind, namespace).create(&PostParams::default(), &object).await {
            // Templates of the whole cluster are those of several cases, and the controller's namespace may be there.
            Err(kube::Error::Api(status)) if status.code == 409 && is_of_all => Ok(()),
            answer => answer.map(drop).map_err(|e| format!("{kind}: {e}")),
        }
    }

    /// Tells it what there is beside the cases.
    pub(crate) async fn make(&self, objects: &[Value]) {
        for object in objects {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            self.create(namespace, object.clone()).await.unwrap();
        }
    }

    /// Waits for the server of the bucket.
    pub(crate) async fn has_bucket(&self) {
        let pods = self.api("v1", "Pod", bucket::STORE);
        let is_ready = |pod: DynamicObject| {
            let conditions = pod.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let begun = std::time::Instant::now();
        while !is_ready(pods.get("minio").await.unwrap()) {
            assert!(begun.elapsed() < CASE_MAX, "MinIO is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The account by which executors of a namespace report.
    async fn account(&self, namespace: &str) -> Result<(), String> {
        for object in bucket::account(namespace) {
            self.create(namespace, object).await?;
        }
        let said = |e: kube::Error| e.to_string();
        let maps = self.api("v1", "ConfigMap", namespace);
        let authority = loop {
            match maps.get_opt("kube-root-ca.crt").await.map_err(said)? {
                Some(map) => break map.data["data"]["ca.crt"].clone(),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{}/token", bucket::EXECUTOR);
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(asked.to_string().into_bytes()).map_err(|e| e.to_string())?;
        let token: Value = self.client.request(request).await.map_err(said)?;
        self.create(namespace, bucket::token(namespace, &token["status"]["token"], &authority)).await
    }

    /// A workflow as it is, or as it was when it went.
    async fn workflow(&self, namespace: &str, name: &str) -> Result<Option<Value>, String> {
        let api = self.api("argoproj.io/v1alpha1", "Workflow", namespace);
        let there = api.get_opt(name).await.map_err(|e| e.to_string())?.map(value);
        let key = (namespace.to_owned(), name.to_owned());
        Ok(there.or_else(|| self.seen.lock().unwrap().get(&key).cloned()))
    }

    /// The names of the workflows that a namespace has had.
    fn names(&self, namespace: &str) -> Vec<String> {
        self.seen.lock().unwrap().keys().filter(|(of, _)| of == namespace).map(|(_, name)| name.clone()).collect()
    }

    /// The namespace of a case: whoever runs in it may do everything.
    async fn namespace(&self, name: &str) -> Result<(), String> {
        self.create(name, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "my-minio-cred"},
            "stringData": {"accesskey": "minioadmin", "secretkey": "minioadmin"},
        });
        self.create(name, secret).await?;
        let rights = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "adm"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": name}],
        });
        self.create(name, rights).await?;
        let accounts = self.api("v1", "ServiceAccount", name);
        while accounts.get_opt("default").await.map_err(|e| e.to_string())?.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if self.in_pods {
            self.account(name).await?;
        }
        Ok(())
    }

    /// Plays a recording.
    pub(crate) async fn play(&self, recording: &Recording) -> Played {
        let mut played = Played::default();
        match tokio::time::timeout(CASE_MAX, self.acts(recording, &mut played)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => played.misses.push(fault),
            Err(_) => played.misses.push(format!("after {CASE_MAX:?} it has not ended")),
        }
        for name in self.names(recording.namespace()) {
            if let Ok(Some(workflow)) = self.workflow(recording.namespace(), &name).await {
                played.workflows.insert(name, workflow);
            }
        }
        played
    }

    async fn acts(&self, recording: &Recording, played: &mut Played) -> Result<(), String> {
        let namespace = recording.namespace();
        self.namespace(namespace).await?;
        for object in recording.objects() {
            self.create(namespace, object).await?;
        }
        let name_of = |w: &Value| w["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut first = None;
        let mut later = Vec::new();
        for workflow in recording.workflows() {
            let submission = recording.submission(workflow).1;
            if recording.was_submitted(&name_of(workflow)) {
                first.get_or_insert(name_of(workflow));
                self.create(namespace, submission).await?;
            } else {
                later.push(submission);
            }
        }
        let Some(first) = first else { return Ok(()) };
        let mut actions: VecDeque<&Value> = recording.actions().into_iter().map(|(_, action)| action).collect();
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            let now = self.workflow(namespace, &first).await?.unwrap_or_default();
            if let Some(action) = actions.front()
                && let Some(verb) = action["argo"][0].as_str()
                && may(verb, &now)
            {
                if verb == "retry" {
                    played.before.insert(first.clone(), now.clone());
                }
                if verb == "resubmit" {
                    // What it makes gets its recorded name, so that ids can be compared.
                    for workflow in later.drain(..) {
                        self.create(namespace, workflow).await?;
                    }
                } else {
                    self.act(namespace, action).await?;
                }
                actions.pop_front();
                continue;
            }
            if let Some(action) = actions.front()
                && has_ended(&now)
            {
                return Err(format!("it ended before anybody could {}", action["argo"][0]));
            }
            if actions.is_empty() {
                let mut ended = has_ended(&now);
                for name in self.names(namespace) {
                    ended &= self.workflow(namespace, &name).await?.is_some_and(|w| has_ended(&w));
                }
                ended &= recording.workflows().len() == self.names(namespace).len();
                if ended {
                    break;
                }
            }
            changed.changed().await.map_err(|e| e.to_string())?;
        }
        tokio::time::sleep(SETTLED).await;
        Ok(())
    }

    /// One verb of the command line; Argo's own came to the same end.
    async fn act(&self, namespace: &str, action: &Value) -> Result<(), String> {
        let words: Vec<&str> = action["argo"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut command = tokio::process::Command::new(BINARY);
        command.args(["-n", namespace]).args(&words).env("WINDLASS_HOME", &self.home).env_remove("KUBECONFIG");
        let done = command.output().await.map_err(|e| e.to_string())?;
        if done.status.success() == (action["rc"] == 0) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        Err(format!("{}: {}, Argo's ended with {}: {said}", words.join(" "), done.status, action["rc"]))
    }
}
