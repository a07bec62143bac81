//! What a workflow, a step or a task is given: every parameter has a value, every artifact a place.

use windlass_model::{Arguments, Artifact, Parameter};

use super::names::{self, Form};

/// The arguments at a place; `prefix` ends with a dot.
pub(super) fn check(prefix: &str, arguments: &Arguments) -> Result<(), String> {
    names(prefix, arguments)?;
    let Arguments { parameters, artifacts } = arguments;
    parameters.iter().try_for_each(|p| parameter(prefix, p))?;
    artifacts.iter().try_for_each(|a| artifact(prefix, a))
}

/// The same of a manifest that is linted: whoever submits it may give values.
pub(super) fn check_unsubmitted(prefix: &str, arguments: &Arguments) -> Result<(), String> {
    names(prefix, arguments)?;
    for given in &arguments.parameters {
        let no_value = given.value.is_none();
        match &given.enum_ {
            None if no_value && given.value_from.is_none() => {}
            // Argo looks at nothing after that.
            Some(allowed) if no_value && !allowed.is_empty() && source(prefix, given).is_ok() => return Ok(()),
            _ => parameter(prefix, given)?,
        }
    }
    arguments.artifacts.iter().try_for_each(|a| artifact(prefix, a))
}

fn names(prefix: &str, arguments: &Arguments) -> Result<(), String> {
    let Arguments { parameters, artifacts } = arguments;
    names::list(parameters.iter().map(|p| p.name.as_str()), Form::Value)
        .map_err(|wrong| format!("{prefix}parameters{wrong}"))?;
    names::list(artifacts.iter().map(|a| a.name.as_str()), Form::Value)
        .map_err(|wrong| format!("{prefix}artifacts{wrong}"))
}

fn source(prefix: &str, parameter: &Parameter) -> Result<(), String> {
    let name = &parameter.name;
    if let Some(from) = &parameter.value_from {
        let set = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
        let right = from.config_map_key_ref.is_some() || set(&from.event) || from.supplied.is_some();
        if !right || set(&from.path) || set(&from.json_path) || set(&from.parameter) || set(&from.expression) {
            return Err(format!("{prefix}{name}.valueFrom only allows: default, configMapKeyRef and supplied"));
        }
    }
    Ok(())
}

fn parameter(prefix: &str, parameter: &Parameter) -> Result<(), String> {
    let name = &parameter.name;
    if parameter.value_from.is_none() && parameter.value.is_none() {
        return Err(format!("{prefix}{name}.value or {prefix}{name}.valueFrom is required"));
    }
    source(prefix, parameter)?;
    let Some(allowed) = &parameter.enum_ else { return Ok(()) };
    if allowed.is_empty() {
        return Err(format!("{prefix}{name}.enum should contain at least one value"));
    }
    match &parameter.value {
        None => Err(format!("{prefix}{name}.value is required")),
        Some(value) if !allowed.contains(value) => {
            Err(format!("{prefix}{name}.value should be present in {prefix}{name}.enum list"))
        }
        Some(_) => Ok(()),
    }
}

fn artifact(prefix: &str, artifact: &Artifact) -> Result<(), String> {
    let name = &artifact.name;
    let set = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    if !set(&artifact.from) && !has_place(artifact) {
        return Err(format!("{prefix}{name}.from, artifact location, or key is required"));
    }
    if set(&artifact.from) && set(&artifact.from_expression) {
        return Err(format!("{prefix}{name} shouldn't have both `from` and `fromExpression` in Artifact"));
    }
    Ok(())
}

/// Whether an artifact says where it is, or under which key.
pub(super) fn has_place(artifact: &Artifact) -> bool {
    let location = artifact.location();
    location.has_location() || location.key().is_some_and(|key| !key.is_empty())
}
