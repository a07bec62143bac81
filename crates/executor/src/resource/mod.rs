//! A `resource` template's work: create, apply, patch, replace, delete or get one object, wait for its conditions, and
//! write its outputs. Runs in the step's Pod, with the Pod's ServiceAccount, against the API that the Pod sees.

mod action;
mod condition;
mod path;

pub use action::{Outcome, run};
pub use condition::Condition;
pub use path::JsonPath;

use crate::EXCHANGE_DIR;
use std::path::Path;
use windlass_model::task::Task;

/// The task, in [`EXCHANGE_DIR`].
pub const TASK_FILE: &str = "task.json";
/// The outputs (as `model::parameter::Outputs`), in [`EXCHANGE_DIR`].
pub const OUTPUTS_FILE: &str = "outputs.json";

/// Why a resource step failed.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The template asks for something that is not there or not supported.
    #[error("{0}")]
    Template(String),
    /// The API said no.
    #[error("{doing}: {}", words(source))]
    Api {
        /// The action and the object.
        doing: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// The failure condition came true.
    #[error("failure condition '{0}' evaluated true")]
    FailureCondition(String),
    /// A file of the exchange.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

/// What the API said, as kubectl shows it.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Carries out the task in [`EXCHANGE_DIR`]; the exit code.
pub fn main() -> i32 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("resource: {error}");
            return 1;
        }
    };
    match runtime.block_on(step(Path::new(EXCHANGE_DIR))) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            // What the workflow's message then shows.
            let _ = std::fs::write("/dev/termination-log", error.to_string());
            1
        }
    }
}

async fn step(exchange: &Path) -> Result<(), ResourceError> {
    let file = exchange.join(TASK_FILE);
    let bytes = std::fs::read(&file).map_err(|e| ResourceError::Io(file.display().to_string(), e))?;
    let task: Task =
        serde_json::from_slice(&bytes).map_err(|e| ResourceError::Template(format!("the task cannot be read: {e}")))?;
    windlass_artifacts::git::ensure_tls();
    let config = kube::Config::incluster().map_err(|e| {
        ResourceError::Template(format!("no API to talk to (is automountServiceAccountToken off?): {e}"))
    })?;
    let namespace = config.default_namespace.clone();
    let client = kube::Client::try_from(config)
        .map_err(|e| ResourceError::Api { doing: "connecting".into(), source: Box::new(e) })?;
    let outcome = run(&client, &namespace, &task).await?;
    println!("{}", outcome.summary);
    let file = exchange.join(OUTPUTS_FILE);
    let bytes = serde_json::to_vec(&outcome.outputs).map_err(|e| ResourceError::Template(e.to_string()))?;
    std::fs::write(&file, bytes).map_err(|e| ResourceError::Io(file.display().to_string(), e))
}
