//! From a Delivery to what it submits. Observe: a Delivery that is not finished. Decide: `windlass-schedule`. Act: fetch
//! the manifest, create the objects, write the status once. It must never evaluate event text, nor decide by itself what
//! counts as a repeat.
//!
//! Every step may be done again after a crash: the objects' names follow from the delivery, so creating twice is answered
//! with `AlreadyExists`, and what carries this delivery's annotation is ours.

mod act;
mod lint;
mod outcome;
mod retention;
mod settings;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_artifacts::git::{Credentials, Mirrors};
use windlass_model::delivery::{Delivery, DeliveryPhase};
use windlass_schedule::trigger::Policy;

/// How deliveries are worked off.
#[derive(Clone)]
pub struct Settings {
    /// Where Deliveries are.
    pub namespace: String,
    /// The manifest's path in a repository, where the ConfigMap `windlass-webhooks` does not say otherwise.
    pub path: String,
    /// What may be created, and where.
    pub policy: Policy,
    /// For repositories over HTTP.
    pub credentials: Option<Credentials>,
    /// Manifests are read at a time.
    pub parallel: usize,
    /// The first wait after a host did not answer; doubled each time, up to a minute.
    pub backoff: Duration,
    /// After so long an unreachable host is given up.
    pub give_up_after: Duration,
    /// Finished Deliveries that are kept.
    pub keep: usize,
    /// The largest manifest.
    pub manifest_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            path: windlass_schedule::settings::MANIFEST.to_owned(),
            policy: Policy::default(),
            credentials: None,
            parallel: 4,
            backoff: Duration::from_secs(1),
            give_up_after: Duration::from_secs(15 * 60),
            keep: 200,
            manifest_bytes_max: 1 << 20,
        }
    }
}

/// The loop over Deliveries.
pub struct DeliveryLoop {
    shared: Arc<Shared>,
}

struct Shared {
    client: kube::Client,
    deliveries: Api<DynamicObject>,
    mirrors: Arc<Mirrors>,
    settings: Settings,
    permits: tokio::sync::Semaphore,
    /// One delivery of a repository at a time, in the order of their arrival.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Names that are worked on, and whether one was asked for again meanwhile.
    running: Mutex<HashMap<String, bool>>,
}

/// The API resource of Delivery.
fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk(windlass_model::WINDLASS_GROUP, windlass_model::VERSION, "Delivery");
    ApiResource::from_gvk_with_plural(&kind, "deliveries")
}

impl DeliveryLoop {
    /// A loop that reads manifests through `mirrors`.
    pub fn new(client: kube::Client, mirrors: Arc<Mirrors>, settings: Settings) -> Self {
        let deliveries = Api::namespaced_with(client.clone(), &settings.namespace, &resource());
        let permits = tokio::sync::Semaphore::new(settings.parallel.max(1));
        let (turns, running) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { client, deliveries, mirrors, settings, permits, turns, running }) }
    }

    /// Works until `stop` is cancelled. What is unfinished then is taken up by the next start.
    pub async fn run(self, stop: CancellationToken) -> Result<(), crate::Error> {
        let mut tasks = JoinSet::new();
        let mut events = std::pin::pin!(watcher(self.shared.deliveries.clone(), watcher::Config::default()));
        let mut initial: Vec<DynamicObject> = Vec::new();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                event = events.next() => event,
            };
            match event {
                None => break,
                Some(Ok(watcher::Event::Apply(object))) => self.observe(object, &mut tasks, &stop),
                Some(Ok(watcher::Event::Init)) => initial.clear(),
                Some(Ok(watcher::Event::InitApply(object))) => initial.push(object),
                Some(Ok(watcher::Event::InitDone)) => {
                    // After a restart the oldest comes first.
                    initial.sort_by(|a, b| {
                        let key = |o: &DynamicObject| {
                            (o.metadata.creation_timestamp.as_ref().map(|t| t.0), o.metadata.name.clone())
                        };
                        key(a).cmp(&key(b))
                    });
                    for object in initial.drain(..) {
                        self.observe(object, &mut tasks, &stop);
                    }
                    let shared = Arc::clone(&self.shared);
                    tasks.spawn(async move { shared.retain().await });
                }
                Some(Ok(watcher::Event::Delete(_))) => {}
                // The watcher lists again by itself; it must not do so in a tight loop.
                Some(Err(error)) => {
                    tracing::warn!(%error, "watch of deliveries");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
        // A task that is in the middle of a step sees `stop` itself; fetches end with their timeout.
        let drain = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(5), drain).await;
        Ok(())
    }

    fn observe(&self, object: DynamicObject, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        let Some(name) = object.metadata.name.clone() else { return };
        let delivery: Delivery = match serde_json::to_value(&object).and_then(serde_json::from_value) {
            Ok(delivery) => delivery,
            Err(error) => {
                tracing::error!(%name, %error, "not a Delivery");
                return;
            }
        };
        if delivery.metadata.deletion_timestamp.is_some() || is_finished(&delivery) {
            return;
        }
        {
            let mut running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(again) = running.get_mut(&name) {
                // `Fetching` is our own note; anything else may be a wish to try again.
                *again |= phase(&delivery) == DeliveryPhase::Received;
                return;
            }
            running.insert(name.clone(), false);
        }
        let turn = {
            let mut turns = self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody holds or waits for a turn that only the table knows.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(delivery.spec.event.repo.full_name.clone()).or_default())
        };
        let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
        tasks.spawn(async move {
            let done = stop.run_until_cancelled(shared.work_while_asked(&name, delivery, &turn)).await;
            shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            if done.is_some() {
                shared.retain().await;
            }
        });
    }
}

impl Shared {
    /// Works a delivery off, and again where somebody asked for that while it was worked on.
    async fn work_while_asked(&self, name: &str, first: Delivery, turn: &tokio::sync::Mutex<()>) {
        let mut delivery = first;
        loop {
            self.work(name, &delivery, turn).await;
            {
                let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                match running.get_mut(name) {
                    Some(again) if *again => *again = false,
                    _ => {
                        running.remove(name);
                        return;
                    }
                }
            }
            let Ok(Some(now)) = self.deliveries.get_opt(name).await else { return };
            match serde_json::to_value(&now).and_then(serde_json::from_value::<Delivery>) {
                Ok(now) if !is_finished(&now) => delivery = now,
                _ => return,
            }
        }
    }
}

fn phase(delivery: &Delivery) -> DeliveryPhase {
    delivery.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

fn is_finished(delivery: &Delivery) -> bool {
    matches!(phase(delivery), DeliveryPhase::Submitted | DeliveryPhase::Ignored | DeliveryPhase::Failed)
}
