//! Ends what waits for something that nobody will ever do, and says for what. Argo leaves such a run "Running" for ever.
//!
//! A run is in a deadlock when nothing of it runs outside (no pod but daemons, nothing suspended, no lock awaited), nothing
//! was asked for, no alarm is set, and its root has not ended. It looks at all nodes only when no pod is active, so a run
//! pays for it at most where it would stand still anyway. It must never end what somebody outside could still move.

use windlass_model::{NodePhase, NodeType};

use crate::nodes::{Ix, Machine, is_executable};
use crate::run::{Run, Stage};

impl Run {
    /// Ends the innermost nodes of a deadlock; true when there was one.
    pub(crate) fn break_deadlock(&mut self) -> bool {
        let stands_still = matches!(self.stage, Stage::Running | Stage::Exiting)
            && self.commands.is_empty()
            && !self.suspend
            && self.waiting.is_empty()
            && self.suspended.is_empty()
            && self.active_pods <= i64::try_from(self.daemons.len()).unwrap_or(i64::MAX);
        if !stands_still || self.has_alarm() || self.moves_outside() {
            return false;
        }
        let stuck = self.innermost();
        for ix in &stuck {
            let message = self.why_stuck(*ix);
            self.mark(*ix, NodePhase::Error, Some(&message));
        }
        !stuck.is_empty()
    }

    /// Whether somebody outside can still move a node.
    fn moves_outside(&self) -> bool {
        self.nodes.list.iter().any(|node| {
            let status = &node.status;
            let daemon = status.daemoned == Some(true);
            !status.phase.is_fulfilled()
                && (((is_executable(status.type_) || matches!(status.type_, NodeType::Http | NodeType::Plugin))
                    && !daemon)
                    || status.type_ == NodeType::Suspend
                    || status.synchronization_status.is_some()
                    || (matches!(node.machine, Machine::Admission(_)) && self.hold(&status.id).is_some()))
        })
    }

    /// The nodes that have not ended and have nothing below them that has not.
    fn innermost(&self) -> Vec<Ix> {
        let open = |ix: Ix| {
            let node = &self.nodes.list[ix];
            node.attached && !node.status.phase.is_fulfilled() && node.status.daemoned != Some(true)
        };
        let mut is_parent = vec![false; self.nodes.list.len()];
        for ix in (0..self.nodes.list.len()).filter(|ix| open(*ix)) {
            for above in [self.nodes.list[ix].parent, self.nodes.list[ix].boundary].into_iter().flatten() {
                is_parent[above] = true;
            }
        }
        (0..self.nodes.list.len()).filter(|ix| open(*ix) && !is_parent[*ix]).collect()
    }

    fn why_stuck(&self, ix: Ix) -> String {
        let names: Vec<&str> = self.daemons.iter().map(|d| self.nodes.list[*d].status.name.as_str()).collect();
        let limit = self.spec.parallelism.filter(|p| *p > 0 && self.active_pods >= *p);
        match (self.blocked.contains(&ix), limit) {
            (true, Some(limit)) => format!(
                "deadlock: the next pod can never begin, for `parallelism: {limit}` is taken by what runs until the end \
                 (daemons: {}); allow one more",
                names.join(", ")
            ),
            (true, None) => "deadlock: what comes next waits for a place that nothing will ever free".to_owned(),
            (false, _) => {
                let waits = match &self.nodes.list[ix].machine {
                    Machine::Dag(_) => "a task",
                    Machine::Steps(_) | Machine::Group(_) => "a step",
                    _ => "it",
                };
                format!("deadlock: {waits} waits for something that nothing in this run will ever do")
            }
        }
    }
}
