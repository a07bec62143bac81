//! Rule: what the controller would refuse when it picks the workflow up ([`crate::check`]), where no other rule has an error.
//! The other rules say it better; this one sees to it that a manifest that passes is one that begins.

use std::collections::BTreeSet;

use serde_json::Value;
use windlass_lang::yaml::child;
use windlass_model::{ObjectMeta, WorkflowSpec};

use super::object::{Known, Object, calls};
use super::report::Report;
use super::scope;
use crate::check::{Fetched, Subject};

pub(super) fn check(object: &Object<'_>, known: &Known<'_>, report: &mut Report<'_>) {
    let Some(spec) =
        object.spec.as_ref().filter(|spec| object.kind == "Workflow" && spec.workflow_template_ref.is_none())
    else {
        return;
    };
    let Some(fetched) = fetch(object, spec, known) else { return };
    let meta: ObjectMeta = serde_json::from_value(object.document.value["metadata"].clone()).unwrap_or_default();
    let subject = Subject { meta: &meta, spec, merged: None, defaults: None, fetched: &fetched, submitted: false };
    let Err(message) = crate::check::check(&subject) else { return };
    // Who delivers an event gives a workflow labels and annotations that its manifest lacks.
    let is_given = |tag: &str| tag.starts_with("workflow.labels.") || tag.starts_with("workflow.annotations.");
    if tag(&message).is_none_or(|tag| !is_given(tag) || !scope::global(object, known).knows(tag)) {
        report.error("argo::invalid-spec", &place(object, &message), format!("the controller refuses it: {message}"));
    }
}

/// The stored templates that it reaches; nothing where one of them is not at hand.
fn fetch(object: &Object<'_>, spec: &WorkflowSpec, known: &Known<'_>) -> Option<Fetched> {
    let (mut fetched, mut seen) = (Fetched::new(), BTreeSet::new());
    let mut todo: Vec<(bool, String)> = references(spec);
    while let Some(key) = todo.pop() {
        if !seen.insert(key.clone()) {
            continue;
        }
        let found = known.spec(key.0, object.namespace(), &key.1)?;
        todo.extend(references(&found));
        fetched.insert(key, Some(found.as_ref().clone()));
    }
    Some(fetched)
}

fn references(spec: &WorkflowSpec) -> Vec<(bool, String)> {
    let mut todo: Vec<_> = spec.templates.iter().collect();
    let mut out = Vec::new();
    let hooks = spec.hooks.values().filter_map(|hook| hook.template_ref.as_ref());
    out.extend(hooks.map(|r| (r.cluster_scope, r.name.clone())));
    while let Some(template) = todo.pop() {
        for call in calls(template, "") {
            let hooks = call.hooks.iter().filter_map(|(_, hook)| hook.template_ref.as_ref());
            out.extend(call.template_ref.into_iter().chain(hooks).map(|r| (r.cluster_scope, r.name.clone())));
            todo.extend(call.inline);
        }
    }
    out
}

/// Where the fault is: the text with the tag that is named, in the last template that is.
fn place(object: &Object<'_>, message: &str) -> String {
    let Some(spec) = &object.spec else { return String::new() };
    let template = |name: &str| spec.templates.iter().position(|template| template.name == name);
    let mut pointer = object.base.to_owned();
    for part in message.split("templates.").skip(1) {
        let name = part.split(['.', ' ']).next().unwrap_or_default();
        if let Some(index) = template(name) {
            pointer = format!("{}/templates/{index}", object.base);
            let outputs = format!("{pointer}/outputs");
            if part[name.len()..].starts_with(".outputs") && object.document.value.pointer(&outputs).is_some() {
                pointer = outputs;
            }
        }
    }
    let value = object.document.value.pointer(&pointer);
    let found = tag(message).zip(value).and_then(|(tag, value)| text_with(value, tag, &pointer));
    found.unwrap_or(pointer)
}

/// The reference that cannot be resolved.
fn tag(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("failed to resolve {{")?;
    Some(rest.split_once("}}")?.0.trim())
}

/// The place of the first text in `value` that holds `tag` between braces.
fn text_with(value: &Value, tag: &str, pointer: &str) -> Option<String> {
    match value {
        Value::String(text) => {
            let mut tags = text.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
            tags.any(|(inner, _)| inner.trim() == tag).then(|| pointer.to_owned())
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| text_with(item, tag, &format!("{pointer}/{i}")))
        }
        Value::Object(fields) => fields.iter().find_map(|(key, item)| text_with(item, tag, &child(pointer, key))),
        _ => None,
    }
}
