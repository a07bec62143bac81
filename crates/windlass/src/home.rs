//! `--home`: where one Windlass keeps everything, who holds it, and how its `up` is reached. Makes directories and
//! small private files; must never read what is inside the state.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

/// One home directory.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

/// Where the windlass that runs on a home listens, as it wrote it down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ports {
    pub(crate) pid: u32,
    /// A `run` has it: it ends with its own workflow, so that others cannot build on it.
    #[serde(default)]
    pub(crate) one_run: bool,
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
    pub(crate) fn archive(&self) -> PathBuf {
        self.root.join("archive.db")
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
    pub(crate) fn remap(&self) -> PathBuf {
        self.root.join("remap.yaml")
    }
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.root.join("ssh_known_hosts")
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
        self.try_lock()?.with_context(|| {
            let who = self.holder().map(|pid| format!(" (process {pid})")).unwrap_or_default();
            format!(
                "another windlass{who} runs on {}: use it, stop it, or give another --home DIR",
                self.root.display()
            )
        })
    }

    /// Takes the home for this process, unless another one has it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>> {
        self.create()?;
        let path = self.lock_file();
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let id = std::process::id().to_string();
                let written = file.set_len(0).and_then(|()| file.write_all(id.as_bytes()));
                written.with_context(|| format!("cannot write {}", path.display()))?;
                Ok(Some(Lock(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The process that has the home, or had it last.
    fn holder(&self) -> Option<u32> {
        fs::read_to_string(self.lock_file()).ok()?.trim().parse().ok()
    }

    /// Where the `up` that runs on this home listens; a `run` is none, and neither is one that still starts.
    pub(crate) fn up(&self) -> Option<Ports> {
        self.ports().filter(|ports| !ports.one_run && self.is_taken())
    }

    /// Whether a process runs on this home.
    pub(crate) fn is_taken(&self) -> bool {
        let Ok(file) = OpenOptions::new().write(true).open(self.lock_file()) else { return false };
        matches!(rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
    }

    /// Where the one who has this home listens; nothing before it does. What a crash left behind is not an answer.
    pub(crate) fn ports(&self) -> Option<Ports> {
        let ports: Ports = serde_json::from_slice(&fs::read(self.ports_file()).ok()?).ok()?;
        Some(ports).filter(|ports| self.holder() == Some(ports.pid))
    }

    /// Writes down where this process listens.
    pub(crate) fn write_ports(&self, ports: &Ports) -> Result<()> {
        // Nobody asks for it after this process has ended: not synced.
        self.write_private(&self.ports_file(), &serde_json::to_vec(ports)?, false)
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
        self.write_private(path, secret.as_bytes(), true)?;
        Ok(secret)
    }

    fn write_private(&self, path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.run())?;
        file.write_all(bytes)?;
        if durable {
            file.as_file().sync_all()?;
        }
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
        assert!(refused.contains(&format!("another windlass (process {})", std::process::id())), "{refused}");
        assert!(home.try_lock().unwrap().is_none());
        let ports = |pid, one_run| {
            let at = "127.0.0.1:1".parse().unwrap();
            Ports { pid, one_run, api: at, registry: at, webhooks: at }
        };
        // Left by a crash; of a run; of an up.
        home.write_ports(&ports(1, false)).unwrap();
        assert!(home.ports().is_none() && home.up().is_none());
        home.write_ports(&ports(std::process::id(), true)).unwrap();
        assert!(home.ports().is_some() && home.up().is_none());
        home.write_ports(&ports(std::process::id(), false)).unwrap();
        assert!(home.up().is_some());
        drop(held);
        assert!(!home.is_taken() && home.up().is_none());
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
