//! Progress that a step tells of itself: in its row, in the run's sum, and at the end.

use serde_json::{Value, json};
use windlass_engine::{Config, Observation, Run};
use windlass_model::Workflow;

fn step(run: &mut Run, seen: &[Observation]) {
    run.step(seen, "2026-01-01T00:00:00Z".parse().unwrap());
}

fn begun(annotation: &str) -> Run {
    let workflow: Workflow = serde_json::from_value(json!({
        "metadata": {"name": "wf", "namespace": "default", "uid": "u"},
        "spec": {"entrypoint": "main", "templates": [
            {"name": "main", "dag": {"tasks": [{"name": "a", "template": "work"}, {"name": "b", "template": "work"}]}},
            {
                "name": "work", "container": {"image": "i"},
                "metadata": {"annotations": {"workflows.argoproj.io/progress": annotation}},
            },
        ]},
    }))
    .unwrap();
    let mut run = Run::load(&workflow, &Config::default());
    step(&mut run, &[]);
    run
}

fn id(name: &str) -> String {
    windlass_engine::node_id("wf", &format!("wf.{name}"))
}

fn told(name: &str, progress: &str) -> Observation {
    let labels = json!({"workflows.argoproj.io/report-outputs-completed": "false"});
    let report = json!({"metadata": {"name": id(name), "labels": labels}, "progress": progress});
    Observation::TaskResult(serde_json::from_value(report).unwrap())
}

fn pod(name: &str, phase: &str) -> Observation {
    let terminated = json!({"exitCode": i32::from(phase == "Failed")});
    let state = if phase == "Running" { json!({"running": {}}) } else { json!({"terminated": terminated}) };
    Observation::Pod(json!({
        "metadata": {"name": name, "uid": name, "annotations": {"workflows.argoproj.io/node-id": id(name)}},
        "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]},
    }))
}

fn progress(run: &Run) -> (String, String, String) {
    let of = |name: &str| run.node(&id(name)).unwrap().progress.clone().unwrap();
    (of("a"), of("b"), run.progress())
}

fn all(a: &str, b: &str, run: &str) -> (String, String, String) {
    (a.to_owned(), b.to_owned(), run.to_owned())
}

#[test]
fn what_a_step_tells_counts() {
    let mut run = begun("");
    assert_eq!(progress(&run), all("0/1", "0/1", "0/2"));
    step(&mut run, &[pod("a", "Running"), pod("b", "Running"), told("a", "30/100")]);
    assert_eq!(progress(&run), all("30/100", "0/1", "30/101"));
    run.take_patch();
    step(&mut run, &[told("a", "31/100")]);
    let patch: Value = run.take_patch().unwrap();
    assert_eq!(patch["status"]["progress"], "31/101");
    assert_eq!(patch["status"]["nodes"][id("a")]["progress"], "31/100");
    for wrong in ["", "32", "101/100", "0/0", "-1/2"] {
        step(&mut run, &[told("a", wrong)]);
    }
    assert_eq!(progress(&run), all("31/100", "0/1", "31/101"));
    // Who ends well has done all of it; who fails stays where it was.
    step(&mut run, &[told("b", "2/5"), pod("a", "Succeeded"), pod("b", "Failed")]);
    assert!(run.is_completed());
    assert_eq!(progress(&run), all("100/100", "2/5", "102/105"));
    assert_eq!(run.status().progress.as_deref(), Some("102/105"));
}

#[test]
fn a_pod_says_what_it_begins_with() {
    assert_eq!(progress(&begun("0/50")), all("0/50", "0/50", "0/100"));
    assert_eq!(progress(&begun("some")), all("0/1", "0/1", "0/2"));
}
