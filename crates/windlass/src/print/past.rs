//! Moments of a run as people read them: a line each, or the tree as it was. Text in, text out.

use jiff::Timestamp;
use windlass_engine::past::Moment;
use windlass_model::{NodePhase, NodeStatus, NodeType, Workflow};

use super::{Look, columns, tree, workflow};

/// `[2/5] +12s, 2026-11-21T00:31:45Z`
pub(crate) fn head(at: Timestamp, begin: Timestamp, number: usize, count: usize) -> String {
    format!("[{}/{count}] +{:#}, {at}", number + 1, at.duration_since(begin))
}

/// Every moment: how long after the start, what ended, what began.
pub(crate) fn list(wf: &Workflow, moments: &[Moment], begin: Timestamp, look: Look) -> String {
    let nodes = wf.status.as_ref().map(|s| &s.nodes);
    // Groups say nothing that their members do not say.
    let shown = |id: &String| {
        let node: &NodeStatus = nodes?.get(id)?;
        (!matches!(node.type_, NodeType::StepGroup | NodeType::TaskGroup)).then_some(node)
    };
    let mut rows = vec![vec!["AT".to_owned(), "ENDED".to_owned(), "BEGAN".to_owned()]];
    for moment in moments {
        let ended = moment.ended.iter().filter_map(shown).map(|n| format!("{} {}", look.icon_of(n), n.display_name));
        let mut ended: Vec<String> = ended.collect();
        if let Some(status) = wf.status.as_ref().filter(|_| moment.workflow_ended) {
            ended.push(format!("the workflow: {}", status.phase));
        }
        let began = moment.began.iter().filter_map(shown);
        let began = began.filter(|n| !matches!(n.phase, NodePhase::Skipped | NodePhase::Omitted));
        let began: Vec<&str> = began.map(|n| n.display_name.as_str()).collect();
        if ended.is_empty() && began.is_empty() {
            continue;
        }
        rows.push(vec![format!("+{:#}", moment.at.duration_since(begin)), ended.join(", "), began.join(", ")]);
    }
    columns(&rows)
}

/// The run as it was.
pub(crate) fn draw(then: &Workflow, look: Look, at: Timestamp) -> String {
    let status = then.status.clone().unwrap_or_default();
    let message = status.message.as_deref().filter(|m| !m.is_empty()).map(|m| format!(" ({m})")).unwrap_or_default();
    let progress = status.progress.as_deref().map(|p| format!(", {p}")).unwrap_or_default();
    let mut out = format!("{}{progress}{message}\n", super::status(then));
    out.push_str(&tree::draw(then, &|node| workflow::pod_name(then, node), look, at));
    out
}
