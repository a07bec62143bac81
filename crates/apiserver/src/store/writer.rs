//! The one writer: compares, numbers, commits what is queued as one transaction, publishes, answers. Never parses,
//! never patches: that was done on the callers' tasks.

use super::Shared;
use super::database::{Database, Row, StoreError};
use super::graph::Work;
use super::object::{Draft, Obj};
use super::table::{Event, Table};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use tokio::sync::{mpsc as feed, oneshot};

/// What the caller saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nothing at this key.
    Absent,
    /// The object at this version.
    Version(u64),
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Change {
    /// Put this object there.
    Put(Draft),
    /// Remove what is there.
    Remove,
}

/// Why a write was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Something else is there than the caller saw.
    Changed,
    /// The namespace does not exist.
    NoNamespace,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The disk is full; nothing was written.
    Full(String),
    /// The disk failed; nothing was written.
    Failed(String),
    /// The store was closed.
    Closed,
}

/// One write on its way.
#[derive(Debug)]
pub(crate) struct Write {
    pub(super) table: Arc<Table>,
    pub(super) key: Box<str>,
    pub(super) expect: Expect,
    pub(super) change: Change,
    /// The key's namespace must exist and not be terminating at commit.
    pub(super) live_namespace: bool,
    pub(super) answer: oneshot::Sender<Result<Arc<Obj>, Refused>>,
}

/// How much goes into one transaction.
const BATCH_WRITES_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 16 << 20;

/// The table that namespaces are kept in.
pub(crate) const NAMESPACES: &str = "namespaces";

pub(super) struct Writer {
    shared: Arc<Shared>,
    database: Database,
    rv: u64,
    last_row: i64,
    work: feed::UnboundedSender<Work>,
    namespaces: Arc<Table>,
}

/// A write that passed its comparison.
struct Staged {
    write: Write,
    event: Arc<Event>,
}

/// What the writes before in the same batch will have done.
type Pending = HashMap<(Arc<str>, Box<str>), Option<Arc<Obj>>>;

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        database: Database,
        rv: u64,
        last_row: i64,
        work: feed::UnboundedSender<Work>,
    ) -> Self {
        let namespaces = shared.table(NAMESPACES);
        Self { shared, database, rv, last_row, work, namespaces }
    }

    /// Runs until the store is dropped.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Write>) {
        while let Ok(first) = queue.recv() {
            let mut bytes = size(&first);
            let mut batch = vec![first];
            while batch.len() < BATCH_WRITES_MAX && bytes < BATCH_BYTES_MAX {
                let Ok(next) = queue.try_recv() else { break };
                bytes += size(&next);
                batch.push(next);
            }
            self.commit(batch);
        }
    }

    fn commit(&mut self, batch: Vec<Write>) {
        let (rv, last_row) = (self.rv, self.last_row);
        let mut pending = Pending::new();
        let mut staged = Vec::with_capacity(batch.len());
        for write in batch {
            match self.stage(&write, &pending) {
                Ok(event) => {
                    let place = (write.table.storage.clone(), write.key.clone());
                    pending.insert(place, (!event.removed).then(|| event.obj.clone()));
                    staged.push(Staged { write, event: Arc::new(event) });
                }
                Err(refused) => answer(write, Err(refused)),
            }
        }
        if staged.is_empty() {
            return;
        }
        let rows: Vec<Row<'_>> = staged.iter().map(row).collect();
        match self.database.commit(&rows, self.rv) {
            Ok(()) => self.publish(staged),
            Err(error) => {
                drop(rows);
                // Versions are only used up by what is committed.
                (self.rv, self.last_row) = (rv, last_row);
                self.give_up(staged, &error);
            }
        }
    }

    /// One by one what did not go together, so that a large write does not fail a small one; alone, the write fails.
    fn give_up(&mut self, mut staged: Vec<Staged>, error: &StoreError) {
        if staged.len() > 1 {
            for one in staged {
                self.commit(vec![one.write]);
            }
            return;
        }
        let Some(one) = staged.pop() else { return };
        tracing::error!(%error, resource = &*one.write.table.storage, key = &*one.write.key, "write failed");
        let text = error.to_string();
        let refused = if error.is_full() { Refused::Full(text) } else { Refused::Failed(text) };
        answer(one.write, Err(refused));
    }

    fn stage(&mut self, write: &Write, pending: &Pending) -> Result<Event, Refused> {
        let seen = |table: &Arc<Table>, key: &str| match pending.get(&(table.storage.clone(), key.into())) {
            Some(known) => known.clone(),
            None => table.get(key),
        };
        let old = seen(&write.table, &write.key);
        let agrees = match (write.expect, &old) {
            (Expect::Absent, None) => true,
            (Expect::Version(rv), Some(obj)) => obj.rv == rv,
            _ => false,
        };
        if !agrees {
            return Err(Refused::Changed);
        }
        if write.live_namespace {
            let name = write.key.split('/').next().unwrap_or_default();
            let namespace = seen(&self.namespaces, &format!("/{name}")).ok_or(Refused::NoNamespace)?;
            if namespace.meta.deleting {
                return Err(Refused::NamespaceTerminating);
            }
        }
        self.rv += 1;
        let rv = self.rv;
        Ok(match (&write.change, old) {
            (Change::Put(draft), old) => {
                let row = old.as_ref().map_or_else(
                    || {
                        self.last_row += 1;
                        self.last_row
                    },
                    |o| o.row,
                );
                Event { rv, obj: draft.stamped(rv, row), old, removed: false }
            }
            (Change::Remove, Some(old)) => {
                Event { rv, obj: Arc::new(old.restamped(rv)), old: Some(old), removed: true }
            }
            (Change::Remove, None) => return Err(Refused::Changed),
        })
    }

    fn publish(&mut self, staged: Vec<Staged>) {
        let mut by_table: Vec<(Arc<Table>, Vec<Arc<Event>>)> = Vec::new();
        for one in &staged {
            match by_table.iter_mut().find(|(table, _)| Arc::ptr_eq(table, &one.write.table)) {
                Some((_, events)) => events.push(one.event.clone()),
                None => by_table.push((one.write.table.clone(), vec![one.event.clone()])),
            }
        }
        let mut work = Vec::new();
        {
            let mut graph = self.shared.graph();
            for one in &staged {
                work.extend(graph.note(&one.write.table.storage, &one.event));
            }
        }
        for (table, events) in &by_table {
            table.publish(events);
        }
        self.shared.rv.store(self.rv, Ordering::Release);
        for one in staged {
            let obj = one.event.obj.clone();
            answer(one.write, Ok(obj));
        }
        for item in work {
            // Without a garbage collector nobody needs to know.
            let _ = self.work.send(item);
        }
    }
}

fn size(write: &Write) -> usize {
    match &write.change {
        Change::Put(draft) => draft.len(),
        Change::Remove => 0,
    }
}

fn row(one: &Staged) -> Row<'_> {
    Row {
        resource: &one.write.table.storage,
        obj: &one.event.obj,
        removed: one.event.removed,
        new: one.event.old.is_none(),
    }
}

fn answer(write: Write, result: Result<Arc<Obj>, Refused>) {
    // A caller that went away does not want its answer.
    let _ = write.answer.send(result);
}
