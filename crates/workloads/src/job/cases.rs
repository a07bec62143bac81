//! Decisions about Jobs, each with the pods as they are then.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut whole = json!({"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
        "suspend": false, "podReplacementPolicy": "TerminatingOrFailed",
        "template": {"spec": {"restartPolicy": "Never", "containers": []}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
        if value.is_null() {
            whole.as_object_mut().unwrap().remove(key);
        }
    }
    serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"}, "spec": whole, "status": status})).unwrap()
}

fn pod(name: &str, phase: &str, more: Value) -> Pod {
    let mut whole = json!({
        "metadata": {"name": name, "uid": name, "finalizers": [FINALIZER], "creationTimestamp": at(0)},
        "status": {"phase": phase},
    });
    if matches!(phase, "Succeeded" | "Failed") {
        let ended = json!({"exitCode": 0, "finishedAt": at(0)});
        whole["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": ended}}]);
    }
    for (key, value) in more.as_object().unwrap() {
        whole["metadata"][key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn conditions(d: &Decision) -> Vec<String> {
    let all = d.status.conditions.iter().flatten();
    all.map(|c| format!("{}={} {}", c.type_, c.status, c.reason.as_deref().unwrap())).collect()
}

#[test]
fn one_pod_that_succeeds() {
    let d = decide(&job(json!({}), json!({})), &[], at(0));
    assert_eq!((d.create.len(), d.status.active, d.status.start_time.as_ref().unwrap().0), (1, Some(1), at(0)));
    // It runs.
    let running = serde_json::to_value(&d.status).unwrap();
    let d = decide(&job(json!({}), running.clone()), &[pod("a", "Running", json!({}))], at(1));
    assert_eq!((d.create.len(), d.status.active, d.release.len()), (0, Some(1), 0));
    // It ends: first it is noted, and the Job has what it wanted.
    let d = decide(&job(json!({}), running), &[pod("a", "Succeeded", json!({}))], at(2));
    assert_eq!(d.release, [("a".to_owned(), "a".to_owned())]);
    assert_eq!(d.status.uncounted_terminated_pods.as_ref().unwrap().succeeded, Some(vec!["a".to_owned()]));
    assert_eq!(conditions(&d), ["SuccessCriteriaMet=True CompletionsReached"]);
    assert_eq!(d.status.succeeded, None);
    // Its finalizer is gone: it is counted, and the Job is complete.
    let noted = serde_json::to_value(&d.status).unwrap();
    let d = decide(&job(json!({}), noted), &[pod("a", "Succeeded", json!({"finalizers": null}))], at(3));
    assert_eq!(
        (d.status.succeeded, d.status.uncounted_terminated_pods == Some(Default::default()), d.status.active),
        (Some(1), true, None)
    );
    let both = ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"];
    assert_eq!(conditions(&d), both);
    assert_eq!(d.status.completion_time.as_ref().unwrap().0, at(3));
    assert_eq!(d.events, [(false, "Completed", "Job completed".to_owned())]);
    // Nothing more happens, whatever becomes of the pod.
    let complete = serde_json::to_value(&d.status).unwrap();
    let again = decide(&job(json!({}), complete.clone()), &[], at(4));
    assert_eq!((again.status, again.create.len()), (d.status, 0));
    let ttl = decide(&job(json!({"ttlSecondsAfterFinished": 10}), complete.clone()), &[], at(4));
    assert_eq!((ttl.expired, ttl.look_again), (false, Some(Duration::from_secs(9))));
    assert!(decide(&job(json!({"ttlSecondsAfterFinished": 10}), complete), &[], at(13)).expired);
}

#[test]
fn failures_wait_and_then_are_too_many() {
    let spec = json!({"backoffLimit": 1});
    let started = json!({"startTime": at(0)});
    let one = [pod("a", "Failed", json!({}))];
    let d = decide(&job(spec.clone(), started.clone()), &one, at(1));
    assert_eq!((d.create.len(), d.look_again, d.release.len()), (0, Some(Duration::from_secs(9)), 1));
    let counted = json!({"startTime": at(0), "failed": 1});
    let free = json!({"finalizers": null});
    let d = decide(&job(spec.clone(), counted.clone()), &[pod("a", "Failed", free.clone())], at(10));
    assert_eq!(d.create.len(), 1);
    let two = [pod("a", "Failed", free.clone()), pod("b", "Failed", json!({}))];
    let d = decide(&job(spec.clone(), counted), &two, at(30));
    assert_eq!(conditions(&d), ["FailureTarget=True BackoffLimitExceeded"]);
    assert!(d.create.is_empty());
    let noted = serde_json::to_value(&d.status).unwrap();
    let d = decide(&job(spec, noted), &[pod("a", "Failed", free.clone()), pod("b", "Failed", free)], at(31));
    let both = ["FailureTarget=True BackoffLimitExceeded", "Failed=True BackoffLimitExceeded"];
    assert_eq!((conditions(&d), d.status.failed), (both.map(str::to_owned).to_vec(), Some(2)));
    assert_eq!(d.events, [(true, "BackoffLimitExceeded", "Job has reached the specified backoff limit".to_owned())]);
}

#[test]
fn back_off_doubles() {
    let free = json!({"finalizers": null});
    let failed: Vec<Pod> = (0..4).map(|n| pod(&n.to_string(), "Failed", free.clone())).collect();
    for (count, seconds) in [(1, 10), (2, 20), (3, 40), (4, 80)] {
        let d = decide(&job(json!({}), json!({"startTime": at(0), "failed": count})), &failed[..count], at(1));
        assert_eq!(d.look_again, Some(Duration::from_secs(seconds - 1)), "{count}");
    }
}

#[test]
fn the_deadline_ends_what_runs() {
    let spec = json!({"activeDeadlineSeconds": 5, "parallelism": 2, "completions": 2});
    let pods = [pod("a", "Running", json!({})), pod("b", "Pending", json!({}))];
    let started = json!({"startTime": at(0)});
    let d = decide(&job(spec.clone(), started.clone()), &pods, at(3));
    assert_eq!((d.look_again, d.delete.len()), (Some(Duration::from_secs(2)), 0));
    let d = decide(&job(spec.clone(), started), &pods, at(5));
    assert_eq!((d.delete.len(), d.delete[0].2, d.status.active, d.status.terminating), (2, false, None, Some(2)));
    assert_eq!(conditions(&d), ["FailureTarget=True DeadlineExceeded"]);
    let going = json!({"deletionTimestamp": at(5)});
    let d = decide(&job(spec.clone(), serde_json::to_value(&d.status).unwrap()), &[pod("a", "Running", going)], at(6));
    assert_eq!((conditions(&d).len(), d.release.len(), d.delete.len()), (1, 1, 0));
    let d = decide(&job(spec, serde_json::to_value(&d.status).unwrap()), &[], at(7));
    assert_eq!(conditions(&d).last().unwrap(), "Failed=True DeadlineExceeded");
    assert_eq!(d.status.failed, Some(1));
}

#[test]
fn parallelism_and_completions() {
    let spec = json!({"parallelism": 3, "completions": 5});
    let d = decide(&job(spec.clone(), json!({})), &[], at(0));
    assert_eq!(d.create.len(), 3);
    let counted = json!({"startTime": at(0), "succeeded": 4});
    let two = [pod("a", "Running", json!({})), pod("b", "Pending", json!({}))];
    let d = decide(&job(spec, counted), &two, at(1));
    assert_eq!(d.delete, [("b".to_owned(), "b".to_owned(), true)]);
    // Without completions one success is enough, and the others may end.
    let spec = json!({"completions": null, "parallelism": 2});
    let half = [pod("a", "Succeeded", json!({})), pod("b", "Running", json!({}))];
    let d = decide(&job(spec.clone(), json!({"startTime": at(0)})), &half, at(1));
    assert_eq!((d.create.len(), d.delete.len(), conditions(&d).len()), (0, 0, 0));
    let d = decide(&job(spec, json!({"startTime": at(0), "succeeded": 2})), &[], at(2));
    assert_eq!(conditions(&d).len(), 2);
}

#[test]
fn each_index_once() {
    let spec = json!({"completionMode": "Indexed", "completions": 6, "parallelism": 3});
    let index = |n: usize| json!({"annotations": {INDEX: n.to_string()}});
    let pods = [pod("a", "Succeeded", index(1)), pod("b", "Succeeded", index(2)), pod("c", "Running", index(0))];
    let d = decide(&job(spec.clone(), json!({"startTime": at(0), "completedIndexes": "5"})), &pods, at(1));
    assert_eq!((d.status.completed_indexes.as_deref(), d.status.succeeded), (Some("1,2,5"), Some(3)));
    assert_eq!(d.create, [Some(3), Some(4)]);
    let d = decide(&job(spec, json!({"startTime": at(0), "completedIndexes": "0-5", "succeeded": 6})), &[], at(2));
    assert_eq!(conditions(&d).len(), 2);
}

#[test]
fn suspended_and_resumed() {
    let running = [pod("a", "Running", json!({}))];
    let d = decide(&job(json!({"suspend": true}), json!({"startTime": at(0)})), &running, at(1));
    assert_eq!((&d.delete[0].2, conditions(&d)), (&true, vec!["Suspended=True JobSuspended".to_owned()]));
    assert_eq!(d.events[0].1, "Suspended");
    let suspended = serde_json::to_value(&d.status).unwrap();
    let d = decide(&job(json!({}), suspended), &[], at(9));
    assert_eq!((d.create.len(), conditions(&d)), (1, vec!["Suspended=False JobResumed".to_owned()]));
    assert_eq!((d.events[0].1, d.status.start_time.unwrap().0), ("Resumed", at(9)));
    assert!(decide(&job(json!({"suspend": true}), json!({})), &[], at(0)).status.start_time.is_none());
}

#[test]
fn restarts_in_place_count_too() {
    let spec = json!({"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure", "containers": []}}});
    let restarted = |n: i32| {
        let mut pod = pod("a", "Running", json!({}));
        let status = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": n}]);
        pod.status.as_mut().unwrap().container_statuses = serde_json::from_value(status).unwrap();
        [pod]
    };
    let started = json!({"startTime": at(0)});
    assert!(conditions(&decide(&job(spec.clone(), started.clone()), &restarted(1), at(1))).is_empty());
    let d = decide(&job(spec, started), &restarted(2), at(1));
    assert_eq!((conditions(&d), d.delete.len()), (vec!["FailureTarget=True BackoffLimitExceeded".to_owned()], 1));
}

#[test]
fn a_job_that_goes_lets_its_pods_go() {
    let mut going = job(json!({}), json!({}));
    going.metadata.deletion_timestamp = Some(Time(at(0)));
    let d = decide(&going, &[pod("a", "Running", json!({}))], at(1));
    assert_eq!((d.release.len(), d.create.len()), (1, 0));
}

#[test]
fn indexes_are_ranges() {
    for text in ["", "0", "0-2", "1,3,4,9", "0,1"] {
        assert_eq!(write_indexes(&parse_indexes(text)), text);
    }
}
