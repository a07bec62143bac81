//! One process in namespaces over a root filesystem: the container runner.
//!
//! A program that hosts containers calls [`early`] first in `main`, then, while it has one thread, [`Host::enter`]:
//! the process moves into its own mount namespace (and, when it is not root, into a user namespace in which it is),
//! gets a place for scratch directories, and starts its spawners, small processes that hold no secrets. After that it
//! may start threads, and [`Host::spawn`] runs a [`Spec`].
//!
//! It knows nothing of images or Kubernetes. It never waits on a pipe's end, only on pidfds; and containers end with
//! the process that hosts them: each spawner is the init of a pid namespace around its containers.
//!
//! As root no user namespace is added around a container yet: root in it is root of the host with 14 capabilities,
//! `no_new_privs` and the filter, as container engines do by default.
#![allow(unsafe_code)]

mod caps;
mod cgroup;
mod child;
mod container;
mod enter;
mod error;
mod host;
pub mod namespaces;
pub mod net;
mod op;
mod plan;
mod probe;
mod pty;
mod scratch;
mod seccomp;
mod spawner;
mod spec;
mod sys;
mod syscalls;
mod user;
mod wire;
mod work;

pub use caps::Capabilities;
pub use container::{Container, Exit};
pub use error::{Error, StartError};
pub use host::{EnterOptions, Host, early};
pub use probe::{CgroupDriver, Probe, UidMap};
pub use pty::Terminal;
pub use scratch::Scratch;
pub use seccomp::SeccompProfile;
pub use spec::{
    ExecSpec, Mount, MountSource, Namespace, Network, PidNamespace, Resources, Rlimit, Rootfs, Spec, Stdio, Upper, User,
};
pub use work::{Work, Worked};

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
