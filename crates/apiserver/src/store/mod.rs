//! Where objects live: caches for readers, one writer thread that owns the database, and the index of owners.
//!
//! A write is prepared on its caller's task and handed over as key, expected version and bytes; the writer compares
//! and numbers; what is queued becomes one transaction; then the caches are published; then the callers are answered.
//! Readers see committed state only. Knows nothing of kinds beyond the name of their table.

mod database;
mod facts;
mod graph;
mod object;
mod table;
mod writer;

pub use database::StoreError;
pub(crate) use graph::{Graph, Place, Work};
pub(crate) use object::{Meta, Obj, Uid, key_of};
pub(crate) use table::{Cursor, Event, Table};
pub(crate) use writer::{Change, Expect, NAMESPACES, Refused, Write};

use crate::server::{Options, Where};
use database::{Database, Loaded};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use tokio::sync::{mpsc as feed, oneshot};

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    tables: RwLock<HashMap<Arc<str>, Arc<Table>>>,
    /// The highest version that is published in every table.
    rv: AtomicU64,
    /// The version at opening: nothing is remembered of what happened before.
    opened: u64,
    ring_bytes: usize,
    graph: Mutex<Graph>,
}

impl Shared {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self, storage: &str) -> Arc<Table> {
        if let Some(table) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(storage) {
            return table.clone();
        }
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Table::new(storage, self.opened, self.ring_bytes));
        tables.entry(storage.into()).or_insert_with(fresh).clone()
    }
}

/// The store. Dropping it ends the writer after what is queued.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    writer: mpsc::Sender<Write>,
}

impl Store {
    /// Opens the store and starts its writer. `selectable` tells the selectable fields of a table's kind, and sees each
    /// object's bytes in the order in which they were first written. Work for the garbage collector goes to the returned receiver.
    pub(crate) fn open(
        options: &Options,
        selectable: impl FnMut(&str, &[u8]) -> Arc<[String]>,
    ) -> Result<(Self, feed::UnboundedReceiver<Work>), StoreError> {
        let (database, loaded) = match &options.store {
            Where::File(path) => Database::open(path, options.max_pages, selectable)?,
            Where::Memory => (Database::Memory, Loaded::default()),
        };
        // Version 0 has a meaning of its own in requests, so the first object gets 2 and an empty store is at 1.
        let rv = loaded.rv.max(1);
        let shared = Arc::new(Shared {
            tables: RwLock::default(),
            rv: AtomicU64::new(rv),
            opened: rv,
            ring_bytes: options.ring_bytes,
            graph: Mutex::default(),
        });
        let (sender, receiver) = feed::unbounded_channel();
        let mut work = Vec::new();
        for (storage, obj) in loaded.objects {
            let table = shared.table(&storage);
            let obj = Arc::new(obj);
            let event = Event { rv: obj.rv, obj: obj.clone(), old: None, removed: false };
            work.extend(shared.graph().note(&table.storage, &event));
            if table.load(obj).is_some() {
                return Err(StoreError::Corrupt(format!("{storage}: two rows for one object")));
            }
        }
        for item in work {
            // The receiver is in our hands; it cannot be gone.
            let _ = sender.send(item);
        }
        let (writer, queue) = mpsc::channel();
        let state = writer::Writer::new(shared.clone(), database, rv, loaded.last_row, sender);
        std::thread::Builder::new().name("store".to_owned()).spawn(move || state.run(&queue))?;
        Ok((Self { shared, writer }, receiver))
    }

    /// The table of a resource; made where there is none yet.
    pub(crate) fn table(&self, storage: &str) -> Arc<Table> {
        self.shared.table(storage)
    }

    /// Every table that was ever used.
    pub(crate) fn tables(&self) -> Vec<Arc<Table>> {
        self.shared.tables.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The highest version of which it is certain that every table shows it. Read it *before* a table.
    pub(crate) fn rv(&self) -> u64 {
        self.shared.rv.load(Ordering::Acquire)
    }

    /// Where the object with that uid is.
    pub(crate) fn place(&self, uid: Uid) -> Option<Place> {
        self.shared.graph().place(uid)
    }

    /// The objects that name this uid as an owner.
    pub(crate) fn dependents(&self, uid: Uid) -> Vec<Place> {
        self.shared.graph().dependents(uid)
    }

    /// Hands a change to the writer and waits until it is durable and visible, or refused.
    pub(crate) async fn write(
        &self,
        table: &Arc<Table>,
        key: &str,
        expect: Expect,
        change: Change,
        live_namespace: bool,
    ) -> Result<Arc<Obj>, Refused> {
        let (answer, answered) = oneshot::channel();
        let write = Write { table: table.clone(), key: key.into(), expect, change, live_namespace, answer };
        self.writer.send(write).map_err(|_| Refused::Closed)?;
        answered.await.map_err(|_| Refused::Closed)?
    }
}
