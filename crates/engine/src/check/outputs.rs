//! What a template says it makes, and what it tells of itself: outputs, the place of its files, metrics.

use serde_json::Value;
use windlass_model::template::TemplateKind;
use windlass_model::{Artifact, Parameter, Template};

use super::names::{self, Form};
use super::scope::View;
use super::{template, wire};

/// Everything behind the body of a filled template.
pub(super) fn check(filled: &Template, written: &Template, view: &View<'_>) -> Result<(), String> {
    let (name, outputs) = (&filled.name, &filled.outputs);
    names::list(outputs.parameters.iter().map(|p| p.name.as_str()), Form::Value)
        .map_err(|wrong| format!("templates.{name}.outputs.parameters {wrong}"))?;
    names::list(outputs.artifacts.iter().map(|a| a.name.as_str()), Form::Value)
        .map_err(|wrong| format!("templates.{name}.outputs.artifacts {wrong}"))?;
    view.resolve(&wire::text(outputs, "Outputs")).map_err(|wrong| format!("templates.{name}.outputs {wrong}"))?;
    outputs.artifacts.iter().try_for_each(|a| artifact(filled, a))?;
    outputs.parameters.iter().try_for_each(|p| parameter(filled, p))?;
    if let Some(location) = &filled.archive_location {
        template::location(&format!("templates.{name}.archiveLocation"), location)?;
    }
    filled.metrics.iter().flat_map(|m| &m.prometheus).try_for_each(|m| metric(&written.name, m))
}

fn global(at: &str, name: &Option<String>) -> Result<(), String> {
    let name = name.as_deref().filter(|n| !n.is_empty() && !names::is_parameter(n));
    match name.and_then(names::value) {
        Some(wrong) => Err(format!("{at}.globalName: {wrong}")),
        None => Ok(()),
    }
}

fn artifact(filled: &Template, artifact: &Artifact) -> Result<(), String> {
    let at = format!("templates.{}.outputs.artifacts.{}", filled.name, artifact.name);
    let path = artifact.path.as_deref().unwrap_or_default();
    if template::is_leaf(filled) {
        template::check_path(&artifact.name, path).map_err(|wrong| format!("error in {at}: {wrong}"))?;
    } else if !path.is_empty() {
        return Err(format!("{at}.path only valid in container/script templates"));
    }
    global(&at, &artifact.global_name)
}

fn parameter(filled: &Template, parameter: &Parameter) -> Result<(), String> {
    let at = format!("templates.{}.outputs.parameters.{}", filled.name, parameter.name);
    source(&at, parameter)?;
    if let Some(from) = &parameter.value_from {
        let set = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
        let kind = template::kind_word(filled);
        match filled.kind() {
            Some(TemplateKind::Container | TemplateKind::ContainerSet | TemplateKind::Script) if !set(&from.path) => {
                return Err(format!("{at}.path must be specified for {kind} templates"));
            }
            Some(TemplateKind::Resource) if !set(&from.jq_filter) && !set(&from.json_path) => {
                return Err(format!("{at} .jqFilter or jsonPath must be specified for {kind} templates"));
            }
            Some(TemplateKind::Dag | TemplateKind::Steps) => match (set(&from.parameter), set(&from.expression)) {
                (false, false) => {
                    return Err(format!("{at}.parameter or expression must be specified for {kind} templates"));
                }
                (true, true) => {
                    return Err(format!(
                        "{at} shouldn't have both `from` and `expression` specified in `ValueFrom` for {kind} templates"
                    ));
                }
                _ => {}
            },
            _ => {}
        }
    }
    global(&at, &parameter.global_name)
}

/// A value, or one way to get it.
fn source(at: &str, parameter: &Parameter) -> Result<(), String> {
    let from = match (&parameter.value_from, &parameter.value) {
        (Some(_), Some(_)) => return Err(format!("{at} has both valueFrom and value specified, choose one")),
        (None, Some(_)) => return Ok(()),
        (None, None) => return Err(format!("{at} does not have valueFrom or value specified")),
        (Some(from), None) => from,
    };
    let ways = [&from.path, &from.jq_filter, &from.json_path, &from.parameter, &from.expression];
    let ways = ways.into_iter().filter(|way| way.as_deref().is_some_and(|t| !t.is_empty())).count();
    let known = "choose one of: path, jqFilter, jsonPath, parameter, raw";
    match ways + usize::from(from.supplied.is_some()) {
        0 => Err(format!("valueFrom type unspecified. {known}, expression")),
        1 => Ok(()),
        _ => Err(format!("multiple valueFrom types specified. {known}")),
    }
}

fn metric(template: &str, metric: &Value) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&metric["name"]);
    if !is_metric(&name) {
        return Err(format!(
            "templates.{template} metric name '{name}' is invalid. Metric names must contain alphanumeric characters or '_'"
        ));
    }
    for label in metric["labels"].as_array().into_iter().flatten() {
        let key = text(&label["key"]);
        if !is_metric(&key) {
            return Err(format!(
                "metric label '{key}' is invalid: keys may only contain alphanumeric characters or '_'"
            ));
        }
    }
    if text(&metric["help"]).is_empty() {
        return Err(format!("templates.{template} metric '{name}' must contain a help string under 'help: ' field"));
    }
    let gauge = &metric["gauge"];
    let wrong = if gauge.is_object() && text(&gauge["value"]).is_empty() {
        Some("missing gauge.value")
    } else if gauge["realtime"] == true && text(&gauge["value"]).contains("resourcesDuration.") {
        Some("'resourcesDuration.*' metrics cannot be used in real-time")
    } else if metric["counter"].is_object() && text(&metric["counter"]["value"]).is_empty() {
        Some("missing counter.value")
    } else if metric["histogram"].is_object() && text(&metric["histogram"]["value"]).is_empty() {
        Some("missing histogram.value")
    } else {
        None
    };
    wrong.map_or(Ok(()), |wrong| Err(format!("templates.{template} metric '{name}' error: {wrong}")))
}

fn is_metric(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
