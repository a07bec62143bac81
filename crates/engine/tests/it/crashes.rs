//! What a controller finds when it comes back: the status it wrote last, and pods that are further than that.

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_engine::{Command, Config, Observation, Run};
use windlass_model::Workflow;

/// A run of one step whose status was last written with these changes to the step's row.
fn one_step(row: Value) -> Run {
    let mut node = json!({"id": "w", "name": "w", "displayName": "w", "type": "Pod", "templateName": "main",
        "templateScope": "local/w", "phase": "Running"});
    node.as_object_mut().unwrap().extend(row.as_object().unwrap().clone());
    let workflow: Workflow = serde_json::from_value(json!({
        "metadata": {"name": "w", "namespace": "n", "uid": "wu"},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "container": {"image": "i", "command": ["c"]}}]},
        "status": {"phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "nodes": {"w": node}},
    }))
    .unwrap();
    Run::load(&workflow, &Config::default())
}

fn pod(attempt: u32, phase: &str, reason: &str, uid: &str) -> Observation {
    Observation::Pod(json!({
        "metadata": {"name": "w", "uid": uid, "labels": {},
            "annotations": {"workflows.argoproj.io/node-id": "w", "windlass.dev/attempt": attempt.to_string()}},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": phase, "reason": reason},
    }))
}

fn now() -> Timestamp {
    "2026-01-01T00:00:10Z".parse().unwrap()
}

/// `create N`, `delete UID`, `release UID`.
fn words(commands: &[Command]) -> Vec<String> {
    let word = |command: &Command| match command {
        Command::CreatePod { pod, .. } => {
            format!("create {}", pod["metadata"]["annotations"]["windlass.dev/attempt"].as_str().unwrap())
        }
        Command::DeletePod { uid, .. } => format!("delete {}", uid.as_deref().unwrap()),
        Command::ReleasePod { uid, .. } => format!("release {}", uid.as_deref().unwrap()),
        other => format!("{other:?}"),
    };
    commands.iter().map(word).collect()
}

#[test]
fn a_pod_of_a_later_attempt_than_the_status_says_is_ours() {
    // Attempt 0 was lost, attempt 1 was made, and the crash came before the status was written: `ten_kills` hung here.
    let mut run = one_step(json!({}));
    let seen = [pod(1, "Running", "", "second"), Observation::Surveyed];
    assert_eq!(words(&run.step(&seen, now()).commands), [""; 0]);
    let lost = run.step(&[pod(1, "Failed", "NodeLost", "second")], now());
    assert_eq!(words(&lost.commands), ["delete second", "create 2"]);
    let row = &serde_json::to_value(run.status()).unwrap()["nodes"]["w"];
    assert_eq!((&row["phase"], &row["failedPodRestarts"]), (&json!("Pending"), &json!(2)));
}

#[test]
fn a_pod_of_an_earlier_attempt_than_the_status_says_goes() {
    let mut run = one_step(json!({"phase": "Pending", "failedPodRestarts": 1}));
    let seen = [pod(0, "Failed", "NodeLost", "first"), Observation::Surveyed];
    assert_eq!(words(&run.step(&seen, now()).commands), ["delete first", "create 1"]);
}

#[test]
fn a_pod_whose_node_ended_before_the_crash_is_let_go() {
    let mut run = one_step(json!({"phase": "Succeeded", "finishedAt": "2026-01-01T00:00:05Z"}));
    let seen = [pod(0, "Succeeded", "", "only"), Observation::Surveyed];
    let decision = run.step(&seen, now());
    assert_eq!((words(&decision.commands), decision.completed), (vec!["release only".to_owned()], true));
}

#[test]
fn a_daemon_that_died_meanwhile_fails_its_step_group() {
    let row = |id: &str, name: &str, kind: &str, phase: &str, children: &[&str]| {
        json!({"id": id, "name": name, "displayName": name, "type": kind, "phase": phase, "templateName": "t",
            "templateScope": "local/w", "children": children})
    };
    let id = |name: &str| windlass_engine::node_id("w", name);
    let (first, serve, second, used) = (id("w[0]"), id("w[0].serve"), id("w[1]"), id("w[1].use"));
    let mut nodes = json!({});
    nodes["w"] = row("w", "w", "Steps", "Running", &[&first]);
    nodes["w"]["templateName"] = json!("main");
    nodes[&first] = row(&first, "w[0]", "StepGroup", "Succeeded", &[&serve]);
    nodes[&serve] = row(&serve, "w[0].serve", "Pod", "Running", &[&second]);
    nodes[&serve]["daemoned"] = json!(true);
    nodes[&second] = row(&second, "w[1]", "StepGroup", "Running", &[&used]);
    nodes[&used] = row(&used, "w[1].use", "Pod", "Running", &[]);
    for inner in [&first, &serve, &second, &used] {
        nodes[inner]["boundaryID"] = json!("w");
    }
    let workflow: Workflow = serde_json::from_value(json!({
        "metadata": {"name": "w", "namespace": "n", "uid": "wu"},
        "spec": {"entrypoint": "main", "templates": [
            {"name": "main", "steps": [[{"name": "serve", "template": "t"}], [{"name": "use", "template": "t"}]]},
            {"name": "t", "daemon": true, "container": {"image": "i", "command": ["c"]}},
        ]},
        "status": {"phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "nodes": nodes},
    }))
    .unwrap();
    let mut run = Run::load(&workflow, &Config::default());
    let seen = |node: &str, phase: &str| {
        Observation::Pod(json!({
            "metadata": {"name": format!("w-t-{}", node.rsplit('-').next().unwrap()), "uid": node, "labels": {},
                "annotations": {"workflows.argoproj.io/node-id": node, "windlass.dev/attempt": "0"}},
            "spec": {"containers": [{"name": "main"}]},
            "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": 3}}}]},
        }))
    };
    run.step(&[seen(&serve, "Failed"), seen(&used, "Running"), Observation::Surveyed], now());
    let rows = &serde_json::to_value(run.status()).unwrap()["nodes"];
    let message = format!("child '{serve}' failed");
    for node in ["w", &first] {
        assert_eq!((&rows[node]["phase"], &rows[node]["message"]), (&json!("Failed"), &json!(message)), "{node}");
    }
}
