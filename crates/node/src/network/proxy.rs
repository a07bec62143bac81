//! Services by a proxy in this process: each entrance listens, each new connection goes to a ready endpoint, and to
//! another one where that one refuses. Established connections are left to end by themselves. It never buffers a body.

use super::table::{Entrance, Table, Target};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use windlass_sandbox::net::Netns;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection waits for a first ready endpoint, so that a change of endpoints loses none.
const ENDPOINT_WAIT: Duration = Duration::from_secs(1);

/// How many proxied connections each Pod has.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    counts: Mutex<HashMap<IpAddr, usize>>,
    closed: Notify,
}

impl Connections {
    fn open(self: &Arc<Self>, address: IpAddr) -> Open {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default() += 1;
        Open { connections: self.clone(), address }
    }

    /// Counts a connection to `address`, unless its Pod is being stopped. Counted first and asked then, as [`Table::retire`]
    /// comes before the count is read: a connection that began just before is waited for, and none begins after.
    fn claim(self: &Arc<Self>, address: IpAddr, table: &RwLock<Table>) -> Option<Open> {
        let open = self.open(address);
        let retired = table.read().unwrap_or_else(PoisonError::into_inner).is_retired(address);
        (!retired).then_some(open)
    }

    /// Waits until `address` has none, at most `patience`.
    pub(crate) async fn drained(&self, address: IpAddr, patience: Duration) {
        let none = async {
            loop {
                let closed = self.closed.notified();
                if !self.counts.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&address) {
                    return;
                }
                closed.await;
            }
        };
        let _ = tokio::time::timeout(patience, none).await;
    }
}

struct Open {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut counts = self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
        self.connections.closed.notify_waiters();
    }
}

/// Everything a connection needs to find its endpoint.
#[derive(Clone)]
pub(crate) struct Router {
    pub(crate) table: Arc<RwLock<Table>>,
    /// Ticks with every change of the table.
    pub(crate) changed: watch::Receiver<u64>,
    pub(crate) switch: Netns,
    pub(crate) connections: Arc<Connections>,
    pub(crate) turn: Arc<AtomicUsize>,
}

impl Router {
    fn ready(&self, target: &Target) -> Vec<SocketAddr> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).ready(target)
    }

    /// A connection to a ready endpoint: in turn, and the next one where one refuses.
    async fn connect(&self, target: &Target) -> Option<(TcpStream, Open)> {
        let mut changed = self.changed.clone();
        let deadline = tokio::time::Instant::now() + ENDPOINT_WAIT;
        loop {
            changed.borrow_and_update();
            let endpoints = self.ready(target);
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            for offset in 0..endpoints.len() {
                let endpoint = endpoints[first.wrapping_add(offset) % endpoints.len()];
                // Its turn may come seconds after the list was made.
                let Some(open) = self.connections.claim(endpoint.ip(), &self.table) else { continue };
                match tokio::time::timeout(CONNECT_TIMEOUT, self.switch.tcp_connect(endpoint)).await {
                    Ok(Ok(stream)) => return Some((stream, open)),
                    Ok(Err(error)) => tracing::debug!(%endpoint, %error, "endpoint refused"),
                    Err(_) => tracing::debug!(%endpoint, "endpoint did not answer"),
                }
            }
            // None took it. A change of endpoints, or a moment, may bring one that does.
            let pause = tokio::time::sleep(Duration::from_millis(50));
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return None,
                result = changed.changed() => if result.is_err() { return None },
                () = pause => {}
            }
        }
    }

    async fn carry(self, mut from: TcpStream, target: Target) {
        match self.connect(&target).await {
            Some((mut to, _open)) => {
                let _ = from.set_nodelay(true);
                let _ = to.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            }
            None => {
                tracing::debug!(service = %format!("{}/{}", target.service.0, target.service.1), "no ready endpoint");
                // A reset, not an orderly end: the caller sees that nobody answered.
                let _ = from.set_zero_linger();
            }
        }
    }

    async fn serve(self, listener: TcpListener, target: Target) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().carry(stream, target.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

/// Copies every connection of `listener` to a fixed address on this machine.
pub(crate) async fn forward(listener: TcpListener, to: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((mut from, _)) => {
                tokio::spawn(async move {
                    if let Ok(mut stream) = TcpStream::connect(to).await {
                        let _ = from.set_nodelay(true);
                        let _ = stream.set_nodelay(true);
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut stream).await;
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// The open listeners.
#[derive(Default)]
pub(crate) struct Entrances {
    open: BTreeMap<Entrance, (Target, JoinHandle<()>)>,
    refused: BTreeMap<Entrance, String>,
}

impl Entrances {
    /// Opens what is wanted and not open, closes what is open and not wanted. Answers what could not be opened, once.
    pub(crate) async fn sync(
        &mut self,
        wanted: BTreeMap<Entrance, Target>,
        router: &Router,
    ) -> Vec<(Entrance, Target, io::Error)> {
        self.open.retain(|entrance, (target, task)| {
            let keep = wanted.get(entrance) == Some(target);
            if !keep {
                task.abort();
            }
            keep
        });
        self.refused.retain(|entrance, _| wanted.contains_key(entrance));
        let mut failed = Vec::new();
        for (entrance, target) in wanted {
            if self.open.contains_key(&entrance) {
                continue;
            }
            match listen(entrance, &router.switch).await {
                Ok(listener) => {
                    self.refused.remove(&entrance);
                    let task = tokio::spawn(router.clone().serve(listener, target.clone()));
                    self.open.insert(entrance, (target, task));
                }
                Err(error) => {
                    if self.refused.insert(entrance, error.to_string()).is_none() {
                        failed.push((entrance, target, error));
                    }
                }
            }
        }
        failed
    }
}

impl Drop for Entrances {
    fn drop(&mut self) {
        for (_, task) in self.open.values() {
            task.abort();
        }
    }
}

async fn listen(entrance: Entrance, switch: &Netns) -> io::Result<TcpListener> {
    match entrance {
        Entrance::Cluster(address) => switch.tcp_listener(address).await.map_err(io::Error::other),
        Entrance::Node(port) | Entrance::Loopback(port) => TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Looks, counts, and only then asks whether the Pod still serves: who stops it never sees a count of none before the
    /// last connection that it has.
    #[test]
    fn nothing_is_sent_to_a_pod_that_is_being_stopped() {
        let (table, connections) = (Arc::new(RwLock::new(Table::default())), Arc::new(Connections::default()));
        let is_idle = |address: IpAddr| !connections.counts.lock().unwrap().contains_key(&address);
        for round in 0..2000_u32 {
            let address = IpAddr::from(Ipv4Addr::from(0x0a2a_0000 + round));
            let (theirs, count) = (table.clone(), connections.clone());
            let caller = std::thread::spawn(move || count.claim(address, &theirs));
            table.write().unwrap().retire(address);
            let idle = is_idle(address);
            let open = caller.join().unwrap();
            assert!(!(idle && open.is_some()), "the Pod is told to stop, and then a connection begins");
            drop(open);
            assert!(connections.claim(address, &table).is_none() && is_idle(address));
        }
    }
}
