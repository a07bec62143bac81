//! When and how a node is tried again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scalar::{AnyString, IntOrString};

/// When and how to try again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct RetryStrategy {
    /// Attempts after the first; without it there is no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<IntOrString>,
    /// `Always`, `OnFailure`, `OnError` or `OnTransientError`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<String>,
    /// How long to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Where to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Value>,
    /// A condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// How long to wait between attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Backoff {
    /// The first wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<AnyString>,
    /// By how much it grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<IntOrString>,
    /// When to give up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<AnyString>,
    /// The longest wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<AnyString>,
}
