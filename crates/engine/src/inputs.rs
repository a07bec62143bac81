//! A template's inputs from a call's arguments. Decides precedence; looks values up nowhere but in its arguments.

use windlass_lang::tags::{self, Options};
use windlass_model::parameter::{ConfigMapKeySelector, Inputs};
use windlass_model::{AnyString, Artifact, Template, labels};

use crate::nodes::Call;
use crate::run::Run;
use crate::scope::Scope;

/// Why there are no inputs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum InputFault {
    /// Something must be fetched first.
    Wait,
    /// There will never be any.
    Wrong(String),
}

impl Run {
    /// The inputs of a template, when called so.
    pub(crate) fn inputs(&mut self, template: &Template, call: &Call) -> Result<Inputs, InputFault> {
        let wrong = |text: String| InputFault::Wrong(text);
        let mut inputs = template.inputs.clone();
        for parameter in &mut inputs.parameters {
            let name = parameter.name.clone();
            if parameter.value.is_none() {
                parameter.value = parameter.default.clone();
            }
            if let Some(argument) = call.arguments.parameter(&name)
                && !call.absent.contains(&name)
            {
                if argument.value.is_some() {
                    parameter.value = argument.value.clone();
                } else {
                    parameter.value = None;
                    parameter.value_from = argument.value_from.clone().or(parameter.value_from.take());
                }
            }
            if parameter.value.is_none()
                && let Some(source) = &parameter.value_from
                && let Some(selector) = source.config_map_key_ref.clone()
            {
                let default = source.default.clone().or(parameter.default.clone());
                parameter.value = self.config_map_value(&selector, default).map_err(|fault| match fault {
                    InputFault::Wrong(m) => {
                        InputFault::Wrong(format!("unable to retrieve inputs.parameters.{name} from ConfigMap: {m}"))
                    }
                    wait => wait,
                })?;
            }
            match &parameter.value {
                None if call.absent.contains(&name) => {
                    return Err(wrong(format!(
                        "inputs.parameters.{name}: argument references an absent optional \
                         (skipped/omitted node output with no default)"
                    )));
                }
                None => return Err(wrong(format!("inputs.parameters.{name} was not supplied"))),
                Some(value) if value.0.contains("{{") => {
                    let scope = Scope::globals(self);
                    let text = tags::substitute(&value.0, &scope, &Options::default())
                        .map_err(|faults| wrong(first_message(&faults)))?;
                    parameter.value = Some(AnyString(text));
                }
                Some(_) => {}
            }
        }
        // One may be made of the others.
        let all = Inputs { parameters: inputs.parameters.clone(), artifacts: Vec::new() };
        for parameter in &mut inputs.parameters {
            let Some(value) = parameter.value.as_mut().filter(|value| value.0.contains("{{inputs.")) else { continue };
            let scope =
                Scope { run: self, boundary: None, inputs: Some(&all), locals: &[], globals: false, item: None };
            value.0 = tags::substitute(&value.0, &scope, &Options::default())
                .map_err(|faults| wrong(first_message(&faults)))?;
        }
        for artifact in &mut inputs.artifacts {
            if artifact.has_driver() {
                let scope = Scope {
                    run: self,
                    boundary: None,
                    inputs: Some(&Inputs { parameters: inputs.parameters.clone(), artifacts: Vec::new() }),
                    locals: &[],
                    globals: true,
                    item: None,
                };
                *artifact = substituted(artifact, &scope).map_err(wrong)?;
                continue;
            }
            match call.arguments.artifact(&artifact.name) {
                Some(given) if given.has_driver() => {
                    let mut taken = given.clone();
                    taken.name = artifact.name.clone();
                    taken.path = artifact.path.clone();
                    taken.mode = artifact.mode;
                    taken.recurse_mode = artifact.recurse_mode;
                    taken.optional = artifact.optional;
                    taken.from = None;
                    if artifact.archive.is_some() {
                        taken.archive = artifact.archive.clone();
                    }
                    *artifact = taken;
                }
                _ if artifact.optional => {}
                _ => return Err(wrong(format!("inputs.artifacts.{} was not supplied", artifact.name))),
            }
        }
        inputs.artifacts.retain(|a| a.has_driver() || a.optional);
        Ok(inputs)
    }

    /// The value of a ConfigMap's key.
    pub(crate) fn config_map_value(
        &mut self,
        selector: &ConfigMapKeySelector,
        default: Option<AnyString>,
    ) -> Result<Option<AnyString>, InputFault> {
        let (name, key) = {
            let scope = Scope::globals(self);
            let text = |t: &str| tags::substitute(t, &scope, &Options::default()).unwrap_or_else(|_| t.to_owned());
            (text(&selector.name), text(&selector.key))
        };
        let Some(known) = self.config_maps.get(&name) else {
            self.ask_config_map(&name);
            return Err(InputFault::Wait);
        };
        let Some(object) = known else {
            return match default {
                Some(value) => Ok(Some(value)),
                None if selector.optional == Some(true) => Ok(None),
                None => Err(InputFault::Wrong(format!(
                    "ConfigMap '{name}' does not exist. Please make sure it has the label \
                     {}: Parameter to be detectable by the controller",
                    labels::CONFIGMAP_TYPE
                ))),
            };
        };
        if object["metadata"]["labels"][labels::CONFIGMAP_TYPE].as_str() != Some("Parameter") {
            return Err(InputFault::Wrong(format!(
                "ConfigMap '{name}' needs to have the label {}: Parameter to load parameters",
                labels::CONFIGMAP_TYPE
            )));
        }
        match object["data"][&key].as_str() {
            Some(value) => Ok(Some(AnyString(value.to_owned()))),
            None => match default {
                Some(value) => Ok(Some(value)),
                None if selector.optional == Some(true) => Ok(None),
                None => Err(InputFault::Wrong(format!("ConfigMap '{name}' does not have the key '{key}'"))),
            },
        }
    }
}

/// An artifact with the tags of its location replaced.
pub(crate) fn substituted(artifact: &Artifact, scope: &Scope<'_>) -> Result<Artifact, String> {
    let value = serde_json::to_value(artifact).map_err(|e| e.to_string())?;
    if !tags::has_tags(&value) {
        return Ok(artifact.clone());
    }
    let value = tags::substitute_value(&value, scope, &Options::default())
        .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())?;
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// The first fault's words.
pub(crate) fn first_message(faults: &[windlass_lang::Fault]) -> String {
    faults.first().map(|f| f.message.clone()).unwrap_or_default()
}
