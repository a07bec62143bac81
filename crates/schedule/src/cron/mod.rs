//! CronWorkflows: what is due, and everything that follows from it. A CronWorkflow, its workflows and the time go in; what
//! to create, end, delete and write comes out. Pure: no clock, no cluster.
//!
//! | seen | decided |
//! |---|---|
//! | a tick has passed since the last one, and is within `startingDeadlineSeconds` | its workflow, named by the tick |
//! | several ticks have passed | the last one's workflow only |
//! | … and its workflow is there already (a crash came before the status) | it is taken note of, and counted if it ended |
//! | … and it is suspended or stopped | nothing; resumed, the last tick is caught up with |
//! | … and `Forbid` and one is active | nothing yet: when that one has ended |
//! | … and `Replace` and one is active | that one is terminated |
//! | … and `when` does not hold | the tick is passed over for good |
//! | another schedule than before | ticks before that moment do not count |
//! | a workflow ended | it is counted, and the oldest beyond the history limits go |
//! | `stopStrategy` holds | stopped for good |
//!
//! A tick's workflow has a name that follows from the tick, so that after any crash it is made once.

mod expression;
mod object;

pub use expression::Schedule;
pub use object::workflow;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use windlass_lang::expr::{self, Env, Value as Known};
use windlass_lang::tags::{self, Evaluated, Lookup, Resolve};
use windlass_lang::when::Condition;
use windlass_model::cron::{CronWorkflow, CronWorkflowSpec, CronWorkflowStatus};
use windlass_model::{Time, WorkflowPhase};

/// Annotation: the schedule that was in force when this was last looked at (Argo's own).
pub const LAST_USED: &str = "cronworkflows.argoproj.io/last-used-schedule";
/// Annotation: ticks up to this time are dealt with, whatever `lastScheduledTime` says.
pub const SINCE: &str = "windlass.dev/ticks-since";
/// Label of a CronWorkflow that stopped for good.
pub const COMPLETED: &str = "workflows.argoproj.io/cron-workflow-completed";

/// A workflow of a CronWorkflow, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Child {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// How far it is.
    pub phase: WorkflowPhase,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Workflows to terminate, by name.
    pub terminate: Vec<String>,
    /// The tick that is due, and its workflow. What became of creating it is told by [`submitted`].
    pub submit: Option<(Timestamp, Value)>,
    /// Workflows beyond the history limits: name and uid.
    pub delete: Vec<(String, String)>,
    /// The CronWorkflow's own change.
    pub patch: Option<Value>,
    /// When to look again.
    pub wake: Option<Timestamp>,
}

/// All schedules of a spec, Argo 3's one included.
pub fn schedules(spec: &CronWorkflowSpec) -> Vec<&str> {
    spec.schedule.iter().chain(&spec.schedules).map(String::as_str).filter(|s| !s.is_empty()).collect()
}

/// The next tick of a CronWorkflow.
pub fn next(spec: &CronWorkflowSpec, now: Timestamp) -> Result<Option<Timestamp>, String> {
    Ok(parse(spec)?.iter().filter_map(|s| s.next(now)).min())
}

fn parse(spec: &CronWorkflowSpec) -> Result<Vec<Schedule>, String> {
    let all = schedules(spec);
    if all.is_empty() {
        return Err("cron workflow must have at least one schedule".to_owned());
    }
    let policy = spec.concurrency_policy.as_deref().unwrap_or_default();
    if !matches!(policy, "" | "Allow" | "Forbid" | "Replace") {
        return Err(format!("'{policy}' is not a valid concurrencyPolicy"));
    }
    all.into_iter().map(|text| Schedule::parse(text, spec.timezone.as_deref())).collect()
}

/// Decides. `object` is the CronWorkflow as the API has it.
pub fn decide(object: &Value, children: &[Child], now: Timestamp) -> Decision {
    let mut out = Decision::default();
    let cron: CronWorkflow = match serde_json::from_value(object.clone()) {
        Ok(cron) => cron,
        Err(e) => {
            out.patch = condition(&object["status"], "SpecError", Some(&format!("this cannot be read: {e}")));
            return out;
        }
    };
    if cron.metadata.deletion_timestamp.is_some() {
        return out;
    }
    let mut status = cron.status.clone().unwrap_or_default();
    let mut patch = json!({});
    follow(&cron, &mut status, children, &mut patch, &mut out);
    let fault = (|| {
        let schedules = parse(&cron.spec)?;
        stop(&cron, &mut status, &mut patch)?;
        if status.phase.as_deref() != Some("Stopped") {
            tick(object, (&cron, &status, children), &schedules, now, &mut patch, &mut out)?;
        }
        Ok::<(), String>(())
    })();
    let said = condition(&object["status"], "SpecError", fault.as_ref().err().map(String::as_str));
    if let Some(said) = said {
        patch["status"]["conditions"] = said["status"]["conditions"].clone();
    }
    out.patch = (patch != json!({})).then_some(patch);
    out
}

/// What is written when a tick's workflow was created (its reference), or why it was not.
pub fn submitted(object: &Value, tick: Timestamp, made: Result<Value, String>) -> Value {
    match made {
        Err(why) => condition(&object["status"], "SubmissionError", Some(&format!("Failed to submit Workflow: {why}")))
            .unwrap_or_else(|| json!({})),
        Ok(reference) => {
            let mut active = object["status"]["active"].as_array().cloned().unwrap_or_default();
            if !active.iter().any(|a| a["uid"] == reference["uid"]) {
                active.push(reference);
            }
            let mut patch = condition(&object["status"], "SubmissionError", None).unwrap_or_else(|| json!({}));
            patch["status"]["active"] = json!(active);
            patch["status"]["lastScheduledTime"] = json!(Time::from_timestamp(tick));
            patch["status"]["phase"] = json!("Active");
            patch
        }
    }
}

/// Which of its workflows go on, how many ended and how, and which are too old to keep.
fn follow(
    cron: &CronWorkflow,
    status: &mut CronWorkflowStatus,
    children: &[Child],
    patch: &mut Value,
    out: &mut Decision,
) {
    let uid = |reference: &Value| reference["uid"].as_str().unwrap_or_default().to_owned();
    let before: Vec<String> = status.active.iter().map(uid).collect();
    let mut counted = [status.succeeded.unwrap_or(0), status.failed.unwrap_or(0)];
    for child in children.iter().filter(|c| c.phase.is_completed() && before.contains(&c.uid)) {
        counted[usize::from(child.phase != WorkflowPhase::Succeeded)] += 1;
    }
    let mut active: Vec<Value> = status.active.clone();
    active.retain(|a| children.iter().any(|c| c.uid == uid(a) && !c.phase.is_completed()));
    for child in children.iter().filter(|c| !c.phase.is_completed() && !before.contains(&c.uid)) {
        active.push(reference(cron.metadata.namespace.as_deref().unwrap_or_default(), child));
    }
    if active != status.active {
        patch["status"]["active"] = json!(active);
    }
    for (index, field) in ["succeeded", "failed"].into_iter().enumerate() {
        let old = if index == 0 { status.succeeded } else { status.failed };
        if counted[index] != old.unwrap_or(0) {
            patch["status"][field] = json!(counted[index]);
        }
    }
    (status.active, status.succeeded, status.failed) = (active, Some(counted[0]), Some(counted[1]));
    let limits = [(cron.spec.successful_jobs_history_limit, 3), (cron.spec.failed_jobs_history_limit, 1)];
    for (good, (limit, default)) in [true, false].into_iter().zip(limits) {
        let keep = limit.and_then(|l| usize::try_from(l).ok()).unwrap_or(default);
        let mut ended: Vec<&Child> = children
            .iter()
            .filter(|c| c.phase.is_completed() && (c.phase == WorkflowPhase::Succeeded) == good)
            .collect();
        ended.sort_by(|a, b| (b.finished_at, &b.name).cmp(&(a.finished_at, &a.name)));
        out.delete.extend(ended.into_iter().skip(keep).map(|c| (c.name.clone(), c.uid.clone())));
    }
}

/// A reference to a workflow, as `status.active` has it.
pub fn reference(namespace: &str, child: &Child) -> Value {
    json!({
        "apiVersion": windlass_model::ARGO_API_VERSION, "kind": "Workflow", "name": child.name, "namespace": namespace,
        "uid": child.uid, "resourceVersion": child.resource_version,
    })
}

/// Whether it has run often enough.
fn stop(cron: &CronWorkflow, status: &mut CronWorkflowStatus, patch: &mut Value) -> Result<(), String> {
    let expression = cron.spec.stop_strategy.as_ref().and_then(|s| s.expression.as_deref()).unwrap_or_default();
    if expression.is_empty() || status.phase.as_deref() == Some("Stopped") {
        return Ok(());
    }
    let holds = expr::holds(expression, &environment(cron, status));
    if holds.map_err(|fault| format!("stopStrategy.expression '{expression}': {}", fault.message))? {
        status.phase = Some("Stopped".to_owned());
        patch["status"]["phase"] = json!("Stopped");
        patch["metadata"]["labels"] = json!({COMPLETED: "true"});
    }
    Ok(())
}

/// Whether a tick is due, and what becomes of it.
fn tick(
    object: &Value,
    (cron, status, children): (&CronWorkflow, &CronWorkflowStatus, &[Child]),
    all: &[Schedule],
    now: Timestamp,
    patch: &mut Value,
    out: &mut Decision,
) -> Result<(), String> {
    let used = used(&cron.spec);
    let annotation = |key: &str| cron.metadata.annotations.get(key).map(String::as_str);
    let mut since: Option<Timestamp> = annotation(SINCE).and_then(|t| t.parse().ok());
    if annotation(LAST_USED) != Some(used.as_str()) {
        // Another schedule, or none was seen before: what has passed is not its business.
        since = Some(now);
        patch["metadata"]["annotations"] = json!({LAST_USED: used, SINCE: whole(now).to_string()});
    }
    let last = status.last_scheduled_time.map(|t| t.0);
    let base = since.into_iter().chain(last).max().or(cron.metadata.creation_timestamp.map(|t| t.0)).unwrap_or(now);
    if !cron.spec.suspend {
        out.wake = all.iter().filter_map(|s| s.next(now.max(base))).min();
    }
    let Some(due) = all.iter().filter_map(|s| s.last(base, now)).max() else { return Ok(()) };
    let workflow = workflow(object, due);
    if let Some(made) = children.iter().find(|child| workflow["metadata"]["name"] == child.name.as_str()) {
        patch["status"]["lastScheduledTime"] = json!(Time::from_timestamp(due));
        patch["status"]["phase"] = json!("Active");
        let was_listed = cron.status.iter().flat_map(|s| &s.active).any(|a| a["uid"] == made.uid.as_str());
        if made.phase.is_completed() && !was_listed {
            let good = made.phase == WorkflowPhase::Succeeded;
            let (field, so_far) = if good { ("succeeded", status.succeeded) } else { ("failed", status.failed) };
            patch["status"][field] = json!(so_far.unwrap_or(0) + 1);
        }
        return Ok(());
    }
    if cron.spec.suspend {
        return Ok(());
    }
    let deadline = cron.spec.starting_deadline_seconds.filter(|s| *s > 0);
    let too_late =
        deadline.is_some_and(|s| due.checked_add(SignedDuration::from_secs(s)).is_ok_and(|until| now >= until));
    if too_late {
        return Ok(());
    }
    match cron.spec.concurrency_policy.as_deref() {
        Some("Forbid") if !status.active.is_empty() => return Ok(()),
        Some("Replace") => {
            let names = status.active.iter().filter_map(|a| a["name"].as_str().map(str::to_owned));
            out.terminate.extend(names);
        }
        _ => {}
    }
    if let Some(when) = cron.spec.when.as_deref().filter(|w| !w.trim().is_empty())
        && !holds(when, &environment(cron, status))?
    {
        out.terminate.clear();
        patch["metadata"]["annotations"][SINCE] = json!(due.to_string());
        return Ok(());
    }
    out.submit = Some((due, workflow));
    Ok(())
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The schedules and their zone as one text, to notice when they change.
fn used(spec: &CronWorkflowSpec) -> String {
    let zone = spec.timezone.as_deref().filter(|z| !z.is_empty());
    let one = |text: &str| zone.map_or_else(|| text.to_owned(), |zone| format!("CRON_TZ={zone} {text}"));
    schedules(spec).into_iter().map(one).collect::<Vec<_>>().join(",")
}

/// What expressions know: `cronworkflow.name`, `.namespace`, `.labels`, `.annotations`, `.lastScheduledTime`, `.failed`,
/// `.succeeded`; the numbers by themselves too.
fn environment(cron: &CronWorkflow, status: &CronWorkflowStatus) -> Env {
    let mut env = Env::default();
    let text = |t: &Option<String>| Known::Text(t.clone().unwrap_or_default());
    let map = |m: &std::collections::BTreeMap<String, String>| {
        Known::Map(m.iter().map(|(k, v)| (k.clone(), Known::Text(v.clone()))).collect())
    };
    env.set("cronworkflow.name", text(&cron.metadata.name));
    env.set("cronworkflow.namespace", text(&cron.metadata.namespace));
    env.set("cronworkflow.labels", map(&cron.metadata.labels));
    env.set("cronworkflow.annotations", map(&cron.metadata.annotations));
    let last = status.last_scheduled_time.map_or(Known::Null, |t| Known::Text(t.to_string()));
    env.set("cronworkflow.lastScheduledTime", last);
    for (name, count) in [("failed", status.failed), ("succeeded", status.succeeded)] {
        env.set(&format!("cronworkflow.{name}"), Known::Int(count.unwrap_or(0)));
        env.set(name, Known::Int(count.unwrap_or(0)));
    }
    env
}

struct Tags<'a>(&'a Env);

impl Resolve for Tags<'_> {
    fn name(&self, name: &str) -> Lookup<'_> {
        let path: Vec<&str> = name.split('.').collect();
        match self.0.get(&path) {
            Some(value) => value.tag_text().map_or(Lookup::Unknown, |text| Lookup::Text(text.into())),
            None => Lookup::Unknown,
        }
    }

    fn expression(&self, text: &str) -> Evaluated {
        expr::evaluate_tag(text, self.0)
    }
}

/// `when`: tags first, then the condition, in which a bare word is not a text.
fn holds(when: &str, env: &Env) -> Result<bool, String> {
    let wrong = |message: &str| format!("when '{when}': {message}");
    let text = tags::substitute(when, &Tags(env), &tags::Options::default())
        .map_err(|faults| wrong(faults.first().map_or("", |f| f.message.as_str())))?;
    let value = Condition::parse(&text).and_then(|c| c.value_with(&|_| None)).map_err(|f| wrong(&f.message))?;
    match value {
        windlass_lang::when::Value::Bool(truth) => Ok(truth),
        _ => Err(wrong("it does not come out as true or false")),
    }
}

/// The patch that sets a condition, or takes it away; nothing when it is so already.
fn condition(status: &Value, type_: &str, message: Option<&str>) -> Option<Value> {
    let mut all = status["conditions"].as_array().cloned().unwrap_or_default();
    let before = all.clone();
    all.retain(|c| c["type"] != type_);
    if let Some(message) = message {
        all.push(json!({"type": type_, "status": "True", "message": message}));
    }
    let same = all.len() == before.len() && all.iter().all(|c| before.contains(c));
    (!same).then(|| json!({"status": {"conditions": all}}))
}
