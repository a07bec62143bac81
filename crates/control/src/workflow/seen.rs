//! What the watch reads of a Workflow: enough to notice it and what people change while it runs. The status stays
//! unparsed, for it may be large and is ours anyway. What it reads of a Pod is in [`crate::pod`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, GroupVersionKind};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use windlass_model::{ARGO_API_VERSION, ARGO_GROUP, VERSION, labels};

use crate::part::part_of_workflow;

/// A Workflow as the watch sees it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct WorkflowSeen {
    /// Name, labels, version.
    pub(crate) metadata: ObjectMeta,
    /// What people change while it runs.
    pub(crate) spec: SpecSeen,
    /// The whole spec of a workflow that nobody has said anything of yet: its run begins with it.
    #[serde(skip)]
    fresh: Option<Value>,
}

/// The fields of a Workflow's spec that people change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SpecSeen {
    #[serde(deserialize_with = "if_it_is_one")]
    pub(crate) suspend: Option<bool>,
    #[serde(deserialize_with = "if_it_is_one")]
    pub(crate) shutdown: Option<String>,
    #[serde(deserialize_with = "if_it_is_one")]
    pub(crate) active_deadline_seconds: Option<i64>,
    #[serde(deserialize_with = "if_it_is_one")]
    pub(crate) priority: Option<i32>,
}

/// A value of another type is the run's to refuse: one such workflow must not stop the watch of all.
fn if_it_is_one<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// By hand, since how much of a spec is read depends on the labels, which an API server writes before it.
impl<'de> Deserialize<'de> for WorkflowSeen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = WorkflowSeen;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a Workflow")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WorkflowSeen, A::Error> {
        let mut seen = WorkflowSeen::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => seen.metadata = map.next_value()?,
                "spec" if seen.metadata.uid.is_some() && seen.is_new() => {
                    let spec: Value = map.next_value()?;
                    seen.spec = SpecSeen::deserialize(&spec).unwrap_or_default();
                    seen.fresh = Some(spec);
                }
                "spec" => seen.spec = map.next_value()?,
                // A run that is done again has no phase either.
                "status" => {
                    if map.next_value::<Status>()?.0 {
                        seen.fresh = None;
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(seen)
    }
}

/// Whether a status holds anything.
struct Status(bool);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields: Option<std::collections::HashMap<String, IgnoredAny>> = Deserialize::deserialize(deserializer)?;
        Ok(Self(fields.is_some_and(|fields| !fields.is_empty())))
    }
}

impl WorkflowSeen {
    /// Namespace and name.
    pub(crate) fn key(&self) -> (String, String) {
        (self.metadata.namespace.clone().unwrap_or_default(), self.metadata.name.clone().unwrap_or_default())
    }

    /// The whole object, where it was seen.
    pub(crate) fn whole(self) -> Option<Value> {
        let spec = self.fresh?;
        let metadata = serde_json::to_value(self.metadata).ok()?;
        Some(json!({"apiVersion": ARGO_API_VERSION, "kind": "Workflow", "metadata": metadata, "spec": spec}))
    }

    /// Whether it has begun, or has only to be ended: nothing keeps it waiting.
    pub(crate) fn goes_on(&self) -> bool {
        let phase = self.metadata.labels.as_ref().and_then(|l| l.get(labels::PHASE));
        phase.is_some_and(|phase| phase == "Running") || self.spec.shutdown.as_deref() == Some("Terminate")
    }

    /// Whether nobody has said anything of it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.metadata.labels.as_ref().is_none_or(|l| !l.contains_key(labels::PHASE))
    }

    /// The label that is written together with the final status.
    pub(crate) fn has_ended(&self) -> bool {
        self.metadata.labels.as_ref().and_then(|l| l.get(labels::COMPLETED)).is_some_and(|v| v == "true")
    }
}

part_of_workflow!(WorkflowSeen);

pub(crate) fn workflows() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(ARGO_GROUP, VERSION, "Workflow"), "workflows")
}

pub(crate) fn task_results() -> ApiResource {
    let gvk = GroupVersionKind::gvk(ARGO_GROUP, VERSION, "WorkflowTaskResult");
    ApiResource::from_gvk_with_plural(&gvk, "workflowtaskresults")
}

pub(crate) fn templates(cluster: bool) -> ApiResource {
    if cluster {
        let gvk = GroupVersionKind::gvk(ARGO_GROUP, VERSION, "ClusterWorkflowTemplate");
        ApiResource::from_gvk_with_plural(&gvk, "clusterworkflowtemplates")
    } else {
        let gvk = GroupVersionKind::gvk(ARGO_GROUP, VERSION, "WorkflowTemplate");
        ApiResource::from_gvk_with_plural(&gvk, "workflowtemplates")
    }
}

pub(crate) fn config_maps() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "ConfigMap"), "configmaps")
}

/// PodDisruptionBudgets.
pub(crate) fn budgets() -> ApiResource {
    let gvk = GroupVersionKind::gvk("policy", "v1", "PodDisruptionBudget");
    ApiResource::from_gvk_with_plural(&gvk, "poddisruptionbudgets")
}

/// PersistentVolumeClaims.
pub(crate) fn claims() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("", "v1", "PersistentVolumeClaim"),
        "persistentvolumeclaims",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(value: &Value) -> WorkflowSeen {
        serde_json::from_str(&value.to_string()).expect("a Workflow")
    }

    #[test]
    fn a_new_workflow_is_read_whole() {
        let new = json!({"apiVersion": ARGO_API_VERSION, "kind": "Workflow", "metadata": {"name": "a", "uid": "u"},
            "spec": {"entrypoint": "main", "suspend": true}});
        assert_eq!(seen(&new).spec.suspend, Some(true));
        assert_eq!(seen(&new).whole(), Some(new));
    }

    #[test]
    fn one_that_has_begun_is_not() {
        let mut begun = json!({"metadata": {"name": "a", "uid": "u", "labels": {labels::PHASE: "Running"}},
            "spec": {"entrypoint": "main", "priority": 3}, "status": {"phase": "Running", "nodes": {}}});
        assert_eq!(seen(&begun).spec.priority, Some(3));
        assert_eq!(seen(&begun).whole(), None);
        // To be done again: no phase, and nodes that are kept.
        begun["metadata"]["labels"] = json!({});
        begun["status"] = json!({"nodes": {"a": {}}});
        assert_eq!(seen(&begun).whole(), None);
    }

    #[test]
    fn a_spec_that_is_none_does_not_stop_the_watch() {
        let bad = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"activeDeadlineSeconds": "soon"}});
        assert_eq!(seen(&bad).spec, SpecSeen::default());
        assert!(seen(&bad).whole().is_some());
        let refused = json!({"metadata": {"name": "a", "uid": "u", "labels": {labels::PHASE: "Failed"}},
            "spec": {"activeDeadlineSeconds": "soon", "priority": 1}});
        assert_eq!(seen(&refused).spec, SpecSeen { priority: Some(1), ..SpecSeen::default() });
    }
}
