//! Records what the real Argo controller makes of the project's own cases, in the form of the recordings that the harness
//! reads: `record --kubeconfig FILE [--limit SECONDS] FOLDER [CASE…]` writes `FOLDER/CASE.json`. The cluster needs no node:
//! the stub kubelet says what the pods do, by the case's own script. The controller is the user's to start (README.md says
//! how), and so are the namespaces `own-CASE` to take away. It must never change the cases.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use windlass_conformance_argo::kubelet::{Script, Scripted};
use windlass_conformance_argo::own::{self, Own};

type Fault = Box<dyn std::error::Error>;

/// After the end, Argo still labels pods and takes reports away.
const LINGER: Duration = Duration::from_secs(3);

struct Flags {
    kubeconfig: PathBuf,
    limit: Duration,
    folder: PathBuf,
    cases: Vec<String>,
}

fn flags() -> Option<Flags> {
    let (mut kubeconfig, mut limit, mut rest) = (None, 60, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kubeconfig" => kubeconfig = Some(words.next()?.into()),
            "--limit" => limit = words.next()?.parse().ok()?,
            _ => rest.push(word),
        }
    }
    let folder = rest.first()?.into();
    let limit = Duration::from_secs(limit);
    Some(Flags { kubeconfig: kubeconfig?, limit, folder, cases: rest.split_off(1) })
}

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let Some(flags) = flags() else {
        eprintln!("record --kubeconfig FILE [--limit SECONDS] FOLDER [CASE…]");
        std::process::exit(2);
    };
    let file = Kubeconfig::read_from(&flags.kubeconfig)?;
    let client = Client::try_from(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)?;
    for case in own::all()? {
        if !flags.cases.is_empty() && !flags.cases.contains(&case.name) {
            continue;
        }
        if let Some(why) = &case.unrecorded {
            println!("{}: not recorded: {why}", case.name);
            continue;
        }
        let recording = record(&client, &case, flags.limit).await?;
        std::fs::create_dir_all(&flags.folder)?;
        let path = flags.folder.join(format!("{}.json", case.name));
        std::fs::write(path, serde_json::to_string_pretty(&recording)? + "\n")?;
        let status = &recording["workflows"][0]["status"];
        let phase = status["phase"].as_str().unwrap_or("never looked at");
        println!("{}: {phase}{}", case.name, if recording["finished"] == true { "" } else { ", and goes on" });
    }
    Ok(())
}

/// One namespace's objects.
struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let plural = format!("{}s", kind.to_lowercase());
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
        match kind {
            "Namespace" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        }
    }

    async fn create(&self, object: &Value) -> Result<Value, Fault> {
        let (version, kind) = (object["apiVersion"].as_str().unwrap_or("v1"), object["kind"].as_str().unwrap_or(""));
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        told(self.api(version, kind).create(&PostParams::default(), &object).await?)
    }

    async fn list(&self, version: &str, kind: &str) -> Result<Vec<Value>, Fault> {
        let all = self.api(version, kind).list(&ListParams::default()).await?.items;
        all.into_iter().map(told).collect()
    }

    async fn set_status(&self, pod: &str, status: &Value) -> Result<(), Fault> {
        let patch = Patch::Merge(json!({"status": status}));
        match self.api("v1", "Pod").patch_status(pod, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }
}

/// An object as a recording holds it.
fn told(object: DynamicObject) -> Result<Value, Fault> {
    let mut value = serde_json::to_value(object)?;
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Ok(value)
}

async fn record(client: &Client, case: &Own, limit: Duration) -> Result<Value, Fault> {
    let place = Place { client: client.clone(), namespace: format!("own-{}", case.name) };
    place.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace}})).await?;
    let begun = Instant::now();
    while !place.list("v1", "ServiceAccount").await?.iter().any(|a| a["metadata"]["name"] == "default") {
        if begun.elapsed() > limit {
            return Err("nobody makes the ServiceAccount `default`: is there a controller manager?".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut workflow = case.workflow.clone();
    workflow["apiVersion"] = json!("argoproj.io/v1alpha1");
    workflow["kind"] = json!("Workflow");
    let mut submitted = Vec::new();
    for object in case.objects.iter().chain([&workflow]) {
        submitted.push(place.create(object).await?);
    }
    let mut watched = Watched { begun: Instant::now(), ..Watched::new() };
    let mut script = Scripted::new(&case.pods);
    let mut ended: Option<Instant> = None;
    while watched.begun.elapsed() < limit && ended.is_none_or(|at| at.elapsed() < LINGER) {
        watched.look(&place, &mut script).await?;
        if watched.finished() {
            ended.get_or_insert_with(Instant::now);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(json!({
        "case": case.name, "namespace": place.namespace, "submitted": submitted, "actions": [],
        "workflows": watched.workflows.values().collect::<Vec<_>>(), "before": [],
        "pods": watched.pods.values().collect::<Vec<_>>(),
        "taskResults": watched.reports.values().collect::<Vec<_>>(),
        "timeline": watched.timeline, "finished": watched.finished(), "seconds": watched.begun.elapsed().as_secs(),
    }))
}

/// What has been seen so far, each object as it was last.
struct Watched {
    begun: Instant,
    workflows: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    reports: BTreeMap<String, Value>,
    timeline: Vec<Value>,
    seen: BTreeSet<String>,
    /// When a pod's status changes, and to what; the last one has the report before it.
    due: Vec<(Timestamp, Value, Value, Option<Value>)>,
}

impl Watched {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            workflows: BTreeMap::new(),
            pods: BTreeMap::new(),
            reports: BTreeMap::new(),
            timeline: Vec::new(),
            seen: BTreeSet::new(),
            due: Vec::new(),
        }
    }

    fn finished(&self) -> bool {
        let ended = |w: &Value| w["metadata"]["labels"]["workflows.argoproj.io/completed"] == "true";
        !self.workflows.is_empty() && self.workflows.values().all(ended)
    }

    async fn look(&mut self, place: &Place, script: &mut Scripted) -> Result<(), Fault> {
        let text = |object: &Value, key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let now = Timestamp::now();
        for pod in place.list("v1", "Pod").await? {
            let uid = text(&pod, "uid");
            let phase = |pod: Option<&Value>| pod.map(|p| p["status"]["phase"].clone());
            if phase(self.pods.get(&uid)) != phase(Some(&pod)) {
                let ms = u64::try_from(self.begun.elapsed().as_millis())?;
                self.timeline.push(json!([ms, "pod", text(&pod, "name"), pod["status"]["phase"]]));
            }
            if self.seen.insert(uid.clone())
                && let Some(fate) = script.fate(&pod, now)
            {
                place.set_status(&text(&pod, "name"), &fate.begins).await?;
                if let Some((at, status)) = fate.ends {
                    self.due.push((at, pod.clone(), status, fate.report));
                }
            }
            self.pods.insert(uid, pod);
        }
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, ..)| *at <= now);
        self.due = later;
        for (_, pod, status, report) in due {
            // Argo's executor reports of every step.
            let id = &pod["metadata"]["annotations"]["workflows.argoproj.io/node-id"];
            let mut object = json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskResult",
                "metadata": {"name": id, "labels": {
                    "workflows.argoproj.io/workflow": pod["metadata"]["labels"]["workflows.argoproj.io/workflow"],
                    "workflows.argoproj.io/report-outputs-completed": "true",
                }},
            });
            if let Some(report) = report {
                object["outputs"] = report["outputs"].clone();
            }
            place.create(&object).await?;
            place.set_status(&text(&pod, "name"), &status).await?;
        }
        for report in place.list("argoproj.io/v1alpha1", "WorkflowTaskResult").await? {
            self.reports.insert(text(&report, "name"), report);
        }
        for workflow in place.list("argoproj.io/v1alpha1", "Workflow").await? {
            self.workflows.insert(text(&workflow, "name"), workflow);
        }
        Ok(())
    }
}
