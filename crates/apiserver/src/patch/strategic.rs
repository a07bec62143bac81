//! Strategic merge patch: lists merge by key, and the patch's directives (`$patch`, `$retainKeys`,
//! `$setElementOrder/…`, `$deleteFromPrimitiveList/…`) are obeyed. Knows lists' keys from `keys`, nothing else of
//! kinds.

use super::keys::{self, Merge};
use crate::answer::ApiError;
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_PLAIN: &str = "$deleteFromPrimitiveList/";

/// Merges a patch into an object of a built-in kind.
pub(crate) fn merge(document: &mut Value, patch: &Value, _group: &str, kind: &str) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else { return Err(fault("a patch must be a JSON object")) };
    let mut map = document.as_object().cloned().unwrap_or_default();
    merge_map(&mut map, patch, kind, true)?;
    *document = Value::Object(map);
    Ok(())
}

fn fault(why: &str) -> ApiError {
    ApiError::bad_request(format!("invalid strategic merge patch: {why}"))
}

fn merge_map(map: &mut Map<String, Value>, patch: &Map<String, Value>, kind: &str, root: bool) -> Result<(), ApiError> {
    match patch.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            map.clear();
            for (key, value) in patch.iter().filter(|(k, _)| *k != DIRECTIVE) {
                map.insert(key.clone(), value.clone());
            }
            return Ok(());
        }
        Some("delete") => {
            map.clear();
            return Ok(());
        }
        Some(other) => return Err(fault(&format!("unknown patch directive {other:?}"))),
    }
    if let Some(retained) = patch.get(RETAIN) {
        let retained = retained.as_array().ok_or_else(|| fault("$retainKeys must be a list"))?;
        if let Some(key) = patch.keys().find(|k| !k.starts_with('$') && !retained.iter().any(|r| r == k.as_str())) {
            return Err(fault(&format!("{key} is in the patch but not in $retainKeys")));
        }
        map.retain(|key, _| retained.iter().any(|r| r == key));
    }
    for (key, gone) in patch {
        let Some(field) = key.strip_prefix(DELETE_PLAIN) else { continue };
        let gone = gone.as_array().ok_or_else(|| fault("$deleteFromPrimitiveList must be a list"))?;
        if let Some(list) = map.get_mut(field).and_then(Value::as_array_mut) {
            list.retain(|v| !gone.contains(v));
        }
    }
    for (key, value) in patch.iter().filter(|(k, _)| !k.starts_with('$')) {
        if value.is_null() {
            map.remove(key);
            continue;
        }
        let how = keys::of(kind, key, root);
        let order = patch.get(&format!("{ORDER}{key}"));
        match (value, how) {
            (Value::Object(part), _) => {
                let of = match how {
                    Some(Merge::Struct(of) | Merge::Union(of)) => of,
                    _ => "",
                };
                let mut inner = match map.get(key) {
                    Some(Value::Object(inner)) => inner.clone(),
                    _ => Map::new(),
                };
                merge_map(&mut inner, part, of, false)?;
                map.insert(key.clone(), Value::Object(inner));
            }
            (Value::Array(part), Some(Merge::List { of, key: merge_key, .. })) => {
                let old = take_list(map, key);
                map.insert(key.clone(), Value::Array(merge_list(old, part, of, merge_key, order)?));
            }
            (Value::Array(part), Some(Merge::Set)) => {
                let mut list = take_list(map, key);
                let before = list.clone();
                for item in part {
                    if !list.contains(item) {
                        list.push(item.clone());
                    }
                }
                let list = match order.and_then(Value::as_array) {
                    Some(order) => ordered(list, &before, order, |a, b| a == b),
                    None => list,
                };
                map.insert(key.clone(), Value::Array(list));
            }
            _ => {
                map.insert(key.clone(), value.clone());
            }
        }
    }
    // An order may come without items: the list is only sorted.
    for (key, order) in patch {
        let Some(field) = key.strip_prefix(ORDER) else { continue };
        if patch.contains_key(field) {
            continue;
        }
        let Some(order) = order.as_array() else { return Err(fault("$setElementOrder must be a list")) };
        let list = take_list(map, field);
        if list.is_empty() {
            continue;
        }
        let sorted = match keys::of(kind, field, root) {
            Some(Merge::List { key: merge_key, .. }) => {
                let before = list.clone();
                ordered(list, &before, order, |a, b| a.get(merge_key) == b.get(merge_key))
            }
            _ => {
                let before = list.clone();
                ordered(list, &before, order, |a, b| a == b)
            }
        };
        map.insert(field.to_owned(), Value::Array(sorted));
    }
    Ok(())
}

fn take_list(map: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    match map.get_mut(key) {
        Some(Value::Array(list)) => std::mem::take(list),
        _ => Vec::new(),
    }
}

fn merge_list(
    old: Vec<Value>,
    patch: &[Value],
    of: &str,
    merge_key: &str,
    order: Option<&Value>,
) -> Result<Vec<Value>, ApiError> {
    let replace = patch.iter().any(|item| item[DIRECTIVE] == "replace");
    let before = old.clone();
    let mut list = if replace { Vec::new() } else { old };
    for item in patch {
        let Value::Object(item) = item else {
            return Err(fault(&format!("items of a list with merge key {merge_key} must be objects")));
        };
        let directive = item.get(DIRECTIVE).and_then(Value::as_str);
        if directive == Some("replace") {
            // Alone it only says so; with fields it is an item of the new list.
            if item.len() > 1 {
                let mut item = item.clone();
                item.remove(DIRECTIVE);
                list.push(Value::Object(item));
            }
            continue;
        }
        let Some(id) = item.get(merge_key) else {
            return Err(fault(&format!(
                "map: {} does not contain declared merge key: {merge_key}",
                Value::Object(item.clone())
            )));
        };
        let at = list.iter().position(|existing| existing.get(merge_key) == Some(id));
        if directive == Some("delete") {
            list.retain(|existing| existing.get(merge_key) != Some(id));
            continue;
        }
        match at {
            Some(at) => {
                let mut inner = list[at].as_object().cloned().unwrap_or_default();
                merge_map(&mut inner, item, of, false)?;
                list[at] = Value::Object(inner);
            }
            None => {
                let mut inner = Map::new();
                merge_map(&mut inner, item, of, false)?;
                list.push(Value::Object(inner));
            }
        }
    }
    let Some(order) = order else { return Ok(list) };
    let order = order.as_array().ok_or_else(|| fault("$setElementOrder must be a list"))?;
    Ok(ordered(list, &before, order, |a, b| a.get(merge_key) == b.get(merge_key)))
}

/// Sorts as the patch's order says; items that it does not name keep their place relative to those that were there
/// before.
fn ordered(list: Vec<Value>, before: &[Value], order: &[Value], same: impl Fn(&Value, &Value) -> bool) -> Vec<Value> {
    let place = |item: &Value, among: &[Value]| among.iter().position(|o| same(o, item));
    let (mut named, unnamed): (Vec<Value>, Vec<Value>) =
        list.into_iter().partition(|item| place(item, order).is_some());
    named.sort_by_key(|item| place(item, order));
    let (mut named, mut unnamed) = (named.into_iter().peekable(), unnamed.into_iter().peekable());
    let mut merged = Vec::new();
    loop {
        match (unnamed.peek(), named.peek()) {
            (Some(left), Some(right)) => {
                let first = match (place(left, before), place(right, before)) {
                    (Some(l), Some(r)) => l < r,
                    _ => false,
                };
                merged.extend(if first { unnamed.next() } else { named.next() });
            }
            (Some(_), None) => merged.extend(unnamed.next()),
            (None, Some(_)) => merged.extend(named.next()),
            (None, None) => return merged,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: Value) -> Value {
        json!({"spec": {"containers": containers}})
    }

    fn patched(document: Value, patch: Value) -> Value {
        let mut it = document;
        merge(&mut it, &patch, "", "Pod").unwrap();
        it
    }

    #[test]
    fn lists_merge_by_key() {
        let old = pod(json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]));
        let patch = pod(
            json!([{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b", "$patch": "delete"}, {"name": "c"}]),
        );
        assert_eq!(
            patched(old, patch),
            pod(json!([
                {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}, {"name": "c"}
            ]))
        );
    }

    #[test]
    fn order_is_set_around_items_that_the_patch_does_not_know() {
        let old = pod(json!([{"name": "sidecar"}, {"name": "a"}, {"name": "b"}]));
        let mut patch = pod(json!([{"name": "b", "image": "2"}]));
        patch["spec"]["$setElementOrder/containers"] = json!([{"name": "b"}, {"name": "a"}]);
        assert_eq!(patched(old, patch), pod(json!([{"name": "sidecar"}, {"name": "b", "image": "2"}, {"name": "a"}])));
    }

    #[test]
    fn plain_lists_and_retained_keys() {
        let old = json!({"metadata": {"finalizers": ["a/a", "b/b"]}, "spec": {"strategy": 1}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/a"], "finalizers": ["c/c"],
            "$setElementOrder/finalizers": ["c/c", "b/b"]}});
        assert_eq!(patched(old, patch)["metadata"]["finalizers"], json!(["c/c", "b/b"]));
        let mut deployment = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        merge(&mut deployment, &patch, "apps", "Deployment").unwrap();
        assert_eq!(deployment, json!({"spec": {"strategy": {"type": "Recreate"}}}));
    }

    #[test]
    fn replace_and_delete_directives() {
        let old = pod(json!([{"name": "a"}, {"name": "b"}]));
        let patch = pod(json!([{"$patch": "replace"}, {"name": "c"}]));
        assert_eq!(patched(old.clone(), patch), pod(json!([{"name": "c"}])));
        assert_eq!(patched(old, json!({"spec": {"$patch": "replace", "x": 1}})), json!({"spec": {"x": 1}}));
        let bad = json!({"spec": {"containers": [{"image": "x"}]}});
        assert!(merge(&mut pod(json!([])), &bad, "", "Pod").unwrap_err().message.contains("merge key: name"));
    }
}
