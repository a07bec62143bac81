//! Layers: tar archives of what changed, and the directories that an overlay mount stacks. [`pack`] and [`unpack`] are
//! each other's inverse. Must never follow a link out of the directory that it works in.

mod ahead;
mod beneath;
mod entry;
mod gzip;
mod marks;
mod pack;
mod reader;
mod unpack;
pub mod worker;
mod writer;

use serde::{Deserialize, Serialize};

pub use entry::{Entry, Kind, Time};
pub use marks::Marks;
pub use pack::{PackOptions, pack};
pub(crate) use reader::decompress_sniffed;
pub use reader::{ArchiveReader, decompress};
pub use unpack::{Limits, UnpackOptions, Unpacked, unpack};
pub use writer::{ArchiveWriter, LayerWriter};

use crate::Digest;

/// A layer of the store: its blob, and what it is once decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// The digest of the blob as stored and pushed.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// The digest of the archive when decompressed.
    pub diff_id: Digest,
}
