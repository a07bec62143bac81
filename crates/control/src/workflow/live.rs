//! What `workflow-controller-configmap` of the controller's namespace says now, for all runs: `workflowDefaults`,
//! `workflowRestrictions`, `resourceRateLimit`; which ConfigMaps of repositories there are; and for the loop `parallelism` and `namespaceParallelism`, with the namespaces' own limits. It is
//! watched, so a change counts at once. What cannot be read is said in the log and leaves what was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watch_object};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;
use windlass_engine::Referencing;
use windlass_engine::artifact_plugins::ArtifactDriver;
use windlass_engine::persistence::Archiving;
use windlass_engine::repository::{ControllerConfig, controller_config};
use windlass_schedule::throttle::{Bucket, Limits};

use super::{Key, Settings, Sight, Sights, repository, seen};
use crate::Error;

/// Label of a namespace: its own limit.
pub const LIMIT: &str = "workflows.argoproj.io/parallelism-limit";
/// A new run does not wait for its first status for longer than ten times this.
const WRITE_COSTS_MAX: Duration = Duration::from_millis(100);
/// A watch that is not allowed, say, is not asked for all the time.
const PAUSE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
struct Now {
    defaults: Option<Value>,
    referencing: Option<Referencing>,
    rate: Option<(f64, u32)>,
    bucket: Option<Bucket>,
    archiving: Archiving,
    drivers: Vec<ArtifactDriver>,
    maps: Maps,
    write_took: Duration,
}

/// Which ConfigMaps that a run's repository may be in are there, as a watch tells it. A watch is late by a moment, and a
/// ConfigMap may be applied right before its workflow: so what is not there is asked for all the same, once in a while.
#[derive(Debug, Default)]
struct Maps {
    there: BTreeSet<Key>,
    listed: BTreeSet<&'static str>,
    asked: BTreeMap<Key, Instant>,
}

/// How long the watch is believed that a ConfigMap is not there, after the API itself was asked.
const BELIEVED: Duration = Duration::from_secs(10);
/// The names of ConfigMaps that are watched.
const MAPS: [&str; 2] = [repository::REPOSITORIES, repository::CONFIGURATION];

/// A handle on the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live(Arc<Mutex<Now>>);

impl Live {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What workflows leave out.
    pub(crate) fn defaults(&self) -> Option<Value> {
        self.now().defaults.clone()
    }

    /// Whether workflows must refer to stored templates.
    pub(crate) fn referencing(&self) -> Option<Referencing> {
        self.now().referencing
    }

    /// The artifact plugins that there are.
    pub(crate) fn drivers(&self) -> Vec<ArtifactDriver> {
        self.now().drivers.clone()
    }

    /// Whether a workflow with these labels is to be archived, by who has an archive and does so `unasked` or not.
    pub(crate) fn is_archived(&self, labels: &BTreeMap<String, String>, unasked: bool) -> bool {
        let now = self.now();
        now.archiving.on.unwrap_or(unasked)
            && now.archiving.selector.as_ref().is_none_or(|selector| crate::selects(selector, labels))
    }

    /// Whether one more pod may be made now.
    pub(crate) fn may_create(&self, now: Timestamp) -> bool {
        self.now().bucket.as_mut().is_none_or(|bucket| bucket.take(now))
    }

    /// Whether a ConfigMap has to be asked for.
    pub(crate) fn may_be_there(&self, namespace: &str, name: &str, now: Instant) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let maps = &mut self.now().maps;
        let is_new = maps.asked.get(&key).is_none_or(|at| now.duration_since(*at) > BELIEVED);
        if maps.there.contains(&key) || !maps.listed.contains(name) || is_new {
            maps.asked.insert(key, now);
            return true;
        }
        false
    }

    /// The watch has seen one, or that it is gone.
    pub(crate) fn map(&self, key: Key, there: bool) {
        let maps = &mut self.now().maps;
        match there {
            true => _ = maps.there.insert(key),
            false => _ = maps.there.remove(&key),
        }
    }

    /// The watch has seen all of this name.
    pub(crate) fn maps_listed(&self, name: &'static str) {
        self.now().maps.listed.insert(name);
    }

    /// What writing a status costs at present.
    pub(crate) fn write_took(&self) -> Duration {
        self.now().write_took.min(WRITE_COSTS_MAX)
    }

    /// A status was written.
    pub(crate) fn wrote(&self, took: Duration) {
        let mut now = self.now();
        now.write_took = (now.write_took * 7 + took) / 8;
    }

    /// Takes a new configuration; the limits by it, with what namespaces say themselves.
    pub(crate) fn take(&self, config: ControllerConfig, own: BTreeMap<String, usize>, at: Timestamp) -> Limits {
        let mut now = self.now();
        now.defaults = config.workflow_defaults;
        now.referencing = config.referencing;
        now.archiving = config.archiving;
        now.drivers = config.artifact_drivers;
        if now.rate != config.resource_rate_limit {
            now.rate = config.resource_rate_limit;
            now.bucket = now.rate.map(|(rate, burst)| Bucket::new(rate, burst, at));
        }
        Limits { total: config.parallelism, namespace: config.namespace_parallelism, own }
    }
}

/// The configuration as it is.
pub(crate) async fn read(client: &Client, settings: &Settings) -> Result<ControllerConfig, Error> {
    let map = config_maps(client, settings).get_opt(repository::CONFIGURATION).await?;
    Ok(config_of(map.as_ref()).unwrap_or_default())
}

/// What the ConfigMap of that namespace says now, for what counts from a controller's start: its instance and its database,
/// as with Argo's. A ConfigMap that cannot be read is an error: whose workflows these are is not to be guessed.
pub async fn configured(client: &Client, namespace: &str) -> Result<ControllerConfig, Error> {
    let maps: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &seen::config_maps());
    let map = maps.get_opt(repository::CONFIGURATION).await?;
    let Some(map) = map else { return Ok(ControllerConfig::default()) };
    controller_config(&repository::data(&map)).map_err(Error::Configuration)
}

/// Every change of the configuration, and of what namespaces say. A controller of one namespace may not ask for that.
pub(crate) fn watch(client: &Client, settings: &Settings) -> Vec<Sights> {
    let configuration: Sights = watch_object(config_maps(client, settings), repository::CONFIGURATION)
        .filter_map(|version| async {
            match version {
                Ok(map) => config_of(map.as_ref()).map(|config| Sight::Configured(Box::new(config))),
                Err(e) => pause(e).await,
            }
        })
        .boxed();
    let mut all = vec![configuration];
    all.extend(MAPS.map(|name| maps(client, settings, name)));
    if settings.scope.namespace.is_none() {
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        let namespaces: Sights = watcher::watcher(namespaces, watcher::Config::default())
            .filter_map(|event| async {
                match event {
                    Ok(Event::Apply(namespace) | Event::InitApply(namespace)) => {
                        let limit = namespace.labels().get(LIMIT).and_then(|text| text.parse().ok());
                        Some(Sight::Namespace(namespace.name_any(), limit))
                    }
                    Ok(Event::Delete(namespace)) => Some(Sight::Namespace(namespace.name_any(), None)),
                    Ok(_) => None,
                    Err(e) => pause(e).await,
                }
            })
            .boxed();
        all.push(namespaces);
    }
    all
}

/// The ConfigMaps of one name, wherever workflows are run.
fn maps(client: &Client, settings: &Settings, name: &'static str) -> Sights {
    let api: Api<PartialObjectMeta<ConfigMap>> = settings.scope.api(client);
    let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let key = |map: &PartialObjectMeta<ConfigMap>| (map.namespace().unwrap_or_default(), map.name_any());
    watcher::watcher(api, named)
        .filter_map(move |event| async move {
            match event {
                Ok(Event::Apply(map) | Event::InitApply(map)) => Some(Sight::Map(key(&map), true)),
                Ok(Event::Delete(map)) => Some(Sight::Map(key(&map), false)),
                Ok(Event::InitDone) => Some(Sight::MapsListed(name)),
                Ok(Event::Init) => None,
                Err(e) => pause(e).await,
            }
        })
        .boxed()
}

async fn pause(e: watcher::Error) -> Option<Sight> {
    warn!(error = %Error::from(e), "watch of the controller's configuration");
    tokio::time::sleep(PAUSE).await;
    None
}

fn config_maps(client: &Client, settings: &Settings) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), &settings.controller_namespace, &seen::config_maps())
}

fn config_of(map: Option<&DynamicObject>) -> Option<ControllerConfig> {
    let Some(map) = map else { return Some(ControllerConfig::default()) };
    match controller_config(&repository::data(map)) {
        Ok(config) => Some(config),
        Err(why) => {
            warn!(why, "{} cannot be read; what it said before goes on", repository::CONFIGURATION);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_that_is_not_there_is_asked_for_once_in_a_while() {
        let (live, now) = (Live::default(), Instant::now());
        let asks = |after: Duration| live.may_be_there("ns", repository::REPOSITORIES, now + after);
        // Nothing is listed yet: the watch knows nothing.
        assert!(asks(Duration::ZERO) && asks(Duration::ZERO));
        live.maps_listed(repository::REPOSITORIES);
        assert!(!asks(Duration::from_secs(1)));
        assert!(asks(BELIEVED + Duration::from_secs(1)));
        assert!(!asks(BELIEVED + Duration::from_secs(2)));
        let key = ("ns".to_owned(), repository::REPOSITORIES.to_owned());
        live.map(key.clone(), true);
        assert!(asks(BELIEVED + Duration::from_secs(2)));
        live.map(key, false);
        assert!(!asks(BELIEVED + Duration::from_secs(3)));
    }
}
