//! `explain`, `replay` and `convert` as their users see them. The runs are rehearsed and read from a file, as `get -o json`
//! prints them; with a cluster they are read from there, which `steer` and `examples` do.

use serde_json::Value;
use windlass_rehearsal::{Subject, read, rehearse};

use crate::house::House;

const CASES: &str = "cases:
- name: waits
  submit: {name: w, at: 2026-01-01T00:00:00Z}
  nodes:
    test: [{exit: 1, after: 5s}, {after: 10s}]
    build: {after: 2m, parameters: {digest: d}}
  expect: {}
- name: ends
  submit: {name: e, at: 2026-01-01T00:00:00Z, parameters: {revision: topic}}
  nodes:
    test: [{exit: 1, after: 5s}, {after: 10s}]
    build: {after: 2m, parameters: {digest: d}}
  expect: {}
";

/// The runs of the cases, as files.
fn runs(house: &House) -> Vec<String> {
    let documents = |text: &str| -> Vec<Value> {
        windlass_lang::yaml::load_str(text).documents.into_iter().map(|d| d.value).collect()
    };
    let manifest = documents(include_str!("../../../rehearsal/tests/cases/release.yaml"));
    let mut sources = windlass_lang::Sources::default();
    let id = sources.add("cases", CASES);
    let (cases, faults) = read(&sources, id);
    assert!(faults.is_empty(), "{faults:?}");
    cases
        .iter()
        .map(|case| {
            let outcome = rehearse(case, Subject { manifest: &manifest, with: &[] }, &Default::default());
            let text = serde_json::to_string(&outcome.workflow.unwrap()).unwrap();
            house.file(&format!("{}.json", case.name.value), &text)
        })
        .collect()
}

#[test]
fn runs_are_explained_and_replayed() {
    let house = House::empty();
    let files = runs(&house);
    let [waits, ends] = files.as_slice() else { panic!("two runs") };
    let mut told = String::new();
    let mut tell = |args: &[&str]| {
        let words: Vec<&str> = args.iter().map(|a| a.rsplit('/').next().unwrap()).collect();
        told.push_str(&format!("$ windlass {}\n{}\n", words.join(" "), house.windlass(args).ok().stdout));
    };
    tell(&["explain", "-f", waits]);
    tell(&["explain", "-f", ends]);
    tell(&["explain", "-f", ends, "deploy"]);
    tell(&["replay", "-f", ends]);
    tell(&["replay", "-f", ends, "--at", "10s"]);
    insta::assert_snapshot!(told);
    let json = house.windlass(&["explain", "-f", waits, "approve", "-o", "json"]).ok().json();
    assert_eq!(json["nodes"][0]["reasons"][0]["reason"], "suspended", "{json:#}");
    assert_eq!(json["nodes"][0]["reasons"][0]["asks"][0], "who", "{json:#}");
    house.windlass(&["explain", "-f", waits, "aprove"]).exits(1).says(&["did you mean approve?"]);
    let all = house.windlass(&["replay", "-f", ends, "--step"]).ok().stdout;
    assert!(all.contains("[1/") && all.contains("+0s"), "{all}");
    house.windlass(&["replay", "-f", ends, "--at", "soon"]).exits(1).says(&["write a duration such as 12s"]);
    let then = house.windlass(&["replay", "-f", ends, "--at", "2026-01-01T00:00:06Z", "-o", "json"]).ok().json();
    assert_eq!(then["status"]["phase"], "Running", "{then:#}");
}

#[test]
fn manifests_are_converted() {
    let house = House::empty();
    let old = "# ours\napiVersion: argoproj.io/v1alpha1\nkind: CronWorkflow\nmetadata: {name: n}\nspec:\n  schedule: '@daily' # at night\n  workflowSpec: {}\n";
    let new = old.replace("schedule: '@daily'", "schedules: ['@daily']");
    let file = house.file("nightly.yaml", old);
    let shown = house.windlass(&["convert", &file]).ok();
    assert_eq!(shown.stdout, new);
    shown.says(&["nightly.yaml:6:3: `schedule` is now `schedules`, a list"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), old);
    house.windlass(&["convert", "--write", &file]).ok().says(&["1 fields were converted"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), new);
    house.windlass(&["convert", "--write", &file]).ok().says(&["nothing to convert in 1 files"]);
    let json = house.windlass(&["convert", &file, "-o", "json"]).ok().json();
    assert_eq!(json[0]["spec"]["schedules"][0], "@daily");
    let left = house.file("left.yaml", &old.replace("'@daily'", "&s '@daily'"));
    house.windlass(&["convert", &left]).exits(1).says(&["argo::legacy-field", "was not converted", "left.yaml:6:3"]);
}
