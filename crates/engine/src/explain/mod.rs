//! Why a node waits, was skipped, failed or ran again, as values. The run is loaded as a controller would load it and
//! asked, so the reasons are those by which it decides. Nothing is performed, nothing is written, and nothing here decides.

mod absent;
mod row;
mod words;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use windlass_model::{NodePhase, NodeType, Workflow, WorkflowPhase};

use crate::door::{Config, Observation};
use crate::run::Run;

/// One reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reason {
    /// What it depends on has not ended.
    DependsOpen {
        /// The condition as written, or what `dependencies` mean.
        depends: String,
        /// The tasks that have not ended.
        open: Vec<Other>,
    },
    /// What it depends on did not end as it asks.
    DependsFalse {
        /// The condition as written, or what `dependencies` mean.
        depends: String,
        /// Every part of the condition.
        terms: Vec<Term>,
    },
    /// A step group before it has not ended.
    EarlierGroup {
        /// Its number.
        group: usize,
        /// The steps of it that have not ended.
        open: Vec<Other>,
    },
    /// Its `when` is false.
    WhenFalse {
        /// As written.
        written: Option<String>,
        /// With values in place.
        evaluated: String,
    },
    /// Its loop has no items.
    EmptyLoop {
        /// The loop, as written.
        written: Option<String>,
    },
    /// It is on the way to none of the dag's targets.
    NoTarget {
        /// `target`, as written.
        target: String,
    },
    /// `parallelism` has no place.
    Parallelism {
        /// The template whose limit it is; the workflow's own where nothing stands.
        template: Option<String>,
        /// The limit.
        limit: i64,
        /// How many run.
        active: i64,
    },
    /// The controller lets no more workflows run; who explains says so, for a run knows nothing of others.
    Limit {
        /// The namespace whose limit it is; the controller's own where nothing stands.
        namespace: Option<String>,
        /// The limit.
        limit: usize,
        /// How many run.
        running: usize,
    },
    /// The workflow is suspended as a whole.
    RunSuspended,
    /// A sibling failed, and `failFast` lets nothing new begin.
    FailFast,
    /// A template or ConfigMap is being asked for.
    Asks,
    /// Everything that it waits for is there: it begins with the next look of the controller.
    Begins,
    /// What is around it ended before its turn came.
    AroundEnded {
        /// The node around it.
        around: String,
        /// How that ended.
        phase: NodePhase,
    },
    /// A suspend node: until then, or until somebody resumes it.
    Suspended {
        /// When it goes on by itself.
        until: Option<Timestamp>,
        /// The outputs that somebody has to supply.
        asks: Vec<String>,
    },
    /// It waits for a lock.
    Lock {
        /// The lock.
        name: String,
    },
    /// Its pod is not there yet, or is pending.
    PodPending {
        /// The pod's name.
        pod: String,
        /// Whether it is there.
        created: bool,
        /// What the kubelet or the API says.
        message: Option<String>,
    },
    /// Its pod runs.
    PodRuns {
        /// The pod's name.
        pod: String,
        /// The machine.
        host: Option<String>,
        /// Since when.
        since: Option<Timestamp>,
        /// Whether others go on meanwhile.
        daemon: bool,
    },
    /// Members have not ended.
    Open {
        /// They, at most ten.
        members: Vec<Other>,
        /// How many there are.
        count: usize,
    },
    /// Items of a loop, or steps of a group, that have not begun.
    MembersLeft {
        /// How many.
        count: usize,
    },
    /// A retry waits before the next attempt.
    Backoff {
        /// Until then.
        until: Option<Timestamp>,
        /// The attempts so far.
        attempts: Vec<Other>,
    },
    /// It was tried several times.
    Attempts {
        /// The attempts.
        attempts: Vec<Other>,
        /// `limit`, as written.
        limit: Option<String>,
        /// The policy.
        policy: String,
        /// Why there was no other attempt.
        verdict: Option<String>,
    },
    /// It went wrong by itself.
    Failed {
        /// The words.
        message: Option<String>,
        /// The exit code of `main`.
        exit_code: Option<String>,
    },
    /// It went wrong because members did.
    FailedMembers {
        /// They.
        members: Vec<Other>,
    },
    /// Its machine was lost under it, and its pod made anew.
    Lost {
        /// How often.
        times: i32,
    },
    /// Its outputs were remembered: it did not run.
    Remembered,
}

/// Another node, and how it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Other {
    /// Its name for people.
    pub name: String,
    /// Its phase; nothing where it has not begun.
    pub phase: Option<NodePhase>,
    /// Its words.
    pub message: Option<String>,
}

/// One part of a `depends`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// As written: `A.Succeeded`, or a bare name.
    pub reference: String,
    /// How the task ended; nothing where it has not begun.
    pub phase: Option<NodePhase>,
    /// Whether this part is true.
    pub holds: bool,
}

/// One node and why it is as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Its full name.
    pub name: String,
    /// Its name for people.
    pub display_name: String,
    /// What it is; nothing where it has not begun.
    #[serde(rename = "type")]
    pub kind: Option<NodeType>,
    /// Its phase; nothing where it has not begun.
    pub phase: Option<NodePhase>,
    /// Why, the most telling first.
    pub reasons: Vec<Reason>,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The workflow's name.
    pub workflow: String,
    /// Its phase.
    pub phase: WorkflowPhase,
    /// Its words.
    pub message: Option<String>,
    /// Why it waits as a whole.
    pub reasons: Vec<Reason>,
    /// Its nodes in the order in which they began, and those that have not begun.
    pub nodes: Vec<Account>,
}

/// Explains a run as the API has it, with its pods where they are known.
pub fn explain(workflow: &Workflow, pods: &[Value], config: &Config, now: Timestamp) -> Explanation {
    let mut run = Run::load(workflow, config);
    if !run.is_completed() {
        let seen: Vec<Observation> = pods.iter().cloned().map(Observation::Pod).collect();
        // What follows from it is for the controller: here it only shows who waits, and for what.
        let _ = run.step(&seen, now);
    }
    let stored = workflow.status.clone().unwrap_or_default();
    let look = Look { run: &run, stored: &stored, pods };
    let mut reasons = Vec::new();
    if workflow.spec.suspend == Some(true) && !stored.phase.is_completed() {
        reasons.push(Reason::RunSuspended);
    }
    if let Some(name) = look.workflow_lock() {
        reasons.push(Reason::Lock { name });
    }
    let mut rows: Vec<_> = stored.nodes.values().collect();
    rows.sort_by(|a, b| (a.started_at, &a.name).cmp(&(b.started_at, &b.name)));
    let mut nodes: Vec<Account> = rows.iter().map(|row| look.row(row)).collect();
    for row in rows {
        nodes.extend(look.absent(row));
    }
    Explanation {
        workflow: run.name().to_owned(),
        phase: stored.phase,
        message: stored.message.clone(),
        reasons,
        nodes,
    }
}

impl Explanation {
    /// The nodes that people mean by a text: an id, a full name, `@` with what follows the workflow's name, a name for
    /// people, that name without a loop's item.
    pub fn find(&self, text: &str) -> Vec<&Account> {
        let full = text.strip_prefix('@').map(|rest| format!("{}{rest}", self.workflow));
        let full = full.as_deref().unwrap_or(text);
        let is_id = |n: &&Account| crate::node_id(&self.workflow, &n.name) == text;
        let by_name = |n: &&Account| n.name == full;
        let by_display = |n: &&Account| n.display_name == text;
        let by_base = |n: &&Account| n.display_name.split('(').next() == Some(text);
        for fits in [&is_id as &dyn Fn(&&Account) -> bool, &by_name, &by_display, &by_base] {
            let found: Vec<&Account> = self.nodes.iter().filter(|n| fits(n)).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}

/// What reasons are looked up in.
struct Look<'a> {
    run: &'a Run,
    stored: &'a windlass_model::WorkflowStatus,
    pods: &'a [Value],
}
