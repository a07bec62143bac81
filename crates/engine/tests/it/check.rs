//! What Argo's controller refuses when it picks a workflow up: a manifest a rule, the words of all of them as one
//! snapshot.

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_engine::{Command, Config, Observation, Run};
use windlass_model::{Workflow, WorkflowPhase};

/// Takes a workflow up among the other objects, and tells how it is refused.
fn refusal(objects: &[Value]) -> Option<String> {
    let of_kind = |kind: &str| objects.iter().filter(move |o| o["kind"] == kind).cloned().collect::<Vec<_>>();
    let workflow: Workflow = serde_json::from_value(of_kind("Workflow").remove(0)).unwrap();
    let mut run = Run::load(&workflow, &Config::default());
    let mut seen = vec![Observation::Surveyed];
    while !seen.is_empty() {
        let commands = run.step(&seen, Timestamp::UNIX_EPOCH).commands;
        seen = commands
            .into_iter()
            .filter_map(|command| match command {
                Command::FetchTemplate { cluster, name } => {
                    let kind = if cluster { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
                    let object = of_kind(kind).into_iter().find(|o| o["metadata"]["name"] == name.as_str());
                    Some(Observation::Template { cluster, name, object })
                }
                _ => None,
            })
            .collect();
    }
    let status = run.status();
    let message = status.message.clone()?.strip_prefix("invalid spec: ")?.to_owned();
    assert_eq!(status.phase, WorkflowPhase::Failed);
    assert!(status.nodes.is_empty() && status.finished_at.is_some(), "nothing became of it: {message}");
    Some(message)
}

#[test]
fn rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let mut told = String::new();
    for file in files {
        let loaded = windlass_lang::yaml::load_str(&std::fs::read_to_string(&file).unwrap());
        assert!(loaded.diagnostics.is_empty(), "{}: {:?}", file.display(), loaded.diagnostics);
        let objects: Vec<Value> = loaded.documents.into_iter().map(|d| d.value).collect();
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        writeln!(told, "{stem}: {}", refusal(&objects).unwrap_or_else(|| "-".to_owned())).unwrap();
    }
    insta::with_settings!({snapshot_path => "../check", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("rules", told);
    });
}

fn workflow(templates: Vec<Value>) -> Vec<Value> {
    vec![json!({"kind": "Workflow", "metadata": {"name": "w"}, "spec": {"entrypoint": "t0", "templates": templates}})]
}

/// Templates that call each other in a long row: no call stack is as long.
#[test]
fn a_long_row_of_templates() {
    let last = 5_000;
    let call = |i: usize| {
        let next = format!("t{}", i + 1);
        json!({"name": format!("t{i}"), "steps": [[{"name": "s", "template": next}]]})
    };
    let mut templates: Vec<Value> = (0..last).map(call).collect();
    templates
        .push(json!({"name": format!("t{last}"), "container": {"image": "x", "args": ["{{inputs.parameters.x}}"]}}));
    let told = refusal(&workflow(templates)).unwrap();
    assert!(told.starts_with("templates.t0.steps[0].s templates.t1.steps[0].s templates.t2."), "{}", &told[..99]);
    let end = "templates.t4999.steps[0].s templates.t5000: failed to resolve {{inputs.parameters.x}}";
    assert!(told.ends_with(end), "{}", &told[told.len() - 199..]);
}

/// Templates that call themselves and each other are looked at once each.
#[test]
fn templates_in_a_circle() {
    let steps =
        |to: [&str; 2]| json!([[{"name": "a", "template": to[0]}, {"name": "b", "template": to[1], "when": "false"}]]);
    let templates = vec![
        json!({"name": "t0", "steps": steps(["t1", "t0"])}),
        json!({"name": "t1", "steps": steps(["t0", "t2"])}),
        json!({"name": "t2", "steps": [[{"name": "a", "template": "t1"}], [{"name": "b", "template": "t3"}]]}),
    ];
    let told = refusal(&workflow(templates)).unwrap();
    assert_eq!(
        told,
        "templates.t0.steps[0].a templates.t1.steps[0].b templates.t2.steps[1].b template name 't3' undefined"
    );
}

/// A wide DAG whose last task waits for all, each naming one far behind it.
#[test]
fn a_wide_dag() {
    let task = |i: usize| {
        let depends = if i == 0 { json!(null) } else { json!([format!("a{}", i - 1)]) };
        let value = if i == 0 { "x".to_owned() } else { "{{tasks.a0.outputs.result}}".to_owned() };
        let arguments = json!({"parameters": [{"name": "p", "value": value}]});
        json!({"name": format!("a{i}"), "template": "t1", "dependencies": depends, "arguments": arguments})
    };
    let mut tasks: Vec<Value> = (0..2_000).map(task).collect();
    let leaf = json!({"name": "t1", "inputs": {"parameters": [{"name": "p"}]}, "container": {"image": "x"}});
    tasks[1_999]["arguments"]["parameters"][0]["value"] = json!("{{tasks.a1999.outputs.result}}");
    let told = refusal(&workflow(vec![json!({"name": "t0", "dag": {"tasks": tasks}}), leaf])).unwrap();
    assert_eq!(told, "templates.t0.tasks.a1999 missing dependency 'a1999' for parameter 'p'");
}
