//! What is to be sent, on disk first: a request says how long it is, may be made again, and memory stays small. It must
//! never know where the bytes go.

use std::fs::File;
use std::io::{Read, Seek};

use super::StoreError;
use crate::cancel::Cancel;

/// Bytes on disk, so that their number is known and a request can be made again.
pub(super) struct Spool {
    file: File,
    /// How many.
    pub(super) bytes: u64,
}

impl Spool {
    /// Reads all there is. Nothing is left of it when that was cancelled.
    pub(super) fn of(reader: &mut dyn Read, shown: &str, cancel: &Cancel) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { key: shown.to_owned(), source };
        let mut file = tempfile::tempfile().map_err(io)?;
        let mut watched = Watched { reader, cancel };
        let bytes = std::io::copy(&mut watched, &mut file);
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled);
        }
        Ok(Self { bytes: bytes.map_err(io)?, file })
    }

    /// All of it as a request's body.
    pub(super) fn body(&self) -> Result<reqwest::blocking::Body, StoreError> {
        self.part(0, self.bytes)
    }

    /// A part of it. Bodies share the file's place, so there is one at a time.
    pub(super) fn part(&self, from: u64, bytes: u64) -> Result<reqwest::blocking::Body, StoreError> {
        let io = |source| StoreError::Io { key: "spool".to_owned(), source };
        let mut file = self.file.try_clone().map_err(io)?;
        file.seek(std::io::SeekFrom::Start(from)).map_err(io)?;
        Ok(reqwest::blocking::Body::sized(file.take(bytes), bytes))
    }
}

/// Ends the reading when it is cancelled.
struct Watched<'a> {
    reader: &'a mut dyn Read,
    cancel: &'a Cancel,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(std::io::Error::other("cancelled"));
        }
        self.reader.read(buffer)
    }
}
