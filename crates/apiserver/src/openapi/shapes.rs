//! The shapes of built-in kinds: which fields there are, of which types, and how lists merge. Read once from a
//! committed file into something small. Pure: objects in, findings out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::OnceLock;

const ASSET: &[u8] = include_bytes!("shapes.json.gz");

/// Something about an object that its kind does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A field that the kind has not: `spec.foo`.
    Unknown(String),
    /// A field of the wrong type, in the words of Go's JSON decoder.
    Type(String),
}

/// How a field merges in a strategic merge patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatchRule {
    /// The key that tells the items of a list apart; `None` for maps, sets and lists that are replaced.
    pub key: Option<&'static str>,
    /// Whether a list merges at all.
    pub merge: bool,
    /// Whether the patch says which fields of the struct stay.
    pub retain_keys: bool,
}

#[derive(Debug)]
enum Type {
    /// Anything.
    Any,
    Text,
    Bytes,
    Integer(&'static str),
    Number,
    Bool,
    IntOrText,
    Quantity,
    List(Box<Type>),
    Map(Box<Type>),
    Ref(String),
}

#[derive(Debug)]
struct Field {
    of: Type,
    rule: PatchRule,
}

#[derive(Debug, Default)]
struct Shapes {
    /// Structs by schema name. Names without fields are absent and mean anything.
    structs: HashMap<String, BTreeMap<String, Field>>,
    /// What is a scalar behind a reference.
    scalars: HashMap<String, Type>,
    /// `v1/Pod` → schema name.
    kinds: HashMap<String, String>,
}

fn shapes() -> &'static Shapes {
    static SHAPES: OnceLock<Shapes> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let mut text = Vec::new();
        GzDecoder::new(ASSET).read_to_end(&mut text).expect("invariant: the committed asset is a gzip file");
        let all: BTreeMap<String, Value> =
            serde_json::from_slice(&text).expect("invariant: the committed asset is a JSON object");
        let mut shapes = Shapes::default();
        for (name, schema) in all {
            for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let part = |k: &str| kind[k].as_str().unwrap_or_default();
                let version = crate::kinds::api_version(part("group"), part("version"));
                // Options and the like are listed under every group; the first, its own, is enough.
                shapes.kinds.entry(format!("{version}/{}", part("kind"))).or_insert_with(|| name.clone());
            }
            match schema["properties"].as_object() {
                Some(fields) => {
                    let fields = fields.iter().map(|(k, v)| (k.clone(), field(v))).collect();
                    shapes.structs.insert(name, fields);
                }
                None => {
                    shapes.scalars.insert(name, type_of(&schema));
                }
            }
        }
        shapes
    })
}

fn field(schema: &Value) -> Field {
    let strategy = schema["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
    let rule = PatchRule {
        key: schema["x-kubernetes-patch-merge-key"].as_str().map(intern),
        merge: strategy.split(',').any(|s| s == "merge"),
        retain_keys: strategy.split(',').any(|s| s == "retainKeys"),
    };
    Field { of: type_of(schema), rule }
}

/// Merge keys are a handful of words that live as long as the program.
fn intern(text: &str) -> &'static str {
    for known in ["name", "containerPort", "port", "type", "ip", "mountPath", "devicePath", "topologyKey", "uid", "key"]
    {
        if known == text {
            return known;
        }
    }
    Box::leak(text.to_owned().into_boxed_str())
}

fn type_of(schema: &Value) -> Type {
    let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
    if let Some(reference) = reference {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return match name.rsplit('.').next().unwrap_or_default() {
            "IntOrString" => Type::IntOrText,
            "Quantity" => Type::Quantity,
            "RawExtension" | "FieldsV1" | "JSON" => Type::Any,
            "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => Type::Any,
            _ => Type::Ref(name.to_owned()),
        };
    }
    match (schema["type"].as_str().unwrap_or_default(), schema["format"].as_str().unwrap_or_default()) {
        ("string", "byte") => Type::Bytes,
        ("string", _) => Type::Text,
        ("integer", "int64") => Type::Integer("int64"),
        ("integer", _) => Type::Integer("int32"),
        ("number", _) => Type::Number,
        ("boolean", _) => Type::Bool,
        ("array", _) => Type::List(Box::new(type_of(&schema["items"]))),
        ("object", _) if schema["additionalProperties"].is_object() => {
            Type::Map(Box::new(type_of(&schema["additionalProperties"])))
        }
        (_, "int-or-string") => Type::IntOrText,
        _ => Type::Any,
    }
}

/// What an object has that its kind has not, or otherwise than its kind has it. Kinds that are not built in find
/// nothing. `old` is a form of the object that was checked already: its top-level parts are not walked again.
#[must_use]
pub fn check(api_version: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<Finding> {
    let shapes = shapes();
    let Some(name) = shapes.kinds.get(&format!("{api_version}/{kind}")) else { return Vec::new() };
    let mut walk = Walk { shapes, old, found: Vec::new() };
    walk.structure(name, object, &Place::Top);
    walk.found
}

/// Takes away what the kind does not have, as decoding into a struct does.
pub fn prune(api_version: &str, kind: &str, object: &mut Value) {
    let shapes = shapes();
    if let Some(name) = shapes.kinds.get(&format!("{api_version}/{kind}")) {
        prune_struct(shapes, name, object);
    }
}

fn prune_struct(shapes: &Shapes, name: &str, object: &mut Value) {
    let (Some(fields), Some(map)) = (shapes.structs.get(name), object.as_object_mut()) else { return };
    map.retain(|key, _| fields.contains_key(key));
    for (key, value) in map.iter_mut() {
        if let Some(field) = fields.get(key) {
            prune_type(shapes, &field.of, value);
        }
    }
}

fn prune_type(shapes: &Shapes, of: &Type, value: &mut Value) {
    match (of, value) {
        (Type::Ref(name), value) => prune_struct(shapes, name, value),
        (Type::List(item), Value::Array(list)) => list.iter_mut().for_each(|v| prune_type(shapes, item, v)),
        (Type::Map(item), Value::Object(map)) => map.values_mut().for_each(|v| prune_type(shapes, item, v)),
        _ => {}
    }
}

struct Walk<'a> {
    shapes: &'a Shapes,
    old: Option<&'a Value>,
    found: Vec<Finding>,
}

/// Where a walk is. It becomes text only for a finding: most objects have none, and every write is walked.
#[derive(Clone, Copy)]
enum Place<'a> {
    Top,
    Field(&'a Place<'a>, &'a str),
    /// The key of a map's entry.
    Key(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl Place<'_> {
    /// With indexes and keys, as unknown fields are named.
    fn full(&self) -> String {
        match self {
            Self::Top => String::new(),
            Self::Field(around, name) | Self::Key(around, name) => join(&around.full(), name),
            Self::Index(around, index) => format!("{}[{index}]", around.full()),
        }
    }

    /// Without them, as Go names fields of a wrong type.
    fn plain(&self) -> String {
        match self {
            Self::Top => String::new(),
            Self::Field(around, name) => join(&around.plain(), name),
            Self::Key(around, _) | Self::Index(around, _) => around.plain(),
        }
    }
}

impl Walk<'_> {
    fn structure(&mut self, name: &str, value: &Value, place: &Place<'_>) {
        let Some(fields) = self.shapes.structs.get(name) else { return };
        let Some(map) = value.as_object() else { return };
        let owner = name.rsplit('.').next().unwrap_or_default();
        let old = self.old.filter(|_| matches!(place, Place::Top));
        for (key, value) in map {
            if old.and_then(|old| old.get(key)) == Some(value) {
                continue;
            }
            let place = Place::Field(place, key);
            match fields.get(key) {
                None => self.found.push(Finding::Unknown(place.full())),
                Some(field) => self.value(&field.of, value, owner, &place),
            }
        }
    }

    fn value(&mut self, of: &Type, value: &Value, owner: &str, place: &Place<'_>) {
        let of = match of {
            Type::Ref(name) => self.shapes.scalars.get(name).unwrap_or(of),
            other => other,
        };
        match (of, value) {
            (_, Value::Null) | (Type::Any, _) => {}
            (Type::Ref(name), Value::Object(_)) => self.structure(name, value, place),
            (Type::List(item), Value::Array(list)) => {
                for (i, value) in list.iter().enumerate() {
                    self.value(item, value, owner, &Place::Index(place, i));
                }
            }
            (Type::Map(item), Value::Object(map)) => {
                for (key, value) in map {
                    self.value(item, value, owner, &Place::Key(place, key));
                }
            }
            (Type::Bytes, Value::String(text)) => {
                if STANDARD.decode(text.as_bytes()).is_err() {
                    self.found.push(Finding::Type(format!("illegal base64 data at input byte {}", bad_byte(text))));
                }
            }
            (Type::Text, Value::String(_)) | (Type::Bool, Value::Bool(_)) | (Type::Number, Value::Number(_)) => {}
            (Type::IntOrText | Type::Quantity, Value::String(_) | Value::Number(_)) => {}
            (Type::Integer(_), Value::Number(n)) if n.is_i64() || n.is_u64() => {}
            (of, value) => {
                let given = match value {
                    Value::String(_) => "string".to_owned(),
                    Value::Bool(_) => "bool".to_owned(),
                    Value::Array(_) => "array".to_owned(),
                    Value::Object(_) => "object".to_owned(),
                    Value::Number(n) if matches!(of, Type::Integer(_)) => format!("number {n}"),
                    Value::Number(_) => "number".to_owned(),
                    Value::Null => return,
                };
                let (want, plain) = (go_type(of), place.plain());
                self.found.push(Finding::Type(format!(
                    "json: cannot unmarshal {given} into Go struct field {owner}.{plain} of type {want}"
                )));
            }
        }
    }
}

fn bad_byte(text: &str) -> usize {
    text.bytes().position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))).unwrap_or(text.len())
}

fn go_type(of: &Type) -> String {
    match of {
        Type::Any => "interface {}".to_owned(),
        Type::Text => "string".to_owned(),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Integer(name) => (*name).to_owned(),
        Type::Number => "float64".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::IntOrText => "intstr.IntOrString".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        Type::List(item) => format!("[]{}", go_type(item)),
        Type::Map(item) => format!("map[string]{}", go_type(item)),
        Type::Ref(name) => {
            let mut parts = name.rsplit('.');
            let (kind, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{version}.{kind}")
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// How the field at a path merges. The path is the names of fields from the object down, without indexes; the names of
/// map entries count. `None`: the kind has no such field.
#[must_use]
pub fn patch_rule(api_version: &str, kind: &str, path: &[&str]) -> Option<PatchRule> {
    let shapes = shapes();
    let mut name = shapes.kinds.get(&format!("{api_version}/{kind}"))?;
    let mut rule = PatchRule::default();
    let mut parts = path.iter();
    while let Some(part) = parts.next() {
        let field = shapes.structs.get(name)?.get(*part)?;
        rule = field.rule;
        let mut of = &field.of;
        loop {
            of = match of {
                Type::List(item) => item,
                Type::Map(item) => {
                    if parts.next().is_none() {
                        return Some(rule);
                    }
                    rule = PatchRule::default();
                    item
                }
                Type::Ref(next) => {
                    name = next;
                    break;
                }
                _ => return parts.next().is_none().then_some(rule),
            };
        }
    }
    Some(rule)
}

/// The merge key of the list at a path, if it is merged by one.
#[must_use]
pub fn merge_key(api_version: &str, kind: &str, path: &[&str]) -> Option<&'static str> {
    let rule = patch_rule(api_version, kind, path)?;
    if rule.merge { rule.key } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kinds::Registry;
    use serde_json::json;

    #[test]
    fn every_served_kind_has_a_shape() {
        for r in Registry::builtin().iter() {
            let key = format!("{}/{}", r.api_version(), r.kind);
            assert!(shapes().kinds.contains_key(&key), "{key}");
        }
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_told_as_kubernetes_tells_them() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "foo": 1, "labels": {"any": "thing"}},
            "spec": {"replicas": "abc", "template": {"spec": {"containers": [{"name": "a", "imag": "x", "ports": [{"containerPort": 1.5}]}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]}}, "strategy": {"rollingUpdate": {"maxSurge": 1}}},
        });
        let found = check("apps/v1", "Deployment", &object, None);
        let want = [
            Finding::Unknown("metadata.foo".to_owned()),
            Finding::Type("json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32".to_owned()),
            Finding::Unknown("spec.template.spec.containers[0].imag".to_owned()),
            Finding::Type("json: cannot unmarshal number 1.5 into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32".to_owned()),
        ];
        for finding in &want {
            assert!(found.contains(finding), "{finding:?} in {found:?}");
        }
        assert_eq!(found.len(), want.len());
        assert_eq!(
            check("v1", "Secret", &json!({"data": {"a": "%%"}}), None),
            [Finding::Type("illegal base64 data at input byte 0".to_owned())]
        );
        // What was checked before is not looked at again; what differs is.
        let old = json!({"metadata": object["metadata"], "spec": {}});
        assert_eq!(check("apps/v1", "Deployment", &object, Some(&old)), found[1..]);
        assert!(check("apps/v1", "Deployment", &object, Some(&object)).is_empty());
        let mut pruned = object;
        prune("apps/v1", "Deployment", &mut pruned);
        assert!(pruned["metadata"].get("foo").is_none());
        assert!(pruned["metadata"]["labels"].get("any").is_some());
    }

    #[test]
    fn merge_keys_come_from_the_schema() {
        let pod = |path: &[&str]| merge_key("v1", "Pod", path);
        assert_eq!(pod(&["spec", "containers"]), Some("name"));
        assert_eq!(pod(&["spec", "containers", "ports"]), Some("containerPort"));
        assert_eq!(pod(&["spec", "containers", "command"]), None);
        assert_eq!(pod(&["spec", "tolerations"]), None);
        assert_eq!(pod(&["metadata", "labels", "a"]), None);
        assert_eq!(merge_key("v1", "Service", &["spec", "ports"]), Some("port"));
        let strategy = patch_rule("apps/v1", "Deployment", &["spec", "strategy"]).unwrap();
        assert!(strategy.retain_keys && !strategy.merge);
        assert!(patch_rule("v1", "Pod", &["metadata", "finalizers"]).unwrap().merge);
        assert_eq!(patch_rule("v1", "Pod", &["spec", "nothing"]), None);
    }
}
