//! One run in memory: its mailbox, its engine, and the pace at which its status is written.
//!
//! A resident lives from the first sight of a workflow that has not ended until its end is written (or it is deleted).
//! States: *loaded* → (letters → decision → commands, status due) → *ended*. A version of the workflow that is not ours
//! makes it load again, after what is pending has been written.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use windlass_engine::spans::{Ids, Spans};
use windlass_engine::{Command, Decision, Observation, Run};
use windlass_model::lock::LockAnswer;
use windlass_model::{Workflow, labels, table};

use super::act::{Outcome, act};
use super::live::Live;
use super::locks::{Asked, Locks, Seat, owner};
use super::seen::{SpecSeen, WorkflowSeen};
use super::size::Size;
use super::{Key, Settings, seen};
use crate::Error;
use crate::pod::PodSeen;
use crate::tables::{self, Fault};

/// Beyond this, a run that waits for a time looks at the clock again.
const WAKE_LATEST: Duration = Duration::from_secs(30);

/// What a resident is told.
pub(crate) enum Letter {
    /// The workflow as the watch sees it.
    Workflow(Box<WorkflowSeen>),
    /// The workflow was deleted.
    Gone,
    /// A pod of a workflow of this name.
    Pod(Box<PodSeen>),
    /// A report, or how a pod was when it went.
    Observed(Box<Observation>),
    /// A pod that had not ended is not in the watch any more.
    PodLeft {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Time has passed: a status is due, or the engine asked to be called.
    Tick,
    /// A command whose time has come again.
    Again(Command),
}

/// The task of one run.
pub(crate) struct Resident {
    client: Client,
    settings: Settings,
    locks: Locks,
    live: Live,
    /// Told while the end is being written: a stop waits for it.
    finishing: TaskTracker,
    key: Key,
    mailbox: mpsc::UnboundedSender<Letter>,
    letters: mpsc::UnboundedReceiver<Letter>,
    /// The version that was loaded: what is older is in it.
    loaded: u64,
    /// Versions of the workflow that we have written or dealt with, newest last.
    known: VecDeque<String>,
    uid: String,
    spec: SpecSeen,
    /// The workflow's labels as we have read or written them.
    labels: BTreeMap<String, String>,
    reported: HashSet<String>,
    /// What is done once the status is written.
    held: Vec<Command>,
    /// When the status was written last; before that, when the run was taken up.
    written_at: Instant,
    write_took: Duration,
    size: Size,
    /// Pages of the node table that the status does not name any more. They stay for one more version, for those who read.
    stale: Vec<String>,
    /// A new workflow as the watch has it: what is known whole is not asked for.
    first: Option<Value>,
    /// The end is written.
    over: bool,
    /// What is told to a tracer, where there is one.
    spans: Option<Spans>,
}

/// What a resident leaves behind.
pub(crate) struct Over {
    /// A version of the workflow that came too late to be read, and says that the run goes on (it was retried): somebody
    /// has to take it up.
    pub(crate) goes_on: Option<Box<WorkflowSeen>>,
    /// The end is written, and there are reports of this run.
    pub(crate) reported: bool,
}

impl Drop for Resident {
    /// Whatever ended it, it holds nothing any more.
    fn drop(&mut self) {
        self.locks.forget(&self.seat().owner);
        self.settings.metrics.forget(&self.uid);
    }
}

/// Whether a resident goes on.
#[derive(PartialEq)]
enum Next {
    Stay,
    Reload,
    Leave,
}

impl Resident {
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        (locks, live, finishing): (Locks, Live, TaskTracker),
        seen: Box<WorkflowSeen>,
        mailbox: mpsc::UnboundedSender<Letter>,
        letters: mpsc::UnboundedReceiver<Letter>,
    ) -> Self {
        Self {
            key: seen.key(),
            first: seen.whole(),
            write_took: live.write_took(),
            client,
            settings,
            locks,
            live,
            finishing,
            mailbox,
            letters,
            loaded: 0,
            known: VecDeque::new(),
            uid: String::new(),
            spec: SpecSeen::default(),
            labels: BTreeMap::new(),
            reported: HashSet::new(),
            held: Vec::new(),
            written_at: Instant::now(),
            size: Size::default(),
            stale: Vec::new(),
            over: false,
            spans: None,
        }
    }

    fn workflows(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.key.0, &seen::workflows())
    }

    fn pods(&self) -> Api<PodSeen> {
        Api::namespaced(self.client.clone(), &self.key.0)
    }

    /// Lives until the run has ended or its workflow is gone.
    pub(crate) async fn live(mut self) -> Over {
        loop {
            match self.stay().await {
                Ok(Next::Leave) => return self.leave(),
                Ok(_) => {}
                Err(e) => {
                    warn!(namespace = self.key.0, workflow = self.key.1, error = %e, "run is taken up again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Closes the mailbox; what is still in it is not lost.
    fn leave(mut self) -> Over {
        self.letters.close();
        let mut goes_on = None;
        while let Ok(letter) = self.letters.try_recv() {
            match letter {
                Letter::Again(command) => drop(tokio::spawn(self.chores().finish(command))),
                Letter::Workflow(seen) => goes_on = (!seen.has_ended()).then_some(seen),
                _ => {}
            }
        }
        let goes_on =
            goes_on.filter(|seen| !self.is_known(seen.metadata.resource_version.as_deref().unwrap_or_default()));
        Over { goes_on, reported: self.over && !self.reported.is_empty() }
    }

    /// Loads the run and steps it until it has to be loaded anew or left.
    async fn stay(&mut self) -> Result<Next, Error> {
        let Some((mut run, mut seen)) = self.load().await? else { return Ok(Next::Leave) };
        let mut patch: Option<Value> = None;
        // What was held for a status that could not be written follows again from what is there.
        self.held.clear();
        loop {
            let decision = self.settle(&mut run, std::mem::take(&mut seen), &mut patch).await?;
            if self.over {
                return Ok(Next::Leave);
            }
            if decision.completed {
                let _writing = self.finishing.token();
                self.write(&run, &mut patch).await?;
                self.perform_held().await;
                self.over = true;
                debug!(namespace = self.key.0, workflow = self.key.1, "run has ended");
                return Ok(Next::Leave);
            }
            let due = patch.is_some().then(|| self.write_due());
            if due.is_some_and(|at| at <= Instant::now()) {
                self.write(&run, &mut patch).await?;
                if self.over {
                    return Ok(Next::Leave);
                }
                continue;
            }
            if due.is_none() {
                self.perform_held().await;
            }
            match self.listen(&run, due, decision.wake, &mut seen).await {
                Next::Stay => {}
                Next::Leave => return Ok(Next::Leave),
                Next::Reload => {
                    self.write(&run, &mut patch).await?;
                    return Ok(Next::Reload);
                }
            }
        }
    }

    /// The run as the API has it, with what is there of its pods and reports.
    async fn load(&mut self) -> Result<Option<(Run, Vec<Observation>)>, Error> {
        let mut value = match self.first.take() {
            Some(whole) => whole,
            None => {
                let Some(object) = self.workflows().get_opt(&self.key.1).await? else { return Ok(None) };
                serde_json::to_value(object).map_err(kube::Error::SerdeError)?
            }
        };
        self.size = Size::of(&value);
        let mut lost = None;
        if table::version(&value["status"]).is_some() {
            match tables::whole(&self.client, value.clone()).await {
                Ok(whole) => value = whole,
                Err(Fault::Api(e)) => return Err(Error::Api(e)),
                Err(fault) => lost = Some(fault),
            }
        }
        let text = |of: &str| value["metadata"][of].as_str().unwrap_or_default().to_owned();
        let (uid, version) = (text("uid"), text("resourceVersion"));
        self.loaded = version.parse().unwrap_or(0);
        self.know(Some(version));
        if !self.uid.is_empty() && self.uid != uid {
            // Another workflow of the same name: what the first one held is free.
            self.locks.forget(&self.seat().owner);
        }
        let goes_on = self.spans.as_ref().is_some_and(|s| s.goes_on() && *s.ids() == Ids::of(&uid));
        if self.settings.traces.is_some() && !goes_on {
            self.spans = Some(Spans::of(Ids::of(&uid), &self.key.0, &self.key.1, &value["status"]));
        }
        self.uid = uid;
        self.labels = serde_json::from_value(value["metadata"]["labels"].clone()).unwrap_or_default();
        self.spec = serde_json::from_value(value["spec"].clone()).unwrap_or_default();
        self.locks.give_back_untold(&self.seat().owner, &value["status"]["synchronization"]);
        if value["status"]["synchronization"].is_object() {
            self.locks.correct(&self.seat().owner, &mut value["status"]["synchronization"]);
        }
        if let Some(fault) = lost {
            // Nothing of it may run a second time.
            self.give_up(&fault.to_string()).await?;
            return Ok(None);
        }
        // A retried run has no phase either, and has nodes.
        let fresh = value["status"]["phase"].as_str().unwrap_or_default().is_empty()
            && value["status"]["nodes"].as_object().is_none_or(|nodes| nodes.is_empty())
            && value["status"]["compressedNodes"].is_null();
        let workflow: Workflow = match serde_json::from_value(value) {
            Ok(workflow) => workflow,
            Err(e) => {
                self.refuse("Failed", &format!("cannot unmarshall spec: {e}")).await?;
                return Ok(None);
            }
        };
        let config = match super::repository::resolve(&self.client, &self.settings, &self.live, &workflow).await? {
            Ok(config) => config,
            Err(message) => {
                self.refuse("Error", &message).await?;
                return Ok(None);
            }
        };
        let (workflow_defaults, referencing) = (self.live.defaults(), self.live.referencing());
        let config = windlass_engine::Config { workflow_defaults, referencing, ..config };
        let run = Run::load(&workflow, &config);
        // Nothing was started for a workflow without a phase and nodes; a pod that a crash left unwritten shows itself when
        // it is created again.
        let seen = if fresh { Vec::new() } else { self.survey().await? };
        Ok(Some((run, seen)))
    }

    async fn survey(&mut self) -> Result<Vec<Observation>, Error> {
        let of_run = ListParams::default().labels(&format!("{}={}", labels::WORKFLOW, self.key.1));
        let mut seen = Vec::new();
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.key.0, &seen::task_results());
        for result in api.list(&of_run).await?.items {
            let value = serde_json::to_value(result).map_err(kube::Error::SerdeError)?;
            if let Ok(result) = serde_json::from_value(value) {
                seen.push(self.note(Observation::TaskResult(result)));
            }
        }
        let pods = self.pods().list(&of_run).await?.items.into_iter();
        seen.extend(pods.filter(|pod| pod.is_of(&self.uid)).map(PodSeen::observed));
        seen.push(Observation::Surveyed);
        Ok(seen)
    }

    /// A spec that is not one ends the workflow as Argo does.
    async fn refuse(&mut self, phase: &str, message: &str) -> Result<(), Error> {
        let mut end = self.end(phase, message);
        end["status"]["startedAt"] = end["status"]["finishedAt"].clone();
        self.send(end).await
    }

    /// An end that is not the engine's.
    fn end(&self, phase: &str, message: &str) -> Value {
        let now = self.settings.clock.now().strftime("%FT%TZ").to_string();
        json!({
            "metadata": {"labels": {labels::PHASE: phase, labels::COMPLETED: "true"}},
            "status": {"phase": phase, "message": message, "finishedAt": now},
        })
    }

    /// Steps until no command answers at once any more.
    async fn settle(
        &mut self,
        run: &mut Run,
        mut seen: Vec<Observation>,
        patch: &mut Option<Value>,
    ) -> Result<Decision, Error> {
        loop {
            let begun = self.settings.clock.now();
            let mut decision = run.step(&seen, begun);
            seen.clear();
            if decision.status_changed
                && let Some(mut change) = run.take_patch()
            {
                self.tell(&mut change, begun);
                match patch {
                    Some(waiting) => merge(waiting, change),
                    None => *patch = Some(change),
                }
            }
            if decision.write_first {
                // A pod must not run under a lock that a restart would not know to be held.
                self.write(run, patch).await?;
                if self.over {
                    return Ok(decision);
                }
            }
            for metric in std::mem::take(&mut decision.metrics) {
                if let Err(message) = self.settings.metrics.count(&self.uid, metric) {
                    seen.push(Observation::MetricRefused { message });
                }
            }
            if let Some(spans) = &self.spans {
                for command in &mut decision.commands {
                    if let Command::CreatePod { node_id, pod, .. } = command {
                        spans.ids().mark(node_id, pod);
                    }
                }
            }
            let seat = self.seat();
            let (saves, commands): (Vec<_>, Vec<_>) = std::mem::take(&mut decision.commands)
                .into_iter()
                .partition(|command| matches!(command, Command::SaveCache { .. }));
            for save in saves {
                // Whoever gets a lock from here is to find what was made under it.
                act(&self.client, &self.settings, &self.key.0, (&self.locks, &seat), save).await;
            }
            let (held, now): (Vec<_>, Vec<_>) = commands.into_iter().partition(Command::follows_status);
            self.held.extend(held);
            let commands = self.do_locks(&seat, now, &mut seen);
            let (client, settings, namespace) = (&self.client, &self.settings, &self.key.0);
            let (seat, locks, spans) = (&seat, &self.locks, self.spans.as_ref());
            let mut outcomes = futures::stream::iter(commands)
                .map(|command| async move {
                    let (node, begun) = (made_for(&command).filter(|_| spans.is_some()), settings.clock.now());
                    let outcome = act(client, settings, namespace, (locks, seat), command).await;
                    if let (Some(node), Some(spans), Some(traces)) = (node, spans, &settings.traces) {
                        let is_made = matches!(outcome, Outcome::Done);
                        traces.tell([spans.pod(&node, (begun, settings.clock.now()), is_made)]);
                    }
                    outcome
                })
                .buffer_unordered(self.settings.creates_max);
            while let Some(outcome) = outcomes.next().await {
                match outcome {
                    Outcome::Done => {}
                    Outcome::Observed(observation) => seen.push(*observation),
                    Outcome::Again(command, after) => self.again(command, after),
                }
            }
            if seen.is_empty() {
                return Ok(decision);
            }
        }
    }

    /// Tells a tracer what has been decided, and the workflow which trace it is.
    fn tell(&mut self, change: &mut Value, begun: Timestamp) {
        let (Some(spans), Some(traces)) = (&mut self.spans, &self.settings.traces) else { return };
        let now = self.settings.clock.now();
        if change["status"]["startedAt"].is_string() {
            let ids = spans.ids();
            change["metadata"]["annotations"][labels::TRACE_ID] = json!(format!("{:032x}", ids.trace()));
            change["metadata"]["annotations"][labels::SPAN_ID] = json!(format!("{:016x}", ids.workflow()));
        }
        let decided = spans.reconcile((begun, now));
        traces.tell(spans.see(&change["status"], now).into_iter().chain([decided]));
    }

    /// Whose locks these are.
    fn seat(&self) -> Seat {
        let uid = Some(self.uid.clone());
        Seat { owner: owner(&self.key.0, &self.key.1, uid), mailbox: self.mailbox.clone(), live: self.live.clone() }
    }

    /// A lock that was granted before the run was loaded again, and was given back since.
    fn is_stale(&self, observation: &Observation) -> bool {
        match observation {
            Observation::Locks { node_id, answer: LockAnswer::Granted } => {
                !self.locks.holds(&self.seat().owner, node_id)
            }
            _ => false,
        }
    }

    /// Gives locks back and asks for others, in the order of the commands; what is left needs the API.
    fn do_locks(&self, seat: &Seat, commands: Vec<Command>, seen: &mut Vec<Observation>) -> Vec<Command> {
        let mut left = Vec::with_capacity(commands.len());
        for command in commands {
            match &command {
                Command::ReleaseLocks { node_id } => self.locks.release(&seat.owner, node_id.as_deref()),
                Command::AskLocks { node_id, locks, priority, created } => {
                    match self.locks.ask(seat, node_id, locks, *priority, *created) {
                        Asked::Answered(answer) => seen.push(Observation::Locks { node_id: node_id.clone(), answer }),
                        Asked::Later => {}
                        Asked::SizeUnread => left.push(command),
                    }
                }
                _ => left.push(command),
            }
        }
        left
    }

    /// Takes away what the written status does not need any more.
    async fn perform_held(&mut self) {
        let (client, settings, namespace) = (&self.client, &self.settings, &self.key.0);
        let (seat, locks) = (&self.seat(), &self.locks);
        let mut outcomes = futures::stream::iter(std::mem::take(&mut self.held))
            .map(|command| act(client, settings, namespace, (locks, seat), command))
            .buffer_unordered(self.settings.creates_max);
        while let Some(outcome) = outcomes.next().await {
            if let Outcome::Again(command, after) = outcome {
                self.again(command, after);
            }
        }
    }

    /// Waits for letters, for the time a status is due, or for the engine's own alarm.
    async fn listen(
        &mut self,
        run: &Run,
        due: Option<Instant>,
        wake: Option<Timestamp>,
        seen: &mut Vec<Observation>,
    ) -> Next {
        // A clock that is set forward must not leave a run asleep for as long as it was set by.
        let wake = wake.map(|at| Instant::now() + self.settings.clock.left_until(at).min(WAKE_LATEST));
        let first = match due.into_iter().chain(wake).min() {
            Some(at) => tokio::time::timeout_at(at, self.letters.recv()).await.unwrap_or(Some(Letter::Tick)),
            None => self.letters.recv().await,
        };
        let mut letter = first;
        loop {
            match letter {
                None | Some(Letter::Gone) => return Next::Leave,
                Some(Letter::Tick) => {}
                Some(Letter::Observed(observation)) if self.is_stale(&observation) => {}
                Some(Letter::Observed(observation)) => {
                    let observation = self.note(*observation);
                    seen.push(observation);
                }
                // A workflow of the same name that is gone may have left pods.
                Some(Letter::Pod(pod)) => seen.extend(pod.is_of(&self.uid).then(|| pod.observed())),
                Some(Letter::PodLeft { name, uid }) => seen.extend(self.look_for(name, uid).await),
                Some(Letter::Again(command)) if !run.still_wants(&command) => {}
                Some(Letter::Again(command)) => match self.act_again(command).await {
                    Outcome::Done => {}
                    Outcome::Observed(observation) => seen.push(*observation),
                    Outcome::Again(command, after) => self.again(command, after),
                },
                Some(Letter::Workflow(workflow)) => {
                    if let Some(change) = self.read(&workflow) {
                        match change {
                            Ok(observation) => seen.push(observation),
                            Err(next) => return next,
                        }
                    }
                }
            }
            // What has piled up is one step's worth, not many.
            match self.letters.try_recv() {
                Ok(more) => letter = Some(more),
                Err(_) => return Next::Stay,
            }
        }
    }

    async fn act_again(&self, command: Command) -> Outcome {
        let seat = self.seat();
        act(&self.client, &self.settings, &self.key.0, (&self.locks, &seat), command).await
    }

    /// Whether a pod is gone, or only labelled out of the watch by somebody while it runs: then it is taken back.
    async fn look_for(&self, name: String, uid: String) -> Option<Observation> {
        let pods = self.pods();
        let there = match pods.get_opt(&name).await {
            Ok(Some(pod)) if pod.is(&uid) => pod,
            Ok(_) => return Some(Observation::PodGone { name, uid }),
            Err(_) => {
                self.later(Letter::PodLeft { name, uid }, Duration::from_secs(1));
                return None;
            }
        };
        if !there.has_ended() {
            let back = json!({"metadata": {"uid": &uid, "labels": {labels::COMPLETED: "false"}}});
            if pods.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(back)).await.is_err() {
                self.later(Letter::PodLeft { name, uid }, Duration::from_secs(1));
            }
        }
        Some(there.observed())
    }

    fn chores(&self) -> Chores {
        Chores {
            client: self.client.clone(),
            settings: self.settings.clone(),
            namespace: self.key.0.clone(),
            locks: self.locks.clone(),
            seat: self.seat(),
        }
    }

    /// Does a command after a while, also when the run has left memory by then.
    fn again(&self, command: Command, after: Duration) {
        let (mailbox, chores) = (self.mailbox.clone(), self.chores());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Err(mpsc::error::SendError(Letter::Again(command))) = mailbox.send(Letter::Again(command)) {
                chores.finish(command).await;
            }
        });
    }

    /// Puts a letter into the own mailbox after a while.
    fn later(&self, letter: Letter, after: Duration) {
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = mailbox.send(letter);
        });
    }

    /// A version of the workflow: ours, a change that people make to a running workflow, or another hand's work.
    fn read(&mut self, workflow: &WorkflowSeen) -> Option<Result<Observation, Next>> {
        if workflow.metadata.uid.as_deref().is_some_and(|uid| uid != self.uid) {
            return Some(Err(Next::Reload));
        }
        let version = workflow.metadata.resource_version.as_deref().unwrap_or_default();
        if self.is_known(version) {
            return None;
        }
        self.know(Some(version.to_owned()));
        if workflow.spec != self.spec {
            self.spec = workflow.spec.clone();
            return Some(Ok(Observation::Control {
                suspend: self.spec.suspend.unwrap_or(false),
                shutdown: self.spec.shutdown.clone(),
                active_deadline_seconds: self.spec.active_deadline_seconds,
            }));
        }
        Some(Err(Next::Reload))
    }

    /// Whether a version is ours. One that is only older than what we wrote last is not: somebody wrote it just before us,
    /// and our patch has not read it.
    fn is_known(&self, version: &str) -> bool {
        version.parse::<u64>().is_ok_and(|v| v <= self.loaded) || self.known.iter().any(|v| v == version)
    }

    fn know(&mut self, version: Option<String>) {
        if self.known.len() > 256 {
            self.known.pop_front();
        }
        self.known.extend(version);
    }

    fn note(&mut self, observation: Observation) -> Observation {
        if let Observation::TaskResult(result) = &observation {
            self.reported.extend(result.metadata.name.clone());
        }
        observation
    }

    /// Not before the pause, nor before ten times what the last write cost: also not the first, so that a short run
    /// is written once.
    fn write_due(&self) -> Instant {
        self.written_at + self.settings.status_pause_min.max(self.write_took * 10)
    }

    /// Writes what has changed, with the node table in a form that fits.
    async fn write(&mut self, run: &Run, patch: &mut Option<Value>) -> Result<(), Error> {
        let Some(mut change) = patch.take() else { return Ok(()) };
        let written = match self.size.fit(run, &mut change, self.settings.always_offload, &tables::stamp()) {
            Ok(written) => written,
            Err(message) => return self.give_up(&message).await,
        };
        let of = json!({"name": self.key.1, "labels": self.labels});
        tables::write(&self.client, &self.key.0, &of, written.pages).await?;
        self.send(change).await?;
        let unread = std::mem::replace(&mut self.stale, written.stale);
        if !unread.is_empty() {
            tokio::spawn(tables::remove(self.client.clone(), self.key.0.clone(), unread));
        }
        Ok(())
    }

    async fn send(&mut self, mut change: Value) -> Result<(), Error> {
        // A workflow that was deleted and made again under the same name must not inherit this status.
        change["metadata"]["uid"] = json!(self.uid);
        self.mark_for_archive(&mut change["metadata"]["labels"]);
        let (begun, begun_at) = (Instant::now(), self.settings.clock.now());
        // Only the version is asked back: the object is as large as the run.
        let answer = self.workflows().patch_metadata(&self.key.1, &PatchParams::default(), &Patch::Merge(change)).await;
        self.write_took = begun.elapsed();
        self.live.wrote(self.write_took);
        if let (Some(spans), Some(traces)) = (&mut self.spans, &self.settings.traces) {
            traces.tell([spans.write((begun_at, self.settings.clock.now()))]);
        }
        self.written_at = Instant::now();
        match answer {
            Ok(object) => {
                self.labels = object.metadata.labels.unwrap_or_default();
                self.know(object.metadata.resource_version);
            }
            Err(kube::Error::Api(s)) if s.code == 404 => {}
            Err(e) => return Err(e.into()),
        }
        self.perform_held().await;
        Ok(())
    }

    /// Ends a run whose node table cannot be written any more, with the last one that was: its pods go.
    async fn give_up(&mut self, message: &str) -> Result<(), Error> {
        self.send(self.end("Error", message)).await?;
        let of_run = ListParams::default().labels(&format!("{}={}", labels::WORKFLOW, self.key.1));
        for pod in self.pods().list(&of_run).await?.items.into_iter().filter(|pod| pod.is_of(&self.uid)) {
            if !pod.has_ended() {
                let (name, uid) = (pod.name_any(), pod.uid());
                let (seat, locks) = (self.seat(), &self.locks);
                let command = Command::DeletePod { name, uid };
                act(&self.client, &self.settings, &self.key.0, (locks, &seat), command).await;
            }
        }
        self.over = true;
        Ok(())
    }

    /// What ends is to be archived, if it is one of those: said together with the end, so that nothing deletes it before.
    fn mark_for_archive(&self, written: &mut Value) {
        if self.settings.archive.is_none() || written[labels::COMPLETED] != "true" {
            return;
        }
        let mut after = self.labels.clone();
        for (key, value) in written.as_object().into_iter().flatten() {
            match value.as_str() {
                Some(value) => drop(after.insert(key.clone(), value.to_owned())),
                None => drop(after.remove(key)),
            }
        }
        if self.live.is_archived(&after, self.settings.database.is_none()) {
            written[labels::ARCHIVING_STATUS] = json!("Pending");
        }
    }
}

/// The node whose pod a command makes.
fn made_for(command: &Command) -> Option<String> {
    match command {
        Command::CreatePod { node_id, .. } => Some(node_id.clone()),
        _ => None,
    }
}

/// What is left to do for a run that has ended: pods that go or are let go, claims that are deleted.
struct Chores {
    client: Client,
    settings: Settings,
    namespace: String,
    locks: Locks,
    seat: Seat,
}

impl Chores {
    /// Does it until it is done. What makes something new is not done: nobody waits for it any more.
    async fn finish(self, mut command: Command) {
        const PAUSE_MAX: Duration = Duration::from_secs(30);
        let mut pause = Duration::from_millis(250);
        for _ in 0..10 {
            let clears = matches!(
                command,
                Command::ReleasePod { .. }
                    | Command::DeletePod { .. }
                    | Command::StopPod { .. }
                    | Command::DeleteClaim { .. }
            );
            if !clears {
                return;
            }
            match act(&self.client, &self.settings, &self.namespace, (&self.locks, &self.seat), command).await {
                Outcome::Again(again, _) => command = again,
                _ => return,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        warn!(namespace = self.namespace, ?command, "left undone");
    }
}

/// Puts a later merge patch on top of one that waits: the later word wins, nulls included.
fn merge(into: &mut Value, later: Value) {
    match (into, later) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in b {
                match a.get_mut(&key) {
                    Some(old) if old.is_object() && value.is_object() => merge(old, value),
                    _ => drop(a.insert(key, value)),
                }
            }
        }
        (a, b) => *a = b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_patch_wins_and_keeps_its_nulls() {
        let mut waiting = json!({"status": {"phase": "Running", "nodes": {"a": {"phase": "Pending"}}}});
        merge(&mut waiting, json!({"status": {"message": null, "nodes": {"a": {"phase": "Running"}, "b": {}}}}));
        let both =
            json!({"status": {"phase": "Running", "message": null, "nodes": {"a": {"phase": "Running"}, "b": {}}}});
        assert_eq!(waiting, both);
    }
}
