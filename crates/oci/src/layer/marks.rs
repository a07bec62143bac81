//! How overlayfs writes deletions: a character device 0:0 for a deleted name and an extended attribute for an opaque
//! directory, `trusted.` for the real root, `user.` within a user namespace.

use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode, XattrFlags};
use serde::{Deserialize, Serialize};

/// The extended attributes that an overlay mount reads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Marks {
    /// `trusted.overlay.*`: the real root.
    Trusted,
    /// `user.overlay.*`: within a user namespace, mounted with `userxattr`.
    User,
}

impl Marks {
    /// Tries which kind can be written in this directory.
    pub fn probe(dir: &Path) -> Self {
        let Ok(probe) = tempfile::tempdir_in(dir) else { return Self::User };
        let path = probe.path();
        let made = rustix::fs::lsetxattr(path, Self::Trusted.opaque(), b"y", XattrFlags::empty()).is_ok();
        // A sandbox may accept the call and keep nothing.
        let kept = rustix::fs::lgetxattr(path, Self::Trusted.opaque(), &mut [0_u8; 4][..]).is_ok();
        if made && kept { Self::Trusted } else { Self::User }
    }

    /// The attribute of an opaque directory.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// The attribute that marks an empty file as a whiteout, where devices cannot be made.
    pub fn whiteout(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.whiteout",
            Self::User => "user.overlay.whiteout",
        }
    }

    /// Writes a whiteout beneath an open directory. Where the device cannot be made (it can be within user namespaces
    /// since Linux 5.8), an empty file with an attribute says the same; its directory needs a mark for that.
    pub(super) fn make_whiteout(self, dir: &impl std::os::fd::AsFd, name: &std::ffi::OsStr) -> io::Result<()> {
        match rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        use rustix::fs::OFlags;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::RUSR)?;
        rustix::fs::fsetxattr(&file, self.whiteout(), b"y", XattrFlags::empty())?;
        let dir = rustix::fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut value = [0_u8; 4];
        // An opaque directory stays one (`y`): nothing below shows there anyway.
        if rustix::fs::fgetxattr(&dir, self.opaque(), &mut value[..]).is_err() {
            rustix::fs::fsetxattr(&dir, self.opaque(), b"x", XattrFlags::empty())?;
        }
        Ok(())
    }
}

/// Whether overlayfs itself uses this attribute. An image must never bring one: a redirect would show other files.
pub(super) fn is_overlay_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") || name == b"trusted.overlay"
}
