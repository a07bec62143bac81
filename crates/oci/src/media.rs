//! Media types of manifests, configurations and layers, in both families (OCI and Docker schema 2).

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker schema 2 manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker schema 2 manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer, not compressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Everything that a manifest request should accept, best first.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.v2+json";

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    /// The compression that a layer's media type says.
    pub fn of_layer(media_type: &str) -> Result<Self> {
        if media_type.ends_with("+gzip") || media_type.ends_with(".gzip") {
            Ok(Self::Gzip)
        } else if media_type.ends_with("+zstd") || media_type.ends_with(".zstd") {
            Ok(Self::Zstd)
        } else if media_type.ends_with(".tar") {
            Ok(Self::None)
        } else {
            Err(Error::Unsupported {
                what: format!("layer media type `{media_type}`"),
                detail: "layers are tar archives, plain or compressed with gzip or zstd".to_owned(),
            })
        }
    }

    /// The compression that the first bytes of a stream show.
    pub fn sniff(start: &[u8]) -> Self {
        if start.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

/// Whether this is a multi-platform index, of either family.
pub fn is_index(media_type: &str) -> bool {
    media_type == OCI_INDEX || media_type == DOCKER_INDEX
}

/// Whether this is an image manifest, of either family.
pub fn is_manifest(media_type: &str) -> bool {
    media_type == OCI_MANIFEST || media_type == DOCKER_MANIFEST
}

/// Whether this is a layer's media type.
pub fn is_layer(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.")
}

/// The media type of a manifest or index: what it says itself, or else what its members show.
pub fn of_manifest(document: &serde_json::Value) -> Option<&str> {
    if let Some(named) = document.get("mediaType").and_then(|v| v.as_str()) {
        return Some(named);
    }
    if document.get("manifests").is_some_and(|v| v.is_array()) {
        return Some(OCI_INDEX);
    }
    match document.pointer("/config/mediaType").and_then(|v| v.as_str()) {
        Some(DOCKER_CONFIG) => Some(DOCKER_MANIFEST),
        Some(_) => Some(OCI_MANIFEST),
        None => None,
    }
}
