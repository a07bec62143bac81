//! A suspend node: waits for somebody, or for a time.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | Running | its duration is over, or somebody resumes it | Succeeded | outputs take values or defaults |
//! | Running | … and a supplied output has neither | Failed | |
//! | Running | the run is stopped or its deadline passed | Failed | |

use std::sync::Arc;

use jiff::SignedDuration;
use windlass_model::parameter::Outputs;
use windlass_model::{AnyString, NodePhase, Template};

use crate::nodes::{Ix, Machine};
use crate::run::Run;
use crate::scope::Scope;

impl Run {
    pub(crate) fn begin_suspend(&mut self, ix: Ix, template: Arc<Template>) {
        self.nodes.list[ix].template = Some(template);
        self.nodes.list[ix].machine = Machine::Suspend;
        self.suspended.insert(ix);
        self.enqueue(ix);
    }

    pub(crate) fn look_at_suspend(&mut self, ix: Ix) {
        let Some(template) = self.nodes.list[ix].template.clone() else { return };
        let Some(text) = template.suspend.as_ref().and_then(|s| s.duration.as_ref()).filter(|d| !d.0.is_empty()) else {
            return;
        };
        let inputs = self.nodes.list[ix].status.inputs.clone();
        let text = {
            let scope =
                Scope { run: self, boundary: None, inputs: inputs.as_ref(), locals: &[], globals: true, item: None };
            windlass_lang::tags::substitute(&text.0, &scope, &Default::default()).unwrap_or_else(|_| text.0.clone())
        };
        let Some(ms) = crate::duration::parse_ms(&text) else {
            self.mark(ix, NodePhase::Error, Some(&format!("suspend duration '{text}' cannot be read")));
            return;
        };
        let started = self.nodes.list[ix].status.started_at.map_or(self.now, |t| t.0);
        let until = started.checked_add(SignedDuration::from_millis(ms)).unwrap_or(self.now);
        if until <= self.now {
            self.resume_node(ix, &[], None);
        } else {
            self.wake_at(until, Some(ix));
        }
    }

    /// Ends a suspended node well.
    pub(crate) fn resume_node(&mut self, ix: Ix, given: &[(String, String)], message: Option<&str>) {
        let Some(template) = self.nodes.list[ix].template.clone() else { return };
        let mut outputs = Outputs::default();
        for parameter in &template.outputs.parameters {
            let Some(source) = &parameter.value_from else {
                outputs.parameters.push(parameter.clone());
                continue;
            };
            let inputs = self.nodes.list[ix].status.inputs.as_ref();
            let input = inputs.and_then(|i| i.parameter(&parameter.name));
            let value = given
                .iter()
                .find(|(name, _)| *name == parameter.name)
                .map(|(_, value)| AnyString(value.clone()))
                .or_else(|| source.default.clone())
                .or_else(|| input.and_then(|p| p.default.clone()));
            match value {
                Some(value) => {
                    let mut out = parameter.clone();
                    out.value = Some(value);
                    out.value_from = None;
                    outputs.parameters.push(out);
                }
                None => {
                    let message = format!(
                        "raw output parameter '{}' has not been set and does not have a default value",
                        parameter.name
                    );
                    self.mark(ix, NodePhase::Failed, Some(&message));
                    return;
                }
            }
        }
        if !outputs.is_empty() {
            self.publish_globals(&outputs);
            self.nodes.list[ix].status.outputs = Some(outputs);
        }
        self.mark(ix, NodePhase::Succeeded, message);
    }

    pub(crate) fn resume(&mut self, node_ids: &[String], given: &[(String, String)], message: Option<&str>) {
        for ix in self.suspended.clone() {
            if node_ids.is_empty() || node_ids.contains(&self.nodes.list[ix].status.id) {
                self.resume_node(ix, given, message);
            }
        }
    }

    pub(crate) fn fail_suspended(&mut self, node_ids: &[String], message: Option<&str>) {
        for ix in self.suspended.clone() {
            if node_ids.is_empty() || node_ids.contains(&self.nodes.list[ix].status.id) {
                self.mark(ix, NodePhase::Failed, message);
            }
        }
    }
}
