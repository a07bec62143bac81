//! A case file: what is submitted, how pods end, what somebody answers, and what the end must be. Only its words; what
//! they mean for a run is in [`crate::world`] and [`crate::rehearse`].

use jiff::Timestamp;
use serde_json::Value;
use windlass_lang::yaml::{self, Document, child};
use windlass_lang::{Diagnostic, SourceId, Sources, Span};

use crate::expect::Expect;
use crate::fields::{Reader, fault};

pub use crate::fields::At;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, and where it stands.
    pub name: At<String>,
    /// The file it is in.
    pub source: SourceId,
    /// What is submitted.
    pub submit: Submit,
    /// Files with further objects (WorkflowTemplates, ConfigMaps), relative to the case file.
    pub with: Vec<At<String>>,
    /// What becomes of nodes, of this case first and then of the whole file.
    pub rules: Vec<Rule>,
    /// What the end must be.
    pub expect: Expect,
}

/// What is submitted.
#[derive(Clone, Debug, Default)]
pub struct Submit {
    /// The object of the manifest: `NAME` or `KIND/NAME`.
    pub workflow: Option<At<String>>,
    /// The run's name.
    pub name: Option<String>,
    /// Another entrypoint.
    pub entrypoint: Option<At<String>>,
    /// Arguments.
    pub parameters: Vec<(At<String>, At<String>)>,
    /// When: the clock begins here.
    pub at: Option<Timestamp>,
}

/// What becomes of the nodes that a key names.
#[derive(Clone, Debug)]
pub struct Rule {
    /// A node's path (`@[0].build`, `@.deploy`), its name, or its template.
    pub key: At<String>,
    /// One a pod, in order; the last one counts for all further pods.
    pub turns: Vec<Turn>,
    /// Whether it stands in this case, and not in the part that all cases share.
    pub own: bool,
}

/// What becomes of one pod, or of one suspended node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// How long the pod is pending.
    pub pending_ms: i64,
    /// Why, as a kubelet says it.
    pub pending_message: Option<String>,
    /// How long it then runs, or how long the node is suspended.
    pub after_ms: Option<i64>,
    /// The exit code of `main`.
    pub exit: i64,
    /// What `main` left as its termination message, or the answer's words.
    pub message: Option<String>,
    /// The standard output, where something asks for it.
    pub result: Option<At<String>>,
    /// Output parameters, or the answers to a suspended node.
    pub parameters: Vec<(At<String>, At<String>)>,
    /// The output artifacts that there are; all that are declared when nothing is said.
    pub artifacts: Option<Vec<At<String>>>,
    /// The step ends in error, for this reason: not the user's code.
    pub error: Option<String>,
    /// The API refuses the pod, in these words.
    pub refused: Option<String>,
    /// The machine is lost under the pod.
    pub lost: bool,
    /// Somebody fails the suspended node, with these words.
    pub reject: Option<String>,
    /// A daemon that ends by itself.
    pub ends: bool,
}

const TURN: [&str; 12] = [
    "after",
    "artifacts",
    "error",
    "exit",
    "lost",
    "message",
    "parameters",
    "pending",
    "pendingMessage",
    "refused",
    "reject",
    "result",
];

/// Reads the cases of a file, and everything that is wrong with them.
pub fn read(sources: &Sources, id: SourceId) -> (Vec<Case>, Vec<Diagnostic>) {
    let loaded = yaml::load(sources, id);
    let (mut cases, mut faults) = (Vec::new(), loaded.diagnostics);
    for document in &loaded.documents {
        let (found, wrong) = of_document(document);
        cases.extend(found);
        faults.extend(wrong);
    }
    for (i, case) in cases.iter_mut().enumerate() {
        if case.name.value.is_empty() {
            case.name.value = format!("case {}", i + 1);
        }
    }
    if cases.is_empty() && faults.is_empty() {
        faults.push(Diagnostic::error("case::none", "there is no case in this file").at(Span::new(id, 0..0), ""));
    }
    (cases, faults)
}

/// Reads the cases of one document: a list under `cases`, or one case by itself.
pub fn of_document(document: &Document) -> (Vec<Case>, Vec<Diagnostic>) {
    let mut reader = Reader::new(document);
    let mut cases = Vec::new();
    match document.value.get("cases") {
        Some(list) => {
            reader.map("", &["cases", "nodes", "with"]);
            let shared = rules(&mut reader, "/nodes", false);
            let with = reader.texts("/with");
            match list.as_array() {
                Some(items) => {
                    for i in 0..items.len() {
                        cases.extend(case(&mut reader, &format!("/cases/{i}"), &shared, &with));
                    }
                }
                None => reader.wrong("/cases", "a list of cases"),
            }
        }
        None => cases.extend(case(&mut reader, "", &[], &[])),
    }
    (cases, reader.faults)
}

fn case(reader: &mut Reader<'_>, pointer: &str, shared: &[Rule], with: &[At<String>]) -> Option<Case> {
    if !reader.document.value.pointer(pointer).is_some_and(Value::is_object) {
        reader.wrong(pointer, "a case: a map with `name`, `submit`, `nodes` and `expect`");
        return None;
    }
    reader.map(pointer, &["expect", "name", "nodes", "submit", "with"])?;
    let name = reader.text(&child(pointer, "name"));
    let name = name.unwrap_or(At { value: String::new(), span: reader.key(pointer) });
    let mut all = with.to_vec();
    all.extend(reader.texts(&child(pointer, "with")));
    let mut own = rules(reader, &child(pointer, "nodes"), true);
    own.extend(shared.iter().cloned());
    Some(Case {
        name,
        source: reader.document.source,
        submit: submit(reader, &child(pointer, "submit")),
        with: all,
        rules: own,
        expect: crate::expect::read(reader, &child(pointer, "expect")),
    })
}

fn submit(reader: &mut Reader<'_>, pointer: &str) -> Submit {
    let mut out = Submit::default();
    if reader.map(pointer, &["at", "entrypoint", "name", "parameters", "workflow"]).is_none() {
        return out;
    }
    let field = |name: &str| child(pointer, name);
    out.workflow = reader.text(&field("workflow"));
    out.name = reader.text(&field("name")).map(|n| n.value);
    out.entrypoint = reader.text(&field("entrypoint"));
    out.parameters = reader.pairs(&field("parameters"));
    if let Some(text) = reader.text(&field("at")) {
        match text.value.parse() {
            Ok(at) => out.at = Some(at),
            Err(_) => reader.wrong(&field("at"), "a time such as 2030-01-01T09:00:00Z"),
        }
    }
    out
}

fn rules(reader: &mut Reader<'_>, pointer: &str, own: bool) -> Vec<Rule> {
    let Some(map) = reader.any_map(pointer) else { return Vec::new() };
    let mut out = Vec::with_capacity(map.len());
    for (key, value) in map {
        let at = child(pointer, key);
        let turns = match value {
            Value::Array(items) if items.is_empty() => {
                reader.wrong(&at, "what becomes of it, or a list of that with one entry a pod");
                continue;
            }
            Value::Array(items) => (0..items.len()).map(|i| turn(reader, &format!("{at}/{i}"))).collect(),
            _ => vec![turn(reader, &at)],
        };
        out.push(Rule { key: At { value: key.clone(), span: reader.key(&at) }, turns, own });
    }
    out
}

fn turn(reader: &mut Reader<'_>, pointer: &str) -> Turn {
    let mut out = Turn::default();
    if reader.map(pointer, &TURN).is_none() {
        return out;
    }
    let field = |name: &str| child(pointer, name);
    let text = |reader: &mut Reader<'_>, name: &str| reader.text(&field(name)).map(|t| t.value);
    out.pending_ms = reader.duration(&field("pending")).map_or(0, |d| d.value);
    out.pending_message = text(reader, "pendingMessage");
    out.after_ms = reader.duration(&field("after")).map(|d| d.value);
    let exit = reader.whole(&field("exit"));
    out.ends = exit.is_some();
    if let Some(exit) = exit {
        if !(0..=255).contains(&exit.value) {
            reader.faults.push(fault("case::wrong-type", "an exit code is 0 to 255", exit.span, ""));
        }
        out.exit = exit.value;
    }
    out.message = text(reader, "message");
    out.result = reader.text(&field("result"));
    out.parameters = reader.pairs(&field("parameters"));
    if reader.value(&field("artifacts")).is_some() {
        out.artifacts = Some(reader.texts(&field("artifacts")));
    }
    out.error = text(reader, "error");
    out.refused = text(reader, "refused");
    out.lost = reader.flag(&field("lost"));
    out.reject = text(reader, "reject");
    let words = ["error", "refused", "reject", "lost"];
    let ways: Vec<&str> = words.into_iter().filter(|w| reader.value(&field(w)).is_some()).collect();
    if let [_, second, ..] = ways.as_slice() {
        let message = format!("one end at a time: {}", ways.join(" or "));
        let at = reader.key(&field(second));
        reader.faults.push(fault("case::two-ends", message, at, "").help("give a list: one entry a pod"));
    }
    out
}
