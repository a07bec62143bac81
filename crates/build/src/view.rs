//! A root filesystem as the builder itself sees it: an overlay mount that is attached nowhere, or a plain directory. Every
//! path is resolved by the kernel within it (`openat2`), so that no link leads outside; overlayfs writes the deletions.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Doing, Fault};

/// How many links one path may lead over.
const LINKS_MAX: u32 = 40;

/// A root filesystem. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct View(Arc<OwnedFd>);

/// Who a directory that is made on the way belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// An absolute or relative path without dots, relative to the root. Dots never lead above it.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

impl View {
    /// A plain directory of this machine.
    pub(crate) fn directory_of(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(Arc::new(rustix::fs::openat(CWD, path, flags, Mode::empty())?)))
    }

    /// A directory beneath this one.
    pub(crate) fn within(&self, path: &Path) -> Result<Self, Errno> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY).map(|fd| Self(Arc::new(fd)))
    }

    /// Layers, bottom first, without anything to write to.
    pub(crate) fn read_only(lowers: &[PathBuf], userxattr: bool, empty: &Path) -> Result<Self, Fault> {
        match lowers {
            [] => Self::directory_of(empty).doing(|| "open an empty root".into()),
            [only] => Self::directory_of(only).doing(|| format!("open {}", only.display())),
            _ => Self::mount(lowers, None, userxattr),
        }
    }

    /// Layers, bottom first, under a directory that is written to.
    pub(crate) fn writable(
        lowers: &[PathBuf],
        upper: &Path,
        work: &Path,
        userxattr: bool,
        empty: &Path,
    ) -> Result<Self, Fault> {
        let nothing = [empty.to_owned()];
        Self::mount(if lowers.is_empty() { &nothing } else { lowers }, Some((upper, work)), userxattr)
    }

    fn mount(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, userxattr: bool) -> Result<Self, Fault> {
        let mount = || -> Result<OwnedFd, Errno> {
            let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            let fs = fs.as_fd();
            let one_by_one = lowers
                .iter()
                .rev()
                .try_for_each(|lower| rustix::mount::fsconfig_set_string(fs, "lowerdir+", lower.as_os_str()));
            if one_by_one.is_err() {
                // Before Linux 6.5: all in one option.
                let all: Vec<_> = lowers.iter().rev().map(|lower| lower.as_os_str()).collect();
                rustix::mount::fsconfig_set_string(fs, "lowerdir", all.join(OsStr::new(":")))?;
            }
            if let Some((upper, work)) = upper {
                rustix::mount::fsconfig_set_string(fs, "upperdir", upper.as_os_str())?;
                rustix::mount::fsconfig_set_string(fs, "workdir", work.as_os_str())?;
                // Else the end of the mount would write everything on that disk through. Not known before Linux 5.10.
                let _ = rustix::mount::fsconfig_set_flag(fs, "volatile");
            }
            for (key, value) in [("redirect_dir", "off"), ("index", "off"), ("metacopy", "off"), ("xino", "off")] {
                // `userxattr` switches these two off by itself and refuses to hear of them.
                if userxattr && matches!(key, "redirect_dir" | "metacopy") {
                    continue;
                }
                // Not all kernels have each of them, and none means off.
                let _ = rustix::mount::fsconfig_set_string(fs, key, value);
            }
            if userxattr {
                rustix::mount::fsconfig_set_flag(fs, "userxattr")?;
            }
            rustix::mount::fsconfig_create(fs)?;
            rustix::mount::fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        mount().map(|fd| Self(Arc::new(fd))).doing(|| "mount the root filesystem".into())
    }

    /// Opens a path within this root; the last link is followed unless the flags say not to.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let clean = path.strip_prefix("/").unwrap_or(path);
        let clean = if clean.as_os_str().is_empty() { Path::new(".") } else { clean };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..20 {
            match rustix::fs::openat2(&*self.0, clean, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // A rename went on at the same time; the kernel asks to try again.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Whether there is a directory, a link to one counting too.
    pub(crate) fn is_directory(&self, path: &Path) -> bool {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// Whether there is anything.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    /// Opens a file for reading; a pipe or device does not block.
    pub(crate) fn file(&self, path: &Path) -> std::io::Result<File> {
        let file = File::from(self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is not a regular file")) }
    }

    /// The directory; it and those above are made where they are missing. Links are followed within this root, also one
    /// that leads to what is not there yet.
    pub(crate) fn make_directory(&self, path: &Path, owner: Owner) -> Result<OwnedFd, Fault> {
        self.make(&clean(path), owner, 0)
    }

    fn make(&self, path: &Path, owner: Owner, links: u32) -> Result<OwnedFd, Fault> {
        let what = || format!("make the directory /{}", path.display());
        match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return other.doing(what),
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Fault::io(what(), Errno::NOENT));
        };
        let above_fd = self.make(above, owner, links)?;
        match rustix::fs::mkdirat(&above_fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) if links < LINKS_MAX => {
                let to = rustix::fs::readlinkat(&above_fd, name, Vec::new()).doing(what)?;
                let to: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(to.as_bytes());
                return self.make(&clean(&above.join(to)), owner, links + 1);
            }
            Err(Errno::EXIST) => return Err(Fault::io(what(), Errno::LOOP)),
            Err(error) => return Err(Fault::io(what(), error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&above_fd, name, flags, Mode::empty()).doing(what)?;
        own(&made, owner).doing(what)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).doing(what)?;
        Ok(made)
    }

    /// Where a file of this path is to be written: its directory (made where missing) and name, links followed.
    pub(crate) fn place(&self, path: &Path, owner: Owner) -> Result<(OwnedFd, PathBuf), Fault> {
        let mut path = clean(path);
        for _ in 0..LINKS_MAX {
            let above = path.parent().map(Path::to_owned).unwrap_or_default();
            let Some(name) = path.file_name() else {
                return Err(Fault::said(format!("/{} is a directory", path.display())));
            };
            let directory = self.make_directory(&above, owner)?;
            match rustix::fs::readlinkat(&directory, name, Vec::new()) {
                Ok(to) => {
                    let to: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(to.as_bytes());
                    path = clean(&above.join(to));
                }
                Err(_) => return Ok((directory, path)),
            }
        }
        Err(Fault::io(format!("follow /{}", path.display()), Errno::LOOP))
    }
}

/// Changes an open file's owner; where only one id is mapped, a change to that one is none.
pub(crate) fn own(fd: impl AsFd, owner: Owner) -> Result<(), Errno> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
}

/// As [`own`], by name, without following a link.
pub(crate) fn own_at(directory: impl AsFd, name: &OsStr, owner: Owner) -> Result<(), Errno> {
    let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}
