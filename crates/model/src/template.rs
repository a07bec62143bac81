//! Templates: what one node does. Pod parts stay JSON values; nothing here runs or resolves anything.

mod calls;
mod memoize;
mod retry;
mod synchronization;
mod work;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use calls::*;
pub use memoize::*;
pub use retry::*;
pub use synchronization::*;
pub use work::*;

use crate::artifact::ArtifactLocation;
use crate::meta::Metadata;
use crate::parameter::{Inputs, Outputs};
use crate::scalar::{IntOrString, null_as_default};

/// What one node does. Exactly one of the kinds is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Template {
    /// Its name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it takes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Inputs::is_empty")]
    pub inputs: Inputs,
    /// What it makes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Outputs::is_empty")]
    pub outputs: Outputs,
    /// One container in a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Value>,
    /// A container with a `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Value>,
    /// Groups of parallel steps, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepGroup>>,
    /// Tasks by dependency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dag: Option<Dag>,
    /// Wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<SuspendTemplate>,
    /// Work on a Kubernetes object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceTemplate>,
    /// An HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTemplate>,
    /// Work for an executor plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Value>,
    /// A list of artifacts, transformed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataTemplate>,
    /// Several containers in one pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_set: Option<ContainerSetTemplate>,
    /// Containers before `main`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Value>,
    /// Containers beside `main`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<Value>,
    /// Volumes of this template alone.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Value>,
    /// Labels and annotations of the pod.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Annotations of the template, for display.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether it goes on while the rest proceeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon: Option<bool>,
    /// Nodes by label.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Nodes by affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Value>,
    /// Taints that are borne.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Value>,
    /// The scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// The pod's priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// The pod's ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Whether the pod gets a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
    /// The executor's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorConfig>,
    /// Entries of /etc/hosts.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<Value>,
    /// The pod's security context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Value>,
    /// A strategic merge patch of the pod's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_spec_patch: Option<String>,
    /// Where outputs go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_location: Option<ArtifactLocation>,
    /// When and how to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_strategy: Option<RetryStrategy>,
    /// How long the pod may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<IntOrString>,
    /// How long the node may take, waiting included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How long the pod may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_timeout: Option<String>,
    /// How many children at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i64>,
    /// Whether a failed child stops new ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_fast: Option<bool>,
    /// Locks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronization: Option<Synchronization>,
    /// Remembered outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memoize: Option<Memoize>,
    /// Metrics of the user's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Plugins.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub executor_plugins: Vec<Value>,
    /// Resources of the whole pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_resources: Option<Value>,
    /// Claims of devices.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub resource_claims: Vec<Value>,
    /// The pod's priority (Argo 3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
}

/// The kinds of template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateKind {
    /// `container`
    Container,
    /// `script`
    Script,
    /// `steps`
    Steps,
    /// `dag`
    Dag,
    /// `suspend`
    Suspend,
    /// `resource`
    Resource,
    /// `http`
    Http,
    /// `plugin`
    Plugin,
    /// `data`
    Data,
    /// `containerSet`
    ContainerSet,
}

impl Template {
    /// Which kind of template it is; nothing when no kind is set.
    pub fn kind(&self) -> Option<TemplateKind> {
        Some(if self.container.is_some() {
            TemplateKind::Container
        } else if self.steps.is_some() {
            TemplateKind::Steps
        } else if self.dag.is_some() {
            TemplateKind::Dag
        } else if self.script.is_some() {
            TemplateKind::Script
        } else if self.resource.is_some() {
            TemplateKind::Resource
        } else if self.data.is_some() {
            TemplateKind::Data
        } else if self.suspend.is_some() {
            TemplateKind::Suspend
        } else if self.http.is_some() {
            TemplateKind::Http
        } else if self.plugin.is_some() {
            TemplateKind::Plugin
        } else if self.container_set.is_some() {
            TemplateKind::ContainerSet
        } else {
            return None;
        })
    }

    /// Whether a container of this name does the step's own work, so that its failure is the step's.
    pub fn is_main_container(&self, name: &str) -> bool {
        match &self.container_set {
            Some(set) => set.containers.iter().any(|c| c["name"] == name),
            None => name == "main",
        }
    }

    /// Whether there is a container `main`, to which inputs and outputs belong.
    pub fn has_main_container(&self) -> bool {
        self.is_main_container("main")
    }

    /// Whether the template becomes a Pod.
    pub fn is_pod(&self) -> bool {
        matches!(
            self.kind(),
            Some(
                TemplateKind::Container
                    | TemplateKind::Script
                    | TemplateKind::Resource
                    | TemplateKind::Data
                    | TemplateKind::ContainerSet
            )
        )
    }
}

/// The executor's own identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ExecutorConfig {
    /// Its ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
}

/// Metrics of the user's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    /// Prometheus metrics.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub prometheus: Vec<Value>,
}
