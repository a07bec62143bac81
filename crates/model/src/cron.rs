//! `CronWorkflow`: a workflow by the clock. Only its form: when it runs is decided in `schedule`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;
use crate::scalar::null_as_default;
use crate::status::Condition;
use crate::time::Time;
use crate::workflow::WorkflowSpec;

/// A workflow by the clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct CronWorkflow {
    /// `argoproj.io/v1alpha1`
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// `CronWorkflow`
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Names, labels, annotations.
    pub metadata: ObjectMeta,
    /// When and what.
    pub spec: CronWorkflowSpec,
    /// What ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<CronWorkflowStatus>,
}

/// When and what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct CronWorkflowSpec {
    /// The workflow.
    pub workflow_spec: WorkflowSpec,
    /// Its labels and annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_metadata: Option<ObjectMeta>,
    /// When, in cron's five fields.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<String>,
    /// When (Argo 3's form).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// In which time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Begin nothing new.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// `Allow`, `Forbid` or `Replace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<String>,
    /// How late a missed run may begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_deadline_seconds: Option<i64>,
    /// How many good runs are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successful_jobs_history_limit: Option<i32>,
    /// How many failed runs are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_jobs_history_limit: Option<i32>,
    /// When to stop for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_strategy: Option<StopStrategy>,
    /// Runs only when this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// When to stop for good.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct StopStrategy {
    /// A condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// What ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CronWorkflowStatus {
    /// Runs that go on.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<serde_json::Value>,
    /// The last time it was due and begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scheduled_time: Option<Time>,
    /// Conditions.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How many ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<i64>,
    /// How many did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<i64>,
    /// `Active` or `Stopped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}
