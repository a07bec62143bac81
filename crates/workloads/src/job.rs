//! Job: pods until so many have succeeded, or too many have failed. [`decide`] is pure: it takes the Job, its pods and the
//! time. Matches Kubernetes v1.33's controller in counting (a pod is counted once, under a finalizer), in back-off, in the
//! conditions `SuccessCriteriaMet`, `Complete`, `FailureTarget`, `Failed`, `Suspended`, and in its Events; it must never
//! touch a pod of another owner. Policies by index and by exit code are refused where Jobs are made.
//!
//! | seen | decided |
//! |---|---|
//! | a pod ended that is not counted | its uid is noted in the status; then its finalizer goes; then it is counted |
//! | more failures than `backoffLimit`, or the deadline passed | `FailureTarget`; all pods go; then `Failed` |
//! | as many successes as `completions` | `SuccessCriteriaMet`; when no pod is left, `Complete` |
//! | `suspend` | running pods go, uncounted; `Suspended` |
//! | fewer pods than there should be | pods, after 10 s doubled with each failure since the last success |
//! | the end, and `ttlSecondsAfterFinished` later | the Job goes |

mod act;
#[cfg(test)]
mod cases;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

pub use act::run;

use crate::replicaset::{is_active, is_ready};

/// Finalizer of a pod that is not counted yet.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label: which of an indexed Job's completions a pod is for.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";

const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_SECONDS_MAX: i64 = 600;
/// No more pods are made in one pass.
const CREATE_MAX: usize = 500;

/// What one pass wants done: the status first, then the rest.
#[derive(Debug, Default, PartialEq)]
pub struct Decision {
    /// The status as it is to be written.
    pub status: JobStatus,
    /// Pods whose finalizer goes: name and uid.
    pub release: Vec<(String, String)>,
    /// Pods to delete: name, uid, and whether they are not to be counted.
    pub delete: Vec<(String, String, bool)>,
    /// Pods to make, each with its completion index.
    pub create: Vec<Option<usize>>,
    /// Events: whether it is a warning, reason, message.
    pub events: Vec<(bool, &'static str, String)>,
    /// The Job itself goes.
    pub expired: bool,
    /// When to look again though nothing happens.
    pub look_again: Option<Duration>,
}

fn condition<'a>(job: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    job.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == "True")
}

/// `Complete` or `Failed`, once it holds.
pub fn end(job: &Job) -> Option<&JobCondition> {
    let status = job.status.as_ref()?;
    condition(status, "Complete").or_else(|| condition(status, "Failed"))
}

fn has_finalizer(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|f| f == FINALIZER)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

fn id(pod: &Pod) -> (String, String) {
    (pod.name_any(), pod.uid().unwrap_or_default())
}

fn index_of(pod: &Pod) -> Option<usize> {
    pod.annotations().get(INDEX).and_then(|i| i.parse().ok())
}

/// Which pods there are, by what they mean for the Job.
struct Pods<'a> {
    all: &'a [Pod],
    active: Vec<&'a Pod>,
    terminating: usize,
}

impl<'a> Pods<'a> {
    fn of(all: &'a [Pod]) -> Self {
        let active = all.iter().filter(|p| is_active(p)).collect();
        let going = |p: &&Pod| p.metadata.deletion_timestamp.is_some() && !matches!(phase(p), "Succeeded" | "Failed");
        Self { all, active, terminating: all.iter().filter(going).count() }
    }

    /// Whether a pod failed; one on its way out did, unless only ended pods are replaced.
    fn failed(job: &Job, pod: &Pod) -> bool {
        let patient = job.spec.as_ref().and_then(|s| s.pod_replacement_policy.as_deref()) == Some("Failed");
        phase(pod) == "Failed" || pod.metadata.deletion_timestamp.is_some() && phase(pod) != "Succeeded" && !patient
    }

    /// Restarts of containers in pods that go on, which is how `OnFailure` fails.
    fn restarts(&self) -> i32 {
        let statuses = self.active.iter().filter_map(|p| p.status.as_ref());
        let containers = statuses
            .flat_map(|s| s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten()));
        containers.map(|c| c.restart_count).sum()
    }

    /// How long no pod is to be made, since some failed lately.
    fn backoff(&self, job: &Job, now: Timestamp) -> Option<Duration> {
        let ended = |p: &Pod| {
            let statuses = p.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
            let ends = statuses.filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
            ends.map(|t| t.0).max().or(p.metadata.deletion_timestamp.as_ref().map(|t| t.0)).unwrap_or(now)
        };
        let success = self.all.iter().filter(|p| phase(p) == "Succeeded").map(ended).max();
        let failures = self.all.iter().filter(|p| Self::failed(job, p)).map(ended);
        let since: Vec<Timestamp> = failures.filter(|at| success.is_none_or(|s| *at > s)).collect();
        let last = since.iter().max()?;
        let doubled = u32::try_from(since.len().min(10) - 1).unwrap_or(0);
        let seconds = (BACKOFF_SECONDS << doubled).min(BACKOFF_SECONDS_MAX);
        let left = SignedDuration::from_secs(seconds) - now.duration_since(*last);
        Duration::try_from(left).ok().filter(|d| !d.is_zero())
    }
}

/// The whole decision.
pub fn decide(job: &Job, pods: &[Pod], now: Timestamp) -> Decision {
    let mut out = Decision { status: job.status.clone().unwrap_or_default(), ..Decision::default() };
    let Some(spec) = job.spec.as_ref() else { return out };
    let held = || pods.iter().filter(|p| has_finalizer(p)).map(id).collect();
    if job.metadata.deletion_timestamp.is_some() {
        out.release = held();
        return out;
    }
    if let Some(end) = end(job) {
        out.release = held();
        let ttl = spec.ttl_seconds_after_finished.zip(end.last_transition_time.as_ref());
        if let Some((seconds, at)) = ttl {
            let left = SignedDuration::from_secs(i64::from(seconds)) - now.duration_since(at.0);
            out.look_again = Duration::try_from(left).ok().filter(|d| !d.is_zero());
            out.expired = out.look_again.is_none();
        }
        return out;
    }
    let seen = Pods::of(pods);
    let suspended = spec.suspend == Some(true);
    if out.status.start_time.is_none() && !suspended {
        out.status.start_time = Some(Time(now));
    }
    let (succeeded, failed) = count(job, pods, &mut out);
    let mut active = seen.active.len();
    let mut terminating = seen.terminating;
    let mut ready = seen.active.iter().filter(|p| is_ready(p)).count();
    let target = failure(job, &seen, failed, now, &mut out);
    let done = condition(&out.status, "SuccessCriteriaMet").is_some();
    if target || done {
        out.delete.extend(seen.active.iter().map(|p| (id(p).0, id(p).1, false)));
        terminating += active;
        (active, ready) = (0, 0);
    } else if suspended {
        out.delete.extend(seen.active.iter().map(|p| (id(p).0, id(p).1, true)));
        terminating += active;
        (active, ready) = (0, 0);
        if set(&mut out.status, "Suspended", true, "JobSuspended", "Job suspended", now) {
            out.events.push((false, "Suspended", "Job suspended".to_owned()));
        }
    } else {
        let was = out.status.conditions.iter().flatten().any(|c| c.type_ == "Suspended");
        if was && set(&mut out.status, "Suspended", false, "JobResumed", "Job resumed", now) {
            out.events.push((false, "Resumed", "Job resumed".to_owned()));
            out.status.start_time = Some(Time(now));
        }
        (active, ready) = replenish(job, &seen, succeeded, ready, now, &mut out);
    }
    if !target && !done && active == 0 && out.create.is_empty() && out.delete.is_empty() && !suspended {
        let enough = match spec.completions {
            None => succeeded > 0,
            Some(wanted) => succeeded >= usize::try_from(wanted).unwrap_or(0),
        };
        if enough {
            let words = "Reached expected number of succeeded pods";
            set(&mut out.status, "SuccessCriteriaMet", true, "CompletionsReached", words, now);
        }
    }
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    out.status.active = Some(number(active)).filter(|n| *n > 0);
    out.status.ready = Some(number(ready));
    out.status.terminating = Some(number(terminating));
    conclude(&mut out, active, terminating, now);
    out
}

/// Moves ended pods from noted to counted, and notes new ones. Answers how many succeeded and failed, noted ones too.
fn count(job: &Job, pods: &[Pod], out: &mut Decision) -> (usize, usize) {
    let noted = out.status.uncounted_terminated_pods.take().unwrap_or_default();
    let held = |uid: &String| pods.iter().any(|p| p.uid().as_ref() == Some(uid) && has_finalizer(p));
    let move_on = |noted: Option<Vec<String>>, counted: &mut Option<i32>| -> Vec<String> {
        let (still, gone): (Vec<_>, Vec<_>) = noted.into_iter().flatten().partition(held);
        let sum = counted.unwrap_or(0) + i32::try_from(gone.len()).unwrap_or(0);
        *counted = Some(sum).filter(|n| *n > 0);
        still
    };
    let mut good = move_on(noted.succeeded, &mut out.status.succeeded);
    let mut bad = move_on(noted.failed, &mut out.status.failed);
    for pod in pods.iter().filter(|p| has_finalizer(p)) {
        let (name, uid) = id(pod);
        let succeeded = phase(pod) == "Succeeded";
        if !succeeded && !Pods::failed(job, pod) {
            continue;
        }
        if !good.contains(&uid) && !bad.contains(&uid) {
            if succeeded { good.push(uid.clone()) } else { bad.push(uid.clone()) }
        }
        out.release.push((name, uid));
    }
    let number = |n: Option<i32>| usize::try_from(n.unwrap_or(0)).unwrap_or(0);
    let mut succeeded = number(out.status.succeeded) + good.len();
    let failed = number(out.status.failed) + bad.len();
    if is_indexed(job) {
        let mut indexes = parse_indexes(out.status.completed_indexes.as_deref().unwrap_or_default());
        indexes.extend(pods.iter().filter(|p| phase(p) == "Succeeded").filter_map(index_of));
        succeeded = indexes.len();
        out.status.succeeded = Some(i32::try_from(succeeded).unwrap_or(i32::MAX)).filter(|n| *n > 0);
        out.status.completed_indexes = Some(write_indexes(&indexes)).filter(|t| !t.is_empty());
    }
    let some = |uids: Vec<String>| Some(uids).filter(|u| !u.is_empty());
    out.status.uncounted_terminated_pods = Some(UncountedTerminatedPods { succeeded: some(good), failed: some(bad) });
    (succeeded, failed)
}

/// Whether the Job has failed, or fails now.
fn failure(job: &Job, seen: &Pods<'_>, failed: usize, now: Timestamp, out: &mut Decision) -> bool {
    if condition(&out.status, "FailureTarget").is_some() {
        return true;
    }
    let Some(spec) = job.spec.as_ref() else { return false };
    if condition(&out.status, "SuccessCriteriaMet").is_some() {
        return false;
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let on_failure = spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure");
    let restarts = if on_failure { seen.restarts() } else { 0 };
    let too_many = failed > usize::try_from(limit).unwrap_or(0) || restarts > 0 && restarts >= limit;
    let since = out.status.start_time.as_ref().filter(|_| spec.suspend != Some(true));
    let left = spec
        .active_deadline_seconds
        .zip(since)
        .map(|(seconds, at)| SignedDuration::from_secs(seconds) - now.duration_since(at.0));
    let (reason, message) = if too_many {
        ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    } else if left.is_some_and(|left| !left.is_positive()) {
        ("DeadlineExceeded", "Job was active longer than specified deadline")
    } else {
        out.look_again = left.and_then(|left| Duration::try_from(left).ok());
        return false;
    };
    set(&mut out.status, "FailureTarget", true, reason, message, now)
}

/// Makes or deletes pods, so that there are as many as there should be.
fn replenish(
    job: &Job,
    seen: &Pods<'_>,
    succeeded: usize,
    ready: usize,
    now: Timestamp,
    out: &mut Decision,
) -> (usize, usize) {
    let active = seen.active.len();
    let Some(spec) = job.spec.as_ref() else { return (active, ready) };
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let wanted = match spec.completions {
        None if succeeded > 0 => active,
        None => parallelism,
        Some(all) => usize::try_from(all).unwrap_or(0).saturating_sub(succeeded).min(parallelism),
    };
    if active > wanted {
        let mut ranked = seen.active.clone();
        ranked.sort_by_key(|p| {
            let made = p.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (phase(p) == "Running", is_ready(p), std::cmp::Reverse(made))
        });
        let going = &ranked[..active - wanted];
        out.delete.extend(going.iter().map(|p| (id(p).0, id(p).1, true)));
        return (wanted, ready - going.iter().filter(|p| is_ready(p)).count());
    }
    let patient = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let missing = wanted.saturating_sub(active + if patient { seen.terminating } else { 0 });
    if missing == 0 {
        return (active, ready);
    }
    if let Some(wait) = seen.backoff(job, now) {
        out.look_again = Some(out.look_again.map_or(wait, |at| at.min(wait)));
        return (active, ready);
    }
    let missing = missing.min(CREATE_MAX);
    if is_indexed(job) {
        let mut taken = parse_indexes(out.status.completed_indexes.as_deref().unwrap_or_default());
        taken.extend(seen.active.iter().filter_map(|p| index_of(p)));
        let all = usize::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
        out.create = (0..all).filter(|i| !taken.contains(i)).take(missing).map(Some).collect();
    } else {
        out.create = vec![None; missing];
    }
    (active + out.create.len(), ready)
}

/// The last word, when nothing is left that could change it.
fn conclude(out: &mut Decision, active: usize, terminating: usize, now: Timestamp) {
    let pending = out.status.uncounted_terminated_pods.as_ref().is_some_and(|u| *u != Default::default());
    if active > 0 || terminating > 0 || pending || !out.create.is_empty() {
        return;
    }
    if let Some(target) = condition(&out.status, "FailureTarget").cloned() {
        let (reason, message) = (target.reason.unwrap_or_default(), target.message.unwrap_or_default());
        set(&mut out.status, "Failed", true, &reason, &message, now);
        let reason = if reason == "DeadlineExceeded" { "DeadlineExceeded" } else { "BackoffLimitExceeded" };
        out.events.push((true, reason, message));
    } else if let Some(met) = condition(&out.status, "SuccessCriteriaMet").cloned() {
        let (reason, message) = (met.reason.unwrap_or_default(), met.message.unwrap_or_default());
        set(&mut out.status, "Complete", true, &reason, &message, now);
        out.status.completion_time = Some(Time(now));
        out.events.push((false, "Completed", "Job completed".to_owned()));
    }
}

/// Sets a condition; whether that changed anything.
fn set(status: &mut JobStatus, type_: &str, truth: bool, reason: &str, message: &str, now: Timestamp) -> bool {
    let all = status.conditions.get_or_insert_default();
    let value = if truth { "True" } else { "False" };
    if all.iter().any(|c| c.type_ == type_ && c.status == value) {
        return false;
    }
    all.retain(|c| c.type_ != type_);
    all.push(JobCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
    true
}

/// Whether each completion has its own index.
pub(crate) fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.completion_mode.as_deref()) == Some("Indexed")
}

/// `0,2-4` as numbers.
fn parse_indexes(text: &str) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) {
            all.extend(from..=to.min(from + 100_000));
        }
    }
    all
}

fn write_indexes(all: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &index in all {
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == index => *to = index,
            _ => ranges.push((index, index)),
        }
    }
    // Two in a row are two, as Kubernetes writes them.
    let text = |(from, to): (usize, usize)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}
