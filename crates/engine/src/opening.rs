//! How a call becomes a node: found in the status and taken up, made new, put off, or in error from the start.
//! Decides which machine a node gets; what the machine does is its own matter.

use windlass_model::parameter::Inputs;
use windlass_model::status::NodeFlag;
use windlass_model::template::TemplateKind;
use windlass_model::{NodePhase, NodeStatus, NodeType, Template, Time};

use crate::names;
use crate::nodes::{Call, Ix, is_executable};
use crate::run::Run;
use crate::templates::Missing;

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

/// A template that calls itself twice at each level has more nodes than memory long before it is too deep. A table of
/// a tenth of this is too large to be kept.
const NODES_MAX: usize = 300_000;

impl Run {
    /// Whether a call may make a node now; if not, the parent is looked at again when a place is free.
    fn has_place(&mut self, call: &Call, is_pod: bool) -> bool {
        let suspended = self.suspend && !call.on_exit;
        let crowded = is_pod && self.spec.parallelism.is_some_and(|p| p > 0 && self.active_pods >= p);
        let full = if suspended || crowded {
            true
        } else if let Some(boundary) = call.boundary
            && !self.is_within_tries(call, boundary)
        {
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

    /// Whether a call is a try inside a try: it takes the place of its retry node. Argo looks whether a steps or dag node
    /// may go on by the node that was called, and that is not the try.
    fn is_within_tries(&self, call: &Call, boundary: Ix) -> bool {
        let retried = |flag: Option<&NodeFlag>| flag.is_some_and(|flag| flag.retried);
        retried(call.flag.as_ref()) && retried(self.nodes.list[boundary].status.node_flag.as_ref())
    }

    /// Ends a steps or dag node that must not go on after a failure.
    pub(crate) fn fail_fast(&mut self, boundary: Ix) {
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
                if matches!(self.nodes.list[ix].status.type_, NodeType::Pod | NodeType::Http | NodeType::Plugin) {
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
            if self.nodes.list.len() >= NODES_MAX {
                return self.open_failed(call, format!("a run has no more than {NODES_MAX} nodes"));
            }
            if !self.has_place(call, found.template.is_pod()) {
                return Opened::Blocked;
            }
        }
        if found.template.plugin.is_some() && !self.knows_plugins() {
            if let Some(parent) = call.parent {
                self.waiting.insert(parent);
            }
            return Opened::Waiting;
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
        if found.stored.is_some()
            && existing.is_none()
            && let Some(message) = self.refusal(&serde_json::json!({"templates": [&*found.template]}))
        {
            return self.open_failed(call, message);
        }
        if let Some(key) = &found.stored
            && self.templates.freeze(key, &found.template)
        {
            self.status.stored_templates.insert(key.clone(), (*found.template).clone());
            self.dirty = true;
        }
        let retried = call.flag.as_ref().is_some_and(|f| f.retried);
        let retry = found.template.retry_strategy.as_ref().or(self.spec.retry_strategy.as_ref());
        let retry = retry.filter(|_| !retried).cloned();
        let kind = if retry.is_some() { Some(NodeType::Retry) } else { begins_as(&found.template).map(|(t, _)| t) };
        if let Some(wish) = found.template.synchronization.as_ref().filter(|_| !retried)
            && existing.is_none_or(|ix| !self.nodes.list[ix].status.is_fulfilled())
        {
            let outcome = match self.lock_names(wish, Some(&inputs)) {
                Err(message) => Some(self.open_failed(call, message)),
                Ok(names) if names.is_empty() => None,
                Ok(names) => kind.and_then(|kind| self.admit(call, names, kind, &found.template, &inputs)),
            };
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        if !retried
            && let Some(kind) = kind
            && let Some(outcome) = self.remember(call, kind, &found.template, &inputs)
        {
            return outcome;
        }
        if let Some(strategy) = retry {
            let opened = self.open_retry(existing, call, strategy, &inputs);
            if let Opened::Node { ix, .. } = opened
                && self.nodes.list[ix].status.memoization_status.is_none()
            {
                self.nodes.list[ix].status.memoization_status = self.memo_told(&found.template, &inputs, false);
            }
            return opened;
        }
        let Some((type_, phase)) = begins_as(&found.template) else {
            let message = format!("Template '{}' missing specification", found.template.name);
            return self.open_failed(call, message);
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
                self.name_for_people(&mut row, &found.template, &inputs);
                self.nodes.insert(row)
            }
        };
        if self.nodes.list[ix].status.memoization_status.is_none() {
            self.nodes.list[ix].status.memoization_status = self.memo_told(&found.template, &inputs, false);
        }
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
            NodeType::Pod | NodeType::Http | NodeType::Plugin => {
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
        if !self.nodes.list[ix].status.is_fulfilled() {
            self.metrics_of_begin(ix);
        }
        Opened::Node { ix, new }
    }

    /// The display name that a template asks for.
    pub(crate) fn name_for_people(&self, row: &mut NodeStatus, template: &Template, inputs: &Inputs) {
        let Some(name) = template.annotations.get(windlass_model::labels::DISPLAY_NAME) else { return };
        let scope = crate::scope::Scope {
            run: self,
            boundary: None,
            inputs: Some(inputs),
            locals: &[],
            globals: true,
            item: None,
        };
        if let Ok(name) = windlass_lang::tags::substitute(name, &scope, &Default::default()) {
            row.display_name = name;
        }
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
}

/// What a template's node is, and its phase when it is new.
fn begins_as(template: &Template) -> Option<(NodeType, NodePhase)> {
    Some(match template.kind()? {
        // An empty list of steps is no kind to Argo, which leaves such a list out when it writes a template.
        TemplateKind::Steps if template.steps.as_ref().is_none_or(Vec::is_empty) => return None,
        TemplateKind::Steps => (NodeType::Steps, NodePhase::Running),
        TemplateKind::Dag => (NodeType::Dag, NodePhase::Running),
        TemplateKind::Suspend => (NodeType::Suspend, NodePhase::Running),
        TemplateKind::Http => (NodeType::Http, NodePhase::Pending),
        TemplateKind::Plugin => (NodeType::Plugin, NodePhase::Pending),
        _ => (NodeType::Pod, NodePhase::Pending),
    })
}
