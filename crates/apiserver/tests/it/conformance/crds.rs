//! Custom kinds.

use super::world::World;
use serde_json::{Value, json};

fn definition(group: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList", "shortNames": ["th"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Phase", "type": "string", "jsonPath": ".status.phase", "priority": 1},
                ],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1}, "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                    }},
                    "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
                }}},
            }],
        },
    })
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Defines the kind and waits until it is served; the path of the things.
async fn define(w: &World, ns: &str) -> (String, String) {
    let group = format!("{ns}.example.com");
    w.post(DEFINITIONS, definition(&group)).await.ok();
    let one = format!("{DEFINITIONS}/things.{group}");
    let established = |a: &super::world::Answer| {
        let conditions = a.body["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
    };
    w.until(&one, established).await;
    let things = format!("/apis/{group}/v1/namespaces/{ns}/things");
    w.until(&things, |a| a.code == 200).await;
    (one, things)
}

fn thing(group_path: &str, name: &str, spec: Value) -> Value {
    let group = group_path.split('/').nth(2).unwrap();
    json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

pub(super) async fn a_custom_kind_lives_and_dies(w: &World) {
    let ns = w.namespace("crd").await;
    let (one, things) = define(w, &ns).await;
    let made = w.post(&things, thing(&things, "a", json!({"size": 3, "unknown": true}))).await;
    assert!(made.warnings.iter().any(|x| x.contains("unknown field \\\"spec.unknown\\\"")), "{:?}", made.warnings);
    let made = made.ok();
    assert_eq!(made["spec"], json!({"size": 3, "color": "red"}), "pruned and defaulted");
    assert_eq!(made["metadata"]["generation"], 1);
    let small = w.post(&things, thing(&things, "b", json!({"size": 0, "color": "green"}))).await;
    let text = small.refused(422, "Invalid");
    assert!(
        text.starts_with("Thing.")
            && text.contains("spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        "{text}"
    );
    assert!(text.contains("spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\""), "{text}");
    let missing = w.post(&things, thing(&things, "b", json!({}))).await;
    assert!(missing.refused(422, "Invalid").ends_with("spec.size: Required value"), "{:#}", missing.body);
    let strict =
        w.post(&format!("{things}?fieldValidation=Strict"), thing(&things, "b", json!({"size": 1, "x": 1}))).await;
    assert!(
        strict.refused(400, "BadRequest").contains("strict decoding error: unknown field \"spec.x\""),
        "{:#}",
        strict.body
    );
    let table = w.get_as(&things, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Size", "Phase"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3, null]));
    let listed = w.get(&things).await.ok();
    assert_eq!(listed["kind"], "ThingList");
    // What `kubectl apply` looks at before it patches: custom kinds are not merged strategically.
    let document = format!("/openapi/v3/{}", things.trim_start_matches('/').split("/namespaces").next().unwrap());
    let path = format!("{}/{{name}}", things.replace(&format!("namespaces/{ns}"), "namespaces/{namespace}"));
    let document = w.until(&document, |a| a.body["paths"][&path]["patch"].is_object()).await.ok();
    let forms = document["paths"][&path]["patch"]["requestBody"]["content"].as_object().unwrap();
    assert!(forms.contains_key("application/merge-patch+json"), "{forms:#?}");
    assert!(!forms.contains_key("application/strategic-merge-patch+json"), "{forms:#?}");
    w.delete(&one).await.ok();
    w.until(&one, |a| a.code == 404).await;
    w.until(&things, |a| a.code == 404).await;
}

pub(super) async fn status_is_its_own_subresource(w: &World) {
    let ns = w.namespace("status").await;
    let (one, things) = define(w, &ns).await;
    let mut object = thing(&things, "a", json!({"size": 3}));
    object["status"] = json!({"phase": "Mine"});
    let made = w.post(&things, object).await.ok();
    assert!(made.get("status").is_none(), "a status cannot come with the object");
    let path = format!("{things}/a");
    let both = json!({"spec": {"size": 9}, "status": {"phase": "Ready"}});
    let set = w.patch(&format!("{path}/status"), "merge", both.clone()).await.ok();
    assert_eq!((&set["spec"]["size"], &set["status"]["phase"]), (&json!(3), &json!("Ready")));
    assert_eq!(set["metadata"]["generation"], 1);
    let both = json!({"spec": {"size": 9}, "status": {"phase": "Other"}});
    let set = w.patch(&path, "merge", both).await.ok();
    assert_eq!((&set["spec"]["size"], &set["status"]["phase"]), (&json!(9), &json!("Ready")));
    assert_eq!(set["metadata"]["generation"], 2);
    assert_eq!(w.get(&format!("{path}/status")).await.ok()["status"]["phase"], "Ready");
    w.delete(&one).await.ok();
}

pub(super) async fn watches_end_with_the_definition(w: &World) {
    let ns = w.namespace("crdwatch").await;
    let (one, things) = define(w, &ns).await;
    w.post(&things, thing(&things, "a", json!({"size": 1}))).await.ok();
    let events = w.watch(&format!("{things}?watch=1")).await;
    w.delete(&one).await.ok();
    assert_eq!(events.rest().await, ["ADDED a", "DELETED a"]);
}
