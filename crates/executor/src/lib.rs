//! What a step needs beside its containers: inputs before, outputs after, and the work of `resource` templates.
//!
//! Inputs are staged by the node agent ([`inputs`]); archives among them are unpacked by a confined worker. Outputs are
//! read by a *confined worker* too: this program, executed in a sandbox over the step's own root filesystem and volumes
//! ([`worker`]), so that no symbolic link of the step's making leads anywhere; the agent only sees a stream of frames
//! ([`outputs`]). The work of a `resource`, `http` or `data` template runs in its Pod, with its ServiceAccount ([`work`]).
//!
//! In the `pod` form of a step the executor is in the pod itself ([`pod`]): an init container, a supervisor, and a wrapper
//! in front of the user's command.
//!
//! It must never know where the API lives; nothing but the wrapper runs a user's program.

pub mod data;
pub mod frame;
pub mod garbage;
pub mod http;
pub mod inputs;
pub mod outputs;
pub mod plugin;
pub mod pod;
pub mod progress;
pub mod report;
pub mod resource;
pub mod work;
pub mod worker;

use std::path::PathBuf;

/// `argv[0]` of the confined worker that reads outputs.
pub const COLLECT_ROLE: &str = "windlass-collect";
/// `argv[0]` of the process that carries out a `resource`, `http` or `data` template.
pub const WORK_ROLE: &str = "windlass-work";
/// The directory in the container of a step that is the executor's own work ([`work`]) that the agent gives: the task in, the outputs out.
pub const EXCHANGE_DIR: &str = "/var/run/windlass";
/// The repository of the internal image, whose root holds nothing but this program.
pub const EXECUTOR_IMAGE: &str = "windlass.dev/executor";

/// Runs the role in which this program was executed by itself, or in a pod (`windlass executor ROLE`), and answers its
/// exit code; `None` for the user's own invocation. Call it first in `main`, before any thread is started.
pub fn early() -> Option<i32> {
    let mut words = std::env::args_os();
    match words.next()?.to_str() {
        Some(COLLECT_ROLE) => return Some(worker::main()),
        Some(windlass_artifacts::archive::worker::ROLE) => return Some(windlass_artifacts::archive::worker::main()),
        Some(WORK_ROLE) => return Some(work::main()),
        _ => {}
    }
    let words: Vec<std::ffi::OsString> = words.collect();
    let (verb, rest) = words.split_first()?;
    (verb == windlass_model::places::VERB).then(|| pod::main(rest))
}

/// Whether this image is the internal one.
pub fn is_executor_image(image: &str) -> bool {
    image.strip_prefix(EXECUTOR_IMAGE).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']))
}

/// Why a step's inputs did not arrive or its outputs were not kept. The text names the parameter or artifact.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The task cannot be read.
    #[error("the step's task cannot be read: {0}")]
    Task(String),
    /// An artifact's location is wrong.
    #[error(transparent)]
    Location(#[from] windlass_artifacts::location::LocationError),
    /// An artifact could not be moved.
    #[error("{direction} artifact {name:?}: {source}")]
    Transfer {
        /// `input` or `output`.
        direction: &'static str,
        /// The artifact.
        name: String,
        /// The cause.
        source: Box<windlass_artifacts::transfer::TransferError>,
    },
    /// An output is not there, or cannot be read.
    #[error("output {kind} {name:?}: {problem}")]
    Output {
        /// `parameter` or `artifact`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// An artifact's path cannot be used.
    #[error("artifact {name:?}: {problem}")]
    Path {
        /// The artifact.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The worker broke off.
    #[error("reading the step's outputs: {0}")]
    Worker(std::io::Error),
    /// The disk of this machine.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Several of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<ExecutorError>),
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
}
