//! What can go wrong, each as the step that failed and the operating system's own words.
//! It never guesses: a start error names the program or path that the kernel refused.

use std::{fmt, io};

/// Why a host could not be entered, or a process not be started or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step of starting the process failed inside the new namespaces: `exec /bin/foo: No such file or directory`.
    #[error("{0}")]
    Start(StartError),
    /// The specification cannot be carried out as written.
    #[error("{0}")]
    Spec(String),
    /// A step outside of the container failed.
    #[error("{step}: {}", words(.source))]
    Io {
        /// What was being done, with the path where there is one.
        step: String,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// The spawner, the process that starts containers, has ended; nothing can be started any more by this host.
    #[error("the sandbox's spawner has ended: {0}")]
    Gone(String),
    /// The kernel or its configuration has no such feature; the text says what to do about it.
    #[error("{0}")]
    Unsupported(String),
}

/// A step of a start that failed, with its errno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// The step, naming its object: `exec /bin/foo`, `mount /proc`, `user 1000`.
    pub step: String,
    /// The errno.
    pub errno: i32,
    /// True where the program itself could not be executed (as opposed to its container not being set up).
    pub exec: bool,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, words(&io::Error::from_raw_os_error(self.errno)))
    }
}

impl Error {
    /// The exit code by convention: 127 for a program that is not there, 126 for one that cannot be executed,
    /// 128 for everything that failed before it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Start(start) if start.exec && matches!(start.errno, libc::ENOENT | libc::ENOTDIR) => 127,
            Error::Start(start) if start.exec => 126,
            _ => 128,
        }
    }

    pub(crate) fn io(step: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Io { step: step.into(), source: source.into() }
    }
}

/// The error without Rust's ` (os error 2)`.
pub(crate) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Attach the step to an IO result.
pub(crate) trait Step<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|e| Error::io(step(), e))
    }
}
