//! The body of a DAG: tasks that wait for each other, looked at in an order in which each comes behind what it waits for.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::LazyLock;

use regex::Regex;
use windlass_model::Template;
use windlass_model::template::DagTask;

use super::base::Call;
use super::fill::Given;
use super::names::{self, Form};
use super::scope::{Member, View};
use super::walk::{Frame, NOTHING_OVER, Next, Walk, no_deadline};
use super::{arguments, steps, wire};
use crate::validate::graph::Ancestors;

static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"([a-zA-Z0-9][-a-zA-Z0-9]*?\.[A-Z][a-zA-Z]+)|([a-zA-Z0-9][-a-zA-Z0-9]*)")
        .expect("invariant: a constant pattern")
});

/// The results that a `depends` can ask for.
const RESULTS: [&str; 8] =
    ["Succeeded", "Failed", "Skipped", "Omitted", "Errored", "Daemoned", "AnySucceeded", "AllFailed"];

/// How far a DAG is.
#[derive(Debug, Default)]
pub(super) struct Dag {
    /// The tasks, each behind what it waits for.
    order: Vec<usize>,
    /// What each waits for, and whether it asks for a loop's items; by the task's place in the template.
    needs: Vec<Vec<(String, bool)>>,
    places: HashMap<String, usize>,
    depends: bool,
    /// The first round looks at the templates, the second at what the tasks say.
    second: bool,
    at: usize,
    below: Option<Option<Rc<Template>>>,
    runs: HashMap<usize, Rc<Template>>,
}

impl Dag {
    pub(super) fn begin(template: &Template) -> Result<Self, String> {
        no_deadline(template)?;
        let name = &template.name;
        let tasks = tasks(template);
        if tasks.is_empty() {
            return Err(format!("templates.{name} must have at least one task"));
        }
        let mut dag = Self {
            depends: tasks.iter().any(|t| t.depends.as_deref().is_some_and(|d| !d.is_empty())),
            places: tasks.iter().enumerate().map(|(place, t)| (t.name.clone(), place)).collect(),
            needs: tasks.iter().map(needs).collect(),
            ..Self::default()
        };
        dag.sort(tasks).map_err(|wrong| format!("templates.{name} sorting failed: {wrong}"))?;
        names::list(dag.order.iter().map(|place| tasks[*place].name.as_str()), Form::Field)
            .map_err(|wrong| format!("templates.{name}.tasks{wrong}"))?;
        Ok(dag)
    }

    fn sort(&mut self, tasks: &[DagTask]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        if let Some(twice) = tasks.iter().find(|t| !seen.insert(t.name.as_str())) {
            return Err(format!("duplicated nodeName {}", twice.name));
        }
        let mut behind: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
        for (place, needs) in self.needs.iter().enumerate() {
            for (need, _) in needs {
                let need = self.places.get(need).ok_or_else(|| format!("invalid dependency {need}"))?;
                behind[*need].push(place);
            }
        }
        let mut left: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        self.order = (0..tasks.len()).filter(|place| left[*place] == 0).collect();
        let mut head = 0;
        while head < self.order.len() {
            for place in &behind[self.order[head]] {
                left[*place] -= 1;
                if left[*place] == 0 {
                    self.order.push(*place);
                }
            }
            head += 1;
        }
        if self.order.len() < tasks.len() { Err("graph with cycle".to_owned()) } else { Ok(()) }
    }

    pub(super) fn at(&self, template: &Template) -> String {
        let task = self.order.get(self.at).and_then(|place| tasks(template).get(*place));
        format!("templates.{}.tasks.{}", template.name, task.map_or("", |t| t.name.as_str()))
    }

    pub(super) fn advance(&mut self, frame: &mut Frame, walk: &mut Walk<'_>) -> Result<Next, String> {
        let template = frame.filled.clone();
        let tasks = tasks(&template);
        while !self.second && self.at < self.order.len() {
            let place = self.order[self.at];
            let task = &tasks[place];
            let run = match self.below.take() {
                Some(run) => run,
                None => {
                    self.open(task, &template)?;
                    let entered = walk
                        .enter(call(task), frame.base, Given::Anything)
                        .map_err(|wrong| format!("{} {wrong}", self.at(&template)))?;
                    if let Some(below) = entered.below {
                        self.below = Some(entered.template);
                        return Ok(Next::Below(Box::new(below)));
                    }
                    entered.template
                }
            };
            let member = Member { word: "tasks", name: &task.name, looped: is_list(task) };
            frame.scope.add_outputs(member, run.as_ref(), &mut walk.globals, &mut walk.placeholders);
            self.runs.extend(run.map(|run| (place, run)));
            self.waits(task, place, &template)?;
            self.at += 1;
        }
        if !self.second {
            (self.second, self.at) = (true, 0);
            target(&template, frame, walk, &self.places)?;
        }
        self.second_round(&template, frame, walk).map(|()| Next::Done)
    }

    /// What is asked of a task before the template it runs.
    fn open(&self, task: &DagTask, template: &Template) -> Result<(), String> {
        let listed = task.dependencies.as_ref().is_some_and(|d| !d.is_empty());
        let (at, name) = (self.at(template), &template.name);
        if (self.depends || listed) && task.name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("{at} name cannot begin with a digit when using either 'depends' or 'dependencies'"));
        }
        if self.depends && listed {
            return Err(format!(
                "templates.{name} cannot use both 'depends' and 'dependencies' in the same DAG template"
            ));
        }
        if self.depends && task.continue_on.is_some() {
            return Err(format!(
                "templates.{name} cannot use 'continueOn' when using 'depends'. Instead use \
                 'dep-task.Failed'/'dep-task.Errored'"
            ));
        }
        Ok(())
    }

    /// What a task waits for is something that it can wait for.
    fn waits(&self, task: &DagTask, place: usize, template: &Template) -> Result<(), String> {
        let results = WORDS.captures_iter(task.depends.as_deref().unwrap_or_default()).filter_map(|found| found.get(1));
        for (of, result) in results.filter_map(|found| found.as_str().split_once('.')) {
            if !RESULTS.contains(&result) {
                return Err(format!("{} task result '{result}' for task '{of}' is invalid", self.at(template)));
            }
        }
        for (need, of_items) in &self.needs[place] {
            let other = &tasks(template)[self.places[need]];
            if *of_items && !is_list(other) && other.with_sequence.is_none() {
                return Err(format!(
                    "templates.{}.tasks.{need} dependency '{need}' uses an items-based condition such as .AnySucceeded \
                     or .AllFailed but does not contain any items",
                    template.name
                ));
            }
        }
        Ok(())
    }

    fn second_round(&mut self, template: &Template, frame: &mut Frame, walk: &mut Walk<'_>) -> Result<(), String> {
        let tasks = tasks(template);
        let edges: BTreeMap<&str, BTreeSet<String>> = tasks
            .iter()
            .zip(&self.needs)
            .map(|(task, needs)| (task.name.as_str(), needs.iter().map(|(need, _)| need.clone()).collect()))
            .collect();
        // Who waits for whom is needed only where somebody names a task it does not name as its dependency.
        let ancestors = LazyCell::new(|| Ancestors::of(&edges));
        while self.at < self.order.len() {
            let place = self.order[self.at];
            let task = &tasks[place];
            let is_over = |other: &str| {
                self.needs[place].iter().any(|(need, _)| need == other) || ancestors.has(&task.name, other)
            };
            let at = self.at(template);
            if !task.hooks.is_empty() {
                frame.scope.add(format!("tasks.{}.status", task.name));
            }
            let member = Member { word: "tasks", name: &task.name, looped: false };
            frame.scope.add_outputs(member, self.runs.get(&place), &mut walk.globals, &mut walk.placeholders);
            let mut own = steps::own(task.inline.as_deref());
            let parameter = task.with_param.as_ref().map(|p| p.as_str());
            own.add_items(task.with_items.as_deref().unwrap_or_default(), parameter, task.with_sequence.as_ref())
                .map_err(|wrong| format!("{at} {wrong}"))?;
            let view = View { scope: &frame.scope, own: Some(&own), globals: &walk.globals, is_over: &is_over };
            view.resolve(&wire::text(task, "DAGTask")).map_err(|wrong| format!("{at} {wrong}"))?;
            arguments::check(&format!("{at}.arguments."), &task.arguments)?;
            depends_on_named(task, &is_over).map_err(|wrong| format!("{at} {wrong}"))?;
            walk.enter(call(task), frame.base, Given::These(&task.arguments))
                .map_err(|wrong| format!("{at} {wrong}"))?;
            self.at += 1;
        }
        Ok(())
    }
}

fn tasks(template: &Template) -> &[DagTask] {
    template.dag.as_ref().map_or(&[], |dag| &dag.tasks)
}

fn call(task: &DagTask) -> Call<'_> {
    Call {
        member: &task.name,
        template: task.template.as_deref().unwrap_or_default(),
        reference: task.template_ref.as_ref(),
        inline: task.inline.as_deref(),
    }
}

/// Whether it loops over a list.
fn is_list(task: &DagTask) -> bool {
    task.with_items.as_ref().is_some_and(|items| !items.is_empty())
        || task.with_param.as_ref().is_some_and(|p| !p.as_str().is_empty())
}

/// What a task waits for, as Argo reads it: words in a text, whatever stands between them.
fn needs(task: &DagTask) -> Vec<(String, bool)> {
    let listed;
    let text = match task.depends.as_deref().filter(|d| !d.is_empty()) {
        Some(depends) => depends,
        None => {
            let names = task.dependencies.as_deref().unwrap_or_default();
            listed = names.iter().map(|name| format!("{name}.Succeeded")).collect::<Vec<_>>().join(" && ");
            &listed
        }
    };
    let mut all: Vec<(String, bool)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for found in WORDS.captures_iter(text) {
        let (name, of_items) = match (found.get(1), found.get(2)) {
            (Some(found), _) => {
                let Some((name, result)) = found.as_str().split_once('.') else { continue };
                (name, Some(matches!(result, "AnySucceeded" | "AllFailed")))
            }
            (None, Some(found)) => (found.as_str(), None),
            (None, None) => continue,
        };
        match places.get(name) {
            None => {
                places.insert(name.to_owned(), all.len());
                all.push((name.to_owned(), of_items == Some(true)));
            }
            Some(place) => match of_items {
                Some(of_items) => all[*place].1 |= of_items,
                None => all[*place].1 = false,
            },
        }
    }
    all
}

fn target(template: &Template, frame: &Frame, walk: &Walk<'_>, places: &HashMap<String, usize>) -> Result<(), String> {
    let target = template.dag.as_ref().and_then(|dag| dag.target.as_deref()).unwrap_or_default();
    let name = &template.name;
    let view = View { scope: &frame.scope, own: None, globals: &walk.globals, is_over: NOTHING_OVER };
    view.resolve(target).map_err(|wrong| format!("templates.{name}.targets {wrong}"))?;
    if target.is_empty() {
        return Ok(());
    }
    match target.split(' ').find(|t| !names::is_parameter(t) && !places.contains_key(*t)) {
        Some(unknown) => Err(format!("templates.{name}.targets: target '{unknown}' is not defined")),
        None => Ok(()),
    }
}

/// A task waits for those whose outputs it is given.
fn depends_on_named(task: &DagTask, is_over: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let missing = |text: &str| {
        let rest = text.strip_prefix("{{tasks.")?;
        let named = rest.split('.').next().unwrap_or_default();
        (named == task.name || !is_over(named)).then(|| named.to_owned())
    };
    for parameter in &task.arguments.parameters {
        if let Some(named) = parameter.value.as_ref().and_then(|v| missing(v.as_str())) {
            return Err(format!("missing dependency '{named}' for parameter '{}'", parameter.name));
        }
    }
    for artifact in &task.arguments.artifacts {
        if let Some(named) = artifact.from.as_deref().and_then(missing) {
            return Err(format!("missing dependency '{named}' for artifact '{}'", artifact.name));
        }
    }
    Ok(())
}
