//! Object stores behind one trait: bytes under a key. A driver is bound to one location; it must never know what
//! the bytes are, nor print a credential.

mod azure;
mod gcs;
mod http;
mod local;
mod object;
mod oss;
mod plugin;
mod raw;
mod s3;
mod spool;
mod tree;
mod wire;

use std::io::Read;

pub use azure::{AzureKey, AzureSource};
pub use gcs::GcsSource;
pub use http::{HttpAuth, HttpDriver, OAuth2};
pub use local::LocalStore;
pub use object::ObjectDriver;
pub use oss::OssSource;
pub use plugin::{PluginDriver, PluginSource, Plugins};
pub use raw::RawDriver;
pub use s3::{CreateBucket, S3Driver, S3Source, Style};

use crate::cancel::Cancel;

/// What a location holds.
pub enum Content {
    /// One object.
    File(Box<dyn Read + Send>),
    /// A directory stored without an archive, as a plain tar with one top-level entry.
    Tree(Box<dyn Read + Send>),
}

/// What is to be stored.
pub enum Payload<'a> {
    /// One object.
    File(&'a mut dyn Read),
    /// A plain tar with one top-level directory, to be stored as a tree of objects beneath the key.
    Tree(&'a mut dyn Read),
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Bytes.
    pub bytes: u64,
    /// `sha256:<hex>` of a single object; nothing for a tree.
    pub digest: Option<String>,
}

/// Bytes in, bytes out, at one location.
pub trait Driver: Send + Sync {
    /// Opens what is there.
    fn load(&self, cancel: &Cancel) -> Result<Content, StoreError>;
    /// Stores; visible completely or not at all.
    fn save(&self, payload: Payload<'_>, cancel: &Cancel) -> Result<Saved, StoreError>;
    /// Removes; removing what is not there is no error.
    fn delete(&self, cancel: &Cancel) -> Result<(), StoreError>;
    /// Whether something is there.
    fn exists(&self, cancel: &Cancel) -> Result<bool, StoreError>;
}

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing under that key.
    #[error("artifact {0} does not exist")]
    NotFound(String),
    /// A key that cannot be one.
    #[error("artifact key {key:?} is refused: {reason}")]
    BadKey {
        /// The key as given.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// This driver cannot do that.
    #[error("{0}")]
    Unsupported(String),
    /// The filesystem said no.
    #[error("artifact {key}: {source}")]
    Io {
        /// The key.
        key: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The server said no, or was not there.
    #[error("{method} {url}: {message}")]
    Http {
        /// The method.
        method: &'static str,
        /// The URL without user information.
        url: String,
        /// The cause.
        message: String,
        /// Whether trying again may help.
        retry: bool,
    },
    /// S3 said no, in its own words.
    #[error("{url}: {code}: {message}")]
    S3 {
        /// The location.
        url: String,
        /// The HTTP status.
        status: u16,
        /// S3's code: `NoSuchBucket`.
        code: String,
        /// S3's text, and the way out.
        message: String,
        /// Whether trying again may help.
        retry: bool,
    },
    /// Another cloud's store said no, in its own words.
    #[error("{url}: {code}: {message}")]
    Refused {
        /// The location.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The store's code.
        code: String,
        /// The store's text.
        message: String,
        /// Whether trying again may help.
        retry: bool,
    },
    /// A plugin did not do it, or is not there; the text names it.
    #[error("{message}")]
    Plugin {
        /// Argo's words.
        message: String,
        /// Whether trying again may help.
        retry: bool,
    },
    /// A tree could not be packed or unpacked.
    #[error(transparent)]
    Archive(#[from] crate::archive::ArchiveError),
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
}

impl StoreError {
    /// Whether trying again later may help.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Http { retry: true, .. }
                | Self::S3 { retry: true, .. }
                | Self::Refused { retry: true, .. }
                | Self::Plugin { retry: true, .. }
        )
    }
}
