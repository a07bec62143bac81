//! One pod on the virtual machine: what a kubelet would say of it, and what its executor would report. Makes values; the
//! clock is an argument.

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_engine::Observation;
use windlass_lang::Diagnostic;
use windlass_lang::suggest::nearest;
use windlass_model::task::Task;
use windlass_model::{Time, labels};

use crate::case::{At, Turn};
use crate::fields::fault;

/// An output that a step declares and that its turn says nothing about.
#[derive(Clone, Debug, PartialEq)]
pub struct Absent {
    /// The node.
    pub node_id: String,
    /// `parameters.NAME` or `result`.
    pub output: String,
}

/// A pod that is there.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) node_id: String,
    pub(crate) uid: String,
    pub(crate) turn: Turn,
    pub(crate) task: Task,
    pub(crate) began: Option<Timestamp>,
    object: Value,
}

fn stamp(at: Timestamp) -> String {
    Time::from_timestamp(at).to_string()
}

impl Pod {
    pub(crate) fn new(node_id: String, uid: String, mut object: Value, turn: Turn) -> Self {
        object["metadata"]["uid"] = json!(uid);
        object["spec"]["nodeName"] = json!("rehearsal");
        let task = object["metadata"]["annotations"]["windlass.dev/task"].as_str();
        let task = task.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
        Self { node_id, uid, turn, task, began: None, object }
    }

    fn containers(&self) -> Vec<String> {
        let all = self.object["spec"]["containers"].as_array().into_iter().flatten();
        all.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    }

    fn seen(&self, status: Value) -> Observation {
        let mut pod = self.object.clone();
        pod["status"] = status;
        Observation::Pod(pod)
    }

    /// As it is while it waits for a machine, or for its image.
    pub(crate) fn pending(&self) -> Observation {
        let mut status = json!({"phase": "Pending"});
        if let Some(message) = &self.turn.pending_message {
            let (reason, words) = message.split_once(": ").unwrap_or((message, ""));
            let waiting = json!({"name": "main", "state": {"waiting": {"reason": reason, "message": words}}});
            status["containerStatuses"] = json!([waiting]);
        }
        self.seen(status)
    }

    /// As it is while it runs.
    pub(crate) fn running(&mut self, now: Timestamp) -> Observation {
        self.began = Some(now);
        let state = json!({"running": {"startedAt": stamp(now)}});
        let all: Vec<Value> =
            self.containers().into_iter().map(|c| json!({"name": c, "ready": true, "state": state})).collect();
        self.seen(json!({"phase": "Running", "podIP": "10.42.0.9", "containerStatuses": all}))
    }

    /// As it is when it was told to end.
    pub(crate) fn stopped(&self, now: Timestamp) -> Observation {
        self.seen(self.ended_status(143, None, now))
    }

    fn ended_status(&self, code: i64, message: Option<&str>, now: Timestamp) -> Value {
        let from = stamp(self.began.unwrap_or(now));
        let all: Vec<Value> = self
            .containers()
            .into_iter()
            .map(|name| {
                let code = if name == "main" { code } else { 0 };
                let reason = if code == 0 { "Completed" } else { "Error" };
                let mut ended =
                    json!({"exitCode": code, "reason": reason, "startedAt": from, "finishedAt": stamp(now)});
                if let Some(message) = message.filter(|_| name == "main") {
                    ended["message"] = json!(message);
                }
                json!({"name": name, "state": {"terminated": ended}})
            })
            .collect();
        json!({"phase": if code == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": all})
    }

    /// As it is when it has ended by itself, with its executor's report before it.
    pub(crate) fn ended(&self, now: Timestamp) -> Ended {
        let turn = &self.turn;
        let mut out = Ended { absent: Vec::new(), faults: Vec::new(), seen: Vec::new() };
        if turn.lost {
            let status = json!({"phase": "Failed", "reason": "NodeLost", "message": "the node was lost"});
            out.seen.push(self.seen(status));
            return out;
        }
        let mut error = turn.error.clone();
        let outputs = self.outputs(&mut out, &mut error);
        let declared = self.task.include_result || !self.task.outputs.is_empty() || self.task.logs().next().is_some();
        if declared || error.is_some() {
            let labels = json!({labels::REPORT_OUTPUTS_COMPLETED: "true"});
            let mut report = json!({"metadata": {"name": self.node_id, "labels": labels}, "outputs": outputs});
            if let Some(error) = error {
                report["phase"] = json!("Error");
                report["message"] = json!(error);
            }
            if let Ok(report) = serde_json::from_value(report) {
                out.seen.push(Observation::TaskResult(report));
            }
        }
        out.seen.push(self.seen(self.ended_status(turn.exit, turn.message.as_deref(), now)));
        out
    }

    fn outputs(&self, out: &mut Ended, error: &mut Option<String>) -> Value {
        let (turn, task) = (&self.turn, &self.task);
        let went_well = turn.exit == 0 && turn.error.is_none();
        let absent = |output: String| Absent { node_id: self.node_id.clone(), output };
        let mut outputs = json!({});
        if task.include_result {
            match &turn.result {
                Some(result) => outputs["result"] = json!(result.value),
                None if went_well => out.absent.push(absent("result".to_owned())),
                None => {}
            }
        }
        let mut parameters = Vec::new();
        for declared in &task.outputs.parameters {
            let given = turn.parameters.iter().find(|(name, _)| name.value == declared.name);
            let default = declared.value_from.as_ref().and_then(|v| v.default.as_ref());
            let value = given.map(|(_, v)| v.value.clone()).or_else(|| default.map(|d| d.0.clone()));
            match value {
                Some(value) => {
                    let mut parameter = json!(declared);
                    parameter["value"] = json!(value);
                    parameters.push(parameter);
                }
                None if went_well => out.absent.push(absent(format!("parameters.{}", declared.name))),
                None => {}
            }
        }
        if !parameters.is_empty() {
            outputs["parameters"] = json!(parameters);
        }
        let mut artifacts = Vec::new();
        for declared in &task.outputs.artifacts {
            let there = match &turn.artifacts {
                Some(named) => named.iter().any(|n| n.value == declared.name),
                None => went_well,
            };
            if there {
                artifacts.push(declared);
            } else if went_well && !declared.optional && error.is_none() {
                let path = declared.path.as_deref().unwrap_or_default();
                *error = Some(format!("artifact \"{}\": {path} does not exist", declared.name));
            }
        }
        artifacts.extend(task.logs().map(|(_, log)| log));
        if !artifacts.is_empty() {
            outputs["artifacts"] = json!(artifacts);
        }
        let known: Vec<&str> = task.outputs.parameters.iter().map(|p| p.name.as_str()).collect();
        unknown(&turn.parameters, &known, &task.template, "parameter", &mut out.faults);
        let known: Vec<&str> = task.outputs.artifacts.iter().map(|a| a.name.as_str()).collect();
        let named: Vec<(At<String>, ())> = turn.artifacts.iter().flatten().map(|a| (a.clone(), ())).collect();
        unknown(&named, &known, &task.template, "artifact", &mut out.faults);
        outputs
    }
}

/// Outputs that nobody declares.
pub(crate) fn unknown<T>(
    given: &[(At<String>, T)],
    known: &[&str],
    template: &str,
    what: &str,
    faults: &mut Vec<Diagnostic>,
) {
    for (name, _) in given.iter().filter(|(name, _)| !known.contains(&name.value.as_str())) {
        let message = format!("template `{template}` has no output {what} `{}`", name.value);
        let fault = fault("case::unknown-output", message, name.span, "");
        let fault = match nearest(&name.value, known.iter().copied()) {
            Some(meant) => fault.help(format!("did you mean `{meant}`?")),
            None if known.is_empty() => fault.help(format!("it declares no output {what}s")),
            None => fault.help(format!("it has {}", known.join(", "))),
        };
        // A loop's pods all say the same.
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
}

/// What is to be told of a pod that ended.
pub(crate) struct Ended {
    pub(crate) seen: Vec<Observation>,
    pub(crate) absent: Vec<Absent>,
    pub(crate) faults: Vec<Diagnostic>,
}
