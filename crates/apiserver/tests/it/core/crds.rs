use super::*;

pub(crate) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const THINGS: &str = "/apis/x.io/v1/namespaces/default/things";

pub(crate) fn definition(status: bool) -> Value {
    let mut version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
        "type": "object", "properties": {
            "spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer"}, "mode": {"type": "string", "default": "fast"},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}});
    if status {
        version["subresources"] = json!({"status": {}});
    }
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things", "shortNames": ["th"]},
            "versions": [version]}})
}

pub(crate) fn thing(name: &str) -> Value {
    json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": name},
        "spec": {"size": 1, "extra": true, "any": {"a": 1}}})
}

#[tokio::test]
async fn a_definition_serves_its_kind() {
    let api = api().await;
    assert_eq!(api.get(THINGS).await.0, 404);
    let (code, made) = api.post(CRDS, definition(true)).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["status"]["acceptedNames"]["singular"], "thing");
    assert_eq!(made["status"]["conditions"][1]["type"], "Established");
    let mut again = definition(true);
    again["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let (code, same) = api.put(&format!("{CRDS}/things.x.io"), again).await;
    assert_eq!((code, &same), (200, &made), "what may be left out is no change");
    let (code, made) = api.post(THINGS, thing("a")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"], json!({"size": 1, "mode": "fast", "any": {"a": 1}}));
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(
        message(&api.post(&format!("{THINGS}?fieldValidation=Strict"), thing("b")).await),
        "400 BadRequest Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: unknown field \
         \"spec.extra\""
    );
    let response = api.raw("POST", THINGS, "application/json", Bytes::from(thing("c").to_string())).await;
    assert_eq!(response.headers()["warning"], "299 - \"unknown field \\\"spec.extra\\\"\"");
    let mut wrong = thing("d");
    wrong["spec"]["size"] = json!("one");
    assert_eq!(
        message(&api.post(THINGS, wrong).await),
        "422 Invalid Thing.x.io \"d\" is invalid: spec.size: Invalid value: \"string\": spec.size in body must be of \
         type integer: \"string\""
    );
    let (_, status) =
        api.merge(&format!("{THINGS}/a/status"), json!({"status": {"phase": "x"}, "spec": {"size": 9}})).await;
    assert_eq!((&status["status"]["phase"], &status["spec"]["size"]), (&json!("x"), &json!(1)));
    assert_eq!(status["metadata"]["generation"], 1);
    assert_eq!(api.strategic(&format!("{THINGS}/a"), json!({})).await.0, 415);
    let mut unversioned = status.clone();
    unversioned["metadata"]["resourceVersion"] = json!("");
    assert_eq!(
        message(&api.put(&format!("{THINGS}/a"), unversioned).await),
        "422 Invalid Thing.x.io \"a\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for \
         an update"
    );
    assert_eq!(api.delete(&format!("{CRDS}/things.x.io"), Value::Null).await.0, 200);
    api.until(&format!("{CRDS}/things.x.io"), 404).await;
    assert_eq!(api.get(THINGS).await.0, 404);
    // Served anew, it is empty.
    api.post(CRDS, definition(false)).await;
    assert_eq!(api.get(THINGS).await.1["items"], json!([]));
}

#[tokio::test]
async fn without_a_status_subresource_status_is_written_plainly() {
    let api = api().await;
    api.0.ensure_crds(&[definition(false)]).await.unwrap();
    api.0.ensure_crds(&[definition(false)]).await.unwrap();
    api.post(THINGS, thing("a")).await;
    let (_, now) = api.merge(&format!("{THINGS}/a"), json!({"status": {"phase": "x"}})).await;
    assert_eq!((&now["status"]["phase"], &now["metadata"]["generation"]), (&json!("x"), &json!(2)));
    assert_eq!(api.get(&format!("{THINGS}/a/status")).await.0, 404);
    // A later form of the definition is taken over.
    api.0.ensure_crds(&[definition(true)]).await.unwrap();
    assert_eq!(api.get(&format!("{THINGS}/a/status")).await.0, 200);
}
