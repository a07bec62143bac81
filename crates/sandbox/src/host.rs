//! The hosting process: entering its namespaces, and starting containers through its spawners.

use std::path::{Path, PathBuf};

use crate::{Container, Error, Probe, Result, Scratch, Spec, Stdio, User};

/// Handles the roles in which this program is executed by itself. Call it first in `main`; it returns in the program
/// that the user started.
pub fn early() {}

/// How to enter.
#[derive(Debug, Clone)]
pub struct EnterOptions {
    /// A directory on disk for scratch data; created.
    pub scratch: PathBuf,
    /// Cap of the scratch tmpfs in bytes; `None` takes a quarter of the memory; `Some(0)` stays on disk.
    pub tmpfs_bytes: Option<u64>,
    /// Number of spawners; `None` takes one for each core, at most 4.
    pub spawners: Option<usize>,
}

/// A process that hosts containers. Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host {}

impl Host {
    /// Enter. The process must still have one thread only.
    pub fn enter(_options: EnterOptions) -> Result<Host> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// What works here.
    pub fn probe(&self) -> &Probe {
        unreachable!("no host was entered")
    }

    /// What works here, tried in a child process, without entering. For `doctor`.
    pub fn probe_only(_scratch: &Path) -> Result<Probe> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// A new scratch directory, for [`Upper::Existing`](crate::Upper::Existing).
    pub fn scratch(&self) -> Result<Scratch> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// Start a process.
    pub async fn spawn(&self, _spec: Spec, _stdio: Stdio) -> Result<Container> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// Resolve `user`, `user:group`, `1000`, `1000:1000` against `/etc/passwd` and `/etc/group` of a root filesystem
    /// given as its layers, bottom first. An empty string is root. Names that are not there are an error; numbers
    /// that are not there have group 0.
    pub fn resolve_user(_lowers: &[PathBuf], _user: &str) -> Result<User> {
        Err(Error::Unsupported("not yet".into()))
    }
}
