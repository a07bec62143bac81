//! A resident run: the node table, the queue of nodes to look at, and the way through one step.
//!
//! Work is proportional to what changed: an observation moves a leaf, the leaf tells its parent, the parent looks at
//! that
//! child alone. After loading, the same code takes up the rows of the status one by one instead of making new ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use windlass_model::status::WorkflowStatus;
use windlass_model::task_result::WorkflowTaskResult;
use windlass_model::workflow::{Workflow, WorkflowSpec};
use windlass_model::{NodePhase, NodeStatus, NodeType, ObjectMeta, Time, WorkflowPhase};

use crate::claims::Claim;
use crate::door::{Command, Config, Decision, Observation};
use crate::globals::Globals;
use crate::locks::Locks;
use crate::memo::Memo;
use crate::nodes::{Ix, Machine, Nodes, counts_as_active, is_executable};
use crate::templates::Templates;

/// How far the run as a whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Something it needs before it can begin is missing.
    Opening,
    /// The entrypoint runs.
    Running,
    /// The exit handler runs.
    Exiting,
    /// It has ended.
    Done,
}

/// One workflow's run, loaded once and told what happens.
#[derive(Debug)]
pub struct Run {
    pub(crate) config: Config,
    pub(crate) meta: ObjectMeta,
    pub(crate) own_spec: WorkflowSpec,
    pub(crate) spec: Arc<WorkflowSpec>,
    /// The status without its nodes.
    pub(crate) status: WorkflowStatus,
    pub(crate) nodes: Nodes,
    pub(crate) globals: Globals,
    pub(crate) templates: Templates,
    pub(crate) now: Timestamp,
    pub(crate) stage: Stage,
    pub(crate) root: Option<Ix>,
    pub(crate) exit: Option<Ix>,
    /// The run's own hooks that have begun, the exit handler aside.
    pub(crate) run_hooks: Vec<Ix>,
    pub(crate) commands: Vec<Command>,
    pub(crate) suspend: bool,
    pub(crate) shutdown: Option<String>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) deadline_passed: bool,
    pub(crate) active_pods: i64,
    pub(crate) daemons: Vec<Ix>,
    pub(crate) config_maps: BTreeMap<String, Option<Value>>,
    /// The ConfigMaps of executor plugins, once they were asked for.
    pub(crate) plugins: Option<Vec<Value>>,
    /// The claims of the run that were asked for.
    pub(crate) claims: BTreeMap<String, Claim>,
    pub(crate) locks: Locks,
    pub(crate) memo: Memo,
    /// What is to be counted and has not been handed out.
    pub(crate) metrics: Vec<crate::metrics::Metric>,
    /// Pods and reports that were seen before their node was taken up.
    pub(crate) early_pods: HashMap<String, Value>,
    pub(crate) early_reports: HashMap<String, WorkflowTaskResult>,
    /// Nodes that run by the status and whose pod was not told of yet.
    pub(crate) unseen: Vec<Ix>,
    pub(crate) surveyed: bool,
    /// Nodes that were suspended by a template, for `Resume` without names.
    pub(crate) suspended: BTreeSet<Ix>,
    queue: VecDeque<Ix>,
    wakes: BTreeSet<(Timestamp, Option<Ix>)>,
    /// Nodes with members that wait for a place, and for something to be fetched.
    pub(crate) blocked: BTreeSet<Ix>,
    pub(crate) waiting: BTreeSet<Ix>,
    /// Dags whose tasks have all ended, but not everything that hangs from them.
    pub(crate) lingering: Vec<Ix>,
    /// Parents and members whose hooks are looked at when nothing else is left to do; and the handler too.
    pub(crate) later: Vec<(Ix, Ix, bool)>,
    pub(crate) asked: BTreeSet<(u8, String)>,
    pub(crate) changed: BTreeSet<Ix>,
    pub(crate) written: Value,
    pub(crate) written_templates: usize,
    pub(crate) dirty: bool,
    /// The workflow's template resource, once fetched.
    pub(crate) base: Option<Option<WorkflowSpec>>,
    /// The template resources as they were fetched, until the spec is checked.
    pub(crate) fetched: crate::check::Fetched,
    /// Whether the spec was checked.
    pub(crate) checked: bool,
    /// Whether the spec was found to be what the run began with.
    pub(crate) unchanged: bool,
}

impl Run {
    /// Takes up a workflow where its status left it.
    ///
    /// Every pod and task result of the run that the API has is to be told, and then [`Observation::Surveyed`].
    pub fn load(workflow: &Workflow, config: &Config) -> Self {
        let mut status = workflow.status.clone().unwrap_or_default();
        let mut nodes = Nodes::default();
        for (_, row) in std::mem::take(&mut status.nodes) {
            nodes.insert(row);
        }
        let mut own_spec = workflow.spec.clone();
        // Where a template's spec comes between, it is frozen with them.
        let defaults = config.workflow_defaults.as_ref().filter(|_| !status.phase.is_completed());
        if let (Some(defaults), None) = (defaults, &own_spec.workflow_template_ref) {
            own_spec = crate::lifecycle::with_defaults(&own_spec, defaults);
        }
        let mut run = Self {
            config: config.clone(),
            meta: workflow.metadata.clone(),
            spec: Arc::new(own_spec.clone()),
            suspend: own_spec.suspend == Some(true),
            shutdown: own_spec.shutdown.clone().filter(|s| !s.is_empty()),
            own_spec,
            nodes,
            globals: Globals::default(),
            templates: Templates::default(),
            now: Timestamp::UNIX_EPOCH,
            stage: if status.phase.is_completed() { Stage::Done } else { Stage::Opening },
            root: None,
            exit: None,
            run_hooks: Vec::new(),
            commands: Vec::new(),
            deadline: None,
            deadline_passed: false,
            active_pods: 0,
            daemons: Vec::new(),
            config_maps: BTreeMap::new(),
            plugins: None,
            claims: BTreeMap::new(),
            locks: Locks::default(),
            memo: Memo::default(),
            metrics: Vec::new(),
            early_pods: HashMap::new(),
            early_reports: HashMap::new(),
            unseen: Vec::new(),
            surveyed: false,
            suspended: BTreeSet::new(),
            queue: VecDeque::new(),
            wakes: BTreeSet::new(),
            blocked: BTreeSet::new(),
            waiting: BTreeSet::new(),
            lingering: Vec::new(),
            later: Vec::new(),
            asked: BTreeSet::new(),
            changed: BTreeSet::new(),
            written: Value::Null,
            written_templates: status.stored_templates.len(),
            dirty: false,
            base: None,
            fetched: crate::check::Fetched::new(),
            checked: false,
            unchanged: false,
            status,
        };
        run.written = run.top_status();
        // After what is written was noted: the first patch tells it.
        if let Some(defaults) = defaults {
            crate::lifecycle::fill_in_metadata(&mut run.meta, defaults);
        }
        if let Some(reference) = &run.config.artifact_repository_ref {
            run.status.artifact_repository_ref.get_or_insert_with(|| reference.clone());
        }
        if let Some(stored) = run.status.stored_workflow_template_spec.clone() {
            run.spec = Arc::from(stored);
        }
        run.reset_spec();
        run.restore_locks();
        run
    }

    /// Makes what follows from the spec anew: templates and globals.
    pub(crate) fn reset_spec(&mut self) {
        let scope = if self.own_spec.workflow_template_ref.is_some() {
            "local/".to_owned()
        } else {
            format!("local/{}", self.workflow_name())
        };
        self.templates = Templates::new(&self.spec, &scope, &self.status.stored_templates);
        self.globals = Globals::new(&self.meta, &self.spec);
        if let Some(outputs) = &self.status.outputs {
            self.globals.set_outputs(outputs);
        }
    }

    /// Takes in what was observed and decides what to do.
    pub fn step(&mut self, observations: &[Observation], now: Timestamp) -> Decision {
        self.now = now;
        for observation in observations {
            self.observe(observation);
        }
        if self.stage == Stage::Opening {
            self.open_run();
            if self.stage != Stage::Opening {
                self.adopt_daemons();
            }
        }
        self.fire_wakes();
        loop {
            self.drain();
            if !self.conclude() && !self.break_deadlock() {
                break;
            }
        }
        self.return_unused_locks();
        let write_first = self.tell_locks();
        Decision {
            write_first,
            metrics: std::mem::take(&mut self.metrics),
            status_changed: self.dirty || !self.changed.is_empty(),
            commands: std::mem::take(&mut self.commands),
            wake: if self.stage == Stage::Done { None } else { self.wakes.first().map(|(at, _)| *at) },
            completed: self.stage == Stage::Done,
        }
    }

    /// The whole status.
    pub fn status(&self) -> WorkflowStatus {
        let mut status = self.status.clone();
        status.nodes = self.nodes.list.iter().map(|n| (n.status.id.clone(), n.status.clone())).collect();
        status
    }

    /// The status without the node table.
    pub fn head(&self) -> &WorkflowStatus {
        &self.status
    }

    /// The rows of the node table.
    pub fn node_statuses(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.list.iter().map(|node| &node.status)
    }

    /// The row of the node with this id.
    pub fn node_status(&self, id: &str) -> Option<&NodeStatus> {
        self.nodes.by_id.get(id).map(|ix| &self.nodes.list[*ix].status)
    }

    /// Whether a command that could not be done at once is still to be done: a pod must not be made for a node that
    /// has got its pod, or has ended, meanwhile.
    pub fn still_wants(&self, command: &Command) -> bool {
        match command {
            Command::CreatePod { node_id, pod, .. } => self.waits_for_pod(node_id, pod),
            _ => true,
        }
    }

    /// Whether the run has ended.
    pub fn is_completed(&self) -> bool {
        self.stage == Stage::Done
    }

    pub(crate) fn workflow_name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Pod(pod) => self.observe_pod(pod),
            Observation::PodGone { name, uid } => self.observe_pod_gone(name, uid),
            Observation::PodRefused { node_id, message, transient } => {
                self.observe_refusal(node_id, message, *transient);
            }
            Observation::Surveyed => self.observe_survey(),
            Observation::TaskResult(report) => self.observe_report(report),
            Observation::NoTaskResult { name } => self.observe_no_report(name),
            Observation::Template { cluster, name, object } => {
                let spec = object.as_ref().and_then(|o| {
                    serde_json::from_value::<WorkflowSpec>(o.get("spec").cloned().unwrap_or_default()).ok()
                });
                self.templates.add_resource(*cluster, name, spec.as_ref().map(|s| s.templates.as_slice()));
                if self
                    .own_spec
                    .workflow_template_ref
                    .as_ref()
                    .is_some_and(|r| r.name == *name && r.cluster_scope == *cluster)
                {
                    self.base = Some(spec.clone());
                }
                if self.stage == Stage::Opening && !self.checked {
                    self.fetched.insert((*cluster, name.clone()), spec);
                }
                self.look_again_at_waiting();
            }
            Observation::ConfigMap { name, object } => {
                self.config_maps.insert(name.clone(), object.clone());
                self.look_again_at_waiting();
            }
            Observation::Plugins { objects } => {
                self.plugins = Some(objects.clone());
                self.look_again_at_waiting();
            }
            Observation::ClaimMade { name } => self.observe_claim(name, None),
            Observation::ClaimRefused { name, message, transient } => {
                self.observe_claim(name, Some((message, *transient)));
            }
            Observation::MetricRefused { message } => self.refuse_metric(message.clone()),
            Observation::Cache { node_id, object } => self.observe_cache(node_id, object.as_ref()),
            Observation::Locks { node_id, answer } => self.observe_locks(node_id, answer),
            Observation::Control { suspend, shutdown, active_deadline_seconds } => {
                self.observe_control(*suspend, shutdown.as_deref(), *active_deadline_seconds);
            }
            Observation::Resume { node_ids, parameters, message } => {
                self.resume(node_ids, parameters, message.as_deref());
            }
            Observation::FailSuspended { node_ids, message } => self.fail_suspended(node_ids, message.as_deref()),
        }
    }

    pub(crate) fn look_again_at_waiting(&mut self) {
        for ix in std::mem::take(&mut self.waiting) {
            self.enqueue(ix);
        }
    }

    /// Asks for a template's resource, once.
    pub(crate) fn ask_template(&mut self, cluster: bool, name: &str) {
        if self.asked.insert((u8::from(cluster), name.to_owned())) {
            self.commands.push(Command::FetchTemplate { cluster, name: name.to_owned() });
        }
    }

    /// Asks for a ConfigMap, once.
    pub(crate) fn ask_config_map(&mut self, name: &str) {
        if self.asked.insert((2, name.to_owned())) {
            self.commands.push(Command::FetchConfigMap { name: name.to_owned() });
        }
    }

    pub(crate) fn wake_at(&mut self, at: Timestamp, ix: Option<Ix>) {
        self.wakes.insert((at, ix));
    }

    /// Whether a node that has not ended waits for a time.
    pub(crate) fn has_alarm(&self) -> bool {
        self.wakes.iter().any(|(_, ix)| ix.is_some_and(|ix| !self.nodes.list[ix].status.phase.is_fulfilled()))
    }

    /// When a node is to be looked at again by itself.
    pub(crate) fn wake_of(&self, ix: Ix) -> Option<Timestamp> {
        self.wakes.iter().find(|(_, of)| *of == Some(ix)).map(|(at, _)| *at)
    }

    fn fire_wakes(&mut self) {
        while let Some((at, ix)) = self.wakes.first().copied()
            && at <= self.now
        {
            self.wakes.pop_first();
            match ix {
                Some(ix) => self.enqueue(ix),
                None => self.check_deadline(),
            }
        }
    }

    /// Puts a node among those to look at.
    pub(crate) fn enqueue(&mut self, ix: Ix) {
        let node = &mut self.nodes.list[ix];
        if !node.queued {
            node.queued = true;
            self.queue.push_back(ix);
        }
    }

    fn drain(&mut self) {
        loop {
            let Some(ix) = self.queue.pop_front() else {
                if self.later.is_empty() {
                    return;
                }
                self.fire_late_hooks();
                continue;
            };
            self.nodes.list[ix].queued = false;
            self.begin_members(ix);
            self.take_news(ix);
            if self.nodes.list[ix].status.phase.is_fulfilled() {
                continue;
            }
            match std::mem::take(&mut self.nodes.list[ix].machine) {
                Machine::Leaf => {}
                Machine::Admission(machine) => self.look_at_admission(ix, *machine),
                Machine::Pod(machine) => {
                    self.nodes.list[ix].machine = Machine::Pod(machine);
                    self.look_at_pod(ix);
                }
                Machine::Suspend => {
                    self.nodes.list[ix].machine = Machine::Suspend;
                    self.look_at_suspend(ix);
                }
                Machine::Steps(mut machine) => {
                    self.look_at_steps(ix, &mut machine);
                    self.nodes.list[ix].machine = Machine::Steps(machine);
                }
                Machine::Group(mut machine) => {
                    self.look_at_group(ix, &mut machine);
                    self.nodes.list[ix].machine = Machine::Group(machine);
                }
                Machine::Dag(mut machine) => {
                    self.look_at_dag(ix, &mut machine);
                    self.nodes.list[ix].machine = Machine::Dag(machine);
                }
                Machine::Retry(mut machine) => {
                    self.look_at_retry(ix, &mut machine);
                    self.nodes.list[ix].machine = Machine::Retry(machine);
                }
            }
            if self.nodes.list[ix].status.phase.is_fulfilled() {
                // What a finished node needed is never asked for again.
                if !matches!(self.nodes.list[ix].machine, Machine::Group(_)) {
                    self.nodes.list[ix].machine = Machine::Leaf;
                }
            }
        }
    }

    /// Marks a row as changed.
    pub(crate) fn touch(&mut self, ix: Ix) {
        self.changed.insert(ix);
    }

    /// Moves a node to a phase. A finished node never moves.
    pub(crate) fn mark(&mut self, ix: Ix, phase: NodePhase, message: Option<&str>) {
        let now = Time::from_timestamp(self.now);
        let node = &mut self.nodes.list[ix];
        if node.status.phase.is_fulfilled() {
            return;
        }
        let was_fulfilled = node.status.is_fulfilled();
        let was_active = counts_as_active(&node.status);
        let text = message.filter(|m| !m.is_empty()).map(str::to_owned);
        if node.status.phase == phase && (message.is_none() || node.status.message == text) {
            return;
        }
        node.status.phase = phase;
        if message.is_some() {
            node.status.message = text;
        }
        if phase.is_fulfilled() {
            node.status.finished_at = Some(now);
            node.status.synchronization_status = None;
        }
        if phase.is_fulfilled() && is_executable(self.nodes.list[ix].status.type_) {
            // What it told of itself stays, but for what is done.
            let (done, all) = crate::nodes::parse_progress(self.nodes.list[ix].status.progress.as_deref());
            let done = if phase == NodePhase::Succeeded { all } else { done };
            self.nodes.set_progress(ix, &format!("{done}/{all}"));
        }
        let node = &self.nodes.list[ix];
        let is_active = counts_as_active(&node.status);
        if phase == NodePhase::Succeeded && self.nodes.list[ix].status.memoization_status.is_some() {
            self.memorize(ix);
        }
        if phase.is_completed() {
            self.metrics_of_end(ix);
        }
        self.touch(ix);
        if was_active && !is_active {
            self.leave(ix);
        }
        if !was_fulfilled && self.nodes.list[ix].status.is_fulfilled() {
            self.tell_parent(ix);
        } else if let Some(parent) = self.nodes.list[ix].parent
            && self.has_named_hooks(parent, ix)
        {
            self.tell_progress(parent, ix);
        }
        if phase.is_fulfilled() {
            self.suspended.remove(&ix);
            self.kill_daemons_of(ix);
            for dag in std::mem::take(&mut self.lingering) {
                self.enqueue(dag);
            }
        }
    }

    /// Tells the parent that this child is fulfilled.
    pub(crate) fn tell_parent(&mut self, ix: Ix) {
        if self.nodes.list[ix].status.is_fulfilled() {
            self.release_locks_of(ix);
        }
        if let Some(parent) = self.nodes.list[ix].parent {
            self.nodes.list[parent].news.push(ix);
            self.enqueue(parent);
        }
    }

    /// Counts a node among those that take a place.
    pub(crate) fn enter(&mut self, ix: Ix) {
        let status = &self.nodes.list[ix].status;
        if !counts_as_active(status) {
            return;
        }
        let waits = matches!(self.nodes.list[ix].machine, Machine::Admission(_));
        if status.type_ == NodeType::Pod && !waits {
            self.active_pods += 1;
            self.nodes.list[ix].takes_place = true;
        }
        if let Some(boundary) = self.nodes.list[ix].boundary {
            self.nodes.list[boundary].active += 1;
        }
    }

    /// Takes a node back out of its parent and of the places, to be taken up anew.
    pub(crate) fn detach(&mut self, ix: Ix) {
        let node = &mut self.nodes.list[ix];
        node.attached = false;
        let (parent, boundary, active) = (node.parent, node.boundary, counts_as_active(&node.status));
        if std::mem::take(&mut node.takes_place) {
            self.active_pods -= 1;
        }
        if let Some(parent) = parent {
            let node = &mut self.nodes.list[parent];
            node.unsettled = node.unsettled.saturating_sub(1);
        }
        if let Some(boundary) = boundary.filter(|_| active) {
            self.nodes.list[boundary].active -= 1;
        }
    }

    fn leave(&mut self, ix: Ix) {
        if std::mem::take(&mut self.nodes.list[ix].takes_place) {
            self.active_pods -= 1;
        }
        let node = &self.nodes.list[ix];
        let failed = node.status.phase.is_fail_or_error();
        if let Some(boundary) = node.boundary {
            let around = &mut self.nodes.list[boundary];
            around.active -= 1;
            around.failed_members += usize::from(failed);
            let (active, bad) = (around.active, around.failed_members);
            if active == 0
                && bad > 0
                && around.template.as_ref().is_some_and(|t| t.fail_fast == Some(true) && t.parallelism.is_some())
            {
                self.fail_fast(boundary);
            }
        }
        self.look_again_at_blocked();
    }

    pub(crate) fn look_again_at_blocked(&mut self) {
        for ix in std::mem::take(&mut self.blocked) {
            self.enqueue(ix);
        }
    }

    /// The workflow's phase, with message; and when it has ended, all that goes with it.
    pub(crate) fn mark_workflow(&mut self, phase: WorkflowPhase, message: &str) {
        self.dirty = true;
        self.status.phase = phase;
        self.status.message = (!message.is_empty()).then(|| message.to_owned());
        if self.status.started_at.is_none() && phase != WorkflowPhase::Pending {
            self.status.started_at = Some(Time::from_timestamp(self.now));
        }
    }
}
