//! What this machine lets us do, tried and not guessed.

use std::fmt;

/// What works here.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The process was started as root.
    pub root: bool,
    /// Which user ids exist inside.
    pub uid_map: UidMap,
    /// Overlay mounts work.
    pub overlay: bool,
    /// Overlay keeps its marks in `user.overlay.*` and not in `trusted.overlay.*`: layers must be unpacked that way.
    pub userxattr: bool,
    /// Scratch directories are on a tmpfs of this many bytes.
    pub tmpfs_bytes: Option<u64>,
    /// Who enforces limits.
    pub cgroup: CgroupDriver,
    /// The memory limit is enforced.
    pub memory_limit: bool,
    /// The process limit is enforced.
    pub pids_limit: bool,
    /// The CPU limit is enforced.
    pub cpu_limit: bool,
    /// System call filters work.
    pub seccomp: bool,
    /// Network namespaces, veth pairs and routes work.
    pub netns: bool,
    /// `/dev/net/tun` can be opened.
    pub tun: bool,
    /// What is wrong or missing, with the remedy: one sentence each.
    pub remarks: Vec<String>,
}

/// User ids inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UidMap {
    /// All of the host's.
    Host,
    /// Our own as 0, and this many more.
    Range(u32),
    /// Our own as 0 and no other: `chown`, `USER` and package managers fail.
    Single,
}

/// Who enforces limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The controllers of cgroup v1, those named here.
    V1(Vec<String>),
    /// cgroup v2 with these controllers.
    V2(Vec<String>),
    /// Nobody, and why.
    None(String),
}

impl fmt::Display for CgroupDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CgroupDriver::V1(controllers) => write!(f, "cgroup v1 ({})", controllers.join(", ")),
            CgroupDriver::V2(controllers) => write!(f, "cgroup v2 ({})", controllers.join(", ")),
            CgroupDriver::None(why) => write!(f, "none ({why})"),
        }
    }
}
