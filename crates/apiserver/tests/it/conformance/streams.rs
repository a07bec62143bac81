//! exec and port-forward, by WebSocket. The node that runs the commands is a stand-in where the API is embedded.

use super::access::{account, grant};
use super::world::{Answer, World, call, get};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn pod(name: &str, containers: &[&str]) -> Value {
    let script = "while :; do echo from the pod | nc -l -p 8000; done";
    let containers: Vec<Value> = containers
        .iter()
        .map(|name| json!({"name": name, "image": "busybox:latest", "command": ["sh", "-c", script]}))
        .collect();
    json!({
        "metadata": {"name": name},
        "spec": {"containers": containers, "initContainers": [{"name": "first", "image": "busybox:latest", "command": ["true"]}],
            "terminationGracePeriodSeconds": 0},
    })
}

const WEBSOCKET: [(&str, &str); 5] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-protocol", "v4.channel.k8s.io"),
];

async fn asks(client: &kube::Client, method: &str, path: &str) -> Answer {
    call(client, method, path, &WEBSOCKET, Vec::new()).await
}

pub(super) async fn streams_are_refused_in_words(w: &World) {
    let ns = w.namespace("streams").await;
    let pods = format!("/api/v1/namespaces/{ns}/pods");
    let mut waiting = pod("waiting", &["one", "two"]);
    waiting["spec"]["nodeSelector"] = json!({"no": "such-node"});
    w.post(&pods, waiting).await.ok();
    for sub in ["exec", "attach"] {
        let path = |name: &str, query: &str| format!("{pods}/{name}/{sub}?stdout=1&command=true{query}");
        let answer = asks(&w.client, "GET", &path("nothing", "")).await;
        assert_eq!(answer.refused(404, "NotFound"), "pods \"nothing\" not found");
        let answer = asks(&w.client, "GET", &path("waiting", "")).await;
        let text = "a container name must be specified for pod waiting, choose one of: [first one two]";
        assert_eq!(answer.refused(400, "BadRequest"), text);
        let answer = asks(&w.client, "GET", &path("waiting", "&container=three")).await;
        assert_eq!(answer.refused(400, "BadRequest"), "container three is not valid for pod waiting");
        let answer = asks(&w.client, "GET", &path("waiting", "&container=two")).await;
        assert_eq!(answer.refused(400, "BadRequest"), "pod waiting does not have a host assigned");
    }
    let answer = asks(&w.client, "GET", &format!("{pods}/waiting/portforward?ports=80")).await;
    assert_eq!(answer.refused(400, "BadRequest"), "pod waiting does not have a host assigned");
    let answer = asks(&w.client, "GET", &format!("{pods}/waiting/portforward?ports=x")).await;
    let text = "cannot convert to []int32: strconv.ParseUint: parsing \"x\": invalid syntax";
    assert_eq!(answer.refused(400, "BadRequest"), text);
}

/// The verb follows from the method: `get` for WebSocket, `create` for SPDY.
pub(super) async fn streams_need_the_right_of_their_method(w: &World) {
    let ns = w.namespace("streams").await;
    let resources = json!(["pods/exec", "pods/attach", "pods/portforward"]);
    for verb in ["get", "create"] {
        let client = account(w, &ns, verb).await;
        grant(w, &ns, verb, json!([{"apiGroups": [""], "resources": resources, "verbs": [verb]}])).await;
        for sub in ["exec", "attach", "portforward"] {
            let path = format!("/api/v1/namespaces/{ns}/pods/nothing/{sub}?stdout=1&ports=1");
            for (method, needed) in [("GET", "get"), ("POST", "create")] {
                let mut answer = asks(&client, method, &path).await;
                for _ in 0..50 {
                    if answer.code == 404 || needed != verb {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    answer = asks(&client, method, &path).await;
                }
                if needed == verb {
                    assert_eq!(answer.refused(404, "NotFound"), "pods \"nothing\" not found");
                } else {
                    let user = format!("system:serviceaccount:{ns}:{verb}");
                    let text = format!(
                        "pods \"nothing\" is forbidden: User \"{user}\" cannot {needed} resource \"pods/{sub}\" in API group \
                         \"\" in the namespace \"{ns}\""
                    );
                    assert_eq!(answer.refused(403, "Forbidden"), text);
                }
            }
        }
    }
    // Reading pods is not running commands in them.
    let reader = account(w, &ns, "reader").await;
    grant(w, &ns, "reader", json!([{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}]))
        .await;
    let answer = get(&reader, &format!("/api/v1/namespaces/{ns}/pods/nothing/exec?command=true&stdout=1")).await;
    assert!(answer.refused(403, "Forbidden").contains("cannot get resource \"pods/exec\""));
}

async fn running(w: &World, ns: &str, containers: &[&str]) -> Option<Api<Pod>> {
    let pods = format!("/api/v1/namespaces/{ns}/pods");
    let mut object = pod("runs", containers);
    if !w.is_real() {
        object["spec"]["nodeName"] = json!("here");
        w.post(&pods, object).await.ok();
        w.patch(&format!("{pods}/runs/status"), "merge", json!({"status": {"phase": "Running"}})).await.ok();
        return Some(Api::namespaced(w.client.clone(), ns));
    }
    let nodes = w.get("/api/v1/nodes").await.ok();
    if nodes["items"].as_array().is_none_or(Vec::is_empty) {
        eprintln!(
            "NOT RUN: commands and ports on the real cluster: it has no node (`../shared/cluster/cluster up --node`)"
        );
        return None;
    }
    w.post(&pods, object).await.ok();
    for _ in 0..200 {
        let found = w.get(&format!("{pods}/runs")).await.ok();
        if found["status"]["phase"] == "Running" {
            return Some(Api::namespaced(w.client.clone(), ns));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    eprintln!("NOT RUN: commands and ports on the real cluster: its node has no image busybox:latest");
    None
}

/// Standard output, standard error and the status of a command.
async fn all(mut process: AttachedProcess) -> (String, String, Value) {
    let (mut out, mut err) = (String::new(), String::new());
    let status = process.take_status().unwrap();
    if let Some(mut stdout) = process.stdout() {
        stdout.read_to_string(&mut out).await.unwrap();
    }
    if let Some(mut stderr) = process.stderr() {
        stderr.read_to_string(&mut err).await.unwrap();
    }
    let status = serde_json::to_value(status.await.unwrap()).unwrap();
    (out, err, status)
}

pub(super) async fn commands_run_in_pods(w: &World) {
    let ns = w.namespace("streams").await;
    let Some(pods) = running(w, &ns, &["main", "other"]).await else { return };
    let streams = || AttachParams { container: Some("main".into()), ..AttachParams::default() };
    let sh = async |script: &str| all(pods.exec("runs", ["sh", "-c", script], &streams()).await.unwrap()).await;
    let (out, err, status) = sh("echo out; echo err >&2").await;
    assert_eq!((out.as_str(), err.as_str(), &status["status"]), ("out\n", "err\n", &json!("Success")));
    let (_, _, status) = sh("exit 3").await;
    assert_eq!((&status["status"], &status["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    let (_, _, status) = sh("kill -9 $$").await;
    assert_eq!(status["details"]["causes"][0]["message"], "137");
    let (out, _, _) = sh("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done").await;
    assert_eq!(out.len(), 220_000);
    let (_, _, status) = all(pods.exec("runs", ["no-such-program"], &streams()).await.unwrap()).await;
    assert_eq!((&status["reason"], &status["code"]), (&json!("InternalError"), &json!(500)));
    assert!(status["message"].as_str().unwrap().contains("executable file not found in $PATH"), "{status}");

    // The end of standard input alone, and all of it read before.
    let mut process = pods.exec("runs", ["sh", "-c", "cat; echo over"], &streams().stdin(true)).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    let text = "x".repeat(100_000);
    let write = async move {
        stdin.write_all(text.as_bytes()).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let ((), (out, _, status)) = tokio::join!(write, all(process));
    assert_eq!((out.len(), out.ends_with("xover\n"), &status["status"]), (100_005, true, &json!("Success")));
}

pub(super) async fn ports_are_forwarded(w: &World) {
    let ns = w.namespace("streams").await;
    // The stand-in has this machine's loopback for that of its pods.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = if w.is_real() { 8000 } else { listener.local_addr().unwrap().port() };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"from the pod\n").await;
        }
    });
    let Some(pods) = running(w, &ns, &["main"]).await else { return };
    let mut forwarder = pods.portforward("runs", &[port]).await.unwrap();
    let mut text = String::new();
    forwarder.take_stream(port).unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "from the pod\n");
    let mut forwarder = pods.portforward("runs", &[9]).await.unwrap();
    let why = forwarder.take_error(9).unwrap();
    assert!(why.await.unwrap().contains("9"), "nobody listens there");
}
