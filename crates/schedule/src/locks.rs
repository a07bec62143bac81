//! The lock table: who holds which mutexes and semaphores, who waits, and who is next. It spans all runs.
//!
//! | wish | seen | becomes | and |
//! |---|---|---|---|
//! | – | asked for | waiting | at once granted, where every lock has a place and nobody waits before it |
//! | waiting | a place is free in all its locks, and it is first in each | granted | all locks at once, never some |
//! | waiting | a lock has no size | refused | |
//! | waiting, granted | released, or its run forgotten | – | the next ones are looked at |
//!
//! Whoever waits keeps its place: by priority, then by the run's age, then by who asked first. The order is one and the
//! same in all locks, so that two wishes never wait for each other. The first in a lock's queue is never overtaken, even
//! where somebody behind it needs less. Work is proportional to what changed: a release looks at the heads of the queues
//! it freed, not at all who wait. What was held before a restart is put in as it was, over the size if need be.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use windlass_model::lock::{LockAnswer, LockName};

/// A run: a workflow made again under the same name is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// `namespace/name` of its workflow.
    pub workflow: String,
    /// The workflow's uid.
    pub uid: String,
}

/// Who holds or waits: a run, or one node of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The run.
    pub owner: Owner,
    /// The node's id; empty when it is the run as a whole.
    pub node_id: String,
}

impl Holder {
    /// As Argo writes it: `ns/workflow` or `ns/workflow/node`.
    pub fn key(&self) -> String {
        match self.node_id.as_str() {
            "" => self.owner.workflow.clone(),
            node => format!("{}/{node}", self.owner.workflow),
        }
    }
}

/// Locks that somebody wants, all together.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Who.
    pub holder: Holder,
    /// What.
    pub locks: Vec<LockName>,
    /// The run's priority: more goes first.
    pub priority: i32,
    /// When the run was created: older goes first.
    pub created: Timestamp,
}

/// The place in all queues.
type Place = (std::cmp::Reverse<i32>, Timestamp, u64);

#[derive(Debug)]
struct Lock {
    /// Known places; nothing as long as nobody has read it.
    size: Option<usize>,
    holders: BTreeSet<Holder>,
    queue: BTreeMap<Place, Holder>,
}

#[derive(Debug)]
struct Waiting {
    locks: Vec<LockName>,
    place: Place,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    locks: BTreeMap<LockName, Lock>,
    waiting: HashMap<Holder, Waiting>,
    held: HashMap<Holder, Vec<LockName>>,
    /// The holders of each run.
    runs: BTreeMap<Owner, BTreeSet<Holder>>,
    asked: u64,
    dirty: BTreeSet<LockName>,
    answers: BTreeMap<Holder, LockAnswer>,
}

impl Table {
    /// Somebody wants locks. Asking again is harmless: a place in the queue is kept, and what is held stays held.
    pub fn ask(&mut self, wish: Wish) {
        let Wish { holder, mut locks, priority, created } = wish;
        locks.sort();
        locks.dedup();
        if self.held.contains_key(&holder) {
            self.answers.insert(holder, LockAnswer::Granted);
            return;
        }
        if let Some(waiting) = self.waiting.get(&holder)
            && waiting.locks != locks
        {
            self.drop_wish(&holder);
        }
        if !self.waiting.contains_key(&holder) {
            self.asked += 1;
            let place = (std::cmp::Reverse(priority), created, self.asked);
            for name in &locks {
                self.lock(name).queue.insert(place, holder.clone());
                self.dirty.insert(name.clone());
            }
            self.runs.entry(holder.owner.clone()).or_default().insert(holder.clone());
            self.waiting.insert(holder.clone(), Waiting { locks, place });
        }
        self.give_out();
        if let Some(answer) = self.waits(&holder) {
            self.answers.insert(holder, answer);
        }
    }

    /// What somebody held before a restart, whether there is a place or not.
    pub fn restore(&mut self, holder: Holder, name: LockName) {
        self.lock(&name).holders.insert(holder.clone());
        self.runs.entry(holder.owner.clone()).or_default().insert(holder.clone());
        let held = self.held.entry(holder).or_default();
        if !held.contains(&name) {
            held.push(name);
        }
    }

    /// Somebody gives back what it holds, and waits no more.
    pub fn release(&mut self, holder: &Holder) {
        self.drop_wish(holder);
        for name in self.held.remove(holder).unwrap_or_default() {
            if let Some(lock) = self.locks.get_mut(&name) {
                lock.holders.remove(holder);
            }
            self.dirty.insert(name);
        }
        if let Some(of_run) = self.runs.get_mut(&holder.owner) {
            of_run.remove(holder);
            if of_run.is_empty() {
                self.runs.remove(&holder.owner);
            }
        }
        self.give_out();
    }

    /// A run is over: all of it is released.
    pub fn forget(&mut self, owner: &Owner) {
        for holder in self.runs.get(owner).cloned().unwrap_or_default() {
            self.release(&holder);
        }
    }

    /// Who of a run holds locks.
    pub fn held_by(&self, owner: &Owner) -> Vec<Holder> {
        let of_run = self.runs.get(owner).into_iter().flatten();
        of_run.filter(|holder| self.held.contains_key(*holder)).cloned().collect()
    }

    /// Every run that holds locks or waits for some.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.runs.keys()
    }

    /// A semaphore's size was read. A size that cannot be read refuses whoever waits, unless one was known before: then
    /// that one stays.
    pub fn set_size(&mut self, name: &LockName, size: Option<usize>) {
        let Some(lock) = self.locks.get_mut(name) else { return };
        match (size, lock.size) {
            (Some(size), known) if known != Some(size) && !(size == 0 && known.is_none()) => {
                lock.size = Some(size);
                self.dirty.insert(name.clone());
                self.give_out();
                // All who wait were told of another size, or of none.
                let waiting = self.locks.get(name).map(|lock| lock.queue.values().cloned().collect::<Vec<_>>());
                for holder in waiting.unwrap_or_default() {
                    if let Some(answer) = self.waits(&holder) {
                        self.answers.insert(holder, answer);
                    }
                }
            }
            (Some(0) | None, None) => {
                let message = format!("failed to initialize semaphore {name} with limit");
                let waiting: Vec<Holder> = lock.queue.values().cloned().collect();
                for holder in waiting {
                    self.release(&holder);
                    self.answers.insert(holder, LockAnswer::Refused { message: message.clone() });
                }
            }
            _ => {}
        }
    }

    /// The semaphores that somebody holds or waits for.
    pub fn semaphores(&self) -> impl Iterator<Item = &LockName> {
        self.locks.keys().filter(|name| !name.is_mutex())
    }

    /// The semaphores whose size has not been read.
    pub fn unread(&self) -> Vec<LockName> {
        self.locks.iter().filter(|(_, lock)| lock.size.is_none()).map(|(name, _)| name.clone()).collect()
    }

    /// Who has been granted, refused, or is to be told for whom it waits, since the last call.
    pub fn take_answers(&mut self) -> BTreeMap<Holder, LockAnswer> {
        std::mem::take(&mut self.answers)
    }

    /// Who holds a lock.
    pub fn holders(&self, name: &LockName) -> Vec<String> {
        self.locks.get(name).map(|lock| lock.holders.iter().map(Holder::key).collect()).unwrap_or_default()
    }

    fn lock(&mut self, name: &LockName) -> &mut Lock {
        self.locks.entry(name.clone()).or_insert_with(|| Lock {
            size: name.is_mutex().then_some(1),
            holders: BTreeSet::new(),
            queue: BTreeMap::new(),
        })
    }

    fn drop_wish(&mut self, holder: &Holder) {
        let Some(waiting) = self.waiting.remove(holder) else { return };
        for name in waiting.locks {
            if let Some(lock) = self.locks.get_mut(&name) {
                lock.queue.remove(&waiting.place);
            }
            self.dirty.insert(name);
        }
    }

    /// Grants what can be granted in the locks that changed.
    fn give_out(&mut self) {
        while let Some(name) = self.dirty.pop_first() {
            let Some(lock) = self.locks.get(&name) else { continue };
            if lock.holders.is_empty() && lock.queue.is_empty() {
                self.locks.remove(&name);
                continue;
            }
            let Some(head) = lock.queue.values().next().cloned() else { continue };
            if !self.is_due(&head) {
                if lock.size.is_some_and(|size| lock.holders.len() < size) || self.answers.contains_key(&head) {
                    continue;
                }
                if let Some(answer) = self.waits(&head) {
                    self.answers.insert(head, answer);
                }
                continue;
            }
            let Some(Waiting { locks, place }) = self.waiting.remove(&head) else { continue };
            for name in &locks {
                let lock = self.lock(name);
                lock.queue.remove(&place);
                lock.holders.insert(head.clone());
                // Whoever is next now may have its place too.
                self.dirty.insert(name.clone());
            }
            self.answers.insert(head.clone(), LockAnswer::Granted);
            self.held.insert(head, locks);
        }
    }

    /// Whether it is first in every lock it wants, and each has a place.
    fn is_due(&self, holder: &Holder) -> bool {
        let Some(waiting) = self.waiting.get(holder) else { return false };
        waiting.locks.iter().all(|name| self.is_free(name, waiting.place))
    }

    fn is_free(&self, name: &LockName, place: Place) -> bool {
        self.locks.get(name).is_some_and(|lock| {
            lock.size.is_some_and(|size| lock.holders.len() < size) && lock.queue.keys().next() == Some(&place)
        })
    }

    /// What it waits for; nothing while a size is to be read, or when it does not wait.
    fn waits(&self, holder: &Holder) -> Option<LockAnswer> {
        let waiting = self.waiting.get(holder)?;
        if waiting.locks.iter().any(|name| self.locks.get(name).is_none_or(|lock| lock.size.is_none())) {
            return None;
        }
        let name = waiting.locks.iter().find(|name| !self.is_free(name, waiting.place))?;
        let lock = self.locks.get(name)?;
        let size = lock.size?;
        let free = size.saturating_sub(lock.holders.len());
        Some(LockAnswer::Waiting {
            lock: name.clone(),
            message: format!("Waiting for {name} lock. Lock status: {free}/{size}"),
            holders: waiting.locks.iter().map(|name| (name.clone(), self.holders(name))).collect(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder(run: &str, node: &str) -> Holder {
        Holder { owner: Owner { workflow: format!("ns/{run}"), uid: run.to_owned() }, node_id: node.to_owned() }
    }

    fn mutex(name: &str) -> LockName {
        LockName::Mutex { namespace: "ns".to_owned(), name: name.to_owned() }
    }

    fn semaphore(key: &str) -> LockName {
        LockName::Semaphore { namespace: "ns".to_owned(), config_map: "limits".to_owned(), key: key.to_owned() }
    }

    fn wish(run: &str, locks: &[LockName], priority: i32, second: i64) -> Wish {
        let created = Timestamp::from_second(second).unwrap();
        Wish { holder: holder(run, ""), locks: locks.to_vec(), priority, created }
    }

    /// The answers as lines, oldest first.
    fn told(table: &mut Table) -> Vec<String> {
        let line = |(holder, answer): (Holder, LockAnswer)| match answer {
            LockAnswer::Granted => format!("{} has it", holder.key()),
            LockAnswer::Waiting { message, holders, .. } => {
                let of: Vec<String> = holders.iter().map(|(name, who)| format!("{name}={who:?}")).collect();
                format!("{}: {message} {}", holder.key(), of.join(" "))
            }
            LockAnswer::Refused { message } => format!("{}: refused: {message}", holder.key()),
        };
        table.take_answers().into_iter().map(line).collect()
    }

    #[test]
    fn one_holds_and_the_next_waits_for_it() {
        let mut table = Table::default();
        table.ask(wish("a", &[mutex("m")], 0, 1));
        table.ask(wish("b", &[mutex("m")], 0, 2));
        assert_eq!(
            told(&mut table),
            ["ns/a has it", "ns/b: Waiting for ns/Mutex/m lock. Lock status: 0/1 ns/Mutex/m=[\"ns/a\"]"]
        );
        table.release(&holder("a", ""));
        assert_eq!(told(&mut table), ["ns/b has it"]);
        table.release(&holder("b", ""));
        assert!(table.owners().next().is_none() && table.locks.is_empty(), "nothing is left");
    }

    #[test]
    fn priority_goes_before_age_and_age_before_who_asked_first() {
        let mut table = Table::default();
        table.ask(wish("first", &[mutex("m")], 0, 0));
        for (run, priority, second) in [("young", 0, 9), ("old", 0, 3), ("vip", 5, 20), ("old-too", 0, 3)] {
            table.ask(wish(run, &[mutex("m")], priority, second));
        }
        let mut order = Vec::new();
        for run in ["first", "vip", "old", "old-too"] {
            table.take_answers();
            table.release(&holder(run, ""));
            order.extend(told(&mut table).into_iter().filter(|line| line.ends_with("has it")));
        }
        assert_eq!(order, ["ns/vip has it", "ns/old has it", "ns/old-too has it", "ns/young has it"]);
    }

    #[test]
    fn several_locks_are_taken_together_or_not_at_all() {
        let mut table = Table::default();
        table.ask(wish("a", &[mutex("x")], 0, 1));
        table.ask(wish("b", &[mutex("x"), mutex("y")], 0, 2));
        // `y` is free, and `b` is before `c` in it.
        table.ask(wish("c", &[mutex("y")], 0, 3));
        assert_eq!(table.holders(&mutex("y")), [""; 0]);
        table.take_answers();
        table.release(&holder("a", ""));
        assert_eq!(table.holders(&mutex("x")), ["ns/b"]);
        assert_eq!(table.holders(&mutex("y")), ["ns/b"]);
        table.forget(&holder("b", "").owner);
        assert_eq!(table.holders(&mutex("y")), ["ns/c"]);
    }

    #[test]
    fn a_size_that_changes_counts_at_once() {
        let mut table = Table::default();
        for (run, second) in [("a", 1), ("b", 2), ("c", 3)] {
            table.ask(wish(run, &[semaphore("k")], 0, second));
        }
        assert_eq!(told(&mut table), [""; 0], "nobody knows the size yet");
        assert_eq!(table.unread(), [semaphore("k")]);
        table.set_size(&semaphore("k"), Some(1));
        assert_eq!(table.holders(&semaphore("k")), ["ns/a"]);
        table.set_size(&semaphore("k"), Some(3));
        assert_eq!(table.holders(&semaphore("k")), ["ns/a", "ns/b", "ns/c"]);
        table.set_size(&semaphore("k"), Some(1));
        table.set_size(&semaphore("k"), None);
        table.ask(wish("d", &[semaphore("k")], 0, 4));
        table.release(&holder("a", ""));
        table.release(&holder("b", ""));
        assert_eq!(table.holders(&semaphore("k")), ["ns/c"], "whoever held it keeps it, nobody follows");
        table.release(&holder("c", ""));
        assert_eq!(table.holders(&semaphore("k")), ["ns/d"]);
    }

    #[test]
    fn without_a_size_nobody_gets_it() {
        let mut table = Table::default();
        table.ask(wish("a", &[semaphore("k"), mutex("m")], 0, 1));
        table.set_size(&semaphore("k"), None);
        assert_eq!(
            told(&mut table),
            ["ns/a: refused: failed to initialize semaphore ns/ConfigMap/limits/k with limit"]
        );
        assert!(table.locks.is_empty());
    }

    #[test]
    fn what_was_held_before_a_restart_stays_held() {
        let mut table = Table::default();
        table.restore(holder("a", "n1"), semaphore("k"));
        table.restore(holder("b", ""), semaphore("k"));
        table.ask(wish("c", &[semaphore("k")], 9, 0));
        table.set_size(&semaphore("k"), Some(1));
        table.ask(wish("b", &[semaphore("k")], 0, 2));
        assert!(told(&mut table).contains(&"ns/b has it".to_owned()));
        table.release(&holder("a", "n1"));
        assert_eq!(table.holders(&semaphore("k")), ["ns/b"]);
        table.release(&holder("b", ""));
        assert_eq!(table.holders(&semaphore("k")), ["ns/c"]);
    }

    proptest! {
        /// Holders never exceed the size, nobody waits while it could have all it wants, and nothing is left over.
        #[test]
        fn nobody_has_too_much_and_nobody_is_left(steps in proptest::collection::vec((0u8..4, 0usize..8, 0u8..7, 0i32..3), 1..200)) {
            let names = [mutex("x"), mutex("y"), semaphore("k")];
            let mut table = Table::default();
            for (what, run, locks, priority) in steps {
                let run = format!("r{run}");
                let wanted: Vec<LockName> =
                    names.iter().enumerate().filter(|(i, _)| (locks + 1) >> i & 1 == 1).map(|(_, n)| n.clone()).collect();
                match what {
                    0 | 1 => table.ask(wish(&run, &wanted, priority, i64::from(locks))),
                    2 => table.release(&holder(&run, "")),
                    _ => table.forget(&holder(&run, "").owner),
                }
                for name in table.unread() {
                    table.set_size(&name, Some(2));
                }
                prop_assert!(table.locks.iter().all(|(_, l)| l.holders.len() <= l.size.unwrap()));
                prop_assert!(table.waiting.keys().all(|w| !table.is_due(w)), "somebody waits in vain");
                table.take_answers();
            }
            for run in 0..8 {
                table.forget(&holder(&format!("r{run}"), "").owner);
            }
            prop_assert!(table.locks.is_empty() && table.waiting.is_empty() && table.held.is_empty() && table.runs.is_empty());
        }
    }
}
