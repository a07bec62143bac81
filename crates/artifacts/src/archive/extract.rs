//! From a stream to a path. Entries go into a fresh staging directory beside the target without following any link;
//! only a complete result is moved to the target. Nothing half-written stays.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use serde::{Deserialize, Serialize};

use super::placing::Placing;
use super::{ArchiveError, Limits, Strategy};
use crate::beneath::{Owner, Root, chown, normal};
use crate::cancel::Cancel;

/// Padding after the last entry; tar writes ten KiB.
const TRAILER_BYTES_MAX: u64 = 64 << 20;

/// How to unpack.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExtractOptions {
    /// Explicit strategy; `None` looks at the bytes: tar in gzip is unpacked, all else is a file.
    pub strategy: Option<Strategy>,
    /// Permission bits for the target.
    pub mode: Option<u32>,
    /// Give `mode` to everything beneath the target too.
    pub recurse_mode: bool,
    /// Who owns what is made. `None`: whoever runs this.
    pub owner: Option<Owner>,
    /// Bounds.
    pub limits: Limits,
    /// Part of the staging directory's name; this process's number where it is empty.
    pub tag: String,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extracted {
    /// Bytes of content.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Whether the target is a directory.
    pub directory: bool,
}

/// Puts a stream at `target` (resolved with `root` as `/`; missing parents are made), with Argo's rule: an archive with
/// one top-level entry becomes the target itself, one with several becomes a directory. A file or empty directory that is
/// there is replaced; a filled directory gets the new entries moved into it.
pub fn extract(
    reader: &mut dyn Read,
    root: &Root,
    target: &Path,
    options: &ExtractOptions,
    cancel: &Cancel,
) -> Result<Extracted, ArchiveError> {
    if options.strategy == Some(Strategy::Zip) {
        let spool = spool(root).map_err(ArchiveError::io(target))?;
        return super::zip::as_tar(reader, spool, &options.limits, |tar| {
            place(root, target, options, |staging, done| unpack_tar(tar, staging, options, done, cancel))
        });
    }
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let unpack = match options.strategy {
        Some(Strategy::TarGzip { .. }) => true,
        Some(Strategy::None | Strategy::Zip) => false,
        None => reader.fill_buf().map_err(ArchiveError::Damaged)?.starts_with(&[0x1f, 0x8b]),
    };
    if !unpack {
        return place(root, target, options, |staging, done| write_file(&mut reader, staging, options, done, cancel));
    }
    if options.strategy.is_some() {
        let gzip = MultiGzDecoder::new(reader);
        return place(root, target, options, |staging, done| unpack_tar(gzip, staging, options, done, cancel));
    }
    // A gzip that is not a tar is a file (auto-detect): look into the first block.
    let mut gzip = PeekGzip::new(reader);
    if gzip.holds_tar() {
        let gzip = MultiGzDecoder::new(gzip.whole());
        place(root, target, options, |staging, done| unpack_tar(gzip, staging, options, done, cancel))
    } else {
        let mut plain = gzip.whole();
        place(root, target, options, |staging, done| write_file(&mut plain, staging, options, done, cancel))
    }
}

/// A file without a name, beneath the root where that works: a worker has no other place.
fn spool(root: &Root) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    match root.open_strict(Path::new("."), flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        Err(_) => tempfile::tempfile(),
    }
}

/// Unpacks a plain tar stream at `target`; the same placing rule.
pub fn extract_tree(
    tar: &mut dyn Read,
    root: &Root,
    target: &Path,
    options: &ExtractOptions,
    cancel: &Cancel,
) -> Result<Extracted, ArchiveError> {
    place(root, target, options, |staging, done| unpack_tar(tar, staging, options, done, cancel))
}

/// Fills a staging directory, and makes its one entry, or the directory itself, the target.
fn place(
    root: &Root,
    target: &Path,
    options: &ExtractOptions,
    fill: impl FnOnce(&Root, &mut Extracted) -> Result<(), ArchiveError>,
) -> Result<Extracted, ArchiveError> {
    let fail = |source: io::Error| ArchiveError::Io { path: target.to_owned(), source };
    let placing = Placing::begin(root, target, options.owner, &options.tag).map_err(fail)?;
    let mut done = Extracted::default();
    let filled = fill(placing.staging(), &mut done).and_then(|()| {
        let entries = placing.staging().names().map_err(fail)?;
        let single = if let [only] = entries.as_slice() { Some(only.clone()) } else { None };
        if let Some(mode) = options.mode {
            for name in &entries {
                if single.is_some() || options.recurse_mode {
                    set_mode(placing.staging(), name, mode, options.recurse_mode).map_err(fail)?;
                }
            }
        }
        done.directory = match &single {
            Some(only) => stat_is_dir(placing.staging(), only).map_err(fail)?,
            None => true,
        };
        Ok(single)
    });
    match filled {
        Ok(Some(only)) => placing.finish_entry(&only).map_err(fail)?,
        Ok(None) => {
            let mode = options.mode.unwrap_or(0o755);
            rustix::fs::fchmod(placing.staging().fd(), Mode::from_raw_mode(mode)).map_err(|e| fail(e.into()))?;
            placing.finish().map_err(fail)?;
        }
        Err(error) => {
            placing.abandon();
            return Err(error);
        }
    }
    Ok(done)
}

fn stat_is_dir(dir: &Root, name: &OsStr) -> io::Result<bool> {
    let stat = rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

fn set_mode(dir: &Root, name: &OsStr, mode: u32, recurse: bool) -> io::Result<()> {
    let stat = rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    if kind == rustix::fs::FileType::Symlink {
        return Ok(());
    }
    if recurse && kind == rustix::fs::FileType::Directory {
        let sub = dir.sub_strict(name)?;
        for child in sub.names()? {
            set_mode(&sub, &child, mode, true)?;
        }
    }
    rustix::fs::chmodat(dir.fd(), name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
    Ok(())
}

fn write_file(
    reader: &mut dyn Read,
    staging: &Root,
    options: &ExtractOptions,
    done: &mut Extracted,
    cancel: &Cancel,
) -> Result<(), ArchiveError> {
    done.entries = 1;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = staging
        .open_strict(Path::new("file"), flags, Mode::from_raw_mode(0o644))
        .map_err(ArchiveError::io("staging"))?;
    let mut file = File::from(file);
    copy(reader, &mut file, options, done, cancel)?;
    chown(&file, options.owner).map_err(ArchiveError::io("staging"))
}

fn copy(
    reader: &mut dyn Read,
    file: &mut File,
    options: &ExtractOptions,
    done: &mut Extracted,
    cancel: &Cancel,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0u8; 128 << 10];
    loop {
        if cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let got = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::Damaged(error)),
        };
        done.bytes += got as u64;
        if done.bytes > options.limits.bytes_max {
            return Err(ArchiveError::TooLarge(format!("{} bytes", options.limits.bytes_max)));
        }
        file.write_all(&buffer[..got]).map_err(ArchiveError::io("staging"))?;
    }
}

fn unpack_tar(
    reader: impl Read,
    staging: &Root,
    options: &ExtractOptions,
    done: &mut Extracted,
    cancel: &Cancel,
) -> Result<(), ArchiveError> {
    let mut archive = tar::Archive::new(reader);
    // Modes of directories come last: a read-only one must still take its entries.
    let mut directories: Vec<(PathBuf, u32, u64)> = Vec::new();
    for entry in archive.entries().map_err(ArchiveError::Damaged)? {
        let mut entry = entry.map_err(ArchiveError::Damaged)?;
        if cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        done.entries += 1;
        if done.entries > options.limits.entries_max {
            return Err(ArchiveError::TooLarge(format!("{} entries", options.limits.entries_max)));
        }
        let raw = entry.path().map_err(ArchiveError::Damaged)?.into_owned();
        let refuse =
            |reason: &'static str| ArchiveError::Refused { entry: raw.display().to_string(), reason: reason.into() };
        if raw.is_absolute() {
            return Err(refuse("absolute path"));
        }
        let names = normal(&raw).map_err(|_| refuse("`..` in the path"))?;
        let Some((name, parents)) = names.split_last() else { continue };
        let parent = strict_dirs(staging, parents, options.owner).map_err(|e| linked(e, &raw))?;
        let header = entry.header();
        let mode = header.mode().unwrap_or(0o644) & 0o1777;
        let mtime = header.mtime().unwrap_or(0);
        match header.entry_type() {
            tar::EntryType::Directory => {
                let dir =
                    strict_dirs(&parent, std::slice::from_ref(name), options.owner).map_err(|e| linked(e, &raw))?;
                chown(dir.fd(), options.owner).map_err(ArchiveError::io(&raw))?;
                directories.push((names.iter().collect(), mode, mtime));
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                parent.remove(name).map_err(ArchiveError::io(&raw))?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = parent
                    .open_strict(Path::new(name), flags, Mode::from_raw_mode(0o600))
                    .map_err(ArchiveError::io(&raw))?;
                let mut file = File::from(file);
                copy(&mut entry, &mut file, options, done, cancel)?;
                chown(&file, options.owner).map_err(ArchiveError::io(&raw))?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|e| ArchiveError::io(&raw)(e.into()))?;
                set_mtime(&file, mtime);
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| refuse("a link without a target"))?;
                let target = OsStr::from_bytes(&target);
                parent.remove(name).map_err(ArchiveError::io(&raw))?;
                rustix::fs::symlinkat(target, parent.fd(), name).map_err(|e| ArchiveError::io(&raw)(e.into()))?;
                if let Some(owner) = options.owner {
                    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
                    rustix::fs::chownat(parent.fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|e| ArchiveError::io(&raw)(e.into()))?;
                }
            }
            tar::EntryType::Link => {
                let link = entry
                    .link_name()
                    .map_err(ArchiveError::Damaged)?
                    .ok_or_else(|| refuse("a link without a target"))?;
                if link.is_absolute() {
                    return Err(refuse("hard link to an absolute path"));
                }
                let target = normal(&link).map_err(|_| refuse("hard link with `..`"))?;
                let Some((last, dirs)) = target.split_last() else { return Err(refuse("hard link to nothing")) };
                let from = strict_existing(staging, dirs).map_err(|e| linked(e, &raw))?;
                parent.remove(name).map_err(ArchiveError::io(&raw))?;
                // Without FOLLOW a link to a symbolic link would be the symbolic link itself, which stays harmless.
                rustix::fs::linkat(from.fd(), last, parent.fd(), name, AtFlags::empty())
                    .map_err(|e| ArchiveError::io(&raw)(e.into()))?;
            }
            tar::EntryType::XGlobalHeader => done.entries -= 1,
            _ => return Err(refuse("devices and FIFOs are not unpacked")),
        }
    }
    // What follows the end mark is read too: the checksum of a gzip stands at its very end, and a pipe wants a reader.
    let mut rest = archive.into_inner().take(TRAILER_BYTES_MAX);
    io::copy(&mut rest, &mut io::sink()).map_err(ArchiveError::Damaged)?;
    // Directories are closed from the innermost out, so that a mode without write stops nobody.
    for (path, mode, mtime) in directories.iter().rev() {
        let dir = staging
            .open_strict(path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())
            .map_err(ArchiveError::io(path))?;
        // Our own staging must stay removable and movable for its owner.
        let mode = Mode::from_raw_mode(mode | 0o700);
        rustix::fs::fchmod(&dir, mode).map_err(|e| ArchiveError::io(path)(e.into()))?;
        set_mtime(&dir, *mtime);
    }
    Ok(())
}

use std::os::unix::ffi::OsStrExt as _;

fn linked(source: io::Error, entry: &Path) -> ArchiveError {
    match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV | rustix::io::Errno::NOTDIR) => {
            let reason = "the path goes through a link or file".into();
            ArchiveError::Refused { entry: entry.display().to_string(), reason }
        }
        _ => ArchiveError::Io { path: entry.to_owned(), source },
    }
}

/// Like [`Root::make_dirs`], but a link on the way is an error.
fn strict_dirs(root: &Root, names: &[OsString], owner: Option<Owner>) -> io::Result<Root> {
    let mut here = root.sub_strict(OsStr::new("."))?;
    for name in names {
        match rustix::fs::mkdirat(here.fd(), name.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                here = here.sub_strict(name)?;
                chown(here.fd(), owner)?;
            }
            Err(rustix::io::Errno::EXIST) => here = here.sub_strict(name)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(here)
}

fn strict_existing(root: &Root, names: &[OsString]) -> io::Result<Root> {
    let path: PathBuf = names.iter().collect();
    let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
    Ok(Root::from_fd(root.open_strict(&path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?))
}

/// A time that cannot be set is no reason to fail.
fn set_mtime(file: impl AsFd, mtime: u64) {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time });
}

/// Reads ahead in a gzip stream far enough to see a tar header, and gives the whole stream back.
struct PeekGzip<R> {
    seen: Vec<u8>,
    reader: R,
}

impl<R: Read> PeekGzip<R> {
    fn new(reader: R) -> Self {
        Self { seen: Vec::new(), reader }
    }

    /// Whether the first unpacked block carries a tar header with a right checksum.
    fn holds_tar(&mut self) -> bool {
        let mut chunk = vec![0u8; 16 << 10];
        while self.seen.len() < (1 << 20) {
            let got = match self.reader.read(&mut chunk) {
                Ok(got) => got,
                Err(_) => return false,
            };
            self.seen.extend_from_slice(&chunk[..got]);
            let mut block = [0u8; 512];
            let mut decoder = MultiGzDecoder::new(self.seen.as_slice());
            match decoder.read_exact(&mut block) {
                Ok(()) => return is_tar_header(&block),
                Err(_) if got == 0 => return false,
                // Cut short: more input may complete the block.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(_) => return false,
            }
        }
        false
    }

    fn whole(self) -> impl Read {
        io::Cursor::new(self.seen).chain(self.reader)
    }
}

fn is_tar_header(block: &[u8; 512]) -> bool {
    // An empty tar is two zero blocks.
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let text = String::from_utf8_lossy(&block[148..156]);
    let Ok(stored) = u32::from_str_radix(text.trim_matches(['\0', ' ']), 8) else { return false };
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(index, byte)| if (148..156).contains(&index) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    sum == stored
}
