//! A case played, and what came against what was expected: each difference a diagnostic with its place in the case file.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use windlass_engine::Config;
use windlass_lang::Diagnostic;
use windlass_lang::suggest::nearest;
use windlass_model::parameter::{Inputs, Outputs};
use windlass_model::status::WorkflowStatus;
use windlass_model::{NodePhase, NodeStatus, NodeType, Workflow};

use crate::case::{At, Case, Turn};
use crate::expect::ExpectNode;
use crate::fields::fault;
use crate::keys::{Names, named};
use crate::needed::{self, nearest_rule};
use crate::subject::Subject;
use crate::world::{End, Script, World, created};

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was not as expected; nothing when the case passed.
    pub faults: Vec<Diagnostic>,
    /// The workflow as it ended, unless it could not even begin.
    pub workflow: Option<Workflow>,
    /// How long it took, on the virtual clock.
    pub took: SignedDuration,
    /// When it was over, on the virtual clock.
    pub ended: Timestamp,
    /// How many pods were made.
    pub pods: usize,
}

impl Outcome {
    /// Whether everything came as expected.
    pub fn passed(&self) -> bool {
        !self.faults.iter().any(Diagnostic::is_error)
    }
}

/// The rules of a case, played.
struct Rules<'a> {
    case: &'a Case,
    workflow: String,
    /// Rules that something was asked of, by their place in the case.
    used: BTreeSet<usize>,
}

impl Rules<'_> {
    fn turn(&mut self, node: &NodeStatus, number: usize) -> Option<Turn> {
        let rule = nearest_rule(&self.case.rules, &Names::of(node, &self.workflow))?;
        if let Some(at) = self.case.rules.iter().position(|r| std::ptr::eq(r, rule)) {
            self.used.insert(at);
        }
        rule.turns.get(number).or(rule.turns.last()).cloned()
    }
}

impl Script for Rules<'_> {
    fn pod(&mut self, node: &NodeStatus, number: usize) -> Turn {
        self.turn(node, number).unwrap_or_default()
    }

    fn suspended(&mut self, node: &NodeStatus) -> Option<Turn> {
        self.turn(node, 0)
    }

    fn together(&self, node: &NodeStatus) -> String {
        Names::of(node, &self.workflow).together().to_owned()
    }
}

const BEGINNING: i64 = 1_893_456_000;

/// Plays a case.
pub fn rehearse(case: &Case, subject: Subject<'_>, config: &Config) -> Outcome {
    // 2030-01-01T00:00:00Z
    let begin = case.submit.at.unwrap_or_else(|| Timestamp::from_second(BEGINNING).unwrap_or_default());
    let nothing = |faults| Outcome { faults, workflow: None, took: SignedDuration::ZERO, ended: begin, pods: 0 };
    let workflow = match subject.workflow(case) {
        Ok(workflow) => created(workflow, begin),
        Err(fault) => return nothing(vec![*fault]),
    };
    let mut workflow: Workflow = match serde_json::from_value(workflow) {
        Ok(workflow) => workflow,
        Err(error) => {
            let message = format!("this is not a Workflow: {error}");
            return nothing(vec![fault("case::no-workflow", message, case.name.span, "")]);
        }
    };
    let objects = subject.objects();
    let name = workflow.metadata.name.clone().unwrap_or_default();
    let mut rules = Rules { case, workflow: name.clone(), used: BTreeSet::new() };
    let mut world = World::new(&workflow, config, &objects, begin, &mut rules);
    let end = world.play();
    let took = world.now.duration_since(begin);
    let status = world.run.status();
    let check = Check { case, status: &status, name: &name, world: &world };
    let mut faults = world.faults.clone();
    check.missing(&mut faults);
    faults.extend(needed::faults(case, &world.run, &world.absent));
    check.end(end, &mut faults);
    check.nodes(&mut faults);
    check.order(&mut faults);
    check.limits(took, &mut faults);
    let pods = world.pods_made.values().sum();
    let ended = world.now;
    drop(world);
    unreached(case, &rules.used, &subject.names(), &mut faults);
    workflow.status = Some(status);
    Outcome { faults, workflow: Some(workflow), took, ended, pods }
}

/// What is wrong with the part of a file that its cases share: keys that name nothing at all.
pub fn check_shared(case: &Case, subject: Subject<'_>) -> Vec<Diagnostic> {
    let names = subject.names();
    let shared = case.rules.iter().filter(|r| !r.own && !is_known(&r.key.value, &names));
    shared.map(|r| unknown_node(&r.key, &names)).collect()
}

fn is_known(key: &str, names: &[String]) -> bool {
    key.starts_with('@') || names.iter().any(|n| n == key.split('(').next().unwrap_or(key))
}

/// Rules of this case that nothing was asked of, and keys that name nothing at all.
fn unreached(case: &Case, used: &BTreeSet<usize>, names: &[String], faults: &mut Vec<Diagnostic>) {
    for (_, rule) in case.rules.iter().enumerate().filter(|(i, r)| r.own && !used.contains(i)) {
        let key = &rule.key.value;
        if !is_known(key, names) {
            faults.push(unknown_node(&rule.key, names));
            continue;
        }
        let message = format!("the run never came to `{key}`");
        let fault = fault("case::never-reached", message, rule.key.span, "nothing was asked of this");
        faults.push(fault.help("take it out; a default for several cases stands in the `nodes` beside `cases`"));
    }
}

fn unknown_node(key: &At<String>, names: &[String]) -> Diagnostic {
    let fault =
        fault("case::unknown-node", format!("there is no step, task or template `{}`", key.value), key.span, "");
    match nearest(&key.value, names.iter().map(String::as_str)) {
        Some(meant) => fault.help(format!("did you mean `{meant}`?")),
        None => fault.help("keys are a step, task or template's name, or a path such as @[0].build or @.deploy"),
    }
}

/// Whether a text is what was expected, where `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

struct Check<'a, 's> {
    case: &'a Case,
    status: &'a WorkflowStatus,
    name: &'a str,
    world: &'a World<'s>,
}

impl Check<'_, '_> {
    fn named(&self, key: &str) -> Vec<&NodeStatus> {
        named(self.status.nodes.values(), self.name, key)
    }

    /// Objects that were asked for and are nowhere.
    fn missing(&self, faults: &mut Vec<Diagnostic>) {
        for (kind, name) in &self.world.missing {
            let message = format!("the run asks for {kind} `{name}`, which is in none of the files");
            let fault = fault("case::missing-object", message, self.case.name.span, "");
            faults.push(fault.help("name its file: `with: [FILE]`, relative to the case file"));
        }
    }

    fn end(&self, end: End, faults: &mut Vec<Diagnostic>) {
        let expect = &self.case.expect;
        let place = expect.phase.span.or(expect.span).or(self.case.name.span);
        match end {
            End::Completed => {}
            End::Waits => return self.waits(faults),
            End::Endless => {
                let message = "the run goes on without end: nothing in it or in this case stops it";
                faults.push(fault("case::endless", message, self.case.name.span, ""));
                return;
            }
        }
        let came = self.status.message.as_deref().unwrap_or_default();
        if self.status.phase != expect.phase.value {
            let message = format!("the workflow was to end as {}, and is {}", expect.phase.value, self.status.phase);
            let fault = fault("case::phase", message, place, &format!("came: {}", self.status.phase));
            let why = self.first_failure().or_else(|| (!came.is_empty()).then(|| format!("its message: {came}")));
            faults.push(match why {
                None => fault,
                Some(why) => fault.help(why),
            });
        }
        if let Some(wanted) = &expect.message
            && !fits(&wanted.value, came)
        {
            let label = format!("came: {}", if came.is_empty() { "no message" } else { came });
            faults.push(fault("case::message", "the workflow's message is another one", wanted.span, &label));
        }
        let none = Outputs::default();
        let outputs = self.status.outputs.as_ref().unwrap_or(&none);
        let of = |name: &str| outputs.parameter(name).and_then(|p| p.value.clone()).map(|v| v.0);
        self.values("the workflow", "output", &expect.outputs, of, faults);
    }

    /// The first step that went wrong by itself, and its words.
    fn first_failure(&self) -> Option<String> {
        let leaf = |n: &&NodeStatus| {
            n.phase.is_fail_or_error()
                && !matches!(n.type_, NodeType::Steps | NodeType::Dag | NodeType::Retry | NodeType::TaskGroup)
                && (n.type_ != NodeType::StepGroup || n.phase == NodePhase::Error)
        };
        let failed = self.status.nodes.values().filter(leaf);
        let first = failed.min_by_key(|n| self.world.marks.get(&n.id).and_then(|m| m.ended))?;
        let message = first.message.as_deref().filter(|m| !m.is_empty())?;
        Some(format!("`{}` is {}: {message}", first.display_name, first.phase))
    }

    fn waits(&self, faults: &mut Vec<Diagnostic>) {
        let suspended: Vec<&NodeStatus> = self
            .status
            .nodes
            .values()
            .filter(|n| n.type_ == NodeType::Suspend && n.phase == NodePhase::Running)
            .collect();
        if suspended.is_empty() {
            let message = format!("the run waits for ever: it is {}, and nothing is to come", self.status.phase);
            let fault = fault("case::waits", message, self.case.name.span, "");
            faults.push(match &self.status.message {
                Some(message) => fault.help(format!("its message: {message}")),
                None => {
                    fault.help("a daemon that goes on, or a workflow that was submitted suspended, waits like this")
                }
            });
        }
        for node in suspended {
            let name = &node.display_name;
            let asked: Vec<String> = node
                .outputs
                .iter()
                .flat_map(|o| &o.parameters)
                .map(|p| format!("\n    parameters:\n      {}: VALUE", p.name))
                .collect();
            let message = format!("`{name}` waits for somebody who resumes it, and this case says nothing of it");
            let fault = fault("case::waits", message, self.case.name.span, "");
            faults.push(match asked.is_empty() {
                true => fault.help(format!("add to this case:\nnodes:\n  {name}: {{after: 1m}}   # or reject: WORDS")),
                false => fault.help(format!("add to this case:\nnodes:\n  {name}:{}", asked.concat())),
            });
        }
    }

    fn nodes(&self, faults: &mut Vec<Diagnostic>) {
        for expect in &self.case.expect.nodes {
            let found = self.named(&expect.key.value);
            if found.is_empty() {
                faults.push(self.no_node(&expect.key));
            }
            for node in found {
                self.node(expect, node, faults);
            }
        }
        for key in &self.case.expect.not_run {
            for node in self.named(&key.value) {
                if !matches!(node.phase, NodePhase::Skipped | NodePhase::Omitted) {
                    let message = format!("`{}` was not to run, and did", node.display_name);
                    faults.push(fault("case::ran", message, key.span, &format!("came: {}", node.phase)));
                }
            }
        }
    }

    fn no_node(&self, key: &At<String>) -> Diagnostic {
        let fault = fault("case::no-node", format!("there is no node `{}` in this run", key.value), key.span, "");
        let names: BTreeSet<&str> = self.status.nodes.values().map(|n| n.display_name.as_str()).collect();
        match nearest(&key.value, names.iter().copied()) {
            Some(meant) => fault.help(format!("did you mean `{meant}`?")),
            None => {
                let all: Vec<&str> = names.iter().copied().filter(|n| !n.starts_with('[')).take(12).collect();
                fault.help(format!("there are {}", all.join(", ")))
            }
        }
    }

    fn node(&self, expect: &ExpectNode, node: &NodeStatus, faults: &mut Vec<Diagnostic>) {
        let name = &node.display_name;
        let came = node.message.as_deref().unwrap_or_default();
        if let Some(phase) = &expect.phase
            && phase.value != node.phase
        {
            let message = format!("`{name}` was to be {}, and is {}", phase.value, node.phase);
            let fault = fault("case::node-phase", message, phase.span, &format!("came: {}", node.phase));
            faults.push(match came {
                "" => fault,
                came => fault.help(format!("its message: {came}")),
            });
        }
        if let Some(wanted) = &expect.message
            && !fits(&wanted.value, came)
        {
            let label = format!("came: {}", if came.is_empty() { "no message" } else { came });
            faults.push(fault(
                "case::node-message",
                format!("the message of `{name}` is another"),
                wanted.span,
                &label,
            ));
        }
        let none = Outputs::default();
        let outputs = node.outputs.as_ref().unwrap_or(&none);
        if let Some(exit) = &expect.exit
            && outputs.exit_code.as_deref() != Some(exit.value.to_string().as_str())
        {
            let label = format!("came: {}", outputs.exit_code.as_deref().unwrap_or("none"));
            faults.push(fault("case::exit", format!("the exit code of `{name}` is another"), exit.span, &label));
        }
        if let Some(pods) = &expect.pods {
            let made = self.world.pods_made.get(Names::of(node, self.name).together()).copied().unwrap_or(0);
            if i64::try_from(made) != Ok(pods.value) {
                let message = format!("`{name}` was to have {} pods", pods.value);
                faults.push(fault("case::pods", message, pods.span, &format!("came: {made}")));
            }
        }
        let none = Inputs::default();
        let inputs = node.inputs.as_ref().unwrap_or(&none);
        let who = format!("`{name}`");
        let of = |n: &str| inputs.parameter(n).and_then(|p| p.value.clone()).map(|v| v.0);
        self.values(&who, "input", &expect.inputs, of, faults);
        let of = |n: &str| outputs.parameter(n).and_then(|p| p.value.clone()).map(|v| v.0);
        self.values(&who, "output", &expect.outputs, of, faults);
        if let Some(result) = &expect.result
            && outputs.result.as_deref() != Some(result.value.as_str())
        {
            let label = format!("came: {}", outputs.result.as_deref().unwrap_or("none"));
            faults.push(fault("case::value", format!("the result of {who} is another"), result.span, &label));
        }
    }

    fn values(
        &self,
        who: &str,
        what: &str,
        wanted: &[(At<String>, At<String>)],
        of: impl Fn(&str) -> Option<String>,
        faults: &mut Vec<Diagnostic>,
    ) {
        for (name, value) in wanted {
            let (name, wanted) = (&name.value, &value.value);
            match of(name) {
                Some(came) if came == *wanted => {}
                Some(came) => {
                    let message = format!("the {what} `{name}` of {who} is another");
                    faults.push(fault("case::value", message, value.span, &format!("came: {came}")));
                }
                None => {
                    let message = format!("{who} has no {what} `{name}`");
                    faults.push(fault("case::value", message, value.span, "came: none"));
                }
            }
        }
    }

    /// Each of the list began after the one before it had ended.
    fn order(&self, faults: &mut Vec<Diagnostic>) {
        let mut before: Option<(&At<String>, Option<usize>)> = None;
        for key in &self.case.expect.order {
            let marks: Vec<_> = self.named(&key.value).iter().filter_map(|n| self.world.marks.get(&n.id)).collect();
            let Some(began) = marks.iter().map(|m| m.began).min() else {
                faults.push(self.no_node(key));
                continue;
            };
            if let Some((first, ended)) = before
                && ended.is_none_or(|e| e > began)
            {
                let message = format!("`{}` began before `{}` had ended", key.value, first.value);
                faults.push(fault("case::order", message, key.span, "this one began too early"));
            }
            let ended: Option<Vec<usize>> = marks.iter().map(|m| m.ended).collect();
            before = Some((key, ended.and_then(|e| e.into_iter().max())));
        }
    }

    fn limits(&self, took: SignedDuration, faults: &mut Vec<Diagnostic>) {
        let expect = &self.case.expect;
        if let Some(within) = &expect.within
            && took.as_millis() > i128::from(within.value)
        {
            let message = "the run took longer, on the virtual clock";
            faults.push(fault("case::took-long", message, within.span, &format!("came: {took:#}")));
        }
        if let Some(pods) = &expect.pods {
            let made: usize = self.world.pods_made.values().sum();
            if i64::try_from(made) != Ok(pods.value) {
                let by: BTreeMap<&str, usize> = self.world.pods_made.iter().map(|(k, n)| (k.as_str(), *n)).collect();
                let by: Vec<String> = by.iter().map(|(k, n)| format!("{k} {n}")).collect();
                let message = format!("the run was to have {} pods", pods.value);
                let fault = fault("case::pods", message, pods.span, &format!("came: {made}"));
                faults.push(fault.help(format!("they are {}", by.join(", "))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_stand_for_anything() {
        assert!(fits("a*c", "abc") && fits("*", "") && fits("a", "a") && fits("*b*", "abc") && fits("a**c", "ac"));
        assert!(!fits("a*c", "ab") && !fits("a", "ab") && !fits("*x*", "abc") && !fits("ab*ba", "aba"));
    }
}
