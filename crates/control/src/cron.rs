//! The loop over CronWorkflows: observe them and their workflows, ask `windlass-schedule` what is due, act, write once.
//! It must never decide by itself when something runs.
//!
//! After a restart everything is seen anew and asked again: a tick's workflow has a name that follows from the tick, so
//! one that was made before the status was written is found and not made twice.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use windlass_model::{ARGO_GROUP, Time, VERSION, WorkflowPhase, labels};
use windlass_schedule::cron::{self, Child, Decision};

use crate::again::{self, Deleted};
use crate::clock::Clock;
use crate::part::part_of_workflow;
use crate::{Scope, from_memory};

/// A workflow as far as its schedule is concerned; its node table is passed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    metadata: ObjectMeta,
    #[serde(default)]
    status: End,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct End {
    phase: WorkflowPhase,
    finished_at: Option<Time>,
}

part_of_workflow!(Made);

impl Made {
    fn child(&self) -> Child {
        Child {
            name: self.name_any(),
            uid: self.uid().unwrap_or_default(),
            resource_version: self.resource_version().unwrap_or_default(),
            phase: self.status.phase,
            finished_at: self.status.finished_at.map(|t| t.0),
        }
    }
}

/// Namespace and name.
type Key = (String, String);

enum Sight {
    Cron(Box<DynamicObject>),
    CronGone(Key),
    CronsListed(bool),
    Made(Box<Made>),
    MadeGone(Key),
    MadeListed(bool),
    Failed(watcher::Error),
}

/// What the loop knows.
#[derive(Default)]
struct Known {
    crons: HashMap<Key, Value>,
    /// By namespace and name, with the uid of their CronWorkflow.
    made: HashMap<Key, (String, Child)>,
    wakes: HashMap<Key, Timestamp>,
    /// To be looked at.
    dirty: BTreeSet<Key>,
    listed: (bool, bool),
}

/// After a refusal or a race, an object is looked at again so much later.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs until `stop` is cancelled.
pub async fn run(client: Client, scope: Scope, clock: Clock, stop: CancellationToken) {
    let crons = watcher::watcher(
        scope.api_of::<DynamicObject>(&client, &resource("CronWorkflow", "cronworkflows")),
        scope.all(),
    );
    let crons = crons.filter_map(async |event| match event {
        Ok(Event::Apply(o) | Event::InitApply(o)) => Some(Sight::Cron(Box::new(o))),
        Ok(Event::Delete(o)) => Some(Sight::CronGone(key(&o))),
        Ok(Event::InitDone) => Some(Sight::CronsListed(true)),
        Ok(Event::Init) => Some(Sight::CronsListed(false)),
        Err(e) => Some(Sight::Failed(e)),
    });
    // A tick's workflow is named by the tick: one that is not seen yet is not made twice.
    let of_cron = from_memory(scope.few(labels::CRON_WORKFLOW));
    let made = watcher::watcher(scope.api::<Made>(&client), of_cron).filter_map(async |event| match event {
        Ok(Event::Apply(o) | Event::InitApply(o)) => Some(Sight::Made(Box::new(o))),
        Ok(Event::Delete(o)) => Some(Sight::MadeGone(key(&o))),
        Ok(Event::InitDone) => Some(Sight::MadeListed(true)),
        Ok(Event::Init) => Some(Sight::MadeListed(false)),
        Err(e) => Some(Sight::Failed(e)),
    });
    let mut sights = std::pin::pin!(select(crons.boxed(), made.boxed()));
    let mut known = Known::default();
    loop {
        if known.listed == (true, true) {
            while let Some(key) = known.dirty.pop_first() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = look(&client, &clock, &key, &mut known) => {}
                }
            }
        }
        let wake = known.wakes.values().min().copied();
        let sleep = async {
            match wake {
                // A long sleep would miss that somebody set the clock.
                Some(at) => tokio::time::sleep(clock.left_until(at).min(Duration::from_secs(60))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep => {
                let now = clock.now();
                let due: Vec<Key> = known.wakes.iter().filter(|(_, at)| **at <= now).map(|(k, _)| k.clone()).collect();
                for key in due {
                    known.wakes.remove(&key);
                    known.dirty.insert(key);
                }
            }
            sight = sights.next() => match sight {
                None => return,
                Some(Sight::Failed(e)) => {
                    debug!(error = %e, "watch of cron workflows interrupted");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Some(sight) => known.take(sight),
            },
        }
    }
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(ARGO_GROUP, VERSION, kind), plural)
}

fn key(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// A version as a number; 0 where it is none, which is older than all others.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn version_of(value: &Value) -> u64 {
    value.as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl Known {
    fn take(&mut self, sight: Sight) {
        match sight {
            Sight::Cron(object) => {
                let key = key(&*object);
                // What we wrote is known from the answer. The watch brings what was before it later, and a tick that
                // was made, ran and went meanwhile would be made again by that.
                if let Some(known) = self.crons.get(&key)
                    && version(&object.metadata) < version_of(&known["metadata"]["resourceVersion"])
                {
                    return;
                }
                if let Ok(value) = serde_json::to_value(*object) {
                    self.crons.insert(key.clone(), value);
                    self.dirty.insert(key);
                }
            }
            Sight::CronGone(key) => {
                self.crons.remove(&key);
                self.wakes.remove(&key);
            }
            Sight::Made(made) => {
                let owner = made.metadata.owner_references.iter().flatten();
                let Some(owner) = owner.into_iter().find(|o| o.controller == Some(true) && o.kind == "CronWorkflow")
                else {
                    return;
                };
                let (owner_uid, cron) = (owner.uid.clone(), (made.namespace().unwrap_or_default(), owner.name.clone()));
                let child = made.child();
                let news = |(_, before): &(String, Child)| before.phase != child.phase;
                let place = self.made.entry(key(&*made));
                let changed = match &place {
                    std::collections::hash_map::Entry::Occupied(before) => news(before.get()),
                    std::collections::hash_map::Entry::Vacant(_) => true,
                };
                place.insert_entry((owner_uid, child));
                if changed {
                    self.dirty.insert(cron);
                }
            }
            Sight::MadeGone(key) => {
                if let Some((uid, _)) = self.made.remove(&key) {
                    let of = self.crons.iter().find(|(_, cron)| cron["metadata"]["uid"] == uid.as_str());
                    self.dirty.extend(of.map(|(key, _)| key.clone()));
                }
            }
            // A list begins anew: what went while nobody watched is in no event, so nothing is decided until it is done.
            Sight::CronsListed(done) => {
                self.listed.0 = done;
                if !done {
                    self.crons.clear();
                    self.wakes.clear();
                }
            }
            Sight::MadeListed(done) => {
                self.listed.1 = done;
                match done {
                    true => self.dirty.extend(self.crons.keys().cloned()),
                    false => self.made.clear(),
                }
            }
            Sight::Failed(_) => {}
        }
    }
}

/// Looks at one CronWorkflow until nothing is left to do now.
async fn look(client: &Client, clock: &Clock, key: &Key, known: &mut Known) {
    let Some(object) = known.crons.get(key) else { return };
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let mine = known.made.iter().filter(|((ns, _), (owner, _))| *ns == key.0 && owner == uid);
    let mut children: Vec<Child> = mine.map(|(_, (_, child))| child.clone()).collect();
    children.sort_by(|a, b| a.name.cmp(&b.name));
    let decision = cron::decide(object, &children, clock.now());
    match decision.wake {
        Some(at) => known.wakes.insert(key.clone(), at),
        None => known.wakes.remove(key),
    };
    let is_left = match act(client, key, object.clone(), decision).await {
        Ok((after, is_left)) => {
            known.crons.insert(key.clone(), after);
            is_left
        }
        Err(e) => {
            // Another hand was faster, or the API is away: the watch brings the newer object, or this tries again.
            debug!(namespace = key.0, name = key.1, error = %e, "a cron workflow is looked at again");
            true
        }
    };
    if is_left {
        let at = clock.now() + AGAIN;
        let wake = known.wakes.entry(key.clone()).or_insert(at);
        *wake = (*wake).min(at);
    }
}

/// Does what was decided; answers the object as it is then, and whether something is left to delete.
async fn act(client: &Client, key: &Key, object: Value, decision: Decision) -> Result<(Value, bool), crate::Error> {
    let workflows: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &key.0, &resource("Workflow", "workflows"));
    for name in &decision.terminate {
        let patch = json!({"spec": {"shutdown": "Terminate"}});
        match workflows.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(s)) if s.code == 404 => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut now = object;
    if let Some(patch) = decision.patch {
        now = write(client, key, &now, patch).await?;
    }
    if let Some((tick, workflow)) = decision.submit {
        let made = submit(&workflows, &key.0, &workflow, now["metadata"]["uid"].as_str()).await?;
        match &made {
            Ok(reference) => info!(namespace = key.0, name = key.1, workflow = %reference["name"], "cron"),
            Err(why) => warn!(namespace = key.0, name = key.1, why, "a cron workflow was not submitted"),
        }
        let refused = made.is_err();
        let patch = cron::submitted(&now, tick, made);
        if patch != json!({}) {
            now = write(client, key, &now, patch).await?;
        }
        if refused {
            return Err(crate::Error::Refused);
        }
    }
    let mut outcome = Deleted::Yes;
    for (name, uid) in decision.delete {
        outcome = outcome.max(again::delete_once(&workflows, &name, Some(&uid), "the history limit").await);
    }
    // Rights that are missing are missed at each tick anew.
    Ok((now, outcome == Deleted::Later))
}

/// Creates a tick's workflow. One that is there already and ours was made before a crash. The inner error is the API's
/// refusal, which the status tells.
async fn submit(
    api: &Api<DynamicObject>,
    namespace: &str,
    workflow: &Value,
    owner: Option<&str>,
) -> Result<Result<Value, String>, crate::Error> {
    let object: DynamicObject = match serde_json::from_value(workflow.clone()) {
        Ok(object) => object,
        Err(e) => return Ok(Err(e.to_string())),
    };
    let reference = |made: DynamicObject| {
        let child = Child {
            name: made.name_any(),
            uid: made.uid().unwrap_or_default(),
            resource_version: made.resource_version().unwrap_or_default(),
            ..Child::default()
        };
        cron::reference(namespace, &child)
    };
    match api.create(&PostParams::default(), &object).await {
        Ok(made) => Ok(Ok(reference(made))),
        Err(kube::Error::Api(s)) if s.reason == "AlreadyExists" => match api.get_opt(&object.name_any()).await? {
            Some(there) if there.owner_references().iter().any(|o| Some(o.uid.as_str()) == owner) => {
                Ok(Ok(reference(there)))
            }
            Some(_) => Ok(Err(format!("workflow {} exists already, and is another's", object.name_any()))),
            None => Err(crate::Error::Refused),
        },
        Err(kube::Error::Api(s)) if (400..500).contains(&s.code) && !matches!(s.code, 409 | 429) => Ok(Err(s.message)),
        Err(e) => Err(e.into()),
    }
}

/// Writes at the version that was looked at.
async fn write(client: &Client, key: &Key, object: &Value, mut patch: Value) -> Result<Value, crate::Error> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &key.0, &resource("CronWorkflow", "cronworkflows"));
    patch["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
    let after = api.patch(&key.1, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(serde_json::to_value(after).map_err(kube::Error::SerdeError)?)
}
