//! What the end of a case must be: its words and how they are read. Whether it came so is decided in [`crate::rehearse`].

use windlass_lang::Span;
use windlass_lang::suggest::nearest;
use windlass_lang::yaml::child;
use windlass_model::{NodePhase, WorkflowPhase};

use crate::fields::{At, Reader, fault};

/// What the end must be.
#[derive(Clone, Debug)]
pub struct Expect {
    /// Where `expect` stands.
    pub span: Option<Span>,
    /// The workflow's phase: `Succeeded` where nothing is said.
    pub phase: At<WorkflowPhase>,
    /// The workflow's message, with `*` for anything.
    pub message: Option<At<String>>,
    /// What must have come of nodes.
    pub nodes: Vec<ExpectNode>,
    /// Nodes that must not have run.
    pub not_run: Vec<At<String>>,
    /// Nodes each of which began after the one before it had ended.
    pub order: Vec<At<String>>,
    /// The workflow's outputs.
    pub outputs: Vec<(At<String>, At<String>)>,
    /// How long it may have taken, in milliseconds of the virtual clock.
    pub within: Option<At<i64>>,
    /// How many pods were made.
    pub pods: Option<At<i64>>,
}

/// What must have come of the nodes that a key names.
#[derive(Clone, Debug)]
pub struct ExpectNode {
    /// The nodes.
    pub key: At<String>,
    /// The phase.
    pub phase: Option<At<NodePhase>>,
    /// The message, with `*` for anything.
    pub message: Option<At<String>>,
    /// The exit code.
    pub exit: Option<At<i64>>,
    /// How many pods were made for it.
    pub pods: Option<At<i64>>,
    /// Input parameters.
    pub inputs: Vec<(At<String>, At<String>)>,
    /// Output parameters.
    pub outputs: Vec<(At<String>, At<String>)>,
    /// The result.
    pub result: Option<At<String>>,
}

const FIELDS: [&str; 8] = ["message", "nodes", "notRun", "order", "outputs", "phase", "pods", "within"];
const NODE: [&str; 7] = ["exit", "inputs", "message", "outputs", "phase", "pods", "result"];

const PHASES: [WorkflowPhase; 3] = [WorkflowPhase::Succeeded, WorkflowPhase::Failed, WorkflowPhase::Error];
const NODE_PHASES: [NodePhase; 7] = [
    NodePhase::Succeeded,
    NodePhase::Failed,
    NodePhase::Error,
    NodePhase::Skipped,
    NodePhase::Omitted,
    NodePhase::Running,
    NodePhase::Pending,
];

pub(crate) fn read(reader: &mut Reader<'_>, pointer: &str) -> Expect {
    let mut out = Expect {
        span: reader.value(pointer).and_then(|_| reader.key(pointer)),
        phase: At { value: WorkflowPhase::Succeeded, span: None },
        message: None,
        nodes: Vec::new(),
        not_run: Vec::new(),
        order: Vec::new(),
        outputs: Vec::new(),
        within: None,
        pods: None,
    };
    if reader.map(pointer, &FIELDS).is_none() {
        return out;
    }
    let field = |name: &str| child(pointer, name);
    if let Some(phase) = phase(reader, &field("phase"), &PHASES, WorkflowPhase::as_str) {
        out.phase = phase;
    }
    out.message = reader.text(&field("message"));
    out.not_run = reader.texts(&field("notRun"));
    out.order = reader.texts(&field("order"));
    out.outputs = reader.pairs(&field("outputs"));
    out.within = reader.duration(&field("within"));
    out.pods = reader.whole(&field("pods"));
    for key in reader.any_map(&field("nodes")).into_iter().flat_map(|m| m.keys()) {
        let at = child(&field("nodes"), key);
        out.nodes.push(node(reader, &at, key));
    }
    out
}

fn node(reader: &mut Reader<'_>, pointer: &str, key: &str) -> ExpectNode {
    let mut out = ExpectNode {
        key: At { value: key.to_owned(), span: reader.key(pointer) },
        phase: None,
        message: None,
        exit: None,
        pods: None,
        inputs: Vec::new(),
        outputs: Vec::new(),
        result: None,
    };
    if reader.value(pointer).is_some_and(serde_json::Value::is_string) {
        out.phase = phase(reader, pointer, &NODE_PHASES, NodePhase::as_str);
        return out;
    }
    if reader.map(pointer, &NODE).is_none() {
        return out;
    }
    let field = |name: &str| child(pointer, name);
    out.phase = phase(reader, &field("phase"), &NODE_PHASES, NodePhase::as_str);
    out.message = reader.text(&field("message"));
    out.exit = reader.whole(&field("exit"));
    out.pods = reader.whole(&field("pods"));
    out.inputs = reader.pairs(&field("inputs"));
    out.outputs = reader.pairs(&field("outputs"));
    out.result = reader.text(&field("result"));
    out
}

fn phase<P: Copy>(reader: &mut Reader<'_>, pointer: &str, all: &[P], word: fn(P) -> &'static str) -> Option<At<P>> {
    let text = reader.text(pointer)?;
    if let Some(value) = all.iter().copied().find(|p| word(*p) == text.value) {
        return Some(At { value, span: text.span });
    }
    let words: Vec<&str> = all.iter().map(|p| word(*p)).collect();
    let wrong = fault("case::unknown-phase", format!("`{}` is not a phase", text.value), text.span, "");
    reader.faults.push(match nearest(&text.value, words.iter().copied()) {
        Some(meant) => wrong.help(format!("did you mean `{meant}`?")),
        None => wrong.help(format!("phases are {}", words.join(", "))),
    });
    None
}
