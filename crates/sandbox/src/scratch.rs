//! Scratch directories: what containers write to their root filesystem, deleted in the background.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use crate::{Error, Result, cgroup::Cgroup, error::Step, plan::UpperDirs};

/// A scratch directory. It is deleted, in the background, with its last handle.
#[derive(Debug, Clone)]
pub struct Scratch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    upper: PathBuf,
    volatile: bool,
    mounts: AtomicU64,
    reaper: Reaper,
}

impl Scratch {
    pub(crate) fn create(base: PathBuf, volatile: bool, reaper: Reaper) -> Result<Scratch> {
        let upper = base.join("upper");
        std::fs::create_dir(&base).step(|| format!("create {}", base.display()))?;
        // The directory's mode becomes that of the container's root.
        let made = std::fs::create_dir(&upper).and_then(|()| open_to_all(&upper));
        made.step(|| format!("create {}", upper.display()))?;
        Ok(Scratch(Arc::new(Inner { base, upper, volatile, mounts: AtomicU64::new(0), reaper })))
    }

    /// The directory that holds what was written, in overlay's form (whiteouts, opaque directories).
    pub fn upper(&self) -> &Path {
        &self.0.upper
    }

    /// Directories for one more mount: a volatile upper refuses its old work directory.
    pub(crate) fn mount(&self) -> Result<UpperDirs> {
        let number = self.0.mounts.fetch_add(1, Ordering::Relaxed);
        let work = self.0.base.join(format!("w{number}"));
        std::fs::create_dir(&work).step(|| format!("create {}", work.display()))?;
        Ok(UpperDirs { upper: self.0.upper.clone(), work, volatile: self.0.volatile })
    }
}

fn open_to_all(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reaper.send(Job::Directory(std::mem::take(&mut self.base)));
    }
}

/// What is deleted in the background.
#[derive(Debug)]
pub(crate) enum Job {
    Directory(PathBuf),
    Cgroup(Cgroup),
}

/// A thread that deletes, started with the first job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper(Arc<std::sync::OnceLock<Option<mpsc::Sender<Job>>>>);

impl Reaper {
    pub(crate) fn send(&self, job: Job) {
        let sender = self.0.get_or_init(|| {
            let (sender, jobs) = mpsc::channel::<Job>();
            let thread = std::thread::Builder::new().name("sandbox-reaper".into());
            let started = thread.spawn(move || jobs.into_iter().for_each(perform));
            started.ok().map(|_| sender)
        });
        match sender {
            Some(sender) => drop(sender.send(job)),
            None => perform(job),
        }
    }
}

fn perform(job: Job) {
    match job {
        Job::Directory(path) => {
            if let Err(error) = std::fs::remove_dir_all(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "cannot delete a scratch directory");
            }
        }
        Job::Cgroup(cgroup) => cgroup.remove(),
    }
}

/// Where scratch directories on disk go, beside `base`, on which a tmpfs may be mounted.
pub(crate) fn on_disk(base: &Path) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(".disk");
    name.into()
}

/// Delete what an earlier process left in `home` and nobody holds any more; take a directory of our own there.
pub(crate) fn claim(home: &Path) -> Result<(PathBuf, std::fs::File)> {
    std::fs::create_dir_all(home).step(|| format!("create {}", home.display()))?;
    for entry in std::fs::read_dir(home).step(|| format!("list {}", home.display()))?.flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|n| n.strip_suffix(".lock")) else { continue };
        let Ok(lock) = std::fs::File::open(entry.path()) else { continue };
        if lock.try_lock().is_ok() {
            let gone = |path: PathBuf| match std::fs::remove_dir_all(path) {
                Ok(()) => true,
                Err(e) => e.kind() == std::io::ErrorKind::NotFound,
            };
            let base = home.join(number);
            if gone(on_disk(&base)) && gone(base) {
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }
    for attempt in 0..1000u32 {
        let name = format!("{}-{attempt}", std::process::id());
        let lock_path = home.join(format!("{name}.lock"));
        let Ok(lock) = std::fs::File::create_new(&lock_path) else { continue };
        lock.try_lock().map_err(|e| Error::io(format!("lock {}", lock_path.display()), std::io::Error::from(e)))?;
        let base = home.join(name);
        std::fs::create_dir(&base).step(|| format!("create {}", base.display()))?;
        return Ok((base, lock));
    }
    Err(Error::Spec(format!("{}: no free name for a scratch directory", home.display())))
}
