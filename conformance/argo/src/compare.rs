//! Two normal forms, side by side: which fields agree, by tier. Knows no API and no time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::corpus::Unstable;
use crate::normal::{self, Given};

/// How much of something agrees, and what does not.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Fields that agree.
    pub same: usize,
    /// Fields that were compared.
    pub all: usize,
    /// What does not agree.
    pub misses: Vec<String>,
}

impl Tally {
    fn count(&mut self, agrees: bool, miss: impl FnOnce() -> String) {
        self.all += 1;
        if agrees {
            self.same += 1;
        } else {
            self.misses.push(miss());
        }
    }

    /// Puts another's figures on top.
    pub fn add(&mut self, other: &Self) {
        self.same += other.same;
        self.all += other.all;
        self.misses.extend(other.misses.iter().cloned());
    }

    /// The share that agrees.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.all == 0 { 100.0 } else { self.same as f64 * 100.0 / self.all as f64 }
    }
}

/// The three tiers of one case.
#[derive(Clone, Debug, Default)]
pub struct Tiers {
    /// Phase and message of workflows.
    pub a: Tally,
    /// Fields of the node table.
    pub b: Tally,
    /// Fields of pods.
    pub c: Tally,
}

/// Which case and which of its workflows; where Argo disagrees with itself is left out.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// The case.
    pub case: &'p str,
    /// The number of the workflow.
    pub number: usize,
    /// Where two runs of Argo differ.
    pub unstable: &'p Unstable,
}

impl Place<'_> {
    fn has(&self, tier: char, path: &str) -> bool {
        self.unstable.has(self.case, tier, &format!("{}/{path}", self.number))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A name in which the workflow's own is `@`.
fn at(name: &str, workflow: &str) -> String {
    name.strip_prefix(workflow).map_or_else(|| name.to_owned(), |rest| format!("@{rest}"))
}

/// A workflow in tiers A and B, as it ended and as it was just before somebody retried it.
pub fn workflow(ours: [Option<&Value>; 2], theirs: [Option<&Value>; 2], place: Place<'_>, tiers: &mut Tiers) {
    let [ended, before] = ours;
    if let Some(theirs) = theirs[0] {
        let ours = ended.unwrap_or(&Value::Null);
        phase(ours, theirs, place, &mut tiers.a);
        nodes(ours, theirs, place, &mut tiers.b);
    }
    if let (Some(ours), Some(theirs)) = (before, theirs[1]) {
        phase(ours, theirs, place, &mut tiers.a);
        nodes(ours, theirs, place, &mut tiers.b);
    }
}

/// Phase and message of a workflow.
pub fn phase(ours: &Value, theirs: &Value, place: Place<'_>, tally: &mut Tally) {
    let (a, b) = (&ours["status"], &theirs["status"]);
    let given = (Given::of(ours), Given::of(theirs));
    for field in ["phase", "message"] {
        if place.has('A', field) {
            continue;
        }
        let even =
            |v: &Value, given: &Given| normal::values(&serde_json::json!({"result": v}), given)["result"].clone();
        let agrees = even(&a[field], &given.0) == even(&b[field], &given.1);
        tally.count(agrees, || format!("{field}  ours {:?}  theirs {:?}", text(&a[field]), text(&b[field])));
    }
}

/// The node tables.
pub fn nodes(ours: &Value, theirs: &Value, place: Place<'_>, tally: &mut Tally) {
    let given = (Given::of(ours), Given::of(theirs));
    let workflow = text(&theirs["metadata"]["name"]);
    let (a, b) = (&ours["status"]["nodes"], &theirs["status"]["nodes"]);
    let keys = |v: &Value| v.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect::<BTreeSet<_>>();
    for id in keys(a).union(&keys(b)) {
        let (left, right) = (&a[id], &b[id]);
        let name = at(text(if right.is_null() { &left["name"] } else { &right["name"] }), workflow);
        let path = format!("nodes/{name}");
        let (left, right) = (normal::node(left, &given.0), normal::node(right, &given.1));
        if (left.is_empty() || right.is_empty()) && place.has('B', &path) {
            continue;
        }
        fields(&left, &right, &name, |field| place.has('B', &format!("{path}/{field}")), tally);
    }
}

/// Pods by node name.
pub fn pods(ours: &[(Value, Value)], theirs: &[(Value, Value)], place: Place<'_>, workflow: &str, tally: &mut Tally) {
    let by_name = |pods: &[(Value, Value)]| {
        let mut all: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (pod, workflow) in pods {
            let name = &pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"];
            all.insert(text(name).to_owned(), normal::pod(pod, &Given::of(workflow)));
        }
        all
    };
    let (a, b) = (by_name(ours), by_name(theirs));
    let nothing = Map::new();
    for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let path = at(name, workflow);
        let (left, right) = (a.get(name).unwrap_or(&nothing), b.get(name).unwrap_or(&nothing));
        fields(left, right, &path, |field| place.has('C', &format!("{path}/{field}")), tally);
    }
}

fn fields(
    left: &Map<String, Value>,
    right: &Map<String, Value>,
    name: &str,
    left_out: impl Fn(&str) -> bool,
    tally: &mut Tally,
) {
    let nothing = Value::Null;
    for field in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
        if left_out(field) {
            continue;
        }
        let (a, b) = (left.get(field).unwrap_or(&nothing), right.get(field).unwrap_or(&nothing));
        tally.count(a == b, || format!("{name}: {field}  ours {a}  theirs {b}"));
    }
}
