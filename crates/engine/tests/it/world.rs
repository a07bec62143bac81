//! A world for the engine: pods that end as a script says, resources that are there or not.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use windlass_engine::{Command, Config, Observation, Run};
use windlass_model::Workflow;
use windlass_model::lock::LockName;
use windlass_schedule::locks::{Holder, Owner, Table, Wish};

/// One script: a workflow, the objects around it, and how its pods end (by node name).
pub(crate) struct Script {
    pub workflow: Value,
    pub objects: Vec<Value>,
    pub pods: BTreeMap<String, Value>,
    /// What people do when nothing goes on by itself, in order.
    pub hands: Vec<Value>,
    /// Locks that another run holds, and for how many seconds.
    pub held: Vec<(LockName, i64)>,
}

impl Script {
    pub(crate) fn parse(text: &str) -> Self {
        let loaded = windlass_lang::yaml::load_str(text);
        let case = loaded.documents.into_iter().next().expect("a case is one document").value;
        let pods = case["pods"].as_object().cloned().unwrap_or_default().into_iter().collect();
        Self {
            workflow: case["workflow"].clone(),
            objects: case["objects"].as_array().cloned().unwrap_or_default(),
            pods,
            hands: case["hands"].as_array().cloned().unwrap_or_default(),
            held: case["held"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, seconds)| (name.parse().unwrap(), seconds.as_i64().unwrap()))
                .collect(),
        }
    }
}

/// A run and the pods it has.
pub(crate) struct World<'a> {
    pub script: &'a Script,
    pub run: Run,
    pub now: Timestamp,
    /// Pods that run: name to node id, node name and the pod.
    pub running: BTreeMap<String, (String, String, Value)>,
    pub commands: Vec<String>,
    pub wake: Option<Timestamp>,
    /// The workflow as the API has it: kept by patches alone.
    pub stored: Value,
    /// What was told to be counted.
    pub metrics: Vec<windlass_engine::metrics::Metric>,
    locks: LockRoom,
    caches: Caches,
    starts: BTreeMap<String, usize>,
    pub created: BTreeMap<String, usize>,
}

impl<'a> World<'a> {
    pub(crate) fn new(script: &'a Script) -> Self {
        let mut stored = script.workflow.clone();
        stored["metadata"]["uid"] = json!("uid-1");
        stored["metadata"]["namespace"] = json!("default");
        stored["metadata"]["creationTimestamp"] = json!("2030-01-01T00:00:00Z");
        let workflow: Workflow = serde_json::from_value(stored.clone()).unwrap();
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let run = Run::load(&workflow, &Config::default());
        Self {
            script,
            run,
            now,
            running: BTreeMap::new(),
            commands: Vec::new(),
            wake: None,
            stored,
            locks: LockRoom::new("default/w", &script.objects),
            metrics: Vec::new(),
            caches: Caches::new(&script.objects),
            starts: BTreeMap::new(),
            created: BTreeMap::new(),
        }
    }

    /// Loads the run anew from what is stored, and tells it what there is.
    pub(crate) fn reload(&mut self) {
        let workflow: Workflow = serde_json::from_value(self.stored.clone()).unwrap();
        self.run = Run::load(&workflow, &Config::default());
        let mut seen: Vec<Observation> =
            self.running.values().map(|(_, _, pod)| Observation::Pod(pod.clone())).collect();
        seen.push(Observation::Surveyed);
        self.step(seen);
    }

    /// One step and all that follows at once; true when the run has ended.
    pub(crate) fn step(&mut self, mut seen: Vec<Observation>) -> bool {
        for (name, seconds) in &self.script.held {
            let until = "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(*seconds);
            self.locks.foreign(name, self.now < until);
        }
        seen.extend(self.locks.answers());
        loop {
            let decision = self.run.step(&seen, self.now);
            let patch = self.run.take_patch();
            assert_eq!(decision.status_changed, patch.is_some(), "a change is a patch");
            if let Some(patch) = patch {
                merge(&mut self.stored, &patch);
            }
            let told = &self.stored["status"]["synchronization"];
            let newly = |c: &Command| matches!(c, Command::CreatePod { .. });
            if decision.write_first && decision.commands.iter().any(newly) {
                assert!(!told.is_null(), "what is held is in the status before a pod is made");
            }
            self.wake = self
                .script
                .held
                .iter()
                .map(|(_, seconds)| {
                    "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(*seconds)
                })
                .filter(|at| *at > self.now)
                .chain(decision.wake)
                .min();
            seen = Vec::new();
            self.metrics.extend(decision.metrics);
            for command in decision.commands {
                self.perform(command, &mut seen);
            }
            seen.extend(self.locks.answers());
            if decision.completed {
                return true;
            }
            if seen.is_empty() {
                return false;
            }
        }
    }

    fn perform(&mut self, command: Command, seen: &mut Vec<Observation>) {
        match command {
            Command::CreatePod { node_id, name, mut pod } => {
                let attempt = pod["metadata"]["annotations"]["windlass.dev/attempt"].clone();
                if let Some((_, _, have)) = self.running.get(&name)
                    && have["metadata"]["annotations"]["windlass.dev/attempt"] == attempt
                {
                    return;
                }
                let node =
                    pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"].as_str().unwrap().to_owned();
                let where_to = match &pod["spec"]["affinity"] {
                    Value::Null => String::new(),
                    affinity => format!(" with affinity {affinity}"),
                };
                self.commands.push(format!("create {node}{where_to}"));
                *self.created.entry(name.clone()).or_default() += 1;
                pod["metadata"]["uid"] = json!(format!("{name}-{attempt}"));
                let main = json!({"name": "main", "ready": true, "state": {"running": {}}});
                let script = self.script.pods.get(&node);
                let ip = script.and_then(|s| s["ip"].as_str()).unwrap_or("10.42.0.9");
                if let Some(host) = script.and_then(|s| s["host"].as_str()) {
                    pod["spec"]["nodeName"] = json!(host);
                }
                pod["status"] = json!({"phase": "Running", "podIP": ip, "containerStatuses": [main]});
                seen.push(Observation::Pod(pod.clone()));
                self.running.insert(name, (node_id, node, pod));
            }
            Command::AskLocks { .. } | Command::ReleaseLocks { .. } => {
                self.commands.extend(self.locks.perform(&command));
            }
            Command::LoadCache { node_id, cache, .. } => seen.push(self.caches.load(node_id, &cache)),
            Command::SaveCache { cache, key, entry } => {
                self.commands.push(format!("remember {key} in {cache}: {entry}"));
                self.caches.save(&cache, &key, &entry);
            }
            Command::FetchTemplate { cluster, name } => {
                let kind = if cluster { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
                seen.push(Observation::Template { cluster, object: self.object(kind, &name), name });
            }
            Command::FetchPlugins => {
                let is_plugin = |o: &&Value| {
                    o["metadata"]["labels"]["workflows.argoproj.io/configmap-type"] == windlass_engine::PLUGIN_KIND
                };
                let objects = self.script.objects.iter().filter(is_plugin).cloned().collect();
                seen.push(Observation::Plugins { objects });
            }
            Command::FetchReport { name } => seen.push(Observation::NoTaskResult { name }),
            Command::FetchConfigMap { name } => {
                seen.push(Observation::ConfigMap { object: self.object("ConfigMap", &name), name });
            }
            Command::CreateClaim { name, claim } => {
                self.commands.push(format!("claim {name} of {}", claim["spec"]["resources"]["requests"]["storage"]));
                seen.push(match self.object("PersistentVolumeClaim", &name) {
                    Some(_) => {
                        let message = format!("{name} is somebody else's");
                        Observation::ClaimRefused { name, message, transient: false }
                    }
                    None => Observation::ClaimMade { name },
                });
            }
            Command::CreateBudget { name, budget } => {
                let line = format!("budget {name}: {}", budget["spec"]);
                if !self.commands.contains(&line) {
                    self.commands.push(line);
                }
            }
            Command::DeleteBudget { name } => self.commands.push(format!("no budget {name}")),
            Command::DeleteClaim { name } => self.commands.push(format!("release {name}")),
            Command::DeletePod { name, .. } | Command::StopPod { name, .. } => {
                if let Some((_, node, _)) = self.running.remove(&name) {
                    self.commands.push(format!("stop {node}"));
                }
            }
            Command::ReleasePod { .. } => {}
        }
    }

    fn object(&self, kind: &str, name: &str) -> Option<Value> {
        self.script.objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).cloned()
    }

    /// Ends a pod as the script says; observations to tell.
    pub(crate) fn end(&mut self, pod_name: &str) -> Vec<Observation> {
        let (id, node, mut pod) = self.running.remove(pod_name).unwrap();
        let start = self.starts.entry(node.clone()).or_default();
        *start += 1;
        let mut script = self.script.pods.get(&node).cloned().unwrap_or_default();
        if let Value::Array(list) = &script {
            script = list.get(*start - 1).cloned().unwrap_or_default();
        }
        let code = script["exit"].as_i64().unwrap_or(0);
        let mut seen = Vec::new();
        let task: Value =
            serde_json::from_str(pod["metadata"]["annotations"]["windlass.dev/task"].as_str().unwrap()).unwrap();
        let mut outputs = json!({});
        if task["includeResult"] == true {
            outputs["result"] = json!(script["result"].as_str().unwrap_or_default());
        }
        for parameter in task["outputs"]["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let mut out = parameter.clone();
            out["value"] = script["parameters"][name].clone();
            outputs["parameters"].as_array_mut().map(|l| l.push(out.clone())).unwrap_or_else(|| {
                outputs["parameters"] = json!([out]);
            });
        }
        if task["outputs"]["artifacts"].is_array() {
            outputs["artifacts"] = task["outputs"]["artifacts"].clone();
        }
        // The executor had its say and nothing to give.
        let empty = script["unreported"] == true;
        if empty {
            outputs = json!({});
        }
        if empty || outputs != json!({}) {
            let labels = json!({"workflows.argoproj.io/report-outputs-completed": "true"});
            let report = json!({"metadata": {"name": id, "labels": labels}, "outputs": outputs});
            seen.push(Observation::TaskResult(serde_json::from_value(report).unwrap()));
        }
        pod["status"]["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
        let reason = if code == 0 { "Completed" } else { "Error" };
        let began = "2030-01-01T00:00:00Z";
        let ended = json!({"terminated": {"exitCode": code, "reason": reason, "message": script["message"], "startedAt": began}});
        pod["status"]["containerStatuses"] = json!([{"name": "main", "state": ended}]);
        if script["lost"] == true {
            pod["status"] = json!({"phase": "Failed", "reason": "NodeLost", "message": "the node was lost"});
        }
        seen.push(Observation::Pod(pod));
        seen
    }

    /// Lets every pod end, in the order that `pick` says, until the run has ended or nothing goes on.
    pub(crate) fn run_out(&mut self, mut pick: impl FnMut(usize) -> usize, mut after: impl FnMut(&mut Self)) {
        let mut done = self.step(vec![Observation::Surveyed]);
        for _ in 0..100_000 {
            if done {
                return;
            }
            // Daemons go on, unless their script says how they end.
            let names: Vec<String> = self.running.keys().filter(|n| self.ends(n)).cloned().collect();
            if names.is_empty() {
                let Some(at) = self.wake else { return };
                self.now = self.now.max(at);
                done = self.step(Vec::new());
            } else {
                let seen = self.end(&names[pick(names.len()) % names.len()]);
                self.now = self.now.checked_add(SignedDuration::from_secs(1)).unwrap();
                done = self.step(seen);
            }
            if !done {
                after(self);
            }
        }
    }

    /// Lets only those pods end that the script names, and only so often; time does not go on.
    pub(crate) fn run_scripted(&mut self) {
        let mut done = self.step(vec![Observation::Surveyed]);
        while !done {
            let named = |n: &&String| {
                let node = &self.running[*n].1;
                let left =
                    |v: &Value| v.as_array().is_none_or(|l| self.starts.get(node).copied().unwrap_or(0) < l.len());
                self.script.pods.get(node).is_some_and(left)
            };
            let Some(name) = self.running.keys().find(named).cloned() else { return };
            let seen = self.end(&name);
            self.now = self.now.checked_add(SignedDuration::from_secs(1)).unwrap();
            done = self.step(seen);
        }
    }

    fn ends(&self, pod_name: &str) -> bool {
        let (id, node, _) = &self.running[pod_name];
        let script = self.script.pods.get(node);
        script.is_some() || self.run.node(id).is_none_or(|n| n.daemoned != Some(true))
    }

    /// The outcome as text.
    pub(crate) fn told(&self) -> String {
        let status = self.run.status();
        if status.phase.is_completed() {
            assert_eq!(self.locks.holders(), 0, "no lock is left behind");
        }
        let mut out = format!("{}: {}\n", status.phase, status.message.as_deref().unwrap_or("-"));
        if let Some(outputs) = &status.outputs {
            out.push_str(&format!("outputs: {}\n", serde_json::to_string(outputs).unwrap()));
        }
        let mut rows: Vec<_> = status.nodes.values().collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let names: BTreeMap<&str, &str> = rows.iter().map(|n| (n.id.as_str(), n.name.as_str())).collect();
        for n in rows {
            out.push_str(&format!("{} {} {}", n.name, n.type_, n.phase));
            if let Some(message) = &n.message {
                out.push_str(&format!(" ({message})"));
            }
            let parameters = n.inputs.iter().flat_map(|i| &i.parameters);
            for p in parameters {
                out.push_str(&format!(" {}={:?}", p.name, p.value.as_ref().map_or("", |v| v.as_str())));
            }
            let after: Vec<&str> = n.children.iter().map(|c| names[c.as_str()]).collect();
            if !after.is_empty() {
                out.push_str(&format!(" -> {}", after.join(", ")));
            }
            out.push('\n');
        }
        out.push_str(&format!("--\n{}\n", self.commands.join("\n")));
        out
    }
}

/// A JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let map = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The locks of all runs, as `control` keeps them.
pub(crate) struct LockRoom {
    table: Table,
    run: Owner,
    config_maps: Vec<Value>,
    limits: BTreeMap<String, usize>,
    asked: std::collections::BTreeSet<String>,
}

impl LockRoom {
    pub(crate) fn new(workflow: &str, objects: &[Value]) -> Self {
        let config_maps = objects.iter().filter(|o| o["kind"] == "ConfigMap").cloned().collect();
        let run = Owner { workflow: workflow.to_owned(), uid: "uid-1".to_owned() };
        let limits = objects.iter().filter(|o| o["kind"] == "SyncLimit");
        let limits = limits.map(|o| (o["name"].as_str().unwrap().to_owned(), o["limit"].as_u64().unwrap() as usize));
        let limits = limits.collect();
        Self { table: Table::default(), run, config_maps, limits, asked: Default::default() }
    }

    fn holder(&self, node_id: &str) -> Holder {
        Holder { owner: self.run.clone(), node_id: node_id.to_owned() }
    }

    fn other() -> Holder {
        Holder { owner: Owner { workflow: "default/other".to_owned(), uid: String::new() }, node_id: String::new() }
    }

    /// What of the run holds or waits.
    pub(crate) fn holders(&self) -> usize {
        self.table.owners().filter(|o| **o == self.run).count()
    }

    /// Another run holds a lock, or has let it go.
    pub(crate) fn foreign(&mut self, name: &LockName, holds: bool) {
        let other = Self::other();
        if holds {
            self.table.restore(other, name.clone());
        } else {
            self.table.release(&other);
        }
    }

    /// Does a command; what it was in words.
    pub(crate) fn perform(&mut self, command: &Command) -> Option<String> {
        let line = match command {
            Command::AskLocks { node_id, locks, priority, created } => {
                let (priority, created) = (*priority, *created);
                let names: Vec<String> = locks.iter().map(ToString::to_string).collect();
                self.table.ask(Wish { holder: self.holder(node_id), locks: locks.clone(), priority, created });
                // A run that was loaded anew asks again.
                self.asked.insert(node_id.clone()).then(|| format!("ask {} for {node_id}", names.join(", ")))
            }
            Command::ReleaseLocks { node_id: Some(node_id) } => {
                self.table.release(&self.holder(node_id));
                self.asked.remove(node_id);
                Some(format!("let go {node_id}"))
            }
            Command::ReleaseLocks { node_id: None } => {
                self.table.forget(&self.run.clone());
                Some("let go of all".to_owned())
            }
            _ => return None,
        };
        for name in self.table.unread() {
            if let LockName::Database { namespace, name: key, .. } = &name {
                let limit = self.limits.get(&format!("{namespace}/{key}")).copied();
                self.table.set_size(&name, limit);
                continue;
            }
            let LockName::Semaphore { config_map, key, .. } = &name else { continue };
            let map = self.config_maps.iter().find(|o| o["metadata"]["name"] == *config_map);
            let size = map.and_then(|o| o["data"][key].as_str()?.trim().parse().ok());
            self.table.set_size(&name, size);
        }
        line
    }

    /// What the run is to be told.
    pub(crate) fn answers(&mut self) -> Vec<Observation> {
        let all = self.table.take_answers().into_iter().filter(|(holder, _)| holder.owner == self.run);
        all.map(|(holder, answer)| Observation::Locks { node_id: holder.node_id, answer }).collect()
    }
}

/// The ConfigMaps in which outputs are remembered.
pub(crate) struct Caches(BTreeMap<String, Value>);

impl Caches {
    pub(crate) fn new(objects: &[Value]) -> Self {
        let maps = objects.iter().filter(|o| o["kind"] == "ConfigMap");
        Self(maps.map(|o| (o["metadata"]["name"].as_str().unwrap().to_owned(), o.clone())).collect())
    }

    pub(crate) fn load(&self, node_id: String, config_map: &str) -> Observation {
        Observation::Cache { node_id, object: self.0.get(config_map).cloned() }
    }

    pub(crate) fn save(&mut self, config_map: &str, key: &str, entry: &str) {
        let map = self.0.entry(config_map.to_owned()).or_insert_with(|| json!({}));
        map["metadata"]["labels"] = json!({"workflows.argoproj.io/configmap-type": "Cache"});
        map["data"][key] = json!(entry);
    }
}
