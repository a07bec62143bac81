//! A resident run.

use jiff::Timestamp;
use serde_json::Value;
use windlass_model::{Workflow, WorkflowStatus};

use crate::door::{Config, Decision, Observation};

/// One workflow's run, loaded once and told what happens.
#[derive(Debug)]
pub struct Run {
    status: WorkflowStatus,
}

impl Run {
    /// Takes up a workflow where its status left it.
    pub fn load(workflow: &Workflow, _config: &Config) -> Self {
        Self { status: workflow.status.clone().unwrap_or_default() }
    }

    /// Takes in what was observed and decides what to do.
    pub fn step(&mut self, _observations: &[Observation], _now: Timestamp) -> Decision {
        Decision::default()
    }

    /// The whole status.
    pub fn status(&self) -> WorkflowStatus {
        self.status.clone()
    }

    /// What changed since the last call, as a merge patch of the Workflow (`status`, and labels in `metadata`).
    /// Nothing when nothing changed.
    pub fn take_patch(&mut self) -> Option<Value> {
        None
    }
}
