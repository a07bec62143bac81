//! Retrying a run that has ended: which rows go, which run again, which stay.
//!
//! | a node | is | and |
//! |---|---|---|
//! | that worked and failed, and nothing after it succeeded | removed, with all after it | its pod is deleted |
//! | that a selector names, with `restart_successful` | removed, with all after it | its pod is deleted |
//! | around a removed one: steps, group, dag, retry | Running again | without message and end |
//! | of the exit handler | removed | its pods are deleted |
//! | inside a group that runs again, with new parameters | removed | so that it is expanded anew |
//! | any other | as it is | without the edges to what was removed |

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use windlass_model::{NodePhase, NodeStatus, NodeType, Time, WorkflowPhase};

use super::{Selector, child, read, with_parameters};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    /// Also run again what succeeded and fits the selector.
    pub restart_successful: bool,
    /// Which nodes that is.
    pub selector: Selector,
    /// Arguments of the workflow, given anew.
    pub parameters: Vec<(String, String)>,
}

/// What is to be done, in this order: the pods deleted and gone, then the patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Retried {
    /// The names of pods that would be taken for those of the new attempt.
    pub pods: Vec<String>,
    /// The workflow's change.
    pub patch: Value,
}

/// Decides what a retry of a run comes to.
pub fn retry(workflow: &Value, how: &Retry, now: Timestamp) -> Result<Retried, String> {
    let (typed, status) = read(workflow)?;
    match status.phase {
        WorkflowPhase::Failed | WorkflowPhase::Error => {}
        WorkflowPhase::Succeeded if how.restart_successful && !how.selector.is_empty() => {}
        WorkflowPhase::Succeeded => {
            return Err("To retry a succeeded workflow, set the options restartSuccessful and nodeFieldSelector".into());
        }
        phase => return Err(format!("Cannot retry a workflow in phase {phase}")),
    }
    let name = typed.metadata.name.unwrap_or_default();
    let table = Table::new(&name, &status.nodes)?;
    let chosen = table.chosen(how);
    let (reset, mut removed) = table.fall_out(&chosen)?;
    if !how.parameters.is_empty() {
        for id in reset.difference(&removed.clone()) {
            if matches!(table.rows[id].type_, NodeType::TaskGroup | NodeType::StepGroup) {
                removed.extend(table.after(id));
            }
        }
    }
    let exit = format!("{name}.onExit");
    let is_exit = |row: &NodeStatus| row.name.starts_with(&exit);
    let mut pods = BTreeSet::new();
    let mut nodes = Map::new();
    for (id, row) in &status.nodes {
        if removed.contains(id) || is_exit(row) {
            if matches!(row.type_, NodeType::Pod | NodeType::Http | NodeType::Plugin) {
                let template = row.template_ref.as_ref().map(|r| r.template.as_str()).or(row.template_name.as_deref());
                pods.insert(crate::names::pod_name(&name, &row.name, template.unwrap_or_default()));
            }
            nodes.insert(id.clone(), Value::Null);
            continue;
        }
        let mut change = json!({});
        if reset.contains(id) {
            change = reset_row(row, &workflow["status"]["nodes"][id], now);
        }
        for (field, edges) in [("children", &row.children), ("outboundNodes", &row.outbound_nodes)] {
            if edges.iter().any(|to| removed.contains(to)) {
                change[field] = json!(edges.iter().filter(|to| !removed.contains(*to)).collect::<Vec<_>>());
            }
        }
        if change != json!({}) {
            nodes.insert(id.clone(), change);
        }
    }
    let mut patch = json!({
        "metadata": {"labels": {windlass_model::labels::COMPLETED: null, windlass_model::labels::ARCHIVING_STATUS: null}},
        "spec": {"shutdown": null},
        "status": {
            "phase": null, "message": null, "finishedAt": null, "persistentVolumeClaims": null,
            "startedAt": Time::from_timestamp(now), "nodes": nodes, "conditions": conditions(&workflow["status"]),
        },
    });
    let stored = &workflow["status"]["storedWorkflowTemplateSpec"];
    if stored.is_object() {
        patch["status"]["storedWorkflowTemplateSpec"] = json!({"shutdown": null});
    }
    if typed.spec.active_deadline_seconds == Some(0) {
        patch["spec"]["activeDeadlineSeconds"] = Value::Null;
    }
    if !how.parameters.is_empty() {
        let spec = &workflow["spec"];
        child(&mut patch["spec"], "arguments")
            .insert("parameters".to_owned(), with_parameters(&spec["arguments"], &how.parameters));
        if stored.is_object() {
            child(&mut patch["status"]["storedWorkflowTemplateSpec"], "arguments")
                .insert("parameters".to_owned(), with_parameters(&stored["arguments"], &how.parameters));
        }
    }
    Ok(Retried { pods: pods.into_iter().collect(), patch })
}

fn conditions(status: &Value) -> Value {
    let mut all = status["conditions"].as_array().cloned().unwrap_or_default();
    let not = json!({"type": "Completed", "status": "False"});
    match all.iter_mut().find(|c| c["type"] == "Completed") {
        Some(old) => *old = not,
        None => all.push(not),
    }
    Value::Array(all)
}

/// A row that runs again.
fn reset_row(row: &NodeStatus, raw: &Value, now: Timestamp) -> Value {
    // A skipped node stays one: nothing would ever end it again.
    let phase = if row.phase == NodePhase::Skipped { NodePhase::Skipped } else { NodePhase::Running };
    let mut change =
        json!({"phase": phase, "message": null, "startedAt": Time::from_timestamp(now), "finishedAt": null});
    let parameters = raw["outputs"]["parameters"].as_array().filter(|_| row.type_ == NodeType::Suspend);
    if let Some(parameters) = parameters {
        let asked = |p: &Value| json!({"name": p["name"], "valueFrom": {"supplied": {}}});
        change["outputs"] = json!({"parameters": parameters.iter().map(asked).collect::<Vec<_>>()});
    }
    change
}

/// The node table with its edges turned round.
struct Table<'a> {
    root: &'a str,
    rows: &'a BTreeMap<String, NodeStatus>,
    /// The one node before: where several are, the last in the order of ids.
    before: BTreeMap<&'a str, &'a str>,
}

impl<'a> Table<'a> {
    fn new(name: &'a str, rows: &'a BTreeMap<String, NodeStatus>) -> Result<Self, String> {
        let mut before = BTreeMap::new();
        for (id, row) in rows {
            for to in &row.children {
                if !rows.contains_key(to) {
                    return Err(format!("the node table names {to} after {id}, and there is no such node"));
                }
                before.insert(to.as_str(), id.as_str());
            }
        }
        let root = rows.values().find(|row| row.name == name).map(|row| row.id.as_str());
        let root = root.ok_or("the workflow ended before its first node; resubmit it instead")?;
        Ok(Self { root, rows, before })
    }

    /// All that comes after a node.
    fn after(&self, id: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut todo: Vec<&str> = vec![id];
        while let Some(at) = todo.pop() {
            for to in self.rows.get(at).into_iter().flat_map(|row| &row.children) {
                if found.insert(to.clone()) {
                    todo.push(to);
                }
            }
        }
        found
    }

    /// The nodes to be done again, from the root outwards.
    fn chosen(&self, how: &Retry) -> Vec<&'a str> {
        let named: BTreeSet<&str> = match how.restart_successful && !how.selector.is_empty() {
            true => self.rows.values().filter(|r| how.selector.matches(r)).map(|r| r.id.as_str()).collect(),
            false => BTreeSet::new(),
        };
        let failed = |id: &str| {
            let row = &self.rows[id];
            if !row.phase.is_fail_or_error() || !works(row.type_) {
                return false;
            }
            let attempt = row.node_flag.as_ref().is_some_and(|f| f.retried);
            // An attempt is as good as the last one of its kind.
            let of =
                if attempt { self.rows.values().find(|r| is_retry_of(r, id)).map(|r| r.id.as_str()) } else { None };
            !self.succeeded_after(of.unwrap_or(id), &named)
        };
        let (mut order, mut seen) = (Vec::new(), BTreeSet::from([self.root]));
        let mut queue = VecDeque::from([self.root]);
        while let Some(id) = queue.pop_front() {
            if named.contains(id) || failed(id) {
                order.push(id);
            }
            for to in &self.rows[id].children {
                if seen.insert(to.as_str()) {
                    queue.push_back(to);
                }
            }
        }
        order
    }

    fn succeeded_after(&self, id: &str, named: &BTreeSet<&str>) -> bool {
        self.after(id).iter().any(|to| self.rows[to].phase == NodePhase::Succeeded && !named.contains(to.as_str()))
    }

    /// What runs again and what goes when these nodes are done again.
    fn fall_out(&self, chosen: &[&str]) -> Result<(BTreeSet<String>, BTreeSet<String>), String> {
        let (mut reset, mut removed) = (BTreeSet::new(), BTreeSet::new());
        for id in chosen {
            if removed.contains(*id) {
                continue;
            }
            removed.extend(self.after(id));
            removed.insert((*id).to_owned());
            if *id == self.root {
                continue;
            }
            let mut at = Some(*id);
            while let Some(id) = at {
                let row = &self.rows[id];
                at = match row.type_ {
                    NodeType::Steps | NodeType::StepGroup | NodeType::Dag | NodeType::TaskGroup => {
                        reset.insert(id.to_owned());
                        self.leave_boundaries(id, &mut reset)?
                    }
                    NodeType::Container => {
                        let pod = self.climb(id, |row| row.type_ == NodeType::Pod)?;
                        removed.insert(pod.to_owned());
                        removed.extend(self.after(pod));
                        Some(pod)
                    }
                    NodeType::Retry if row.phase.is_fail_or_error() => {
                        reset.insert(id.to_owned());
                        self.before.get(id).copied()
                    }
                    _ => self.before.get(id).copied(),
                };
            }
        }
        reset.retain(|id| !removed.contains(id));
        Ok((reset, removed))
    }

    /// From a node outwards through all that is around it.
    fn leave_boundaries(&self, from: &'a str, reset: &mut BTreeSet<String>) -> Result<Option<&'a str>, String> {
        let mut at = from;
        loop {
            for type_ in [NodeType::Retry, NodeType::StepGroup, NodeType::TaskGroup] {
                if let Some(before) = self.before.get(at).filter(|b| self.rows[**b].type_ == type_) {
                    reset.insert((*before).to_owned());
                    if type_ == NodeType::Retry {
                        at = before;
                    }
                }
            }
            let Some(boundary) = self.rows[at].boundary_id.as_deref().filter(|b| !b.is_empty()) else {
                return Ok(self.before.get(at).copied());
            };
            at = self.climb(at, |row| row.id == boundary)?;
            reset.insert(at.to_owned());
        }
    }

    /// The nearest node before (or this one) that is looked for.
    fn climb(&self, from: &str, wanted: impl Fn(&NodeStatus) -> bool) -> Result<&'a str, String> {
        let (mut at, mut left) = (self.rows.get_key_value(from).map(|(id, _)| id.as_str()), self.rows.len() + 1);
        while let Some(id) = at.filter(|_| left > 0) {
            if wanted(&self.rows[id]) {
                return Ok(id);
            }
            at = self.before.get(id).copied();
            left -= 1;
        }
        Err(format!("the node table has no way back from {from}; resubmit the workflow instead"))
    }
}

/// Whether a failed node is itself what failed. A suspend node asks again, and a call that could not be made is made anew,
/// which Argo leaves as they are, so that its retry of such a run fails at once.
fn works(type_: NodeType) -> bool {
    crate::nodes::is_executable(type_)
        || matches!(type_, NodeType::Suspend | NodeType::Skipped | NodeType::Http | NodeType::Plugin)
}

fn is_retry_of(row: &NodeStatus, id: &str) -> bool {
    row.type_ == NodeType::Retry && row.children.iter().any(|c| c == id)
}
