//! CronJob: a Job for each time of a schedule. [`decide`] is pure; the times are `windlass-schedule`'s. Matches Kubernetes
//! v1.33's controller in names (`NAME-MINUTES`), in what is made up for after a pause (the latest time, within
//! `startingDeadlineSeconds`), in concurrency, history and Events. A time's Job has one name, so it is made once.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Resource;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use windlass_schedule::cron::Schedule;

use crate::Error;
use crate::event::Events;
use crate::job::end;

/// Annotation on a Job: the time that it is for.
pub const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What one pass wants done.
#[derive(Debug, Default)]
pub struct Decision {
    /// The status as it is to be written, without the Job that is made now.
    pub status: CronJobStatus,
    /// Jobs to delete: name and uid.
    pub delete: Vec<(String, String)>,
    /// The Job to make, and the time it is for.
    pub create: Option<(Job, Timestamp)>,
    /// Events: whether it is a warning, reason, message.
    pub events: Vec<(bool, &'static str, String)>,
    /// When to look again though nothing happens.
    pub look_again: Option<Duration>,
}

/// The whole decision. `jobs` are those that this CronJob owns.
pub fn decide(cron: &CronJob, jobs: &[Job], now: Timestamp) -> Decision {
    let mut out = Decision { status: cron.status.clone().unwrap_or_default(), ..Decision::default() };
    let Some(spec) = cron.spec.as_ref() else { return out };
    follow(jobs, &mut out);
    if cron.metadata.deletion_timestamp.is_some() {
        return out;
    }
    history(spec.successful_jobs_history_limit.unwrap_or(3), jobs, "Complete", &mut out);
    history(spec.failed_jobs_history_limit.unwrap_or(1), jobs, "Failed", &mut out);
    if spec.suspend == Some(true) {
        return out;
    }
    let zone = spec.time_zone.as_deref();
    let schedule = match Schedule::parse(&spec.schedule, zone) {
        Ok(schedule) => schedule,
        Err(why) if why.contains("time zone") => {
            let zone = zone.unwrap_or_default();
            out.events.push((true, "UnknownTimeZone", format!("invalid timeZone: {zone:?}: {why}")));
            return out;
        }
        Err(why) => {
            out.events.push((
                true,
                "UnparseableSchedule",
                format!("unparseable schedule: {:?} : {why}", spec.schedule),
            ));
            return out;
        }
    };
    let next = schedule.next(now);
    out.look_again = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    let made = cron.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let last = out.status.last_schedule_time.as_ref().map(|t| t.0);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    // What lies before the deadline's window is not even looked for.
    let window = deadline.and_then(|d| now.checked_sub(d).ok());
    let since = last.unwrap_or(made).max(window.unwrap_or(Timestamp::MIN));
    let Some(due) = schedule.last(since, now) else { return out };
    if deadline.is_some_and(|d| due.checked_add(d).is_ok_and(|until| until < now)) {
        out.events.push((true, "MissSchedule", format!("Missed scheduled time to start a job: {due}")));
        return out;
    }
    let job = job_of(cron, due);
    let active = out.status.active.clone().unwrap_or_default();
    if active.iter().any(|a| a.name == job.metadata.name) || last == Some(due) {
        return out;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let words = "Not starting job because prior execution is running and concurrency policy is Forbid";
            out.events.push((false, "JobAlreadyActive", words.to_owned()));
            return out;
        }
        Some("Replace") => {
            for reference in &active {
                out.delete
                    .push((reference.name.clone().unwrap_or_default(), reference.uid.clone().unwrap_or_default()));
            }
            out.status.active = None;
        }
        _ => {}
    }
    out.create = Some((job, due));
    out
}

/// Which Jobs go on, and which ended.
fn follow(jobs: &[Job], out: &mut Decision) {
    let mut active = out.status.active.take().unwrap_or_default();
    for job in jobs {
        let uid = job.uid();
        let listed = active.iter().any(|a| a.uid == uid);
        match end(job) {
            Some(end) => {
                if listed {
                    active.retain(|a| a.uid != uid);
                    let message = format!("Saw completed job: {}, condition: {}", job.name_any(), end.type_);
                    out.events.push((false, "SawCompletedJob", message));
                }
                let at = job.status.as_ref().and_then(|s| s.completion_time.clone());
                if end.type_ == "Complete"
                    && at.as_ref().map(|t| t.0) > out.status.last_successful_time.as_ref().map(|t| t.0)
                {
                    out.status.last_successful_time = at;
                }
            }
            None if !listed => {
                let message = format!("Saw a job that the controller did not create or forgot: {}", job.name_any());
                out.events.push((true, "UnexpectedJob", message));
            }
            None => {}
        }
    }
    let gone = |a: &ObjectReference| !jobs.iter().any(|j| j.uid() == a.uid);
    for reference in active.iter().filter(|a| gone(a)) {
        let name = reference.name.as_deref().unwrap_or_default();
        out.events.push((false, "MissingJob", format!("Active job went missing: {name}")));
    }
    active.retain(|a| !gone(a));
    out.status.active = Some(active).filter(|a| !a.is_empty());
}

/// Jobs beyond the limit, the oldest first.
fn history(limit: i32, jobs: &[Job], type_: &str, out: &mut Decision) {
    let mut ended: Vec<&Job> = jobs.iter().filter(|j| end(j).is_some_and(|e| e.type_ == type_)).collect();
    let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    ended.sort_by_key(|j| (j.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0), j.name_any()));
    out.delete.extend(ended[..surplus].iter().map(|j| (j.name_any(), j.uid().unwrap_or_default())));
}

/// The Job of a time.
fn job_of(cron: &CronJob, due: Timestamp) -> Job {
    let spec = cron.spec.clone().unwrap_or_default();
    let template = spec.job_template;
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_owned(), due.to_string());
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name_any(), due.as_second() / 60)),
            namespace: cron.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: cron.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

struct Context {
    client: Client,
    events: Events,
}

/// Runs the loop for ever.
pub async fn run(client: Client) {
    let events = Events::start(client.clone(), "cronjob-controller");
    let ctx = Arc::new(Context { client: client.clone(), events });
    Controller::new(Api::<CronJob>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Job>::all(client), watcher::Config::default())
        .run(act, |_, e, _| Action::requeue(e.retry_after()), ctx)
        .for_each(|_| async {})
        .await;
}

async fn act(cron: Arc<CronJob>, context: Arc<Context>) -> Result<Action, Error> {
    let ns = cron.namespace().unwrap_or_default();
    let crons = Api::<CronJob>::namespaced(context.client.clone(), &ns);
    let jobs = Api::<Job>::namespaced(context.client.clone(), &ns);
    // Read afresh: the cache that woke us may not hold what the last pass did.
    let Some(cron) = crons.get_opt(&cron.name_any()).await? else { return Ok(Action::await_change()) };
    let uid = cron.uid().unwrap_or_default();
    let mut mine = jobs.list(&ListParams::default()).await?.items;
    mine.retain(|j| j.owner_references().iter().any(|o| o.controller == Some(true) && o.uid == uid));
    let mut decision = decide(&cron, &mine, Timestamp::now());
    for (warning, reason, message) in &decision.events {
        match warning {
            true => context.events.warning(&cron, reason, message.clone()),
            false => context.events.normal(&cron, reason, message.clone()),
        }
    }
    for (name, uid) in &decision.delete {
        let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
        match jobs.delete(name, &DeleteParams { preconditions: Some(only), ..DeleteParams::background() }).await {
            Ok(_) => context.events.normal(&cron, "SuccessfulDelete", format!("Deleted job {name}")),
            Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => {}
            Err(e) => return Err(e.into()),
        }
    }
    if let Some((job, due)) = decision.create.take()
        && let Some(made) = make(&context, &cron, &jobs, &job).await?
    {
        let active = decision.status.active.get_or_insert_default();
        if !active.iter().any(|a| a.uid == made.metadata.uid) {
            active.push(ObjectReference { resource_version: made.resource_version(), ..made.object_ref(&()) });
        }
        decision.status.last_schedule_time = Some(Time(due));
    }
    if cron.status.as_ref() != Some(&decision.status) {
        let malformed = |_| Error::Malformed { kind: "CronJob", name: cron.name_any(), field: "status" };
        let mut status = serde_json::to_value(&decision.status).map_err(malformed)?;
        for key in ["active", "lastScheduleTime", "lastSuccessfulTime"] {
            if status.get(key).is_none() {
                status[key] = Value::Null;
            }
        }
        let meta = json!({"uid": uid, "resourceVersion": cron.resource_version()});
        let patch = json!({"metadata": meta, "status": status});
        crons.patch_status(&cron.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(decision.look_again.map_or_else(Action::await_change, Action::requeue))
}

/// Creates a Job. One of that name that is ours was made before a crash; another's is left to itself.
async fn make(context: &Context, cron: &CronJob, jobs: &Api<Job>, job: &Job) -> Result<Option<Job>, Error> {
    match jobs.create(&PostParams::default(), job).await {
        Ok(made) => {
            context.events.normal(cron, "SuccessfulCreate", format!("Created job {}", made.name_any()));
            Ok(Some(made))
        }
        Err(kube::Error::Api(s)) if s.reason == "AlreadyExists" => {
            let there = jobs.get_opt(&job.name_any()).await?;
            let uid = cron.uid().unwrap_or_default();
            Ok(there.filter(|j| j.owner_references().iter().any(|o| o.controller == Some(true) && o.uid == uid)))
        }
        Err(e) => {
            if let kube::Error::Api(s) = &e {
                context.events.warning(cron, "FailedCreate", format!("Error creating job: {}", s.message));
            }
            Err(e.into())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cron(spec: Value, status: Value) -> CronJob {
        let mut whole = json!({"schedule": "*/5 * * * *", "jobTemplate": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {"containers": []}}}}});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "default", "uid": "u", "creationTimestamp": "2026-01-01T00:01:00Z"},
            "spec": whole, "status": status,
        }))
        .unwrap()
    }

    fn job(name: &str, end: Option<&str>, started: &str) -> Job {
        let conditions = end.map(|e| json!([{"type": e, "status": "True", "lastTransitionTime": started}]));
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "status": {"startTime": started, "completionTime": end.map(|_| started), "conditions": conditions},
        }))
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn said(d: &Decision) -> Vec<&str> {
        d.events.iter().map(|e| e.1).collect()
    }

    #[test]
    fn a_time_has_one_job() {
        let d = decide(&cron(json!({}), json!({})), &[], at("2026-01-01T00:05:00Z"));
        let (job, due) = d.create.unwrap();
        assert_eq!((job.name_any().as_str(), due), ("c-29453765", at("2026-01-01T00:05:00Z")));
        assert_eq!(job.annotations()[SCHEDULED], "2026-01-01T00:05:00Z");
        assert_eq!(job.labels()["a"], "b");
        assert_eq!(job.owner_references()[0].kind, "CronJob");
        assert_eq!(d.look_again, Some(Duration::from_secs(300)));
        let seen = json!({"lastScheduleTime": "2026-01-01T00:05:00Z"});
        assert!(decide(&cron(json!({}), seen), &[], at("2026-01-01T00:09:59Z")).create.is_none());
        assert!(decide(&cron(json!({}), json!({})), &[], at("2026-01-01T00:04:59Z")).create.is_none());
    }

    #[test]
    fn the_latest_missed_time_is_made_up_for_unless_it_is_too_late() {
        let seen = json!({"lastScheduleTime": "2026-01-01T00:05:00Z"});
        let d = decide(&cron(json!({}), seen.clone()), &[], at("2026-01-01T03:02:00Z"));
        assert_eq!(d.create.unwrap().1, at("2026-01-01T03:00:00Z"));
        let late = cron(json!({"startingDeadlineSeconds": 60}), seen);
        assert!(decide(&late, &[], at("2026-01-01T03:02:00Z")).create.is_none());
        assert!(decide(&late, &[], at("2026-01-01T03:00:30Z")).create.is_some());
    }

    #[test]
    fn concurrency() {
        let active = json!({"lastScheduleTime": "2026-01-01T00:05:00Z", "active": [{"name": "one", "uid": "one"}]});
        let running = [job("one", None, "2026-01-01T00:05:00Z")];
        let now = at("2026-01-01T00:10:00Z");
        let allow = decide(&cron(json!({}), active.clone()), &running, now);
        assert!(allow.create.is_some() && allow.delete.is_empty());
        let forbid = decide(&cron(json!({"concurrencyPolicy": "Forbid"}), active.clone()), &running, now);
        assert!(forbid.create.is_none());
        assert_eq!(said(&forbid), ["JobAlreadyActive"]);
        let replace = decide(&cron(json!({"concurrencyPolicy": "Replace"}), active.clone()), &running, now);
        assert!(replace.create.is_some() && replace.status.active.is_none());
        assert_eq!(replace.delete, [("one".to_owned(), "one".to_owned())]);
        let ended = [job("one", Some("Complete"), "2026-01-01T00:06:00Z")];
        let after = decide(&cron(json!({"concurrencyPolicy": "Forbid"}), active.clone()), &ended, now);
        assert!(after.create.is_some());
        assert_eq!(said(&after), ["SawCompletedJob"]);
        assert_eq!(after.status.last_successful_time.unwrap().0, at("2026-01-01T00:06:00Z"));
        let gone = decide(&cron(json!({"suspend": true}), active), &[], now);
        assert_eq!(
            (said(&gone), gone.create.is_none(), gone.status.active.is_none()),
            (vec!["MissingJob"], true, true)
        );
    }

    #[test]
    fn history_and_faults() {
        let ended: Vec<Job> =
            (0..5).map(|n| job(&format!("j{n}"), Some("Complete"), &format!("2026-01-01T00:0{n}:00Z"))).collect();
        let d = decide(&cron(json!({"suspend": true}), json!({})), &ended, at("2026-01-01T00:10:00Z"));
        assert_eq!(d.delete.iter().map(|d| d.0.as_str()).collect::<Vec<_>>(), ["j0", "j1"]);
        let now = at("2026-01-01T00:10:00Z");
        assert_eq!(said(&decide(&cron(json!({"timeZone": "Mars/Base"}), json!({})), &[], now)), ["UnknownTimeZone"]);
        assert_eq!(
            said(&decide(&cron(json!({"schedule": "61 * * * *"}), json!({})), &[], now)),
            ["UnparseableSchedule"]
        );
    }
}
