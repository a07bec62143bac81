//! `workflowDefaults`: what a workflow leaves out, and what of it stays its own.

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_engine::{Command, Config, Observation, Run};
use windlass_model::Workflow;

fn first_pod(spec: Value, template: Option<Value>) -> (Value, Value) {
    let workflow: Workflow =
        serde_json::from_value(json!({"metadata": {"name": "w", "uid": "u", "labels": {"own": "1"}}, "spec": spec}))
            .unwrap();
    let defaults = json!({
        "metadata": {"labels": {"own": "2", "team": "blue"}, "annotations": {"a": "b"}},
        "spec": {
            "serviceAccountName": "bot", "nodeSelector": {"disk": "fast"}, "dnsPolicy": "None",
            "templateDefaults": {"metadata": {"labels": {"made": "by-default"}}},
        },
    });
    let mut run = Run::load(&workflow, &Config { workflow_defaults: Some(defaults), ..Config::default() });
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut seen = vec![Observation::Surveyed];
    for _ in 0..3 {
        let decision = run.step(&seen, now);
        seen.clear();
        for command in decision.commands {
            match command {
                Command::CreatePod { pod, .. } => return (pod, run.take_patch().unwrap()),
                Command::FetchTemplate { cluster, name } => {
                    seen.push(Observation::Template { cluster, name, object: template.clone() });
                }
                _ => {}
            }
        }
    }
    panic!("no pod: {:?}", run.status().message);
}

#[test]
fn defaults_fill_in_what_a_workflow_leaves_out() {
    let spec = json!({
        "entrypoint": "main", "serviceAccountName": "mine",
        "templates": [{"name": "main", "container": {"image": "busybox"}}],
    });
    let (pod, patch) = first_pod(spec, None);
    assert_eq!(pod["spec"]["serviceAccountName"], "mine");
    assert_eq!(pod["spec"]["nodeSelector"], json!({"disk": "fast"}));
    assert_eq!(pod["metadata"]["labels"]["made"], "by-default");
    let labels = &patch["metadata"]["labels"];
    assert_eq!((&labels["own"], &labels["team"]), (&json!("1"), &json!("blue")));
    assert_eq!(patch["metadata"]["annotations"]["a"], "b");
}

#[test]
fn a_template_comes_before_them() {
    let template = json!({"spec": {
        "entrypoint": "main", "dnsPolicy": "Default",
        "templates": [{"name": "main", "container": {"image": "busybox"}}],
    }});
    let (pod, patch) = first_pod(json!({"workflowTemplateRef": {"name": "t"}}), Some(template));
    assert_eq!(pod["spec"]["dnsPolicy"], "Default");
    assert_eq!(pod["spec"]["serviceAccountName"], "bot");
    assert_eq!(patch["status"]["storedWorkflowTemplateSpec"]["serviceAccountName"], "bot");
}
