//! Which names a template's tags may use, and whether the tags of a text are all among them. Holds names, no values.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use serde_json::Value;
use windlass_model::Template;
use windlass_model::template::{Sequence, TemplateKind};

use super::fill::Placeholders;
use super::names::is_parameter;
use super::text;

/// What is known everywhere in the workflow, with what stands for its value here.
pub(super) type Globals = BTreeMap<String, String>;

/// Stands for any name of a global artifact, where that name is itself not known yet.
pub(super) const ANY_ARTIFACT: &str = "workflow.outputs.artifacts.*";

/// Where a tag is looked at: other words are the user's own and nobody's business.
const ROOTS: [&str; 7] = ["item.", "steps.", "inputs.", "outputs.", "pod.", "workflow.", "tasks."];

/// What is known while running alone.
const LATER: [&str; 7] = [
    "outputs.",
    "workflow.creationTimestamp",
    "workflow.scheduledTime",
    "workflow.duration",
    "tasks.name",
    "steps.name",
    "node.name",
];

/// The names known in one template.
#[derive(Debug, Default)]
pub(super) struct Scope {
    names: HashSet<String>,
    any_item: bool,
    any_parameter: bool,
    any_artifact: bool,
}

/// Steps or tasks: how their members are called in tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'m> {
    /// `steps` or `tasks`.
    pub word: &'static str,
    /// The member's name.
    pub name: &'m str,
    /// Whether its outputs are those of a loop.
    pub looped: bool,
}

impl Scope {
    pub(super) fn add(&mut self, name: impl Into<String>) {
        self.names.insert(name.into());
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// What a loop's items give.
    pub(super) fn add_items(
        &mut self,
        items: &[Value],
        parameter: Option<&str>,
        sequence: Option<&Sequence>,
    ) -> Result<(), String> {
        let parameter = parameter.filter(|p| !p.is_empty());
        let ways = [!items.is_empty(), parameter.is_some(), sequence.is_some()];
        if ways.iter().filter(|way| **way).count() > 1 {
            return Err("only one of withItems, withParam, withSequence can be specified".to_owned());
        }
        for item in items {
            match item {
                Value::Array(list) => (0..list.len()).for_each(|i| self.add(format!("item.[{i}]"))),
                Value::Object(map) => map.keys().for_each(|key| self.add(format!("item.{key}"))),
                Value::Null => {}
                Value::String(_) | Value::Number(_) | Value::Bool(_) => self.add("item"),
            }
        }
        if parameter.is_some() {
            self.add("item");
            self.any_item = true;
        }
        if let Some(sequence) = sequence.filter(|_| parameter.is_none()) {
            if sequence.count.is_some() && sequence.end.is_some() {
                return Err("only one of count or end can be defined in withSequence".to_owned());
            }
            self.add("item");
        }
        Ok(())
    }

    /// What a step or task makes known by its end.
    pub(super) fn add_outputs(
        &mut self,
        member: Member<'_>,
        template: Option<&Rc<Template>>,
        globals: &mut Globals,
        placeholders: &mut Placeholders,
    ) {
        let Member { word, name, looped } = member;
        for field in ["id", "startedAt", "finishedAt", "hostNodeName"] {
            self.add(format!("{word}.{name}.{field}"));
        }
        let Some(template) = template else { return };
        if template.daemon == Some(true) {
            self.add(format!("{word}.{name}.ip"));
        }
        if has_result(template) {
            self.add(format!("{word}.{name}.outputs.result"));
            self.add(format!("{word}.{name}.exitCode"));
        }
        let known = |global: &Option<String>| global.clone().filter(|g| !g.is_empty());
        for parameter in &template.outputs.parameters {
            self.add(format!("{word}.{name}.outputs.parameters.{}", parameter.name));
            match known(&parameter.global_name) {
                Some(global) if is_parameter(&global) => self.any_parameter = true,
                Some(global) => {
                    globals.insert(format!("workflow.outputs.parameters.{global}"), placeholders.next());
                }
                None => {}
            }
        }
        for artifact in &template.outputs.artifacts {
            self.add(format!("{word}.{name}.outputs.artifacts.{}", artifact.name));
            match known(&artifact.global_name) {
                Some(global) if is_parameter(&global) => self.any_artifact = true,
                Some(global) => {
                    globals.insert(format!("workflow.outputs.artifacts.{global}"), placeholders.next());
                }
                None => {}
            }
        }
        if looped {
            if matches!(template.kind(), Some(TemplateKind::Script | TemplateKind::ContainerSet)) {
                self.add(format!("{word}.{name}.outputs.result"));
                self.add(format!("{word}.{name}.exitCode"));
            }
            self.add(format!("{word}.{name}.outputs.parameters"));
        }
    }
}

fn has_result(template: &Template) -> bool {
    let kind = template.kind();
    matches!(
        kind,
        Some(
            TemplateKind::Container
                | TemplateKind::Script
                | TemplateKind::Data
                | TemplateKind::Http
                | TemplateKind::Plugin
        )
    ) || template.container_set.as_ref().is_some_and(|set| set.containers.iter().any(|c| c["name"] == "main"))
}

/// The names known at one place of a template: those of the template, and some of its own.
pub(super) struct View<'s> {
    /// What the template knows.
    pub scope: &'s Scope,
    /// What is known besides.
    pub own: Option<&'s Scope>,
    /// What the whole workflow knows.
    pub globals: &'s Globals,
    /// Whether a task is over before this place: then its status is known.
    pub is_over: &'s dyn Fn(&str) -> bool,
}

impl View<'_> {
    fn any(&self, of: fn(&Scope) -> bool) -> bool {
        of(self.scope) || self.own.is_some_and(of)
    }

    fn knows(&self, name: &str) -> bool {
        if self.scope.knows(name) || self.own.is_some_and(|own| own.knows(name)) || self.globals.contains_key(name) {
            return true;
        }
        if name == "item" || name.starts_with("item.") {
            return self.any(|s| s.any_item);
        }
        if name.starts_with("workflow.outputs.parameters.") && self.any(|s| s.any_parameter) {
            return true;
        }
        if name.starts_with("workflow.outputs.artifacts.")
            && (self.any(|s| s.any_artifact) || self.globals.contains_key(ANY_ARTIFACT))
        {
            return true;
        }
        LATER.iter().any(|later| name.starts_with(later))
            || name
                .strip_prefix("tasks.")
                .and_then(|rest| rest.strip_suffix(".status"))
                .is_some_and(|task| (self.is_over)(task))
    }

    /// Every tag of a text is known here, or it is the first that is not.
    pub(super) fn resolve(&self, text: &str) -> Result<(), String> {
        text::tags(text, |tag| {
            let name = tag.trim();
            match tag.starts_with('=') || !ROOTS.iter().any(|root| name.starts_with(root)) || self.knows(name) {
                true => Ok(()),
                false => Err(format!("failed to resolve {{{{{tag}}}}}")),
            }
        })
    }
}
