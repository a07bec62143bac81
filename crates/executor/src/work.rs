//! The executor's own work in a container of its own image: a `resource`, `http`, `data` or `plugin` template, or the removal
//! of artifacts. The task comes in a file, the outputs go out in one; it runs with the step's ServiceAccount and network, and sees no other Secret than those
//! that its environment brings.

use std::path::Path;

use serde_json::{Value, json};
use windlass_artifacts::Cancel;
use windlass_model::parameter::Outputs;
use windlass_model::places::EXIT_EXECUTOR;
use windlass_model::task::Task;

use crate::inputs::{Secrets, Stores};
use crate::{EXCHANGE_DIR, ExecutorError, data, garbage, http, plugin, resource};

/// The task, in [`EXCHANGE_DIR`].
pub const TASK_FILE: &str = "task.json";
/// The outputs (as `model::parameter::Outputs`), in [`EXCHANGE_DIR`].
pub const OUTPUTS_FILE: &str = "outputs.json";
/// What [`source`] has answered (JSON), in [`EXCHANGE_DIR`].
pub const SOURCE_FILE: &str = "source.json";

/// What has to be done in stores before the work begins, by whoever holds their Secrets; nothing where the task has no such
/// part. Blocks.
pub fn source(
    task: &Task,
    stores: &Stores,
    secrets: &Secrets,
    cancel: &Cancel,
) -> Result<Option<Value>, ExecutorError> {
    if task.garbage.is_empty() {
        return data::source(task, stores, secrets, cancel);
    }
    Ok(Some(json!(garbage::remove(&task.garbage, stores, secrets, cancel))))
}

/// Carries out the task in [`EXCHANGE_DIR`]; the exit code, which is Argo's executor's too.
pub fn main() -> i32 {
    match carry_out(Path::new(EXCHANGE_DIR)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            // What the workflow's message then shows.
            let text: String = error.chars().take(3000).collect();
            let _ = std::fs::write("/dev/termination-log", text);
            EXIT_EXECUTOR
        }
    }
}

fn carry_out(exchange: &Path) -> Result<(), String> {
    let file = exchange.join(TASK_FILE);
    let at = |file: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let bytes = std::fs::read(&file).map_err(|e| at(&file, &e))?;
    let task: Task = serde_json::from_slice(&bytes).map_err(|e| format!("the task cannot be read: {e}"))?;
    let (outputs, problem) = if let Some(http) = &task.http {
        http::run(http, &|name| std::env::var(name).ok())
    } else if let Some(asked) = &task.plugin {
        plugin::run(&task, asked)
    } else if task.has_source() {
        let file = exchange.join(SOURCE_FILE);
        let bytes = std::fs::read(&file).map_err(|e| at(&file, &e))?;
        let source = serde_json::from_slice(&bytes).map_err(|e| at(&file, &e))?;
        match &task.data {
            Some(data) => (data::transform(data, &source)?, None),
            None => garbage::told(&task.garbage, &source),
        }
    } else {
        (resource::step(task)?, None)
    };
    write(&exchange.join(OUTPUTS_FILE), &outputs)?;
    problem.map_or(Ok(()), Err)
}

fn write(file: &Path, outputs: &Outputs) -> Result<(), String> {
    let bytes = serde_json::to_vec(outputs).map_err(|e| e.to_string())?;
    std::fs::write(file, bytes).map_err(|e| format!("{}: {e}", file.display()))
}
