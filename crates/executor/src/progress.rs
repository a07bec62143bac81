//! The progress that a step tells of itself: the last line of the file that `ARGO_PROGRESS_FILE` names, `N/M`. It goes into
//! the step's WorkflowTaskResult as it changes. The file is the user's: it is never followed and never read whole.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use windlass_model::status::parse_progress;

/// How often it is looked at; Argo's is 3 s.
pub const PAUSE: Duration = Duration::from_secs(3);
/// Of a file that grows, the end is enough.
const BYTES_MAX: u64 = 4096;

/// What the file says now; nothing where it says nothing that is progress.
pub fn read(file: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::open(file, flags, Mode::empty()).ok()?);
    let about = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    file.seek(SeekFrom::Start(about.len().saturating_sub(BYTES_MAX))).ok()?;
    let mut end = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let last = text.trim_end().rsplit('\n').next()?.trim();
    parse_progress(last).map(|(done, all)| format!("{done}/{all}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("progress");
        assert_eq!(read(&file), None);
        let of = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file)
        };
        assert_eq!(of("3/10").as_deref(), Some("3/10"));
        assert_eq!(of("1/10\n2/10\n").as_deref(), Some("2/10"));
        assert_eq!(of(&format!("{}\n9/9 \n", "x".repeat(9000))).as_deref(), Some("9/9"));
        for wrong in ["", "half", "11/10", "-1/3", "0/0", "1/2/3", "1/2\nnow"] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(dir.path().join("other"), "1/2").unwrap();
        std::os::unix::fs::symlink("other", &file).unwrap();
        assert_eq!(read(&file), None);
        assert_eq!(read(dir.path()), None);
    }
}
