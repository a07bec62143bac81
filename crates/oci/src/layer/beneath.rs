//! Names that are resolved beneath a directory by the kernel (`openat2`), so that no entry, link or race can reach
//! outside of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// The directory beneath which everything is.
pub(super) fn open_root(target: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, target, flags, Mode::empty())
        .map_err(|e| Error::io(format!("opening {}", target.display()), e))
}

/// The path's words, without a leading slash or `.`; `..` is refused.
pub(super) fn clean(path: &Path, otherwise: &str) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(word) => clean.push(word),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Refused { entry: path.display().to_string(), detail: otherwise.to_owned() });
            }
        }
    }
    Ok(clean)
}

/// Opens a directory of the image; links are followed as if the image were the whole world.
pub(super) fn open_in(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    resolve(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

pub(super) fn resolve(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel saw a rename elsewhere and could not be sure.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens a name of this directory itself, never through a link.
pub(super) fn open_beneath(dir: &impl AsFd, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Removes a tree without ever following a link.
pub(super) fn remove_tree_at(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let inner = open_beneath(dir, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names: Vec<(OsString, FileType)> = Vec::new();
    for item in rustix::fs::Dir::read_from(&inner)? {
        let item = item?;
        let bytes = item.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            names.push((OsStr::from_bytes(bytes).to_owned(), item.file_type()));
        }
    }
    for (child, kind) in names {
        if kind == FileType::Directory {
            remove_tree_at(&inner, &child)?;
        } else {
            rustix::fs::unlinkat(&inner, &child, AtFlags::empty())?;
        }
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}
