//! Templates: what one node does. Pod parts stay JSON values; nothing here runs or resolves anything.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::{Artifact, ArtifactLocation, SecretKeySelector};
use crate::meta::Metadata;
use crate::parameter::{Arguments, Inputs, Outputs};
use crate::scalar::{AnyString, IntOrString, null_as_default};

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

/// Wait, for a time or for somebody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct SuspendTemplate {
    /// How long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<AnyString>,
}

/// Work on a Kubernetes object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ResourceTemplate {
    /// `create`, `apply`, `patch`, `replace`, `delete` or `get`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// The object, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The object, from an artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_from: Option<ManifestFrom>,
    /// `strategic`, `merge` or `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_strategy: Option<String>,
    /// Make the workflow own the object.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub set_owner_reference: bool,
    /// Met means success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_condition: Option<String>,
    /// Met means failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_condition: Option<String>,
    /// kubectl's flags.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// A manifest from elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ManifestFrom {
    /// An artifact that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// An HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct HttpTemplate {
    /// The method (default GET).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The address.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Headers.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HttpHeader>,
    /// How long it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// An expression over request and response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_condition: Option<String>,
    /// The body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body as bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_from: Option<HttpBodySource>,
    /// Whether any certificate goes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// A header, plain or from a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct HttpHeader {
    /// Its name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where its value comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HttpHeaderSource>,
}

/// Where a header comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct HttpHeaderSource {
    /// A key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeySelector>,
}

/// A body as bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct HttpBodySource {
    /// base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// A list of artifacts, transformed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct DataTemplate {
    /// Where data comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Value>,
    /// Expressions, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transformation: Option<Vec<Value>>,
}

/// Several containers in one pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ContainerSetTemplate {
    /// The containers, each with `dependencies`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Value>,
    /// Mounts of all of them.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<Value>,
    /// Tries inside the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_strategy: Option<ContainerSetRetryStrategy>,
}

/// Tries inside the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ContainerSetRetryStrategy {
    /// How long to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// How often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<IntOrString>,
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
    pub config_map_key_ref: Option<crate::parameter::ConfigMapKeySelector>,
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

/// Remembered outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Memoize {
    /// The key.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Where they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// How long they are good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// Where outputs are remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Cache {
    /// A ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<crate::parameter::ConfigMapKeySelector>,
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
