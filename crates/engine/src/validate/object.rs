//! One object under validation, its templates with their places, and the templates that calls can reach.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use serde_json::Value;
use windlass_lang::yaml::{Document, child};
use windlass_model::template::{DagTask, LifecycleHook, TemplateRef, WorkflowStep};
use windlass_model::{Arguments, Template, WorkflowSpec};

use super::Templates;

/// A document of one of our kinds.
pub(super) struct Object<'d> {
    pub(super) document: &'d Document,
    pub(super) kind: &'static str,
    /// Where the workflow's spec is.
    pub(super) base: &'static str,
    pub(super) spec: Option<WorkflowSpec>,
}

/// A template with its place.
pub(super) struct Placed<'o> {
    pub(super) template: &'o Template,
    pub(super) pointer: String,
    /// The template as written.
    pub(super) raw: &'o Value,
}

/// A step or a task: what both have.
pub(super) struct Call<'o> {
    pub(super) name: &'o str,
    pub(super) template: Option<&'o str>,
    pub(super) template_ref: Option<&'o TemplateRef>,
    pub(super) inline: Option<&'o Template>,
    pub(super) arguments: &'o Arguments,
    pub(super) when: Option<&'o str>,
    pub(super) hooks: Vec<(String, &'o LifecycleHook)>,
    pub(super) on_exit: Option<&'o str>,
    pub(super) looped: bool,
    /// It loops over items that are written down or made by a step, not over numbers.
    pub(super) listed: bool,
    /// The items that are written down.
    pub(super) items: &'o [Value],
    pub(super) pointer: String,
    /// The group of a step.
    pub(super) group: usize,
    pub(super) task: Option<&'o DagTask>,
}

impl<'d> Object<'d> {
    pub(super) fn new(
        document: &'d Document,
        kind: &'static str,
        base: &'static str,
        spec: Option<WorkflowSpec>,
    ) -> Self {
        Self { document, kind, base, spec }
    }

    pub(super) fn name(&self) -> Option<&'d str> {
        self.document.value.pointer("/metadata/name").and_then(Value::as_str)
    }

    pub(super) fn namespace(&self) -> Option<&'d str> {
        self.document.value.pointer("/metadata/namespace").and_then(Value::as_str)
    }

    /// Every template with its place, inline ones of steps and tasks too.
    pub(super) fn templates(&self) -> Vec<Placed<'_>> {
        let mut out = Vec::new();
        for (i, template) in self.spec.iter().flat_map(|s| s.templates.iter()).enumerate() {
            self.place(template, format!("{}/templates/{i}", self.base), &mut out);
        }
        out
    }

    fn place<'o>(&'o self, template: &'o Template, pointer: String, out: &mut Vec<Placed<'o>>) {
        let raw = self.document.value.pointer(&pointer).unwrap_or(&Value::Null);
        let inline: Vec<_> = calls(template, &pointer)
            .into_iter()
            .filter_map(|c| c.inline.map(|t| (t, child(&c.pointer, "inline"))))
            .collect();
        out.push(Placed { template, pointer, raw });
        for (template, pointer) in inline {
            self.place(template, pointer, out);
        }
    }

    /// The names of the templates that run after or beside the main work: from `onExit` and `hooks`, transitively.
    pub(super) fn after(&self) -> BTreeSet<&str> {
        let Some(spec) = &self.spec else { return BTreeSet::new() };
        let mut todo: Vec<&str> = spec.on_exit.as_deref().into_iter().collect();
        todo.extend(spec.hooks.values().filter_map(|h| h.template.as_deref()));
        let mut seen = BTreeSet::new();
        while let Some(name) = todo.pop() {
            if !seen.insert(name) {
                continue;
            }
            for template in spec.templates.iter().filter(|t| t.name == name) {
                for call in calls(template, "") {
                    todo.extend(call.template);
                    todo.extend(call.on_exit);
                    todo.extend(call.hooks.iter().filter_map(|(_, h)| h.template.as_deref()));
                }
            }
        }
        seen
    }
}

/// Every step or task of a template.
pub(super) fn calls<'o>(template: &'o Template, pointer: &str) -> Vec<Call<'o>> {
    let mut out = Vec::new();
    for (g, group) in template.steps.iter().flatten().enumerate() {
        for (s, step) in group.0.iter().enumerate() {
            out.push(of_step(step, format!("{pointer}/steps/{g}/{s}"), g));
        }
    }
    for (t, task) in template.dag.iter().flat_map(|d| &d.tasks).enumerate() {
        out.push(of_task(task, format!("{pointer}/dag/tasks/{t}")));
    }
    out
}

fn of_step(step: &WorkflowStep, pointer: String, group: usize) -> Call<'_> {
    Call {
        name: &step.name,
        template: step.template.as_deref().filter(|t| !t.is_empty()),
        template_ref: step.template_ref.as_ref(),
        inline: step.inline.as_deref(),
        arguments: &step.arguments,
        when: step.when.as_deref(),
        hooks: step.hooks.iter().map(|(k, h)| (child(&format!("{pointer}/hooks"), k), h)).collect(),
        on_exit: step.on_exit.as_deref(),
        looped: step.with_items.is_some() || step.with_param.is_some() || step.with_sequence.is_some(),
        listed: step.with_items.as_ref().is_some_and(|i| !i.is_empty())
            || step.with_param.as_ref().is_some_and(|p| !p.as_str().is_empty()),
        items: step.with_items.as_deref().unwrap_or_default(),
        pointer,
        group,
        task: None,
    }
}

fn of_task(task: &DagTask, pointer: String) -> Call<'_> {
    Call {
        name: &task.name,
        template: task.template.as_deref().filter(|t| !t.is_empty()),
        template_ref: task.template_ref.as_ref(),
        inline: task.inline.as_deref(),
        arguments: &task.arguments,
        when: task.when.as_deref(),
        hooks: task.hooks.iter().map(|(k, h)| (child(&format!("{pointer}/hooks"), k), h)).collect(),
        on_exit: task.on_exit.as_deref(),
        looped: task.with_items.is_some() || task.with_param.is_some() || task.with_sequence.is_some(),
        listed: task.with_items.as_ref().is_some_and(|i| !i.is_empty())
            || task.with_param.as_ref().is_some_and(|p| !p.as_str().is_empty()),
        items: task.with_items.as_deref().unwrap_or_default(),
        pointer,
        group: 0,
        task: Some(task),
    }
}

/// What a call or a reference leads to.
pub(super) enum Found {
    /// The template, and the arguments its resource brings along.
    Template(Box<Template>),
    /// The resource is not known.
    NoResource,
    /// The resource has no such template.
    NoTemplate(Vec<String>),
    /// It is only known while running: a tag stands in its name, or nobody could be asked.
    Later,
}

type Key = (bool, String, String);

/// The templates of other resources.
pub(super) struct Known<'k> {
    here: HashMap<(bool, String), Rc<WorkflowSpec>>,
    others: &'k dyn Templates,
    asked: RefCell<HashMap<Key, Option<Rc<WorkflowSpec>>>>,
}

impl<'k> Known<'k> {
    pub(super) fn new(objects: &[Object<'_>], others: &'k dyn Templates) -> Self {
        let mut here = HashMap::new();
        for object in objects {
            let cluster = match object.kind {
                "WorkflowTemplate" => false,
                "ClusterWorkflowTemplate" => true,
                _ => continue,
            };
            if let (Some(name), Some(spec)) = (object.name(), &object.spec) {
                here.insert((cluster, name.to_owned()), Rc::new(spec.clone()));
            }
        }
        Self { here, others, asked: RefCell::new(HashMap::new()) }
    }

    /// The spec of a stored template.
    pub(super) fn spec(&self, cluster: bool, namespace: Option<&str>, name: &str) -> Option<Rc<WorkflowSpec>> {
        if let Some(spec) = self.here.get(&(cluster, name.to_owned())) {
            return Some(Rc::clone(spec));
        }
        let key = (cluster, namespace.unwrap_or("").to_owned(), name.to_owned());
        let mut asked = self.asked.borrow_mut();
        asked.entry(key).or_insert_with(|| self.others.template(cluster, namespace, name).map(Rc::new)).clone()
    }

    /// Whether what is not found does not exist.
    pub(super) fn complete(&self) -> bool {
        self.others.complete()
    }

    /// The names of the stored templates in the documents.
    pub(super) fn names(&self, cluster: bool) -> impl Iterator<Item = &str> {
        self.here.keys().filter(move |(c, _)| *c == cluster).map(|(_, n)| n.as_str())
    }

    /// What a template reference leads to.
    pub(super) fn by_ref(&self, object: &Object<'_>, reference: &TemplateRef) -> Found {
        if reference.name.contains("{{") {
            return Found::Later;
        }
        match self.spec(reference.cluster_scope, object.namespace(), &reference.name) {
            None if self.complete() => Found::NoResource,
            None => Found::Later,
            Some(_) if reference.template.contains("{{") => Found::Later,
            Some(spec) => match spec.templates.iter().find(|t| t.name == reference.template) {
                Some(template) => Found::Template(Box::new(with_defaults(template, spec.template_defaults.as_deref()))),
                None => Found::NoTemplate(spec.templates.iter().map(|t| t.name.clone()).collect()),
            },
        }
    }

    /// What a template's name leads to within an object.
    pub(super) fn by_name(&self, object: &Object<'_>, name: &str) -> Found {
        if name.contains("{{") {
            return Found::Later;
        }
        let Some(spec) = &object.spec else { return Found::Later };
        let merged =
            spec.workflow_template_ref.as_ref().map(|r| (r, self.spec(r.cluster_scope, object.namespace(), &r.name)));
        let theirs = merged.as_ref().and_then(|(_, s)| s.clone());
        let all: Vec<&Template> = spec.templates.iter().chain(theirs.iter().flat_map(|s| s.templates.iter())).collect();
        match all.iter().find(|t| t.name == name) {
            Some(template) => Found::Template(Box::new(with_defaults(template, spec.template_defaults.as_deref()))),
            None if merged.is_some() && theirs.is_none() => Found::Later,
            None => Found::NoTemplate(all.iter().map(|t| t.name.clone()).collect()),
        }
    }

    /// What a step, task or hook leads to.
    pub(super) fn by_call(&self, object: &Object<'_>, call: &Call<'_>) -> Found {
        match (call.inline, call.template_ref, call.template) {
            (Some(template), ..) => Found::Template(Box::new(template.clone())),
            (_, Some(reference), _) => self.by_ref(object, reference),
            (_, _, Some(name)) => self.by_name(object, name),
            _ => Found::Later,
        }
    }
}

/// Inputs and outputs that `templateDefaults` add.
fn with_defaults(template: &Template, defaults: Option<&Template>) -> Template {
    let mut template = template.clone();
    let Some(defaults) = defaults else { return template };
    for parameter in &defaults.inputs.parameters {
        if template.inputs.parameter(&parameter.name).is_none() {
            template.inputs.parameters.push(parameter.clone());
        }
    }
    for artifact in &defaults.outputs.artifacts {
        if template.outputs.artifact(&artifact.name).is_none() {
            template.outputs.artifacts.push(artifact.clone());
        }
    }
    for parameter in &defaults.outputs.parameters {
        if template.outputs.parameter(&parameter.name).is_none() {
            template.outputs.parameters.push(parameter.clone());
        }
    }
    template
}
