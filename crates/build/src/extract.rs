//! `ADD` of a local archive: recognised by its content, unpacked within the target's root. Never follows a link out of it.
//! Reading further than the first block is for a confined worker only.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use windlass_oci::layer::{ArchiveReader, Kind, decompress};
use windlass_oci::media::Compression;

use crate::error::{Doing, Fault};
use crate::view::{self, Owner, View, clean};

/// Whether this file may be an archive, by its first block alone.
pub(crate) fn may_be_archive(file: &mut File) -> std::io::Result<bool> {
    let mut start = [0_u8; 512];
    let count = read_full(file, &mut start)?;
    file.rewind()?;
    let compressed = [&b"BZh"[..], b"\xfd7zXZ\0"].iter().any(|magic| start.starts_with(magic));
    Ok(compressed || Compression::sniff(&start[..count]) != Compression::None || (count == 512 && is_header(&start)))
}

/// How this file is an archive; `None` when it is none. An archive of a kind that cannot be unpacked is a fault.
pub(crate) fn sniff(file: &mut File, name: &str) -> Result<Option<Compression>, Fault> {
    let what = || format!("read {name}");
    let mut start = [0_u8; 512];
    let count = read_full(file, &mut start).doing(what)?;
    file.rewind().doing(what)?;
    for (magic, kind) in [(&b"BZh"[..], "bzip2"), (b"\xfd7zXZ\0", "xz")] {
        if start.starts_with(magic) {
            return Err(Fault::said(format!(
                "{name} is compressed with {kind}, and ADD unpacks tar, gzip and zstd: \
                 unpack it in a RUN, or use COPY to keep it as it is"
            )));
        }
    }
    let compression = Compression::sniff(&start[..count]);
    let mut block = [0_u8; 512];
    let plain = match compression {
        Compression::None => (count == 512).then_some(start),
        _ => {
            let copy = file.try_clone().doing(what)?;
            let read = decompress(copy, compression).ok().and_then(|mut r| read_full(&mut r, &mut block).ok());
            file.rewind().doing(what)?;
            (read == Some(512)).then_some(block)
        }
    };
    Ok(plain.filter(is_header).map(|_| compression))
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match reader.read(&mut buffer[at..])? {
            0 => break,
            count => at += count,
        }
    }
    Ok(at)
}

/// Whether a block is a tar header: its checksum is right.
fn is_header(block: &[u8; 512]) -> bool {
    let text = String::from_utf8_lossy(&block[148..156]);
    let Ok(said) = u64::from_str_radix(text.trim_matches(['\0', ' ']), 8) else { return false };
    let sum = block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) });
    sum.sum::<u64>() == said
}

/// Unpacks into a directory of `to`, over what is there; answers the devices that could not be made here.
pub(crate) fn unpack(
    file: File,
    compression: Compression,
    to: &View,
    dest: &Path,
    owner: Option<Owner>,
) -> Result<Vec<PathBuf>, Fault> {
    let mut skipped = Vec::new();
    let root = Owner { uid: 0, gid: 0 };
    let dest = clean(dest);
    to.make_directory(&dest, owner.unwrap_or(root))?;
    let mut plain = decompress(file, compression)?;
    let mut archive = ArchiveReader::new(&mut plain);
    let mut directories = Vec::new();
    while let Some(entry) = archive.next()? {
        let inner = clean(&entry.path);
        // The archive's own root says nothing about the destination.
        if inner.as_os_str().is_empty() {
            continue;
        }
        let path = dest.join(&inner);
        let what = || format!("write /{}", path.display());
        let id = |id: u64| u32::try_from(id).map_err(|_| Fault::said(format!("{}: id {id}", entry.path.display())));
        let owner = match owner {
            Some(owner) => owner,
            None => Owner { uid: id(entry.uid)?, gid: id(entry.gid)? },
        };
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        let above = to.make_directory(path.parent().unwrap_or(Path::new("")), root)?;
        let name: &OsStr = path.file_name().unwrap_or_default();
        if entry.kind == Kind::Directory {
            if !to.is_directory(&path) {
                remove(&above, name).doing(what)?;
            }
            let directory = to.make_directory(&path, root)?;
            view::own(&directory, owner).doing(what)?;
            rustix::fs::fchmod(&directory, mode).doing(what)?;
            directories.push((path, times));
            continue;
        }
        remove(&above, name).doing(what)?;
        match &entry.kind {
            Kind::File { .. } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&above, name, flags, Mode::from_raw_mode(0o600)).doing(what)?;
                let mut made = File::from(made);
                std::io::copy(&mut archive, &mut made).doing(what)?;
                view::own(&made, owner).doing(what)?;
                rustix::fs::fchmod(&made, mode).doing(what)?;
                for (name, value) in entry.xattrs.iter().filter(|(name, _)| !name.contains(".overlay.")) {
                    match rustix::fs::fsetxattr(&made, name.as_str(), value, rustix::fs::XattrFlags::empty()) {
                        // Not every attribute means something here, nor may everyone set each.
                        Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => {}
                        Err(error) => return Err(Fault::io(what(), error)),
                    }
                }
                rustix::fs::futimens(&made, &times).doing(what)?;
                continue;
            }
            Kind::Hardlink { target } => {
                let target = dest.join(clean(target));
                let directory = to.make_directory(target.parent().unwrap_or(Path::new("")), root)?;
                let first = target.file_name().unwrap_or_default();
                rustix::fs::linkat(&directory, first, &above, name, AtFlags::empty()).doing(what)?;
                continue;
            }
            Kind::Symlink { target } => rustix::fs::symlinkat(target.as_path(), &above, name).doing(what)?,
            Kind::Character { major, minor } | Kind::Block { major, minor } => {
                let block = matches!(entry.kind, Kind::Block { .. });
                let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
                match rustix::fs::mknodat(&above, name, kind, mode, rustix::fs::makedev(*major, *minor)) {
                    Ok(()) => rustix::fs::chmodat(&above, name, mode, AtFlags::empty()).doing(what)?,
                    // Containers get their devices when they run.
                    Err(Errno::PERM | Errno::ACCESS) => {
                        skipped.push(path);
                        continue;
                    }
                    Err(error) => return Err(Fault::io(what(), error)),
                }
            }
            Kind::Fifo => {
                rustix::fs::mknodat(&above, name, FileType::Fifo, mode, 0).doing(what)?;
                rustix::fs::chmodat(&above, name, mode, AtFlags::empty()).doing(what)?;
            }
            Kind::Directory => {}
        }
        view::own_at(&above, name, owner).doing(what)?;
        rustix::fs::utimensat(&above, name, &times, AtFlags::SYMLINK_NOFOLLOW).doing(what)?;
    }
    for (path, times) in directories.iter().rev() {
        if let Ok(directory) = to.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            rustix::fs::futimens(&directory, times).doing(|| format!("write /{}", path.display()))?;
        }
    }
    Ok(skipped)
}

fn remove(above: &std::os::fd::OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(above, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR),
        other => other,
    }
}
