//! `windlass run`: what is printed, what arrives, how it exits.

use crate::house::House;

pub(crate) const HELLO: &str = "\
entrypoint: hello
templates:
- name: hello
  container:
    image: busybox
    command: [sh, -c]
    args: [\"echo hello world\"]
";

#[test]
fn hello_world() {
    let Some(house) = House::new("hello_world") else { return };
    let file = house.workflow("hello-world", HELLO);
    house.windlass(&["run", &file]).ok().says(&["Succeeded", "✔ hello-world-"]);
    let done = house.windlass(&["run", &file, "--log"]).ok();
    assert!(done.stdout.lines().any(|l| l.starts_with("hello-world-") && l.ends_with(": hello world")), "{done:?}");
}

#[test]
fn a_failing_step_shows_its_exit_code_and_its_last_lines() {
    let Some(house) = House::new("failing step") else { return };
    let file = house.workflow(
        "failing",
        "entrypoint: main
templates:
- name: main
  steps:
  - - {name: works, template: works}
  - - {name: breaks, template: breaks}
- name: works
  container: {image: busybox, command: [sh, -c], args: [\"echo fine\"]}
- name: breaks
  container:
    image: busybox
    command: [sh, -c]
    args: [\"for i in $(seq 30); do echo line $i; done; echo the real cause >&2; exit 7\"]
  outputs:
    parameters: [{name: never, valueFrom: {path: /never}}]
",
    );
    for log in [&["run", &file][..], &["run", &file, "--log"]] {
        let done = house.windlass(log).exits(1).says(&["Failed", "exit code 7", "the real cause", "│ line 30"]);
        let shown = done.stdout.lines().filter(|l| l.trim_start().starts_with("│ ")).count();
        assert_eq!(shown, 10, "the last lines, not all:\n{}", done.stdout);
    }
    // Afterwards too, where the user looks.
    let up = house.up(&[]);
    house.windlass(&["get", "@latest"]).ok().says(&["exit code 7", "breaks"]);
    house.windlass(&["logs", "@latest"]).ok().says(&["the real cause", "line 1\n", "fine"]);
    up.end().exits(0);
}

#[test]
fn parameters_and_annotations_arrive() {
    let Some(house) = House::new("parameters") else { return };
    let file = house.workflow(
        "said",
        "entrypoint: say
arguments:
  parameters: [{name: message, value: default}]
templates:
- name: say
  container:
    image: busybox
    command: [echo]
    args: [\"{{workflow.parameters.message}} of {{workflow.annotations.k8s-webhook-handler.io/revision}}\"]
",
    );
    let annotation = "k8s-webhook-handler.io/revision=0123abc";
    let args = ["run", &file, "--log", "-p", "message=two words = one", "--annotation", annotation];
    house.windlass(&args).ok().says(&["two words = one of 0123abc"]);
}

#[test]
fn steps_and_dag_pass_parameters_and_artifacts() {
    let Some(house) = House::new("steps and dag") else { return };
    let file = house.workflow("story", include_str!("story.yaml"));
    let done = house.windlass(&["run", &file, "-o", "json"]).ok();
    let wf = done.json();
    assert_eq!(wf["status"]["phase"], "Succeeded", "{wf:#}");
    let nodes = wf["status"]["nodes"].as_object().unwrap();
    let by = |name: &str| nodes.values().find(|n| n["displayName"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(by("make")["outputs"]["parameters"][0]["value"], "fortytwo");
    assert_eq!(by("never")["type"], "Skipped");
    assert_eq!(by("count")["outputs"]["result"], "3");
    let done = house.windlass(&["run", &file, "--log"]).ok();
    done.says(&[": from the artifact: content fortytwo", ": fortytwo and 3"]);
    // The same for people: one line for each step.
    house.windlass(&["run", &file]).ok().says(&["make", "never", "joined", "DURATION"]);
}
