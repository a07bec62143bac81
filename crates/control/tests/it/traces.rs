//! Spans of real loops over the embedded API, sent to a receiver on loopback as it comes from nobody else's library.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use windlass_control::traces::{Endpoint, Traces};
use windlass_control::{traces, workflow};

use crate::stage::Stage;

/// What came: headers in small letters, and the body.
type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver that refuses the first request, as one that is restarted does.
async fn receiver() -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = requests.clone();
    tokio::spawn(async move {
        let mut is_first = true;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (head, length) = loop {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..n]);
                if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
                    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
                    let length: usize = length.parse().unwrap();
                    bytes.drain(..end + 4);
                    break (head, length);
                }
            };
            while bytes.len() < length {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..n]);
            }
            let status = if std::mem::take(&mut is_first) { "503 Service Unavailable" } else { "200 OK" };
            if !status.starts_with("503") {
                seen.lock().unwrap().push((head, serde_json::from_slice(&bytes).unwrap()));
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, requests)
}

fn spans(requests: &Requests) -> Vec<Value> {
    let all = requests.lock().unwrap();
    let of_request = |body: &Value| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    all.iter().flat_map(|(_, body)| of_request(body)).collect()
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a str {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|a| a["key"] == key);
    found.and_then(|a| a["value"]["stringValue"].as_str()).unwrap_or_default()
}

#[tokio::test]
async fn a_run_is_one_trace() {
    let stage = Stage::new().await;
    let (address, requests) = receiver().await;
    let variables = BTreeMap::from([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b"),
    ]);
    let endpoint = Endpoint::read(|name| variables.get(name).map(|v| (*v).to_owned())).unwrap().unwrap();
    let (told, waiting) = Traces::new();
    let sending = tokio::spawn(traces::send(waiting, endpoint, stage.stop.clone()));
    let settings = workflow::Settings { traces: Some(told.clone()), ..workflow::Settings::default() };
    tokio::spawn(workflow::run(stage.client.clone(), settings, stage.stop.clone()));

    let (workflows, pods) = (stage.workflows(), stage.pods());
    let object = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "wf"},
        "spec": {"entrypoint": "main", "templates": [
            {"name": "main", "steps": [[{"name": "one", "template": "t"}], [{"name": "not", "template": "t", "when": "1 == 2"}]]},
            {"name": "t", "container": {"image": "i"}},
        ]},
    });
    workflows.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let all = async || pods.list(&ListParams::default()).await.unwrap().items;
    stage.until("a pod", async || !all().await.is_empty()).await;
    let pod = all().await.remove(0);
    let name = pod.metadata.name.clone().unwrap();
    for phase in ["Running", "Succeeded"] {
        let state = match phase {
            "Running" => json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            _ => json!({"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:00Z"}}),
        };
        let status = json!({"status": {"phase": phase, "containerStatuses": [{"name": "main", "image": "i", "imageID": "",
            "ready": true, "restartCount": 0, "state": state}]}});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        let node = pod.metadata.annotations.as_ref().unwrap()["workflows.argoproj.io/node-id"].clone();
        let is_told = async || workflows.get("wf").await.unwrap().data["status"]["nodes"][&node]["phase"] == phase;
        stage.until("the node is told", is_told).await;
    }
    stage.until("the workflow's span", async || spans(&requests).iter().any(|s| s["name"] == "workflow")).await;
    // Who stops sends what is left.
    stage.stop.cancel();
    sending.await.unwrap();

    let (head, body) = requests.lock().unwrap()[0].clone();
    assert!(head.starts_with("post /v1/traces http/1.1") && head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("x-team: a b"), "{head}");
    let service = json!({"key": "service.name", "value": {"stringValue": "workflows-controller"}});
    assert_eq!(body["resourceSpans"][0]["resource"]["attributes"], json!([service]));

    let spans = spans(&requests);
    let one = |name: &str| spans.iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("no {name}: {spans:#?}"));
    let root = one("workflow");
    assert_eq!((&root["parentSpanId"], &root["status"]), (&Value::Null, &json!({"code": 1})));
    assert_eq!((attribute(root, "name"), attribute(root, "namespace")), ("wf", "default"));
    assert!(spans.iter().all(|s| s["traceId"] == root["traceId"] && s["traceId"].as_str().unwrap().len() == 32));
    let (start, end) = ("startTimeUnixNano", "endTimeUnixNano");
    let nanos = |s: &Value, key: &str| s[key].as_str().unwrap().parse::<u128>().unwrap();
    assert!(spans.iter().all(|s| nanos(s, start) <= nanos(s, end)));
    // The workflow and its pod say which trace they are, and the pod's own spans belong to the making of it.
    let workflow = workflows.get("wf").await.unwrap();
    let notes = workflow.metadata.annotations.unwrap();
    assert_eq!(notes["workflows.argoproj.io/trace-id"], root["traceId"].as_str().unwrap());
    assert_eq!(notes["workflows.argoproj.io/span-id"], root["spanId"].as_str().unwrap());
    let made = one("createWorkflowPod");
    let env = pod.spec.unwrap().containers[0].env.clone().unwrap();
    let parent = env.iter().find(|e| e.name == "TRACEPARENT").unwrap().value.clone().unwrap();
    let (trace, own) = (root["traceId"].as_str().unwrap(), made["spanId"].as_str().unwrap());
    assert_eq!(parent, format!("00-{trace}-{own}-01"));
    assert_eq!(pod.metadata.annotations.unwrap()["workflows.argoproj.io/span-id"], own);
    let nodes: Vec<&Value> = spans.iter().filter(|s| s["name"] == "node").collect();
    let of_pod = nodes.iter().find(|s| attribute(s, "node_type") == "Pod").unwrap();
    assert_eq!((&made["parentSpanId"], &of_pod["parentSpanId"]), (&of_pod["spanId"], &root["spanId"]));
    let kinds: BTreeMap<&str, usize> = nodes.iter().fold(BTreeMap::new(), |mut kinds, node| {
        *kinds.entry(attribute(node, "node_type")).or_default() += 1;
        kinds
    });
    assert_eq!(kinds, BTreeMap::from([("Pod", 1), ("Skipped", 1), ("StepGroup", 2), ("Steps", 1)]));
    let phases = spans.iter().filter(|s| s["name"] == "nodePhase" && s["parentSpanId"] == of_pod["spanId"]);
    let phases: Vec<&str> = phases.map(|s| attribute(s, "node_phase")).collect();
    assert_eq!(phases, ["Pending", "Running"]);
    for name in ["workflowPhase", "persistUpdates", "reconcileWorkflow"] {
        assert_eq!(one(name)["parentSpanId"], root["spanId"], "{name}");
    }
    assert_eq!(told.dropped(), 0);
}
