//! What a run tells a tracer, in Argo's names: spans of the workflow, of its nodes and of the phases of both. Made of the
//! status as it is decided, and of nothing else; time is an argument. Ids follow from the workflow's uid, so a controller
//! that takes a run over goes on with the same trace. It must never decide anything about the run.
//!
//! | decided | told |
//! |---|---|
//! | a node is new | nothing yet: its span and its phase begin |
//! | a node's phase changes | a `nodePhase` that ends; the next begins |
//! | a node has ended | its last `nodePhase`, its `node` |
//! | the run's phase changes | a `workflowPhase` that ends; the next begins |
//! | the run has ended | nodes that have not, the last `workflowPhase`, the `workflow` |

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_model::labels;

/// One thing that took its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What it was.
    pub name: &'static str,
    /// The trace.
    pub trace: u128,
    /// Its own id.
    pub id: u64,
    /// The one that it is a part of.
    pub parent: Option<u64>,
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// More about it.
    pub attributes: Vec<(&'static str, String)>,
    /// Whether it went well, and the phase where not; nothing where nobody can tell.
    pub outcome: Option<Result<(), String>>,
}

/// The ids of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    uid: String,
}

impl Ids {
    /// Those of the workflow with this uid.
    pub fn of(uid: &str) -> Self {
        Self { uid: uid.to_owned() }
    }

    /// The trace.
    pub fn trace(&self) -> u128 {
        (u128::from(self.hash("trace", "1")) << 64) | u128::from(self.hash("trace", "2"))
    }

    /// The span of the workflow.
    pub fn workflow(&self) -> u64 {
        self.hash("workflow", "")
    }

    /// The span of a node.
    pub fn node(&self, id: &str) -> u64 {
        self.hash("node", id)
    }

    /// The span of the making of a node's pod, to which a pod's own spans belong. It is the same for each try of making it.
    pub fn pod(&self, node: &str) -> u64 {
        self.hash("pod", node)
    }

    /// `TRACEPARENT` of a pod, as W3C has it: sampled.
    pub fn traceparent(&self, node: &str) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace(), self.pod(node))
    }

    /// What a pod is told of the trace: annotations, and `TRACEPARENT` in each container that has none.
    pub fn mark(&self, node: &str, pod: &mut Value) {
        pod["metadata"]["annotations"][labels::TRACE_ID] = json!(format!("{:032x}", self.trace()));
        pod["metadata"]["annotations"][labels::SPAN_ID] = json!(format!("{:016x}", self.pod(node)));
        let own = json!({"name": "TRACEPARENT", "value": self.traceparent(node)});
        for list in ["initContainers", "containers"] {
            for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
                let has_it = |env: &Value| env.as_array().is_some_and(|e| e.iter().any(|v| v["name"] == "TRACEPARENT"));
                if has_it(&container["env"]) {
                    continue;
                }
                match container["env"].as_array_mut() {
                    Some(env) => env.push(own.clone()),
                    None => container["env"] = json!([own]),
                }
            }
        }
    }

    /// FNV-1a, mixed once more: the same in every release, and never zero, which would be no id.
    fn hash(&self, kind: &str, of: &str) -> u64 {
        let text = [self.uid.as_str(), kind, of].join("/");
        let fnv =
            text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        (mixed ^ (mixed >> 33)).max(1)
    }
}

/// A phase that goes on.
#[derive(Clone, Debug)]
struct Phase {
    phase: String,
    /// What a pending node waits for, in a word.
    message: String,
    since: Timestamp,
}

#[derive(Debug)]
struct Open {
    since: Timestamp,
    kind: String,
    name: String,
    phase: Phase,
}

/// What of one run goes on.
#[derive(Debug)]
pub struct Spans {
    ids: Ids,
    namespace: String,
    name: String,
    since: Option<Timestamp>,
    phase: Option<Phase>,
    nodes: BTreeMap<String, Open>,
    /// Nodes that have ended, by their spans.
    ended: BTreeSet<u64>,
    /// How many phases were told, so that each has an id of its own.
    phases: u64,
}

const ENDS: [&str; 5] = ["Succeeded", "Failed", "Error", "Skipped", "Omitted"];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|t| t.parse().ok())
}

/// Argo's: why a pending node is pending, up to the colon.
fn waits_for(row: &Value) -> String {
    let message = text(&row["message"]).split(':').next().unwrap_or_default();
    let is_told = row["phase"] == "Pending" && message != "PodInitializing";
    if is_told { message.to_owned() } else { String::new() }
}

fn outcome(phase: &str) -> Option<Result<(), String>> {
    match phase {
        "Succeeded" => Some(Ok(())),
        "Skipped" | "Omitted" => None,
        other => Some(Err(other.to_owned())),
    }
}

impl Phase {
    fn new(phase: String, since: Timestamp) -> Self {
        Self { phase, message: String::new(), since }
    }
}

impl Spans {
    /// Of a run as it is in its status; what has ended before is not told again.
    pub fn of(ids: Ids, namespace: &str, name: &str, status: &Value) -> Self {
        let since = time(&status["startedAt"]);
        let phase = Some(text(&status["phase"])).filter(|phase| !phase.is_empty());
        let phase = phase.zip(since).map(|(phase, since)| Phase::new(phase.to_owned(), since));
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let mut spans =
            Self { ids, namespace, name, since, phase, nodes: BTreeMap::new(), ended: BTreeSet::new(), phases: 0 };
        for (id, row) in status["nodes"].as_object().into_iter().flatten() {
            spans.begin(id, row, time(&row["startedAt"]).or(since).unwrap_or(Timestamp::UNIX_EPOCH));
        }
        spans
    }

    /// What ended with a change of the status: the change as a merge patch, rows of nodes whole.
    pub fn see(&mut self, status: &Value, now: Timestamp) -> Vec<Span> {
        let mut told = Vec::new();
        if self.since.is_none() && time(&status["startedAt"]).is_some() {
            self.since = Some(now);
        }
        for (id, row) in status["nodes"].as_object().into_iter().flatten() {
            self.see_node(id, row, now, &mut told);
        }
        let phase = text(&status["phase"]);
        if !phase.is_empty() && self.phase.as_ref().is_none_or(|before| before.phase != phase) {
            if let Some(before) = self.phase.replace(Phase::new(phase.to_owned(), now)) {
                let span = self.phase_span("workflowPhase", self.ids.workflow(), &before, now);
                told.push(Span { attributes: vec![("phase", before.phase)], ..span });
            }
            if ENDS.contains(&phase) {
                self.end(phase, now, &mut told);
            }
        }
        told
    }

    /// A node that was not there before.
    fn begin(&mut self, id: &str, row: &Value, since: Timestamp) {
        let phase = text(&row["phase"]).to_owned();
        if ENDS.contains(&phase.as_str()) {
            self.ended.insert(self.ids.node(id));
            return;
        }
        let phase = Phase { phase, message: waits_for(row), since };
        let (kind, name) = (text(&row["type"]).to_owned(), text(&row["displayName"]).to_owned());
        self.nodes.insert(id.to_owned(), Open { since, kind, name, phase });
    }

    fn see_node(&mut self, id: &str, row: &Value, now: Timestamp, told: &mut Vec<Span>) {
        let (phase, message) = (text(&row["phase"]).to_owned(), waits_for(row));
        let has_ended = ENDS.contains(&phase.as_str());
        let Some(open) = self.nodes.get_mut(id) else {
            let is_new = !self.ended.contains(&self.ids.node(id));
            self.begin(id, row, now);
            // It came with its end.
            if is_new && has_ended {
                let since = time(&row["startedAt"]).filter(|t| now.duration_since(*t).as_secs() > 1).unwrap_or(now);
                let (kind, name) = (text(&row["type"]).to_owned(), text(&row["displayName"]).to_owned());
                let open = Open { since, kind, name, phase: Phase::new(phase.clone(), since) };
                told.push(self.node_span(id, open, outcome(&phase), now));
            }
            return;
        };
        if open.phase.phase == phase && open.phase.message == message {
            return;
        }
        let before = std::mem::replace(&mut open.phase, Phase { phase: phase.clone(), message, since: now });
        told.push(self.node_phase(id, before, now));
        if has_ended && let Some(open) = self.nodes.remove(id) {
            self.ended.insert(self.ids.node(id));
            told.push(self.node_span(id, open, outcome(&phase), now));
        }
    }

    fn node_phase(&mut self, id: &str, phase: Phase, end: Timestamp) -> Span {
        let span = self.phase_span("nodePhase", self.ids.node(id), &phase, end);
        let mut attributes = vec![("node_id", id.to_owned()), ("node_phase", phase.phase)];
        if !phase.message.is_empty() {
            attributes.push(("message", phase.message));
        }
        Span { attributes, ..span }
    }

    fn node_span(&self, id: &str, open: Open, outcome: Option<Result<(), String>>, end: Timestamp) -> Span {
        let attributes = vec![
            ("node_id", id.to_owned()),
            ("name", self.name.clone()),
            ("namespace", self.namespace.clone()),
            ("node_type", open.kind),
            ("display_name", open.name),
        ];
        let (own, parent) = (self.ids.node(id), Some(self.ids.workflow()));
        Span { attributes, outcome, ..self.span("node", own, parent, (open.since, end)) }
    }

    fn phase_span(&mut self, name: &'static str, parent: u64, phase: &Phase, end: Timestamp) -> Span {
        self.phases += 1;
        // After a restart phases are counted anew: the time tells them apart.
        let own = self.ids.hash(name, &format!("{parent:x}/{}/{}", phase.since.as_nanosecond(), self.phases));
        self.span(name, own, Some(parent), (phase.since, end))
    }

    /// The making of a node's pod.
    pub fn pod(&self, node: &str, (start, end): (Timestamp, Timestamp), made: bool) -> Span {
        let outcome = if made { None } else { Some(Err("not made".to_owned())) };
        let (own, parent) = (self.ids.pod(node), Some(self.ids.node(node)));
        let attributes = vec![("node_id", node.to_owned())];
        Span { attributes, outcome, ..self.span("createWorkflowPod", own, parent, (start, end)) }
    }

    /// A write of the status.
    pub fn write(&mut self, times: (Timestamp, Timestamp)) -> Span {
        self.of_workflow("persistUpdates", times)
    }

    /// A look at what was observed.
    pub fn reconcile(&mut self, times: (Timestamp, Timestamp)) -> Span {
        self.of_workflow("reconcileWorkflow", times)
    }

    fn of_workflow(&mut self, name: &'static str, times: (Timestamp, Timestamp)) -> Span {
        self.phases += 1;
        let own = self.ids.hash(name, &format!("{}/{}", times.0.as_nanosecond(), self.phases));
        self.span(name, own, Some(self.ids.workflow()), times)
    }

    /// Whether the run goes on, as far as was told.
    pub fn goes_on(&self) -> bool {
        self.since.is_some()
    }

    /// Their ids.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    fn end(&mut self, phase: &str, now: Timestamp, told: &mut Vec<Span>) {
        for (id, open) in std::mem::take(&mut self.nodes) {
            told.push(self.node_phase(&id, open.phase.clone(), now));
            told.push(self.node_span(&id, open, Some(Err("Unexpected phase".to_owned())), now));
        }
        let Some(since) = self.since.take() else { return };
        self.phase = None;
        let attributes = vec![("name", self.name.clone()), ("namespace", self.namespace.clone())];
        let span = self.span("workflow", self.ids.workflow(), None, (since, now));
        told.push(Span { attributes, outcome: outcome(phase), ..span });
    }

    fn span(&self, name: &'static str, id: u64, parent: Option<u64>, (start, end): (Timestamp, Timestamp)) -> Span {
        let trace = self.ids.trace();
        Span { name, trace, id, parent, start, end: end.max(start), attributes: Vec::new(), outcome: None }
    }
}
