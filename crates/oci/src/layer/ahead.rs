//! Decompression on a thread of its own, ahead of whoever reads: inflating and writing files take about as long as each
//! other. Holds a fixed number of buffers, whatever the archive says.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::reader::decompress;
use crate::digest::Hasher;
use crate::media::Compression;
use crate::{Digest, Error, Result};

const BUFFER_BYTES: usize = 1 << 18;
const BUFFERS: usize = 4;

/// What was decompressed, as a reader. Dropped, the thread ends.
pub(super) struct Ahead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    now: Vec<u8>,
    at: usize,
}

/// The thread; it answers the digest of the archive as it came, once everything was read.
pub(super) type Thread<'scope> = ScopedJoinHandle<'scope, Result<Digest>>;

/// Starts to decompress.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    archive: impl Read + Send + 'scope,
    compression: Compression,
) -> Result<(Ahead, Thread<'scope>)> {
    let (full, from) = sync_channel(BUFFERS);
    let (back, empty) = channel();
    for _ in 0..BUFFERS {
        // The receiver is right here.
        let _ = back.send(Vec::new());
    }
    let work = move || run(archive, compression, &full, &empty);
    let thread = std::thread::Builder::new().name("layer-inflate".to_owned()).spawn_scoped(scope, work);
    let thread = thread.map_err(|e| Error::io("starting a thread to decompress a layer", e))?;
    Ok((Ahead { full: from, empty: back, now: Vec::new(), at: 0 }, thread))
}

fn run(
    archive: impl Read,
    compression: Compression,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Digest> {
    let mut blob = Hashing { input: archive, hasher: Hasher::new() };
    {
        let mut plain = decompress(&mut blob, compression)?;
        // Nobody reads any more when a channel is closed: the reader has said why.
        while let Ok(mut buffer) = empty.recv() {
            buffer.resize(BUFFER_BYTES, 0);
            let read = fill(&mut plain, &mut buffer);
            let ended = !matches!(read, Ok(count) if count == BUFFER_BYTES);
            let sent = full.send(read.map(|count| {
                buffer.truncate(count);
                buffer
            }));
            if ended || sent.is_err() {
                break;
            }
        }
    }
    // What follows the compressed data counts for the digest too.
    io::copy(&mut blob, &mut io::sink()).map_err(|e| Error::io("reading a layer", e))?;
    Ok(blob.hasher.finish())
}

/// As much as there is.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.now.len() {
            // It may have ended.
            let _ = self.empty.send(std::mem::take(&mut self.now));
            self.at = 0;
            match self.full.recv() {
                Ok(more) => self.now = more?,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.now.len() - self.at);
        buffer[..count].copy_from_slice(&self.now[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Hashes what is read.
struct Hashing<R> {
    input: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
