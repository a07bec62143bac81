//! A step or task made ready to run: `when` first, then everything else; artifacts by reference; hooks left for later.

use serde_json::Value;
use windlass_lang::expr::Expression;
use windlass_lang::tags::{self, Lookup, Options, Resolve, TagKind};
use windlass_lang::when::Condition;
use windlass_model::template::WorkflowStep;
use windlass_model::{Artifact, Parameter};

use crate::scope::Scope;

/// A step whose references are replaced.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub step: WorkflowStep,
    /// Parameters whose value is known to be absent.
    pub absent: Vec<String>,
    /// The `when`, when it is false already.
    pub skipped: Option<String>,
}

const STRICT: Options<'static> = Options { strict: &["steps", "tasks"], strict_all: false };

/// Replaces the references in a step. What goes wrong is said in Argo's words.
pub(crate) fn ready(step: &WorkflowStep, scope: &Scope<'_>, is_dag: bool) -> Result<Ready, String> {
    let mut out = Ready { step: step.clone(), absent: Vec::new(), skipped: None };
    let whole = serde_json::to_value(&out.step).map_err(|e| e.to_string())?;
    if !tags::has_tags(&whole) {
        return when_only(out);
    }
    if let Some(when) = &step.when {
        check_references(&Value::String(when.clone()), scope)?;
        let text = tags::substitute(when, scope, &STRICT).map_err(|f| crate::inputs::first_message(&f))?;
        out.step.when = Some(text);
        out = when_only(out)?;
        if out.skipped.is_some() {
            return Ok(out);
        }
    }
    let hooks = std::mem::take(&mut out.step.hooks);
    let artifacts = std::mem::take(&mut out.step.arguments.artifacts);
    for parameter in &mut out.step.arguments.parameters {
        drop_absent(parameter, scope, &mut out.absent);
    }
    let value = serde_json::to_value(&out.step).map_err(|e| e.to_string())?;
    check_references(&value, scope)?;
    let value = tags::substitute_value(&value, scope, &STRICT)
        .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())?;
    out.step = serde_json::from_value(value).map_err(|e| e.to_string())?;
    out.step.hooks = hooks;
    for artifact in artifacts {
        let resolved = artifact_argument(&artifact, scope, is_dag);
        // Argo says of steps what it was doing, and of tasks not.
        let resolved = resolved.map_err(|m| if is_dag { m } else { format!("unable to resolve references: {m}") })?;
        out.step.arguments.artifacts.extend(resolved);
    }
    Ok(out)
}

/// Tests `when` where it does not ask for a loop's item.
fn when_only(mut ready: Ready) -> Result<Ready, String> {
    let step = &ready.step;
    let looped = step.with_items.is_some() || step.with_param.is_some() || step.with_sequence.is_some();
    if let Some(when) = &ready.step.when
        // What is left in it is asked of each item.
        && !(looped && when.contains("{{"))
        && !when.contains("{{item")
        && !when.contains("{{ item")
        && !when.is_empty()
    {
        // A false `when` must hide a broken loop; a true one is not asked again.
        match when_holds(when) {
            Ok(false) => ready.skipped = Some(when.clone()),
            Ok(true) => ready.step.when = None,
            // Each item says so for itself; a loop that cannot be unrolled says that first.
            Err(_) if looped => {}
            Err(message) => return Err(message),
        }
    }
    Ok(ready)
}

/// Whether a `when` holds.
pub(crate) fn when_holds(when: &str) -> Result<bool, String> {
    if when.trim().is_empty() {
        return Ok(true);
    }
    let condition = Condition::parse(when).map_err(|fault| {
        let quotes = " (hint: try wrapping the affected expression in quotes (\"))";
        let hint = if fault.message.contains("Invalid token") { quotes } else { "" };
        format!("Invalid 'when' expression '{when}': {}{hint}", fault.message)
    })?;
    // The second word is spelt as Argo spells it.
    let value = condition
        .value()
        .map_err(|fault| format!("Failed to evaluate 'when' expresion '{when}': {}", fault.message))?;
    match value {
        windlass_lang::when::Value::Bool(truth) => Ok(truth),
        other => Err(format!("Expected boolean evaluation for '{when}'. Got {other}")),
    }
}

/// An argument that is nothing but a reference to something absent is not given at all.
fn drop_absent(parameter: &mut Parameter, scope: &Scope<'_>, absent: &mut Vec<String>) {
    let Some(value) = &parameter.value else { return };
    if let Some(name) = tags::pure_reference(value.0.trim())
        && scope.name(&name) == Lookup::Absent
    {
        parameter.value = None;
        absent.push(parameter.name.clone());
    }
}

/// Every reference to a step or task must be known and there.
fn check_references(value: &Value, scope: &Scope<'_>) -> Result<(), String> {
    match value {
        Value::String(text) if text.contains("{{") => {
            for tag in tags::find(text) {
                let name = match &tag.kind {
                    TagKind::Name(name) => name,
                    TagKind::Expression(text, _) => {
                        if let Some(name) = missing_in(text, scope) {
                            return Err(format!("failed to resolve {{{{={text}}}}}: {}", why_unknown(&name, scope)));
                        }
                        continue;
                    }
                };
                if !name.starts_with("steps.") && !name.starts_with("tasks.") {
                    continue;
                }
                match scope.name(name) {
                    Lookup::Text(_) => {}
                    Lookup::Absent => {
                        return Err(format!(
                            "unable to substitute {{{{{name}}}}}: output is an absent optional \
                             (skipped/omitted node with no default)"
                        ));
                    }
                    Lookup::Unknown => {
                        return Err(format!("failed to resolve {{{{{name}}}}}: {}", why_unknown(name, scope)));
                    }
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|v| check_references(v, scope)),
        Value::Object(map) => map.values().try_for_each(|v| check_references(v, scope)),
        _ => Ok(()),
    }
}

/// The first name of a step or task that an expression needs and nobody gives.
fn missing_in(text: &str, scope: &Scope<'_>) -> Option<String> {
    let expression = Expression::parse(text).ok()?;
    let env = crate::expression::environment(scope, &expression);
    let missing = expression.names().iter().find(|name| {
        let of_member = matches!(name.path[0].as_str(), "steps" | "tasks");
        of_member && !name.optional && env.get(&name.path).is_none()
    })?;
    Some(missing.path.join("."))
}

/// Why a name of a step or task has no value and never will.
fn why_unknown(name: &str, scope: &Scope<'_>) -> String {
    let member = name.split('.').nth(1).unwrap_or_default();
    let status = scope.boundary.and_then(|boundary| scope.run.member_status(boundary, member));
    match status {
        Some(status) if status.phase.is_fulfilled() => {
            format!("{} ended as {} without giving `{name}`", status.name, status.phase)
        }
        Some(status) => format!("{} is {} and has not given `{name}`", status.name, status.phase),
        None => format!("nothing that has run gives `{name}`"),
    }
}

/// The artifact an argument means; nothing when it is optional and there is none.
pub(crate) fn artifact_argument(
    argument: &Artifact,
    scope: &Scope<'_>,
    is_dag: bool,
) -> Result<Option<Artifact>, String> {
    let mut out = argument.clone();
    if let Some(from) = argument.from.as_deref().filter(|f| !f.is_empty()) {
        let text = if from.contains("{{inputs.parameters") || from.contains("{{item") {
            tags::substitute(from, scope, &Options::default()).unwrap_or_else(|_| from.to_owned())
        } else {
            from.to_owned()
        };
        let name = tags::pure_reference(text.trim()).unwrap_or(text);
        match scope.artifact(&name) {
            Ok(Some(found)) => take(&mut out, &found),
            Ok(None) if argument.optional => return Ok(None),
            Ok(None) if !is_dag => {}
            Ok(None) | Err(()) => {
                if argument.optional {
                    return Ok(None);
                }
                return Err(format!("Unable to resolve: \"{name}\""));
            }
        }
        out.from = None;
    } else if let Some(expression) = argument.from_expression.as_deref().filter(|e| !e.is_empty()) {
        match crate::expression::artifact(scope, expression) {
            Ok(Some(found)) => take(&mut out, &found),
            Ok(None) if argument.optional => return Ok(None),
            Ok(None) => {}
            Err(message) if argument.optional => {
                drop(message);
                return Ok(None);
            }
            Err(message) => return Err(message),
        }
        out.from_expression = None;
    } else {
        out = crate::inputs::substituted(&out, scope)?;
    }
    if let Some(sub_path) = out.sub_path.take().filter(|p| !p.is_empty()) {
        let sub_path = tags::substitute(&sub_path, scope, &Options::default()).unwrap_or(sub_path);
        let mut location = out.location();
        if let Some(key) = location.key().map(str::to_owned) {
            location.set_key(&format!("{}/{}", key.trim_end_matches('/'), sub_path.trim_start_matches('/')));
            out.set_location(location);
        }
    }
    Ok(Some(out))
}

fn take(out: &mut Artifact, found: &Artifact) {
    out.set_location(found.location());
    if out.path.is_none() {
        out.path = found.path.clone();
    }
    if out.archive.is_none() {
        out.archive = found.archive.clone();
    }
}
