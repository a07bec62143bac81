//! Single objects.

use super::world::{World, config_map};
use serde_json::json;

pub(super) async fn objects_are_made_read_changed_and_removed(w: &World) {
    let ns = w.namespace("crud").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let one = format!("{all}/a");
    let made = w.post(&all, config_map("a", json!({}))).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert_eq!(made["metadata"]["namespace"], ns.as_str());
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert!(made["metadata"]["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert!(made["metadata"].get("generation").is_none());
    let again = w.post(&all, config_map("a", json!({}))).await;
    assert_eq!(again.refused(409, "AlreadyExists"), "configmaps \"a\" already exists");
    assert_eq!(again.body["details"], json!({"name": "a", "kind": "configmaps"}));
    let read = w.get(&one).await.ok();
    assert_eq!(read["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let mut changed = read.clone();
    changed["data"] = json!({"b": "2"});
    let put = w.put(&one, changed.clone()).await.ok();
    assert_eq!(put["data"], json!({"b": "2"}));
    assert_ne!(put["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"]);
    let same = w.put(&one, put.clone()).await.ok();
    assert_eq!(
        same["metadata"]["resourceVersion"], put["metadata"]["resourceVersion"],
        "nothing changed, no new version"
    );
    let removed = w.delete(&one).await;
    assert_eq!(removed.code, 200);
    assert_eq!(removed.body["status"], "Success");
    assert_eq!(removed.body["details"]["uid"], made["metadata"]["uid"]);
    let gone = w.get(&one).await;
    assert_eq!(gone.refused(404, "NotFound"), "configmaps \"a\" not found");
    let twice = w.delete(&one).await;
    assert_eq!(twice.refused(404, "NotFound"), "configmaps \"a\" not found");
    let nowhere = w.post("/api/v1/namespaces/not-there/configmaps", config_map("a", json!({}))).await;
    assert_eq!(nowhere.refused(404, "NotFound"), "namespaces \"not-there\" not found");
    let mismatch = w.put(&one, config_map("b", json!({}))).await;
    let text = "the name of the object (b) does not match the name on the URL (a)";
    assert_eq!(mismatch.refused(400, "BadRequest"), text);
}

pub(super) async fn names_are_generated(w: &World) {
    let ns = w.namespace("gen").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let object = json!({"metadata": {"generateName": "x-"}});
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        let made = w.post(&all, object.clone()).await.ok();
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("x-") && name.len() == 7, "{name}");
        assert_eq!(made["metadata"]["generateName"], "x-");
        assert!(seen.insert(name));
    }
    let nameless = w.post(&all, json!({"metadata": {}})).await;
    let text = "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    assert_eq!(nameless.refused(422, "Invalid"), text);
    let bad = w.post(&all, json!({"metadata": {"name": "Not_Good"}})).await;
    assert!(bad.refused(422, "Invalid").starts_with(
        "ConfigMap \"Not_Good\" is invalid: metadata.name: Invalid value: \"Not_Good\": a lowercase RFC 1123 subdomain"
    ));
}

pub(super) async fn a_stale_write_is_a_conflict(w: &World) {
    let ns = w.namespace("conflict").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let one = format!("{all}/a");
    let first = w.post(&all, config_map("a", json!({}))).await.ok();
    w.patch(&one, "merge", json!({"data": {"b": "2"}})).await.ok();
    let stale = w.put(&one, first.clone()).await;
    let text = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again";
    assert_eq!(stale.refused(409, "Conflict"), text);
    let old = first["metadata"]["resourceVersion"].clone();
    let patch = w.patch(&one, "merge", json!({"metadata": {"resourceVersion": old}, "data": {"c": "3"}})).await;
    assert_eq!(patch.refused(409, "Conflict"), text);
    let path = format!("{one}?dryRun=Nope");
    assert_eq!(w.delete(&path).await.code, 422);
    let other = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    let headers = [("content-type", "application/json")];
    let guarded = super::world::call(&w.client, "DELETE", &one, &headers, other.to_string().into()).await;
    let text = format!(
        "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition \
         (00000000-0000-0000-0000-000000000000) does not match the UID in record ({}). The object might have been \
         deleted and then recreated",
        first["metadata"]["uid"].as_str().unwrap()
    );
    assert_eq!(guarded.refused(409, "Conflict"), text);
}

pub(super) async fn dry_runs_leave_nothing(w: &World) {
    let ns = w.namespace("dry").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let made = w.post(&format!("{all}?dryRun=All"), config_map("a", json!({}))).await.ok();
    assert_eq!(made["data"]["a"], "1");
    assert_eq!(w.get(&format!("{all}/a")).await.code, 404);
    w.post(&all, config_map("a", json!({}))).await.ok();
    let patched = w.patch(&format!("{all}/a?dryRun=All"), "merge", json!({"data": {"b": "2"}})).await.ok();
    assert_eq!(patched["data"], json!({"a": "1", "b": "2"}));
    assert_eq!(w.get(&format!("{all}/a")).await.ok()["data"], json!({"a": "1"}));
    w.delete(&format!("{all}/a?dryRun=All")).await.ok();
    assert_eq!(w.get(&format!("{all}/a")).await.code, 200);
    assert_eq!(w.post(&format!("{all}?dryRun=yes"), config_map("b", json!({}))).await.code, 422);
}
