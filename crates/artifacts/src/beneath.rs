//! A directory that nothing leads out of. Every path is resolved by the kernel (`openat2`) with this directory as
//! its root, so `..`, absolute paths and symbolic links stay inside, also while somebody else changes them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Numeric owner for files that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// An open directory as the root of every path given to it.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

impl Root {
    /// Opens a directory of ours.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { dir })
    }

    /// Makes an open directory the root.
    pub fn from_fd(dir: OwnedFd) -> Self {
        Self { dir }
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Opens `path` as if this directory were `/`: links are followed, but inside only.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.resolve(path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Opens `path` without following any symbolic link on the way.
    pub fn open_strict(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.resolve(path, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode, how: ResolveFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match rustix::fs::openat2(&self.dir, path, flags | OFlags::CLOEXEC, mode, how) {
                Ok(fd) => return Ok(fd),
                // The kernel could not prove that a concurrent rename stayed inside; it asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A directory inside, itself as a root.
    pub fn sub(&self, path: &Path) -> io::Result<Self> {
        Ok(Self { dir: self.open_at(path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())? })
    }

    /// A file for reading.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        // NONBLOCK: a FIFO must not hang the reader.
        let file = File::from(self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }

    /// Makes `path` and its missing parents as directories; answers the last one. Made ones get `owner`.
    pub fn make_dirs(&self, path: &Path, owner: Option<Owner>) -> io::Result<Self> {
        let mut here = Self { dir: self.dir.try_clone()? };
        let mut walked = PathBuf::new();
        for name in normal(path)? {
            walked.push(&name);
            match rustix::fs::mkdirat(&here.dir, name.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    let made = here.open_strict(Path::new(&name), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?;
                    chown(&made, owner)?;
                    here = Self { dir: made };
                }
                // May be a link to a directory: resolve from the top, so that it stays inside.
                Err(Errno::EXIST) => here = self.sub(&walked)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(here)
    }

    /// Removes whatever is at `name` in this directory, a tree too; links are removed, not followed.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let sub = Self { dir: self.open_strict(Path::new(name), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())? };
        for entry in sub.names()? {
            sub.remove(&entry)?;
        }
        rustix::fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR)?;
        Ok(())
    }

    /// The names in this directory, sorted.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Moves `from` in this directory to `name` in `to`, replacing a file but not a filled directory.
    pub fn rename(&self, from: &OsStr, to: &Self, name: &OsStr) -> io::Result<()> {
        rustix::fs::renameat(&self.dir, from, &to.dir, name)?;
        Ok(())
    }
}

/// The normal components of a path; `..` and prefixes are refused, `/` and `.` are dropped.
pub(crate) fn normal(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "`..` is not allowed in this path"));
            }
        }
    }
    Ok(names)
}

/// Gives an open file or directory to `owner`, where one is asked for.
pub(crate) fn chown(file: impl AsFd, owner: Option<Owner>) -> io::Result<()> {
    if let Some(owner) = owner {
        let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("root");
        std::fs::create_dir_all(inner.join("etc")).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        std::fs::write(inner.join("etc/secret"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc", inner.join("abs")).unwrap();
        std::os::unix::fs::symlink("../../..", inner.join("up")).unwrap();
        let root = Root::open(&inner).unwrap();
        let text = |path: &str| io::read_to_string(root.read(Path::new(path))?);
        assert_eq!(text("/etc/secret").unwrap(), "inside");
        assert_eq!(text("abs/secret").unwrap(), "inside");
        assert_eq!(text("up/etc/secret").unwrap(), "inside");
        assert!(text("../secret").is_err());
        assert!(text("up/secret").is_err());
        root.make_dirs(Path::new("abs/made"), None).unwrap();
        assert!(inner.join("etc/made").is_dir());
        assert!(root.make_dirs(Path::new("a/../../b"), None).is_err());
        root.remove(OsStr::new("abs")).unwrap();
        assert!(inner.join("etc/secret").exists());
        root.remove(OsStr::new("etc")).unwrap();
        assert!(!inner.join("etc").exists());
    }
}
