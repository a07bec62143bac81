//! `kubectl get`'s tables, made by the server: columns and cells of each built-in kind, a custom kind's printer
//! columns, and the rows around them. Objects in, a `Table` out; nothing is stored and nothing is looked up.

pub mod age;
pub mod jsonpath;
mod pod;
mod printers;

use crate::kinds::Resource;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// One column.
pub(crate) struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
}

impl Column {
    /// A column that is always shown.
    fn new(name: &str, kind: &str, description: &str) -> Self {
        let format = if name == "Name" { "name" } else { "" };
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: format.to_owned(),
            description: description.to_owned(),
            priority: 0,
        }
    }

    /// A column of `-o wide`.
    fn wide(name: &str, kind: &str, description: &str) -> Self {
        Self { priority: 1, format: String::new(), ..Self::new(name, kind, description) }
    }

    fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }
}

/// Whether an `Accept` header prefers a Table to the objects.
#[must_use]
pub fn preferred(accept: &str) -> bool {
    for media in accept.split(',') {
        let mut parts = media.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let form = parts.find_map(|p| p.strip_prefix("as="));
        match (kind, form) {
            ("application/json", Some("Table")) if media.contains("g=meta.k8s.io") => return true,
            ("application/json" | "*/*" | "application/*", None) => return false,
            _ => {}
        }
    }
    false
}

/// Objects as a `Table`: `include` is `None`, `Metadata` or `Object`.
pub fn render(
    r: &Resource,
    objects: &[Bytes],
    list_meta: Value,
    include: &str,
    headings: bool,
    now: Timestamp,
) -> Result<Value, serde_json::Error> {
    let custom: Option<Vec<_>> = (!r.builtin).then(|| custom_columns(r));
    let mut rows = Vec::with_capacity(objects.len());
    for bytes in objects {
        let object: Value = serde_json::from_slice(bytes)?;
        let (cells, conditions) = match &custom {
            Some(columns) => (custom_cells(columns, &object, now), None),
            None => printers::cells(r, &object, now),
        };
        let mut row = Map::new();
        row.insert("cells".to_owned(), Value::Array(cells));
        if let Some(conditions) = conditions {
            row.insert("conditions".to_owned(), conditions);
        }
        match include {
            "None" => {}
            "Object" => {
                row.insert("object".to_owned(), object);
            }
            _ => {
                let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
                let partial =
                    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
                row.insert("object".to_owned(), partial);
            }
        }
        rows.push(Value::Object(row));
    }
    let definitions = if headings {
        let definitions = match &custom {
            Some(columns) => columns.iter().map(|(c, _)| c.definition()).collect(),
            None => printers::columns(r).iter().map(Column::definition).collect(),
        };
        Value::Array(definitions)
    } else {
        Value::Null
    };
    Ok(json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "columnDefinitions": definitions, "rows": rows,
    }))
}

fn custom_columns(r: &Resource) -> Vec<(Column, Option<jsonpath::Path>)> {
    let mut columns = vec![(Column::new("Name", "string", printers::NAME), None)];
    if r.columns.is_empty() {
        let path = jsonpath::Path::parse(".metadata.creationTimestamp").ok();
        columns.push((Column::new("Age", "date", printers::AGE), path));
    }
    for column in &r.columns {
        let description = if column.description.is_empty() {
            format!("Custom resource definition column (in JSONPath format): {}", column.json_path)
        } else {
            column.description.clone()
        };
        let shown = Column {
            name: column.name.clone(),
            kind: column.kind.clone(),
            format: column.format.clone(),
            description,
            priority: column.priority,
        };
        columns.push((shown, jsonpath::Path::parse(&column.json_path).ok()));
    }
    columns
}

fn custom_cells(columns: &[(Column, Option<jsonpath::Path>)], object: &Value, now: Timestamp) -> Vec<Value> {
    let name = object.pointer("/metadata/name").cloned().unwrap_or(Value::Null);
    let rest = columns.iter().skip(1).map(|(column, path)| {
        let found = path.as_ref().and_then(|p| p.find(object).first().copied());
        found.map_or(Value::Null, |v| custom_cell(&column.kind, v, now))
    });
    std::iter::once(name).chain(rest).collect()
}

fn custom_cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(s)) => json!(s),
        ("string", other) => json!(other.to_string()),
        ("integer", Value::Number(n)) => match n.as_i64() {
            Some(i) => json!(i),
            #[allow(clippy::cast_possible_truncation)]
            None => n.as_f64().map_or(Value::Null, |f| json!(f as i64)),
        },
        ("number", Value::Number(n)) => json!(n.as_f64()),
        ("boolean", Value::Bool(b)) => json!(b),
        ("date", Value::String(s)) => json!(age::since(Some(s), now)),
        _ => Value::Null,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kinds::{PrinterColumn, Registry};

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn row(r: &Resource, object: &Value) -> String {
        let table = render(r, &[Bytes::from(object.to_string())], json!({}), "None", true, now()).unwrap();
        let names = table["columnDefinitions"].as_array().unwrap();
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        assert_eq!(names.len(), cells.len(), "{}", r.kind);
        let pairs = names.iter().zip(cells);
        pairs.map(|(n, c)| format!("{}={c}", n["name"].as_str().unwrap())).collect::<Vec<_>>().join("  ")
    }

    #[test]
    fn accept_headers_choose_the_table() {
        assert!(preferred(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
        ));
        assert!(!preferred("application/json"));
        assert!(!preferred("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"));
    }

    #[test]
    fn every_built_in_kind_has_a_cell_for_each_column() {
        for r in Registry::builtin().iter() {
            row(r, &json!({"metadata": {"name": "x", "creationTimestamp": "2026-11-21T09:59:00Z"}}));
        }
    }

    #[test]
    fn rows_read_as_kubectl_prints_them() {
        let registry = Registry::builtin();
        let meta = json!({"name": "x", "namespace": "d", "creationTimestamp": "2026-11-21T09:55:00Z"});
        let objects = [
            (
                "",
                "pods",
                json!({"metadata": meta, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n"},
                "status": {"phase": "Running", "podIPs": [{"ip": "10.42.0.2"}], "containerStatuses": [
                    {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}},
                    {"name": "b", "ready": false, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                     "lastState": {"terminated": {"finishedAt": "2026-11-21T09:59:30Z"}}}]}}),
            ),
            (
                "",
                "services",
                json!({"metadata": meta, "spec": {"type": "NodePort", "clusterIPs": ["10.96.3.4"],
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"b": "2", "a": "1"}}}),
            ),
            (
                "apps",
                "deployments",
                json!({"metadata": meta, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}},
                "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}}, "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
            ),
            (
                "",
                "nodes",
                json!({"metadata": {"name": "n", "creationTimestamp": "2026-11-11T10:00:00Z", "labels": {"node-role.kubernetes.io/control-plane": ""}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
            ),
            (
                "",
                "events",
                json!({"metadata": meta, "type": "Normal", "reason": "Pulled", "message": " done\n", "lastTimestamp": "2026-11-21T09:59:00Z",
                "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"}, "source": {"component": "kubelet", "host": "n"}}),
            ),
            ("", "secrets", json!({"metadata": meta, "type": "Opaque", "data": {"a": "YQ=="}})),
            (
                "rbac.authorization.k8s.io",
                "rolebindings",
                json!({"metadata": meta, "roleRef": {"kind": "Role", "name": "r"},
                "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "d", "name": "s"}]}),
            ),
            (
                "discovery.k8s.io",
                "endpointslices",
                json!({"metadata": meta, "addressType": "IPv4", "ports": [{"port": 80}],
                "endpoints": [{"addresses": ["1"]}, {"addresses": ["2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]}),
            ),
            (
                "",
                "endpoints",
                json!({"metadata": meta, "subsets": [{"addresses": [{"ip": "1.1.1.1"}], "ports": [{"port": 80}]}]}),
            ),
            ("apiextensions.k8s.io", "customresourcedefinitions", json!({"metadata": meta})),
        ];
        let lines: Vec<String> = objects
            .iter()
            .map(|(group, plural, object)| row(registry.find(group, "v1", plural).unwrap(), object))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_custom_kind_prints_its_own_columns() {
        let mut r = Registry::builtin().find("", "v1", "configmaps").unwrap().as_ref().clone();
        r.builtin = false;
        let object = json!({"metadata": {"name": "w", "creationTimestamp": "2026-11-21T09:00:00Z"},
            "status": {"phase": "Running", "n": 3, "list": [1, 2], "at": "2026-11-21T09:30:00Z"}});
        assert_eq!(row(&r, &object), "Name=\"w\"  Age=\"60m\"");
        let column = |name: &str, kind: &str, path: &str| PrinterColumn {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: String::new(),
            description: String::new(),
            priority: 0,
            json_path: path.to_owned(),
        };
        r.columns = vec![
            column("Status", "string", ".status.phase"),
            column("N", "integer", ".status.n"),
            column("List", "string", ".status.list"),
            column("At", "date", ".status.at"),
            column("None", "string", ".status.nothing"),
        ];
        assert_eq!(row(&r, &object), "Name=\"w\"  Status=\"Running\"  N=3  List=\"[1,2]\"  At=\"30m\"  None=null");
    }
}
