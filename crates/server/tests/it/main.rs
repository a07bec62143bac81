//! Webhooks against the embedded API in this process, and the listener over a real socket.
#![allow(clippy::unwrap_used, missing_docs)]

mod archived;
mod event;

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tower::ServiceExt;
use windlass_apiserver::{ApiServer, Identity, Options};
use windlass_server::webhook::delivery_resource;
use windlass_server::{Secrets, Webhook, WebhookOptions, router};

async fn cluster() -> kube::Client {
    let server = ApiServer::open(Options::memory()).await.unwrap();
    let crds: Vec<Value> = windlass_model::crds::KINDS.iter().map(windlass_model::crds::Kind::manifest).collect();
    server.ensure_crds(&crds).await.unwrap();
    server.client(Identity::admin())
}

fn deliveries(client: &kube::Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "default", &delivery_resource())
}

fn options() -> WebhookOptions {
    WebhookOptions { secrets: Secrets::one("hush"), body_bytes_max: 20_000, ..WebhookOptions::default() }
}

fn push() -> Value {
    json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": "a".repeat(40),
        "repository": {"full_name": "acme/app", "clone_url": "https://git.example.org/acme/app.git", "default_branch": "main"},
    })
}

struct Post {
    path: &'static str,
    event: &'static str,
    delivery: String,
    kind: &'static str,
    body: Vec<u8>,
    signature: Option<String>,
}

impl Post {
    fn new(event: &'static str, delivery: &str, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        let signature = Secrets::one("hush").sign(&body);
        let kind = "application/json";
        Self { path: "/webhooks/github", event, delivery: delivery.to_owned(), kind, body, signature }
    }

    async fn send(self, router: &Router) -> (StatusCode, Value) {
        let mut request = Request::post(self.path)
            .header("content-type", self.kind)
            .header("x-github-event", self.event)
            .header("x-github-delivery", self.delivery);
        if let Some(signature) = self.signature {
            request = request.header("x-hub-signature-256", signature);
        }
        answer(router, request.body(Body::from(self.body)).unwrap()).await
    }
}

async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let code = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_delivery_is_stored_once() {
    let client = cluster().await;
    let router = router(Webhook::new(client.clone(), options()));
    let sent = (0..20).map(|n| {
        let path = if n % 2 == 0 { "/" } else { "/webhooks/github" };
        let router = router.clone();
        tokio::spawn(async move { Post { path, ..Post::new("push", "one", &push()) }.send(&router).await })
    });
    let answers = futures::future::join_all(sent).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|(code, _)| *code == StatusCode::ACCEPTED), "{answers:?}");
    let accepted = answers.iter().filter(|(_, body)| body["status"] == "accepted").count();
    let duplicate = answers.iter().filter(|(_, body)| body["status"] == "duplicate").count();
    assert_eq!((accepted, duplicate), (1, 19));
    let stored = deliveries(&client).list(&ListParams::default()).await.unwrap().items;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].metadata.name.as_deref(), Some("github-one"));
    insta::assert_json_snapshot!("delivery", stored[0].data);
    // Another server over the same store (after a restart) knows it too.
    let again = windlass_server::router(Webhook::new(client.clone(), options()));
    assert_eq!(Post::new("push", "one", &push()).send(&again).await.1["status"], "duplicate");
    // One that failed is tried again when it is redelivered.
    let failed = json!({"status": {"phase": "Failed", "reason": "HostUnreachable"}});
    deliveries(&client).patch_status("github-one", &PatchParams::default(), &Patch::Merge(&failed)).await.unwrap();
    assert_eq!(Post::new("push", "one", &push()).send(&again).await.1["status"], "accepted");
    let now = deliveries(&client).get("github-one").await.unwrap();
    assert_eq!(now.data["status"]["phase"], "Received");
    assert_eq!(Post::new("push", "one", &push()).send(&again).await.1["status"], "duplicate");
}

#[tokio::test]
async fn every_answer() {
    let client = cluster().await;
    let router = router(Webhook::new(client.clone(), options()));
    let good = || Post::new("push", "x", &push());
    let form = |text: &str| {
        let body = text.as_bytes().to_vec();
        let signature = Secrets::one("hush").sign(&body);
        Post { kind: "application/x-www-form-urlencoded", body, signature, ..good() }
    };
    let escaped: String = push().to_string().bytes().map(|b| format!("%{b:02x}")).collect();
    let big = json!({"pad": "x".repeat(30_000)});
    let posts = vec![
        ("no signature", Post { signature: None, ..good() }),
        ("bad signature", Post { signature: Some(format!("sha256={}", "0".repeat(64))), ..good() }),
        ("sha1 only", Post { signature: Some("sha1=aaaa".into()), ..good() }),
        ("too large", Post::new("push", "x", &big)),
        ("ping", Post::new("ping", "x", &json!({"zen": "z"}))),
        ("pull request", Post::new("pull_request", "x", &json!({}))),
        ("unknown event", Post::new("surprise", "x", &json!({}))),
        ("no event header", Post { event: "", ..good() }),
        ("no delivery header", Post { delivery: String::new(), ..good() }),
        ("not JSON", Post { body: b"{".to_vec(), signature: Secrets::one("hush").sign(b"{"), ..good() }),
        (
            "push of deletion",
            Post::new("push", "x", &{
                let mut p = push();
                p["after"] = "0".repeat(40).into();
                p
            }),
        ),
        (
            "bad ref",
            Post::new("push", "x", &{
                let mut p = push();
                p["ref"] = "refs/heads/a\nb".into();
                p
            }),
        ),
        ("wrong content type", Post { kind: "text/plain", ..good() }),
        ("charset", Post { kind: "application/json; charset=utf-8", delivery: "charset".into(), ..good() }),
        ("form", Post { delivery: "form".into(), ..form(&format!("payload={escaped}")) }),
        ("form without payload", form("a=b")),
    ];
    let mut lines = Vec::new();
    for (name, post) in posts {
        let (code, body) = post.send(&router).await;
        lines.push(format!("{name}: {} {body}", code.as_u16()));
    }
    for (method, path) in
        [("GET", "/webhooks/github"), ("PUT", "/"), ("GET", "/healthz"), ("GET", "/-/alive"), ("GET", "/nothing")]
    {
        let (code, body) =
            answer(&router, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await;
        lines.push(format!("{method} {path}: {} {body}", code.as_u16()));
    }
    insta::assert_snapshot!("answers", lines.join("\n"));
    // Without a secret nothing is checked.
    let open = windlass_server::router(Webhook::new(client, WebhookOptions::default()));
    let (code, _) = Post { signature: None, delivery: "open".into(), ..good() }.send(&open).await;
    assert_eq!(code, StatusCode::ACCEPTED);
}

async fn bitbucket(
    router: &Router,
    path: &str,
    event: &str,
    request: &str,
    body: &Value,
    secret: Option<&str>,
) -> (StatusCode, Value) {
    let body = body.to_string().into_bytes();
    let mut builder = Request::post(path).header("content-type", "application/json").header("x-event-key", event);
    if !request.is_empty() {
        let name = if event.starts_with("repo:refs") { "x-request-id" } else { "x-request-uuid" };
        builder = builder.header(name, request).header("x-hook-uuid", "b4dcf8a0-0d5d-4c8f-9a8e-3a1a5f2f7d10");
    }
    if let Some(signature) = secret.and_then(|secret| Secrets::one(secret).sign(&body)) {
        builder = builder.header("x-hub-signature", signature);
    }
    answer(router, builder.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn each_ref_of_a_bitbucket_push_is_a_delivery() {
    let client = cluster().await;
    let router = router(Webhook::new(client.clone(), options()));
    let case = |text: &str| serde_json::from_str::<Value>(text).unwrap()["body"].clone();
    let three = case(include_str!("../../../schedule/tests/it/cases/bitbucket/cloud_three_changes.json"));
    let server = case(include_str!("../../../schedule/tests/it/cases/bitbucket/server_push.json"));
    let hush = Some("hush");
    let mut lines = Vec::new();
    for (what, path, event, request, body, secret) in [
        ("three changes", "/webhooks/bitbucket", "repo:push", "one", &three, hush),
        ("the same again", "/", "repo:push", "one", &three, hush),
        ("wrong secret", "/webhooks/bitbucket", "repo:push", "two", &three, Some("other")),
        ("no signature", "/", "repo:push", "two", &three, None),
        ("no id", "/", "repo:push", "", &three, hush),
        ("no id again", "/", "repo:push", "", &three, hush),
        ("server", "/webhooks/bitbucketserver", "repo:refs_changed", "three", &server, hush),
        ("server's ping", "/webhooks/bitbucketserver", "diagnostics:ping", "", &json!({"test": true}), None),
        ("server's ping, wrong", "/", "diagnostics:ping", "", &json!({"test": true}), Some("other")),
        ("pull request", "/webhooks/bitbucket", "pullrequest:created", "four", &json!({}), hush),
        ("to GitHub's path", "/webhooks/github", "repo:push", "five", &three, hush),
    ] {
        let (code, body) = bitbucket(&router, path, event, request, body, secret).await;
        lines.push(format!("{what}: {} {body}", code.as_u16()));
    }
    let stored = deliveries(&client).list(&ListParams::default()).await.unwrap().items;
    for delivery in &stored {
        let event = &delivery.data["spec"]["event"];
        let name = delivery.metadata.name.as_deref().unwrap();
        lines.push(format!("{name}: {} {} {}", event["event"], event["ref"], event["revision"]));
    }
    insta::assert_snapshot!("bitbucket", lines.join("\n"));
    // One of three had failed: only that one is tried again.
    let failed = json!({"status": {"phase": "Failed", "reason": "HostUnreachable"}});
    let name = "bitbucket-one.001";
    deliveries(&client).patch_status(name, &PatchParams::default(), &Patch::Merge(&failed)).await.unwrap();
    let (_, again) = bitbucket(&router, "/", "repo:push", "one", &three, hush).await;
    assert_eq!((&again["status"], &again["delivery"]), (&json!("accepted"), &json!(name)));
    assert_eq!(deliveries(&client).get(name).await.unwrap().data["status"]["phase"], "Received");
}

#[tokio::test]
async fn slow_and_unannounced_bodies_end() {
    let options = WebhookOptions { body_timeout: Duration::from_millis(200), ..options() };
    let router = router(Webhook::new(cluster().await, options));
    let silent = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = || Request::post("/").header("content-type", "application/json");
    let (code, _) = answer(&router, request().body(silent).unwrap()).await;
    assert_eq!(code, StatusCode::REQUEST_TIMEOUT);
    // No Content-Length: counted while it is read.
    let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 1000]));
    let (code, _) = answer(&router, request().body(Body::from_stream(endless)).unwrap()).await;
    assert_eq!(code, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn over_a_socket_until_stopped() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let router = router(Webhook::new(cluster().await, options()));
    let served = tokio::spawn(windlass_server::serve(listener, router, stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("OK"), "{text}");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
