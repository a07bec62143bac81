//! The `pod` form: one file a case (a workflow of one pod), its pod as a snapshot, with what changes from run to run taken
//! out. What is not added is as important as what is.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use windlass_engine::artifact_plugins::ArtifactDriver;
use windlass_engine::pod_form::{ImageCommand, PodForm, images_without_command, wrap};
use windlass_engine::{Command, Config, Run};
use windlass_model::{ArtifactLocation, Workflow};

fn form() -> PodForm {
    PodForm {
        image: "registry.example/windlass:1".to_owned(),
        pull_policy: Some("IfNotPresent".to_owned()),
        token_secret: "windlass-executor-token".to_owned(),
        env: vec![("WINDLASS_REMAP_GIT".to_owned(), "git@github.com:=http://git/".to_owned())],
        kaniko_image: false,
    }
}

/// The first pod that the workflow makes.
fn first_pod(text: &str) -> Result<Value, String> {
    let spec = windlass_lang::yaml::load_str(text).documents.into_iter().next().unwrap().value;
    let workflow = json!({
        "metadata": {"name": "wf", "namespace": "ci", "uid": "uid-1"}, "spec": spec,
    });
    let workflow: Workflow = serde_json::from_value(workflow).unwrap();
    let repository = json!({"s3": {
        "endpoint": "minio:9000", "bucket": "b", "insecure": true,
        "accessKeySecret": {"name": "minio.creds", "key": "user"},
        "secretKeySecret": {"name": "minio.creds", "key": "password"},
    }});
    let config = Config {
        executor_image: form().image,
        artifact_repository: serde_json::from_value(repository).unwrap(),
        artifact_drivers: [("keeper", Some(9)), ("second", Some(9)), ("unused", None)]
            .map(|(name, timeout_seconds)| ArtifactDriver {
                name: name.to_owned(),
                image: format!("{name}:1"),
                timeout_seconds,
            })
            .to_vec(),
        ..Config::default()
    };
    first_pod_of(&workflow, &config)
}

fn first_pod_of(workflow: &Workflow, config: &Config) -> Result<Value, String> {
    let mut run = Run::load(workflow, config);
    let decision = run.step(&[], "2026-01-01T00:00:00Z".parse().unwrap());
    let pod = decision.commands.into_iter().find_map(|c| match c {
        Command::CreatePod { pod, .. } => Some(pod),
        _ => None,
    });
    pod.ok_or_else(|| serde_json::to_string(&run.take_patch()).unwrap())
}

fn commands() -> BTreeMap<String, ImageCommand> {
    let command = ImageCommand { entrypoint: vec!["/entry".to_owned()], cmd: vec!["default".to_owned()] };
    [("tool".to_owned(), command), ("empty".to_owned(), ImageCommand::default())].into()
}

/// The pod as a reader wants it: the task as JSON, and without what every pod has.
fn shown(mut pod: Value) -> String {
    let annotations = &mut pod["metadata"]["annotations"];
    if let Some(text) = annotations["windlass.dev/pod-task"].as_str() {
        annotations["windlass.dev/pod-task"] = serde_json::from_str(text).unwrap();
    }
    let told: Vec<&str> = annotations.as_object().unwrap().keys().map(String::as_str).collect();
    let head = format!("annotations: {told:?}\n");
    let task = &annotations["windlass.dev/pod-task"];
    format!(
        "{head}{}\n{}",
        serde_json::to_string_pretty(task).unwrap(),
        serde_json::to_string_pretty(&pod["spec"]).unwrap()
    )
}

#[test]
fn pods() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pod_form");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let pod = first_pod(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let asked = images_without_command(&pod, &form());
        let text = match wrap(pod, &form(), &commands()) {
            Ok(pod) => format!("asked: {asked:?}\n{}", shown(pod)),
            Err(error) => format!("asked: {asked:?}\nerror: {error}"),
        };
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({snapshot_path => "../pod_form", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, text);
        });
    }
}

#[test]
fn a_pod_is_wrapped_once_and_never_twice() {
    let pod =
        first_pod("entrypoint: a\ntemplates:\n- name: a\n  script: {image: busybox, command: [sh], source: echo}\n");
    let once = wrap(pod.unwrap(), &form(), &BTreeMap::new()).unwrap();
    assert_eq!(wrap(once.clone(), &form(), &BTreeMap::new()).unwrap(), once);
}

#[test]
fn artifact_plugins_that_are_not_there_are_named() {
    let text = |name: &str| {
        format!(
            "entrypoint: a\ntemplates: [{{name: a, container: {{image: tool, command: [run]}}, outputs: {{artifacts: \
             [{{name: o, path: /o, plugin: {{name: {name}, configuration: c, key: k}}}}]}}}}]"
        )
    };
    let told = |name: &str| first_pod(&text(name)).unwrap_err();
    assert!(told("keper").contains("artifact driver keper not found: did you mean keeper?"), "{}", told("keper"));
    let others = "not found: artifactDrivers of workflow-controller-configmap has keeper, second, unused";
    assert!(told("elsewhere").contains(others), "{}", told("elsewhere"));
    // Where the node agent moves artifacts the pod is the same, but for the executor.
    let pod = first_pod(&text("keeper")).unwrap();
    assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
    assert_eq!(pod["spec"]["initContainers"][0]["args"], json!(["/tmp/artifact-plugins/keeper/socket"]));
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "artifact-plugin-keeper", "emptyDir": {}}]));
}

#[test]
fn an_output_without_a_repository_is_told_before_the_pod() {
    let spec = "entrypoint: a\ntemplates:\n- name: a\n  container: {image: i, command: [c]}\n  outputs: {artifacts: [{name: o, path: /o}]}\n";
    let spec = windlass_lang::yaml::load_str(spec).documents.into_iter().next().unwrap().value;
    let workflow = json!({"metadata": {"name": "wf", "uid": "u"}, "spec": spec});
    let workflow: Workflow = serde_json::from_value(workflow).unwrap();
    let config = Config { artifact_repository: ArtifactLocation::default(), ..Config::default() };
    let told = first_pod_of(&workflow, &config).unwrap_err();
    assert!(told.contains("output artifact 'o': You need to configure artifact storage"), "{told}");
}
