//! WorkflowEventBindings: an event and a binding go in; whether they meet, and the workflow to create, come out. Pure: it
//! knows nothing of who sent the event, and creates nothing. What an event says becomes values of parameters, labels and
//! names, never YAML.
//!
//! | seen | decided |
//! |---|---|
//! | the selector does not hold, or nothing is to be submitted | nothing |
//! | it holds | a workflow of the template, with the binding's metadata and arguments |
//! | an expression is wrong, knows other names than an event has, or has a value of the wrong type | a fault, with its place |

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
pub use windlass_lang::expr::Env;
use windlass_lang::expr::{Expression, Value as Known};
use windlass_model::event_binding::{NAMES, WorkflowEventBinding};
use windlass_model::{ARGO_API_VERSION, labels};

/// One event, as it was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// The namespace that it was sent to.
    pub namespace: String,
    /// The last part of the address that it was sent to; often empty.
    pub discriminator: String,
    /// The headers that begin with `x-`, in small letters, with all their values.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The body.
    pub payload: Value,
}

/// What is wrong with a binding, in the light of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field: `spec.event.selector`.
    pub at: String,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

impl Event {
    /// What expressions know of it.
    pub fn environment(&self) -> Env {
        let mut env = Env::default();
        env.set("payload", Known::from(&self.payload));
        env.set("metadata", Known::from(&json!(self.headers)));
        env.set("namespace", Known::from(self.namespace.as_str()));
        env.set("discriminator", Known::from(self.discriminator.as_str()));
        env
    }
}

/// Whether a binding has something to submit for an event.
pub fn meets(binding: &WorkflowEventBinding, env: &Env) -> Result<bool, Fault> {
    let at = "spec.event.selector";
    match value(&binding.spec.event.selector, at, env)? {
        Known::Bool(holds) => Ok(holds && binding.spec.submit.is_some()),
        other => Err(fault(at, format!("this must come out as true or false; it comes out as {}", shown(&other)))),
    }
}

/// The workflow that a binding submits for an event. `template` is the template that it names, as the API has it: labels
/// and annotations of its `workflowMetadata` are there from the beginning, as Argo has it.
pub fn workflow(binding: &WorkflowEventBinding, env: &Env, template: &Value) -> Result<Value, Fault> {
    let Some(submit) = &binding.spec.submit else { return Err(fault("spec.submit", "there is nothing to submit")) };
    let reference = &submit.workflow_template_ref;
    let mut meta = json!({"generateName": format!("{}-", reference.name)});
    if let Some(namespace) = &binding.metadata.namespace {
        meta["namespace"] = json!(namespace);
    }
    let of_template =
        |field: &str| template["spec"]["workflowMetadata"][field].as_object().cloned().unwrap_or_default();
    let origin = if reference.cluster_scope { labels::CLUSTER_WORKFLOW_TEMPLATE } else { labels::WORKFLOW_TEMPLATE };
    let mut all = Map::from_iter([(origin.to_owned(), json!(reference.name))]);
    all.extend(of_template("labels"));
    let mut annotations = of_template("annotations");
    if let Some(own) = &submit.metadata {
        let text = |text: &str, at: String| match value(text, &at, env)? {
            Known::Text(text) => Ok(json!(text)),
            other => Err(fault(&at, format!("this must come out as a text; it comes out as {}", shown(&other)))),
        };
        for (field, said) in [("name", &own.name), ("generateName", &own.generate_name)] {
            if let Some(said) = said.as_deref().filter(|s| !s.is_empty()) {
                meta[field] = text(said, format!("spec.submit.metadata.{field}"))?;
            }
        }
        for (field, said, into) in
            [("labels", &own.labels, &mut all), ("annotations", &own.annotations, &mut annotations)]
        {
            for (key, expression) in said {
                into.insert(key.clone(), text(expression, format!("spec.submit.metadata.{field}[{key}]"))?);
            }
        }
    }
    all.insert(labels::EVENT_BINDING.to_owned(), json!(binding.metadata.name));
    meta["labels"] = Value::Object(all);
    if !annotations.is_empty() {
        meta["annotations"] = Value::Object(annotations);
    }
    let mut spec = json!({"workflowTemplateRef": {"name": reference.name}});
    if reference.cluster_scope {
        spec["workflowTemplateRef"]["clusterScope"] = json!(true);
    }
    let mut parameters = Vec::new();
    for (i, parameter) in submit.arguments.parameters.iter().enumerate() {
        let at = format!("spec.submit.arguments.parameters[{i}].valueFrom.event");
        let said = parameter.value_from.as_ref().and_then(|from| from.event.as_deref()).unwrap_or_default();
        if said.is_empty() {
            return Err(fault(
                &at,
                format!("the parameter `{}` has no expression: it is the only source", parameter.name),
            ));
        }
        let text = value(said, &at, env)?.tag_text();
        let text = text.ok_or_else(|| fault(&at, "JSON cannot hold this number"))?;
        parameters.push(json!({"name": parameter.name, "value": text}));
    }
    if !parameters.is_empty() {
        spec["arguments"] = json!({"parameters": parameters});
    }
    Ok(json!({"apiVersion": ARGO_API_VERSION, "kind": "Workflow", "metadata": meta, "spec": spec}))
}

fn fault(at: &str, message: impl Into<String>) -> Fault {
    Fault { at: at.to_owned(), message: message.into() }
}

/// A name that no event has, as in Argo a fault, for it would never have a value.
fn stranger(expression: &Expression) -> Option<&str> {
    let firsts = expression.names().iter().filter_map(|name| name.path.first());
    firsts.map(String::as_str).find(|first| !NAMES.contains(first))
}

fn value(text: &str, at: &str, env: &Env) -> Result<Known, Fault> {
    let expression = Expression::parse(text).map_err(|f| fault(at, f.message))?;
    if let Some(name) = stranger(&expression) {
        return Err(fault(at, format!("there is no `{name}` here: an event has {}", NAMES.join(", "))));
    }
    expression.evaluate(env).map_err(|f| fault(at, f.message))
}

/// What a value is, not what it says: an event may hold what is nobody else's business.
fn shown(value: &Known) -> &'static str {
    match value {
        Known::Null => "nothing",
        Known::Bool(_) => "true or false",
        Known::Int(_) | Known::Float(_) => "a number",
        Known::Text(_) => "a text",
        Known::List(_) => "a list",
        Known::Map(_) => "a map",
        Known::Time(_) => "a time",
        Known::Duration(_) => "a duration",
        Known::Version(_) => "a version",
    }
}
