//! From a specification to the steps of its start. All decisions are made here, in the host, where they can be
//! refused with words; the spawner's child only carries them out.

use std::{
    ffi::CString,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use crate::{
    Capabilities, Error, ExecSpec, Namespace, Network, PidNamespace, Result, Rlimit, Rootfs, SeccompProfile, Spec,
    UidMap, User,
    cgroup::{Shown, Way},
    op::{Op, Plan, Strings},
    sys::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY},
    wire::{FDS_MAX, Fd, Wire},
};

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What of the host a plan depends on.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    /// An empty directory over which every container mounts its root, each in its own mount namespace.
    pub(crate) root: PathBuf,
    /// An empty directory that stays empty.
    pub(crate) empty: PathBuf,
    pub(crate) userxattr: bool,
    /// `lowerdir+` exists.
    pub(crate) layers_one_by_one: bool,
    pub(crate) uid_map: UidMap,
    /// A new `/proc` may be refused, because parts of ours are covered: then a container gets ours.
    pub(crate) proc_covered: bool,
    /// What the host has itself: more it cannot give.
    pub(crate) capabilities: Capabilities,
}

/// Steps with their words, and the descriptors they name.
pub(crate) struct Draft {
    flags: u64,
    pid_of: Option<Fd>,
    apart: bool,
    ops: Vec<Op>,
    words: Vec<String>,
    fds: Vec<Arc<OwnedFd>>,
}

/// What goes to the spawner, and what is kept to explain its answer.
pub(crate) struct Ready {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<Arc<OwnedFd>>,
    pub(crate) words: Vec<String>,
}

/// The standard streams, all given; or the socket through which the host gets its end of a new terminal.
pub(crate) enum Streams {
    Given([Arc<OwnedFd>; 3]),
    Terminal(Arc<OwnedFd>),
}

/// Upper and work directory, and whether the upper is thrown away.
pub(crate) struct UpperDirs {
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) volatile: bool,
}

impl Draft {
    fn new() -> Self {
        Draft { flags: 0, pid_of: None, apart: false, ops: Vec::new(), words: Vec::new(), fds: Vec::new() }
    }

    fn step(&mut self, words: impl Into<String>, op: Op) {
        self.words.push(words.into());
        self.ops.push(op);
    }

    fn fd(&mut self, fd: Arc<OwnedFd>) -> Fd {
        self.fds.push(fd);
        Fd(self.fds.len() as u32 - 1)
    }

    fn finish(self) -> Result<Ready> {
        if self.fds.len() > FDS_MAX - 1 {
            return Err(Error::Spec("too many open files in one specification".into()));
        }
        let mut bytes = Vec::with_capacity(4096);
        Plan { flags: self.flags, pid_of: self.pid_of, apart: self.apart, ops: self.ops }.put(&mut bytes);
        Ok(Ready { bytes, fds: self.fds, words: self.words })
    }

    fn filesystem(
        &mut self,
        kind: &str,
        options: &[(&str, &str)],
        attributes: u64,
        target: &str,
        instead: Option<&str>,
    ) {
        let op = Op::Filesystem {
            kind: literal(kind),
            options: options.iter().map(|(k, v)| (literal(k), (!v.is_empty()).then(|| literal(v)))).collect(),
            attributes,
            target: literal(target),
            system: true,
            instead: instead.map(literal),
        };
        self.step(format!("mount {target}"), op);
    }

    fn root(&mut self, ground: &Ground, spec: &Spec, upper: Option<UpperDirs>) -> Result<()> {
        let at = path_text(&ground.root)?;
        let lowers = match &spec.rootfs {
            Rootfs::Dir(path) => {
                let op = Op::RootDir { path: path_text(path)?, readonly: false, at };
                self.step(format!("bind root {}", path.display()), op);
                return Ok(());
            }
            Rootfs::Overlay { lowers, .. } => lowers,
        };
        if upper.is_none() && lowers.len() < 2 {
            let path = lowers.first().unwrap_or(&ground.empty);
            let op = Op::RootDir { path: path_text(path)?, readonly: true, at };
            self.step(format!("bind root {}", path.display()), op);
            return Ok(());
        }
        let mut tops: Vec<CString> = lowers.iter().rev().map(|p| path_text(p)).collect::<Result<_>>()?;
        if tops.is_empty() {
            tops.push(path_text(&ground.empty)?);
        }
        let words = format!("mount root filesystem of {} layers", tops.len());
        let volatile = upper.as_ref().is_some_and(|u| u.volatile);
        let upper = upper.map(|u| Ok::<_, Error>((path_text(&u.upper)?, path_text(&u.work)?))).transpose()?;
        // The newer call takes strings of at most 255 bytes.
        let short = tops.iter().chain(upper.iter().flat_map(|(u, w)| [u, w])).all(|p| p.as_bytes().len() < 256);
        if ground.layers_one_by_one && short {
            let userxattr = ground.userxattr;
            self.step(words, Op::Overlay { lowers: tops, upper, userxattr, volatile, at });
            return Ok(());
        }
        let mut options = b"lowerdir=".to_vec();
        for (index, lower) in tops.iter().enumerate() {
            if index > 0 {
                options.push(b':');
            }
            escape(lower.as_bytes(), b":,\\", &mut options);
        }
        if let Some((upper, work)) = &upper {
            options.extend_from_slice(b",upperdir=");
            escape(upper.as_bytes(), b",\\", &mut options);
            options.extend_from_slice(b",workdir=");
            escape(work.as_bytes(), b",\\", &mut options);
            if volatile {
                options.extend_from_slice(b",volatile");
            }
        }
        if ground.userxattr {
            options.extend_from_slice(b",userxattr");
        }
        if options.len() >= 4096 {
            return Err(Error::Unsupported(format!(
                "{} layers with long paths do not fit in one mount call of this kernel; a shorter home path helps",
                tops.len()
            )));
        }
        self.step(words, Op::OverlayLegacy { options: text(options, "layer paths")?, at });
        Ok(())
    }

    fn filesystems(&mut self, ground: &Ground, spec: &Spec, cgroups: &[Shown]) -> Result<()> {
        let closed = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
        self.filesystem("proc", &[], closed, "/proc", ground.proc_covered.then_some("/proc"));
        let bind = ground.uid_map != UidMap::Host;
        self.step("mount /dev", Op::Dev { bind });
        let mut pts = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
        if ground.uid_map != UidMap::Single {
            pts.push(("gid", "5"));
        }
        self.filesystem("devpts", &pts, ATTR_NOSUID | ATTR_NOEXEC, "/dev/pts", None);
        let shm = spec.shm_bytes.to_string();
        self.filesystem("tmpfs", &[("mode", "1777"), ("size", &shm)], closed, "/dev/shm", None);
        if !matches!(spec.ipc, Namespace::Host) {
            self.filesystem("mqueue", &[], closed, "/dev/mqueue", None);
        }
        let readonly = if spec.privileged { 0 } else { ATTR_RDONLY };
        self.filesystem("sysfs", &[], closed | readonly, "/sys", Some("/sys"));
        if spec.privileged {
            self.host_devices()?;
            self.cgroups(cgroups)?;
        }
        Ok(())
    }

    /// The container's own cgroups at the usual place, writable, laid out as on the host.
    fn cgroups(&mut self, shown: &[Shown]) -> Result<()> {
        const AT: &str = "/sys/fs/cgroup";
        if shown.iter().any(|s| s.name.is_some()) {
            self.filesystem("tmpfs", &[("mode", "0755"), ("size", "64k")], ATTR_NOSUID | ATTR_NODEV, AT, None);
        }
        for Shown { directory, name } in shown {
            let target = name.as_ref().map_or_else(|| PathBuf::from(AT), |name| Path::new(AT).join(name));
            let attributes = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
            let path = path_text(directory)?;
            let words = format!("mount {}", target.display());
            let op = Op::Bind { path, recursive: false, attributes, target: path_text(&target)?, system: true };
            self.step(words, op);
        }
        Ok(())
    }

    /// A privileged container has the host's devices, but its own `/dev`: what it creates there is its own.
    fn host_devices(&mut self) -> Result<()> {
        const OWN: [&str; 17] = [
            "null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "mqueue", "fd", "stdin", "stdout",
            "stderr", "ptmx", "core", "log", "console",
        ];
        for entry in std::fs::read_dir("/dev").map_err(|e| Error::io("list /dev", e))?.flatten() {
            let linked = entry.file_type().is_ok_and(|t| t.is_symlink());
            if linked || OWN.iter().any(|own| entry.file_name() == *own) {
                continue;
            }
            let path = path_text(&entry.path())?;
            let op = Op::Bind { path: path.clone(), recursive: true, attributes: 0, target: path, system: true };
            self.step(format!("mount {}", entry.path().display()), op);
        }
        Ok(())
    }

    fn mounts(&mut self, spec: &Spec) -> Result<()> {
        for mount in &spec.mounts {
            let target = target_text(&mount.target)?;
            let words = format!("mount {}", mount.target.display());
            let readonly = if mount.readonly { ATTR_RDONLY } else { 0 };
            match &mount.source {
                crate::MountSource::Bind { path, recursive } => {
                    let words = format!("{words} from {}", path.display());
                    let (path, recursive) = (path_text(path)?, *recursive);
                    self.step(words, Op::Bind { path, recursive, attributes: readonly, target, system: false });
                }
                crate::MountSource::Tmpfs { size, mode } => {
                    let mut options = vec![(literal("mode"), Some(literal(&format!("{mode:o}"))))];
                    options.extend(size.map(|s| (literal("size"), Some(literal(&s.to_string())))));
                    let attributes = readonly | ATTR_NOSUID | ATTR_NODEV;
                    let kind = literal("tmpfs");
                    let op = Op::Filesystem { kind, options, attributes, target, system: false, instead: None };
                    self.step(words, op);
                }
            }
        }
        Ok(())
    }

    fn covers(&mut self, ground: &Ground, spec: &Spec) -> Result<()> {
        let given = |paths: &Option<Vec<PathBuf>>, usual: &[&str]| match paths {
            Some(paths) => paths.clone(),
            None => usual.iter().map(PathBuf::from).collect(),
        };
        for (name, value) in &spec.sysctls {
            let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
            let op = Op::Sysctl { path: target_text(&path)?, value: text(value.as_bytes(), "a sysctl value")? };
            self.step(format!("sysctl {name}"), op);
        }
        if spec.privileged {
            return Ok(());
        }
        for path in given(&spec.readonly_paths, &READONLY) {
            self.step(format!("make read-only {}", path.display()), Op::Readonly { path: target_text(&path)? });
        }
        let empty = path_text(&ground.empty)?;
        for path in given(&spec.masked_paths, &MASKED) {
            let op = Op::Mask { path: target_text(&path)?, empty: empty.clone() };
            self.step(format!("mask {}", path.display()), op);
        }
        Ok(())
    }

    fn streams(&mut self, streams: Streams, user: &User) {
        match streams {
            Streams::Given(fds) => {
                let [stdin, stdout, stderr] = fds.map(|fd| self.fd(fd));
                self.step("standard streams", Op::Streams { stdin, stdout, stderr });
            }
            Streams::Terminal(socket) => {
                let socket = self.fd(socket);
                self.step("open a terminal in /dev/pts", Op::Terminal { socket, uid: user.uid });
            }
        }
    }

    fn identity(&mut self, ground: &Ground, privileges: &Privileges<'_>) -> Result<()> {
        let Privileges { user, capabilities, no_new_privs, seccomp } = *privileges;
        let filter = seccomp.filter(capabilities);
        let capabilities = Capabilities(capabilities.bits() & ground.capabilities.bits());
        let single = ground.uid_map == UidMap::Single;
        if single && (user.uid != 0 || user.gid != 0 || user.groups.iter().any(|g| *g != 0)) {
            return Err(Error::Unsupported(format!(
                "user {}:{}: only one user id exists here; install newuidmap and newgidmap (package uidmap) and give \
                 this user a range in /etc/subuid and /etc/subgid, or run as root",
                user.uid, user.gid
            )));
        }
        self.step("capability bounding set", Op::Bounding { keep: capabilities.bits() });
        if !single {
            let mut groups = user.groups.clone();
            if !groups.contains(&user.gid) {
                groups.insert(0, user.gid);
            }
            self.step(format!("groups {groups:?}"), Op::Groups { groups });
        }
        self.step(format!("group {}", user.gid), Op::Group { gid: user.gid });
        if !no_new_privs && let Some(filter) = filter.clone() {
            // Without no_new_privs a filter needs a privilege that goes with the next steps.
            self.step("system call filter", Op::Seccomp { filter });
        }
        self.step(format!("user {}", user.uid), Op::User { uid: user.uid });
        self.step("capabilities", Op::Capabilities { bits: capabilities.bits() });
        self.step("die with the spawner", Op::DieWithParent {});
        if no_new_privs {
            self.step("no_new_privs", Op::NoNewPrivs {});
            if let Some(filter) = filter {
                self.step("system call filter", Op::Seccomp { filter });
            }
        }
        Ok(())
    }

    fn exec(&mut self, args: &[String], env: &[(String, String)], fd: Option<Arc<OwnedFd>>) -> Result<()> {
        let Some(program) = args.first() else {
            return Err(Error::Spec("no command: neither the image nor the specification has one".into()));
        };
        let mut path = None;
        let mut envp = Vec::with_capacity(env.len() + 1);
        for (name, value) in env {
            if name == "PATH" {
                path = Some(value.as_str());
            }
            envp.push(text(format!("{name}={value}"), "an environment variable")?);
        }
        if path.is_none() {
            envp.push(literal(&format!("PATH={PATH_DEFAULT}")));
        }
        let candidates = if program.contains('/') {
            vec![text(program.as_bytes(), "the command")?]
        } else {
            let directories = path.unwrap_or(PATH_DEFAULT).split(':').filter(|d| !d.is_empty());
            directories.map(|d| text(format!("{d}/{program}"), "the command")).collect::<Result<_>>()?
        };
        let argv = args.iter().map(|a| text(a.as_bytes(), "an argument")).collect::<Result<_>>()?;
        let fd = fd.map(|fd| self.fd(fd));
        let op = Op::Exec { fd, candidates, argv: Strings::new(argv), envp: Strings::new(envp) };
        self.step(format!("exec {program}"), op);
        Ok(())
    }
}

struct Privileges<'a> {
    user: &'a User,
    capabilities: Capabilities,
    no_new_privs: bool,
    seccomp: SeccompProfile,
}

/// The kinds of namespace that a process of this specification does not share with the host, but for its pids.
pub(crate) fn own_namespaces(spec: &Spec) -> i32 {
    let mut kinds = libc::CLONE_NEWNS;
    if !matches!(spec.network, Network::Host) {
        kinds |= libc::CLONE_NEWNET;
    }
    if !matches!(spec.ipc, Namespace::Host) {
        kinds |= libc::CLONE_NEWIPC;
    }
    if !matches!(spec.uts, Namespace::Host) {
        kinds |= libc::CLONE_NEWUTS;
    }
    if spec.privileged {
        kinds |= libc::CLONE_NEWCGROUP;
    }
    kinds
}

/// The steps that start a container.
pub(crate) fn container(
    ground: &Ground,
    spec: &Spec,
    upper: Option<UpperDirs>,
    cgroups: Way,
    joined_pid: Option<Arc<OwnedFd>>,
    user_namespace: Option<Arc<OwnedFd>>,
    streams: Streams,
) -> Result<Ready> {
    let mut draft = Draft::new();
    draft.flags = libc::CLONE_NEWNS as u64;
    let Way { procs, shown } = cgroups;
    for procs in procs {
        let procs = draft.fd(procs);
        draft.step("join cgroup", Op::Cgroup { procs });
    }
    if spec.privileged {
        draft.step("new cgroup namespace", Op::CgroupNamespace {});
    }
    if let PidNamespace::New = spec.pid {
        draft.flags |= libc::CLONE_NEWPID as u64;
    }
    if let Some(pidfd) = joined_pid {
        draft.pid_of = Some(draft.fd(pidfd));
        draft.apart = true;
    }
    match &spec.network {
        Network::Host => {}
        Network::None => {
            draft.flags |= libc::CLONE_NEWNET as u64;
            draft.step("bring loopback up", Op::Loopback {});
        }
        Network::Join(fd) => {
            let fd = draft.fd(fd.clone());
            draft.step("join network namespace", Op::Join { fd, kinds: libc::CLONE_NEWNET });
        }
    }
    for (namespace, kind, name) in [(&spec.ipc, libc::CLONE_NEWIPC, "ipc"), (&spec.uts, libc::CLONE_NEWUTS, "uts")] {
        match namespace {
            Namespace::New => draft.flags |= kind as u64,
            Namespace::Host => {}
            Namespace::Join(fd) => {
                let fd = draft.fd(fd.clone());
                draft.step(format!("join {name} namespace"), Op::Join { fd, kinds: kind });
            }
        }
    }
    if let (Namespace::New, Some(name)) = (&spec.uts, &spec.hostname) {
        draft.step(format!("host name {name}"), Op::Hostname { name: text(name.as_bytes(), "the host name")? });
    }
    draft.root(ground, spec, upper)?;
    if !spec.bare {
        draft.filesystems(ground, spec, &shown)?;
    }
    draft.mounts(spec)?;
    if !spec.bare {
        draft.covers(ground, spec)?;
    }
    draft.step("enter the root filesystem", Op::Pivot {});
    draft.step(
        format!("working directory {}", spec.cwd.display()),
        Op::Directory { path: target_text(&spec.cwd)?, create: true },
    );
    if spec.readonly_root {
        draft.step("make the root filesystem read-only", Op::RootAttributes { attributes: ATTR_RDONLY });
    }
    if spec.bare {
        let attributes = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
        draft.step("close the root filesystem", Op::RootAttributes { attributes });
    }
    if let Some(score) = spec.oom_score_adj {
        draft.step("oom_score_adj", Op::OomScore { value: literal(&score.to_string()) });
    }
    draft.streams(streams, &spec.user);
    for (resource, soft, hard) in &spec.rlimits {
        let op = Op::Limit { resource: number(*resource), soft: *soft, hard: *hard };
        draft.step(format!("resource limit {resource:?}"), op);
    }
    if let Some(namespace) = user_namespace {
        // After every mount: in there nothing can be mounted any more. Before the bounding set, which it resets.
        let fd = draft.fd(namespace);
        draft.step("join a user namespace", Op::Join { fd, kinds: libc::CLONE_NEWUSER });
    }
    let like = ExecSpec::like(spec, Vec::new());
    let privileges = Privileges {
        user: &spec.user,
        capabilities: like.capabilities,
        no_new_privs: like.no_new_privs,
        seccomp: like.seccomp,
    };
    draft.identity(ground, &privileges)?;
    draft.exec(&spec.args, &spec.env, spec.executable.clone())?;
    draft.finish()
}

/// The steps that start a further process in a running container.
pub(crate) fn joining(
    ground: &Ground,
    spec: &ExecSpec,
    pidfd: Arc<OwnedFd>,
    kinds: i32,
    cgroups: Vec<Arc<OwnedFd>>,
    streams: Streams,
) -> Result<Ready> {
    let mut draft = Draft::new();
    draft.apart = true;
    let fd = draft.fd(pidfd);
    draft.pid_of = Some(fd);
    for procs in cgroups {
        let procs = draft.fd(procs);
        draft.step("join cgroup", Op::Cgroup { procs });
    }
    draft.step("join the container", Op::Join { fd, kinds });
    let path = target_text(&spec.cwd)?;
    draft.step(format!("working directory {}", spec.cwd.display()), Op::Directory { path, create: false });
    draft.streams(streams, &spec.user);
    let privileges = Privileges {
        user: &spec.user,
        capabilities: spec.capabilities,
        no_new_privs: spec.no_new_privs,
        seccomp: spec.seccomp,
    };
    draft.identity(ground, &privileges)?;
    draft.exec(&spec.args, &spec.env, None)?;
    draft.finish()
}

fn number(resource: Rlimit) -> u32 {
    // The type differs by C library.
    #[allow(clippy::unnecessary_cast)]
    let number = match resource {
        Rlimit::Core => libc::RLIMIT_CORE,
        Rlimit::Cpu => libc::RLIMIT_CPU,
        Rlimit::Data => libc::RLIMIT_DATA,
        Rlimit::Fsize => libc::RLIMIT_FSIZE,
        Rlimit::Memlock => libc::RLIMIT_MEMLOCK,
        Rlimit::Nofile => libc::RLIMIT_NOFILE,
        Rlimit::Nproc => libc::RLIMIT_NPROC,
        Rlimit::Stack => libc::RLIMIT_STACK,
    } as u32;
    number
}

fn escape(path: &[u8], special: &[u8], out: &mut Vec<u8>) {
    for byte in path {
        if special.contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
}

/// Text of ours, without a zero byte in it.
fn literal(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn text(bytes: impl Into<Vec<u8>>, what: &str) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::Spec(format!("{what} has a zero byte in it")))
}

fn path_text(path: &Path) -> Result<CString> {
    text(path.as_os_str().as_bytes(), "a path")
}

/// A path in the container: absolute and not the root itself, unless it is a working directory.
fn target_text(path: &Path) -> Result<CString> {
    if !path.is_absolute() {
        return Err(Error::Spec(format!("{}: a path in the container must be absolute", path.display())));
    }
    let clean: PathBuf = path.components().filter(|c| !matches!(c, Component::CurDir)).collect();
    path_text(&clean)
}
