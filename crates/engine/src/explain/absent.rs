//! Why a step or task has not begun: what its template says comes before it, or who has taken its place.

use std::collections::BTreeSet;

use windlass_model::{NodePhase, NodeStatus, NodeType, Template};

use super::row::{other, task_of, written_depends};
use super::{Account, Look, Other, Reason};
use crate::names;
use crate::node::dag::{depends_of, targets};
use crate::nodes::Ix;
use crate::run::Run;

impl Look<'_> {
    /// The members of a steps or dag node that have no row.
    pub(super) fn absent(&self, row: &NodeStatus) -> Vec<Account> {
        if !matches!(row.type_, NodeType::Steps | NodeType::Dag) {
            return Vec::new();
        }
        let Some(template) = self.run.template_of(&row.id) else { return Vec::new() };
        match row.type_ {
            NodeType::Dag => self.absent_tasks(row, &template),
            _ => self.absent_steps(row, &template),
        }
    }

    fn account(&self, around: &NodeStatus, name: &str, full: String, reasons: Vec<Reason>) -> Account {
        let reasons = match around.phase.is_fulfilled() {
            true => {
                let around_ended = Reason::AroundEnded { around: around.display_name.clone(), phase: around.phase };
                let kept = reasons.into_iter().filter(|r| matches!(r, Reason::NoTarget { .. }));
                let mut kept: Vec<Reason> = kept.collect();
                if kept.is_empty() {
                    kept.push(around_ended);
                }
                kept
            }
            false => reasons,
        };
        Account { name: full, display_name: name.to_owned(), kind: None, phase: None, reasons }
    }

    /// Why something whose turn has come has not begun.
    fn turn(&self, parent: Option<Ix>, boundary: Option<Ix>, full: &str) -> Vec<Reason> {
        let run = self.run;
        if run.nodes.find(&names::node_id(run.name(), full)).is_some() {
            return vec![Reason::Begins];
        }
        let Some(parent) = parent else { return vec![Reason::Begins] };
        if run.waiting.contains(&parent) {
            return vec![Reason::Asks];
        }
        match run.no_place(parent, boundary) {
            reasons if reasons.is_empty() => vec![Reason::Begins],
            reasons => reasons,
        }
    }

    fn absent_tasks(&self, row: &NodeStatus, template: &Template) -> Vec<Account> {
        let Some(dag) = &template.dag else { return Vec::new() };
        let wanted = wanted(template);
        let ix = self.run.nodes.find(&row.id);
        let mut out = Vec::new();
        for task in &dag.tasks {
            if self.task_row(row, &task.name).is_some() {
                continue;
            }
            let full = format!("{}.{}", row.name, task.name);
            if !wanted.contains(task.name.as_str()) {
                let target = dag.target.clone().unwrap_or_default();
                out.push(self.account(row, &task.name, full, vec![Reason::NoTarget { target }]));
                continue;
            }
            let Ok(depends) = depends_of(task) else { continue };
            let open: Vec<Other> = depends
                .tasks()
                .into_iter()
                .filter_map(|name| match self.task_row(row, name) {
                    Some(dep) if dep.is_fulfilled() => None,
                    Some(dep) => Some(other(dep)),
                    None => Some(Other { name: name.to_owned(), phase: None, message: None }),
                })
                .collect();
            let reasons = match open.is_empty() {
                true => self.turn(ix, ix, &full),
                false => vec![Reason::DependsOpen { depends: written_depends(task), open }],
            };
            out.push(self.account(row, &task.name, full, reasons));
        }
        out
    }

    fn absent_steps(&self, row: &NodeStatus, template: &Template) -> Vec<Account> {
        let mut out = Vec::new();
        let boundary = self.run.nodes.find(&row.id);
        let group_row = |number: usize| {
            let id = names::node_id(self.run.name(), &format!("{}[{number}]", row.name));
            self.stored.nodes.get(&id)
        };
        for (number, group) in template.steps.iter().flatten().enumerate() {
            for step in &group.0 {
                let full = format!("{}[{number}].{}", row.name, step.name);
                let item = format!("{full}(");
                if self.stored.nodes.values().any(|n| n.name == full || n.name.starts_with(&item)) {
                    continue;
                }
                let reasons = match group_row(number) {
                    Some(group) => self.turn(self.run.nodes.find(&group.id), boundary, &full),
                    None => match (0..number).rev().find_map(|n| group_row(n).map(|g| (n, g))) {
                        Some((before, group)) if !group.phase.is_fulfilled() => {
                            let members = group.children.iter().filter_map(|id| self.stored.nodes.get(id));
                            let open = members.filter(|n| !n.is_fulfilled()).map(other).collect();
                            vec![Reason::EarlierGroup { group: before, open }]
                        }
                        _ => vec![Reason::Begins],
                    },
                };
                out.push(self.account(row, &step.name, full, reasons));
            }
        }
        out
    }
}

/// The tasks on the way to a dag's targets.
fn wanted(template: &Template) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    let Some(dag) = &template.dag else { return wanted };
    let mut stack = targets(dag);
    while let Some(name) = stack.pop() {
        let Some(task) = task_of(template, &name) else { continue };
        if wanted.insert(name)
            && let Ok(depends) = depends_of(task)
        {
            stack.extend(depends.tasks().into_iter().map(str::to_owned));
        }
    }
    wanted
}

impl Run {
    /// Why a parent's next member has no place; nothing where it has one.
    pub(crate) fn no_place(&self, parent: Ix, boundary: Option<Ix>) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if !self.blocked.contains(&parent) {
            return reasons;
        }
        let around = boundary.map(|b| &self.nodes.list[b]);
        if self.suspend && !self.nodes.list[parent].on_exit {
            reasons.push(Reason::RunSuspended);
        }
        if let Some(limit) = self.spec.parallelism.filter(|p| *p > 0 && self.active_pods >= *p) {
            reasons.push(Reason::Parallelism { template: None, limit, active: self.active_pods });
        }
        if let Some(around) = around
            && let Some(template) = &around.template
        {
            if template.fail_fast == Some(true) && around.failed_members > 0 {
                reasons.push(Reason::FailFast);
            }
            if let Some(limit) = template.parallelism.filter(|p| *p > 0 && around.active >= *p) {
                let name = Some(template.name.clone());
                reasons.push(Reason::Parallelism { template: name, limit, active: around.active });
            }
        }
        reasons
    }
}

/// Whether a phase asks for words at all.
pub(super) fn is_telling(phase: Option<NodePhase>) -> bool {
    phase != Some(NodePhase::Succeeded)
}
