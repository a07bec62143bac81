//! A Dockerfile and its context become an image, without a daemon: parsed with places for every fault, its stages a graph
//! of which only what is needed is built, each step a layer that is the upper directory of an overlay mount.
//!
//! The caller hosts containers ([`windlass_sandbox::Host`]) and has an image store ([`windlass_oci::Store`]). It knows
//! nothing of Kubernetes. Semantics are Docker's; kaniko's command line is understood in [`kaniko`].

mod builder;
mod cache;
mod config;
mod confined;
mod context;
mod copy;
pub mod dockerfile;
mod error;
mod expand;
mod extract;
mod glob;
mod ignore;
pub mod kaniko;
mod log;
mod output;
mod run;
mod shop;
mod stage;
mod users;
mod view;

pub use builder::{Builder, Built, OpenNetwork, Opened, Request};
pub use confined::{ConfinedUnpacker, early};
pub use context::Context;
pub use error::{BuildError, Fault};
pub use expand::{ExpandFault, expand};
pub use ignore::Ignore;
pub use log::{Log, Stream};
