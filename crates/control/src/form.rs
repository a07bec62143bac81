//! In which form steps get their executor: a setting of the controller, never a question of where the API lives. The pod
//! itself is made by `windlass_engine::pod_form`; here is what that needs from outside: the commands of images.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube::Api;
use kube::Client;
use kube::api::DynamicObject;
use serde_json::Value;
use windlass_engine::pod_form::{self, ImageCommand, PodForm};
use windlass_engine::repository::image_commands;

use crate::workflow::{CONFIGURATION, config_maps};

/// The form of executor.
#[derive(Clone, Default)]
pub enum Executor {
    /// The node agent moves inputs and outputs; pods are the user's containers untouched.
    #[default]
    Node,
    /// The executor is in each pod: for any kubelet.
    Pod(PodExecutor),
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node => f.write_str("Node"),
            Self::Pod(pod) => f.debug_tuple("Pod").field(&pod.form).finish(),
        }
    }
}

/// What the `pod` form needs.
#[derive(Clone)]
pub struct PodExecutor {
    /// What is put into pods.
    pub form: PodForm,
    /// Who knows images.
    pub images: Arc<dyn ImageCommands>,
}

/// Tells what an image runs by itself. Implemented by whoever can ask registries.
pub trait ImageCommands: Send + Sync {
    /// `ENTRYPOINT` and `CMD` of an image.
    fn command<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<ImageCommand, Unknown>>;
}

/// Why an image's command is not known.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Unknown {
    /// For the node's message.
    pub message: String,
    /// Whether asking again may help.
    pub transient: bool,
}

impl PodExecutor {
    /// The pod that is created instead of the engine's; an error is the node's.
    pub(crate) async fn wrap(&self, client: &Client, namespaces: [&str; 2], pod: &Value) -> Result<Value, Unknown> {
        let images = pod_form::images_without_command(pod, &self.form);
        let mut commands = BTreeMap::new();
        if !images.is_empty() {
            let told = told(client, namespaces).await;
            for image in images {
                let command = match told.get(&image) {
                    Some(command) => command.clone(),
                    None => self.images.command(&image).await?,
                };
                commands.insert(image, command);
            }
        }
        pod_form::wrap(pod.clone(), &self.form, &commands).map_err(|message| Unknown { message, transient: false })
    }
}

/// The `images` of `workflow-controller-configmap`, of the workflow's namespace before the controller's.
async fn told(client: &Client, namespaces: [&str; 2]) -> BTreeMap<String, ImageCommand> {
    let mut all = BTreeMap::new();
    for namespace in namespaces {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &config_maps());
        let Ok(Some(map)) = api.get_opt(CONFIGURATION).await else { continue };
        let data = serde_json::from_value(map.data["data"].clone()).unwrap_or_default();
        for (image, command) in image_commands(&data) {
            all.entry(image).or_insert(command);
        }
    }
    all
}
