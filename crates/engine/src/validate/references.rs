//! Rule: every `{{name}}` is known where it stands.

use std::rc::Rc;

use serde_json::Value;
use windlass_lang::expr::Expression;
use windlass_lang::yaml::child;
use windlass_lang::{Severity, suggest, tags};
use windlass_model::Template;

use super::graph;
use super::object::{Call, Known, Object, Placed, calls};
use super::report::Report;
use super::scope::{self, Scope};

/// Names that begin otherwise reach the container as they stand, so nobody knows whether they are meant for us.
const ROOTS: [&str; 7] = ["inputs.", "outputs.", "steps.", "tasks.", "workflow.", "pod.", "item."];

pub(super) fn check(object: &Object<'_>, placed: &Placed<'_>, known: &Known<'_>, report: &mut Report<'_>) {
    // Inline templates know what their callers know: they are looked at from there.
    if placed.pointer.ends_with("/inline") {
        return;
    }
    let mut base = scope::global(object, known);
    let stored = matches!(object.kind, "WorkflowTemplate" | "ClusterWorkflowTemplate");
    if stored || object.after().contains(placed.template.name.as_str()) {
        base.add("workflow.failures");
    }
    Checker { object, known, report }.template(placed.template, placed.raw, &placed.pointer, &base);
}

struct Checker<'c, 'r, 'd> {
    object: &'c Object<'c>,
    known: &'c Known<'c>,
    report: &'r mut Report<'d>,
}

impl Checker<'_, '_, '_> {
    fn template(&mut self, template: &Template, raw: &Value, pointer: &str, inherited: &Scope) {
        let mut scope = inherited.clone();
        scope::own(template, &mut scope);
        let all = calls(template, pointer);
        let prefix = if template.dag.is_some() { "tasks" } else { "steps" };
        let over: Vec<Rc<Scope>> = all
            .iter()
            .map(|call| {
                let mut over = Scope::default();
                scope::finished(self.object, call, prefix, self.known, &mut over);
                Rc::new(over)
            })
            .collect();
        let mut after = scope.clone();
        over.iter().for_each(|over| after.share(over));
        let group = template.steps.is_some() || template.dag.is_some();
        let Value::Object(fields) = raw else { return };
        for (key, value) in fields {
            if key != "steps" && key != "dag" {
                self.value(value, &child(pointer, key), if group { &after } else { &scope }, None);
            }
        }
        if let Some(target) = raw.pointer("/dag/target") {
            self.value(target, &format!("{pointer}/dag/target"), &after, None);
        }
        let edges = template.dag.as_ref().map(|d| graph::edges(&d.tasks)).unwrap_or_default();
        let ancestors = graph::Ancestors::of(&edges);
        for (call, own) in all.iter().zip(&over) {
            let mut before = scope.clone();
            let earlier = |other: &Call<'_>| match call.task {
                Some(_) => ancestors.has(call.name, other.name) || other.name.contains("{{"),
                None => other.group < call.group,
            };
            let earlier = all.iter().zip(&over).filter(|(other, _)| earlier(other));
            earlier.for_each(|(_, over)| before.share(over));
            // Items stay in scope for the steps behind, as Argo has it.
            if call.task.is_none() {
                let behind = |other: &&Call<'_>| other.pointer != call.pointer;
                all.iter().take_while(behind).for_each(|other| scope::items(other, &mut before));
            }
            self.call(call, own, &before, &Around { call, all: &all, prefix, after: &after });
        }
    }

    fn call(&mut self, call: &Call<'_>, over: &Rc<Scope>, before: &Scope, around: &Around<'_, '_>) {
        let mut own = before.clone();
        scope::items(call, &mut own);
        // The whole call knows what its inline template takes.
        for input in call.inline.iter().flat_map(|t| &t.inputs.parameters) {
            own.add(format!("inputs.parameters.{}", input.name));
        }
        let mut after = own.clone();
        after.share(over);
        after.add("workflow.failures");
        let Some(Value::Object(fields)) = self.object.document.value.pointer(&call.pointer) else { return };
        for (key, value) in fields {
            let at = child(&call.pointer, key);
            match key.as_str() {
                "inline" => {
                    if let Some(template) = call.inline {
                        self.template(template, value, &at, &own);
                    }
                }
                "hooks" => self.value(value, &at, &after, Some(around)),
                _ => self.value(value, &at, &own, Some(around)),
            }
        }
    }

    fn value(&mut self, value: &Value, pointer: &str, scope: &Scope, around: Option<&Around<'_, '_>>) {
        match value {
            Value::String(text) => self.text(text, pointer, scope, around),
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.value(item, &format!("{pointer}/{i}"), scope, around);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    self.value(value, &child(pointer, key), scope, around);
                }
            }
            _ => {}
        }
    }

    /// A tag without an end runs on to the next one that has one, and Argo finds no such name.
    fn unclosed(&mut self, text: &str, pointer: &str) {
        let Some(begin) = text.rfind("{{").filter(|b| !text[*b..].contains("}}")) else { return };
        if ROOTS.iter().any(|r| text[begin + 2..].trim_start().starts_with(r)) {
            let message = "this tag has no end: `}}` is missing";
            self.report.error_in("argo::unclosed-tag", pointer, begin..text.len(), message);
        }
    }

    fn text(&mut self, text: &str, pointer: &str, scope: &Scope, around: Option<&Around<'_, '_>>) {
        self.unclosed(text, pointer);
        for tag in tags::find(text) {
            if let tags::TagKind::Expression(expression, range) = &tag.kind
                && let Err(fault) = Expression::parse(expression)
            {
                // Argo sees this when it runs.
                let at = range.start + fault.range.start..range.start + fault.range.end;
                let message = format!("this expression cannot be read: {}", fault.message);
                self.report.warning_in("argo::bad-expression", pointer, at, message);
            }
            let Some(name) = tag.name() else { continue };
            if !ROOTS.iter().any(|r| name.starts_with(r)) || scope.knows(name) {
                continue;
            }
            let range = tag.range.clone();
            // A task that is there and not waited for has a fault of its own.
            if let Some(around) = around
                && let Some(rest) = name.strip_prefix(around.prefix).and_then(|r| r.strip_prefix('.'))
                && let Some(other) = named(around.all, rest)
                && !scope.knows(&format!("{}.{}.id", around.prefix, other.name))
            {
                let (code, message, help) = order(around.call, other);
                let severity = around.severity(other, name, text, pointer);
                self.report.part(severity, code, pointer, range, message);
                self.report.help(help);
                continue;
            }
            self.report.error_in("argo::unknown-reference", pointer, range, format!("`{name}` is not known here"));
            let root = name.split('.').next().unwrap_or("");
            if !self.report.suggest(name, scope.names().filter(|n| alike(name, n))) {
                match root {
                    "item" => self.report.help("only steps and tasks with `withItems` or the like have an item"),
                    "workflow" if name.starts_with("workflow.failures") => {
                        self.report.help("only exit handlers know how the workflow ended");
                    }
                    _ => {}
                }
            }
            // The suggestion replaces the name within the tag, not the tag.
            self.report.fix_within(name);
        }
    }
}

/// The call that a text belongs to, and those beside it.
struct Around<'a, 'o> {
    call: &'a Call<'o>,
    all: &'a [Call<'o>],
    prefix: &'a str,
    /// What is known when all are over.
    after: &'a Scope,
}

impl Around<'_, '_> {
    /// Argo takes some references to what is not over yet, and finds at the run that they have no value.
    fn severity(&self, other: &Call<'_>, name: &str, text: &str, pointer: &str) -> Severity {
        let place = |call: &Call<'_>| self.all.iter().position(|c| c.pointer == call.pointer);
        let status = name.ends_with(".status");
        let taken = match self.call.task {
            // A task may name all but the status of any other; what it passes on as a whole it must wait for.
            Some(task) => {
                let passed_on = pointer
                    .strip_prefix(self.call.pointer.as_str())
                    .is_some_and(|p| p.starts_with("/arguments/") && (p.ends_with("/value") || p.ends_with("/from")));
                let own = other.pointer == self.call.pointer && !task.hooks.is_empty();
                (!status || own) && !(passed_on && text.starts_with("{{tasks."))
            }
            None if other.pointer == self.call.pointer => status,
            None => place(other) < place(self.call),
        };
        if taken && self.after.knows(name) { Severity::Warning } else { Severity::Error }
    }
}

/// The same kind of name: every part is the same or a slip of the other, and the first is the same.
fn alike(wrong: &str, candidate: &str) -> bool {
    let (a, b): (Vec<_>, Vec<_>) = (wrong.split('.').collect(), candidate.split('.').collect());
    a.len() == b.len() && a.first() == b.first() && a.iter().zip(&b).all(|(a, b)| suggest::nearest(a, [*b]).is_some())
}

/// The call that `NAME.rest` names.
fn named<'a, 'o>(all: &'a [Call<'o>], rest: &str) -> Option<&'a Call<'o>> {
    all.iter().find(|c| rest.strip_prefix(c.name).is_some_and(|r| r.starts_with('.')))
}

fn order(call: &Call<'_>, other: &Call<'_>) -> (&'static str, String, String) {
    if call.name == other.name {
        let message = format!("`{}` cannot use its own outputs", call.name);
        return ("argo::missing-dependency", message, "only its hooks know them".to_owned());
    }
    if call.task.is_some() {
        let message = format!("`{}` uses `{}`, and does not wait for it", call.name, other.name);
        let help = format!("add `{}` to its `dependencies` or `depends`", other.name);
        return ("argo::missing-dependency", message, help);
    }
    let message = format!("`{}` uses `{}`, which does not run before it", call.name, other.name);
    ("argo::missing-dependency", message, format!("move `{}` to an earlier group of steps", other.name))
}
