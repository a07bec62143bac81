//! System calls that neither `std` nor `rustix` offers, or that must go to one thread only. Each answers `Ok` or the
//! errno; none of them allocates, so that all may be used between clone and exec.

use std::{ffi::CStr, io, os::fd::RawFd};

pub(crate) type Errno = i32;

pub(crate) const ATTR_RDONLY: u64 = 1;
pub(crate) const ATTR_NOSUID: u64 = 2;
pub(crate) const ATTR_NODEV: u64 = 4;
pub(crate) const ATTR_NOEXEC: u64 = 8;

const OPEN_TREE_CLONE: u32 = 1;
const AT_RECURSIVE: u32 = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_IN_ROOT: u64 = 0x10;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

pub(crate) fn errno() -> Errno {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn check(answer: libc::c_long) -> Result<libc::c_long, Errno> {
    if answer < 0 { Err(errno()) } else { Ok(answer) }
}

fn check_fd(answer: libc::c_long) -> Result<RawFd, Errno> {
    check(answer).map(|fd| fd as RawFd)
}

/// `openat2` that treats `root` as `/`, for absolute symbolic links too, and follows no magic links.
pub(crate) fn open_in_root(root: RawFd, path: &CStr, flags: i32) -> Result<RawFd, Errno> {
    let how =
        OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
    // SAFETY: `path` and `how` outlive the call, and the size is that of `how`.
    check_fd(unsafe { libc::syscall(libc::SYS_openat2, root, path.as_ptr(), &how, size_of::<OpenHow>()) })
}

pub(crate) fn openat(dir: RawFd, path: &CStr, flags: i32, mode: u32) -> Result<RawFd, Errno> {
    // SAFETY: `path` is a terminated string that outlives the call.
    check_fd(unsafe { libc::syscall(libc::SYS_openat, dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode) })
}

/// Closes a number that this process opened itself and uses no more.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: callers hand over numbers that they opened and no longer use.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

pub(crate) fn mkdirat(dir: RawFd, path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: `path` is a terminated string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_mkdirat, dir, path.as_ptr(), mode) }).map(drop)
}

pub(crate) fn mknodat(dir: RawFd, path: &CStr, mode: u32, dev: u64) -> Result<(), Errno> {
    // SAFETY: `path` is a terminated string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_mknodat, dir, path.as_ptr(), mode, dev) }).map(drop)
}

pub(crate) fn symlinkat(to: &CStr, dir: RawFd, path: &CStr) -> Result<(), Errno> {
    // SAFETY: both are terminated strings that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_symlinkat, to.as_ptr(), dir, path.as_ptr()) }).map(drop)
}

/// Reads the link that `fd` (opened with `O_PATH | O_NOFOLLOW`) is; `EINVAL` where it is none.
pub(crate) fn readlink(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    check(unsafe { libc::syscall(libc::SYS_readlinkat, fd, c"".as_ptr(), buffer.as_mut_ptr(), buffer.len()) })
        .map(|n| n as usize)
}

/// The file's mode, type bits included.
pub(crate) fn mode(fd: RawFd) -> Result<u32, Errno> {
    // SAFETY: an all-zero `stat` is a valid value of it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    check(unsafe { libc::fstat(fd, &mut stat) }.into())?;
    Ok(stat.st_mode)
}

pub(crate) fn is_procfs(fd: RawFd) -> bool {
    // SAFETY: an all-zero `statfs` is a valid value of it.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    let answer = unsafe { libc::fstatfs(fd, &mut stat) };
    answer == 0 && stat.f_type as i64 == 0x9fa0
}

pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: `bytes` outlives the call.
    check(unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) }).map(drop)
}

pub(crate) fn fsopen(kind: &CStr) -> Result<RawFd, Errno> {
    // SAFETY: `kind` is a terminated string; 1 is FSOPEN_CLOEXEC.
    check_fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })
}

/// One `fsconfig`: a flag without, a string with `value`.
pub(crate) fn fsconfig(fs: RawFd, key: &CStr, value: Option<&CStr>) -> Result<(), Errno> {
    let (command, value) = value.map_or((0, std::ptr::null()), |v| (1, v.as_ptr()));
    // SAFETY: terminated strings that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs, command, key.as_ptr(), value, 0) }).map(drop)
}

pub(crate) fn fscreate(fs: RawFd) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: FSCONFIG_CMD_CREATE (6) takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs, 6, none, none, 0) }).map(drop)
}

pub(crate) fn fsmount(fs: RawFd, attributes: u64) -> Result<RawFd, Errno> {
    // SAFETY: only numbers are passed; 1 is FSMOUNT_CLOEXEC.
    check_fd(unsafe { libc::syscall(libc::SYS_fsmount, fs, 1, attributes) })
}

/// A detached copy of the mount at `path`.
pub(crate) fn clone_tree(dir: RawFd, path: &CStr, recursive: bool) -> Result<RawFd, Errno> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: `path` is a terminated string that outlives the call.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

pub(crate) fn set_attributes(mount: RawFd, path: &CStr, recursive: bool, attributes: u64) -> Result<(), Errno> {
    let attr = MountAttr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH as u32 | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `path` and `attr` outlive the call, and the size is that of `attr`.
    let answer =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount, path.as_ptr(), flags, &attr, size_of::<MountAttr>()) };
    check(answer).map(drop)
}

/// Attach the detached `mount` at the open file `target`.
pub(crate) fn attach(mount: RawFd, target: RawFd) -> Result<(), Errno> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: empty terminated strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, mount, c"".as_ptr(), target, c"".as_ptr(), flags) }).map(drop)
}

pub(crate) fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: Option<&CStr>) -> Result<(), Errno> {
    let data = data.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: terminated strings that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data) })
        .map(drop)
}

/// Make the open directory the root of this mount namespace, and let go of the old one.
pub(crate) fn pivot(root: RawFd) -> Result<(), Errno> {
    // SAFETY: only numbers and terminated strings are passed.
    unsafe {
        check(libc::syscall(libc::SYS_fchdir, root))?;
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        check(libc::syscall(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH))?;
    }
    chdir(c"/")
}

pub(crate) fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is a terminated string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_chdir, path.as_ptr()) }).map(drop)
}

pub(crate) fn fchdir(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: only a number is passed.
    check(unsafe { libc::syscall(libc::SYS_fchdir, fd) }).map(drop)
}

pub(crate) fn unshare(flags: i32) -> Result<(), Errno> {
    // SAFETY: only a number is passed; no memory is unshared by the namespace flags.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

pub(crate) fn setns(fd: RawFd, kind: i32) -> Result<(), Errno> {
    // SAFETY: only numbers are passed.
    check(unsafe { libc::syscall(libc::SYS_setns, fd, kind) }).map(drop)
}

pub(crate) fn sethostname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: `name` outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.len()) }).map(drop)
}

pub(crate) fn prctl(option: i32, a: u64, b: u64) -> Result<(), Errno> {
    // SAFETY: used with options that take numbers only.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, 0, 0) }).map(drop)
}

pub(crate) fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let old = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: `limit` outlives the call; no old value is asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &limit, old) }).map(drop)
}

pub(crate) fn setgroups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the pointer and length are those of `groups`.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

pub(crate) fn setgid(gid: u32) -> Result<(), Errno> {
    // SAFETY: only numbers are passed; the raw call changes the calling task only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

pub(crate) fn setuid(uid: u32) -> Result<(), Errno> {
    // SAFETY: only numbers are passed; the raw call changes the calling task only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Effective and permitted become `bits`, inheritable nothing.
pub(crate) fn capset(bits: u64) -> Result<(), Errno> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let (low, high) = (bits as u32, (bits >> 32) as u32);
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: version 3 takes a header of two and data of six 32-bit numbers.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

pub(crate) fn seccomp(filter: &[libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program points to `filter`, which outlives the call and is only read; 1 is SET_MODE_FILTER.
    check(unsafe { libc::syscall(libc::SYS_seccomp, 1, 0, &program) }).map(drop)
}

pub(crate) fn umask(mask: u32) {
    // SAFETY: only a number is passed; the mask is this process's own (no CLONE_FS).
    unsafe { libc::syscall(libc::SYS_umask, mask) };
}

pub(crate) fn dup_onto(fd: RawFd, onto: RawFd) -> Result<(), Errno> {
    // SAFETY: the standard streams are the only numbers that are replaced, in a process about to exec.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd, onto, 0) }).map(drop)
}

/// Signals the process group of an open process.
pub(crate) fn pidfd_signal_group(pidfd: RawFd, signal: i32) -> Result<(), Errno> {
    const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: numbers, and no information beside the signal.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, none, PIDFD_SIGNAL_PROCESS_GROUP) };
    check(answer).map(drop)
}

pub(crate) fn controlling_terminal() -> Result<(), Errno> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSCTTY, 0) }).map(drop)
}

pub(crate) fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: only marks; 4 is CLOSE_RANGE_CLOEXEC.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 4) }).map(drop)
}

/// Default signal dispositions and an empty mask, in a session of its own.
pub(crate) fn reset_signals_and_session() {
    #[repr(C)]
    struct KernelSigaction {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    let default = KernelSigaction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    let empty = 0u64;
    // SAFETY: the kernel's own layout of sigaction on 64-bit (flags are `unsigned long`); sigset of 8 bytes. Raw calls
    // and not libc's, whose tables would be shared with the parent after clone(CLONE_VM). Without CLONE_SIGHAND the
    // dispositions are the child's own.
    unsafe {
        for signal in 1..=64 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::syscall(libc::SYS_rt_sigaction, signal, &default, std::ptr::null_mut::<u8>(), 8);
            }
        }
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &empty, std::ptr::null_mut::<u8>(), 8);
        libc::syscall(libc::SYS_setsid);
    }
}

/// `execve`; only returns when it failed.
pub(crate) fn exec(path: &CStr, argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> Errno {
    // SAFETY: `Pointers` ends both arrays with null, and the strings they point to are alive.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    errno()
}

/// `execveat` of the open file; only returns when it failed.
pub(crate) fn exec_fd(fd: RawFd, argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> Errno {
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: as for `exec`.
    unsafe { libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), flags) };
    errno()
}

pub(crate) fn exit_now(code: i32) -> ! {
    loop {
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::syscall(libc::SYS_exit_group, code) };
    }
}

/// Opens a path on which there is no symbolic link.
pub(crate) fn open_plain(path: &CStr, flags: i32) -> Result<RawFd, Errno> {
    const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    let resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve };
    // SAFETY: `path` and `how` outlive the call, and the size is that of `how`.
    check_fd(unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &how, size_of::<OpenHow>()) })
}

pub(crate) fn filesystem_kind(fd: RawFd) -> Result<i64, Errno> {
    // SAFETY: an all-zero `statfs` is a valid value of it.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    check(unsafe { libc::fstatfs(fd, &mut stat) }.into())?;
    // The type differs by C library.
    #[allow(clippy::unnecessary_cast)]
    Ok(stat.f_type as i64)
}

/// Major and minor number of a device file.
pub(crate) fn device(fd: RawFd) -> Result<(u32, u32), Errno> {
    // SAFETY: an all-zero `stat` is a valid value of it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    check(unsafe { libc::fstat(fd, &mut stat) }.into())?;
    Ok((libc::major(stat.st_rdev), libc::minor(stat.st_rdev)))
}

/// An `ioctl` whose argument is a number, or the address of something that outlives the call.
pub(crate) fn ioctl(fd: RawFd, request: u64, argument: u64) -> Result<i32, Errno> {
    // SAFETY: callers pass what the request takes.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) }).map(|answer| answer as i32)
}

pub(crate) fn fchown(fd: RawFd, uid: u32) -> Result<(), Errno> {
    // SAFETY: only numbers are passed; the group stays.
    check(unsafe { libc::syscall(libc::SYS_fchown, fd, uid, -1i32) }).map(drop)
}

/// Sends one byte with this control message.
pub(crate) fn send_with(socket: RawFd, control: *const u8, len: usize) -> Result<(), Errno> {
    let mut byte = 0u8;
    let mut slice = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: an all-zero `msghdr` is a valid value of it.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.cast_mut().cast();
    // The type differs by C library.
    #[allow(clippy::unnecessary_cast)]
    {
        message.msg_controllen = len as _;
    }
    // SAFETY: the message's parts outlive the call, which only reads them.
    check(unsafe { libc::syscall(libc::SYS_sendmsg, socket, &message, libc::MSG_NOSIGNAL) }).map(drop)
}
