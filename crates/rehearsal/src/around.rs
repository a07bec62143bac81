//! What spans runs, for one run alone: the table of locks, and the caches of remembered outputs. Nobody else is there to
//! hold a lock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_engine::Observation;
use windlass_model::labels;
use windlass_model::lock::LockName;
use windlass_schedule::locks::{Holder, Owner, Table, Wish};

/// The locks and the caches.
#[derive(Debug, Default)]
pub(crate) struct Around {
    table: Table,
    caches: BTreeMap<String, Value>,
}

fn run() -> Owner {
    Owner { workflow: "this/run".to_owned(), uid: String::new() }
}

impl Around {
    /// Asks for locks; the semaphores whose size is to be told.
    pub(crate) fn ask(
        &mut self,
        node_id: String,
        locks: Vec<LockName>,
        priority: i32,
        created: Timestamp,
    ) -> Vec<LockName> {
        self.table.ask(Wish { holder: Holder { owner: run(), node_id }, locks, priority, created });
        self.table.unread()
    }

    /// The size of a semaphore.
    pub(crate) fn size(&mut self, name: &LockName, size: Option<usize>) {
        self.table.set_size(name, size);
    }

    /// Gives back what a node holds, or everything.
    pub(crate) fn release(&mut self, node_id: Option<String>) {
        match node_id {
            Some(node_id) => self.table.release(&Holder { owner: run(), node_id }),
            None => self.table.forget(&run()),
        }
    }

    /// What the run is to be told of its locks.
    pub(crate) fn answers(&mut self) -> Vec<Observation> {
        let told = self.table.take_answers().into_iter();
        told.map(|(holder, answer)| Observation::Locks { node_id: holder.node_id, answer }).collect()
    }

    /// A cache that the run has written.
    pub(crate) fn cache(&self, config_map: &str) -> Option<Value> {
        self.caches.get(config_map).cloned()
    }

    /// Writes an entry into a cache, which may have been `there` before.
    pub(crate) fn remember(&mut self, config_map: &str, there: Option<&Value>, key: &str, entry: &str) {
        let map = self.caches.entry(config_map.to_owned()).or_insert_with(|| there.cloned().unwrap_or_default());
        map["metadata"]["labels"] = json!({labels::CONFIGMAP_TYPE: "Cache"});
        map["data"][key] = json!(entry);
    }
}
