//! Suspending a run, resuming it or one of its suspend nodes, and setting what a suspend node was waiting for.
//!
//! A suspend node that runs waits for a person. Resuming makes it Succeeded: each output that was to be supplied takes its
//! default, and without one nothing is resumed. With a selector only the nodes that fit are resumed, as Argo does.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use windlass_model::{NodePhase, NodeStatus, NodeType, Time};

use super::{Selector, read, with_globals};

/// What somebody sets on suspend nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeValues {
    /// The phase: `Succeeded`, `Failed`, `Error`, `Skipped`.
    pub phase: Option<String>,
    /// A message.
    pub message: Option<String>,
    /// Values of outputs that were to be supplied.
    pub outputs: Vec<(String, String)>,
}

/// Keeps a run from beginning anything new.
pub fn suspend(workflow: &Value) -> Result<Value, String> {
    let (_, status) = read(workflow)?;
    if status.phase.is_completed() {
        return Err("cannot suspend completed workflows".to_owned());
    }
    Ok(json!({"spec": {"suspend": true}}))
}

/// Lets a suspended run go on: the run as a whole and each suspend node, or the nodes that fit.
pub fn resume(workflow: &Value, selector: &Selector, now: Timestamp) -> Result<Value, String> {
    if !selector.is_empty() {
        let values = NodeValues { phase: Some("Succeeded".to_owned()), ..NodeValues::default() };
        return set_node(workflow, selector, &values, now);
    }
    let mut patch = json!({});
    if workflow["spec"]["suspend"] == true {
        patch["spec"] = json!({"suspend": null});
    }
    change(workflow, selector, &mut patch, |row, change| {
        let mut parameters = row["outputs"]["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in &mut parameters {
            if !is_supplied(parameter) {
                continue;
            }
            let default = parameter["valueFrom"]["default"].clone();
            if default.is_null() {
                let name = parameter["name"].as_str().unwrap_or_default();
                return Err(format!(
                    "raw output parameter '{name}' has not been set and does not have a default value"
                ));
            }
            supply(parameter, default);
        }
        if !parameters.is_empty() {
            change.insert("outputs".to_owned(), json!({"parameters": parameters}));
        }
        change.insert("phase".to_owned(), json!(NodePhase::Succeeded));
        change.insert("finishedAt".to_owned(), json!(Time::from_timestamp(now)));
        Ok(())
    })?;
    Ok(patch)
}

/// Sets values on the suspend nodes that fit and run.
pub fn set_node(workflow: &Value, selector: &Selector, values: &NodeValues, now: Timestamp) -> Result<Value, String> {
    let phase: Option<NodePhase> = match &values.phase {
        Some(phase) => {
            let read = serde_json::from_value(json!(phase));
            Some(read.map_err(|_| format!("'{phase}' is no phase: Succeeded, Failed, Error, Skipped"))?)
        }
        None => None,
    };
    let mut patch = json!({});
    let nothing = values.phase.is_none() && values.message.is_none() && values.outputs.is_empty();
    let found = change(workflow, selector, &mut patch, |row, change| {
        if let Some(phase) = phase {
            change.insert("phase".to_owned(), json!(phase));
            if phase.is_fulfilled() {
                change.insert("finishedAt".to_owned(), json!(Time::from_timestamp(now)));
            }
        }
        if let Some(message) = &values.message {
            change.insert("message".to_owned(), json!(message));
        }
        if values.outputs.is_empty() {
            return Ok(());
        }
        let Some(mut parameters) = row["outputs"]["parameters"].as_array().cloned() else {
            return Err("cannot set output parameters because node is not expecting any raw parameters".to_owned());
        };
        for (name, value) in &values.outputs {
            let Some(parameter) = parameters.iter_mut().find(|p| p["name"] == name.as_str()) else {
                return Err(format!("node is not expecting output parameter '{name}'"));
            };
            if !is_supplied(parameter) {
                return Err(format!(
                    "cannot set output parameter '{name}' because it does not use valueFrom.raw or it was already set"
                ));
            }
            supply(parameter, json!(value));
        }
        change.insert("outputs".to_owned(), json!({"parameters": parameters}));
        Ok(())
    })?;
    match found && !nothing {
        true => Ok(patch),
        false => Err("currently, set only targets suspend nodes: no suspend nodes matching the node field selector, \
                      or nothing to set"
            .to_owned()),
    }
}

fn is_supplied(parameter: &Value) -> bool {
    !parameter["valueFrom"]["supplied"].is_null()
}

fn supply(parameter: &mut Value, value: Value) {
    parameter["value"] = value;
    if let Some(fields) = parameter.as_object_mut() {
        fields.remove("valueFrom");
    }
}

/// Puts a change of every suspend node that runs and fits into the patch; whether there was one.
fn change(
    workflow: &Value,
    selector: &Selector,
    patch: &mut Value,
    mut how: impl FnMut(&Value, &mut Map<String, Value>) -> Result<(), String>,
) -> Result<bool, String> {
    let (_, status) = read(workflow)?;
    let waits = |n: &&NodeStatus| n.type_ == NodeType::Suspend && n.phase == NodePhase::Running && selector.matches(n);
    let (mut nodes, mut parameters) = (Map::new(), Vec::new());
    for node in status.nodes.values().filter(waits) {
        let row = &workflow["status"]["nodes"][&node.id];
        let mut change = Map::new();
        how(row, &mut change)?;
        if let Some(outputs) = change.get("outputs") {
            let set = outputs["parameters"].as_array().into_iter().flatten();
            parameters.extend(set.filter(|p| !p["value"].is_null()).cloned());
        }
        nodes.insert(node.id.clone(), Value::Object(change));
    }
    if nodes.is_empty() {
        return Ok(false);
    }
    patch["status"] = json!({"nodes": nodes});
    if let Some(outputs) = with_globals(&workflow["status"], &parameters) {
        patch["status"]["outputs"] = outputs;
    }
    Ok(true)
}
