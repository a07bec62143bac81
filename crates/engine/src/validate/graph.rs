//! Rule: a DAG's tasks depend on tasks that are there, in no circle, and in one of the two ways of writing it.

use std::collections::{BTreeMap, BTreeSet};

use windlass_lang::depends::{Depends, Outcome};
use windlass_lang::{Severity, tags};
use windlass_model::template::{Dag, DagTask};

use super::object::{Object, Placed};
use super::report::Report;

/// What each task depends on directly.
pub(super) fn edges(tasks: &[DagTask]) -> BTreeMap<&str, BTreeSet<String>> {
    tasks
        .iter()
        .map(|task| {
            let mut all: BTreeSet<String> = task.dependencies.iter().flatten().cloned().collect();
            if let Some(Ok(depends)) = task.depends.as_deref().filter(|d| !d.is_empty()).map(Depends::parse) {
                all.extend(depends.tasks().into_iter().map(str::to_owned));
            }
            (task.name.as_str(), all)
        })
        .collect()
}

/// Every task that must be over before `task` begins.
pub(super) fn ancestors(edges: &BTreeMap<&str, BTreeSet<String>>, task: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut todo: Vec<&String> = edges.get(task).into_iter().flatten().collect();
    while let Some(name) = todo.pop() {
        if out.insert(name.clone()) {
            todo.extend(edges.get(name.as_str()).into_iter().flatten());
        }
    }
    out
}

pub(super) fn check(object: &Object<'_>, placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(dag) = &placed.template.dag else { return };
    let at = format!("{}/dag", placed.pointer);
    if dag.tasks.is_empty() {
        report.error("argo::empty-dag", &at, "a DAG needs at least one task");
    }
    let depends = dag.tasks.iter().position(|t| t.depends.as_deref().is_some_and(|d| !d.is_empty()));
    for (i, task) in dag.tasks.iter().enumerate() {
        let at = format!("{at}/tasks/{i}");
        written(task, &dag.tasks, &at, report);
        let listed = task.dependencies.as_ref().is_some_and(|d| !d.is_empty());
        // One way of writing it in a whole DAG.
        if let Some(first) = depends {
            let other = format!("{}/dag/tasks/{first}/depends", placed.pointer);
            if listed {
                let message = "`depends` and `dependencies` exclude each other in one DAG";
                report.error_key("argo::depends-and-dependencies", &format!("{at}/dependencies"), message);
                report.also(&other, "`depends` is used here");
            }
            if task.continue_on.is_some() {
                let message =
                    "`continueOn` has no meaning beside `depends`; say it there, as `A.Failed || A.Succeeded`";
                report.error_key("argo::depends-and-continue-on", &format!("{at}/continueOn"), message);
                report.also(&other, "`depends` is used here");
            }
        }
        if task.name.starts_with(|c: char| c.is_ascii_digit()) && (depends.is_some() || listed) {
            let message = format!("`{}` begins with a digit, which `depends` cannot name", task.name);
            report.error("argo::bad-name", &format!("{at}/name"), message);
        }
    }
    circles(&dag.tasks, &at, report);
    target(object, placed, dag, report);
}

/// The targets are tasks, also after the tags in them got their values: those of the workflow's own arguments, which is all
/// that is known before a run.
fn target(object: &Object<'_>, placed: &Placed<'_>, dag: &Dag, report: &mut Report<'_>) {
    let at = format!("{}/dag/target", placed.pointer);
    let text = dag.target.as_deref().unwrap_or("");
    let mut filled = text.to_owned();
    for tag in tags::find(text).into_iter().rev() {
        let Some(name) = tag.name().filter(|n| n.starts_with("inputs.") || n.starts_with("workflow.")) else {
            continue;
        };
        match value(object, placed, name) {
            Some(value) => filled.replace_range(tag.range, &value),
            None => {
                let message = format!("`{name}` is not known before the run, and a target must be");
                report.error_in("argo::unknown-task", &at, tag.range, message);
                return;
            }
        }
    }
    let names: Vec<&str> = dag.tasks.iter().map(|t| t.name.as_str()).collect();
    for target in filled.split_whitespace() {
        if !names.contains(&target) && !target.contains("{{") && !target.contains("}}") {
            report.error("argo::unknown-task", &at, format!("there is no task `{target}`"));
            report.suggest(target, names.iter().copied());
        }
    }
}

/// What a parameter is when the workflow begins with this template.
fn value(object: &Object<'_>, placed: &Placed<'_>, name: &str) -> Option<String> {
    let spec = object.spec.as_ref()?;
    let argument = |name: &str| spec.arguments.parameters.iter().find(|p| p.name == name)?.value.clone();
    if let Some(name) = name.strip_prefix("workflow.parameters.") {
        return argument(name).map(|v| v.to_string());
    }
    let name = name.strip_prefix("inputs.parameters.")?;
    let first = spec.entrypoint.as_deref() == Some(placed.template.name.as_str());
    if !first || !matches!(object.kind, "Workflow" | "CronWorkflow") {
        return None;
    }
    let input = placed.template.inputs.parameter(name)?;
    argument(name).or_else(|| input.value.clone()).or_else(|| input.default.clone()).map(|v| v.to_string())
}

fn written(task: &DagTask, tasks: &[DagTask], at: &str, report: &mut Report<'_>) {
    let names: Vec<&str> = tasks.iter().map(|t| t.name.as_str()).collect();
    let depends = task.depends.as_deref().filter(|d| !d.is_empty());
    let dependencies = task.dependencies.as_deref().filter(|d| !d.is_empty());
    for (d, name) in dependencies.unwrap_or(&[]).iter().enumerate() {
        if !names.contains(&name.as_str()) {
            let at = format!("{at}/dependencies/{d}");
            report.error("argo::unknown-task", &at, format!("there is no task `{name}`"));
            report.suggest(name, names.iter().copied());
        }
    }
    let Some(text) = depends else { return };
    let at = format!("{at}/depends");
    match Depends::parse(text) {
        Err(fault) => {
            let message = format!("this `depends` cannot be read: {fault}");
            // Argo knows the words before the run, and reads the rest when it comes to the task.
            let word = fault.message.contains("is not a result of a task")
                || text
                    .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
                    .filter_map(|w| w.split('.').next().filter(|w| !w.is_empty()))
                    .any(|w| !names.contains(&w));
            let severity = if word { Severity::Error } else { Severity::Warning };
            report.part(severity, "argo::bad-depends", &at, fault.range, message);
        }
        Ok(depends) => {
            for reference in depends.references() {
                if !names.contains(&reference.task.as_str()) {
                    let message = format!("there is no task `{}`", reference.task);
                    report.error_in("argo::unknown-task", &at, reference.range.clone(), message);
                    report.suggest(&reference.task, names.iter().copied());
                    continue;
                }
                let of_items = matches!(reference.outcome, Some(Outcome::AnySucceeded | Outcome::AllFailed));
                let looped = tasks.iter().any(|t| t.name == reference.task && is_looped(t));
                if of_items && !looped {
                    let message = format!("`{}` has no items of which any could succeed or all fail", reference.task);
                    report.error_in("argo::bad-depends", &at, reference.range.clone(), message);
                }
            }
        }
    }
}

fn is_looped(task: &DagTask) -> bool {
    task.with_items.as_ref().is_some_and(|items| !items.is_empty())
        || task.with_param.as_ref().is_some_and(|p| !p.as_str().is_empty())
        || task.with_sequence.is_some()
}

fn circles(tasks: &[DagTask], at: &str, report: &mut Report<'_>) {
    let edges = edges(tasks);
    // Take away what depends on nothing that is left; what stays is in or behind a circle.
    let mut left: BTreeSet<&str> = edges.keys().copied().collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .copied()
            .filter(|t| edges.get(t).is_none_or(|on| !on.iter().any(|d| left.contains(d.as_str()))))
            .collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|t| {
            left.remove(t);
        });
    }
    let Some(start) = left.iter().next().copied() else { return };
    // Walk along dependencies until a task comes again: that is the circle.
    let mut path = vec![start];
    loop {
        let here = path[path.len() - 1];
        let next = edges.get(here).and_then(|on| on.iter().find_map(|d| left.get(d.as_str()).copied()));
        let Some(next) = next else { return };
        if let Some(from) = path.iter().position(|t| *t == next) {
            path.drain(..from);
            break;
        }
        path.push(next);
    }
    let first = path[0];
    path.push(first);
    let i = tasks.iter().position(|t| t.name == first).unwrap_or(0);
    let field = if tasks[i].depends.is_some() { "depends" } else { "dependencies" };
    let message = format!("these tasks wait for each other: {}", path.join(" → "));
    report.error("argo::cycle", &format!("{at}/tasks/{i}/{field}"), message);
}
