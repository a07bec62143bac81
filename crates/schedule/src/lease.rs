//! Who runs the loops when several could: one holds a Lease, the others stand by. Pure: what was read of the Lease, this
//! process's own clock and the time of day are arguments; who asks the API is above. It must never compare times of two
//! machines: a Lease that nobody renews is recognised by its not changing for as long as it says, by the own clock.
//!
//! | state | what is read | next |
//! |---|---|---|
//! | standby | there is none, or nobody holds it, or it is our own from before | write it |
//! | standby | another's, which changed within its duration | wait |
//! | standby | another's, unchanged for its duration | write it |
//! | standby | the write was done | holder |
//! | standby | the write was not done, or nobody knows | standby |
//! | holder | none, or our own | write it again |
//! | holder | another's | lost |
//! | holder | the write was done | holder, from when it was begun |
//! | holder | no write was done until the deadline | lost |
//! | lost | – | nothing: the process ends |
//!
//! A holder counts from before its write, the others from after they saw it, and its deadline is shorter than their patience:
//! it has ended when they begin.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long what takes; Argo's and client-go's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a Lease is respected by others that does not change.
    pub lease: Duration,
    /// How long the holder goes on without having renewed it.
    pub renew_deadline: Duration,
    /// How often both look.
    pub retry_period: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        let [lease, renew_deadline, retry_period] = [15, 10, 5].map(Duration::from_secs);
        Self { lease, renew_deadline, retry_period }
    }
}

impl Terms {
    /// What is wrong with them.
    pub fn fault(&self) -> Option<&'static str> {
        if self.lease < Duration::from_secs(1) || self.retry_period.is_zero() {
            return Some("the lease lasts at least a second, and the retry period is not zero");
        }
        if self.lease <= self.renew_deadline {
            return Some("the lease has to last longer than the renew deadline");
        }
        if self.renew_deadline <= self.retry_period.mul_f64(1.2) {
            return Some("the renew deadline has to be more than 1.2 times the retry period");
        }
        None
    }
}

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; nobody where it is empty.
    pub holder: String,
    /// For how many seconds.
    pub seconds: i32,
    /// Since when, by the holder's clock.
    pub acquired: Option<Timestamp>,
    /// When it was renewed, by the holder's clock.
    pub renewed: Option<Timestamp>,
    /// How often it went to another.
    pub transitions: i32,
    /// The object's version, which a write is based on; nothing where it has to be made.
    pub version: Option<String>,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this, if the Lease is still of that version.
    Write(Record),
    /// Look again after the retry period.
    Wait,
    /// It is another's: stop at once.
    Lost,
}

/// One process that wants to run the loops.
#[derive(Debug)]
pub struct Elector {
    identity: String,
    terms: Terms,
    /// What was read last that was new, and when.
    seen: Option<(Record, Duration)>,
    /// Holder: when the last write that was done was begun.
    renewed: Option<Duration>,
}

impl Elector {
    /// A standby of that name, which no other process has.
    pub fn new(identity: impl Into<String>, terms: Terms) -> Self {
        Self { identity: identity.into(), terms, seen: None, renewed: None }
    }

    /// Whose Lease it was when it was read last.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|(record, _)| record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// Until when this process is the holder, unless it renews; nothing for a standby.
    pub fn deadline(&self) -> Option<Duration> {
        Some(self.renewed? + self.terms.renew_deadline)
    }

    /// Decides on what was read. `now` is a clock of this process that only goes forward, `day` the time of day.
    pub fn look(&mut self, found: Option<Record>, now: Duration, day: Timestamp) -> Step {
        let is_holder = self.renewed.is_some();
        let Some(found) = found else {
            self.seen = None;
            return Step::Write(self.claim(&Record::default(), day));
        };
        let since = match &self.seen {
            Some((before, since)) if *before == found => *since,
            _ => now,
        };
        self.seen = Some((found.clone(), since));
        if found.holder.is_empty() || found.holder == self.identity {
            return Step::Write(self.claim(&found, day));
        }
        if is_holder {
            return Step::Lost;
        }
        let patience = Duration::from_secs(u64::try_from(found.seconds).unwrap_or(0));
        if now < since + patience { Step::Wait } else { Step::Write(self.claim(&found, day)) }
    }

    /// A write was done that was begun then.
    pub fn wrote(&mut self, record: Record, begun: Duration) {
        self.seen = Some((record, begun));
        self.renewed = Some(begun);
    }

    /// What the Lease says when its holder has ended in good order, so that the next one need not wait.
    pub fn resign(&self, day: Timestamp) -> Option<Record> {
        let (seen, _) = self.seen.as_ref().filter(|_| self.renewed.is_some())?;
        // As client-go leaves it.
        Some(Record { holder: String::new(), seconds: 1, renewed: Some(day), acquired: Some(day), ..seen.clone() })
    }

    fn claim(&self, before: &Record, day: Timestamp) -> Record {
        let is_ours = before.holder == self.identity;
        let half = SignedDuration::from_millis(500);
        let seconds = SignedDuration::try_from(self.terms.lease).unwrap_or(SignedDuration::MAX);
        Record {
            holder: self.identity.clone(),
            seconds: i32::try_from(seconds.saturating_add(half).as_secs()).unwrap_or(i32::MAX),
            acquired: if is_ours { before.acquired.or(Some(day)) } else { Some(day) },
            renewed: Some(day),
            transitions: before.transitions + i32::from(!is_ours && before.version.is_some()),
            version: before.version.clone(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn day(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// The API: one Lease, written if its version is the one that was read.
    #[derive(Default)]
    struct Stored(Option<Record>, u64);

    impl Stored {
        fn write(&mut self, record: &Record) -> Option<Record> {
            if self.0.as_ref().and_then(|r| r.version.clone()) != record.version {
                return None;
            }
            self.1 += 1;
            let stored = Record { version: Some(self.1.to_string()), ..record.clone() };
            self.0 = Some(stored.clone());
            Some(stored)
        }
    }

    fn turn(elector: &mut Elector, stored: &mut Stored, second: u64) -> String {
        match elector.look(stored.0.clone(), S(second), day(second.cast_signed())) {
            Step::Wait => "wait".to_owned(),
            Step::Lost => "lost".to_owned(),
            Step::Write(record) => match stored.write(&record) {
                Some(done) => {
                    elector.wrote(done, S(second));
                    "wrote".to_owned()
                }
                None => "conflict".to_owned(),
            },
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let mut stored = Stored::default();
        let (mut a, mut b) = (Elector::new("a", Terms::default()), Elector::new("b", Terms::default()));
        assert_eq!((turn(&mut a, &mut stored, 0).as_str(), a.deadline()), ("wrote", Some(S(10))));
        assert_eq!((turn(&mut b, &mut stored, 2).as_str(), b.deadline(), b.holder()), ("wait", None, Some("a")));
        assert_eq!(turn(&mut a, &mut stored, 5), "wrote");
        assert_eq!(stored.0.as_ref().map(|r| (r.seconds, r.acquired, r.renewed, r.transitions)), {
            Some((15, Some(day(0)), Some(day(5)), 0))
        });
        // It changed: b's patience begins anew, by b's clock, from when b saw it.
        assert_eq!(turn(&mut b, &mut stored, 7), "wait");
        assert_eq!(turn(&mut b, &mut stored, 21), "wait");
        assert_eq!(turn(&mut b, &mut stored, 22), "wrote");
        assert_eq!(stored.0.as_ref().map(|r| (r.holder.as_str(), r.acquired, r.transitions)), {
            Some(("b", Some(day(22)), 1))
        });
        assert!(a.deadline().unwrap() < S(22), "a had ended by itself before");
        assert_eq!(turn(&mut a, &mut stored, 22), "lost");
        // In good order: the next one takes it at its next look.
        let mut c = Elector::new("c", Terms::default());
        assert_eq!(turn(&mut c, &mut stored, 23), "wait");
        assert!(stored.write(&b.resign(day(24)).unwrap()).is_some());
        assert_eq!(turn(&mut c, &mut stored, 25), "wrote");
        // Somebody deletes it: the holder makes it again. The same process under its own name again: at once.
        stored.0 = None;
        assert_eq!(turn(&mut c, &mut stored, 30), "wrote");
        assert_eq!(turn(&mut Elector::new("c", Terms::default()), &mut stored, 31), "wrote");
        assert!(Elector::new("d", Terms::default()).resign(day(0)).is_none(), "a standby has nothing to give back");
    }

    #[test]
    fn terms_that_cannot_work() {
        assert_eq!(Terms::default().fault(), None);
        let terms = |lease, renew, retry| Terms { lease: S(lease), renew_deadline: S(renew), retry_period: S(retry) };
        for wrong in [terms(10, 10, 5), terms(15, 6, 5), terms(0, 10, 5), terms(15, 10, 0)] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }

    mod worlds {
        use super::*;
        use proptest::prelude::*;

        /// What happens to one look of one process.
        #[derive(Clone, Copy, Debug)]
        enum Fate {
            Fine,
            /// The API is away.
            Away,
            /// The write is done, and its answer is lost.
            Unheard,
        }

        fn fate() -> impl Strategy<Value = Fate> {
            prop_oneof![5 => Just(Fate::Fine), 2 => Just(Fate::Away), 1 => Just(Fate::Unheard)]
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

            /// Three processes with clocks of their own, whose looks fail and come late: never two that think to be the holder.
            #[test]
            fn never_two(events in prop::collection::vec((0..3usize, 0..4u64, 0..3u64, fate()), 1..300)) {
                let mut stored = Stored::default();
                let offsets = [0, 1000, 77];
                let mut all: Vec<Elector> = ["a", "b", "c"].map(|n| Elector::new(n, Terms::default())).into();
                let mut gone = [false; 3];
                let mut now = 0;
                for (who, pause, late, fate) in events {
                    now += pause;
                    let own = |now: u64| S(now + offsets[who]);
                    if gone[who] {
                        continue;
                    }
                    // Who has passed the deadline has stopped, whatever it hears.
                    if all[who].deadline().is_some_and(|end| own(now) >= end) {
                        gone[who] = true;
                        continue;
                    }
                    if let Fate::Away = fate {
                        continue;
                    }
                    let read = stored.0.clone();
                    // The answer takes its time, and the write is begun after it.
                    let begun = own(now);
                    now += late;
                    match all[who].look(read, begun, day((now * 3 % 50).cast_signed())) {
                        Step::Wait => {}
                        Step::Lost => gone[who] = true,
                        Step::Write(record) => if let Some(done) = stored.write(&record)
                            && let Fate::Fine = fate
                            // An answer after the deadline helps nobody.
                            && all[who].deadline().is_none_or(|end| own(now) < end)
                        {
                            all[who].wrote(done, begun);
                        },
                    }
                    let holds = |i: usize| !gone[i] && all[i].deadline().is_some_and(|end| S(now + offsets[i]) < end);
                    prop_assert!((0..3).filter(|i| holds(*i)).count() <= 1);
                }
            }
        }
    }
}
