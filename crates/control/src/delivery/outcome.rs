//! What became of a delivery, as its status says it. The reasons are the stable words that people and tests look for.

use windlass_artifacts::git::GitError;
use windlass_lang::{Diagnostic, Sources};
use windlass_model::delivery::{DeliveryPhase, DeliveryStatus, DeliveryWorkflow};

/// The end of one attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Finished, with this status.
    Done(Box<DeliveryStatus>),
    /// The world was not ready.
    Retry {
        /// One word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
}

impl Outcome {
    pub(super) fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self::Done(Box::new(status(DeliveryPhase::Failed, reason, message)))
    }

    pub(super) fn ignored(reason: &str, message: impl Into<String>) -> Self {
        Self::Done(Box::new(status(DeliveryPhase::Ignored, reason, message)))
    }

    pub(super) fn submitted(workflow: Option<DeliveryWorkflow>, message: String) -> Self {
        let mut status = status(DeliveryPhase::Submitted, "Created", message);
        status.workflow = workflow;
        Self::Done(Box::new(status))
    }

    /// The manifest's faults, all of them: rendered for people, and as data.
    pub(super) fn invalid(diagnostics: &[Diagnostic], sources: &Sources) -> Self {
        let rendered = windlass_lang::render(diagnostics, sources, false);
        let mut status = status(DeliveryPhase::Failed, "InvalidManifest", rendered.trim_end());
        status.diagnostics = match windlass_lang::to_json(diagnostics, sources) {
            serde_json::Value::Array(items) => items,
            other => vec![other],
        };
        Self::Done(Box::new(status))
    }

    /// What a repository answered.
    pub(super) fn from_git(error: &GitError) -> Self {
        let message = error.to_string();
        match error {
            GitError::Unreachable { .. } => Self::Retry { reason: "HostUnreachable", message },
            GitError::NoFile { .. } => Self::ignored("MissingManifest", message),
            GitError::NoRevision { .. } => Self::failed("MissingRevision", message),
            GitError::Denied { .. } => Self::failed("RepositoryDenied", message),
            GitError::Refused(_) => Self::failed("PathNotAllowed", message),
            GitError::BadUrl { .. } | GitError::Unsupported { .. } => Self::failed("UnsupportedRepository", message),
            // Our own disk: full, perhaps; that passes.
            GitError::Io { .. } | GitError::Cancelled => Self::Retry { reason: "FetchFailed", message },
            GitError::Broken { .. } => Self::failed("FetchFailed", message),
        }
    }
}

fn status(phase: DeliveryPhase, reason: &str, message: impl Into<String>) -> DeliveryStatus {
    DeliveryStatus {
        phase,
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        ..DeliveryStatus::default()
    }
}
