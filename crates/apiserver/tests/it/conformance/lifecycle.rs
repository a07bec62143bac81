//! Finalizers, owners, namespaces, and what is given to Services.

use super::world::{World, config_map};
use serde_json::json;

pub(super) async fn finalizers_hold_an_object(w: &World) {
    let ns = w.namespace("final").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let mut object = config_map("a", json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    w.post(&all, object).await.ok();
    let one = format!("{all}/a");
    let deleted = w.delete(&one).await.ok();
    assert!(deleted["metadata"]["deletionTimestamp"].is_string() || deleted["status"] == "Success", "{deleted:#}");
    let held = w.get(&one).await.ok();
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
    let more =
        w.patch(&one, "merge", json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})).await;
    assert!(more.refused(422, "Invalid").contains("no new finalizers can be added if the object is being deleted"));
    w.patch(&one, "merge", json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!(w.get(&one).await.code, 404);
}

pub(super) async fn dependents_follow_their_owner(w: &World) {
    let ns = w.namespace("owner").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    for (owner, policy) in [("back", "Background"), ("front", "Foreground"), ("orphan", "Orphan")] {
        let made = w.post(&all, config_map(owner, json!({}))).await.ok();
        let mut child = config_map(&format!("{owner}-child"), json!({}));
        child["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": made["metadata"]["uid"], "blockOwnerDeletion": true,
        }]);
        w.post(&all, child).await.ok();
        if w.is_real() {
            // Its collector learns of objects by watches; give it a moment to see the pair.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        w.delete(&format!("{all}/{owner}?propagationPolicy={policy}")).await.ok();
        w.until(&format!("{all}/{owner}"), |a| a.code == 404).await;
        let child = format!("{all}/{owner}-child");
        if policy == "Orphan" {
            let left = w.until(&child, |a| a.body["metadata"].get("ownerReferences").is_none()).await;
            assert_eq!(left.code, 200);
        } else {
            w.until(&child, |a| a.code == 404).await;
        }
    }
}

pub(super) async fn a_namespace_takes_everything_with_it(w: &World) {
    let ns = w.namespace("term").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let mut held = config_map("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    w.post(&all, held).await.ok();
    w.post(&all, config_map("free", json!({}))).await.ok();
    let path = format!("/api/v1/namespaces/{ns}");
    w.delete(&path).await.ok();
    let ending = w.until(&path, |a| a.body["status"]["phase"] == "Terminating").await.body;
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    w.until(&format!("{all}/free"), |a| a.code == 404).await;
    let late = w.post(&all, config_map("late", json!({}))).await;
    let text = format!(
        "configmaps \"late\" is forbidden: unable to create new content in namespace {ns} because it is being terminated"
    );
    assert_eq!(late.refused(403, "Forbidden"), text);
    assert_eq!(late.body["details"]["causes"][0]["reason"], "NamespaceTerminating");
    assert_eq!(w.get(&path).await.code, 200);
    w.patch(&format!("{all}/held"), "merge", json!({"metadata": {"finalizers": null}})).await.ok();
    w.until(&path, |a| a.code == 404).await;
}

pub(super) async fn services_get_addresses(w: &World) {
    let ns = w.namespace("svc").await;
    let all = format!("/api/v1/namespaces/{ns}/services");
    let made = w.post(&all, json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})).await.ok();
    let spec = &made["spec"];
    let ip = spec["clusterIP"].as_str().unwrap();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(spec["clusterIPs"], json!([ip]));
    assert_eq!(spec["ports"], json!([{"protocol": "TCP", "port": 80, "targetPort": 80}]));
    for (field, want) in [
        ("type", "ClusterIP"),
        ("sessionAffinity", "None"),
        ("ipFamilyPolicy", "SingleStack"),
        ("internalTrafficPolicy", "Cluster"),
    ] {
        assert_eq!(spec[field], want, "{field}");
    }
    let moved = w.patch(&format!("{all}/a"), "merge", json!({"spec": {"clusterIP": "10.96.200.200"}})).await;
    assert!(moved.refused(422, "Invalid").contains("may not change once set"), "{:#}", moved.body);
    let node =
        json!({"metadata": {"name": "b"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "name": "http"}]}});
    let node = w.post(&all, node).await.ok();
    let port = node["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&port) || w.is_real(), "{port}");
    assert_eq!(node["spec"]["externalTrafficPolicy"], "Cluster");
    let headless = json!({"metadata": {"name": "c"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}}});
    assert_eq!(w.post(&all, headless).await.ok()["spec"]["clusterIPs"], json!(["None"]));
    let empty = w.post(&all, json!({"metadata": {"name": "d"}, "spec": {}})).await;
    assert_eq!(empty.refused(422, "Invalid"), "Service \"d\" is invalid: spec.ports: Required value");
}
