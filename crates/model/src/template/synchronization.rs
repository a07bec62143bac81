//! Locks to hold while running: mutexes and semaphores, in Argo 4's form and in Argo 3's. Who holds which is not here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::parameter::ConfigMapKeySelector;
use crate::scalar::null_as_default;

/// Locks to hold while running.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Synchronization {
    /// Semaphores.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub semaphores: Vec<SemaphoreRef>,
    /// Mutexes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub mutexes: Vec<Mutex>,
    /// One semaphore (Argo 3's form).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semaphore: Option<SemaphoreRef>,
    /// One mutex (Argo 3's form).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutex: Option<Mutex>,
}

/// A lock with several places.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct SemaphoreRef {
    /// The size, in a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeySelector>,
    /// The lock's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The size, in a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Value>,
}

/// A lock with one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Mutex {
    /// Its name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whether it is in a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<bool>,
}
