//! The Node object and its Lease. Written at the start and then once a minute, by the Lease alone.

use crate::agent::{Agent, Capacity};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const RENEW: Duration = Duration::from_secs(60);
const LEASE_S: i32 = 240;
const LEASES: &str = "kube-node-lease";
const PODS_MAX: u32 = 5000;

/// The usual labels of a node of this name.
pub(crate) fn labels(name: &str) -> BTreeMap<String, String> {
    [("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux"), ("kubernetes.io/arch", architecture())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Go's word for the architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What this machine has.
pub(crate) fn capacity() -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: i128 = total.and_then(|t| t.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    Capacity { cpu_milli: cores as i128 * 1000, memory_bytes: kib * 1024 }
}

/// Registers the node and keeps its Lease.
pub(crate) async fn run(agent: Agent) {
    let client = agent.config().client.clone();
    let mut pause = Duration::from_millis(100);
    let node = loop {
        match register(&agent, &client).await {
            Ok(node) => break node,
            Err(error) => tracing::warn!(%error, "the node was not registered"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RENEW);
    };
    loop {
        if let Err(error) = renew(&client, &node).await {
            tracing::debug!(%error, "the node's lease was not renewed");
        }
        tokio::time::sleep(RENEW).await;
    }
}

async fn register(agent: &Agent, client: &kube::Client) -> Result<Node, kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let name = &agent.config().name;
    let metadata = json!({"name": name, "labels": agent.labels()});
    let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}});
    if api.get_opt(name).await?.is_some() {
        api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"metadata": metadata}))).await?;
    } else if let Ok(node) = serde_json::from_value::<Node>(body) {
        api.create(&PostParams::default(), &node).await?;
    }
    let status = json!({"status": status(agent)});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await
}

fn status(agent: &Agent) -> Value {
    let Capacity { cpu_milli, memory_bytes } = agent.capacity();
    let resources = json!({"cpu": (cpu_milli / 1000).to_string(), "memory": format!("{}Ki", memory_bytes / 1024),
        "pods": PODS_MAX.to_string()});
    let now = format!("{:.0}", Timestamp::now());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let system = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": agent.host_ip().to_string()},
            {"type": "Hostname", "address": agent.config().name},
        ],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the node agent has sufficient memory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "the node agent has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "the node agent has sufficient PIDs"),
            condition("Ready", "True", "KubeletReady", "the node agent runs pods"),
        ],
        "nodeInfo": {
            "architecture": architecture(),
            "bootID": read("/proc/sys/kernel/random/boot_id"),
            "containerRuntimeVersion": concat!("windlass://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": text(system.release()),
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("v1.33.0+windlass-", env!("CARGO_PKG_VERSION")),
            "machineID": read("/etc/machine-id"),
            "operatingSystem": "linux",
            "osImage": pretty,
            "systemUUID": "",
        },
    })
}

async fn renew(client: &kube::Client, node: &Node) -> Result<(), kube::Error> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let api: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let now = format!("{:.6}", Timestamp::now());
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": LEASE_S, "renewTime": now});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name, "namespace": LEASES, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid}]}, "spec": spec});
            if let Ok(lease) = serde_json::from_value::<Lease>(body) {
                api.create(&PostParams::default(), &lease).await?;
            }
            Ok(())
        }
        other => other.map(|_| ()),
    }
}
