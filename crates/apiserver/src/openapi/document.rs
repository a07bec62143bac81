//! OpenAPI v3 for clients: the index, and one document a group version with the paths that `kubectl apply` looks at and
//! the schemas that `kubectl explain` prints. Built when asked; nothing is kept.

use crate::kinds::{Registry, Resource};
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::Arc;

const ASSET: &[u8] = include_bytes!("schemas.json.gz");
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

fn all_schemas() -> BTreeMap<String, Value> {
    let mut text = Vec::new();
    GzDecoder::new(ASSET).read_to_end(&mut text).expect("invariant: the committed asset is a gzip file");
    serde_json::from_slice(&text).expect("invariant: the committed asset is a JSON object")
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3`.
#[must_use]
pub fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = path_of(&group, &version);
            let mut hasher = DefaultHasher::new();
            env!("CARGO_PKG_VERSION").hash(&mut hasher);
            for r in registry.iter().filter(|r| r.group == group && r.version == version) {
                format!("{r:?}").hash(&mut hasher);
            }
            let url = format!("/openapi/v3/{path}?hash={:016X}", hasher.finish());
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/GROUP/VERSION`.
#[must_use]
pub fn of_group_version(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let served: Vec<&Arc<Resource>> = registry.iter().filter(|r| r.group == group && r.version == version).collect();
    if served.is_empty() {
        return None;
    }
    let mut all = all_schemas();
    let (mut paths, mut wanted) = (Map::new(), vec![format!("{META}.DeleteOptions"), format!("{META}.Status")]);
    for r in served {
        let name = schema_name(r, &all);
        if !r.builtin {
            all.insert(name.clone(), custom_schema(r));
        }
        add_paths(&mut paths, r, &name);
        wanted.push(name);
    }
    let mut schemas = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if let Some(schema) = all.remove(&name) {
            references(&schema, &mut wanted);
            schemas.insert(name, schema);
        }
    }
    let security = json!({"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"}});
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": crate::discovery::GIT_VERSION},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security},
    }))
}

fn references(schema: &Value, out: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next()) {
                out.push(name.to_owned());
            }
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

fn schema_name(r: &Resource, all: &BTreeMap<String, Value>) -> String {
    let is = |g: &Value| {
        g["group"] == r.group.as_str() && g["version"] == r.version.as_str() && g["kind"] == r.kind.as_str()
    };
    let builtin = all
        .iter()
        .find(|(_, s)| s["x-kubernetes-group-version-kind"].as_array().is_some_and(|list| list.iter().any(is)));
    match builtin.filter(|_| r.builtin) {
        Some((name, _)) => name.clone(),
        None => {
            let reversed: Vec<&str> = r.group.rsplit('.').collect();
            format!("{}.{}.{}", reversed.join("."), r.version, r.kind)
        }
    }
}

fn custom_schema(r: &Resource) -> Value {
    let mut schema = r.schema.as_deref().cloned().unwrap_or_else(|| json!({"type": "object"}));
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let text = |d: &str| json!({"type": "string", "description": d});
    schema["properties"]["apiVersion"] = text("The version of the schema of this object.");
    schema["properties"]["kind"] = text("The kind of this object.");
    let meta = json!({"$ref": format!("#/components/schemas/{META}.ObjectMeta")});
    schema["properties"]["metadata"] = json!({"description": "Standard object's metadata.", "allOf": [meta]});
    schema["x-kubernetes-group-version-kind"] = json!([{"group": r.group, "version": r.version, "kind": r.kind}]);
    schema
}

/// The forms of a patch; the last only for kinds of Kubernetes itself.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

fn add_paths(paths: &mut Map<String, Value>, r: &Resource, schema: &str) {
    let base = format!("/{}", path_of(&r.group, &r.version));
    let collection = if r.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", r.plural)
    } else {
        format!("{base}/{}", r.plural)
    };
    let kind = json!({"group": r.group, "version": r.version, "kind": r.kind});
    let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
    let query = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let in_path = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}});
    let operation = |action: &str, body: bool| {
        let mut operation = json!({
            "parameters": if body { ["dryRun", "fieldManager", "fieldValidation"].map(query).to_vec() } else { Vec::new() },
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        });
        if body {
            // `kubectl apply` merges strategically where that is said here; custom resources cannot be merged so.
            let media: &[&str] = match action {
                "patch" if r.builtin => &PATCHES,
                "patch" => &PATCHES[..3],
                _ => &["application/json"],
            };
            let content: Map<String, Value> =
                media.iter().map(|m| ((*m).to_owned(), json!({"schema": if action == "patch" { json!({"type": "object"}) } else { reference.clone() }}))).collect();
            operation["requestBody"] = json!({"content": content, "required": true});
        }
        operation
    };
    let mut parameters = if r.namespaced { vec![in_path("namespace")] } else { Vec::new() };
    paths.insert(
        collection.clone(),
        json!({"get": operation("list", false), "post": operation("post", true), "parameters": parameters}),
    );
    parameters.push(in_path("name"));
    paths.insert(
        format!("{collection}/{{name}}"),
        json!({
            "get": operation("get", false), "put": operation("put", true), "patch": operation("patch", true),
            "delete": operation("delete", false), "parameters": parameters,
        }),
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_group_version_has_a_closed_document() {
        let registry = Registry::builtin();
        for path in index(&registry)["paths"].as_object().unwrap().keys() {
            let (group, version) = match path.split('/').collect::<Vec<_>>()[..] {
                ["api", version] => ("", version),
                ["apis", group, version] => (group, version),
                _ => panic!("{path}"),
            };
            let document = of_group_version(&registry, group, version).unwrap();
            let mut wanted = Vec::new();
            references(&document, &mut wanted);
            for name in wanted {
                assert!(document["components"]["schemas"].get(&name).is_some(), "{path} {name}");
            }
        }
    }

    #[test]
    fn patches_say_that_they_know_field_validation() {
        let document = of_group_version(&Registry::builtin(), "apps", "v1").unwrap();
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    }
}
