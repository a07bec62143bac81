//! Which artifact repository a run uses: its own reference, else its namespace's default, else the controller's
//! configuration, else the built-in store. It reads ConfigMaps with the controller's rights and must never read a Secret.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;
use windlass_engine::artifact_plugins::{self, ArtifactDriver};
use windlass_engine::repository::{Repository, controller_config};
use windlass_model::Workflow;
use windlass_model::artifact::ArtifactRepositoryRef;

use super::live::Live;
use super::{Settings, seen};
use crate::Error;

/// The ConfigMap of repositories, where a reference names none.
pub(super) const REPOSITORIES: &str = "artifact-repositories";
/// Which key of it is the default.
const DEFAULT_KEY: &str = "workflows.argoproj.io/default-artifact-repository";
/// The controller's configuration.
pub const CONFIGURATION: &str = "workflow-controller-configmap";

/// The engine's configuration for this workflow; the inner error is the user's, and ends the run.
pub(crate) async fn resolve(
    client: &Client,
    settings: &Settings,
    live: &Live,
    workflow: &Workflow,
) -> Result<Result<windlass_engine::Config, String>, Error> {
    let mut config = settings.engine.clone();
    let namespace = workflow.metadata.namespace.as_deref().unwrap_or("default");
    let looking = Looking { client, settings, live, namespace };
    // A run goes on with what it began with: its keys are written already.
    let begun = workflow.status.as_ref().and_then(|s| s.artifact_repository_ref.as_ref());
    let found = match begun {
        Some(status) => Ok(Repository::of_status(status).map(|repository| (repository, status.clone()))),
        None => match looking.reference(workflow).await? {
            Some(reference) => looking.named(&reference).await?,
            None => looking.default().await?,
        },
    };
    if let Ok(Some((repository, status))) = found {
        config.artifact_repository = repository.location;
        config.key_format = repository.key_format.unwrap_or(config.key_format);
        config.artifact_repository_ref = Some(status);
    } else if let Err(why) = found {
        return Ok(Err(why));
    }
    config.artifact_drivers = live.drivers();
    // A ConfigMap may be applied right before its workflow, and may be in its namespace.
    if config.artifact_repository.plugin.is_some() || artifact_plugins::are_named(&workflow.spec) {
        config.artifact_drivers = looking.drivers().await?;
    }
    Ok(Ok(config))
}

struct Looking<'a> {
    client: &'a Client,
    settings: &'a Settings,
    live: &'a Live,
    namespace: &'a str,
}

/// A repository and what the status tells of it; an error is a text for the workflow.
type Found = Result<Option<(Repository, Value)>, String>;

impl Looking<'_> {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<DynamicObject>, Error> {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &seen::config_maps());
        Ok(api.get_opt(name).await?)
    }

    /// The same, not asked for where it is known not to be there.
    async fn if_there(&self, namespace: &str, name: &str) -> Result<Option<DynamicObject>, Error> {
        if !self.live.may_be_there(namespace, name, Instant::now()) {
            return Ok(None);
        }
        self.config_map(namespace, name).await
    }

    /// The workflow's reference, or that of the template it is made of.
    async fn reference(&self, workflow: &Workflow) -> Result<Option<ArtifactRepositoryRef>, Error> {
        if let Some(own) = &workflow.spec.artifact_repository_ref {
            return Ok(Some(own.clone()));
        }
        let Some(template) = &workflow.spec.workflow_template_ref else { return Ok(None) };
        let kind = seen::templates(template.cluster_scope);
        let api = if template.cluster_scope {
            Api::<DynamicObject>::all_with(self.client.clone(), &kind)
        } else {
            Api::namespaced_with(self.client.clone(), self.namespace, &kind)
        };
        let object = api.get_opt(&template.name).await?;
        let reference = object.and_then(|o| o.data.pointer("/spec/artifactRepositoryRef").cloned());
        Ok(reference.and_then(|r| serde_json::from_value(r).ok()))
    }

    /// A reference is looked up in the workflow's namespace, and then in the controller's.
    async fn named(&self, reference: &ArtifactRepositoryRef) -> Result<Found, Error> {
        let name = reference.config_map.as_deref().filter(|n| !n.is_empty()).unwrap_or(REPOSITORIES);
        for namespace in [self.namespace, &self.settings.controller_namespace] {
            if let Some(map) = self.config_map(namespace, name).await? {
                return Ok(entry(&map, namespace, reference.key.as_deref()));
            }
        }
        let (named, key) = (reference.config_map.as_deref(), reference.key.as_deref());
        let (namespace, controller) = (self.namespace, &self.settings.controller_namespace);
        tracing::warn!(namespace, "there is no ConfigMap {name} in the namespaces {namespace} and {controller}");
        // The status has Argo's words, as people's tools know them.
        Ok(Err(format!(
            "failed to resolve artifact repository: failed to find any artifact repository for artifact repository ref \
             \"{}#{}\"",
            named.unwrap_or_default(),
            key.unwrap_or_default()
        )))
    }

    /// The artifact plugins of the workflow's namespace, and then the controller's. What cannot be read is said with the
    /// repository, or in the log.
    async fn drivers(&self) -> Result<Vec<ArtifactDriver>, Error> {
        let mut drivers = Vec::new();
        for namespace in [self.namespace, &self.settings.controller_namespace] {
            // Of what is not there the watch may not know yet, and the repository may have asked just now.
            if let Some(map) = self.config_map(namespace, CONFIGURATION).await? {
                match controller_config(&data(&map)) {
                    Ok(config) => drivers.extend(config.artifact_drivers),
                    Err(why) => tracing::warn!(namespace, why, "{CONFIGURATION} cannot be read"),
                }
            }
        }
        Ok(drivers)
    }

    async fn default(&self) -> Result<Found, Error> {
        let controller = self.settings.controller_namespace.as_str();
        let (own, here, there) = tokio::try_join!(
            self.if_there(self.namespace, REPOSITORIES),
            self.if_there(self.namespace, CONFIGURATION),
            self.if_there(controller, CONFIGURATION),
        )?;
        if let Some(map) = own {
            return Ok(entry(&map, self.namespace, None));
        }
        for (namespace, map) in [(self.namespace, here), (controller, there)] {
            let Some(map) = map else { continue };
            let config = match controller_config(&data(&map)) {
                Ok(config) => config,
                Err(why) => return Ok(Err(format!("ConfigMap {namespace}/{CONFIGURATION}: {why}"))),
            };
            let ignored = config.without_effect(self.settings.database.is_some()).join(", ");
            if !ignored.is_empty() {
                tracing::info!(namespace, ignored, "settings of {CONFIGURATION} that have no effect here");
            }
            if let Some(repository) = config.repository {
                let status = repository.default_status();
                return Ok(Ok(Some((repository, status))));
            }
        }
        Ok(Ok(None))
    }
}

/// One repository of a ConfigMap: of this key, else of the one that its annotation names.
fn entry(map: &DynamicObject, namespace: &str, key: Option<&str>) -> Found {
    let name = map.name_any();
    let key = key.filter(|k| !k.is_empty()).or_else(|| map.annotations().get(DEFAULT_KEY).map(String::as_str));
    let Some(key) = key else {
        return Err(format!(
            "ConfigMap {namespace}/{name}: which repository is meant? name one with artifactRepositoryRef.key, or with \
             the annotation {DEFAULT_KEY}"
        ));
    };
    let Some(text) = data(map).remove(key) else {
        return Err(format!("config map missing key {key} for artifact repository ref \"{namespace}/{name}#{key}\""));
    };
    let repository =
        Repository::read(&text).map_err(|why| format!("ConfigMap {namespace}/{name}, key {key}: {why}"))?;
    let status = repository.status(json!({"configMap": name, "key": key, "namespace": namespace}));
    Ok(Some((repository, status)))
}

pub(super) fn data(map: &DynamicObject) -> BTreeMap<String, String> {
    serde_json::from_value(map.data["data"].clone()).unwrap_or_default()
}
