//! Why a run is as it is, as people read it: a node a line, its reasons beneath. Text in, text out.

use serde_json::{Value, json};
use windlass_engine::explain::{Account, Explanation, Reason};
use windlass_model::{NodePhase, NodeType};

use super::Look;

/// Whether an account only says that others wait or failed, which they say themselves.
fn only_holds(node: &Account) -> bool {
    let holder = matches!(node.kind, Some(NodeType::Steps | NodeType::Dag | NodeType::StepGroup | NodeType::TaskGroup));
    holder && node.reasons.iter().all(|r| matches!(r, Reason::Open { .. } | Reason::FailedMembers { .. }))
}

/// The whole text. `all` leaves nothing out.
pub(crate) fn draw(run: &Explanation, nodes: &[&Account], all: bool, look: Look) -> String {
    let phase = match run.phase.as_str() {
        "" => "not begun: the controller has not looked at it yet",
        phase => phase,
    };
    let mut out = format!("Workflow {} {phase}", run.workflow);
    if let Some(message) = run.message.as_deref().filter(|m| !m.is_empty()) {
        out.push_str(&format!(": {message}"));
    }
    out.push('\n');
    for reason in &run.reasons {
        out.push_str(&format!("    {reason}\n"));
    }
    let told: Vec<&&Account> = nodes.iter().filter(|n| all || (n.is_telling() && !only_holds(n))).collect();
    for node in &told {
        let icon = match node.phase {
            Some(phase) => look.icon(phase),
            None if look.utf8 => "·".to_owned(),
            None => "-".to_owned(),
        };
        out.push_str(&format!("{icon} {} {}\n", node.display_name, node.state()));
        for reason in &node.reasons {
            out.push_str(&format!("    {reason}\n"));
        }
        if node.reasons.is_empty() && node.phase == Some(NodePhase::Succeeded) {
            out.push_str("    it ran once, and ended well\n");
        }
    }
    if told.is_empty() {
        out.push_str("every node succeeded at the first attempt\n");
    }
    out
}

/// Reasons as values, each with its words.
pub(crate) fn reasons(all: &[Reason]) -> Vec<Value> {
    all.iter()
        .map(|reason| {
            let mut value = json!(reason);
            value["text"] = json!(reason.to_string());
            value
        })
        .collect()
}

/// One node as a value.
pub(crate) fn as_json(node: &Account) -> Value {
    let mut value = json!(node);
    value["reasons"] = json!(reasons(&node.reasons));
    value["state"] = json!(node.state());
    value
}
