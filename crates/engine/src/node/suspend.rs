//! A suspend node: waits for somebody, or for a time.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | Running | its duration is over, or somebody resumes it | Succeeded | outputs take values or defaults |
//! | Running | … and a supplied output has neither | Failed; Error by itself | by itself it is a call that went wrong |
//! | Running | the run is stopped or its deadline passed | Failed | |

use std::sync::Arc;

use jiff::SignedDuration;
use windlass_model::parameter::{Outputs, Parameter};
use windlass_model::{AnyString, NodePhase, Template};

use crate::nodes::{Ix, Machine};
use crate::run::Run;
use crate::scope::Scope;

impl Run {
    pub(crate) fn begin_suspend(&mut self, ix: Ix, template: Arc<Template>) {
        if self.nodes.list[ix].status.outputs.is_none() && !template.outputs.is_empty() {
            // What somebody is to supply stands in the row, so that whoever resumes it knows.
            let outputs = self.asked_outputs(ix, &template);
            self.nodes.list[ix].status.outputs = Some(outputs);
            self.touch(ix);
        }
        self.nodes.list[ix].template = Some(template);
        self.nodes.list[ix].machine = Machine::Suspend;
        self.suspended.insert(ix);
        self.enqueue(ix);
    }

    /// The outputs that a suspend node asks for: a default is its own, or that of the input of the same name.
    fn asked_outputs(&self, ix: Ix, template: &Template) -> Outputs {
        let inputs = self.nodes.list[ix].status.inputs.as_ref();
        let scope = Scope { run: self, boundary: None, inputs, locals: &[], globals: true, item: None };
        let mut outputs = template.outputs.clone();
        if let Ok(value) = serde_json::to_value(&outputs)
            && let Ok(value) = windlass_lang::tags::substitute_value(&value, &scope, &Default::default())
            && let Ok(replaced) = serde_json::from_value(value)
        {
            outputs = replaced;
        }
        for parameter in &mut outputs.parameters {
            if let Some(source) = &mut parameter.value_from
                && source.default.is_none()
            {
                let input = inputs.and_then(|i| i.parameter(&parameter.name));
                source.default = input.and_then(|p| p.default.clone());
            }
        }
        outputs
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
            if let Err(message) = self.resume_node(ix, &[], None) {
                self.nodes.list[ix].refused = true;
                self.mark(ix, NodePhase::Error, Some(&message));
            }
        } else {
            self.wake_at(until, Some(ix));
        }
    }

    /// Ends a suspended node well; or says which output nobody gave.
    fn resume_node(&mut self, ix: Ix, given: &[(String, String)], message: Option<&str>) -> Result<(), String> {
        let asked = match &self.nodes.list[ix].status.outputs {
            Some(outputs) => outputs.clone(),
            None => match self.nodes.list[ix].template.clone() {
                Some(template) => self.asked_outputs(ix, &template),
                None => return Ok(()),
            },
        };
        let mut outputs = Outputs::default();
        for parameter in asked.parameters {
            let Some(source) = &parameter.value_from else {
                outputs.parameters.push(parameter);
                continue;
            };
            let given = given.iter().find(|(name, _)| *name == parameter.name);
            let value = given.map(|(_, value)| AnyString(value.clone())).or_else(|| source.default.clone());
            match value {
                Some(value) => outputs.parameters.push(Parameter { value: Some(value), value_from: None, ..parameter }),
                None => {
                    return Err(format!(
                        "raw output parameter '{}' has not been set and does not have a default value",
                        parameter.name
                    ));
                }
            }
        }
        if !outputs.is_empty() {
            self.publish_globals(&outputs);
            self.nodes.list[ix].status.outputs = Some(outputs);
        }
        self.mark(ix, NodePhase::Succeeded, message);
        Ok(())
    }

    pub(crate) fn resume(&mut self, node_ids: &[String], given: &[(String, String)], message: Option<&str>) {
        for ix in self.suspended.clone() {
            let meant = node_ids.is_empty() || node_ids.contains(&self.nodes.list[ix].status.id);
            if meant && let Err(fault) = self.resume_node(ix, given, message) {
                self.mark(ix, NodePhase::Failed, Some(&fault));
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
