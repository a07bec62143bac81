//! What `workflow-controller-configmap` of the controller's namespace says now, for all runs: `workflowDefaults`,
//! `resourceRateLimit`; and for the loop `parallelism` and `namespaceParallelism`, with the namespaces' own limits. It is
//! watched, so a change counts at once. What cannot be read is said in the log and leaves what was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watch_object};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tracing::warn;
use windlass_engine::repository::{Archiving, ControllerConfig, controller_config};
use windlass_schedule::throttle::{Bucket, Limits};

use super::{Settings, Sight, Sights, repository, seen};
use crate::Error;

/// Label of a namespace: its own limit.
pub const LIMIT: &str = "workflows.argoproj.io/parallelism-limit";
/// A watch that is not allowed, say, is not asked for all the time.
const PAUSE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
struct Now {
    defaults: Option<Value>,
    rate: Option<(f64, u32)>,
    bucket: Option<Bucket>,
    archiving: Archiving,
}

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

    /// Whether a workflow with these labels is to be archived, by who has an archive.
    pub(crate) fn is_archived(&self, labels: &BTreeMap<String, String>) -> bool {
        let now = self.now();
        now.archiving.on != Some(false)
            && now.archiving.selector.as_ref().is_none_or(|selector| crate::selects(selector, labels))
    }

    /// Whether one more pod may be made now.
    pub(crate) fn may_create(&self, now: Timestamp) -> bool {
        self.now().bucket.as_mut().is_none_or(|bucket| bucket.take(now))
    }

    /// Takes a new configuration; the limits by it, with what namespaces say themselves.
    pub(crate) fn take(&self, config: ControllerConfig, own: BTreeMap<String, usize>, at: Timestamp) -> Limits {
        let mut now = self.now();
        now.defaults = config.workflow_defaults;
        now.archiving = config.archiving;
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
    if settings.managed_namespace.is_none() {
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
