//! What has ended does not stay for ever: workflows go by their `ttlStrategy`, pods by their workflow's `podGC`. Observe
//! ends, ask `windlass-schedule` until when, delete then. Deleting is by uid, so a new object of an old name is safe; what
//! the API did not do is tried again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};
use windlass_model::workflow::{PodGc, TtlStrategy};
use windlass_model::{Time, WorkflowPhase, labels};
use windlass_schedule::retention;

use crate::again::{self, Deleted, Pauses};
use crate::clock::Clock;
use crate::part::part_of_workflow;
use crate::pod::PodSeen;
use crate::{Scope, from_memory};

/// So long a `ttlStrategy` waits for an archive on this machine.
const ARCHIVE_WAIT_MAX: SignedDuration = SignedDuration::from_mins(10);
/// The same for a database, which somebody else has to bring back.
const DATABASE_WAIT_MAX: SignedDuration = SignedDuration::from_hours(24);
/// How often it looks: at first, and after a while.
const ARCHIVE_LOOK: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(1), SignedDuration::from_secs(30));

/// A Workflow as far as its end matters; the node table is passed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ended {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Keep,
    #[serde(default)]
    status: End,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keep {
    ttl_strategy: Option<TtlStrategy>,
    #[serde(rename = "podGC")]
    pod_gc: Option<PodGc>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct End {
    phase: WorkflowPhase,
    finished_at: Option<Time>,
}

part_of_workflow!(Ended);

/// The watches of workflows that delete pods while they run, by namespace and name. Other workflows' pods are nobody's
/// concern here until the end, and then they are listed.
type Collecting = HashMap<(String, String), AbortOnDropHandle<()>>;

/// Where what is due later waits; it ends with the loop.
#[derive(Clone)]
struct Timers {
    ends: CancellationToken,
    archive_wait: SignedDuration,
}

impl Timers {
    fn spawn(&self, what: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(self.ends.clone().run_until_cancelled_owned(what)));
    }
}

/// Runs until `stop` is cancelled; what is due later is found again by the next start.
pub async fn run(client: Client, scope: Scope, clock: Clock, stop: CancellationToken) {
    run_waiting(client, scope, clock, ARCHIVE_WAIT_MAX, stop).await;
}

/// The same beside an archive in a database: what is not kept yet stays for a day.
pub async fn run_with_database(client: Client, scope: Scope, clock: Clock, stop: CancellationToken) {
    run_waiting(client, scope, clock, DATABASE_WAIT_MAX, stop).await;
}

async fn run_waiting(
    client: Client,
    scope: Scope,
    clock: Clock,
    archive_wait: SignedDuration,
    stop: CancellationToken,
) {
    let timers = Timers { ends: stop.child_token(), archive_wait };
    let _ends = timers.ends.clone().drop_guard();
    tokio::select! {
        () = stop.cancelled() => {}
        () = workflows(&client, &scope, &clock, &timers) => {}
    }
}

async fn workflows(client: &Client, scope: &Scope, clock: &Clock, timers: &Timers) {
    let api: Api<Ended> = scope.api(client);
    // What is gone already is not found when its time has come.
    let mut events = watcher::watcher(api, from_memory(scope.all())).boxed();
    let mut due: HashMap<String, Timestamp> = HashMap::new();
    let mut collecting = Collecting::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(wf) | Event::InitApply(wf)) => {
                if wf.metadata.deletion_timestamp.is_some() {
                    hand_over(client, &wf).await;
                }
                let key = (wf.namespace().unwrap_or_default(), wf.name_any());
                let completed = wf.labels().get(labels::COMPLETED).is_some_and(|v| v == "true");
                match wf.spec.pod_gc.clone().filter(|gc| !completed && retention::pod_goes_with_itself(gc, true)) {
                    Some(gc) => {
                        let watch = |(namespace, name): &(String, String)| {
                            let pods = Api::namespaced(client.clone(), namespace);
                            AbortOnDropHandle::new(tokio::spawn(collect(pods, name.clone(), gc, timers.clone())))
                        };
                        if let Entry::Vacant(place) = collecting.entry(key) {
                            let begun = watch(place.key());
                            place.insert(begun);
                        }
                    }
                    None => drop(collecting.remove(&key)),
                }
                if completed {
                    ended(client, &wf, clock, &mut due, timers);
                }
            }
            Ok(Event::Delete(wf)) => {
                due.remove(&wf.uid().unwrap_or_default());
                let key = (wf.namespace().unwrap_or_default(), wf.name_any());
                collecting.remove(&key);
            }
            Ok(_) => {}
            Err(e) => pause(&e).await,
        }
    }
}

/// A workflow that goes and that Argo's controller holds for its artifacts: [`crate::garbage`] looks at those with this label.
async fn hand_over(client: &Client, wf: &Ended) {
    let is_held = wf.finalizers().iter().any(|f| f == labels::ARTIFACT_GC_FINALIZER);
    if !is_held || wf.labels().contains_key(labels::GARBAGE) {
        return;
    }
    let api = Api::<Ended>::namespaced(client.clone(), &wf.namespace().unwrap_or_default());
    let patch = serde_json::json!({"metadata": {"uid": wf.uid(), "labels": {labels::GARBAGE: "true"}}});
    if let Err(e) = api.patch_metadata(&wf.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        debug!(workflow = wf.name_any(), error = %e, "held by Argo's finalizer");
    }
}

async fn pause(e: &watcher::Error) {
    debug!(error = %e, "watch interrupted");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

/// A workflow that has ended: its pods and itself get their time, once.
fn ended(client: &Client, wf: &Ended, clock: &Clock, due: &mut HashMap<String, Timestamp>, timers: &Timers) {
    let uid = wf.uid().unwrap_or_default();
    let finished = wf.status.finished_at.map_or_else(|| clock.now(), |t| t.0);
    // A retried run ends again, and later.
    if wf.metadata.deletion_timestamp.is_some() || due.get(&uid) == Some(&finished) {
        return;
    }
    if let Some(gc) = wf.spec.pod_gc.clone() {
        due.insert(uid.clone(), finished);
        let (client, wf, clock) = (client.clone(), wf.clone(), clock.clone());
        timers.spawn(async move {
            clock.sleep_until(finished + retention::pod_delay(&gc)).await;
            let mut pauses = Pauses::new();
            while pauses.after(delete_pods(&client, &wf, &gc).await).await {}
        });
    }
    let ttl = wf.spec.ttl_strategy.as_ref();
    if let Some(at) = ttl.and_then(|ttl| retention::workflow_due(ttl, wf.status.phase, finished)) {
        due.insert(uid.clone(), finished);
        let (client, wf, clock) = (client.clone(), wf.clone(), clock.clone());
        let archive_wait = timers.archive_wait;
        timers.spawn(async move {
            clock.sleep_until(at).await;
            let (begun, (mut look, look_max)) = (clock.now(), ARCHIVE_LOOK);
            let patience = begun + archive_wait;
            let api = Api::<Ended>::namespaced(client.clone(), &wf.namespace().unwrap_or_default());
            let name = wf.name_any();
            let (mut pauses, mut warned) = (Pauses::new(), false);
            // Each attempt looks first: whoever retries the run between two of them keeps it.
            loop {
                let outcome = match since_it_ended(&client, &wf).await {
                    Ok(Since::Changed | Since::Gone) => return,
                    // Archiving may fail for as long as it likes: a delete does not wait for ever.
                    Ok(Since::Unarchived(_)) if clock.now() < patience => {
                        clock.sleep_until(clock.now() + look).await;
                        // It is a matter of moments, or of somebody who mends something.
                        if clock.now().duration_since(begun) > look_max {
                            look = (look * 2).min(look_max);
                        }
                        continue;
                    }
                    Ok(Since::Unarchived(_)) if !std::mem::replace(&mut warned, true) => {
                        warn!(workflow = name, "deleted by its ttlStrategy before it could be archived");
                        continue;
                    }
                    Ok(Since::Nothing(resource_version) | Since::Unarchived(resource_version)) => {
                        let only = Preconditions { uid: Some(uid.clone()), resource_version };
                        again::delete_as_seen(&api, &name, only, "its ttlStrategy").await
                    }
                    Err(e) => {
                        debug!(workflow = name, error = %e, "looked at again");
                        Deleted::Later
                    }
                };
                if !pauses.after(outcome).await {
                    return;
                }
            }
        });
    }
}

/// What became of a workflow since it ended.
enum Since {
    /// Nothing that matters; this is its version.
    Nothing(Option<String>),
    /// It has not been archived yet, and is to be; this is its version.
    Unarchived(Option<String>),
    /// It is gone, its pods may still be there, and nobody runs them.
    Gone,
    /// Somebody has retried it.
    Changed,
}

async fn since_it_ended(client: &Client, wf: &Ended) -> kube::Result<Since> {
    let api = Api::<Ended>::namespaced(client.clone(), &wf.namespace().unwrap_or_default());
    let says = |now: &Ended, label: &str, word: &str| now.labels().get(label).is_some_and(|v| v == word);
    let Some(now) = api.get_opt(&wf.name_any()).await? else { return Ok(Since::Gone) };
    let same = now.uid() == wf.uid() && now.status.finished_at == wf.status.finished_at;
    Ok(match same && says(&now, labels::COMPLETED, "true") {
        true if says(&now, labels::ARCHIVING_STATUS, "Pending") => Since::Unarchived(now.resource_version()),
        true => Since::Nothing(now.resource_version()),
        false => Since::Changed,
    })
}

/// One attempt at all of them.
async fn delete_pods(client: &Client, wf: &Ended, gc: &PodGc) -> Deleted {
    let api = Api::<PodSeen>::namespaced(client.clone(), &wf.namespace().unwrap_or_default());
    let of_run = ListParams::default().labels(&format!("{}={}", labels::WORKFLOW, wf.name_any()));
    let look = async || match since_it_ended(client, wf).await? {
        Since::Changed => Ok(Vec::new()),
        _ => Ok::<_, kube::Error>(api.list(&of_run).await?.items),
    };
    let pods = match look().await {
        Ok(pods) => pods,
        Err(e) => {
            debug!(workflow = wf.name_any(), error = %e, "its pods are deleted later");
            return Deleted::Later;
        }
    };
    let mut outcome = Deleted::Yes;
    for pod in pods {
        if retention::pod_goes_with_workflow(gc, wf.status.phase, pod.phase() == "Succeeded") && selected(gc, &pod) {
            outcome = outcome.max(again::delete_once(&api, &pod.name_any(), pod.uid().as_deref(), "podGC").await);
        }
    }
    outcome
}

/// `podGC.labelSelector`: all pods where it says nothing, none where it cannot be read.
fn selected(gc: &PodGc, pod: &PodSeen) -> bool {
    gc.label_selector.as_ref().is_none_or(|selector| crate::selects(selector, pod.labels()))
}

/// Deletes the pods of one workflow whose result is in its status (they are labelled so), one by one.
async fn collect(api: Api<PodSeen>, workflow: String, gc: PodGc, timers: Timers) {
    let config =
        watcher::Config::default().labels(&format!("{}=true,{}={workflow}", labels::COMPLETED, labels::WORKFLOW));
    let mut events = watcher::watcher(api.clone(), config).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) if pod.meta().deletion_timestamp.is_none() => {
                if retention::pod_goes_with_itself(&gc, pod.phase() == "Succeeded") && selected(&gc, &pod) {
                    let (api, delay) = (api.clone(), retention::pod_delay(&gc));
                    timers.spawn(async move {
                        tokio::time::sleep(delay).await;
                        again::delete(&api, &pod.name_any(), pod.uid().as_deref(), "podGC").await;
                    });
                }
            }
            Ok(_) => {}
            Err(e) => pause(&e).await,
        }
    }
}
