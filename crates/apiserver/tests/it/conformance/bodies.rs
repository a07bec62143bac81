//! Bodies that are not plain objects: protobuf, discovery, OpenAPI.

use super::world::{World, call};
use serde_json::Value;

/// One length-delimited protobuf field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    assert!(bytes.len() < 128, "one byte of length is all that is written here");
    out.extend_from_slice(bytes);
    out
}

pub(super) async fn protobuf_is_understood(w: &World) {
    let ns = w.namespace("proto").await;
    let metadata = [field(1, b"from-proto"), field(3, b""), field(8, b"")].concat();
    let entry = [field(1, b"key"), field(2, b"value")].concat();
    let object = [field(1, &metadata), field(2, &entry)].concat();
    let kind = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    let body = [b"k8s\0".to_vec(), field(1, &kind), field(2, &object)].concat();
    let headers = [("content-type", "application/vnd.kubernetes.protobuf"), ("accept", "application/json")];
    let path = format!("/api/v1/namespaces/{ns}/configmaps");
    let made = call(&w.client, "POST", &path, &headers, body).await.ok();
    assert_eq!(made["metadata"]["name"], "from-proto");
    assert_eq!(made["data"]["key"], "value");
    let broken = call(&w.client, "POST", &path, &headers, b"nonsense".to_vec()).await;
    assert_eq!(broken.code, 400, "{:#}", broken.body);
    let other = [("content-type", "application/x-nothing")];
    assert_eq!(call(&w.client, "POST", &path, &other, b"{}".to_vec()).await.code, 415);
}

pub(super) async fn discovery_names_what_is_served(w: &World) {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let core = w.get_as("/api", accept).await.ok();
    assert_eq!(core["kind"], "APIGroupDiscoveryList");
    let resources = core["items"][0]["versions"][0]["resources"].as_array().unwrap();
    let find = |list: &[Value], name: &str| list.iter().find(|r| r["resource"] == name).cloned().unwrap();
    let pods = find(resources, "pods");
    assert_eq!(pods["responseKind"]["kind"], "Pod");
    assert_eq!(pods["scope"], "Namespaced");
    assert_eq!(pods["singularResource"], "pod");
    assert_eq!(pods["shortNames"], serde_json::json!(["po"]));
    assert_eq!(pods["categories"], serde_json::json!(["all"]));
    assert!(pods["subresources"].as_array().unwrap().iter().any(|s| s["subresource"] == "log"));
    let named = w.get_as("/apis", accept).await.ok();
    let groups = named["items"].as_array().unwrap();
    let group = |name: &str| groups.iter().find(|g| g["metadata"]["name"] == name).cloned().unwrap();
    let apps = group("apps");
    let deployments = find(apps["versions"][0]["resources"].as_array().unwrap(), "deployments");
    assert_eq!(deployments["shortNames"], serde_json::json!(["deploy"]));
    for name in ["authorization.k8s.io", "authentication.k8s.io", "rbac.authorization.k8s.io", "apiextensions.k8s.io"] {
        group(name);
    }
    let old = w.get("/apis/apps/v1").await.ok();
    assert_eq!(old["groupVersion"], "apps/v1");
    let old = old["resources"].as_array().unwrap();
    let plain = old.iter().find(|r| r["name"] == "deployments").unwrap();
    assert_eq!(plain["kind"], "Deployment");
    let mut verbs: Vec<&str> = plain["verbs"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    verbs.sort_unstable();
    assert_eq!(verbs, ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    let scale = old.iter().find(|r| r["name"] == "deployments/scale").unwrap();
    assert_eq!((&scale["group"], &scale["kind"]), (&serde_json::json!("autoscaling"), &serde_json::json!("Scale")));
    assert_eq!(w.get("/api").await.ok()["versions"], serde_json::json!(["v1"]));
    let version = w.get("/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&serde_json::json!("1"), &serde_json::json!("33")));
}

pub(super) async fn openapi_knows_field_validation(w: &World) {
    let index = w.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = w.get(&url).await.ok();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"];
    assert_eq!(spec["replicas"]["format"], "int32");
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
}
