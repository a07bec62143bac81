//! The three kinds of patches.

use super::world::{World, config_map};
use serde_json::json;

pub(super) async fn merge_patches(w: &World) {
    let ns = w.namespace("merge").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    w.post(&all, config_map("a", json!({"x": "1"}))).await.ok();
    let one = format!("{all}/a");
    let patch = json!({"metadata": {"labels": {"x": null, "y": "2"}}, "data": {"a": null, "b": "2"}});
    let patched = w.patch(&one, "merge", patch).await.ok();
    assert_eq!(patched["metadata"]["labels"], json!({"y": "2"}));
    assert_eq!(patched["data"], json!({"b": "2"}));
    let missing = w.patch(&format!("{all}/none"), "merge", json!({})).await;
    assert_eq!(missing.refused(404, "NotFound"), "configmaps \"none\" not found");
    let wrong = w.patch(&one, "merge", json!({"data": {"a": 5}})).await;
    let message = wrong.body["message"].as_str().unwrap();
    assert!(matches!(wrong.code, 400 | 422), "{message}");
    assert!(
        message.ends_with("json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        "{message}"
    );
    let headers = [("content-type", "text/plain")];
    let media = super::world::call(&w.client, "PATCH", &one, &headers, b"{}".to_vec()).await;
    assert_eq!(media.refused(415, "UnsupportedMediaType"), "415: Unsupported Media Type");
}

pub(super) async fn json_patches(w: &World) {
    let ns = w.namespace("json").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    w.post(&all, config_map("a", json!({"x/y": "1"}))).await.ok();
    let one = format!("{all}/a");
    let patch = json!([
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "2"},
        {"op": "add", "path": "/data/b", "value": "3"},
        {"op": "remove", "path": "/metadata/labels/x~1y"},
    ]);
    let patched = w.patch(&one, "json", patch).await.ok();
    assert_eq!(patched["data"], json!({"a": "2", "b": "3"}));
    assert!(patched["metadata"].get("labels").is_none_or(|l| l == &json!({})));
    let failing = w.patch(&one, "json", json!([{"op": "test", "path": "/data/a", "value": "1"}])).await;
    assert_eq!(failing.code, 422, "{:#}", failing.body);
    assert_eq!(failing.body["reason"], "Invalid");
}

pub(super) async fn strategic_patches(w: &World) {
    let ns = w.namespace("smp").await;
    let all = format!("/apis/apps/v1/namespaces/{ns}/deployments");
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                {"name": "one", "image": "i:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["x", "y"]},
                {"name": "two", "image": "j:1"},
            ]}},
        },
    });
    w.post(&all, deployment).await.ok();
    let one = format!("{all}/d");
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "one", "image": "i:2", "env": [{"name": "C", "value": "3"}, {"name": "A", "$patch": "delete"}], "args": ["z"]},
        {"name": "two", "$patch": "delete"},
        {"name": "three", "image": "k:1"},
    ]}}}});
    let patched = w.patch(&one, "strategic-merge", patch).await.ok();
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let mut names: Vec<&str> = containers.iter().map(|c| c["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "three"]);
    let first = containers.iter().find(|c| c["name"] == "one").unwrap();
    assert_eq!(first["image"], "i:2");
    assert_eq!(first["args"], json!(["z"]));
    let mut env: Vec<&str> = first["env"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    env.sort_unstable();
    assert_eq!(env, ["B", "C"]);
    let recreate = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let patched = w.patch(&one, "strategic-merge", recreate).await.ok();
    assert_eq!(patched["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(patched["metadata"]["generation"], 3);
}
