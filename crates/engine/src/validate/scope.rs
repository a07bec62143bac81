//! Which names are known where. Holds names only, no values.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::Value;
use windlass_model::template::{ContainerSetTemplate, TemplateKind};
use windlass_model::{Template, WorkflowSpec};

use super::object::{Call, Found, Known, Object, calls};

/// Known names.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    names: BTreeSet<String>,
    /// Names that begin like this are known only while running, so all of them pass.
    open: Vec<String>,
    /// What is known besides, shared: what hundreds of tasks know of the same task before them.
    besides: Vec<Rc<Scope>>,
}

impl Scope {
    pub(super) fn add(&mut self, name: impl Into<String>) {
        self.names.insert(name.into());
    }

    pub(super) fn open(&mut self, prefix: impl Into<String>) {
        self.open.push(prefix.into());
    }

    pub(super) fn share(&mut self, other: &Rc<Scope>) {
        self.besides.push(other.clone());
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.names.contains(name)
            || self.open.iter().any(|p| name.starts_with(p.as_str()))
            || self.besides.iter().any(|s| s.knows(name))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        // What is shared shares nothing itself.
        let besides = self.besides.iter().flat_map(|s| &s.names);
        self.names.iter().chain(besides).map(String::as_str)
    }
}

/// What every template of an object knows.
pub(super) fn global(object: &Object<'_>, known: &Known<'_>) -> Scope {
    let mut scope = Scope::default();
    for name in [
        "name",
        "namespace",
        "uid",
        "mainEntrypoint",
        "serviceAccountName",
        "duration",
        "scheduledTime",
        "parameters",
        "parameters.json",
        "labels",
        "labels.json",
        "annotations",
        "annotations.json",
        "creationTimestamp",
        "status",
    ] {
        scope.add(format!("workflow.{name}"));
    }
    for prefix in ["workflow.creationTimestamp.", "workflow.duration", "workflow.scheduledTime", "cronworkflow."] {
        scope.open(prefix);
    }
    for (kind, keys) in [
        ("labels", ["workflows.argoproj.io/", "k8s-webhook-handler.io/"]),
        ("annotations", ["workflows.argoproj.io/", "k8s-webhook-handler.io/"]),
    ] {
        // Set by the engine and by whoever delivers an event.
        keys.iter().for_each(|key| scope.open(format!("workflow.{kind}.{key}")));
    }
    let at = if object.kind == "CronWorkflow" { "/spec/workflowMetadata" } else { "/metadata" };
    for kind in ["labels", "annotations"] {
        let keys = object.document.value.pointer(&format!("{at}/{kind}")).and_then(|v| v.as_object());
        keys.into_iter().flatten().for_each(|(key, _)| scope.add(format!("workflow.{kind}.{key}")));
    }
    let Some(spec) = &object.spec else { return scope };
    if spec.priority.is_some() {
        scope.add("workflow.priority");
    }
    of_spec(spec, &mut scope);
    let stored = matches!(object.kind, "WorkflowTemplate" | "ClusterWorkflowTemplate");
    if stored {
        // The workflow that uses it may have more.
        scope.open("workflow.parameters.");
        scope.open("workflow.outputs.");
    }
    if let Some(reference) = &spec.workflow_template_ref {
        match known.spec(reference.cluster_scope, object.namespace(), &reference.name) {
            Some(stored) => of_spec(&stored, &mut scope),
            None => scope.open("workflow."),
        }
    }
    for template in object.templates() {
        for call in calls(template.template, "") {
            if call.template_ref.is_none() {
                continue;
            }
            match known.by_call(object, &call) {
                Found::Template(template) => global_outputs(&template, &mut scope),
                _ => scope.open("workflow.outputs."),
            }
        }
    }
    scope
}

fn of_spec(spec: &WorkflowSpec, scope: &mut Scope) {
    for parameter in &spec.arguments.parameters {
        scope.add(format!("workflow.parameters.{}", parameter.name));
    }
    for artifact in &spec.arguments.artifacts {
        scope.add(format!("workflow.artifacts.{}", artifact.name));
    }
    if let Some(metadata) = &spec.workflow_metadata {
        let labels = metadata.labels.keys().chain(metadata.labels_from.keys());
        labels.for_each(|key| scope.add(format!("workflow.labels.{key}")));
        metadata.annotations.keys().for_each(|key| scope.add(format!("workflow.annotations.{key}")));
    }
    let inline = spec.templates.iter().flat_map(|t| calls(t, "")).filter_map(|c| c.inline);
    spec.templates.iter().chain(inline).for_each(|t| global_outputs(t, scope));
}

fn global_outputs(template: &Template, scope: &mut Scope) {
    let parameters = template.outputs.parameters.iter().map(|p| ("parameters", p.global_name.as_deref()));
    let artifacts = template.outputs.artifacts.iter().map(|a| ("artifacts", a.global_name.as_deref()));
    for (kind, name) in parameters.chain(artifacts) {
        match name {
            Some(name) if name.contains("{{") => scope.open(format!("workflow.outputs.{kind}.")),
            Some(name) if !name.is_empty() => scope.add(format!("workflow.outputs.{kind}.{name}")),
            _ => {}
        }
    }
}

/// What a template knows of itself.
pub(super) fn own(template: &Template, scope: &mut Scope) {
    scope.add("inputs.parameters");
    for input in &template.inputs.parameters {
        scope.add(format!("inputs.parameters.{}", input.name));
    }
    for input in &template.inputs.artifacts {
        scope.add(format!("inputs.artifacts.{}", input.name));
        scope.add(format!("inputs.artifacts.{}.path", input.name));
    }
    let makes_pod = [TemplateKind::Container, TemplateKind::ContainerSet, TemplateKind::Script, TemplateKind::Resource]
        .into_iter()
        .chain([TemplateKind::Data])
        .any(|kind| template.kind() == Some(kind));
    // `templateDefaults` may bring the kind.
    if makes_pod || template.kind().is_none() {
        scope.add("pod.name");
    }
    scope.add("steps.name");
    scope.add("tasks.name");
    // Paths of outputs, and outputs in metrics.
    scope.open("outputs.");
    if template.inputs.parameters.iter().any(|p| p.name.contains("{{")) {
        scope.open("inputs.parameters.");
    }
}

/// What others know of a step or task once it is over.
pub(super) fn finished(object: &Object<'_>, call: &Call<'_>, prefix: &str, known: &Known<'_>, scope: &mut Scope) {
    let at = format!("{prefix}.{}", call.name);
    if call.name.contains("{{") {
        scope.open(format!("{prefix}."));
        return;
    }
    for field in ["id", "status", "startedAt", "finishedAt", "hostNodeName"] {
        scope.add(format!("{at}.{field}"));
    }
    let Found::Template(template) = known.by_call(object, call) else {
        scope.open(format!("{at}."));
        return;
    };
    if template.daemon == Some(true) {
        scope.add(format!("{at}.ip"));
    }
    let has_main = |s: &ContainerSetTemplate| s.containers.iter().any(|c| c.get("name").is_some_and(|n| n == "main"));
    let speaks = match template.kind() {
        Some(TemplateKind::ContainerSet) => template.container_set.as_ref().is_some_and(has_main) || call.listed,
        Some(TemplateKind::Steps | TemplateKind::Dag | TemplateKind::Suspend | TemplateKind::Resource) => false,
        _ => true,
    };
    if speaks {
        scope.add(format!("{at}.outputs.result"));
        scope.add(format!("{at}.exitCode"));
    }
    if call.listed {
        scope.add(format!("{at}.outputs.parameters"));
    }
    for output in &template.outputs.parameters {
        scope.add(format!("{at}.outputs.parameters.{}", output.name));
        if output.name.contains("{{") {
            scope.open(format!("{at}.outputs."));
        }
    }
    for output in &template.outputs.artifacts {
        scope.add(format!("{at}.outputs.artifacts.{}", output.name));
    }
}

/// What the items of a loop bring: their keys where they are written down, anything where a step makes them.
pub(super) fn items(call: &Call<'_>, scope: &mut Scope) {
    if !call.looped {
        return;
    }
    scope.add("item");
    for item in call.items {
        match item {
            Value::Object(map) => map.keys().for_each(|key| scope.add(format!("item.{key}"))),
            Value::Array(list) => (0..list.len()).for_each(|i| scope.add(format!("item.[{i}]"))),
            _ => {}
        }
    }
    if call.listed && call.items.is_empty() {
        scope.open("item.");
    }
}
