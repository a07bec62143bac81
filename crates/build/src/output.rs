//! The end of a build: layers and configuration become an image of the store, and the image goes where it was asked to.

use serde_json::json;
use windlass_oci::client::{Client, PushOptions};
use windlass_oci::{Commit, Digest, Image, Reference};

use crate::error::Fault;
use crate::shop::{Finished, Shop};

/// Writes the image into the store and gives it its local names.
pub(crate) async fn commit(shop: &Shop, finished: &Finished) -> Result<Image, Fault> {
    let mut layers = Vec::with_capacity(finished.items.len());
    for item in &finished.items {
        layers.push(item.layer().await?);
    }
    let mut config = finished.config.clone();
    for (name, value) in &shop.request.labels {
        config.insert("Labels", name, json!(value));
    }
    let mut document = config.document().clone();
    if let Some(epoch) = shop.request.epoch {
        let at = jiff::Timestamp::from_second(epoch).map_err(|e| Fault::said(e.to_string()))?.to_string();
        document["created"] = json!(at);
        for entry in document["history"].as_array_mut().into_iter().flatten() {
            if entry["created"].as_str().is_some_and(|created| created > at.as_str()) {
                entry["created"] = json!(at);
            }
        }
    }
    let family = shop.request.family.unwrap_or(finished.family);
    let commit = Commit { config: document, layers, family, annotations: shop.request.annotations.clone() };
    let (store, names) = (shop.store.clone(), shop.request.names.clone());
    blocking(move || Ok(store.commit_image(&commit, &names)?)).await
}

/// Pushes the image to one destination.
pub(crate) async fn push(client: &Client, image: &Image, to: &Reference, finished: &Finished) -> Result<Digest, Fault> {
    let options = PushOptions { mount_from: finished.bases.clone(), ..PushOptions::default() };
    Ok(client.push(image.digest(), to, &options).await?)
}

/// Runs work that blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Fault::Cancelled),
        },
    }
}
