//! The flags that scripts written for `argo` use: of lint, submit, list, get, delete, wait, cron, template.

use crate::house::House;

const TWO: &str = "apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: w-}
spec:
  entrypoint: main
  templates:
  - name: main
    container: {image: busybox, comand: [echo]}
---
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata: {name: t}
spec:
  templates:
  - name: main
    container: {image: busybox}
";

#[test]
fn lint_as_scripts_call_it() {
    let house = House::empty();
    let file = house.file("two.yaml", TWO);
    let simple = house.windlass(&["lint", "--offline", "-o", "simple", &file]).exits(1).stdout;
    assert_eq!(simple.lines().count(), 1, "{simple}");
    assert!(simple.contains("two.yaml:8:33: error[argo::unknown-field]: "), "{simple}");
    house.windlass(&["lint", "--strict=false", &file]).ok().says(&["warning[argo::unknown-field]", "1 warning"]);
    house.windlass(&["lint", "--kinds", "workflowtemplates", &file]).ok().says(&["in 1 objects of 1 files"]);
    house.windlass(&["template", "lint", &file]).ok().says(&["in 1 objects of 1 files"]);
    house.windlass(&["cron", "lint", &file]).exits(1).says(&["no object of these kinds in"]);
    house.windlass(&["lint", "--kinds", "pods", &file]).exits(1).says(&["--kinds pods: known are workflows"]);
}

#[test]
fn submit_without_creating_anything() {
    let house = House::empty();
    let file = house.file("w.yaml", &TWO.replace("comand", "command"));
    let only = house.file("only.yaml", TWO.replace("comand", "command").split("---\n").next().unwrap());
    house.windlass(&["submit", "--dry-run", &file]).exits(1).says(&["this is a WorkflowTemplate"]);
    let shown =
        ["submit", "--dry-run", &only, "--priority", "7", "--scheduled-time", "2026-11-21T00:00:00Z", "-o", "json"];
    let json = house.windlass(&shown).ok().json();
    assert_eq!(json["spec"]["priority"], 7, "{json:#}");
    let at = &json["metadata"]["annotations"]["workflows.argoproj.io/scheduled-time"];
    assert_eq!(at, "2026-11-21T00:00:00Z", "{json:#}");
    house.windlass(&["submit", "--dry-run", &only, "--scheduled-time", "soon"]).exits(1).says(&["is no RFC 3339 time"]);
}

#[test]
fn stored_things_as_scripts_call_them() {
    let Some(house) = House::new("flags") else { return };
    let up = house.up(&[]);
    let spec =
        "entrypoint: main\ntemplates:\n- name: main\n  container: {image: busybox, command: [sh, -c, 'exit 0']}\n";
    let file = house.workflow("flag", spec);
    let seen = house.windlass(&["submit", &file, "--server-dry-run", "-o", "name", "--name", "seen"]).ok().stdout;
    assert_eq!(seen.trim(), "seen");
    house.windlass(&["list"]).ok().says(&["No workflows found"]);
    house.windlass(&["submit", &file, "--name", "a-1", "--wait"]).ok();
    house.windlass(&["submit", &file, "--name", "b-1", "--wait"]).ok();
    house.windlass(&["resubmit", "b-1", "--wait"]).ok();
    let listed = |flags: &[&str]| {
        let all: Vec<&str> = ["list", "-o", "name"].into_iter().chain(flags.iter().copied()).collect();
        house.windlass(&all).ok().stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed(&["--chunk-size", "1"]).len(), 3);
    assert_eq!(listed(&["--field-selector", "metadata.name=a-1"]), ["a-1"]);
    assert_eq!(listed(&["--resubmitted"]).len(), 1);
    house.windlass(&["get", "a-1", "-o", "wide"]).ok().says(&["ARTIFACTS", "RESOURCESDURATION", "NODENAME"]);
    let short = house.windlass(&["get", "a-1", "-o", "short"]).ok().stdout;
    assert!(short.contains("NODENAME") && !short.contains("ARTIFACTS"), "{short}");
    house.windlass(&["wait", "gone", "--ignore-not-found"]).ok().says(&["gone not found. Ignoring..."]);
    house.windlass(&["delete", "--prefix", "b-", "--older", "7d", "--dry-run"]).ok();
    house.windlass(&["delete", "--prefix", "a-", "--status", "Succeeded", "--force"]).ok().says(&["'a-1' deleted"]);
    // A list tells what is archived, too; `explain` only knows what is there.
    house.windlass(&["explain", "a-1"]).exits(1).says(&["not found"]);
    // An update replaces the spec: what the file has not any more is gone.
    let template = |more: &str| {
        let head =
            "apiVersion: argoproj.io/v1alpha1\nkind: WorkflowTemplate\nmetadata: {name: t, labels: {a: b}}\nspec:\n";
        house.file("t.yaml", &format!("{head}  templates:\n  - name: main\n    container: {{image: busybox}}\n{more}"))
    };
    house.windlass(&["template", "create", &template("  entrypoint: main\n  parallelism: 3\n")]).ok();
    house.windlass(&["template", "update", &template("  entrypoint: main\n  priority: 1\n")]).ok().says(&["Name:"]);
    let spec = house.windlass(&["template", "get", "t", "-o", "json"]).ok().json()["spec"].clone();
    assert!(spec["parallelism"].is_null() && spec["priority"] == 1 && spec["entrypoint"] == "main", "{spec:#}");
    house.windlass(&["cluster-template", "update", &template("")]).exits(1).says(&["ClusterWorkflowTemplate"]);
    // What a cron workflow would have run on three days; the same again makes nothing twice.
    let cron = house.file(
        "cron.yaml",
        "apiVersion: argoproj.io/v1alpha1\nkind: CronWorkflow\nmetadata: {name: daily}\nspec:\n  schedules: ['0 3 * * *']\n  timezone: UTC\n  suspend: true\n  workflowSpec:\n    entrypoint: main\n    arguments: {parameters: [{name: cronScheduleTime, value: never}]}\n    templates:\n    - name: main\n      container: {image: busybox, command: [echo, '{{workflow.parameters.cronScheduleTime}}']}\n",
    );
    house.windlass(&["cron", "create", &cron]).ok();
    let times = ["--start", "2026-11-01T03:00:00Z", "--end", "2026-11-04T03:00:00Z"];
    let dry = house.windlass(&["cron", "backfill", "daily", times[0], times[1], times[2], times[3], "--dry-run"]).ok();
    assert_eq!(dry.stdout.matches("(dry-run)").count(), 3, "{}", dry.stdout);
    house.windlass(&["cron", "backfill", "daily", times[0], times[1], times[2], times[3]]).ok();
    let made = listed(&["--prefix", "daily-backfill-"]);
    assert_eq!(made.len(), 3, "{made:?}");
    house.windlass(&["logs", "daily-backfill-1793502000"]).ok().says(&["2026-11-01T03:00:00Z"]);
    let few = [&["cron", "backfill", "daily"][..], &times, &["--maxworkflowcount", "2"]].concat();
    house.windlass(&few).exits(1).says(&["more than 2 ticks"]);
    up.end().exits(0);
}
