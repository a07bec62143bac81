//! Claims: made for a run and given back, kept by hand and used again, protected while they are used, and what is said where
//! none can be bound.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::house::{Done, House, LONG, Running, not_run, program, run, until};

/// Two steps over one claim, each in a folder of its own and both in a common one.
const RUN: &str = "entrypoint: main
volumeClaimTemplates:
- metadata: {name: job}
  spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
templates:
- name: main
  steps:
  - - {name: write, template: write}
  - - {name: read, template: read}
- name: write
  container:
    image: busybox
    command: [sh, -c, 'echo kept > /job/file; mkdir /job/sub; echo deeper > /job/sub/file']
    volumeMounts: [{name: job, mountPath: /job}]
- name: read
  container:
    image: busybox
    command: [sh, -c, 'cat /job/file /sub/file; exit CODE']
    volumeMounts:
    - {name: job, mountPath: /job}
    - {name: job, mountPath: /sub, subPath: sub, readOnly: true}
";

const CLAIM: &str = "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
  containers:
  - {name: main, image: busybox, command: [sh, -c, 'echo $(cat /v/f) again; echo first > /v/f; exec sleep 1000'], volumeMounts: [{name: v, mountPath: /v}]}
";

fn kubectl(house: &House, args: &[&str]) -> Done {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(house.home().join("run/kubeconfig")).args(args);
    run(&mut command)
}

fn json(house: &House, args: &[&str]) -> Value {
    kubectl(house, &[args, &["-o", "json"]].concat()).ok().json()
}

/// What is kept of claims on disk.
fn kept(house: &House) -> Vec<String> {
    let entries = fs::read_dir(house.home().join("volumes/claims")).unwrap().flatten();
    entries.map(|e| e.file_name().into_string().unwrap()).collect()
}

#[test]
fn claims_of_a_run() {
    let Some(house) = House::new("claims of a run") else { return };
    let succeeds = house.workflow("succeeds", &RUN.replace("CODE", "0"));
    house.windlass(&["run", &succeeds, "--log"]).ok().says(&[": kept", ": deeper"]);
    let up = house.up(&[]);
    let done = house.windlass(&["run", &succeeds, "-o", "json"]).ok().json();
    assert!(done["status"]["persistentVolumeClaims"].is_null(), "{:#}", done["status"]);
    until("what succeeded gave its claims back", LONG, || kept(&house).is_empty().then_some(()));

    // A failed one keeps them for a retry, which finds what was written; deleting it takes them along.
    let fails =
        house.workflow("fails", &RUN.replace("CODE", "$([ -e /job/again ] && echo 0 || { : > /job/again; echo 3; })"));
    let done = house.windlass(&["run", &fails, "-o", "json"]).exits(1).json();
    let name = done["metadata"]["name"].as_str().unwrap();
    let claim = &done["status"]["persistentVolumeClaims"][0];
    assert_eq!(claim["name"], "job", "{:#}", done["status"]);
    assert_eq!(claim["persistentVolumeClaim"]["claimName"], format!("{name}-job"));
    assert_eq!(kept(&house).len(), 1);
    house.windlass(&["retry", name]).ok();
    house.windlass(&["wait", name]).ok();
    until("the retried one gave its claims back", LONG, || kept(&house).is_empty().then_some(()));

    let gone = house
        .workflow("gone", &format!("volumeClaimGC: {{strategy: OnWorkflowCompletion}}\n{}", RUN.replace("CODE", "3")));
    house.windlass(&["run", &gone]).exits(1);
    until("a failed one gave its claims back", LONG, || kept(&house).is_empty().then_some(()));
    let done = house.windlass(&["run", &house.workflow("kept", &RUN.replace("CODE", "3")), "-o", "name"]).exits(1);
    assert_eq!(kept(&house).len(), 1);
    house.windlass(&["delete", done.stdout.trim()]).ok();
    until("claims went with their workflow", LONG, || kept(&house).is_empty().then_some(()));
    up.end().exits(0);
}

#[test]
fn claims_by_hand() {
    if program("kubectl").is_none() {
        return not_run("claims by hand", "there is no kubectl");
    }
    let Some(house) = House::new("claims by hand") else { return };
    house.image("busybox", &["busybox", "sh", "echo", "cat", "sleep"]);
    let up = house.up(&[]);
    let (claim, pod) = (house.file("claim.yaml", CLAIM), house.file("pod.yaml", POD));

    // A pod before its claim says what it waits for, as a scheduler does, and goes when it is there.
    kubectl(&house, &["create", "-f", &pod]).ok();
    until("the reason", LONG, || {
        let conditions = json(&house, &["get", "pod", "user"])["status"]["conditions"].clone();
        let message = conditions[0]["message"].as_str().unwrap_or_default().to_owned();
        message.contains("0/1 nodes are available: persistentvolumeclaim \"data\" not found.").then_some(())
    });
    kubectl(&house, &["create", "-f", &claim]).ok();
    let running = |text: &str| {
        until(text, LONG, || kubectl(&house, &["logs", "user"]).stdout.contains(text).then_some(()));
    };
    running("again");
    let bound = json(&house, &["get", "pvc", "data"]);
    assert_eq!((&bound["status"]["phase"], &bound["spec"]["storageClassName"]), (&"Bound".into(), &"local".into()));
    assert_eq!(bound["metadata"]["finalizers"][0], "kubernetes.io/pvc-protection");
    kubectl(&house, &["get", "pvc"]).ok().says(&["NAME", "Bound", "pvc-", "1Gi", "RWO", "local"]);
    kubectl(&house, &["get", "pv"]).ok().says(&["Delete", "Bound", "default/data", "local"]);
    kubectl(&house, &["get", "sc"]).ok().says(&[
        "local (default)",
        "local.windlass.dev",
        "Delete",
        "Immediate",
        "false",
    ]);

    // What it wrote stays for the next, also over a restart.
    kubectl(&house, &["delete", "-f", &pod]).ok();
    up.end().exits(0);
    let up = house.up(&[]);
    kubectl(&house, &["create", "-f", &pod]).ok();
    running("first again");

    // Used, it is only marked as deleted; then it goes with its data.
    kubectl(&house, &["delete", "pvc", "data", "--wait=false"]).ok();
    std::thread::sleep(Duration::from_secs(1));
    kubectl(&house, &["get", "pvc", "data"]).ok().says(&["Terminating"]);
    assert_eq!(kept(&house).len(), 1);
    kubectl(&house, &["delete", "-f", &pod]).ok();
    until("the data goes", LONG, || kept(&house).is_empty().then_some(()));
    until("the volume goes", LONG, || {
        json(&house, &["get", "pv"])["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    });

    // A class that is not there, and one that waits for a pod.
    let lazy = "apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: lazy}
provisioner: local.windlass.dev
reclaimPolicy: Retain
volumeBindingMode: WaitForFirstConsumer
";
    kubectl(&house, &["create", "-f", &house.file("lazy.yaml", lazy)]).ok();
    let of = |class: &str| CLAIM.replace("spec: {", &format!("spec: {{storageClassName: {class}, "));
    kubectl(&house, &["create", "-f", &house.file("claim.yaml", &of("nowhere"))]).ok();
    until("that its class is missing", LONG, || {
        kubectl(&house, &["get", "events"])
            .stdout
            .contains("storageclass.storage.k8s.io \"nowhere\" not found")
            .then_some(())
    });
    kubectl(&house, &["delete", "pvc", "data"]).ok();
    kubectl(&house, &["create", "-f", &house.file("claim.yaml", &of("lazy"))]).ok();
    until("that it waits", LONG, || {
        kubectl(&house, &["get", "events"]).stdout.contains("waiting for first consumer").then_some(())
    });
    assert_eq!(json(&house, &["get", "pvc", "data"])["status"]["phase"], "Pending");
    kubectl(&house, &["create", "-f", &pod]).ok();
    running("again");
    for what in [["pod", "user"], ["pvc", "data"]] {
        kubectl(&house, &["delete", what[0], what[1]]).ok();
    }
    // Retained: the volume is released, the data stays.
    until("the volume is released", LONG, || {
        (json(&house, &["get", "pv"])["items"][0]["status"]["phase"] == "Released").then_some(())
    });
    assert_eq!(kept(&house).len(), 1);
    up.end().exits(0);
}

#[test]
fn a_run_says_what_its_claim_waits_for() {
    let Some(house) = House::new("a claim that waits") else { return };
    let spec = RUN.replace("spec: {accessModes", "spec: {storageClassName: nowhere, accessModes");
    let file = house.workflow("waits", &spec.replace("CODE", "0"));
    let waits = Running::begin(&mut house.command(&["run", &file]));
    let why = "Unschedulable: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
    until("the reason is told", LONG, || waits.said().contains(why).then_some(()));
    waits.signal(rustix::process::Signal::INT);
    waits.finish(LONG).exits(130);
}
