//! What names mean at one place of a run: globals, inputs, the item of a loop, and what earlier steps or tasks made.
//! Looked up when asked, never collected: a name costs a hash and not a walk over the siblings.

use std::borrow::Cow;

use serde_json::{Value, json};
use windlass_lang::tags::{Evaluated, Lookup, Resolve};
use windlass_model::parameter::Inputs;
use windlass_model::status::NodeStatus;
use windlass_model::{Artifact, NodePhase, NodeType};

use crate::loops::Item;
use crate::names;
use crate::nodes::{Ix, is_hooked};
use crate::run::Run;

/// A place from which names are looked up.
pub(crate) struct Scope<'a> {
    pub run: &'a Run,
    /// The steps or dag node whose members can be named.
    pub boundary: Option<Ix>,
    pub inputs: Option<&'a Inputs>,
    /// Names of this place alone: `pod.name`, `retries`, …
    pub locals: &'a [(String, String)],
    /// Whether globals are known here.
    pub globals: bool,
    pub item: Option<&'a Item>,
}

impl<'a> Scope<'a> {
    /// A place that knows globals only.
    pub(crate) fn globals(run: &'a Run) -> Self {
        Self { run, boundary: None, inputs: None, locals: &[], globals: true, item: None }
    }

    /// A place that knows only a loop's item.
    pub(crate) fn item(run: &'a Run, item: &'a Item) -> Self {
        Self { run, boundary: None, inputs: None, locals: &[], globals: false, item: Some(item) }
    }

    /// The artifact that a name like `steps.a.outputs.artifacts.b` or `inputs.artifacts.b` stands for.
    ///
    /// `Ok(None)`: what would make it was skipped. `Err`: nobody knows it.
    pub(crate) fn artifact(&self, name: &str) -> Result<Option<Artifact>, ()> {
        if let Some(rest) = name.strip_prefix("inputs.artifacts.") {
            return self.inputs.and_then(|i| i.artifact(rest)).cloned().map(Some).ok_or(());
        }
        if let Some(rest) = name.strip_prefix("workflow.outputs.artifacts.") {
            return self.run.globals.artifacts.get(rest).cloned().map(Some).ok_or(());
        }
        let (member, field) = self.member(name).ok_or(())?;
        let artifact = field.strip_prefix("outputs.artifacts.").ok_or(())?;
        let status = self.run.member_status(self.boundary.ok_or(())?, member).ok_or(())?;
        if matches!(status.phase, NodePhase::Skipped | NodePhase::Omitted) {
            return Ok(None);
        }
        status.outputs.as_ref().and_then(|o| o.artifact(artifact)).cloned().map(Some).ok_or(())
    }

    /// Splits `steps.NAME.FIELD`; a member's name may hold no dot.
    fn member<'n>(&self, name: &'n str) -> Option<(&'n str, &'n str)> {
        let rest = name.strip_prefix("steps.").or_else(|| name.strip_prefix("tasks."))?;
        rest.split_once('.')
    }

    fn of_member(&self, name: &str) -> Lookup<'static> {
        let Some((boundary, (member, field))) = self.boundary.zip(self.member(name)) else { return Lookup::Unknown };
        let text = |s: String| Lookup::Text(Cow::Owned(s));
        if let Some(status) = self.run.member_status(boundary, member) {
            if status.type_ == NodeType::TaskGroup {
                return self.aggregated(boundary, member, field, Some(status));
            }
            return match field {
                "id" => text(status.id.clone()),
                "status" => text(status.phase.as_str().to_owned()),
                "ip" => status.pod_ip.clone().map_or(Lookup::Unknown, text),
                "hostNodeName" => status.host_node_name.clone().map_or(Lookup::Unknown, text),
                "startedAt" => status.started_at.map_or(Lookup::Unknown, |t| text(t.to_string())),
                "finishedAt" => status.finished_at.map_or(Lookup::Unknown, |t| text(t.to_string())),
                _ => self.output(status, field),
            };
        }
        if field == "status"
            && let Some(status) = self.run.step_of_loop(boundary, member)
        {
            return text(status.phase.as_str().to_owned());
        }
        self.aggregated(boundary, member, field, None)
    }

    fn output(&self, status: &NodeStatus, field: &str) -> Lookup<'static> {
        let text = |s: String| Lookup::Text(Cow::Owned(s));
        let value = status.outputs.as_ref().and_then(|outputs| match field {
            "exitCode" => outputs.exit_code.clone(),
            "outputs.result" => outputs.result.clone(),
            "outputs.parameters" if !outputs.parameters.is_empty() => serde_json::to_string(&outputs.parameters).ok(),
            _ => field
                .strip_prefix("outputs.parameters.")
                .and_then(|p| outputs.parameter(p))
                .and_then(|p| p.value.as_ref())
                .map(|v| v.0.clone()),
        });
        if let Some(value) = value {
            return text(value);
        }
        if matches!(status.phase, NodePhase::Skipped | NodePhase::Omitted) && status.outputs.is_none() {
            // Only what the template declares is known to be absent; what it says for this case counts before that.
            let declared = field.strip_prefix("outputs.parameters.").and_then(|p| self.run.declared_output(status, p));
            return declared.map_or(Lookup::Unknown, |default| default.map_or(Lookup::Absent, text));
        }
        Lookup::Unknown
    }

    /// A loop's outputs: of the succeeded items, in their order.
    fn aggregated(&self, boundary: Ix, member: &str, field: &str, group: Option<&NodeStatus>) -> Lookup<'static> {
        let text = |s: String| Lookup::Text(Cow::Owned(s));
        // In steps a loop has no row of its own: its step group's stands for it, once that has ended.
        let step_group = || self.run.step_group(boundary, member).filter(|row| row.phase.is_fulfilled());
        if let Some(group) = group.or_else(step_group) {
            match field {
                "status" => return text(group.phase.as_str().to_owned()),
                "id" => return text(group.id.clone()),
                "startedAt" => return group.started_at.map_or(Lookup::Unknown, |t| text(t.to_string())),
                "finishedAt" => return group.finished_at.map_or(Lookup::Unknown, |t| text(t.to_string())),
                _ => {}
            }
        }
        let Some(items) = self.run.loop_items(boundary, member) else { return Lookup::Unknown };
        let outputs = items
            .iter()
            .filter(|s| s.phase == NodePhase::Succeeded && !is_hooked(s))
            .filter_map(|s| s.outputs.as_ref());
        match field {
            "outputs.result" => {
                // Each is JSON as it stands, or the steps or dag node has ended for it: [`Run::loop_fault`].
                let results: Vec<String> =
                    outputs.filter_map(|o| o.result.as_deref()).map(windlass_lang::go_json::compact).collect();
                text(format!("[{}]", results.join(",")))
            }
            "outputs.parameters" => {
                let maps: Vec<Value> = outputs
                    .filter(|o| !o.parameters.is_empty())
                    .map(|o| {
                        o.parameters
                            .iter()
                            .map(|p| (p.name.clone(), json!(p.value.as_ref().map_or("", |v| v.as_str()))))
                            .collect::<serde_json::Map<_, _>>()
                            .into()
                    })
                    .collect();
                text(Value::Array(maps).to_string())
            }
            _ => {
                let Some(name) = field.strip_prefix("outputs.parameters.") else { return Lookup::Unknown };
                let values: Vec<&str> =
                    outputs.filter_map(|o| o.parameter(name)?.value.as_ref().map(|v| v.as_str())).collect();
                text(json_list(&values))
            }
        }
    }
}

/// A JSON list of texts; of what the texts hold, when every one holds a list or a map.
fn json_list(values: &[&str]) -> String {
    let parsed: Option<Vec<Value>> = values
        .iter()
        .map(|v| serde_json::from_str::<Value>(v).ok().filter(|v| v.is_array() || v.is_object()))
        .collect();
    match parsed {
        Some(list) if !list.is_empty() => Value::Array(list).to_string(),
        _ => json!(values).to_string(),
    }
}

impl Resolve for Scope<'_> {
    fn name(&self, name: &str) -> Lookup<'_> {
        if let Some((_, value)) = self.locals.iter().find(|(k, _)| k == name) {
            return Lookup::Text(Cow::Borrowed(value));
        }
        if let Some(item) = self.item {
            if name == "item" {
                return Lookup::Text(item.text());
            }
            if let Some(key) = name.strip_prefix("item.") {
                return item.member(key).map_or(Lookup::Unknown, |text| Lookup::Text(Cow::Owned(text)));
            }
        }
        if let Some(inputs) = self.inputs
            && let Some(rest) = name.strip_prefix("inputs.")
        {
            if rest == "parameters" {
                return Lookup::Text(Cow::Owned(serde_json::to_string(&inputs.parameters).unwrap_or_default()));
            }
            if let Some(name) = rest.strip_prefix("parameters.") {
                return match inputs.parameter(name).and_then(|p| p.value.as_ref()) {
                    Some(value) => Lookup::Text(Cow::Borrowed(value.as_str())),
                    None => Lookup::Unknown,
                };
            }
            if let Some(name) = rest.strip_prefix("artifacts.").and_then(|r| r.strip_suffix(".path")) {
                return match inputs.artifact(name).and_then(|a| a.path.as_deref()) {
                    Some(path) => Lookup::Text(Cow::Borrowed(path)),
                    None => Lookup::Unknown,
                };
            }
            return Lookup::Unknown;
        }
        if name.starts_with("workflow.") {
            if !self.globals {
                return Lookup::Unknown;
            }
            return match self.run.global(name) {
                Some(text) => Lookup::Text(text),
                None => Lookup::Unknown,
            };
        }
        self.of_member(name)
    }

    fn expression(&self, text: &str) -> Evaluated {
        crate::expression::evaluate(self, text)
    }
}

impl Run {
    /// The row of a boundary's member: of the step (in whatever group) or the task of that name.
    pub(crate) fn member_status(&self, boundary: Ix, member: &str) -> Option<&NodeStatus> {
        let name = self.member_name(boundary, member)?;
        let ix = self.nodes.find(&names::node_id(self.workflow_name(), &name))?;
        Some(&self.nodes.list[ix].status)
    }

    fn member_name(&self, boundary: Ix, member: &str) -> Option<String> {
        let node = &self.nodes.list[boundary];
        let template = node.template.as_ref()?;
        if let Some(steps) = &template.steps {
            let group = steps.iter().position(|g| g.0.iter().any(|s| s.name == member))?;
            return Some(format!("{}[{group}].{member}", node.status.name));
        }
        template.dag.as_ref()?.tasks.iter().any(|t| t.name == member).then(|| format!("{}.{member}", node.status.name))
    }

    /// The row of one of a step's items, by the name that people see: `deploy(1:eu)`. What waits for it is its hooks, in its
    /// own step group; tasks have no such names.
    fn step_of_loop(&self, boundary: Ix, shown: &str) -> Option<&NodeStatus> {
        let (step, _) = shown.split_once('(')?;
        let group = self.step_group(boundary, step).filter(|group| !group.phase.is_fulfilled())?;
        let id = names::node_id(self.workflow_name(), &format!("{}.{shown}", group.name));
        Some(&self.nodes.list[self.nodes.find(&id)?].status)
    }

    /// The row of the step group that a step is in.
    fn step_group(&self, boundary: Ix, member: &str) -> Option<&NodeStatus> {
        self.nodes.list[boundary].template.as_ref()?.steps.as_ref()?;
        let name = self.member_name(boundary, member)?;
        let group = format!("{}]", name.rsplit_once("].")?.0);
        let ix = self.nodes.find(&names::node_id(self.workflow_name(), &group))?;
        Some(&self.nodes.list[ix].status)
    }

    /// The rows of a loop's items in their order; nothing when there is no such loop yet.
    pub(crate) fn loop_items(&self, boundary: Ix, member: &str) -> Option<Vec<&NodeStatus>> {
        let name = self.member_name(boundary, member)?;
        let is_steps = self.nodes.list[boundary].template.as_ref()?.steps.is_some();
        let group = if is_steps { name.rsplit_once("].").map(|(g, _)| format!("{g}]"))? } else { name.clone() };
        let group = self.nodes.find(&names::node_id(self.workflow_name(), &group))?;
        let prefix = format!("{name}(");
        let mut items: Vec<(usize, &NodeStatus)> = self.nodes.list[group]
            .status
            .children
            .iter()
            .filter_map(|id| self.nodes.find(id))
            .map(|ix| &self.nodes.list[ix].status)
            .filter_map(|s| {
                let index = s.name.strip_prefix(&prefix)?.split_once(':')?.0.parse().ok()?;
                Some((index, s))
            })
            .collect();
        if items.is_empty() && is_steps {
            return None;
        }
        items.sort_by_key(|(index, _)| *index);
        Some(items.into_iter().map(|(_, s)| s).collect())
    }

    /// What is wrong with a loop's results, each of which must be JSON for the list of them to be one.
    ///
    /// Argo asks so of every loop whose standard output somebody names, and ends the steps or dag node when it is not.
    pub(crate) fn loop_fault(&self, boundary: Ix, member: &str) -> Option<String> {
        let items = self.loop_items(boundary, member)?;
        let succeeded = items.iter().filter(|s| s.phase == NodePhase::Succeeded && !is_hooked(s));
        succeeded.filter_map(|s| s.outputs.as_ref()?.result.as_deref()).find_map(windlass_lang::go_json::fault)
    }

    /// Why nothing can come after a loop whose template is written in place: Argo looks the template up by the name in
    /// the row of the loop, in steps of its first item that ran, and there is none.
    pub(crate) fn nameless_loop(&self, boundary: Ix, member: &str) -> Option<String> {
        let nameless = |row: &NodeStatus| row.template_name.is_none() && row.template_ref.is_none();
        let found = match self.member_status(boundary, member) {
            Some(row) => row.type_ == NodeType::TaskGroup && nameless(row),
            None => {
                let items = self.loop_items(boundary, member)?;
                items.into_iter().find(|row| row.type_ != NodeType::Skipped).is_some_and(nameless)
            }
        };
        found.then(|| "failed to get a template".to_owned())
    }

    /// An output that a template declares, with what it says that is when it did not run.
    fn declared_output(&self, status: &NodeStatus, parameter: &str) -> Option<Option<String>> {
        let target = match (&status.template_ref, &status.template_name) {
            (Some(reference), _) => crate::nodes::Target::Ref(reference.clone()),
            (None, Some(name)) => crate::nodes::Target::Name(name.clone()),
            (None, None) => return None,
        };
        let scope = std::sync::Arc::from(status.template_scope.as_deref().unwrap_or_default());
        let found = self.templates.find(&target, &scope).ok()?;
        let declared = found.template.outputs.parameter(parameter)?;
        Some(declared.value_from.as_ref().and_then(|source| source.default.clone()).map(|default| default.0))
    }

    /// A `workflow.*` name.
    pub(crate) fn global(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "workflow.status" => self.globals.texts.get(name).map(|t| Cow::Borrowed(t.as_str())).or_else(|| {
                (self.status.phase != windlass_model::WorkflowPhase::Unknown)
                    .then(|| Cow::Borrowed(self.status.phase.as_str()))
            }),
            "workflow.duration" => {
                let started = self.status.started_at?;
                let end = self.status.finished_at.map_or(self.now, |t| t.0);
                let ms = end.as_millisecond() - started.0.as_millisecond();
                Some(Cow::Owned(format!("{:.6}", ms as f64 / 1000.0)))
            }
            _ => self.globals.texts.get(name).map(|t| Cow::Borrowed(t.as_str())),
        }
    }
}
