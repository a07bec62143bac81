//! The build's context: a directory, read beneath its root only. A link in it means a path in it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::view::{View, clean};

/// A Dockerfile larger than this is refused.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// The directory that `COPY` and `ADD` read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) view: View,
    name: PathBuf,
}

impl Context {
    /// This directory.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { view: View::directory_of(directory)?, name: directory.to_owned() })
    }

    /// A directory beneath another one. Links within that one are followed as if it were the root.
    pub fn open_beneath(base: &Path, rest: &Path) -> io::Result<Self> {
        let base_view = View::directory_of(base)?;
        Ok(Self { view: base_view.within(&clean(rest))?, name: base.join(rest) })
    }

    /// A directory of this context as a context.
    pub fn within(&self, path: &Path) -> io::Result<Self> {
        Ok(Self { view: self.view.within(&clean(path))?, name: self.name.join(path) })
    }

    /// A text file of it.
    pub fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        self.view.file(&clean(path))?.take(TEXT_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }

    /// What it is called, for messages.
    pub fn name(&self) -> &Path {
        &self.name
    }
}
