//! The API objects that a Pod names: Secrets, ConfigMaps and its ServiceAccount, read once when the Pod is set up. What is
//! missing is told by name; whether that matters is for the reader to decide (`optional`).

use crate::env;
use crate::lifecycle;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::Api;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) account: Option<ServiceAccount>,
}

impl env::Objects for Found {
    fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }
    fn config_map(&self, name: &str) -> Option<&ConfigMap> {
        self.config_maps.get(name)
    }
}

/// The names a Pod uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Named {
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) account: String,
}

/// The names in `pod`: environment, volumes and pull secrets.
pub(crate) fn named(pod: &Pod) -> Named {
    let mut named = Named::default();
    let Some(spec) = &pod.spec else { return named };
    named.account = account_name(pod);
    named.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|s| s.name.clone()));
    for container in lifecycle::containers(pod) {
        for source in container.env_from.iter().flatten() {
            named.config_maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
            named.secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            named.config_maps.extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
            named.secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        named.config_maps.extend(volume.config_map.iter().map(|c| c.name.clone()));
        named.secrets.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            named.config_maps.extend(source.config_map.iter().map(|c| c.name.clone()));
            named.secrets.extend(source.secret.iter().map(|s| s.name.clone()));
        }
    }
    named
}

/// The name of the Pod's ServiceAccount.
pub(crate) fn account_name(pod: &Pod) -> String {
    let name = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    name.filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into())
}

/// How long a ServiceAccount that was read is good for: a burst of Pods of one namespace asks once.
const ACCOUNT_AGE_MAX: Duration = Duration::from_secs(1);

/// ServiceAccounts read a moment ago, by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<HashMap<(String, String), (Instant, ServiceAccount)>>);

impl Accounts {
    /// One that is there; what is missing is asked for each time.
    async fn get(
        &self,
        api: &Api<ServiceAccount>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ServiceAccount>, kube::Error> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some((_, account)) = self.lock().get(&key).filter(|(read, _)| read.elapsed() < ACCOUNT_AGE_MAX) {
            return Ok(Some(account.clone()));
        }
        let now = Instant::now();
        let account = api.get_opt(name).await?;
        let mut all = self.lock();
        all.retain(|_, (read, _)| read.elapsed() < ACCOUNT_AGE_MAX);
        if let Some(account) = &account {
            all.insert(key, (now, account.clone()));
        }
        Ok(account)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), (Instant, ServiceAccount)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what `pod` names. Only an API that does not answer is an error.
pub(crate) async fn find(
    client: &kube::Client,
    known: &Accounts,
    pod: &Pod,
    named: &Named,
) -> Result<Found, kube::Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = known.get(&accounts, namespace, &named.account);
    let secrets_read = try_join_all(named.secrets.iter().map(|name| secrets.get_opt(name)));
    let maps_read = try_join_all(named.config_maps.iter().map(|name| config_maps.get_opt(name)));
    let (account, found_secrets, found_maps) = futures::try_join!(account, secrets_read, maps_read)?;
    let mut found = Found { account, ..Found::default() };
    let named_secrets = named.secrets.iter().cloned().zip(found_secrets);
    found.secrets.extend(named_secrets.filter_map(|(name, secret)| Some((name, secret?))));
    let named_maps = named.config_maps.iter().cloned().zip(found_maps);
    found.config_maps.extend(named_maps.filter_map(|(name, map)| Some((name, map?))));
    // The account's own pull secrets, unless the Pod names some.
    let own = found.account.iter().flat_map(|a| a.image_pull_secrets.iter().flatten());
    let more: Vec<String> = own.map(|s| s.name.clone()).filter(|n| !found.secrets.contains_key(n)).collect();
    for name in more {
        if let Some(secret) = secrets.get_opt(&name).await? {
            found.secrets.insert(name, secret);
        }
    }
    Ok(found)
}

/// The names of the Secrets that may hold registry credentials for `pod`.
pub(crate) fn pull_secrets(pod: &Pod, found: &Found) -> Vec<String> {
    let own = pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()).map(|s| s.name.clone());
    let of_account = found.account.iter().flat_map(|a| a.image_pull_secrets.iter().flatten()).map(|s| s.name.clone());
    own.chain(of_account).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_reference_is_seen() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [{"name": "a", "secret": {"secretName": "s1"}}, {"name": "b", "configMap": {"name": "c1"}},
                {"name": "c", "projected": {"sources": [{"secret": {"name": "s2"}}, {"configMap": {"name": "c2"}}]}}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "s3"}}]}],
            "containers": [{"name": "m", "env": [
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c3", "key": "k"}}}]}]}}))
        .unwrap();
        let named = named(&pod);
        assert_eq!(named.secrets.into_iter().collect::<Vec<_>>(), ["pull", "s1", "s2", "s3"]);
        assert_eq!(named.config_maps.into_iter().collect::<Vec<_>>(), ["c1", "c2", "c3"]);
        assert_eq!(named.account, "default");
    }
}
