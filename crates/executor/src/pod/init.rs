//! The init container: this program for the wrappers, the script, the inputs. It runs before any of the user's code, and
//! its failure is the infrastructure's.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use windlass_artifacts::Cancel;
use windlass_artifacts::archive::worker::{self, Worked, Workers};
use windlass_model::places;

use super::{secrets, stores, task};
use crate::inputs::{self, VolumeMount};
use crate::work;

/// `init [--program] [--reports] [--volume=PATH…]`
pub(super) fn run(words: &[OsString]) -> Result<(), String> {
    let (mut volumes, mut program) = (Vec::new(), false);
    for word in words {
        match word.to_str() {
            Some("--program") => program = true,
            Some("--reports") => has_account()?,
            Some(word) => {
                let path = word.strip_prefix("--volume=").ok_or_else(|| format!("executor init: {word}?"))?;
                let directory = PathBuf::from(format!("{}{path}", places::VOLUMES_DIR));
                volumes.push(VolumeMount { path: path.into(), directory, readonly: false });
            }
            None => return Err("executor init: a flag is no text".to_owned()),
        }
    }
    let task = task()?;
    if program {
        // Whatever its name is, or was.
        std::fs::copy("/proc/self/exe", places::PROGRAM)
            .and_then(|_| std::fs::set_permissions(places::PROGRAM, std::fs::Permissions::from_mode(0o755)))
            .map_err(|e| format!("{}: {e}", places::PROGRAM))?;
    }
    let run = Path::new(places::RUN_DIR);
    if let Some(source) = &task.script {
        put(&run.join(places::SCRIPT_FILE), source.as_bytes(), 0o755)?;
    }
    if task.is_ours() {
        let json = serde_json::to_vec(&task).map_err(|e| e.to_string())?;
        put(&run.join(work::TASK_FILE), &json, 0o644)?;
    }
    if task.has_source() {
        let (stores, secrets) = (stores(places::INIT, &task)?, secrets(&task)?);
        let source = work::source(&task, &stores, &secrets, &Cancel::new()).map_err(|e| e.to_string())?;
        put(&run.join(work::SOURCE_FILE), source.unwrap_or_default().to_string().as_bytes(), 0o644)?;
    }
    if task.inputs.is_empty() {
        return Ok(());
    }
    let targets = inputs::places(&task, &volumes, Path::new(places::INPUTS_DIR)).map_err(|e| e.to_string())?;
    let (stores, secrets) = (stores(places::INIT, &task)?, secrets(&task)?);
    inputs::stage(&task, &targets, None, &stores, &secrets, &Here, &Cancel::new()).map_err(|e| e.to_string())?;
    Ok(())
}

/// Archives are unpacked in this process: its container is the confinement. It has no capabilities, a read-only root, the
/// Secrets of these inputs, and no token.
struct Here;

impl Workers for Here {
    fn work(&self, directory: &Path, _: &str, request: String, input: OwnedFd, _: u64) -> std::io::Result<Worked> {
        Ok(Worked { answer: worker::serve(&request, input, directory)?, cause: String::new() })
    }
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    std::fs::write(path, bytes)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Said before the user's code runs, not after. The token itself is not in this container.
fn has_account() -> Result<(), String> {
    if Path::new(places::ACCOUNT_DIR).join("namespace").exists() {
        return Ok(());
    }
    Err("this namespace is not set up for steps: the executor has no token of its own here to report with. \
         `windlass install --workflow-namespace NAMESPACE | kubectl apply --server-side -f -` sets it up"
        .to_owned())
}
