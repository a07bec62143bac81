//! One task per Pod: asks `lifecycle` what to do, does it, and writes the Pod's status, seldom. Everything it knows of its
//! containers it was told by them; it can be dropped at any time without leaving a container behind unwatched.

use crate::agent::Agent;
use crate::container::{Context, Live, Remains, StartError};
use crate::lifecycle::{self, Action, End, Exit, Policy, Run, Slot, Stop};
use crate::plan;
use crate::probe::{self, Finding};
use crate::setup::{self, Setup, SetupError};
use crate::status::{self, Facts};
use crate::step::{self, StageError, Step};
use crate::turn::Turn;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions, Request};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use windlass_artifacts::Cancel;
use windlass_model::places;
use windlass_model::task::Task;

/// How long a first status waits for a Pod that may end at once.
const FIRST_WRITE: SignedDuration = SignedDuration::from_millis(250);
const NEXT_WRITE: SignedDuration = SignedDuration::from_millis(10);
/// How long connections through Services may go on before a stopped Pod's containers are told.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What the agent tells a worker.
#[derive(Clone)]
pub(crate) enum Update {
    Pod(Arc<Pod>),
    /// The object is gone.
    Gone,
    /// The agent ends.
    Shutdown,
}

enum Happened {
    Prepared(Result<Box<(Setup, Option<Step>)>, PrepareError>),
    Started {
        index: usize,
        live: Live,
    },
    Exited {
        index: usize,
        exit: Exit,
        remains: Remains,
    },
    Blocked {
        index: usize,
        reason: String,
        message: String,
    },
    Probed {
        index: usize,
        generation: i32,
        finding: Finding,
    },
    Collected(Result<(), String>),
    /// Inputs that only come when what keeps them runs did not come.
    Unstaged {
        index: usize,
        error: StageError,
    },
}

enum PrepareError {
    Setup(SetupError),
    Stage(StageError),
}

struct Running {
    live: Live,
    probes: Option<JoinHandle<()>>,
}

pub(crate) struct Worker {
    agent: Agent,
    pod: Arc<Pod>,
    updates: watch::Receiver<Update>,
    happened: mpsc::UnboundedReceiver<Happened>,
    tell: mpsc::UnboundedSender<Happened>,
    slots: Vec<Slot>,
    policy: Policy,
    facts: Facts,
    task: Option<Task>,
    context: Option<Context>,
    preparing: Option<JoinHandle<()>>,
    turn: Arc<Turn>,
    attempts: u32,
    prepare_at: Option<Timestamp>,
    cancel: Cancel,
    cancels: HashMap<usize, watch::Sender<bool>>,
    running: HashMap<usize, Running>,
    blocked: HashMap<usize, u32>,
    remains: Option<Remains>,
    stop: Option<Stop>,
    gone: bool,
    shutdown: bool,
    begun: bool,
    collecting: bool,
    /// What became of outputs that were taken while the sidecars went on.
    collected: Option<Result<(), String>>,
    end: Option<End>,
    write_at: Option<Timestamp>,
    written: Option<PodStatus>,
    /// Others may have been told that the Pod answers at its address.
    announced: bool,
}

impl Worker {
    /// A worker for `pod`.
    pub(crate) fn new(agent: Agent, pod: Arc<Pod>, updates: watch::Receiver<Update>) -> Self {
        let (tell, happened) = mpsc::unbounded_channel();
        let now = Timestamp::now();
        let (task, unreadable) = match step::task(&pod) {
            None => (None, None),
            Some(Ok(task)) => (Some(task), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        let faults = plan::refusals(&pod, agent.allowed());
        let stop = match (unreadable, faults.is_empty()) {
            (Some(message), _) => Some(Stop::Failed { reason: "InvalidTask".into(), message }),
            (None, false) => Some(Stop::Failed { reason: "Forbidden".into(), message: faults.join("; ") }),
            (None, true) => None,
        };
        let pod_is_running = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        let start = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(now, |t| t.0);
        let mut slots = lifecycle::slots(&pod, task.is_some());
        if let Some(set) = task.as_ref().and_then(|t: &Task| t.container_set.as_ref()) {
            lifecycle::order(&mut slots, set);
        }
        Self {
            slots,
            policy: Policy {
                holds: task.as_ref().is_some_and(|task| !task.plugins_after().is_empty()),
                ..Policy::of(&pod, start)
            },
            facts: Facts {
                host_ip: agent.host_ip().to_string(),
                start: Some(start),
                scheduled: Some(start),
                ..Facts::default()
            },
            agent,
            pod,
            updates,
            happened,
            tell,
            task,
            context: None,
            preparing: None,
            turn: Arc::default(),
            attempts: 0,
            prepare_at: Some(now),
            cancel: Cancel::new(),
            cancels: HashMap::new(),
            running: HashMap::new(),
            blocked: HashMap::new(),
            remains: None,
            stop,
            gone: false,
            shutdown: false,
            begun: false,
            collecting: false,
            collected: None,
            end: None,
            write_at: None,
            written: None,
            announced: pod_is_running,
        }
    }

    fn is_step(&self) -> bool {
        self.task.is_some()
    }

    /// Carries the Pod to its end.
    pub(crate) async fn run(mut self) {
        loop {
            let now = Timestamp::now();
            self.look_at_deletion(now);
            let wake = self.step(now);
            if self.end.is_some() && !self.collecting {
                break;
            }
            if (self.gone || self.shutdown) && self.running.is_empty() && self.cancels.is_empty() {
                break;
            }
            if self.write_at.is_some_and(|at| at <= now) {
                self.write_status().await;
                continue;
            }
            let next =
                [wake, self.write_at, self.prepare_at.filter(|_| self.preparing.is_none() && self.context.is_none())];
            let pause = next
                .into_iter()
                .flatten()
                .min()
                .map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO));
            let timer = async {
                match pause {
                    // Rounded up, so that the time has really come.
                    Some(pause) => tokio::time::sleep(pause + Duration::from_millis(1)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(happened) = self.happened.recv() => self.observe(happened),
                changed = self.updates.changed() => match changed {
                    Ok(()) => self.update(),
                    Err(_) => self.shutdown(),
                },
                () = timer => {}
            }
        }
        self.conclude().await;
    }

    fn update(&mut self) {
        let update = self.updates.borrow_and_update().clone();
        match update {
            Update::Pod(pod) => self.pod = pod,
            Update::Gone => {
                self.gone = true;
                let stopping = self.stop.is_some();
                if matches!(self.stop, None | Some(Stop::Deleted { .. })) {
                    self.stop = Some(Stop::Deleted { grace: SignedDuration::ZERO });
                }
                self.begin_stop();
                // Whatever grace it was given: with its object gone nobody waits for it any more.
                if stopping {
                    self.kill();
                }
            }
            Update::Shutdown => self.shutdown(),
        }
    }

    fn shutdown(&mut self) {
        self.shutdown = true;
        self.stop.get_or_insert(Stop::Deleted { grace: SignedDuration::from_secs(2) });
        self.begin_stop();
    }

    fn look_at_deletion(&mut self, now: Timestamp) {
        if self.pod.metadata.deletion_timestamp.is_some() {
            let given = self.pod.metadata.deletion_grace_period_seconds;
            let grace = given.map_or(self.policy.grace, SignedDuration::from_secs);
            let sooner = match &self.stop {
                Some(Stop::Deleted { grace: before }) => grace.is_zero() && !before.is_zero(),
                Some(_) => false,
                None => true,
            };
            if sooner {
                let again = self.stop.is_some();
                self.stop = Some(Stop::Deleted { grace });
                self.begin_stop();
                if again {
                    self.kill();
                }
            }
        }
        if self.stop.is_none() && self.policy.deadline.is_some_and(|at| at <= now) {
            self.stop = Some(Stop::DeadlineExceeded);
            self.begin_stop();
        }
        let limit = self.task.as_ref().and_then(|t| t.deadline).map(|t| t.0);
        if self.stop.is_none() && limit.is_some_and(|at| at <= now) {
            let message = "Step exceeded its deadline".to_owned();
            self.stop = Some(Stop::Failed { reason: "DeadlineExceeded".into(), message });
            self.begin_stop();
        }
    }

    /// What is only being prepared, pulled or built ends at once; what runs is stopped by its action.
    fn begin_stop(&mut self) {
        self.facts.stopping = true;
        self.cancel.cancel();
        if let Some(preparing) = self.preparing.take() {
            preparing.abort();
        }
        for cancel in self.cancels.values() {
            let _ = cancel.send(true);
        }
        self.touch();
    }

    fn kill(&self) {
        for running in self.running.values() {
            if let Some((process, _)) = &running.live.process {
                let _ = process.signal(9);
            }
        }
    }

    fn touch(&mut self) {
        let quick = self.written.is_some() || self.policy.restart == lifecycle::Restart::Always;
        let delay = if quick { NEXT_WRITE } else { FIRST_WRITE };
        let at = Timestamp::now().saturating_add(delay).ok();
        self.write_at = self.write_at.or(at);
    }

    /// Decides and acts once; answers when to look again.
    fn step(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.end.is_some() {
            return None;
        }
        if self.context.is_none() && self.stop.is_none() {
            if self.preparing.is_none() && self.prepare_at.is_some_and(|at| at <= now) {
                self.prepare();
            }
            let limit = self.task.as_ref().and_then(|t| t.deadline).map(|t| t.0);
            return [self.policy.deadline, limit].into_iter().flatten().min();
        }
        let mut decision = lifecycle::decide(&self.policy, &mut self.slots, self.stop.as_ref(), now);
        if let Some(end) = &decision.collect
            && !self.collecting
            && !self.collect(end.succeeded)
        {
            self.policy.holds = false;
            decision = lifecycle::decide(&self.policy, &mut self.slots, self.stop.as_ref(), now);
        }
        for action in decision.actions {
            match action {
                Action::Start(index) => self.start(index),
                Action::Stop { index, grace } => self.stop_container(index, grace),
            }
        }
        if let Some(end) = decision.end {
            self.finish(end);
        }
        let limit = self.task.as_ref().and_then(|t| t.deadline).map(|t| t.0).filter(|_| self.stop.is_none());
        [decision.wake, limit].into_iter().flatten().min()
    }

    fn prepare(&mut self) {
        let (agent, pod, task) = (self.agent.clone(), self.pod.clone(), self.task.clone());
        let (tell, cancel, turn) = (self.tell.clone(), self.cancel.clone(), self.turn.clone());
        self.prepare_at = None;
        self.preparing = Some(tokio::spawn(async move {
            agent.turns().take(&turn).await;
            let prepared = async {
                let setup = setup::prepare(&agent, &pod).await.map_err(PrepareError::Setup)?;
                let Some(task) = task else { return Ok(Box::new((setup, None))) };
                let context = Context { agent, pod, setup: Arc::new(setup), step: None };
                let staged = step::stage(&context, task, cancel).await.map_err(PrepareError::Stage)?;
                let Context { setup, .. } = context;
                let setup = Arc::into_inner(setup)
                    .ok_or_else(|| PrepareError::Stage(StageError::Inputs("the setup is still in use".to_owned())))?;
                Ok(Box::new((setup, Some(staged))))
            };
            let _ = tell.send(Happened::Prepared(prepared.await));
        }));
    }

    fn observe(&mut self, happened: Happened) {
        let now = Timestamp::now();
        match happened {
            Happened::Prepared(result) => self.prepared(result, now),
            Happened::Started { index, live } => self.started(index, live, now),
            Happened::Exited { index, exit, remains } => self.exited(index, exit, remains),
            Happened::Blocked { index, reason, message } => self.blocked_by(index, reason, message, now),
            Happened::Probed { index, generation, finding } => self.probed(index, generation, finding),
            Happened::Collected(result) => {
                self.collecting = false;
                self.policy.holds = false;
                self.collected = Some(result);
                self.judge();
            }
            Happened::Unstaged { index, error } => self.unstaged(index, error, now),
        }
        self.touch();
    }

    fn prepared(&mut self, result: Result<Box<(Setup, Option<Step>)>, PrepareError>, now: Timestamp) {
        self.preparing = None;
        if self.stop.is_some() {
            return;
        }
        let events = self.agent.events();
        match result {
            Ok(prepared) => {
                let (setup, step) = *prepared;
                self.facts.obstacle = None;
                self.facts.pod_ip = Some(setup.around.pod_ip.clone());
                let setup = Arc::new(setup);
                self.agent.sessions().note_pod(self.pod.metadata.uid.as_deref().unwrap_or_default(), &setup);
                self.context =
                    Some(Context { agent: self.agent.clone(), pod: self.pod.clone(), setup, step: step.map(Arc::new) });
            }
            Err(PrepareError::Setup(error)) => {
                self.turn.end();
                events.warning(&self.pod, error.event, error.message.clone());
                if error.refused {
                    self.stop = Some(Stop::Failed { reason: "Forbidden".into(), message: error.message });
                } else {
                    self.facts.obstacle = Some(error.message);
                    self.prepare_at = Some(setup::retry_at(now, self.attempts));
                    self.attempts += 1;
                }
            }
            Err(PrepareError::Stage(StageError::Inputs(message))) => {
                events.warning(&self.pod, "Failed", message.clone());
                self.stop = Some(Stop::Failed { reason: "InputError".into(), message });
            }
            Err(PrepareError::Stage(StageError::Start(error))) => {
                let (reason, message) = match error {
                    StartError::Blocked { reason, message } => (reason, message),
                    StartError::Failed(exit) => (exit.reason, exit.message.unwrap_or_default()),
                };
                events.warning(&self.pod, "Failed", message.clone());
                // An image is asked for more and more seldom; a Secret or ConfigMap may be there any moment.
                let slow =
                    if reason == "CreateContainerConfigError" { self.attempts.min(3) } else { self.attempts + 3 };
                let main = step::main_container(&self.pod).map(|c| c.name.clone()).unwrap_or_default();
                if let Some(slot) = self.slots.iter_mut().find(|s| s.name == main) {
                    slot.run = Run::Waiting { reason, message: Some(message) };
                }
                self.prepare_at = Some(setup::retry_at(now, slow));
                self.attempts += 1;
            }
        }
    }

    /// What was collected may be why the Pod fails.
    fn judge(&mut self) {
        // Outputs that a failed container did not make are not why it failed.
        let Some(end) = self.end.as_mut() else { return };
        if let Some(Err(problem)) = self.collected.take()
            && end.succeeded
        {
            end.succeeded = false;
            end.reason.get_or_insert("OutputError".into());
            end.message.get_or_insert(problem);
        }
    }

    fn unstaged(&mut self, index: usize, error: StageError, now: Timestamp) {
        match error {
            StageError::Start(StartError::Blocked { reason, message }) => self.blocked_by(index, reason, message, now),
            StageError::Start(StartError::Failed(exit)) => self.exited(index, *exit, Remains::default()),
            StageError::Inputs(message) => {
                self.cancels.remove(&index);
                self.slots[index].run = Run::Waiting { reason: "PodInitializing".into(), message: None };
                if self.stop.is_none() {
                    self.agent.events().warning(&self.pod, "Failed", message.clone());
                    self.stop = Some(Stop::Failed { reason: "InputError".into(), message });
                    self.begin_stop();
                }
            }
        }
    }

    fn spec_of(&self, index: usize) -> Option<Container> {
        lifecycle::containers(&self.pod).nth(index).cloned()
    }

    fn start(&mut self, index: usize) {
        let (Some(context), Some(container)) = (self.context.clone(), self.spec_of(index)) else { return };
        if !self.begun {
            self.begun = true;
            // After a crash of this agent, a Pod that has begun is never run again under the same UID.
            if let Err(error) = self.agent.mark_begun(&self.pod) {
                tracing::warn!(%error, "cannot note that a pod has begun");
            }
        }
        let (cancel, cancelled) = watch::channel(false);
        self.cancels.insert(index, cancel);
        let tell = self.tell.clone();
        let restarts = self.slots[index].restarts;
        let keeps = container.name.starts_with(places::ARTIFACT_PLUGIN);
        let inputs = (context.step.clone().filter(|_| !keeps), self.cancel.clone());
        tokio::spawn(async move {
            if let (Some(step), stop) = inputs
                && let Err(error) = step.load(&context, stop).await
            {
                let _ = tell.send(Happened::Unstaged { index, error });
                return;
            }
            let started = {
                let tell = tell.clone();
                move |live| drop(tell.send(Happened::Started { index, live }))
            };
            let step = context.step.clone().filter(|step| step.main == container.name);
            let told = async {
                match &step {
                    Some(step) => step.follow_progress(&context).await,
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                ended = context.run(&container, restarts, cancelled, started) => ended,
                () = told => return,
            };
            let happened = match ended {
                Ok((exit, remains)) => Happened::Exited { index, exit, remains },
                Err(StartError::Failed(exit)) => Happened::Exited { index, exit: *exit, remains: Remains::default() },
                Err(StartError::Blocked { reason, message }) => Happened::Blocked { index, reason, message },
            };
            let _ = tell.send(happened);
        });
    }

    fn started(&mut self, index: usize, live: Live, now: Timestamp) {
        self.turn.end();
        let Some(container) = self.spec_of(index) else { return };
        self.blocked.remove(&index);
        self.slots[index].running(now, live.id.clone(), live.image_id.clone());
        if !self.is_step() {
            let (events, image) = (self.agent.events(), container.image.as_deref().unwrap_or(""));
            let pulled = match live.pulled {
                true => format!("Successfully pulled image {image:?}"),
                false => format!("Container image {image:?} already present on machine"),
            };
            events.normal(&self.pod, "Pulled", pulled);
            events.normal(&self.pod, "Created", format!("Created container: {}", container.name));
            events.normal(&self.pod, "Started", format!("Started container {}", container.name));
        }
        let probes = self.probes(index, &container, &live);
        // A container of a set that is tried again was there before.
        let before = self.running.insert(index, Running { live, probes });
        if let Some(probes) = before.and_then(|b| b.probes) {
            probes.abort();
        }
    }

    fn subject(&self, container: &Container, live: &Live) -> Option<probe::Subject> {
        let (process, spec) = live.process.clone()?;
        let setup = &self.context.as_ref()?.setup;
        let address: IpAddr = setup.around.pod_ip.parse().ok()?;
        Some(probe::Subject {
            container: process,
            spec,
            address,
            switch: self.agent.fabric().switch().clone(),
            ports: container.ports.clone().unwrap_or_default(),
        })
    }

    fn probes(&self, index: usize, container: &Container, live: &Live) -> Option<JoinHandle<()>> {
        let none = container.startup_probe.is_none()
            && container.readiness_probe.is_none()
            && container.liveness_probe.is_none();
        if none {
            return None;
        }
        let subject = self.subject(container, live)?;
        let (tell, slot, container) = (self.tell.clone(), self.slots[index].clone(), container.clone());
        let generation = slot.restarts;
        let (findings, mut found) = mpsc::unbounded_channel();
        Some(tokio::spawn(async move {
            let forward = async {
                while let Some(finding) = found.recv().await {
                    let _ = tell.send(Happened::Probed { index, generation, finding });
                }
            };
            tokio::join!(probe::run(container, slot, subject, findings), forward);
        }))
    }

    fn probed(&mut self, index: usize, generation: i32, finding: Finding) {
        let slot = &mut self.slots[index];
        let Run::Running { stopping, .. } = &mut slot.run else { return };
        if slot.restarts != generation {
            return;
        }
        match finding {
            Finding::Started => slot.passed_startup(),
            Finding::Ready(ready) => slot.ready = ready,
            Finding::Unhealthy(text) => self.agent.events().warning(&self.pod, "Unhealthy", text),
            Finding::Dead(text) => {
                if !*stopping {
                    *stopping = true;
                    self.agent.events().normal(&self.pod, "Killing", text);
                    let grace = self.policy.grace;
                    self.stop_container(index, grace);
                }
            }
        }
    }

    fn exited(&mut self, index: usize, exit: Exit, remains: Remains) {
        self.cancels.remove(&index);
        if let Some(Running { probes: Some(probes), .. }) = self.running.remove(&index) {
            probes.abort();
        }
        if exit.reason == "StartError" {
            let message = exit.message.clone().unwrap_or_default();
            self.agent.events().warning(&self.pod, "Failed", format!("Error: {message}"));
        }
        let name = self.slots[index].name.clone();
        if self.context.as_ref().and_then(|c| c.step.as_ref()).is_some_and(|s| s.main == name) {
            self.remains = Some(remains);
        }
        self.slots[index].exited(exit, &self.policy);
        if self.slots[index].retry_at.is_some() && self.slots[index].restarts > 0 && self.stop.is_none() {
            let text = format!("Back-off restarting failed container {name} in pod {}", self.name());
            self.agent.events().warning(&self.pod, "BackOff", text);
        }
    }

    fn blocked_by(&mut self, index: usize, reason: String, message: String, now: Timestamp) {
        self.cancels.remove(&index);
        if self.stop.is_some() {
            self.slots[index].run = Run::Waiting { reason, message: None };
            return;
        }
        let tries = self.blocked.entry(index).or_default();
        let exponent = u32::min(*tries, 5);
        let image = matches!(reason.as_str(), "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName");
        let first = if image { 10 } else { 2 };
        let delay = SignedDuration::from_secs((first << exponent).min(if image { 300 } else { 10 }));
        self.agent.events().warning(&self.pod, "Failed", format!("Error: {reason}: {message}"));
        let (reason, message) = match reason.as_str() {
            "ErrImagePull" if *tries > 0 => {
                let name = self.spec_of(index).and_then(|c| c.image).unwrap_or_default();
                ("ImagePullBackOff".to_owned(), format!("Back-off pulling image {name:?}: ErrImagePull: {message}"))
            }
            _ => (reason, message),
        };
        *self.blocked.entry(index).or_default() += 1;
        self.slots[index].blocked(now, reason, message, delay);
    }

    fn stop_container(&mut self, index: usize, grace: SignedDuration) {
        let Some(container) = self.spec_of(index) else { return };
        let Some(running) = self.running.get_mut(&index) else { return };
        if let Some(probes) = running.probes.take() {
            probes.abort();
        }
        if self.task.is_none() {
            self.agent.events().normal(&self.pod, "Killing", format!("Stopping container {}", container.name));
        }
        let live = running.live.clone();
        let Some((process, _)) = live.process.clone() else {
            if let Some(cancel) = self.cancels.get(&index) {
                let _ = cancel.send(true);
            }
            return;
        };
        let subject = self.subject(&container, &live);
        let leaving = matches!(self.stop, Some(Stop::Deleted { .. })) && self.task.is_none() && !self.shutdown;
        let address = self.facts.pod_ip.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()).filter(|_| leaving);
        // An address that Pods share is not given up by one of them.
        let address = address.filter(|_| !self.pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false));
        let fabric = self.agent.fabric().clone();
        tokio::spawn(async move {
            let grace = Duration::try_from(grace).unwrap_or(Duration::ZERO);
            let deadline = tokio::time::Instant::now() + grace;
            if let Some(address) = address {
                // First no new connections, then the signal: a rollout loses none.
                fabric.retire(address, grace.min(DRAIN_MAX)).await;
            }
            let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
            if let (Some(hook), Some(subject)) = (hook, subject) {
                let run = async {
                    if let Some(exec) = &hook.exec {
                        probe::run_command(&subject, exec.command.clone().unwrap_or_default()).await
                    } else if let Some(get) = &hook.http_get {
                        probe::http_get(&subject, get).await
                    } else {
                        let seconds = hook.sleep.as_ref().map_or(0, |s| s.seconds);
                        tokio::time::sleep(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).await;
                        Ok(())
                    }
                };
                if let Ok(Err(error)) = tokio::time::timeout_at(deadline, run).await {
                    tracing::debug!(%error, "preStop hook");
                }
            }
            // The kubelet leaves two seconds after a hook that took all of the grace.
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let left = if grace.is_zero() { Duration::ZERO } else { left.max(Duration::from_millis(500)) };
            process.stop_with(live.stop_signal, left).await;
        });
    }

    /// The containers are over: a step's outputs are collected before the Pod's status says so.
    fn finish(&mut self, end: End) {
        let deleted = matches!(self.stop, Some(Stop::Deleted { .. }));
        let succeeded = end.succeeded;
        self.end = Some(end);
        if self.collected.is_some() {
            self.judge();
        } else if !deleted {
            self.collect(succeeded);
        }
    }

    /// Takes the step's outputs; false where there are none to take.
    fn collect(&mut self, succeeded: bool) -> bool {
        let Some(context) = self.context.clone() else { return false };
        let Some(step) = context.step.clone() else { return false };
        // A container set need not have a `main`; its logs are kept all the same.
        if self.remains.is_none() && step.task.container_set.is_none() {
            return false;
        }
        self.collecting = true;
        let (tell, remains, cancel) = (self.tell.clone(), self.remains.clone(), Cancel::new());
        self.cancel = cancel.clone();
        tokio::spawn(async move {
            let finished = step.finish(&context, remains.as_ref(), succeeded, cancel).await;
            // Directories are given back before the Pod is told to be over.
            drop((context, remains));
            let _ = tell.send(Happened::Collected(finished));
        });
        true
    }

    fn name(&self) -> String {
        self.pod.metadata.name.clone().unwrap_or_default()
    }

    fn api(&self) -> Api<Pod> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.agent.config().client.clone(), namespace)
    }

    fn summary(&self) -> PodStatus {
        let before = self.written.as_ref().or(self.pod.status.as_ref());
        let old = before.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        status::summarize(&self.pod, old, &self.slots, &self.facts, Timestamp::now())
    }

    async fn write_status(&mut self) {
        self.write_at = None;
        let summary = self.summary();
        if self.written.as_ref() == Some(&summary) {
            return;
        }
        self.announced |= summary.phase.as_deref() == Some("Running");
        match write(&self.api(), &self.pod, &summary).await {
            Ok(()) => self.written = Some(summary),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                self.gone = true;
                self.stop.get_or_insert(Stop::Deleted { grace: SignedDuration::ZERO });
                self.begin_stop();
                self.write_at = None;
            }
            Err(error) => {
                tracing::warn!(pod = %self.name(), %error, "status was not written");
                self.write_at = Timestamp::now().saturating_add(SignedDuration::from_secs(1)).ok();
            }
        }
    }

    /// The last status, and the last of the object where it is being deleted.
    async fn conclude(mut self) {
        for (_, cancel) in self.cancels.drain() {
            let _ = cancel.send(true);
        }
        let deleted = self.pod.metadata.deletion_timestamp.is_some();
        let pod = self.pod.clone();
        let whole = self.end.is_some() && !self.gone && !self.shutdown && !self.announced;
        let attachment = self.context.as_ref().and_then(|c| c.setup.attachment.as_ref());
        if let Some(attachment) = attachment.filter(|_| whole && plan::leaves_network_alone(&pod)) {
            attachment.use_again();
        }
        self.context = None;
        self.remains = None;
        if let Some(end) = self.end.take().filter(|_| !self.gone && !self.shutdown) {
            let held = pod.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty());
            self.facts.end = Some(end);
            if !deleted || held {
                let summary = self.summary();
                self.agent.keep_end(&pod, &summary);
                self.last_write(&summary).await;
            }
            if self.pod.metadata.deletion_timestamp.is_some() {
                release(&self.api(), &self.pod).await;
            }
        }
        if !self.shutdown {
            self.agent.discard(&pod);
        }
        self.agent.ended(&pod);
    }

    async fn last_write(&mut self, summary: &PodStatus) {
        let api = self.api();
        let mut pause = Duration::from_millis(50);
        loop {
            match write(&api, &self.pod, summary).await {
                Ok(()) => break,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => break,
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
                    tracing::error!(pod = %self.name(), error = %status.message, "the last status was refused");
                    break;
                }
                Err(error) => tracing::warn!(pod = %self.name(), %error, "the last status was not written"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.updates.changed() => {
                    let over = changed.is_err() || !matches!(*self.updates.borrow(), Update::Pod(_));
                    if over {
                        break;
                    }
                }
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
        // A deletion may have come meanwhile.
        if let Update::Pod(pod) = &*self.updates.borrow() {
            self.pod = pod.clone();
        }
    }
}

/// Patches `status`, of this very Pod and no later one of its name.
pub(crate) async fn write(api: &Api<Pod>, pod: &Pod, status: &PodStatus) -> Result<(), kube::Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    #[derive(Debug, serde::Serialize)]
    struct Body<'a> {
        metadata: Identity<'a>,
        status: &'a PodStatus,
    }
    #[derive(Debug, serde::Serialize)]
    struct Identity<'a> {
        uid: Option<&'a str>,
    }
    let body = Body { metadata: Identity { uid: pod.metadata.uid.as_deref() }, status };
    // The answer is the whole Pod, which the watch brings anyway: it is not read.
    let request = Request::new(api.resource_url());
    let request = request.patch_subresource("status", name, &PatchParams::default(), &Patch::Merge(body));
    let request = request.map_err(kube::Error::BuildRequest)?;
    api.clone().into_client().request_text(request).await.map(drop)
}

/// Lets a deleted Pod go: grace 0, this UID only.
pub(crate) async fn release(api: &Api<Pod>, pod: &Pod) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    for _ in 0..5 {
        match api.delete(name, &parameters).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(error) => tracing::warn!(pod = name, %error, "a stopped pod was not deleted"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
