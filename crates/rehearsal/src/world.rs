//! The world of a run without containers: a virtual clock with an agenda, pods that end as a [`Script`] says, templates
//! and ConfigMaps that are there or not. Performs the engine's commands and tells it what came of them. Decides nothing
//! about the run, and never waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use windlass_engine::{Command, Config, Observation, Run};
use windlass_lang::Diagnostic;
use windlass_model::lock::LockName;
use windlass_model::{NodePhase, NodeStatus, NodeType, Workflow};

use crate::around::Around;
use crate::case::Turn;
pub use crate::pod::Absent;
use crate::pod::Pod;

/// How long a pod runs of which nothing is said.
pub const DEFAULT_RUN_MS: i64 = 1_000;
/// So many pods and things to come a run may have: one that retries for ever ends here.
const EVENTS_MAX: usize = 2_000_000;

/// Who says what becomes of pods.
pub trait Script {
    /// What becomes of a node's pod. `number` counts the pods of this node from 0, all attempts together.
    fn pod(&mut self, node: &NodeStatus, number: usize) -> Turn;
    /// Who answers a suspended node, if anybody does.
    fn suspended(&mut self, node: &NodeStatus) -> Option<Turn>;
    /// The name under which the pods of a node are counted.
    fn together(&self, node: &NodeStatus) -> String {
        node.name.clone()
    }
}

/// Why a run went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has ended.
    Completed,
    /// Nothing is to come, and it has not ended.
    Waits,
    /// It goes on and on.
    Endless,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Runs { pod: String, uid: String },
    Ends { pod: String, uid: String },
    Answered { node: String },
}

/// When a node began and ended: numbers that grow, and the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// The step of the world in which it was first seen.
    pub began: usize,
    /// The step in which it had ended.
    pub ended: Option<usize>,
}

/// A run and everything around it.
pub struct World<'s> {
    /// The run.
    pub run: Run,
    /// The virtual clock.
    pub now: Timestamp,
    /// How many pods were made for each node name that is counted together.
    pub pods_made: BTreeMap<String, usize>,
    /// When each node began and ended, by id.
    pub marks: HashMap<String, Mark>,
    /// Outputs that were declared and not given.
    pub absent: Vec<Absent>,
    /// What is wrong with what the script says.
    pub faults: Vec<Diagnostic>,
    /// Templates and ConfigMaps that were asked for and are not there: kind and name.
    pub missing: Vec<(&'static str, String)>,
    script: &'s mut dyn Script,
    objects: &'s [Value],
    agenda: BinaryHeap<Reverse<(Timestamp, usize, Event)>>,
    number: usize,
    pods: HashMap<String, Pod>,
    answers: HashMap<String, Turn>,
    asked: HashSet<String>,
    around: Around,
    wake: Option<Timestamp>,
    steps: usize,
}

impl<'s> World<'s> {
    /// A workflow that was just created, and the objects around it.
    pub fn new(
        workflow: &Workflow,
        config: &Config,
        objects: &'s [Value],
        now: Timestamp,
        script: &'s mut dyn Script,
    ) -> Self {
        Self {
            run: Run::load(workflow, config),
            now,
            pods_made: BTreeMap::new(),
            marks: HashMap::new(),
            absent: Vec::new(),
            faults: Vec::new(),
            missing: Vec::new(),
            script,
            objects,
            agenda: BinaryHeap::new(),
            number: 0,
            pods: HashMap::new(),
            answers: HashMap::new(),
            asked: HashSet::new(),
            around: Around::default(),
            wake: None,
            steps: 0,
        }
    }

    /// Lets the run go on until it has ended, or nothing is to come.
    pub fn play(&mut self) -> End {
        let mut done = self.step(vec![Observation::Surveyed]);
        for _ in 0..EVENTS_MAX {
            if done {
                return End::Completed;
            }
            let next = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let seen = match (next, self.wake) {
                (None, None) => return End::Waits,
                (Some(at), wake) if wake.is_none_or(|w| at <= w) => {
                    self.now = self.now.max(at);
                    self.happen()
                }
                (_, wake) => {
                    self.now = self.now.max(wake.unwrap_or(self.now));
                    Vec::new()
                }
            };
            done = self.step(seen);
        }
        End::Endless
    }

    /// Everything that is due first: what happens at one time is told together.
    fn happen(&mut self) -> Vec<Observation> {
        let mut seen = Vec::new();
        let Some(due) = self.agenda.peek().map(|Reverse((at, ..))| *at) else { return seen };
        while self.agenda.peek().is_some_and(|Reverse((at, ..))| *at == due) {
            let Some(Reverse((_, _, event))) = self.agenda.pop() else { break };
            match event {
                Event::Runs { pod, uid } => self.pod_runs(&pod, &uid, &mut seen),
                Event::Ends { pod, uid } => {
                    if self.pods.get(&pod).is_none_or(|p| p.uid != uid) {
                        continue;
                    }
                    let Some(pod) = self.pods.remove(&pod) else { continue };
                    let ended = pod.ended(self.now);
                    self.absent.extend(ended.absent);
                    for fault in ended.faults {
                        if !self.faults.contains(&fault) {
                            self.faults.push(fault);
                        }
                    }
                    seen.extend(ended.seen);
                }
                Event::Answered { node } => {
                    let Some(turn) = self.answers.remove(&node) else { continue };
                    let node_ids = vec![node];
                    seen.push(match turn.reject {
                        Some(words) => Observation::FailSuspended { node_ids, message: Some(words) },
                        None => {
                            let given = turn.parameters.into_iter().map(|(name, v)| (name.value, v.value));
                            Observation::Resume { node_ids, parameters: given.collect(), message: turn.message }
                        }
                    });
                }
            }
        }
        seen
    }

    fn pod_runs(&mut self, name: &str, uid: &str, seen: &mut Vec<Observation>) {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name).filter(|p| p.uid == uid) else { return };
        seen.push(pod.running(now));
        let daemon = self.run.template_of(&pod.node_id).is_some_and(|t| t.daemon == Some(true));
        let turn = &pod.turn;
        // A daemon goes on until it is stopped, unless something is said of its end.
        if daemon && !turn.ends && !turn.lost && turn.error.is_none() && turn.after_ms.is_none() {
            return;
        }
        let after = turn.after_ms.unwrap_or(DEFAULT_RUN_MS);
        let event = Event::Ends { pod: name.to_owned(), uid: uid.to_owned() };
        self.put(after, event);
    }

    fn put(&mut self, after_ms: i64, event: Event) {
        let at = self.now.checked_add(SignedDuration::from_millis(after_ms)).unwrap_or(self.now);
        self.number += 1;
        self.agenda.push(Reverse((at, self.number, event)));
    }

    /// One step of the run and all that follows at once; true when it has ended.
    fn step(&mut self, mut seen: Vec<Observation>) -> bool {
        loop {
            let decision = self.run.step(&seen, self.now);
            self.wake = decision.wake;
            self.note_changes();
            seen = Vec::new();
            for command in decision.commands {
                self.perform(command, &mut seen);
            }
            seen.extend(self.around.answers());
            if decision.completed {
                return true;
            }
            if seen.is_empty() {
                return false;
            }
        }
    }

    /// Which nodes began and ended, and which wait for somebody.
    fn note_changes(&mut self) {
        let Some(patch) = self.run.take_patch() else { return };
        self.steps += 1;
        for id in patch["status"]["nodes"].as_object().into_iter().flat_map(|m| m.keys()) {
            let Some(row) = self.run.node(id) else { continue };
            let mark = self.marks.entry(id.clone()).or_insert(Mark { began: self.steps, ended: None });
            if row.phase.is_fulfilled() && mark.ended.is_none() {
                mark.ended = Some(self.steps);
            }
            let waits = row.type_ == NodeType::Suspend && row.phase == NodePhase::Running;
            if waits && self.asked.insert(id.clone()) {
                let row = row.clone();
                if let Some(turn) = self.script.suspended(&row) {
                    let after = turn.after_ms.unwrap_or(DEFAULT_RUN_MS);
                    if let Some(template) = self.run.template_of(id) {
                        let asked: Vec<&str> = template.outputs.parameters.iter().map(|p| p.name.as_str()).collect();
                        crate::pod::unknown(&turn.parameters, &asked, &template.name, "parameter", &mut self.faults);
                    }
                    self.answers.insert(id.clone(), turn);
                    self.put(after, Event::Answered { node: id.clone() });
                }
            }
        }
    }

    fn perform(&mut self, command: Command, seen: &mut Vec<Observation>) {
        match command {
            Command::CreatePod { node_id, name, pod } => self.create_pod(node_id, name, pod, seen),
            Command::StopPod { name, .. } => {
                if let Some(pod) = self.pods.remove(&name) {
                    seen.push(pod.stopped(self.now));
                }
            }
            Command::DeletePod { name, .. } => {
                if let Some(pod) = self.pods.remove(&name) {
                    seen.push(Observation::PodGone { name, uid: pod.uid });
                }
            }
            Command::ReleasePod { .. }
            | Command::DeleteClaim { .. }
            | Command::CreateBudget { .. }
            | Command::DeleteBudget { .. } => {}
            Command::CreateClaim { name, .. } => seen.push(Observation::ClaimMade { name }),
            Command::AskLocks { node_id, locks, priority, created } => {
                for name in self.around.ask(node_id, locks, priority, created) {
                    let size = match &name {
                        LockName::Semaphore { config_map, key, .. } => {
                            let map = self.object("ConfigMap", config_map);
                            map.and_then(|map| map["data"][key].as_str()?.trim().parse().ok())
                        }
                        LockName::Mutex { .. } => Some(1),
                        // Nobody says what a limit in a database is, and there is one run only: it has room.
                        LockName::Database { mutex, .. } => Some(if *mutex { 1 } else { usize::MAX }),
                    };
                    self.around.size(&name, size);
                }
            }
            Command::ReleaseLocks { node_id } => self.around.release(node_id),
            Command::LoadCache { node_id, cache, .. } => {
                let object = match self.around.cache(&cache) {
                    Some(map) => Some(map),
                    // A cache that is not there yet is nothing that is missing.
                    None => self.objects.iter().find(|o| is(o, "ConfigMap", &cache)).cloned(),
                };
                seen.push(Observation::Cache { node_id, object });
            }
            Command::SaveCache { cache, key, entry } => {
                let there = self.objects.iter().find(|o| is(o, "ConfigMap", &cache));
                self.around.remember(&cache, there, &key, &entry);
            }
            Command::FetchTemplate { cluster, name } => {
                let kind = if cluster { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
                seen.push(Observation::Template { cluster, object: self.object(kind, &name), name });
            }
            // What there is was told with the pod's end.
            Command::FetchReport { name } => seen.push(Observation::NoTaskResult { name }),
            // What a plugin answers is the case's business; that there is one is enough.
            Command::FetchPlugins => seen.push(Observation::Plugins { objects: vec![stand_in()] }),
            Command::FetchConfigMap { name } => {
                seen.push(Observation::ConfigMap { object: self.object("ConfigMap", &name), name });
            }
        }
    }

    fn create_pod(&mut self, node_id: String, name: String, pod: Value, seen: &mut Vec<Observation>) {
        let attempt = pod["metadata"]["annotations"][windlass_model::labels::ATTEMPT].as_str().unwrap_or("0");
        let uid = format!("{name}/{attempt}");
        if self.pods.get(&name).is_some_and(|p| p.uid == uid) {
            return;
        }
        let Some(row) = self.run.node(&node_id).cloned() else { return };
        let count = self.pods_made.entry(self.script.together(&row)).or_default();
        let turn = self.script.pod(&row, *count);
        *count += 1;
        if let Some(message) = turn.refused {
            seen.push(Observation::PodRefused { node_id, message, transient: false });
            return;
        }
        let pending_ms = turn.pending_ms;
        let pod = Pod::new(node_id, uid.clone(), pod, turn);
        let waits = pending_ms > 0 || pod.turn.pending_message.is_some();
        if waits {
            seen.push(pod.pending());
        }
        self.pods.insert(name.clone(), pod);
        if waits {
            self.put(pending_ms, Event::Runs { pod: name, uid });
        } else {
            self.pod_runs(&name, &uid, seen);
        }
    }

    fn object(&mut self, kind: &'static str, name: &str) -> Option<Value> {
        let found = self.objects.iter().find(|o| is(o, kind, name)).cloned();
        if found.is_none() {
            self.missing.push((kind, name.to_owned()));
        }
        found
    }
}

fn is(object: &Value, kind: &str, name: &str) -> bool {
    object["kind"] == kind && object["metadata"]["name"] == name
}

/// The workflow as the API has it right after it was created.
pub fn created(mut workflow: Value, at: Timestamp) -> Value {
    let meta = &mut workflow["metadata"];
    if !meta["name"].is_string() {
        let prefix = meta["generateName"].as_str().unwrap_or("run-");
        meta["name"] = json!(format!("{prefix}test"));
    }
    if !meta["namespace"].is_string() {
        meta["namespace"] = json!("default");
    }
    meta["uid"] = json!("00000000-0000-4000-8000-000000000001");
    meta["creationTimestamp"] = json!(windlass_model::Time::from_timestamp(at).to_string());
    workflow
}

/// An executor plugin that is never asked.
fn stand_in() -> Value {
    let container = json!({
        "name": "rehearsal", "image": "rehearsal", "ports": [{"containerPort": 1}],
        "resources": {"requests": {}, "limits": {}}, "securityContext": {},
    });
    json!({"metadata": {"name": "rehearsal-executor-plugin"}, "data": {"sidecar.container": container.to_string()}})
}
