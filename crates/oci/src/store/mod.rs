//! The local store: blobs by digest, names, and layers unpacked once. Everything becomes visible by one atomic rename,
//! so that a crash or a full disk leaves nothing half-written, and several processes may use one store at once. Must
//! never ask the network.

mod blob;
mod commit;
mod gc;
mod image;
mod names;
mod rootfs;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub use blob::BlobWriter;
pub(crate) use blob::DOCUMENT_BYTES_MAX;
pub use commit::{Commit, Family};
pub(crate) use gc::descriptors;
pub use gc::{GcOptions, GcReport};
pub use image::Image;
pub(crate) use image::choose;
pub use names::{Listed, Pointer};
pub use rootfs::{InProcess, Unpacker};

use crate::error::Doing;
use crate::layer::{Limits, Marks};
use crate::{Digest, Result};

/// The local store, cheap to clone. All methods may block on the disk.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    root: PathBuf,
    marks: Marks,
    limits: Limits,
    unpacker: Arc<dyn Unpacker>,
    /// Images already read, by manifest digest: a pod start must not parse JSON again.
    images: Mutex<HashMap<Digest, Image>>,
    unsettled: Arc<Mutex<rootfs::Unsettled>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.root).finish()
    }
}

impl Store {
    /// Opens the store in this directory, made where absent. What an earlier process left half-written is cleared.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        for part in ["blobs/sha256", "refs", "layers", "tmp"] {
            let path = root.join(part);
            fs::create_dir_all(&path).doing("creating", &path)?;
        }
        let root = root.canonicalize().doing("opening", &root)?;
        let marks = Marks::probe(&root.join("tmp"));
        let store = Self(Arc::new(Inner {
            marks,
            limits: Limits::default(),
            unpacker: Arc::new(InProcess),
            images: Mutex::default(),
            unsettled: Arc::default(),
            root,
        }));
        let layers = store.layers_dir();
        fs::create_dir_all(&layers).doing("creating", &layers)?;
        store.clear_leftovers()?;
        Ok(store)
    }

    /// The same store, with layers unpacked by this unpacker (a confined worker process, say) instead of in this
    /// process.
    #[must_use]
    pub fn with_unpacker(&self, unpacker: Arc<dyn Unpacker>) -> Self {
        Self(Arc::new(Inner {
            root: self.0.root.clone(),
            marks: self.0.marks,
            limits: self.0.limits,
            unpacker,
            images: Mutex::default(),
            unsettled: self.0.unsettled.clone(),
        }))
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.0.root
    }

    /// How the unpacked layers write deletions. [`Marks::User`] layers need the overlay mount option `userxattr`.
    pub fn marks(&self) -> Marks {
        self.0.marks
    }

    fn tmp_dir(&self) -> PathBuf {
        self.0.root.join("tmp")
    }

    fn refs_dir(&self) -> PathBuf {
        self.0.root.join("refs")
    }

    fn layers_dir(&self) -> PathBuf {
        self.0.root.join("layers").join(self.0.marks.dir_name())
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.root.join("blobs/sha256").join(digest.hex())
    }

    /// Held while names or contents change: shared by writers, exclusive for the garbage collector.
    fn lock(&self, exclusive: bool) -> Result<File> {
        let path = self.0.root.join("lock");
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).doing("opening", &path)?;
        if exclusive { file.lock() } else { file.lock_shared() }.doing("locking", &path)?;
        Ok(file)
    }
}

/// Makes the names in a directory durable.
fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).doing("syncing", path)
}
