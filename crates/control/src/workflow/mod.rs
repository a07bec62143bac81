//! The workflow loop: it watches Workflows, their Pods and their WorkflowTaskResults, and gives each run that has not
//! ended a resident task with a mailbox. The decision is the engine's ([`windlass_engine::Run`]); this loop only
//! observes, acts on the commands and writes the status, and must never look into a status to decide something.

mod act;
mod live;
mod locks;
pub(crate) mod repository;
mod resident;
pub(crate) mod seen;
mod size;
mod stray;
mod sweep;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::select_all;
use futures::{FutureExt, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};
use windlass_archive::{Archive, Limits, Memory};
use windlass_engine::Observation;
use windlass_engine::persistence::Database;
use windlass_engine::repository::ControllerConfig;
use windlass_model::{WorkflowPhase, labels};

use crate::clock::Clock;
use crate::form::Executor;
use crate::pod::{Left, PodSeen};
use crate::{Error, Scope};
use resident::{Letter, Over, Resident};
use seen::WorkflowSeen;
use stray::Strays;
use sweep::Sweep;
use windlass_schedule::throttle::Throttle;

pub use live::{LIMIT, configured};
pub(crate) use live::{Live, read as configuration};
pub use repository::CONFIGURATION;
pub(crate) use seen::config_maps;

/// How the loop does its work; the same on one machine and on a cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the engine must know of its surroundings.
    pub engine: windlass_engine::Config,
    /// What time it is.
    pub clock: Clock,
    /// In which form steps get their executor.
    pub executor: Executor,
    /// Where the user's own metrics are counted.
    pub metrics: crate::metrics::Metrics,
    /// Where spans go; nowhere when it is not said.
    pub traces: Option<crate::traces::Traces>,
    /// Where finished workflows are kept; nowhere when it is not said.
    pub archive: Option<Arc<dyn Archive>>,
    /// The database of the configuration that `archive` is in. With one, `archive: true` has to be said for a workflow to be
    /// archived, as with Argo; without, it need not.
    pub database: Option<Database>,
    /// Where outputs are remembered that name no ConfigMap; nowhere when it is not said.
    pub memory: Option<Arc<dyn Memory>>,
    /// The sizes of semaphores in a database, and that there is one; without it nobody gets such a lock.
    pub limits: Option<Arc<dyn Limits>>,
    /// Which workflows are ours.
    pub scope: Scope,
    /// Where the controller's own ConfigMaps are.
    pub controller_namespace: String,
    /// Node tables lie on pages whatever their size: Argo's `ALWAYS_OFFLOAD_NODE_STATUS`.
    pub always_offload: bool,
    /// A status is not written again before so much time has passed (completion is written at once).
    pub status_pause_min: Duration,
    /// How many pods of one run are created at the same time.
    pub creates_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: windlass_engine::Config::default(),
            clock: Clock::default(),
            executor: Executor::default(),
            metrics: crate::metrics::Metrics::default(),
            traces: None,
            archive: None,
            database: None,
            memory: None,
            limits: None,
            scope: Scope::default(),
            controller_namespace: "windlass-system".to_owned(),
            always_offload: false,
            status_pause_min: Duration::from_millis(100),
            creates_max: 64,
        }
    }
}

/// What a workflow says for which there is no room yet; Argo's words.
pub const POSTPONED: &str = "Workflow processing has been postponed because too many workflows are already running";

/// How long a stop waits for ends that are being written.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// Namespace and name.
type Key = (String, String);

/// What one of the three watches has seen.
enum Sight {
    /// The controller's configuration has changed.
    Configured(Box<ControllerConfig>),
    /// A ConfigMap of repositories or of the configuration is there, or is gone.
    Map(Key, bool),
    /// All ConfigMaps of that name that are there have been seen.
    MapsListed(&'static str),
    /// What a namespace says of its own limit.
    Namespace(String, Option<usize>),
    /// All workflows that have not ended follow.
    ListBegins,
    /// That was all of them.
    ListEnds,
    Workflow(Box<WorkflowSeen>),
    WorkflowGone(Key),
    Pod(Key, Box<PodSeen>),
    Told(Key, Box<Observation>),
    /// A pod that had not ended is not in the watch any more.
    PodLeft(Key, String, String),
}

/// Runs the loop until `stop` is cancelled. Runs in flight are left as they are: their status says how far they came.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) {
    let Some((locks, config)) = prepare(&client, &settings, &stop).await else { return };
    let mut sights = watch(&client, &settings);
    let mut house = House::new(client, settings, locks, config);
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                house.locks.close();
                // Ends that are being written are written to the last word, so that the next start finds no strays.
                house.finishing.close();
                let _ = tokio::time::timeout(FINISH_MAX, house.finishing.wait()).await;
                while let Some(Ok((key, over))) = house.residents.try_join_next() {
                    house.note_reports(key, &over);
                }
                let last = futures::future::join_all(house.sweep_up());
                let _ = tokio::time::timeout(FINISH_MAX, last).await;
                return;
            }
            () = sleep_until(house.sweep.due()) => for request in house.sweep_up() {
                tokio::spawn(request);
            },
            sight = sights.next() => match sight {
                None => return,
                Some(sight) => house.see(sight),
            },
            Some(ended) = house.residents.join_next_with_id() => match ended {
                Ok((id, (key, over))) => {
                    house.ids.remove(&id);
                    house.note_reports(key.clone(), &over);
                    // There may be a younger resident already.
                    if house.boxes.get(&key).is_some_and(mpsc::UnboundedSender::is_closed) {
                        house.boxes.remove(&key);
                    }
                    debug!(namespace = key.0, workflow = key.1, "run left memory");
                    house.is_over(&key);
                    if let Some(seen) = over.goes_on.filter(|_| !house.boxes.contains_key(&key)) {
                        house.let_in_or_postpone(key, seen);
                    }
                }
                Err(fault) => {
                    let Some(key) = house.ids.remove(&fault.id()) else { continue };
                    house.boxes.remove(&key);
                    if fault.is_panic() {
                        let text = panic_text(fault.into_panic());
                        error!(namespace = key.0, workflow = key.1, fault = text, "a decision broke an invariant");
                        mark_broken(&house.client, &key, &text, house.settings.archive.is_some()).await;
                    }
                    house.is_over(&key);
                }
            },
        }
    }
}

/// For ever where there is no time.
async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// All runs in memory, and those that wait to be let in.
struct House {
    client: Client,
    settings: Settings,
    locks: locks::Locks,
    live: live::Live,
    config: ControllerConfig,
    throttle: Throttle,
    boxes: HashMap<Key, mpsc::UnboundedSender<Letter>>,
    /// Runs whose end is being written.
    finishing: TaskTracker,
    residents: JoinSet<(Key, Over)>,
    ids: HashMap<tokio::task::Id, Key>,
    postponed: HashMap<Key, Box<WorkflowSeen>>,
    /// What the list that goes on has named so far.
    listing: Option<HashSet<Key>>,
    strays: Strays,
    sweep: Sweep,
}

impl House {
    fn new(client: Client, settings: Settings, locks: locks::Locks, config: ControllerConfig) -> Self {
        let live = live::Live::default();
        let mut throttle = Throttle::default();
        throttle.set_limits(live.take(config.clone(), BTreeMap::new(), settings.clock.now()));
        Self {
            client,
            settings,
            locks,
            live,
            config,
            throttle,
            boxes: HashMap::new(),
            finishing: TaskTracker::new(),
            residents: JoinSet::new(),
            ids: HashMap::new(),
            postponed: HashMap::new(),
            listing: None,
            strays: Strays::default(),
            sweep: Sweep::default(),
        }
    }

    fn note_reports(&mut self, key: Key, over: &Over) {
        if over.reported {
            self.sweep.add(key);
        }
    }

    /// The requests that take away what the runs that ended have left.
    fn sweep_up(&mut self) -> Vec<BoxFuture<'static, ()>> {
        let portions = self.sweep.take(|key| self.boxes.contains_key(key) || self.postponed.contains_key(key));
        portions.into_iter().map(|portion| sweep::clear(self.client.clone(), portion).boxed()).collect()
    }

    fn see(&mut self, sight: Sight) {
        match sight {
            Sight::Configured(config) => {
                let said = config.archiving.database.as_ref().and_then(|said| said.as_ref().ok());
                if said.zip(self.settings.database.as_ref()).is_some_and(|(said, used)| said != used) {
                    warn!("persistence names another database now: it counts when this controller starts again");
                }
                self.config = *config;
                let own = self.throttle.limits().own.clone();
                self.limit(own);
            }
            Sight::Map(key, there) => self.live.map(key, there),
            Sight::MapsListed(name) => self.live.maps_listed(name),
            Sight::Namespace(namespace, limit) => {
                let mut own = self.throttle.limits().own.clone();
                match limit {
                    Some(limit) => _ = own.insert(namespace, limit),
                    None => _ = own.remove(&namespace),
                }
                if own != self.throttle.limits().own {
                    self.limit(own);
                }
            }
            Sight::ListBegins => self.listing = Some(HashSet::new()),
            Sight::ListEnds => {
                // Whoever is not in the list went while nobody looked.
                let Some(listed) = self.listing.take() else { return };
                let known = self.boxes.keys().chain(self.postponed.keys());
                let gone: Vec<Key> = known.filter(|key| !listed.contains(*key)).cloned().collect();
                gone.iter().for_each(|key| self.is_gone(key));
                let listed: HashSet<String> = listed.iter().map(locks::of_key).collect();
                self.locks.retain(|workflow| listed.contains(workflow));
                let (boxes, postponed) = (&self.boxes, &self.postponed);
                let is_home = |key: &Key| boxes.contains_key(key) || postponed.contains_key(key);
                self.strays.workflows_are_listed(&self.client, is_home);
            }
            Sight::WorkflowGone(key) => self.is_gone(&key),
            Sight::Pod(key, pod) => match self.boxes.get(&key) {
                Some(mailbox) => drop(mailbox.send(Letter::Pod(pod))),
                // Nobody home: the run has ended, or its workflow has not been seen yet; in the second case the new
                // resident reads the pods itself.
                None if pod.has_ended() || !pod.goes() => {
                    self.strays.take(&self.client, key, *pod);
                }
                None => {}
            },
            Sight::Told(key, observation) => {
                if let Some(mailbox) = self.boxes.get(&key) {
                    let _ = mailbox.send(Letter::Observed(observation));
                }
            }
            Sight::PodLeft(key, name, uid) => {
                if let Some(mailbox) = self.boxes.get(&key) {
                    let _ = mailbox.send(Letter::PodLeft { name, uid });
                }
            }
            Sight::Workflow(seen) => {
                let key = seen.key();
                if let Some(listed) = &mut self.listing {
                    listed.insert(key.clone());
                }
                if let Some(mailbox) = self.boxes.get(&key) {
                    let Err(back) = mailbox.send(Letter::Workflow(seen)) else { return };
                    let Letter::Workflow(seen) = back.0 else { return };
                    self.let_in_or_postpone(key, seen);
                } else if !seen.has_ended() {
                    self.let_in_or_postpone(key, seen);
                }
            }
        }
    }

    fn limit(&mut self, own: BTreeMap<String, usize>) {
        let limits = self.live.take(self.config.clone(), own, self.settings.clock.now());
        let admitted = self.throttle.set_limits(limits);
        self.let_in(admitted);
    }

    /// A run that there is room for begins; another waits for its turn, and says so.
    fn let_in_or_postpone(&mut self, key: Key, seen: Box<WorkflowSeen>) {
        if seen.goes_on() {
            self.throttle.runs(&key);
            self.postponed.remove(&key);
            self.move_in(key, seen);
            return;
        }
        let created = seen.metadata.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default();
        let admitted = self.throttle.ask(&key, seen.spec.priority.unwrap_or_default(), created);
        let is_new = seen.is_new() && !self.postponed.contains_key(&key);
        self.postponed.insert(key.clone(), seen);
        if self.throttle.is_running(&key) && !admitted.contains(&key) {
            // It was let in before, and its resident left in between.
            self.let_in(vec![key.clone()]);
        }
        self.let_in(admitted);
        if is_new && let Some(seen) = self.postponed.get(&key) {
            // Only what was seen is answered: a run that is let in meanwhile must not be told that it waits.
            let (client, version) = (self.client.clone(), seen.metadata.resource_version.clone());
            tokio::spawn(async move { postpone(&client, &key, version).await });
        }
    }

    fn let_in(&mut self, keys: Vec<Key>) {
        for key in keys {
            if let Some(seen) = self.postponed.remove(&key) {
                self.move_in(key, seen);
            }
        }
    }

    /// A run gets its resident.
    fn move_in(&mut self, key: Key, seen: Box<WorkflowSeen>) {
        let (mailbox, letters) = mpsc::unbounded_channel();
        self.boxes.insert(key.clone(), mailbox.clone());
        let (client, settings) = (self.client.clone(), self.settings.clone());
        let shared = (self.locks.clone(), self.live.clone(), self.finishing.clone());
        let resident = Resident::new(client, settings, shared, seen, mailbox, letters);
        let home = key.clone();
        let task = self.residents.spawn(async move { (home, resident.live().await) });
        self.ids.insert(task.id(), key);
    }

    fn is_gone(&mut self, key: &Key) {
        if let Some(mailbox) = self.boxes.remove(key) {
            let _ = mailbox.send(Letter::Gone);
        }
        self.postponed.remove(key);
        if !self.ids.values().any(|home| home == key) {
            self.is_over(key);
        }
    }

    /// Its place is free, unless another run of that name has it.
    fn is_over(&mut self, key: &Key) {
        if !self.boxes.contains_key(key) && !self.postponed.contains_key(key) {
            let admitted = self.throttle.remove(key);
            self.let_in(admitted);
        }
    }
}

/// A workflow that has to wait says so, once.
async fn postpone(client: &Client, key: &Key, version: Option<String>) {
    let api: Api<WorkflowSeen> = Api::namespaced(client.clone(), &key.0);
    let patch = json!({
        "metadata": {
            "resourceVersion": version, "labels": {labels::PHASE: WorkflowPhase::Pending, labels::COMPLETED: "false"},
        },
        "status": {"phase": WorkflowPhase::Pending, "message": POSTPONED},
    });
    if let Err(e) = api.patch(&key.1, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await {
        debug!(namespace = key.0, workflow = key.1, error = %e, "could not say that it waits");
    }
}

/// What was held before this start, and what is configured: nothing begins before it is known.
async fn prepare(
    client: &Client,
    settings: &Settings,
    stop: &CancellationToken,
) -> Option<(locks::Locks, ControllerConfig)> {
    loop {
        let locks = locks::Locks::restore(client, &settings.scope, settings.limits.clone());
        match tokio::try_join!(locks, live::read(client, settings)) {
            Ok(known) => return Some(known),
            Err(e) => warn!(error = %e, "cannot read which locks are held, and the configuration; tried again"),
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
async fn mark_broken(client: &Client, key: &Key, text: &str, archived: bool) {
    let api: Api<WorkflowSeen> = Api::namespaced(client.clone(), &key.0);
    let mut patch = json!({
        "metadata": {"labels": {labels::PHASE: WorkflowPhase::Error, labels::COMPLETED: "true"}},
        "status": {"phase": WorkflowPhase::Error, "message": format!("internal error, please report it: {text}")},
    });
    if archived {
        patch["metadata"]["labels"][labels::ARCHIVING_STATUS] = json!("Pending");
    }
    if let Err(e) = api.patch(&key.1, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await {
        warn!(namespace = key.0, workflow = key.1, error = %e, "could not mark the workflow");
    }
}

type Sights = futures::stream::BoxStream<'static, Sight>;

fn watch(client: &Client, settings: &Settings) -> impl futures::Stream<Item = Sight> + Unpin + use<> {
    let scope = &settings.scope;
    let workflows: Api<WorkflowSeen> = scope.api(client);
    let of_workflow = watcher::Config::default().labels(labels::WORKFLOW);
    // What has ended is nobody's concern here: thousands of such pods and workflows must cost a start nothing.
    let unfinished = scope.few(&format!("{},{}!=true", labels::WORKFLOW, labels::COMPLETED));
    let pods: Api<PodSeen> = scope.api(client);
    let results: Api<kube::api::DynamicObject> = scope.api_of(client, &seen::task_results());
    let running = scope.few(&format!("{}!=true", labels::COMPLETED));
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
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => Some(Sight::Pod(pod.key()?, Box::new(pod))),
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
    let mut all = live::watch(client, settings);
    all.extend([workflows, pods, results]);
    select_all(all)
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
