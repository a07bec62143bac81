//! Turns to start: a thousand Pods that come at once start a few at a time, in the order in which they came. A turn is
//! over when the Pod's first container runs, and soon in any case: nobody waits long behind a slow pull.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Starting waits for the kernel in many places, so some more than there are cores.
const TURNS_PER_CORE: usize = 4;
const TURN_MAX: Duration = Duration::from_millis(200);

/// The turns of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

/// One Pod's turn; given back at the latest when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Turn(Mutex<Option<OwnedSemaphorePermit>>);

impl Turns {
    /// As many as this machine can make use of.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Semaphore::new(cores * TURNS_PER_CORE)))
    }

    /// Waits until it is `turn`'s turn.
    pub(crate) async fn take(&self, turn: &Arc<Turn>) {
        // Never closed; if it were, nobody would have to wait.
        *turn.lock() = self.0.clone().acquire_owned().await.ok();
        let taken = Arc::downgrade(turn);
        tokio::spawn(async move {
            tokio::time::sleep(TURN_MAX).await;
            if let Some(turn) = taken.upgrade() {
                turn.end();
            }
        });
    }
}

impl Turn {
    fn lock(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next may start.
    pub(crate) fn end(&self) {
        self.lock().take();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_ends_by_itself_after_a_while() {
        let turns = Turns(Arc::new(Semaphore::new(1)));
        let (first, second, third) = (Arc::new(Turn::default()), Arc::default(), Arc::default());
        turns.take(&first).await;
        let begun = tokio::time::Instant::now();
        turns.take(&second).await;
        assert!(begun.elapsed() >= TURN_MAX);
        second.end();
        turns.take(&third).await;
        drop(third);
        assert_eq!(turns.0.available_permits(), 1);
    }
}
