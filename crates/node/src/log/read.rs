//! The reading side: `kubectl logs` with its options, as a stream of bytes.

use super::write::Progress;
use bytes::Bytes;
use futures::Stream;
use futures::stream;
use jiff::Timestamp;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use tokio::sync::watch;

/// What `kubectl logs` asks for.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Go on while the container runs.
    pub follow: bool,
    /// The run before the current one.
    pub previous: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
    /// No more bytes than this.
    pub limit_bytes: Option<u64>,
}

/// Why there is no log to read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The container has not started (or has not run before, where the previous run was asked for).
    #[error("{0}")]
    NotStarted(String),
    /// The file could not be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] std::io::Error),
}

/// The bytes of a log.
pub type LogStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

struct Reader {
    file: File,
    pending: Vec<u8>,
    options: LogOptions,
    left: u64,
    progress: Option<watch::Receiver<Progress>>,
    /// What comes next begins a line of the container's output.
    fresh: bool,
}

/// Opens the log at `path`. `progress` is there while the container runs.
pub(crate) fn open(
    path: &Path,
    options: LogOptions,
    progress: Option<watch::Receiver<Progress>>,
) -> std::io::Result<LogStream> {
    let mut file = File::open(path)?;
    if let Some(lines) = options.tail_lines {
        seek_tail(&mut file, lines)?;
    }
    let left = options.limit_bytes.unwrap_or(u64::MAX);
    let progress = progress.filter(|_| options.follow);
    let reader = Reader { file, pending: Vec::new(), options, left, progress, fresh: true };
    Ok(Box::pin(stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|bytes| (bytes, reader)))
    })))
}

impl Reader {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            // Looked at before reading: what was written before closing is then read.
            let closed = self.progress.as_mut().is_none_or(|p| {
                let state = *p.borrow_and_update();
                state.closed
            });
            let mut chunk = vec![0u8; 64 * 1024];
            let read = self.file.read(&mut chunk)?;
            if read > 0 {
                self.pending.extend_from_slice(&chunk[..read]);
                let mut output = self.render();
                if !output.is_empty() {
                    output.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= output.len() as u64;
                    return Ok(Some(output.into()));
                }
                continue;
            }
            match &mut self.progress {
                Some(progress) if !closed => {
                    if progress.changed().await.is_err() {
                        self.progress = None;
                    }
                }
                _ => return Ok(None),
            }
        }
    }

    fn render(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        let mut consumed = 0;
        while let Some(end) = self.pending[consumed..].iter().position(|b| *b == b'\n') {
            let line = &self.pending[consumed..consumed + end];
            consumed += end + 1;
            let Some((time, full, text)) = parse(line) else { continue };
            if let Some(since) = self.options.since {
                let at = std::str::from_utf8(time).ok().and_then(|t| t.parse::<Timestamp>().ok());
                if at.is_none_or(|at| at < since) {
                    continue;
                }
            }
            if self.options.timestamps && self.fresh {
                output.extend_from_slice(time);
                output.push(b' ');
            }
            output.extend_from_slice(text);
            if full {
                output.push(b'\n');
            }
            self.fresh = full;
        }
        self.pending.drain(..consumed);
        output
    }
}

/// The time, whether the line is full, and the text.
fn parse(line: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = parts.next()?;
    let _stream = parts.next()?;
    let full = parts.next()? == b"F";
    Some((time, full, parts.next()?))
}

fn seek_tail(file: &mut File, lines: u64) -> std::io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut seen = 0;
    let mut buffer = vec![0u8; 64 * 1024];
    // Counts from the end; the newline that ends the last line is not counted, hence `>`.
    while end > 0 {
        let size = end.min(buffer.len() as u64);
        end -= size;
        file.seek(SeekFrom::Start(end))?;
        let part = &mut buffer[..usize::try_from(size).unwrap_or(0)];
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            if *byte == b'\n' {
                seen += 1;
                if seen > lines {
                    file.seek(SeekFrom::Start(end + index as u64 + 1))?;
                    return Ok(());
                }
            }
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// The last lines of a log, at most `lines` and `bytes`, for a termination message.
pub(crate) fn last_lines(path: &Path, lines: u64, bytes: usize) -> Option<String> {
    let mut file = File::open(path).ok()?;
    seek_tail(&mut file, lines).ok()?;
    let mut raw = Vec::new();
    file.read_to_end(&mut raw).ok()?;
    let options = LogOptions::default();
    let mut reader = Reader { file, pending: raw, options, left: u64::MAX, progress: None, fresh: true };
    let text = reader.render();
    let text = &text[text.len().saturating_sub(bytes)..];
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::write::{Captured, Writer, pump};
    use super::*;
    use futures::TryStreamExt;
    use std::sync::{Arc, Mutex};

    async fn read(path: &Path, options: LogOptions) -> String {
        let chunks: Vec<Bytes> = open(path, options, None).unwrap().try_collect().await.unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    }

    async fn written(input: &[u8]) -> (tempfile::TempDir, std::path::PathBuf, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.log");
        let writer = Arc::new(Writer::create(&path).unwrap());
        let captured = Arc::new(Mutex::new(Captured::new(8)));
        pump(input, "stdout", writer, captured.clone()).await;
        let kept = captured.lock().unwrap().text();
        (dir, path, kept)
    }

    #[tokio::test]
    async fn lines_go_out_as_they_came_in() {
        let (_dir, path, kept) = written(b"one\ntwo\n\nthree").await;
        assert_eq!(read(&path, LogOptions::default()).await, "one\ntwo\n\nthree");
        assert_eq!(kept, "o\n\nthree");
        let tail = LogOptions { tail_lines: Some(2), ..LogOptions::default() };
        assert_eq!(read(&path, tail).await, "\nthree");
        let limit = LogOptions { limit_bytes: Some(5), ..LogOptions::default() };
        assert_eq!(read(&path, limit).await, "one\nt");
        let timed = LogOptions { timestamps: true, tail_lines: Some(1), ..LogOptions::default() };
        let text = read(&path, timed).await;
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok() && rest == "three", "{text}");
        let later = LogOptions { since: Some(Timestamp::MAX), ..LogOptions::default() };
        assert_eq!(read(&path, later).await, "");
        assert_eq!(last_lines(&path, 2, 4).unwrap(), "hree");
    }

    #[tokio::test]
    async fn long_lines_are_split_and_joined_again() {
        let long = [vec![b'x'; 40_000], b"\nend\n".to_vec()].concat();
        let (_dir, path, _) = written(&long).await;
        let raw = std::fs::read_to_string(&path).unwrap();
        let marks: Vec<&str> = raw.lines().map(|l| l.split(' ').nth(2).unwrap()).collect();
        assert_eq!(marks, ["P", "P", "F", "F"]);
        assert_eq!(read(&path, LogOptions::default()).await.as_bytes(), long);
    }

    #[tokio::test]
    async fn following_ends_when_the_log_closes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.log");
        let writer = Arc::new(Writer::create(&path).unwrap());
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let stream = open(&path, options, Some(writer.follow())).unwrap();
        let task = tokio::spawn(stream.try_collect::<Vec<Bytes>>());
        for _ in 0..3 {
            tokio::task::yield_now().await;
            writer.text("stdout", "tick");
        }
        writer.close();
        let chunks = tokio::time::timeout(std::time::Duration::from_secs(5), task).await.unwrap().unwrap().unwrap();
        assert_eq!(chunks.concat(), b"tick\ntick\ntick\n");
    }
}
