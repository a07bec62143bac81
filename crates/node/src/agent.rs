//! The agent: watches Pods, gives each a worker, and answers for their logs. It binds Pods that fit this node; there is no
//! scheduler beside it.

use crate::binding;
use crate::claim::{self, Claims};
use crate::event::Events;
use crate::feed::{self, News, Seen};
use crate::heartbeat;
use crate::image::Images;
use crate::journal::Journal;
use crate::kaniko::StepBuilder;
use crate::log::{self, LogError, LogOptions, LogStream, Progress};
use crate::network::alias::StandIn;
use crate::network::{Doors, Fabric};
use crate::objects::Accounts;
use crate::placement::Place;
use crate::plan::Allowed;
use crate::recovery;
use crate::session::Sessions;
use crate::skeleton::Skeleton;
use crate::step;
use crate::turn::Turns;
use crate::worker::{self, Update, Worker};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::Api;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use windlass_artifacts::AllowPaths;
use windlass_executor::inputs::Stores;
use windlass_sandbox::UidMap;
use windlass_sandbox::net::Outward;

/// What this node allows beyond ordinary Pods.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// `securityContext.privileged`, and no system call filter. Only where this process is root.
    pub privileged: bool,
    /// Pods with `hostNetwork` get this machine's own network, and not only the one that such Pods share.
    pub host_network: bool,
}

/// What an agent is made of.
pub struct Config {
    /// The node's name.
    pub name: String,
    /// Labels beside the usual `kubernetes.io/…` ones.
    pub labels: BTreeMap<String, String>,
    /// The home directory: `logs/` and `volumes/` beneath it are the agent's.
    pub home: PathBuf,
    /// The sandbox that was entered.
    pub host: windlass_sandbox::Host,
    /// The image store.
    pub store: windlass_oci::Store,
    /// How registries are reached.
    pub registries: windlass_oci::client::ClientOptions,
    /// The API.
    pub client: kube::Client,
    /// The API's TLS listener on this machine's loopback; Pods reach it at [`crate::API_ADDRESS`].
    pub api: SocketAddr,
    /// The certificate authority of that listener, as Pods get it.
    pub ca_pem: Vec<u8>,
    /// The built-in registry's listener on this machine's loopback.
    pub registry: Option<SocketAddr>,
    /// Whether Pods may reach networks outside, where this machine can give them that.
    pub outward: bool,
    /// Hosts of the outside world that other servers stand in for, for programs inside Pods.
    pub stand_ins: Vec<StandIn>,
    /// Directories that hostPath volumes may use.
    pub allow_paths: AllowPaths,
    /// What else is allowed.
    pub policy: Policy,
    /// Where a step's artifacts come from and go to.
    pub stores: Stores,
    /// Builds images for kaniko steps.
    pub builder: Option<Arc<dyn StepBuilder>>,
    /// The program that has the executor's roles; `None` is the running one.
    pub executable: Option<PathBuf>,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The Pods' network could not be made.
    #[error("{0}")]
    Network(String),
    /// The registry client.
    #[error(transparent)]
    Images(#[from] windlass_oci::Error),
    /// A directory of the agent.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The API, while taking up what an earlier agent left.
    #[error("API: {0}")]
    Api(Box<kube::Error>),
}

/// The node agent. Clones are the same agent.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

struct Inner {
    config: Config,
    labels: BTreeMap<String, String>,
    place: Place,
    claims: Claims,
    fabric: Fabric,
    events: Events,
    images: Images,
    capacity: Capacity,
    executable: Arc<OwnedFd>,
    state: Mutex<State>,
    idle: tokio::sync::Notify,
    /// All Pods that live were told.
    listed: tokio::sync::Notify,
    accounts: Accounts,
    journal: Journal,
    skeleton: Skeleton,
    turns: Turns,
    sessions: Sessions,
}

#[derive(Default)]
struct State {
    /// By UID, with the Pod as its worker knows it.
    workers: HashMap<String, (watch::Sender<Update>, Seen)>,
    /// UIDs whose worker has ended and whose object is still there.
    finished: HashSet<String>,
    binding: HashSet<String>,
    /// Pods that do not fit this node as it is now.
    waiting: HashMap<String, Seen>,
    follows: HashMap<(String, String), watch::Receiver<Progress>>,
}

/// What this machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) cpu_milli: i128,
    pub(crate) memory_bytes: i128,
}

/// Removes a followed log when its container has ended.
pub(crate) struct Followed {
    agent: Agent,
    key: (String, String),
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.agent.state().follows.remove(&self.key);
    }
}

/// All of a Pod; one that cannot be read is told and left alone.
fn readable(seen: &Seen) -> Option<Pod> {
    seen.pod().inspect_err(|error| tracing::warn!(uid = seen.uid(), %error, "a pod cannot be read")).ok()
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

impl Agent {
    /// Makes the Pods' network and takes the configuration. Nothing runs before [`Agent::run`]. Inside a tokio runtime.
    pub async fn new(config: Config) -> Result<Self, AgentError> {
        for name in ["logs", "volumes/pods", "volumes/claims"] {
            let path = config.home.join(name);
            std::fs::create_dir_all(&path).map_err(|source| AgentError::Io { path, source })?;
        }
        let doors = Doors {
            api: config.api,
            registry: config.registry,
            outward: config.outward,
            stand_ins: config.stand_ins.clone(),
        };
        let fabric = Fabric::create(&doors).await.map_err(|e| AgentError::Network(e.to_string()))?;
        let path = config.executable.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let executable = File::open(&path).map_err(|source| AgentError::Io { path, source })?;
        let images = Images::new(config.store.clone(), config.registries.clone())?;
        let mut labels = config.labels.clone();
        labels.extend(heartbeat::labels(&config.name));
        let inner = Inner {
            events: Events::start(config.client.clone(), &config.name),
            place: Place::new(&config.name, &labels),
            claims: Claims::default(),
            labels,
            fabric,
            images,
            capacity: heartbeat::capacity(),
            executable: Arc::new(executable.into()),
            state: Mutex::default(),
            idle: tokio::sync::Notify::new(),
            listed: tokio::sync::Notify::new(),
            accounts: Accounts::default(),
            journal: Journal::new(&config.home),
            skeleton: Skeleton::default(),
            turns: Turns::new(),
            sessions: Sessions::default(),
            config,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Whether and how Pods reach networks outside of this machine.
    pub fn outward(&self) -> &Outward {
        self.0.fabric.outward()
    }

    /// Runs Pods until `shutdown` is ready; then stops every container and returns. Pods that ran are `NodeLost` for the
    /// next agent.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        recovery::take_up(self).await.map_err(|e| AgentError::Api(Box::new(e)))?;
        let tasks = [
            tokio::spawn(heartbeat::run(self.clone())),
            tokio::spawn(recovery::sweep(self.clone())),
            tokio::spawn(binding::follow(self.clone())),
            tokio::spawn(claim::follow(self.clone())),
            tokio::spawn(claim::reclaim(self.clone())),
            tokio::spawn(self.0.fabric.clone().run(self.0.config.client.clone(), self.0.events.clone())),
        ];
        tokio::select! {
            () = feed::follow(&self.0.config.client, |news| self.hear(news)) => {}
            () = shutdown => {}
        }
        for (worker, _) in self.state().workers.values() {
            let _ = worker.send(Update::Shutdown);
        }
        let quiet = async {
            loop {
                let idle = self.0.idle.notified();
                if self.state().workers.is_empty() {
                    return;
                }
                idle.await;
            }
        };
        // What does not end by itself ends with this process.
        let _ = tokio::time::timeout(Duration::from_secs(5), quiet).await;
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        Ok(())
    }

    fn hear(&self, news: News) {
        match news {
            News::Now(seen) => self.dispatch(&seen),
            News::Gone(seen) => self.gone(&seen.name()),
            News::Listed(all) => {
                let listed: HashSet<&str> = all.iter().map(Seen::uid).collect();
                let mut state = self.state();
                // One that ended a moment ago is not among them either: asked for one by one.
                let missing: Vec<Pod> = state
                    .workers
                    .iter()
                    .filter(|(uid, _)| !listed.contains(uid.as_str()))
                    .map(|(_, (_, seen))| seen.name())
                    .collect();
                state.finished.retain(|uid| listed.contains(uid.as_str()));
                state.waiting.retain(|uid, _| listed.contains(uid.as_str()));
                drop(state);
                for pod in missing {
                    let agent = self.clone();
                    tokio::spawn(async move { agent.look_for(pod).await });
                }
                all.iter().for_each(|seen| self.dispatch(seen));
                self.0.listed.notify_one();
            }
        }
    }

    /// Tells the Pod's worker where its object is no more.
    async fn look_for(&self, pod: Pod) {
        let api = self.api(&pod);
        match api.get_metadata_opt(pod.metadata.name.as_deref().unwrap_or_default()).await {
            Ok(Some(now)) if now.metadata.uid == pod.metadata.uid => {}
            Ok(_) => self.gone(&pod),
            // It is asked for again with the next list; what the worker writes finds out as well.
            Err(error) => tracing::debug!(%error, "looking for a pod"),
        }
    }

    fn gone(&self, pod: &Pod) {
        let uid = uid(pod);
        let mut state = self.state();
        state.finished.remove(&uid);
        state.binding.remove(&uid);
        state.waiting.remove(&uid);
        match state.workers.get(&uid) {
            Some((worker, _)) => drop(worker.send(Update::Gone)),
            None => {
                drop(state);
                // Logs stay for as long as the Pod's object.
                let directory = self.log_directory(pod);
                tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory));
            }
        }
    }

    /// What an event about a Pod means here.
    fn dispatch(&self, seen: &Seen) {
        let config = &self.0.config;
        let bound = seen.node();
        if bound.is_some_and(|n| n != config.name) {
            return;
        }
        let uid = seen.uid();
        let mut state = self.state();
        if let Some((worker, before)) = state.workers.get_mut(uid) {
            // Most changes are of the status, which the worker wrote itself.
            if before.mark() != seen.mark() {
                let Some(pod) = readable(seen) else { return };
                *before = seen.clone();
                let _ = worker.send(Update::Pod(Arc::new(pod)));
            }
            return;
        }
        let over = seen.is_over() || state.finished.contains(uid);
        if seen.is_deleted() {
            // It does not run here (any more): nothing to wait for.
            if seen.grace() != Some(0) && (over || bound.is_some()) {
                let pod = seen.name();
                let api = self.api(&pod);
                tokio::spawn(async move { worker::release(&api, &pod).await });
            }
            return;
        }
        if over {
            return;
        }
        let Some(pod) = readable(seen) else { return };
        if bound.is_none() {
            if let Some(message) = self.0.place.misfit(&pod).or_else(|| self.0.claims.misfit(&pod)) {
                state.waiting.insert(uid.to_owned(), seen.clone());
                drop(state);
                self.unschedulable(pod, message);
                return;
            }
            state.waiting.remove(uid);
            // A step's Pod runs at once: its binding would be a third of its writes.
            if step::task(&pod).is_none() {
                if state.binding.insert(uid.to_owned()) {
                    let agent = self.clone();
                    tokio::spawn(async move { agent.bind(&pod).await });
                }
                return;
            }
        }
        state.binding.remove(uid);
        state.waiting.remove(uid);
        let pod = Arc::new(pod);
        let (sender, receiver) = watch::channel(Update::Pod(pod.clone()));
        state.workers.insert(uid.to_owned(), (sender, seen.clone()));
        drop(state);
        tokio::spawn(Worker::new(self.clone(), pod, receiver).run());
    }

    /// The log of one container. `uid` may be empty where the caller does not know it.
    pub fn logs(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<LogStream, LogError> {
        let directory = log::directory(&self.0.config.home.join("logs"), namespace, pod, uid);
        let path = log::file(&directory, container, options.previous);
        let key = (uid.to_owned(), container.to_owned());
        let progress = self.state().follows.get(&key).cloned().filter(|_| !options.previous);
        match log::open(&path, options.clone(), progress) {
            Ok(stream) => Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(LogError::NotStarted(match options.previous {
                    true => format!("previous terminated container {container:?} in pod {pod:?} not found"),
                    false => format!("container {container:?} in pod {pod:?} is waiting to start: ContainerCreating"),
                }))
            }
            Err(error) => Err(LogError::Io(error)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn api(&self, pod: &Pod) -> Api<Pod> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.0.config.client.clone(), namespace)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// What Pods may ask for here.
    pub(crate) fn allowed(&self) -> Allowed {
        let Policy { privileged, .. } = self.0.config.policy;
        Allowed { privileged, root: self.0.config.host.probe().uid_map == UidMap::Host }
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        &self.0.labels
    }

    pub(crate) fn fabric(&self) -> &Fabric {
        &self.0.fabric
    }

    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    pub(crate) fn images(&self) -> &Images {
        &self.0.images
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    /// Waits until all Pods that live were told (again).
    pub(crate) async fn listed(&self) {
        self.0.listed.notified().await;
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.0.claims
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0.place
    }

    /// The node has changed: looks again at the Pods that did not fit it.
    pub(crate) fn look_again(&self) {
        let waiting: Vec<Seen> = self.state().waiting.values().cloned().collect();
        waiting.iter().for_each(|seen| self.dispatch(seen));
    }

    /// The Pod is not being bound any more.
    pub(crate) fn unbound(&self, pod: &Pod) {
        self.state().binding.remove(&uid(pod));
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.0.capacity
    }

    pub(crate) fn host_ip(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    pub(crate) fn executable(&self) -> std::io::Result<Arc<OwnedFd>> {
        Ok(self.0.executable.clone())
    }

    pub(crate) fn log_directory(&self, pod: &Pod) -> PathBuf {
        let meta = &pod.metadata;
        log::directory(
            &self.0.config.home.join("logs"),
            meta.namespace.as_deref().unwrap_or("default"),
            meta.name.as_deref().unwrap_or_default(),
            meta.uid.as_deref().unwrap_or_default(),
        )
    }

    pub(crate) fn pod_directory(&self, pod: &Pod) -> PathBuf {
        recovery::pod_directory(&self.0.config.home, &uid(pod))
    }

    pub(crate) fn follow(&self, pod: &Pod, container: &str, progress: watch::Receiver<Progress>) -> Followed {
        let key = (uid(pod), container.to_owned());
        self.state().follows.insert(key.clone(), progress);
        Followed { agent: self.clone(), key }
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    pub(crate) fn mark_begun(&self, pod: &Pod) -> std::io::Result<()> {
        self.0.journal.begun(&uid(pod))
    }

    pub(crate) fn keep_end(&self, pod: &Pod, status: &PodStatus) {
        if let Err(error) = self.0.journal.ended(&uid(pod), status) {
            tracing::warn!(%error, "a pod's end was not noted on disk");
        }
    }

    /// Deletes the Pod's directory in the background, where it has one; its logs stay.
    pub(crate) fn discard(&self, pod: &Pod) {
        self.0.journal.forget(&uid(pod));
        let directory = self.pod_directory(pod);
        if directory.exists() {
            tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory));
        }
    }

    /// The layers of a container's root: those of its image on the places that are mounted over.
    pub(crate) fn root_layers(&self, image: &[PathBuf], account: bool) -> Vec<PathBuf> {
        self.0.skeleton.below(&self.0.config.host, image, account)
    }

    /// A worker has ended.
    pub(crate) fn ended(&self, pod: &Pod) {
        let uid = uid(pod);
        let gone = {
            let mut state = self.state();
            let worker = state.workers.remove(&uid);
            let gone = worker.is_some_and(|(w, _)| matches!(*w.borrow(), Update::Gone));
            if !gone {
                state.finished.insert(uid);
            }
            gone
        };
        if gone {
            let directory = self.log_directory(pod);
            tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory));
        }
        self.0.idle.notify_waiters();
    }
}

/// Whether the Pod has ended.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}
