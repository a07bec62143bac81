//! The locks of all runs: the one table ([`windlass_schedule::locks`]) behind a mutex, the sizes of semaphores, which it
//! reads from ConfigMaps or the database and watches as long as somebody needs them, and the mailboxes of those who wait.
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
use windlass_archive::Limits;
use windlass_engine::Observation;
use windlass_model::labels;
use windlass_model::lock::{LockAnswer, LockName};
use windlass_schedule::locks::{Holder, Owner, Table, Wish};

use super::live::Live;
use super::resident::Letter;
use super::{Key, seen};
use crate::{Error, Scope};

/// Where the size of a semaphore is: namespace and name of a ConfigMap, or of a limit in the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Map(String, String),
    Limit(String, String),
}

/// How often a limit in the database is looked at while somebody needs it: nobody tells of a change.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Room {
    table: Table,
    mailboxes: HashMap<Owner, UnboundedSender<Letter>>,
    watches: BTreeMap<Source, AbortHandle>,
    /// The loop has stopped: nothing is granted any more.
    closed: bool,
}

/// A handle on the table.
#[derive(Clone)]
pub(crate) struct Locks {
    client: Client,
    limits: Option<Arc<dyn Limits>>,
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
    pub(crate) async fn restore(
        client: &Client,
        scope: &Scope,
        limits: Option<Arc<dyn Limits>>,
    ) -> Result<Self, Error> {
        let kind = seen::workflows();
        let api = scope.api_of::<Object<Unread, Held>>(client, &kind);
        let unfinished = ListParams {
            label_selector: scope.selector(&format!("{}!=true", labels::COMPLETED)),
            ..ListParams::default()
        };
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
        Ok(Self { client: client.clone(), limits, room: Arc::new(Mutex::new(room)) })
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
        if self.limits.is_none()
            && let Some(name) = locks.iter().find(|name| name.is_in_database())
        {
            let message = format!("{name}: synchronization database session is not available");
            return Asked::Answered(LockAnswer::Refused { message });
        }
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
        let sources: BTreeSet<Source> = locks.iter().filter_map(source_of).collect();
        for source in sources {
            match &source {
                Source::Limit(namespace, name) => {
                    let limit = self.limit(namespace, name).await?;
                    self.sized(&source, |_| limit, false);
                }
                Source::Map(namespace, name) => {
                    let map = match config_maps(&self.client, namespace).get_opt(name).await {
                        Ok(map) => map,
                        Err(kube::Error::Api(s)) if s.code == 403 => {
                            warn!(namespace, name, error = s.message, "the size of a semaphore may not be read");
                            None
                        }
                        Err(e) => return Err(e.into()),
                    };
                    self.sized(&source, |lock| size_in(map.as_ref(), lock), false);
                }
            }
        }
        Ok(())
    }

    async fn limit(&self, namespace: &str, name: &str) -> Result<Option<usize>, Error> {
        let Some(limits) = &self.limits else { return Ok(None) };
        let limit = limits.limit(format!("{namespace}/{name}")).await?;
        Ok(limit.and_then(|limit| usize::try_from(limit).ok()))
    }

    /// What the place of sizes says now.
    fn sized(&self, source: &Source, size_of: impl Fn(&LockName) -> Option<usize>, watched: bool) {
        let mut room = self.room();
        let names: Vec<LockName> =
            room.table.semaphores().filter(|n| source_of(n).as_ref() == Some(source)).cloned().collect();
        for name in names {
            let size = size_of(&name);
            if size.is_none() {
                warn!(lock = %name, "a semaphore's size cannot be read: is the ConfigMap or the limit there, and a number?");
            }
            room.table.set_size(&name, size);
        }
        room.tell(None);
        let needed = room.table.semaphores().any(|name| source_of(name).as_ref() == Some(source));
        if needed && !watched && !room.watches.contains_key(source) {
            let watch = tokio::spawn(self.clone().watch(source.clone()));
            room.watches.insert(source.clone(), watch.abort_handle());
        }
        room.drop_watches();
    }

    async fn watch(self, source: Source) {
        match &source {
            Source::Map(namespace, name) => {
                let mut versions = watch_object(config_maps(&self.client, namespace), name).boxed();
                while let Some(version) = versions.next().await {
                    match version {
                        Ok(map) => self.sized(&source, |lock| size_in(map.as_ref(), lock), true),
                        Err(e) => {
                            warn!(namespace, name, error = %Error::from(e), "watch of a semaphore's size");
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    }
                }
            }
            Source::Limit(namespace, name) => {
                let mut known = None;
                loop {
                    match self.limit(namespace, name).await {
                        // One that was taken back stays as it was, for those who hold it.
                        Ok(limit) if limit.is_some() && limit != known => {
                            self.sized(&source, |_| limit, true);
                            known = limit;
                        }
                        Ok(_) => {}
                        Err(error) => warn!(namespace, name, %error, "the limit of a semaphore cannot be read"),
                    }
                    tokio::time::sleep(LOOK).await;
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
        let holds = |lock: &Value, key: &Value, mutex: bool| {
            let name = lock.as_str().and_then(|n| LockName::read(n, mutex).ok());
            let key = key.as_str().unwrap_or_default();
            name.is_some_and(|name| {
                room.table.holders(&name).iter().any(|k| k == key) && room.table.owners().any(|o| o == owner)
            })
        };
        for row in status["mutex"]["holding"].as_array_mut().into_iter().flatten() {
            if !holds(&row["mutex"], &row["holder"], true) {
                row["holder"] = Value::Null;
            }
        }
        for row in status["semaphore"]["holding"].as_array_mut().into_iter().flatten() {
            let lock = row["semaphore"].clone();
            if let Some(holders) = row["holders"].as_array_mut() {
                holders.retain(|key| holds(&lock, key, false));
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
        let needed: BTreeSet<Source> = self.table.semaphores().filter_map(source_of).collect();
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

fn source_of(name: &LockName) -> Option<Source> {
    match name {
        LockName::Semaphore { namespace, config_map, .. } => Some(Source::Map(namespace.clone(), config_map.clone())),
        LockName::Database { namespace, name, mutex: false } => Some(Source::Limit(namespace.clone(), name.clone())),
        LockName::Mutex { .. } | LockName::Database { .. } => None,
    }
}

/// What a ConfigMap says of a semaphore.
fn size_in(map: Option<&DynamicObject>, name: &LockName) -> Option<usize> {
    let LockName::Semaphore { key, .. } = name else { return None };
    map?.data["data"][key].as_str()?.trim().parse().ok()
}

fn config_maps(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &seen::config_maps())
}
