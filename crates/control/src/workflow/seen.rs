//! What the watch reads of a Workflow: enough to notice it and what people change while it runs. The status stays
//! unparsed, for it may be large and is ours anyway. What it reads of a Pod is in [`crate::pod`].

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, GroupVersionKind, Resource};
use serde::{Deserialize, Serialize};
use windlass_model::{ARGO_API_VERSION, ARGO_GROUP, VERSION, labels};

/// A Workflow as the watch sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkflowSeen {
    /// Name, labels, version.
    pub(crate) metadata: ObjectMeta,
    /// What people change while it runs.
    #[serde(default)]
    pub(crate) spec: SpecSeen,
}

/// The fields of a Workflow's spec that people change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SpecSeen {
    pub(crate) suspend: Option<bool>,
    pub(crate) shutdown: Option<String>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) priority: Option<i32>,
}

impl WorkflowSeen {
    /// Namespace and name.
    pub(crate) fn key(&self) -> (String, String) {
        (self.metadata.namespace.clone().unwrap_or_default(), self.metadata.name.clone().unwrap_or_default())
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

impl Resource for WorkflowSeen {
    type DynamicType = ();
    type Scope = WorkflowScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Workflow".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        ARGO_GROUP.into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        VERSION.into()
    }
    fn api_version(_: &()) -> Cow<'_, str> {
        ARGO_API_VERSION.into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "workflows".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Workflows live in namespaces.
pub(crate) type WorkflowScope = kube::core::NamespaceResourceScope;

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
