//! Strategic merge of JSON values, as Kubernetes does it for the fields a workflow has. Pure; knows no schema beyond
//! merge keys.

use serde_json::Value;

/// Lists that are merged by a key: field name to key.
const MERGE_KEYS: &[(&str, &str)] = &[
    ("parameters", "name"),
    ("artifacts", "name"),
    ("containers", "name"),
    ("initContainers", "name"),
    ("sidecars", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("templates", "name"),
    ("volumeClaimTemplates", "name"),
];

/// Merges a patch into a value: maps deeply, known lists by their key, everything else replaced; `null` deletes.
pub(crate) fn strategic(target: &mut Value, patch: &Value) {
    let (Value::Object(target), Value::Object(patch)) = (&mut *target, patch) else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        *target = patch.iter().filter(|(k, _)| *k != "$patch").map(|(k, v)| (k.clone(), v.clone())).collect();
        return;
    }
    for (key, value) in patch {
        match (target.get_mut(key), value) {
            (_, Value::Null) => {
                target.remove(key);
            }
            (Some(Value::Array(have)), Value::Array(more)) => match MERGE_KEYS.iter().find(|(field, _)| field == key) {
                Some((_, merge_key)) => merge_lists(have, more, merge_key),
                None => *have = more.clone(),
            },
            (Some(have @ Value::Object(_)), Value::Object(_)) => strategic(have, value),
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

fn merge_lists(have: &mut Vec<Value>, more: &[Value], key: &str) {
    for item in more {
        if item.get("$patch").and_then(Value::as_str) == Some("delete") {
            have.retain(|h| h.get(key) != item.get(key));
            continue;
        }
        let same = item.get(key).and_then(|k| have.iter().position(|h| h.get(key) == Some(k)));
        match same {
            Some(at) => strategic(&mut have[at], item),
            None => have.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_deeply_and_lists_by_key() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "env": [{"name": "x", "value": "1"}], "args": ["a"]});
        let patch =
            json!({"a": {"b": null, "d": 3}, "env": [{"name": "x", "value": "2"}, {"name": "y"}], "args": ["b"]});
        strategic(&mut value, &patch);
        assert_eq!(
            value,
            json!({"a": {"c": 2, "d": 3}, "env": [{"name": "x", "value": "2"}, {"name": "y"}], "args": ["b"]})
        );
    }
}
