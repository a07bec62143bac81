//! Between clone and exec. The child may share its memory with the spawner (which waits for it): nothing here
//! allocates, locks or panics; it works on prepared data with plain system calls and answers a step and an errno.

use std::{
    ffi::CStr,
    os::fd::RawFd,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    op::Op,
    pty,
    sys::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Errno},
    wire::Fd,
};

const PATH_BYTES: usize = 4096;
const LINKS_MAX: u32 = 40;

/// Device nodes of `/dev`: name, path on the host, minor; the major is 1 but for `tty`.
const NODES: [(&CStr, &CStr, u32, u32); 6] = [
    (c"null", c"/dev/null", 1, 3),
    (c"zero", c"/dev/zero", 1, 5),
    (c"full", c"/dev/full", 1, 7),
    (c"random", c"/dev/random", 1, 8),
    (c"urandom", c"/dev/urandom", 1, 9),
    (c"tty", c"/dev/tty", 5, 0),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

/// Carry out the steps. Only returns to the caller by ending the process, with the failed step in `cell`.
pub(crate) fn run(ops: &[Op], fds: &[RawFd], cell: &AtomicU64) -> ! {
    sys::reset_signals_and_session();
    let mut child = Child { fds, root: -1 };
    for (index, op) in ops.iter().enumerate() {
        if let Err(errno) = child.step(op) {
            cell.store(encode_failure(index, errno), Ordering::SeqCst);
            sys::exit_now(127);
        }
    }
    // A plan ends with `Exec`, which does not return when it succeeds.
    cell.store(encode_failure(ops.len(), libc::EINVAL), Ordering::SeqCst);
    sys::exit_now(127)
}

fn encode_failure(index: usize, errno: Errno) -> u64 {
    ((index as u64 + 1) << 32) | errno as u32 as u64
}

/// The failed step's number and errno.
pub(crate) fn decode_failure(cell: u64) -> Option<(u32, Errno)> {
    (cell != 0).then(|| (((cell >> 32) - 1) as u32, cell as u32 as i32))
}

struct Child<'a> {
    fds: &'a [RawFd],
    root: RawFd,
}

impl Child<'_> {
    fn fd(&self, fd: Fd) -> RawFd {
        self.fds.get(fd.0 as usize).copied().unwrap_or(-1)
    }

    fn step(&mut self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::Cgroup { procs } => sys::write(self.fd(*procs), b"0"),
            Op::CgroupNamespace {} => sys::unshare(libc::CLONE_NEWCGROUP),
            Op::Join { fd, kinds } => sys::setns(self.fd(*fd), *kinds),
            Op::Hostname { name } => sys::sethostname(name.to_bytes()),
            Op::Loopback {} => crate::net::loopback_up(),
            Op::Overlay { lowers, upper, userxattr, volatile, at } => {
                let fs = sys::fsopen(c"overlay")?;
                for lower in lowers {
                    sys::fsconfig(fs, c"lowerdir+", Some(lower))?;
                }
                if let Some((upper, work)) = upper {
                    sys::fsconfig(fs, c"upperdir", Some(upper))?;
                    sys::fsconfig(fs, c"workdir", Some(work))?;
                    if *volatile {
                        sys::fsconfig(fs, c"volatile", None)?;
                    }
                }
                if *userxattr {
                    sys::fsconfig(fs, c"userxattr", None)?;
                }
                sys::fscreate(fs)?;
                let mount = sys::fsmount(fs, 0)?;
                sys::close(fs);
                self.enter_root(mount, at)
            }
            Op::OverlayLegacy { options, at } => {
                sys::mount(c"overlay", at, c"overlay", 0, Some(options))?;
                self.root = sys::openat(libc::AT_FDCWD, at, libc::O_PATH | libc::O_DIRECTORY, 0)?;
                Ok(())
            }
            Op::RootDir { path, readonly, at } => {
                let mount = sys::clone_tree(libc::AT_FDCWD, path, false)?;
                if *readonly {
                    sys::set_attributes(mount, c"", false, ATTR_RDONLY)?;
                }
                self.enter_root(mount, at)
            }
            Op::Filesystem { kind, options, attributes, target, system, instead } => {
                match new_filesystem(kind, options.iter().map(|(k, v)| (&**k, v.as_deref())), *attributes) {
                    Ok(mount) => self.attach(mount, target, *system),
                    Err(errno @ (libc::EPERM | libc::EACCES)) => match instead {
                        Some(path) => self.bind(path, true, *attributes, target, *system),
                        None => Err(errno),
                    },
                    Err(errno) => Err(errno),
                }
            }
            Op::Dev { bind } => self.dev(*bind),
            Op::Bind { path, recursive, attributes, target, system } => {
                self.bind(path, *recursive, *attributes, target, *system)
            }
            Op::Mask { path, empty } => self.mask(path, empty),
            Op::Readonly { path } => {
                let target = match sys::open_in_root(self.root, path, libc::O_PATH | libc::O_NOFOLLOW) {
                    Ok(target) => target,
                    Err(libc::ENOENT | libc::ENOTDIR) => return Ok(()),
                    Err(errno) => return Err(errno),
                };
                let mount = sys::clone_tree(target, c"", true)?;
                sys::set_attributes(mount, c"", true, ATTR_RDONLY)?;
                sys::attach(mount, target)?;
                sys::close(mount);
                sys::close(target);
                Ok(())
            }
            Op::Sysctl { path, value } => {
                let file = sys::open_in_root(self.root, path, libc::O_WRONLY | libc::O_NOFOLLOW)?;
                sys::write(file, value.to_bytes())?;
                sys::close(file);
                Ok(())
            }
            Op::Pivot {} => sys::pivot(self.root),
            Op::RootAttributes { attributes } => sys::set_attributes(libc::AT_FDCWD, c"/", false, *attributes),
            Op::Directory { path, create } => match sys::chdir(path) {
                Err(libc::ENOENT) if *create => {
                    let root = sys::openat(libc::AT_FDCWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
                    let directory = beneath(root, path, Some(true))?;
                    sys::fchdir(directory)
                }
                answer => answer,
            },
            Op::OomScore { value } => {
                // Not root: the file is somebody else's while we share memory with the spawner. A wish, not a limit.
                match sys::openat(libc::AT_FDCWD, c"/proc/self/oom_score_adj", libc::O_WRONLY, 0) {
                    Err(libc::EACCES | libc::EPERM) => Ok(()),
                    Err(errno) => Err(errno),
                    Ok(file) => {
                        let written = sys::write(file, value.to_bytes());
                        sys::close(file);
                        if written == Err(libc::EACCES) { Ok(()) } else { written }
                    }
                }
            }
            Op::Streams { stdin, stdout, stderr } => {
                // The spawner's own 0, 1 and 2 are open, so that none of what it received has such a number.
                sys::dup_onto(self.fd(*stdin), 0)?;
                sys::dup_onto(self.fd(*stdout), 1)?;
                sys::dup_onto(self.fd(*stderr), 2)
            }
            Op::Terminal { socket, uid } => {
                let (master, user) = pty::open()?;
                // In a user namespace of one id it is ours already, and cannot be anybody else's.
                match pty::give(user, *uid) {
                    Err(libc::EPERM | libc::EINVAL) if *uid == 0 => {}
                    answer => answer?,
                }
                pty::send(self.fd(*socket), master)?;
                for stream in 0..3 {
                    sys::dup_onto(user, stream)?;
                }
                sys::controlling_terminal()
            }
            Op::Limit { resource, soft, hard } => sys::setrlimit(*resource, *soft, *hard),
            Op::Bounding { keep } => bounding(*keep),
            Op::Groups { groups } => sys::setgroups(groups),
            Op::Group { gid } => sys::setgid(*gid),
            Op::User { uid } => {
                sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
                sys::setuid(*uid)
            }
            Op::Capabilities { bits } => sys::capset(*bits),
            Op::NoNewPrivs {} => sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0),
            Op::Seccomp { filter } => sys::seccomp(&filter.0),
            Op::DieWithParent {} => sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0),
            Op::Exec { fd, candidates, argv, envp } => {
                sys::umask(0o022);
                sys::close_on_exec_from(3)?;
                if let Some(fd) = fd {
                    return Err(sys::exec_fd(self.fd(*fd), argv.pointers(), envp.pointers()));
                }
                let mut answer = libc::ENOENT;
                for candidate in candidates {
                    match sys::exec(candidate, argv.pointers(), envp.pointers()) {
                        libc::ENOENT | libc::ENOTDIR => {}
                        libc::EACCES => answer = libc::EACCES,
                        errno => return Err(errno),
                    }
                }
                Err(answer)
            }
        }
    }

    fn enter_root(&mut self, mount: RawFd, at: &CStr) -> Result<(), Errno> {
        let target = sys::openat(libc::AT_FDCWD, at, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        sys::attach(mount, target)?;
        sys::close(target);
        self.root = mount;
        Ok(())
    }

    /// Attach a detached mount at a target beneath the root. Only the sandbox itself (`system`) mounts in `/proc`.
    fn attach(&self, mount: RawFd, target: &CStr, system: bool) -> Result<(), Errno> {
        let directory = sys::mode(mount)? & libc::S_IFMT == libc::S_IFDIR;
        let target = beneath(self.root, target, Some(directory))?;
        if !system && sys::is_procfs(target) {
            return Err(libc::EPERM);
        }
        sys::attach(mount, target)?;
        sys::close(target);
        sys::close(mount);
        Ok(())
    }

    fn bind(&self, path: &CStr, recursive: bool, attributes: u64, target: &CStr, system: bool) -> Result<(), Errno> {
        let mount = sys::clone_tree(libc::AT_FDCWD, path, recursive)?;
        if attributes != 0 {
            sys::set_attributes(mount, c"", recursive, attributes)?;
        }
        self.attach(mount, target, system)
    }

    fn dev(&self, bind: bool) -> Result<(), Errno> {
        let options = [(c"mode", Some(c"0755")), (c"size", Some(c"65536k"))];
        let mount = new_filesystem(c"tmpfs", options.into_iter(), ATTR_NOSUID)?;
        let target = beneath(self.root, c"/dev", Some(true))?;
        sys::attach(mount, target)?;
        sys::close(target);
        for directory in [c"pts", c"shm", c"mqueue"] {
            sys::mkdirat(mount, directory, 0o755)?;
        }
        for (to, name) in LINKS {
            sys::symlinkat(to, mount, name)?;
        }
        let mut bind = bind;
        for (name, host, major, minor) in NODES {
            if !bind {
                // The umask was cleared by the spawner.
                match sys::mknodat(mount, name, libc::S_IFCHR | 0o666, libc::makedev(major, minor)) {
                    Err(libc::EPERM) => bind = true,
                    answer => answer?,
                }
            }
            if bind {
                sys::mknodat(mount, name, libc::S_IFREG | 0o666, 0)?;
                let node = sys::clone_tree(libc::AT_FDCWD, host, false)?;
                let target = sys::openat(mount, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
                sys::attach(node, target)?;
                sys::close(target);
                sys::close(node);
            }
        }
        sys::close(mount);
        Ok(())
    }

    fn mask(&self, path: &CStr, empty: &CStr) -> Result<(), Errno> {
        let target = match sys::open_in_root(self.root, path, libc::O_PATH | libc::O_NOFOLLOW) {
            Ok(target) => target,
            Err(libc::ENOENT | libc::ENOTDIR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let cover = if sys::mode(target)? & libc::S_IFMT == libc::S_IFDIR {
            let cover = sys::clone_tree(libc::AT_FDCWD, empty, false)?;
            sys::set_attributes(cover, c"", false, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?;
            cover
        } else {
            sys::clone_tree(libc::AT_FDCWD, c"/dev/null", false)?
        };
        sys::attach(cover, target)?;
        sys::close(cover);
        sys::close(target);
        Ok(())
    }
}

fn new_filesystem<'a>(
    kind: &CStr,
    options: impl Iterator<Item = (&'a CStr, Option<&'a CStr>)>,
    attributes: u64,
) -> Result<RawFd, Errno> {
    let fs = sys::fsopen(kind)?;
    let mounted = (|| {
        for (key, value) in options {
            sys::fsconfig(fs, key, value)?;
        }
        sys::fscreate(fs)?;
        sys::fsmount(fs, attributes)
    })();
    sys::close(fs);
    mounted
}

fn bounding(keep: u64) -> Result<(), Errno> {
    for bit in 0..64u64 {
        if keep & (1 << bit) == 0 {
            match sys::prctl(libc::PR_CAPBSET_DROP, bit, 0) {
                Err(libc::EINVAL) => break,
                answer => answer?,
            }
        }
    }
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)
}

/// A path being built, on the stack.
struct PathBuffer {
    bytes: [u8; PATH_BYTES],
    len: usize,
}

impl PathBuffer {
    fn new() -> Self {
        PathBuffer { bytes: [0; PATH_BYTES], len: 0 }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let end = self.len + bytes.len();
        // One byte stays for the end of the string.
        if end >= PATH_BYTES {
            return Err(libc::ENAMETOOLONG);
        }
        self.bytes.get_mut(self.len..end).ok_or(libc::ENAMETOOLONG)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn push(&mut self, component: &[u8]) -> Result<(), Errno> {
        self.append(b"/")?;
        self.append(component)
    }

    /// The parent; that of the root is the root.
    fn pop(&mut self) {
        let filled = self.bytes.get(..self.len).unwrap_or_default();
        self.len = filled.iter().rposition(|b| *b == b'/').unwrap_or(0);
    }

    fn with<T>(&mut self, f: impl FnOnce(&CStr) -> T) -> Result<T, Errno> {
        if self.len == 0 {
            return Ok(f(c"/"));
        }
        *self.bytes.get_mut(self.len).ok_or(libc::ENAMETOOLONG)? = 0;
        let filled = self.bytes.get(..=self.len).ok_or(libc::ENAMETOOLONG)?;
        CStr::from_bytes_with_nul(filled).map(f).map_err(|_| libc::EINVAL)
    }
}

/// Open `path` beneath `root`, symbolic links followed as if `root` were `/`. What is missing is created where
/// `create` says as what: a directory (true) or an empty file (false); links that lead nowhere are followed too.
pub(crate) fn beneath(root: RawFd, path: &CStr, create: Option<bool>) -> Result<RawFd, Errno> {
    match (sys::open_in_root(root, path, libc::O_PATH), create) {
        (Err(libc::ENOENT), Some(directory)) => create_beneath(root, path.to_bytes(), directory),
        (answer, _) => answer,
    }
}

fn create_beneath(root: RawFd, path: &[u8], directory: bool) -> Result<RawFd, Errno> {
    let mut done = PathBuffer::new();
    let mut rest = PathBuffer::new();
    rest.append(path)?;
    let mut links = 0;
    loop {
        // The next component, and what is after it.
        let mut component = PathBuffer::new();
        let filled = rest.bytes.get(..rest.len).unwrap_or_default();
        let Some(start) = filled.iter().position(|b| *b != b'/') else {
            return done.with(|path| sys::open_in_root(root, path, libc::O_PATH | libc::O_NOFOLLOW))?;
        };
        let tail = filled.get(start..).unwrap_or_default();
        let end = tail.iter().position(|b| *b == b'/').unwrap_or(tail.len());
        component.append(tail.get(..end).unwrap_or_default())?;
        let mut after = PathBuffer::new();
        after.append(tail.get(end..).unwrap_or_default())?;
        let last = after.bytes.iter().take(after.len).all(|b| *b == b'/');
        let name = component.bytes.get(..component.len).unwrap_or_default();
        rest = after;
        if name == b"." {
            continue;
        }
        if name == b".." {
            done.pop();
            continue;
        }
        let name = component.bytes.get(..=component.len).and_then(|b| CStr::from_bytes_with_nul(b).ok());
        let name = name.ok_or(libc::EINVAL)?;
        let parent_flags = libc::O_PATH | libc::O_DIRECTORY;
        let parent = done.with(|path| sys::open_in_root(root, path, parent_flags))??;
        let entry = match sys::openat(parent, name, libc::O_PATH | libc::O_NOFOLLOW, 0) {
            Err(libc::ENOENT) => {
                if last && !directory {
                    sys::mknodat(parent, name, libc::S_IFREG | 0o644, 0)?;
                } else {
                    sys::mkdirat(parent, name, 0o755)?;
                }
                sys::openat(parent, name, libc::O_PATH | libc::O_NOFOLLOW, 0)
            }
            answer => answer,
        };
        sys::close(parent);
        let entry = entry?;
        if sys::mode(entry)? & libc::S_IFMT == libc::S_IFLNK {
            links += 1;
            if links > LINKS_MAX {
                return Err(libc::ELOOP);
            }
            let mut to = PathBuffer::new();
            to.len = sys::readlink(entry, &mut to.bytes)?;
            if to.bytes.first() == Some(&b'/') {
                done.len = 0;
            }
            to.push(rest.bytes.get(..rest.len).unwrap_or_default())?;
            rest = to;
        } else {
            done.push(name.to_bytes())?;
        }
        sys::close(entry);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        ffi::CString,
        os::{fd::AsRawFd, unix::fs::symlink},
    };

    use super::*;

    fn create(root: &std::path::Path, path: &str, directory: bool) -> Result<(), Errno> {
        let fd = std::fs::File::open(root).unwrap();
        beneath(fd.as_raw_fd(), &CString::new(path).unwrap(), Some(directory)).map(sys::close)
    }

    #[test]
    fn targets_stay_beneath_the_root() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("/run", root.join("abs")).unwrap();
        symlink("../../../../outside", root.join("up")).unwrap();
        symlink("../run/stub/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("loop", root.join("loop")).unwrap();

        create(&root, "/abs/secrets/deep", true).unwrap();
        assert!(root.join("run/secrets/deep").is_dir());
        create(&root, "/up/x", true).unwrap();
        assert!(root.join("outside/x").is_dir() && !outer.path().join("outside").exists());
        create(&root, "/etc/resolv.conf", false).unwrap();
        assert!(root.join("run/stub/resolv.conf").is_file());
        create(&root, "/../../a/../b/./c/", true).unwrap();
        assert!(root.join("b/c").is_dir());
        assert_eq!(create(&root, "/loop/x", true), Err(libc::ELOOP));
        create(&root, "/new/file", false).unwrap();
        assert!(root.join("new/file").is_file());
    }
}
