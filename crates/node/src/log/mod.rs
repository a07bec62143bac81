//! Container logs on disk, in the format of the container runtime interface: `TIME STREAM P|F TEXT`. Written while the
//! container runs, kept until the Pod object is gone, read by `kubectl logs`. Logs never go into API objects.

mod read;
mod write;

pub use read::{LogError, LogOptions, LogStream};
pub(crate) use read::{last_lines, open};
pub(crate) use write::{Captured, Progress, Writer, pump};

use std::path::{Path, PathBuf};

/// A line longer than this is written in parts, marked `P`.
const LINE_MAX: usize = 16 * 1024;

/// The directory of one Pod's logs.
pub(crate) fn directory(logs: &Path, namespace: &str, pod: &str, uid: &str) -> PathBuf {
    logs.join(format!("{namespace}_{pod}_{uid}"))
}

/// The file of one container's logs, of the run before this one where `previous`.
pub(crate) fn file(directory: &Path, container: &str, previous: bool) -> PathBuf {
    directory.join(if previous { format!("{container}.previous.log") } else { format!("{container}.log") })
}
