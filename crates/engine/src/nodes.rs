//! The node table in memory: an arena with indexes, so that one change costs no walk over the rest.
//! Holds what is known of each node; which transition is right is decided in `node/`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use windlass_model::status::{NodeFlag, NodeStatus};
use windlass_model::template::{Template, TemplateRef};
use windlass_model::{Arguments, NodePhase, NodeType};

use crate::node::admission::AdmissionMachine;
use crate::node::dag::DagMachine;
use crate::node::group::GroupMachine;
use crate::node::pod::PodMachine;
use crate::node::retry::RetryMachine;
use crate::node::steps::StepsMachine;

/// Index of a node in the arena.
pub(crate) type Ix = usize;

/// What a call runs.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A template of the scope, by name.
    Name(String),
    /// A template of another resource.
    Ref(TemplateRef),
    /// A template written in place.
    Inline(Box<Template>),
}

/// A node that is wanted: who calls, what, with which arguments.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub name: String,
    pub target: Target,
    pub arguments: Arguments,
    /// Parameters whose value is known to be absent.
    pub absent: Vec<String>,
    pub parent: Option<Ix>,
    pub boundary: Option<Ix>,
    /// Where a template's name is looked up: `local/wf`, `namespaced/name`, `cluster/name`.
    pub scope: Arc<str>,
    pub slot: usize,
    pub on_exit: bool,
    pub flag: Option<NodeFlag>,
    pub depth: usize,
}

/// The private state of a node's machine.
#[derive(Debug, Default)]
pub(crate) enum Machine {
    #[default]
    Leaf,
    Admission(Box<AdmissionMachine>),
    Pod(Box<PodMachine>),
    Steps(Box<StepsMachine>),
    Group(Box<GroupMachine>),
    Dag(Box<DagMachine>),
    Retry(Box<RetryMachine>),
    Suspend,
}

/// One node: its row in the table, and how it hangs together with others.
#[derive(Debug)]
pub(crate) struct Node {
    pub status: NodeStatus,
    /// The node that waits for this one: steps, group, dag, retry. (Not the same as `children`, which is order.)
    pub parent: Option<Ix>,
    pub boundary: Option<Ix>,
    /// The place in the parent: step, item, task or attempt.
    pub slot: usize,
    /// Whether a parent has taken the node up since it was loaded.
    pub attached: bool,
    pub queued: bool,
    /// Whether the parent has been told that it need not wait any more.
    pub settled: bool,
    pub on_exit: bool,
    pub depth: usize,
    /// The template with inputs and globals replaced (steps, dag), or as it was found (others).
    pub template: Option<Arc<Template>>,
    /// Members whose standard output the template names; read from it once, when a first member asks.
    pub results_named: OnceLock<BTreeSet<String>>,
    /// Where names inside the template are looked up.
    pub inner_scope: Arc<str>,
    /// Members that are not settled.
    pub unsettled: usize,
    /// Members that were fulfilled since this node was looked at.
    pub news: Vec<Ix>,
    /// The node whose end made this one (a hook).
    pub hook_of: Option<Ix>,
    /// Hooks of this node that have not ended.
    pub hooks_open: usize,
    /// Whether it is one of the run's pods, for the run's `parallelism`.
    pub takes_place: bool,
    /// Members that run, for a template's `parallelism`.
    pub active: i64,
    /// Whether a member failed, for `failFast` with loops.
    pub failed_members: usize,
    /// The API server would not have its pod: the error goes up at once.
    pub refused: bool,
    /// What went wrong with the call, where the row does not tell.
    pub fault: Option<String>,
    /// It was pending for too long, and its parent has not been told so.
    pub timed_out: bool,
    pub machine: Machine,
}

/// The arena.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub list: Vec<Node>,
    pub by_id: HashMap<String, Ix>,
    /// The sum of what the nodes that work have done, and of what there is to do.
    pub progress: (i64, i64),
}

impl Node {
    /// Whether it is a group that ends in error for a hook.
    pub(crate) fn has_hook_fault(&self) -> bool {
        matches!(&self.machine, Machine::Group(machine) if machine.hook_fault.is_some())
    }
}

impl Nodes {
    /// Puts a row in, without a parent.
    pub(crate) fn insert(&mut self, status: NodeStatus) -> Ix {
        let ix = self.list.len();
        if is_executable(status.type_) {
            let (done, all) = parse_progress(status.progress.as_deref());
            self.progress = (self.progress.0 + done, self.progress.1 + all);
        }
        self.by_id.insert(status.id.clone(), ix);
        self.list.push(Node {
            status,
            parent: None,
            boundary: None,
            slot: 0,
            attached: false,
            queued: false,
            settled: false,
            on_exit: false,
            depth: 0,
            template: None,
            results_named: OnceLock::new(),
            inner_scope: Arc::from(""),
            unsettled: 0,
            news: Vec::new(),
            hook_of: None,
            hooks_open: 0,
            takes_place: false,
            active: 0,
            failed_members: 0,
            refused: false,
            fault: None,
            timed_out: false,
            machine: Machine::Leaf,
        });
        ix
    }

    /// Writes a node's progress, and counts it in.
    pub(crate) fn set_progress(&mut self, ix: Ix, progress: &str) {
        let row = &mut self.list[ix].status;
        let (done, all) = parse_progress(row.progress.as_deref());
        let (done_now, all_now) = parse_progress(Some(progress));
        row.progress = Some(progress.to_owned());
        self.progress = (self.progress.0 + done_now - done, self.progress.1 + all_now - all);
    }

    /// The outputs of a node; of a retry node, those of its last try.
    pub(crate) fn outputs_of_last(&self, ix: Ix) -> Option<&windlass_model::parameter::Outputs> {
        let status = &self.list[ix].status;
        let last = match status.type_ {
            NodeType::Retry => status.children.iter().rev().filter_map(|id| self.find(id)).find(|child| {
                let flag = self.list[*child].status.node_flag.as_ref();
                flag.is_some_and(|flag| flag.retried && !flag.hooked)
            }),
            _ => None,
        };
        self.list[last.unwrap_or(ix)].status.outputs.as_ref()
    }

    /// Whether something is still to become of a node that has not ended.
    pub(crate) fn is_followed(&self, ix: Ix) -> bool {
        let node = &self.list[ix];
        node.attached && !matches!(&node.machine, Machine::Retry(machine) if machine.given_up())
    }

    /// The node of that id.
    pub(crate) fn find(&self, id: &str) -> Option<Ix> {
        self.by_id.get(id).copied()
    }

    /// The nodes that come last inside a node: those after which the next one hangs.
    pub(crate) fn outbound(&self, ix: Ix) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_outbound(ix, &mut out, 0);
        out
    }

    fn collect_outbound(&self, ix: Ix, out: &mut Vec<String>, depth: usize) {
        let status = &self.list[ix].status;
        if depth > 300 {
            return;
        }
        let plain = |id: &String| self.find(id).filter(|c| !is_hooked(&self.list[*c].status));
        match status.type_ {
            NodeType::Pod | NodeType::Container => {
                // A container set's last containers: those nothing waits for.
                // They come before whatever hangs from the pod, which may be the hundreds of tasks of the next layer.
                let is_container = |c: &Ix| self.list[*c].status.type_ == NodeType::Container;
                let containers: Vec<Ix> = status.children.iter().filter_map(plain).take_while(is_container).collect();
                if containers.is_empty() {
                    if !out.contains(&status.id) {
                        out.push(status.id.clone());
                    }
                } else {
                    for c in containers {
                        self.collect_outbound(c, out, depth + 1);
                    }
                    if status.type_ == NodeType::Pod {
                        // Its hooks hang from it as its containers do.
                        let hooks = status.children.iter().filter_map(|id| self.find(id));
                        for hook in hooks.filter(|c| is_hooked(&self.list[*c].status)) {
                            self.collect_outbound(hook, out, depth + 1);
                        }
                    }
                }
            }
            NodeType::Skipped | NodeType::Suspend | NodeType::Http | NodeType::Plugin => out.push(status.id.clone()),
            NodeType::TaskGroup => {
                // With its handlers: they hang from it as its items do.
                let children: Vec<Ix> = status.children.iter().filter_map(|id| self.find(id)).collect();
                if children.is_empty() {
                    out.push(status.id.clone());
                }
                for child in children {
                    self.collect_outbound(child, out, depth + 1);
                }
            }
            // The last child itself, a try or a handler, also where it is a steps or dag node: what hangs from it does not
            // hang from its inside.
            NodeType::Retry => out.extend(status.children.last().cloned()),
            NodeType::Steps | NodeType::Dag | NodeType::StepGroup => {
                if status.memoization_status.as_ref().is_some_and(|m| m["hit"] == true) {
                    out.push(status.id.clone());
                    return;
                }
                for id in &status.outbound_nodes {
                    let Some(ix) = self.find(id) else { continue };
                    if self.list[ix].status.type_ == NodeType::Pod {
                        out.push(id.clone());
                    } else {
                        self.collect_outbound(ix, out, depth + 1);
                    }
                }
            }
        }
    }
}

/// Whether a hook made the node.
pub(crate) fn is_hooked(status: &NodeStatus) -> bool {
    status.node_flag.as_ref().is_some_and(|f| f.hooked)
}

/// Whether the node is of a kind that works by itself, and counts in `progress`.
pub(crate) fn is_executable(type_: NodeType) -> bool {
    matches!(type_, NodeType::Pod | NodeType::Container)
}

/// Whether the node takes one of `parallelism`'s places.
pub(crate) fn counts_as_active(status: &NodeStatus) -> bool {
    matches!(status.type_, NodeType::Pod | NodeType::Steps | NodeType::Dag)
        && matches!(status.phase, NodePhase::Pending | NodePhase::Running)
}

/// `N/M` as numbers; a node that says nothing has one thing to do.
pub(crate) fn parse_progress(text: Option<&str>) -> (i64, i64) {
    let parsed = text.and_then(|t| {
        let (n, m) = t.split_once('/')?;
        Some((n.parse().ok()?, m.parse().ok()?))
    });
    parsed.unwrap_or((0, 1))
}
