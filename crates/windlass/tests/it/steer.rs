//! People steer runs: retry, suspend and resume, what a suspend step waits for, resubmit, stop.

use std::process::Command;

use crate::house::{House, LONG, not_run, program, run, until};

const SPEC: &str = "entrypoint: main
arguments: {parameters: [{name: code, value: \"1\"}]}
templates:
- name: main
  steps:
  - - {name: first, template: step, arguments: {parameters: [{name: c, value: \"0\"}]}}
  - - {name: second, template: step, arguments: {parameters: [{name: c, value: \"{{workflow.parameters.code}}\"}]}}
  - - {name: ask, template: ask}
  - - {name: last, template: step, arguments: {parameters: [{name: c, value: \"{{steps.ask.outputs.parameters.c}}\"}]}}
- name: step
  inputs: {parameters: [{name: c}]}
  container: {image: busybox, command: [sh, -c, \"exit {{inputs.parameters.c}}\"]}
- name: ask
  suspend: {}
  outputs: {parameters: [{name: c, valueFrom: {supplied: {}}}]}
";

#[test]
fn a_run_is_retried_resumed_and_resubmitted() {
    let Some(house) = House::new("steer") else { return };
    let up = house.up(&[]);
    let file = house.workflow("steer", SPEC);
    let name = house.windlass(&["submit", &file, "-o", "name", "--name", "w"]).ok().stdout;
    assert_eq!(name.trim(), "w");
    let uid = |name: &str, pod: &str| {
        let get = house.windlass(&["get", name, "-o", "json"]).ok().json();
        get["status"]["nodes"].as_object().unwrap().values().find(|n| n["displayName"] == pod).cloned()
    };
    house.windlass(&["wait", "w"]).exits(1).says(&["w Failed"]);
    let first = uid("w", "first").unwrap();
    house.windlass(&["suspend", "w"]).exits(1).says(&["cannot suspend completed workflows"]);
    house.windlass(&["stop", "w"]).exits(1).says(&["cannot shutdown a completed workflow"]);
    // It fails again; with another parameter it goes on, and what had succeeded is not run again.
    house.windlass(&["retry", "w", "--wait"]).exits(1).says(&["Status:              Pending", "✔ first"]);
    house.windlass(&["retry", "w", "-p", "code=0"]).ok();
    crate::house::until("the run waits", crate::house::LONG, || {
        let said = house.windlass(&["get", "w"]).ok().stdout;
        (said.contains("Running (Suspended)") && said.contains("ǁ ask")).then_some(())
    });
    assert_eq!(uid("w", "first").unwrap()["startedAt"], first["startedAt"]);
    house.windlass(&["explain", "w"]).ok().says(&[
        "● ask Running\n    suspended until somebody resumes it; it asks for c",
        "· last waits\n    step group [2] comes first: `ask` is Running",
    ]);
    house.windlass(&["resume", "w"]).exits(1).says(&["raw output parameter 'c' has not been set"]);
    let ask = ["--node-field-selector", "displayName=ask"];
    house.windlass(&["node", "set", "w", "-p", "c=0", ask[0], ask[1]]).ok().says(&["workflow values set"]);
    // Suspended as a whole, the step that follows does not begin.
    house.windlass(&["suspend", "w"]).ok().says(&["workflow w suspended"]);
    house.windlass(&["resume", "w", ask[0], ask[1]]).ok().says(&["workflow w resumed"]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(uid("w", "last").is_none(), "a suspended run began a step");
    house.windlass(&["explain", "w", "last"]).ok().says(&["· last waits\n    the workflow is suspended"]);
    house.windlass(&["resume", "w"]).ok();
    house.windlass(&["wait", "w"]).ok().says(&["w Succeeded"]);
    house.windlass(&["retry", "w"]).exits(1).says(&["To retry a succeeded workflow"]);
    let last = ["--node-field-selector", "displayName=last"];
    house.windlass(&["retry", "w", "--restart-successful", last[0], last[1], "--wait"]).ok();
    // A new run; one that was stopped can be run again from where it was.
    let done = house.windlass(&["resubmit", "w", "-p", "code=0", "-o", "name"]).ok();
    let new = done.stdout.trim().to_owned();
    crate::house::until("the new run waits", crate::house::LONG, || {
        house.windlass(&["list"]).ok().stdout.contains("Running (Suspended)").then_some(())
    });
    house.windlass(&["stop", &new, "--dry-run"]).ok().says(&["stopped (dry-run)"]);
    house.windlass(&["stop", "-l", "workflows.argoproj.io/resubmitted-from-workflow=w"]).ok().says(&[&new, "stopped"]);
    house.windlass(&["wait", &new]).exits(1).says(&["Failed"]);
    let memoized = house.windlass(&["resubmit", &new, "--memoized", "-o", "name"]).ok().stdout;
    let memoized = memoized.trim();
    crate::house::until("the memoized run waits", crate::house::LONG, || {
        let node = uid(memoized, "ask")?;
        (node["phase"] == "Running").then_some(())
    });
    let taken = uid(memoized, "first").unwrap();
    assert_eq!(taken["type"], "Skipped", "{taken}");
    assert!(taken["message"].as_str().unwrap().starts_with("original pod: "), "{taken}");
    house.windlass(&["terminate", memoized]).ok().says(&["terminated"]);
    house.windlass(&["wait", memoized]).exits(1);
    up.end().exits(0);
}

#[test]
fn cron_workflows_and_templates_are_stored_and_run() {
    let Some(house) = House::new("cron") else { return };
    let up = house.up(&[]);
    let template = "templates:\n  - name: main\n    container: {image: busybox, command: [sh, -c, 'exit 0']}\n";
    let cron = house.file(
        "cron.yaml",
        &format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: CronWorkflow\nmetadata: {{name: often}}\nspec:\n  schedules: ['@every 2s']\n  \
             workflowSpec:\n    entrypoint: main\n    {}",
            template.replace('\n', "\n  ")
        ),
    );
    house.windlass(&["cron", "list"]).ok().says(&["No cron workflows found"]);
    house.windlass(&["cron", "create", &cron, "--name", "often"]).ok().says(&["Schedules:", "@every 2s", "Suspended:"]);
    crate::house::until("two runs by the clock", crate::house::LONG, || {
        let said = house.windlass(&["list", "-l", "workflows.argoproj.io/cron-workflow=often"]).ok().stdout;
        (said.matches("Succeeded").count() >= 2).then_some(())
    });
    house.windlass(&["cron", "suspend", "often"]).ok().says(&["CronWorkflow 'often' suspended"]);
    house.windlass(&["cron", "list"]).ok().says(&["LAST RUN", "@every 2s", "true"]);
    let got = house.windlass(&["cron", "get", "often", "-o", "json"]).ok().json();
    assert_eq!(got["status"]["phase"], "Active");
    assert!(got["status"]["succeeded"].as_i64().unwrap() >= 1, "{}", got["status"]);
    house.windlass(&["submit", "--from", "cronwf/often", "--wait", "-o", "name"]).ok().says(&["often-"]);
    house.windlass(&["cron", "resume", "often"]).ok().says(&["CronWorkflow 'often' resumed"]);
    house.windlass(&["cron", "delete", "often"]).ok().says(&["CronWorkflow 'often' deleted"]);
    house.windlass(&["cron", "get", "often"]).exits(1).says(&["cronworkflows.argoproj.io \"often\" not found"]);
    let stored = house.file(
        "template.yaml",
        &format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: WorkflowTemplate\nmetadata: {{name: hello}}\nspec:\n  entrypoint: main\n  {template}"
        ),
    );
    house.windlass(&["template", "create", &stored]).ok().says(&["Name:", "hello"]);
    house.windlass(&["template", "list", "-o", "name"]).ok().says(&["hello"]);
    house.windlass(&["template", "get", "hello", "-o", "yaml"]).ok().says(&["kind: WorkflowTemplate"]);
    house.windlass(&["submit", "--from", "workflowtemplate/hello", "--wait", "-o", "name"]).ok().says(&["hello-"]);
    house.windlass(&["template", "delete", "hello"]).ok().says(&["WorkflowTemplate 'hello' deleted"]);
    up.end().exits(0);
}

#[test]
fn a_workflow_may_call_what_the_cluster_has() {
    let Some(house) = House::new("templates that are stored") else { return };
    let template = "apiVersion: argoproj.io/v1alpha1\nkind: WorkflowTemplate\nmetadata: {name: stored}\nspec:\n  templates:\n  - name: hello\n    inputs: {parameters: [{name: word}]}\n    container: {image: busybox, command: [echo, '{{inputs.parameters.word}}']}\n";
    let template = house.file("template.yaml", template);
    let calls = |name: &str, word: &str| {
        let spec = format!(
            "entrypoint: a\ntemplates:\n- name: a\n  steps: [[{{name: s, templateRef: {{name: {name}, template: hello}}, arguments: {{parameters: [{{name: {word}, value: hi}}]}}}}]]\n"
        );
        house.workflow("calls", &spec)
    };
    let up = house.up(&[]);
    house.windlass(&["template", "create", &template]).ok();
    house.windlass(&["submit", &calls("stored", "word"), "--wait"]).ok();
    // What is stored is looked into: the parameter that is not given, the template that is not there.
    house.windlass(&["submit", &calls("stored", "other")]).exits(1).says(&["word"]);
    house.windlass(&["submit", &calls("nothing", "word")]).exits(1).says(&["there is no WorkflowTemplate `nothing`"]);
    up.end();
    // A fault of the file is told also where no cluster runs.
    house.windlass(&["submit", &calls("stored", "word")]).exits(1).says(&["there is no WorkflowTemplate `stored`"]);
}

/// A workflow for which the controller has no room: `explain` names the limit and who takes the places; `get` shows the nodes
/// that are asked for.
#[test]
fn a_limit_of_the_controller_is_explained() {
    let case = "the controller's limit is explained";
    if program("kubectl").is_none() {
        return not_run(case, "there is no kubectl");
    }
    let house = House::empty();
    let kubectl = |args: &[&str]| {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(house.home().join("run/kubeconfig")).args(args);
        run(&mut command)
    };
    let up = house.up(&[]);
    kubectl(&["create", "namespace", "windlass-system"]);
    let limit = "--from-literal=parallelism=1";
    kubectl(&["-n", "windlass-system", "create", "configmap", "workflow-controller-configmap", limit]).ok();
    up.end().exits(0);
    // From its start on the limit holds.
    let up = house.up(&[]);
    let file = house.workflow("waits", "entrypoint: main\ntemplates: [{name: main, suspend: {}}]");
    let name = || house.windlass(&["submit", &file, "-o", "name"]).ok().stdout.trim().to_owned();
    let first = name();
    until("the first runs", LONG, || house.windlass(&["get", &first]).ok().stdout.contains("Running").then_some(()));
    let second = name();
    until("the second waits", LONG, || {
        house.windlass(&["get", &second]).ok().stdout.contains("postponed").then_some(())
    });
    house
        .windlass(&["explain", &second])
        .ok()
        .says(&["the controller runs at most 1 workflows (`parallelism`), and 1 run"]);
    let shown = |more: &[&str]| house.windlass(&[&["get", &first][..], more].concat()).ok().stdout.contains("STEP");
    assert!(shown(&["--status", "Running"]) && shown(&["--node-field-selector", "templateName=main"]));
    assert!(!shown(&["--status", "Failed"]));
    house.windlass(&["get", &first, "--status", "Failed", "--node-field-selector", "phase=Failed"]).exits(1);
    up.end().exits(0);
}
