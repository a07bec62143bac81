//! A group of nodes that run side by side: a step group, or the items of a dag's task.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | Running | references cannot be resolved | Error | |
//! | Running | a place is free | Running | the next member begins |
//! | Running | a member could not begin (steps) | Error | `step group deemed errored due to child …` |
//! | Running | every member and its hooks ended, none failed | Succeeded | |
//! | Running | every member ended, one failed and must not | Failed | of items: as the last that failed |

use std::sync::Arc;

use windlass_lang::tags::{self, Options};
use windlass_model::template::WorkflowStep;
use windlass_model::{NodePhase, NodeType};

use crate::calls::{Ready, ready, when_holds};
use crate::loops::Item;
use crate::names;
use crate::nodes::{Call, Ix, Machine};
use crate::opening::Opened;
use crate::run::Run;
use crate::scope::Scope;
use crate::templates::target;

/// One member: a step, and the item of its loop.
#[derive(Clone, Debug)]
struct Entry {
    ready: Arc<Ready>,
    item: Option<(Arc<Vec<Item>>, usize)>,
}

/// What a group knows of its members.
#[derive(Debug)]
pub(crate) struct GroupMachine {
    /// The steps or dag node.
    boundary: Ix,
    /// Steps whose references are not replaced yet.
    unresolved: Vec<WorkflowStep>,
    entries: Vec<Entry>,
    /// The first member that has not begun.
    next: usize,
    is_steps: bool,
    /// Why the group is in error once all its members have ended: a hook that cannot begin.
    pub(crate) hook_fault: Option<String>,
    /// Why it is so once all its members have begun, and the first of those: a loop whose hook asks for the loop itself.
    asks_itself: Option<(usize, String)>,
}

impl GroupMachine {
    /// A step group.
    pub(crate) fn steps(boundary: Ix, steps: Vec<WorkflowStep>) -> Self {
        Self {
            boundary,
            unresolved: steps,
            entries: Vec::new(),
            next: 0,
            is_steps: true,
            hook_fault: None,
            asks_itself: None,
        }
    }

    /// The items of a dag's task.
    pub(crate) fn items(boundary: Ix, step: Ready, items: Vec<Item>) -> Self {
        let mut this = Self {
            boundary,
            unresolved: Vec::new(),
            entries: Vec::new(),
            next: 0,
            is_steps: false,
            hook_fault: None,
            asks_itself: None,
        };
        this.add_items(step, items);
        this
    }

    fn add_items(&mut self, step: Ready, items: Vec<Item>) {
        let (step, items) = (Arc::new(step), Arc::new(items));
        for i in 0..items.len() {
            self.entries.push(Entry { ready: step.clone(), item: Some((items.clone(), i)) });
        }
    }

    /// The step of a member.
    pub(crate) fn step(&self, slot: usize) -> Option<&WorkflowStep> {
        self.entries.get(slot).map(|e| &e.ready.step)
    }

    /// The item of a member.
    pub(crate) fn item(&self, slot: usize) -> Option<&Item> {
        self.entries.get(slot).and_then(|e| e.item.as_ref()).map(|(items, i)| &items[*i])
    }

    /// Whether the handlers of this member never begin: it, or one before it, is of a loop that asks for itself.
    pub(crate) fn stops_at(&self, slot: usize) -> bool {
        self.asks_itself.as_ref().is_some_and(|(first, _)| *first <= slot)
    }

    /// How many members have not begun.
    pub(crate) fn left(&self) -> usize {
        self.entries.len() - self.next
    }

    /// Whether it is a step group.
    pub(crate) fn is_steps(&self) -> bool {
        self.is_steps
    }
}

impl Run {
    pub(crate) fn look_at_group(&mut self, ix: Ix, machine: &mut GroupMachine) {
        if !machine.unresolved.is_empty()
            && let Err(message) = self.expand_group(ix, machine)
        {
            self.mark(ix, NodePhase::Error, Some(&message));
            return;
        }
        while machine.next < machine.entries.len() {
            let slot = machine.next;
            match self.open_member(ix, machine, slot) {
                Opened::Node { ix: child, new } => {
                    if new {
                        let id = self.nodes.list[ix].status.id.clone();
                        self.connect(&id, child);
                    }
                    if machine.is_steps && machine.step(slot).is_some_and(|step| !step.hooks.is_empty()) {
                        self.tell_progress(ix, child);
                    }
                }
                Opened::Failed { ix: child, new, message } => {
                    if new {
                        let id = self.nodes.list[ix].status.id.clone();
                        self.connect(&id, child);
                    }
                    self.member_errored(ix, child, machine.is_steps, &message);
                    if machine.is_steps {
                        return;
                    }
                    // What comes after it begins only while something of the loop still runs.
                    if self.members_ended(ix) {
                        machine.entries.truncate(slot + 1);
                    }
                }
                Opened::Blocked | Opened::Waiting => break,
            }
            machine.next += 1;
            if self.nodes.list[ix].status.phase.is_fulfilled() {
                return;
            }
        }
        if machine.next == machine.entries.len()
            && let Some((first, message)) = &machine.asks_itself
            && self.is_asked(ix, machine, *first)
        {
            self.mark(ix, NodePhase::Error, Some(message));
            return;
        }
        if machine.next == machine.entries.len() && self.nodes.list[ix].unsettled == 0 {
            self.finish_group(ix, machine);
        }
    }

    /// Whether an item of the loop that begins at that slot was called: the hooks of one that was skipped are not asked.
    fn is_asked(&self, ix: Ix, machine: &GroupMachine, first: usize) -> bool {
        let name = machine.step(first).map(|step| &step.name);
        let children = self.nodes.list[ix].status.children.iter().filter_map(|id| self.nodes.find(id));
        children.map(|child| &self.nodes.list[child]).any(|node| {
            node.status.type_ != NodeType::Skipped && machine.step(node.slot).map(|step| &step.name) == name
        })
    }

    /// Whether nothing that hangs from a group still runs.
    pub(crate) fn members_ended(&self, ix: Ix) -> bool {
        let ended = |id: &String| self.nodes.find(id).is_none_or(|ix| self.nodes.list[ix].status.is_fulfilled());
        self.nodes.list[ix].status.children.iter().all(ended)
    }

    /// Every tag of a step with a loop must have its value when the loop is unrolled, also those of its hooks and of a
    /// template that is written in place.
    pub(crate) fn check_tags(&self, step: &WorkflowStep, boundary: Ix, item: &Item) -> Result<(), String> {
        let bare = WorkflowStep { with_items: None, with_param: None, with_sequence: None, ..step.clone() };
        let value = serde_json::to_value(&bare).map_err(|e| e.to_string())?;
        if !tags::has_tags(&value) {
            return Ok(());
        }
        let inputs = self.nodes.list[boundary].status.inputs.as_ref();
        let scope = Scope { run: self, boundary: Some(boundary), inputs, locals: &[], globals: true, item: Some(item) };
        tags::substitute_value(&value, &scope, &Options { strict: &[], strict_all: true })
            .map(drop)
            .map_err(|faults| faults.first().map(|(_, fault)| fault.message.clone()).unwrap_or_default())
    }

    /// Begins what waits in a step group before the hooks of others take the place.
    pub(crate) fn begin_members(&mut self, ix: Ix) {
        let waits = |machine: &GroupMachine| machine.is_steps && machine.left() > 0;
        let node = &mut self.nodes.list[ix];
        if node.status.phase.is_fulfilled() || !matches!(&node.machine, Machine::Group(machine) if waits(machine)) {
            return;
        }
        if let Machine::Group(mut machine) = std::mem::take(&mut node.machine) {
            self.look_at_group(ix, &mut machine);
            self.nodes.list[ix].machine = Machine::Group(machine);
        }
    }

    /// A member in error from the start: a step group ends with it, a dag's task is told in its own words.
    pub(crate) fn member_errored(&mut self, group: Ix, child: Ix, is_steps: bool, message: &str) {
        let name = self.nodes.list[child].status.name.clone();
        if is_steps {
            let message = format!("step group deemed errored due to child {name} error: {message}");
            self.mark(group, NodePhase::Error, Some(&message));
        } else {
            self.nodes.list[child].status.message = Some(format!("task '{name}' errored: {message}"));
            self.touch(child);
        }
    }

    /// Replaces references and unrolls loops.
    fn expand_group(&mut self, ix: Ix, machine: &mut GroupMachine) -> Result<(), String> {
        let steps = std::mem::take(&mut machine.unresolved);
        let inputs = self.nodes.list[machine.boundary].status.inputs.clone();
        let mut resolved = Vec::with_capacity(steps.len());
        let group = self.nodes.list[ix].status.name.clone();
        for step in &steps {
            // What has begun is not asked again.
            let name = format!("{group}.{}", step.name);
            let existing = self.nodes.find(&names::node_id(self.workflow_name(), &name));
            if existing.is_some_and(|e| self.nodes.list[e].status.phase.is_fulfilled()) {
                let bare = WorkflowStep {
                    when: None,
                    with_items: None,
                    with_param: None,
                    with_sequence: None,
                    ..step.clone()
                };
                resolved.push(Ready { step: bare, absent: Vec::new(), skipped: None });
                continue;
            }
            let begun = existing.is_some().then(|| WorkflowStep { when: None, ..step.clone() });
            let step = begun.as_ref().unwrap_or(step);
            let scope = Scope {
                run: self,
                boundary: Some(machine.boundary),
                inputs: inputs.as_ref(),
                locals: &[],
                globals: true,
                item: None,
            };
            resolved.push(ready(step, &scope, false).map_err(|m| format!("failed to resolve references: {m}"))?);
        }
        for step in resolved {
            if !crate::loops::has_loop(&step.step) {
                machine.entries.push(Entry { ready: Arc::new(step), item: None });
                continue;
            }
            // A `when` that is false hides a loop that cannot be unrolled.
            let items = match crate::loops::items(&step.step) {
                Err(_) if step.skipped.is_some() => Vec::new(),
                items => items?,
            };
            if items.is_empty() {
                let mut step = step;
                step.skipped = Some(String::new());
                machine.entries.push(Entry { ready: Arc::new(step), item: None });
            } else {
                if step.skipped.is_none()
                    && let Some(item) = items.first()
                {
                    self.check_tags(&step.step, machine.boundary, item)?;
                }
                if machine.asks_itself.is_none() {
                    let why = crate::node::hook::unknown_self(&step.step);
                    machine.asks_itself = why.map(|why| (machine.entries.len(), why));
                }
                machine.add_items(step, items);
            }
        }
        Ok(())
    }

    fn open_member(&mut self, group: Ix, machine: &GroupMachine, slot: usize) -> Opened {
        let entry = &machine.entries[slot];
        let node = &self.nodes.list[group];
        let (prefix, joint) = if machine.is_steps {
            (node.status.name.clone(), ".")
        } else {
            // The group's name ends in the task's.
            (self.nodes.list[machine.boundary].status.name.clone(), ".")
        };
        let mut call = Call {
            name: String::new(),
            target: crate::nodes::Target::Name(String::new()),
            arguments: windlass_model::Arguments::default(),
            absent: entry.ready.absent.clone(),
            parent: Some(group),
            boundary: Some(machine.boundary),
            scope: node.inner_scope.clone(),
            slot,
            on_exit: node.on_exit,
            flag: None,
            depth: node.depth + 1,
        };
        let step = match &entry.item {
            None => entry.ready.step.clone(),
            // Nothing of it is asked for any more.
            Some(_) if entry.ready.skipped.is_some() => entry.ready.step.clone(),
            Some((items, i)) => match self.with_item(&entry.ready.step, &items[*i]) {
                Ok(step) => step,
                Err(message) => {
                    let name = names::item_name(&entry.ready.step.name, *i, &items[*i]);
                    call.name = format!("{prefix}{joint}{name}");
                    call.target = target(&entry.ready.step.template, &entry.ready.step.template_ref, None);
                    return self.open_failed(&call, message);
                }
            },
        };
        let name = match &entry.item {
            None => step.name.clone(),
            Some((items, i)) => names::item_name(&entry.ready.step.name, *i, &items[*i]),
        };
        call.name = format!("{prefix}{joint}{name}");
        call.target = target(&step.template, &step.template_ref, step.inline.as_deref());
        if let Some(when) = &entry.ready.skipped {
            let message = if when.is_empty() {
                "Skipped, empty params".to_owned()
            } else {
                format!("when '{when}' evaluated false")
            };
            return self.open_skipped(&call, NodePhase::Skipped, &message);
        }
        let begun = self.nodes.find(&names::node_id(self.workflow_name(), &call.name)).is_some();
        if let Some(when) = step.when.as_ref().filter(|_| !begun) {
            match when_holds(when) {
                Ok(true) => {}
                Ok(false) => {
                    return self.open_skipped(&call, NodePhase::Skipped, &format!("when '{when}' evaluated false"));
                }
                Err(message) => {
                    let opened = self.open_failed(&call, message);
                    return match opened {
                        // Said as it is: the step was never called.
                        Opened::Failed { ix, new, message } => {
                            if machine.is_steps {
                                if new {
                                    let id = self.nodes.list[group].status.id.clone();
                                    self.connect(&id, ix);
                                }
                                self.mark(group, NodePhase::Error, Some(&message));
                            }
                            Opened::Node { ix, new: new && !machine.is_steps }
                        }
                        other => other,
                    };
                }
            }
        }
        call.arguments = step.arguments;
        self.open(&call)
    }

    /// A step with its item in place; hooks are left alone.
    fn with_item(&self, step: &WorkflowStep, item: &Item) -> Result<WorkflowStep, String> {
        let bare = WorkflowStep {
            with_items: None,
            with_param: None,
            with_sequence: None,
            hooks: Default::default(),
            ..step.clone()
        };
        let value = serde_json::to_value(&bare).map_err(|e| e.to_string())?;
        if !tags::has_tags(&value) {
            return Ok(bare);
        }
        let value =
            tags::substitute_value(&value, &Scope::item(self, item), &Options { strict: &["item"], strict_all: false })
                .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())?;
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    fn finish_group(&mut self, ix: Ix, machine: &GroupMachine) {
        let failed: Vec<(usize, String, NodePhase)> = self.nodes.list[ix]
            .status
            .children
            .iter()
            .filter_map(|id| self.nodes.find(id))
            .map(|child| &self.nodes.list[child])
            .filter(|child| child.status.phase.is_fail_or_error() && child.hook_of.is_none())
            .map(|child| (child.slot, child.status.id.clone(), child.status.phase))
            .collect();
        if !machine.is_steps {
            let phase = failed.last().map_or(NodePhase::Succeeded, |(_, _, phase)| *phase);
            self.mark(ix, phase, None);
            return;
        }
        if let Some(message) = &machine.hook_fault {
            self.mark(ix, NodePhase::Error, Some(message));
            return;
        }
        let fatal = failed.iter().find(|(slot, _, phase)| {
            !machine.step(*slot).is_some_and(|s| continues_on(s.continue_on.as_ref(), *phase))
        });
        match fatal {
            Some((_, id, _)) => self.mark(ix, NodePhase::Failed, Some(&format!("child '{id}' failed"))),
            None => self.mark(ix, NodePhase::Succeeded, None),
        }
    }
}

/// Whether a failure of that kind counts as success.
pub(crate) fn continues_on(rule: Option<&windlass_model::template::ContinueOn>, phase: NodePhase) -> bool {
    rule.is_some_and(|r| match phase {
        NodePhase::Error => r.error,
        NodePhase::Failed => r.failed,
        _ => false,
    })
}
