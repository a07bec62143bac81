//! The workflow loop: it watches Workflows, their Pods and their WorkflowTaskResults, and gives each run that has not
//! ended a resident task with a mailbox. The decision is the engine's ([`windlass_engine::Run`]); this loop only
//! observes, acts on the commands and writes the status, and must never look into a status to decide something.

mod act;
mod locks;
mod repository;
mod resident;
mod seen;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select_all;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use windlass_engine::Observation;
use windlass_model::{WorkflowPhase, labels};

use crate::form::Executor;
use crate::pod::{Left, PodSeen};
use crate::{Error, within, within_of};
use resident::{Letter, Resident};
use seen::WorkflowSeen;

pub(crate) use repository::CONFIGURATION;
pub(crate) use seen::config_maps;

/// How the loop does its work; the same on one machine and on a cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the engine must know of its surroundings.
    pub engine: windlass_engine::Config,
    /// In which form steps get their executor.
    pub executor: Executor,
    /// The only namespace whose workflows are ours; all of them when it is not said.
    pub managed_namespace: Option<String>,
    /// Where the controller's own ConfigMaps are.
    pub controller_namespace: String,
    /// A status is not written again before so much time has passed (completion is written at once).
    pub status_pause_min: Duration,
    /// How many pods of one run are created at the same time.
    pub creates_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: windlass_engine::Config::default(),
            executor: Executor::default(),
            managed_namespace: None,
            controller_namespace: "windlass-system".to_owned(),
            status_pause_min: Duration::from_millis(100),
            creates_max: 64,
        }
    }
}

/// Namespace and name.
type Key = (String, String);

/// What one of the three watches has seen.
enum Sight {
    /// All workflows that have not ended follow.
    ListBegins,
    /// That was all of them.
    ListEnds,
    Workflow(Box<WorkflowSeen>),
    WorkflowGone(Key),
    Told(Key, Box<Observation>),
    /// A pod that had not ended is not in the watch any more.
    PodLeft(Key, String, String),
}

/// Runs the loop until `stop` is cancelled. Runs in flight are left as they are: their status says how far they came.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) {
    let Some(locks) = restore_locks(&client, &settings, &stop).await else { return };
    let mut listing: Option<HashSet<Key>> = None;
    let mut sights = watch(&client, settings.managed_namespace.as_deref());
    let mut boxes: HashMap<Key, mpsc::UnboundedSender<Letter>> = HashMap::new();
    let mut residents: JoinSet<Key> = JoinSet::new();
    let mut ids: HashMap<tokio::task::Id, Key> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                locks.close();
                return;
            }
            sight = sights.next() => match sight {
                None => return,
                Some(Sight::ListBegins) => listing = Some(HashSet::new()),
                Some(Sight::ListEnds) => {
                    // Whoever is not in the list went while nobody looked.
                    let Some(listed) = listing.take() else { continue };
                    boxes.retain(|key, mailbox| listed.contains(key) || {
                        let _ = mailbox.send(Letter::Gone);
                        false
                    });
                    let listed: HashSet<String> = listed.iter().map(locks::of_key).collect();
                    locks.retain(|workflow| listed.contains(workflow));
                }
                Some(Sight::WorkflowGone(key)) => {
                    if let Some(mailbox) = boxes.remove(&key) {
                        let _ = mailbox.send(Letter::Gone);
                    }
                }
                Some(Sight::Told(key, observation)) => {
                    // Nobody home: the run has ended, or its workflow has not been seen yet; in the second case the
                    // new resident reads the pods itself.
                    if let Some(mailbox) = boxes.get(&key) {
                        let _ = mailbox.send(Letter::Observed(observation));
                    }
                }
                Some(Sight::PodLeft(key, name, uid)) => {
                    if let Some(mailbox) = boxes.get(&key) {
                        let _ = mailbox.send(Letter::PodLeft { name, uid });
                    }
                }
                Some(Sight::Workflow(seen)) => {
                    let key = seen.key();
                    if let Some(listed) = &mut listing {
                        listed.insert(key.clone());
                    }
                    if let Some(mailbox) = boxes.get(&key) {
                        if mailbox.send(Letter::Workflow(seen)).is_ok() {
                            continue;
                        }
                    } else if seen.has_ended() {
                        continue;
                    }
                    let (mailbox, letters) = mpsc::unbounded_channel();
                    boxes.insert(key.clone(), mailbox.clone());
                    let resident = Resident::new(
                        client.clone(), settings.clone(), locks.clone(), key.clone(), mailbox, letters,
                    );
                    let home = key.clone();
                    let task = residents.spawn(async move { resident.live().await; home });
                    ids.insert(task.id(), key);
                }
            },
            Some(ended) = residents.join_next_with_id() => match ended {
                Ok((id, key)) => {
                    ids.remove(&id);
                    // A letter that came between the resident's last look and now must not be lost.
                    if boxes.get(&key).is_some_and(mpsc::UnboundedSender::is_closed) {
                        boxes.remove(&key);
                    }
                    debug!(namespace = key.0, workflow = key.1, "run left memory");
                }
                Err(fault) => {
                    let Some(key) = ids.remove(&fault.id()) else { continue };
                    boxes.remove(&key);
                    if fault.is_panic() {
                        let text = panic_text(fault.into_panic());
                        error!(namespace = key.0, workflow = key.1, fault = text, "a decision broke an invariant");
                        mark_broken(&client, &key, &text).await;
                    }
                }
            },
        }
    }
}

/// What was held before this start; nothing is granted before it is known.
async fn restore_locks(client: &Client, settings: &Settings, stop: &CancellationToken) -> Option<locks::Locks> {
    loop {
        match locks::Locks::restore(client, settings.managed_namespace.as_deref()).await {
            Ok(locks) => return Some(locks),
            Err(e) => warn!(error = %e, "cannot read which locks are held; tried again"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

fn panic_text(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(s) => *s,
        Err(p) => p.downcast::<&str>().map_or_else(|_| "unknown".to_owned(), |s| (*s).to_owned()),
    }
}

/// We were wrong about this one run: it ends as Error and says so, and the others go on.
async fn mark_broken(client: &Client, key: &Key, text: &str) {
    let api: Api<WorkflowSeen> = Api::namespaced(client.clone(), &key.0);
    let patch = json!({
        "metadata": {"labels": {labels::PHASE: WorkflowPhase::Error, labels::COMPLETED: "true"}},
        "status": {"phase": WorkflowPhase::Error, "message": format!("internal error, please report it: {text}")},
    });
    if let Err(e) = api.patch(&key.1, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await {
        warn!(namespace = key.0, workflow = key.1, error = %e, "could not mark the workflow");
    }
}

type Sights = futures::stream::BoxStream<'static, Sight>;

fn watch(client: &Client, managed: Option<&str>) -> impl futures::Stream<Item = Sight> + Unpin + use<> {
    let workflows: Api<WorkflowSeen> = within(client, managed);
    let of_workflow = watcher::Config::default().labels(labels::WORKFLOW);
    // What has ended is nobody's concern here: thousands of such pods and workflows must cost a start nothing.
    let unfinished = watcher::Config::default().labels(&format!("{},{}!=true", labels::WORKFLOW, labels::COMPLETED));
    let pods: Api<PodSeen> = within(client, managed);
    let results = within_of(client, managed, &seen::task_results());
    let running = watcher::Config::default().labels(&format!("{}!=true", labels::COMPLETED));
    let workflows: Sights = watcher::watcher(workflows, running)
        .filter_map(|event| async {
            match event {
                Ok(Event::Apply(w) | Event::InitApply(w)) => Some(Sight::Workflow(Box::new(w))),
                Ok(Event::Delete(w)) => Some(Sight::WorkflowGone(w.key())),
                Ok(Event::Init) => Some(Sight::ListBegins),
                Ok(Event::InitDone) => Some(Sight::ListEnds),
                Err(e) => wait_after(e).await,
            }
        })
        .boxed();
    let pods: Sights = watcher::watcher(pods, unfinished)
        .filter_map(|event| async {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    Some(Sight::Told(pod.key()?, Box::new(pod.observed())))
                }
                Ok(Event::Delete(pod)) => {
                    let key = pod.key()?;
                    Some(match pod.left() {
                        Left::Ended(observation) => Sight::Told(key, observation),
                        Left::Unsure { name, uid } => Sight::PodLeft(key, name, uid),
                    })
                }
                Ok(_) => None,
                Err(e) => wait_after(e).await,
            }
        })
        .boxed();
    let results: Sights = watcher::watcher(results, of_workflow)
        .filter_map(|event| async {
            match event {
                Ok(Event::Apply(result) | Event::InitApply(result)) => {
                    let key = owner(&result)?;
                    let value: Value = serde_json::to_value(result).ok()?;
                    match serde_json::from_value(value) {
                        Ok(result) => Some(Sight::Told(key, Box::new(Observation::TaskResult(result)))),
                        Err(e) => {
                            warn!(namespace = key.0, workflow = key.1, error = %e, "unreadable WorkflowTaskResult");
                            None
                        }
                    }
                }
                Ok(_) => None,
                Err(e) => wait_after(e).await,
            }
        })
        .boxed();
    select_all([workflows, pods, results])
}

/// The watcher starts again by itself; without a pause it would do so in a tight circle.
async fn wait_after(e: watcher::Error) -> Option<Sight> {
    warn!(error = %Error::from(e), "watch interrupted");
    tokio::time::sleep(Duration::from_millis(300)).await;
    None
}

fn owner(object: &kube::core::DynamicObject) -> Option<Key> {
    Some((object.namespace()?, object.labels().get(labels::WORKFLOW)?.clone()))
}
