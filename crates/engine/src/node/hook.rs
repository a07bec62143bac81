//! Hooks: templates that run when a step or task ends, or when a condition of a member or of the whole run holds; and
//! how members settle.
//!
//! A member settles when it is fulfilled and every hook it has begun has ended. Only then does its parent go on.

use windlass_lang::expr::Expression;
use windlass_lang::tags::{self, Evaluated, Lookup, Options, Resolve};
use windlass_model::status::NodeFlag;
use windlass_model::template::{LifecycleHook, WorkflowStep};
use windlass_model::{NodePhase, NodeType};

use crate::nodes::{Call, Ix, Machine};
use crate::opening::Opened;
use crate::run::Run;
use crate::scope::Scope;
use crate::templates::target;

/// What Argo says of a handler for which there is no place: unlike a step or task, it cannot wait.
const NO_PLACE: &str = "Max parallelism reached";

/// What a hook's arguments know: of its own step or task no more than how it ended and its outputs by name. Argo fills in
/// the rest (`outputs.result`, `exitCode`, `ip`, …) once the member is left behind, so such a tag stays as it is written.
struct OfItself<'a> {
    scope: Scope<'a>,
    own: &'a str,
}

impl Resolve for OfItself<'_> {
    fn name(&self, name: &str) -> Lookup<'_> {
        let of_own = ["steps.", "tasks."].iter().find_map(|prefix| name.strip_prefix(prefix)?.strip_prefix(self.own));
        match of_own.and_then(|rest| rest.strip_prefix('.')) {
            Some(field) if field != "status" && !field.starts_with("outputs.parameters.") => Lookup::Unknown,
            _ => self.scope.name(name),
        }
    }

    fn expression(&self, text: &str) -> Evaluated {
        self.scope.expression(text)
    }
}

impl Run {
    /// Takes in which members were fulfilled: begins their hooks, settles those that have none.
    pub(crate) fn take_news(&mut self, ix: Ix) {
        for child in std::mem::take(&mut self.nodes.list[ix].news) {
            if std::mem::take(&mut self.nodes.list[child].timed_out)
                && let Machine::Group(machine) = &self.nodes.list[ix].machine
                && machine.is_steps()
            {
                self.mark(ix, NodePhase::Failed, Some("timeout"));
            } else if self.nodes.list[child].refused
                && let Machine::Group(machine) = &self.nodes.list[ix].machine
            {
                let is_steps = machine.is_steps();
                let node = &mut self.nodes.list[child];
                let message = node.fault.take().or_else(|| node.status.message.clone()).unwrap_or_default();
                node.refused = false;
                self.member_errored(ix, child, is_steps, &message);
            } else if self.nodes.list[child].refused && matches!(self.nodes.list[ix].machine, Machine::Dag(_)) {
                let message = self.nodes.list[child].status.message.clone().unwrap_or_default();
                self.nodes.list[child].refused = false;
                self.member_errored(ix, child, false, &message);
            }
            if !self.nodes.list[child].status.is_fulfilled() {
                self.fire_hooks(ix, child, false);
                continue;
            }
            if let Some(hooked) = self.nodes.list[child].hook_of {
                self.settle(ix, child);
                let of = &mut self.nodes.list[hooked];
                of.hooks_open = of.hooks_open.saturating_sub(1);
                if of.hooks_open == 0 && of.status.is_fulfilled() {
                    self.settle(ix, hooked);
                } else if of.status.type_ == NodeType::TaskGroup && !of.status.is_fulfilled() {
                    self.fire_item_exit(hooked);
                }
                continue;
            }
            self.fire_hooks(ix, child, self.ends_by_itself(ix, child));
            if self.was_never_called(ix, child) {
                self.later.push((ix, child, true));
            } else {
                self.fire_exit_hook(ix, child);
            }
            if self.nodes.list[child].hooks_open == 0 {
                self.settle(ix, child);
            }
            self.fire_item_exit(ix);
        }
    }

    /// A member with hooks goes on and has not ended: its parent looks whether one of them waits for that, once all has
    /// begun that can.
    pub(crate) fn tell_progress(&mut self, parent: Ix, child: Ix) {
        if !self.nodes.list[child].status.is_fulfilled() {
            self.later.push((parent, child, false));
        }
    }

    /// Whether a member has hooks that wait for something else than its end.
    pub(crate) fn has_named_hooks(&self, parent: Ix, child: Ix) -> bool {
        let is_named = |step: &WorkflowStep| step.hooks.keys().any(|name| name != "exit");
        self.nodes.list[child].hook_of.is_none() && self.step_of(parent, child).is_some_and(is_named)
    }

    /// Whether a task was never called, and its handler waits until everything else is done.
    fn was_never_called(&self, parent: Ix, child: Ix) -> bool {
        let status = &self.nodes.list[child].status;
        let handler = crate::names::node_id(self.workflow_name(), &format!("{}.onExit", status.name));
        matches!(self.nodes.list[parent].machine, Machine::Dag(_))
            && status.type_ == NodeType::Skipped
            && self.nodes.find(&handler).is_none()
    }

    /// Whether a task's end is seen only after what depends on it has begun: a task with members of its own, which is no
    /// target of its dag. Argo looks at a task's hooks before it looks at the task.
    fn ends_by_itself(&self, parent: Ix, child: Ix) -> bool {
        let slot = self.nodes.list[child].slot;
        match &self.nodes.list[parent].machine {
            Machine::Dag(machine) => has_members(self.nodes.list[child].status.type_) && !machine.is_target(slot),
            _ => false,
        }
    }

    /// Whether a node is a member of a step group.
    pub(crate) fn is_in_steps(&self, ix: Ix) -> bool {
        let Some(parent) = self.nodes.list[ix].parent else { return false };
        matches!(&self.nodes.list[parent].machine, Machine::Group(machine) if machine.is_steps())
    }

    /// Looks at the hooks that had to wait until everything else was done.
    pub(crate) fn fire_late_hooks(&mut self) {
        for (parent, child, handler) in std::mem::take(&mut self.later) {
            self.fire_hooks(parent, child, false);
            if handler {
                self.fire_exit_hook(parent, child);
            }
        }
    }

    /// The exit handler of the items of a dag's loop: one after the other, and only as long as the loop itself has not
    /// ended. So in Argo, which goes through the items once per look and stops at the first whose handler works.
    fn fire_item_exit(&mut self, group: Ix) {
        let of_dag = matches!(&self.nodes.list[group].machine, Machine::Group(machine) if !machine.is_steps());
        let Some(dag) = self.nodes.list[group].parent.filter(|_| of_dag) else { return };
        let Some(hook) = self.exit_hook(dag, group) else { return };
        let mut items: Vec<Ix> =
            self.nodes.list[group].status.children.iter().filter_map(|id| self.nodes.find(id)).collect();
        items.retain(|item| {
            self.nodes.list[*item].hook_of.is_none() && self.nodes.list[*item].status.phase.is_completed()
        });
        items.sort_by_key(|item| self.nodes.list[*item].slot);
        for item in items {
            let name = format!("{}.onExit", self.nodes.list[item].status.name);
            match self.nodes.find(&crate::names::node_id(self.workflow_name(), &name)) {
                Some(there) if self.nodes.list[there].attached => {
                    if !self.nodes.list[there].status.is_fulfilled() {
                        return;
                    }
                }
                _ => {
                    self.open_hook([dag, group, item], name, hook, true);
                    return;
                }
            }
        }
    }

    fn settle(&mut self, parent: Ix, child: Ix) {
        if std::mem::replace(&mut self.nodes.list[child].settled, true) {
            return;
        }
        let slot = self.nodes.list[child].slot;
        let is_hook = self.nodes.list[child].hook_of.is_some();
        let node = &mut self.nodes.list[parent];
        node.unsettled = node.unsettled.saturating_sub(1);
        if let Machine::Dag(machine) = &mut node.machine
            && !is_hook
        {
            machine.settled.push(slot);
        }
    }

    /// The step or task of a member.
    fn step_of(&self, parent: Ix, child: Ix) -> Option<&WorkflowStep> {
        let slot = self.nodes.list[child].slot;
        match &self.nodes.list[parent].machine {
            Machine::Group(machine) if machine.is_steps() => machine.step(slot),
            Machine::Dag(machine) => machine.step(slot),
            _ => None,
        }
    }

    fn fire_exit_hook(&mut self, parent: Ix, child: Ix) {
        let node = &self.nodes.list[parent];
        if !self.nodes.list[child].status.phase.is_completed() || node.status.phase.is_fulfilled() {
            return;
        }
        // A loop in steps whose hooks cannot be asked comes to its handlers never, and what is behind it neither.
        if let Machine::Group(machine) = &node.machine
            && machine.stops_at(self.nodes.list[child].slot)
        {
            return;
        }
        if let Some(hook) = self.exit_hook(parent, child) {
            let name = format!("{}.onExit", self.nodes.list[child].status.name);
            self.open_hook([parent, child, child], name, hook, true);
        }
    }

    /// The exit handler of a step or task, where it is to begin.
    fn exit_hook(&self, parent: Ix, child: Ix) -> Option<LifecycleHook> {
        let step = self.step_of(parent, child)?;
        let hook = match (&step.on_exit, step.hooks.get("exit")) {
            (Some(template), _) if !template.is_empty() => {
                // In this old form it gets what the workflow got.
                let arguments = self.spec.arguments.clone();
                LifecycleHook { template: Some(template.clone()), arguments, ..LifecycleHook::default() }
            }
            (_, hook) => hook?.clone(),
        };
        // A dag that is stopped has failed at once; its tasks' handlers do not begin.
        let is_dag = matches!(self.nodes.list[parent].machine, Machine::Dag(_));
        if self.shutdown.as_deref() == Some("Terminate") || (is_dag && self.is_shut_down(parent)) {
            return None;
        }
        if let Some(expression) = hook.expression.as_deref().filter(|e| !e.is_empty())
            && crate::expression::holds(&self.hook_scope(parent, child), expression) != Ok(true)
        {
            return None;
        }
        Some(hook)
    }

    /// Begins the named hooks whose condition holds. Each begins once. `late`: what has not begun is looked at when
    /// everything else is done.
    pub(crate) fn fire_hooks(&mut self, parent: Ix, child: Ix, late: bool) {
        if self.nodes.list[parent].status.phase.is_fulfilled() {
            return;
        }
        let Some(step) = self.step_of(parent, child) else { return };
        if step.hooks.keys().all(|name| name == "exit") {
            return;
        }
        // Argo forgets the hooks of a step that it skips, and of a task not.
        let is_skipped = self.nodes.list[child].status.type_ == NodeType::Skipped;
        if is_skipped && !matches!(self.nodes.list[parent].machine, Machine::Dag(_)) {
            return;
        }
        let hooks: Vec<(String, LifecycleHook)> =
            step.hooks.iter().filter(|(name, _)| *name != "exit").map(|(n, h)| (n.clone(), h.clone())).collect();
        for (name, hook) in hooks {
            let node_name = format!("{}.hooks.{name}", self.nodes.list[child].status.name);
            let id = crate::names::node_id(self.workflow_name(), &node_name);
            let there = self.nodes.find(&id);
            if there.is_some_and(|ix| self.nodes.list[ix].attached) {
                continue;
            }
            if there.is_none() {
                if late {
                    self.later.push((parent, child, false));
                    return;
                }
                let scope = self.hook_scope(parent, child);
                let expression = hook.expression.as_deref().unwrap_or_default();
                if crate::expression::holds(&scope, expression) != Ok(true) {
                    continue;
                }
            }
            self.open_hook([parent, child, child], node_name, hook, false);
        }
    }

    /// Begins the run's own named hooks whose condition holds, each once; true when one began or went wrong.
    ///
    /// The run's exit handler waits for them, and its phase does not: a hook that fails is its own matter.
    pub(crate) fn fire_run_hooks(&mut self) -> bool {
        let spec = self.spec.clone();
        let Some(root) = self.root.filter(|_| spec.hooks.keys().any(|name| name != "exit")) else { return false };
        let phase = self.nodes.list[root].status.phase;
        let status = if phase.is_fulfilled() && !phase.is_fail_or_error() { "Succeeded" } else { phase.as_str() };
        self.globals.set("workflow.status", status);
        // To list what failed costs a walk, so only where somebody asks.
        if serde_json::to_string(&spec.hooks).is_ok_and(|text| text.contains("workflow.failures")) {
            let failures = self.failures();
            self.globals.set_failures(&failures);
        }
        let mut news = false;
        for (name, hook) in spec.hooks.iter().filter(|(name, _)| *name != "exit") {
            let node_name = format!("{}.hooks.{name}", self.workflow_name());
            let there = self.nodes.find(&crate::names::node_id(self.workflow_name(), &node_name));
            if there.is_some_and(|ix| self.nodes.list[ix].attached) {
                continue;
            }
            let expression = hook.expression.as_deref().unwrap_or_default();
            let holds = match expression {
                "" => Err(format!("Expression required for hook {node_name}")),
                _ if there.is_some() => Ok(true),
                _ => crate::expression::holds(&Scope::globals(self), expression),
            };
            match holds {
                Ok(false) => {}
                Ok(true) => news |= self.open_run_hook(root, node_name, hook),
                Err(message) if !self.nodes.list[root].status.phase.is_fulfilled() => {
                    self.mark(root, NodePhase::Error, Some(&message));
                    news = true;
                }
                Err(_) => {}
            }
        }
        news
    }

    fn open_run_hook(&mut self, root: Ix, name: String, hook: &LifecycleHook) -> bool {
        let replaced = serde_json::to_value(hook)
            .map_err(|e| e.to_string())
            .and_then(|value| {
                tags::substitute_value(&value, &Scope::globals(self), &Options::default())
                    .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())
            })
            .and_then(|value| serde_json::from_value::<LifecycleHook>(value).map_err(|e| e.to_string()));
        let mut call = Call {
            name,
            target: target(&hook.template, &hook.template_ref, None),
            arguments: windlass_model::Arguments::default(),
            absent: Vec::new(),
            parent: None,
            boundary: None,
            scope: self.templates.local_scope(),
            slot: 0,
            on_exit: false,
            flag: Some(NodeFlag { hooked: true, retried: false }),
            depth: 0,
        };
        let opened = match replaced {
            Ok(hook) => {
                call.target = target(&hook.template, &hook.template_ref, None);
                call.arguments = hook.arguments;
                self.open(&call)
            }
            Err(message) => self.open_failed(&call, message),
        };
        let (ix, new) = match opened {
            Opened::Node { ix, new } | Opened::Failed { ix, new, .. } => (ix, new),
            Opened::Blocked if !self.suspend => {
                self.mark(root, NodePhase::Error, Some(NO_PLACE));
                return true;
            }
            Opened::Blocked | Opened::Waiting => return false,
        };
        if new {
            let id = self.nodes.list[root].status.id.clone();
            self.connect(&id, ix);
        }
        self.run_hooks.push(ix);
        true
    }

    /// Whether every hook of the run that began has ended.
    pub(crate) fn run_hooks_ended(&self) -> bool {
        self.run_hooks.iter().all(|ix| self.nodes.list[*ix].status.is_fulfilled())
    }

    fn hook_scope(&self, parent: Ix, child: Ix) -> Scope<'_> {
        let boundary = self.nodes.list[child].boundary;
        let item = match &self.nodes.list[parent].machine {
            Machine::Group(machine) => machine.item(self.nodes.list[child].slot),
            _ => None,
        };
        let inputs = boundary.and_then(|b| self.nodes.list[b].status.inputs.as_ref());
        Scope { run: self, boundary, inputs, locals: &[], globals: true, item }
    }

    /// Begins a hook of `child`, which hangs from `after`: the same, or an item of that loop. `child` waits for its end.
    /// `exit`: it goes on when the run is stopped.
    fn open_hook(&mut self, [parent, child, after]: [Ix; 3], name: String, hook: LifecycleHook, exit: bool) {
        // Argo leaves a named hook's arguments as they are written while the node has no outputs.
        let replaced = if !exit && self.nodes.outputs_of_last(child).is_none() {
            Ok(hook.clone())
        } else {
            let scope = self.hook_scope(parent, child);
            let own = self.step_of(parent, child).map(|step| step.name.as_str()).unwrap_or_default();
            let scope = OfItself { scope, own };
            serde_json::to_value(&hook)
                .map_err(|e| e.to_string())
                .and_then(|value| {
                    tags::substitute_value(&value, &scope, &Options::default())
                        .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())
                })
                .and_then(|value| serde_json::from_value::<LifecycleHook>(value).map_err(|e| e.to_string()))
        };
        let node = &self.nodes.list[child];
        let mut call = Call {
            name,
            target: target(&hook.template, &hook.template_ref, None),
            arguments: windlass_model::Arguments::default(),
            absent: Vec::new(),
            parent: Some(parent),
            boundary: node.boundary,
            scope: node.status.template_scope.as_deref().unwrap_or_default().into(),
            slot: node.slot,
            on_exit: exit,
            flag: Some(NodeFlag { hooked: true, retried: false }),
            depth: node.depth + 1,
        };
        let opened = match replaced {
            Ok(hook) => {
                let artifacts = hook.arguments.artifacts.clone();
                call.arguments = hook.arguments;
                call.arguments.artifacts = {
                    let scope = self.hook_scope(parent, child);
                    artifacts
                        .iter()
                        .filter_map(|a| crate::calls::artifact_argument(a, &scope, false).ok().flatten())
                        .collect()
                };
                self.open(&call)
            }
            Err(message) => self.open_failed(&call, message),
        };
        let fault = match &opened {
            Opened::Failed { message, .. } => Some(message.clone()),
            Opened::Blocked if exit && !self.suspend && self.is_last_in_steps(parent) => Some(NO_PLACE.to_owned()),
            Opened::Blocked if !exit && !self.suspend => Some(NO_PLACE.to_owned()),
            _ => None,
        };
        if let Some(message) = fault
            && let Machine::Group(machine) = &mut self.nodes.list[parent].machine
        {
            machine.hook_fault.get_or_insert_with(|| message.clone());
            let is_steps = machine.is_steps();
            if matches!(opened, Opened::Blocked) && !exit && is_steps {
                // While the node runs that has the place, which is why there is none.
                self.mark(parent, NodePhase::Error, Some(&message));
            } else if matches!(opened, Opened::Blocked) && is_steps {
                // Argo hangs up the handler before it sees that there will be none.
                let id = crate::names::node_id(self.workflow_name(), &call.name);
                self.nodes.list[after].status.children.push(id);
                self.touch(after);
            }
            if exit && is_steps && self.is_in_root(parent) {
                self.break_off(parent, &message);
            }
        }
        if let Opened::Node { ix, new } | Opened::Failed { ix, new, .. } = opened {
            self.nodes.list[ix].hook_of = Some(child);
            self.nodes.list[child].hooks_open += 1;
            if new {
                let id = self.nodes.list[after].status.id.clone();
                self.connect(&id, ix);
            }
        } else if !self.nodes.list[parent].has_hook_fault() {
            // It must wait for a place: look again with the same news.
            self.nodes.list[parent].news.push(child);
        }
    }

    /// Whether there is no member of a step group whose end could make a place, or whose end is waited for.
    fn is_last_in_steps(&self, group: Ix) -> bool {
        let node = &self.nodes.list[group];
        let Machine::Group(machine) = &node.machine else { return false };
        machine.is_steps() && (self.is_in_root(group) || self.members_ended(group))
    }

    /// Whether the run's entry node is the steps node around this group, and nothing comes after it.
    fn is_in_root(&self, group: Ix) -> bool {
        let handled =
            self.spec.on_exit.as_deref().is_some_and(|t| !t.is_empty()) || self.spec.hooks.contains_key("exit");
        self.nodes.list[group].boundary.is_some() && self.nodes.list[group].boundary == self.root && !handled
    }

    /// A handler in the entrypoint's own steps that cannot begin: Argo takes the group's end for the run's, at once.
    fn break_off(&mut self, group: Ix, message: &str) {
        let Some(root) = self.root else { return };
        self.mark(group, NodePhase::Error, Some(message));
        self.nodes.list[root].fault = Some(message.to_owned());
        self.mark(root, NodePhase::Error, Some(BROKEN_OFF));
    }
}

/// What the entry node says when the run ended before it.
pub(crate) const BROKEN_OFF: &str = "Workflow operation error";

/// Whether a node of that kind works through members of its own.
fn has_members(type_: NodeType) -> bool {
    matches!(type_, NodeType::Steps | NodeType::Dag | NodeType::Retry | NodeType::TaskGroup)
}

/// Why the hooks of a step with a loop cannot be asked: the step has no node under its own name, only its items have.
///
/// Argo evaluates `steps.NAME.status` to nothing there, whose fields it cannot fetch, and the step group is in error. In a
/// dag the loop has a node of its own.
pub(crate) fn unknown_self(step: &WorkflowStep) -> Option<String> {
    step.hooks.iter().filter(|(name, _)| *name != "exit").find_map(|(_, hook)| {
        let text = hook.expression.as_deref()?;
        let expression = Expression::parse(text).ok()?;
        expression.names().iter().find_map(|name| {
            let [kind, member, field, ..] = name.path.as_slice() else { return None };
            if kind != "steps" || *member != step.name || name.optional {
                return None;
            }
            let at = name.range.start + text.get(name.range.clone())?.find(&format!(".{field}"))? + 1;
            let column = text[..at].chars().count();
            Some(format!(
                "unable to evaluate expression '{text}': cannot fetch {field} from <nil> (1:{})\n | {text}\n | {}^",
                column + 1,
                ".".repeat(column)
            ))
        })
    })
}
