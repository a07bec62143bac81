//! Git: a repository at a revision becomes a work tree, or one file of it is read. Network and local repositories are
//! brought into a store of ours first (`remote`, `local`), then resolved and checked out (`revision`, `worktree`).
//! It never runs the `git` program, never reads the user's git configuration, and never writes a credential to disk.

mod local;
mod mirror;
mod remote;
mod revision;
mod source;
mod ssh;
mod submodule;
mod worktree;

use std::path::Path;
use std::time::Duration;

pub use mirror::{Found, Mirrors, ReadRequest};
pub use source::ensure_tls;

use crate::allow::{AllowError, AllowPaths};
use crate::beneath::{Owner, Root};
use crate::cancel::Cancel;
use crate::dial::Inside;
use crate::remap::Remap;
use crate::secret::Secret;

/// A user name and password, or token, for an HTTP remote.
#[derive(Clone)]
pub struct Credentials {
    /// The user; for tokens any non-empty name.
    pub username: Secret,
    /// The password or token.
    pub password: Secret,
}

/// What to check out: Argo's `git` artifact.
#[derive(Clone, Default)]
pub struct GitSource {
    /// URL or absolute path.
    pub repo: String,
    /// Branch, tag, full or short commit id, `refs/…`, `HEAD`; `None` is the default branch.
    pub revision: Option<String>,
    /// The branch for `single_branch`.
    pub branch: Option<String>,
    /// Fetch only `branch`.
    pub single_branch: bool,
    /// Cut history at so many commits.
    pub depth: Option<u32>,
    /// Further refspecs to fetch.
    pub fetch: Vec<String>,
    /// Check out submodules, and theirs.
    pub submodules: bool,
    /// For HTTP.
    pub credentials: Option<Credentials>,
    /// For ssh: a private key without passphrase.
    pub ssh_key: Option<Secret>,
    /// Accept any ssh host key.
    pub ignore_host_key: bool,
    /// Accept any TLS certificate.
    pub skip_tls_verify: bool,
}

/// From where, and with what patience, repositories may be read.
#[derive(Clone, Debug)]
pub struct GitAccess {
    /// Local directories.
    pub allow: AllowPaths,
    /// URL prefixes.
    pub remap: Remap,
    /// Files with ssh hosts' keys; the first is the one that advice names. The large forges are known without.
    pub known_hosts: Vec<std::path::PathBuf>,
    /// Names that only the cluster knows.
    pub inside: Inside,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a connection may stay silent.
    pub read_timeout: Duration,
}

impl Default for GitAccess {
    fn default() -> Self {
        Self {
            allow: AllowPaths::none(),
            remap: Remap::none(),
            known_hosts: Vec::new(),
            inside: Inside::default(),
            connect_timeout: Duration::from_secs(4),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// What was checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// The commit, in full.
    pub commit: String,
    /// The branch `HEAD` points to; nothing where it is detached.
    pub branch: Option<String>,
    /// Files in the work tree.
    pub files: usize,
}

/// Told what is going on. Called from worker threads.
pub trait Progress: Sync {
    /// A line for people: `receiving objects`, `checking out 214 files`.
    fn stage(&self, text: &str);
}

/// Tells nobody.
pub struct NoProgress;

impl Progress for NoProgress {
    fn stage(&self, _text: &str) {}
}

/// Why a repository was not read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The URL cannot be used.
    #[error("git repository {url}: {reason}")]
    BadUrl {
        /// The URL, without credentials.
        url: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A local path that is not allowed.
    #[error("git repository: {0}")]
    Refused(#[from] AllowError),
    /// The host does not answer, or broke off: trying again may help.
    #[error("git repository {url}: cannot be reached: {cause}{help}")]
    Unreachable {
        /// The URL, without credentials.
        url: String,
        /// The innermost cause.
        cause: String,
        /// Who else could answer.
        help: String,
    },
    /// The host wants other credentials, or there is no such repository.
    #[error("git repository {url}: {cause}")]
    Denied {
        /// The URL, without credentials.
        url: String,
        /// What the host said.
        cause: String,
    },
    /// No such branch, tag or commit.
    #[error("git repository {url}: revision {revision:?} does not exist{hint}")]
    NoRevision {
        /// The URL, without credentials.
        url: String,
        /// As asked for.
        revision: String,
        /// What there is instead.
        hint: String,
    },
    /// The revision has no such file.
    #[error("git repository {url}: no file {path} at {commit}")]
    NoFile {
        /// The URL, without credentials.
        url: String,
        /// The path.
        path: String,
        /// The commit looked at.
        commit: String,
    },
    /// Something that is not built yet, or larger than allowed.
    #[error("git repository {url}: {what}")]
    Unsupported {
        /// The URL, without credentials.
        url: String,
        /// What, and what to do instead.
        what: String,
    },
    /// The repository's own data is wrong.
    #[error("git repository {url}: {cause}")]
    Broken {
        /// The URL, without credentials.
        url: String,
        /// The innermost cause.
        cause: String,
    },
    /// This machine's filesystem said no.
    #[error("git checkout {path}: {source}")]
    Io {
        /// What was touched.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
}

impl GitError {
    /// Whether trying again later may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    pub(crate) fn io(path: impl Into<std::path::PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Checks `source` out into the directory `into`, which must not exist or be empty. On any error it is left as it was.
pub fn checkout(
    source: &GitSource,
    access: &GitAccess,
    into: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Checkout, GitError> {
    let (Some(parent), Some(name)) = (into.parent(), into.file_name()) else {
        return Err(GitError::io(into)(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "needs a parent directory",
        )));
    };
    std::fs::create_dir_all(parent).map_err(GitError::io(parent))?;
    let root = Root::open(parent).map_err(GitError::io(parent))?;
    checkout_at(source, access, &root, Path::new(name), None, progress, cancel)
}

/// As [`checkout`], with `target` resolved beneath `root` and everything given to `owner`.
pub fn checkout_at(
    source: &GitSource,
    access: &GitAccess,
    root: &Root,
    target: &Path,
    owner: Option<Owner>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Checkout, GitError> {
    worktree::checkout(source, access, root, target, owner, progress, cancel)
}
