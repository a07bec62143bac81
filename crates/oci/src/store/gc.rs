//! The garbage collector: what no name leads to goes, unless it is young or said to be in use. Must never remove what a
//! name needs, nor anything while another process writes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::Store;
use super::rootfs::remove_tree;
use crate::error::Doing;
use crate::{Digest, Platform, Result};

/// What the collector spares.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Younger blobs and layers stay: a pull or push under way names its manifest last.
    pub grace: Duration,
    /// Manifests in use although no name leads to them, such as those of running containers.
    pub keep: Vec<Digest>,
    /// Unpacked layers in use, by diff id.
    pub keep_layers: Vec<Digest>,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { grace: Duration::from_secs(3600), keep: Vec::new(), keep_layers: Vec::new() }
    }
}

/// What the collector removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// How many blobs.
    pub blobs: usize,
    /// How many unpacked layers.
    pub layers: usize,
    /// The blobs' bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes blobs and unpacked layers that nothing needs.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        let _lock = self.lock(true)?;
        let mut blobs = HashSet::new();
        let mut diff_ids: HashSet<String> = options.keep_layers.iter().map(|d| d.hex().to_owned()).collect();
        for root in self.list()?.into_iter().map(|listed| listed.pointer.digest).chain(options.keep.iter().cloned()) {
            self.mark(&root, &mut blobs, &mut diff_ids);
        }
        let mut report = GcReport::default();
        let old = |meta: &fs::Metadata| {
            meta.modified()
                .ok()
                .and_then(|time| SystemTime::now().duration_since(time).ok())
                .is_some_and(|age| age >= options.grace)
        };
        let dir = self.dir().join("blobs/sha256");
        for entry in fs::read_dir(&dir).doing("reading", &dir)? {
            let entry = entry.doing("reading", &dir)?;
            let (name, meta) = (entry.file_name(), entry.metadata().doing("reading", &entry.path())?);
            if !blobs.contains(name.to_string_lossy().as_ref()) && old(&meta) {
                fs::remove_file(entry.path()).doing("removing", &entry.path())?;
                report.blobs += 1;
                report.bytes += meta.len();
            }
        }
        let dir = self.layers_dir();
        for entry in fs::read_dir(&dir).doing("reading", &dir)? {
            let entry = entry.doing("reading", &dir)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let meta = entry.metadata().doing("reading", &entry.path())?;
            if name.len() >= 64 && meta.is_dir() && !diff_ids.contains(&name[..64]) && old(&meta) {
                // Renamed first, so that a half-removed layer never looks whole.
                let gone = dir.join(format!("tmp-gone-{name}"));
                fs::rename(entry.path(), &gone).doing("removing", &entry.path())?;
                remove_tree(&gone)?;
                report.layers += 1;
            }
        }
        self.forget_images();
        Ok(report)
    }

    /// Everything that a manifest or index leads to. Members of an index may be absent: only one platform is pulled.
    fn mark(&self, digest: &Digest, blobs: &mut HashSet<String>, diff_ids: &mut HashSet<String>) {
        if !blobs.insert(digest.hex().to_owned()) {
            return;
        }
        let Ok(bytes) = self.read_blob(digest) else { return };
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else { return };
        for digest in descriptors(&document, "manifests") {
            self.mark(&digest, blobs, diff_ids);
        }
        for digest in descriptors(&document, "layers") {
            blobs.insert(digest.hex().to_owned());
        }
        for key in ["config", "subject"] {
            let found = document.get(key).and_then(|d| d.get("digest")).and_then(Value::as_str);
            if let Some(digest) = found.and_then(|text| text.parse::<Digest>().ok()) {
                blobs.insert(digest.hex().to_owned());
            }
        }
        if document.get("layers").is_some()
            && let Ok(image) = self.image(digest, &Platform::host())
        {
            diff_ids.extend(image.layers().iter().map(|layer| layer.diff_id.hex().to_owned()));
        }
    }

    /// Whether any name leads to this blob.
    pub(crate) fn is_referenced(&self, digest: &Digest) -> Result<bool> {
        let (mut blobs, mut diff_ids) = (HashSet::new(), HashSet::new());
        for listed in self.list()? {
            self.mark(&listed.pointer.digest, &mut blobs, &mut diff_ids);
        }
        Ok(blobs.contains(digest.hex()))
    }

    /// Clears what processes killed while writing left behind: nobody writes one file for a day.
    pub(super) fn clear_leftovers(&self) -> Result<()> {
        for dir in [self.tmp_dir(), self.layers_dir()] {
            for entry in fs::read_dir(&dir).doing("reading", &dir)?.flatten() {
                let name = entry.file_name();
                let temporary = dir == self.tmp_dir() || name.to_string_lossy().starts_with("tmp-");
                if temporary && is_older(&entry.path(), Duration::from_secs(24 * 3600)) {
                    let _ = remove_tree(&entry.path());
                }
            }
        }
        Ok(())
    }
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = path.symlink_metadata().and_then(|meta| meta.modified());
    modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok()).is_some_and(|is| is > age)
}

pub(crate) fn descriptors(document: &Value, key: &str) -> Vec<Digest> {
    let list = document.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|d| d.get("digest")?.as_str()?.parse().ok()).collect()
}
