//! The loops: observe, ask a pure crate, act, write status once.
//!
//! Every loop holds a [`kube::Client`] and nothing else of a cluster, so it runs the same against the embedded API and
//! against a real one. No loop decides by itself: [`workflow`] asks `windlass-engine`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

mod again;
pub mod archive;
pub mod clock;
pub mod cron;
pub mod delivery;
pub mod election;
mod event;
pub mod form;
pub mod garbage;
pub mod metrics;
pub mod part;
mod pod;
pub mod retention;
mod scope;
pub mod tables;
pub mod traces;
pub mod workflow;

pub use scope::{Instance, Scope};

/// A watch that may begin a moment in the past, as informers do: the API server lists from memory whatever its etcd, where an
/// exact list reads and decodes every object of the kind. Only for loops to which an older state is no harm, as they hear the rest
/// at once: never for what decides whether a node runs.
fn from_memory(config: kube::runtime::watcher::Config) -> kube::runtime::watcher::Config {
    config.any_semantic()
}

/// Whether a LabelSelector selects these labels; one that cannot be read selects nothing.
fn selects(selector: &serde_json::Value, labels: &std::collections::BTreeMap<String, String>) -> bool {
    use kube::core::SelectorExt;
    let selector = serde_json::from_value::<LabelSelector>(selector.clone()).ok();
    let selector = selector.and_then(|s| kube::core::Selector::try_from(s).ok());
    selector.is_some_and(|s| s.matches(labels))
}

/// What the world answered when a loop acted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API answered with an error, or did not answer.
    #[error("API: {0}")]
    Api(#[from] Box<kube::Error>),
    /// What outlives objects could not be asked.
    #[error(transparent)]
    Archive(#[from] windlass_archive::Error),
    /// A workflow's node table cannot be had.
    #[error(transparent)]
    Table(tables::Fault),
    /// Something was refused, and why is in the object's status: it is tried again after a while.
    #[error("refused; the object's conditions say why")]
    Refused,
    /// The controller's configuration is not what it has to be.
    #[error("the controller's configuration cannot be read: {0}")]
    Configuration(String),
    /// A watch was interrupted.
    #[error("watch: {0}")]
    Watch(#[from] Box<kube::runtime::watcher::Error>),
}

impl From<kube::Error> for Error {
    fn from(e: kube::Error) -> Self {
        Error::Api(Box::new(e))
    }
}

impl From<tables::Fault> for Error {
    fn from(fault: tables::Fault) -> Self {
        match fault {
            tables::Fault::Api(e) => Error::Api(e),
            lost => Error::Table(lost),
        }
    }
}

impl From<kube::runtime::watcher::Error> for Error {
    fn from(e: kube::runtime::watcher::Error) -> Self {
        Error::Watch(Box::new(e))
    }
}
