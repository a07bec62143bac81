//! `windlass test` as its users see it.

use crate::house::House;

const MANIFEST: &str = include_str!("../../../rehearsal/tests/cases/release.yaml");
const CASES: &str = "cases:
- name: a branch is built and not deployed
  submit: {parameters: {revision: topic}}
  nodes: {build: {parameters: {digest: d}}}
  expect: {notRun: [approve, deploy]}
- name: main is deployed at once
  nodes: {build: {parameters: {digest: d}}}
  expect: {nodes: {deploy: Succeeded}}
";

#[test]
fn cases_pass_and_fail() {
    let house = House::empty();
    let file = house.file("release.yaml", MANIFEST);
    house.windlass(&["test", &file]).exits(1).says(&["there is no", "release.test.yaml", "docs/testing-workflows.md"]);
    house.file("release.test.yaml", CASES);
    let out = house.windlass(&["test", &file]).exits(1).stdout;
    let mut told = out.replace(&house.path("").to_string_lossy().into_owned(), "");
    let at = told.rfind("in ").unwrap();
    told.replace_range(at.., "in N ms\n");
    insta::assert_snapshot!(told);
    house.windlass(&["test", &file, "--only", "branch"]).ok().says(&["1 passed, 0 failed"]);
    let json = house.windlass(&["test", &file, "-o", "json"]).exits(1).json();
    assert_eq!((&json["passed"], &json["failed"]), (&1.into(), &1.into()), "{json:#}");
    assert_eq!(json["cases"][1]["diagnostics"][0]["code"], "case::waits", "{json:#}");
    house.file("release.test.yaml", "cases:\n- nam: x\n");
    house.windlass(&["test", &file]).exits(1).says(&[
        "case::unknown-field",
        "did you mean `name`?",
        "0 passed, 0 failed",
    ]);
}
