//! Where a build's output goes: its own progress, and what the steps print. Decides nothing about looks.

use std::sync::Arc;

/// What a piece of output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The builder's own words: whole lines, without the line's end.
    Progress,
    /// A step's standard output, as it comes.
    Out,
    /// A step's standard error, as it comes.
    Err,
}

/// Takes a build's output. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Write>);

type Write = dyn Fn(Stream, &str) + Send + Sync;

impl Log {
    /// A log that hands each text to `write`.
    pub fn new(write: impl Fn(Stream, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// A log that nobody reads.
    pub fn none() -> Self {
        Self::new(|_, _| {})
    }

    /// One line of progress.
    pub fn line(&self, text: impl AsRef<str>) {
        (self.0)(Stream::Progress, text.as_ref());
    }

    /// A piece of a step's output.
    pub(crate) fn write(&self, stream: Stream, text: &str) {
        (self.0)(stream, text);
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}
