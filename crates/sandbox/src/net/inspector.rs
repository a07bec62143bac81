//! Whether anybody has used a network namespace: a thread goes in, looks, and comes back. It changes nothing there.

use std::{
    collections::VecDeque,
    fs,
    sync::{
        OnceLock,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::Netns;

/// The kernel lets go of some sockets only when no core can be looking at them any more.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOKS_MAX: u32 = 10;

type Tell = Box<dyn FnOnce(Netns, bool) + Send>;

/// Looks into network namespaces, one after the other, on a thread of its own, which begins with the first and ends
/// with this value.
#[derive(Debug)]
pub struct Inspector {
    home: Netns,
    sender: OnceLock<Option<mpsc::Sender<Job>>>,
}

struct Job {
    netns: Netns,
    tell: Tell,
}

impl Inspector {
    /// Its thread waits in `home`, a namespace that was made by this process: who is not root cannot go back to the
    /// one that it came from.
    pub fn new(home: Netns) -> Inspector {
        Inspector { home, sender: OnceLock::new() }
    }

    /// Finds out whether the namespace is as it was made: it has no socket, not even one that waits for its last
    /// packets, and no IPv4 packet ever came in or went out, be it over loopback. IPv6 leads no further than the other
    /// end of the link. `tell` is called on the inspector's thread and must not block; what cannot be found out is
    /// told as `false`. Sockets alone are looked at again for a while, as the kernel is slow to
    /// let go of some.
    ///
    /// Whether processes are in the namespace, and who may have changed its configuration, is for the caller to know.
    pub fn untouched(&self, netns: Netns, tell: impl FnOnce(Netns, bool) + Send + 'static) {
        let sender = self.sender.get_or_init(|| {
            let (sender, jobs) = mpsc::channel();
            let home = self.home.clone();
            let thread = std::thread::Builder::new().name("sandbox-inspect".into());
            thread.spawn(move || work(&jobs, &home)).ok().map(|_| sender)
        });
        let job = Job { netns, tell: Box::new(tell) };
        let refused = match sender {
            Some(sender) => sender.send(job).err().map(|e| e.0),
            None => Some(job),
        };
        if let Some(Job { netns, tell }) = refused {
            tell(netns, false);
        }
    }
}

fn work(jobs: &mpsc::Receiver<Job>, home: &Netns) {
    // Those with sockets that the kernel may only not have let go of yet, the earliest first.
    let mut again: VecDeque<(Instant, u32, Job)> = VecDeque::new();
    loop {
        let due = again.front().map(|(at, ..)| at.saturating_duration_since(Instant::now()));
        let next = match due {
            Some(wait) if wait.is_zero() => None,
            Some(wait) => match jobs.recv_timeout(wait) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            },
            None => match jobs.recv() {
                Ok(job) => Some(job),
                Err(_) => return,
            },
        };
        let (looks, job) = match next {
            Some(job) => (0, job),
            None => match again.pop_front() {
                Some((_, looks, job)) => (looks, job),
                None => continue,
            },
        };
        let found = job.netns.enter().ok().and_then(|()| look());
        // A thread keeps alive the namespace that it is in.
        let back = home.enter();
        match found {
            Some(Found::Sockets) if looks < LOOKS_MAX && back.is_ok() => {
                again.push_back((Instant::now() + LOOK_AGAIN, looks + 1, job));
            }
            found => (job.tell)(job.netns, found == Some(Found::Nothing)),
        }
        if back.is_err() {
            return;
        }
    }
}

/// What was found in a namespace.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Sockets that nothing was sent through.
    Sockets,
    Packets,
}

/// Of the calling thread's namespace; `None` where the kernel does not say.
fn look() -> Option<Found> {
    let sockets = fs::read_to_string("/proc/thread-self/net/sockstat").ok()?;
    let packets = fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
    Some(match (no_sockets(&sockets)?, no_packets(&packets)?) {
        (true, true) => Found::Nothing,
        (false, true) => Found::Sockets,
        (_, false) => Found::Packets,
    })
}

/// From `sockstat`: `sockets: used 0` and `TCP: inuse 0 orphan 0 tw 0 …`.
fn no_sockets(text: &str) -> Option<bool> {
    let number = |line: &str, name: &str| -> Option<u64> {
        let mut words = text.lines().find_map(|l| l.strip_prefix(line))?.split_whitespace();
        words.find(|word| *word == name)?;
        words.next()?.parse().ok()
    };
    Some(number("sockets:", "used")? == 0 && number("TCP:", "tw")? == 0)
}

/// From `snmp`, whose lines are pairs of names and numbers.
fn no_packets(text: &str) -> Option<bool> {
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("Ip:"));
    let (names, numbers) = (lines.next()?.split_whitespace(), lines.next()?.split_whitespace());
    let mut seen = names.zip(numbers).filter(|(name, _)| matches!(*name, "InReceives" | "OutRequests"));
    let (first, second) = (seen.next()?, seen.next()?);
    Some(first.1 == "0" && second.1 == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells() {
        let sockets = |used, waiting| {
            format!("sockets: used {used}\nTCP: inuse 0 orphan 3 tw {waiting} alloc 9 mem 1\nUDP: inuse 0 mem 0\n")
        };
        assert_eq!(no_sockets(&sockets(0, 0)), Some(true));
        assert_eq!(no_sockets(&sockets(1, 0)), Some(false));
        assert_eq!(no_sockets(&sockets(0, 1)), Some(false));
        assert_eq!(no_sockets("UDP: inuse 0"), None);
        let packets = |came, went| {
            format!("Ip: Forwarding DefaultTTL InReceives InHdrErrors OutRequests\nIp: 2 64 {came} 0 {went}\nIcmp: x\n")
        };
        assert_eq!(no_packets(&packets(0, 0)), Some(true));
        assert_eq!(no_packets(&packets(1, 0)), Some(false));
        assert_eq!(no_packets(&packets(0, 1)), Some(false));
        assert_eq!(no_packets("Ip: InReceives\nIp: 0\n"), None);
    }
}
