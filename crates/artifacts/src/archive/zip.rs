//! Zip archives, as a tar that is made of them or that they are made of: what is safe for a tar is safe for them, by the
//! same code. Only stored and deflated entries; no passwords.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::create::{Created, create_tar};
use super::{ArchiveError, Limits};
use crate::beneath::Root;
use crate::cancel::Cancel;

const SYMLINK_BYTES_MAX: u64 = 4096;

/// Packs `path` as a zip whose single top-level entry has the path's base name.
pub(super) fn create(
    root: &Root,
    path: &Path,
    out: &mut dyn Write,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<Created, ArchiveError> {
    let (reader, mut writer) = io::pipe().map_err(ArchiveError::io(path))?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || create_tar(root, path, &mut writer, limits, cancel));
        let written = from_tar(reader, out);
        let packed = packing.join().map_err(|_| ArchiveError::Damaged(io::Error::other("packing stopped")))?;
        // The packer's own fault first: a cut tar is only what came of it.
        let created = packed?;
        written.map_err(ArchiveError::io(path))?;
        Ok(created)
    })
}

fn from_tar(tar: impl Read, out: &mut dyn Write) -> io::Result<()> {
    let mut tar = tar::Archive::new(tar);
    let mut zip = ZipWriter::new_stream(out);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(entry.header().mode()?)
            .large_file(entry.size() >= u64::from(u32::MAX));
        match entry.header().entry_type() {
            tar::EntryType::Directory => zip.add_directory(name, options)?,
            tar::EntryType::Symlink => {
                let to = entry.link_name()?.unwrap_or_default().to_string_lossy().into_owned();
                zip.add_symlink(name, to, options)?;
            }
            _ => {
                zip.start_file(name, options)?;
                io::copy(&mut entry, &mut zip)?;
            }
        }
    }
    zip.finish()?.into_inner().flush()?;
    // The padding after the last entry: the packer must not wait for a reader.
    io::copy(&mut tar.into_inner(), &mut io::sink())?;
    Ok(())
}

/// Gives the entries of a zip as a tar to `unpack`. A zip's table is at its end, so it is kept in
/// `spool`.
pub(super) fn as_tar<T>(
    reader: &mut dyn Read,
    mut spool: File,
    limits: &Limits,
    unpack: impl FnOnce(&mut dyn Read) -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    let damaged = |error: zip::result::ZipError| ArchiveError::Damaged(io::Error::other(error));
    io::copy(&mut reader.take(limits.bytes_max), &mut spool).map_err(ArchiveError::Damaged)?;
    spool.rewind().map_err(ArchiveError::Damaged)?;
    let mut archive = ZipArchive::new(spool).map_err(damaged)?;
    let (reader, writer) = io::pipe().map_err(ArchiveError::Damaged)?;
    std::thread::scope(|scope| {
        let maker = scope.spawn(move || to_tar(&mut archive, writer));
        unpack(&mut Made { reader, maker: Some(maker) })
    })
}

/// A tar that is made while it is read; an error of its maker ends the reading with that error, so that nothing half is
/// taken for a whole.
struct Made<'scope> {
    reader: io::PipeReader,
    maker: Option<std::thread::ScopedJoinHandle<'scope, io::Result<()>>>,
}

impl Read for Made<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        if got == 0
            && let Some(maker) = self.maker.take()
        {
            maker.join().map_err(|_| io::Error::other("reading the archive stopped"))??;
        }
        Ok(got)
    }
}

fn to_tar(archive: &mut ZipArchive<File>, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(io::Error::other)?;
        let mut header = tar::Header::new_gnu();
        let name = entry.name().map_err(io::Error::other)?.into_owned();
        let mode = entry.unix_mode().unwrap_or(if entry.is_dir() { 0o755 } else { 0o644 });
        header.set_mode(mode & 0o7777);
        if entry.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            append(&mut tar, &mut header, &name, &mut io::empty())?;
        } else if entry.is_symlink() {
            let mut to = String::new();
            entry.by_ref().take(SYMLINK_BYTES_MAX).read_to_string(&mut to)?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, plain(&name)?, to)?;
        } else {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(entry.size());
            // The size in the table is the archive's word; a tar must hold exactly so much.
            let size = entry.size();
            let mut exact = Exact { inner: &mut entry, left: size };
            append(&mut tar, &mut header, &name, &mut exact)?;
            if exact.left > 0 {
                return Err(io::Error::other(format!("{name} is shorter than the archive says")));
            }
        }
    }
    tar.into_inner()?.flush()
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    header: &mut tar::Header,
    name: &str,
    data: &mut dyn Read,
) -> io::Result<()> {
    tar.append_data(header, plain(name)?, data)
}

/// Names that a tar writer itself refuses are said with their name.
fn plain(name: &str) -> io::Result<&str> {
    let path = Path::new(name);
    let normal = |c| matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir);
    match !name.contains('\0') && path.components().all(normal) {
        true => Ok(name),
        false => Err(io::Error::other(format!("the entry {name:?} leads out of the archive"))),
    }
}

/// At most so many bytes.
struct Exact<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.inner.read(&mut buffer[..room])?;
        self.left -= got as u64;
        Ok(got)
    }
}
