//! The PodDisruptionBudget of a run (`podDisruptionBudget`): asked for when the run begins, and again whenever it is taken up;
//! given back when it has ended. What it protects is no matter of the engine's.

use serde_json::{Value, json};
use windlass_model::labels;

use crate::door::Command;
use crate::run::Run;

impl Run {
    /// Asks for the budget. One that is there is as good as made.
    pub(crate) fn make_budget(&mut self) {
        let Some(spec) = self.spec.pod_disruption_budget.clone() else { return };
        let name = self.workflow_name().to_owned();
        let own = json!({labels::WORKFLOW: name});
        let mut spec = spec;
        if spec["selector"].is_null() {
            spec["selector"] = json!({"matchLabels": own});
        }
        let budget: Value = json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "labels": own, "ownerReferences": self.owner()},
            "spec": spec,
        });
        self.commands.push(Command::CreateBudget { name, budget });
    }

    /// Gives it back.
    pub(crate) fn release_budget(&mut self) {
        if self.spec.pod_disruption_budget.is_some() && self.root.is_some() {
            self.commands.push(Command::DeleteBudget { name: self.workflow_name().to_owned() });
        }
    }
}
