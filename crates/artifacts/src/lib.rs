//! Bytes in and out of a step: git repositories, archives and object stores.
//!
//! Everything here is blocking and takes its paths, limits and credentials as arguments; async callers use
//! `tokio::task::spawn_blocking`. This crate must never know Kubernetes, workflows, or where a secret came from,
//! and it never writes outside the directory it was given.

pub mod allow;
pub mod archive;
pub mod beneath;
pub mod cancel;
pub mod dial;
pub mod git;
pub mod location;
pub mod outside;
pub mod remap;
pub mod request;
pub mod secret;
pub mod store;
pub mod transfer;

pub use allow::AllowPaths;
pub use beneath::{Owner, Root};
pub use cancel::Cancel;
pub use dial::{Dial, Inside, resolve};
pub use location::{Location, SecretRef};
pub use outside::{Ambient, Outside};
pub use remap::{Endpoints, Remap};
pub use secret::Secret;
