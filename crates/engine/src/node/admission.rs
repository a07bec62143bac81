//! A node that is not let in yet: its template asks for locks.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | Pending | a lock is held by others | Pending | with the lock's name and its holders' number |
//! | Pending | the locks are granted | that of its kind | it begins as if it were new; its own machine takes over |
//! | Pending | … and its outputs are remembered | Succeeded | nothing runs (`memo.rs`) |
//! | Pending | … but no place is free, or the run is suspended | Pending | the locks are given back, and asked for again |
//! | Pending | a lock cannot be had | Error | as a node that could not begin |
//! | Pending | the run is stopped, its deadline or the template's timeouts passed | Failed | |
//!
//! The locks are given back by whatever ends the node. Attempts of a retry node ask for nothing: their parent holds it.

use std::sync::Arc;

use windlass_model::lock::LockName;
use windlass_model::parameter::Inputs;
use windlass_model::status::SynchronizationStatus;
use windlass_model::{NodePhase, NodeType, Template};

use crate::locks::Hold;
use crate::names;
use crate::nodes::{Call, Ix, Machine};
use crate::opening::Opened;
use crate::run::Run;

/// What a node that waits must know to begin.
#[derive(Debug)]
pub(crate) struct AdmissionMachine {
    call: Call,
    locks: Vec<LockName>,
    inputs: Inputs,
    /// Whether nothing has ever run of it: then a refusal leaves no trace of its kind.
    fresh: bool,
}

impl Run {
    /// Whether a call has the locks it needs; if not, what it comes to.
    pub(crate) fn admit(
        &mut self,
        call: &Call,
        locks: Vec<LockName>,
        type_: NodeType,
        template: &Arc<Template>,
        inputs: &Inputs,
    ) -> Option<Opened> {
        let id = names::node_id(self.workflow_name(), &call.name);
        let existing = self.nodes.find(&id);
        match self.hold(&id) {
            Some(Hold::Held(_)) => return None,
            Some(Hold::Refused(message)) => {
                let message = message.clone();
                self.release_locks(&id);
                return Some(self.open_failed(call, message));
            }
            Some(Hold::Waiting { .. }) => {}
            Some(Hold::Asked(_)) if existing.is_none() => {
                // Asked a moment ago.
                if let Some(parent) = call.parent {
                    self.waiting.insert(parent);
                }
                return Some(Opened::Waiting);
            }
            Some(Hold::Asked(_)) => {}
            None => {
                let unseen = existing.is_none() && !self.knows_locks(&locks);
                self.ask_locks(&id, locks.clone());
                if unseen {
                    // A lock that is not there at all stops a group at its first member, as in Argo.
                    if let Some(parent) = call.parent {
                        self.waiting.insert(parent);
                    }
                    return Some(Opened::Waiting);
                }
            }
        }
        let new = existing.is_none();
        let ix = existing.unwrap_or_else(|| {
            let mut row = self.row(call, type_, NodePhase::Pending);
            if crate::nodes::is_executable(type_) {
                row.progress = Some("0/1".to_owned());
            }
            row.inputs = (!inputs.is_empty()).then(|| inputs.clone());
            if type_ == NodeType::Retry {
                crate::node::retry::share_flag(&mut row);
            } else {
                self.name_for_people(&mut row, template, inputs);
            }
            self.nodes.insert(row)
        });
        self.attach(ix, call);
        self.nodes.list[ix].template = Some(template.clone());
        self.nodes.list[ix].machine = Machine::Admission(Box::new(AdmissionMachine {
            call: call.clone(),
            locks,
            inputs: inputs.clone(),
            fresh: new,
        }));
        self.enter(ix);
        self.touch(ix);
        self.enqueue(ix);
        Some(Opened::Node { ix, new })
    }

    pub(crate) fn look_at_admission(&mut self, ix: Ix, machine: AdmissionMachine) {
        let id = self.nodes.list[ix].status.id.clone();
        if self.is_shut_down(ix) {
            let how = self.shutdown.clone().unwrap_or_default();
            self.mark(ix, NodePhase::Failed, Some(&format!("Stopped with strategy '{how}'")));
            return;
        }
        if self.deadline_passed && !machine.call.on_exit {
            self.mark(ix, NodePhase::Failed, Some("Step exceeded its deadline"));
            return;
        }
        if self.pending_too_long(ix) {
            self.time_out(ix);
            return;
        }
        match self.hold(&id).cloned() {
            None if self.has_room(ix) => self.ask_locks(&id, machine.locks.clone()),
            None => _ = self.blocked.insert(ix),
            Some(Hold::Asked(_)) => {}
            Some(Hold::Waiting { lock, message, .. }) => {
                let waiting = Some(SynchronizationStatus { waiting: Some(lock.to_string()) });
                if self.nodes.list[ix].status.synchronization_status != waiting {
                    self.nodes.list[ix].status.synchronization_status = waiting;
                    self.touch(ix);
                }
                self.mark(ix, NodePhase::Pending, Some(&message));
            }
            Some(Hold::Held(_)) if !self.has_room(ix) => {
                // Nobody is to be kept waiting by one that cannot begin.
                self.release_locks(&id);
                self.blocked.insert(ix);
            }
            Some(Hold::Held(_)) => {
                let template = self.nodes.list[ix].template.clone();
                let inputs = machine.inputs.clone();
                if template.is_none_or(|template| self.ask_memo(&id, &template, &inputs)) {
                    self.let_in(ix, &machine.call);
                    return;
                }
            }
            Some(Hold::Refused(message)) => {
                self.release_locks(&id);
                if machine.fresh {
                    let row = &mut self.nodes.list[ix].status;
                    (row.type_, row.progress, row.inputs) = (NodeType::Skipped, None, None);
                }
                self.nodes.list[ix].refused = true;
                self.mark(ix, NodePhase::Error, Some(&message));
                return;
            }
        }
        self.nodes.list[ix].machine = Machine::Admission(Box::new(machine));
    }

    /// Whether the run as a whole lets one more begin.
    fn has_room(&self, ix: Ix) -> bool {
        let node = &self.nodes.list[ix];
        let is_pod = node.status.type_ == NodeType::Pod;
        let crowded = is_pod && self.spec.parallelism.is_some_and(|p| p > 0 && self.active_pods >= p);
        !(crowded || (self.suspend && !node.on_exit))
    }

    /// The node begins, by the same way as a new one.
    fn let_in(&mut self, ix: Ix, call: &Call) {
        self.nodes.list[ix].status.synchronization_status = None;
        self.touch(ix);
        // Only what begins with a pod is pending at first.
        let phase = match self.nodes.list[ix].status.type_ {
            NodeType::Pod | NodeType::Http | NodeType::Plugin => NodePhase::Pending,
            _ => NodePhase::Running,
        };
        self.mark(ix, phase, Some(""));
        self.detach(ix);
        if let Opened::Failed { ix, .. } = self.open(call) {
            self.nodes.list[ix].refused = true;
        }
    }
}
