//! What the agent notes on disk so that a crash of it runs nothing twice: a line as a Pod begins, a line with its status as
//! it ends, before the API is told. One file for all Pods, as several small ones for each would cost more than a short
//! container. It is never synced: it outlives the agent, and what it tells of a machine that lost power nobody asks.

use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The file is written anew, with the Pods that live, when it has become larger.
const BYTES_MAX: u64 = 1 << 20;

#[derive(Serialize)]
struct Line<'a> {
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a PodStatus>,
}

/// A line as it is read.
#[derive(Deserialize)]
struct Noted {
    uid: String,
    status: Option<PodStatus>,
}

/// What an earlier agent left of a Pod.
#[derive(Debug, PartialEq)]
pub(crate) enum Left {
    /// It had begun.
    Begun,
    /// It ended like that; the API may not know.
    Ended(Box<PodStatus>),
}

/// The notes of this agent.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    file: Option<File>,
    bytes: u64,
    /// The lines of Pods that the API does not know the end of.
    live: HashMap<String, Vec<u8>>,
}

impl Journal {
    /// In this home; opened with the first note.
    pub(crate) fn new(home: &Path) -> Self {
        Self { path: home.join("volumes/pods.journal"), inner: Mutex::default() }
    }

    /// What the last agent noted, by UID. A line that was not finished counts for nothing.
    pub(crate) fn read(&self) -> HashMap<String, Left> {
        let bytes = fs::read(&self.path).unwrap_or_default();
        let mut all = HashMap::new();
        for line in bytes.split(|b| *b == b'\n') {
            let Ok(noted) = serde_json::from_slice::<Noted>(line) else { continue };
            let left = noted.status.map_or(Left::Begun, |status| Left::Ended(Box::new(status)));
            all.insert(noted.uid, left);
        }
        all
    }

    /// Forgets what the last agent noted.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Notes that a container of the Pod is about to start.
    pub(crate) fn begun(&self, uid: &str) -> io::Result<()> {
        self.note(Line { uid, status: None })
    }

    /// Notes the Pod's last status.
    pub(crate) fn ended(&self, uid: &str, status: &PodStatus) -> io::Result<()> {
        self.note(Line { uid, status: Some(status) })
    }

    /// The API knows the Pod's end.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().live.remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, line: Line<'_>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let mut inner = self.lock();
        let inner = &mut *inner;
        if inner.bytes > BYTES_MAX {
            let part = self.path.with_extension("part");
            let lines: Vec<u8> = inner.live.values().flatten().copied().collect();
            fs::write(&part, &lines)?;
            fs::rename(&part, &self.path)?;
            *inner = Inner { bytes: lines.len() as u64, live: std::mem::take(&mut inner.live), file: None };
        }
        let file = match &mut inner.file {
            Some(file) => file,
            none => none.insert(File::options().create(true).append(true).open(&self.path)?),
        };
        // One call a line: it is there as a whole or, on a full disk, not at all as a line.
        file.write_all(&bytes)?;
        inner.bytes += bytes.len() as u64;
        inner.live.entry(line.uid.to_owned()).or_default().extend(bytes);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("volumes")).unwrap();
        home
    }

    fn end(message: &str) -> PodStatus {
        PodStatus { phase: Some("Succeeded".into()), message: Some(message.into()), ..PodStatus::default() }
    }

    #[test]
    fn the_next_agent_reads_what_the_last_one_noted() {
        let home = home();
        let journal = Journal::new(home.path());
        assert!(journal.read().is_empty());
        journal.begun("a").unwrap();
        journal.begun("b").unwrap();
        journal.ended("b", &end("a \"line\"\nand more")).unwrap();
        let next = Journal::new(home.path());
        let left = next.read();
        assert_eq!(left.len(), 2);
        assert_eq!(left["a"], Left::Begun);
        assert_eq!(left["b"], Left::Ended(Box::new(end("a \"line\"\nand more"))));
        next.clear().unwrap();
        next.clear().unwrap();
        assert!(next.read().is_empty());
    }

    #[test]
    fn half_a_line_is_none() {
        let home = home();
        let journal = Journal::new(home.path());
        journal.begun("a").unwrap();
        journal.ended("a", &end("")).unwrap();
        let bytes = fs::read(&journal.path).unwrap();
        fs::write(&journal.path, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(journal.read()["a"], Left::Begun);
    }

    #[test]
    fn it_stays_small_and_forgets_nobody_who_lives() {
        let home = home();
        let journal = Journal::new(home.path());
        journal.begun("lives").unwrap();
        let long = end(&"x".repeat(4096));
        for index in 0..600 {
            let uid = format!("u{index}");
            journal.begun(&uid).unwrap();
            journal.ended(&uid, &long).unwrap();
            journal.forget(&uid);
        }
        assert!(fs::metadata(&journal.path).unwrap().len() < BYTES_MAX + 16384);
        let left = journal.read();
        assert_eq!(left["lives"], Left::Begun);
        assert!(!left.contains_key("u0") && left.contains_key("u599"));
    }
}
