//! Runs that are kept after their workflow is gone, as people reach them.

use crate::house::{House, LONG, until};

const SPEC: &str = "entrypoint: main
archiveLogs: true
ttlStrategy: {secondsAfterCompletion: 0}
arguments: {parameters: [{name: code, value: \"1\"}]}
templates:
- name: main
  steps:
  - - {name: first, template: step, arguments: {parameters: [{name: c, value: \"0\"}]}}
  - - {name: second, template: step, arguments: {parameters: [{name: c, value: \"{{workflow.parameters.code}}\"}]}}
- name: step
  inputs: {parameters: [{name: c}]}
  container: {image: busybox, command: [sh, -c, \"echo it says {{inputs.parameters.c}}; exit {{inputs.parameters.c}}\"]}
";

#[test]
fn a_run_is_found_after_it_is_gone() {
    let Some(house) = House::new("archive") else { return };
    let up = house.up(&[]);
    let file = house.workflow("kept", SPEC);
    house.windlass(&["submit", &file, "--name", "w", "-l", "team=red"]).ok();
    let kubeconfig = house.home().join("run/kubeconfig");
    assert!(kubeconfig.is_file());
    // Its ttlStrategy takes it away as soon as it is archived.
    let gone = || house.windlass(&["explain", "w"]).stderr.contains("not found").then_some(());
    until("the workflow is gone", LONG, gone);
    house.windlass(&["archive", "list"]).ok().says(&["NAMESPACE", "UID", "default", "w ", "Failed"]);
    let listed = house.windlass(&["archive", "list", "-l", "team=red", "-o", "json", "--chunk-size", "1"]).ok().json();
    let uid = listed[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
    assert!(listed[0]["status"]["nodes"].as_object().is_none_or(|nodes| nodes.is_empty()), "{listed:#}");
    house.windlass(&["archive", "list", "-l", "team=blue"]).ok().says(&["No archived workflows found"]);
    house.windlass(&["archive", "list-label-keys"]).ok().says(&["team\n"]);
    house.windlass(&["archive", "list-label-values", "-l", "team"]).ok().says(&["red\n"]);
    house.windlass(&["archive", "get", "w"]).ok().says(&["Status:              Failed", "✔ first", "✖ second"]);
    let whole = house.windlass(&["archive", "get", &uid, "-o", "json"]).ok().json();
    assert_eq!(whole["metadata"]["labels"]["workflows.argoproj.io/workflow-archiving-status"], "Persisted");
    house.windlass(&["archive", "get", "nobody"]).exits(1).says(&["archived workflow \"nobody\" not found"]);
    // Verbs for what is there find it too.
    house.windlass(&["get", "w"]).ok().says(&["Status:              Failed", "✖ second"]);
    house.windlass(&["list"]).ok().says(&["w ", "Failed"]);
    house.windlass(&["list", "--running"]).ok().says(&["No workflows found"]);
    house.windlass(&["logs", "w"]).ok().says(&["it says 0", "it says 1"]);
    house.windlass(&["get", "nobody"]).exits(1).says(&["\"nobody\" not found"]);
    // A restart forgets nothing.
    up.end();
    let up = house.up(&[]);
    // It comes back under its name, and ends well this time; what had succeeded does not run again.
    let first = |wf: &serde_json::Value| {
        let nodes = wf["status"]["nodes"].as_object().unwrap().clone();
        nodes.values().find(|n| n["displayName"] == "first").unwrap()["startedAt"].clone()
    };
    house.windlass(&["archive", "retry", "w", "-p", "code=0"]).ok();
    let twice = || {
        let list = house.windlass(&["archive", "list", "-o", "json"]).ok().json();
        (list.as_array().unwrap().len() == 2).then_some(list)
    };
    let both = until("both runs are archived", LONG, twice);
    // Times are told by the second: the order may be either.
    let besides = |list: &serde_json::Value, known: &[&str]| {
        let is_known = |run: &&serde_json::Value| known.contains(&run["metadata"]["uid"].as_str().unwrap());
        list.as_array().unwrap().iter().find(|run| !is_known(run)).unwrap().clone()
    };
    let second = besides(&both, &[&uid]);
    assert_eq!(second["status"]["phase"], "Succeeded", "{both:#}");
    let newer = second["metadata"]["uid"].as_str().unwrap().to_owned();
    let again = house.windlass(&["archive", "get", &newer, "-o", "json"]).ok().json();
    assert_eq!(first(&again), first(&whole));
    house.windlass(&["archive", "get", "w"]).exits(1).says(&["2 archived workflows", &uid, &newer]);
    house.windlass(&["archive", "resubmit", &uid, "-p", "code=0", "--wait"]);
    let third = || {
        let list = house.windlass(&["archive", "list", "-o", "json"]).ok().json();
        (list.as_array().unwrap().len() == 3).then_some(list)
    };
    let three = until("the new one is archived too", LONG, third);
    let from = "workflows.argoproj.io/resubmitted-from-workflow";
    assert_eq!(besides(&three, &[&uid, &newer])["metadata"]["labels"][from], "w", "{three:#}");
    until("what came back is gone again", LONG, gone);
    house.windlass(&["archive", "delete", &uid, &newer]).ok().says(&["deleted"]);
    house.windlass(&["archive", "get", &uid]).exits(1).says(&["there is no archived workflow"]);
    house.windlass(&["get", "w"]).exits(1).says(&["\"w\" not found"]);
    up.end();
}

const CACHED: &str = "entrypoint: main
templates:
- name: main
  annotations: {windlass.dev/cache: \"1h\"}
  inputs: {parameters: [{name: number, value: \"1\"}]}
  container: {image: busybox, command: [sh, -c, \"echo made {{inputs.parameters.number}} > /out\"]}
  outputs: {parameters: [{name: out, valueFrom: {path: /out}}]}
";

#[test]
fn what_was_made_once_is_found_again() {
    let Some(house) = House::new("cache") else { return };
    let up = house.up(&[]);
    let file = house.workflow("cached", CACHED);
    let hit = |name: &str| {
        house.windlass(&["submit", &file, "--name", name, "--wait"]).ok();
        let wf = house.windlass(&["get", name, "-o", "json"]).ok().json();
        let node = wf["status"]["nodes"][name].clone();
        assert_eq!(node["outputs"]["parameters"][0]["value"], "made 1", "{node:#}");
        node["memoizationStatus"]["hit"].as_bool().unwrap()
    };
    house.windlass(&["cache", "list"]).ok().says(&["Nothing is remembered"]);
    assert!(!hit("first"));
    assert!(hit("second"));
    up.end();
    let up = house.up(&[]);
    assert!(hit("third"), "a restart forgets nothing");
    house.windlass(&["cache", "list"]).ok().says(&["windlass.dev/cache ", "BYTES"]);
    house.windlass(&["cache", "clear"]).ok().says(&["1 remembered outputs forgotten"]);
    assert!(!hit("fourth"));
    up.end();
}

const LOCKED: &str = "entrypoint: main
synchronization: {semaphores: [{database: {key: k}}]}
templates:
- name: main
  container: {image: busybox, command: [sh, -c, \"exit 0\"]}
";

#[test]
fn limits_in_the_database_are_said_by_a_verb() {
    let Some(house) = House::new("sync") else { return };
    let up = house.up(&[]);
    let file = house.workflow("locked", LOCKED);
    house.windlass(&["submit", &file, "--name", "early", "--wait"]).exits(1);
    house.windlass(&["get", "early"]).ok().says(&["failed to initialize semaphore default/Database/k with limit"]);
    let database = ["--type", "database"];
    house.windlass(&["sync", "get", "k", database[0], database[1]]).exits(1).says(&["there is no limit of"]);
    house.windlass(&["sync", "update", "k", database[0], database[1], "--limit", "2"]).exits(1);
    house.windlass(&["sync", "create", "k", database[0], database[1], "--limit", "1"]).ok().says(&["Limit: 1"]);
    house.windlass(&["submit", &file, "--name", "w", "--wait"]).ok();
    house.windlass(&["sync", "update", "k", database[0], database[1], "--limit", "2"]).ok().says(&["Type: database"]);
    let map = ["--type", "configmap", "--cm-name", "limits"];
    let with = |words: &[&str], more: &[&str]| house.windlass(&[words, &map[..], more].concat());
    with(&["sync", "update", "m"], &["--limit", "3"]).exits(1);
    with(&["sync", "create", "m"], &["--limit", "3"]).ok().says(&["ConfigMap Name: limits", "Limit: 3"]);
    with(&["sync", "update", "m"], &["--limit", "4"]).ok();
    with(&["sync", "get", "m"], &[]).ok().says(&["Limit: 4"]);
    with(&["sync", "delete", "m"], &[]).ok();
    with(&["sync", "get", "m"], &[]).exits(1);
    house.windlass(&["sync", "delete", "k", database[0], database[1]]).ok().says(&["Sync limit deleted"]);
    up.end();
}
