//! A real S3 server as the artifact repository of one machine: kept, listed by a `data` template, copied out, and removed by
//! `artifactGC`; an `http` template that trusts an authority of its own; and progress that a step tells of itself.

use std::process::Command;

use serde_json::Value;

use crate::house::{House, LONG, Running, until};
use crate::minio::Minio;

const REPOSITORY: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: artifact-repositories
  annotations: {workflows.argoproj.io/default-artifact-repository: s3}
data:
  s3: |
    s3:
      endpoint: minio:9000
      bucket: box
      insecure: true
      createBucketIfNotPresent: {}
      keyFormat: 'runs/{{workflow.name}}'
      accessKeySecret: {name: keys, key: access}
      secretKeySecret: {name: keys, key: secret}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {access: root-user, secret: root-password}
---
";

const KEEPS: &str = "entrypoint: main
templates:
- name: main
  steps:
  - - {name: make, template: make}
  - - {name: list, template: list}
  - - {name: use, template: use, arguments: {parameters: [{name: keys, value: '{{steps.list.outputs.result}}'}]}}
- name: make
  container:
    image: busybox
    command: [sh, -c, 'mkdir /site; echo a > /site/a; echo b > /site/b; echo gone > /gone']
  outputs:
    artifacts:
    - {name: site, path: /site, archive: {none: {}}}
    - {name: gone, path: /gone, archive: {none: {}}, artifactGC: {strategy: OnWorkflowCompletion}}
- name: list
  data:
    source: {artifactPaths: {name: files, s3: {key: 'runs/{{workflow.name}}/site'}}}
    transformation: [{expression: \"map(data, {split(#, '/')[-1]})\"}]
- name: use
  inputs: {parameters: [{name: keys}]}
  container: {image: busybox, command: [sh, -c, 'echo listed {{inputs.parameters.keys}}']}
";

#[test]
fn a_real_s3_server() {
    let Some(house) = House::new("a real S3 server") else { return };
    let Some(minio) = Minio::start_at(&house, "127.0.0.1") else { return };
    let endpoint = format!("--remap-endpoint=minio:9000=http://127.0.0.1:{}", minio.port);
    let up = house.up(&[&endpoint]);
    let workflow = house.workflow("keeps", KEEPS);
    let objects =
        house.file("repository.yaml", &(REPOSITORY.to_owned() + &std::fs::read_to_string(&workflow).unwrap()));
    let done = house.windlass(&["run", &objects, "-o", "json"]).ok().json();
    let name = done["metadata"]["name"].as_str().unwrap();
    let node = |row: &str| {
        let rows = done["status"]["nodes"].as_object().unwrap();
        rows.values().find(|n| n["displayName"] == row).unwrap().clone()
    };
    assert_eq!(node("list")["outputs"]["result"], "[\"a\",\"b\"]");
    // Only the key is written: the rest is the repository's.
    let site = serde_json::json!({"key": format!("runs/{name}/site")});
    assert_eq!(node("make")["outputs"]["artifacts"][0]["s3"], site);
    let key = |file: &str| format!("runs/{name}/{file}");
    until("what goes at the end is gone", LONG, || (!minio.has("box", &key("gone"))).then_some(()));
    assert!(minio.has("box", &key("site/a")) && minio.has("box", &key("site/b")));

    let out = house.path("out");
    let copied = house.windlass(&["cp", name, out.to_str().unwrap(), "--artifact-name", "site", &endpoint]).ok().stdout;
    let list = Command::new("tar").args(["-tf", copied.trim()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&list.stdout).lines().filter(|l| l.ends_with(['a', 'b'])).count(), 2);
    up.end().exits(0);
}

/// The API of this very machine, whose authority nobody else knows.
const ASKS: &str = "entrypoint: main
templates:
- name: main
  dag:
    failFast: false
    tasks:
    - {name: trusting, template: trusting}
    - {name: careless, template: careless}
    - {name: careful, template: careful}
- name: trusting
  http: {url: https://kubernetes.default.svc/version, successCondition: response.statusCode < 500}
  podSpecPatch: |
    volumes: [{name: authority, configMap: {name: kube-root-ca.crt}}]
    containers:
    - name: main
      volumeMounts: [{name: authority, mountPath: /etc/ssl/certs/ca-certificates.crt, subPath: ca.crt}]
- name: careless
  http: {url: https://kubernetes.default.svc/version, insecureSkipVerify: true, successCondition: response.statusCode < 500}
- name: careful
  http: {url: https://kubernetes.default.svc/version, successCondition: response.statusCode < 500}
";

#[test]
fn an_authority_of_its_own() {
    let Some(house) = House::new("an authority of its own") else { return };
    let done = house.windlass(&["run", &house.workflow("asks", ASKS), "-o", "json"]).exits(1).json();
    let phase = |row: &str| {
        let rows = done["status"]["nodes"].as_object().unwrap();
        let row = rows.values().find(|n| n["displayName"] == row).unwrap();
        (row["phase"].as_str().unwrap().to_owned(), row["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(phase("trusting"), ("Succeeded".to_owned(), String::new()));
    assert_eq!(phase("careless"), ("Succeeded".to_owned(), String::new()));
    let (failed, why) = phase("careful");
    assert!(failed == "Failed" && why.contains("ertificate"), "{failed}: {why}");
}

const TELLS: &str = "entrypoint: main
templates:
- name: main
  container:
    image: busybox
    command: [sh, -c, 'echo 1/4 > $ARGO_PROGRESS_FILE; echo 2/4 >> $ARGO_PROGRESS_FILE; until [ -e /go/on ]; do sleep 0.1; done; echo 3/4 > $ARGO_PROGRESS_FILE']
    volumeMounts: [{name: go, mountPath: /go}]
  volumes: [{name: go, hostPath: {path: HERE}}]
";

#[test]
fn progress_of_its_own() {
    let Some(house) = House::new("progress of its own") else { return };
    let go = house.path("go");
    std::fs::create_dir_all(&go).unwrap();
    let up = house.up(&["--allow-path", go.to_str().unwrap()]);
    let file = house.workflow("tells", &TELLS.replace("HERE", go.to_str().unwrap()));
    let running = Running::begin(&mut house.command(&["run", &file, "-o", "json"]));
    until("it is told while it runs", LONG, || {
        let told = house.windlass(&["get", "@latest", "-o", "json"]);
        let now: Value = (told.code == Some(0)).then(|| told.json())?;
        (now["status"]["progress"] == "2/4").then_some(())
    });
    std::fs::write(go.join("on"), "").unwrap();
    let done = running.finish(LONG).exits(0).json();
    let name = done["metadata"]["name"].as_str().unwrap();
    assert_eq!(
        (&done["status"]["progress"], &done["status"]["nodes"][name]["progress"]),
        (&"4/4".into(), &"4/4".into())
    );
    up.end().exits(0);
}
