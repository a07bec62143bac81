//! The node agent: runs Pods on this machine.
//!
//! An [`Agent`] watches Pods through a `kube::Client`, binds those that fit, runs their containers with
//! `windlass-sandbox`, and writes their status. A Pod's life is decided by the pure `lifecycle`; one task per Pod (`worker`)
//! carries it out. A Pod with the annotation `windlass.dev/task` is a step: its inputs are staged before and its outputs
//! collected after, by `windlass-executor`, and reported in a `WorkflowTaskResult` before the Pod's status becomes terminal.
//!
//! It knows nothing of workflows' engines, never reads the API's store, and never runs a container that the Pod's policy
//! does not allow: what is refused is refused by name in the Pod's status.
//!
//! Writes for one successful step Pod, beside its creation: one status, one `WorkflowTaskResult` where there is something
//! to report. A Pod that arrives without `spec.nodeName` costs one more, its binding; a step's Pod runs unbound instead.

mod agent;
mod audience;
mod binding;
mod claim;
mod container;
mod downward;
mod ends;
mod env;
mod event;
mod feed;
mod heartbeat;
mod image;
mod journal;
mod kaniko;
mod lifecycle;
mod log;
mod network;
mod objects;
mod placement;
mod plan;
mod probe;
mod quantity;
mod recovery;
mod session;
mod setup;
mod skeleton;
mod status;
mod step;
mod terminal;
mod turn;
mod volume;
mod worker;

pub use agent::{Agent, AgentError, Config, Policy};
pub use kaniko::{BuildFailure, BuildRequest, LogSink, PathMap, Place, StepBuilder};
pub use log::{LogError, LogOptions, LogStream};
pub use network::alias::StandIn;
pub use network::{API_ADDRESS, DNS_ADDRESS, REGISTRY_ADDRESS, REGISTRY_NAME};
pub use session::{PodPorts, Resize, Session, SessionError, Wanted};
