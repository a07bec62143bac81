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

/// What must be over before what. A row of bits a task: a wide DAG has many more edges than tasks.
pub(crate) struct Ancestors<'e> {
    places: BTreeMap<&'e str, usize>,
    rows: Vec<Vec<u64>>,
}

impl<'e> Ancestors<'e> {
    pub(crate) fn of(edges: &'e BTreeMap<&'e str, BTreeSet<String>>) -> Self {
        let places: BTreeMap<&str, usize> = edges.keys().enumerate().map(|(place, name)| (*name, place)).collect();
        let needs: Vec<Vec<usize>> =
            edges.values().map(|all| all.iter().filter_map(|n| places.get(n.as_str()).copied()).collect()).collect();
        let mut rows = vec![vec![0_u64; places.len().div_ceil(64)]; places.len()];
        // Depth first, so that most rows are whole when they are added to others; what is in a circle takes more rounds.
        let order = depth_first(&needs);
        loop {
            let mut changed = false;
            for &place in &order {
                let mut row = std::mem::take(&mut rows[place]);
                let before = row.clone();
                for &need in &needs[place] {
                    row[need / 64] |= 1 << (need % 64);
                    // Its own row is empty here, and would add nothing.
                    row.iter_mut().zip(&rows[need]).for_each(|(mine, theirs)| *mine |= theirs);
                }
                changed |= row != before;
                rows[place] = row;
            }
            if !changed {
                return Self { places, rows };
            }
        }
    }

    /// Whether `earlier` must be over before `task` begins.
    pub(crate) fn has(&self, task: &str, earlier: &str) -> bool {
        let places = self.places.get(task).zip(self.places.get(earlier));
        places.is_some_and(|(task, earlier)| self.rows[*task][earlier / 64] & (1 << (earlier % 64)) != 0)
    }
}

/// All places, each after what it needs, where there is no circle.
fn depth_first(needs: &[Vec<usize>]) -> Vec<usize> {
    let (mut order, mut seen) = (Vec::with_capacity(needs.len()), vec![false; needs.len()]);
    for start in 0..needs.len() {
        let mut path = vec![(start, 0)];
        while let Some((place, next)) = path.pop() {
            if next == 0 && std::mem::replace(&mut seen[place], true) {
                continue;
            }
            match needs[place].get(next) {
                Some(need) => path.extend([(place, next + 1), (*need, 0)]),
                None => order.push(place),
            }
        }
    }
    order
}

pub(super) fn check(object: &Object<'_>, placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(dag) = &placed.template.dag else { return };
    let at = format!("{}/dag", placed.pointer);
    if dag.tasks.is_empty() {
        report.error("argo::empty-dag", &at, "a DAG needs at least one task");
    }
    let depends = dag.tasks.iter().position(|t| t.depends.as_deref().is_some_and(|d| !d.is_empty()));
    let names = Names::of(&dag.tasks);
    for (i, task) in dag.tasks.iter().enumerate() {
        let at = format!("{at}/tasks/{i}");
        written(task, &dag.tasks, &names, &at, report);
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

/// The names of a DAG's tasks, as they come and to be found.
struct Names<'t> {
    all: Vec<&'t str>,
    there: BTreeSet<&'t str>,
}

impl<'t> Names<'t> {
    fn of(tasks: &'t [DagTask]) -> Self {
        let all: Vec<&str> = tasks.iter().map(|t| t.name.as_str()).collect();
        Self { there: all.iter().copied().collect(), all }
    }
}

fn written(task: &DagTask, tasks: &[DagTask], names: &Names<'_>, at: &str, report: &mut Report<'_>) {
    let depends = task.depends.as_deref().filter(|d| !d.is_empty());
    let dependencies = task.dependencies.as_deref().filter(|d| !d.is_empty());
    for (d, name) in dependencies.unwrap_or(&[]).iter().enumerate() {
        if !names.there.contains(name.as_str()) {
            let at = format!("{at}/dependencies/{d}");
            report.error("argo::unknown-task", &at, format!("there is no task `{name}`"));
            report.suggest(name, names.all.iter().copied());
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
                    .any(|w| !names.there.contains(w));
            let severity = if word { Severity::Error } else { Severity::Warning };
            report.part(severity, "argo::bad-depends", &at, fault.range, message);
        }
        Ok(depends) => {
            for reference in depends.references() {
                if !names.there.contains(reference.task.as_str()) {
                    let message = format!("there is no task `{}`", reference.task);
                    report.error_in("argo::unknown-task", &at, reference.range.clone(), message);
                    report.suggest(&reference.task, names.all.iter().copied());
                    continue;
                }
                let of_items = matches!(reference.outcome, Some(Outcome::AnySucceeded | Outcome::AllFailed));
                let looped = || tasks.iter().any(|t| t.name == reference.task && is_looped(t));
                if of_items && !looped() {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is before a task, one step after another.
    fn walked(edges: &BTreeMap<&str, BTreeSet<String>>, task: &str) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        let mut todo: Vec<&String> = edges[task].iter().collect();
        while let Some(name) = todo.pop() {
            if out.insert(name.clone()) {
                todo.extend(&edges[name.as_str()]);
            }
        }
        out
    }

    #[test]
    fn rows_of_bits_say_what_a_walk_says_also_in_circles() {
        let names: Vec<String> = (0..70).map(|i| format!("t{i}")).collect();
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut circles = 0;
        for _ in 0..50 {
            let mut edges: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
            for name in &names {
                let needs = draw(3);
                edges.insert(name, (0..needs).map(|_| names[draw(70) as usize].clone()).collect());
            }
            let ancestors = Ancestors::of(&edges);
            for task in &names {
                let walked = walked(&edges, task);
                circles += usize::from(walked.contains(task));
                let told: BTreeSet<String> = names.iter().filter(|other| ancestors.has(task, other)).cloned().collect();
                assert_eq!(told, walked, "{task} of {edges:?}");
            }
        }
        assert!(circles > 0, "no circle was drawn");
    }
}
