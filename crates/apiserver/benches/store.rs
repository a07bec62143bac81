//! The store behind the API, in process and durable: creates, gets, patches, and the time from a write to its watch event.
//! Prints figures of this machine, with a floor measured in the same run: one SQLite transaction per write.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_apiserver::{ApiServer, Identity, Options};

const CALLERS: usize = 64;
const PER_CALLER: usize = 50;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn call(api: &ApiServer, method: &str, path: &str, kind: &str, body: Bytes) -> u16 {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .extension(Identity::system("bench"))
        .body(Full::new(body))
        .unwrap();
    let response = api.handle(request).await;
    let code = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    code
}

/// Runs one kind of request from all callers at once; returns how many a second.
async fn run(api: &Arc<ApiServer>, request: impl Fn(usize) -> (&'static str, String, &'static str, Value)) -> f64 {
    let started = Instant::now();
    let mut tasks = Vec::new();
    for caller in 0..CALLERS {
        let requests: Vec<_> = (0..PER_CALLER).map(|n| request(caller * PER_CALLER + n)).collect();
        let api = api.clone();
        tasks.push(tokio::spawn(async move {
            for (method, path, kind, body) in requests {
                let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
                let code = call(&api, method, &path, kind, bytes).await;
                assert!(code < 300, "{method} {path}: {code}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    (CALLERS * PER_CALLER) as f64 / started.elapsed().as_secs_f64()
}

fn map(n: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}"), "labels": {"app": "bench"}},
        "data": {"text": "x".repeat(500)}})
}

/// Serial durable inserts into a bare SQLite file: what the disk allows without grouping.
fn floor(dir: &std::path::Path) -> f64 {
    let conn = rusqlite::Connection::open(dir.join("floor.db")).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.pragma_update(None, "synchronous", "FULL").unwrap();
    conn.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)").unwrap();
    let bytes = vec![b'x'; 800];
    let started = Instant::now();
    for _ in 0..500 {
        conn.execute("INSERT INTO t (b) VALUES (?1)", [&bytes]).unwrap();
    }
    500.0 / started.elapsed().as_secs_f64()
}

async fn latency(api: &ApiServer) -> (Duration, Duration) {
    let request = Request::builder()
        .uri(format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dm0&resourceVersion=0"))
        .extension(Identity::system("bench"))
        .body(Full::new(Bytes::new()))
        .unwrap();
    let mut events = api.handle(request).await.into_body();
    events.frame().await.unwrap().unwrap();
    let mut times = Vec::new();
    for n in 0..500 {
        let started = Instant::now();
        let body = Bytes::from(json!({"data": {"n": n.to_string()}}).to_string());
        let path = format!("{MAPS}/m0");
        let write = call(api, "PATCH", &path, "application/merge-patch+json", body);
        let (_, frame) = tokio::join!(write, events.frame());
        frame.unwrap().unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let floor = floor(dir.path());
    let api = ApiServer::open(Options::file(dir.path().join("state.db"))).await.unwrap();
    let api = Arc::new(api);
    println!("floor: {floor:.0} durable inserts/s, one transaction each");
    let create = run(&api, |n| ("POST", MAPS.to_owned(), "application/json", map(n))).await;
    println!("create: {create:.0}/s at {CALLERS} callers, {:.1} x the floor", create / floor);
    let get = run(&api, |n| ("GET", format!("{MAPS}/m{n}"), "application/json", Value::Null)).await;
    println!("get: {get:.0}/s");
    let patch = run(&api, |n| {
        let body = json!({"data": {"k": "v"}});
        ("PATCH", format!("{MAPS}/m{n}"), "application/merge-patch+json", body)
    })
    .await;
    println!("patch: {patch:.0}/s, {:.1} x the floor", patch / floor);
    let (middle, late) = latency(&api).await;
    println!("write to watch event: p50 {middle:?}, p99 {late:?}");
}
