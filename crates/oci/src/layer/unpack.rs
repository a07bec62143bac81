//! Unpacks one layer into an empty directory, in the form that overlayfs stacks. Every name is resolved beneath that
//! directory by the kernel (`openat2`), so no entry, link or race can reach outside. It needs no other right than that
//! directory and the open archive, so that a confined process can do it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::ahead::{self, Ahead};
use super::beneath::{clean, open_beneath, open_in, open_root, remove_tree_at, resolve};
use super::entry::{OPAQUE, WHITEOUT};
use super::marks::is_overlay_attribute;
use super::reader::ArchiveReader;
use super::{Entry, Kind, Marks, Time};
use crate::digest::Hasher;
use crate::media::Compression;
use crate::{Digest, Error, Result};

/// How much one layer may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Bytes of the archive when decompressed.
    pub bytes_max: u64,
    /// Number of entries.
    pub entries_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 64 << 30, entries_max: 5_000_000 }
    }
}

/// How to unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnpackOptions {
    /// How deletions are written.
    pub marks: Marks,
    /// How much is accepted.
    pub limits: Limits,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self { marks: Marks::Trusted, limits: Limits::default() }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unpacked {
    /// The digest of the archive as it came.
    pub digest: Digest,
    /// The digest of the archive when decompressed.
    pub diff_id: Digest,
    /// How many entries it had.
    pub entries: u64,
    /// How many bytes of files it had.
    pub bytes: u64,
    /// Entries whose owner could not be set, because only one id is mapped here.
    pub owners_dropped: u64,
    /// Entries that could not be made here: devices without the right to make them. At most the first hundred.
    pub skipped: Vec<PathBuf>,
    /// Directories that the archive uses without describing them.
    pub implied: Vec<PathBuf>,
    /// Directories that hide what is below them and still want the mark for it: only where marks were left to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opaque: Vec<PathBuf>,
}

/// Unpacks a layer into an empty directory. The archive is read to its end in any case, so that the digests are
/// complete.
pub fn unpack(
    archive: impl Read + Send,
    compression: Compression,
    target: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked> {
    unpack_at(archive, compression, open_root(target)?, options, false)
}

/// As [`unpack`], in a process that may not set the marks of opaque directories: they are only listed.
pub(super) fn unpack_leaving_marks(
    archive: impl Read + Send,
    compression: Compression,
    target: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked> {
    unpack_at(archive, compression, open_root(target)?, options, true)
}

/// Sets the marks that were left. Nothing is trusted: a path is followed beneath the directory only.
pub(super) fn mark_opaque(target: &Path, opaque: &[PathBuf], marks: Marks) -> Result<()> {
    if opaque.is_empty() {
        return Ok(());
    }
    let root = open_root(target)?;
    for path in opaque {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        resolve(&root, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|dir| rustix::fs::fsetxattr(&dir, marks.opaque(), b"y", XattrFlags::empty()))
            .map_err(|e| Error::io(format!("unpacking {}", path.display()), e))?;
    }
    Ok(())
}

fn unpack_at(
    archive: impl Read + Send,
    compression: Compression,
    root: OwnedFd,
    options: &UnpackOptions,
    leave_marks: bool,
) -> Result<Unpacked> {
    let mut unpacker = Work {
        root,
        options: *options,
        parent: None,
        directories: BTreeMap::new(),
        whiteouts: HashSet::new(),
        bytes: 0,
        owners_dropped: 0,
        skipped: Vec::new(),
        leave_marks,
        opaque: BTreeSet::new(),
        buffer: vec![0; 1 << 17],
    };
    let (digest, diff_id, entries) = std::thread::scope(|scope| {
        let (plain, thread) = ahead::start(scope, archive, compression)?;
        let unpacked = unpacker.entries(plain);
        let digest = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (diff_id, entries) = unpacked?;
        Ok::<_, Error>((digest?, diff_id, entries))
    })?;
    unpacker.finish_directories()?;
    let implied = unpacker.directories.iter().filter(|(_, about)| about.is_none()).map(|(path, _)| path.clone());
    Ok(Unpacked {
        digest,
        diff_id,
        entries,
        bytes: unpacker.bytes,
        owners_dropped: unpacker.owners_dropped,
        implied: implied.collect(),
        skipped: unpacker.skipped,
        opaque: unpacker.opaque.into_iter().collect(),
    })
}

/// Hashes and bounds what is read.
struct Hashing<R> {
    input: R,
    hasher: Hasher,
    left: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if count as u64 > self.left {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.left -= count as u64;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

struct Work {
    root: OwnedFd,
    options: UnpackOptions,
    /// The directory of the last entry: archives come directory by directory.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Every directory made, with what to set when nothing is added to it any more; `None` where the archive only used
    /// it.
    directories: BTreeMap<PathBuf, Option<Entry>>,
    /// The whiteouts that this layer made.
    whiteouts: HashSet<PathBuf>,
    bytes: u64,
    owners_dropped: u64,
    skipped: Vec<PathBuf>,
    /// Marks are set by somebody else, on these.
    leave_marks: bool,
    opaque: BTreeSet<PathBuf>,
    buffer: Vec<u8>,
}

impl Work {
    /// Everything in the archive; its digest and the number of entries.
    fn entries(&mut self, plain: Ahead) -> Result<(Digest, u64)> {
        let limits = self.options.limits;
        let mut plain = Hashing { input: plain, hasher: Hasher::new(), left: limits.bytes_max };
        let mut reader = ArchiveReader::new(&mut plain);
        let mut entries = 0;
        while let Some(entry) = reader.next()? {
            entries += 1;
            if entries > limits.entries_max {
                return Err(Error::TooLarge { limit: format!("{} entries", limits.entries_max) });
            }
            self.entry(&entry, &mut reader).map_err(|error| match error {
                Error::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                    Error::TooLarge { limit: format!("{} bytes unpacked", limits.bytes_max) }
                }
                other => other,
            })?;
        }
        Ok((plain.hasher.finish(), entries))
    }

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let path = clean(&entry.path, "a path may not contain `..`")?;
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            // The root itself.
            if entry.kind == Kind::Directory {
                self.directories.insert(PathBuf::new(), Some(entry.clone()));
            }
            return Ok(());
        };
        let dir = self.open_parent(parent).map_err(|error| explain(error, entry))?;
        let result = self.place(entry, &path, parent, name, &dir, content);
        self.parent = Some((parent.to_owned(), dir));
        result
    }

    fn place(
        &mut self,
        entry: &Entry,
        path: &Path,
        parent: &Path,
        name: &OsStr,
        dir: &OwnedFd,
        content: &mut dyn Read,
    ) -> Result<()> {
        let failed = |error: Errno| Error::io(format!("unpacking {}", path.display()), error);
        if name == OPAQUE {
            return self.make_opaque(dir, parent).map_err(|e| Error::io(format!("unpacking {}", path.display()), e));
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            // `.wh..wh.*` other than the opaque mark is aufs' own bookkeeping.
            if hidden.starts_with(WHITEOUT) {
                return Ok(());
            }
            return self.whiteout(entry, parent, OsStr::from_bytes(hidden), dir);
        }
        let replaced_whiteout = self.make_room(entry, path, name, dir)?;
        let made = match &entry.kind {
            Kind::Directory => {
                match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed(error)),
                }
                if replaced_whiteout {
                    let made =
                        open_beneath(dir, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
                    self.make_opaque(&made, path).map_err(|e| Error::io(format!("unpacking {}", path.display()), e))?;
                }
                self.directories.insert(path.to_owned(), Some(entry.clone()));
                return Ok(());
            }
            Kind::File { .. } => return self.file(entry, path, name, dir, content),
            Kind::Symlink { target } => rustix::fs::symlinkat(target, dir, name).map_err(failed).map(|()| true)?,
            Kind::Hardlink { target } => {
                self.hardlink(entry, target, name, dir)?;
                // Owner, mode and times are those of the file that it names.
                return Ok(());
            }
            // Overlayfs would read this device as a deletion.
            Kind::Character { major: 0, minor: 0 } => false,
            Kind::Character { major, minor } => self.device(FileType::CharacterDevice, *major, *minor, name, dir)?,
            Kind::Block { major, minor } => self.device(FileType::BlockDevice, *major, *minor, name, dir)?,
            Kind::Fifo => {
                rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::RUSR, 0).map_err(failed).map(|()| true)?
            }
        };
        if !made {
            if self.skipped.len() < 100 {
                self.skipped.push(path.to_owned());
            }
            return Ok(());
        }
        let owner = rustix::fs::chownat(dir, name, Some(uid(entry)), Some(gid(entry)), AtFlags::SYMLINK_NOFOLLOW);
        self.tolerate_owner(owner, path)?;
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            rustix::fs::chmodat(dir, name, mode(entry), AtFlags::empty()).map_err(failed)?;
        }
        rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    fn file(&mut self, entry: &Entry, path: &Path, name: &OsStr, dir: &OwnedFd, content: &mut dyn Read) -> Result<()> {
        let failed = |error: io::Error| Error::io(format!("unpacking {}", path.display()), error);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?;
        let mut file = File::from(fd);
        loop {
            let count = content.read(&mut self.buffer).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                    Error::malformed("layer archive", format!("{}: {error}", path.display()))
                }
                _ => failed(error),
            })?;
            if count == 0 {
                break;
            }
            file.write_all(&self.buffer[..count]).map_err(failed)?;
            self.bytes += count as u64;
        }
        // Setting the owner clears setuid and capabilities, so it comes first.
        let owner = rustix::fs::fchown(&file, Some(uid(entry)), Some(gid(entry)));
        self.tolerate_owner(owner, path)?;
        rustix::fs::fchmod(&file, mode(entry)).map_err(|e| failed(e.into()))?;
        self.attributes(entry, &file, path)?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(|e| failed(e.into()))
    }

    fn attributes(&mut self, entry: &Entry, file: &impl AsFd, path: &Path) -> Result<()> {
        for (name, value) in &entry.xattrs {
            if is_overlay_attribute(name.as_bytes()) {
                continue;
            }
            match rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
                // Not every attribute means something here (SELinux labels), nor may everyone set each.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => {}
                Err(error) => return Err(Error::io(format!("setting {name} of {}", path.display()), error)),
            }
        }
        Ok(())
    }

    /// Takes away what is in an entry's place. Tells whether the layer had said that the name is deleted below.
    fn make_room(&mut self, entry: &Entry, path: &Path, name: &OsStr, dir: &OwnedFd) -> Result<bool> {
        if self.whiteouts.remove(path) {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())
                .map_err(|e| Error::io(format!("replacing {}", path.display()), e))?;
            return Ok(true);
        }
        let is_directory = self.directories.contains_key(path);
        if is_directory && entry.kind == Kind::Directory {
            return Ok(false);
        }
        let found = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(Error::io(format!("unpacking {}", path.display()), error)),
        };
        if found == FileType::Directory {
            if entry.kind == Kind::Directory {
                // Reached by another name, through a link within the layer.
                return Ok(false);
            }
            remove_tree_at(dir, name).map_err(|e| Error::io(format!("replacing {}", path.display()), e))?;
            self.directories.retain(|known, _| !known.starts_with(path));
            self.whiteouts.retain(|known| !known.starts_with(path));
            self.opaque.retain(|known| !known.starts_with(path));
        } else {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())
                .map_err(|e| Error::io(format!("replacing {}", path.display()), e))?;
        }
        Ok(false)
    }

    /// A deleted name. What this same layer puts there stays, and hides what is below it.
    fn whiteout(&mut self, entry: &Entry, parent: &Path, hidden: &OsStr, dir: &OwnedFd) -> Result<()> {
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(refused(entry, "a deletion needs a name"));
        }
        let path = parent.join(hidden);
        let failed = |error: io::Error| Error::io(format!("unpacking {}", path.display()), error);
        match rustix::fs::statat(dir, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                let made = open_beneath(dir, Path::new(hidden), OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(|e| failed(e.into()))?;
                return self.make_opaque(&made, &path).map_err(failed);
            }
            // This layer's own file, or the same deletion again.
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error.into())),
        }
        self.options.marks.make_whiteout(dir, hidden).map_err(failed)?;
        self.whiteouts.insert(path);
        Ok(())
    }

    fn make_opaque(&mut self, dir: &impl AsFd, path: &Path) -> io::Result<()> {
        if self.leave_marks {
            self.opaque.insert(path.to_owned());
            return Ok(());
        }
        let dir = open_beneath(dir, Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(rustix::fs::fsetxattr(&dir, self.options.marks.opaque(), b"y", XattrFlags::empty())?)
    }

    fn hardlink(&mut self, entry: &Entry, target: &Path, name: &OsStr, dir: &OwnedFd) -> Result<()> {
        let target = clean(target, "a hard link's target may not contain `..`")
            .map_err(|_| refused(entry, &format!("its hard link target `{}` leaves the image", target.display())))?;
        let (Some(target_name), Some(target_parent)) = (target.file_name(), target.parent()) else {
            return Err(refused(entry, "it is a hard link to the root directory"));
        };
        let missing = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR => {
                refused(entry, &format!("its hard link target `{}` is not earlier in the layer", target.display()))
            }
            Errno::PERM => refused(entry, &format!("`{}` cannot have a hard link", target.display())),
            Errno::XDEV | Errno::LOOP => refused(entry, "its hard link target leaves the image"),
            error => Error::io(format!("unpacking {}", entry.path.display()), error),
        };
        let from = open_in(&self.root, target_parent).map_err(missing)?;
        rustix::fs::linkat(&from, target_name, dir, name, AtFlags::empty()).map_err(missing)
    }

    fn device(&mut self, kind: FileType, major: u32, minor: u32, name: &OsStr, dir: &OwnedFd) -> Result<bool> {
        match rustix::fs::mknodat(dir, name, kind, Mode::RUSR, rustix::fs::makedev(major, minor)) {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::ACCESS) => Ok(false),
            Err(error) => Err(Error::io(format!("making device {}", name.display()), error)),
        }
    }

    /// Opens an entry's directory beneath the root, following links within it only, and makes it where it is only
    /// implied.
    fn open_parent(&mut self, parent: &Path) -> Result<OwnedFd, Errno> {
        if let Some((path, dir)) = self.parent.take()
            && path == parent
        {
            return Ok(dir);
        }
        match open_in(&self.root, parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parent(parent),
            other => other,
        }
    }

    /// Walks to a directory step by step, making what is absent. Links are taken apart here and every step is opened
    /// without following any, so the walk cannot leave the root.
    fn make_parent(&mut self, parent: &Path) -> Result<OwnedFd, Errno> {
        let words = |path: &Path| -> Vec<OsString> {
            path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
        };
        let mut todo = words(parent);
        let mut at = PathBuf::new();
        let mut stack = vec![open_in(&self.root, &at)?];
        let mut links = 0;
        while let Some(word) = todo.pop() {
            if word == "/" || word == "." {
                continue;
            }
            if word == ".." {
                if stack.len() > 1 {
                    stack.pop();
                    at.pop();
                }
                continue;
            }
            let dir = stack.last().ok_or(Errno::NOTDIR)?;
            at.push(&word);
            let found = match rustix::fs::statat(dir, &word, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => Some(FileType::from_raw_mode(found.st_mode)),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error),
            };
            match found {
                Some(FileType::Directory) => {}
                Some(FileType::Symlink) => {
                    links += 1;
                    if links > 40 {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(dir, &word, Vec::new())?;
                    let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_owned();
                    at.pop();
                    if target.is_absolute() {
                        at = PathBuf::new();
                        stack.truncate(1);
                    }
                    todo.extend(words(&target));
                    continue;
                }
                // Deleted below and then used again: a new directory in place of the old one.
                Some(_) if self.whiteouts.remove(&at) => {
                    rustix::fs::unlinkat(dir, &word, AtFlags::empty())?;
                    rustix::fs::mkdirat(dir, &word, Mode::RWXU)?;
                    self.directories.insert(at.clone(), None);
                    let made = open_beneath(dir, Path::new(&word), OFlags::RDONLY | OFlags::DIRECTORY)?;
                    self.make_opaque(&made, &at).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
                }
                Some(_) => return Err(Errno::NOTDIR),
                None => {
                    rustix::fs::mkdirat(dir, &word, Mode::RWXU)?;
                    self.directories.insert(at.clone(), None);
                }
            }
            let next = open_beneath(dir, Path::new(&word), OFlags::PATH | OFlags::DIRECTORY)?;
            stack.push(next);
        }
        stack.pop().ok_or(Errno::NOTDIR)
    }

    /// Sets what must come last: a directory's times change with its contents, and its mode may forbid to add any.
    fn finish_directories(&mut self) -> Result<()> {
        let directories = std::mem::take(&mut self.directories);
        for (path, about) in directories.iter().rev() {
            let failed = |error: Errno| Error::io(format!("unpacking {}", path.display()), error);
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let dir = resolve(&self.root, path, flags).map_err(failed)?;
            let Some(entry) = about else {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755)).map_err(failed)?;
                continue;
            };
            let owner = rustix::fs::fchown(&dir, Some(uid(entry)), Some(gid(entry)));
            self.tolerate_owner(owner, path)?;
            self.attributes(entry, &dir, path)?;
            rustix::fs::fchmod(&dir, mode(entry)).map_err(failed)?;
            rustix::fs::futimens(&dir, &times(entry.mtime)).map_err(failed)?;
        }
        self.directories = directories;
        Ok(())
    }

    /// With a single id mapped no other owner can be set; that is counted, and said once by the store.
    fn tolerate_owner(&mut self, result: Result<(), Errno>, path: &Path) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(Errno::PERM | Errno::INVAL | Errno::OVERFLOW) => {
                self.owners_dropped += 1;
                Ok(())
            }
            Err(error) => Err(Error::io(format!("changing the owner of {}", path.display()), error)),
        }
    }
}

fn refused(entry: &Entry, detail: &str) -> Error {
    Error::Refused { entry: entry.path.display().to_string(), detail: detail.to_owned() }
}

fn explain(error: Errno, entry: &Entry) -> Error {
    match error {
        Errno::LOOP => refused(entry, "its directory is a link that leads nowhere"),
        Errno::NOTDIR => refused(entry, "a part of its path is not a directory"),
        Errno::XDEV => refused(entry, "its directory leaves the image"),
        error => Error::io(format!("unpacking {}", entry.path.display()), error),
    }
}

fn uid(entry: &Entry) -> Uid {
    // The all-ones id means "unchanged" to the kernel; no image may have it.
    Uid::from_raw(u32::try_from(entry.uid).ok().filter(|id| *id != u32::MAX).unwrap_or(65534))
}

fn gid(entry: &Entry) -> Gid {
    Gid::from_raw(u32::try_from(entry.gid).ok().filter(|id| *id != u32::MAX).unwrap_or(65534))
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o7777)
}

fn times(time: Time) -> Timestamps {
    let at = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
    Timestamps { last_access: at, last_modification: at }
}
