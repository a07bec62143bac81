//! A pod that does not come to run within its template's `pendingTimeout`.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use windlass_engine::{Command, Config, Observation, Run};
use windlass_model::Workflow;

#[test]
fn a_pod_that_stays_pending_is_deleted_and_its_node_failed() {
    let workflow: Workflow = serde_json::from_value(json!({
        "metadata": {"name": "w", "uid": "u"},
        "spec": {"entrypoint": "main", "arguments": {"parameters": [{"name": "wait", "value": "10s"}]}, "templates": [
            {"name": "main", "pendingTimeout": "{{workflow.parameters.wait}}", "container": {"image": "busybox"}},
        ]},
    }))
    .unwrap();
    let mut run = Run::load(&workflow, &Config::default());
    let start: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let decision = run.step(&[Observation::Surveyed], start);
    let Some(Command::CreatePod { mut pod, .. }) = decision.commands.into_iter().next() else { panic!("no pod") };
    pod["metadata"]["uid"] = json!("pod-1");
    pod["status"] = json!({"phase": "Pending"});
    let end = start + SignedDuration::from_secs(10);
    let decision = run.step(&[Observation::Pod(pod)], start + SignedDuration::from_secs(9));
    assert_eq!(decision.wake, Some(end));
    assert!(!decision.completed);
    let decision = run.step(&[], end);
    let gone = Command::DeletePod { name: "w".to_owned(), uid: Some("pod-1".to_owned()) };
    assert!(decision.completed && decision.commands.contains(&gone), "{decision:?}");
    let status = run.status();
    assert_eq!((status.phase.as_str(), status.message.as_deref()), ("Failed", Some("timeout")));
}
