//! An image of the store: its manifest and configuration, read once. Must never be handed out when layers are absent.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde_json::Value;

use super::Store;
use crate::{Digest, Error, Layer, Platform, Reference, Result, media};

/// One image for one platform. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Image(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    digest: Digest,
    media_type: String,
    manifest: ImageManifest,
    config_digest: Digest,
    config: ImageConfiguration,
    config_json: Value,
    layers: Vec<Layer>,
}

/// How many images stay parsed.
const IMAGES_KEPT_MAX: usize = 256;

impl Image {
    /// The manifest's digest.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// The manifest's media type.
    pub fn media_type(&self) -> &str {
        &self.0.media_type
    }

    /// The manifest.
    pub fn manifest(&self) -> &ImageManifest {
        &self.0.manifest
    }

    /// The digest of the configuration, which other tools call the image's id.
    pub fn config_digest(&self) -> &Digest {
        &self.0.config_digest
    }

    /// The configuration's standard fields.
    pub fn config(&self) -> &ImageConfiguration {
        &self.0.config
    }

    /// The whole configuration, with Docker's additions (`Healthcheck`, `Shell`, `OnBuild`, …).
    pub fn config_json(&self) -> &Value {
        &self.0.config_json
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Layer] {
        &self.0.layers
    }

    /// The sum of the layers' sizes as stored.
    pub fn size(&self) -> u64 {
        self.0.layers.iter().map(|layer| layer.size).sum()
    }

    /// The platform it was made for.
    pub fn platform(&self) -> Platform {
        let text = |key: &str| self.0.config_json.get(key).and_then(Value::as_str).filter(|v| !v.is_empty());
        Platform {
            os: text("os").unwrap_or("linux").to_owned(),
            architecture: text("architecture").unwrap_or_default().to_owned(),
            variant: text("variant").map(str::to_owned),
        }
    }

    pub(crate) fn parse(digest: &Digest, manifest_bytes: &[u8], config_bytes: &[u8]) -> Result<Self> {
        let what = || format!("manifest {digest}");
        let document: Value = serde_json::from_slice(manifest_bytes).map_err(|e| Error::malformed(what(), e))?;
        let media_type = media::of_manifest(&document).unwrap_or(media::OCI_MANIFEST).to_owned();
        let manifest: ImageManifest =
            serde_json::from_slice(manifest_bytes).map_err(|e| Error::malformed(what(), e))?;
        let config_digest: Digest = manifest.config().digest().to_string().parse()?;
        let what = || format!("image configuration {config_digest}");
        let config_json: Value = serde_json::from_slice(config_bytes).map_err(|e| Error::malformed(what(), e))?;
        let config: ImageConfiguration =
            serde_json::from_slice(config_bytes).map_err(|e| Error::malformed(what(), e))?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            return Err(Error::malformed(
                what(),
                format!("it names {} layers and the manifest {}", diff_ids.len(), manifest.layers().len()),
            ));
        }
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
            layers.push(Layer {
                digest: descriptor.digest().to_string().parse()?,
                size: descriptor.size(),
                media_type: descriptor.media_type().to_string(),
                diff_id: diff_id.parse()?,
            });
        }
        Ok(Self(Arc::new(Parts {
            digest: digest.clone(),
            media_type,
            manifest,
            config_digest,
            config,
            config_json,
            layers,
        })))
    }
}

impl Store {
    /// The image of this name for this machine's platform, if all of it is here.
    pub fn get(&self, reference: &Reference) -> Result<Option<Image>> {
        self.get_for(reference, &Platform::host())
    }

    /// The image of this name for a platform, if all of it is here.
    pub fn get_for(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>> {
        let Some(pointer) = self.resolve(reference)? else { return Ok(None) };
        match self.image(&pointer.digest, platform) {
            Ok(image) if self.is_complete(&image) => Ok(Some(image)),
            Ok(_) | Err(Error::BlobMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether every layer is here, as a blob or unpacked.
    pub fn is_complete(&self, image: &Image) -> bool {
        image.layers().iter().all(|layer| self.has_blob(&layer.digest) || self.is_unpacked(&layer.diff_id))
    }

    /// Reads an image by the digest of its manifest, or of an index that has one for the platform. Its layers may be
    /// absent.
    pub fn image(&self, digest: &Digest, platform: &Platform) -> Result<Image> {
        if let Some(image) = self.images().get(digest) {
            return Ok(image.clone());
        }
        let bytes = self.read_blob(digest)?;
        let document: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed(format!("manifest {digest}"), e))?;
        match media::of_manifest(&document) {
            Some(kind) if media::is_index(kind) => {
                let chosen = choose(&document, platform, digest.as_str())?;
                if chosen == *digest {
                    return Err(Error::malformed(format!("index {digest}"), "it contains itself"));
                }
                let inner = self.read_blob(&chosen)?;
                self.image_from(&chosen, &inner)
            }
            Some(kind) if media::is_manifest(kind) => self.image_from(digest, &bytes),
            kind => Err(Error::Unsupported {
                what: format!("manifest {digest} of type {}", kind.unwrap_or("unknown")),
                detail: "an OCI or Docker schema 2 image or index is needed".to_owned(),
            }),
        }
    }

    fn image_from(&self, digest: &Digest, bytes: &[u8]) -> Result<Image> {
        if let Some(image) = self.images().get(digest) {
            return Ok(image.clone());
        }
        let what = || format!("manifest {digest}");
        let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(|e| Error::malformed(what(), e))?;
        let config_digest: Digest = manifest.config().digest().to_string().parse()?;
        let image = Image::parse(digest, bytes, &self.read_blob(&config_digest)?)?;
        let mut images = self.images();
        if images.len() >= IMAGES_KEPT_MAX {
            images.clear();
        }
        images.insert(digest.clone(), image.clone());
        Ok(image)
    }

    fn images(&self) -> MutexGuard<'_, HashMap<Digest, Image>> {
        self.0.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget_images(&self) {
        self.images().clear();
    }
}

/// The manifest of an index that fits the platform best: the same variant first, then any that runs there.
pub(crate) fn choose(index: &Value, platform: &Platform, name: &str) -> Result<Digest> {
    let empty = Vec::new();
    let manifests = index.get("manifests").and_then(Value::as_array).unwrap_or(&empty);
    let described: Vec<(Option<Platform>, &str)> = manifests
        .iter()
        .filter_map(|entry| {
            let digest = entry.get("digest")?.as_str()?;
            let platform = entry.get("platform").and_then(|value| serde_json::from_value(value.clone()).ok());
            Some((platform, digest))
        })
        // Build attestations are listed beside the images, as platform unknown/unknown.
        .filter(|(platform, _)| platform.as_ref().is_none_or(|p: &Platform| p.os != "unknown"))
        .collect();
    let exact = described.iter().find(|(have, _)| have.as_ref() == Some(platform));
    let fitting = || described.iter().find(|(have, _)| have.as_ref().is_some_and(|have| have.satisfies(platform)));
    let only = || described.first().filter(|(have, _)| described.len() == 1 && have.is_none());
    match exact.or_else(fitting).or_else(only) {
        Some((_, digest)) => digest.parse(),
        None => {
            let mut names: Vec<String> =
                described.iter().map(|(p, _)| p.as_ref().map_or("unknown".to_owned(), ToString::to_string)).collect();
            names.dedup();
            Err(Error::Platform {
                image: name.to_owned(),
                wanted: platform.to_string(),
                available: if names.is_empty() { "none at all".to_owned() } else { names.join(", ") },
            })
        }
    }
}
