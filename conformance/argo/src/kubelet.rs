//! The stub kubelet: it says of each pod what a script says of it, after the time that the script says. A script is a
//! recording, or our own case. It runs nothing, and must never write anything but pods' statuses and reports.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::corpus::Recording;

/// What becomes of one pod.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// The status right after its creation.
    pub begins: Value,
    /// In between: when, and the status.
    pub meanwhile: Vec<(Timestamp, Value)>,
    /// When it ends, and how; nothing for what runs on.
    pub ends: Option<(Timestamp, Value)>,
    /// The step's report, there before the end.
    pub report: Option<Value>,
}

/// Who knows what becomes of pods.
pub trait Script {
    /// A pod that has been created just now; nothing when it is not in the script.
    fn fate(&mut self, pod: &Value, now: Timestamp) -> Option<Fate>;

    /// Pods that should have come and did not.
    fn left(&self) -> Vec<String>;
}

/// How completions are ordered.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// As recorded.
    Recorded,
    /// By chance, from a seed.
    Shuffled(u64),
}

/// The pods of a recording.
pub struct Recorded<'r> {
    recording: &'r Recording,
    pods: BTreeMap<String, Vec<&'r Value>>,
    order: Order,
}

impl<'r> Recorded<'r> {
    /// All of them.
    #[must_use]
    pub fn new(recording: &'r Recording, order: Order) -> Self {
        Self { recording, pods: recording.pods(), order }
    }
}

fn containers(status: &Value) -> impl Iterator<Item = &Value> {
    status["containerStatuses"].as_array().into_iter().flatten()
}

/// The parts of a status that the loops read.
fn kept(status: &Value) -> Value {
    let mut out = json!({});
    for key in ["phase", "reason", "message", "conditions", "containerStatuses", "initContainerStatuses"] {
        if !status[key].is_null() {
            out[key] = status[key].clone();
        }
    }
    out
}

/// A small, good enough mix of bits.
fn mixed(seed: u64, text: &str) -> u64 {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        state ^= state >> 29;
    }
    state
}

impl Script for Recorded<'_> {
    fn fate(&mut self, pod: &Value, now: Timestamp) -> Option<Fate> {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let recorded = self.pods.get_mut(&name).filter(|all| !all.is_empty())?.remove(0);
        let id = recorded["metadata"]["annotations"]["workflows.argoproj.io/node-id"].as_str().unwrap_or_default();
        let row = self.recording.node(id);
        let status = &recorded["status"];
        let ready = row["podIP"].is_string();
        let began = |s: &Value| s["state"]["terminated"]["startedAt"].is_string() || s["state"]["running"].is_object();
        let ran = self.recording.ran(&name) || containers(status).any(began);
        let mut begins = kept(status);
        begins["reason"] = Value::Null;
        begins["message"] = Value::Null;
        if ran {
            begins["phase"] = json!("Running");
            for container in begins["containerStatuses"].as_array_mut().into_iter().flatten() {
                container["ready"] = json!(ready);
                container["state"] = json!({"running": {}});
            }
            if ready {
                begins["podIP"] = row["podIP"].clone();
            }
        } else {
            begins["phase"] = json!("Pending");
            begins["containerStatuses"] = Value::Null;
            begins["initContainerStatuses"] = Value::Null;
        }
        let mut fate = Fate { begins: begins.clone(), report: self.recording.report(id).cloned(), ..Fate::default() };
        let ended = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
        if ended && !(ready && row["phase"] == "Succeeded") {
            let at = match self.order {
                Order::Recorded => self.recording.ended(recorded, row),
                Order::Shuffled(seed) => {
                    let wait = SignedDuration::from_millis(1_500 + (mixed(seed, &name) % 6_000) as i64);
                    now.checked_add(wait).unwrap_or(now)
                }
            };
            fate.ends = Some((at, kept(status)));
            // Containers that end before the pod does are told when they do.
            if ran && matches!(self.order, Order::Recorded) && containers(status).count() > 3 {
                fate.meanwhile = one_by_one(status, &begins, at);
            }
        }
        Some(fate)
    }

    fn left(&self) -> Vec<String> {
        self.pods.iter().filter(|(_, pods)| !pods.is_empty()).map(|(name, _)| name.clone()).collect()
    }
}

fn one_by_one(status: &Value, begins: &Value, end: Timestamp) -> Vec<(Timestamp, Value)> {
    let mut out = Vec::new();
    let mut so_far = begins.clone();
    let mut ends: Vec<(Timestamp, usize)> = containers(status)
        .enumerate()
        .filter_map(|(i, s)| Some((s["state"]["terminated"]["finishedAt"].as_str()?.parse().ok()?, i)))
        .collect();
    ends.sort();
    for (at, i) in ends {
        so_far["containerStatuses"][i] = status["containerStatuses"][i].clone();
        if at < end {
            out.push((at, so_far.clone()));
        }
    }
    out
}

fn containers_of(pod: &Value) -> impl Iterator<Item = &str> {
    pod["spec"]["containers"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str())
}

/// What a step's pod is to give, as our pods say it in an annotation, and Argo's to their executor.
fn task(pod: &Value) -> Option<Value> {
    if let Some(text) = pod["metadata"]["annotations"]["windlass.dev/task"].as_str() {
        return serde_json::from_str(text).ok();
    }
    let containers = ["initContainers", "containers"].into_iter().flat_map(|part| pod["spec"][part].as_array());
    let mut env = containers.flatten().flat_map(|c| c["env"].as_array().into_iter().flatten());
    let template = env.clone().find(|e| e["name"] == "ARGO_TEMPLATE")?["value"].as_str()?;
    let mut task: Value = serde_json::from_str(template).ok()?;
    task["includeResult"] = json!(env.any(|e| e["name"] == "ARGO_INCLUDE_SCRIPT_OUTPUT" && e["value"] == "true"));
    Some(task)
}

/// The pods of an own case: by node name, how each ends.
pub struct Scripted {
    pods: BTreeMap<String, Value>,
    starts: HashMap<String, usize>,
}

impl Scripted {
    /// A map of node names to `{exit, result, parameters, ip, lost, unreported, after, runs}` or lists of them, one for
    /// each time.
    #[must_use]
    pub fn new(pods: &Value) -> Self {
        let pods = pods.as_object().cloned().unwrap_or_default().into_iter().collect();
        Self { pods, starts: HashMap::new() }
    }
}

impl Script for Scripted {
    fn fate(&mut self, pod: &Value, now: Timestamp) -> Option<Fate> {
        let annotations = &pod["metadata"]["annotations"];
        let node = annotations["workflows.argoproj.io/node-name"].as_str().unwrap_or_default().to_owned();
        let start = self.starts.entry(node.clone()).or_default();
        let mut script = self.pods.get(&node).cloned().unwrap_or_default();
        if let Value::Array(list) = &script {
            script = list.get(*start).cloned().unwrap_or_default();
        }
        *start += 1;
        let task = task(pod)?;
        let code = script["exit"].as_i64().unwrap_or(0);
        let ip = script["ip"].as_str().unwrap_or("10.42.0.9");
        let all = |state: &dyn Fn(&str) -> Value, ready: bool| -> Vec<Value> {
            let container = |name: &str| json!({"name": name, "image": "i", "imageID": "", "restartCount": 0, "ready": ready, "state": state(name)});
            containers_of(pod).map(container).collect()
        };
        let running = all(&|_| json!({"running": {}}), true);
        let mut fate =
            Fate { begins: json!({"phase": "Running", "podIP": ip, "containerStatuses": running}), ..Fate::default() };
        if script["runs"] == true {
            return Some(fate);
        }
        let mut outputs = json!({});
        if script["unreported"] != true {
            if task["includeResult"] == true {
                outputs["result"] = json!(script["result"].as_str().unwrap_or_default());
            }
            let parameters = task["outputs"]["parameters"].as_array().cloned().unwrap_or_default();
            if !parameters.is_empty() {
                let given = |mut parameter: Value| {
                    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
                    parameter["value"] = script["parameters"][&name].clone();
                    parameter
                };
                outputs["parameters"] = parameters.into_iter().map(given).collect();
            }
            if task["outputs"]["artifacts"].is_array() {
                outputs["artifacts"] = task["outputs"]["artifacts"].clone();
            }
        }
        if script["unreported"] == true || outputs != json!({}) {
            fate.report = Some(json!({"outputs": outputs}));
        }
        let reason = if code == 0 { "Completed" } else { "Error" };
        let ended = |name: &str| match name {
            "main" => json!({"terminated": {"exitCode": code, "reason": reason}}),
            _ => json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        };
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let mut status = json!({"phase": phase, "containerStatuses": all(&ended, false)});
        if script["lost"] == true {
            status = json!({"phase": "Failed", "reason": "NodeLost", "message": "the node was lost"});
        }
        let after = SignedDuration::from_secs(script["after"].as_i64().unwrap_or(1));
        fate.ends = Some((now.checked_add(after).unwrap_or(now), status));
        Some(fate)
    }

    fn left(&self) -> Vec<String> {
        let come = |node: &&String| !self.starts.contains_key(*node);
        self.pods.keys().filter(come).cloned().collect()
    }
}
