//! How many workflows run at once: in all, and in each namespace. Who does not fit waits, by priority and then by age; a
//! namespace that is full keeps nobody else waiting. And how fast pods are made: a bucket of tokens ([`Bucket`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

/// Namespace and name.
type Key = (String, String);
/// The place in a namespace's queue.
type Place = (Reverse<i32>, Timestamp, String);

/// The limits as they are configured; nothing is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `parallelism`: in all.
    pub total: Option<usize>,
    /// `namespaceParallelism`: in a namespace that says nothing itself.
    pub namespace: Option<usize>,
    /// What namespaces say themselves, by their label `workflows.argoproj.io/parallelism-limit`.
    pub own: BTreeMap<String, usize>,
}

impl Limits {
    /// The limit of a namespace, if it has one.
    pub fn within(&self, namespace: &str) -> Option<usize> {
        self.own.get(namespace).copied().or(self.namespace).filter(|limit| *limit > 0)
    }

    /// The limit in all, if there is one.
    pub fn in_all(&self) -> Option<usize> {
        self.total.filter(|total| *total > 0)
    }
}

/// Who runs, and who waits.
#[derive(Debug, Default)]
pub struct Throttle {
    limits: Limits,
    running: BTreeMap<String, BTreeSet<String>>,
    count: usize,
    waiting: BTreeMap<String, BTreeSet<Place>>,
    places: HashMap<Key, Place>,
}

impl Throttle {
    /// Takes new limits; who may run by them.
    pub fn set_limits(&mut self, limits: Limits) -> Vec<Key> {
        self.limits = limits;
        self.admit()
    }

    /// The limits that hold.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A workflow that runs already, whatever the limits are.
    pub fn runs(&mut self, key: &Key) {
        self.unqueue(key);
        self.begin(key);
    }

    /// A workflow wants to run. Who may run now; asking again changes at most its priority.
    pub fn ask(&mut self, key: &Key, priority: i32, created: Timestamp) -> Vec<Key> {
        if self.is_running(key) {
            return Vec::new();
        }
        self.unqueue(key);
        let place = (Reverse(priority), created, key.1.clone());
        self.waiting.entry(key.0.clone()).or_default().insert(place.clone());
        self.places.insert(key.clone(), place);
        self.admit()
    }

    /// Whether it was let in.
    pub fn is_running(&self, key: &Key) -> bool {
        self.running.get(&key.0).is_some_and(|names| names.contains(&key.1))
    }

    /// A workflow has ended or is gone. Who may run in its place.
    pub fn remove(&mut self, key: &Key) -> Vec<Key> {
        self.unqueue(key);
        if let Some(names) = self.running.get_mut(&key.0)
            && names.remove(&key.1)
        {
            self.count -= 1;
            if names.is_empty() {
                self.running.remove(&key.0);
            }
        }
        self.admit()
    }

    fn begin(&mut self, key: &Key) {
        if self.running.entry(key.0.clone()).or_default().insert(key.1.clone()) {
            self.count += 1;
        }
    }

    fn unqueue(&mut self, key: &Key) {
        let Some(place) = self.places.remove(key) else { return };
        if let Some(queue) = self.waiting.get_mut(&key.0) {
            queue.remove(&place);
            if queue.is_empty() {
                self.waiting.remove(&key.0);
            }
        }
    }

    fn has_room(&self, namespace: &str) -> bool {
        let limit = self.limits.within(namespace);
        limit.is_none_or(|limit| self.running.get(namespace).map_or(0, BTreeSet::len) < limit)
    }

    /// Lets in as many as fit: of the first in each namespace that has room, the best.
    fn admit(&mut self) -> Vec<Key> {
        let mut admitted = Vec::new();
        while self.limits.in_all().is_none_or(|total| self.count < total) {
            let heads = self.waiting.iter().filter(|(namespace, _)| self.has_room(namespace));
            let best = heads.filter_map(|(namespace, queue)| Some((queue.first()?, namespace))).min();
            let Some((place, namespace)) = best else { break };
            let key = (namespace.clone(), place.2.clone());
            self.unqueue(&key);
            self.begin(&key);
            admitted.push(key);
        }
        admitted
    }
}

/// A bucket of tokens: `rate` a second come in, at most `burst` are kept, each pod takes one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    since: Timestamp,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: f64, burst: u32, now: Timestamp) -> Self {
        let burst = f64::from(burst);
        Self { rate, burst, tokens: burst, since: now }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let passed = now.duration_since(self.since).as_secs_f64().max(0.0);
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        self.since = self.since.max(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn names(keys: Vec<Key>) -> String {
        keys.into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn without_limits_everybody_runs() {
        let mut throttle = Throttle::default();
        assert_eq!(names(throttle.ask(&key("a", "1"), 0, at(1))), "a/1");
        assert_eq!(names(throttle.ask(&key("a", "1"), 0, at(1))), "", "it runs already");
    }

    #[test]
    fn the_best_of_those_who_fit_is_next() {
        let mut throttle = Throttle::default();
        let own = BTreeMap::from([("wide".to_owned(), 0)]);
        throttle.set_limits(Limits { total: Some(3), namespace: Some(1), own });
        assert_eq!(names(throttle.ask(&key("a", "1"), 0, at(1))), "a/1");
        assert_eq!(names(throttle.ask(&key("a", "2"), 9, at(2))), "", "its namespace is full");
        assert_eq!(names(throttle.ask(&key("b", "1"), 0, at(3))), "b/1", "and keeps nobody else waiting");
        assert_eq!(names(throttle.ask(&key("wide", "1"), 0, at(4))), "wide/1");
        for (name, priority, second) in [("2", 0, 6), ("3", 0, 5), ("4", 1, 7)] {
            assert_eq!(names(throttle.ask(&key("wide", name), priority, at(second))), "", "all is full");
        }
        assert_eq!(names(throttle.remove(&key("b", "1"))), "wide/4", "priority first");
        assert_eq!(names(throttle.remove(&key("wide", "1"))), "wide/3", "then age");
        assert_eq!(names(throttle.remove(&key("a", "1"))), "a/2", "its namespace has room again");
        assert_eq!(names(throttle.remove(&key("wide", "2"))), "", "who goes while it waits is no loss");
        let limits = Limits { total: None, ..throttle.limits().clone() };
        assert_eq!(names(throttle.ask(&key("wide", "5"), 0, at(8))), "");
        assert_eq!(names(throttle.set_limits(limits)), "wide/5", "a limit that is raised counts at once");
    }

    #[test]
    fn whoever_runs_is_counted_even_over_the_limit() {
        let mut throttle = Throttle::default();
        throttle.set_limits(Limits { total: Some(1), ..Limits::default() });
        throttle.runs(&key("a", "1"));
        throttle.runs(&key("a", "2"));
        assert_eq!(names(throttle.ask(&key("a", "3"), 0, at(1))), "");
        assert_eq!(names(throttle.remove(&key("a", "1"))), "");
        assert_eq!(names(throttle.remove(&key("a", "2"))), "a/3");
    }

    #[test]
    fn a_bucket_fills_with_time() {
        let mut bucket = Bucket::new(2.0, 3, at(0));
        assert_eq!((0..5).filter(|_| bucket.take(at(0))).count(), 3);
        assert!(!bucket.take(at(0) + SignedDuration::from_millis(400)));
        assert!(bucket.take(at(0) + SignedDuration::from_millis(500)));
        assert!(!bucket.take(at(0)), "a clock that goes back gives nothing");
        assert_eq!((0..9).filter(|_| bucket.take(at(100))).count(), 3);
    }
}
