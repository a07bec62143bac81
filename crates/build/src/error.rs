//! What can go wrong with a build: faults of the user's text, a step that failed, the world. Each with the exit code that
//! the builder's process ends with.

use std::io;
use std::sync::Arc;

use windlass_lang::{Diagnostic, Sources};

/// Why there is no image.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The Dockerfile or the command line is wrong; all faults at once.
    #[error("{}", said(.diagnostics, .sources))]
    Invalid {
        /// The faults.
        diagnostics: Vec<Diagnostic>,
        /// The texts that they point into.
        sources: Sources,
    },
    /// A command of a `RUN` ended with another exit code than 0.
    #[error("{step}: the command ended with exit code {code}")]
    Command {
        /// The step, as the log names it.
        step: String,
        /// The command's exit code.
        code: i32,
    },
    /// A step could not be carried out.
    #[error("{step}: {cause}")]
    Step {
        /// The step, as the log names it.
        step: String,
        /// Why.
        cause: Fault,
    },
    /// The image could not be put together, pushed or written.
    #[error("{doing}: {cause}")]
    Output {
        /// What was being done.
        doing: String,
        /// Why not.
        cause: Fault,
    },
    /// The caller stopped the build.
    #[error("the build was stopped")]
    Cancelled,
}

fn said(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    windlass_lang::render(diagnostics, sources, false).trim_end().to_owned()
}

impl BuildError {
    /// The exit code of a builder's process: that of the command that failed, 130 when stopped, or else 1.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Command { code, .. } => *code,
            Self::Step { cause: Fault::Sandbox(e), .. } => e.exit_code(),
            Self::Cancelled => 130,
            _ => 1,
        }
    }
}

/// Why a step failed. Cheap to clone: several stages may wait for the one that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The image store or a registry.
    #[error(transparent)]
    Oci(#[from] Arc<windlass_oci::Error>),
    /// The container.
    #[error(transparent)]
    Sandbox(#[from] Arc<windlass_sandbox::Error>),
    /// The disk or the system.
    #[error("{what}: {}", words(.source))]
    Io {
        /// What was being done, with the path.
        what: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The step cannot be carried out as written.
    #[error("{0}")]
    Said(String),
    /// The caller stopped the build.
    #[error("stopped")]
    Cancelled,
    /// A `RUN` command's exit code.
    #[error("exit code {0}")]
    Exit(i32),
}

impl Fault {
    pub(crate) fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }

    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: Arc::new(source.into()) }
    }
}

impl From<windlass_oci::Error> for Fault {
    fn from(error: windlass_oci::Error) -> Self {
        Self::Oci(Arc::new(error))
    }
}

impl From<windlass_sandbox::Error> for Fault {
    fn from(error: windlass_sandbox::Error) -> Self {
        Self::Sandbox(Arc::new(error))
    }
}

/// The error without Rust's ` (os error 2)`.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.find(" (os error ").map_or(text.clone(), |at| text[..at].to_owned())
}

/// Attaches what was being done to an IO result.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Fault> {
        self.map_err(|e| Fault::io(what(), e))
    }
}
