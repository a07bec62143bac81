//! Outputs: what the worker's frames hold becomes parameters and stored artifacts. The agent's side; it opens no path of
//! the step.

use crate::ExecutorError;
use crate::frame::{DataReader, Frame};
use crate::inputs::{Secrets, Stores, value};
use crate::worker::{Item, Request};
use std::io::Read;
use windlass_artifacts::Cancel;
use windlass_artifacts::archive::Strategy;
use windlass_artifacts::location::Location;
use windlass_artifacts::store::Payload;
use windlass_model::artifact::Artifact;
use windlass_model::parameter::{Outputs, Parameter};
use windlass_model::task::Task;

/// The largest output parameter.
pub const PARAMETER_BYTES_MAX: u64 = 256 * 1024;

/// What the worker must read; `None` where the task has no output by path.
pub fn request(task: &Task) -> Result<Option<Request>, ExecutorError> {
    let mut items = Vec::new();
    for parameter in by_path(task) {
        let path = parameter.value_from.as_ref().and_then(|f| f.path.clone()).unwrap_or_default();
        items.push(Item::File { path: path.into(), max: PARAMETER_BYTES_MAX });
    }
    for artifact in by_path_artifacts(task) {
        let strategy = strategy(artifact)?;
        items.push(Item::Packed { path: crate::inputs::artifact_path(artifact)?, strategy });
    }
    Ok((!items.is_empty()).then_some(Request { items }))
}

fn by_path(task: &Task) -> impl Iterator<Item = &Parameter> {
    let has_path = |p: &&Parameter| p.value_from.as_ref().is_some_and(|f| f.path.is_some());
    task.outputs.parameters.iter().filter(has_path)
}

fn by_path_artifacts(task: &Task) -> impl Iterator<Item = &Artifact> {
    task.outputs.artifacts.iter().filter(|a| a.path.as_deref().is_some_and(|p| !p.is_empty()))
}

fn strategy(artifact: &Artifact) -> Result<Strategy, ExecutorError> {
    let json = value(artifact)?;
    let parsed = Strategy::parse(json.get("archive")).map_err(|error| ExecutorError::Output {
        kind: "artifact",
        name: artifact.name.clone(),
        problem: error.to_string(),
    })?;
    Ok(parsed.unwrap_or_default())
}

/// Reads the worker's answer to [`request`] and keeps what is in it. Everything is tried; the error tells all that failed,
/// beside what was kept. Blocks.
pub fn collect(
    task: &Task,
    from: &mut dyn Read,
    stores: &Stores,
    secrets: &Secrets,
    cancel: &Cancel,
) -> (Outputs, Option<ExecutorError>) {
    let mut outputs = Outputs::default();
    let mut errors = Vec::new();
    for parameter in by_path(task) {
        match parameter_value(parameter, from) {
            Ok(value) => outputs.parameters.push(with_value(parameter, value)),
            Err(error @ ExecutorError::Worker(_)) => return (outputs, Some(error)),
            Err(error) => errors.push(error),
        }
    }
    for artifact in by_path_artifacts(task) {
        match keep(artifact, from, stores, secrets, cancel) {
            Ok(true) => outputs.artifacts.push(told(artifact)),
            Ok(false) => {}
            Err(error @ ExecutorError::Worker(_)) => {
                errors.push(error);
                break;
            }
            Err(error) => errors.push(error),
        }
    }
    let error = match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(ExecutorError::Several(errors)),
    };
    (outputs, error)
}

fn with_value(parameter: &Parameter, value: String) -> Parameter {
    let mut done = parameter.clone();
    done.value = Some(value.into());
    done
}

/// An artifact as the node table has it: of a directory that was named with a slash behind it, Argo tells none.
fn told(artifact: &Artifact) -> Artifact {
    let mut told = artifact.clone();
    if let Some(path) = &mut told.path {
        let end = path.trim_end_matches('/').len();
        path.truncate(end.max(1));
    }
    told
}

/// The text without one trailing newline.
pub fn trimmed(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

fn parameter_value(parameter: &Parameter, from: &mut dyn Read) -> Result<String, ExecutorError> {
    let output = |problem: String| ExecutorError::Output { kind: "parameter", name: parameter.name.clone(), problem };
    let path = parameter.value_from.as_ref().and_then(|f| f.path.clone()).unwrap_or_default();
    let mut reader = DataReader::new(from);
    let mut bytes = Vec::new();
    let read = reader.read_to_end(&mut bytes);
    match (read, reader.ended) {
        (Ok(_), _) => Ok(trimmed(String::from_utf8_lossy(&bytes).into_owned())),
        (Err(_), Some(Frame::Missing)) => {
            let fallback = parameter.value_from.as_ref().and_then(|f| f.default.clone());
            match fallback.or_else(|| parameter.default.clone()) {
                Some(default) => Ok(default.to_string()),
                None => Err(output(format!("open {path}: no such file or directory"))),
            }
        }
        (Err(error), Some(_)) => Err(output(error.to_string())),
        (Err(error), None) => Err(ExecutorError::Worker(error)),
    }
}

/// Stores one artifact; false where it is optional and not there.
fn keep(
    artifact: &Artifact,
    from: &mut dyn Read,
    stores: &Stores,
    secrets: &Secrets,
    cancel: &Cancel,
) -> Result<bool, ExecutorError> {
    let output = |problem: String| ExecutorError::Output { kind: "artifact", name: artifact.name.clone(), problem };
    let path = artifact.path.as_deref().unwrap_or("");
    let tree = match Frame::read(from).map_err(ExecutorError::Worker)? {
        Frame::Begin { tree } => tree,
        Frame::Missing if artifact.optional => return Ok(false),
        Frame::Missing => return Err(output(format!("{path} does not exist"))),
        Frame::Failed(text) => return Err(output(text)),
        Frame::Data(_) | Frame::End => return Err(ExecutorError::Worker(crate::frame::bad("a frame out of order"))),
    };
    let mut reader = DataReader::new(from);
    let saved = locate(artifact, secrets).and_then(|location| {
        let payload = if tree { Payload::Tree(&mut reader) } else { Payload::File(&mut reader) };
        let driver = location.driver(&stores.local, &stores.outside).map_err(|e| transfer(artifact, e))?;
        driver.save(payload, cancel).map_err(|e| transfer(artifact, e))
    });
    // What the store did not take must not be read as the next item.
    reader.finish().map_err(ExecutorError::Worker)?;
    if let Some(Frame::Failed(text)) = reader.ended {
        return Err(output(text));
    }
    saved.map(|_| true)
}

fn locate(artifact: &Artifact, secrets: &Secrets) -> Result<Location, ExecutorError> {
    Ok(Location::parse(&value(artifact)?, &|reference| secrets.get(reference).cloned())?)
}

fn transfer(artifact: &Artifact, error: windlass_artifacts::store::StoreError) -> ExecutorError {
    ExecutorError::Transfer { direction: "output", name: artifact.name.clone(), source: Box::new(error.into()) }
}

/// Stores a stream as an artifact (a log, say). Blocks.
pub fn save_stream(
    artifact: &Artifact,
    from: &mut dyn Read,
    stores: &Stores,
    secrets: &Secrets,
    cancel: &Cancel,
) -> Result<(), ExecutorError> {
    let driver =
        locate(artifact, secrets)?.driver(&stores.local, &stores.outside).map_err(|e| transfer(artifact, e))?;
    driver.save(Payload::File(from), cancel).map_err(|e| transfer(artifact, e))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::worker;
    use serde_json::json;
    use windlass_artifacts::Root;
    use windlass_artifacts::git::GitAccess;
    use windlass_artifacts::store::LocalStore;

    fn run(task: serde_json::Value, root: &std::path::Path, stores: &Stores) -> (Outputs, Option<String>) {
        let task: Task = serde_json::from_value(task).unwrap();
        let request = request(&task).unwrap().unwrap();
        let request: Request = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
        let mut wire = Vec::new();
        worker::serve(&request, &Root::open(root).unwrap(), &mut wire).unwrap();
        let (outputs, error) = collect(&task, &mut &wire[..], stores, &Secrets::new(), &Cancel::new());
        (outputs, error.map(|e| e.to_string()))
    }

    #[test]
    fn outputs_come_out_and_go_in_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("out/d")).unwrap();
        std::fs::write(root.join("out/p"), "value\n\n").unwrap();
        std::fs::write(root.join("out/d/f"), "file").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("/../secret", root.join("out/link")).unwrap();
        let stores = Stores {
            local: LocalStore::open(&dir.path().join("store")).unwrap(),
            git: GitAccess::default(),
            outside: windlass_artifacts::Outside::default(),
        };
        let (outputs, error) = run(
            json!({"outputs": {
            "parameters": [{"name": "p", "valueFrom": {"path": "/out/p"}},
                {"name": "d", "valueFrom": {"path": "/no", "default": "fallback"}},
                {"name": "m", "valueFrom": {"path": "/no"}}, {"name": "l", "valueFrom": {"path": "/out/link"}}],
            "artifacts": [{"name": "dir", "path": "/out/d/", "local": {"key": "a/dir.tgz"}},
                {"name": "gone", "path": "/none", "local": {"key": "a/gone"}},
                {"name": "maybe", "path": "/none", "optional": true, "local": {"key": "a/maybe"}},
                {"name": "plain", "path": "/out/d/f", "archive": {"none": {}}, "local": {"key": "a/plain"}}]}}),
            &root,
            &stores,
        );
        let values: Vec<String> =
            outputs.parameters.iter().map(|p| format!("{}={}", p.name, p.value.clone().unwrap())).collect();
        assert_eq!(values, ["p=value\n", "d=fallback"]);
        let names: Vec<&str> = outputs.artifacts.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["dir", "plain"]);
        assert_eq!(outputs.artifacts[0].path.as_deref(), Some("/out/d"));
        let error = error.unwrap();
        for word in ["parameter \"m\"", "parameter \"l\"", "artifact \"gone\": /none does not exist"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        let task: Task = serde_json::from_value(json!({"inputs": [
            {"name": "dir", "path": "/in", "local": {"key": "a/dir.tgz"}},
            {"name": "plain", "path": "/in2", "local": {"key": "a/plain"}}]}))
        .unwrap();
        let places = crate::inputs::places(&task, &[], &dir.path().join("in")).unwrap();
        crate::inputs::stage(
            &task,
            &places,
            None,
            &stores,
            &Secrets::new(),
            &crate::inputs::tests::Threads,
            &Cancel::new(),
        )
        .unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("in/0/content/f")).unwrap(), "file");
        assert_eq!(std::fs::read_to_string(dir.path().join("in/1/content")).unwrap(), "file");
    }

    #[test]
    fn a_worker_that_breaks_off_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let stores = Stores {
            local: LocalStore::open(&dir.path().join("store")).unwrap(),
            git: GitAccess::default(),
            outside: windlass_artifacts::Outside::default(),
        };
        let task: Task = serde_json::from_value(
            json!({"outputs": {"artifacts": [{"name": "a", "path": "/x", "local": {"key": "k"}}]}}),
        )
        .unwrap();
        let mut wire = Vec::new();
        Frame::Begin { tree: false }.write(&mut wire).unwrap();
        Frame::Data(b"half".to_vec()).write(&mut wire).unwrap();
        let (outputs, error) = collect(&task, &mut &wire[..], &stores, &Secrets::new(), &Cancel::new());
        assert!(outputs.artifacts.is_empty() && error.is_some());
        use windlass_artifacts::store::Driver;
        assert!(!stores.local.at("k").unwrap().exists(&Cancel::new()).unwrap(), "nothing half-written stays");
    }
}
