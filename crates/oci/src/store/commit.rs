//! New images: layers from directories, then a configuration and a manifest over them. Must never name an image whose
//! blobs are not all on the disk.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::rootfs::remove_tree;
use super::{Image, Store};
use crate::layer::PackOptions;
use crate::{Error, Layer, Platform, Reference, Result, media};

/// Which family of media types a manifest uses. The two are not to be mixed within one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// OCI image specification.
    #[default]
    Oci,
    /// Docker image manifest, version 2, schema 2.
    Docker,
}

impl Family {
    /// The family of a manifest's media type.
    pub fn of(media_type: &str) -> Self {
        if media_type.starts_with("application/vnd.docker.") { Self::Docker } else { Self::Oci }
    }

    /// A layer's media type in this family. Docker's has no zstd: the OCI type is the answer then.
    fn layer(self, media_type: &str) -> Result<&'static str> {
        Ok(match (self, media::Compression::of_layer(media_type)?) {
            (Self::Oci, media::Compression::None) => media::OCI_LAYER,
            (Self::Oci, media::Compression::Gzip) => media::OCI_LAYER_GZIP,
            (_, media::Compression::Zstd) => media::OCI_LAYER_ZSTD,
            (Self::Docker, media::Compression::None) => media::DOCKER_LAYER,
            (Self::Docker, media::Compression::Gzip) => media::DOCKER_LAYER_GZIP,
        })
    }
}

/// What a new image is made of.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The configuration; `rootfs` is set from the layers, `architecture` and `os` where absent.
    pub config: Value,
    /// The layers, bottom first.
    pub layers: Vec<Layer>,
    /// The media types.
    pub family: Family,
    /// Manifest annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Store {
    /// Packs a directory (an overlay's upper, or a plain tree) into a layer of this store. With
    /// [`PackOptions::keep`], the directory itself becomes the unpacked layer where it is on the same disk: it is
    /// moved. No overlay may be mounted with it any more then.
    pub fn commit_layer(&self, dir: &Path, options: &PackOptions) -> Result<Layer> {
        let mut writer = self.layer_writer(options.compression)?;
        crate::layer::pack(dir, options, &mut writer)?;
        let layer = writer.finish()?;
        if options.keep && !self.adopt_layer(dir, &layer, options)? {
            self.unpack_layer(&layer)?;
            remove_tree(dir)?;
        }
        Ok(layer)
    }

    /// Writes configuration and manifest, then gives the image its names (they answer before the network does).
    pub fn commit_image(&self, commit: &Commit, names: &[Reference]) -> Result<Image> {
        let mut config = commit.config.clone();
        let platform = Platform::host();
        let object = match &mut config {
            Value::Null => {
                config = json!({});
                config.as_object_mut()
            }
            other => other.as_object_mut(),
        };
        let Some(object) = object else {
            return Err(Error::malformed("image configuration", "it is not a JSON object"));
        };
        object.entry("architecture").or_insert_with(|| platform.architecture.into());
        object.entry("os").or_insert_with(|| platform.os.into());
        let diff_ids: Vec<&str> = commit.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        object.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diff_ids}));
        let config_bytes = serde_json::to_vec(&config).map_err(|e| Error::malformed("image configuration", e))?;

        let (manifest_type, config_type) = match commit.family {
            Family::Oci => (media::OCI_MANIFEST, media::OCI_CONFIG),
            Family::Docker => (media::DOCKER_MANIFEST, media::DOCKER_CONFIG),
        };
        let mut layers = Vec::with_capacity(commit.layers.len());
        for layer in &commit.layers {
            layers.push(json!({
                "mediaType": commit.family.layer(&layer.media_type)?,
                "size": layer.size,
                "digest": layer.digest,
            }));
        }
        let config_digest = self.put_blob(&config_bytes)?;
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": {"mediaType": config_type, "size": config_bytes.len(), "digest": config_digest},
            "layers": layers,
        });
        if !commit.annotations.is_empty() {
            manifest["annotations"] = json!(commit.annotations);
        }
        let manifest_bytes = serde_json::to_vec(&manifest).map_err(|e| Error::malformed("manifest", e))?;
        let digest = self.put_blob(&manifest_bytes)?;
        let image = self.image(&digest, &Platform::host())?;
        for name in names {
            self.tag_made_here(name, &digest)?;
        }
        Ok(image)
    }
}
