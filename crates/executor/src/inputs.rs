//! Inputs: each artifact at its path, before the step's containers start. Where an artifact's path lies inside a volume of
//! the step it is written into that volume; everywhere else it gets a place of its own that the agent mounts.

use crate::ExecutorError;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};
use windlass_artifacts::archive::worker::{Confined, Workers};
use windlass_artifacts::archive::{ExtractOptions, Strategy};
use windlass_artifacts::git::GitAccess;
use windlass_artifacts::location::{Location, SecretRef, secret_refs};
use windlass_artifacts::store::LocalStore;
use windlass_artifacts::transfer::{self, Access};
use windlass_artifacts::{Cancel, Inside, Outside, Owner, Root, Secret};
use windlass_model::artifact::Artifact;
use windlass_model::task::Task;

/// Where one input goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its position among the task's inputs.
    pub index: usize,
    /// Its path in the container.
    pub path: PathBuf,
    /// The directory on this machine that it stays beneath.
    pub root: PathBuf,
    /// Its path beneath `root`.
    pub target: PathBuf,
    /// Whether the agent has to mount `root/target` at `path`; else the volume around it shows it.
    pub mounted: bool,
}

/// A volume of the step's main container: its mount path and its directory on this machine.
#[derive(Clone, Debug)]
pub struct VolumeMount {
    /// In the container.
    pub path: PathBuf,
    /// On this machine.
    pub directory: PathBuf,
    /// Mounted read-only.
    pub readonly: bool,
}

/// Decides where each input goes. `private` is a directory of the step for inputs outside of its volumes.
pub fn places(task: &Task, volumes: &[VolumeMount], private: &Path) -> Result<Vec<Place>, ExecutorError> {
    let mut places = Vec::new();
    for (index, artifact) in task.inputs.iter().enumerate() {
        let path = artifact_path(artifact)?;
        let around = volumes.iter().filter(|v| path.starts_with(&v.path)).max_by_key(|v| v.path.components().count());
        let place = match around {
            Some(volume) => {
                let target = path.strip_prefix(&volume.path).unwrap_or(Path::new("")).to_owned();
                if target.as_os_str().is_empty() {
                    let problem = format!("path {} is also a volume mount", path.display());
                    return Err(ExecutorError::Path { name: artifact.name.clone(), problem });
                }
                if volume.readonly {
                    let problem = format!("path {} is inside a read-only volume", path.display());
                    return Err(ExecutorError::Path { name: artifact.name.clone(), problem });
                }
                Place { index, path, root: volume.directory.clone(), target, mounted: false }
            }
            None => {
                let root = private.join(index.to_string());
                Place { index, path, root, target: PathBuf::from("content"), mounted: true }
            }
        };
        places.push(place);
    }
    Ok(places)
}

/// The artifact's path, cleaned: absolute, and `..` never above the root.
pub fn artifact_path(artifact: &Artifact) -> Result<PathBuf, ExecutorError> {
    let wrong = |problem: &str| ExecutorError::Path { name: artifact.name.clone(), problem: problem.to_owned() };
    let given = artifact.path.as_deref().filter(|p| !p.is_empty()).ok_or_else(|| wrong("it has no path"))?;
    let mut clean = PathBuf::from("/");
    for part in Path::new(given).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if !clean.pop() => return Err(wrong("its path leads above the root")),
            _ => {}
        }
    }
    if clean == Path::new("/") {
        return Err(wrong("its path is the root directory"));
    }
    Ok(clean)
}

/// The Secrets that the task's artifacts name: the caller reads them from the step's namespace.
pub fn secrets_needed(task: &Task) -> Result<Vec<SecretRef>, ExecutorError> {
    let mut refs = Vec::new();
    let artifacts = task.incoming().chain(&task.outputs.artifacts).chain(task.logs().map(|(_, log)| log));
    for artifact in artifacts {
        refs.extend(secret_refs(&value(artifact)?));
    }
    refs.sort();
    refs.dedup();
    Ok(refs)
}

pub(crate) fn value(artifact: &Artifact) -> Result<serde_json::Value, ExecutorError> {
    serde_json::to_value(artifact).map_err(|e| ExecutorError::Task(e.to_string()))
}

/// What artifacts are moved with.
#[derive(Clone)]
pub struct Stores {
    /// The built-in store.
    pub local: LocalStore,
    /// Where git may read.
    pub git: GitAccess,
    /// How S3 and HTTP servers are reached.
    pub outside: Outside,
}

impl Stores {
    /// The same, with the names that the cluster knows.
    #[must_use]
    pub fn with_inside(mut self, inside: Inside) -> Self {
        self.git.inside = inside.clone();
        self.outside.inside = inside;
        self
    }
}

/// Values of the Secrets that [`secrets_needed`] named; what is missing is left out.
pub type Secrets = BTreeMap<SecretRef, Secret>;

/// Brings every input to its place, owned by `owner`. Answers the places that were filled (an optional input may have
/// nothing). Archives are unpacked by `workers`. Blocks: call it where a thread may wait.
pub fn stage(
    task: &Task,
    places: &[Place],
    owner: Option<Owner>,
    stores: &Stores,
    secrets: &Secrets,
    workers: &dyn Workers,
    cancel: &Cancel,
) -> Result<Vec<Place>, ExecutorError> {
    let mut filled = Vec::new();
    for place in places {
        if cancel.is_cancelled() {
            return Err(ExecutorError::Cancelled);
        }
        let Some(artifact) = task.inputs.get(place.index) else { continue };
        if stage_one(artifact, place, owner, stores, secrets, workers, cancel)? {
            filled.push(place.clone());
        }
    }
    Ok(filled)
}

fn stage_one(
    artifact: &Artifact,
    place: &Place,
    owner: Option<Owner>,
    stores: &Stores,
    secrets: &Secrets,
    workers: &dyn Workers,
    cancel: &Cancel,
) -> Result<bool, ExecutorError> {
    let json = value(artifact)?;
    let location = match Location::parse(&json, &|reference| secrets.get(reference).cloned()) {
        Ok(location) => location,
        Err(windlass_artifacts::location::LocationError::Missing { .. }) if artifact.optional => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let failed = |source: transfer::TransferError| ExecutorError::Transfer {
        direction: "input",
        name: artifact.name.clone(),
        source: Box::new(source),
    };
    let strategy = Strategy::parse(json.get("archive")).map_err(|e| failed(e.into()))?;
    std::fs::create_dir_all(&place.root).map_err(|source| ExecutorError::Io { path: place.root.clone(), source })?;
    let root = Root::open(&place.root).map_err(|source| ExecutorError::Io { path: place.root.clone(), source })?;
    let options = ExtractOptions {
        strategy,
        mode: artifact.mode.and_then(|m| u32::try_from(m).ok()),
        recurse_mode: artifact.recurse_mode.unwrap_or(false),
        owner,
        ..ExtractOptions::default()
    };
    let access = Access { local: &stores.local, git: &stores.git, outside: &stores.outside };
    let extract = Confined { workers, directory: &place.root, root: &root };
    let mut attempt = 0;
    loop {
        let begun = Instant::now();
        match transfer::load_with(&location, &access, &root, &extract, &place.target, &options, cancel) {
            Ok(()) => return Ok(true),
            Err(error) if error.is_not_found() && artifact.optional => return Ok(false),
            Err(error) if error.is_cancelled() => return Err(ExecutorError::Cancelled),
            // A host that restarts is back in a moment; one that keeps us waiting is not asked to do so again.
            Err(error) if error.is_retryable() && attempt < RETRIES_MAX && begun.elapsed() < QUICK_MAX => {
                std::thread::sleep(Duration::from_millis(250 << attempt));
                attempt += 1;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Inputs whose host did not answer are tried again so often, after 250 ms, 500 ms, 1 s.
const RETRIES_MAX: u32 = 3;
/// A failure that took longer is final.
const QUICK_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;
    use windlass_artifacts::archive::worker;

    /// The worker's side in this process: what starts a real one is above this crate.
    pub(crate) struct Threads;

    impl Workers for Threads {
        fn work(
            &self,
            directory: &Path,
            role: &str,
            request: String,
            input: std::os::fd::OwnedFd,
            _: u64,
        ) -> std::io::Result<worker::Worked> {
            assert_eq!(role, worker::ROLE);
            let answer = worker::serve(&request, input, directory)?;
            Ok(worker::Worked { answer, cause: String::new() })
        }
    }

    fn task(inputs: serde_json::Value) -> Task {
        serde_json::from_value(json!({"inputs": inputs})).unwrap()
    }

    #[test]
    fn inputs_go_into_the_volume_around_them() {
        let task = task(json!([{"name": "a", "path": "/job/src"}, {"name": "b", "path": "/opt/../tmp/b"}]));
        let volume = VolumeMount { path: "/job".into(), directory: "/v/1".into(), readonly: false };
        let places = places(&task, &[volume], Path::new("/private")).unwrap();
        assert_eq!((places[0].root.as_path(), places[0].target.as_path()), (Path::new("/v/1"), Path::new("src")));
        assert!(!places[0].mounted && places[1].mounted);
        assert_eq!(places[1].path, Path::new("/tmp/b"));
    }

    #[test]
    fn impossible_paths_are_named() {
        let volume = VolumeMount { path: "/job".into(), directory: "/v/1".into(), readonly: true };
        let error = |path: &str| {
            places(&task(json!([{"name": "a", "path": path}])), std::slice::from_ref(&volume), Path::new("/p"))
                .unwrap_err()
                .to_string()
        };
        assert!(error("/job").contains("also a volume mount"));
        assert!(error("/job/x").contains("read-only volume"));
        assert!(error("/../..").contains("\"a\""));
        assert!(error("").contains("no path"));
    }

    #[test]
    fn raw_and_local_inputs_are_staged() {
        let dir = tempfile::tempdir().unwrap();
        let stores = Stores {
            local: LocalStore::open(&dir.path().join("store")).unwrap(),
            git: GitAccess::default(),
            outside: Outside::default(),
        };
        let task = task(json!([{"name": "r", "path": "/tmp/r", "raw": {"data": "hello"}, "mode": 0o600},
            {"name": "o", "path": "/tmp/o", "optional": true, "local": {"key": "none"}},
            {"name": "n", "path": "/tmp/n", "local": {"key": "none"}}]));
        let places = places(&task, &[], &dir.path().join("private")).unwrap();
        let filled = stage(&task, &places[..2], None, &stores, &Secrets::new(), &Threads, &Cancel::new()).unwrap();
        assert_eq!(filled.len(), 1);
        assert_eq!(std::fs::read_to_string(filled[0].root.join(&filled[0].target)).unwrap(), "hello");
        let error = stage(&task, &places, None, &stores, &Secrets::new(), &Threads, &Cancel::new()).unwrap_err();
        assert!(error.to_string().contains("input artifact \"n\""), "{error}");
    }
}
