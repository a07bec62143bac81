//! Steps of workflows: inputs, outputs, reports, builds, resources.

use crate::bench::Bench;
use crate::{List, cases};
use futures::{StreamExt, TryStreamExt};
use kube::api::WatchParams;
use serde_json::{Value, json};
use std::process::Command;

pub fn list() -> List {
    cases![
        a_step_costs_two_writes,
        inputs_and_outputs,
        a_git_input_belongs_to_the_user,
        inputs_that_do_not_come,
        an_archive_stays_beneath_its_place,
        outputs_that_are_not_there,
        a_result_of_a_failure_is_still_reported,
        sidecars_end_with_main,
        a_kaniko_step_is_built_here,
        a_resource_step_uses_the_api,
        a_step_keeps_its_deadline,
    ]
}

fn sh(script: &str) -> Value {
    json!({"command": ["sh", "-c", script]})
}

async fn report(bench: &Bench, name: &str) -> Value {
    let found = bench.kind("argoproj.io/v1alpha1", "WorkflowTaskResult").get_opt(name).await.unwrap();
    serde_json::to_value(found).unwrap()
}

async fn a_step_costs_two_writes(bench: Bench) {
    let stream = bench.pods().watch(&WatchParams::default(), "0").await.unwrap();
    let seen = tokio::spawn(async move {
        let mut stream = stream.boxed();
        let mut seen = Vec::new();
        while let Some(event) = stream.try_next().await.unwrap() {
            if let kube::core::WatchEvent::Added(pod) | kube::core::WatchEvent::Modified(pod) = event {
                let phase = pod.status.and_then(|s| s.phase).unwrap_or_default();
                seen.push(phase.clone());
                if phase == "Succeeded" {
                    break;
                }
            }
        }
        seen
    });
    bench.step("p", json!({}), sh("true")).await;
    bench.succeeded("p").await;
    assert_eq!(seen.await.unwrap(), ["Pending", "Succeeded"]);
    assert!(report(&bench, "p").await.is_null(), "nothing to report is no object");
    assert_eq!(bench.events("p").await, Vec::<String>::new());
}

async fn inputs_and_outputs(bench: Bench) {
    let task = json!({
        "includeResult": true,
        "script": "#!/bin/sh\ncat /in/raw\ncat /v/deep/in\nmkdir -p /out/d\necho x > /out/d/f\nprintf 'p\\n' > /out/p\n\
            ln -s /etc/passwd /out/link\n",
        "inputs": [{"name": "raw", "path": "/in/raw", "raw": {"data": "raw\n"}},
            {"name": "volume", "path": "/v/deep/in", "raw": {"data": "in volume\n"}, "mode": 0o400}],
        "outputs": {"parameters": [{"name": "p", "valueFrom": {"path": "/out/p"}},
                {"name": "missing", "valueFrom": {"path": "/none", "default": "d"}}],
            "artifacts": [{"name": "dir", "path": "/out/d", "local": {"key": "t/dir.tgz"}}]}});
    let main = json!({"command": ["sh"], "args": ["/argo/staging/script"], "volumes": [{"name": "v", "emptyDir": {}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    bench.step("p", task, main).await;
    let pod = bench.succeeded("p").await;
    let outputs = report(&bench, "p").await["outputs"].clone();
    assert_eq!(outputs["result"], "raw\nin volume", "{outputs:#}");
    assert_eq!(outputs["parameters"][0]["value"], "p");
    assert_eq!(outputs["parameters"][1]["value"], "d");
    assert_eq!(outputs["artifacts"][0]["local"]["key"], "t/dir.tgz");
    assert_eq!(bench.logs(&pod, "main").await, "raw\nin volume\n");
    let task = json!({"inputs": [{"name": "dir", "path": "/got", "local": {"key": "t/dir.tgz"}}]});
    bench.step("q", task, sh("cat /got/f")).await;
    let pod = bench.succeeded("q").await;
    assert_eq!(bench.logs(&pod, "main").await, "x\n");
}

async fn a_git_input_belongs_to_the_user(bench: Bench) {
    let repository = bench.home.join("allowed/repo");
    let made = Command::new("sh")
        .arg("-c")
        .arg(
            "git init -q -b main . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && \
              echo hi > f && git add f && git -c user.name=a -c user.email=a@b commit -q -m y",
        )
        .current_dir({
            std::fs::create_dir_all(&repository).unwrap();
            &repository
        })
        .status();
    if !made.is_ok_and(|s| s.success()) {
        println!("NOT RUN a_git_input_belongs_to_the_user: no git program");
        return;
    }
    let single = bench.host.probe().uid_map == windlass_sandbox::UidMap::Single;
    let user = if single { 0 } else { 33 };
    let source = json!({"repo": repository, "revision": "main"});
    let task = json!({"inputs": [{"name": "s", "path": "/src", "git": source},
        {"name": "v", "path": "/job/src", "git": source}]});
    let mut main = sh("stat -c %u /src /src/f /src/.git /job/src/f; cat /job/src/f; touch /src/new /job/src/new");
    main["securityContext"] = json!({"runAsUser": user});
    main["volumes"] = json!([{"name": "w", "emptyDir": {}}]);
    main["volumeMounts"] = json!([{"name": "w", "mountPath": "/job"}]);
    bench.step("p", task, main).await;
    let pod = bench.succeeded("p").await;
    let want = format!("{user}\n{user}\n{user}\n{user}\nhi\n");
    assert_eq!(bench.logs(&pod, "main").await, want);
}

async fn inputs_that_do_not_come(bench: Bench) {
    let task = json!({"inputs": [{"name": "a", "path": "/a", "local": {"key": "no/such"}}]});
    bench.step("p", task, sh("true")).await;
    let pod = bench.ended("p").await;
    assert_eq!(pod["status"]["phase"], "Failed");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(message.contains("input artifact \"a\"") && message.contains("no/such"), "{message}");
    let task = json!({"inputs": [{"name": "a", "path": "/a", "git": {"repo": "/etc"}}]});
    bench.step("q", task, sh("true")).await;
    let pod = bench.ended("q").await;
    assert!(pod["status"]["message"].as_str().unwrap().contains("--allow-path"), "{:#}", pod["status"]);
}

/// The archive is another step's or anybody's: a confined worker unpacks it.
async fn an_archive_stays_beneath_its_place(bench: Bench) {
    let dir = bench.home.join("artifacts/t");
    std::fs::create_dir_all(dir.join("in")).unwrap();
    std::fs::write(dir.join("evil"), "x").unwrap();
    let status = Command::new("tar").args(["-czPf", "../evil.tgz", "../evil"]).current_dir(dir.join("in")).status();
    if !status.is_ok_and(|s| s.success()) {
        println!("NOT RUN an_archive_stays_beneath_its_place: no tar program");
        return;
    }
    std::fs::remove_file(dir.join("evil")).unwrap();
    let task = json!({"inputs": [{"name": "a", "path": "/deep/a", "local": {"key": "t/evil.tgz"}}]});
    bench.step("p", task, sh("true")).await;
    let pod = bench.ended("p").await;
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(message.contains("input artifact \"a\"") && message.contains("../evil"), "{message}");
}

async fn outputs_that_are_not_there(bench: Bench) {
    let task = json!({"outputs": {"parameters": [{"name": "p", "valueFrom": {"path": "/none"}}],
        "artifacts": [{"name": "a", "path": "/gone", "local": {"key": "t/gone"}}]}});
    bench.step("p", task, sh("true")).await;
    let pod = bench.ended("p").await;
    assert_eq!(pod["status"]["phase"], "Failed");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(message.contains("parameter \"p\"") && message.contains("/gone does not exist"), "{message}");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
}

async fn a_result_of_a_failure_is_still_reported(bench: Bench) {
    bench.step("p", json!({"includeResult": true}), sh("echo so far; exit 4")).await;
    let pod = bench.ended("p").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 4);
    assert!(pod["status"]["message"].is_null(), "the engine words a plain failure");
    assert_eq!(report(&bench, "p").await["outputs"]["result"], "so far");
}

async fn sidecars_end_with_main(bench: Bench) {
    let task = json!({"nodeId": "p", "workflowName": "wf", "workflowUid": "u"}).to_string();
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "main", "command": ["sleep", "0.2"]}, {"name": "side", "command": ["sleep", "1000"]}]});
    bench.annotated("p", json!({"windlass.dev/task": task}), spec).await;
    bench.succeeded("p").await;
}

async fn a_kaniko_step_is_built_here(bench: Bench) {
    bench
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "docker"}, "stringData": {"config.json": "{}"}}))
        .await;
    let task = json!({"inputs": [{"name": "src", "path": "/src/Dockerfile", "raw": {"data": "FROM scratch\n"}}],
        "outputs": {"parameters": [{"name": "digest", "valueFrom": {"path": "/tmp-digest"}}]}});
    let main = json!({"image": "gcr.io/kaniko-project/executor:debug", "workingDir": "/src", "args": ["--destination=x:$(TAG)"],
        "env": [{"name": "TAG", "value": "1"}],
        "volumes": [{"name": "w", "emptyDir": {}}, {"name": "d", "secret": {"secretName": "docker"}}],
        "volumeMounts": [{"name": "w", "mountPath": "/src"}, {"name": "d", "mountPath": "/kaniko/.docker"}]});
    bench.step("p", task, main).await;
    let pod = bench.succeeded("p").await;
    let log = bench.logs(&pod, "main").await;
    assert_eq!(log, "args [\"--destination=x:1\"] in /src\nFROM scratch\n");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"], "sha256:feed");
    assert_eq!(report(&bench, "p").await["outputs"]["parameters"][0]["value"], "sha256:feed");
}

async fn a_resource_step_uses_the_api(bench: Bench) {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: made\ndata:\n  k: v\n";
    let task = json!({"resource": {"action": "create", "manifest": manifest},
        "outputs": {"parameters": [{"name": "k", "valueFrom": {"jsonPath": "{.data.k}"}}]}});
    let main = json!({"image": "windlass.dev/executor:0.1.0"});
    bench.step("denied", task.clone(), main.clone()).await;
    let pod = bench.ended("denied").await;
    let message = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"];
    assert!(message.as_str().unwrap_or_default().contains("cannot create resource"), "{:#}", pod["status"]);
    let rbac = "rbac.authorization.k8s.io/v1";
    bench
        .create(json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": "maker"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get"]}]}))
        .await;
    bench
        .create(json!({"apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "maker"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "maker"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": bench.namespace}]}))
        .await;
    bench.step("p", task, main).await;
    let pod = bench.succeeded("p").await;
    assert_eq!(bench.logs(&pod, "main").await, "configmap/made created\n");
    assert_eq!(report(&bench, "p").await["outputs"]["parameters"][0]["value"], "v");
}

async fn a_step_keeps_its_deadline(bench: Bench) {
    // Whole seconds: the deadline is one to two seconds away.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    let main = json!({"command": ["sleep", "1000"]});
    let task = json!({"deadline": format!("{soon:.0}")});
    let mut pod = bench.step("p", task, main).await;
    pod.metadata.name = None;
    // `sleep` is process 1 and ignores TERM: deleting shortens the grace.
    bench.until("p", |pod| pod["status"]["phase"] == "Running").await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    let zero = kube::api::DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    bench.pods().delete("p", &zero).await.unwrap();
    bench.until("p", Value::is_null).await;
}
