//! What must hold at every moment of a world, checked on every version of every object, through a watch that no fault
//! reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::select;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use serde_json::Value;
use windlass_control::tables;
use windlass_model::labels;

/// What was seen so far, and every invariant that was broken.
#[derive(Default)]
pub(super) struct Witness {
    /// Live pods by uid: workflow and node.
    live: BTreeMap<String, (String, String)>,
    /// Those of them that hold the mutex.
    alone: BTreeSet<String>,
    seen: BTreeSet<String>,
    /// Ended nodes: workflow and node, with the phase, and the version that first said so.
    ended: BTreeMap<(String, String), (String, u64)>,
    completed: BTreeMap<String, String>,
    /// Nodes with a pod that ended well, with its uid.
    good: BTreeMap<(String, String), String>,
    /// Every workflow as it was seen last, also those that have gone since.
    pub(super) last: BTreeMap<String, DynamicObject>,
    /// Broken invariants, in words.
    pub(super) broken: Vec<String>,
}

enum Sight {
    Pod(Box<Pod>),
    PodGone(String),
    Workflow(Box<DynamicObject>),
}

pub(super) fn workflows(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Workflow");
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, "workflows"))
}

/// A workflow with its node table; nothing for a version that was replaced, by one or by none, before it was read.
pub(super) async fn whole(client: &Client, wf: DynamicObject) -> Option<DynamicObject> {
    match tables::whole(client, serde_json::to_value(wf).unwrap()).await {
        Ok(wf) => Some(serde_json::from_value(wf).unwrap()),
        Err(tables::Fault::Gone(_)) => None,
        Err(fault) => panic!("{fault}"),
    }
}

/// Looks until it is dropped.
pub(super) async fn run(client: Client, namespace: String, witness: Arc<Mutex<Witness>>) {
    let pods = watcher::watcher(Api::namespaced(client.clone(), &namespace), watcher::Config::default());
    let pods = pods.filter_map(async |event| match event.unwrap() {
        Event::Apply(pod) | Event::InitApply(pod) => Some(Sight::Pod(Box::new(pod))),
        Event::Delete(pod) => Some(Sight::PodGone(Pod::uid(&pod).unwrap())),
        _ => None,
    });
    let runs = watcher::watcher(workflows(&client, &namespace), watcher::Config::default());
    let runs = runs.filter_map(async |event| match event.unwrap() {
        Event::Apply(wf) | Event::InitApply(wf) => whole(&client, wf).await.map(|wf| Sight::Workflow(Box::new(wf))),
        _ => None,
    });
    let mut sights = std::pin::pin!(select(pods.boxed(), runs.boxed()));
    while let Some(sight) = sights.next().await {
        let mut witness = witness.lock().unwrap();
        match sight {
            Sight::Pod(pod) => witness.pod(&pod),
            Sight::PodGone(uid) => witness.forget(&uid),
            Sight::Workflow(wf) => witness.workflow(&wf),
        }
    }
}

fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

impl Witness {
    fn forget(&mut self, uid: &str) {
        self.live.remove(uid);
        self.alone.remove(uid);
    }

    /// How many of the workflows that were seen have ended.
    pub(super) fn completed(&self) -> usize {
        self.completed.len()
    }

    fn pod(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap();
        // A pod that removes artifacts is no node's.
        let Some(node) = pod.annotations().get(labels::NODE_ID) else { return };
        let owner = (pod.labels()[labels::WORKFLOW].clone(), node.clone());
        // Two watches have no order between them; versions have.
        if self.seen.insert(uid.clone())
            && let Some((phase, at)) = self.ended.get(&owner)
            && version(pod) > *at
        {
            self.broken.push(format!("a finished node runs again: {owner:?} was {phase}, and has a new pod"));
        }
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
        if self.good.get(&owner).is_some_and(|of| *of != uid) {
            self.broken.push(format!("a node whose pod ended well has another pod: {owner:?}"));
        }
        if phase == "Succeeded" {
            self.good.insert(owner.clone(), uid.clone());
        }
        if matches!(phase, "Succeeded" | "Failed") || pod.metadata.deletion_timestamp.is_some() {
            self.forget(&uid);
            return;
        }
        if pod.spec.as_ref().is_some_and(|s| s.containers[0].image.as_deref() == Some("alone")) {
            self.alone.insert(uid.clone());
            if self.alone.len() > 1 {
                self.broken.push(format!("{} pods hold one mutex, {owner:?} the last of them", self.alone.len()));
            }
        }
        self.live.insert(uid, owner.clone());
        let of_node = self.live.values().filter(|o| **o == owner).count();
        if of_node > 1 {
            self.broken.push(format!("a node has {of_node} live pods: {owner:?}"));
        }
    }

    fn workflow(&mut self, wf: &DynamicObject) {
        let name = wf.name_any();
        // Whose table was replaced was read in a later version than the one that was told.
        if self.last.get(&name).is_some_and(|last| version(last) > version(wf)) {
            return;
        }
        let status = &wf.data["status"];
        let nodes = status["nodes"].as_object().cloned().unwrap_or_default();
        for (id, node) in &nodes {
            let phase = node["phase"].as_str().unwrap_or_default();
            let key = (name.clone(), id.clone());
            match self.ended.get(&key) {
                Some((before, _)) if before != phase => {
                    self.broken.push(format!("a finished node moves: {} was {before}, is {phase}", node["name"]));
                }
                None if !matches!(phase, "" | "Pending" | "Running") => {
                    self.ended.insert(key, (phase.to_owned(), version(wf)));
                }
                _ => {}
            }
        }
        let lost = self.ended.keys().filter(|(wf, id)| *wf == name && !nodes.contains_key(id));
        let lost: Vec<String> = lost.map(|(_, id)| format!("a finished node is forgotten: {id} of {name}")).collect();
        self.broken.extend(lost);
        let phase = status["phase"].as_str().unwrap_or_default();
        if let Some(before) = self.completed.get(&name).filter(|before| *before != phase) {
            self.broken.push(format!("a finished workflow moves: {name} was {before}, is {phase}"));
        }
        if wf.labels().get(labels::COMPLETED).is_some_and(|v| v == "true") {
            self.completed.insert(name.clone(), phase.to_owned());
        }
        self.last.insert(name, wf.clone());
    }
}

/// A workflow's end: each node's type and phase by name, and the workflow's own phase under no name.
pub(super) struct End {
    phases: BTreeMap<String, (Value, Value)>,
    messages: BTreeMap<String, Value>,
}

pub(super) fn end(wf: &DynamicObject) -> End {
    let status = &wf.data["status"];
    let mut end = End { phases: BTreeMap::new(), messages: BTreeMap::new() };
    let nodes = status["nodes"].as_object().into_iter().flatten().map(|(_, node)| node);
    for row in nodes.chain([status]) {
        let name = row["name"].as_str().unwrap_or_default().to_owned();
        end.phases.insert(name.clone(), (row["type"].clone(), row["phase"].clone()));
        end.messages.insert(name, row["message"].clone());
    }
    end
}

impl End {
    /// Where another end is not this one: the name, what it is here, what it is there and why.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.phases.keys().chain(other.phases.keys()).collect();
        let differ = names.into_iter().filter(|name| self.phases.get(*name) != other.phases.get(*name));
        differ
            .map(|name| {
                let [here, there] = [self, other].map(|end| end.phases.get(name).map(|(_, phase)| phase.to_string()));
                let why = other.messages.get(name).unwrap_or(&Value::Null);
                format!("{name:?} {} instead of {}, {why}", there.unwrap_or_default(), here.unwrap_or_default())
            })
            .collect()
    }
}
