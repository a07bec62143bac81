//! `templateReferencing`: what workflows may say beside the stored template that they must refer to, and what may change
//! while they run.

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_engine::{Command, Config, Observation, Referencing, Run};
use windlass_model::workflow::Workflow;

fn stored(image: &str) -> Value {
    json!({"metadata": {"name": "t"}, "spec": {
        "entrypoint": "main",
        "serviceAccountName": "bot",
        "templates": [{"name": "main", "container": {"image": image}}],
    }})
}

/// Takes a workflow up while the stored template is as it is said.
fn begin(workflow: &Value, referencing: Option<Referencing>, template: &Value) -> Run {
    let workflow: Workflow = serde_json::from_value(workflow.clone()).unwrap();
    let mut run = Run::load(&workflow, &Config { referencing, ..Config::default() });
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut seen = vec![Observation::Surveyed];
    while !seen.is_empty() {
        let commands = run.step(&seen, now).commands.into_iter();
        let object = || Some(template.clone()).filter(|t| !t.is_null());
        let answer = |command| match command {
            Command::FetchTemplate { cluster, name } => Some(Observation::Template { cluster, name, object: object() }),
            _ => None,
        };
        seen = commands.filter_map(answer).collect();
    }
    run
}

fn told(run: &Run) -> String {
    let status = run.status();
    format!("{}: {}", status.phase.as_str(), status.message.unwrap_or_else(|| "-".to_owned()))
}

fn workflow(spec: Value) -> Value {
    json!({"metadata": {"name": "w", "uid": "u"}, "spec": spec})
}

#[test]
fn workflows_refer_and_say_little_themselves() {
    let own = json!({"entrypoint": "main", "templates": [{"name": "main", "container": {"image": "x"}}]});
    let reference = |more: Value| {
        let mut spec = json!({"workflowTemplateRef": {"name": "t"}});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        spec
    };
    let not_permitted = |fields: &str| {
        format!(
            "Error: fields [{fields}] are not permitted when using workflowTemplateRef with templateReferencing restriction"
        )
    };
    let no_reference =
        "Error: workflows must use workflowTemplateRef to be executed when the controller is in reference mode";
    let all = json!({
        "arguments": {"parameters": [{"name": "p", "value": "x"}]}, "entrypoint": "main", "suspend": false,
        "activeDeadlineSeconds": 60, "priority": 1, "ttlStrategy": {"secondsAfterCompletion": 1},
        "podGC": {"strategy": "OnPodSuccess"}, "volumeClaimGC": {"strategy": "OnWorkflowCompletion"},
        "archiveLogs": true, "workflowMetadata": {"labels": {"a": "b"}}, "metrics": {"prometheus": []},
        "artifactGC": {"strategy": "Never", "forceFinalizerRemoval": true},
    });
    let gc = json!({"serviceAccountName": "root", "podSpecPatch": "x", "podMetadata": {"labels": {"a": "b"}}});
    for (spec, words) in [
        (own.clone(), no_reference.to_owned()),
        (reference(json!({})), "Running: -".to_owned()),
        (reference(all), "Running: -".to_owned()),
        (reference(json!({"podSpecPatch": "x", "dnsPolicy": "None"})), not_permitted("DNSPolicy PodSpecPatch")),
        (
            reference(json!({"hostNetwork": false, "hooks": {"exit": {"template": "x"}}})),
            not_permitted("Hooks HostNetwork"),
        ),
        (
            reference(json!({"artifactGC": gc, "volumes": [{"name": "v"}]})),
            not_permitted("ArtifactGC.PodMetadata ArtifactGC.PodSpecPatch ArtifactGC.ServiceAccountName Volumes"),
        ),
        (reference(own), not_permitted("Templates")),
    ] {
        for referencing in [Referencing::Strict, Referencing::Secure] {
            assert_eq!(told(&begin(&workflow(spec.clone()), Some(referencing), &stored("x"))), words, "{spec}");
        }
        let free = told(&begin(&workflow(spec), None, &stored("x")));
        assert!(!free.contains("restriction") && !free.contains("reference mode"), "{free}");
    }
}

#[test]
fn what_runs_stays_what_it_was() {
    let begun =
        begin(&workflow(json!({"workflowTemplateRef": {"name": "t"}})), Some(Referencing::Secure), &stored("x"));
    assert_eq!(told(&begun), "Running: -");
    let changed =
        "Error: WorkflowSpec may not change during execution when the controller is set `templateReferencing: Secure`";
    let gone = "Error: workflowtemplates.argoproj.io \"t\" not found";
    let running = |spec: Value| {
        let mut workflow = workflow(spec);
        workflow["status"] = serde_json::to_value(begun.status()).unwrap();
        workflow
    };
    let same = running(json!({"workflowTemplateRef": {"name": "t"}}));
    let mut tampered = same.clone();
    tampered["status"]["storedWorkflowTemplateSpec"]["serviceAccountName"] = json!("root");
    let later = running(json!({"workflowTemplateRef": {"name": "t"}, "priority": 3}));
    let suspended = running(json!({"workflowTemplateRef": {"name": "t"}, "suspend": true}));
    for (workflow, template, secure) in [
        (&same, stored("x"), "Running: -"),
        (&same, stored("y"), changed),
        (&same, Value::Null, gone),
        (&tampered, stored("x"), changed),
        (&later, stored("x"), changed),
        (&suspended, stored("x"), "Running: -"),
    ] {
        assert_eq!(told(&begin(workflow, Some(Referencing::Secure), &template)), secure);
        // Strict looks at what a workflow says, and no more.
        assert_eq!(told(&begin(workflow, Some(Referencing::Strict), &template)), "Running: -");
    }
}
