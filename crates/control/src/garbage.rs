//! Artifact garbage collection: it watches workflows that made artifacts to remove, writes what is to be removed into
//! ledgers when they end or go, and has each ledger carried out by a pod. What goes where is the engine's
//! ([`windlass_engine::garbage`]). A ledger outlives its workflow, so a delete never waits for this loop: it puts no
//! finalizer on anything, and takes Argo's off. Doing anything here twice is harmless.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::watcher::{self, Event, watch_object};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use windlass_engine::garbage::{self, Leftover};
use windlass_model::garbage::{Removals, Strategy, WorkflowArtifactGcTask};
use windlass_model::{ARGO_GROUP, VERSION, Workflow, labels, table};

use crate::again::{Deleted, PAUSE_MIN, Pauses, is_final};
use crate::clock::Clock;
use crate::form::Executor;
use crate::pod::PodSeen;
use crate::tables::Fault;
use crate::workflow::{Live, Settings, configuration, repository, seen};
use crate::{Error, Scope, event, tables};

/// So many ledgers are carried out at the same time.
const AT_ONCE: usize = 16;
/// A pod that takes longer does not keep others from their turn.
const TURN_MAX: Duration = Duration::from_secs(600);

/// Namespace and name.
type Key = (String, String);

enum Sight {
    /// All workflows with garbage follow.
    ListBegins,
    /// That was all of them.
    ListEnds,
    Workflow(Box<DynamicObject>),
    Gone(Box<DynamicObject>),
    Ledger(Box<WorkflowArtifactGcTask>),
    LedgerGone(Key),
}

enum Done {
    /// What there was to write of this workflow is written.
    Recorded,
    /// The ledger of this uid is settled, or was not due.
    Tended(Key, Option<String>),
}

fn ledgers() -> ApiResource {
    let gvk = GroupVersionKind::gvk(ARGO_GROUP, VERSION, "WorkflowArtifactGCTask");
    ApiResource::from_gvk_with_plural(&gvk, "workflowartifactgctasks")
}

/// Runs until `stop` is cancelled; what is under way goes on by itself, and is found again by the next start.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) {
    let mut sights = select_all(watch(&client, &settings.scope));
    let hands = Hands { client, settings, turns: Arc::new(Semaphore::new(AT_ONCE)) };
    let mut house = House {
        hands,
        tasks: JoinSet::new(),
        ledgers: HashMap::new(),
        tended: HashSet::new(),
        alive: HashSet::new(),
        recorded: HashMap::new(),
        is_listed: false,
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            sight = sights.next() => match sight {
                None => return,
                Some(sight) => house.see(sight),
            },
            Some(done) = house.tasks.join_next() => match done {
                Ok(Done::Tended(key, uid)) => house.is_tended(&key, uid.as_deref()),
                Ok(Done::Recorded) => {}
                Err(fault) => warn!(%fault, "artifacts to remove"),
            },
        }
    }
}

fn watch(client: &Client, scope: &Scope) -> Vec<BoxStream<'static, Sight>> {
    // Exact: a workflow that is there and not in the list would lose the artifacts that go when it is deleted.
    let with_garbage = scope.few(labels::GARBAGE);
    let workflows = watcher::watcher(scope.api_of::<DynamicObject>(client, &seen::workflows()), with_garbage)
        .filter_map(|event| async {
            match event {
                Ok(Event::Apply(w) | Event::InitApply(w)) => Some(Sight::Workflow(Box::new(w))),
                Ok(Event::Delete(w)) => Some(Sight::Gone(Box::new(w))),
                Ok(Event::Init) => Some(Sight::ListBegins),
                Ok(Event::InitDone) => Some(Sight::ListEnds),
                Err(e) => pause(&e).await,
            }
        })
        .boxed();
    let tasks = watcher::watcher(scope.api_of::<DynamicObject>(client, &ledgers()), scope.all())
        .filter_map(|event| async {
            match event {
                Ok(Event::Apply(l) | Event::InitApply(l)) => read(l).map(|ledger| Sight::Ledger(Box::new(ledger))),
                Ok(Event::Delete(l)) => Some(Sight::LedgerGone((l.namespace().unwrap_or_default(), l.name_any()))),
                Ok(_) => None,
                Err(e) => pause(&e).await,
            }
        })
        .boxed();
    vec![workflows, tasks]
}

async fn pause(e: &watcher::Error) -> Option<Sight> {
    debug!(error = %e, "watch of artifacts to remove interrupted");
    tokio::time::sleep(PAUSE_MIN).await;
    None
}

fn read<T: serde::de::DeserializeOwned>(object: DynamicObject) -> Option<T> {
    serde_json::to_value(object).ok().and_then(|value| serde_json::from_value(value).ok())
}

fn key_of(ledger: &WorkflowArtifactGcTask) -> Key {
    (ledger.metadata.namespace.clone().unwrap_or_default(), ledger.metadata.name.clone().unwrap_or_default())
}

/// The uid of the ledger's workflow; nothing where it is none of ours (Argo's have a workflow that owns them).
fn workflow_of(ledger: &WorkflowArtifactGcTask) -> Option<&str> {
    ledger.metadata.annotations.get(labels::GARBAGE_OF).map(String::as_str)
}

fn strategy_of(ledger: &WorkflowArtifactGcTask) -> Option<Strategy> {
    Strategy::parse(ledger.metadata.annotations.get(labels::ARTIFACT_GC_STRATEGY)?)
}

struct House {
    hands: Hands,
    tasks: JoinSet<Done>,
    /// All there are.
    ledgers: HashMap<Key, Box<WorkflowArtifactGcTask>>,
    /// Those that somebody carries out.
    tended: HashSet<Key>,
    /// The uids of workflows with garbage that are there.
    alive: HashSet<String>,
    /// When the end of a workflow that was seen was.
    recorded: HashMap<String, Value>,
    is_listed: bool,
}

impl House {
    fn see(&mut self, sight: Sight) {
        match sight {
            Sight::ListBegins => {
                self.is_listed = false;
                self.alive.clear();
            }
            Sight::ListEnds => {
                self.is_listed = true;
                self.recorded.retain(|uid, _| self.alive.contains(uid));
                let all: Vec<Key> = self.ledgers.keys().cloned().collect();
                all.iter().for_each(|key| self.tend(key));
            }
            Sight::Workflow(workflow) => self.see_workflow(*workflow),
            Sight::Gone(workflow) => {
                let uid = workflow.uid().unwrap_or_default();
                self.alive.remove(&uid);
                self.recorded.remove(&uid);
                self.record(*workflow, true);
                let all = self.ledgers.iter().filter(|(_, l)| workflow_of(l) == Some(uid.as_str()));
                let of_it: Vec<Key> = all.map(|(key, _)| key.clone()).collect();
                of_it.iter().for_each(|key| self.tend(key));
            }
            Sight::Ledger(ledger) => {
                let key = key_of(&ledger);
                self.ledgers.insert(key.clone(), ledger);
                self.tend(&key);
            }
            Sight::LedgerGone(key) => drop(self.ledgers.remove(&key)),
        }
    }

    fn see_workflow(&mut self, workflow: DynamicObject) {
        let uid = workflow.uid().unwrap_or_default();
        self.alive.insert(uid.clone());
        let is_held = workflow.metadata.deletion_timestamp.is_some()
            && workflow.finalizers().iter().any(|f| f == labels::ARTIFACT_GC_FINALIZER);
        let has_ended = workflow.labels().get(labels::COMPLETED).is_some_and(|v| v == "true");
        // A retried run ends again, and later.
        let mark = json!([workflow.data["status"]["finishedAt"], is_held]);
        if (has_ended || is_held) && self.recorded.get(&uid) != Some(&mark) {
            self.recorded.insert(uid, mark);
            self.record(workflow, false);
        }
    }

    fn record(&mut self, workflow: DynamicObject, is_gone: bool) {
        let hands = self.hands.clone();
        self.tasks.spawn(async move {
            hands.record(workflow, is_gone).await;
            Done::Recorded
        });
    }

    /// Has a ledger carried out if its time has come. Where artifacts stayed, somebody has to ask for it.
    fn tend(&mut self, key: &Key) {
        let Some(ledger) = self.ledgers.get(key) else { return };
        let (Some(uid), Some(strategy)) = (workflow_of(ledger), strategy_of(ledger)) else { return };
        let is_early = strategy == Strategy::OnWorkflowDeletion && (!self.is_listed || self.alive.contains(uid));
        if is_early || ledger.metadata.labels.contains_key(labels::ORPHANS) || !self.tended.insert(key.clone()) {
            return;
        }
        let (hands, key, ledger) = (self.hands.clone(), key.clone(), ledger.clone());
        self.tasks.spawn(async move {
            hands.tend(&ledger, strategy).await;
            Done::Tended(key, ledger.metadata.uid.clone())
        });
    }

    /// One that was written anew under the name meanwhile has its turn now: nobody will tell of it again.
    fn is_tended(&mut self, key: &Key, uid: Option<&str>) {
        self.tended.remove(key);
        if self.ledgers.get(key).is_some_and(|now| now.metadata.uid.as_deref() != uid) {
            self.tend(key);
        }
    }
}

/// How it went with a ledger's pods.
enum Answer<'a> {
    /// The last pod's executor said so.
    Report(&'a str),
    /// A pod could not be made.
    NotMade(&'a str),
    /// No pod said anything; how the last one ended.
    Silence(&'a str),
}

/// What acts.
#[derive(Clone)]
struct Hands {
    client: Client,
    settings: Settings,
    turns: Arc<Semaphore>,
}

impl Hands {
    fn workflows(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &seen::workflows())
    }

    fn ledgers(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &ledgers())
    }

    fn reports(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &seen::task_results())
    }

    fn pods(&self, namespace: &str) -> Api<PodSeen> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Writes the ledgers that a workflow does not have yet, and lets it go if it is only held for that.
    async fn record(&self, mut workflow: DynamicObject, is_gone: bool) {
        let (namespace, name) = (workflow.namespace().unwrap_or_default(), workflow.name_any());
        let mut pauses = Pauses::new();
        loop {
            let is_going = is_gone || workflow.metadata.deletion_timestamp.is_some();
            match self.record_once(&workflow, is_gone).await {
                Ok(()) => return,
                // A workflow that goes waits for nobody's rights.
                Err(Error::Api(e)) if !is_going && matches!(&*e, kube::Error::Api(s) if s.code == 403) => {
                    warn!(namespace, workflow = name, error = %e, "its artifacts wait: the controller may not");
                    pauses.after(Deleted::Forbidden).await;
                    // When it goes, or is gone, it is seen again.
                    let now = self.workflows(&namespace).get_opt(&name).await;
                    let is_another = |now: &DynamicObject| now.uid() != workflow.uid();
                    if now.is_ok_and(|now| now.as_ref().is_none_or(is_another)) {
                        return;
                    }
                    continue;
                }
                Err(Error::Api(e)) if is_final(&e) => {
                    warn!(namespace, workflow = name, error = %e, "its artifacts stay: no ledger can be written");
                    if workflow.metadata.deletion_timestamp.is_some() && !is_gone {
                        self.release(&workflow).await;
                    }
                    return;
                }
                Err(e) => debug!(namespace, workflow = name, error = %e, "its artifacts are looked at again"),
            }
            pauses.next().await;
            // As it is now, if it is there.
            if !is_gone
                && let Ok(Some(now)) = self.workflows(&namespace).get_opt(&name).await
                && now.uid() == workflow.uid()
            {
                workflow = now;
            }
        }
    }

    async fn record_once(&self, object: &DynamicObject, is_gone: bool) -> Result<(), Error> {
        let namespace = object.namespace().unwrap_or_default();
        let Some(mut workflow) = read::<Workflow>(object.clone()) else { return Ok(()) };
        match tables::complete(&self.client, &mut workflow).await {
            Err(Fault::Api(e)) => return Err(Error::Api(e)),
            // What it made is not known any more.
            Err(fault) => warn!(namespace, workflow = object.name_any(), %fault, "artifacts may stay"),
            Ok(()) => {}
        }
        let known = self.known(&workflow, &namespace).await?;
        // Nothing is known of ConfigMaps here: all are asked for.
        let mut config = match repository::resolve(&self.client, &self.settings, &Live::default(), &workflow).await? {
            Ok(config) => config,
            // Then no artifact went there either.
            Err(_) => self.settings.engine.clone(),
        };
        // Those of a template that was referred to.
        if config.artifact_drivers.is_empty() && garbage::has_plugins(&workflow, &config) {
            config.artifact_drivers = configuration(&self.client, &self.settings).await?.artifact_drivers;
        }
        let (missing, fault) = garbage::ledgers(&workflow, &known, &config);
        let api = self.ledgers(&namespace);
        for ledger in missing {
            let body = serde_json::to_value(&ledger).and_then(serde_json::from_value);
            let body: DynamicObject = body.map_err(kube::Error::SerdeError)?;
            match api.create(&PostParams::default(), &body).await {
                // Written by an earlier try.
                Err(kube::Error::Api(s)) if s.code == 409 && s.reason == "AlreadyExists" => {}
                created => drop(created?),
            }
        }
        if is_gone {
            return Ok(());
        }
        if object.metadata.deletion_timestamp.is_some() {
            self.release(object).await;
        } else if let Some(patch) = garbage::seen_patch(&workflow, fault.as_deref()) {
            self.patch_workflow(&namespace, &object.name_any(), patch).await?;
        }
        Ok(())
    }

    async fn known(&self, workflow: &Workflow, namespace: &str) -> Result<Vec<WorkflowArtifactGcTask>, Error> {
        let uid = workflow.metadata.uid.as_deref();
        let name = workflow.metadata.name.as_deref().unwrap_or_default();
        let of_name = ListParams::default().labels(&format!("{}={}", labels::GARBAGE, garbage::label(name)));
        let all = self.ledgers(namespace).list(&of_name).await?.items;
        let of_it = |l: &DynamicObject| l.annotations().get(labels::GARBAGE_OF).map(String::as_str) == uid;
        Ok(all.into_iter().filter(of_it).filter_map(read).collect())
    }

    /// Takes Argo's finalizer off: everything that it stands for is in a ledger, or cannot be.
    async fn release(&self, workflow: &DynamicObject) {
        let (namespace, name) = (workflow.namespace().unwrap_or_default(), workflow.name_any());
        let mut workflow = workflow.clone();
        let mut pauses = Pauses::new();
        while workflow.finalizers().iter().any(|f| f == labels::ARTIFACT_GC_FINALIZER) {
            let rest: Vec<&String> =
                workflow.finalizers().iter().filter(|f| *f != labels::ARTIFACT_GC_FINALIZER).collect();
            let patch = json!({"metadata": {
                "uid": workflow.uid(), "resourceVersion": workflow.resource_version(), "finalizers": rest,
            }});
            match self.patch_workflow(&namespace, &name, patch).await {
                Ok(()) => return,
                Err(e) => debug!(namespace, workflow = name, error = %e, "finalizer"),
            }
            pauses.next().await;
            match self.workflows(&namespace).get_opt(&name).await {
                Ok(Some(now)) if now.uid() == workflow.uid() => workflow = now,
                Ok(_) => return,
                Err(_) => {}
            }
        }
    }

    /// A workflow that is not there any more needs no telling.
    async fn patch_workflow(&self, namespace: &str, name: &str, patch: Value) -> Result<(), Error> {
        let api = self.workflows(namespace);
        match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(s)) if s.code == 404 => Ok(()),
            patched => Ok(patched.map(drop)?),
        }
    }

    /// Carries a ledger out, until it is gone or says what stayed.
    async fn tend(&self, ledger: &WorkflowArtifactGcTask, strategy: Strategy) {
        let (namespace, name) = key_of(ledger);
        let mut pauses = Pauses::new();
        loop {
            match self.tend_once(ledger, strategy).await {
                Ok(()) => return,
                Err(Error::Api(e)) if matches!(&*e, kube::Error::Api(s) if s.code == 404) => return,
                Err(e) => debug!(namespace, ledger = name, error = %e, "artifacts are removed later"),
            }
            pauses.next().await;
        }
    }

    async fn tend_once(&self, ledger: &WorkflowArtifactGcTask, strategy: Strategy) -> Result<(), Error> {
        let (namespace, name) = key_of(ledger);
        // What the watch told may be from before it was settled the last time.
        let Some(now) = self.ledgers(&namespace).get_opt(&name).await? else { return Ok(()) };
        if now.uid() != ledger.metadata.uid || now.labels().contains_key(labels::ORPHANS) {
            return Ok(());
        }
        let Some(ledger) = &read::<WorkflowArtifactGcTask>(now) else { return Ok(()) };
        if strategy == Strategy::OnWorkflowDeletion && self.is_there(ledger).await? {
            return Ok(());
        }
        let mut turn = self.turns.clone().acquire_owned().await.ok();
        if !ledger.status.artifact_results_by_node.is_empty() {
            self.begin_again(&namespace, &name).await?;
        }
        let (mut why, mut last) = (String::new(), name.clone());
        for attempt in 0..garbage::PODS_MAX {
            let pod = match self.pod(&namespace, ledger, attempt).await {
                Ok(pod) => pod,
                Err(text) => return self.settle(ledger, &name, Answer::NotMade(&text)).await,
            };
            let of_pod = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match self.create(&namespace, &pod).await {
                Ok(()) => {}
                Err(Error::Api(e)) if is_final(&e) => {
                    return self.settle(ledger, &of_pod, Answer::NotMade(&e.to_string())).await;
                }
                Err(e) => return Err(e),
            }
            why = match tokio::time::timeout(TURN_MAX, self.end(&namespace, &of_pod)).await {
                Ok(why) => why,
                Err(_) => {
                    turn = None;
                    self.end(&namespace, &of_pod).await
                }
            };
            let report = self.reports(&namespace).get_opt(&name).await?;
            let result = report.as_ref().and_then(|r| r.data["outputs"]["result"].as_str());
            if let Some(result) = result {
                return self.settle(ledger, &of_pod, Answer::Report(result)).await;
            }
            last = of_pod;
        }
        drop(turn);
        self.settle(ledger, &last, Answer::Silence(&why)).await
    }

    /// Whether the ledger's workflow is still there.
    async fn is_there(&self, ledger: &WorkflowArtifactGcTask) -> Result<bool, Error> {
        let (namespace, _) = key_of(ledger);
        let name = ledger.metadata.annotations.get(labels::WORKFLOW).cloned().unwrap_or_default();
        let there = self.workflows(&namespace).get_metadata_opt(&name).await?;
        Ok(there.is_some_and(|w| w.uid().as_deref() == workflow_of(ledger) && w.metadata.deletion_timestamp.is_none()))
    }

    async fn pod(&self, namespace: &str, ledger: &WorkflowArtifactGcTask, attempt: u32) -> Result<Value, String> {
        let pod = garbage::pod(ledger, attempt)?;
        match &self.settings.executor {
            Executor::Node => Ok(pod),
            Executor::Pod(executor) => {
                let home = self.settings.controller_namespace.as_str();
                executor.wrap(&self.client, [namespace, home], &pod).await.map_err(|unknown| unknown.message)
            }
        }
    }

    async fn create(&self, namespace: &str, pod: &Value) -> Result<(), Error> {
        let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
        let request =
            kube::core::Request::new(self.pods(namespace).resource_url()).create(&PostParams::default(), body);
        let request = request.map_err(kube::Error::BuildRequest)?;
        match self.client.request::<serde::de::IgnoredAny>(request).await {
            // Its name follows from the ledger's, which nobody else has.
            Err(kube::Error::Api(s)) if s.code == 409 && s.reason == "AlreadyExists" => Ok(()),
            created => Ok(created.map(drop)?),
        }
    }

    /// Waits until a pod has ended or is gone; how, in words.
    async fn end(&self, namespace: &str, pod: &str) -> String {
        let mut versions = watch_object(self.pods(namespace), pod).boxed();
        while let Some(version) = versions.next().await {
            match version {
                Ok(Some(seen)) if seen.has_ended() => return seen.why(),
                Ok(Some(_)) => {}
                Ok(None) => return format!("pod {pod} was deleted"),
                Err(e) => drop(pause(&e).await),
            }
        }
        format!("pod {pod} is not told of any more")
    }

    /// What an earlier try left goes before the next one.
    async fn begin_again(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let gone = |answer: Result<(), kube::Error>| match answer {
            Err(kube::Error::Api(s)) if s.code == 404 => Ok(()),
            answer => answer,
        };
        gone(self.reports(namespace).delete(name, &DeleteParams::default()).await.map(drop))?;
        for attempt in 0..garbage::PODS_MAX {
            let pod = garbage::pod_name(name, attempt);
            gone(self.pods(namespace).delete(&pod, &DeleteParams::default()).await.map(drop))?;
            let mut versions = watch_object(self.pods(namespace), &pod).boxed();
            while let Some(version) = versions.next().await {
                match version {
                    Ok(None) => break,
                    Ok(Some(_)) => {}
                    Err(e) => drop(pause(&e).await),
                }
            }
        }
        let patch = Patch::Merge(json!({"status": {"artifactResultsByNode": null}}));
        self.ledgers(namespace).patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Tells in a workflow what became of its ledger.
    async fn tell_removed(
        &self,
        namespace: &str,
        stored: Value,
        ledger: &WorkflowArtifactGcTask,
        pod: &str,
        removals: &Removals,
    ) -> Result<(), Error> {
        let name = stored["metadata"]["name"].as_str().unwrap_or_default();
        let whole = match tables::whole(&self.client, stored.clone()).await {
            Ok(whole) => whole,
            Err(Fault::Api(e)) => return Err(Error::Api(e)),
            // There is no row to tell it in.
            Err(_) => return Ok(()),
        };
        let Ok(workflow) = serde_json::from_value::<Workflow>(whole.clone()) else { return Ok(()) };
        let mut patch = garbage::removed_patch(&workflow, ledger, pod, removals);
        match table::fit(&stored, &whole, &mut patch, &tables::stamp()) {
            Ok(written) => tables::write(&self.client, namespace, &stored["metadata"], written.pages).await?,
            Err(fault) => {
                warn!(namespace, workflow = name, fault, "it cannot say which artifacts are removed");
                return Ok(());
            }
        }
        self.patch_workflow(namespace, name, patch).await
    }

    /// Tells what became of a ledger: in itself first, then in the workflow; then it goes, or says that artifacts stayed.
    async fn settle(&self, ledger: &WorkflowArtifactGcTask, pod: &str, answer: Answer<'_>) -> Result<(), Error> {
        let (namespace, name) = key_of(ledger);
        let removals = match &answer {
            Answer::Report(report) => garbage::removals(ledger, Ok(report)),
            Answer::NotMade(why) => garbage::removals(ledger, Err(why)),
            Answer::Silence(why) => garbage::removals(ledger, Err(&format!("its pods ended without a report: {why}"))),
        };
        let (api, params) = (self.ledgers(&namespace), PatchParams::default());
        api.patch_status(&name, &params, &Patch::Merge(json!({"status": removals}))).await?;
        let of = ledger.metadata.annotations.get(labels::WORKFLOW).cloned().unwrap_or_default();
        if let Some(object) = self.workflows(&namespace).get_opt(&of).await?
            && object.uid().as_deref() == workflow_of(ledger)
        {
            let stored = serde_json::to_value(object).map_err(kube::Error::SerdeError)?;
            self.tell_removed(&namespace, stored, ledger, pod, &removals).await?;
        }
        match Leftover::of(&removals) {
            None => {
                info!(namespace, workflow = of, ledger = name, "artifacts removed");
                api.delete(&name, &DeleteParams::background()).await?;
            }
            Some(left) => {
                warn!(
                    namespace,
                    workflow = of,
                    ledger = name,
                    count = left.count,
                    first = left.first,
                    "artifacts stay: `kubectl get wfat` names them; they are tried again when the label {} is taken off",
                    labels::ORPHANS
                );
                let patch = Patch::Merge(json!({"metadata": {"labels": {labels::ORPHANS: "true"}}}));
                api.patch_metadata(&name, &params, &patch).await?;
                let silent = matches!(answer, Answer::Silence(_)).then_some(pod);
                let message = garbage::failure(ledger, &left, silent);
                let uid = workflow_of(ledger).unwrap_or_default();
                let about = event::About { namespace: &namespace, name: &of, uid };
                event::warning(&self.client, &about, garbage::FAILED, &message, Clock::default().now()).await;
            }
        }
        Ok(())
    }
}
