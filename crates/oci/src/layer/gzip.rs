//! Gzip on several threads: blocks of one size, each compressed for itself and put into one member in their order. The
//! same input gives the same bytes on any number of cores. Holds a few blocks, whatever the size of what is written.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress};

const BLOCK_BYTES: usize = 256 << 10;
const LEVEL: Compression = Compression::new(6);
/// What the start of a block must shrink to (in hundredths) for the block to be compressed: the rest of archives, images
/// and keys is as good as random, and is stored as it is.
const WORTH: usize = 97;
const SAMPLE_BYTES: usize = 8 << 10;

/// No file name, no time, "unknown" system: the same input gives the same bytes everywhere.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses what is written to it into another writer.
pub(super) struct GzipWriter<W: Write> {
    out: W,
    block: Vec<u8>,
    crc: Crc,
    threads: Option<Threads>,
    /// For what is small: no thread is started then.
    here: Option<Worker>,
}

struct Threads {
    jobs: SyncSender<Job>,
    running: VecDeque<Receiver<Done>>,
    /// Buffers to be filled again.
    spare: Vec<Vec<u8>>,
    most: usize,
}

struct Job {
    block: Vec<u8>,
    done: SyncSender<Done>,
}

struct Done {
    plain: Vec<u8>,
    packed: io::Result<Vec<u8>>,
    crc: Crc,
}

impl<W: Write> GzipWriter<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        Ok(Self { out, block: Vec::with_capacity(BLOCK_BYTES), crc: Crc::new(), threads: None, here: None })
    }

    /// Writes the end; the writer below then has everything.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if let Some(mut threads) = self.threads.take() {
            while let Some(next) = threads.running.pop_front() {
                take(&next, &mut self.out, &mut self.crc)?;
            }
        }
        let mut worker = self.here.take().unwrap_or_else(Worker::new);
        let last = worker.deflate(&self.block, FlushCompress::Finish)?;
        self.out.write_all(&last)?;
        self.crc.update(&self.block);
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    /// Hands a whole block on.
    fn hand_on(&mut self) -> io::Result<()> {
        if self.threads.is_none() {
            self.threads = Some(Threads::start()?);
        }
        let Some(threads) = &mut self.threads else { return Ok(()) };
        if threads.running.len() >= threads.most
            && let Some(next) = threads.running.pop_front()
        {
            threads.spare.push(take(&next, &mut self.out, &mut self.crc)?);
        }
        let mut empty = threads.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES));
        empty.clear();
        let block = std::mem::replace(&mut self.block, empty);
        let (done, result) = sync_channel(1);
        threads.jobs.send(Job { block, done }).map_err(|_| gone())?;
        threads.running.push_back(result);
        Ok(())
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only when more comes: the last block is the one that ends the stream.
        if self.block.len() == BLOCK_BYTES {
            self.hand_on()?;
        }
        let count = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn take(from: &Receiver<Done>, out: &mut impl Write, crc: &mut Crc) -> io::Result<Vec<u8>> {
    let done = from.recv().map_err(|_| gone())?;
    out.write_all(&done.packed?)?;
    crc.combine(&done.crc);
    Ok(done.plain)
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

impl Threads {
    /// They end when `jobs` is dropped.
    fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(1, 4));
        let (jobs, queue) = sync_channel::<Job>(count);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let queue = queue.clone();
            std::thread::Builder::new().name("layer-deflate".to_owned()).spawn(move || {
                let mut worker = Worker::new();
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { block, done }) = next else { return };
                    let packed = worker.deflate(&block, FlushCompress::Sync);
                    let mut crc = Crc::new();
                    crc.update(&block);
                    // The writer may have been dropped.
                    let _ = done.send(Done { plain: block, packed, crc });
                }
            })?;
        }
        Ok(Self { jobs, running: VecDeque::new(), spare: Vec::new(), most: count + 1 })
    }
}

/// The state of one compressor.
struct Worker {
    packing: Compress,
    storing: Compress,
}

impl Worker {
    fn new() -> Self {
        Self { packing: Compress::new(LEVEL, false), storing: Compress::new(Compression::none(), false) }
    }

    fn deflate(&mut self, block: &[u8], end: FlushCompress) -> io::Result<Vec<u8>> {
        let sample = &block[..block.len().min(SAMPLE_BYTES)];
        let worth = block.len() < BLOCK_BYTES
            || run(&mut self.packing, sample, FlushCompress::Finish)?.len() * 100 < sample.len() * WORTH;
        run(if worth { &mut self.packing } else { &mut self.storing }, block, end)
    }
}

fn run(state: &mut Compress, input: &[u8], end: FlushCompress) -> io::Result<Vec<u8>> {
    state.reset();
    let mut out = Vec::with_capacity(input.len() / 2 + 1024);
    loop {
        let at = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let status = state.compress_vec(&input[at..], &mut out, end).map_err(io::Error::other)?;
        let all = state.total_in() == input.len() as u64;
        // A flush is complete when it leaves room.
        if status == flate2::Status::StreamEnd || (all && end != FlushCompress::Finish && out.len() < out.capacity()) {
            return Ok(out);
        }
        out.reserve(out.capacity().max(1024));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    fn packed(plain: &[u8], chunk: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new()).unwrap();
        for part in plain.chunks(chunk) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap()
    }

    /// A sequence without a pattern, and one with.
    fn texts(length: usize) -> [Vec<u8>; 2] {
        let mut seed = 7_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 24) as u8
        };
        let random: Vec<u8> = (0..length).map(|_| next()).collect();
        let text = random.iter().map(|b| b'a' + b % 4).collect();
        [random, text]
    }

    #[test]
    fn one_member_that_any_reader_understands_and_always_the_same() {
        for length in [0, 1, 511, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 5 * BLOCK_BYTES + 77]
        {
            for (kind, plain) in texts(length).into_iter().enumerate() {
                let first = packed(&plain, 1 << 16);
                assert_eq!(first, packed(&plain, 4099), "{length}");
                let mut back = Vec::new();
                // Not the decoder for several members: what follows the first would be missed.
                flate2::read::GzDecoder::new(&first[..]).read_to_end(&mut back).unwrap();
                assert!(back == plain, "{length}");
                let most = if kind == 0 { plain.len() + plain.len() / 1000 + 64 } else { plain.len() / 3 + 64 };
                assert!(first.len() <= most, "{length}: {} bytes", first.len());
            }
        }
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let [random, _] = texts(8 * BLOCK_BYTES);
        let mut writer = GzipWriter::new(Full(BLOCK_BYTES * 2)).unwrap();
        let ended = writer.write_all(&random).and_then(|()| writer.finish().map(drop));
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
