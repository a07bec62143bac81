//! Steps whose image is a kaniko executor: recognised by the image's name, run by our own builder in the agent, without
//! pulling that image. This module only recognises and describes; the builder is given at wiring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the builder is asked to do: kaniko's own command line, and where the Pod's paths are on this machine.
#[derive(Clone)]
pub struct BuildRequest {
    /// The arguments as the Pod gives them, without the program.
    pub args: Vec<String>,
    /// The container's environment.
    pub env: Vec<(String, String)>,
    /// The working directory, as a path in the container.
    pub cwd: PathBuf,
    /// Where the container's paths are on this machine.
    pub paths: PathMap,
    /// The content of `/kaniko/.docker/config.json` (or `$DOCKER_CONFIG/config.json`), where the Pod mounts one.
    pub docker_config: Option<Vec<u8>>,
    /// Lines of the build's output go here.
    pub log: LogSink,
    /// Set once the step is stopped.
    pub cancel: tokio::sync::watch::Receiver<bool>,
    /// The namespace, Pod and UID on whose behalf it builds.
    pub pod: (String, String, String),
}

/// Builds images for kaniko steps. Implemented by whoever wires the agent.
#[async_trait::async_trait]
pub trait StepBuilder: Send + Sync {
    /// Runs one kaniko command line to its end.
    async fn build(&self, request: BuildRequest) -> Result<(), BuildFailure>;
}

/// Why a build failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// The step's exit code.
    pub code: i32,
    /// For the log; its first line is the step's message, so that nobody has to look for the log.
    pub message: String,
}

/// Takes text, and whether it is standard error.
type Write = dyn Fn(bool, &str) + Send + Sync;

/// Takes a build's output.
#[derive(Clone)]
pub struct LogSink {
    write: Arc<Write>,
}

impl LogSink {
    /// A sink that hands each text to `write`, with whether it is standard error.
    pub fn new(write: impl Fn(bool, &str) + Send + Sync + 'static) -> Self {
        Self { write: Arc::new(write) }
    }

    /// One or more lines of standard output.
    pub fn out(&self, text: &str) {
        (self.write)(false, text);
    }

    /// One or more lines of standard error.
    pub fn err(&self, text: &str) {
        (self.write)(true, text);
    }
}

/// Where a container's paths are on this machine: its mounts, and a private root for everything else.
#[derive(Clone, Debug, Default)]
pub struct PathMap {
    mounts: Vec<(PathBuf, PathBuf, bool)>,
    root: PathBuf,
}

impl PathMap {
    /// `mounts` are (path in the container, path on this machine, read-only); `root` stands for all other paths.
    pub fn new(mut mounts: Vec<(PathBuf, PathBuf, bool)>, root: PathBuf) -> Self {
        mounts.sort_by_key(|(inside, _, _)| std::cmp::Reverse(inside.components().count()));
        Self { mounts, root }
    }

    /// The place on this machine of a container's path: the mount's directory (or file) and the path beneath it. Dots are
    /// resolved by text and never lead above the root. What is found there may be a symbolic link of the step's making:
    /// open it beneath the first part, never by plain path.
    pub fn place(&self, inside: &Path) -> Place {
        let clean = clean(inside);
        for (target, source, readonly) in &self.mounts {
            if let Ok(rest) = clean.strip_prefix(target) {
                return Place { base: source.clone(), rest: rest.to_owned(), readonly: *readonly };
            }
        }
        let rest = clean.strip_prefix("/").unwrap_or(&clean).to_owned();
        Place { base: self.root.clone(), rest, readonly: false }
    }
}

/// A container's path on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The mounted directory or file.
    pub base: PathBuf,
    /// Beneath it; empty for the mount itself.
    pub rest: PathBuf,
    /// Whether the mount is read-only.
    pub readonly: bool,
}

impl Place {
    /// The joined path. Only for messages and for content that no step could have changed.
    pub fn path(&self) -> PathBuf {
        if self.rest.as_os_str().is_empty() { self.base.clone() } else { self.base.join(&self.rest) }
    }
}

/// The path without `.` and `..`, absolute.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_never_leave_their_mount() {
        let map = PathMap::new(
            vec![("/src".into(), "/v/1".into(), false), ("/src/sub".into(), "/v/2".into(), true)],
            "/r".into(),
        );
        let place = |path: &str| map.place(Path::new(path)).path();
        assert_eq!(place("/src/a/../b"), Path::new("/v/1/b"));
        assert_eq!(place("/src/sub/x"), Path::new("/v/2/x"));
        assert_eq!(place("/src/../../etc/passwd"), Path::new("/r/etc/passwd"));
        assert_eq!(place("/src"), Path::new("/v/1"));
    }
}
