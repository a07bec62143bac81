//! The local layer cache: what a step does on what is below it, as a digest, leads to the layer that it made. Records are
//! small files, each written whole; the layers are the image store's.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use windlass_oci::{Layer, Store};

use crate::error::{Doing, Fault};

/// A digest over named, framed parts: no two different lists of parts give the same bytes.
#[derive(Clone)]
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn new(kind: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.text("windlass-build/1", kind);
        key
    }

    pub(crate) fn bytes(&mut self, name: &str, value: &[u8]) {
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name.as_bytes());
        self.0.update((value.len() as u64).to_le_bytes());
        self.0.update(value);
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.bytes(name, value.as_bytes());
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.bytes(name, &value.to_le_bytes());
    }

    /// A file's content, by its own digest.
    pub(crate) fn content(&mut self, name: &str, mut file: impl Read) -> io::Result<()> {
        let mut inner = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            inner.update(&buffer[..count]);
        }
        self.bytes(name, &inner.finalize());
        Ok(())
    }

    pub(crate) fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// What a step made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Its layer; none where nothing was changed.
    pub(crate) layer: Option<Layer>,
    /// When, in the form of an image's history.
    pub(crate) created: String,
}

/// The records of one home.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    store: Store,
}

impl Cache {
    pub(crate) fn new(directory: PathBuf, store: Store) -> Self {
        Self { directory, store }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(&key[..2]).join(key)
    }

    /// What the step made, if it is known and its layer is still in the store. A record that cannot be read is none.
    pub(crate) fn get(&self, key: &str) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(self.path(key)).ok()?).ok()?;
        let whole = record.layer.as_ref().is_none_or(|layer| self.store.has_blob(&layer.digest));
        whole.then_some(record)
    }

    /// Remembers what a step made.
    pub(crate) fn put(&self, key: &str, record: &Record) -> Result<(), Fault> {
        let path = self.path(key);
        let what = || format!("write {}", path.display());
        let directory = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(directory).doing(what)?;
        let mut file = tempfile::NamedTempFile::new_in(directory).doing(what)?;
        let bytes = serde_json::to_vec(record).map_err(|e| Fault::said(e.to_string()))?;
        file.write_all(&bytes).doing(what)?;
        file.persist(&path).map_err(|e| e.error).doing(what)?;
        Ok(())
    }
}
