//! One entry of a layer archive, as bytes: names in images need not be UTF-8. Must never be trusted: it says what the
//! archive says.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file, directory, link or device of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The path within the image; written without a leading slash.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// When it was last changed.
    pub mtime: Time,
    /// Extended attributes, by full name (`security.capability`, `user.x`).
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    #[default]
    Directory,
    /// A regular file of this many bytes, which follow the header.
    File {
        /// Its size.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: PathBuf,
    },
    /// Another name of a file that is earlier in the same layer.
    Hardlink {
        /// That file's path within the image.
        target: PathBuf,
    },
    /// A character device.
    Character {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanos: u32,
}

impl Entry {
    /// A directory of root's.
    pub fn directory(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self { path: path.into(), mode, ..Self::default() }
    }

    /// A file of root's.
    pub fn file(path: impl Into<PathBuf>, mode: u32, size: u64) -> Self {
        Self { path: path.into(), kind: Kind::File { size }, mode, ..Self::default() }
    }

    /// A symbolic link of root's.
    pub fn symlink(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), kind: Kind::Symlink { target: target.into() }, mode: 0o777, ..Self::default() }
    }

    /// The entry that says that `path` of the layers below is gone.
    pub fn whiteout(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let path = path.with_file_name(OsStr::from_bytes(&[WHITEOUT, name].concat()));
        Self::file(path, 0o600, 0)
    }

    /// The entry that says that nothing of the layers below shows in `directory`.
    pub fn opaque(directory: &Path) -> Self {
        Self::file(directory.join(OPAQUE), 0o600, 0)
    }
}

/// How the name of a whiteout starts.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// The name that makes its directory opaque.
pub(super) const OPAQUE: &str = ".wh..wh..opq";
