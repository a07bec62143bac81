//! Watches.

use super::world::{World, config_map};
use serde_json::{Value, json};

pub(super) async fn events_come_in_order(w: &World) {
    let ns = w.namespace("watch").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let list = w.get(&all).await.ok();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let query = format!("{all}?watch=true&resourceVersion={from}&fieldSelector=metadata.name!%3Dkube-root-ca.crt");
    let mut events = w.watch(&query).await;
    w.post(&all, config_map("a", json!({}))).await.ok();
    w.patch(&format!("{all}/a"), "merge", json!({"data": {"b": "2"}})).await.ok();
    w.post(&all, config_map("b", json!({}))).await.ok();
    w.delete(&format!("{all}/a")).await.ok();
    let (mut seen, mut last) = (Vec::new(), 0_u64);
    for _ in 0..4 {
        let (what, object) = events.next().await;
        let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(version > last, "{what}: versions grow");
        last = version;
        seen.push(what);
    }
    assert_eq!(seen, ["ADDED a", "MODIFIED a", "ADDED b", "DELETED a"]);
    // Again from the same version: the same events.
    let mut again = w.watch(&query).await;
    for want in &seen {
        assert_eq!(&again.next().await.0, want);
    }
}

pub(super) async fn selectors_turn_changes_into_comings_and_goings(w: &World) {
    let ns = w.namespace("wsel").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let from = w.get(&all).await.ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut events = w.watch(&format!("{all}?watch=1&resourceVersion={from}&labelSelector=on%3Dyes")).await;
    w.post(&all, config_map("a", json!({}))).await.ok();
    w.patch(&format!("{all}/a"), "merge", json!({"metadata": {"labels": {"on": "yes"}}})).await.ok();
    w.patch(&format!("{all}/a"), "merge", json!({"data": {"x": "1"}})).await.ok();
    w.patch(&format!("{all}/a"), "merge", json!({"metadata": {"labels": {"on": "no"}}})).await.ok();
    w.delete(&format!("{all}/a")).await.ok();
    for want in ["ADDED a", "MODIFIED a", "DELETED a"] {
        assert_eq!(events.next().await.0, want);
    }
    assert!(events.silent().await);
}

pub(super) async fn a_watch_can_start_with_what_is_there(w: &World) {
    let ns = w.namespace("winit").await;
    let all = format!("/api/v1/namespaces/{ns}/secrets");
    for name in ["a", "b"] {
        w.post(&all, json!({"metadata": {"name": name}})).await.ok();
    }
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    if w.is_real() {
        let probe = w.get(&format!("{all}?{query}&timeoutSeconds=1")).await;
        if probe.code == 422 && probe.body["message"].as_str().unwrap().contains("WatchList feature gate") {
            eprintln!("NOT RUN: this kube-apiserver has its WatchList feature gate off");
            return;
        }
    }
    let mut events = w.watch(&format!("{all}?{query}")).await;
    let (mut names, mut ended) = (Vec::new(), Value::Null);
    while ended.is_null() {
        let event = events.any().await;
        match event["type"].as_str().unwrap() {
            "ADDED" => names.push(event["object"]["metadata"]["name"].as_str().unwrap().to_owned()),
            "BOOKMARK" => {
                if event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true" {
                    ended = event;
                }
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(names, ["a", "b"]);
    assert_eq!(ended["object"]["kind"], "Secret");
    w.post(&all, json!({"metadata": {"name": "c"}})).await.ok();
    assert_eq!(events.next().await.0, "ADDED c");
    let bad = w.get(&format!("{all}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(bad.code, 422);
}

pub(super) async fn an_old_version_is_gone(w: &World) {
    let ns = w.namespace("wgone").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let made = w.post(&all, config_map("a", json!({}))).await.ok();
    // Where a real server remembers less than we can write here, version 1 is old enough; we fill the bounded memory.
    let version = if w.is_real() {
        "1".to_owned()
    } else {
        for i in 0..60 {
            let data = json!({"data": {"fill": format!("{i}").repeat(32 << 10)}});
            w.patch(&format!("{all}/a"), "merge", data).await.ok();
        }
        made["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    };
    let path = format!("{all}?watch=1&resourceVersion={version}&timeoutSeconds=2");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(5), w.get(&path)).await.unwrap();
    let status = if answer.code == 410 { answer.body.clone() } else { answer.body["object"].clone() };
    assert_eq!(status["code"], 410, "{:#}", answer.body);
    assert_eq!(status["reason"], "Expired");
    let start = format!("too old resource version: {version}");
    assert!(status["message"].as_str().unwrap().starts_with(&start), "{status:#}");
    let token = w.get(&format!("{all}?resourceVersion={version}&resourceVersionMatch=Exact")).await;
    assert!(w.is_real() || token.code == 410, "{:#}", token.body);
}
