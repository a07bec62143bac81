//! The loops: observe, ask a pure crate, act, write status once.
//!
//! Every loop holds a [`kube::Client`] and nothing else of a cluster, so it runs the same against the embedded API and
//! against a real one. No loop decides by itself: [`workflow`] asks `windlass-engine`.

pub mod cron;
pub mod delivery;
mod pod;
pub mod retention;
pub mod workflow;

/// What the world answered when a loop acted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API answered with an error, or did not answer.
    #[error("API: {0}")]
    Api(#[from] Box<kube::Error>),
    /// Something was refused, and why is in the object's status: it is tried again after a while.
    #[error("refused; the object's conditions say why")]
    Refused,
    /// A watch was interrupted.
    #[error("watch: {0}")]
    Watch(#[from] Box<kube::runtime::watcher::Error>),
}

impl From<kube::Error> for Error {
    fn from(e: kube::Error) -> Self {
        Error::Api(Box::new(e))
    }
}

impl From<kube::runtime::watcher::Error> for Error {
    fn from(e: kube::runtime::watcher::Error) -> Self {
        Error::Watch(Box::new(e))
    }
}
