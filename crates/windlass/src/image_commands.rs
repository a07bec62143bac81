//! What images run by themselves, for the `pod` form of executor: from the image store, else from their registry. It brings
//! manifests and configurations, and no layer.

use futures::FutureExt;
use futures::future::BoxFuture;
use windlass_control::form::{ImageCommands, Unknown};
use windlass_engine::pod_form::ImageCommand;
use windlass_oci::Reference;
use windlass_oci::client::{Client, PullOptions};

/// Asks registries what images run; the answers are kept in the store.
pub(crate) struct Registries(Client);

impl Registries {
    /// By this client.
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }
}

impl ImageCommands for Registries {
    fn command<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<ImageCommand, Unknown>> {
        async move {
            let unknown = |why: String, transient: bool| Unknown {
                message: format!(
                    "what image {image} runs is not known: {why} (set command in the manifest, or list the image under \
                     images in the ConfigMap workflow-controller-configmap)"
                ),
                transient,
            };
            let reference = Reference::parse(image).map_err(|e| unknown(e.to_string(), false))?;
            let options = PullOptions { layers: false, unpack: false, ..PullOptions::default() };
            let found = self.0.pull(&reference, &options).await;
            // The client has tried several times by now.
            let found = found.map_err(|e| unknown(e.to_string(), false))?;
            let config = found.config().config().as_ref();
            let words = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
            Ok(ImageCommand {
                entrypoint: words(config.and_then(|c| c.entrypoint().as_ref())),
                cmd: words(config.and_then(|c| c.cmd().as_ref())),
            })
        }
        .boxed()
    }
}
