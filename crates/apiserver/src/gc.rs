//! Garbage collection by owner references: background, foreground, orphan. Looks at what the writer says has changed
//! and at nothing else; an object goes when none of its owners is left.

use crate::ApiServer;
use crate::background;
use crate::rest::{DeleteOptions, Propagation, metadata};
use crate::store::{Obj, Place, Uid, Work};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What the collector does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Delete the object with that uid.
    Delete { place: Place, uid: String, propagation: Option<Propagation> },
    /// Take references to these owners away.
    Release { place: Place, owners: Vec<Uid> },
    /// Let the dependents go free, then take the owner's finalizer away.
    Orphan { owner: Place, uid: Uid },
    /// Take the owner's finalizer away: nobody blocks it any more.
    Unblock { owner: Place },
}

/// What follows from a piece of work.
pub(crate) fn decide(server: &ApiServer, work: &Work) -> Vec<Action> {
    let store = server.store();
    match work {
        Work::OwnerGone(uid) => store.dependents(*uid).iter().filter_map(|place| attempt(server, place)).collect(),
        Work::Dependent(place) => attempt(server, place).into_iter().collect(),
        Work::Owner(uid) => store.place(*uid).map(|place| owner(server, *uid, place)).unwrap_or_default(),
        Work::Namespace(_) | Work::Definition(_) => Vec::new(),
    }
}

fn find(server: &ApiServer, place: &Place) -> Option<Arc<Obj>> {
    server.store().table(&place.storage).get(&place.key)
}

fn has_finalizer(object: &Value, name: &str) -> bool {
    metadata::finalizers(object).iter().any(|f| f == name)
}

/// An owner that is being deleted: does it wait for its dependents, or for letting them go?
fn owner(server: &ApiServer, uid: Uid, place: Place) -> Vec<Action> {
    let Some(obj) = find(server, &place).filter(|o| o.meta.deleting && o.meta.collected) else { return Vec::new() };
    let object = obj.value();
    if has_finalizer(&object, ORPHAN) {
        return vec![Action::Orphan { owner: place, uid }];
    }
    let dependents = server.store().dependents(uid);
    let blocks = |place: &Place| {
        find(server, place).is_some_and(|dependent| {
            let dependent = dependent.value();
            let refs = dependent["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            let mut refs = refs.filter(|r| r["uid"].as_str().is_some_and(|u| Uid::of(u) == uid));
            refs.any(|r| r["blockOwnerDeletion"] == true)
        })
    };
    if !dependents.iter().any(blocks) {
        return vec![Action::Unblock { owner: place }];
    }
    dependents.iter().filter_map(|place| attempt(server, place)).collect()
}

/// An object with owners: does it go, and how?
fn attempt(server: &ApiServer, place: &Place) -> Option<Action> {
    let store = server.store();
    let obj = find(server, place)?;
    if obj.meta.deleting || obj.meta.owners.is_empty() {
        return None;
    }
    let (mut solid, mut dangling, mut waiting) = (0, Vec::new(), Vec::new());
    let mut object = None;
    for &uid in &obj.meta.owners {
        let found = store.place(uid).and_then(|at| find(server, &at));
        match found.filter(|o| o.meta.namespace.is_empty() || o.meta.namespace == obj.meta.namespace) {
            Some(owner) if owner.meta.deleting && owner.meta.collected => {
                if has_finalizer(&owner.value(), FOREGROUND) {
                    waiting.push(uid);
                } else {
                    solid += 1;
                }
            }
            Some(_) => solid += 1,
            None => {
                let object = object.get_or_insert_with(|| obj.value());
                if is_knowable(server, object, uid, &obj) { dangling.push(uid) } else { solid += 1 }
            }
        }
    }
    if dangling.is_empty() && waiting.is_empty() {
        return None;
    }
    if solid > 0 {
        dangling.extend(waiting);
        return Some(Action::Release { place: place.clone(), owners: dangling });
    }
    let object = object.unwrap_or_else(|| obj.value());
    let propagation = if !waiting.is_empty() && !store.dependents(obj.meta.uid).is_empty() {
        Some(Propagation::Foreground)
    } else if has_finalizer(&object, ORPHAN) {
        Some(Propagation::Orphan)
    } else if has_finalizer(&object, FOREGROUND) {
        Some(Propagation::Foreground)
    } else {
        Some(Propagation::Background)
    };
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    Some(Action::Delete { place: place.clone(), uid, propagation })
}

/// Whether an owner that is not found can be said to be gone: its kind is served, and is not one that lives in
/// namespaces while the dependent does not.
fn is_knowable(server: &ApiServer, object: &Value, uid: Uid, obj: &Obj) -> bool {
    let refs = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let mut refs = refs.filter(|r| r["uid"].as_str().is_some_and(|u| Uid::of(u) == uid));
    let registry = server.registry();
    refs.all(|r| {
        let kind =
            registry.find_kind(r["apiVersion"].as_str().unwrap_or_default(), r["kind"].as_str().unwrap_or_default());
        kind.is_some_and(|kind| !(kind.namespaced && obj.meta.namespace.is_empty()))
    })
}

/// How long a failing action is tried again before it is left to the next change of the object, or the next start.
const PAUSE_MAX: Duration = Duration::from_secs(6);

/// Does it, a few times if the store cannot write.
pub(crate) async fn act(server: &ApiServer, action: Action) {
    let mut pause = Duration::from_millis(100);
    while let Err(error) = try_act(server, &action).await {
        tracing::warn!(%error, ?action, "garbage collection failed");
        if error.code < 500 || pause > PAUSE_MAX {
            return;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn try_act(server: &ApiServer, action: &Action) -> Result<(), crate::ApiError> {
    match action {
        Action::Delete { place, uid, propagation } => {
            let registry = server.registry();
            if let (Some(r), Some(obj)) = (registry.of_storage(&place.storage), find(server, place)) {
                let options =
                    DeleteOptions { uid: Some(uid.clone()), propagation: *propagation, ..DeleteOptions::default() };
                background::delete(server, r, &obj, &options).await?;
            }
            Ok(())
        }
        Action::Release { place, owners } => release(server, place, owners).await,
        Action::Orphan { owner, uid } => orphan(server, owner, *uid).await,
        Action::Unblock { owner } => {
            background::edit(server, &owner.storage, &owner.key, |object| {
                metadata::set_finalizer(object, FOREGROUND, false);
            })
            .await
        }
    }
}

async fn release(server: &ApiServer, place: &Place, owners: &[Uid]) -> Result<(), crate::ApiError> {
    background::edit(server, &place.storage, &place.key, |object| {
        let meta = metadata::of(object);
        if let Some(refs) = meta.get_mut("ownerReferences").and_then(Value::as_array_mut) {
            refs.retain(|r| r["uid"].as_str().is_none_or(|u| !owners.contains(&Uid::of(u))));
            if refs.is_empty() {
                meta.remove("ownerReferences");
            }
        }
    })
    .await
}

async fn orphan(server: &ApiServer, owner: &Place, uid: Uid) -> Result<(), crate::ApiError> {
    for place in server.store().dependents(uid) {
        release(server, &place, &[uid]).await?;
    }
    background::edit(server, &owner.storage, &owner.key, |object| metadata::set_finalizer(object, ORPHAN, false)).await
}
