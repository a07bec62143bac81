//! What time it is, for the loops: they hand it to the pure crates and sleep until it. The one place in this crate that
//! asks the machine; a test sets another time, or moves it together with tokio's clock. It must never be used to measure how long something took.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A source of the time of day.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Default for Clock {
    /// The machine's.
    fn default() -> Self {
        Self(Arc::new(Timestamp::now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl Clock {
    /// A clock that answers what `now` answers.
    pub fn of(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// A clock on which it is `at` now, and which goes as tokio's does.
    #[must_use]
    pub fn beginning(at: Timestamp) -> Self {
        let since = Instant::now();
        Self::of(move || {
            let passed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
            at.checked_add(passed).unwrap_or(Timestamp::MAX)
        })
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// How long it is until `at`; nothing when it has passed.
    #[must_use]
    pub fn left_until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.now())).unwrap_or_default()
    }

    /// Sleeps until `at` by this clock. A clock that is set forward is noticed within half a minute.
    pub(crate) async fn sleep_until(&self, at: Timestamp) {
        const LOOK_AGAIN: Duration = Duration::from_secs(30);
        loop {
            let left = self.left_until(at);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
    }
}
