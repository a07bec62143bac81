//! Git over ssh, in this process: a connection, the host's key checked, one command, its bytes. `address` reads URLs,
//! `known` decides about host keys, `key` reads private keys, `session` speaks. It must never run the `ssh` program,
//! ask a person, or accept a host key that nobody vouched for unless it was told not to look.

mod address;
mod key;
mod known;
mod session;

use std::time::Duration;

pub(super) use address::Address;
pub(super) use session::Session;

use super::GitError;
use crate::dial::Inside;
use crate::secret::Secret;

/// What a connection is made with.
pub(super) struct Options<'a> {
    /// The private key.
    pub(super) key: Option<&'a Secret>,
    /// A rule led to this host.
    pub(super) mapped: bool,
    /// Do not look at the host's key.
    pub(super) ignore_host_key: bool,
    /// Files of known hosts; the first is the one that advice names.
    pub(super) known_hosts: &'a [std::path::PathBuf],
    /// How long a connection may take to be made.
    pub(super) connect_timeout: Duration,
    /// How long it may stay silent.
    pub(super) read_timeout: Duration,
    /// Names inside the cluster.
    pub(super) inside: &'a Inside,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum SshError {
    /// Nobody answers, or it broke off: trying again may help.
    Unreachable(String),
    /// The key, the host's key, or what the host said.
    Denied(String),
}

impl SshError {
    pub(super) fn about(self, url: &str, help: String) -> GitError {
        let url = url.to_owned();
        match self {
            Self::Unreachable(cause) => GitError::Unreachable { url, cause, help },
            Self::Denied(cause) => GitError::Denied { url, cause },
        }
    }
}
