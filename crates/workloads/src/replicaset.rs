//! ReplicaSet: as many pods as `spec.replicas` says, no more and no fewer. [`decide`] is pure: it takes the set, its
//! pods and the time, and says which pods to make or delete and what the status is. Matches the behaviour of
//! Kubernetes v1.33's controller, adoption of orphans included; it must never delete a pod of another owner.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{Resource, SelectorExt};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::Error;
use crate::event::Events;
use crate::pod::PodSeen;

/// What one pass wants done.
#[derive(Debug, Default, PartialEq)]
pub struct Decision {
    /// How many pods to create from the template.
    pub create: usize,
    /// Names and uids of the pods to delete, worst first.
    pub delete: Vec<(String, String)>,
    /// Names and uids of orphans that match the selector and are taken over.
    pub adopt: Vec<(String, String)>,
    /// The status as it is to be written.
    pub status: ReplicaSetStatus,
    /// When a pod becomes available without any further event (`minReadySeconds`).
    pub look_again: Option<Duration>,
}

/// The pods that count: those that have ended are neither replicas nor taken over, and there may be thousands.
pub(crate) const LIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Runs the loop for ever.
pub async fn run(client: Client) {
    let events = Events::start(client.clone(), "replicaset-controller");
    let ctx = Arc::new(Context { client: client.clone(), events });
    Controller::new(Api::<ReplicaSet>::all(client.clone()), watcher::Config::default())
        .owns(Api::<PodSeen>::all(client), watcher::Config::default().fields(LIVE))
        .run(act, |_, e, _| Action::requeue(e.retry_after()), ctx)
        .for_each(|_| async {})
        .await;
}

struct Context {
    client: Client,
    events: Events,
}

/// True when the pod's Ready condition holds.
pub fn is_ready(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|s| s.conditions.as_ref())
        .is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// How long until a ready pod counts as available: zero when it does now, `None` when it is not ready.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let since = pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready")?;
    let since = since.last_transition_time.as_ref().map_or(now, |t| t.0);
    let left = i64::from(min_ready_seconds) - now.duration_since(since).as_secs();
    Some(Duration::from_secs(left.max(0).unsigned_abs()))
}

/// Neither finished nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
    phase != "Succeeded" && phase != "Failed" && pod.metadata.deletion_timestamp.is_none()
}

fn owned_by(pod: &Pod, uid: &str) -> bool {
    pod.owner_references().iter().any(|o| o.controller == Some(true) && o.uid == uid)
}

fn matches(selector: &LabelSelector, pod: &Pod) -> bool {
    kube::core::Selector::try_from(selector.clone()).is_ok_and(|s| s.matches(pod.labels()))
}

/// The whole decision: pure, so that a test can ask it without a cluster.
pub fn decide(set: &ReplicaSet, pods: &[Pod], now: Timestamp) -> Decision {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let spec = set.spec.clone().unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let want = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mut mine: Vec<&Pod> = pods.iter().filter(|p| owned_by(p, uid) && is_active(p)).collect();
    let mut d = Decision::default();
    if set.metadata.deletion_timestamp.is_none() {
        for orphan in pods.iter().filter(|p| {
            is_active(p)
                && matches(&spec.selector, p)
                && !p.owner_references().iter().any(|o| o.controller == Some(true))
        }) {
            d.adopt.push((orphan.name_any(), orphan.uid().unwrap_or_default()));
            mine.push(orphan);
        }
        if mine.len() < want {
            d.create = want - mine.len();
        } else if mine.len() > want {
            // Kubernetes' order: unassigned, then pending, then not ready, then the youngest go first.
            let mut ranked = mine.clone();
            ranked.sort_by_key(|p| {
                let assigned = p.spec.as_ref().is_some_and(|s| s.node_name.is_some());
                let running = p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
                (assigned, running, is_ready(p), Reverse(p.metadata.creation_timestamp.as_ref().map(|t| t.0)))
            });
            d.delete =
                ranked[..mine.len() - want].iter().map(|p| (p.name_any(), p.uid().unwrap_or_default())).collect();
        }
    }
    let template_labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone());
    let waits: Vec<Option<Duration>> = mine.iter().map(|p| available_in(p, min_ready, now)).collect();
    d.look_again = waits.iter().flatten().filter(|w| !w.is_zero()).min().copied();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let labelled =
        mine.iter().filter(|p| template_labels.iter().flatten().all(|(k, v)| p.labels().get(k) == Some(v))).count();
    d.status = ReplicaSetStatus {
        replicas: count(mine.len()),
        fully_labeled_replicas: Some(count(labelled)),
        ready_replicas: Some(count(mine.iter().filter(|p| is_ready(p)).count())),
        available_replicas: Some(count(waits.iter().filter(|w| **w == Some(Duration::ZERO)).count())),
        observed_generation: set.metadata.generation,
        conditions: set.status.as_ref().and_then(|s| s.conditions.clone()),
        ..Default::default()
    };
    d
}

/// A pod made of the set's template, named and owned by the set.
fn pod_of(set: &ReplicaSet) -> Result<Pod, Error> {
    let missing = |field| Error::Malformed { kind: "ReplicaSet", name: set.name_any(), field };
    let template = set.spec.as_ref().and_then(|s| s.template.clone()).ok_or_else(|| missing("spec.template"))?;
    let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    pod.metadata.name = None;
    pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
    pod.metadata.namespace = set.namespace();
    pod.metadata.owner_references = Some(vec![set.controller_owner_ref(&()).ok_or_else(|| missing("metadata.uid"))?]);
    Ok(pod)
}

async fn act(set: Arc<ReplicaSet>, context: Arc<Context>) -> Result<Action, Error> {
    let ns = set.namespace().unwrap_or_default();
    let sets = Api::<ReplicaSet>::namespaced(context.client.clone(), &ns);
    // Read afresh: the cache that woke us may not hold the pods that the last pass created.
    let Some(set) = sets.get_opt(&set.name_any()).await? else { return Ok(Action::await_change()) };
    let api = Api::<Pod>::namespaced(context.client.clone(), &ns);
    let pods = api.list(&ListParams::default().fields(LIVE)).await?.items;
    let now = Timestamp::now();
    let mut decision = decide(&set, &pods, now);
    for (name, uid) in &decision.adopt {
        let owner = set.controller_owner_ref(&());
        let patch = json!({"metadata": {"uid": uid, "ownerReferences": [owner]}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let failure = make_and_delete(&set, &decision, &api, &context.events).await?;
    if set.metadata.deletion_timestamp.is_none() {
        decision.status.conditions = conditions(decision.status.conditions.take(), failure.as_ref(), now);
    }
    if set.status.as_ref() != Some(&decision.status) {
        let mut patch = json!({"metadata": {"uid": set.uid()}, "status": decision.status});
        if decision.status.conditions.is_none() {
            // A merge patch removes only what it names.
            patch["status"]["conditions"] = serde_json::Value::Null;
        }
        sets.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    if failure.is_some() {
        return Ok(Action::requeue(FAILURE_PAUSE));
    }
    Ok(decision.look_again.map_or_else(Action::await_change, Action::requeue))
}

/// How long a set whose pods are refused waits before it tries again.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
const FAILURE: &str = "ReplicaFailure";

/// Why pods are not made or deleted: a reason and the API's words.
type Failure = (&'static str, String);

/// Makes and deletes what the decision says, with an Event for each. The first refusal ends it: the next would be the same.
async fn make_and_delete(
    set: &ReplicaSet,
    decision: &Decision,
    api: &Api<Pod>,
    events: &Events,
) -> Result<Option<Failure>, Error> {
    for _ in 0..decision.create {
        match api.create(&PostParams::default(), &pod_of(set)?).await {
            Ok(pod) => events.normal(set, "SuccessfulCreate", format!("Created pod: {}", pod.name_any())),
            // The namespace goes, and the set with it.
            Err(kube::Error::Api(s)) if is_terminating(&s) => return Ok(None),
            Err(kube::Error::Api(s)) if (400..500).contains(&s.code) && s.code != 429 => {
                events.warning(set, "FailedCreate", format!("Error creating: {}", s.message));
                return Ok(Some(("FailedCreate", s.message)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    for (name, uid) in &decision.delete {
        let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
        match api.delete(name, &DeleteParams { preconditions: Some(only), ..Default::default() }).await {
            Ok(_) => events.normal(set, "SuccessfulDelete", format!("Deleted pod: {name}")),
            Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => {}
            Err(kube::Error::Api(s)) if (400..500).contains(&s.code) && s.code != 429 => {
                events.warning(set, "FailedDelete", format!("Error deleting: {}", s.message));
                return Ok(Some(("FailedDelete", s.message)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn is_terminating(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|d| &d.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// The conditions with or without the failure. One that is there keeps its first words, as Kubernetes does it.
fn conditions(
    before: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut all = before.unwrap_or_default();
    match failure {
        None => all.retain(|c| c.type_ != FAILURE),
        Some((reason, message)) if !all.iter().any(|c| c.type_ == FAILURE) => all.push(ReplicaSetCondition {
            type_: FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some((*reason).to_owned()),
            message: Some(message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 3},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}
        }))
        .unwrap()
    }

    fn pod(name: &str, owner: Option<&str>, ready: bool, made: &str) -> Pod {
        let owners = owner.map(|uid| {
            vec![json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true})]
        });
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {"app": "web"}, "creationTimestamp": made,
                         "ownerReferences": owners.unwrap_or_default()},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": if ready {"True"} else {"False"}, "lastTransitionTime": made}]}
        }))
        .unwrap()
    }

    const THEN: &str = "2026-01-01T00:00:00Z";

    fn now() -> Timestamp {
        "2026-01-01T00:00:10Z".parse().unwrap()
    }

    #[test]
    fn makes_what_is_missing() {
        let d = decide(&set(3), &[pod("a", Some("u1"), true, THEN)], now());
        assert_eq!((d.create, d.delete.len(), d.status.replicas), (2, 0, 1));
        assert_eq!(d.status.observed_generation, Some(3));
    }

    #[test]
    fn deletes_the_not_ready_and_then_the_youngest() {
        let pods = [
            pod("old", Some("u1"), true, THEN),
            pod("young", Some("u1"), true, "2026-01-01T00:00:05Z"),
            pod("sick", Some("u1"), false, THEN),
        ];
        let names: Vec<_> = decide(&set(1), &pods, now()).delete.into_iter().map(|d| d.0).collect();
        assert_eq!(names, ["sick", "young"]);
    }

    #[test]
    fn adopts_orphans_and_leaves_the_pods_of_others() {
        let d = decide(&set(1), &[pod("orphan", None, true, THEN), pod("other", Some("u2"), true, THEN)], now());
        assert_eq!(d.adopt, [("orphan".to_owned(), "orphan".to_owned())]);
        assert_eq!((d.create, d.delete.len()), (0, 0));
    }

    #[test]
    fn a_refusal_is_a_condition_until_it_is_over() {
        let refused = conditions(None, Some(&("FailedCreate", "no".to_owned())), now()).unwrap();
        assert_eq!((refused[0].type_.as_str(), refused[0].reason.as_deref()), (FAILURE, Some("FailedCreate")));
        let again = conditions(Some(refused.clone()), Some(&("FailedCreate", "other".to_owned())), now()).unwrap();
        assert_eq!(refused, again);
        assert_eq!(conditions(Some(again), None, now()), None);
    }

    #[test]
    fn a_ready_pod_is_available_only_after_min_ready_seconds() {
        let mut s = set(1);
        s.spec.as_mut().unwrap().min_ready_seconds = Some(30);
        let d = decide(&s, &[pod("a", Some("u1"), true, THEN)], now());
        assert_eq!(d.status.available_replicas, Some(0));
        assert_eq!(d.look_again, Some(Duration::from_secs(20)));
    }
}
