//! The machine as a Node: its name and labels are flags, Pods choose by them, and one that nothing fits says so.

use rustix::process::Signal;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

use crate::house::{House, LONG, Running, Up, not_run, program, run, until};

const CHOOSES: &str = "entrypoint: main
nodeSelector: {disk: ssd, kubernetes.io/hostname: box}
templates:
- name: main
  container:
    image: busybox
    command: [sh, -c, 'echo on $NODE']
    env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
";

const MISFIT: &str = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";

fn kubectl(house: &House, args: &[&str]) -> Value {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(house.home().join("run/kubeconfig")).args(args);
    let done = run(&mut command).ok();
    serde_json::from_str(&done.stdout).unwrap_or_default()
}

#[test]
fn pods_choose_their_node() {
    let Some(house) = House::new("nodes") else { return };
    let file = house.workflow("chooses", CHOOSES);
    let flags = ["--node-name", "box", "--node-label", "disk=ssd"];
    let words = [&["run", &file, "--log"][..], &flags].concat();
    house.windlass(&words).ok().says(&[": on box"]);

    // Another name on the same home, without the label: the old node is no more, and the step waits and says why.
    let mut words = vec!["run", &file, "--node-name", "other"];
    let waits = Running::begin(&mut house.command(&words));
    let why = format!("Unschedulable: {MISFIT}");
    until("the reason is told", LONG, || waits.said().contains(&why).then_some(()));
    waits.signal(Signal::INT);
    waits.finish(LONG).exits(130);
    words.extend(["--node-label", "a/b/c=d"]);
    house.windlass(&words).exits(1).says(&["--node-label a/b/c=d"]);
}

#[test]
fn a_waiting_pod_goes_when_its_node_changes() {
    if program("kubectl").is_none() {
        return not_run("labels, taints and cordons of the node", "there is no kubectl");
    }
    let Some(house) = House::new("labels, taints and cordons") else { return };
    let up = house.up(&["--node-name", "box"]);
    let file = house.workflow("chooses", CHOOSES);
    let waits = Running::begin(&mut house.command(&["run", &file, "--log", "--name", "choosy"]));
    let event = until("the event", LONG, || {
        let all = kubectl(&house, &["get", "events", "-o", "json"]);
        let mut all = all["items"].as_array().cloned().unwrap_or_default().into_iter();
        all.find(|e| e["reason"] == "FailedScheduling")
    });
    assert_eq!((&event["type"], &event["reportingComponent"]), (&"Warning".into(), &"default-scheduler".into()));
    assert!(event["message"].as_str().unwrap().starts_with(MISFIT), "{event:#}");
    let pods = kubectl(&house, &["get", "pods", "-o", "json"]);
    let condition = &pods["items"][0]["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&"PodScheduled".into(), &"False".into()), "{condition:#}");
    assert_eq!(
        (&condition["reason"], &pods["items"][0]["status"]["phase"]),
        (&"Unschedulable".into(), &"Pending".into())
    );
    kubectl(&house, &["label", "node", "box", "disk=ssd"]);
    waits.finish(Duration::from_secs(20)).ok().says(&[": on box"]);

    let free = house.workflow("free", crate::run::HELLO);
    for (close, open, reason) in [
        (vec!["cordon", "box"], vec!["uncordon", "box"], "were unschedulable"),
        (
            vec!["taint", "node", "box", "gpu=yes:NoSchedule"],
            vec!["taint", "node", "box", "gpu-"],
            "had untolerated taint {gpu: yes}",
        ),
    ] {
        kubectl(&house, &close);
        let waits = Running::begin(&mut house.command(&["run", &free]));
        until(reason, LONG, || waits.said().contains(reason).then_some(()));
        kubectl(&house, &open);
        waits.finish(Duration::from_secs(20)).ok();
    }

    // The node answers: its lease is there, with the node as its owner.
    let lease = kubectl(&house, &["-n", "kube-node-lease", "get", "lease", "box", "-o", "json"]);
    assert_eq!(lease["spec"]["holderIdentity"], "box", "{lease:#}");
    assert_eq!(lease["metadata"]["ownerReferences"][0]["kind"], "Node", "{lease:#}");
    up.end().exits(0);

    // A home whose machine has another name now has one node, not two.
    let up: Up = house.up(&["--node-name", "other"]);
    let nodes = kubectl(&house, &["get", "nodes", "-o", "json"]);
    let names: Vec<&str> =
        nodes["items"].as_array().unwrap().iter().filter_map(|n| n["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["other"]);
    up.end().exits(0);
}
