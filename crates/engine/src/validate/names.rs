//! Rule: everything that needs a name has one, it is well formed, and no two siblings share it.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use windlass_lang::tags;
use windlass_model::{Arguments, Artifact, Parameter};

use super::object::{Object, calls};
use super::report::Report;

static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[a-zA-Z0-9][-a-zA-Z0-9]*$").expect("invariant: a constant pattern"));
static FIELD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[-a-zA-Z0-9_]+$").expect("invariant: a constant pattern"));

pub(super) fn check(object: &Object<'_>, report: &mut Report<'_>) {
    let limit = if object.kind == "CronWorkflow" { 52 } else { 63 };
    if let Some(name) = object.name().filter(|n| n.len() > limit) {
        let message = format!("a {}'s name has {limit} characters at most, this one has {}", object.kind, name.len());
        report.error("argo::bad-name", "/metadata/name", message);
    }
    let Some(spec) = &object.spec else { return };
    parameters(&spec.arguments.parameters, &format!("{}/arguments/parameters", object.base), report);
    artifacts(&spec.arguments.artifacts, &format!("{}/arguments/artifacts", object.base), report);
    let top =
        spec.templates.iter().enumerate().map(|(i, t)| (format!("{}/templates/{i}", object.base), t.name.as_str()));
    each(top, "template", &NAME, report);
    for placed in object.templates() {
        let (template, at) = (placed.template, &placed.pointer);
        parameters(&template.inputs.parameters, &format!("{at}/inputs/parameters"), report);
        artifacts(&template.inputs.artifacts, &format!("{at}/inputs/artifacts"), report);
        parameters(&template.outputs.parameters, &format!("{at}/outputs/parameters"), report);
        artifacts(&template.outputs.artifacts, &format!("{at}/outputs/artifacts"), report);
        let calls = calls(template, at);
        let word = if template.dag.is_some() { "task" } else { "step" };
        each(calls.iter().map(|c| (c.pointer.clone(), c.name)), word, &NAME, report);
        for call in &calls {
            let lists = [("parameters", parameters_of(call.arguments)), ("artifacts", artifacts_of(call.arguments))];
            for (list, names) in lists {
                let at = format!("{}/arguments/{list}", call.pointer);
                let names = names.into_iter().enumerate().map(|(i, n)| (format!("{at}/{i}"), n));
                each(names, list.trim_end_matches('s'), &FIELD, report);
            }
        }
        let outputs = &template.outputs;
        let globals = outputs.parameters.iter().map(|p| p.global_name.as_deref()).enumerate();
        let globals = globals.map(|(i, n)| (format!("{at}/outputs/parameters/{i}/globalName"), n));
        let arts = outputs.artifacts.iter().map(|a| a.global_name.as_deref()).enumerate();
        for (at, name) in globals.chain(arts.map(|(i, n)| (format!("{at}/outputs/artifacts/{i}/globalName"), n))) {
            let Some(name) = name.filter(|n| !n.is_empty() && !n.contains("{{")) else { continue };
            if !FIELD.is_match(name) {
                let message = format!("`{name}` is no name for an output: letters, digits, `-` and `_` only");
                report.error("argo::bad-name", &at, message);
            }
        }
    }
}

fn parameters_of(arguments: &Arguments) -> Vec<&str> {
    arguments.parameters.iter().map(|p| p.name.as_str()).collect()
}

fn artifacts_of(arguments: &Arguments) -> Vec<&str> {
    arguments.artifacts.iter().map(|a| a.name.as_str()).collect()
}

/// Whether a template, step, task or container may be called so.
pub(super) fn is_name(name: &str) -> bool {
    NAME.is_match(name)
}

/// A name with a word for each tag that is known when its template begins; Argo knows no others at that time, and of tasks,
/// templates and inputs none at all.
fn filled<'n>(name: &'n str, word: &str, at: &str) -> std::borrow::Cow<'n, str> {
    let begun = word == "step" || at.contains("/outputs/") || at.contains("/arguments/");
    if !begun || !name.contains("{{") {
        return name.into();
    }
    let mut out = name.to_owned();
    for tag in tags::find(name).into_iter().rev() {
        let known = |n: &str| !n.starts_with("item") && !n.starts_with("steps.") && !n.starts_with("tasks.");
        if tag.name().is_none_or(known) {
            out.replace_range(tag.range, "x");
        }
    }
    out.into()
}

fn parameters(all: &[Parameter], at: &str, report: &mut Report<'_>) {
    each(all.iter().enumerate().map(|(i, p)| (format!("{at}/{i}"), p.name.as_str())), "parameter", &FIELD, report);
}

fn artifacts(all: &[Artifact], at: &str, report: &mut Report<'_>) {
    each(all.iter().enumerate().map(|(i, a)| (format!("{at}/{i}"), a.name.as_str())), "artifact", &FIELD, report);
}

fn each<'n>(all: impl Iterator<Item = (String, &'n str)>, word: &str, form: &Regex, report: &mut Report<'_>) {
    let mut seen: HashMap<&str, String> = HashMap::new();
    for (pointer, name) in all {
        let at = format!("{pointer}/name");
        if name.is_empty() {
            report.error("argo::missing-name", &pointer, format!("this {word} needs a name"));
            continue;
        }
        if let Some(first) = seen.get(name) {
            report.error("argo::duplicate-name", &at, format!("there are two {word}s named `{name}`"));
            let first = first.clone();
            report.also(&first, "the first one");
            continue;
        }
        let as_begun = filled(name, word, &at);
        if !form.is_match(&as_begun) {
            let allowed = if word == "parameter" || word == "artifact" {
                "letters, digits, `-` and `_`"
            } else {
                "letters, digits and `-`"
            };
            report.error("argo::bad-name", &at, format!("`{name}` is no name for a {word}: {allowed} only"));
        } else if name.len() > 128 && form.as_str() == NAME.as_str() {
            report.error("argo::bad-name", &at, format!("a {word}'s name has 128 characters at most"));
        }
        seen.insert(name, at);
    }
}
