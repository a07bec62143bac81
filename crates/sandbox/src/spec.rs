//! What to run: root filesystem, mounts, process, limits. Plain data that a caller fills in.
//! It holds nothing of images or Kubernetes; names and references are resolved before they come here.

use std::{collections::BTreeMap, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use crate::{Capabilities, Container, SeccompProfile, scratch::Scratch};

/// One process in namespaces over a root filesystem.
///
/// The default is the hardened container: 14 capabilities, `no_new_privs`, the default seccomp profile, masked paths,
/// new pid, ipc and uts namespaces, no network except loopback.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The root filesystem.
    pub rootfs: Rootfs,
    /// Mounts, made in this order after `/proc`, `/dev` and `/sys`.
    pub mounts: Vec<Mount>,
    /// The program and its arguments. The program is looked up in `PATH` of `env` when it has no slash.
    pub args: Vec<String>,
    /// Execute this open file instead of looking up `args[0]` (a static binary that is not in the root filesystem).
    pub executable: Option<Arc<OwnedFd>>,
    /// The environment, complete; without a `PATH` the usual one is added.
    pub env: Vec<(String, String)>,
    /// Working directory; created where it is missing.
    pub cwd: PathBuf,
    /// User, group and supplementary groups, as numbers. See [`Host::resolve_user`](crate::Host::resolve_user).
    pub user: User,
    /// Host name (new uts namespace only).
    pub hostname: Option<String>,
    /// Capabilities of the process (for user 0) and its bounding set. What the host does not have itself is left out.
    pub capabilities: Capabilities,
    /// Set `no_new_privs`.
    pub no_new_privs: bool,
    /// System call filter.
    pub seccomp: SeccompProfile,
    /// Paths made unreadable; `None` for the usual ones.
    pub masked_paths: Option<Vec<PathBuf>>,
    /// Paths made read-only; `None` for the usual ones.
    pub readonly_paths: Option<Vec<PathBuf>>,
    /// Make the root filesystem read-only after mount targets were created in it.
    pub readonly_root: bool,
    /// All capabilities, no filter, no masks, writable `/sys`, the host's `/dev`, and cgroups of its own in every
    /// hierarchy: in a new cgroup namespace, writable at `/sys/fs/cgroup`, so that containers can be started inside.
    pub privileged: bool,
    /// Nothing is mounted but the root filesystem and `mounts`: no `/proc`, `/dev` or `/sys`. Nothing in the root can be
    /// executed or used as a device. For [`Host::work`](crate::Host::work).
    pub bare: bool,
    /// Resource limits of the process: `(resource, soft, hard)`.
    pub rlimits: Vec<(Rlimit, u64, u64)>,
    /// Value for `/proc/self/oom_score_adj`; left out where we may not set it.
    pub oom_score_adj: Option<i32>,
    /// Network namespace.
    pub network: Network,
    /// Pid namespace.
    pub pid: PidNamespace,
    /// Ipc namespace.
    pub ipc: Namespace,
    /// Uts namespace.
    pub uts: Namespace,
    /// Limits that need a cgroup.
    pub resources: Resources,
    /// A `/dev/shm` size in bytes (64 MiB by default).
    pub shm_bytes: u64,
    /// Kernel parameters of the new namespaces: `net.ipv4.ip_unprivileged_port_start` and the like.
    pub sysctls: BTreeMap<String, String>,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            rootfs: Rootfs::Overlay { lowers: Vec::new(), upper: Upper::Scratch },
            mounts: Vec::new(),
            args: Vec::new(),
            executable: None,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: User::default(),
            hostname: None,
            capabilities: Capabilities::default(),
            no_new_privs: true,
            seccomp: SeccompProfile::Default,
            masked_paths: None,
            readonly_paths: None,
            readonly_root: false,
            privileged: false,
            bare: false,
            rlimits: Vec::new(),
            oom_score_adj: None,
            network: Network::None,
            pid: PidNamespace::New,
            ipc: Namespace::New,
            uts: Namespace::New,
            resources: Resources::default(),
            shm_bytes: 64 << 20,
            sysctls: BTreeMap::new(),
        }
    }
}

/// The root filesystem.
#[derive(Debug, Clone)]
pub enum Rootfs {
    /// Layers, bottom first, under a writable directory. No layer at all is an empty root.
    Overlay {
        /// Read-only directories, bottom first.
        lowers: Vec<PathBuf>,
        /// Where writes go.
        upper: Upper,
    },
    /// A plain directory, bound as the root.
    Dir(PathBuf),
}

/// Where writes to the root filesystem go.
#[derive(Debug, Clone)]
pub enum Upper {
    /// A new scratch directory; [`Container::scratch`] hands it out, and it is deleted with its last handle.
    Scratch,
    /// The same scratch directory again: what an earlier process wrote is there.
    Existing(Scratch),
    /// Directories of the caller, on one filesystem. `work` is used by the kernel and must be empty.
    Persistent {
        /// What is written.
        upper: PathBuf,
        /// Overlay's work directory.
        work: PathBuf,
    },
    /// Nowhere: the root is read-only, mount targets must exist.
    ReadOnly,
}

/// One mount.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Absolute path in the container. It is followed beneath the root, whatever symbolic links are there, and
    /// created where it is missing.
    pub target: PathBuf,
    /// What is mounted.
    pub source: MountSource,
    /// Mount read-only.
    pub readonly: bool,
}

/// What a mount shows.
#[derive(Debug, Clone)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Its path on the host.
        path: PathBuf,
        /// With what is mounted beneath it.
        recursive: bool,
    },
    /// A new tmpfs.
    Tmpfs {
        /// Size cap in bytes.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
    },
}

impl Mount {
    /// A bind mount, writable.
    pub fn bind(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Mount {
        let source = MountSource::Bind { path: path.into(), recursive: true };
        Mount { target: target.into(), source, readonly: false }
    }

    /// A read-only bind mount.
    pub fn bind_ro(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Mount {
        Mount { readonly: true, ..Mount::bind(path, target) }
    }

    /// A tmpfs of mode 1777.
    pub fn tmpfs(target: impl Into<PathBuf>, size: Option<u64>) -> Mount {
        Mount { target: target.into(), source: MountSource::Tmpfs { size, mode: 0o1777 }, readonly: false }
    }
}

/// Who the process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory by the image's `/etc/passwd`, where it is known. Not used by the sandbox itself.
    pub home: Option<String>,
}

/// Network namespace of a process.
#[derive(Debug, Clone)]
pub enum Network {
    /// The host's network. Loopback services of the host are reachable: ask the user first.
    Host,
    /// A new namespace in which only loopback is up.
    None,
    /// An existing namespace, see [`net::Netns`](crate::net::Netns).
    Join(Arc<OwnedFd>),
}

/// Pid namespace of a process.
#[derive(Debug, Clone)]
pub enum PidNamespace {
    /// A new one, in which the process is number 1.
    New,
    /// That of a running container.
    Join(Container),
}

/// Ipc or uts namespace of a process.
#[derive(Debug, Clone)]
pub enum Namespace {
    /// A new one.
    New,
    /// The host's.
    Host,
    /// An existing one, see [`namespaces`](crate::namespaces).
    Join(Arc<OwnedFd>),
}

/// A process resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rlimit {
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Nofile,
    Nproc,
    Stack,
}

/// Limits that need a cgroup; what can be enforced here is in [`Probe`](crate::Probe).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Memory limit in bytes, swap included.
    pub memory: Option<u64>,
    /// Highest number of processes and threads.
    pub pids: Option<u64>,
    /// CPU time limit in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// CPU request in thousandths of a core; becomes a weight.
    pub cpu_request_millis: Option<u64>,
}

impl Resources {
    /// True where nothing is asked for: such a process needs no cgroup.
    pub fn is_empty(&self) -> bool {
        *self == Resources::default()
    }
}

/// A further process in a running container.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, complete.
    pub env: Vec<(String, String)>,
    /// Working directory; must exist.
    pub cwd: PathBuf,
    /// User, group and supplementary groups.
    pub user: User,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Set `no_new_privs`.
    pub no_new_privs: bool,
    /// System call filter.
    pub seccomp: SeccompProfile,
}

impl ExecSpec {
    /// A process with the privileges, environment, directory and user of the container's own.
    pub fn like(spec: &Spec, args: Vec<String>) -> ExecSpec {
        ExecSpec {
            args,
            env: spec.env.clone(),
            cwd: spec.cwd.clone(),
            user: spec.user.clone(),
            capabilities: if spec.privileged { Capabilities::all() } else { spec.capabilities },
            no_new_privs: spec.no_new_privs && !spec.privileged,
            seccomp: if spec.privileged { SeccompProfile::Unconfined } else { spec.seccomp },
        }
    }
}

/// The three standard streams. What is not given is `/dev/null`; a terminal is all three.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
    /// Make a new terminal in the container's `/dev/pts`: it is all three streams and the controlling terminal.
    /// [`Container::terminal`] is its other end.
    pub terminal: bool,
}

impl Stdio {
    /// All three on `/dev/null`.
    pub fn null() -> Stdio {
        Stdio::default()
    }

    /// A new terminal.
    pub fn terminal() -> Stdio {
        Stdio { terminal: true, ..Stdio::default() }
    }
}
