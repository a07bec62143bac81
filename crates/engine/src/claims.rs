//! Claims made for a run (`volumeClaimTemplates`): asked for before the entrypoint begins, mounted under their template's
//! name, given back at the end as `volumeClaimGC` says. What they are bound to is no matter of the engine's.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use windlass_model::{WorkflowPhase, labels};

use crate::door::Command;
use crate::run::Run;

/// How long a refusal that may pass is waited for.
const AGAIN_S: i64 = 5;

/// How far one claim is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Claim {
    /// The answer is still to come.
    Asked,
    /// It is there.
    Made,
    /// It was refused; asked for again at this time, or never.
    Refused { message: String, again: Option<Timestamp> },
}

impl Run {
    /// Whether all claims are there. `Err(None)`: wait. `Err(Some)`: they never will be.
    pub(crate) fn make_claims(&mut self) -> Result<(), Option<(WorkflowPhase, String)>> {
        let spec = self.spec.clone();
        let mut missing = false;
        for (index, template) in spec.volume_claim_templates.iter().enumerate() {
            let Some(volume) = template["metadata"]["name"].as_str().filter(|name| !name.is_empty()) else {
                let text = format!("pvc create error: volumeClaimTemplates[{index}].metadata.name is required");
                return Err(Some((WorkflowPhase::Error, text)));
            };
            if self.status.persistent_volume_claims.iter().any(|known| known["name"] == volume) {
                continue;
            }
            let name = format!("{}-{volume}", self.workflow_name());
            match self.claims.get(&name).cloned() {
                Some(Claim::Made) => {
                    let volume = json!({"name": volume, "persistentVolumeClaim": {"claimName": name}});
                    self.status.persistent_volume_claims.push(volume);
                    self.dirty = true;
                    continue;
                }
                Some(Claim::Asked) => {}
                Some(Claim::Refused { message, again: None }) => {
                    return Err(Some((WorkflowPhase::Error, format!("pvc create error: {message}"))));
                }
                Some(Claim::Refused { message, again: Some(at) }) if at > self.now => {
                    let text = format!("Waiting for a PVC to be created. {message}");
                    if self.status.message.as_deref() != Some(&text) {
                        self.mark_workflow(WorkflowPhase::Pending, &text);
                    }
                }
                Some(Claim::Refused { .. }) | None => {
                    let claim = self.claim(&name, template);
                    self.claims.insert(name.clone(), Claim::Asked);
                    self.commands.push(Command::CreateClaim { name, claim });
                }
            }
            missing = true;
        }
        if missing { Err(None) } else { Ok(()) }
    }

    fn claim(&self, name: &str, template: &Value) -> Value {
        let mut metadata = template["metadata"].clone();
        metadata["name"] = json!(name);
        if !metadata["labels"].is_object() {
            metadata["labels"] = json!({});
        }
        metadata["labels"][labels::WORKFLOW] = json!(self.workflow_name());
        metadata["ownerReferences"] = self.owner();
        let spec = &template["spec"];
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    }

    /// The answer to a claim.
    pub(crate) fn observe_claim(&mut self, name: &str, refusal: Option<(&str, bool)>) {
        let claim = match refusal {
            None => Claim::Made,
            Some((message, transient)) => {
                let at = self.now.checked_add(SignedDuration::from_secs(AGAIN_S)).unwrap_or(self.now);
                if transient {
                    self.wake_at(at, None);
                }
                Claim::Refused { message: message.to_owned(), again: transient.then_some(at) }
            }
        };
        self.claims.insert(name.to_owned(), claim);
    }

    /// Gives the claims back, where the run ended as they are to be given back for.
    pub(crate) fn release_claims(&mut self, phase: WorkflowPhase) {
        let strategy = self.spec.volume_claim_gc.as_ref().and_then(|gc| gc.strategy.as_deref()).unwrap_or_default();
        // The default keeps what a failed run has made, for a retry.
        if strategy != "OnWorkflowCompletion" && phase != WorkflowPhase::Succeeded {
            return;
        }
        for volume in std::mem::take(&mut self.status.persistent_volume_claims) {
            if let Some(name) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                self.commands.push(Command::DeleteClaim { name: name.to_owned() });
            }
            self.dirty = true;
        }
    }
}
