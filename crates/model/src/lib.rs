//! The wire nouns of Windlass: every kind that is served or read, with names, ids and phases.
//!
//! This crate holds types, their serde forms and their JSON schemas. It must never do IO, read a clock or know any
//! other
//! room of the house. Parts of a Pod stay [`serde_json::Value`]s, so that nothing a user wrote is lost on the way.

pub mod artifact;
pub mod crds;
pub mod cron;
pub mod delivery;
pub mod event_binding;
pub mod garbage;
pub mod ids;
pub mod kaniko;
pub mod label_selector;
pub mod labels;
pub mod lock;
pub mod meta;
pub mod packed;
pub mod paged;
pub mod parameter;
pub mod phase;
pub mod places;
pub mod roles;
pub mod scalar;
pub mod status;
pub mod storage;
pub mod table;
pub mod task;
pub mod task_result;
pub mod template;
pub mod time;
pub mod workflow;

pub use artifact::{Artifact, ArtifactLocation};
pub use ids::{NodeId, PodName};
pub use meta::ObjectMeta;
pub use parameter::{Arguments, Inputs, Outputs, Parameter, ValueFrom};
pub use phase::{NodePhase, NodeType, WorkflowPhase};
pub use scalar::{AnyString, IntOrString};
pub use status::{NodeStatus, WorkflowStatus};
pub use template::Template;
pub use time::Time;
pub use workflow::{ClusterWorkflowTemplate, Workflow, WorkflowSpec, WorkflowTemplate};

/// The API group and version of Argo's kinds.
pub const ARGO_API_VERSION: &str = "argoproj.io/v1alpha1";
/// The API group of Argo's kinds.
pub const ARGO_GROUP: &str = "argoproj.io";
/// The API group of Windlass' own kinds.
pub const WINDLASS_GROUP: &str = "windlass.dev";
/// The API group and version of Windlass' own kinds.
pub const WINDLASS_API_VERSION: &str = "windlass.dev/v1alpha1";
/// The version both groups are served in.
pub const VERSION: &str = "v1alpha1";
