//! Kinds of template with real containers: what each node came to.

use std::path::Path;

use serde_json::Value;

use crate::house::House;

/// Every node: name without the workflow's, type, phase, message, outputs.
pub(crate) fn table(workflow: &Value) -> String {
    let name = workflow["metadata"]["name"].as_str().unwrap();
    let mut rows: Vec<String> = Vec::new();
    for node in workflow["status"]["nodes"].as_object().unwrap().values() {
        let text = |field: &str| node[field].as_str().unwrap_or_default().replace(name, "@");
        let mut row = format!("{} {} {}", text("name"), text("type"), text("phase"));
        if !text("message").is_empty() {
            row.push_str(&format!(" ({})", text("message")));
        }
        if let Some(result) = node["outputs"]["result"].as_str() {
            row.push_str(&format!(" result={result:?}"));
        }
        for parameter in node["outputs"]["parameters"].as_array().into_iter().flatten() {
            row.push_str(&format!(" {}={}", parameter["name"].as_str().unwrap(), parameter["value"]));
        }
        rows.push(row);
    }
    rows.sort();
    format!("{}\n{}\n", workflow["status"]["phase"].as_str().unwrap(), rows.join("\n"))
}

pub(crate) fn run(house: &House, file: &str) -> Value {
    house.windlass(&["run", file, "-o", "json"]).json()
}

#[test]
fn container_sets() {
    let Some(house) = House::new("container_sets") else { return };
    house.image("windlass.it/busybox:1", &["busybox", "sh", "echo", "cat", "mkdir"]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/cluster/sets.yaml");
    insta::assert_snapshot!(table(&run(&house, file.to_str().unwrap())));
}

#[test]
fn requests() {
    let Some(house) = House::new("requests") else { return };
    house.image("windlass.it/busybox:1", &["busybox", "sh", "echo", "cat", "mkdir"]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/cluster/requests.yaml");
    let table = table(&run(&house, file.to_str().unwrap()));
    // The words of a refusal are the server's, and not the same in every release of it.
    let line = |line: &str| match line.split_once(" result=\"<") {
        Some((told, _)) => format!("{told} result=<…>\n"),
        None => format!("{line}\n"),
    };
    insta::assert_snapshot!(table.lines().map(line).collect::<String>());
}

/// The list of what an earlier step stored, looped over.
#[test]
fn data() {
    let Some(house) = House::new("data") else { return };
    let file = house.workflow(
        "data",
        r#"
entrypoint: main
templates:
- name: main
  steps:
  - - {name: make, template: make}
  - - {name: list, template: list}
  - - name: each
      template: show
      withParam: "{{steps.list.outputs.result}}"
      arguments: {artifacts: [{name: file, s3: {key: "{{item}}"}}]}
- name: make
  container: {image: busybox, command: [sh, -c], args: ["mkdir -p /out/d; echo one > /out/d/one.log; echo two > /out/d/two.txt; echo three > /out/three"]}
  outputs:
    artifacts:
    - {name: d, path: /out/d, archive: {none: {}}, s3: {key: "{{workflow.name}}/kept/d"}}
    - {name: three, path: /out/three, archive: {none: {}}, s3: {key: "{{workflow.name}}/kept/three.log"}}
- name: list
  data:
    source: {artifactPaths: {name: kept, s3: {key: "{{workflow.name}}/kept"}}}
    transformation: [{expression: "filter(data, {# endsWith '.log'})"}]
- name: show
  inputs: {artifacts: [{name: file, path: /file}]}
  container: {image: busybox, command: [cat, /file]}
"#,
    );
    let done = run(&house, &file);
    let name = done["metadata"]["name"].as_str().unwrap();
    insta::assert_snapshot!(table(&done).replace(name, "@"));
}

#[test]
fn resources() {
    let Some(house) = House::new("resources") else { return };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/cluster/resources.yaml");
    insta::assert_snapshot!(table(&run(&house, file.to_str().unwrap())));
}
