//! Archives: a file or directory becomes a stream, a stream becomes a file or directory, with Argo's rules.
//! It must never write outside the directory it was given, and never hold a whole file in memory.

mod create;
mod extract;
pub(crate) mod placing;
pub mod worker;
mod zip;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use create::{Created, create, create_tar};
pub use extract::{ExtractOptions, Extracted, extract, extract_tree};

/// How an artifact is packed. `Tar` with gzip is Argo's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// tar in gzip; the level is zlib's 0–9 (`None`: 6; 0 stores).
    TarGzip {
        /// The compression level.
        level: Option<u32>,
    },
    /// A zip archive.
    Zip,
    /// The bytes as they are; a directory stays a directory.
    None,
}

impl Default for Strategy {
    fn default() -> Self {
        Self::TarGzip { level: None }
    }
}

impl Strategy {
    /// Reads Argo's `archive` field (`{tar: {compressionLevel}}`, `{none: {}}`, `{zip: {}}`). `None` where it is absent.
    pub fn parse(archive: Option<&serde_json::Value>) -> Result<Option<Self>, ArchiveError> {
        let Some(archive) = archive.filter(|a| !a.is_null()) else { return Ok(None) };
        if archive.get("none").is_some_and(|v| !v.is_null()) {
            return Ok(Some(Self::None));
        }
        if archive.get("zip").is_some_and(|v| !v.is_null()) {
            return Ok(Some(Self::Zip));
        }
        let level = archive.pointer("/tar/compressionLevel").and_then(serde_json::Value::as_i64);
        match level {
            // Go's -1 is "default".
            None | Some(-1) => Ok(Some(Self::TarGzip { level: None })),
            Some(level @ 0..=9) => Ok(Some(Self::TarGzip { level: u32::try_from(level).ok() })),
            Some(level) => {
                Err(ArchiveError::Unsupported(format!("archive.tar.compressionLevel {level} is not within -1 and 9")))
            }
        }
    }

    /// The file name Argo gives an output artifact: `<name>.tgz`, or the path's base name without an archive.
    pub fn file_name(&self, artifact: &str, path: &str) -> String {
        match self {
            Self::TarGzip { .. } => format!("{artifact}.tgz"),
            Self::Zip => format!("{artifact}.zip"),
            Self::None => path.trim_end_matches('/').rsplit('/').next().unwrap_or(artifact).to_owned(),
        }
    }
}

/// What an archive may at most hold.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of content, unpacked.
    pub bytes_max: u64,
    /// Files, directories and links.
    pub entries_max: u64,
}

impl Default for Limits {
    /// 100 GiB and ten million entries: a bound against bombs, not a quota.
    fn default() -> Self {
        Self { bytes_max: 100 << 30, entries_max: 10_000_000 }
    }
}

/// Why packing or unpacking failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The path to pack does not exist.
    #[error("{0} does not exist")]
    NotFound(PathBuf),
    /// An entry that would leave the target, or goes through a link.
    #[error("archive entry {entry:?} is refused: {reason}")]
    Refused {
        /// The name in the archive.
        entry: String,
        /// Why.
        reason: std::borrow::Cow<'static, str>,
    },
    /// Too large.
    #[error("archive is larger than allowed: more than {0}")]
    TooLarge(String),
    /// Not an archive, or a cut one.
    #[error("archive is damaged: {0}")]
    Damaged(std::io::Error),
    /// The filesystem said no.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Asked for what is not built yet.
    #[error("{0}")]
    Unsupported(String),
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
}

impl ArchiveError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn strategies() {
        let parse = |json: &str| Strategy::parse(Some(&serde_json::from_str(json).unwrap()));
        assert_eq!(parse(r#"{"none":{}}"#).unwrap(), Some(Strategy::None));
        assert_eq!(parse("null").unwrap(), None);
        assert_eq!(parse(r#"{"tar":{"compressionLevel":0}}"#).unwrap(), Some(Strategy::TarGzip { level: Some(0) }));
        assert_eq!(parse(r#"{"tar":{"compressionLevel":-1}}"#).unwrap(), Some(Strategy::default()));
        assert_eq!(parse(r#"{"zip":{}}"#).unwrap(), Some(Strategy::Zip));
        assert!(parse(r#"{"tar":{"compressionLevel":12}}"#).is_err());
        assert_eq!(Strategy::default().file_name("bin", "/go/bin"), "bin.tgz");
        assert_eq!(Strategy::None.file_name("bin", "/go/bin/"), "bin");
    }
}
