//! Pods' network namespaces that are used once more. Making one and taking it apart costs about as much as a short
//! container, so that of a Pod that never talked waits here, with its address, for the next Pod. It never hands out a
//! namespace in which anything was said, and never one to two Pods.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use windlass_sandbox::net::{Inspector, Netns};

/// Namespaces that wait: as many as Pods start at a time, and no thousands after a burst.
const WAITING_MAX: usize = 32;

/// A namespace with the address that it was made for.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    pub(crate) netns: Netns,
    /// Its place in the range of Pod addresses.
    pub(crate) number: u16,
}

/// Namespaces that wait for a Pod. Clones are the same pool; what waits ends with the last.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: Mutex<VecDeque<Connected>>,
    inspector: Inspector,
}

impl Pool {
    /// An empty one for namespaces that are connected to this switch.
    pub(crate) fn new(switch: &Netns) -> Self {
        Self(Arc::new(Inner { waiting: Mutex::default(), inspector: Inspector::new(switch.clone()) }))
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Connected>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that has waited longest; it is the taker's alone.
    pub(crate) fn take(&self) -> Option<Connected> {
        self.waiting().pop_front()
    }

    /// Takes back a namespace whose processes have all ended, if nobody has talked in it. `refuse` gets it otherwise,
    /// perhaps on another thread; it must not block.
    pub(crate) fn give(&self, connected: Connected, refuse: impl FnOnce(Connected) + Send + 'static) {
        if self.waiting().len() >= WAITING_MAX {
            return refuse(connected);
        }
        let (pool, number) = (self.clone(), connected.number);
        self.0.inspector.untouched(connected.netns, move |netns, untouched| {
            let connected = Connected { netns, number };
            let mut waiting = pool.waiting();
            if untouched && waiting.len() < WAITING_MAX {
                waiting.push_back(connected);
            } else {
                drop(waiting);
                refuse(connected);
            }
        });
    }
}
