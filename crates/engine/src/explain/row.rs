//! Why a node that has begun is as it is: from its row, its template and its siblings' rows.

use windlass_lang::depends::Outcome;
use windlass_model::template::{DagTask, WorkflowStep};
use windlass_model::{NodePhase, NodeStatus, NodeType, Template, labels};

use super::{Account, Look, Other, Reason, Term};
use crate::names;
use crate::node::dag::depends_of;
use crate::nodes::{Machine, is_hooked};

/// So many members are named.
const NAMED_MAX: usize = 10;

pub(super) fn other(row: &NodeStatus) -> Other {
    Other { name: row.display_name.clone(), phase: Some(row.phase), message: row.message.clone() }
}

impl Look<'_> {
    /// The lock that the workflow waits for as a whole.
    pub(super) fn workflow_lock(&self) -> Option<String> {
        let waiting = self.stored.synchronization.as_ref()?;
        let lists = ["mutex", "semaphore"].into_iter().filter_map(|kind| waiting[kind]["waiting"].as_array());
        let own = lists.flatten().find(|w| {
            let holder = w["holder"].as_str().unwrap_or_default();
            holder.is_empty() || holder.ends_with(self.run.name())
        })?;
        let node_waits = self.stored.nodes.values().any(|n| n.synchronization_status.is_some());
        let name = own["mutex"].as_str().or_else(|| own["semaphore"].as_str())?;
        (!node_waits && !self.stored.phase.is_completed()).then(|| name.to_owned())
    }

    pub(super) fn row(&self, row: &NodeStatus) -> Account {
        let mut reasons = Vec::new();
        if row.failed_pod_restarts.is_some_and(|n| n > 0) {
            reasons.push(Reason::Lost { times: row.failed_pod_restarts.unwrap_or(0) });
        }
        if row.memoization_status.as_ref().is_some_and(|m| m["hit"] == true) {
            reasons.push(Reason::Remembered);
        }
        match row.phase {
            NodePhase::Omitted => reasons.extend(self.omitted(row)),
            NodePhase::Skipped => reasons.extend(self.skipped(row)),
            NodePhase::Failed | NodePhase::Error => self.failed(row, &mut reasons),
            NodePhase::Succeeded if row.type_ == NodeType::Retry => reasons.extend(self.attempts(row)),
            NodePhase::Succeeded => {}
            NodePhase::Pending | NodePhase::Running | NodePhase::Unknown => self.open(row, &mut reasons),
        }
        Account {
            name: row.name.clone(),
            display_name: row.display_name.clone(),
            kind: Some(row.type_),
            phase: Some(row.phase),
            reasons,
        }
    }

    /// The template around a node, as it is written.
    fn around(&self, row: &NodeStatus) -> Option<(&NodeStatus, std::sync::Arc<Template>)> {
        let boundary = self.stored.nodes.get(row.boundary_id.as_ref()?)?;
        let template = self.run.written_template(boundary).or_else(|| self.run.template_of(&boundary.id))?;
        Some((boundary, template))
    }

    fn omitted(&self, row: &NodeStatus) -> Option<Reason> {
        let (boundary, template) = self.around(row)?;
        let task = task_of(&template, &row.display_name)?;
        let (depends, terms) = self.terms(boundary, &template, task)?;
        Some(Reason::DependsFalse { depends, terms })
    }

    /// A task's condition, part by part.
    pub(super) fn terms(
        &self,
        boundary: &NodeStatus,
        template: &Template,
        task: &DagTask,
    ) -> Option<(String, Vec<Term>)> {
        let depends = depends_of(task).ok()?;
        let terms = depends
            .references()
            .iter()
            .map(|reference| {
                let row = self.task_row(boundary, &reference.task);
                let word = reference.outcome.and_then(|o| Outcome::ALL.iter().find(|(x, _)| *x == o)).map(|(_, w)| w);
                let named = task_of(template, &reference.task);
                let holds = row.and_then(|r| self.run.nodes.find(&r.id)).is_some_and(|ix| {
                    self.run.outcome_holds(ix, named.and_then(|t| t.continue_on.as_ref()), reference.outcome)
                });
                let reference = match word {
                    Some(word) => format!("{}.{word}", reference.task),
                    None => reference.task.clone(),
                };
                Term { reference, phase: row.map(|r| r.phase), holds }
            })
            .collect();
        Some((written_depends(task), terms))
    }

    pub(super) fn task_row(&self, boundary: &NodeStatus, task: &str) -> Option<&NodeStatus> {
        let id = names::node_id(self.run.name(), &format!("{}.{task}", boundary.name));
        self.stored.nodes.get(&id)
    }

    fn skipped(&self, row: &NodeStatus) -> Option<Reason> {
        let message = row.message.as_deref().unwrap_or_default();
        let around = self.around(row).map(|(_, template)| template);
        let name = row.display_name.split('(').next().unwrap_or_default();
        let step = around.as_deref().and_then(|t| step_of(t, name));
        if let Some(evaluated) = message.strip_prefix("when '").and_then(|m| m.strip_suffix("' evaluated false")) {
            let written = step.and_then(|s| s.when);
            return Some(Reason::WhenFalse { written, evaluated: evaluated.to_owned() });
        }
        if message.contains("empty params") {
            let written = step.and_then(|s| s.with_param.map(|p| p.0));
            return Some(Reason::EmptyLoop { written });
        }
        None
    }

    fn failed(&self, row: &NodeStatus, reasons: &mut Vec<Reason>) {
        if row.type_ == NodeType::Retry {
            reasons.extend(self.attempts(row));
            return;
        }
        let members = self.members(row, |n| n.phase.is_fail_or_error());
        if !members.is_empty() {
            let members = members.into_iter().take(NAMED_MAX).map(other).collect();
            reasons.push(Reason::FailedMembers { members });
        } else {
            let exit_code = row.outputs.as_ref().and_then(|o| o.exit_code.clone());
            reasons.push(Reason::Failed { message: row.message.clone(), exit_code });
        }
    }

    /// What a node is made of, as far as it has begun.
    fn members(&self, row: &NodeStatus, keep: impl Fn(&NodeStatus) -> bool) -> Vec<&NodeStatus> {
        let keep = |n: &&NodeStatus| keep(n) && !is_hooked(n);
        let mut found: Vec<&NodeStatus> = match row.type_ {
            // The members of groups have the node around the group as theirs, and name the group as who they follow.
            NodeType::StepGroup | NodeType::TaskGroup => {
                let children = row.children.iter().filter_map(|id| self.stored.nodes.get(id));
                children.filter(|n| n.boundary_id == row.boundary_id).filter(keep).collect()
            }
            NodeType::Steps | NodeType::Dag | NodeType::Pod => {
                let inner = self.stored.nodes.values().filter(|n| n.boundary_id.as_ref() == Some(&row.id));
                let grouped: Vec<&str> = self
                    .stored
                    .nodes
                    .values()
                    .filter(|n| n.boundary_id.as_ref() == Some(&row.id) && n.type_ == NodeType::TaskGroup)
                    .flat_map(|n| n.children.iter().map(String::as_str))
                    .collect();
                let attempt = |n: &NodeStatus| n.node_flag.as_ref().is_some_and(|f| f.retried);
                let inner = inner
                    .filter(|n| n.type_ != NodeType::StepGroup && !attempt(n) && !grouped.contains(&n.id.as_str()));
                inner.filter(keep).collect()
            }
            _ => Vec::new(),
        };
        found.sort_by(|a, b| (a.started_at, &a.name).cmp(&(b.started_at, &b.name)));
        found
    }

    fn made(&self, row: &NodeStatus) -> Vec<Other> {
        let attempts = row.children.iter().filter_map(|id| self.stored.nodes.get(id));
        attempts.filter(|n| n.node_flag.as_ref().is_some_and(|f| f.retried)).map(other).collect()
    }

    fn attempts(&self, row: &NodeStatus) -> Option<Reason> {
        let attempts = self.made(row);
        if attempts.len() < 2 && row.phase == NodePhase::Succeeded {
            return None;
        }
        let template = self.run.written_template(row);
        let strategy = template.as_ref().and_then(|t| t.retry_strategy.clone());
        let strategy = strategy.or_else(|| self.run.spec.retry_strategy.clone()).unwrap_or_default();
        let default = if strategy.expression.is_some() { "Always" } else { "OnFailure" };
        Some(Reason::Attempts {
            attempts,
            limit: strategy.limit.as_ref().map(ToString::to_string),
            policy: strategy.retry_policy.clone().unwrap_or_else(|| default.to_owned()),
            verdict: row.message.clone().filter(|m| row.phase.is_fail_or_error() && !m.is_empty()),
        })
    }

    fn open(&self, row: &NodeStatus, reasons: &mut Vec<Reason>) {
        if let Some(name) = row.synchronization_status.as_ref().and_then(|s| s.waiting.clone()) {
            reasons.push(Reason::Lock { name });
        }
        let ix = self.run.nodes.find(&row.id);
        let wake = ix.and_then(|ix| self.run.wake_of(ix));
        match row.type_ {
            NodeType::Suspend => {
                let asked = row.outputs.iter().flat_map(|o| &o.parameters).filter(|p| p.value.is_none());
                reasons.push(Reason::Suspended { until: wake, asks: asked.map(|p| p.name.clone()).collect() });
            }
            NodeType::Retry => {
                let attempts = self.made(row);
                let open = attempts.iter().any(|a| a.phase.is_some_and(|p| !p.is_fulfilled()));
                if !open && wake.is_some() {
                    reasons.push(Reason::Backoff { until: wake, attempts });
                } else if !open && let Some(ix) = ix.filter(|ix| self.run.blocked.contains(ix)) {
                    reasons.extend(self.run.no_place(ix, self.run.nodes.list[ix].boundary));
                } else if !attempts.is_empty() {
                    let count = attempts.len();
                    reasons.push(Reason::Open { members: attempts.into_iter().rev().take(1).collect(), count: 1 });
                    if count > 1 {
                        reasons.extend(self.attempts(row));
                    }
                }
            }
            // Whoever waits for a lock has no pod to tell of.
            NodeType::Pod | NodeType::Http | NodeType::Plugin
                if reasons.iter().any(|r| matches!(r, Reason::Lock { .. })) => {}
            NodeType::Pod | NodeType::Http | NodeType::Plugin => reasons.push(self.pod(row)),
            NodeType::Steps | NodeType::Dag | NodeType::StepGroup | NodeType::TaskGroup => {
                let open = self.members(row, |n| !n.is_fulfilled());
                let count = open.len();
                if count > 0 {
                    reasons
                        .push(Reason::Open { members: open.into_iter().take(NAMED_MAX).map(other).collect(), count });
                }
                if let Some(ix) = ix
                    && let Machine::Group(group) = &self.run.nodes.list[ix].machine
                    && group.left() > 0
                {
                    reasons.push(Reason::MembersLeft { count: group.left() });
                    reasons.extend(self.run.no_place(ix, self.run.nodes.list[ix].boundary));
                }
            }
            _ => {}
        }
    }

    fn pod(&self, row: &NodeStatus) -> Reason {
        let found = self.pods.iter().find(|p| p["metadata"]["annotations"][labels::NODE_ID] == row.id.as_str());
        let template = row.template_ref.as_ref().map(|r| r.template.as_str()).or(row.template_name.as_deref());
        let named = || names::pod_name(self.run.name(), &row.name, template.unwrap_or_default());
        let pod = found.and_then(|p| p["metadata"]["name"].as_str()).map_or_else(named, str::to_owned);
        if row.phase == NodePhase::Running {
            return Reason::PodRuns {
                pod,
                host: row.host_node_name.clone(),
                since: row.started_at.map(|t| t.0),
                daemon: row.daemoned == Some(true),
            };
        }
        let seen = found.map(crate::pod_outcome::pending_message).filter(|m| !m.is_empty());
        let message = seen.or_else(|| row.message.clone()).filter(|m| !m.is_empty());
        Reason::PodPending { pod, created: found.is_some(), message }
    }
}

/// The condition of a task in words of `depends`.
pub(super) fn written_depends(task: &DagTask) -> String {
    match task.depends.as_deref().filter(|d| !d.trim().is_empty()) {
        Some(text) => text.trim().to_owned(),
        None => task.dependencies.iter().flatten().cloned().collect::<Vec<_>>().join(" && "),
    }
}

pub(super) fn task_of<'t>(template: &'t Template, name: &str) -> Option<&'t DagTask> {
    template.dag.as_ref()?.tasks.iter().find(|t| t.name == name)
}

/// What a step or task says of when it runs.
struct Written {
    when: Option<String>,
    with_param: Option<windlass_model::AnyString>,
}

fn step_of(template: &Template, name: &str) -> Option<Written> {
    let steps: Option<&WorkflowStep> = template.steps.iter().flatten().flat_map(|g| &g.0).find(|s| s.name == name);
    if let Some(step) = steps {
        return Some(Written { when: step.when.clone(), with_param: step.with_param.clone() });
    }
    task_of(template, name).map(|t| Written { when: t.when.clone(), with_param: t.with_param.clone() })
}
