//! Commands become API calls, and the answers become observations. Doing a command twice is harmless, because pod names
//! follow from node ids and an existing pod is told apart by its owner and its attempt.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tracing::warn;
use windlass_engine::{Command, Observation};
use windlass_model::labels;

use super::locks::{Asked, Locks, Seat};
use super::{Settings, seen};
use crate::Error;
use crate::form::Executor;
use crate::pod::PodSeen;

/// What a command came to.
pub(crate) enum Outcome {
    /// Nothing more to say: the watch will tell the rest.
    Done,
    /// The engine has to hear this.
    Observed(Box<Observation>),
    /// Not possible yet (an older pod of that name is still going away): do it again after a while.
    Again(Command, Duration),
}

/// Does one command for a run in `namespace`.
pub(crate) async fn act(
    client: &Client,
    settings: &Settings,
    namespace: &str,
    (locks, seat): (&Locks, &Seat),
    command: Command,
) -> Outcome {
    let pods = || Api::<PodSeen>::namespaced(client.clone(), namespace);
    match command {
        Command::CreatePod { node_id, .. } if !seat.live.may_create(settings.clock.now()) => {
            refused(node_id, "resource creation rate-limit reached".to_owned(), true)
        }
        Command::CreatePod { node_id, name, pod } => match &settings.executor {
            Executor::Node => create(client, &pods(), node_id, name, pod).await,
            Executor::Pod(executor) => {
                match executor.wrap(client, [namespace, &settings.controller_namespace], &pod).await {
                    Ok(pod) => create(client, &pods(), node_id, name, pod).await,
                    Err(unknown) => refused(node_id, unknown.message, unknown.transient),
                }
            }
        },
        Command::DeletePod { name, uid } => {
            let params = DeleteParams { preconditions: only(uid.clone()), ..DeleteParams::background() };
            let answer = pods().delete(&name, &params).await.map(drop);
            removed(&pods(), answer, &name, uid.as_deref(), || Command::DeletePod {
                name: name.clone(),
                uid: uid.clone(),
            })
            .await
        }
        Command::StopPod { name, uid, grace_seconds } => {
            let grace_period_seconds = grace_seconds.and_then(|s| u32::try_from(s).ok());
            let params =
                DeleteParams { grace_period_seconds, preconditions: only(uid.clone()), ..DeleteParams::background() };
            let answer = pods().delete(&name, &params).await.map(drop);
            let again = || Command::StopPod { name: name.clone(), uid: uid.clone(), grace_seconds };
            removed(&pods(), answer, &name, uid.as_deref(), again).await
        }
        Command::ReleasePod { name, uid } => match release(&pods(), &name, uid.as_deref()).await {
            Released::Yes => Outcome::Done,
            Released::NotYet => Outcome::Again(Command::ReleasePod { name, uid }, Duration::from_millis(250)),
        },
        Command::CreateClaim { name, claim } => claim_made(client, namespace, name, claim).await,
        Command::DeleteClaim { name } => {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &seen::claims());
            let gone = match api.delete(&name, &DeleteParams::background()).await {
                Ok(answer) => match answer.left() {
                    Some(claim) => unprotect(&api, &claim).await,
                    None => Ok(()),
                },
                Err(e) => Err(e),
            };
            forgive(gone, Command::DeleteClaim { name })
        }
        Command::CreateBudget { name, budget } => {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &seen::budgets());
            let made = match serde_json::from_value(budget.clone()) {
                Ok(object) => api.create(&PostParams::default(), &object).await.map(drop),
                Err(e) => Err(kube::Error::SerdeError(e)),
            };
            match made {
                Err(kube::Error::Api(s)) if s.code >= 500 || s.code == 429 => {
                    Outcome::Again(Command::CreateBudget { name, budget }, Duration::from_secs(1))
                }
                Err(kube::Error::Api(s)) if s.code == 409 => Outcome::Done,
                Err(e) => {
                    // The run goes on; that its pods may be evicted is for people to know.
                    warn!(namespace, name, error = %Error::from(e), "there is no PodDisruptionBudget");
                    Outcome::Done
                }
                Ok(()) => Outcome::Done,
            }
        }
        Command::DeleteBudget { name } => {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &seen::budgets());
            forgive(api.delete(&name, &DeleteParams::background()).await.map(drop), Command::DeleteBudget { name })
        }
        Command::AskLocks { ref node_id, locks: ref names, priority, created } => {
            // The size of a semaphore has to be read first; what is asked twice keeps its place.
            if locks.read_sizes(names).await.is_err() {
                return Outcome::Again(command, Duration::from_secs(1));
            }
            match locks.ask(seat, node_id, names, priority, created) {
                Asked::Answered(answer) => {
                    Outcome::Observed(Box::new(Observation::Locks { node_id: node_id.clone(), answer }))
                }
                Asked::Later => Outcome::Done,
                Asked::SizeUnread => Outcome::Again(command, Duration::from_secs(1)),
            }
        }
        Command::ReleaseLocks { node_id } => {
            locks.release(&seat.owner, node_id.as_deref());
            Outcome::Done
        }
        Command::LoadCache { node_id, cache, key } => {
            let object = if windlass_engine::is_own_cache(&cache) {
                Ok(recall(settings, namespace, &cache, &key).await)
            } else {
                let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &seen::config_maps());
                get(&api, &cache).await
            };
            match object {
                Ok(object) => Outcome::Observed(Box::new(Observation::Cache { node_id, object })),
                Err(_) => Outcome::Again(Command::LoadCache { node_id, cache, key }, Duration::from_secs(1)),
            }
        }
        Command::SaveCache { cache, key, entry } => {
            let saved = if windlass_engine::is_own_cache(&cache) {
                remember(settings, namespace, &cache, &key, entry).await
            } else {
                let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &seen::config_maps());
                save(&api, &cache, &key, &entry).await.map_err(|e| Error::from(e).to_string())
            };
            if let Err(error) = saved {
                // What was made is there all the same, and is made again the next time.
                warn!(namespace, cache, key, error, "outputs could not be remembered");
            }
            Outcome::Done
        }
        Command::FetchTemplate { cluster, name } => {
            let kind = seen::templates(cluster);
            let api = if cluster {
                Api::<DynamicObject>::all_with(client.clone(), &kind)
            } else {
                Api::namespaced_with(client.clone(), namespace, &kind)
            };
            match get(&api, &name).await {
                Ok(object) => Outcome::Observed(Box::new(Observation::Template { cluster, name, object })),
                Err(_) => Outcome::Again(Command::FetchTemplate { cluster, name }, Duration::from_secs(1)),
            }
        }
        Command::FetchPlugins => match plugins(client, [namespace, &settings.controller_namespace]).await {
            Ok(objects) => Outcome::Observed(Box::new(Observation::Plugins { objects })),
            Err(_) => Outcome::Again(Command::FetchPlugins, Duration::from_secs(1)),
        },
        Command::FetchReport { name } => {
            let kind = seen::task_results();
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind);
            match get(&api, &name).await {
                Ok(Some(object)) => Outcome::Observed(Box::new(match serde_json::from_value(object) {
                    Ok(report) => Observation::TaskResult(report),
                    Err(_) => Observation::NoTaskResult { name },
                })),
                Ok(None) => Outcome::Observed(Box::new(Observation::NoTaskResult { name })),
                Err(_) => Outcome::Again(Command::FetchReport { name }, Duration::from_secs(1)),
            }
        }
        Command::FetchConfigMap { name } => {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &seen::config_maps());
            match get(&api, &name).await {
                Ok(object) => Outcome::Observed(Box::new(Observation::ConfigMap { name, object })),
                Err(_) => Outcome::Again(Command::FetchConfigMap { name }, Duration::from_secs(1)),
            }
        }
    }
}

/// Writes an entry into a cache, which is made if it is not there.
async fn save(api: &Api<DynamicObject>, name: &str, key: &str, entry: &str) -> Result<(), kube::Error> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {labels::CONFIGMAP_TYPE: "Cache"}}, "data": {key: entry},
    });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&map));
    match api.patch(name, &params, &patch).await {
        Err(kube::Error::Api(s)) if s.code == 404 => {}
        patched => return patched.map(drop),
    }
    let fresh = serde_json::from_value(map.clone()).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &fresh).await {
        // Somebody else made it meanwhile.
        Err(kube::Error::Api(s)) if s.code == 409 => api.patch(name, &params, &patch).await.map(drop),
        created => created.map(drop),
    }
}

/// What our own cache has under a key, in the form of a ConfigMap. One that cannot be read knows nothing: the work is done.
async fn recall(settings: &Settings, namespace: &str, cache: &str, key: &str) -> Option<Value> {
    let memory = settings.memory.as_ref()?;
    match memory.recall(namespace.to_owned(), cache.to_owned(), key.to_owned()).await {
        Ok(entry) => {
            entry.map(|entry| json!({"metadata": {"labels": {labels::CONFIGMAP_TYPE: "Cache"}}, "data": {key: entry}}))
        }
        Err(error) => {
            warn!(namespace, cache, key, %error, "remembered outputs could not be read");
            None
        }
    }
}

async fn remember(settings: &Settings, namespace: &str, cache: &str, key: &str, entry: String) -> Result<(), String> {
    let Some(memory) = &settings.memory else {
        // Where there is none, nothing is remembered, and every step runs.
        return Ok(());
    };
    memory.remember(namespace.to_owned(), cache.to_owned(), key.to_owned(), entry).await.map_err(|e| e.to_string())
}

/// The executor plugins of a namespace, and then of the controller's, each by name.
async fn plugins(client: &Client, namespaces: [&str; 2]) -> Result<Vec<Value>, Error> {
    let labelled = format!("{}={}", labels::CONFIGMAP_TYPE, windlass_engine::PLUGIN_KIND);
    let params = ListParams::default().labels(&labelled);
    let mut all = Vec::new();
    for (i, namespace) in namespaces.iter().enumerate().filter(|(i, ns)| *i == 0 || **ns != namespaces[0]) {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &seen::config_maps());
        let mut found = match api.list(&params).await {
            Ok(list) => list.items,
            // A controller of one namespace may have no right to look elsewhere.
            Err(kube::Error::Api(status)) if i > 0 && status.code == 403 => continue,
            Err(e) => return Err(e.into()),
        };
        found.sort_by_key(ResourceExt::name_any);
        all.extend(found.iter().filter_map(|object| serde_json::to_value(object).ok()));
    }
    Ok(all)
}

async fn get(api: &Api<DynamicObject>, name: &str) -> Result<Option<Value>, Error> {
    let object = api.get_opt(name).await?;
    Ok(object.and_then(|o| serde_json::to_value(o).ok()))
}

fn only(uid: Option<String>) -> Option<Preconditions> {
    uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None })
}

/// What is not there needs no deleting.
fn forgive(answer: Result<(), kube::Error>, command: Command) -> Outcome {
    match answer {
        Ok(()) => Outcome::Done,
        Err(kube::Error::Api(s)) if s.code == 404 => Outcome::Done,
        Err(_) => Outcome::Again(command, Duration::from_secs(1)),
    }
}

/// A pod that is not there, or is another one by now, needs no deleting. A conflict says that it is another one or that
/// somebody wrote it at the same time, so that is asked.
async fn removed(
    pods: &Api<PodSeen>,
    answer: Result<(), kube::Error>,
    name: &str,
    uid: Option<&str>,
    command: impl FnOnce() -> Command,
) -> Outcome {
    match answer {
        Err(kube::Error::Api(s)) if s.code == 409 && is_another(pods, name, uid).await => Outcome::Done,
        answer => forgive(answer, command()),
    }
}

/// Whether the pod of this uid is gone.
async fn is_another(pods: &Api<PodSeen>, name: &str, uid: Option<&str>) -> bool {
    match pods.get_opt(name).await {
        Ok(there) => there.is_none_or(|pod| uid.is_some_and(|uid| !pod.is(uid))),
        Err(_) => false,
    }
}

/// What [`release`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// It is labelled and free, or gone.
    Yes,
    /// Something was in the way: try again.
    NotYet,
}

/// Marks the pod as done with, and takes our finalizer off where it has one. What the label's patch answers tells that,
/// so a pod without it costs one write and no read.
pub(super) async fn release(pods: &Api<PodSeen>, name: &str, uid: Option<&str>) -> Released {
    let patch = |what: Value| {
        let mut patch = json!({"metadata": what});
        if let Some(uid) = uid {
            patch["metadata"]["uid"] = json!(uid);
        }
        Patch::Merge(patch)
    };
    let params = PatchParams::default();
    let labelled = patch(json!({"labels": {labels::COMPLETED: "true"}}));
    let answer = match pods.patch_metadata(name, &params, &labelled).await {
        Ok(meta) if meta.finalizers().iter().any(|f| f == labels::POD_FINALIZER) => {
            let rest: Vec<_> = meta.finalizers().iter().filter(|f| *f != labels::POD_FINALIZER).collect();
            // The version, so that a finalizer that came meanwhile is not lost.
            let free = patch(json!({"finalizers": rest, "resourceVersion": meta.resource_version()}));
            pods.patch_metadata(name, &params, &free).await.map(drop)
        }
        labelled => labelled.map(drop),
    };
    match answer {
        Ok(()) => Released::Yes,
        Err(kube::Error::Api(s)) if s.code == 404 => Released::Yes,
        Err(kube::Error::Api(s)) if s.code == 409 && is_another(pods, name, uid).await => Released::Yes,
        Err(_) => Released::NotYet,
    }
}

/// Creates a pod. It goes out as the engine made it.
async fn create(client: &Client, pods: &Api<PodSeen>, node_id: String, name: String, pod: Value) -> Outcome {
    let body = match serde_json::to_vec(&pod) {
        Ok(body) => body,
        Err(e) => return refused(node_id, format!("the pod is not one: {e}"), false),
    };
    let request = match kube::core::Request::new(pods.resource_url()).create(&PostParams::default(), body) {
        Ok(request) => request,
        Err(e) => return refused(node_id, e.to_string(), false),
    };
    // The watch tells the pod too, so nothing is read of the answer.
    match client.request::<IgnoredAny>(request).await {
        Ok(_) => Outcome::Done,
        Err(kube::Error::Api(s)) if s.code == 409 && s.reason == "AlreadyExists" => match pods.get_opt(&name).await {
            Ok(Some(there)) if there.is_made_of(&pod) => Outcome::Observed(Box::new(there.observed())),
            // An older attempt of the same name: it has to be gone first, and its deletion was asked for already.
            _ => Outcome::Again(Command::CreatePod { node_id, name, pod }, Duration::from_millis(100)),
        },
        Err(kube::Error::Api(s)) => {
            let quota = s.code == 403 && s.message.contains("exceeded quota");
            let transient = quota || s.code == 409 || s.code == 429 || s.code >= 500;
            refused(node_id, s.message.clone(), transient)
        }
        Err(e) => refused(node_id, Error::from(e).to_string(), true),
    }
}

/// A claim that is deleted stays for as long as any pod names it, also one that has ended: a retry by hand would wait for its
/// name for ever. Nothing of the run needs it any more, so, as in Argo, it is let go.
async fn unprotect(api: &Api<DynamicObject>, claim: &DynamicObject) -> Result<(), kube::Error> {
    const PROTECTED: &str = "kubernetes.io/pvc-protection";
    let finalizers = claim.finalizers();
    if !finalizers.iter().any(|f| f == PROTECTED) {
        return Ok(());
    }
    let kept: Vec<&String> = finalizers.iter().filter(|f| *f != PROTECTED).collect();
    let patch = json!({"metadata": {"resourceVersion": claim.resource_version(), "finalizers": kept}});
    let name = claim.name_any();
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(s)) if s.code == 403 => {
            warn!(claim = name, error = s.message, "the claim stays until the run's pods are deleted: install anew");
            Ok(())
        }
        answer => answer.map(drop),
    }
}

/// Creates a claim; one that is there counts where it has the same owner.
async fn claim_made(client: &Client, namespace: &str, name: String, claim: Value) -> Outcome {
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &seen::claims());
    let refused = |name: String, message: String, transient| {
        Outcome::Observed(Box::new(Observation::ClaimRefused { name, message, transient }))
    };
    let object: DynamicObject = match serde_json::from_value(claim) {
        Ok(object) => object,
        Err(e) => return refused(name, format!("the claim is not one: {e}"), false),
    };
    let answer = match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(s)) if s.code == 409 && s.reason == "AlreadyExists" => api.get_opt(&name).await,
        created => created.map(Some),
    };
    let owner =
        |o: &DynamicObject| o.owner_references().iter().find(|r| r.controller == Some(true)).map(|r| r.uid.clone());
    match answer {
        Ok(Some(there)) if owner(&there) == owner(&object) && there.metadata.deletion_timestamp.is_none() => {
            Outcome::Observed(Box::new(Observation::ClaimMade { name }))
        }
        Ok(Some(there)) if there.metadata.deletion_timestamp.is_some() => {
            refused(name.clone(), format!("persistentvolumeclaims {name:?} is being deleted"), true)
        }
        Ok(Some(_)) => {
            let message =
                format!("persistentvolumeclaims {name:?} already exists, and not for this workflow: delete it");
            refused(name, message, false)
        }
        Ok(None) => refused(name.clone(), format!("persistentvolumeclaims {name:?} was deleted"), true),
        Err(kube::Error::Api(s)) => {
            let quota = s.code == 403 && s.message.contains("exceeded quota");
            let transient = quota || s.code == 409 || s.code == 429 || s.code >= 500;
            refused(name, s.message.clone(), transient)
        }
        Err(e) => refused(name, Error::from(e).to_string(), true),
    }
}

fn refused(node_id: String, message: String, transient: bool) -> Outcome {
    Outcome::Observed(Box::new(Observation::PodRefused { node_id, message, transient }))
}
