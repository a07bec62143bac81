//! The executor inside a step's pod: `windlass executor ROLE`. The pod is made by the engine's `pod_form`; the places are
//! [`windlass_model::places`].
//!
//! | role | container | does |
//! |---|---|---|
//! | `init` | `init` | puts this program, the script and the inputs in place (`init`) |
//! | `supervise` | `supervisor` | lets the others begin, takes the step's outputs, reports (`supervise`) |
//! | `main`, `member`, `sidecar` | the user's | runs the command that comes after `--` (`wrap`) |
//! | `plugin-tokens` | `plugin-tokens` | makes a token for each executor plugin of the pod ([`crate::plugin`]) |
//! | `work` | `main` | the work of a `resource`, `http`, `data` or `plugin` template ([`crate::work`]) |
//!
//! The supervisor listens on a socket in the pod; who wraps a command keeps a connection as long as it lives (`link`).

mod init;
mod link;
mod supervise;
mod wrap;

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use windlass_artifacts::git::GitAccess;
use windlass_artifacts::store::{LocalStore, Plugins};
use windlass_artifacts::{Ambient, Endpoints, Outside, Remap};
use windlass_model::places;
use windlass_model::task::Task;

use crate::inputs::{Secrets, Stores, secrets_needed};

/// Runs one role; the exit code.
pub(crate) fn main(words: &[OsString]) -> i32 {
    let (role, rest) = match words.split_first() {
        Some((role, rest)) => (role.to_str().unwrap_or_default(), rest),
        None => ("", words),
    };
    let answer = match role {
        places::INIT => init::run(rest),
        places::SUPERVISE => supervise::run(),
        places::MAIN => return ended(wrap::main(rest)),
        places::MEMBER => return ended(wrap::member(rest)),
        places::SIDECAR => return ended(wrap::sidecar(rest)),
        places::TOKENS => {
            let names: Vec<&str> = rest.iter().filter_map(|name| name.to_str()).collect();
            crate::plugin::make_tokens(&names)
        }
        places::WORK => return crate::work::main(),
        other => Err(format!("executor: there is no role {other:?}; a step's pod uses this verb, nobody else")),
    };
    ended(answer.map(|()| 0))
}

/// The exit code; a failure of ours is told where the kubelet looks for it.
fn ended(answer: Result<i32, String>) -> i32 {
    answer.unwrap_or_else(|problem| {
        eprintln!("{problem}");
        // At most what the kubelet keeps.
        let text: String = problem.chars().take(3000).collect();
        let _ = std::fs::write("/dev/termination-log", text);
        places::EXIT_EXECUTOR
    })
}

/// The task, out of the pod's annotation.
fn task() -> Result<Task, String> {
    let file = Path::new(places::TASK_DIR).join(places::TASK_FILE);
    let text = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    serde_json::from_slice(&text).map_err(|e| format!("the step's task cannot be read: {e}"))
}

/// The values of the Secrets that the task names, as far as they are mounted here.
fn secrets(task: &Task) -> Result<Secrets, String> {
    let mut secrets = Secrets::new();
    for reference in secrets_needed(task).map_err(|e| e.to_string())? {
        let file = Path::new(places::SECRETS_DIR).join(&reference.name).join(&reference.key);
        // What is missing is named by whoever needs it.
        if let Ok(value) = std::fs::read(file) {
            secrets.insert(reference, windlass_artifacts::Secret::new(value));
        }
    }
    Ok(secrets)
}

/// What artifacts are moved with. Names are looked up as everything in this pod looks them up.
fn stores(role: &str, task: &Task) -> Result<Stores, String> {
    windlass_artifacts::git::ensure_tls();
    let environment = |name: &str| std::env::var(name).ok();
    let rules = |name: &str| environment(name).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    // Nothing is ever kept in it: a task with a `local` location is refused before it has a pod.
    let local = PathBuf::from(places::RUN_DIR).join(format!("local-{role}"));
    let mut plugins = Plugins::default();
    for name in task.plugins_before().into_iter().chain(task.plugins_after()) {
        let directory = places::artifact_plugin_dir(name);
        plugins.add(name, &directory, &directory);
    }
    Ok(Stores {
        local: LocalStore::open(&local).map_err(|e| format!("{}: {e}", local.display()))?,
        git: GitAccess {
            remap: Remap::parse(rules(places::REMAP_GIT)).map_err(|e| format!("{}: {e}", places::REMAP_GIT))?,
            ..GitAccess::default()
        },
        outside: Outside {
            endpoints: Endpoints::parse(rules(places::REMAP_ENDPOINT))
                .map_err(|e| format!("{}: {e}", places::REMAP_ENDPOINT))?,
            ambient: Ambient::read(&environment, None),
            plugins,
            ..Outside::default()
        },
    })
}

/// A file of the pod's shared directory, which every container of the pod can write: no link is followed.
fn shared(path: &str, bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let Some(file) = open_shared(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn open_shared(path: &str) -> std::io::Result<Option<std::fs::File>> {
    use rustix::fs::{Mode, OFlags};
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
