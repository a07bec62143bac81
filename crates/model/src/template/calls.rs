//! Steps and tasks: which template is run, with what, when, how often and after what.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Template;
use crate::parameter::Arguments;
use crate::scalar::{AnyString, IntOrString, null_as_default};

/// One group of parallel steps: a list on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct StepGroup(#[serde(deserialize_with = "null_as_default")] pub Vec<WorkflowStep>);

/// One step of a steps template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct WorkflowStep {
    /// Its name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The template it runs, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The template it runs, of another resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,
    /// The template it runs, written in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<Box<Template>>,
    /// What the template is given.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
    /// Runs only when this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Once for each item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_items: Option<Vec<Value>>,
    /// Once for each item of a JSON list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_param: Option<AnyString>,
    /// Once for each number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_sequence: Option<Sequence>,
    /// Which failures count as success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_on: Option<ContinueOn>,
    /// A template to run when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_exit: Option<String>,
    /// Templates to run when a condition holds.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, LifecycleHook>,
}

/// Tasks by dependency.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Dag {
    /// The tasks.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<DagTask>,
    /// The tasks that are wanted, separated by spaces; all leaves when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether the dag ends with the first failure (default true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_fast: Option<bool>,
}

/// One task of a dag template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct DagTask {
    /// Its name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The template it runs, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The template it runs, of another resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,
    /// The template it runs, written in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<Box<Template>>,
    /// What the template is given.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
    /// Runs only when this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Once for each item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_items: Option<Vec<Value>>,
    /// Once for each item of a JSON list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_param: Option<AnyString>,
    /// Once for each number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_sequence: Option<Sequence>,
    /// Which failures count as success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_on: Option<ContinueOn>,
    /// A template to run when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_exit: Option<String>,
    /// Templates to run when a condition holds.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, LifecycleHook>,
    /// Tasks that must have ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Vec<String>>,
    /// A condition over tasks' results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depends: Option<String>,
}

/// A template of another resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct TemplateRef {
    /// The WorkflowTemplate.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The template in it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub template: String,
    /// Whether it is a ClusterWorkflowTemplate.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub cluster_scope: bool,
}

/// Numbers in a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Sequence {
    /// How many; not with `end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<IntOrString>,
    /// The first (default 0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<IntOrString>,
    /// The last; smaller than the first counts down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<IntOrString>,
    /// printf's form of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// Which failures count as success.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ContinueOn {
    /// Errors.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub error: bool,
    /// Failures.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// A template to run when a condition holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct LifecycleHook {
    /// The template, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The template, of another resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,
    /// What it is given.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
    /// The condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}
