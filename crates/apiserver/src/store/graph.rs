//! Who owns whom: an index by uid, kept exact by the writer as it publishes, and the work that follows for the garbage
//! collector. Decides nothing.

use super::object::Uid;
use super::table::Event;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Where an object is: its table and key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) storage: Arc<str>,
    pub(crate) key: Box<str>,
}

/// What the garbage collector should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// The owner is gone: its dependents may have to go.
    OwnerGone(Uid),
    /// The object's owners should be looked at.
    Dependent(Place),
    /// The object, if it is being deleted, may wait for its dependents, or for letting them go.
    Owner(Uid),
    /// The namespace is being deleted.
    Namespace(String),
    /// The CustomResourceDefinition is being deleted.
    Definition(String),
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    places: HashMap<Uid, Place>,
    dependents: HashMap<Uid, HashSet<Place>>,
}

impl Graph {
    /// Where the object with that uid is.
    pub(crate) fn place(&self, uid: Uid) -> Option<Place> {
        self.places.get(&uid).cloned()
    }

    /// The objects that name this uid as an owner.
    pub(crate) fn dependents(&self, uid: Uid) -> Vec<Place> {
        self.dependents.get(&uid).map(|set| set.iter().cloned().collect()).unwrap_or_default()
    }

    /// Takes an event in; returns what follows.
    pub(super) fn note(&mut self, storage: &Arc<str>, event: &Event) -> Vec<Work> {
        let mut work = Vec::new();
        let meta = &event.obj.meta;
        let place = || Place { storage: storage.clone(), key: meta.key().into() };
        let old_owners: &[Uid] = event.old.as_ref().map_or(&[], |o| &o.meta.owners);
        let owners: &[Uid] = if event.removed { &[] } else { &meta.owners };
        for gone in old_owners.iter().filter(|o| !owners.contains(o)) {
            if let Some(set) = self.dependents.get_mut(gone) {
                set.remove(&place());
                if set.is_empty() {
                    self.dependents.remove(gone);
                }
            }
            if self.places.contains_key(gone) {
                work.push(Work::Owner(*gone));
            }
        }
        let mut joined = false;
        for new in owners.iter().filter(|o| !old_owners.contains(o)) {
            self.dependents.entry(*new).or_default().insert(place());
            joined = true;
        }
        if joined {
            work.push(Work::Dependent(place()));
        }
        if event.removed {
            self.places.remove(&meta.uid);
            if self.dependents.contains_key(&meta.uid) {
                work.push(Work::OwnerGone(meta.uid));
            }
        } else {
            if event.old.is_none() {
                self.places.insert(meta.uid, place());
            }
            if meta.deleting && meta.collected {
                work.push(Work::Owner(meta.uid));
            }
            let began = meta.deleting && event.old.as_ref().is_none_or(|o| !o.meta.deleting);
            if began && **storage == *crate::store::NAMESPACES {
                work.push(Work::Namespace(meta.name.to_string()));
            }
            if began && **storage == *crate::crd::TABLE {
                work.push(Work::Definition(meta.name.to_string()));
            }
        }
        work
    }
}
