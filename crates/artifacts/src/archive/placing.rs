//! A target that appears whole: content is gathered in a staging directory beside it and moved there at the end.
//! Whatever happens, staging is removed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath::{Owner, Root, chown, normal};

/// How the names of staging directories begin.
const STAGING: &str = ".windlass-";

/// A tag that nobody else has.
pub(crate) fn unique() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("{}.{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}

/// Removes what somebody gathered for `target` under this tag who cannot do so himself any more.
pub(crate) fn sweep(root: &Root, target: &Path, tag: &str) {
    let Ok(names) = normal(target) else { return };
    let parents: PathBuf = names.iter().take(names.len().saturating_sub(1)).collect();
    let Ok(parent) = root.sub(&parents) else { return };
    let prefix = format!("{STAGING}{tag}-");
    for name in parent.names().unwrap_or_default() {
        if name.as_bytes().starts_with(prefix.as_bytes())
            && let Err(error) = parent.remove(&name)
        {
            tracing::warn!(%error, ?name, "a staging directory could not be removed");
        }
    }
}

/// One target that is being filled.
pub(crate) struct Placing {
    parent: Root,
    name: OsString,
    staging_name: OsString,
    staging: Root,
    owner: Option<Owner>,
    placed: bool,
}

impl Placing {
    /// Makes missing parents of `target` (resolved with `root` as `/`) and the staging directory, 0755 and of `owner`.
    /// `tag` tells it from those of others.
    pub(crate) fn begin(root: &Root, target: &Path, owner: Option<Owner>, tag: &str) -> io::Result<Self> {
        let names = normal(target)?;
        let Some((name, parents)) = names.split_last() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the target is the root itself"));
        };
        let parent = root.make_dirs(&parents.iter().collect::<PathBuf>(), owner)?;
        for attempt in 0..1000u32 {
            let own = if tag.is_empty() { std::process::id().to_string() } else { tag.to_owned() };
            let staging_name = OsString::from(format!("{STAGING}{own}-{attempt}"));
            match rustix::fs::mkdirat(parent.fd(), &staging_name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {
                    let staging = parent.sub_strict(&staging_name)?;
                    rustix::fs::fchmod(staging.fd(), Mode::from_raw_mode(0o755))?;
                    chown(staging.fd(), owner)?;
                    return Ok(Self { parent, name: name.clone(), staging_name, staging, owner, placed: false });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a staging directory"))
    }

    /// Where to gather.
    pub(crate) fn staging(&self) -> &Root {
        &self.staging
    }

    /// The staging directory itself becomes the target.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        settle(&self.parent, &self.staging_name, &self.parent, &self.name)?;
        // After a plain rename the name is gone; after a merge an empty directory is left.
        self.placed = true;
        // A directory that was there belongs to whoever made it: the step's user must own what it is given.
        chown(self.parent.sub(Path::new(&self.name))?.fd(), self.owner)?;
        self.parent.remove(&self.staging_name)
    }

    /// One entry of the staging directory becomes the target.
    pub(crate) fn finish_entry(self, entry: &OsStr) -> io::Result<()> {
        settle(&self.staging, entry, &self.parent, &self.name)
    }

    /// Removes what was gathered.
    pub(crate) fn abandon(self) {}
}

impl Drop for Placing {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = self.parent.remove(&self.staging_name)
        {
            tracing::warn!(%error, name = ?self.staging_name, "a staging directory could not be removed");
        }
    }
}

/// Moves `from` to `name`. A file or empty directory that is there gives way; a filled directory takes the entries in.
fn settle(from_dir: &Root, from: &OsStr, parent: &Root, name: &OsStr) -> io::Result<()> {
    let error = match from_dir.rename(from, parent, name) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOTEMPTY | Errno::EXIST) => merge(&from_dir.sub_strict(from)?, &parent.sub(Path::new(name))?),
        // A directory stands where a file goes: an empty one gives way.
        Some(Errno::ISDIR) => {
            rustix::fs::unlinkat(parent.fd(), name, AtFlags::REMOVEDIR)?;
            from_dir.rename(from, parent, name)
        }
        // A file stands where a directory goes.
        Some(Errno::NOTDIR) => {
            rustix::fs::unlinkat(parent.fd(), name, AtFlags::empty())?;
            from_dir.rename(from, parent, name)
        }
        // The target is a mount point: what belongs there is moved into it, across filesystems if need be.
        Some(Errno::BUSY | Errno::XDEV) => merge(&from_dir.sub_strict(from)?, &parent.sub(Path::new(name))?),
        _ => Err(error),
    }
}

/// Moves what is in `from` into the directory `to`, directory by directory.
fn merge(from: &Root, to: &Root) -> io::Result<()> {
    for name in from.names()? {
        if let Err(error) = from.rename(&name, to, &name) {
            let filled =
                matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOTEMPTY | Errno::EXIST));
            if !filled {
                return Err(error);
            }
            merge(&from.sub_strict(&name)?, &to.sub_strict(&name)?)?;
        }
    }
    Ok(())
}

impl Root {
    /// A directory directly in this one; a link is an error.
    pub(crate) fn sub_strict(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self::from_fd(self.open_strict(Path::new(name), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?))
    }
}
