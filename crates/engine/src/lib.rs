//! What happens next inside one run: a state machine per node kind, without a clock or IO.
//!
//! One door: [`Run::load`] takes a workflow, [`Run::step`] takes what was observed and the time, and answers what to
//! do;
//! [`Run::status`] and [`Run::take_patch`] give the status. A run is resident: work per observation is proportional to
//! what changed. Loading it again from its status decides the same.

pub mod artifact_plugins;
mod budget;
mod calls;
mod check;
mod claims;
pub mod convert;
mod deadlock;
mod door;
mod duration;
pub mod explain;
mod expression;
pub mod garbage;
mod globals;
mod inputs;
mod lifecycle;
mod locks;
mod loops;
pub mod manual;
mod memo;
mod merge;
pub mod metrics;
mod names;
mod node;
mod nodes;
mod opening;
mod other_host;
mod outputs;
pub mod past;
pub mod persistence;
mod plugins;
pub mod pod_form;
mod pod_outcome;
mod pod_spec;
pub mod repository;
mod restrictions;
mod run;
mod scope;
pub mod spans;
mod summary;
mod templates;
mod trace;
pub mod validate;

pub use door::{Command, Config, Decision, Observation};
pub use duration::parse_ms as duration_ms;
pub use locks::held_in;
pub use memo::is_own_cache;
pub use names::{node_id, pod_name};
pub use plugins::KIND as PLUGIN_KIND;
pub use restrictions::Referencing;
pub use run::Run;
