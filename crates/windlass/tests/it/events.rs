//! Events of anybody: what is posted with a token of few rights becomes the workflow of a binding, with real containers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::house::{Done, House, LONG, not_run, program, run};

const STORED: &str = r#"
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata: {name: greet}
spec:
  entrypoint: main
  arguments: {parameters: [{name: message}]}
  templates:
  - name: main
    container: {image: busybox, command: [echo, "it says {{workflow.parameters.message}}"]}
---
apiVersion: argoproj.io/v1alpha1
kind: WorkflowEventBinding
metadata: {name: greeter}
spec:
  event: {selector: 'payload.message != "" && metadata["x-kind"] == ["tea"] && discriminator == "d"'}
  submit:
    workflowTemplateRef: {name: greet}
    metadata: {labels: {about: payload.about}}
    arguments: {parameters: [{name: message, valueFrom: {event: payload.message}}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: sender}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: sender}
rules:
- {apiGroups: [argoproj.io], resources: [workfloweventbindings], verbs: [list]}
- {apiGroups: [argoproj.io], resources: [workflowtemplates], verbs: [get]}
- {apiGroups: [argoproj.io], resources: [workflows], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: sender}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: sender}
subjects: [{kind: ServiceAccount, name: sender, namespace: default}]
"#;

fn kubectl(house: &House, args: &[&str]) -> Done {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(house.home().join("run/kubeconfig")).args(args);
    run(&mut command)
}

fn post(address: &str, path: &str, token: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-Kind: tea\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"));
    (status, answer)
}

#[test]
fn an_event_runs_a_workflow() {
    let case = "an event runs a workflow";
    let Some(house) = House::new(case) else { return };
    if program("kubectl").is_none() {
        return not_run(case, "there is no kubectl");
    }
    let running = house.up(&[]);
    let file = house.file("stored.yaml", STORED);
    house.windlass(&["lint", &file]).ok();
    kubectl(&house, &["apply", "-f", &file]).ok();
    let token = kubectl(&house, &["create", "token", "sender"]).ok().stdout.trim().to_owned();
    let address = running.webhooks();
    let path = "/api/v1/events/default/d";
    let body = r#"{"message": "hello $(id)", "about": "tea"}"#;
    let (status, answer) = post(&address, path, "nobody", body);
    assert_eq!(status, 401, "{answer}");
    let (status, answer) = post(&address, path, &token, body);
    assert_eq!(status, 200, "{answer}");
    let told: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let name = told["workflows"][0].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    // What was answered is stored: it is there after a crash too.
    running.crash();
    let running = house.up(&[]);
    house.windlass(&["wait", &name]).ok();
    house.windlass(&["logs", &name]).ok().says(&["it says hello $(id)"]);
    let wf = house.windlass(&["get", &name, "-o", "json"]).ok().json();
    let labels = &wf["metadata"]["labels"];
    assert_eq!(labels["workflows.argoproj.io/workflow-event-binding"], "greeter");
    assert_eq!((labels["about"].as_str(), wf["status"]["phase"].as_str()), (Some("tea"), Some("Succeeded")));
    // The token does nothing else.
    let mut list = Command::new("kubectl");
    list.arg("--kubeconfig").arg(house.home().join("run/kubeconfig")).args(["--token", &token, "get", "workflows"]);
    assert_ne!(run(&mut list).code, Some(0));
    running.end().exits(0);
}
