//! `metadata`: what the server fills in, keeps, and refuses. The same for every kind; reads no store.

use crate::answer::{ApiError, FieldError};
use crate::kinds::Resource;
use crate::names;
use serde_json::{Map, Value, json};

/// Annotations may have this many bytes together.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// Fields of metadata that only the server writes.
const SYSTEM: [&str; 6] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];

/// Now, as Kubernetes writes times: whole seconds.
pub(crate) fn now_text() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// The metadata of an object, made if it is not there.
pub(crate) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("invariant: just made an object")
}

/// A random suffix as `generateName` adds it.
pub(crate) fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

/// The name that `generateName` gives this time.
pub(crate) fn generated(base: &str) -> String {
    const BASE_MAX: usize = 63 - 5;
    let end = base.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|&end| end <= BASE_MAX).last();
    format!("{}{}", &base[..end.unwrap_or(0)], random_suffix())
}

/// Fills in what the server decides at creation.
pub(crate) fn begin(object: &mut Value, r: &Resource) {
    let meta = of(object);
    for key in SYSTEM {
        meta.remove(key);
    }
    meta.insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    meta.insert("creationTimestamp".to_owned(), json!(now_text()));
    meta.remove("resourceVersion");
    if r.generation {
        meta.insert("generation".to_owned(), json!(1));
    }
    tidy(meta);
}

/// Carries over what only the server writes, from the object before.
pub(crate) fn keep(object: &mut Value, old: &Value) {
    let meta = of(object);
    for key in SYSTEM.into_iter().chain(["name", "namespace", "resourceVersion", "generateName"]) {
        // A generateName that was not there may not come; one that is there stays.
        match old["metadata"].get(key) {
            Some(value) => meta.insert(key.to_owned(), value.clone()),
            None => meta.remove(key),
        };
    }
    tidy(meta);
}

/// Takes away what says nothing: nulls and empty maps and lists, as decoding into a struct does.
fn tidy(meta: &mut Map<String, Value>) {
    meta.retain(|_, v| match v {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
}

/// Refuses metadata that would not decode.
pub(crate) fn check_types(object: &Value, r: &Resource) -> Result<(), ApiError> {
    let fail = |what: String| {
        let version = r.api_version();
        Err(ApiError::bad_request(format!(
            "{} in version {version:?} cannot be handled as a {}: {what}",
            r.kind, r.kind
        )))
    };
    let meta = &object["metadata"];
    if !meta.is_null() && !meta.is_object() {
        return fail("json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta".to_owned());
    }
    for key in ["labels", "annotations"] {
        let kind = |v: &Value| match v {
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Array(_) => "array",
            _ => "object",
        };
        match &meta[key] {
            Value::Null => {}
            Value::Object(map) => {
                if let Some((_, wrong)) = map.iter().find(|(_, v)| !v.is_string() && !v.is_null()) {
                    return fail(format!(
                        "json: cannot unmarshal {} into Go struct field ObjectMeta.metadata.{key} of type string",
                        kind(wrong)
                    ));
                }
            }
            wrong => {
                return fail(format!(
                    "json: cannot unmarshal {} into Go struct field ObjectMeta.metadata.{key} of type map[string]string",
                    kind(wrong)
                ));
            }
        }
    }
    for key in ["name", "namespace", "generateName", "resourceVersion", "uid"] {
        if !meta[key].is_null() && !meta[key].is_string() {
            return fail(format!(
                "json: cannot unmarshal into Go struct field ObjectMeta.metadata.{key} of type string"
            ));
        }
    }
    for (key, ok) in
        [("finalizers", meta["finalizers"].is_array()), ("ownerReferences", meta["ownerReferences"].is_array())]
    {
        if !ok && !meta[key].is_null() {
            return fail(format!(
                "json: cannot unmarshal into Go struct field ObjectMeta.metadata.{key} of type array"
            ));
        }
    }
    Ok(())
}

fn name_fault(r: &Resource, name: &str) -> Option<String> {
    if r.builtin {
        match (r.group.as_str(), r.plural.as_str()) {
            ("", "namespaces") => return names::dns_label(name),
            ("", "services") => return names::dns_label_1035(name),
            ("rbac.authorization.k8s.io", _) => return names::path_segment(name),
            _ => {}
        }
    }
    names::dns_subdomain(name)
}

/// The faults of an object's metadata.
pub(crate) fn validate(object: &Value, r: &Resource) -> Vec<FieldError> {
    let meta = &object["metadata"];
    let mut faults = Vec::new();
    let name = meta["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        faults.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if let Some(why) = name_fault(r, name) {
        if let Some(base) = meta["generateName"].as_str()
            && name_fault(r, &format!("{base}a")).is_some()
        {
            faults.push(FieldError::invalid("metadata.generateName", &json!(base), &why));
        }
        faults.push(FieldError::invalid("metadata.name", &json!(name), &why));
    }
    for (key, value) in meta["labels"].as_object().into_iter().flatten() {
        if let Some(why) = names::qualified_name(key) {
            faults.push(FieldError::invalid("metadata.labels", &json!(key), &why));
        }
        let value = value.as_str().unwrap_or_default();
        if let Some(why) = names::label_value(value) {
            faults.push(FieldError::invalid("metadata.labels", &json!(value), &why));
        }
    }
    let mut size = 0;
    for (key, value) in meta["annotations"].as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if let Some(why) = names::qualified_name(&key.to_lowercase()) {
            faults.push(FieldError::invalid("metadata.annotations", &json!(key), &why));
        }
    }
    if size > ANNOTATIONS_BYTES_MAX {
        faults.push(FieldError {
            reason: "FieldValueTooLong",
            field: "metadata.annotations".to_owned(),
            message: format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes"),
        });
    }
    for finalizer in meta["finalizers"].as_array().into_iter().flatten() {
        if let Some(why) = names::qualified_name(finalizer.as_str().unwrap_or_default()) {
            faults.push(FieldError::invalid("metadata.finalizers", finalizer, &why));
        }
    }
    validate_owners(meta, &mut faults);
    faults
}

fn validate_owners(meta: &Value, faults: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for (index, owner) in meta["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner[key].as_str().is_none_or(str::is_empty) {
                let field = format!("metadata.ownerReferences[{index}].{key}");
                faults.push(FieldError::invalid(
                    field,
                    &json!(""),
                    if key == "apiVersion" { "version must not be empty" } else { "must not be empty" },
                ));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        faults.push(FieldError::invalid(
            "metadata.ownerReferences",
            &meta["ownerReferences"],
            "Only one reference can have Controller set to true",
        ));
    }
}

/// The faults of a change of metadata.
pub(crate) fn validate_change(object: &Value, old: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if old["metadata"]["deletionTimestamp"].is_string() {
        let before = old["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let now = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let new: Vec<String> = now.iter().filter(|f| !before.contains(f)).map(ToString::to_string).collect();
        if !new.is_empty() {
            faults.push(FieldError::forbidden(
                "metadata.finalizers",
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    new.join(", ")
                ),
            ));
        }
    }
    faults
}

/// The object's finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned)).collect()
}

/// Adds or takes away a finalizer.
pub(crate) fn set_finalizer(object: &mut Value, name: &str, wanted: bool) {
    let mut list = finalizers(object);
    list.retain(|f| f != name);
    if wanted {
        list.push(name.to_owned());
    }
    let meta = of(object);
    if list.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), json!(list));
    }
}
