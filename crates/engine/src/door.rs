//! The single door's words: what was observed goes in, commands come out. Both are closed sets; neither does anything.

use jiff::Timestamp;
use serde_json::Value;
use windlass_model::artifact::ArtifactLocation;
use windlass_model::lock::{LockAnswer, LockName};
use windlass_model::task_result::WorkflowTaskResult;

use crate::restrictions::Referencing;

/// What the engine must know of its surroundings; the same for every run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The image of the executor itself, for `resource` templates: `windlass.dev/executor:<version>`.
    pub executor_image: String,
    /// Where artifacts go when neither template nor artifact says so.
    pub artifact_repository: ArtifactLocation,
    /// What the status tells of that repository; nothing of the built-in one.
    pub artifact_repository_ref: Option<Value>,
    /// The form of keys in that repository, without the file's name.
    pub key_format: String,
    /// How often a pod is made anew after the infrastructure lost it, without asking the user's `retryStrategy`.
    pub pod_restarts_max: u32,
    /// How deep templates may call each other.
    pub depth_max: usize,
    /// Keep a finalizer on every pod until its result is in the status.
    pub pod_finalizer: bool,
    /// Refuse a spec that uses what is not run yet, by name, instead of running it without.
    pub refuse_unsupported: bool,
    /// What workflows leave out (`workflowDefaults`): a part of a workflow.
    pub workflow_defaults: Option<Value>,
    /// Whether workflows must refer to stored templates (`workflowRestrictions`).
    pub referencing: Option<Referencing>,
    /// Artifact plugins that there are.
    pub artifact_drivers: Vec<crate::artifact_plugins::ArtifactDriver>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            executor_image: concat!("windlass.dev/executor:", env!("CARGO_PKG_VERSION")).to_owned(),
            artifact_repository: ArtifactLocation {
                local: Some(windlass_model::artifact::LocalArtifact::default()),
                ..ArtifactLocation::default()
            },
            artifact_repository_ref: None,
            key_format: "{{workflow.name}}/{{pod.name}}".to_owned(),
            pod_restarts_max: 3,
            depth_max: 100,
            pod_finalizer: false,
            refuse_unsupported: true,
            workflow_defaults: None,
            referencing: None,
            artifact_drivers: Vec::new(),
        }
    }
}

/// Something that was seen. Telling the same thing twice, or late, is harmless.
#[derive(Clone, Debug, PartialEq)]
// They are told by slice and never kept, so a box would only cost.
#[allow(clippy::large_enum_variant)]
pub enum Observation {
    /// A pod of the run as the API has it now. Read of it: name, uid, labels and our annotations, `spec.nodeName`, the
    /// containers' names and resources, and of its status phase, reason, message, `podIP`, conditions and container
    /// statuses. Who tells need not tell more.
    Pod(Value),
    /// A pod of the run is not there any more.
    PodGone {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Everything that is there of the run's pods and reports has been told (after loading a run that had begun): a
    /// node that has a running pod in the status and was not told of one has lost it (`PodGone`); a pending node may
    /// still have its pod created.
    Surveyed,
    /// There is no WorkflowTaskResult of this name (the answer to [`Command::FetchReport`]).
    NoTaskResult {
        /// The name: its node's id.
        name: String,
    },
    /// A pod could not be created.
    PodRefused {
        /// The node it was for.
        node_id: String,
        /// The API server's words.
        message: String,
        /// Whether trying again may help (quota, conflict, timeout).
        transient: bool,
    },
    /// A report of a step's executor.
    TaskResult(WorkflowTaskResult),
    /// The answer to [`Command::FetchTemplate`]: the resource, or nothing when there is none of that name.
    Template {
        /// Whether it is a ClusterWorkflowTemplate.
        cluster: bool,
        /// Its name.
        name: String,
        /// The whole object, or nothing.
        object: Option<Value>,
    },
    /// The answer to [`Command::FetchConfigMap`].
    ConfigMap {
        /// Its name.
        name: String,
        /// The whole object, or nothing.
        object: Option<Value>,
    },
    /// The answer to [`Command::FetchPlugins`]: the ConfigMaps, those of the workflow's namespace first.
    Plugins {
        /// The whole objects.
        objects: Vec<Value>,
    },
    /// A claim that was asked for is there.
    ClaimMade {
        /// Its name.
        name: String,
    },
    /// A claim could not be made.
    ClaimRefused {
        /// Its name.
        name: String,
        /// The API server's words.
        message: String,
        /// Whether trying again may help.
        transient: bool,
    },
    /// What was told could not be counted.
    MetricRefused {
        /// Why.
        message: String,
    },
    /// The answer to [`Command::LoadCache`].
    Cache {
        /// The node that asked.
        node_id: String,
        /// The whole ConfigMap, or nothing; of our own cache in the same form, with the key of interest alone.
        object: Option<Value>,
    },
    /// The answer to [`Command::AskLocks`]; it may come more than once while somebody waits.
    Locks {
        /// The node that asked; empty for the run as a whole.
        node_id: String,
        /// What became of it.
        answer: LockAnswer,
    },
    /// The workflow's `spec.suspend`, `spec.shutdown` and `spec.activeDeadlineSeconds` as they are now.
    Control {
        /// `spec.suspend`
        suspend: bool,
        /// `spec.shutdown`
        shutdown: Option<String>,
        /// `spec.activeDeadlineSeconds`
        active_deadline_seconds: Option<i64>,
    },
    /// Somebody resumes suspended nodes.
    Resume {
        /// Which nodes (by id); all when empty.
        node_ids: Vec<String>,
        /// Values for outputs with `valueFrom.supplied`.
        parameters: Vec<(String, String)>,
        /// A message for the node.
        message: Option<String>,
    },
    /// Somebody ends suspended nodes as failed.
    FailSuspended {
        /// Which nodes (by id); all when empty.
        node_ids: Vec<String>,
        /// A message for the node.
        message: Option<String>,
    },
}

/// Something to be done. Doing it twice is harmless.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Create a pod. If one of the same name is there: same owner uid and same `windlass.dev/attempt` means done,
    /// otherwise wait until the old one is deleted.
    CreatePod {
        /// The node it is for.
        node_id: String,
        /// The pod's name.
        name: String,
        /// The whole pod.
        pod: Value,
    },
    /// Delete a pod (with this uid, when given).
    DeletePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: Option<String>,
    },
    /// End a pod's containers: SIGTERM, after `grace_seconds` SIGKILL.
    StopPod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: Option<String>,
        /// How long to wait between the signals; the pod's own value when absent.
        grace_seconds: Option<i64>,
    },
    /// The pod's result is in the status: label it completed and take our finalizer off. Only when that status is
    /// written ([`Command::follows_status`]).
    ReleasePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: Option<String>,
    },
    /// Create a PersistentVolumeClaim and answer with [`Observation::ClaimMade`] or [`Observation::ClaimRefused`]. One of
    /// the same name that the workflow owns is as good as made.
    CreateClaim {
        /// Its name.
        name: String,
        /// The whole claim.
        claim: Value,
    },
    /// Delete a PersistentVolumeClaim.
    DeleteClaim {
        /// Its name.
        name: String,
    },
    /// Create a PodDisruptionBudget; one of the same name is as good as made.
    CreateBudget {
        /// Its name.
        name: String,
        /// The whole budget.
        budget: Value,
    },
    /// Delete a PodDisruptionBudget.
    DeleteBudget {
        /// Its name.
        name: String,
    },
    /// Ask for locks, all of them together, and answer with [`Observation::Locks`] as often as something changes.
    AskLocks {
        /// The node that asks; empty for the run as a whole.
        node_id: String,
        /// Which.
        locks: Vec<LockName>,
        /// The run's priority.
        priority: i32,
        /// When the run was created.
        created: Timestamp,
    },
    /// Give back what is held, and wait no more.
    ReleaseLocks {
        /// Of which node (empty: of the run as a whole); everything of the run when it is not said.
        node_id: Option<String>,
    },
    /// Get a cache and answer with [`Observation::Cache`].
    LoadCache {
        /// The node that asks.
        node_id: String,
        /// The ConfigMap's name, or a part of our own cache ([`crate::is_own_cache`]).
        cache: String,
        /// The key of interest.
        key: String,
    },
    /// Write one entry into a cache; a ConfigMap is made, labelled as a cache, if it is not there.
    SaveCache {
        /// As in [`Command::LoadCache`].
        cache: String,
        /// The entry's key.
        key: String,
        /// The entry.
        entry: String,
    },
    /// Get a WorkflowTemplate or ClusterWorkflowTemplate and answer with [`Observation::Template`].
    FetchTemplate {
        /// Whether it is a ClusterWorkflowTemplate.
        cluster: bool,
        /// Its name.
        name: String,
    },
    /// Get a WorkflowTaskResult that should have been told long ago, and answer with [`Observation::TaskResult`] or
    /// [`Observation::NoTaskResult`].
    FetchReport {
        /// Its name: the node's id.
        name: String,
    },
    /// List the ConfigMaps that are executor plugins ([`crate::PLUGIN_KIND`]) in the workflow's namespace and then in the
    /// controller's, and answer with [`Observation::Plugins`].
    FetchPlugins,
    /// Get a ConfigMap of the workflow's namespace and answer with [`Observation::ConfigMap`].
    FetchConfigMap {
        /// Its name.
        name: String,
    },
}

impl Command {
    /// Whether it takes something away that only the status can tell of afterwards: then the status has to be written
    /// first, or a crash between the two loses what the status did not say yet: a pod that was stopped because its node
    /// had ended would look like one that somebody deleted. A claim is no witness, and nobody looks for it once the end
    /// is written: it goes before.
    pub fn follows_status(&self) -> bool {
        matches!(self, Command::DeletePod { .. } | Command::StopPod { .. } | Command::ReleasePod { .. })
    }
}

/// What follows from what was observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Whether the status (or the workflow's labels) changed: [`crate::Run::take_patch`] has something to write.
    pub status_changed: bool,
    /// The status must be stored before the commands are done: it says that locks are held, and a restart must know.
    pub write_first: bool,
    /// What is to be done, in this order; what [`Command::follows_status`] after the status is written.
    pub commands: Vec<Command>,
    /// When to call again even if nothing is seen.
    pub wake: Option<Timestamp>,
    /// What is to be counted.
    pub metrics: Vec<crate::metrics::Metric>,
    /// Whether the workflow has ended.
    pub completed: bool,
}
