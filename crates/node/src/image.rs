//! Images of containers: the local store first, then the registry, once per image however many Pods wait for it. It never
//! asks a network for what an image made on this machine already answers.

use crate::objects::Found;
use crate::plan::ImageConfig;
use k8s_openapi::api::core::v1::{Container, Secret};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use windlass_oci::client::{Client, ClientOptions, DockerConfig, PullOptions};
use windlass_oci::{Digest, Image, Reference, Store};

/// An image ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) config: ImageConfig,
    /// Bottom first.
    pub(crate) lowers: Vec<PathBuf>,
    /// As `imageID` shows it.
    pub(crate) id: String,
    /// It came from a registry just now.
    pub(crate) pulled: bool,
}

/// Why there is no image: the kubelet's waiting reason and a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ImageError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The node's images.
pub(crate) struct Images {
    store: Store,
    options: ClientOptions,
    /// With the node's own credentials; its connections are shared.
    client: Client,
    flights: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Images as they were last found, by name, with what the name led to then.
    found: Mutex<HashMap<String, (Digest, Ready)>>,
}

/// How many images stay known.
const FOUND_MAX: usize = 256;

/// `imagePullPolicy`, with Kubernetes' default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The policy of `container`: as given, else `Always` for `:latest` and no tag.
    pub(crate) fn of(container: &Container, reference: &Reference) -> Self {
        match container.image_pull_policy.as_deref() {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ if reference.digest().is_none() && reference.tag().is_none_or(|t| t == "latest") => Self::Always,
            _ => Self::IfNotPresent,
        }
    }
}

impl Images {
    pub(crate) fn new(store: Store, options: ClientOptions) -> windlass_oci::Result<Self> {
        let client = Client::new(store.clone(), options.clone())?;
        Ok(Self { store, options, client, flights: Mutex::default(), found: Mutex::default() })
    }

    /// The image of `container`, pulled where it has to be.
    pub(crate) async fn get(
        &self,
        container: &Container,
        found: &Found,
        pull_secrets: &[String],
    ) -> Result<Ready, ImageError> {
        let name = container.image.as_deref().unwrap_or("");
        let reference = Reference::parse(name).map_err(|error| ImageError {
            reason: "InvalidImageName",
            message: format!("Failed to apply default image tag {name:?}: {error}"),
        })?;
        let policy = PullPolicy::of(container, &reference);
        let before = self.store.resolve(&reference).ok().flatten();
        if let Some(pointer) = &before
            && (policy != PullPolicy::Always || pointer.made_here || answers_here(&reference))
            && let Some(ready) = self.known(name, &pointer.digest)
        {
            return Ok(ready);
        }
        let ready = self.find(name, &reference, policy, found, pull_secrets).await?;
        // A name that was moved meanwhile is looked at again by the next Pod.
        let after = self.store.resolve(&reference).ok().flatten();
        if let (Some(before), Some(after)) = (before, after)
            && before.digest == after.digest
        {
            self.remember(name, after.digest, &ready);
        }
        Ok(ready)
    }

    /// The image of this name as it was last found, if the name still leads there and its layers are in their place.
    fn known(&self, name: &str, digest: &Digest) -> Option<Ready> {
        let all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, ready) = all.get(name).filter(|(known, _)| known == digest)?;
        ready.lowers.iter().all(|lower| lower.exists()).then(|| ready.clone())
    }

    fn remember(&self, name: &str, digest: Digest, ready: &Ready) {
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= FOUND_MAX {
            all.clear();
        }
        all.insert(name.to_owned(), (digest, Ready { pulled: false, ..ready.clone() }));
    }

    async fn find(
        &self,
        name: &str,
        reference: &Reference,
        policy: PullPolicy,
        found: &Found,
        pull_secrets: &[String],
    ) -> Result<Ready, ImageError> {
        let failed = |error: &windlass_oci::Error| ImageError {
            reason: "ErrImagePull",
            message: format!("failed to pull image {name:?}: {error}"),
        };
        if policy != PullPolicy::Always {
            if let Some(image) = self.stored(reference).await.map_err(|e| failed(&e))? {
                return self.unpacked(image, false).await.map_err(|e| failed(&e));
            }
            if policy == PullPolicy::Never {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                return Err(ImageError { reason: "ErrImageNeverPull", message });
            }
        }
        // One pull at a time for one image; those who waited then find it in the store.
        let flight = self.flight(name);
        let waited = flight.try_lock().is_err();
        let _turn = flight.lock().await;
        if waited && let Some(image) = self.stored(reference).await.map_err(|e| failed(&e))? {
            return self.unpacked(image, false).await.map_err(|e| failed(&e));
        }
        let client = self.client(found, pull_secrets).map_err(|e| failed(&e))?;
        let options = PullOptions { always: policy == PullPolicy::Always, ..PullOptions::default() };
        match client.pull(reference, &options).await {
            Ok(image) => self.unpacked(image, true).await.map_err(|e| failed(&e)),
            Err(error) => {
                // Offline, an image that is here is better than none, also for `Always`.
                match self.stored(reference).await {
                    Ok(Some(image)) if error.is_transient() => {
                        tracing::warn!(image = name, %error, "the registry did not answer; using the image that is here");
                        self.unpacked(image, false).await.map_err(|e| failed(&e))
                    }
                    _ => Err(failed(&error)),
                }
            }
        }
    }

    fn flight(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = flights.get(name).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::default();
        flights.insert(name.to_owned(), Arc::downgrade(&flight));
        flight
    }

    async fn stored(&self, reference: &Reference) -> windlass_oci::Result<Option<Image>> {
        let (store, reference) = (self.store.clone(), reference.clone());
        blocking(move || store.get(&reference)).await
    }

    async fn unpacked(&self, image: Image, pulled: bool) -> windlass_oci::Result<Ready> {
        let store = self.store.clone();
        blocking(move || {
            let lowers = store.rootfs(&image)?;
            Ok(Ready { config: config(&image), lowers, id: image.digest().to_string(), pulled })
        })
        .await
    }

    fn client(&self, found: &Found, pull_secrets: &[String]) -> windlass_oci::Result<Client> {
        match merged_auths(pull_secrets.iter().filter_map(|name| found.secrets.get(name))) {
            None => Ok(self.client.clone()),
            Some(bytes) => {
                let credentials = DockerConfig::parse(&bytes)?;
                Client::new(self.store.clone(), ClientOptions { credentials, ..self.options.clone() })
            }
        }
    }
}

/// Names that no registry is ever asked about, whatever the pull policy.
fn answers_here(reference: &Reference) -> bool {
    reference.is_local() || reference.digest().is_some()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> windlass_oci::Result<T> + Send + 'static,
) -> windlass_oci::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(windlass_oci::Error::Io {
            what: "reading the image store".to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

fn config(image: &Image) -> ImageConfig {
    let config = image.config().config().as_ref();
    let words = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    ImageConfig {
        entrypoint: words(config.and_then(|c| c.entrypoint().as_ref())),
        cmd: words(config.and_then(|c| c.cmd().as_ref())),
        env: words(config.and_then(|c| c.env().as_ref())),
        cwd: config.and_then(|c| c.working_dir().clone()),
        user: config.and_then(|c| c.user().clone()),
        stop_signal: config.and_then(|c| c.stop_signal().clone()),
        volumes: words(config.and_then(|c| c.volumes().as_ref())),
    }
}

/// One docker `config.json` out of several Secrets; earlier ones win. `None` where none has credentials.
fn merged_auths<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Option<Vec<u8>> {
    let mut all = serde_json::Map::new();
    for secret in secrets {
        let Some(data) = &secret.data else { continue };
        let auths = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
            (Some(bytes), _) => {
                serde_json::from_slice::<serde_json::Value>(&bytes.0).ok().and_then(|value| value.get("auths").cloned())
            }
            (None, Some(bytes)) => serde_json::from_slice(&bytes.0).ok(),
            (None, None) => None,
        };
        for (registry, auth) in auths.as_ref().and_then(|a| a.as_object()).into_iter().flatten() {
            all.entry(registry.clone()).or_insert_with(|| auth.clone());
        }
    }
    if all.is_empty() {
        return None;
    }
    serde_json::to_vec(&serde_json::json!({"auths": all})).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pull_policies() {
        let policy = |image: &str, given: Option<&str>| {
            let container: Container =
                serde_json::from_value(json!({"name": "c", "image": image, "imagePullPolicy": given})).unwrap();
            PullPolicy::of(&container, &Reference::parse(image).unwrap())
        };
        assert_eq!(policy("bash", None), PullPolicy::Always);
        assert_eq!(policy("bash:latest", None), PullPolicy::Always);
        assert_eq!(policy("bash:5", None), PullPolicy::IfNotPresent);
        assert_eq!(policy("bash", Some("Never")), PullPolicy::Never);
    }

    #[test]
    fn credentials_of_several_secrets() {
        let secret = |kind: &str, content: serde_json::Value| -> Secret {
            let bytes = k8s_openapi::ByteString(content.to_string().into_bytes());
            Secret { data: Some([(kind.to_owned(), bytes)].into()), ..Secret::default() }
        };
        let one = secret(".dockerconfigjson", json!({"auths": {"a": {"auth": "1"}}}));
        let two = secret(".dockercfg", json!({"a": {"auth": "2"}, "b": {"auth": "3"}}));
        let merged: serde_json::Value =
            serde_json::from_slice(&merged_auths([&one, &two].into_iter()).unwrap()).unwrap();
        assert_eq!(merged, json!({"auths": {"a": {"auth": "1"}, "b": {"auth": "3"}}}));
        assert!(merged_auths(std::iter::empty()).is_none());
    }
}
