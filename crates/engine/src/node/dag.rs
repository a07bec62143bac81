//! A dag node: tasks by dependency. Each task that settles is told to the tasks that name it, and to nobody else.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | Running | all tasks that a task names have settled, its `depends` holds | Running | the task begins |
//! | Running | … and its `depends` does not hold | Running | the task is Omitted |
//! | Running | every wanted task has settled, targets are well | Succeeded | outputs are taken, else Error |
//! | Running | every wanted task has settled, a target is not | Failed, Error | omitted counts as what it hangs from |

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use windlass_lang::depends::{Depends, Outcome};
use windlass_model::parameter::Inputs;
use windlass_model::status::NodeFlag;
use windlass_model::template::{Dag, DagTask, WorkflowStep};
use windlass_model::{Arguments, NodePhase, NodeType, Template};

use crate::calls::{Ready, ready};
use crate::loops::has_loop;
use crate::names;
use crate::node::group::{GroupMachine, continues_on};
use crate::nodes::{Call, Ix, Machine, is_hooked};
use crate::opening::Opened;
use crate::run::Run;
use crate::scope::Scope;
use crate::templates::target;

/// One task and its place among the others.
#[derive(Debug)]
struct Task {
    step: Arc<WorkflowStep>,
    depends: Result<Depends, String>,
    deps: Vec<usize>,
    dependents: Vec<usize>,
    /// Named tasks that have not settled.
    open_deps: usize,
    wanted: bool,
    settled: bool,
    node: Option<Ix>,
    resolved: Option<Arc<Ready>>,
}

/// A loop after which nothing can begin, and why.
#[derive(Debug)]
struct Faulty {
    slot: usize,
    message: String,
    /// Whether the dag's own outputs cannot be taken either: its results are no list.
    for_outputs: bool,
}

/// What a dag knows of its tasks.
#[derive(Debug, Default)]
pub(crate) struct DagMachine {
    tasks: Vec<Task>,
    targets: Vec<usize>,
    /// Tasks whose dependencies have all settled, by their turns: the first goes first.
    ready: BinaryHeap<Reverse<usize>>,
    /// The wanted tasks in the order in which they have their turns, and the turn of each.
    turns: Vec<usize>,
    turn_of: Vec<usize>,
    /// Wanted tasks that have not settled.
    open: usize,
    /// Tasks that settled since this was looked at.
    pub(crate) settled: Vec<usize>,
    by_name: HashMap<String, usize>,
    /// Loops after which nothing can begin.
    faulty: Vec<Faulty>,
}

/// The names of a dag's targets: those it says, or every task that no other names, sorted.
pub(crate) fn targets(dag: &Dag) -> Vec<String> {
    if let Some(target) = dag.target.as_deref().filter(|t| !t.trim().is_empty()) {
        return target.split_whitespace().map(str::to_owned).collect();
    }
    let mut named: Vec<String> = Vec::new();
    for task in &dag.tasks {
        if let Ok(depends) = depends_of(task) {
            named.extend(depends.tasks().into_iter().map(str::to_owned));
        }
    }
    let named: std::collections::HashSet<String> = named.into_iter().collect();
    let mut leaves: Vec<String> = dag.tasks.iter().map(|t| t.name.clone()).filter(|n| !named.contains(n)).collect();
    leaves.sort();
    leaves
}

pub(crate) fn depends_of(task: &DagTask) -> Result<Depends, String> {
    match task.depends.as_deref().filter(|d| !d.trim().is_empty()) {
        Some(text) => Depends::parse(text).map_err(|fault| fault.message),
        None => Ok(Depends::all(task.dependencies.iter().flatten().map(String::as_str))),
    }
}

fn step_of(task: &DagTask) -> WorkflowStep {
    WorkflowStep {
        name: task.name.clone(),
        template: task.template.clone(),
        template_ref: task.template_ref.clone(),
        inline: task.inline.clone(),
        arguments: task.arguments.clone(),
        when: task.when.clone(),
        with_items: task.with_items.clone(),
        with_param: task.with_param.clone(),
        with_sequence: task.with_sequence.clone(),
        continue_on: task.continue_on.clone(),
        on_exit: task.on_exit.clone(),
        hooks: task.hooks.clone(),
    }
}

impl DagMachine {
    fn new(dag: &Dag) -> Result<Self, String> {
        let by_name: HashMap<&str, usize> = dag.tasks.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let mut tasks: Vec<Task> = Vec::with_capacity(dag.tasks.len());
        for task in &dag.tasks {
            let depends = depends_of(task);
            let mut deps = Vec::new();
            for name in depends.iter().flat_map(|d| d.tasks()) {
                match by_name.get(name) {
                    Some(dep) => deps.push(*dep),
                    None => {
                        return Err(format!(
                            "task '{}' depends on '{name}', which is not a task of this dag",
                            task.name
                        ));
                    }
                }
            }
            tasks.push(Task {
                step: Arc::new(step_of(task)),
                depends,
                open_deps: deps.len(),
                deps,
                dependents: Vec::new(),
                wanted: false,
                settled: false,
                node: None,
                resolved: None,
            });
        }
        for i in 0..tasks.len() {
            for dep in tasks[i].deps.clone() {
                tasks[dep].dependents.push(i);
            }
        }
        let names = by_name.iter().map(|(name, slot)| ((*name).to_owned(), *slot)).collect();
        let mut this = Self { tasks, by_name: names, ..Self::default() };
        for name in targets(dag) {
            match by_name.get(name.as_str()) {
                Some(i) => this.targets.push(*i),
                None => return Err(format!("target '{name}' is not a task of this dag")),
            }
        }
        // As Argo walks: target after target, and before each task what it depends on.
        this.turn_of = vec![0; this.tasks.len()];
        for target in this.targets.clone() {
            let mut path = vec![(target, 0)];
            while let Some((i, next)) = path.pop() {
                if next == 0 && std::mem::replace(&mut this.tasks[i].wanted, true) {
                    continue;
                }
                if let Some(dep) = this.tasks[i].deps.get(next) {
                    path.extend([(i, next + 1), (*dep, 0)]);
                } else {
                    this.turn_of[i] = this.turns.len();
                    this.turns.push(i);
                }
            }
        }
        this.open = this.turns.len();
        let ready = (0..this.turns.len()).filter(|turn| this.tasks[this.turns[*turn]].open_deps == 0);
        this.ready = ready.map(Reverse).collect();
        Ok(this)
    }

    /// Whether a task comes after another, however far.
    fn hangs_from(&self, task: usize, other: usize) -> bool {
        let (mut seen, mut next) = (vec![false; self.tasks.len()], vec![task]);
        while let Some(slot) = next.pop() {
            for dep in &self.tasks[slot].deps {
                if *dep == other {
                    return true;
                }
                if !std::mem::replace(&mut seen[*dep], true) {
                    next.push(*dep);
                }
            }
        }
        false
    }

    /// Whether the dag ends with this task.
    pub(crate) fn is_target(&self, slot: usize) -> bool {
        self.targets.contains(&slot)
    }

    /// The step of a task: with references replaced once it has begun.
    pub(crate) fn step(&self, slot: usize) -> Option<&WorkflowStep> {
        self.tasks.get(slot).map(|t| t.resolved.as_ref().map_or(&*t.step, |r| &r.step))
    }
}

impl Run {
    pub(crate) fn begin_dag(&mut self, ix: Ix, template: &Template, inputs: &Inputs) {
        let begun = self.processed(ix, template, inputs).and_then(|template| {
            let machine = DagMachine::new(template.dag.as_ref().unwrap_or(&Dag::default()))?;
            Ok((template, machine))
        });
        match begun {
            Ok((template, machine)) => {
                self.nodes.list[ix].template = Some(Arc::new(template));
                self.nodes.list[ix].machine = Machine::Dag(Box::new(machine));
                self.enqueue(ix);
            }
            Err(message) => self.mark(ix, NodePhase::Error, Some(&message)),
        }
    }

    pub(crate) fn look_at_dag(&mut self, ix: Ix, machine: &mut DagMachine) {
        loop {
            for slot in std::mem::take(&mut machine.settled) {
                if std::mem::replace(&mut machine.tasks[slot].settled, true) {
                    continue;
                }
                machine.open -= usize::from(machine.tasks[slot].wanted);
                if has_loop(&machine.tasks[slot].step) {
                    let name = &machine.tasks[slot].step.name;
                    if let Some(message) = self.nameless_loop(ix, name) {
                        machine.faulty.push(Faulty { slot, message, for_outputs: false });
                    } else if let Some(message) = self.loop_fault(ix, name) {
                        machine.faulty.push(Faulty { slot, message, for_outputs: true });
                    }
                }
                for dependent in machine.tasks[slot].dependents.clone() {
                    let task = &mut machine.tasks[dependent];
                    task.open_deps -= 1;
                    if task.open_deps == 0 && task.wanted {
                        machine.ready.push(Reverse(machine.turn_of[dependent]));
                    }
                }
            }
            let Some(Reverse(turn)) = machine.ready.pop() else { break };
            if !self.begin_task(ix, machine, machine.turns[turn]) {
                machine.ready.push(Reverse(turn));
                break;
            }
            if self.nodes.list[ix].status.phase.is_fulfilled() {
                return;
            }
        }
        // Hooks that began after their task was settled hold the dag too.
        if machine.open == 0 && self.nodes.list[ix].unsettled == 0 {
            self.finish_dag(ix, machine);
        }
    }

    /// Begins a task; false when it must wait for a place.
    fn begin_task(&mut self, dag: Ix, machine: &mut DagMachine, slot: usize) -> bool {
        let node = &self.nodes.list[dag];
        let step = machine.tasks[slot].step.clone();
        let mut call = Call {
            name: format!("{}.{}", node.status.name, step.name),
            target: target(&step.template, &step.template_ref, step.inline.as_deref()),
            arguments: Arguments::default(),
            absent: Vec::new(),
            parent: Some(dag),
            boundary: Some(dag),
            scope: node.inner_scope.clone(),
            slot,
            on_exit: node.on_exit,
            flag: None,
            depth: node.depth + 1,
        };
        // What has begun is not asked again: a daemon that held then may have ended since.
        let existing = self.find_call(&call);
        if existing.is_some_and(|ix| self.nodes.list[ix].status.phase.is_fulfilled()) {
            if let Opened::Node { ix, .. } = self.open(&call) {
                machine.tasks[slot].node = Some(ix);
            }
            return true;
        }
        let holds = match &machine.tasks[slot].depends {
            _ if existing.is_some() => Ok(true),
            Err(message) => Err(message.clone()),
            Ok(depends) => {
                Ok(depends.evaluate(|reference| self.task_outcome(machine, &reference.task, reference.outcome)))
            }
        };
        // What keeps a task from being called is said as it is; what the call itself says, with the task's name.
        let mut called = false;
        let opened = match holds {
            Err(message) => self.open_failed(&call, message),
            Ok(false) => self.open_skipped(&call, NodePhase::Omitted, "omitted: depends condition not met"),
            Ok(true) => self.begin_ready_task(dag, machine, slot, &mut call, &mut called),
        };
        match opened {
            Opened::Node { ix, new } => {
                if new {
                    self.connect_task(dag, machine, slot, ix);
                }
                machine.tasks[slot].node = Some(ix);
                if !machine.tasks[slot].step.hooks.is_empty() {
                    self.tell_progress(dag, ix);
                }
                true
            }
            Opened::Failed { ix, new, message } => {
                if new {
                    self.connect_task(dag, machine, slot, ix);
                }
                machine.tasks[slot].node = Some(ix);
                if called {
                    self.member_errored(dag, ix, false, &message);
                }
                true
            }
            Opened::Blocked | Opened::Waiting => false,
        }
    }

    fn find_call(&self, call: &Call) -> Option<Ix> {
        self.nodes.find(&names::node_id(self.workflow_name(), &call.name))
    }

    fn begin_ready_task(
        &mut self,
        dag: Ix,
        machine: &mut DagMachine,
        slot: usize,
        call: &mut Call,
        called: &mut bool,
    ) -> Opened {
        if let Some(faulty) = machine.faulty.iter().find(|faulty| machine.hangs_from(slot, faulty.slot)) {
            return self.open_failed(call, faulty.message.clone());
        }
        let inputs = self.nodes.list[dag].status.inputs.clone();
        let scope =
            Scope { run: self, boundary: Some(dag), inputs: inputs.as_ref(), locals: &[], globals: true, item: None };
        let begun = self.find_call(call).is_some();
        let step = machine.tasks[slot].step.clone();
        let step = if begun { Arc::new(WorkflowStep { when: None, ..(*step).clone() }) } else { step };
        let resolved = match ready(&step, &scope, true) {
            Ok(resolved) => resolved,
            Err(message) => return self.open_failed(call, message),
        };
        machine.tasks[slot].resolved = Some(Arc::new(resolved.clone()));
        call.target = target(&resolved.step.template, &resolved.step.template_ref, resolved.step.inline.as_deref());
        if let Some(when) = resolved.skipped.as_ref().filter(|_| !has_loop(&resolved.step)) {
            return self.open_skipped(call, NodePhase::Skipped, &format!("when '{when}' evaluated false"));
        }
        if !crate::loops::has_loop(&resolved.step) {
            if let Some(when) = resolved.step.when.as_deref().filter(|w| !w.is_empty()) {
                // It names an item, but there is no loop.
                match crate::calls::when_holds(when) {
                    Ok(true) => {}
                    Ok(false) => {
                        return self.open_skipped(call, NodePhase::Skipped, &format!("when '{when}' evaluated false"));
                    }
                    Err(message) => return self.open_failed(call, message),
                }
            }
            call.arguments = resolved.step.arguments.clone();
            call.absent = resolved.absent.clone();
            *called = true;
            return self.open(call);
        }
        let items = match crate::loops::items(&resolved.step) {
            Ok(items) => items,
            // A `when` that is false hides a loop that cannot be unrolled.
            Err(_) if resolved.skipped.is_some() => Vec::new(),
            Err(message) => return self.open_failed(call, message),
        };
        if items.is_empty() {
            return self.open_skipped(call, NodePhase::Skipped, "Skipped, empty params");
        }
        let existing = self.find_call(call);
        if existing.is_none()
            && resolved.skipped.is_none()
            && let Some(item) = items.first()
            && let Err(message) = self.check_tags(&resolved.step, dag, item)
        {
            return self.open_failed(call, message);
        }
        call.flag = Some(NodeFlag::default());
        let ix = match existing {
            Some(ix) => ix,
            None => {
                let row = self.row(call, NodeType::TaskGroup, NodePhase::Running);
                let ix = self.nodes.insert(row);
                self.touch(ix);
                ix
            }
        };
        if self.nodes.list[ix].attached {
            return Opened::Node { ix, new: false };
        }
        self.attach(ix, call);
        if self.nodes.list[ix].status.phase.is_fulfilled() {
            self.tell_parent(ix);
        } else {
            self.nodes.list[ix].inner_scope = call.scope.clone();
            self.nodes.list[ix].machine = Machine::Group(Box::new(GroupMachine::items(dag, resolved, items)));
            self.enqueue(ix);
        }
        Opened::Node { ix, new: existing.is_none() }
    }

    /// Hangs a task after the last nodes of those it depends on.
    fn connect_task(&mut self, dag: Ix, machine: &DagMachine, slot: usize, ix: Ix) {
        let deps = &machine.tasks[slot].deps;
        if deps.is_empty() {
            let id = self.nodes.list[dag].status.id.clone();
            self.connect(&id, ix);
            return;
        }
        let mut before: Vec<String> = Vec::new();
        for dep in deps {
            if let Some(dep) = machine.tasks[*dep].node {
                before.extend(self.nodes.outbound(dep));
            }
        }
        let mut seen = std::collections::HashSet::new();
        before.retain(|id| seen.insert(id.clone()));
        for id in before {
            self.connect(&id, ix);
        }
    }

    fn task_outcome(&self, machine: &DagMachine, name: &str, outcome: Option<Outcome>) -> bool {
        let Some(task) = machine.by_name.get(name).map(|slot| &machine.tasks[*slot]) else { return false };
        let Some(ix) = task.node else { return false };
        self.outcome_holds(ix, task.step.continue_on.as_ref(), outcome)
    }

    /// Whether a task ended as a part of some `depends` asks.
    pub(crate) fn outcome_holds(
        &self,
        ix: Ix,
        continue_on: Option<&windlass_model::template::ContinueOn>,
        outcome: Option<Outcome>,
    ) -> bool {
        let status = &self.nodes.list[ix].status;
        let daemoned = status.daemoned == Some(true) && status.phase != NodePhase::Pending;
        let items = || {
            status
                .children
                .iter()
                .filter_map(|id| self.nodes.find(id))
                .map(|c| &self.nodes.list[c])
                .filter(|c| c.hook_of.is_none() && c.status.name.starts_with(&format!("{}(", status.name)))
        };
        match outcome {
            None => {
                matches!(status.phase, NodePhase::Succeeded | NodePhase::Skipped)
                    || daemoned
                    || continues_on(continue_on, status.phase)
            }
            Some(Outcome::Succeeded) => status.phase == NodePhase::Succeeded,
            Some(Outcome::Failed) => status.phase == NodePhase::Failed,
            Some(Outcome::Errored) => status.phase == NodePhase::Error,
            Some(Outcome::Skipped) => status.phase == NodePhase::Skipped,
            Some(Outcome::Omitted) => status.phase == NodePhase::Omitted,
            Some(Outcome::Daemoned) => daemoned,
            Some(Outcome::AnySucceeded) => {
                status.type_ == NodeType::TaskGroup && items().any(|c| c.status.phase == NodePhase::Succeeded)
            }
            Some(Outcome::AllFailed) => {
                status.type_ == NodeType::TaskGroup
                    && items().next().is_some()
                    && items().all(|c| c.status.phase == NodePhase::Failed)
            }
        }
    }

    fn finish_dag(&mut self, ix: Ix, machine: &DagMachine) {
        let after_faulty =
            |faulty: &&Faulty| machine.targets.iter().any(|target| machine.hangs_from(*target, faulty.slot));
        if let Some(faulty) = machine.faulty.iter().find(after_faulty) {
            self.cannot_go_on(ix, &faulty.message);
            return;
        }
        let Some(phases) = self.branch_phases(ix, machine) else {
            // What a step group left behind when it ended early still runs.
            self.lingering.push(ix);
            return;
        };
        let dag = self.nodes.list[ix].template.as_ref().and_then(|template| template.dag.as_ref());
        // Without it the last target that went wrong counts, and not the first.
        let fail_fast = dag.and_then(|dag| dag.fail_fast) != Some(false);
        let mut phase = NodePhase::Succeeded;
        for target in &machine.targets {
            let task = &machine.tasks[*target];
            let of_target = task.node.and_then(|node| phases.get(&node)).copied().unwrap_or(NodePhase::Succeeded);
            if of_target.is_fail_or_error() && !continues_on(task.step.continue_on.as_ref(), of_target) {
                phase = of_target;
                if fail_fast {
                    break;
                }
            }
        }
        if phase == NodePhase::Succeeded && self.shutdown.is_some() && !self.nodes.list[ix].on_exit {
            phase = NodePhase::Failed;
        }
        if phase.is_fail_or_error() {
            self.set_outbound(ix);
            self.mark(ix, phase, None);
        } else if let Some(faulty) = machine.faulty.iter().find(|faulty| faulty.for_outputs) {
            self.cannot_go_on(ix, &faulty.message);
        } else {
            self.finish_boundary(ix);
        }
    }

    /// To its parent this is a call that went wrong, as one that could not begin is.
    fn cannot_go_on(&mut self, ix: Ix, message: &str) {
        self.nodes.list[ix].refused = true;
        self.mark(ix, NodePhase::Error, Some(message));
    }

    /// The phase of each target; for one that did not run, that of the branches it hangs from, failures first.
    ///
    /// A branch is a way through the nodes' children, as in Argo: what is omitted after a failed steps task hangs from
    /// that task's last nodes, and those may have succeeded. Nothing while a node on such a way has not ended, unless
    /// the run is stopped.
    fn branch_phases(&self, dag: Ix, machine: &DagMachine) -> Option<HashMap<Ix, NodePhase>> {
        let mut phases: HashMap<Ix, NodePhase> = HashMap::new();
        let targets: std::collections::HashSet<Ix> =
            machine.targets.iter().filter_map(|t| machine.tasks[*t].node).collect();
        let mut seen = std::collections::HashSet::new();
        let find = |id: &String| self.nodes.find(id);
        let mut queue: std::collections::VecDeque<(Ix, NodePhase)> =
            self.nodes.list[dag].status.children.iter().filter_map(find).map(|c| (c, NodePhase::Succeeded)).collect();
        while let Some((ix, mut phase)) = queue.pop_front() {
            if !seen.insert((ix, phase)) {
                continue;
            }
            let status = &self.nodes.list[ix].status;
            if !status.is_fulfilled() && self.shutdown.is_none() && self.nodes.is_followed(ix) {
                return None;
            }
            if status.phase.is_completed() {
                phase = status.phase;
            }
            if targets.contains(&ix) {
                let known = phases.entry(ix).or_insert(phase);
                if !known.is_fail_or_error() {
                    *known = phase;
                }
            }
            if status.type_ != NodeType::Retry {
                queue.extend(status.children.iter().filter_map(find).map(|c| (c, phase)));
                continue;
            }
            // The single tries do not count: what hangs from them does.
            for child in status.children.iter().filter_map(find) {
                if is_hooked(&self.nodes.list[child].status) {
                    queue.push_back((child, phase));
                } else {
                    let of_try = &self.nodes.list[child].status.children;
                    queue.extend(of_try.iter().filter_map(find).map(|c| (c, phase)));
                }
            }
        }
        Some(phases)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_argos() {
        let turns = |dag: serde_json::Value| {
            let dag: Dag = serde_json::from_value(dag).unwrap();
            let machine = DagMachine::new(&dag).unwrap();
            let all: Vec<&str> = machine.turns.iter().map(|slot| dag.tasks[*slot].name.as_str()).collect();
            let ready = machine.ready.clone().into_sorted_vec();
            let first: Vec<&str> = ready.iter().rev().map(|r| all[r.0]).collect();
            format!("{} | {}", all.join(" "), first.join(" "))
        };
        let task = |name: &str, depends: &str| serde_json::json!({"name": name, "template": "t", "depends": depends});
        // Tasks that nobody names have their turns by their names, not by where they stand.
        let flat = [task("push", ""), task("delete", ""), task("c", "")];
        assert_eq!(turns(serde_json::json!({"tasks": flat})), "c delete push | c delete push");
        let diamond =
            [task("d", "c && b"), task("a", ""), task("b", "a"), task("c", "a"), task("e", ""), task("0", "e")];
        assert_eq!(turns(serde_json::json!({"tasks": diamond})), "e 0 a c b d | e a");
        // Targets in their own order, and only what they need.
        assert_eq!(turns(serde_json::json!({"target": "push c", "tasks": flat})), "push c | push c");
    }
}
