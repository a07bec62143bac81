//! The network of image builds: a namespace of its own for each, connected outward where this machine can. Builds reach
//! neither the host's loopback nor the cluster's services.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use windlass_build::{OpenNetwork, Opened};
use windlass_node::LogSink;
use windlass_sandbox::net::{Cidr, Netns, Outward, Switch};

/// Addresses of builds: 10.43.0.1/16, beside those of pods.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 1);
const PREFIX: u8 = 16;

/// Gives builds their network. The switch is made with the first.
#[derive(Default)]
pub(crate) struct BuildNetwork {
    switch: Arc<OnceLock<Result<Switch, String>>>,
    last: AtomicU32,
}

impl BuildNetwork {
    /// Opens a namespace for one build when that asks for it. Where there is none to be had, the log says so and
    /// commands have loopback only.
    pub(crate) fn opener(self: &Arc<Self>, log: LogSink) -> OpenNetwork {
        let network = self.clone();
        Arc::new(move || {
            let (network, log) = (network.clone(), log.clone());
            Box::pin(async move { network.open(&log).await })
        })
    }

    async fn open(&self, log: &LogSink) -> Opened {
        match self.attach().await {
            Ok(netns) => Opened { network: netns.network(), resolv_conf: resolv_conf() },
            Err(why) => {
                log.err(&format!("RUN has no network: {why}\n"));
                Opened::none()
            }
        }
    }

    async fn attach(&self) -> Result<Netns, String> {
        let switch = self.switch.clone();
        // Numbers are not reused before all others were: an ended build's namespace has gone by then.
        let number = self.last.fetch_add(1, Ordering::Relaxed) % 65_000;
        let address = Ipv4Addr::from_bits(GATEWAY.to_bits() + 1 + number);
        let work = move || {
            let made =
                switch.get_or_init(|| Switch::create(Cidr::new(GATEWAY, PREFIX), &[]).map_err(|e| e.to_string()));
            let switch = made.as_ref().map_err(Clone::clone)?;
            match switch.connect_outward() {
                Outward::Works(_) => switch.attach_blocking(address).map_err(|e| e.to_string()),
                Outward::None(why) => Err(why),
            }
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
    }
}

/// This machine's resolvers, without those on its loopback: they cannot be reached from a namespace.
fn resolv_conf() -> String {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let reachable = |line: &&str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["nameserver", address] => address.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback()),
        _ => true,
    };
    text.lines().filter(reachable).flat_map(|line| [line, "\n"]).collect()
}
