//! The settings of webhooks, read from their ConfigMap for each attempt: whoever changes them need not restart anything.

use k8s_openapi::api::core::v1::{ConfigMap, Secret as SecretObject};
use kube::api::Api;
use windlass_artifacts::Secret;
use windlass_schedule::settings::{CONFIG_MAP, KEY, SecretKey, Settings};

use super::Shared;
use super::outcome::Outcome;

impl Shared {
    /// What is set; nothing where nobody set anything.
    pub(super) async fn rules(&self) -> Result<Settings, Outcome> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let found = match api.get_opt(CONFIG_MAP).await {
            Ok(found) => found,
            Err(error) => {
                let message = format!("ConfigMap {CONFIG_MAP}: {error}");
                return Err(Outcome::Retry { reason: "ApiUnavailable", message });
            }
        };
        let Some(text) = found.and_then(|map| map.data).and_then(|mut data| data.remove(KEY)) else {
            return Ok(Settings::default());
        };
        Settings::parse(&text).map_err(|(faults, sources)| {
            let rendered = windlass_lang::render(&faults, &sources, false);
            let message =
                format!("the ConfigMap {CONFIG_MAP} is wrong; correct it and redeliver\n{}", rendered.trim_end());
            Outcome::failed("InvalidSettings", message)
        })
    }

    /// The value of a Secret's key.
    pub(super) async fn secret(&self, wanted: Option<&SecretKey>) -> Result<Option<Secret>, Outcome> {
        let Some(SecretKey { name, key }) = wanted else { return Ok(None) };
        let namespace = &self.settings.namespace;
        let api: Api<SecretObject> = Api::namespaced(self.client.clone(), namespace);
        let found = match api.get_opt(name).await {
            Ok(found) => found,
            Err(error) => {
                let message = format!("Secret {namespace}/{name}: {error}");
                return Err(Outcome::Retry { reason: "ApiUnavailable", message });
            }
        };
        let value = found.and_then(|secret| secret.data).and_then(|mut data| data.remove(key));
        match value {
            Some(value) => Ok(Some(Secret::new(value.0))),
            None => Err(Outcome::failed(
                "InvalidSettings",
                format!(
                    "{KEY} of the ConfigMap {CONFIG_MAP} names the key {key} of the Secret {namespace}/{name}, and \
                         there is none; make it and redeliver"
                ),
            )),
        }
    }
}
