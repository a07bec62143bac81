//! What time it is for a loop: the machine's time, or a time that a test sets and moves together with tokio's clock. No
//! loop asks the machine itself where a decision depends on it.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A source of time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(Option<(Timestamp, Instant)>);

impl Clock {
    /// A clock on which it is `at` now, and which goes as tokio's does.
    #[must_use]
    pub fn beginning(at: Timestamp) -> Self {
        Self(Some((at, Instant::now())))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.0 {
            None => Timestamp::now(),
            Some((at, since)) => {
                let passed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
                at.checked_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}
