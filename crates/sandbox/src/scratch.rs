//! Scratch directories: what containers write to their root filesystem, deleted in the background.

use std::path::Path;

/// A scratch directory. It is deleted, in the background, with its last handle.
#[derive(Debug, Clone)]
pub struct Scratch {}

impl Scratch {
    /// The directory that holds what was written, in overlay's form (whiteouts, opaque directories).
    pub fn upper(&self) -> &Path {
        Path::new("")
    }
}
