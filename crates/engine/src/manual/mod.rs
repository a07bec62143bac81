//! What people do to a run by hand: retry, resubmit, suspend, resume, set a node's values. Only decisions: a workflow goes
//! in as the API has it, a merge patch or a new object comes out. Nothing is written here, and nothing here knows how far
//! a run in memory is; whoever applies a patch names the version that it was made of.

mod resubmit;
mod retry;
mod selector;
mod suspension;

pub use resubmit::{Resubmit, resubmit};
pub use retry::{Retried, Retry, retry};
pub use selector::Selector;
pub use suspension::{NodeValues, resume, set_node, suspend};

use serde_json::{Map, Value, json};
use windlass_model::{Workflow, WorkflowStatus};

fn read(workflow: &Value) -> Result<(Workflow, WorkflowStatus), String> {
    let typed: Workflow =
        serde_json::from_value(workflow.clone()).map_err(|e| format!("this workflow cannot be read: {e}"))?;
    let status = typed.status.clone().unwrap_or_default();
    Ok((typed, status))
}

/// Parameters of a list with some of them given anew: those that are not there yet are added.
fn with_parameters(arguments: &Value, given: &[(String, String)]) -> Value {
    let mut list = arguments["parameters"].as_array().cloned().unwrap_or_default();
    for (name, value) in given {
        let new = json!({"name": name, "value": value});
        match list.iter_mut().find(|p| p["name"] == name.as_str()) {
            Some(old) => *old = new,
            None => list.push(new),
        }
    }
    Value::Array(list)
}

/// Global outputs with what a node's parameters add to them.
fn with_globals(status: &Value, parameters: &[Value]) -> Option<Value> {
    let mut all = status["outputs"]["parameters"].as_array().cloned().unwrap_or_default();
    let before = all.len();
    let mut changed = false;
    for parameter in parameters {
        let Some(name) = parameter["globalName"].as_str().filter(|n| !n.is_empty()) else { continue };
        let new = json!({"name": name, "value": parameter["value"]});
        match all.iter_mut().find(|p| p["name"] == name) {
            Some(old) if *old == new => {}
            Some(old) => {
                *old = new;
                changed = true;
            }
            None => all.push(new),
        }
    }
    (changed || all.len() > before).then(|| json!({"parameters": all}))
}

/// The map under a key, made where it is not there.
fn child<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !parent[key].is_object() {
        parent[key] = json!({});
    }
    parent[key].as_object_mut().expect("invariant: made an object above")
}
