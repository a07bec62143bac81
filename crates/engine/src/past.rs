//! A run at any moment of its past, from the times in its node table. Rows are whole seconds, so what happened within one
//! second is one moment. Reads a finished (or running) workflow; knows nothing that the table does not say: outputs and
//! messages of a node appear when it ends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use windlass_model::{NodePhase, NodeStatus, NodeType, Workflow, WorkflowPhase};

use crate::nodes::{is_executable, parse_progress};

/// What happened within one second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// Nodes that began, by id, in the order of their names.
    pub began: Vec<String>,
    /// Nodes that ended, by id.
    pub ended: Vec<String>,
    /// Whether the workflow began here.
    pub workflow_began: bool,
    /// Whether the workflow ended here.
    pub workflow_ended: bool,
}

/// Every moment in which something happened, in order.
pub fn moments(workflow: &Workflow) -> Vec<Moment> {
    let mut all: BTreeMap<Timestamp, Moment> = BTreeMap::new();
    let mut at = |time: Timestamp, note: &mut dyn FnMut(&mut Moment)| {
        note(all.entry(time).or_insert_with(|| Moment { at: time, ..Moment::default() }));
    };
    let Some(status) = &workflow.status else { return Vec::new() };
    if let Some(time) = status.started_at {
        at(time.0, &mut |m| m.workflow_began = true);
    }
    if let Some(time) = status.finished_at {
        at(time.0, &mut |m| m.workflow_ended = true);
    }
    let mut rows: Vec<&NodeStatus> = status.nodes.values().collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    for row in rows {
        if let Some(time) = row.started_at {
            at(time.0, &mut |m| m.began.push(row.id.clone()));
        }
        if let Some(time) = row.finished_at {
            at(time.0, &mut |m| m.ended.push(row.id.clone()));
        }
    }
    all.into_values().collect()
}

/// The workflow as it was at a time: with everything that had happened up to and with that second.
pub fn at(workflow: &Workflow, time: Timestamp) -> Workflow {
    let mut then = workflow.clone();
    let Some(status) = &mut then.status else { return then };
    status.nodes.retain(|_, row| row.started_at.is_some_and(|t| t.0 <= time));
    let there: std::collections::BTreeSet<String> = status.nodes.keys().cloned().collect();
    let (mut done, mut all) = (0, 0);
    for row in status.nodes.values_mut() {
        row.children.retain(|id| there.contains(id));
        row.outbound_nodes.retain(|id| there.contains(id));
        if row.phase.is_fulfilled() && row.finished_at.is_none_or(|t| t.0 > time) {
            go_back(row);
        }
        if is_executable(row.type_) {
            let (n, m) = parse_progress(row.progress.as_deref());
            (done, all) = (done + n, all + m);
        }
    }
    status.progress = Some(format!("{done}/{all}"));
    if status.started_at.is_none_or(|t| t.0 > time) {
        status.phase = WorkflowPhase::Unknown;
        status.started_at = None;
    }
    if status.finished_at.is_some_and(|t| t.0 > time) {
        status.finished_at = None;
        status.phase = WorkflowPhase::Running;
        status.message = None;
        status.conditions.retain(|c| c.type_ != "Completed");
        status.resources_duration.clear();
        status.outputs = None;
    }
    then
}

/// A node that had begun and not ended.
fn go_back(row: &mut NodeStatus) {
    row.phase = NodePhase::Running;
    row.finished_at = None;
    row.message = None;
    row.resources_duration.clear();
    row.outputs = None;
    if is_executable(row.type_) {
        row.progress = Some("0/1".to_owned());
    }
    if row.type_ == NodeType::Skipped {
        row.phase = NodePhase::Pending;
    }
}
