//! Outputs that a case gives no value for and that something in the run asked for: said with the place where to add them.
//! Looks only at who was reached: an output that nobody came to read is no fault.

use serde_json::Value;
use windlass_engine::Run;
use windlass_lang::Diagnostic;
use windlass_model::{NodePhase, NodeStatus, Template};

use crate::case::{Case, Rule};
use crate::fields::fault;
use crate::keys::Names;
use crate::world::Absent;

/// One fault for each output that was needed and not given; loops ask once for all their items.
pub(crate) fn faults(case: &Case, run: &Run, absent: &[Absent]) -> Vec<Diagnostic> {
    let status = run.status();
    let name = run.name();
    let mut out: Vec<Diagnostic> = Vec::new();
    for missing in absent {
        let Some(node) = status.nodes.get(&missing.node_id) else { continue };
        let Some(reader) = reader(run, &status.nodes, node, &missing.output) else { continue };
        let names = Names::of(node, name);
        let rule = nearest_rule(&case.rules, &names);
        let key = rule.map_or_else(|| called(node), |r| r.key.value.clone());
        let what = match missing.output.split_once('.') {
            Some((_, parameter)) => format!("output parameter `{parameter}`"),
            None => "result".to_owned(),
        };
        let message = format!("`{key}` has no {what}, and {reader} needs it");
        let span = rule.and_then(|r| r.key.span).or(case.name.span);
        let label = if rule.is_some() { "say it here" } else { "this case says nothing of it" };
        let line = match missing.output.split_once('.') {
            Some((_, parameter)) => format!("    parameters:\n      {parameter}: VALUE"),
            None => "    result: TEXT".to_owned(),
        };
        let fault = fault("case::missing-output", message, span, label)
            .help(format!("add to this case:\nnodes:\n  {key}:\n{line}"));
        if !out.iter().any(|f| f.message == fault.message) {
            out.push(fault);
        }
    }
    out
}

/// The rule that counts for a node.
pub(crate) fn nearest_rule<'a>(rules: &'a [Rule], names: &Names) -> Option<&'a Rule> {
    // Of rules that are equally near the case's own comes first.
    let ranked = rules.iter().filter_map(|r| Some((names.rank(&r.key.value)?, r)));
    ranked
        .fold(None, |best: Option<(u8, &Rule)>, (rank, rule)| match best {
            Some((had, _)) if had >= rank => best,
            _ => Some((rank, rule)),
        })
        .map(|(_, rule)| rule)
}

/// How people call a node: its step or task, without item and attempt.
fn called(node: &NodeStatus) -> String {
    let name = node.display_name.split('(').next().unwrap_or_default();
    match (&node.boundary_id, &node.template_name) {
        (None, Some(template)) => template.clone(),
        _ => name.to_owned(),
    }
}

/// Who reads an output: a step or task that was reached, or the template around them.
fn reader(
    run: &Run,
    nodes: &std::collections::BTreeMap<String, NodeStatus>,
    node: &NodeStatus,
    output: &str,
) -> Option<String> {
    let boundary = nodes.get(node.boundary_id.as_ref()?)?;
    let template = run.template_of(&boundary.id)?;
    let step = called(node);
    let references = [format!("{step}.outputs.{output}"), format!("{step}.outputs.parameters}}")];
    let names_it = |value: &Value| {
        let text = value.to_string();
        references.iter().any(|r| text.contains(r.as_str()))
    };
    for (name, member) in members(&template) {
        let reached = nodes.values().any(|n| {
            n.boundary_id.as_ref() == Some(&boundary.id) && called(n) == name && n.phase != NodePhase::Omitted
        });
        if reached && names_it(&member) {
            return Some(format!("`{name}`"));
        }
    }
    // A step group that could not be resolved has no members yet: its message names what it lacks.
    let failed = nodes.values().filter(|n| n.boundary_id.as_ref() == Some(&boundary.id) || n.id == boundary.id);
    let tagged = format!("{step}.outputs.{output}");
    if failed.filter(|n| n.phase == NodePhase::Error).any(|n| n.message.as_ref().is_some_and(|m| m.contains(&tagged))) {
        let who = members(&template).into_iter().find(|(_, member)| names_it(member));
        return Some(who.map_or_else(|| "what follows".to_owned(), |(name, _)| format!("`{name}`")));
    }
    let ended = boundary.phase.is_completed();
    (ended && names_it(&serde_json::json!(template.outputs))).then(|| format!("the outputs of `{}`", template.name))
}

/// Every step and task of a template, as written.
fn members(template: &Template) -> Vec<(String, Value)> {
    let steps = template.steps.iter().flatten().flat_map(|group| group.0.iter());
    let steps = steps.map(|s| (s.name.clone(), serde_json::json!(s)));
    let tasks = template.dag.iter().flat_map(|d| d.tasks.iter()).map(|t| (t.name.clone(), serde_json::json!(t)));
    steps.chain(tasks).collect()
}
