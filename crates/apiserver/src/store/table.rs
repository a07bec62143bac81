//! All objects of one resource: the current ones by key, and the ring of what happened to them, bounded in bytes.
//! Readers see committed state only; only the writer publishes.

use super::object::Obj;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;

/// Something that happened to one object.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) rv: u64,
    /// The object after it; where it was removed, its last form with the version of the removal.
    pub(crate) obj: Arc<Obj>,
    /// The object before it.
    pub(crate) old: Option<Arc<Obj>>,
    pub(crate) removed: bool,
}

impl Event {
    fn cost(&self) -> usize {
        // Both forms are held by the event; counting both keeps the bound a bound.
        256 + self.obj.bytes.len() + self.old.as_ref().map_or(0, |o| o.bytes.len())
    }
}

/// The asked-for version is no longer (or not yet) in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    /// The oldest version that can be asked for.
    pub(crate) oldest: u64,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<Box<str>, Arc<Obj>>,
    /// The version of the last event.
    rv: u64,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// Every event after this version is in the ring.
    floor: u64,
}

/// One resource's objects and recent events.
#[derive(Debug)]
pub(crate) struct Table {
    /// `pods`, `deployments.apps`.
    pub(crate) storage: Arc<str>,
    state: RwLock<State>,
    budget: usize,
    changed: watch::Sender<u64>,
}

impl Table {
    pub(crate) fn new(storage: &str, floor: u64, budget: usize) -> Self {
        let state = State { objects: BTreeMap::new(), rv: floor, ring: VecDeque::new(), ring_bytes: 0, floor };
        Self { storage: storage.into(), state: RwLock::new(state), budget, changed: watch::Sender::new(floor) }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an object in place while the store is being opened.
    pub(super) fn load(&self, obj: Arc<Obj>) -> Option<Arc<Obj>> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.objects.insert(obj.meta.key().into(), obj)
    }

    /// Makes committed events visible, in order.
    pub(super) fn publish(&self, events: &[Arc<Event>]) {
        let Some(last) = events.last() else { return };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            let key = event.obj.meta.key();
            if event.removed {
                state.objects.remove(key.as_str());
            } else {
                state.objects.insert(key.into(), event.obj.clone());
            }
            state.ring_bytes += event.cost();
            state.ring.push_back(event.clone());
        }
        state.rv = last.rv;
        while state.ring_bytes > self.budget {
            let Some(oldest) = state.ring.pop_front() else { break };
            state.ring_bytes -= oldest.cost();
            state.floor = oldest.rv;
        }
        drop(state);
        self.changed.send_replace(last.rv);
    }

    /// The object of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Obj>> {
        self.read().objects.get(key).cloned()
    }

    /// The version of the last event.
    pub(crate) fn rv(&self) -> u64 {
        self.read().rv
    }

    /// The objects of a namespace (or all), in key order, after `after`, and the version that they show. With `at`, as
    /// they were at that version, rebuilt by taking back what the ring says happened since.
    pub(crate) fn snapshot(
        &self,
        namespace: Option<&str>,
        after: Option<&str>,
        at: Option<u64>,
    ) -> Result<(Vec<Arc<Obj>>, u64), Gone> {
        let prefix = namespace.map(|ns| format!("{ns}/")).unwrap_or_default();
        let start = match after {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(prefix.as_str()),
        };
        let state = self.read();
        let current =
            state.objects.range::<str, _>((start, Bound::Unbounded)).take_while(|(k, _)| k.starts_with(&prefix));
        let Some(at) = at.filter(|&at| at < state.rv) else {
            return Ok((current.map(|(_, o)| o.clone()).collect(), state.rv));
        };
        if at < state.floor {
            return Err(Gone { oldest: state.floor });
        }
        let mut past: BTreeMap<String, Arc<Obj>> = current.map(|(k, o)| (k.to_string(), o.clone())).collect();
        for event in state.ring.iter().rev().take_while(|e| e.rv > at) {
            let key = event.obj.meta.key();
            if !key.starts_with(&prefix) || after.is_some_and(|after| key.as_str() <= after) {
                continue;
            }
            match &event.old {
                Some(old) => past.insert(key, old.clone()),
                None => past.remove(&key),
            };
        }
        Ok((past.into_values().collect(), at))
    }

    /// A reader of what happens after a version.
    pub(crate) fn cursor(self: &Arc<Self>, after: u64) -> Cursor {
        Cursor { table: self.clone(), after, changed: self.changed.subscribe() }
    }
}

/// Reads events in order, at its own pace. Holds nothing but its place: who falls behind the ring is told so.
#[derive(Debug)]
pub(crate) struct Cursor {
    table: Arc<Table>,
    after: u64,
    changed: watch::Receiver<u64>,
}

impl Cursor {
    /// Events after the last ones, at most `most`; none if there are none yet.
    pub(crate) fn take(&mut self, most: usize) -> Result<Vec<Arc<Event>>, Gone> {
        self.changed.borrow_and_update();
        let state = self.table.read();
        if self.after < state.floor {
            return Err(Gone { oldest: state.floor });
        }
        let from = state.ring.partition_point(|e| e.rv <= self.after);
        let events: Vec<_> = state.ring.range(from..).take(most).cloned().collect();
        drop(state);
        if let Some(last) = events.last() {
            self.after = last.rv;
        }
        Ok(events)
    }

    /// Waits until there may be something to take. Never ends if nothing happens.
    pub(crate) async fn wait(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The version up to which everything was taken.
    pub(crate) fn after(&self) -> u64 {
        self.after
    }

    /// Notes that nothing up to this version concerns the table.
    pub(crate) fn skip_to(&mut self, rv: u64) {
        self.after = self.after.max(rv);
    }
}
