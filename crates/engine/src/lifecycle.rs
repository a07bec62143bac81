//! The run as a whole: how it opens, stops, and ends.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | – | all resources and ConfigMaps it names are there | Running | the entrypoint's node begins |
//! | – | a lock of it is held by others | Pending | it waits for its turn |
//! | – | a claim of it cannot be made yet | Pending | it is asked for again |
//! | – | one is missing, or the spec cannot run | Failed, Error | |
//! | Running | the entrypoint's node and the hooks ended | Running | the exit handler begins, unless terminated |
//! | Running | the exit handler ended, or there is none | Succeeded, Failed, Error | it spoils success, mends nothing |

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};
use windlass_lang::tags::{self, Options};
use windlass_model::status::{Condition, NodeFlag};
use windlass_model::template::LifecycleHook;
use windlass_model::workflow::WorkflowSpec;
use windlass_model::{AnyString, Arguments, NodePhase, NodeType, Time, WorkflowPhase};

use crate::door::Command;
use crate::inputs::InputFault;
use crate::nodes::{Call, Ix, Machine, Target};
use crate::opening::Opened;
use crate::restrictions::Referencing;
use crate::run::{Run, Stage};
use crate::scope::Scope;
use crate::templates::{not_found, target};

impl Run {
    /// Begins the run, as soon as everything it needs is there.
    pub(crate) fn open_run(&mut self) {
        if let Err(stop) = self.prepare() {
            if let Some((phase, message)) = stop {
                self.end_workflow(phase, &message);
            }
            return;
        }
        self.stage = Stage::Running;
        if self.status.phase != WorkflowPhase::Running || self.status.message.is_some() {
            self.mark_workflow(WorkflowPhase::Running, "");
        }
        if self.status.started_at.is_none() {
            self.status.started_at = Some(Time::from_timestamp(self.now));
            self.dirty = true;
        }
        self.make_budget();
        if let (Some(seconds), Some(started)) = (self.spec.active_deadline_seconds, self.status.started_at) {
            self.set_deadline(seconds, started);
        }
        let name = self.workflow_name().to_owned();
        let arguments = Arguments {
            parameters: self.spec.arguments.parameters.clone(),
            artifacts: self.spec.arguments.artifacts.clone(),
        };
        let call = Call {
            name,
            target: Target::Name(self.spec.entrypoint.clone().unwrap_or_default()),
            arguments,
            absent: Vec::new(),
            parent: None,
            boundary: None,
            scope: self.templates.local_scope(),
            slot: 0,
            on_exit: false,
            flag: None,
            depth: 0,
        };
        match self.open(&call) {
            Opened::Node { ix, .. } => self.root = Some(ix),
            Opened::Failed { ix, .. } => {
                self.root = Some(ix);
                self.nodes.list[ix].refused = true;
            }
            Opened::Blocked | Opened::Waiting => {
                self.stage = Stage::Opening;
                return;
            }
        }
        self.metrics_of_run(false);
    }

    /// What must hold before anything runs. `Err(None)`: wait. `Err(Some)`: it will never hold.
    fn prepare(&mut self) -> Result<(), Option<(WorkflowPhase, String)>> {
        if self.config.referencing.is_some() {
            crate::restrictions::refuse(&self.own_spec).map_err(|m| Some((WorkflowPhase::Error, m)))?;
            self.check_unchanged()?;
        }
        if let Some(reference) = self.own_spec.workflow_template_ref.clone()
            && self.status.stored_workflow_template_spec.is_none()
        {
            match self.base.take() {
                None => {
                    self.ask_template(reference.cluster_scope, &reference.name);
                    return Err(None);
                }
                Some(None) => {
                    return Err(Some((WorkflowPhase::Error, not_found(reference.cluster_scope, &reference.name))));
                }
                Some(Some(base)) => self.merge_base(&base).map_err(|m| Some((WorkflowPhase::Error, m)))?,
            }
        }
        let mut entries = vec![Target::Name(self.spec.entrypoint.clone().unwrap_or_default())];
        entries.extend(self.spec.on_exit.iter().map(|t| Target::Name(t.clone())));
        entries.extend(self.spec.hooks.values().map(|h| target(&h.template, &h.template_ref, None)));
        if self.is_new() {
            // What nobody calls is looked at too before anything runs.
            entries.extend(self.spec.templates.iter().map(|t| Target::Name(t.name.clone())));
        }
        let unknown = self.templates.unknown_resources(&entries);
        if !unknown.is_empty() {
            for (cluster, name) in unknown {
                self.ask_template(cluster, &name);
            }
            return Err(None);
        }
        self.check_spec().map_err(|m| Some((WorkflowPhase::Failed, format!("invalid spec: {m}"))))?;
        let mut spec = (*self.spec).clone();
        for parameter in &mut spec.arguments.parameters {
            if parameter.value.is_none()
                && let Some(source) = &parameter.value_from
                && let Some(selector) = source.config_map_key_ref.clone()
            {
                match self.config_map_value(&selector, source.default.clone()) {
                    Ok(value) => parameter.value = value,
                    Err(InputFault::Wait) => return Err(None),
                    Err(InputFault::Wrong(message)) => {
                        let text = format!(
                            "failed to set global parameter {} from configmap with name {} and key {}: {message}",
                            parameter.name, selector.name, selector.key
                        );
                        return Err(Some((WorkflowPhase::Failed, text)));
                    }
                }
            }
        }
        self.globals.set_parameters(&spec.arguments.parameters);
        self.apply_metadata(&spec);
        // The spec may use globals itself: everything but its templates, and its hooks, which ask for them when they begin.
        let templates = std::mem::take(&mut spec.templates);
        let hooks = std::mem::take(&mut spec.hooks);
        let value = serde_json::to_value(&spec).map_err(|e| Some((WorkflowPhase::Error, e.to_string())))?;
        if tags::has_tags(&value) {
            let scope = Scope::globals(self);
            let replaced = tags::substitute_value(&value, &scope, &Options::default()).map_err(|faults| {
                let message = faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default();
                Some((WorkflowPhase::Failed, format!("failed to set global parameters: {message}")))
            })?;
            spec = serde_json::from_value(replaced).map_err(|e| Some((WorkflowPhase::Error, e.to_string())))?;
            self.globals.set_parameters(&spec.arguments.parameters);
        }
        spec.templates = templates;
        spec.hooks = hooks;
        self.globals.set("workflow.mainEntrypoint", spec.entrypoint.clone().unwrap_or_default());
        self.spec = Arc::new(spec);
        if self.nodes.list.is_empty() {
            let value = serde_json::to_value(&*self.spec).unwrap_or_default();
            if let Some(message) = self.refusal(&value) {
                return Err(Some((WorkflowPhase::Error, message)));
            }
        }
        self.admit_run()?;
        self.make_claims()
    }

    /// Whether nothing has become of the run yet.
    fn is_new(&self) -> bool {
        !self.checked && self.nodes.list.is_empty() && self.status.phase == WorkflowPhase::Unknown
    }

    /// Refuses a spec that cannot run, once, when the run is taken up for the first time.
    fn check_spec(&mut self) -> Result<(), String> {
        let fetched = std::mem::take(&mut self.fetched);
        if !self.is_new() {
            return Ok(());
        }
        self.checked = true;
        crate::check::check(&crate::check::Subject {
            meta: &self.meta,
            spec: &self.own_spec,
            merged: self.status.stored_workflow_template_spec.as_deref(),
            defaults: self.config.workflow_defaults.as_ref(),
            fetched: &fetched,
            submitted: true,
        })
    }

    /// What a spec uses that is not run yet, in words.
    pub(crate) fn refusal(&self, spec: &Value) -> Option<String> {
        let refused = crate::validate::unsupported::refuse(spec);
        (self.config.refuse_unsupported && !refused.is_empty()).then(|| refused.join("; "))
    }

    /// What runs is what was frozen when the run began; whoever takes it up again looks whether it still is.
    fn check_unchanged(&mut self) -> Result<(), Option<(WorkflowPhase, String)>> {
        let error = |message: String| Some((WorkflowPhase::Error, message));
        let own = &self.own_spec;
        let (Some(reference), Some(stored)) =
            (own.workflow_template_ref.clone(), self.status.stored_workflow_template_spec.clone())
        else {
            return Ok(());
        };
        // Who suspends or stops a run changes its spec, and may.
        let steered = own.suspend.is_some() || own.shutdown != stored.shutdown;
        if self.unchanged || self.config.referencing != Some(Referencing::Secure) || steered {
            return Ok(());
        }
        let base = match self.base.take() {
            None => {
                self.ask_template(reference.cluster_scope, &reference.name);
                return Err(None);
            }
            Some(None) => return Err(error(not_found(reference.cluster_scope, &reference.name))),
            Some(Some(base)) => base,
        };
        self.unchanged = true;
        match self.merged(&base).map_err(error)? == *stored {
            true => Ok(()),
            false => Err(error(
                "WorkflowSpec may not change during execution when the controller is set `templateReferencing: Secure`"
                    .to_owned(),
            )),
        }
    }

    /// Merges a stored template's spec under the workflow's own, and freezes what comes out.
    fn merge_base(&mut self, base: &WorkflowSpec) -> Result<(), String> {
        let spec = self.merged(base)?;
        self.unchanged = true;
        self.status.stored_workflow_template_spec = Some(Box::new(spec.clone()));
        self.dirty = true;
        self.spec = Arc::new(spec);
        self.reset_spec();
        if let Some(reference) = self.own_spec.workflow_template_ref.clone() {
            self.templates.add_resource(reference.cluster_scope, &reference.name, Some(&base.templates));
        }
        Ok(())
    }

    /// A stored template's spec under the workflow's own, and the controller's defaults under both.
    fn merged(&self, base: &WorkflowSpec) -> Result<WorkflowSpec, String> {
        let base = match &self.config.workflow_defaults {
            Some(defaults) => &with_defaults(base, defaults),
            None => base,
        };
        let mut merged = serde_json::to_value(base).map_err(|e| e.to_string())?;
        let own = match self.config.referencing {
            Some(_) => &crate::restrictions::allowed(&self.own_spec),
            None => &self.own_spec,
        };
        let mut own = serde_json::to_value(own).map_err(|e| e.to_string())?;
        // Parameters are replaced whole, so that a value never meets another's valueFrom.
        for list in ["parameters", "artifacts"] {
            let Some(Value::Array(ours)) = own.get_mut("arguments").and_then(|a| a.get_mut(list)).map(Value::take)
            else {
                continue;
            };
            if let Value::Object(arguments) = &mut own["arguments"] {
                arguments.remove(list);
            }
            let theirs = &mut merged["arguments"][list];
            if theirs.is_null() {
                *theirs = json!([]);
            }
            if let Value::Array(theirs) = theirs {
                for item in ours {
                    match theirs.iter_mut().find(|t| t["name"] == item["name"]) {
                        Some(have) => *have = item,
                        None => theirs.push(item),
                    }
                }
            }
        }
        crate::merge::strategic(&mut merged, &own);
        serde_json::from_value(merged).map_err(|e| e.to_string())
    }

    /// Labels and annotations that the spec gives the workflow itself.
    fn apply_metadata(&mut self, spec: &WorkflowSpec) {
        let Some(metadata) = &spec.workflow_metadata else { return };
        let mut labels = self.meta.labels.clone();
        let mut annotations = self.meta.annotations.clone();
        {
            let scope = Scope::globals(self);
            let text = |t: &String| tags::substitute(t, &scope, &Options::default()).unwrap_or_else(|_| t.clone());
            labels.extend(metadata.labels.iter().map(|(k, v)| (k.clone(), text(v))));
            annotations.extend(metadata.annotations.iter().map(|(k, v)| (k.clone(), text(v))));
            for (key, from) in &metadata.labels_from {
                if let tags::Evaluated::Text(value) = crate::expression::evaluate(&scope, &from.expression) {
                    labels.insert(key.clone(), value);
                }
            }
        }
        self.globals.set_metadata(&labels, &annotations);
        self.meta.labels = labels;
        self.meta.annotations = annotations;
        self.dirty = true;
    }

    fn set_deadline(&mut self, seconds: i64, started: Time) {
        let at = started.0.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(self.now);
        self.deadline = Some(at);
        self.wake_at(at, None);
    }

    /// The deadline may have passed.
    pub(crate) fn check_deadline(&mut self) {
        if self.deadline_passed || self.deadline.is_none_or(|at| at > self.now) || self.stage != Stage::Running {
            return;
        }
        self.deadline_passed = true;
        self.stop_nodes("Step exceeded its deadline", "Step exceeded its deadline", false);
    }

    /// Somebody changed how the run goes on.
    pub(crate) fn observe_control(&mut self, suspend: bool, shutdown: Option<&str>, deadline_seconds: Option<i64>) {
        let resumed = self.suspend && !suspend;
        self.suspend = suspend;
        if resumed {
            self.look_again_at_blocked();
            if self.stage == Stage::Opening {
                return;
            }
        }
        if let (Some(seconds), Some(started)) = (deadline_seconds, self.status.started_at)
            && self.spec.active_deadline_seconds != Some(seconds)
        {
            let mut spec = (*self.spec).clone();
            spec.active_deadline_seconds = Some(seconds);
            self.spec = Arc::new(spec);
            self.set_deadline(seconds, started);
        }
        if let Some(how) = shutdown.filter(|s| !s.is_empty())
            && self.shutdown.as_deref() != Some(how)
        {
            self.shutdown = Some(how.to_owned());
            let pods = format!("workflow shutdown with strategy:  {how}");
            let others = format!("Stopped with strategy '{how}'");
            self.stop_nodes(&pods, &others, how == "Terminate");
        }
    }

    /// Ends what runs. Exit handlers go on unless everything ends.
    fn stop_nodes(&mut self, pods: &str, others: &str, everything: bool) {
        for ix in 0..self.nodes.list.len() {
            let node = &self.nodes.list[ix];
            let daemon = node.status.daemoned == Some(true);
            if !node.attached || node.status.phase.is_fulfilled() || (node.on_exit && !everything) {
                continue;
            }
            match node.status.type_ {
                NodeType::Pod if daemon => {}
                NodeType::Pod | NodeType::Http | NodeType::Plugin => {
                    let known = match &node.machine {
                        Machine::Pod(machine) => machine.uid.clone().map(|uid| (machine.name.clone(), uid)),
                        _ => None,
                    };
                    let pending = node.status.phase == NodePhase::Pending;
                    let message = if known.is_some() { pods } else { others };
                    match known {
                        Some((name, uid)) if pending => {
                            self.commands.push(Command::DeletePod { name, uid: Some(uid) });
                        }
                        Some((name, uid)) => {
                            self.commands.push(Command::StopPod { name, uid: Some(uid), grace_seconds: None });
                        }
                        None => {
                            if let Machine::Pod(machine) = &node.machine {
                                let name = machine.name.clone();
                                self.commands.push(Command::DeletePod { name, uid: None });
                            }
                        }
                    }
                    self.mark(ix, NodePhase::Failed, Some(message));
                }
                NodeType::Container => self.mark(ix, NodePhase::Failed, Some(pods)),
                NodeType::Suspend => self.mark(ix, NodePhase::Failed, Some(others)),
                NodeType::Retry | NodeType::Steps | NodeType::Dag | NodeType::StepGroup | NodeType::TaskGroup => {
                    self.enqueue(ix);
                }
                _ => {}
            }
        }
    }

    /// Looks whether the run as a whole goes on; true when something began that must be looked at.
    pub(crate) fn conclude(&mut self) -> bool {
        match self.stage {
            Stage::Opening | Stage::Done => false,
            Stage::Running => {
                let Some(root) = self.root else { return false };
                if self.fire_run_hooks() {
                    return true;
                }
                if !self.nodes.list[root].status.is_fulfilled() || !self.run_hooks_ended() {
                    return false;
                }
                let entry = &mut self.nodes.list[root];
                let refused = entry.refused && entry.status.phase == NodePhase::Error;
                if refused || entry.fault.is_some() {
                    // The call of the entrypoint itself went wrong: Argo ends there, without the exit handler.
                    let message = match (refused, entry.fault.take()) {
                        (false, fault) => fault.unwrap_or_default(),
                        (true, fault) => {
                            let why = fault.or_else(|| entry.status.message.clone()).unwrap_or_default();
                            format!("error in entry template execution: {why}")
                        }
                    };
                    let daemons = self.daemons.clone();
                    self.kill_daemons(&daemons);
                    self.end_workflow(WorkflowPhase::Error, &message);
                    return false;
                }
                let phase = workflow_phase(self.nodes.list[root].status.phase);
                self.globals.set("workflow.status", phase.as_str());
                let failures = self.failures();
                self.globals.set_failures(&failures);
                self.stage = Stage::Exiting;
                self.begin_exit()
            }
            Stage::Exiting => {
                if self.exit.is_none() && self.begin_exit() {
                    return true;
                }
                if self.stage == Stage::Exiting
                    && self.exit.is_none_or(|ix| self.nodes.list[ix].status.phase.is_fulfilled())
                {
                    self.finish();
                }
                false
            }
        }
    }

    fn begin_exit(&mut self) -> bool {
        let hook = match (self.spec.on_exit.as_deref(), self.spec.hooks.get("exit")) {
            (Some(template), _) if !template.is_empty() => {
                LifecycleHook { template: Some(template.to_owned()), ..LifecycleHook::default() }
            }
            (_, Some(hook)) => hook.clone(),
            _ => {
                self.finish();
                return false;
            }
        };
        if self.shutdown.as_deref() == Some("Terminate") {
            self.finish();
            return false;
        }
        let value = serde_json::to_value(&hook).unwrap_or_default();
        let hook = tags::substitute_value(&value, &Scope::globals(self), &Options::default())
            .ok()
            .and_then(|v| serde_json::from_value::<LifecycleHook>(v).ok())
            .unwrap_or(hook);
        let mut arguments = hook.arguments;
        // The workflow's own arguments are known to the handler too.
        for parameter in &self.spec.arguments.parameters {
            if arguments.parameter(&parameter.name).is_none() && parameter.value.is_some() {
                arguments.parameters.push(parameter.clone());
            }
        }
        let call = Call {
            name: format!("{}.onExit", self.workflow_name()),
            target: target(&hook.template, &hook.template_ref, None),
            arguments,
            absent: Vec::new(),
            parent: None,
            boundary: None,
            scope: self.templates.local_scope(),
            slot: 0,
            on_exit: true,
            flag: Some(NodeFlag { hooked: true, retried: false }),
            depth: 0,
        };
        match self.open(&call) {
            Opened::Node { ix, .. } | Opened::Failed { ix, .. } => {
                self.exit = Some(ix);
                true
            }
            Opened::Blocked | Opened::Waiting => false,
        }
    }

    fn finish(&mut self) {
        let Some(root) = self.root else { return };
        let row = &self.nodes.list[root].status;
        let mut phase = workflow_phase(row.phase);
        let mut message = row.message.clone().unwrap_or_default();
        if phase == WorkflowPhase::Succeeded {
            message.clear();
            if let Some(exit) = self.exit {
                let exit = &self.nodes.list[exit].status;
                if exit.phase.is_fail_or_error() {
                    phase = workflow_phase(exit.phase);
                    message = exit.message.clone().unwrap_or_default();
                }
            }
        } else if let Some(how) = &self.shutdown {
            message = format!("Stopped with strategy '{how}'");
        }
        let daemons = self.daemons.clone();
        self.kill_daemons(&daemons);
        self.end_workflow(phase, &message);
    }

    /// The last words: phase, message, time, conditions, progress of inner nodes.
    pub(crate) fn end_workflow(&mut self, phase: WorkflowPhase, message: &str) {
        self.mark_workflow(phase, message);
        self.metrics_of_run(true);
        self.release_claims(phase);
        self.release_all_locks();
        self.release_budget();
        self.status.finished_at = Some(Time::from_timestamp(self.now));
        self.status.conditions.retain(|c| c.type_ != "PodRunning" && c.type_ != "Completed");
        for (type_, status) in [("PodRunning", "False"), ("Completed", "True")] {
            self.status.conditions.push(Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                message: None,
            });
        }
        self.stage = Stage::Done;
        self.sum_up();
    }

    pub(crate) fn failures(&self) -> Value {
        let list = self
            .nodes
            .list
            .iter()
            .map(|n| &n.status)
            .filter(|s| s.phase.is_fail_or_error())
            .map(|s| {
                json!({
                    "displayName": s.display_name,
                    "message": s.message.clone().unwrap_or_default(),
                    "templateName": s.template_name.clone().unwrap_or_default(),
                    "phase": s.phase.as_str(),
                    "podName": s.id,
                    "finishedAt": s.finished_at.map(|t| t.to_string()),
                })
            })
            .collect();
        Value::Array(list)
    }

    /// The value of a workflow parameter.
    pub fn parameter(&self, name: &str) -> Option<&AnyString> {
        self.spec.arguments.parameter(name).and_then(|p| p.value.as_ref())
    }

    /// One node's row.
    pub fn node(&self, id: &str) -> Option<&windlass_model::NodeStatus> {
        self.nodes.find(id).map(|ix| &self.nodes.list[ix].status)
    }

    /// The rows that have not ended, for those who ask what a run waits for.
    pub fn unfinished(&self) -> Vec<String> {
        let open = |ix: &Ix| !self.nodes.list[*ix].status.phase.is_fulfilled();
        (0..self.nodes.list.len()).filter(open).map(|ix| self.nodes.list[ix].status.name.clone()).collect()
    }
}

fn workflow_phase(phase: NodePhase) -> WorkflowPhase {
    match phase {
        NodePhase::Failed => WorkflowPhase::Failed,
        NodePhase::Error => WorkflowPhase::Error,
        _ => WorkflowPhase::Succeeded,
    }
}

/// A spec with what it leaves out filled in. Defaults that do not make a spec are passed over.
pub(crate) fn with_defaults(spec: &WorkflowSpec, defaults: &Value) -> WorkflowSpec {
    let mut merged = defaults["spec"].clone();
    if !merged.is_object() {
        return spec.clone();
    }
    let Ok(own) = serde_json::to_value(spec) else { return spec.clone() };
    crate::merge::strategic(&mut merged, &own);
    serde_json::from_value(merged).unwrap_or_else(|_| spec.clone())
}

/// Labels and annotations that the workflow does not have itself.
pub(crate) fn fill_in_metadata(meta: &mut windlass_model::ObjectMeta, defaults: &Value) {
    for (field, into) in [("labels", &mut meta.labels), ("annotations", &mut meta.annotations)] {
        for (key, value) in defaults["metadata"][field].as_object().into_iter().flatten() {
            if let Some(text) = value.as_str() {
                into.entry(key.clone()).or_insert_with(|| text.to_owned());
            }
        }
    }
}
