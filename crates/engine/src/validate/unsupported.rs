//! Rule: what Windlass does not run yet is refused by name, with the issue that will bring it. The one table of it.

use serde_json::Value;

use super::object::Object;
use super::report::Report;

/// One feature that is not run yet.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported {
    /// The field, with the type it is in: `template.plugin`, `spec.podDisruptionBudget`, `step.…`.
    pub field: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// The issue that will bring it.
    pub issue: u32,
}

/// Everything that is accepted by Argo and not run by Windlass yet.
///
/// `template.` fields are looked for in every template, `spec.` fields in the workflow's spec. These are warnings in
/// lint (the manifest is right), and errors when a run is submitted ([`refuse`]).
pub const TABLE: &[Unsupported] =
    &[Unsupported { field: "template.executorPlugins", what: "executor plugins", issue: 5 }];

/// Every use of an unsupported feature: its place as a JSON pointer below the spec, and the table's row.
pub fn uses(spec: &Value) -> Vec<(String, &'static Unsupported)> {
    let mut out = Vec::new();
    for row in TABLE {
        let Some((owner, field)) = row.field.split_once('.') else { continue };
        let mut look = |value: &Value, at: String| {
            if value.get(field).is_some_and(|v| !v.is_null()) {
                out.push((format!("{at}/{field}"), row));
            }
        };
        match owner {
            "spec" => look(spec, String::new()),
            _ => templates(spec, &mut look),
        }
    }
    out
}

/// Calls `look` with every template below a spec, inline ones too.
fn templates(spec: &Value, look: &mut dyn FnMut(&Value, String)) {
    let top = spec.get("templates").and_then(Value::as_array).into_iter().flatten().enumerate();
    let mut todo: Vec<(&Value, String)> = top.map(|(i, t)| (t, format!("/templates/{i}"))).collect();
    while let Some((template, at)) = todo.pop() {
        for (g, group) in template.get("steps").and_then(Value::as_array).into_iter().flatten().enumerate() {
            for (s, step) in group.as_array().into_iter().flatten().enumerate() {
                todo.extend(step.get("inline").map(|t| (t, format!("{at}/steps/{g}/{s}/inline"))));
            }
        }
        let tasks = template.pointer("/dag/tasks").and_then(Value::as_array).into_iter().flatten();
        for (t, task) in tasks.enumerate() {
            todo.extend(task.get("inline").map(|i| (i, format!("{at}/dag/tasks/{t}/inline"))));
        }
        look(template, at);
    }
}

/// What a run with this spec would need and is not there yet, in words; empty when everything is there.
pub fn refuse(spec: &Value) -> Vec<String> {
    let uses = uses(spec);
    uses.iter()
        .map(|(at, row)| {
            let at = super::report::dotted(at);
            format!("Windlass does not run this yet: {} (issue #{}), at spec.{at}", row.what, row.issue)
        })
        .collect()
}

pub(super) fn check(object: &Object<'_>, report: &mut Report<'_>) {
    let Some(spec) = object.document.value.pointer(object.base) else { return };
    for (at, row) in uses(spec) {
        let message = format!("Windlass does not run this yet: {} (issue #{})", row.what, row.issue);
        report.warning("windlass::unsupported", &format!("{}{at}", object.base), message);
    }
}
