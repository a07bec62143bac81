//! Versions and faces of one stored object: the bytes in a table are in one version; other versions and
//! `events.k8s.io` are made on the way out and undone on the way in. Knows no store.

use crate::kinds::Resource;
use crate::store::Obj;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// core/v1 name, `events.k8s.io/v1` name.
const EVENT_NAMES: [(&str, &str); 7] = [
    ("message", "note"),
    ("involvedObject", "regarding"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Whether the table's bytes are already what this resource serves.
fn is_stored_form(r: &Resource) -> bool {
    r.api_version() == r.storage_api_version
}

/// A stored object as this resource serves it.
pub(crate) fn served(r: &Resource, obj: &Obj) -> Bytes {
    if is_stored_form(r) {
        return obj.bytes.clone();
    }
    Bytes::from(served_value(r, obj).to_string())
}

/// A stored object as this resource serves it, parsed.
pub(crate) fn served_value(r: &Resource, obj: &Obj) -> Value {
    let mut value = obj.value();
    if !is_stored_form(r) {
        value["apiVersion"] = json!(r.api_version());
        if r.is("events.k8s.io", "events") {
            rename(&mut value, |(core, new)| (core, new));
        }
    }
    value
}

/// An object as it goes into the table.
pub(crate) fn to_storage(r: &Resource, value: &mut Value) {
    value["kind"] = json!(r.kind);
    value["apiVersion"] = json!(r.storage_api_version);
    if r.is("events.k8s.io", "events") {
        rename(value, |(core, new)| (new, core));
    }
}

fn rename(value: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(map) = value.as_object_mut() else { return };
    let mut renamed = Map::new();
    for pair in EVENT_NAMES {
        let (from, to) = direction(pair);
        if let Some(part) = map.remove(from) {
            renamed.insert(to.to_owned(), part);
        }
    }
    map.extend(renamed);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn events_have_two_faces() {
        let registry = crate::Registry::builtin();
        let new = registry.find("events.k8s.io", "v1", "events").unwrap();
        let sent = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "hello",
            "regarding": {"kind": "Pod"}, "reportingController": "c", "reason": "R"});
        let mut stored = sent.clone();
        to_storage(new, &mut stored);
        assert_eq!(stored["message"], "hello");
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!(stored["involvedObject"]["kind"], "Pod");
        let obj = new.draft(&stored).stamped(3, 1);
        let mut back = served_value(new, &obj);
        back["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        assert_eq!(back, sent);
    }
}
