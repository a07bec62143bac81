//! Images: references, the local store, layers packed and unpacked, the registry client and the built-in registry.
//!
//! One [`Store`] holds everything that this machine knows of images: blobs by digest, names, and each layer unpacked
//! once as an overlay lower directory. [`client::Client`] moves images between the store and registries,
//! [`registry::router`] serves the store to others, [`layer`] turns directories into layers and back, [`host`] makes
//! an image from this machine's own programs and [`layout`] reads and writes image files.
//!
//! This crate must never know of Kubernetes, and never start a container. The store is synchronous: call it from
//! `spawn_blocking` where a thread must not wait for a disk.

pub mod client;
mod digest;
mod error;
pub mod host;
pub mod layer;
pub mod layout;
pub mod media;
mod platform;
mod reference;
pub mod registry;
mod store;

pub use digest::{Digest, Hasher};
pub use error::{Error, Result};
pub use layer::Layer;
pub use oci_spec;
pub use platform::Platform;
pub use reference::{LOCAL_REGISTRY, Reference, ReferenceError};
pub use store::{BlobWriter, Commit, Family, GcOptions, GcReport, Image, InProcess, Listed, Pointer, Store, Unpacker};
