//! One stored object: its bytes as they are served, and the few facts that selectors and the garbage collector need. A
//! parsed form is never kept.

use crate::kinds::Resource;
use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A uid as a number: cheap to keep and to compare. Text that is no UUID is hashed, so that it equals only itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Uid(u128);

impl Uid {
    /// The number of a uid's text.
    pub(crate) fn of(text: &str) -> Self {
        if let Ok(uuid) = uuid::Uuid::parse_str(text) {
            return Self(uuid.as_u128());
        }
        let hash = Sha256::digest(text.as_bytes());
        let mut number = [0; 16];
        number.copy_from_slice(&hash[..16]);
        Self(u128::from_be_bytes(number))
    }
}

/// Pairs of names and values, as labels are.
pub(crate) type Pairs = Box<[(Box<str>, Box<str>)]>;

/// What is known of an object without parsing it.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) uid: Uid,
    pub(crate) labels: Pairs,
    /// The selectable fields of the kind, and the text of each that is set.
    pub(crate) selectable: Arc<[String]>,
    pub(crate) fields: Box<[Option<Box<str>>]>,
    pub(crate) owners: Box<[Uid]>,
    /// `metadata.deletionTimestamp` is set.
    pub(crate) deleting: bool,
    /// One of the garbage collector's finalizers is there.
    pub(crate) collected: bool,
}

impl Meta {
    /// The facts of a parsed object of a kind with these selectable fields.
    pub(crate) fn of(value: &Value, selectable: &Arc<[String]>) -> Self {
        let meta = &value["metadata"];
        let text = |key: &str| meta[key].as_str().unwrap_or_default();
        let labels = meta["labels"].as_object().map(|labels| {
            labels.iter().filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into()))).collect::<Pairs>()
        });
        let fields = selectable.iter().map(|path| field_text(value, path));
        let owners = meta["ownerReferences"]
            .as_array()
            .map(|owners| owners.iter().filter_map(|o| o["uid"].as_str()).map(Uid::of).collect::<Box<[Uid]>>());
        let collected = meta["finalizers"]
            .as_array()
            .is_some_and(|list| list.iter().filter_map(Value::as_str).any(is_of_the_collector));
        Self {
            namespace: text("namespace").into(),
            name: text("name").into(),
            uid: Uid::of(text("uid")),
            labels: labels.unwrap_or_default(),
            selectable: selectable.clone(),
            fields: fields.collect(),
            owners: owners.unwrap_or_default(),
            deleting: meta["deletionTimestamp"].is_string(),
            collected,
        }
    }

    /// The key in its table.
    pub(crate) fn key(&self) -> String {
        key_of(&self.namespace, &self.name)
    }

    /// A label's value.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| k.as_ref() == key).map(|(_, v)| v.as_ref())
    }

    /// A selectable field's text; empty where it is not set, as Kubernetes reads it.
    pub(crate) fn field(&self, path: &str) -> &str {
        match path {
            "metadata.name" => &self.name,
            "metadata.namespace" => &self.namespace,
            _ => {
                let at = self.selectable.iter().position(|known| known == path);
                at.and_then(|at| self.fields[at].as_deref()).unwrap_or_default()
            }
        }
    }
}

/// Whether a finalizer is one of the garbage collector's.
pub(super) fn is_of_the_collector(finalizer: &str) -> bool {
    finalizer == "foregroundDeletion" || finalizer == "orphan"
}

/// The key of an object: `namespace/name`, in cluster scope `/name`. Ordered as Kubernetes' storage orders keys.
pub(crate) fn key_of(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn field_text(value: &Value, path: &str) -> Option<Box<str>> {
    let mut at = value;
    for part in path.split('.') {
        at = at.get(part)?;
    }
    // `source` of an Event is a struct; what can be selected is its component.
    match at {
        Value::String(s) => Some(s.as_str().into()),
        Value::Object(map) => map.get("component").and_then(Value::as_str).map(Into::into),
        Value::Bool(b) => Some(b.to_string().into()),
        Value::Number(n) => Some(n.to_string().into()),
        _ => None,
    }
}

/// A committed object.
#[derive(Debug)]
pub(crate) struct Obj {
    pub(crate) meta: Arc<Meta>,
    /// As served, in the storage version.
    pub(crate) bytes: Bytes,
    /// Where the digits of the resourceVersion start in `bytes`.
    pub(crate) at: usize,
    pub(crate) rv: u64,
    /// Its row in the database.
    pub(crate) row: i64,
}

impl Obj {
    /// The object parsed.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("invariant: stored bytes are JSON that we wrote")
    }

    /// The same object with another version, as the event of its deletion carries it.
    pub(crate) fn restamped(&self, rv: u64) -> Self {
        let end = self.at + digits(self.rv);
        let bytes = splice(&self.bytes[..self.at], rv, &self.bytes[end..]);
        Self { meta: self.meta.clone(), bytes, at: self.at, rv, row: self.row }
    }
}

/// An object ready to be committed: everything but its number.
#[derive(Debug)]
pub(crate) struct Draft {
    meta: Arc<Meta>,
    bytes: Vec<u8>,
    at: usize,
}

impl Draft {
    /// Serialises an object, leaving a hole where the resourceVersion goes. The hole makes numbering at commit a copy.
    pub(crate) fn of(value: &Value, selectable: &Arc<[String]>) -> Self {
        let mut bytes = Vec::with_capacity(512);
        let mut at = 0;
        let empty = Map::new();
        bytes.push(b'{');
        let object = value.as_object().unwrap_or(&empty);
        for (index, (key, part)) in object.iter().enumerate() {
            if index > 0 {
                bytes.push(b',');
            }
            write_json(&mut bytes, key);
            bytes.push(b':');
            if key == "metadata" {
                at = write_metadata(&mut bytes, part.as_object().unwrap_or(&empty));
            } else {
                write_json(&mut bytes, part);
            }
        }
        bytes.push(b'}');
        Self { meta: Arc::new(Meta::of(value, selectable)), bytes, at }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The object with its number.
    pub(crate) fn stamped(&self, rv: u64, row: i64) -> Arc<Obj> {
        let bytes = splice(&self.bytes[..self.at], rv, &self.bytes[self.at..]);
        Arc::new(Obj { meta: self.meta.clone(), bytes, at: self.at, rv, row })
    }
}

fn splice(head: &[u8], rv: u64, tail: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(head.len() + tail.len() + 20);
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(rv.to_string().as_bytes());
    bytes.extend_from_slice(tail);
    Bytes::from(bytes)
}

pub(crate) fn digits(rv: u64) -> usize {
    rv.checked_ilog10().unwrap_or(0) as usize + 1
}

fn write_json<T: serde::Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(bytes, value).expect("invariant: JSON values serialise into memory");
}

/// Writes metadata with `resourceVersion` in its alphabetical place; returns where its digits go.
fn write_metadata(bytes: &mut Vec<u8>, meta: &Map<String, Value>) -> usize {
    const FIELD: &str = "resourceVersion";
    let mut at = None;
    let mut first = true;
    bytes.push(b'{');
    let mut hole = |bytes: &mut Vec<u8>, first: &mut bool| {
        if !std::mem::take(first) {
            bytes.push(b',');
        }
        bytes.extend_from_slice(b"\"resourceVersion\":\"");
        at = Some(bytes.len());
        bytes.push(b'"');
    };
    let mut done = false;
    for (key, part) in meta {
        if key == FIELD {
            continue;
        }
        if !done && key.as_str() > FIELD {
            hole(bytes, &mut first);
            done = true;
        }
        if !std::mem::take(&mut first) {
            bytes.push(b',');
        }
        write_json(bytes, key);
        bytes.push(b':');
        write_json(bytes, part);
    }
    if !done {
        hole(bytes, &mut first);
    }
    bytes.push(b'}');
    at.expect("invariant: one hole is written")
}

impl Resource {
    /// An object of this kind, ready to be committed.
    pub(crate) fn draft(&self, value: &Value) -> Draft {
        Draft::of(value, &self.selectable)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_number_is_written_into_its_hole() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "uid": "u", "resourceVersion": "7"},
            "spec": {"nodeName": "n"}});
        let draft = Draft::of(&value, &["spec.nodeName".to_owned()].into());
        let obj = draft.stamped(42, 1);
        assert_eq!(obj.value()["metadata"]["resourceVersion"], "42");
        assert_eq!(obj.meta.field("spec.nodeName"), "n");
        let last = obj.restamped(1000);
        assert_eq!(last.value()["metadata"]["resourceVersion"], "1000");
        assert_eq!(last.value()["spec"]["nodeName"], "n");
    }

    #[test]
    fn metadata_may_be_empty_or_end_before_the_hole() {
        for meta in [json!({}), json!({"name": "a"}), json!({"uid": "a"})] {
            let obj = Draft::of(&json!({"metadata": meta}), &Arc::default()).stamped(5, 1);
            assert_eq!(obj.value()["metadata"]["resourceVersion"], "5");
        }
    }
}
