//! Artifact garbage collection on one machine: a pod of ours removes what is in the built-in store, at the end of a run and
//! when its workflow goes.

use std::path::Path;

use crate::house::{House, LONG, until};

const RUN: &str = "entrypoint: main
artifactGC: {strategy: OnWorkflowDeletion}
templates:
- name: main
  container:
    image: busybox
    command: [sh, -c, 'echo soon > /soon; mkdir /later; echo later > /later/file; echo kept > /kept']
  outputs:
    artifacts:
    - {name: soon, path: /soon, artifactGC: {strategy: OnWorkflowCompletion}}
    - {name: later, path: /later, archive: {none: {}}}
    - {name: kept, path: /kept, artifactGC: {strategy: Never}}
";

/// The files of the built-in store.
fn stored(house: &House) -> Vec<String> {
    fn beneath(directory: &Path, files: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => beneath(&entry.path(), files),
                false => files.push(entry.file_name().into_string().unwrap()),
            }
        }
    }
    let mut files = Vec::new();
    beneath(&house.home().join("artifacts"), &mut files);
    files.sort();
    files
}

#[test]
fn artifacts_go_with_their_run() {
    let Some(house) = House::new("artifacts go with their run") else { return };
    let up = house.up(&[]);
    let done = house.windlass(&["run", &house.workflow("garbage", RUN), "-o", "json"]).ok().json();
    let name = done["metadata"]["name"].as_str().unwrap();
    until("the first is removed", LONG, || (stored(&house) == ["file", "kept.tgz"]).then_some(()));
    until("it is told", LONG, || {
        let now = house.windlass(&["get", name, "-o", "json"]).ok().json();
        let artifacts = now["status"]["nodes"][name]["outputs"]["artifacts"].as_array()?;
        let deleted: Vec<bool> = artifacts.iter().map(|a| a["deleted"] == true).collect();
        (deleted == [true, false, false]).then_some(())
    });
    house.windlass(&["delete", name]).ok();
    until("the second is removed", LONG, || (stored(&house) == ["kept.tgz"]).then_some(()));
    up.end().exits(0);
}
