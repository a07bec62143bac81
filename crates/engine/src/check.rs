//! What must hold of a spec before it runs: everything for which Argo's controller refuses a workflow when it picks it up,
//! in Argo's order and words, the first fault alone.
//!
//! `lint` ([`crate::validate`]) knows the same faults better, all at once and with their places; here the point is that a
//! workflow that Argo would not begin is not begun, and says the same. Never refuses what Argo takes. Each body is looked
//! at once, so that this costs what the spec is long.

mod arguments;
mod base;
mod dag;
mod fill;
mod leaf;
mod names;
mod outputs;
mod scope;
mod steps;
mod template;
mod text;
mod walk;
mod wire;

use std::collections::HashSet;

use serde_json::Value;
use windlass_model::template::TemplateRef;
use windlass_model::workflow::{PodGc, WorkflowSpec};
use windlass_model::{Arguments, ObjectMeta};

pub(crate) use base::Fetched;
use base::{Bases, Call, LOCAL};
use fill::Given;
use names::Form;
use walk::Walk;

/// What is looked at.
pub(crate) struct Subject<'a> {
    /// The workflow's name, labels and annotations, with the controller's defaults.
    pub meta: &'a ObjectMeta,
    /// The spec as it was submitted, with the controller's defaults where it refers to no template as a whole.
    pub spec: &'a WorkflowSpec,
    /// The spec that will run, where it comes from such a template.
    pub merged: Option<&'a WorkflowSpec>,
    /// The controller's defaults: a part of a workflow.
    pub defaults: Option<&'a Value>,
    /// The templates of other resources that calls name.
    pub fetched: &'a Fetched,
    /// Whether it is being submitted: what is linted may lack values of the workflow's parameters.
    pub submitted: bool,
}

/// The first thing that is wrong.
pub(crate) fn check(subject: &Subject<'_>) -> Result<(), String> {
    let Subject { meta, spec, .. } = subject;
    let name = meta.name.as_deref().unwrap_or_default();
    if name.len() > 63 {
        let length = name.len();
        return Err(format!("workflow name \"{name}\" must not be more than 63 characters long (currently {length})"));
    }
    let reference = spec.workflow_template_ref.as_ref();
    if reference.is_some() && !spec.templates.is_empty() {
        return Err("Templates is invalid field in spec if workflow referred WorkflowTemplate reference".to_owned());
    }
    // A resource that is not there was told before.
    let base = reference.and_then(|r| subject.fetched.get(&(r.cluster_scope, r.name.clone()))?.as_ref());
    let text = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let entrypoint = text(&spec.entrypoint).or_else(|| text(&base?.entrypoint));
    names::list(spec.templates.iter().map(|t| t.name.as_str()), Form::Field)
        .map_err(|wrong| format!("spec.templates{wrong}"))?;
    spec.executor_plugins.iter().try_for_each(plugin).map_err(|wrong| format!("spec.executorPlugins: {wrong}"))?;
    let given = merged_arguments(&spec.arguments, base.map(|base| &base.arguments));
    let look = if subject.submitted { arguments::check } else { arguments::check_unsubmitted };
    look("spec.arguments.", &given)?;

    let mut walk = Walk::new(Bases::new(name, spec, subject.merged, subject.fetched));
    globals(subject, &given, base, &mut walk);
    let Some(entrypoint) = entrypoint else { return Err("spec.entrypoint is required".to_owned()) };
    let calls = Calls { reference };
    calls.check(&entrypoint, Given::These(&given), &mut walk)?;
    if let Some(exit) = text(&spec.on_exit).or_else(|| text(&base?.on_exit)) {
        walk.know("workflow.failures");
        let templates = spec.templates.iter().chain(base.iter().flat_map(|base| &base.templates));
        let mut artifacts = templates.flat_map(|template| &template.outputs.artifacts);
        if artifacts.any(|a| a.global_name.as_deref().is_some_and(names::is_parameter)) {
            walk.know(scope::ANY_ARTIFACT);
        }
        calls.check(&exit, Given::These(&spec.arguments), &mut walk)?;
    }
    steps::hooks_of_run(spec)?;
    spec.pod_gc.as_ref().map_or(Ok(()), pod_gc)?;
    spec.pod_resources.as_ref().map_or(Ok(()), |r| template::pod_resources("spec.podResources", r))?;
    for template in &base.unwrap_or(spec).templates {
        let name = &template.name;
        calls.check(name, Given::Anything, &mut walk).map_err(|wrong| format!("templates.{name} {wrong}"))?;
    }
    Ok(())
}

/// Calls by the workflow itself: to its own templates, or to those of the template it refers to.
struct Calls<'a> {
    reference: Option<&'a windlass_model::workflow::WorkflowTemplateRef>,
}

impl Calls<'_> {
    fn check(&self, template: &str, given: Given<'_>, walk: &mut Walk<'_>) -> Result<(), String> {
        let reference = self.reference.map(|r| TemplateRef {
            name: r.name.clone(),
            template: template.to_owned(),
            cluster_scope: r.cluster_scope,
        });
        let call = match &reference {
            Some(reference) => Call { reference: Some(reference), ..Call::default() },
            None => Call { template, ..Call::default() },
        };
        walk.check(call, LOCAL, given)
    }
}

/// The workflow's own arguments count before those of the template it refers to, and of each name the first.
fn merged_arguments(own: &Arguments, base: Option<&Arguments>) -> Arguments {
    let Some(base) = base else { return own.clone() };
    let (mut parameters, mut artifacts) = (HashSet::new(), HashSet::new());
    Arguments {
        parameters: own
            .parameters
            .iter()
            .chain(&base.parameters)
            .filter(|p| parameters.insert(&p.name))
            .cloned()
            .collect(),
        artifacts: own.artifacts.iter().chain(&base.artifacts).filter(|a| artifacts.insert(&a.name)).cloned().collect(),
    }
}

/// What is known everywhere.
fn globals(subject: &Subject<'_>, given: &Arguments, base: Option<&WorkflowSpec>, walk: &mut Walk<'_>) {
    if !given.parameters.is_empty() {
        walk.know("workflow.parameters");
        walk.know("workflow.parameters.json");
    }
    for parameter in &given.parameters {
        let name = format!("workflow.parameters.{}", parameter.name);
        match &parameter.value {
            Some(value) => drop(walk.globals.insert(name, value.0.clone())),
            None => walk.know(&name),
        }
    }
    let Subject { meta, spec, .. } = subject;
    meta.annotations.keys().for_each(|key| walk.know(&format!("workflow.annotations.{key}")));
    meta.labels.keys().for_each(|key| walk.know(&format!("workflow.labels.{key}")));
    for metadata in [&spec.workflow_metadata, &base.and_then(|base| base.workflow_metadata.clone())] {
        let Some(metadata) = metadata else { continue };
        metadata.annotations.keys().for_each(|key| walk.know(&format!("workflow.annotations.{key}")));
        let labels = metadata.labels.keys().chain(metadata.labels_from.keys());
        labels.for_each(|key| walk.know(&format!("workflow.labels.{key}")));
    }
    let defaults = subject.defaults.map(|defaults| &defaults["spec"]["workflowMetadata"]);
    for (field, word) in [("annotations", "annotations"), ("labels", "labels"), ("labelsFrom", "labels")] {
        let keys = defaults.and_then(|d| d[field].as_object()).into_iter().flat_map(|map| map.keys());
        keys.for_each(|key| walk.know(&format!("workflow.{word}.{key}")));
    }
    if let Some(reference) = &spec.workflow_template_ref {
        let kind = if reference.cluster_scope { "cluster-workflow-template" } else { "workflow-template" };
        walk.know(&format!("workflow.labels.workflows.argoproj.io/{kind}"));
    }
    for name in ["annotations", "annotations.json", "labels", "labels.json", "status"] {
        walk.know(&format!("workflow.{name}"));
    }
    if let Some(priority) = spec.priority {
        walk.globals.insert("workflow.priority".to_owned(), priority.to_string());
    }
}

fn plugin(plugin: &Value) -> Result<(), String> {
    let container = &plugin["spec"]["sidecar"]["container"];
    let lacks = |path: &Value| path.is_null();
    if plugin["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        return Err("executor plugin metadata name is mandatory".to_owned());
    }
    if container["ports"].as_array().is_none_or(Vec::is_empty) {
        return Err("at least one port is mandatory".to_owned());
    }
    if lacks(&container["resources"]["requests"]) {
        return Err("resources requests are mandatory".to_owned());
    }
    if lacks(&container["resources"]["limits"]) {
        return Err("resources limits are mandatory".to_owned());
    }
    if lacks(&container["securityContext"]) {
        return Err("security context is mandatory".to_owned());
    }
    Ok(())
}

fn pod_gc(pod_gc: &PodGc) -> Result<(), String> {
    let strategy = pod_gc.strategy.as_deref().unwrap_or_default();
    let known = ["", "OnPodCompletion", "OnPodSuccess", "OnWorkflowCompletion", "OnWorkflowSuccess"];
    if !known.contains(&strategy) {
        return Err(format!("podGC.strategy unknown strategy '{strategy}'"));
    }
    let labels = pod_gc.label_selector.as_ref().and_then(|s| s["matchLabels"].as_object());
    for (key, value) in labels.into_iter().flatten() {
        if let Some(wrong) = value.as_str().and_then(label) {
            return Err(format!("podGC.labelSelector invalid: values[0][{key}]: Invalid value: {value}: {wrong}"));
        }
    }
    let expressions = pod_gc.label_selector.as_ref().and_then(|s| s["matchExpressions"].as_array());
    for expression in expressions.into_iter().flatten() {
        let operator = expression["operator"].as_str().unwrap_or_default();
        let values = expression["values"].as_array().filter(|v| !v.is_empty());
        let wrong = match (operator, values) {
            ("In" | "NotIn", None) => {
                let values = &expression["values"];
                format!("values: Invalid value: {values}: for 'in', 'notin' operators, values set can't be empty")
            }
            ("Exists" | "DoesNotExist", Some(values)) => {
                let values = Value::Array(values.clone());
                format!("values: Invalid value: {values}: values set must be empty for exists and does not exist")
            }
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => continue,
            _ => format!("\"{operator}\" is not a valid label selector operator"),
        };
        return Err(format!("podGC.labelSelector invalid: {wrong}"));
    }
    Ok(())
}

/// What is wrong with a label's value.
pub(crate) fn label(value: &str) -> Option<&'static str> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    if value.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    let right = value.bytes().all(inner) && ends(value.chars().next()) && ends(value.chars().next_back());
    (!right).then_some(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation \
         is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    )
}
