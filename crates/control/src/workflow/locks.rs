//! The locks of all runs: the one table ([`windlass_schedule::locks`]) behind a mutex, the sizes of semaphores, which it
//! reads from ConfigMaps and watches as long as somebody needs them, and the mailboxes of those who wait.
//!
//! The table lives in memory; what outlives it is in the workflows' statuses, and is put in before anything is granted.
//! It must never grant by itself, nor forget a run that is still there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::core::Object;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tracing::{info, warn};
use windlass_engine::Observation;
use windlass_model::labels;
use windlass_model::lock::{LockAnswer, LockName};
use windlass_schedule::locks::{Holder, Owner, Table, Wish};

use super::live::Live;
use super::resident::Letter;
use super::{Key, seen};
use crate::Error;

/// Namespace and name of a ConfigMap.
type MapKey = (String, String);

#[derive(Default)]
struct Room {
    table: Table,
    mailboxes: HashMap<Owner, UnboundedSender<Letter>>,
    watches: BTreeMap<MapKey, AbortHandle>,
    /// The loop has stopped: nothing is granted any more.
    closed: bool,
}

/// A handle on the table.
#[derive(Clone)]
pub(crate) struct Locks {
    client: Client,
    room: Arc<Mutex<Room>>,
}

/// Of a workflow's status only what it holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Held {
    synchronization: Value,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Locks {
    /// The table with what unfinished workflows hold by their statuses.
    pub(crate) async fn restore(client: &Client, managed: Option<&str>) -> Result<Self, Error> {
        let kind = seen::workflows();
        let api = match managed {
            Some(namespace) => Api::<Object<Unread, Held>>::namespaced_with(client.clone(), namespace, &kind),
            None => Api::all_with(client.clone(), &kind),
        };
        let unfinished = ListParams::default().labels(&format!("{}!=true", labels::COMPLETED));
        let mut room = Room::default();
        for workflow in api.list(&unfinished).await? {
            let Some(status) = &workflow.status else { continue };
            let owner = owner(&workflow.namespace().unwrap_or_default(), &workflow.name_any(), workflow.uid());
            for (lock, key) in windlass_engine::held_in(&status.synchronization) {
                let Some(rest) = key.strip_prefix(&owner.workflow) else { continue };
                let node_id = rest.strip_prefix('/').unwrap_or(rest).to_owned();
                info!(workflow = owner.workflow, %lock, "a lock that was held stays held");
                room.table.restore(Holder { owner: owner.clone(), node_id }, lock);
            }
        }
        Ok(Self { client: client.clone(), room: Arc::new(Mutex::new(room)) })
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        // The table is whole between any two of its calls.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks; the answer is here already, or comes into the mailbox. Sizes that nobody has read are to be read
    /// ([`Self::read_sizes`]).
    pub(crate) fn ask(
        &self,
        seat: &Seat,
        node_id: &str,
        locks: &[LockName],
        priority: i32,
        created: Timestamp,
    ) -> Asked {
        let mut room = self.room();
        let holder = Holder { owner: seat.owner.clone(), node_id: node_id.to_owned() };
        room.mailboxes.insert(seat.owner.clone(), seat.mailbox.clone());
        room.table.ask(Wish { holder: holder.clone(), locks: locks.to_vec(), priority, created });
        let own = room.tell(Some(&holder));
        match own {
            Some(answer) => Asked::Answered(answer),
            None if room.table.unread().iter().any(|name| locks.contains(name)) => Asked::SizeUnread,
            None => Asked::Later,
        }
    }

    /// Reads the sizes of these semaphores and watches them from now on.
    pub(crate) async fn read_sizes(&self, locks: &[LockName]) -> Result<(), Error> {
        let maps: BTreeSet<MapKey> = locks.iter().filter_map(map_of).collect();
        for (namespace, name) in maps {
            let api = config_maps(&self.client, &namespace);
            let map = match api.get_opt(&name).await {
                Ok(map) => map,
                Err(kube::Error::Api(s)) if s.code == 403 => {
                    warn!(namespace, name, error = s.message, "the size of a semaphore may not be read");
                    None
                }
                Err(e) => return Err(e.into()),
            };
            self.sized(&(namespace, name), map.as_ref(), false);
        }
        Ok(())
    }

    /// What a ConfigMap says now.
    fn sized(&self, key: &MapKey, map: Option<&DynamicObject>, watched: bool) {
        let mut room = self.room();
        let names: Vec<LockName> =
            room.table.semaphores().filter(|n| map_of(n).as_ref() == Some(key)).cloned().collect();
        for name in names {
            let LockName::Semaphore { key: entry, .. } = &name else { continue };
            let text = map.and_then(|m| m.data["data"][entry].as_str());
            let size = text.and_then(|t| t.trim().parse::<usize>().ok());
            if size.is_none() {
                warn!(lock = %name, size = text, "a semaphore's size cannot be read: is the ConfigMap there, and its key a number?");
            }
            room.table.set_size(&name, size);
        }
        room.tell(None);
        let needed = room.table.semaphores().any(|name| map_of(name).as_ref() == Some(key));
        if needed && !watched && !room.watches.contains_key(key) {
            let watch = tokio::spawn(self.clone().watch(key.clone()));
            room.watches.insert(key.clone(), watch.abort_handle());
        }
        room.drop_watches();
    }

    async fn watch(self, key: MapKey) {
        let mut versions = watch_object(config_maps(&self.client, &key.0), &key.1).boxed();
        while let Some(version) = versions.next().await {
            match version {
                Ok(map) => self.sized(&key, map.as_ref(), true),
                Err(e) => {
                    warn!(namespace = key.0, name = key.1, error = %Error::from(e), "watch of a semaphore's size");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Gives back what a node holds, or all of its run.
    pub(crate) fn release(&self, owner: &Owner, node_id: Option<&str>) {
        let mut room = self.room();
        match node_id {
            Some(node_id) => {
                room.table.release(&Holder { owner: owner.clone(), node_id: node_id.to_owned() });
            }
            None => room.table.forget(owner),
        }
        room.tell(None);
        room.drop_watches();
    }

    /// A run has left memory for good.
    pub(crate) fn forget(&self, owner: &Owner) {
        let mut room = self.room();
        if room.closed {
            return;
        }
        room.mailboxes.remove(owner);
        room.table.forget(owner);
        room.tell(None);
        room.drop_watches();
    }

    /// Forgets every run whose workflow is not among these.
    pub(crate) fn retain(&self, workflows: impl Fn(&str) -> bool) {
        let gone: Vec<Owner> = self.room().table.owners().filter(|o| !workflows(&o.workflow)).cloned().collect();
        gone.iter().for_each(|owner| self.forget(owner));
    }

    /// What a run that is loaded again holds without its status telling so was given back, or never used: the word was
    /// lost with the write of that status. Nothing runs under it, for a hold is written before its pod is made.
    pub(crate) fn give_back_untold(&self, owner: &Owner, status: &Value) {
        let mut room = self.room();
        let told: BTreeSet<String> = windlass_engine::held_in(status).into_iter().map(|(_, key)| key).collect();
        for holder in room.table.held_by(owner) {
            if !told.contains(&holder.key()) {
                room.table.release(&holder);
            }
        }
        room.tell(None);
        room.drop_watches();
    }

    /// Whether a node holds what it was granted. A letter may be older than what happened since.
    pub(crate) fn holds(&self, owner: &Owner, node_id: &str) -> bool {
        self.room().table.held_by(owner).iter().any(|holder| holder.node_id == node_id)
    }

    /// Takes out of a status what its run does not hold: the table is right, and a status may be older.
    pub(crate) fn correct(&self, owner: &Owner, status: &mut Value) {
        let room = self.room();
        let holds = |lock: &Value, key: &Value| {
            let name: Option<LockName> = lock.as_str().and_then(|n| n.parse().ok());
            let key = key.as_str().unwrap_or_default();
            name.is_some_and(|name| {
                room.table.holders(&name).iter().any(|k| k == key) && room.table.owners().any(|o| o == owner)
            })
        };
        for row in status["mutex"]["holding"].as_array_mut().into_iter().flatten() {
            if !holds(&row["mutex"], &row["holder"]) {
                row["holder"] = Value::Null;
            }
        }
        for row in status["semaphore"]["holding"].as_array_mut().into_iter().flatten() {
            let lock = row["semaphore"].clone();
            if let Some(holders) = row["holders"].as_array_mut() {
                holders.retain(|key| holds(&lock, key));
            }
        }
    }

    /// The loop ends: what residents drop now changes nothing.
    pub(crate) fn close(&self) {
        let mut room = self.room();
        room.closed = true;
        room.watches.values().for_each(AbortHandle::abort);
    }
}

/// What asking came to.
pub(crate) enum Asked {
    /// This.
    Answered(LockAnswer),
    /// The answer comes by letter.
    Later,
    /// The answer comes when a size is known.
    SizeUnread,
}

/// Whose wishes these are, where answers go, and what is configured for all.
pub(crate) struct Seat {
    pub(crate) live: Live,
    pub(crate) owner: Owner,
    pub(crate) mailbox: UnboundedSender<Letter>,
}

impl Room {
    /// Puts the answers into the mailboxes; the one to `own` is handed back.
    fn tell(&mut self, own: Option<&Holder>) -> Option<LockAnswer> {
        let mut mine = None;
        for (holder, answer) in self.table.take_answers() {
            if self.closed {
                continue;
            }
            if Some(&holder) == own {
                mine = Some(answer);
            } else if let Some(mailbox) = self.mailboxes.get(&holder.owner) {
                let answer = Observation::Locks { node_id: holder.node_id, answer };
                // A run that is gone is forgotten by whoever ends it.
                let _ = mailbox.send(Letter::Observed(Box::new(answer)));
            }
        }
        mine
    }

    fn drop_watches(&mut self) {
        if self.watches.is_empty() {
            return;
        }
        let needed: BTreeSet<MapKey> = self.table.semaphores().filter_map(map_of).collect();
        self.watches.retain(|key, watch| {
            let stays = needed.contains(key);
            if !stays {
                watch.abort();
            }
            stays
        });
    }
}

/// The run of a workflow.
pub(crate) fn owner(namespace: &str, name: &str, uid: Option<String>) -> Owner {
    Owner { workflow: workflow_key(namespace, name), uid: uid.unwrap_or_default() }
}

/// A workflow as holders name it.
pub(crate) fn workflow_key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The same of a mailbox's key.
pub(crate) fn of_key(key: &Key) -> String {
    workflow_key(&key.0, &key.1)
}

fn map_of(name: &LockName) -> Option<MapKey> {
    match name {
        LockName::Semaphore { namespace, config_map, .. } => Some((namespace.clone(), config_map.clone())),
        LockName::Mutex { .. } => None,
    }
}

fn config_maps(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &seen::config_maps())
}
