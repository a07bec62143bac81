//! A resident run: the node table, the queue of nodes to look at, and the way through one step.
//!
//! Work is proportional to what changed: an observation moves a leaf, the leaf tells its parent, the parent looks at that
//! child alone. After loading, the same code takes up the rows of the status one by one instead of making new ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use windlass_model::status::WorkflowStatus;
use windlass_model::task_result::WorkflowTaskResult;
use windlass_model::template::TemplateKind;
use windlass_model::workflow::{Workflow, WorkflowSpec};
use windlass_model::{NodePhase, NodeStatus, NodeType, ObjectMeta, Time, WorkflowPhase};

use crate::door::{Command, Config, Decision, Observation};
use crate::globals::Globals;
use crate::names;
use crate::nodes::{Call, Ix, Machine, Nodes, counts_as_active, is_executable};
use crate::templates::{Missing, Templates};

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

/// What a call came to.
#[derive(Debug)]
pub(crate) enum Opened {
    /// There is a node; `new` when it was made just now.
    Node { ix: Ix, new: bool },
    /// There is a node in error, and this is why.
    Failed { ix: Ix, new: bool, message: String },
    /// Not now: `parallelism`, `suspend` or `failFast`. The parent is looked at again when a place is free.
    Blocked,
    /// Not now: something must be fetched. The parent is looked at again when it is there.
    Waiting,
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
    pub(crate) commands: Vec<Command>,
    pub(crate) suspend: bool,
    pub(crate) shutdown: Option<String>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) deadline_passed: bool,
    pub(crate) active_pods: i64,
    pub(crate) daemons: Vec<Ix>,
    pub(crate) config_maps: BTreeMap<String, Option<Value>>,
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
    blocked: BTreeSet<Ix>,
    waiting: BTreeSet<Ix>,
    asked: BTreeSet<(u8, String)>,
    pub(crate) changed: BTreeSet<Ix>,
    pub(crate) written: Value,
    pub(crate) written_templates: usize,
    pub(crate) dirty: bool,
    /// The workflow's template resource, once fetched.
    pub(crate) base: Option<Option<WorkflowSpec>>,
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
        let own_spec = workflow.spec.clone();
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
            commands: Vec::new(),
            deadline: None,
            deadline_passed: false,
            active_pods: 0,
            daemons: Vec::new(),
            config_maps: BTreeMap::new(),
            early_pods: HashMap::new(),
            early_reports: HashMap::new(),
            unseen: Vec::new(),
            surveyed: false,
            suspended: BTreeSet::new(),
            queue: VecDeque::new(),
            wakes: BTreeSet::new(),
            blocked: BTreeSet::new(),
            waiting: BTreeSet::new(),
            asked: BTreeSet::new(),
            changed: BTreeSet::new(),
            written: Value::Null,
            written_templates: status.stored_templates.len(),
            dirty: false,
            base: None,
            status,
        };
        run.written = run.top_status();
        if let Some(stored) = run.status.stored_workflow_template_spec.clone() {
            run.spec = Arc::from(stored);
        }
        run.reset_spec();
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
        self.globals = Globals::new(&self.meta, &self.spec, &self.config.service_account);
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
            if !self.conclude() {
                break;
            }
        }
        Decision {
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
                    self.base = Some(spec);
                }
                self.look_again_at_waiting();
            }
            Observation::ConfigMap { name, object } => {
                self.config_maps.insert(name.clone(), object.clone());
                self.look_again_at_waiting();
            }
            Observation::Control { suspend, shutdown, active_deadline_seconds } => {
                self.observe_control(*suspend, shutdown.as_deref(), *active_deadline_seconds);
            }
            Observation::Resume { node_ids, parameters, message } => {
                self.resume(node_ids, parameters, message.as_deref());
            }
            Observation::FailSuspended { node_ids, message } => self.fail_suspended(node_ids, message.as_deref()),
        }
    }

    fn look_again_at_waiting(&mut self) {
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
        while let Some(ix) = self.queue.pop_front() {
            self.nodes.list[ix].queued = false;
            self.take_news(ix);
            if self.nodes.list[ix].status.phase.is_fulfilled() {
                continue;
            }
            match std::mem::take(&mut self.nodes.list[ix].machine) {
                Machine::Leaf => {}
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
        }
        if phase.is_fulfilled() && is_executable(self.nodes.list[ix].status.type_) {
            self.nodes.set_progress(ix, if phase == NodePhase::Succeeded { "1/1" } else { "0/1" });
        }
        let node = &self.nodes.list[ix];
        let is_active = counts_as_active(&node.status);
        self.touch(ix);
        if was_active && !is_active {
            self.leave(ix);
        }
        if !was_fulfilled && self.nodes.list[ix].status.is_fulfilled() {
            self.tell_parent(ix);
        }
        if phase.is_fulfilled() {
            self.suspended.remove(&ix);
            self.kill_daemons_of(ix);
        }
    }

    /// Tells the parent that this child is fulfilled.
    pub(crate) fn tell_parent(&mut self, ix: Ix) {
        if let Some(parent) = self.nodes.list[ix].parent {
            self.nodes.list[parent].news.push(ix);
            self.enqueue(parent);
        }
    }

    fn enter(&mut self, ix: Ix) {
        let status = &self.nodes.list[ix].status;
        if !counts_as_active(status) {
            return;
        }
        if status.type_ == NodeType::Pod {
            self.active_pods += 1;
        }
        if let Some(boundary) = self.nodes.list[ix].boundary {
            self.nodes.list[boundary].active += 1;
        }
    }

    fn leave(&mut self, ix: Ix) {
        let node = &self.nodes.list[ix];
        if node.status.type_ == NodeType::Pod {
            self.active_pods -= 1;
        }
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

    /// Whether a call may make a node now; if not, the parent is looked at again when a place is free.
    fn has_place(&mut self, call: &Call, is_pod: bool) -> bool {
        let suspended = self.suspend && !call.on_exit;
        let crowded = is_pod && self.spec.parallelism.is_some_and(|p| p > 0 && self.active_pods >= p);
        let full = if suspended || crowded {
            true
        } else if let Some(boundary) = call.boundary {
            let node = &self.nodes.list[boundary];
            let template = node.template.clone();
            let template = template.as_deref();
            if template.and_then(|t| t.fail_fast) == Some(true) && node.failed_members > 0 {
                if node.active == 0 {
                    self.fail_fast(boundary);
                }
                true
            } else {
                template.and_then(|t| t.parallelism).is_some_and(|p| p > 0 && node.active >= p)
            }
        } else {
            false
        };
        if full && let Some(parent) = call.parent {
            self.blocked.insert(parent);
        }
        !full
    }

    /// Ends a steps or dag node that must not go on after a failure.
    fn fail_fast(&mut self, boundary: Ix) {
        let message = "template has failed or errored children and failFast enabled";
        if let Some(group) = self.last_group(boundary) {
            self.mark(group, NodePhase::Failed, Some(message));
        }
        self.mark(boundary, NodePhase::Failed, Some(message));
    }

    /// Makes or takes up the node that a call wants.
    pub(crate) fn open(&mut self, call: &Call) -> Opened {
        let id = names::node_id(self.workflow_name(), &call.name);
        let existing = self.nodes.find(&id);
        if let Some(ix) = existing {
            if self.nodes.list[ix].attached {
                let adopted = self.nodes.list[ix].parent.is_none() && call.parent.is_some();
                if !adopted {
                    return Opened::Node { ix, new: false };
                }
                if self.nodes.list[ix].status.type_ == NodeType::Pod {
                    self.attach(ix, call);
                    if self.nodes.list[ix].status.is_fulfilled() {
                        self.tell_parent(ix);
                    }
                    return Opened::Node { ix, new: false };
                }
            }
            if self.nodes.list[ix].status.phase.is_fulfilled() {
                self.attach(ix, call);
                self.tell_parent(ix);
                return Opened::Node { ix, new: false };
            }
        }
        let found = match self.templates.find(&call.target, &call.scope) {
            Ok(found) => found,
            Err(Missing::Resource { cluster, name }) => {
                self.ask_template(cluster, &name);
                if let Some(parent) = call.parent {
                    self.waiting.insert(parent);
                }
                return Opened::Waiting;
            }
            Err(Missing::Never(message)) => return self.open_failed(call, message),
        };
        if existing.is_none() {
            if call.depth > self.config.depth_max {
                let message = format!("templates call each other more than {} deep", self.config.depth_max);
                return self.open_failed(call, message);
            }
            if !self.has_place(call, found.template.is_pod()) {
                return Opened::Blocked;
            }
        }
        let kept = existing.and_then(|ix| self.nodes.list[ix].status.inputs.clone());
        let inputs = match kept {
            Some(inputs) => inputs,
            None => match self.inputs(&found.template, call) {
                Ok(inputs) => inputs,
                Err(crate::inputs::InputFault::Wait) => {
                    if let Some(parent) = call.parent {
                        self.waiting.insert(parent);
                    }
                    return Opened::Waiting;
                }
                Err(crate::inputs::InputFault::Wrong(message)) => return self.open_failed(call, message),
            },
        };
        if let Some(key) = &found.stored
            && self.templates.freeze(key, &found.template)
        {
            self.status.stored_templates.insert(key.clone(), (*found.template).clone());
            self.dirty = true;
        }
        let retried = call.flag.as_ref().is_some_and(|f| f.retried);
        let retry = found.template.retry_strategy.as_ref().or(self.spec.retry_strategy.as_ref());
        if let (Some(strategy), false) = (retry, retried) {
            let strategy = strategy.clone();
            return self.open_retry(existing, call, strategy);
        }
        let (type_, phase) = match found.template.kind() {
            Some(TemplateKind::Steps) => (NodeType::Steps, NodePhase::Running),
            Some(TemplateKind::Dag) => (NodeType::Dag, NodePhase::Running),
            Some(TemplateKind::Suspend) => (NodeType::Suspend, NodePhase::Running),
            Some(TemplateKind::Http) => (NodeType::Http, NodePhase::Pending),
            Some(TemplateKind::Plugin) => (NodeType::Plugin, NodePhase::Pending),
            Some(_) => (NodeType::Pod, NodePhase::Pending),
            None => {
                let message = format!("template '{}' has no kind", found.template.name);
                return self.open_failed(call, message);
            }
        };
        let new = existing.is_none();
        let ix = match existing {
            Some(ix) => ix,
            None => {
                let mut row = self.row(call, type_, phase);
                row.inputs = (!inputs.is_empty()).then(|| inputs.clone());
                if is_executable(type_) {
                    row.progress = Some("0/1".to_owned());
                }
                if let Some(name) = found.template.annotations.get(windlass_model::labels::DISPLAY_NAME)
                    && let Ok(name) = windlass_lang::tags::substitute(
                        name,
                        &crate::scope::Scope {
                            run: self,
                            boundary: None,
                            inputs: Some(&inputs),
                            locals: &[],
                            globals: true,
                            item: None,
                        },
                        &Default::default(),
                    )
                {
                    row.display_name = name;
                }
                self.nodes.insert(row)
            }
        };
        self.attach(ix, call);
        self.enter(ix);
        if new {
            self.touch(ix);
        }
        self.nodes.list[ix].inner_scope = found.scope.clone();
        match type_ {
            NodeType::Steps => self.begin_steps(ix, &found.template, &inputs),
            NodeType::Dag => self.begin_dag(ix, &found.template, &inputs),
            NodeType::Suspend => self.begin_suspend(ix, found.template.clone()),
            NodeType::Pod => {
                self.nodes.list[ix].template = Some(found.template.clone());
                if let Err(message) = self.begin_pod(ix, new) {
                    self.mark(ix, NodePhase::Error, Some(&message));
                    return Opened::Failed { ix, new, message };
                }
            }
            _ => {
                let message = format!("{type_} templates are not supported yet");
                self.mark(ix, NodePhase::Error, Some(&message));
                return Opened::Failed { ix, new, message };
            }
        }
        Opened::Node { ix, new }
    }

    /// A node in error for a call that cannot be made.
    pub(crate) fn open_failed(&mut self, call: &Call, message: String) -> Opened {
        let id = names::node_id(self.workflow_name(), &call.name);
        let existing = self.nodes.find(&id);
        if let Some(ix) = existing
            && self.nodes.list[ix].status.phase.is_fulfilled()
        {
            // It went wrong before the run was loaded, and was told then.
            if !self.nodes.list[ix].attached {
                self.attach(ix, call);
                self.tell_parent(ix);
            }
            return Opened::Node { ix, new: false };
        }
        let new = existing.is_none();
        let ix = existing.unwrap_or_else(|| {
            let row = self.row(call, NodeType::Skipped, NodePhase::Pending);
            self.nodes.insert(row)
        });
        if !self.nodes.list[ix].attached {
            self.attach(ix, call);
        }
        self.mark(ix, NodePhase::Error, Some(&message));
        Opened::Failed { ix, new, message }
    }

    /// A node that does not run: skipped, omitted or in error from the start.
    pub(crate) fn open_skipped(&mut self, call: &Call, phase: NodePhase, message: &str) -> Opened {
        let id = names::node_id(self.workflow_name(), &call.name);
        let existing = self.nodes.find(&id);
        if let Some(ix) = existing
            && self.nodes.list[ix].attached
        {
            return Opened::Node { ix, new: false };
        }
        let new = existing.is_none();
        let ix = existing.unwrap_or_else(|| {
            let row = self.row(call, NodeType::Skipped, NodePhase::Pending);
            self.nodes.insert(row)
        });
        if new {
            self.nodes.list[ix].status.node_flag.get_or_insert_default();
        }
        self.attach(ix, call);
        if new {
            self.mark(ix, phase, Some(message));
        } else {
            self.tell_parent(ix);
        }
        Opened::Node { ix, new }
    }

    /// A fresh row for a call.
    pub(crate) fn row(&self, call: &Call, type_: NodeType, phase: NodePhase) -> NodeStatus {
        let boundary = call.boundary.map(|b| &self.nodes.list[b].status);
        let (template_name, template_ref) = match &call.target {
            crate::nodes::Target::Name(name) => (Some(name.clone()).filter(|n| !n.is_empty()), None),
            crate::nodes::Target::Ref(reference) => (None, Some(reference.clone())),
            crate::nodes::Target::Inline(_) => (None, None),
        };
        NodeStatus {
            id: names::node_id(self.workflow_name(), &call.name),
            display_name: names::display_name(&call.name, boundary.map(|b| b.name.as_str())),
            name: call.name.clone(),
            type_,
            template_name,
            template_ref,
            template_scope: Some(call.scope.to_string()),
            phase,
            boundary_id: boundary.map(|b| b.id.clone()),
            started_at: Some(Time::from_timestamp(self.now)),
            node_flag: call.flag.clone(),
            ..NodeStatus::default()
        }
    }

    /// Ties a node to its parent.
    pub(crate) fn attach(&mut self, ix: Ix, call: &Call) {
        let node = &mut self.nodes.list[ix];
        node.attached = true;
        node.parent = call.parent;
        node.boundary = call.boundary;
        node.slot = call.slot;
        node.on_exit = call.on_exit;
        node.depth = call.depth;
        if let Some(parent) = call.parent {
            self.nodes.list[parent].unsettled += 1;
        }
    }

    /// Hangs a node after another.
    pub(crate) fn connect(&mut self, before: &str, after: Ix) {
        let Some(before) = self.nodes.find(before) else { return };
        let id = self.nodes.list[after].status.id.clone();
        self.nodes.list[before].status.children.push(id);
        self.touch(before);
    }

    /// The workflow's phase, with message; and when it has ended, all that goes with it.
    pub(crate) fn mark_workflow(&mut self, phase: WorkflowPhase, message: &str) {
        self.dirty = true;
        self.status.phase = phase;
        self.status.message = (!message.is_empty()).then(|| message.to_owned());
        if self.status.started_at.is_none() {
            self.status.started_at = Some(Time::from_timestamp(self.now));
        }
    }
}
