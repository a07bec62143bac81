//! Rule: a `podSpecPatch` without tags is one that can be put on a pod. Argo's lint says nothing of it, and the step's pod
//! cannot be made: so it is a warning.

use serde_json::Value;
use windlass_model::workflow::WorkflowSpec;

use super::object::{Object, Placed};
use super::pod_types::Shape;
use super::report::Report;

/// The place within a patch of what no pod's spec can have there; the empty one when it is no map at all.
pub(crate) fn fault(patch: &Value) -> Option<String> {
    if patch.is_object() { Shape::Struct("PodSpec").misfit(patch) } else { Some(String::new()) }
}

pub(super) fn check_spec(object: &Object<'_>, spec: &WorkflowSpec, report: &mut Report<'_>) {
    check_text(spec.pod_spec_patch.as_deref(), &format!("{}/podSpecPatch", object.base), report);
}

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    check_text(placed.template.pod_spec_patch.as_deref(), &format!("{}/podSpecPatch", placed.pointer), report);
}

fn check_text(patch: Option<&str>, at: &str, report: &mut Report<'_>) {
    let Some(text) = patch.filter(|text| !text.is_empty() && !text.contains("{{")) else { return };
    let read = crate::pod_spec::parse_text(text);
    let Some(place) = read.as_ref().map_or(Some(String::new()), fault) else { return };
    let message = match (&read, super::report::dotted(&place)) {
        (Some(_), field) if !field.is_empty() => format!("`{field}` of this patch is not what a pod has there"),
        _ => "it is neither YAML nor JSON of a pod's spec".to_owned(),
    };
    report.warning("argo::bad-pod-patch", at, message);
    report.help("a pod with this patch cannot be made: the step ends as Error (Error applying PodSpecPatch)");
}
