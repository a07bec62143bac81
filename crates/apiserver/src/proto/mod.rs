//! Protobuf request bodies, which `kubectl create` and client-go send for built-in kinds: an envelope with the kind,
//! and the object in the published message types. Turns them into the JSON that a JSON client would have sent. Answers
//! are always JSON, so nothing here encodes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use jiff::Timestamp;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, MessageDescriptor, ReflectMessage, Value as Proto};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::Read;
use std::sync::OnceLock;

/// The content type of these bodies.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
const DESCRIPTORS: &[u8] = include_bytes!("descriptors.binpb.gz");
const FIELDS: &str = include_str!("fields.txt");
const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1";

/// A body that is not what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// No `k8s\0` at the front.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    /// A kind that has no message type here.
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Kind {
        /// `apiVersion` of the envelope.
        version: String,
        /// `kind` of the envelope.
        kind: String,
    },
    /// Broken bytes.
    #[error("the protobuf message cannot be read: {0}")]
    Broken(String),
}

struct Types {
    pool: DescriptorPool,
    /// Message → fields that are kept when zero; the flag says pointer.
    keep: HashMap<&'static str, HashMap<&'static str, bool>>,
}

fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| {
        let mut bytes = Vec::new();
        GzDecoder::new(DESCRIPTORS).read_to_end(&mut bytes).expect("invariant: the committed asset is a gzip file");
        let pool =
            DescriptorPool::decode(bytes.as_slice()).expect("invariant: the committed asset is a descriptor set");
        let lines = FIELDS.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once(": "));
        let keep = lines
            .map(|(message, fields)| {
                let fields = fields.split(' ').map(|f| match f.strip_suffix('!') {
                    Some(name) => (name, false),
                    None => (f, true),
                });
                (message, fields.collect())
            })
            .collect();
        Types { pool, keep }
    })
}

/// The JSON object of a protobuf body.
pub fn decode(body: &[u8]) -> Result<Value, ProtoError> {
    let body = body.strip_prefix(MAGIC).ok_or(ProtoError::Magic)?;
    let broken = |e: prost_reflect::prost::DecodeError| ProtoError::Broken(e.to_string());
    let pool = &types().pool;
    let unknown = pool
        .get_message_by_name("k8s.io.apimachinery.pkg.runtime.Unknown")
        .expect("invariant: the committed descriptors hold the envelope");
    let envelope = DynamicMessage::decode(unknown, body).map_err(broken)?;
    let type_meta = envelope.get_field_by_name("typeMeta");
    let of_meta = |name: &str| {
        let message = type_meta.as_deref().and_then(Proto::as_message)?;
        Some(message.get_field_by_name(name)?.as_str()?.to_owned())
    };
    let (version, kind) = (of_meta("apiVersion").unwrap_or_default(), of_meta("kind").unwrap_or_default());
    let raw = envelope.get_field_by_name("raw");
    let raw = raw.as_deref().and_then(Proto::as_bytes).cloned().unwrap_or_default();
    let message =
        message_of(&version, &kind).ok_or_else(|| ProtoError::Kind { version: version.clone(), kind: kind.clone() })?;
    let message = DynamicMessage::decode(message, raw).map_err(broken)?;
    let mut object = match json_of(&message) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    object.insert("apiVersion".to_owned(), Value::String(version));
    object.insert("kind".to_owned(), Value::String(kind));
    Ok(Value::Object(object))
}

fn message_of(api_version: &str, kind: &str) -> Option<MessageDescriptor> {
    let pool = &types().pool;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = match group {
        "" => format!("k8s.io.api.core.{version}"),
        "apiextensions.k8s.io" => format!("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.{version}"),
        "meta.k8s.io" => META.to_owned(),
        _ => format!("k8s.io.api.{}.{version}", group.split('.').next().unwrap_or_default()),
    };
    // Options kinds travel under the group of their resource but live beside the other metadata.
    pool.get_message_by_name(&format!("{package}.{kind}"))
        .or_else(|| kind.ends_with("Options").then(|| pool.get_message_by_name(&format!("{META}.{kind}"))).flatten())
}

/// Messages whose fields belong to their owner.
fn inlined(message: &str, field: &str) -> bool {
    match field {
        "volumeSource" => message == "k8s.io.api.core.v1.Volume",
        "handler" => message == "k8s.io.api.core.v1.Probe",
        "ephemeralContainerCommon" | "persistentVolumeSource" => true,
        "localObjectReference" => matches!(
            message.strip_prefix("k8s.io.api.core.v1."),
            Some(
                "SecretProjection"
                    | "ConfigMapProjection"
                    | "ConfigMapVolumeSource"
                    | "ConfigMapKeySelector"
                    | "SecretKeySelector"
                    | "ConfigMapEnvSource"
                    | "SecretEnvSource"
            )
        ),
        _ => false,
    }
}

/// The JSON name where it is not the protobuf name.
fn json_name<'a>(message: &str, field: &'a str) -> &'a str {
    if !message.ends_with("JSONSchemaProps") {
        return if field == "uID" { "uid" } else { field };
    }
    match field {
        "schema" => "$schema",
        "ref" => "$ref",
        "xKubernetesPreserveUnknownFields" => "x-kubernetes-preserve-unknown-fields",
        "xKubernetesEmbeddedResource" => "x-kubernetes-embedded-resource",
        "xKubernetesIntOrString" => "x-kubernetes-int-or-string",
        "xKubernetesListMapKeys" => "x-kubernetes-list-map-keys",
        "xKubernetesListType" => "x-kubernetes-list-type",
        "xKubernetesMapType" => "x-kubernetes-map-type",
        "xKubernetesValidations" => "x-kubernetes-validations",
        other => other,
    }
}

/// A message as JSON; `None` stands for Go's nil and zero times.
fn json_of(message: &DynamicMessage) -> Option<Value> {
    let descriptor = message.descriptor();
    let name = descriptor.full_name();
    let number = |field: &str| message.get_field_by_name(field).and_then(|v| v.as_i64().or(v.as_i32().map(i64::from)));
    let text = |field: &str| message.get_field_by_name(field).and_then(|v| v.as_str().map(str::to_owned));
    let raw = |field: &str| {
        let bytes = message.get_field_by_name(field)?.as_bytes().cloned()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    match name.rsplit('.').next().unwrap_or_default() {
        "Time" | "Timestamp" if name.starts_with(META) => time(number("seconds")?, number("nanos"), false),
        "MicroTime" if name.starts_with(META) => time(number("seconds")?, number("nanos"), true),
        "Quantity" => Some(Value::String(text("string").unwrap_or_default())),
        "IntOrString" => Some(match number("type") {
            Some(1) => Value::String(text("strVal").unwrap_or_default()),
            _ => json!(number("intVal").unwrap_or_default()),
        }),
        "FieldsV1" => raw("Raw"),
        "RawExtension" | "JSON" => raw("raw"),
        "ExtraValue" | "Verbs" => value_of(&*message.get_field_by_name("items")?),
        "JSONSchemaPropsOrBool" => match message.get_field_by_name("schema")? {
            schema if message.has_field_by_name("schema") => value_of(&schema),
            _ => Some(Value::Bool(message.get_field_by_name("allows")?.as_bool().unwrap_or_default())),
        },
        "JSONSchemaPropsOrArray" if message.has_field_by_name("schema") => {
            value_of(&*message.get_field_by_name("schema")?)
        }
        "JSONSchemaPropsOrArray" => value_of(&*message.get_field_by_name("jSONSchemas")?),
        "JSONSchemaPropsOrStringArray" if message.has_field_by_name("schema") => {
            value_of(&*message.get_field_by_name("schema")?)
        }
        "JSONSchemaPropsOrStringArray" => value_of(&*message.get_field_by_name("property")?),
        _ => Some(Value::Object(fields_of(message, name))),
    }
}

fn fields_of(message: &DynamicMessage, name: &str) -> Map<String, Value> {
    let keep = types().keep.get(name);
    let mut out = Map::new();
    for (field, proto) in message.fields() {
        let Some(value) = value_of(proto) else { continue };
        if inlined(name, field.name()) {
            if let Value::Object(inner) = value {
                out.extend(inner);
            }
            continue;
        }
        let kept = keep.and_then(|k| k.get(field.name())).copied();
        let nothing = match &value {
            Value::String(s) => s.is_empty() && kept.is_none(),
            Value::Bool(b) => !b && kept.is_none(),
            Value::Number(n) => n.as_f64() == Some(0.0) && kept.is_none(),
            // Go writes `{}` for every struct that is not a pointer; a user's JSON does not.
            Value::Object(map) => map.is_empty() && kept != Some(true) && !field.is_map(),
            _ => false,
        };
        // A quantity or an int-or-string is a struct in Go and always written.
        let is_struct = proto.as_message().is_some();
        if nothing && !(is_struct && !value.is_object() && kept.is_some()) {
            continue;
        }
        out.insert(json_name(name, field.name()).to_owned(), value);
    }
    out
}

fn value_of(value: &Proto) -> Option<Value> {
    Some(match value {
        Proto::Bool(v) => json!(v),
        Proto::I32(v) => json!(v),
        Proto::I64(v) => json!(v),
        Proto::U32(v) => json!(v),
        Proto::U64(v) => json!(v),
        Proto::F32(v) => json!(v),
        Proto::F64(v) => json!(v),
        Proto::String(v) => json!(v),
        Proto::Bytes(v) => json!(STANDARD.encode(v)),
        Proto::EnumNumber(v) => json!(v),
        Proto::Message(v) => return json_of(v),
        Proto::List(list) => Value::Array(list.iter().filter_map(value_of).collect()),
        Proto::Map(map) => {
            let entries = map.iter().map(|(k, v)| {
                let key = match k {
                    MapKey::String(s) => s.clone(),
                    other => format!("{other:?}"),
                };
                (key, value_of(v).unwrap_or(Value::Null))
            });
            Value::Object(entries.collect())
        }
    })
}

fn time(seconds: i64, nanos: Option<i64>, micro: bool) -> Option<Value> {
    let nanos = i32::try_from(nanos.unwrap_or_default()).ok()?;
    let at = Timestamp::new(seconds, nanos).ok()?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Some(Value::String(at.strftime(format).to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kinds::Registry;
    use prost_reflect::prost::Message;
    use std::collections::HashSet;

    fn encoded(api_version: &str, kind: &str, object: DynamicMessage) -> Vec<u8> {
        let pool = &types().pool;
        let mut meta =
            DynamicMessage::new(pool.get_message_by_name("k8s.io.apimachinery.pkg.runtime.TypeMeta").unwrap());
        meta.set_field_by_name("apiVersion", Proto::String(api_version.to_owned()));
        meta.set_field_by_name("kind", Proto::String(kind.to_owned()));
        let mut unknown =
            DynamicMessage::new(pool.get_message_by_name("k8s.io.apimachinery.pkg.runtime.Unknown").unwrap());
        unknown.set_field_by_name("typeMeta", Proto::Message(meta));
        unknown.set_field_by_name("raw", Proto::Bytes(object.encode_to_vec().into()));
        [MAGIC.to_vec(), unknown.encode_to_vec()].concat()
    }

    /// A message in protobuf's own JSON; field names are the same.
    fn message(api_version: &str, kind: &str, json: &str) -> DynamicMessage {
        let mut reader = serde_json::Deserializer::from_str(json);
        DynamicMessage::deserialize(message_of(api_version, kind).unwrap(), &mut reader).unwrap()
    }

    #[test]
    fn every_built_in_kind_has_a_message() {
        for r in Registry::builtin().iter() {
            assert!(message_of(&r.api_version(), &r.kind).is_some(), "{} {}", r.api_version(), r.kind);
        }
        for (group, version, kind, ..) in crate::discovery::ASKED {
            assert!(message_of(&format!("{group}/{version}"), kind).is_some(), "{group} {kind}");
        }
        assert!(message_of("apps/v1", "DeleteOptions").is_some());
        let served = |m: &&str| m.starts_with("k8s.io.api.core.v1.") || m.starts_with("k8s.io.api.apps.v1.");
        let all: HashSet<&str> = types().keep.keys().copied().filter(served).collect();
        let unknown: Vec<_> = all.iter().filter(|m| types().pool.get_message_by_name(m).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn what_go_sends_reads_like_json() {
        let sent = r#"{
            "metadata": {"name": "d", "generateName": "", "generation": 0, "creationTimestamp": {"seconds": 0}, "labels": {"a": ""}},
            "spec": {"replicas": 0, "paused": false, "strategy": {"type": ""}, "minReadySeconds": 0, "template": {"metadata": {}, "spec": {
                "hostNetwork": false, "restartPolicy": "", "automountServiceAccountToken": false, "securityContext": {},
                "containers": [{"name": "c", "image": "", "tty": false,
                    "ports": [{"name": "", "containerPort": 80, "hostPort": 0}],
                    "resources": {"limits": {"cpu": {"string": "500m"}}},
                    "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"localObjectReference": {"name": "s"}, "key": "k", "optional": false}}}],
                    "readinessProbe": {"handler": {"httpGet": {"path": "/", "port": {"type": "1", "strVal": "http"}}}, "periodSeconds": 0}}],
                "volumes": [{"name": "v", "volumeSource": {"emptyDir": {}}}]
            }}}
        }"#;
        let body = encoded("apps/v1", "Deployment", message("apps/v1", "Deployment", sent));
        let read = decode(&body).unwrap();
        let want = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "creationTimestamp": "1970-01-01T00:00:00Z", "labels": {"a": ""}},
            "spec": {"replicas": 0, "template": {"spec": {
                "automountServiceAccountToken": false, "securityContext": {},
                "containers": [{"name": "c", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "500m"}},
                    "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }}},
        });
        assert_eq!(read, want, "{read:#}");
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        assert_eq!(decode(b"{}"), Err(ProtoError::Magic));
        let strange = encoded("v1", "Nothing", message("v1", "ConfigMap", "{}"));
        assert_eq!(decode(&strange), Err(ProtoError::Kind { version: "v1".to_owned(), kind: "Nothing".to_owned() }));
        assert!(matches!(decode(b"k8s\0\xff\xff"), Err(ProtoError::Broken(_))));
    }
}
