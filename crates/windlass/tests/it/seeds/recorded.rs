//! The node tables of the real Argo, `conformance/seeds/tables`: what a workflow of ours ended with must be what Argo made
//! of the same manifest, field by field, but for the differences that are listed there with their reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use windlass_engine::node_id;

/// What is kept of a node; see the file itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    keep: Vec<String>,
    drop: Vec<String>,
}

/// One difference that is as it should be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    tables: Vec<String>,
    /// The node, or `*` for all that have it.
    node: String,
    field: String,
    /// What Argo has; absent where it has nothing.
    argo: Option<Value>,
    windlass: Option<Value>,
    /// Read by people.
    why: String,
}

/// Fields by their path, of every node by its name.
type Table = BTreeMap<String, BTreeMap<String, Value>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/seeds/tables")
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Asserts that `workflow` is as Argo's recording `name` has it. The commits that it built are `COMMIT`.
#[track_caller]
pub(crate) fn assert_as_recorded(name: &str, workflow: &Value, commits: &[&str]) {
    let recorded: Value = read(&format!("{name}.yaml"));
    let theirs: Table = recorded["nodes"].as_object().unwrap().iter().map(|(n, v)| (n.clone(), flat(v))).collect();
    let ours = normal(workflow, commits);
    assert_eq!(
        (&workflow["status"]["phase"], &workflow["status"]["message"]),
        (&recorded["phase"], &recorded["message"])
    );
    // The same name gives the same ids, byte for byte; `normal` looks at the others.
    let same_name = recorded["workflow"] == workflow["metadata"]["name"];
    let allowed: Vec<Allowed> = read("differences.yaml");
    assert!(allowed.iter().all(|a| !a.why.is_empty()));
    let allowed: Vec<Allowed> = allowed.into_iter().filter(|a| a.tables.iter().any(|t| t == name)).collect();
    let mut used = BTreeSet::new();
    let (mut compared, mut wrong) = (0, String::new());
    let empty = BTreeMap::new();
    let nodes: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    for node in nodes {
        let (argo, windlass) = (theirs.get(node).unwrap_or(&empty), ours.get(node).unwrap_or(&empty));
        let fields: BTreeSet<&String> = argo.keys().chain(windlass.keys()).collect();
        for field in fields.into_iter().filter(|f| *f != "id" || same_name) {
            compared += 1;
            let (argo, windlass) = (argo.get(field), windlass.get(field));
            if argo == windlass {
                continue;
            }
            let listed = allowed.iter().position(|a| {
                (a.node == *node || a.node == "*")
                    && a.field == *field
                    && (a.argo.as_ref(), a.windlass.as_ref()) == (argo, windlass)
            });
            match listed {
                Some(at) => drop(used.insert(at)),
                None => writeln!(wrong, "{node} {field}: argo {argo:?}, windlass {windlass:?}").unwrap(),
            }
        }
    }
    for (at, unused) in allowed.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        writeln!(wrong, "differences.yaml, {at}: {} {} does not differ any more", unused.node, unused.field).unwrap();
    }
    println!("{name}: {compared} fields of {} nodes are Argo's, {} listed differences", ours.len(), used.len());
    assert!(wrong.is_empty(), "{name} is not as Argo made it:\n{wrong}");
}

/// Our own status in the form of `rules.yaml`.
fn normal(workflow: &Value, commits: &[&str]) -> Table {
    let rules: Rules = read("rules.yaml");
    let name = workflow["metadata"]["name"].as_str().unwrap();
    let nodes = workflow["status"]["nodes"].as_object().unwrap();
    let named = |id: &str| nodes[id]["name"].as_str().unwrap().to_owned();
    let text = |value: &str| {
        let mut text = value.to_owned();
        for commit in commits {
            text = if text == commit[..7] { "SHORT".to_owned() } else { text.replace(commit, "COMMIT") };
        }
        for id in nodes.keys().filter(|id| *id != name) {
            let number = id.strip_prefix(&format!("{name}-")).unwrap();
            text = text.replace(number, &format!("<{}>", named(id)));
        }
        text.replace(name, "@")
    };
    let mut table = Table::new();
    for (id, node) in nodes {
        let full = node["name"].as_str().unwrap();
        assert_eq!(*id, node_id(name, full), "the id of {full}");
        assert_eq!(node["id"], **id);
        let mut kept = serde_json::Map::new();
        for (key, value) in node.as_object().unwrap().iter().filter(|(key, _)| *key != "id") {
            let is = |list: &[String]| list.iter().any(|known| known == key);
            assert!(is(&rules.keep) || is(&rules.drop), "{full} has {key}: neither kept nor dropped in rules.yaml");
            if !is(&rules.keep) {
                continue;
            }
            let value = match key.as_str() {
                "children" | "outboundNodes" => {
                    value.as_array().unwrap().iter().map(|id| named(id.as_str().unwrap())).collect()
                }
                "boundaryID" => Value::String(named(value.as_str().unwrap())),
                _ => value.clone(),
            };
            kept.insert(key.clone(), mapped(&value, &text));
        }
        let mut fields = flat(&Value::Object(kept));
        fields.insert("id".to_owned(), Value::String(id.clone()));
        table.insert(full.replace(name, "@"), fields);
    }
    table
}

/// The value with every text in it changed.
fn mapped(value: &Value, text: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(s) => Value::String(text(s)),
        Value::Array(list) => list.iter().map(|v| mapped(v, text)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), mapped(v, text))).collect(),
        other => other.clone(),
    }
}

/// `inputs.parameters[tag].value`: a list's entries stand by their names where they have any, and their order is a
/// field of its own.
fn flat(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
        let beneath = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() => map.iter().for_each(|(k, v)| walk(&beneath(k), v, out)),
            Value::Array(list) if !list.is_empty() && list.iter().all(|v| v["name"].is_string()) => {
                let names: Vec<&str> = list.iter().map(|v| v["name"].as_str().unwrap()).collect();
                out.insert(format!("{path}[]"), Value::String(names.join(" ")));
                list.iter().zip(names).for_each(|(v, name)| walk(&format!("{path}[{name}]"), v, out));
            }
            other => drop(out.insert(path.to_owned(), other.clone())),
        }
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    out
}

#[test]
fn a_difference_is_found() {
    // The comparison itself: what is not listed fails, and so does a list that is out of date.
    let recorded: Value = read("003-kaniko.yaml");
    let name = recorded["workflow"].as_str().unwrap();
    let mut node = recorded["nodes"]["@"].clone();
    let back = |value: &str| value.replace('@', name).replace("COMMIT", "0123456789");
    node = mapped(&node, &back);
    node["name"] = name.into();
    let ssh = "git@github.com:airbnb/k8s-webhook-handler.git";
    node["inputs"]["artifacts"][0]["git"]["repo"] = ssh.into();
    let workflow = |node: &Value| serde_json::json!({"metadata": {"name": name}, "status": {"phase": "Succeeded", "nodes": {name: node}}});
    assert_as_recorded("003-kaniko", &workflow(&node), &["0123456789"]);
    for (pointer, value) in [("/phase", "Failed"), ("/outputs/exitCode", "1"), ("/inputs/artifacts/0/git/repo", "x")] {
        let mut other = node.clone();
        *other.pointer_mut(pointer).unwrap() = value.into();
        let found = std::panic::catch_unwind(|| assert_as_recorded("003-kaniko", &workflow(&other), &["0123456789"]));
        assert!(found.is_err(), "{pointer} may be {value}");
    }
}
