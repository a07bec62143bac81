//! Artifact plugins as real containers: a step's outputs go out by one and come in again by another step's, a `data` template
//! lists them, garbage collection removes them, and what the plugin says of a failure is the node's message.

use std::path::Path;

use serde_json::Value;

use crate::house::{House, LONG, until};
use crate::keeper::{Keeper, serve};

const OBJECTS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: workflow-controller-configmap}
data:
  artifactDrivers: |
    - {name: keeper, image: 'windlass.it/keeper:1', connectionTimeoutSeconds: 20}
  artifactRepository: |
    plugin: {name: keeper, configuration: /kept, keyFormat: 'runs/{{workflow.name}}'}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Mi}}
---
";

/// As on any cluster a plugin that needs more than its image gets it by a patch of the pod.
const SPEC: &str = "entrypoint: main
podSpecPatch: 'PATCH'
artifactGC: {podSpecPatch: 'PATCH'}
templates:
- name: main
  dag:
    failFast: false
    tasks:
    - {name: make, template: make}
    - {name: list, template: list, depends: make}
    - name: use
      template: use
      depends: make
      arguments:
        artifacts:
        - {name: site, from: '{{tasks.make.outputs.artifacts.site}}'}
        - {name: note, from: '{{tasks.make.outputs.artifacts.note}}'}
    - {name: fails, template: fails}
- name: make
  container: {image: busybox, command: [sh, -c, 'mkdir -p /out/site/sub; echo deep > /out/site/sub/f; echo hello > /out/note']}
  outputs:
    artifacts:
    - {name: site, path: /out/site, archive: {none: {}}}
    - {name: note, path: /out/note, artifactGC: {strategy: OnWorkflowDeletion}}
- name: list
  data:
    source: {artifactPaths: {name: files, plugin: {key: 'runs/{{workflow.name}}'}}}
    transformation: [{expression: \"map(data, {split(#, '/')[-1]})\"}]
- name: use
  inputs:
    artifacts:
    - {name: site, path: /in/site}
    - {name: note, path: /in/note}
    - {name: maybe, path: /in/maybe, optional: true, plugin: {name: keeper, configuration: /kept, key: gone}}
  container: {image: busybox, command: [sh, -c, 'cat /in/site/sub/f /in/note > /both; test ! -e /in/maybe']}
  outputs: {parameters: [{name: both, valueFrom: {path: /both}}]}
- name: fails
  inputs: {artifacts: [{name: wrong, path: /in, plugin: {name: keeper, configuration: /kept, key: fails}}]}
  container: {image: busybox, command: [sh, -c, 'echo never']}
";

const PATCH: &str = "{initContainers: [{name: artifact-plugin-keeper, volumeMounts: [{name: kept, mountPath: /kept}]}], \
                     volumes: [{name: kept, persistentVolumeClaim: {claimName: kept}}]}";

#[test]
fn artifacts_that_a_plugin_keeps() {
    let Some(house) = House::new("artifacts that a plugin keeps") else { return };
    // This very program is the plugin: `serves_or_is_served` below.
    let program = format!("{}:/keeper", std::env::current_exe().unwrap().display());
    let mut image = vec!["image", "from-host", "windlass.it/keeper:1", "--add", &program];
    for word in ["/keeper", "--exact", "artifact_plugins::serves_or_is_served", "--nocapture"] {
        image.extend(["--entrypoint", word]);
    }
    house.windlass(&image).ok();
    let up = house.up(&[]);
    let workflow = std::fs::read_to_string(house.workflow("kept", &SPEC.replace("PATCH", PATCH))).unwrap();
    let done =
        house.windlass(&["run", &house.file("all.yaml", &(OBJECTS.to_owned() + &workflow)), "-o", "json"]).json();
    let name = done["metadata"]["name"].as_str().unwrap();
    let rows = done["status"]["nodes"].as_object().unwrap();
    let row = |name: &str| rows.values().find(|n| n["displayName"] == name).unwrap();
    let told = |name: &str| format!("{} {}", row(name)["phase"], row(name)["message"]);
    for good in ["make", "list", "use"] {
        assert_eq!(row(good)["phase"], "Succeeded", "{}", told(good));
    }
    assert_eq!(row("use")["outputs"]["parameters"][0]["value"], "deep\nhello");
    let mut listed: Vec<String> = serde_json::from_str(row("list")["outputs"]["result"].as_str().unwrap()).unwrap();
    listed.sort();
    assert_eq!(listed, ["note.tgz", "site"]);
    // As in Argo only the key is written: the rest is the repository's.
    let key = serde_json::json!({"key": format!("runs/{name}/site")});
    assert_eq!(row("make")["outputs"]["artifacts"][0]["plugin"], key);
    let failure = told("fails");
    assert!(
        failure.contains("\"Error\"") && failure.contains("plugin keeper load failed: the disk is full"),
        "{failure}"
    );

    let kept = |file: &str| is_beneath(house.home(), &format!("runs/{name}/{file}"));
    assert!(kept("note.tgz"), "it is kept until then");
    house.windlass(&["delete", name]).ok();
    until("what goes with the workflow is gone", LONG, || (!kept("note.tgz")).then_some(()));
    assert!(kept("site/sub/f"), "what stays is there");
    up.end().exits(0);
}

/// Whether a file whose path ends so is beneath the directory.
fn is_beneath(directory: &Path, end: &str) -> bool {
    std::fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => is_beneath(&entry.path(), end),
        _ => entry.path().ends_with(end),
    })
}

/// In the container of the test above this is the plugin: Argo gives it the socket's path as its argument. Elsewhere it shows
/// that what is served there is what the driver asks for.
#[test]
fn serves_or_is_served() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let socket = std::env::args().next_back().filter(|path| path.starts_with("/tmp/artifact-plugins/"));
    if let Some(socket) = socket {
        runtime.block_on(async {
            let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            tokio::select! {
                () = serve(Keeper { streams: true }, Path::new(&socket)) => {}
                _ = stop.recv() => {}
            }
        });
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    runtime.spawn(async move { serve(Keeper { streams: true }, &path).await });
    let mut outside = windlass_artifacts::Outside::default();
    outside.plugins.add("keeper", dir.path(), dir.path());
    let local = windlass_artifacts::store::LocalStore::open(&dir.path().join("local")).unwrap();
    let plugin: Value = serde_json::json!({"name": "keeper", "configuration": dir.path().join("kept"), "key": "k"});
    let artifact = serde_json::json!({"name": "a", "plugin": plugin});
    let location = windlass_artifacts::Location::parse(&artifact, &|_| None).unwrap();
    let driver = location.driver(&local, &outside).unwrap();
    let cancel = windlass_artifacts::Cancel::new();
    driver.save(windlass_artifacts::store::Payload::File(&mut &b"x"[..]), &cancel).unwrap();
    assert_eq!(std::fs::read(dir.path().join("kept/k")).unwrap(), b"x");
}
