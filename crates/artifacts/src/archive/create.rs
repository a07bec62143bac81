//! From a path to a stream. It must never follow a link while walking, nor block on a FIFO.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{Mode, OFlags};

use super::{ArchiveError, Limits, Strategy};
use crate::beneath::Root;
use crate::cancel::Cancel;

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    /// Bytes of content.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Sockets, devices and FIFOs, which no archive of ours holds.
    pub skipped: Vec<PathBuf>,
}

/// Packs `path` (resolved with `root` as `/`) into `out`. With [`Strategy::None`] only a regular file can be written;
/// pack a directory with [`create_tar`] and hand it to the store as a tree.
pub fn create(
    root: &Root,
    path: &Path,
    strategy: Strategy,
    out: &mut dyn Write,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<Created, ArchiveError> {
    match strategy {
        Strategy::TarGzip { level } => {
            let level = level.map_or_else(Compression::default, Compression::new);
            let mut gzip = GzEncoder::new(out, level);
            let created = create_tar(root, path, &mut gzip, limits, cancel)?;
            gzip.finish().map_err(ArchiveError::io(path))?.flush().map_err(ArchiveError::io(path))?;
            Ok(created)
        }
        Strategy::Zip => super::zip::create(root, path, out, limits, cancel),
        Strategy::None => {
            let mut file = open_top(root, path)?;
            if file.metadata().map_err(ArchiveError::io(path))?.is_dir() {
                return Err(ArchiveError::Io {
                    path: path.to_owned(),
                    source: io::Error::new(io::ErrorKind::IsADirectory, "a directory is stored as a tree"),
                });
            }
            let mut counted = Counted { inner: &mut file, bytes: 0, limits, cancel };
            let bytes = io::copy(&mut counted, out).map_err(|e| restore(e, path))?;
            out.flush().map_err(ArchiveError::io(path))?;
            Ok(Created { bytes, entries: 1, skipped: Vec::new() })
        }
    }
}

/// Packs `path` as a plain tar whose single top-level entry has the path's base name, as `tar -c` does.
pub fn create_tar(
    root: &Root,
    path: &Path,
    out: &mut dyn Write,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<Created, ArchiveError> {
    let top = open_top(root, path)?;
    let name = path.file_name().map_or_else(|| PathBuf::from("root"), PathBuf::from);
    let mut walk = Walk { tar: tar::Builder::new(out), created: Created::default(), limits, cancel };
    walk.open_entry(top, &name)?;
    let out = walk.tar.into_inner().map_err(ArchiveError::io(path))?;
    out.flush().map_err(ArchiveError::io(path))?;
    Ok(walk.created)
}

/// The path itself may be a link (inside the root); what it leads to is packed.
fn open_top(root: &Root, path: &Path) -> Result<File, ArchiveError> {
    match root.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(ArchiveError::NotFound(path.to_owned()))
        }
        Err(source) => Err(ArchiveError::Io { path: path.to_owned(), source }),
    }
}

struct Walk<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    created: Created,
    limits: &'a Limits,
    cancel: &'a Cancel,
}

impl Walk<'_> {
    fn open_entry(&mut self, file: File, name: &Path) -> Result<(), ArchiveError> {
        self.count()?;
        let metadata = file.metadata().map_err(ArchiveError::io(name))?;
        if metadata.is_dir() {
            let mut header = header(&metadata, tar::EntryType::Directory);
            self.tar.append_data(&mut header, name.join(""), io::empty()).map_err(ArchiveError::io(name))?;
            let dir = Root::from_fd(file.into());
            for child in dir.names().map_err(ArchiveError::io(name))? {
                self.child(&dir, &child, &name.join(&child))?;
            }
        } else if metadata.is_file() {
            self.created.bytes += metadata.len();
            if self.created.bytes > self.limits.bytes_max {
                return Err(ArchiveError::TooLarge(format!("{} bytes", self.limits.bytes_max)));
            }
            let mut header = header(&metadata, tar::EntryType::Regular);
            header.set_size(metadata.len());
            // The file may change while it is read: exactly the announced size goes in.
            let counted = Counted { inner: &mut &file, bytes: 0, limits: self.limits, cancel: self.cancel };
            let exact = Exact { inner: counted, left: metadata.len() };
            self.tar.append_data(&mut header, name, exact).map_err(|e| restore(e, name))?;
        } else {
            self.created.skipped.push(name.to_owned());
        }
        Ok(())
    }

    fn child(&mut self, dir: &Root, name: &OsStr, path: &Path) -> Result<(), ArchiveError> {
        let handle = match dir.open_strict(Path::new(name), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return self.link(dir, name, path);
            }
            // Removed since the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(ArchiveError::Io { path: path.to_owned(), source }),
        };
        let kind = handle.metadata().map_err(ArchiveError::io(path))?.file_type();
        if kind.is_symlink() {
            return self.link(dir, name, path);
        }
        if !kind.is_dir() && !kind.is_file() {
            self.created.skipped.push(path.to_owned());
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = dir.open_strict(Path::new(name), flags, Mode::empty()).map_err(ArchiveError::io(path))?;
        self.open_entry(File::from(file), path)
    }

    fn link(&mut self, dir: &Root, name: &OsStr, path: &Path) -> Result<(), ArchiveError> {
        self.count()?;
        let target = rustix::fs::readlinkat(dir.fd(), name, Vec::new())
            .map_err(|e| ArchiveError::Io { path: path.to_owned(), source: e.into() })?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        self.tar.append_link(&mut header, path, target).map_err(ArchiveError::io(path))
    }

    fn count(&mut self) -> Result<(), ArchiveError> {
        if self.cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        self.created.entries += 1;
        if self.created.entries > self.limits.entries_max {
            return Err(ArchiveError::TooLarge(format!("{} entries", self.limits.entries_max)));
        }
        Ok(())
    }
}

use std::os::unix::ffi::OsStrExt as _;

fn header(metadata: &std::fs::Metadata, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

/// Reads exactly `left` bytes: pads a file that shrank, stops at the end of one that grew.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left.min(buffer.len() as u64)).unwrap_or(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let mut got = self.inner.read(&mut buffer[..want])?;
        if got == 0 {
            buffer[..want].fill(0);
            got = want;
        }
        self.left -= got as u64;
        Ok(got)
    }
}

/// Looks at the limit and the cancel flag with every read.
struct Counted<'a, R> {
    inner: R,
    bytes: u64,
    limits: &'a Limits,
    cancel: &'a Cancel,
}

#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("cancelled")]
    Cancelled,
    #[error("too large")]
    TooLarge(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(Stop::Cancelled));
        }
        let got = self.inner.read(buffer)?;
        self.bytes += got as u64;
        if self.bytes > self.limits.bytes_max {
            return Err(io::Error::other(Stop::TooLarge(self.limits.bytes_max)));
        }
        Ok(got)
    }
}

fn restore(error: io::Error, path: &Path) -> ArchiveError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Stop>()) {
        Some(Stop::Cancelled) => ArchiveError::Cancelled,
        Some(Stop::TooLarge(bytes)) => ArchiveError::TooLarge(format!("{bytes} bytes")),
        None => ArchiveError::Io { path: path.to_owned(), source: error },
    }
}
