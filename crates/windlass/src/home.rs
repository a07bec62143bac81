//! `--home`: where one Windlass keeps everything, who holds it, and how its `up` is reached. Makes directories and
//! small private files; must never read what is inside the state.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

/// One home directory.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

/// Where an `up` listens, as it wrote it down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ports {
    pub(crate) pid: u32,
    pub(crate) api: std::net::SocketAddr,
    pub(crate) registry: std::net::SocketAddr,
    pub(crate) webhooks: std::net::SocketAddr,
}

/// Held as long as this process is the one that runs on a home.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "the open file is the lock")] File);

impl Home {
    /// The directory the user named, or the one the XDG rules give.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self> {
        let root = match named {
            Some(dir) => std::path::absolute(dir)?,
            None => default_root().context(
                "cannot tell where to keep state: neither --home, XDG_DATA_HOME nor HOME is set; give --home DIR",
            )?,
        };
        Ok(Self { root })
    }

    /// Makes the directories, readable by their owner only.
    pub(crate) fn create(&self) -> Result<()> {
        for dir in [self.root.clone(), self.run(), self.images(), self.artifacts(), self.logs(), self.volumes()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .with_context(|| format!("cannot make {}: choose another place with --home DIR", dir.display()))?;
        }
        Ok(())
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state.db")
    }
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.run().join("kubeconfig")
    }
    pub(crate) fn webhook_secret(&self) -> PathBuf {
        self.run().join("webhook-secret")
    }
    fn lock_file(&self) -> PathBuf {
        self.run().join("lock")
    }
    fn ports_file(&self) -> PathBuf {
        self.run().join("ports.json")
    }

    /// Takes the home for this process; a second one is told who has it.
    pub(crate) fn lock(&self) -> Result<Lock> {
        self.create()?;
        let path = self.lock_file();
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let who = self.ports().map(|p| format!(" (process {})", p.pid)).unwrap_or_default();
                bail!(
                    "another windlass{who} runs on {}: use it, stop it, or give another --home DIR",
                    self.root.display()
                )
            }
            Err(e) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Whether a process runs on this home.
    pub(crate) fn is_taken(&self) -> bool {
        let Ok(file) = OpenOptions::new().write(true).open(self.lock_file()) else { return false };
        matches!(rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
    }

    /// Where the `up` of this home listens; nothing when none runs.
    pub(crate) fn ports(&self) -> Option<Ports> {
        serde_json::from_slice(&fs::read(self.ports_file()).ok()?).ok()
    }

    /// Writes down where this process listens.
    pub(crate) fn write_ports(&self, ports: &Ports) -> Result<()> {
        self.write_private(&self.ports_file(), &serde_json::to_vec(ports)?)
    }

    /// Takes away what told others where this process listened.
    pub(crate) fn forget_ports(&self) {
        let _ = fs::remove_file(self.ports_file());
    }

    /// A secret that only its owner can read, made on first use.
    pub(crate) fn secret(&self, path: &Path) -> Result<String> {
        if let Ok(text) = fs::read_to_string(path) {
            return Ok(text.trim().to_owned());
        }
        let secret = hex::encode(rand::random::<[u8; 32]>());
        self.write_private(path, secret.as_bytes())?;
        Ok(secret)
    }

    fn write_private(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.run())?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }
}

fn default_root() -> Option<PathBuf> {
    let absolute = |v: std::ffi::OsString| Some(PathBuf::from(v)).filter(|p| p.is_absolute());
    let data = std::env::var_os("XDG_DATA_HOME").and_then(absolute);
    let data = data.or_else(|| std::env::var_os("HOME").and_then(absolute).map(|h| h.join(".local/share")))?;
    Some(data.join("windlass"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        assert!(!home.is_taken());
        let held = home.lock().unwrap();
        assert!(home.is_taken());
        let refused = home.lock().unwrap_err().to_string();
        assert!(refused.contains("another windlass"), "{refused}");
        drop(held);
        assert!(!home.is_taken());
    }

    #[test]
    fn secrets_are_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        home.create().unwrap();
        let once = home.secret(&home.webhook_secret()).unwrap();
        assert_eq!(once, home.secret(&home.webhook_secret()).unwrap());
        let mode = fs::metadata(home.webhook_secret()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
