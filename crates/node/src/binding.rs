//! Pods on their way to this node: bound where they fit it, told why where they do not, looked at again when the node's own
//! labels, taints or `unschedulable` change. There is no scheduler beside the agent; its words are kube-scheduler's.

use crate::agent::Agent;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use std::time::Duration;

/// Follows this agent's Node object for ever.
pub(crate) async fn follow(agent: Agent) {
    let config = agent.config();
    let own = watcher::Config::default().fields(&format!("metadata.name={}", config.name));
    let stream = watcher(Api::<Node>::all(config.client.clone()), own).default_backoff();
    let mut stream = std::pin::pin!(stream);
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::Apply(node) | watcher::Event::InitApply(node))) => {
                if agent.place().learn(&node) {
                    agent.look_again();
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "watching the node"),
        }
    }
}

impl Agent {
    /// Binds the Pod to this node.
    pub(crate) async fn bind(&self, pod: &Pod) {
        let node = &self.config().name;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let binding = Binding {
            metadata: ObjectMeta {
                name: pod.metadata.name.clone(),
                namespace: pod.metadata.namespace.clone(),
                uid: pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
        };
        let api = self.api(pod);
        let mut pause = Duration::from_millis(100);
        loop {
            let bound: Result<serde_json::Value, kube::Error> =
                api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
            match bound {
                Ok(_) => {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
                    let text = format!("Successfully assigned {namespace}/{name} to {node}");
                    self.events().scheduling(pod, "Normal", "Scheduled", "Binding", text);
                    return;
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => break,
                Err(error) => tracing::warn!(pod = %name, %error, "a pod was not bound"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
        self.unbound(pod);
    }

    /// Says why the Pod does not fit, once for each reason.
    pub(crate) fn unschedulable(&self, pod: Pod, message: String) {
        let known = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        if known.into_iter().any(|c| c.type_ == "PodScheduled" && c.message.as_deref() == Some(&message)) {
            return;
        }
        self.events().scheduling(&pod, "Warning", "FailedScheduling", "Scheduling", message.clone());
        let api = self.api(&pod);
        tokio::spawn(async move {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let now = jiff::Timestamp::now();
            let condition = serde_json::json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": message, "lastTransitionTime": format!("{now:.0}")});
            let body = serde_json::json!({"metadata": {"uid": pod.metadata.uid},
                "status": {"phase": "Pending", "conditions": [condition]}});
            if let Err(error) = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(body)).await {
                tracing::debug!(%error, pod = %name, "condition was not written");
            }
        });
    }
}
