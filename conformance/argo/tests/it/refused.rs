//! Specs that Argo refuses: the words of the real `argo lint`, where the recordings are at hand.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use windlass_conformance_argo::corpus;
use windlass_engine::{Command, Config, Observation, Run};
use windlass_lang::yaml;

/// Takes a workflow up among the other objects of its file, and tells how it is refused.
fn refusal(workflow: &Value, objects: &[Value]) -> Option<String> {
    let mut workflow = workflow.clone();
    if workflow["metadata"]["name"].is_null() {
        workflow["metadata"]["name"] = workflow["metadata"]["generateName"].clone();
    }
    // What is begun must not go on: a template may call itself for ever.
    let config = Config { depth_max: 1, ..Config::default() };
    let mut run = Run::load(&serde_json::from_value(workflow).ok()?, &config);
    let mut seen = vec![Observation::Surveyed];
    while !seen.is_empty() {
        let commands = run.step(&seen, Timestamp::UNIX_EPOCH).commands;
        let answer = |command| match command {
            Command::FetchTemplate { cluster, name } => {
                let kind = if cluster { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
                let found = objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name.as_str());
                Some(Observation::Template { cluster, name, object: found.cloned() })
            }
            _ => None,
        };
        seen = commands.into_iter().filter_map(answer).collect();
    }
    run.status().message?.strip_prefix("invalid spec: ").map(str::to_owned)
}

/// The words of Argo for the one workflow of a file; nothing where it says something else or of something else.
fn said(recorded: &Value) -> Option<&str> {
    let mut lines = recorded["stdout"].as_str()?.lines();
    let (_, words) = lines.next()?.split_once(" (Workflow): ")?;
    lines.next().is_none().then_some(words)
}

fn objects(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    yaml::flatten(yaml::load_str(&text).documents).into_iter().map(|d| d.value).collect()
}

#[test]
fn specs_are_refused_in_argos_words() {
    let Some(folder) = corpus::folder().map(|f| f.join("lint")).filter(|f| f.is_dir()) else {
        eprintln!("NOT RUN: no recordings");
        return;
    };
    let (mut equal, mut taken, mut elsewhere, mut wrong) = (0, 0, 0, Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    for file in files {
        let recorded: Value =
            serde_json::from_str(&std::fs::read_to_string(file.with_extension("json")).unwrap()).unwrap();
        let objects = objects(&file);
        let workflows: Vec<&Value> = objects.iter().filter(|o| o["kind"] == "Workflow").collect();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if recorded["rc"] == 0 {
            for workflow in workflows {
                // A template of another file is unknown to us alone, and lint asks for no values.
                let told = refusal(workflow, &objects).filter(|t| !t.ends_with("is required"));
                taken += 1;
                wrong.extend(told.map(|told| format!("{name}: {told}, and Argo takes it")));
            }
            continue;
        }
        let (Some(said), [workflow]) = (said(&recorded), workflows.as_slice()) else { continue };
        // The controller finds no such template either, and says it in other words; it does so before it looks at what
        // refers to it as a whole. And what is read strictly is lint's own.
        let base = &workflow["spec"]["workflowTemplateRef"]["name"];
        let no_base = !base.is_null() && !objects.iter().any(|o| o["metadata"]["name"] == *base);
        if said.contains("couldn't find") || said.starts_with("strict decoding error") || no_base {
            elsewhere += 1;
            continue;
        }
        match refusal(workflow, &objects) {
            Some(told) if told == said => equal += 1,
            told => wrong.push(format!("{name}: {told:?}, and Argo says {said:?}")),
        }
    }
    eprintln!("{equal} refused in the same words, {taken} taken, {elsewhere} by what is not in the file");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(equal >= 35 && taken >= 300, "{equal} {taken}");
}
