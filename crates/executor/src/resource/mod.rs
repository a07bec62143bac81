//! A `resource` template's work: create, apply, patch, replace, delete or get what its manifest or its flags name, wait for
//! its conditions, and write its outputs. Runs in the step's Pod, with the Pod's ServiceAccount, against the API that the Pod sees.

mod action;
mod condition;
mod flags;
mod path;
mod target;

pub use action::{Outcome, run};
pub use condition::Condition;
pub use path::JsonPath;

use windlass_model::parameter::Outputs;
use windlass_model::task::Task;

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
}

impl ResourceError {
    /// Whether the object is not there.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(s) if s.code == 404))
    }

    /// Whether asking again may help.
    fn is_transient(&self) -> bool {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => status.code == 429 || status.code >= 500,
                _ => true,
            },
            _ => false,
        }
    }
}

/// What the API said, as kubectl shows it.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Carries out the task's resource template with this Pod's ServiceAccount; what it made.
pub(crate) fn step(task: Task) -> Result<Outputs, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("resource: {e}"))?;
    windlass_artifacts::git::ensure_tls();
    let outcome = runtime.block_on(async {
        let config = kube::Config::incluster().map_err(|e| {
            ResourceError::Template(format!("no API to talk to (is automountServiceAccountToken off?): {e}"))
        })?;
        let namespace = config.default_namespace.clone();
        let client = kube::Client::try_from(config)
            .map_err(|e| ResourceError::Api { doing: "connecting".into(), source: Box::new(e) })?;
        run(&client, &namespace, &task).await
    });
    let outcome = outcome.map_err(|e| e.to_string())?;
    println!("{}", outcome.summary);
    Ok(outcome.outputs)
}
