//! The settings of webhooks, read from their ConfigMap for each attempt: whoever changes them need not restart anything.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use windlass_schedule::settings::{CONFIG_MAP, KEY, Settings};

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
}
