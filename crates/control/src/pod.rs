//! A Pod as the loops read it, and no more of it. Every step has several versions of its Pod, and the part that is large
//! (the spec, the task in its annotation) is our own text: it is passed over in the watch's bytes, never built.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use windlass_engine::Observation;
use windlass_model::labels;

use crate::part::part_of;

/// A Pod as the watch, the survey and the answer to its creation see it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PodSeen {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    resources: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Option<Value>,
    init_container_statuses: Option<Value>,
    container_statuses: Option<Value>,
}

/// The few facts of a Pod's metadata that are asked for; the annotations are named, for one of them is long.
fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Meta {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<Annotations>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Annotations {
        #[serde(rename = "workflows.argoproj.io/node-id")]
        node_id: Option<String>,
        #[serde(rename = "windlass.dev/attempt")]
        attempt: Option<String>,
    }
    let meta = Meta::deserialize(from)?;
    let Annotations { node_id, attempt } = meta.annotations.unwrap_or_default();
    let annotations = [(labels::NODE_ID, node_id), (labels::ATTEMPT, attempt)];
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        deletion_timestamp: meta.deletion_timestamp,
        labels: meta.labels,
        annotations: Some(annotations.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect()),
        owner_references: meta.owner_references,
        ..ObjectMeta::default()
    })
}

impl PodSeen {
    /// Namespace and name of its workflow.
    pub(crate) fn key(&self) -> Option<(String, String)> {
        let workflow = self.metadata.labels.as_ref()?.get(labels::WORKFLOW)?;
        Some((self.metadata.namespace.clone()?, workflow.clone()))
    }

    /// Whether this is what creating `pod` would have made: same owners, same attempt, and here to stay.
    pub(crate) fn is_made_of(&self, pod: &Value) -> bool {
        let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let mine = self.metadata.owner_references.iter().flatten().map(|o| o.uid.as_str());
        let attempt = self.metadata.annotations.iter().find_map(|a| a.get(labels::ATTEMPT)).map(String::as_str);
        mine.eq(owners.filter_map(|o| o["uid"].as_str()))
            && attempt == pod["metadata"]["annotations"][labels::ATTEMPT].as_str()
            && self.metadata.deletion_timestamp.is_none()
    }

    /// `status.phase`.
    pub(crate) fn phase(&self) -> &str {
        self.status.phase.as_deref().unwrap_or("Pending")
    }

    /// Whether none of its containers will run again.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// Whether it is on its way out.
    pub(crate) fn goes(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// How it ended, as far as its status says.
    pub(crate) fn why(&self) -> String {
        let text = self.status.message.as_deref().or(self.status.reason.as_deref()).unwrap_or(self.phase());
        format!("pod {}: {text}", self.name())
    }

    /// What the engine is told of it.
    pub(crate) fn observed(self) -> Observation {
        let mut status = Map::new();
        let text = |text: Option<String>| text.map(Value::String);
        for (key, value) in [
            ("phase", text(self.status.phase)),
            ("reason", text(self.status.reason)),
            ("message", text(self.status.message)),
            ("podIP", text(self.status.pod_ip)),
            ("conditions", self.status.conditions),
            ("initContainerStatuses", self.status.init_container_statuses),
            ("containerStatuses", self.status.container_statuses),
        ] {
            status.extend(value.map(|value| (key.to_owned(), value)));
        }
        let containers: Vec<Value> =
            self.spec.containers.into_iter().map(|c| json!({"name": c.name, "resources": c.resources})).collect();
        let meta = self.metadata;
        Observation::Pod(json!({
            "metadata": {
                "name": meta.name, "uid": meta.uid, "labels": meta.labels, "annotations": meta.annotations,
                "deletionTimestamp": meta.deletion_timestamp,
            },
            "spec": {"nodeName": self.spec.node_name, "containers": containers},
            "status": status,
        }))
    }

    /// What its leaving the watch says. The watch is narrowed to pods without the `completed` label, so a pod leaves
    /// it when it is deleted and when it is labelled, and the event tells its last form in both cases. One that had
    /// ended there says how it ended, which is what counts, and needs no label any more. Of one that had not ended it
    /// is only a guess that it is gone.
    pub(crate) fn left(mut self) -> Left {
        if self.has_ended() {
            let labels = self.metadata.labels.get_or_insert_default();
            labels.insert(labels::COMPLETED.to_owned(), "true".to_owned());
            return Left::Ended(Box::new(self.observed()));
        }
        Left::Unsure { name: self.metadata.name.unwrap_or_default(), uid: self.metadata.uid.unwrap_or_default() }
    }

    /// `metadata.name`.
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`.
    pub(crate) fn uid_text(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// Whether the workflow of this uid owns it, and not an older one of the same name.
    pub(crate) fn is_of(&self, workflow_uid: &str) -> bool {
        self.metadata.owner_references.iter().flatten().any(|owner| owner.uid == workflow_uid)
    }

    /// Whether it is the pod with this uid.
    pub(crate) fn is(&self, uid: &str) -> bool {
        self.metadata.uid.as_deref() == Some(uid)
    }
}

/// What a pod that left the watch was.
pub(crate) enum Left {
    /// It had ended.
    Ended(Box<Observation>),
    /// It had not: somebody deleted it, or labelled it by hand.
    Unsure {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

part_of!(PodSeen, "Pod", "", "v1", "pods");

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use windlass_engine::{Command, Config, Decision, Run};
    use windlass_model::Workflow;

    const NOW: &str = "2026-01-01T00:00:10Z";

    /// A run of two steps after each other, a daemon among them, and what it decides about pods that end in each way.
    fn decisions(tell: impl Fn(&Value) -> Observation) -> Vec<(Decision, Value)> {
        let workflow: Workflow = serde_json::from_value(json!({
            "metadata": {"name": "w", "namespace": "n", "uid": "wu"},
            "spec": {"entrypoint": "main", "templates": [
                {"name": "main", "steps": [[{"name": "d", "template": "serve"}], [{"name": "a", "template": "work"}],
                    [{"name": "b", "template": "work"}]]},
                {"name": "serve", "daemon": true, "container": {"image": "i"}},
                {"name": "work", "container": {"image": "i", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}},
            ]},
        }))
        .unwrap();
        let mut run = Run::load(&workflow, &Config::default());
        let mut all = Vec::new();
        let mut seen = Vec::new();
        for round in 0..6 {
            let decision = run.step(&seen, NOW.parse().unwrap());
            let made = decision.commands.iter().filter_map(|c| match c {
                Command::CreatePod { pod, .. } => Some(pod.clone()),
                _ => None,
            });
            seen = made.map(|pod| tell(&lived(pod, round))).collect();
            all.push((decision, run.take_patch().unwrap_or_default()));
        }
        all
    }

    /// What a node makes of a pod: the first serves, the second ends well, the third fails.
    fn lived(mut pod: Value, round: usize) -> Value {
        pod["metadata"]["uid"] = json!(format!("u{round}"));
        pod["metadata"]["resourceVersion"] = json!("7");
        pod["spec"]["nodeName"] = json!("here");
        let (phase, code) = [("Running", None), ("Succeeded", Some(0)), ("Failed", Some(3))][round.min(2)];
        let state = match code {
            None => json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            Some(code) => json!({"terminated": {"exitCode": code, "reason": "Error", "message": "words",
                "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:09Z"}}),
        };
        pod["status"] = json!({
            "phase": phase, "podIP": "10.42.0.9", "qosClass": "BestEffort", "hostIP": "10.42.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "ready": code.is_none(), "restartCount": 0, "state": state}],
        });
        pod
    }

    #[test]
    fn the_engine_decides_the_same_of_what_is_left() {
        let whole = decisions(|pod| Observation::Pod(pod.clone()));
        let seen = decisions(|pod| serde_json::from_value::<PodSeen>(pod.clone()).unwrap().observed());
        assert_eq!(whole, seen);
        // The case is worth its name: three pods, a daemon's address, resources counted, a failure's words.
        let text = format!("{whole:?}");
        assert_eq!(text.matches("CreatePod").count(), 3, "{text}");
        for part in ["10.42.0.9", "exit code 3): words", "\"resourcesDuration\": Object {\"cpu\": Number(18)"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_pod_that_leaves_the_watch_says_how_it_ended_or_that_nobody_knows() {
        let pod = |phase: &str| -> PodSeen {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {labels::WORKFLOW: "w"}},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        let Left::Ended(observation) = pod("Failed").left() else { panic!("it had ended") };
        let Observation::Pod(told) = *observation else { panic!("a pod") };
        assert_eq!(told["status"]["phase"], "Failed");
        // Nothing is left to release.
        assert_eq!(told["metadata"]["labels"][labels::COMPLETED], "true");
        assert!(matches!(pod("Running").left(), Left::Unsure { name, uid } if name == "p" && uid == "u"));
    }
}
