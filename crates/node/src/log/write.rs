//! The writing side: what a container prints becomes lines of its log file. A full disk loses lines, never the container.

use super::LINE_MAX;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// How far a log file has come, for those who follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    pub(crate) closed: bool,
}

/// One container's log file; several streams write to it.
pub(crate) struct Writer {
    inner: Mutex<Inner>,
    progress: watch::Sender<Progress>,
}

struct Inner {
    file: File,
    line: Vec<u8>,
    failed: bool,
}

/// The last bytes of one stream, for `outputs.result` and termination messages.
#[derive(Debug)]
pub(crate) struct Captured {
    bytes: VecDeque<u8>,
    max: usize,
}

impl Captured {
    pub(crate) fn new(max: usize) -> Self {
        Self { bytes: VecDeque::new(), max }
    }

    fn push(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(self.max)..];
        let excess = (self.bytes.len() + chunk.len()).saturating_sub(self.max);
        self.bytes.drain(..excess);
        self.bytes.extend(chunk);
    }

    /// The text, without one trailing newline.
    pub(crate) fn text(&mut self) -> String {
        let bytes: &[u8] = self.bytes.make_contiguous();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        String::from_utf8_lossy(bytes).into_owned()
    }
}

impl Writer {
    /// A new file at `path`, in a directory that is there.
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        let inner = Mutex::new(Inner { file, line: Vec::new(), failed: false });
        Ok(Self { inner, progress: watch::Sender::new(Progress { bytes, closed: false }) })
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// No more lines will come.
    pub(crate) fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Writes one line, or a part of one where not `full`.
    fn line(&self, now: Timestamp, stream: &str, text: &[u8], full: bool) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Inner { file, line, failed } = &mut *inner;
        line.clear();
        // Nine digits always, so that lines align and sort as text.
        let _ = write!(line, "{now:.9} {stream} {} ", if full { 'F' } else { 'P' });
        line.extend_from_slice(text);
        line.push(b'\n');
        match file.write_all(line) {
            Ok(()) => {
                *failed = false;
                let written = line.len() as u64;
                self.progress.send_modify(|progress| progress.bytes += written);
            }
            Err(error) => {
                if !*failed {
                    tracing::warn!(%error, "a container's log line was lost");
                }
                *failed = true;
            }
        }
    }

    /// Writes text of ours (a builder's output, say) as whole lines.
    pub(crate) fn text(&self, stream: &str, text: &str) {
        for line in text.lines() {
            self.line(Timestamp::now(), stream, line.as_bytes(), true);
        }
    }
}

/// Copies `source` into the log until it ends; answers what `captured` asked to keep.
pub(crate) async fn pump(
    mut source: impl AsyncRead + Unpin,
    stream: &'static str,
    writer: std::sync::Arc<Writer>,
    captured: std::sync::Arc<Mutex<Captured>>,
) {
    let mut buffer = vec![0u8; 2 * LINE_MAX];
    let mut held = 0;
    loop {
        let read = match source.read(&mut buffer[held..]).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        captured.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(&buffer[held..held + read]);
        let filled = held + read;
        let now = Timestamp::now();
        let mut begin = 0;
        while begin < filled {
            let rest = &buffer[begin..filled];
            match rest.iter().take(LINE_MAX + 1).position(|b| *b == b'\n') {
                Some(end) => {
                    writer.line(now, stream, &rest[..end], true);
                    begin += end + 1;
                }
                None if rest.len() >= LINE_MAX => {
                    writer.line(now, stream, &rest[..LINE_MAX], false);
                    begin += LINE_MAX;
                }
                None => break,
            }
        }
        buffer.copy_within(begin..filled, 0);
        held = filled - begin;
    }
    if held > 0 {
        // What ends without a newline stays a part; readers then add none.
        writer.line(Timestamp::now(), stream, &buffer[..held], false);
    }
}
