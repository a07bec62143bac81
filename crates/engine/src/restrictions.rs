//! `workflowRestrictions.templateReferencing` of the controller's configuration: workflows run stored templates only, and
//! may say little themselves. Decides nothing about who may store templates.

use serde_json::Value;
use windlass_model::workflow::WorkflowSpec;

/// What is asked of workflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referencing {
    /// They refer to a stored template as a whole.
    Strict,
    /// That, and neither they nor the template may change while they run.
    Secure,
}

/// What a workflow may say beside its template: fields of its spec, as they are written.
const ALLOWED: [&str; 14] = [
    "arguments",
    "entrypoint",
    "shutdown",
    "suspend",
    "activeDeadlineSeconds",
    "priority",
    "ttlStrategy",
    "podGC",
    "volumeClaimGC",
    "archiveLogs",
    "workflowMetadata",
    "workflowTemplateRef",
    "metrics",
    "artifactGC",
];

/// What of `artifactGC` reaches a pod.
const OF_PODS: [&str; 3] = ["podMetadata", "podSpecPatch", "serviceAccountName"];

impl Referencing {
    /// Reads the setting.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "Strict" => Some(Self::Strict),
            "Secure" => Some(Self::Secure),
            _ => None,
        }
    }
}

/// Refuses a workflow's own spec, in Argo's words.
pub(crate) fn refuse(own: &WorkflowSpec) -> Result<(), String> {
    if own.workflow_template_ref.is_none() {
        return Err(
            "workflows must use workflowTemplateRef to be executed when the controller is in reference mode".to_owned()
        );
    }
    let value = serde_json::to_value(own).unwrap_or_default();
    let fields = value.as_object().into_iter().flat_map(|map| map.keys());
    let mut wrong: Vec<String> =
        fields.filter(|key| !ALLOWED.contains(&key.as_str())).map(|key| go_name(key)).collect();
    let of_pods = OF_PODS.iter().filter(|field| !value["artifactGC"][**field].is_null());
    wrong.extend(of_pods.map(|field| format!("ArtifactGC.{}", go_name(field))));
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort();
    let wrong = wrong.join(" ");
    Err(format!(
        "fields [{wrong}] are not permitted when using workflowTemplateRef with templateReferencing restriction"
    ))
}

/// The part of a workflow's own spec that counts.
pub(crate) fn allowed(own: &WorkflowSpec) -> WorkflowSpec {
    let mut value = serde_json::to_value(own).unwrap_or_default();
    if let Value::Object(map) = &mut value {
        map.retain(|key, _| ALLOWED.contains(&key.as_str()));
        if let Some(Value::Object(gc)) = map.get_mut("artifactGC") {
            OF_PODS.iter().for_each(|field| drop(gc.remove(*field)));
        }
    }
    serde_json::from_value(value).unwrap_or_default()
}

/// A field's name in Argo's source, which its message tells.
fn go_name(key: &str) -> String {
    match key.strip_prefix("dns") {
        Some(rest) => format!("DNS{rest}"),
        None => key[..1].to_uppercase() + &key[1..],
    }
}
