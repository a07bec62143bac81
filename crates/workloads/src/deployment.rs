//! Deployment: a ReplicaSet for each version of the pod template, moved from the old to the new one without going
//! below `maxUnavailable` or above `maxSurge`. [`decide`] is pure. Matches Kubernetes v1.33 in names (`NAME-HASH`,
//! label `pod-template-hash`), in the revision annotation, in the scaling arithmetic and in the conditions
//! `Available` and `Progressing` that `kubectl rollout status` reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Resource;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::event::Events;

/// Number of the template version, on the Deployment and on its ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH: &str = "pod-template-hash";

/// What one pass wants done.
#[derive(Debug, Default)]
pub struct Decision {
    /// The ReplicaSet of the current template, when it is not there yet.
    pub create: Option<ReplicaSet>,
    /// ReplicaSets to scale: name and number of replicas.
    pub scale: Vec<(String, i32)>,
    /// ReplicaSets beyond `revisionHistoryLimit`.
    pub delete: Vec<String>,
    /// The revision to write on the Deployment and on its newest ReplicaSet (name), where it differs.
    pub revision: Option<(String, i64)>,
    /// The status as it is to be written.
    pub status: DeploymentStatus,
    /// When the progress deadline has to be looked at again.
    pub look_again: Option<Duration>,
}

/// Runs the loop for ever.
pub async fn run(client: Client) {
    let events = Events::start(client.clone(), "deployment-controller");
    let ctx = Arc::new(Context { client: client.clone(), events });
    Controller::new(Api::<Deployment>::all(client.clone()), watcher::Config::default())
        .owns(Api::<ReplicaSet>::all(client), watcher::Config::default())
        .run(act, |_, e, _| Action::requeue(e.retry_after()), ctx)
        .for_each(|_| async {})
        .await;
}

struct Context {
    client: Client,
    events: Events,
}

fn template_without_hash(t: &PodTemplateSpec) -> PodTemplateSpec {
    let mut t = t.clone();
    if let Some(labels) = t.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH);
    }
    // A template without labels and one whose labels are empty are the same template.
    if let Some(m) = t.metadata.as_mut() {
        m.labels = m.labels.take().filter(|l| !l.is_empty());
        m.annotations = m.annotations.take().filter(|a| !a.is_empty());
    }
    t
}

/// Ten characters of the alphabet that Kubernetes uses in generated names: no vowels, so no words.
fn template_hash(t: &PodTemplateSpec, collisions: i32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut h = Sha256::new();
    h.update(serde_json::to_vec(&template_without_hash(t)).unwrap_or_default());
    h.update(collisions.to_le_bytes());
    h.finalize().iter().take(10).map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
}

fn share(v: Option<&IntOrString>, of: i32, up: bool, default: &str) -> i32 {
    let text = match v {
        Some(IntOrString::Int(n)) => return *n,
        Some(IntOrString::String(s)) => s.as_str(),
        None => default,
    };
    let percent: i32 = text.trim_end_matches('%').parse().unwrap_or(25);
    if up { (of * percent + 99) / 100 } else { of * percent / 100 }
}

fn revision_of(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

fn new_set(d: &Deployment, revision: i64, replicas: i32) -> Option<ReplicaSet> {
    let spec = d.spec.as_ref()?;
    let hash = template_hash(&spec.template, d.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0));
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.clone());
    let mut set = ReplicaSet::default();
    set.metadata.name = Some(format!("{}-{hash}", d.name_any()));
    set.metadata.namespace = d.namespace();
    set.metadata.labels = Some(labels);
    let mut annotations: BTreeMap<String, String> = d.annotations().clone();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.insert(REVISION.into(), revision.to_string());
    set.metadata.annotations = Some(annotations);
    set.metadata.owner_references = Some(vec![d.controller_owner_ref(&())?]);
    set.spec = Some(k8s_openapi::api::apps::v1::ReplicaSetSpec {
        replicas: Some(replicas),
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    });
    Some(set)
}

/// The whole decision: pure.
pub fn decide(d: &Deployment, sets: &[ReplicaSet], now: Timestamp) -> Decision {
    let mut out = Decision::default();
    let Some(spec) = d.spec.as_ref() else { return out };
    let want = spec.replicas.unwrap_or(1);
    let uid = d.uid().unwrap_or_default();
    let mut mine: Vec<&ReplicaSet> =
        sets.iter().filter(|s| s.owner_references().iter().any(|o| o.uid == uid)).collect();
    mine.sort_by_key(|s| (revision_of(s), s.metadata.creation_timestamp.as_ref().map(|t| t.0)));
    let wanted = template_without_hash(&spec.template);
    let current = mine
        .iter()
        .find(|s| {
            s.spec.as_ref().and_then(|s| s.template.as_ref()).map(template_without_hash).as_ref() == Some(&wanted)
        })
        .copied();
    let old: Vec<&ReplicaSet> =
        mine.iter().copied().filter(|s| current.is_none_or(|c| c.name_any() != s.name_any())).collect();
    let paused = spec.paused.unwrap_or(false);
    let newest_old = old.iter().map(|s| revision_of(s)).max().unwrap_or(0);

    let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let recreate = spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate");
    let mut max_surge = share(rolling.and_then(|r| r.max_surge.as_ref()), want, true, "25%");
    let mut max_unavailable = share(rolling.and_then(|r| r.max_unavailable.as_ref()), want, false, "25%");
    if recreate {
        (max_surge, max_unavailable) = (0, want);
    } else if max_surge == 0 && max_unavailable == 0 {
        max_unavailable = 1;
    }
    let all: i32 = mine.iter().map(|s| replicas(s)).sum();
    let old_pods: i32 = old.iter().map(|s| s.status.as_ref().map_or(0, |s| s.replicas)).sum();

    if d.metadata.deletion_timestamp.is_none() && !paused {
        match current {
            None => {
                let at_once = if recreate && (old_pods > 0 || old.iter().any(|s| replicas(s) > 0)) {
                    0
                } else {
                    (want + max_surge - all).clamp(0, want)
                };
                out.create = new_set(d, newest_old + 1, at_once);
                if let Some(set) = &out.create {
                    out.revision = Some((set.name_any(), newest_old + 1));
                }
            }
            Some(set) => {
                let revision = if revision_of(set) > newest_old { revision_of(set) } else { newest_old + 1 };
                if revision_of(set) != revision || d.annotations().get(REVISION) != Some(&revision.to_string()) {
                    out.revision = Some((set.name_any(), revision));
                }
                let have = replicas(set);
                let grown = if recreate {
                    if old_pods == 0 && old.iter().all(|s| replicas(s) == 0) { want } else { have.min(want) }
                } else if have > want {
                    want
                } else {
                    have + (want + max_surge - all).clamp(0, want - have)
                };
                if grown != have {
                    out.scale.push((set.name_any(), grown));
                }
            }
        }
        // Old sets shrink by what the new set and they themselves have to spare.
        let new_unavailable = current.map_or(0, |s| replicas(s) - available(s));
        let mut spare = if recreate { all } else { (all - (want - max_unavailable) - new_unavailable.max(0)).max(0) };
        let available_now: i32 = mine.iter().map(|s| available(s)).sum();
        let mut spare_available = if recreate { all } else { (available_now - (want - max_unavailable)).max(0) };
        for set in &old {
            let have = replicas(set);
            // Pods that are not available anyway go first and cost nothing but `spare`.
            let sick = (have - available(set)).clamp(0, spare);
            let healthy = (have - sick).clamp(0, (spare - sick).min(spare_available));
            if sick + healthy > 0 {
                out.scale.push((set.name_any(), have - sick - healthy));
                spare -= sick + healthy;
                spare_available -= healthy;
            }
        }
        let keep = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(10);
        let idle: Vec<_> =
            old.iter().filter(|s| replicas(s) == 0 && s.status.as_ref().is_none_or(|s| s.replicas == 0)).collect();
        out.delete = idle.iter().take(idle.len().saturating_sub(keep)).map(|s| s.name_any()).collect();
    } else if paused
        && let Some(set) = current
        && old.iter().all(|s| replicas(s) == 0)
        && replicas(set) != want
    {
        out.scale.push((set.name_any(), want));
    }
    summarize(d, &mine, current, want, max_unavailable, now, &mut out);
    out
}

/// Status and conditions out of what the ReplicaSets report.
fn summarize(
    d: &Deployment,
    mine: &[&ReplicaSet],
    current: Option<&ReplicaSet>,
    want: i32,
    max_unavailable: i32,
    now: Timestamp,
    out: &mut Decision,
) {
    let sum = |f: fn(&ReplicaSet) -> i32| mine.iter().map(|s| f(s)).sum::<i32>();
    let total = sum(|s| s.status.as_ref().map_or(0, |s| s.replicas));
    let ready = sum(|s| s.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0));
    let avail = sum(available);
    let updated = current.and_then(|s| s.status.as_ref()).map_or(0, |s| s.replicas);
    let before = d.status.clone().unwrap_or_default();
    let some = |n: i32| (n > 0).then_some(n);
    let mut status = DeploymentStatus {
        observed_generation: d.metadata.generation,
        replicas: some(total),
        updated_replicas: some(updated),
        ready_replicas: some(ready),
        available_replicas: some(avail),
        unavailable_replicas: some((want.max(total) - avail).max(0)),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
        ..Default::default()
    };
    let conditions = status.conditions.get_or_insert_default();
    if avail >= want - max_unavailable {
        set_condition(
            conditions,
            "Available",
            true,
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            now,
        );
    } else {
        let text = "Deployment does not have minimum availability.";
        set_condition(conditions, "Available", false, "MinimumReplicasUnavailable", text, now);
    }
    let set_name = out.create.as_ref().or(current).map_or_else(String::new, ResourceExt::name_any);
    let complete = updated == want && total == want && avail == want;
    let paused = d.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
    let moved = before.updated_replicas.unwrap_or(0) != updated
        || before.ready_replicas.unwrap_or(0) != ready
        || before.available_replicas.unwrap_or(0) != avail;
    let deadline = i64::from(d.spec.as_ref().and_then(|s| s.progress_deadline_seconds).unwrap_or(600));
    let since = conditions.iter().find(|c| c.type_ == "Progressing").and_then(|c| c.last_update_time.clone());
    if paused {
        set_condition(conditions, "Progressing", false, "DeploymentPaused", "Deployment is paused", now);
        if let Some(c) = conditions.iter_mut().find(|c| c.type_ == "Progressing") {
            c.status = "Unknown".into();
        }
    } else if complete {
        let text = format!("ReplicaSet \"{set_name}\" has successfully progressed.");
        set_condition(conditions, "Progressing", true, "NewReplicaSetAvailable", &text, now);
    } else if out.create.is_some() {
        let text = format!("Created new replica set \"{set_name}\"");
        set_condition(conditions, "Progressing", true, "NewReplicaSetCreated", &text, now);
    } else if moved || since.is_none() {
        let text = format!("ReplicaSet \"{set_name}\" is progressing.");
        set_condition(conditions, "Progressing", true, "ReplicaSetUpdated", &text, now);
        if let Some(c) = conditions.iter_mut().find(|c| c.type_ == "Progressing") {
            c.last_update_time = Some(Time(now));
        }
    } else if let Some(t) = since {
        let left = deadline - now.duration_since(t.0).as_secs();
        if left <= 0 {
            let text = format!("ReplicaSet \"{set_name}\" has timed out progressing.");
            set_condition(conditions, "Progressing", false, "ProgressDeadlineExceeded", &text, now);
        } else {
            out.look_again = Some(Duration::from_secs(left.unsigned_abs()));
        }
    }
    // What keeps pods from being made is told here too; the current template's set first.
    let failing = current.into_iter().chain(mine.iter().copied()).find_map(|set| {
        let all = set.status.as_ref().and_then(|s| s.conditions.as_ref())?;
        all.iter().find(|c| c.type_ == FAILURE && c.status == "True")
    });
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != FAILURE);
    conditions.extend(failing.map(|c| DeploymentCondition {
        type_: c.type_.clone(),
        status: c.status.clone(),
        reason: c.reason.clone(),
        message: c.message.clone(),
        last_update_time: c.last_transition_time.clone(),
        last_transition_time: c.last_transition_time.clone(),
    }));
    out.status = status;
}

const FAILURE: &str = "ReplicaFailure";

fn set_condition(
    all: &mut Vec<DeploymentCondition>,
    kind: &str,
    on: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let status = if on { "True" } else { "False" };
    let old = all.iter().position(|c| c.type_ == kind);
    let transition = old.map(|i| &all[i]).filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    if let Some(c) = old.map(|i| &all[i])
        && c.status == status
        && c.reason.as_deref() == Some(reason)
        && c.message.as_deref() == Some(message)
    {
        return;
    }
    let fresh = DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(transition.unwrap_or(Time(now))),
    };
    match old {
        Some(i) => all[i] = fresh,
        None => all.push(fresh),
    }
}

async fn act(d: Arc<Deployment>, context: Arc<Context>) -> Result<Action, Error> {
    let ns = d.namespace().unwrap_or_default();
    let (client, events) = (&context.client, &context.events);
    let api = Api::<Deployment>::namespaced(client.clone(), &ns);
    let Some(d) = api.get_opt(&d.name_any()).await? else { return Ok(Action::await_change()) };
    let sets = Api::<ReplicaSet>::namespaced(client.clone(), &ns);
    let live = sets.list(&ListParams::default()).await?.items;
    let decision = decide(&d, &live, Timestamp::now());
    if let Some(set) = &decision.create {
        match sets.create(&PostParams::default(), set).await {
            // The same name with another template: Kubernetes counts the collision into the hash and tries again.
            Err(kube::Error::Api(s)) if s.code == 409 => {
                let n = d.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0) + 1;
                let patch = json!({"status": {"collisionCount": n}});
                api.patch_status(&d.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
                return Ok(Action::requeue(Duration::from_millis(20)));
            }
            Err(kube::Error::Api(s)) if (400..500).contains(&s.code) && s.code != 404 && s.code != 429 => {
                let text = format!("Failed to create new replica set {:?}: {}", set.name_any(), s.message);
                events.warning(&d, "ReplicaSetCreateError", text);
                return Err(kube::Error::Api(s).into());
            }
            Ok(_) if replicas(set) > 0 => scaled(events, &d, &set.name_any(), 0, replicas(set)),
            other => drop(other?),
        }
    }
    if let Some((set, revision)) = &decision.revision {
        let patch = json!({"metadata": {"annotations": {REVISION: revision.to_string()}}});
        sets.patch(set, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        api.patch(&d.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    for (set, n) in &decision.scale {
        let patch = json!({"spec": {"replicas": n}});
        sets.patch(set, &PatchParams::default(), &Patch::Merge(patch)).await?;
        let before = live.iter().find(|s| s.name_any() == *set).map_or(0, replicas);
        scaled(events, &d, set, before, *n);
    }
    for set in &decision.delete {
        sets.delete(set, &DeleteParams::background()).await?;
    }
    if d.status.as_ref() != Some(&decision.status) {
        let mut status = serde_json::to_value(&decision.status).unwrap_or_default();
        // A merge patch removes only what it names: counters that fell to zero have to be named.
        for key in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"] {
            if status.get(key).is_none() {
                status[key] = serde_json::Value::Null;
            }
        }
        let patch = json!({"status": status});
        api.patch_status(&d.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(decision.look_again.map_or_else(Action::await_change, Action::requeue))
}

fn scaled(events: &Events, d: &Deployment, set: &str, from: i32, to: i32) {
    let way = if to > from { "up" } else { "down" };
    events.normal(d, "ScalingReplicaSet", format!("Scaled {way} replica set {set} from {from} to {to}"));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn deployment(image: &str, replicas: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "d1", "generation": 1},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}},
                                  "spec": {"containers": [{"name": "web", "image": image}]}}}
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    /// A world in which pods become available at once; returns the lowest number available and the highest total.
    fn roll_out(mut sets: Vec<ReplicaSet>, d: &mut Deployment, min: &mut i32, max: &mut i32) -> Vec<ReplicaSet> {
        for _ in 0..40 {
            let out = decide(d, &sets, now());
            d.status = Some(out.status);
            if let Some(mut set) = out.create {
                set.metadata.uid = Some(set.name_any());
                sets.push(set);
            }
            if let Some((name, r)) = out.revision {
                d.metadata.annotations.get_or_insert_default().insert(REVISION.into(), r.to_string());
                let set = sets.iter_mut().find(|s| s.name_any() == name).unwrap();
                set.metadata.annotations.get_or_insert_default().insert(REVISION.into(), r.to_string());
            }
            for (name, n) in out.scale {
                sets.iter_mut().find(|s| s.name_any() == name).unwrap().spec.as_mut().unwrap().replicas = Some(n);
            }
            sets.retain(|s| !out.delete.contains(&s.name_any()));
            for set in &mut sets {
                // One pod a round becomes available; removed pods are gone at once.
                let want = replicas(set);
                let status = set.status.get_or_insert_default();
                let n = status.available_replicas.unwrap_or(0);
                let n = if n < want { n + 1 } else { want };
                (status.replicas, status.ready_replicas, status.available_replicas) = (want, Some(n), Some(n));
            }
            *min = (*min).min(sets.iter().map(available).sum());
            *max = (*max).max(sets.iter().map(replicas).sum());
        }
        sets
    }

    #[test]
    fn a_rollout_stays_within_surge_and_unavailability() {
        let mut d = deployment("a:1", 4);
        let (mut min, mut max) = (i32::MAX, 0);
        let sets = roll_out(vec![], &mut d, &mut min, &mut max);
        assert_eq!(sets.len(), 1);
        assert_eq!(replicas(&sets[0]), 4);
        d.spec = deployment("a:2", 4).spec;
        let (mut min, mut max) = (i32::MAX, 0);
        let sets = roll_out(sets, &mut d, &mut min, &mut max);
        assert_eq!(sets.iter().map(replicas).collect::<Vec<_>>(), [0, 4]);
        assert!(min >= 3, "never fewer than 3 of 4 available: {min}");
        assert!(max <= 5, "never more than one extra: {max}");
        assert_eq!(d.annotations()[REVISION], "2");
        let progressing = d.status.unwrap().conditions.unwrap();
        assert!(progressing.iter().any(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable")));
    }

    #[test]
    fn a_single_replica_is_replaced_without_a_gap() {
        let mut d = deployment("a:1", 1);
        let sets = roll_out(vec![], &mut d, &mut 0, &mut 0);
        d.spec = deployment("a:2", 1).spec;
        let (mut min, mut max) = (i32::MAX, 0);
        roll_out(sets, &mut d, &mut min, &mut max);
        assert_eq!((min, max), (1, 2));
    }

    #[test]
    fn recreate_removes_the_old_before_it_makes_the_new() {
        let mut d = deployment("a:1", 2);
        d.spec.as_mut().unwrap().strategy = Some(serde_json::from_value(json!({"type": "Recreate"})).unwrap());
        let sets = roll_out(vec![], &mut d, &mut 0, &mut 0);
        d.spec.as_mut().unwrap().template = deployment("a:2", 2).spec.unwrap().template;
        let (mut min, mut max) = (i32::MAX, 0);
        let sets = roll_out(sets, &mut d, &mut min, &mut max);
        assert_eq!(max, 2);
        assert_eq!(sets.iter().map(replicas).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn going_back_to_an_old_template_reuses_its_set_under_a_new_revision() {
        let mut d = deployment("a:1", 1);
        let sets = roll_out(vec![], &mut d, &mut 0, &mut 0);
        d.spec = deployment("a:2", 1).spec;
        let sets = roll_out(sets, &mut d, &mut 0, &mut 0);
        d.spec = deployment("a:1", 1).spec;
        let sets = roll_out(sets, &mut d, &mut 0, &mut 0);
        assert_eq!(sets.len(), 2);
        assert_eq!(d.annotations()[REVISION], "3");
    }

    #[test]
    fn a_stuck_rollout_says_so_after_the_deadline() {
        let mut d = deployment("a:1", 1);
        let out = decide(&d, &[], now());
        let mut set = out.create.unwrap();
        set.metadata.uid = Some("s".into());
        d.status = Some(out.status);
        let d2 = decide(&d, &[set.clone()], now());
        assert_eq!(d2.look_again, Some(Duration::from_secs(600)));
        let later = now() + Duration::from_secs(601);
        let conditions = decide(&d, &[set], later).status.conditions.unwrap();
        assert!(conditions.iter().any(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded")));
    }
}
