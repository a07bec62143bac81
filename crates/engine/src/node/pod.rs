//! A pod node: container, script, resource and the like.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | Pending | the pod runs | Running | a daemon that is ready lets the others go on |
//! | Pending | the API server refuses the pod | Error | Pending with the message when trying again may help |
//! | Pending, Running | the pod succeeded, its report is there | Succeeded | outputs and exit code are taken |
//! | Pending, Running | the pod failed | Failed, Error | the infrastructure's loss: a new pod, at most so many times |
//! | Pending, Running | `main` could not be started, others run | Failed | the pod is stopped |
//! | Pending | the template's `timeout` or `pendingTimeout` is over | Failed | the pod is deleted |
//! | Running | the pod is gone | Error | `pod deleted` |
//! | Running daemon | the node around it ended | Succeeded | the pod is stopped |

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use windlass_model::labels;
use windlass_model::status::parse_progress;
use windlass_model::task_result::WorkflowTaskResult;
use windlass_model::{Arguments, NodePhase, NodeType};

use crate::door::Command;
use crate::names;
use crate::nodes::{Call, Ix, Machine, Target};
use crate::pod_outcome;
use crate::run::Run;

/// How long a pod that ended may be ahead of its report.
const REPORT_WAIT_MS: i64 = 20_000;
/// The same, when the pod failed: then there need not be a report.
const REPORT_WAIT_FAILED_MS: i64 = 1_000;

/// What is known of the node's pod.
#[derive(Debug, Default)]
pub(crate) struct PodMachine {
    pub name: String,
    pub uid: Option<String>,
    /// Pods made for this node before this one.
    pub attempt: u32,
    report: Option<WorkflowTaskResult>,
    /// The pod as it ended, and since when its report is waited for.
    ended: Option<(Value, Timestamp)>,
    /// Whether the report was asked for by name, for none had been told when its time was over; and whether there is
    /// an answer.
    asked: bool,
    answered: bool,
    /// Whether the step makes outputs that only a report can bring.
    expects_report: bool,
    /// When to try to create the pod again after a refusal that may pass.
    again_at: Option<Timestamp>,
}

impl Run {
    /// Takes a pod node up: creates its pod, or finds the one there is.
    pub(crate) fn begin_pod(&mut self, ix: Ix, new: bool) -> Result<(), String> {
        let name = self.pod_name_of(ix);
        let row = &self.nodes.list[ix].status;
        let attempt = row.failed_pod_restarts.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let machine = PodMachine { name, attempt, ..PodMachine::default() };
        self.nodes.list[ix].machine = Machine::Pod(Box::new(machine));
        if !new {
            self.open_containers(ix);
        }
        let id = self.nodes.list[ix].status.id.clone();
        if let Some(report) = self.early_reports.remove(&id) {
            self.take_report(ix, report);
        }
        if self.nodes.list[ix].status.is_fulfilled() {
            // A daemon that was let go before the load.
            if !self.daemons.contains(&ix) {
                self.daemons.push(ix);
            }
            self.tell_parent(ix);
        }
        if let Some(pod) = self.early_pods.remove(&id) {
            if attempt_of(&pod) >= attempt {
                self.expect_report(ix)?;
                self.observe_pod(&pod);
                return Ok(());
            }
            // Lost with its node, and a crash came between writing so and replacing it.
            let name = self.pod_name_of(ix);
            let uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
            self.commands.push(Command::DeletePod { name, uid });
        }
        if self.nodes.list[ix].status.phase == NodePhase::Running && !new {
            self.expect_report(ix)?;
            if self.surveyed {
                self.lose_pod(ix);
            } else {
                self.unseen.push(ix);
            }
            return Ok(());
        }
        if self.is_shut_down(ix) {
            let how = self.shutdown.clone().unwrap_or_default();
            self.mark(ix, NodePhase::Failed, Some(&format!("workflow shutdown with strategy: {how}")));
            return Ok(());
        }
        if self.pending_too_long(ix) {
            self.time_out(ix);
            return Ok(());
        }
        self.create_pod(ix)
    }

    /// Whether a node has been pending for longer than its template allows; if not, it is looked at when it will have.
    pub(crate) fn pending_too_long(&mut self, ix: Ix) -> bool {
        let node = &self.nodes.list[ix];
        let Some(template) = node.template.clone().filter(|_| node.status.phase == NodePhase::Pending) else {
            return false;
        };
        let started = node.status.started_at.map_or(self.now, |t| t.0);
        let texts = [template.timeout.as_deref(), template.pending_timeout.as_deref()];
        let scope = crate::scope::Scope {
            run: self,
            boundary: None,
            inputs: node.status.inputs.as_ref(),
            locals: &[],
            globals: true,
            item: None,
        };
        let limits = texts.into_iter().flatten().filter(|t| !t.is_empty()).filter_map(|text| {
            let text = windlass_lang::tags::substitute(text, &scope, &Default::default()).ok()?;
            started.checked_add(SignedDuration::from_millis(crate::duration::parse_ms(&text)?)).ok()
        });
        let Some(until) = limits.min() else { return false };
        if until > self.now {
            self.wake_at(until, Some(ix));
        }
        until <= self.now
    }

    /// Ends a node that was pending for too long. Its pod goes, so that what it waited for is free.
    pub(crate) fn time_out(&mut self, ix: Ix) {
        if let Machine::Pod(machine) = &self.nodes.list[ix].machine {
            let command = Command::DeletePod { name: machine.name.clone(), uid: machine.uid.clone() };
            self.commands.push(command);
        }
        self.nodes.list[ix].timed_out = true;
        self.mark(ix, NodePhase::Failed, Some("timeout"));
    }

    /// Whether the run's stop goes for this node.
    pub(crate) fn is_shut_down(&self, ix: Ix) -> bool {
        match self.shutdown.as_deref() {
            None => false,
            Some("Stop") => !self.nodes.list[ix].on_exit,
            Some(_) => true,
        }
    }

    fn expect_report(&mut self, ix: Ix) -> Result<(), String> {
        let expects = self.expects_report(ix);
        if let Machine::Pod(machine) = &mut self.nodes.list[ix].machine {
            machine.expects_report = expects;
        }
        Ok(())
    }

    fn create_pod(&mut self, ix: Ix) -> Result<(), String> {
        self.expect_report(ix)?;
        let pod = self.build_pod(ix)?;
        let begins = pod["metadata"]["annotations"][labels::PROGRESS].as_str().filter(|p| parse_progress(p).is_some());
        if let Some(progress) = begins {
            self.nodes.set_progress(ix, progress);
            self.touch(ix);
        }
        let Machine::Pod(machine) = &self.nodes.list[ix].machine else { return Ok(()) };
        let command =
            Command::CreatePod { node_id: self.nodes.list[ix].status.id.clone(), name: machine.name.clone(), pod };
        self.commands.push(command);
        Ok(())
    }

    fn pod_name_of(&self, ix: Ix) -> String {
        let row = &self.nodes.list[ix].status;
        let template =
            row.template_ref.as_ref().map(|r| r.template.as_str()).or(row.template_name.as_deref()).unwrap_or_default();
        names::pod_name(self.workflow_name(), &row.name, template)
    }

    /// The nodes of a container set's containers: there once its pod is.
    fn open_containers(&mut self, ix: Ix) {
        let Some(template) = self.nodes.list[ix].template.clone() else { return };
        let Some(set) = &template.container_set else { return };
        let row = &self.nodes.list[ix].status;
        let first = set.containers.first().and_then(|c| c["name"].as_str()).unwrap_or_default();
        let first = self.nodes.find(&names::node_id(self.workflow_name(), &format!("{}.{first}", row.name)));
        match first {
            Some(first) if self.nodes.list[first].attached => return,
            None if row.phase.is_fulfilled() => return,
            _ => {}
        }
        let (name, id) = (self.nodes.list[ix].status.name.clone(), self.nodes.list[ix].status.id.clone());
        let container_id = |c: &str| names::node_id(self.workflow_name(), &format!("{name}.{c}"));
        let edges: Vec<(String, Vec<String>)> = set
            .containers
            .iter()
            .map(|c| {
                let deps = c["dependencies"].as_array().into_iter().flatten();
                let deps: Vec<String> = deps.filter_map(Value::as_str).map(container_id).collect();
                (
                    c["name"].as_str().unwrap_or_default().to_owned(),
                    if deps.is_empty() { vec![id.clone()] } else { deps },
                )
            })
            .collect();
        let mut made = Vec::new();
        for (container, before) in edges {
            let row = &self.nodes.list[ix].status;
            let call = Call {
                name: format!("{name}.{container}"),
                target: row
                    .template_ref
                    .clone()
                    .map_or_else(|| Target::Name(row.template_name.clone().unwrap_or_default()), Target::Ref),
                arguments: Arguments::default(),
                absent: Vec::new(),
                parent: None,
                boundary: Some(ix),
                scope: row.template_scope.as_deref().unwrap_or_default().into(),
                slot: 0,
                on_exit: self.nodes.list[ix].on_exit,
                flag: row.node_flag.clone(),
                depth: 0,
            };
            let existing = self.nodes.find(&names::node_id(self.workflow_name(), &call.name));
            let child = existing.unwrap_or_else(|| {
                let mut row = self.row(&call, NodeType::Container, NodePhase::Pending);
                row.progress = Some("0/1".to_owned());
                self.nodes.insert(row)
            });
            self.attach(child, &call);
            if existing.is_none() {
                self.touch(child);
                made.push((before, child));
            }
        }
        for (before, child) in made {
            for before in before {
                self.connect(&before, child);
            }
        }
    }

    /// Looks at a pod node by itself: time has passed, or its report came.
    pub(crate) fn look_at_pod(&mut self, ix: Ix) {
        let now = self.now;
        if self.pending_too_long(ix) {
            self.time_out(ix);
            return;
        }
        let Machine::Pod(machine) = &mut self.nodes.list[ix].machine else { return };
        if machine.again_at.is_some_and(|at| at <= now) {
            machine.again_at = None;
            if let Err(message) = self.create_pod(ix) {
                self.mark(ix, NodePhase::Error, Some(&message));
            }
            return;
        }
        if let Some((pod, _)) = machine.ended.clone() {
            self.end_pod(ix, &pod);
        }
    }

    /// A pod, as it is now.
    pub(crate) fn observe_pod(&mut self, pod: &Value) {
        let Some(id) = pod["metadata"]["annotations"][labels::NODE_ID].as_str() else { return };
        let known = self.nodes.find(id);
        if known.is_none()
            && pod["metadata"]["deletionTimestamp"].is_string()
            && pod["metadata"]["labels"][labels::COMPLETED] == "true"
        {
            // A retry removed its node, and the pod is on its way out: the node's next pod is another one.
            return;
        }
        let Some(ix) = known.filter(|ix| self.nodes.list[*ix].attached) else {
            // A node whose end is written is not taken up again after a load, and its pod may not have been let go.
            if let Some(ix) = known {
                self.release_if_ended(ix, pod);
                self.stop_if_left(ix, pod);
            }
            self.early_pods.insert(id.to_owned(), pod.clone());
            return;
        };
        if matches!(self.nodes.list[ix].machine, Machine::Admission(_)) {
            self.early_pods.insert(id.to_owned(), pod.clone());
            return;
        }
        let Machine::Pod(machine) = &mut self.nodes.list[ix].machine else {
            self.release_if_ended(ix, pod);
            return;
        };
        let attempt = attempt_of(pod);
        if attempt < machine.attempt {
            return;
        }
        if attempt > machine.attempt {
            // Ours, from before a crash that the status did not live to see.
            machine.attempt = attempt;
            self.nodes.list[ix].status.failed_pod_restarts = i32::try_from(attempt).ok();
            self.touch(ix);
        }
        let Machine::Pod(machine) = &mut self.nodes.list[ix].machine else { return };
        machine.uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
        self.open_containers(ix);
        if self.nodes.list[ix].status.phase.is_fulfilled() {
            self.release_if_ended(ix, pod);
            return;
        }
        let is_request = matches!(self.nodes.list[ix].status.type_, NodeType::Http | NodeType::Plugin);
        if !is_request
            && let Some(host) = pod["spec"]["nodeName"].as_str()
            && self.nodes.list[ix].status.host_node_name.as_deref() != Some(host)
        {
            self.nodes.list[ix].status.host_node_name = Some(host.to_owned());
            self.touch(ix);
        }
        match pod["status"]["phase"].as_str().unwrap_or("Pending") {
            "Pending" => {
                let message = pod_outcome::pending_message(pod);
                if self.nodes.list[ix].status.message.as_deref().unwrap_or_default() != message {
                    self.mark(ix, NodePhase::Pending, Some(&message));
                }
            }
            "Running" if pod_outcome::never_began(pod) => {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
                self.commands.push(Command::StopPod { name, uid, grace_seconds: None });
                self.end_pod(ix, pod);
            }
            "Running" => self.pod_runs(ix, pod),
            "Succeeded" | "Failed" => {
                self.pass_through_running(ix, pod);
                self.end_containers(ix, pod);
                self.end_pod(ix, pod);
            }
            _ => {}
        }
    }

    fn pod_runs(&mut self, ix: Ix, pod: &Value) {
        if self.nodes.list[ix].status.type_ == NodeType::Http {
            // As in Argo it is pending until it is answered.
            self.mark(ix, NodePhase::Pending, Some(""));
            return;
        }
        let message = if self.nodes.list[ix].status.message.is_some() { Some("") } else { None };
        self.mark(ix, NodePhase::Running, message);
        self.end_containers(ix, pod);
        let daemon = self.nodes.list[ix].template.as_ref().is_some_and(|t| t.daemon == Some(true));
        let row = &mut self.nodes.list[ix].status;
        if daemon && row.daemoned != Some(true) && pod_outcome::is_ready(pod) {
            row.daemoned = Some(true);
            row.pod_ip = pod["status"]["podIP"].as_str().map(str::to_owned);
            self.touch(ix);
            self.daemons.push(ix);
            self.leave_daemon(ix);
            self.tell_parent(ix);
        }
    }

    /// A pod may run and end between two looks. Hooks that wait for its running are asked all the same.
    fn pass_through_running(&mut self, ix: Ix, pod: &Value) {
        let node = &self.nodes.list[ix];
        let ran = node.template.as_ref().is_some_and(|template| pod_outcome::ran(pod, template));
        if let Some(parent) = node.parent
            && node.status.phase == NodePhase::Pending
            && ran
            && self.has_named_hooks(parent, ix)
        {
            self.mark(ix, NodePhase::Running, Some(""));
            self.fire_hooks(parent, ix, false);
        }
    }

    /// The states of a container set's containers.
    fn end_containers(&mut self, ix: Ix, pod: &Value) {
        if !row_is_container_set(self.nodes.list[ix].template.as_deref()) {
            return;
        }
        let name = self.nodes.list[ix].status.name.clone();
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            let container = format!("{name}.{}", status["name"].as_str().unwrap_or_default());
            let Some(child) = self.nodes.find(&names::node_id(self.workflow_name(), &container)) else { continue };
            if let Some(code) = status["state"]["terminated"]["exitCode"].as_i64() {
                let t = &status["state"]["terminated"];
                let text = |field: &str| t[field].as_str().unwrap_or_default();
                let name = status["name"].as_str().unwrap_or_default();
                let words = format!("{name}: {} (exit code {code}): {}", text("reason"), text("message"));
                match code {
                    0 => self.mark(child, NodePhase::Succeeded, None),
                    // The executor's own: a container that it needs has failed, say.
                    64 => self.mark(child, NodePhase::Error, Some(&words)),
                    _ => self.mark(child, NodePhase::Failed, Some(&words)),
                }
            } else if pod["status"]["phase"] == "Failed" {
                self.mark(child, NodePhase::Failed, Some("Pod Failed whilst container running"));
            } else if status["state"]["running"].is_object() {
                self.mark(child, NodePhase::Running, None);
            }
        }
    }

    fn release_if_ended(&mut self, ix: Ix, pod: &Value) {
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let released = pod["metadata"]["labels"][labels::COMPLETED] == "true";
        if ended && !released && self.nodes.list[ix].status.phase.is_fulfilled() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
            self.commands.push(Command::ReleasePod { name, uid });
        }
    }

    /// A pod that goes on although its node's end is written: it was to be stopped, and a crash came before.
    fn stop_if_left(&mut self, ix: Ix, pod: &Value) {
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let goes = pod["metadata"]["deletionTimestamp"].is_string();
        if !ended && !goes && self.nodes.list[ix].status.phase.is_fulfilled() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
            self.commands.push(Command::StopPod { name, uid, grace_seconds: None });
        }
    }

    /// The pod ended: what it means, when its report is there too.
    fn end_pod(&mut self, ix: Ix, pod: &Value) {
        let daemon = self.nodes.list[ix].status.daemoned == Some(true);
        let template = self.nodes.list[ix].template.clone().unwrap_or_default();
        let Machine::Pod(machine) = &mut self.nodes.list[ix].machine else { return };
        if pod_outcome::is_lost(pod) && !daemon && machine.attempt < self.config.pod_restarts_max {
            self.replace_pod(ix);
            return;
        }
        let complete = machine.report.as_ref().is_some_and(|r| {
            r.metadata.labels.get(labels::REPORT_OUTPUTS_COMPLETED).map(String::as_str) != Some("false")
        });
        let outcome = pod_outcome::outcome(pod, &template, daemon);
        if machine.expects_report && !complete {
            let since = match &machine.ended {
                Some((_, since)) => *since,
                None => self.now,
            };
            let wait = if outcome.phase == NodePhase::Succeeded { REPORT_WAIT_MS } else { REPORT_WAIT_FAILED_MS };
            let until = since.checked_add(SignedDuration::from_millis(wait)).unwrap_or(self.now);
            machine.ended = Some((pod.clone(), since));
            if self.now < until {
                self.wake_at(until, Some(ix));
                return;
            }
            // A watch may be late, and a clock may have been set forward: only the API knows that there is none.
            if !machine.answered {
                if !std::mem::replace(&mut machine.asked, true) {
                    let name = self.nodes.list[ix].status.id.clone();
                    self.commands.push(Command::FetchReport { name });
                }
                return;
            }
        }
        let report = machine.report.take();
        machine.ended = None;
        let uid = machine.uid.clone();
        let name = machine.name.clone();
        let missing = machine.expects_report && report.is_none();
        let synced = report.is_some();
        let (mut phase, mut message) = (outcome.phase, outcome.message);
        let is_request = template.http.is_some() || template.plugin.is_some();
        if is_request && let Some(words) = pod_outcome::main_message(pod) {
            message = words;
        }
        if let Some(report) = &report {
            self.take_outputs(ix, report);
            if let Some(reported) = report.phase.filter(|p| p.is_fail_or_error()) {
                phase = reported;
            }
            if let Some(text) = report.message.as_ref().filter(|m| !m.is_empty()) {
                message = text.clone();
            }
        } else if missing && phase == NodePhase::Succeeded {
            phase = NodePhase::Error;
            message = "the pod ended but its outputs were not reported".to_owned();
        }
        let row = &mut self.nodes.list[ix].status;
        // In Argo a request has no pod of its own.
        if !is_request {
            let duration = pod_outcome::resources_duration(pod);
            if let Some(code) = outcome.exit_code {
                row.outputs.get_or_insert_default().exit_code = Some(code);
            }
            if !duration.is_empty() {
                row.resources_duration = duration;
            }
            if synced {
                row.task_result_synced = Some(true);
            }
        }
        let was_daemon = row.daemoned.take() == Some(true);
        self.mark(ix, phase, Some(&message));
        if was_daemon {
            self.lose_daemon(ix);
        }
        self.commands.push(Command::ReleasePod { name, uid });
    }

    /// The infrastructure lost the pod: another, on its own budget.
    fn replace_pod(&mut self, ix: Ix) {
        let Machine::Pod(machine) = &mut self.nodes.list[ix].machine else { return };
        self.commands.push(Command::DeletePod { name: machine.name.clone(), uid: machine.uid.clone() });
        machine.attempt += 1;
        machine.uid = None;
        machine.report = None;
        (machine.asked, machine.answered) = (false, false);
        machine.ended = None;
        let attempt = machine.attempt;
        self.nodes.list[ix].status.failed_pod_restarts = i32::try_from(attempt).ok();
        let message = format!("Pod was lost with its node; attempt {attempt} of {}", self.config.pod_restarts_max);
        self.mark(ix, NodePhase::Pending, Some(&message));
        if let Err(message) = self.create_pod(ix) {
            self.mark(ix, NodePhase::Error, Some(&message));
        }
    }

    pub(crate) fn observe_pod_gone(&mut self, name: &str, uid: &str) {
        let Some(ix) = self.find_pod(name) else {
            self.early_pods.retain(|_, p| p["metadata"]["uid"].as_str() != Some(uid));
            return;
        };
        let node = &self.nodes.list[ix];
        let Machine::Pod(machine) = &node.machine else { return };
        if machine.uid.as_deref() != Some(uid) || node.status.phase.is_fulfilled() {
            return;
        }
        self.lose_pod(ix);
    }

    /// Everything that is there has been told: what was not, is not there.
    pub(crate) fn observe_survey(&mut self) {
        self.surveyed = true;
        for ix in std::mem::take(&mut self.unseen) {
            let Machine::Pod(machine) = &self.nodes.list[ix].machine else { continue };
            if machine.uid.is_none() && !self.nodes.list[ix].status.phase.is_fulfilled() {
                self.lose_pod(ix);
            }
        }
    }

    /// Whether the node still waits for this pod to be made.
    pub(crate) fn waits_for_pod(&self, node_id: &str, pod: &Value) -> bool {
        let Some(node) = self.nodes.find(node_id).map(|ix| &self.nodes.list[ix]) else { return false };
        let Machine::Pod(machine) = &node.machine else { return false };
        !node.status.phase.is_fulfilled() && machine.uid.is_none() && machine.attempt == attempt_of(pod)
    }

    fn lose_pod(&mut self, ix: Ix) {
        let was_daemon = self.nodes.list[ix].status.daemoned.take() == Some(true);
        self.mark(ix, NodePhase::Error, Some("pod deleted"));
        self.lose_containers(ix);
        if was_daemon {
            self.lose_daemon(ix);
        }
    }

    /// A container set's containers went with their pod.
    fn lose_containers(&mut self, ix: Ix) {
        let Some(set) = self.nodes.list[ix].template.as_ref().and_then(|t| t.container_set.clone()) else { return };
        let name = self.nodes.list[ix].status.name.clone();
        for container in &set.containers {
            let container = format!("{name}.{}", container["name"].as_str().unwrap_or_default());
            if let Some(child) = self.nodes.find(&names::node_id(self.workflow_name(), &container)) {
                self.mark(child, NodePhase::Error, Some("container deleted"));
            }
        }
    }

    fn find_pod(&self, name: &str) -> Option<Ix> {
        if name == self.workflow_name() {
            return self.nodes.find(name);
        }
        // A pod's name ends in the same hash as its node's id.
        let (_, hash) = name.rsplit_once('-')?;
        self.nodes.find(&format!("{}-{hash}", self.workflow_name()))
    }

    pub(crate) fn observe_refusal(&mut self, node_id: &str, message: &str, transient: bool) {
        let Some(ix) = self.nodes.find(node_id) else { return };
        if self.nodes.list[ix].status.phase.is_fulfilled() {
            return;
        }
        if transient {
            self.mark(ix, NodePhase::Pending, Some(message));
            let at = self.now.checked_add(SignedDuration::from_secs(2)).unwrap_or(self.now);
            if let Machine::Pod(machine) = &mut self.nodes.list[ix].machine {
                machine.again_at = Some(at);
            }
            self.wake_at(at, Some(ix));
            return;
        }
        self.nodes.list[ix].refused = true;
        self.mark(ix, NodePhase::Error, Some(message));
    }

    pub(crate) fn observe_report(&mut self, report: &WorkflowTaskResult) {
        let Some(id) = report.metadata.name.clone() else { return };
        match self.nodes.find(&id).filter(|ix| self.nodes.list[*ix].attached) {
            Some(ix) => self.take_report(ix, report.clone()),
            None => {
                self.early_reports.insert(id, report.clone());
            }
        }
    }

    /// There is no report of this node.
    pub(crate) fn observe_no_report(&mut self, name: &str) {
        let Some(ix) = self.nodes.find(name).filter(|ix| self.nodes.list[*ix].attached) else { return };
        if let Machine::Pod(machine) = &mut self.nodes.list[ix].machine {
            machine.answered = true;
            self.enqueue(ix);
        }
    }

    fn take_report(&mut self, ix: Ix, report: WorkflowTaskResult) {
        if self.nodes.list[ix].status.phase.is_fulfilled() {
            return;
        }
        if let Some(progress) = report.progress.as_ref().filter(|p| parse_progress(p).is_some())
            && self.nodes.list[ix].status.progress.as_ref() != Some(progress)
        {
            self.nodes.set_progress(ix, progress);
            self.touch(ix);
        }
        if let Machine::Pod(machine) = &mut self.nodes.list[ix].machine {
            machine.report = Some(report);
            machine.answered = machine.asked;
            self.enqueue(ix);
        }
    }

    /// Writes a report's outputs into the row, and makes global what is meant to be.
    fn take_outputs(&mut self, ix: Ix, report: &WorkflowTaskResult) {
        let Some(mut outputs) = report.outputs.clone() else { return };
        for artifact in &mut outputs.artifacts {
            let mut location = artifact.location();
            crate::artifact_plugins::forget_timeout(&mut location, &self.config);
            location.reduce(&self.config.artifact_repository);
            artifact.set_location(location);
        }
        if let Some(template) = self.nodes.list[ix].template.clone() {
            for parameter in &mut outputs.parameters {
                if let Some(declared) = template.outputs.parameter(&parameter.name) {
                    parameter.global_name = parameter.global_name.take().or_else(|| declared.global_name.clone());
                    if parameter.value_from.is_none() {
                        parameter.value_from = declared.value_from.clone();
                    }
                }
            }
            for artifact in &mut outputs.artifacts {
                if let Some(declared) = template.outputs.artifact(&artifact.name) {
                    artifact.global_name = artifact.global_name.take().or_else(|| declared.global_name.clone());
                }
            }
        }
        self.publish_globals(&outputs);
        if !outputs.is_empty() {
            self.nodes.list[ix].status.outputs = Some(outputs);
            self.touch(ix);
        }
    }

    /// Stops the daemons that a node made, when it has ended.
    pub(crate) fn kill_daemons_of(&mut self, boundary: Ix) {
        if self.daemons.is_empty() {
            return;
        }
        let daemons: Vec<Ix> =
            self.daemons.iter().copied().filter(|d| self.nodes.list[*d].boundary == Some(boundary)).collect();
        self.kill_daemons(&daemons);
    }

    pub(crate) fn kill_daemons(&mut self, daemons: &[Ix]) {
        self.daemons.retain(|d| !daemons.contains(d));
        // In one order, however they came to be known.
        let mut daemons = daemons.to_vec();
        daemons.sort_by(|a, b| self.nodes.list[*a].status.id.cmp(&self.nodes.list[*b].status.id));
        for ix in &daemons {
            if let Machine::Pod(machine) = &self.nodes.list[*ix].machine {
                let command =
                    Command::StopPod { name: machine.name.clone(), uid: machine.uid.clone(), grace_seconds: None };
                self.commands.push(command);
            }
            self.nodes.list[*ix].status.daemoned = None;
            self.mark(*ix, NodePhase::Succeeded, None);
        }
    }

    /// After a load: daemons whose step is long over have nobody who takes them up, but must be stopped some day.
    pub(crate) fn adopt_daemons(&mut self) {
        for ix in 0..self.nodes.list.len() {
            let row = &self.nodes.list[ix].status;
            if self.nodes.list[ix].attached || row.daemoned != Some(true) || row.phase.is_fulfilled() {
                continue;
            }
            let boundary = row.boundary_id.as_deref().and_then(|id| self.nodes.find(id));
            let id = row.id.clone();
            if row.type_ == NodeType::Pod {
                let machine = PodMachine {
                    name: self.pod_name_of(ix),
                    attempt: row.failed_pod_restarts.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
                    ..PodMachine::default()
                };
                self.nodes.list[ix].machine = Machine::Pod(Box::new(machine));
            }
            self.nodes.list[ix].attached = true;
            self.nodes.list[ix].boundary = boundary;
            self.daemons.push(ix);
            match self.early_pods.remove(&id) {
                Some(pod) => self.observe_pod(&pod),
                None if self.nodes.list[ix].status.type_ != NodeType::Pod => {}
                None if self.surveyed => self.lose_pod(ix),
                None => self.unseen.push(ix),
            }
        }
    }

    /// A daemon takes no place of `parallelism` once the others may go on.
    fn leave_daemon(&mut self, _ix: Ix) {
        self.look_again_at_blocked();
    }
}

/// Pods that were made for the node before this one.
fn attempt_of(pod: &Value) -> u32 {
    pod["metadata"]["annotations"][labels::ATTEMPT].as_str().and_then(|a| a.parse().ok()).unwrap_or(0)
}

fn row_is_container_set(template: Option<&windlass_model::Template>) -> bool {
    template.is_some_and(|t| t.container_set.is_some())
}
