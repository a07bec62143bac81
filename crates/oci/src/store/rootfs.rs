//! Unpacked layers: `layers/<marks>/<diff id>/fs` is an overlay lower directory, made once, renamed into place when it
//! is complete. Must never show a half-unpacked layer, and must never follow a link out of the directory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Image, Store, sync_dir};
use crate::error::Doing;
use crate::layer::{self, Limits, Marks, PackOptions, UnpackOptions, Unpacked};
use crate::media::Compression;
use crate::{Digest, Error, Layer, Result};

/// Unpacks one layer. The store calls it with an open blob, or a pipe through which one comes, and an empty directory; an
/// implementation may do the work in a confined process that gets nothing but these two.
pub trait Unpacker: Send + Sync {
    /// Unpacks the archive into the directory and tells what it was.
    fn unpack(&self, blob: File, compression: Compression, target: &Path, options: &UnpackOptions) -> Result<Unpacked>;
}

/// Unpacks in this process.
pub struct InProcess;

impl Unpacker for InProcess {
    fn unpack(&self, blob: File, compression: Compression, target: &Path, options: &UnpackOptions) -> Result<Unpacked> {
        layer::unpack(blob, compression, target, options)
    }
}

/// What is known of an unpacked layer, beside it in `layer.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// What unpacking told.
    unpacked: Unpacked,
    /// The boot in which it was unpacked: until `synced`, only that boot may trust the files.
    boot: String,
}

impl Store {
    /// The image's unpacked layers, bottom first, ready as overlay lower directories. Absent ones are unpacked,
    /// several at a time.
    pub fn rootfs(&self, image: &Image) -> Result<Vec<PathBuf>> {
        self.unpack_layers(image.layers())
    }

    /// The unpacked forms of these layers (bottom first), which need not be an image yet.
    pub fn unpack_layers(&self, layers: &[Layer]) -> Result<Vec<PathBuf>> {
        let absent: Vec<&Layer> = layers.iter().filter(|layer| !self.is_unpacked(&layer.diff_id)).collect();
        if let [only] = absent[..] {
            self.unpack_layer(only)?;
        } else if !absent.is_empty() {
            let threads = std::thread::available_parallelism().map_or(2, |n| n.get().max(2)).min(absent.len());
            let queue = Mutex::new(absent.into_iter());
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads)
                    .map(|_| {
                        scope.spawn(|| -> Result<()> {
                            while let Some(layer) = next() {
                                self.unpack_layer(layer)?;
                            }
                            Ok(())
                        })
                    })
                    .collect();
                workers.into_iter().try_for_each(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
            })?;
        }
        self.complete_parents(layers)
    }

    /// Whether this layer is unpacked and can be trusted.
    pub fn is_unpacked(&self, diff_id: &Digest) -> bool {
        self.is_usable(&self.layer_dir(diff_id))
    }

    /// Unpacks one layer, unless it is already.
    pub fn unpack_layer(&self, layer: &Layer) -> Result<PathBuf> {
        let dir = self.layer_dir(&layer.diff_id);
        self.unpack_to(layer, &dir)?;
        Ok(dir.join("fs"))
    }

    /// What unpacking this layer told: sizes, and what could not be kept.
    pub fn unpacked(&self, diff_id: &Digest) -> Option<Unpacked> {
        read_record(&self.layer_dir(diff_id)).map(|record| record.unpacked)
    }

    fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.layers_dir().join(diff_id.hex())
    }

    /// Complete, and either written through to the disk or made since this boot.
    fn is_usable(&self, dir: &Path) -> bool {
        dir.join("synced").exists() || read_record(dir).is_some_and(|record| record.boot == boot_id())
    }

    /// Unpacks a layer out of a pipe, while it is fetched. Whoever comes second leaves it to the first, and the pipe is
    /// closed: false then.
    pub(crate) fn unpack_stream(&self, layer: &Layer, pipe: File) -> Result<bool> {
        let dir = self.layer_dir(&layer.diff_id);
        if self.is_usable(&dir) {
            return Ok(false);
        }
        let (lock, lock_path) = unpack_lock(&dir)?;
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) => return Ok(false),
            other => other.map_err(io::Error::from).doing("locking", &lock_path)?,
        }
        if self.is_usable(&dir) {
            return Ok(false);
        }
        self.unpack_from(layer, &dir, pipe).map(|()| true)
    }

    fn unpack_to(&self, layer: &Layer, dir: &Path) -> Result<()> {
        if self.is_usable(dir) {
            return Ok(());
        }
        // One unpacks, the others (threads and processes) wait for it.
        let (lock, lock_path) = unpack_lock(dir)?;
        lock.lock().doing("locking", &lock_path)?;
        if self.is_usable(dir) {
            return Ok(());
        }
        let result = self.unpack_from(layer, dir, self.open_blob(&layer.digest)?);
        match &result {
            Err(Error::DigestMismatch { expected, .. }) if *expected == layer.digest => {
                self.forget_damaged(&layer.digest);
            }
            Err(Error::DigestMismatch { .. }) | Ok(()) => {}
            // A damaged blob must not stay: it would fail for ever.
            Err(_) => self.verify_blob(&layer.digest)?,
        }
        result
    }

    /// Unpacks into a directory that appears when it is whole.
    fn unpack_from(&self, layer: &Layer, dir: &Path, blob: File) -> Result<()> {
        if dir.exists() {
            // From before a power cut, and never confirmed as written.
            remove_tree(dir)?;
        }
        let tmp = self.layer_tmp()?;
        let fs_dir = tmp.path().join("fs");
        fs::create_dir(&fs_dir).doing("creating", &fs_dir)?;
        fs::set_permissions(&fs_dir, fs::Permissions::from_mode(0o755)).doing("creating", &fs_dir)?;
        let options = UnpackOptions { marks: self.0.marks, limits: self.0.limits };
        let compression = Compression::of_layer(&layer.media_type)?;
        let unpacked = self.0.unpacker.unpack(blob, compression, &fs_dir, &options)?;
        if unpacked.digest != layer.digest {
            return Err(Error::DigestMismatch {
                what: "layer as stored".to_owned(),
                expected: layer.digest.clone(),
                actual: unpacked.digest,
            });
        }
        if unpacked.diff_id != layer.diff_id {
            return Err(Error::DigestMismatch {
                what: format!("layer {} unpacked", layer.digest.short()),
                expected: layer.diff_id.clone(),
                actual: unpacked.diff_id,
            });
        }
        if unpacked.owners_dropped > 0 {
            tracing::info!(
                layer = layer.digest.short(),
                files = unpacked.owners_dropped,
                "only one user id is mapped here: files of other owners now belong to it"
            );
        }
        self.publish_layer(tmp, dir, unpacked)
    }

    /// Where a layer is unpacked until it is complete.
    fn layer_tmp(&self) -> Result<tempfile::TempDir> {
        let tmp = self.layers_dir();
        tempfile::Builder::new().prefix("tmp-").tempdir_in(&tmp).doing("creating a directory in", &tmp)
    }

    fn publish_layer(&self, tmp: tempfile::TempDir, dir: &Path, unpacked: Unpacked) -> Result<()> {
        let record = Record { unpacked, boot: boot_id() };
        let bytes = serde_json::to_vec(&record).map_err(|e| Error::malformed("layer record", e))?;
        let path = tmp.path().join("layer.json");
        fs::write(&path, bytes).doing("writing", &path)?;
        // The directory above `fs` keeps others out; `fs` itself is the root directory that containers see.
        fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o711)).doing("writing", tmp.path())?;
        match fs::rename(tmp.path(), dir) {
            Ok(()) => {
                let _ = tmp.keep();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {
                return Ok(());
            }
            Err(error) => return Err(error).doing("creating", dir),
        }
        sync_dir(&self.layers_dir())?;
        settle_later(&self.0.unsettled, dir.to_owned());
        Ok(())
    }

    /// Checks a blob against its name; a damaged one is removed and reported.
    pub fn verify_blob(&self, digest: &Digest) -> Result<()> {
        let mut hash = crate::Hasher::new();
        let mut file = self.open_blob(digest)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = io::Read::read(&mut file, &mut buffer).doing("reading", &self.blob_path(digest))?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
        }
        let actual = hash.finish();
        if actual != *digest {
            self.forget_damaged(digest);
            return Err(Error::DigestMismatch { what: "blob as stored".to_owned(), expected: digest.clone(), actual });
        }
        Ok(())
    }

    /// Makes a directory just packed into a layer that layer's unpacked form, by moving it: no overlay may be mounted
    /// with it any more, and its path is free afterwards. False where the layer is unpacked already, the directory is on
    /// another disk, or the archive differs from it (times clamped, owners set).
    pub fn adopt_layer(&self, dir: &Path, layer: &Layer, options: &PackOptions) -> Result<bool> {
        if options.overlay != Some(self.0.marks) || options.rewrites() {
            return Ok(false);
        }
        let target = self.layer_dir(&layer.diff_id);
        let (lock, lock_path) = unpack_lock(&target)?;
        lock.lock().doing("locking", &lock_path)?;
        if self.is_usable(&target) {
            return Ok(false);
        }
        if target.exists() {
            // From before a power cut, and never confirmed as written.
            remove_tree(&target)?;
        }
        let tmp = self.layer_tmp()?;
        let root = tmp.path().join("fs");
        match fs::rename(dir, &root) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(false),
            Err(error) => return Err(error).doing("moving", dir),
        }
        if !options.root_entry {
            // Not part of the layer, so it must look as if unpacked from the blob.
            fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).doing("writing", &root)?;
        }
        for path in &options.exclude {
            let path = root.join(path.strip_prefix("/").unwrap_or(path));
            if path.symlink_metadata().is_ok() {
                remove_tree(&path)?;
            }
        }
        let unpacked = Unpacked {
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
            entries: 0,
            bytes: 0,
            owners_dropped: 0,
            skipped: Vec::new(),
            implied: Vec::new(),
            opaque: Vec::new(),
        };
        self.publish_layer(tmp, &target, unpacked).map(|()| true)
    }

    /// Gives directories that a layer only implies (`a/b` without `a`) the attributes that they have in the layers
    /// below: the overlay shows those of the topmost layer. As this depends on the layers below, such a layer gets a
    /// directory of its own for each stack that it is used in.
    fn complete_parents(&self, layers: &[Layer]) -> Result<Vec<PathBuf>> {
        let mut lowers: Vec<PathBuf> = Vec::with_capacity(layers.len());
        let mut chain = crate::Hasher::new();
        for layer in layers {
            chain.update(layer.diff_id.as_str().as_bytes());
            let dir = self.layer_dir(&layer.diff_id);
            let implied = read_record(&dir).map(|record| record.unpacked.implied).unwrap_or_default();
            let found: Vec<(&PathBuf, fs::Metadata)> = implied
                .iter()
                .filter_map(|path| {
                    let below = lowers.iter().rev().find_map(|lower| real_dir(lower, path))?;
                    Some((path, below))
                })
                .collect();
            if found.is_empty() {
                lowers.push(dir.join("fs"));
                continue;
            }
            let own = self.layers_dir().join(format!("{}-{}", layer.diff_id.hex(), chain.clone().finish().short()));
            if !own.join("parents").exists() {
                self.unpack_to(layer, &own)?;
                for (path, below) in found {
                    let path = own.join("fs").join(path);
                    let owned = std::os::unix::fs::lchown(&path, Some(below.uid()), Some(below.gid()));
                    if let Err(error) = owned
                        && error.kind() != io::ErrorKind::PermissionDenied
                    {
                        return Err(error).doing("changing the owner of", &path);
                    }
                    fs::set_permissions(&path, below.permissions()).doing("changing the mode of", &path)?;
                    if let (Ok(dir), Ok(time)) = (File::open(&path), below.modified()) {
                        let _ = dir.set_modified(time);
                    }
                }
                let done = own.join("parents");
                fs::write(&done, b"").doing("writing", &done)?;
            }
            lowers.push(own.join("fs"));
        }
        Ok(lowers)
    }
}

/// Held by whoever unpacks into this directory.
fn unpack_lock(dir: &Path) -> Result<(File, PathBuf)> {
    let path = dir.with_extension("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).doing("opening", &path)?;
    Ok((lock, path))
}

/// The directory's attributes, if this path is one within the layer and no link leads there.
fn real_dir(lower: &Path, path: &Path) -> Option<fs::Metadata> {
    let mut at = lower.to_owned();
    let mut meta = None;
    for part in path.components() {
        at.push(part);
        meta = Some(at.symlink_metadata().ok().filter(fs::Metadata::is_dir)?);
    }
    meta
}

fn read_record(dir: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(dir.join("layer.json")).ok()?).ok()
}

/// Identifies this boot; a power cut changes it.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// How long the disk is left alone after a layer was unpacked: a process that only runs shortly must not wait for it.
const SETTLE_PAUSE: std::time::Duration = std::time::Duration::from_secs(10);

/// Layers whose files may not be on the disk yet.
#[derive(Default)]
pub(super) struct Unsettled {
    dirs: Vec<PathBuf>,
    running: bool,
}

/// Writes layers' files through in the background, then notes that they can be trusted after a power cut too. Syncing
/// each file while unpacking would be many times slower, and what is lost is only a cache.
fn settle_later(unsettled: &Arc<Mutex<Unsettled>>, dir: PathBuf) {
    let mut now = unsettled.lock().unwrap_or_else(PoisonError::into_inner);
    now.dirs.push(dir);
    if now.running {
        return;
    }
    let waiting = unsettled.clone();
    let work = move || {
        loop {
            std::thread::sleep(SETTLE_PAUSE);
            let dirs = {
                let mut now = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                now.running = !now.dirs.is_empty();
                std::mem::take(&mut now.dirs)
            };
            let Some(first) = dirs.first() else { return };
            // All are in one directory, so on one disk.
            let synced = File::open(first).and_then(|fd| rustix::fs::syncfs(&fd).map_err(io::Error::from));
            for dir in dirs.iter().filter(|_| synced.is_ok()) {
                let _ = File::create(dir.join("synced")).and_then(|file| file.sync_all());
            }
        }
    };
    match std::thread::Builder::new().name("layer-sync".to_owned()).spawn(work) {
        Ok(_) => now.running = true,
        Err(error) => {
            tracing::debug!(%error, "no thread to sync an unpacked layer; it will be unpacked again after a reboot");
        }
    }
}

/// Removes a file or a whole tree, also one with directories that may not be written.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_dir => {
            for entry in walkdir::WalkDir::new(path).into_iter().flatten() {
                if entry.file_type().is_dir() {
                    let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
                }
            }
            fs::remove_dir_all(path).doing("removing", path)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("removing", path),
        _ => Ok(()),
    }
}

impl Store {
    /// The same store with other limits for unpacking.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        let store = self.with_unpacker(self.0.unpacker.clone());
        match Arc::try_unwrap(store.0) {
            Ok(mut inner) => {
                inner.limits = limits;
                Self(Arc::new(inner))
            }
            Err(shared) => Self(shared),
        }
    }
}

impl Marks {
    pub(super) fn dir_name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::User => "user",
        }
    }
}
