//! What can go wrong with images, each with what to do about it. Must never carry a credential.

use std::io;
use std::path::Path;

use crate::{Digest, ReferenceError};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is not an image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The local disk or system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not a sha256 digest.
    #[error("`{text}` is not a digest: expected `sha256:` and 64 hexadecimal digits")]
    BadDigest {
        /// The text as given.
        text: String,
    },
    /// A name that is in neither the store nor, where it may be asked, the registry.
    #[error("image {reference} is not in the local store{help}")]
    NotFound {
        /// The image asked for.
        reference: String,
        /// What to do about it; starts with `: ` or is empty.
        help: String,
    },
    /// A blob that a manifest names is absent.
    #[error("blob {digest} is not in the local store; pull the image again")]
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// Content that is not what its digest promised.
    #[error("{what}: expected {expected}, but the content is {actual}; nothing was kept of it")]
    DigestMismatch {
        /// What was read.
        what: String,
        /// The promised digest.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// Content that cannot be read as what it should be.
    #[error("{what}: {detail}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A valid thing that is not supported here.
    #[error("{what} is not supported: {detail}")]
    Unsupported {
        /// The thing.
        what: String,
        /// Why, and what to do.
        detail: String,
    },
    /// A multi-platform image without the platform wanted.
    #[error("image {image} has no variant for {wanted}; it has {available}")]
    Platform {
        /// The image.
        image: String,
        /// The platform wanted.
        wanted: String,
        /// The platforms there are.
        available: String,
    },
    /// A layer that must not be unpacked.
    #[error("layer entry `{entry}` was refused: {detail}")]
    Refused {
        /// The entry's path as written in the archive.
        entry: String,
        /// Why.
        detail: String,
    },
    /// A layer larger than the limits.
    #[error("the layer exceeds the limit of {limit}; raise the limit if the image is trusted")]
    TooLarge {
        /// The limit, with its unit.
        limit: String,
    },
    /// The registry wants credentials, or other ones.
    #[error("registry {registry} refused access to repository {repository} ({detail}): {help}")]
    Denied {
        /// The registry's host.
        registry: String,
        /// The repository.
        repository: String,
        /// What the registry said.
        detail: String,
        /// What to do.
        help: String,
    },
    /// The registry answered, but not with what was asked for.
    #[error("registry {registry}, repository {repository}: {doing}: {status}{detail}")]
    Registry {
        /// The registry's host.
        registry: String,
        /// The repository.
        repository: String,
        /// What was being done.
        doing: String,
        /// The HTTP status code.
        status: u16,
        /// What the registry said and what to do; starts with a separator or is empty.
        detail: String,
    },
    /// The registry could not be reached.
    #[error("registry {registry} cannot be reached: {detail} ({help})")]
    Unreachable {
        /// The registry's host.
        registry: String,
        /// What failed.
        detail: String,
        /// What to do.
        help: String,
    },
    /// A program, package or file for an image from this machine was not found.
    #[error("{what}: {detail}")]
    Host {
        /// What was wanted.
        what: String,
        /// Why not, and what to do.
        detail: String,
    },
}

impl Error {
    /// Whether trying again may help: the network, an overloaded registry, a busy disk.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Registry { status, .. } => *status == 429 || *status == 408 || *status >= 500,
            _ => false,
        }
    }

    /// Whether the disk (or the quota on it) is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Whether the image simply is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Registry { status: 404, .. })
    }

    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    pub(crate) fn malformed(what: impl Into<String>, detail: impl ToString) -> Self {
        Self::Malformed { what: what.into(), detail: detail.to_string() }
    }
}

/// Adds what was being done to a system error.
pub(crate) trait Doing<T> {
    /// Names the act and the path.
    fn doing(self, act: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, act: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::io(format!("{act} {}", path.display()), source))
    }
}
