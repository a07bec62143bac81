//! `WorkflowEventBinding`: which events submit which template. Only its form: matching is decided in `schedule`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;
use crate::parameter::Arguments;
use crate::scalar::null_as_default;
use crate::workflow::WorkflowTemplateRef;

/// The names that expressions over an event know.
pub const NAMES: [&str; 4] = ["payload", "metadata", "namespace", "discriminator"];

/// Which events submit which template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct WorkflowEventBinding {
    /// `argoproj.io/v1alpha1`
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// `WorkflowEventBinding`
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Names, labels, annotations.
    pub metadata: ObjectMeta,
    /// The binding.
    pub spec: WorkflowEventBindingSpec,
}

/// The binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct WorkflowEventBindingSpec {
    /// Which events.
    pub event: Event,
    /// What is submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submit: Option<Submit>,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Event {
    /// An expression over payload, metadata, namespace and discriminator.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub selector: String,
}

/// What is submitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Submit {
    /// The template.
    pub workflow_template_ref: WorkflowTemplateRef,
    /// Labels, annotations, name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// Arguments, `valueFrom.event` allowed.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
}
