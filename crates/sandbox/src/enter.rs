//! Entering: the namespaces of the hosting process, its scratch place, its spawners. Everything here runs while the
//! process has one thread; what works is found out by doing it.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags},
    net::{AddressFamily, SocketFlags, SocketType},
    thread::CapabilitySet,
};

use crate::{
    Capabilities, EnterOptions, Error, Probe, Result, UidMap, cgroup::Driver, error::Step, plan::Ground, scratch,
    spawner, sys,
};

/// What entering has made.
pub(crate) struct Entered {
    pub(crate) ground: Ground,
    pub(crate) probe: Probe,
    pub(crate) cgroups: Driver,
    /// Our directory, to be removed; beneath it scratch directories are made, perhaps on disk.
    pub(crate) base: PathBuf,
    pub(crate) uppers: PathBuf,
    pub(crate) volatile: bool,
    /// Held: tells others that the directory is in use.
    pub(crate) lock: File,
    /// The spawners' sockets.
    pub(crate) sockets: Vec<OwnedFd>,
}

pub(crate) fn enter(options: &EnterOptions, spawners: usize) -> Result<Entered> {
    one_thread()?;
    let mut remarks = Vec::new();
    let root = is_root();
    // Before the user namespace: the lock file and directory are then made as the user.
    let (base, lock) = scratch::claim(&options.scratch)?;
    let uid_map = if root {
        sys::unshare(libc::CLONE_NEWNS).map_err(io::Error::from_raw_os_error).step(|| "unshare mounts".into())?;
        mapped_ids()
    } else {
        user_namespace(&mut remarks)?
    };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", private).step(|| "make mounts private".into())?;

    let cap = options.tmpfs_bytes.unwrap_or_else(|| memory_bytes() / 4);
    let place = Place::choose(&base, cap, &mut remarks)?;
    let ground = Ground {
        root: base.join("root"),
        empty: base.join("empty"),
        userxattr: place.userxattr,
        layers_one_by_one: place.layers_one_by_one,
        uid_map,
        proc_covered: !root && proc_covered(),
        capabilities: own_capabilities(),
    };
    let cgroups = Driver::detect();
    if let crate::CgroupDriver::None(why) = &cgroups.kind {
        remarks.push(format!("limits of memory, processes and CPU are not enforced: {why}"));
    }
    let netns = crate::net::probe();
    if !netns {
        remarks.push("pods get no network: network namespaces or veth pairs do not work here".into());
    }
    let probe = Probe {
        root,
        uid_map,
        overlay: place.overlay,
        userxattr: place.userxattr,
        tmpfs_bytes: place.tmpfs.then_some(cap),
        memory_limit: cgroups.enforces("memory"),
        pids_limit: cgroups.enforces("pids"),
        cpu_limit: cgroups.enforces("cpu"),
        cgroup: cgroups.kind.clone(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        netns,
        tun: File::options().read(true).write(true).open("/dev/net/tun").is_ok(),
        remarks,
    };
    let sockets = (0..spawners).map(|_| start_spawner()).collect::<Result<_>>()?;
    Ok(Entered { ground, probe, cgroups, uppers: base.join("u"), base, volatile: !place.tmpfs, lock, sockets })
}

/// Take back what entering has left on disk.
pub(crate) fn leave(base: &Path) {
    // Nothing is mounted there when scratch is on disk.
    let _not_mounted = rustix::mount::unmount(base, rustix::mount::UnmountFlags::DETACH);
    let gone = |path: &Path| match fs::remove_dir_all(path) {
        Ok(()) => true,
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    };
    if !gone(&scratch::on_disk(base)) || !gone(base) {
        // Containers may still be dying. The lock file tells the next process to sweep.
        return;
    }
    let mut lock = base.as_os_str().to_owned();
    lock.push(".lock");
    drop(fs::remove_file(lock));
}

fn one_thread() -> Result<()> {
    let threads = fs::read_dir("/proc/self/task").step(|| "list /proc/self/task".into())?.count();
    if threads > 1 {
        return Err(Error::Spec(format!("containers must be hosted from the start: {threads} threads are running")));
    }
    Ok(())
}

/// User 0 that may mount; in a container it often may not.
fn is_root() -> bool {
    let may_mount = rustix::thread::capabilities(None).is_ok_and(|c| c.effective.contains(CapabilitySet::SYS_ADMIN));
    rustix::process::geteuid().is_root() && may_mount
}

/// Whether somebody has mounted over parts of our `/proc`, as container runtimes do: the kernel then refuses a new one to
/// who is root of a user namespace only. What is seen through ours is no more than this container.
fn proc_covered() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| at.starts_with("/proc/"))
}

/// How many ids the namespace around us has, where they are all ours to give: we are its user 0.
fn own_ids() -> Option<u32> {
    let privileged = CapabilitySet::SETUID | CapabilitySet::SETGID;
    let may = rustix::thread::capabilities(None).is_ok_and(|c| c.effective.contains(privileged));
    if !may || !rustix::process::geteuid().is_root() {
        return None;
    }
    let count = |file: &str| -> Option<u32> {
        let text = fs::read_to_string(file).ok()?;
        let mut fields = text.lines().next()?.split_whitespace();
        (fields.next()? == "0").then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    Some(count("/proc/self/uid_map")?.min(count("/proc/self/gid_map")?)).filter(|count| *count > 1)
}

/// The ids of the user namespace that we are root of already.
fn mapped_ids() -> UidMap {
    let text = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let counts = text.lines().filter_map(|l| l.split_whitespace().nth(2)?.parse::<u32>().ok());
    match counts.fold(0, u32::saturating_add) {
        u32::MAX => UidMap::Host,
        0 | 1 => UidMap::Single,
        count => UidMap::Range(count - 1),
    }
}

fn own_capabilities() -> Capabilities {
    let permitted = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |c| c.permitted);
    Capabilities(permitted.bits())
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(1u64 << 20) * 1024
}

/// Become root in a user (and mount) namespace of our own.
fn user_namespace(remarks: &mut Vec<String>) -> Result<UidMap> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let ranges = sub_range("/etc/subuid", uid).zip(sub_range("/etc/subgid", uid));
    let own = own_ids();
    let (here, there) = UnixStream::pair().step(|| "socket pair".into())?;
    // SAFETY: this process has one thread, so that the child may do anything.
    let mapper = match unsafe { libc::fork() } {
        -1 => return Err(Error::io("fork", io::Error::last_os_error())),
        0 => {
            drop(here);
            sys::exit_now(map_from_outside(&there, uid, gid, ranges, own))
        }
        pid => pid,
    };
    drop(there);
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|errno| {
        let why = crate::error::words(&io::Error::from_raw_os_error(errno));
        Error::Unsupported(format!(
            "this user may not make user namespaces ({why}); as root: sysctl -w user.max_user_namespaces=65536 \
             kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 (those that exist), or \
             run as root"
        ))
    })?;
    drop(io::Write::write_all(&mut &here, b"go"));
    let mut status = 0;
    // SAFETY: waits for our own child.
    unsafe { libc::waitpid(mapper, &mut status, 0) };
    if status == 0
        && let Some(count) = own.map(|all| all - 1).or(ranges.map(|((_, count), _)| count))
    {
        let become_root = sys::setgid(0).and_then(|()| sys::setuid(0)).and_then(|()| sys::setgroups(&[0]));
        become_root.map_err(io::Error::from_raw_os_error).step(|| "become root in the user namespace".into())?;
        return Ok(UidMap::Range(count));
    }
    remarks.push(
        "only one user id exists in containers: chown, USER and package managers fail; install newuidmap and newgidmap \
         (package uidmap) and give this user ranges in /etc/subuid and /etc/subgid"
            .into(),
    );
    let write = |file: &str, text: String| fs::write(file, text).step(|| format!("write {file}"));
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(UidMap::Single)
}

/// Gives a new user namespace its ids, as the root that it was made by.
pub(crate) fn map_ids(pid: i64, map: &str) -> Result<()> {
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, map).step(|| format!("write {path}"))?;
    }
    Ok(())
}

/// In a child that stays outside: write the maps once the parent is inside. The exit code.
fn map_from_outside(socket: &UnixStream, uid: u32, gid: u32, ranges: Option<(Range, Range)>, own: Option<u32>) -> i32 {
    let mut go = [0; 2];
    if io::Read::read_exact(&mut &*socket, &mut go).is_err() {
        return 1;
    }
    let parent = rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get());
    if let Some(count) = own {
        // In a container, as its root: every id stays what it is, and no program is needed for that.
        return i32::from(map_ids(parent.into(), &format!("0 0 {count}")).is_err());
    }
    let Some((uids, gids)) = ranges else { return 2 };
    let parent = parent.to_string();
    for (program, own, (first, count)) in [("newuidmap", uid, uids), ("newgidmap", gid, gids)] {
        let arguments = ["0".into(), own.to_string(), "1".into(), "1".into(), first.to_string(), count.to_string()];
        let mut command = Command::new(program);
        command.arg(&parent).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        if !command.status().is_ok_and(|s| s.success()) {
            return 3;
        }
    }
    0
}

type Range = (u32, u32);

/// The largest range of this user, by number or name.
fn sub_range(file: &str, uid: u32) -> Option<Range> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let name = passwd.lines().find_map(|l| {
        let mut fields = l.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    let text = fs::read_to_string(file).ok()?;
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (who == number || Some(who) == name).then_some(range)
    });
    ranges.max_by_key(|(_, count)| *count)
}

/// Where scratch directories go.
struct Place {
    tmpfs: bool,
    overlay: bool,
    userxattr: bool,
    layers_one_by_one: bool,
}

impl Place {
    fn choose(base: &Path, cap: u64, remarks: &mut Vec<String>) -> Result<Place> {
        let prepare = || -> Result<()> {
            for name in ["root", "empty", "u"] {
                let path = base.join(name);
                fs::create_dir(&path).step(|| format!("create {}", path.display()))?;
            }
            Ok(())
        };
        if cap > 0 {
            let options = format!("mode=0700,size={cap}");
            let options = std::ffi::CString::new(options).unwrap_or_default();
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            match rustix::mount::mount(c"tmpfs", base, c"tmpfs", flags, options.as_c_str()) {
                Ok(()) => {
                    prepare()?;
                    match overlay_works(base) {
                        Ok((userxattr, layers_one_by_one)) => {
                            return Ok(Place { tmpfs: true, overlay: true, userxattr, layers_one_by_one });
                        }
                        Err(why) => remarks.push(format!("writes of containers go to disk and not to memory: {why}")),
                    }
                    let unmounted = rustix::mount::unmount(base, rustix::mount::UnmountFlags::DETACH);
                    unmounted.step(|| format!("unmount {}", base.display()))?;
                }
                Err(e) => remarks.push(format!("no tmpfs can be mounted: {}", crate::error::words(&e.into()))),
            }
        }
        prepare()?;
        let found = overlay_works(base);
        if let Err(why) = &found {
            remarks.push(format!("no overlay mounts in {}: {why}", base.display()));
        }
        let overlay = found.is_ok();
        let (userxattr, layers_one_by_one) = found.unwrap_or((true, false));
        Ok(Place { tmpfs: false, overlay, userxattr, layers_one_by_one })
    }
}

/// Whether overlay uppers work in this directory on disk, with the same kind of marks as elsewhere.
pub(crate) fn disk_works(directory: &Path, userxattr: bool) -> bool {
    fs::create_dir_all(directory).is_ok() && overlay_works(directory).is_ok_and(|(found, _)| found == userxattr)
}

/// Mount an overlay with its upper in `base`: whether its marks are `user.*`, and whether `lowerdir+` exists.
fn overlay_works(base: &Path) -> Result<(bool, bool), String> {
    let probe = base.join("probe");
    let paths = ["lower", "lower2", "upper", "work"].map(|name| probe.join(name));
    let outcome = (|| {
        for path in &paths {
            fs::create_dir_all(path).map_err(|e| format!("{}: {}", path.display(), crate::error::words(&e)))?;
        }
        let opaque = |name: &str| {
            rustix::fs::lsetxattr(&paths[2], name, b"y", rustix::fs::XattrFlags::empty()).map_err(io::Error::from)
        };
        let userxattr = match opaque("trusted.overlay.opaque") {
            Ok(()) => false,
            Err(_) => {
                opaque("user.overlay.opaque")
                    .map_err(|e| format!("opaque directories: {}", crate::error::words(&e)))?;
                true
            }
        };
        match try_overlay(&paths, userxattr, true) {
            Ok(()) => Ok((userxattr, true)),
            Err(_) => match try_overlay(&paths, userxattr, false) {
                Ok(()) => Ok((userxattr, false)),
                Err(e) => Err(format!("overlay: {}", crate::error::words(&io::Error::from_raw_os_error(e)))),
            },
        }
    })();
    drop(fs::remove_dir_all(&probe));
    outcome
}

fn try_overlay(paths: &[PathBuf; 4], userxattr: bool, one_by_one: bool) -> Result<(), sys::Errno> {
    let text = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| libc::EINVAL);
    let [lower, lower2, upper, work] = paths;
    if !one_by_one {
        let options = format!(
            "lowerdir={}:{},upperdir={},workdir={}{}",
            lower2.display(),
            lower.display(),
            upper.display(),
            work.display(),
            if userxattr { ",userxattr" } else { "" }
        );
        let at = lower.parent().ok_or(libc::EINVAL)?.join("at");
        drop(fs::create_dir(&at));
        let at = text(&at)?;
        let options = std::ffi::CString::new(options).map_err(|_| libc::EINVAL)?;
        sys::mount(c"overlay", &at, c"overlay", 0, Some(&options))?;
        return rustix::mount::unmount(at.as_c_str(), rustix::mount::UnmountFlags::DETACH)
            .map_err(|e| e.raw_os_error());
    }
    // SAFETY: a new descriptor, owned by nobody else.
    let owned = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    let fs = owned(sys::fsopen(c"overlay")?);
    for path in [lower2, lower] {
        sys::fsconfig(fs.as_raw_fd(), c"lowerdir+", Some(&text(path)?))?;
    }
    sys::fsconfig(fs.as_raw_fd(), c"upperdir", Some(&text(upper)?))?;
    sys::fsconfig(fs.as_raw_fd(), c"workdir", Some(&text(work)?))?;
    if userxattr {
        sys::fsconfig(fs.as_raw_fd(), c"userxattr", None)?;
    }
    sys::fscreate(fs.as_raw_fd())?;
    drop(owned(sys::fsmount(fs.as_raw_fd(), 0)?));
    Ok(())
}

/// Execute this program again as a spawner, in a new pid namespace; our end of its socket.
fn start_spawner() -> Result<OwnedFd> {
    let kind = SocketType::SEQPACKET;
    let pair = rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.step(|| "socket pair".into())?;
    let program = readonly_self()?;
    // SAFETY: like fork, in a process of one thread; the child only makes system calls until it executes.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWPID | libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        -1 => Err(Error::io("start a spawner in a new pid namespace", io::Error::last_os_error())),
        0 => {
            become_spawner(&program, &theirs);
            sys::exit_now(70)
        }
        _ => Ok(ours),
    }
}

fn become_spawner(program: &OwnedFd, socket: &OwnedFd) {
    let steps = || -> Result<(), sys::Errno> {
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
        sys::reset_signals_and_session();
        // Out of the way of the number that the socket gets.
        // SAFETY: duplicates a descriptor to a number of at least 10.
        let program = unsafe { libc::fcntl(program.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) };
        let null = sys::openat(libc::AT_FDCWD, c"/dev/null", libc::O_RDWR, 0)?;
        sys::dup_onto(null, 0)?;
        sys::dup_onto(null, 1)?;
        // Standard error stays: a panic of the spawner should be seen.
        if socket.as_raw_fd() == spawner::SOCKET {
            // SAFETY: clears the close-on-exec flag.
            unsafe { libc::fcntl(spawner::SOCKET, libc::F_SETFD, 0) };
        } else {
            sys::dup_onto(socket.as_raw_fd(), spawner::SOCKET)?;
        }
        sys::close_on_exec_from(spawner::SOCKET + 1)?;
        let name = std::ffi::CString::new(spawner::NAME).unwrap_or_default();
        let none = [std::ptr::null()];
        Err(sys::exec_fd(program, &[name.as_ptr(), std::ptr::null()], &none))
    };
    let _errno = steps();
}

/// This program's file seen through a read-only mount: a container that gets hold of `/proc/<pid>/exe` of a spawner
/// or of a process on its way into the container cannot write to it.
pub(crate) fn readonly_self() -> Result<OwnedFd> {
    // SAFETY: a new descriptor, owned by nobody else.
    let owned = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    if let Ok(mount) = sys::clone_tree(libc::AT_FDCWD, c"/proc/self/exe", false).map(owned) {
        let set = sys::set_attributes(mount.as_raw_fd(), c"", false, sys::ATTR_RDONLY);
        set.map_err(io::Error::from_raw_os_error).step(|| "make a read-only view of this program".into())?;
        return Ok(mount);
    }
    // The file was replaced while we run: what we have open is not what anybody executes any more.
    File::open("/proc/self/exe").map(OwnedFd::from).step(|| "open /proc/self/exe".into())
}
