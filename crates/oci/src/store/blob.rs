//! Blobs: content under its own sha256. A blob has its name only when all of it is on the disk and was checked; until
//! then it is a temporary file that disappears with its writer.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::time::SystemTime;

use tempfile::NamedTempFile;

use super::{Store, sync_dir};
use crate::digest::Hasher;
use crate::error::Doing;
use crate::{Digest, Error, Result};

/// Manifests and configurations larger than this are refused: they are read into memory.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// A blob being written. Dropped unfinished, nothing of it stays.
pub struct BlobWriter {
    store: Store,
    file: NamedTempFile,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    /// How many bytes were written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the blob its name. With `expected`, other content is refused and forgotten.
    pub fn finish(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let digest = self.hasher.finish();
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(Error::DigestMismatch {
                what: format!("blob of {} bytes", self.size),
                expected: expected.clone(),
                actual: digest,
            });
        }
        let _lock = self.store.lock(false)?;
        let path = self.store.blob_path(&digest);
        if path.exists() {
            // The same content came twice (two pushes at once, say): the first one stays, counted as new for the
            // collector.
            touch(&path);
            return Ok((digest, self.size));
        }
        self.file.as_file().sync_all().doing("writing", &path)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        self.file.as_file().set_permissions(mode).doing("writing", &path)?;
        self.file.persist(&path).map_err(|failed| Error::io(format!("writing {}", path.display()), failed.error))?;
        if let Some(dir) = path.parent() {
            sync_dir(dir)?;
        }
        Ok((digest, self.size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.as_file_mut().write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// Starts a blob.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let tmp = self.tmp_dir();
        let file = tempfile::Builder::new().prefix("blob-").tempfile_in(&tmp).doing("creating a file in", &tmp)?;
        Ok(BlobWriter { store: self.clone(), file, hasher: Hasher::new(), size: 0 })
    }

    /// Stores these bytes.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).doing("writing a blob to", self.dir())?;
        Ok(writer.finish(None)?.0)
    }

    /// Stores everything that this reader gives, if it is what `expected` says.
    pub fn put_blob_from(&self, mut reader: impl Read, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let mut writer = self.blob_writer()?;
        io::copy(&mut reader, &mut writer).doing("writing a blob to", self.dir())?;
        writer.finish(expected)
    }

    /// Whether the blob is here.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// The blob's size, if it is here.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().map(|meta| meta.len())
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::BlobMissing { digest: digest.clone() }),
            other => other.doing("opening", &path),
        }
    }

    /// Reads a small blob (a manifest or a configuration) and checks it against its digest.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        self.open_blob(digest)?.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes).doing("reading", &path)?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(Error::TooLarge { limit: format!("{DOCUMENT_BYTES_MAX} bytes for a manifest") });
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            self.forget_damaged(digest);
            return Err(Error::DigestMismatch { what: path.display().to_string(), expected: digest.clone(), actual });
        }
        Ok(bytes)
    }

    /// Removes a blob found damaged on the disk, so that the next pull brings it again.
    pub(crate) fn forget_damaged(&self, digest: &Digest) {
        tracing::warn!(%digest, "a blob in the image store is damaged; it was removed and will be fetched again");
        let _ = fs::remove_file(self.blob_path(digest));
    }

    pub(crate) fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).doing("removing", &path),
        }
    }
}

/// Counts a file as new: the collector spares what is young.
fn touch(path: &std::path::Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}
