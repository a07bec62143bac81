//! Which object a resource step works on, and how the API is asked for it: by the manifest's kind, or by a word as kubectl
//! takes it (`po`, `deployments.apps`).

use super::ResourceError;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use serde_json::Value;

/// A kind, and where its objects are.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

/// One object.
pub(super) struct Target {
    pub(super) api: Api<DynamicObject>,
    pub(super) name: String,
    /// `deployment.apps/web`
    pub(super) label: String,
}

impl Kind {
    /// By the words of a manifest.
    pub(super) async fn of(client: &kube::Client, object: &Value) -> Result<Self, ResourceError> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if version.is_empty() || kind.is_empty() {
            return Err(ResourceError::Template(format!("Object 'Kind' is missing in '{object}'")));
        }
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = discovery::pinned_kind(client, &gvk)
            .await
            .map_err(|e| ResourceError::Api { doing: format!("looking up kind {kind}"), source: Box::new(e) })?;
        Ok(Self { resource, namespaced: capabilities.scope == Scope::Namespaced })
    }

    /// By a word: the name of the resource, its singular, kind or short name, and behind a point its group.
    pub(super) async fn named(client: &kube::Client, word: &str) -> Result<Self, ResourceError> {
        let failed = |source| ResourceError::Api { doing: format!("looking up type {word}"), source: Box::new(source) };
        let lower = word.to_ascii_lowercase();
        let (name, group) = lower.split_once('.').unwrap_or((&lower, ""));
        let mut places = vec![("".to_owned(), "v1".to_owned())];
        let groups = client.list_api_groups().await.map_err(failed)?.groups;
        for known in groups {
            let version = known.preferred_version.or_else(|| known.versions.into_iter().next());
            places.extend(version.map(|v| (known.name, v.group_version)));
        }
        for (known, version) in places {
            // `deployments.apps` and `deployments.v1.apps`.
            let of_group = group.is_empty() || group == known || group.ends_with(&format!(".{known}"));
            if !of_group {
                continue;
            }
            let list = match known.as_str() {
                "" => client.list_core_api_resources(&version).await,
                _ => client.list_api_group_resources(&version).await,
            };
            for resource in list.map_err(failed)?.resources {
                let is = resource.name == name
                    || resource.singular_name == name
                    || resource.kind.to_ascii_lowercase() == name
                    || resource.short_names.iter().flatten().any(|short| short == name);
                if is && !resource.name.contains('/') {
                    let (of, version) = version.split_once('/').unwrap_or(("", &version));
                    let gvk = GroupVersionKind::gvk(of, version, &resource.kind);
                    let found = ApiResource::from_gvk_with_plural(&gvk, &resource.name);
                    return Ok(Self { resource: found, namespaced: resource.namespaced });
                }
            }
        }
        Err(ResourceError::Template(format!("the server doesn't have a resource type {word:?}")))
    }

    pub(super) fn api(&self, client: &kube::Client, namespace: &str) -> Api<DynamicObject> {
        match self.namespaced {
            true => Api::namespaced_with(client.clone(), namespace, &self.resource),
            false => Api::all_with(client.clone(), &self.resource),
        }
    }

    pub(super) fn target(&self, client: &kube::Client, namespace: &str, name: &str, shown: &str) -> Target {
        let plain = self.resource.kind.to_lowercase();
        let group = &self.resource.group;
        let kind = if group.is_empty() { plain } else { format!("{plain}.{group}") };
        Target { api: self.api(client, namespace), name: name.to_owned(), label: format!("{kind}/{shown}") }
    }
}

impl Target {
    pub(super) fn failed(&self, doing: &str) -> impl FnOnce(kube::Error) -> ResourceError + use<> {
        let doing = format!("{doing} {}", self.label);
        move |source| ResourceError::Api { doing, source: Box::new(source) }
    }

    /// The object as it is now.
    pub(super) async fn read(&self) -> Result<Value, ResourceError> {
        let live = self.api.get(&self.name).await.map_err(self.failed("reading"))?;
        Ok(value(&live))
    }
}

pub(super) fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}
