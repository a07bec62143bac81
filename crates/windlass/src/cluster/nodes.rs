//! The Node of this cluster: waited for at the start; one of an earlier start under another name is taken away with what was
//! bound to it, as no agent will ever answer for it again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use windlass_model::storage;

/// Longer than any machine takes that works.
const READY_MAX: Duration = Duration::from_secs(30);
/// What the agent says of itself in its Node.
const RUNTIME: &str = "windlass://";

/// The node's name: the given one, or this machine's.
pub(super) fn name(given: Option<&str>) -> Result<String> {
    if let Some(name) = given {
        let fine = name.len() <= 253 && name.split('.').all(|part| is_label(part) && !part.contains(['_', '.']));
        ensure!(
            fine && !name.chars().any(|c| c.is_ascii_uppercase()),
            "--node-name {name}: use lower case letters, digits, `-` and `.`, with a letter or digit at both ends of each part"
        );
        return Ok(name.to_owned());
    }
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    Ok(if name.is_empty() { "localhost".to_owned() } else { name })
}

/// The labels that flags give.
pub(super) fn labels(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').with_context(|| format!("--node-label {text}: write KEY=VALUE"))?;
        let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
        let fine = is_label(name) && prefix.is_none_or(|p| p.split('.').all(is_label));
        ensure!(
            fine && (value.is_empty() || is_label(value)),
            "--node-label {text}: key and value have at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit \
             at both ends; the key may have a domain and a `/` before it"
        );
        Ok((key.to_owned(), value.to_owned()))
    };
    pairs.iter().map(pair).collect()
}

/// What may be a label's value, or the name in its key.
fn is_label(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.starts_with(end)
        && text.ends_with(end)
        && text.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

/// Waits until the agent has said that Pods run here.
pub(super) async fn ready(client: &Client, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let is_ready = |node: Option<&Node>| {
        let conditions = node.and_then(|n| n.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    let ready = kube::runtime::wait::await_condition(nodes, name, is_ready);
    tokio::time::timeout(READY_MAX, ready).await.context("the node agent did not become ready in time")??;
    Ok(())
}

/// Makes the storage class of claims that name none, where it is not there.
pub(super) async fn storage_class(client: &Client) -> Result<()> {
    let class = json!({
        "metadata": {"name": storage::CLASS, "annotations": {storage::DEFAULT_CLASS: "true"}},
        "provisioner": storage::DRIVER, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
    });
    let class: StorageClass = serde_json::from_value(class)?;
    match Api::all(client.clone()).create(&PostParams::default(), &class).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other?),
    }
    Ok(())
}

/// Takes away the Nodes of earlier agents of this home, and fails the Pods that they had.
pub(super) async fn forget_others(client: &Client, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&ListParams::default()).await? {
        let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        let ours = info.is_some_and(|i| i.container_runtime_version.starts_with(RUNTIME));
        let old = node.name_any();
        if old == name || !ours {
            continue;
        }
        let bound = ListParams::default().fields(&format!("spec.nodeName={old}"));
        for pod in Api::<Pod>::all(client.clone()).list(&bound).await? {
            lose(client, &pod, &old, name).await?;
        }
        match nodes.delete(&old, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
        tracing::info!(node = %old, "this machine had another name as a node: that one was taken away");
    }
    Ok(())
}

async fn lose(client: &Client, pod: &Pod, old: &str, name: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let over = matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
    let mut done = Ok(());
    if !over {
        let message = format!("node {old} is no more: this machine is node {name} now");
        let status = json!({"metadata": {"uid": pod.uid()},
            "status": {"phase": "Failed", "reason": "NodeLost", "message": message}});
        done = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await.map(drop);
    }
    if done.is_ok() && pod.metadata.deletion_timestamp.is_some() {
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        done = pods.delete(&pod.name_any(), &at_once).await.map(drop);
    }
    match done {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_as_kubernetes_takes_them() {
        for good in ["box", "a-1.example.com"] {
            assert_eq!(name(Some(good)).unwrap(), good);
        }
        for bad in ["Box", "a_b", "-a", "a..b", ""] {
            assert!(name(Some(bad)).unwrap_err().to_string().contains("--node-name"), "{bad}");
        }
        let of = |text: &str| labels(&[text.to_owned()]);
        for good in ["a=b", "example.com/a_b=", "a=B.c"] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in ["a", "a/b/c=d", "a=b c", "=x", "a=-"] {
            assert!(of(bad).unwrap_err().to_string().contains("--node-label"), "{bad}");
        }
    }
}
