//! Rule: a DAG's tasks depend on tasks that are there, in no circle, and in one of the two ways of writing it.

use std::collections::{BTreeMap, BTreeSet};

use windlass_lang::depends::Depends;
use windlass_model::template::DagTask;

use super::object::Placed;
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

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(dag) = &placed.template.dag else { return };
    let at = format!("{}/dag", placed.pointer);
    let names: Vec<&str> = dag.tasks.iter().map(|t| t.name.as_str()).collect();
    if dag.tasks.is_empty() {
        report.error("argo::empty-dag", &at, "a DAG needs at least one task");
    }
    for (i, task) in dag.tasks.iter().enumerate() {
        written(task, &names, &format!("{at}/tasks/{i}"), report);
    }
    for target in dag.target.as_deref().unwrap_or("").split_whitespace() {
        if !names.contains(&target) && !target.contains("{{") && !target.contains("}}") {
            let pointer = format!("{at}/target");
            report.error("argo::unknown-task", &pointer, format!("there is no task `{target}`"));
            report.suggest(target, names.iter().copied());
        }
    }
    let uses_order = dag.tasks.iter().any(|t| t.dependencies.is_some() || t.depends.is_some());
    for (i, task) in dag.tasks.iter().enumerate() {
        if uses_order && task.name.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`{}` begins with a digit, which `depends` cannot name", task.name);
            report.error("argo::bad-name", &format!("{at}/tasks/{i}/name"), message);
        }
    }
    circles(&dag.tasks, &at, report);
}

fn written(task: &DagTask, names: &[&str], at: &str, report: &mut Report<'_>) {
    let depends = task.depends.as_deref().filter(|d| !d.is_empty());
    let dependencies = task.dependencies.as_deref().filter(|d| !d.is_empty());
    if depends.is_some() && dependencies.is_some() {
        let message = "`depends` and `dependencies` exclude each other";
        report.error_key("argo::depends-and-dependencies", &format!("{at}/depends"), message);
        report.also(&format!("{at}/dependencies"), "given here too");
    }
    if depends.is_some() && task.continue_on.is_some() {
        let message = "`continueOn` has no meaning beside `depends`; say it there, as `A.Failed || A.Succeeded`";
        report.error_key("argo::depends-and-continue-on", &format!("{at}/continueOn"), message);
    }
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
            report.error_in("argo::bad-depends", &at, fault.range, message);
        }
        Ok(depends) => {
            for reference in depends.references() {
                if !names.contains(&reference.task.as_str()) {
                    let message = format!("there is no task `{}`", reference.task);
                    report.error_in("argo::unknown-task", &at, reference.range.clone(), message);
                    report.suggest(&reference.task, names.iter().copied());
                }
            }
        }
    }
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
