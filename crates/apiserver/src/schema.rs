//! Structural schemas of custom kinds: unknown fields pruned, defaults filled in, values checked. Knows no store and
//! no built-in kind.

use crate::answer::FieldError;
use serde_json::{Map, Value, json};

fn keeps_unknown(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Takes away fields that the schema does not know, and tells their paths. The root's `apiVersion`, `kind` and
/// `metadata` are known to every kind.
pub(crate) fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut gone = Vec::new();
    prune_at(schema, object, "", true, &mut gone);
    gone
}

fn prune_at(schema: &Value, value: &mut Value, path: &str, root: bool, gone: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let properties = schema["properties"].as_object();
            let additional = &schema["additionalProperties"];
            let keep_all = keeps_unknown(schema) || additional == true;
            let embedded = root || schema["x-kubernetes-embedded-resource"] == true;
            let mut unknown = Vec::new();
            for (key, inner) in map.iter_mut() {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if embedded && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                if let Some(known) = properties.and_then(|p| p.get(key)) {
                    prune_at(known, inner, &at, false, gone);
                } else if additional.is_object() {
                    prune_at(additional, inner, &at, false, gone);
                } else if !keep_all {
                    unknown.push((key.clone(), at));
                }
            }
            for (key, at) in unknown {
                map.remove(&key);
                gone.push(at);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter_mut().enumerate() {
                prune_at(&schema["items"], inner, &format!("{path}[{index}]"), false, gone);
            }
        }
        _ => {}
    }
}

/// Fills in the schema's defaults where a value is missing (or null and not nullable).
pub(crate) fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, known) in schema["properties"].as_object().into_iter().flatten() {
                let missing = map.get(key).is_none_or(|v| v.is_null() && known["nullable"] != true);
                if let Some(filling) = known.get("default").filter(|_| missing) {
                    map.insert(key.clone(), filling.clone());
                }
                if let Some(inner) = map.get_mut(key) {
                    default(known, inner);
                }
            }
            let additional = &schema["additionalProperties"];
            if additional.is_object() {
                for inner in map.values_mut() {
                    default(additional, inner);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| default(&schema["items"], inner)),
        _ => {}
    }
}

/// The faults of an object under its schema.
pub(crate) fn validate(schema: &Value, object: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    validate_at(schema, object, "", true, &mut faults);
    faults
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn validate_at(schema: &Value, value: &Value, path: &str, root: bool, faults: &mut Vec<FieldError>) {
    if value.is_null() && (schema["nullable"] == true || root) {
        return;
    }
    let wanted = schema["type"].as_str().unwrap_or_default();
    let found = kind_of(value);
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let agrees = match wanted {
        "" => !int_or_string || matches!(found, "integer" | "string"),
        "number" => matches!(found, "integer" | "number"),
        "integer" => found == "integer" || value.as_f64().is_some_and(|f| f.fract() == 0.0),
        other => other == found,
    };
    if !agrees {
        let wanted = if int_or_string { "integer,string" } else { wanted };
        let shown = json!(found);
        let message = format!("Invalid value: {shown}: {path} in body must be of type {wanted}: {shown}");
        faults.push(FieldError { reason: "FieldValueTypeInvalid", field: path.to_owned(), message });
        return;
    }
    let mut refuse = |detail: String| {
        faults.push(FieldError::invalid(path, value, &format!("{path} in body {detail}")));
    };
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let list: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
        faults.push(FieldError { reason: "FieldValueNotSupported", field: path.to_owned(), message });
        return;
    }
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if let Some(least) = schema["minimum"].as_f64()
                && (number < least || (schema["exclusiveMinimum"] == true && number <= least))
            {
                refuse(format!("should be greater than or equal to {}", schema["minimum"]));
            }
            if let Some(most) = schema["maximum"].as_f64()
                && (number > most || (schema["exclusiveMaximum"] == true && number >= most))
            {
                refuse(format!("should be less than or equal to {}", schema["maximum"]));
            }
        }
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(least) = schema["minLength"].as_u64().filter(|&n| length < n) {
                refuse(format!("should be at least {least} chars long"));
            }
            if let Some(most) = schema["maxLength"].as_u64().filter(|&n| length > n) {
                refuse(format!("should be at most {most} chars long"));
            }
            if let Some(pattern) = schema["pattern"].as_str()
                && regex::Regex::new(pattern).is_ok_and(|p| !p.is_match(text))
            {
                refuse(format!("should match '{pattern}'"));
            }
        }
        Value::Array(list) => {
            if let Some(least) = schema["minItems"].as_u64().filter(|&n| (list.len() as u64) < n) {
                refuse(format!("should have at least {least} items"));
            }
            if let Some(most) = schema["maxItems"].as_u64().filter(|&n| list.len() as u64 > n) {
                refuse(format!("should have at most {most} items"));
            }
            if schema["items"].is_object() {
                for (index, inner) in list.iter().enumerate() {
                    validate_at(&schema["items"], inner, &format!("{path}[{index}]"), false, faults);
                }
            }
        }
        Value::Object(map) => validate_map(schema, map, path, root, faults),
        _ => {}
    }
}

fn validate_map(schema: &Value, map: &Map<String, Value>, path: &str, root: bool, faults: &mut Vec<FieldError>) {
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(key) {
            faults.push(FieldError::required(join(path, key), ""));
        }
    }
    for (key, value) in map {
        if root && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(known) = schema["properties"].get(key) {
            validate_at(known, value, &join(path, key), false, faults);
        } else if schema["additionalProperties"].is_object() {
            validate_at(&schema["additionalProperties"], value, &join(path, key), false, faults);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "port": {"x-kubernetes-int-or-string": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}}}
        }}}})
    }

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let mut object = json!({"kind": "K", "metadata": {"name": "x"}, "other": 1, "spec": {"size": 1, "zip": 2,
            "free": {"a": 1}, "map": {"k": {"x": "1", "y": 2}}, "list": [{"n": "1", "m": 2}]}});
        let mut gone = prune(&schema(), &mut object);
        gone.sort();
        assert_eq!(gone, ["other", "spec.list[0].m", "spec.map.k.y", "spec.zip"]);
        default(&schema(), &mut object);
        assert_eq!(object["spec"]["mode"], "a");
        assert_eq!(object["spec"]["free"]["a"], 1);
        assert!(validate(&schema(), &object).is_empty());
    }

    #[test]
    fn faults_read_as_in_kubernetes() {
        let object = json!({"spec": {"mode": "c", "port": true, "list": [{"n": 1}]}});
        let lines: Vec<String> =
            validate(&schema(), &object).iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
        assert_eq!(
            lines,
            [
                "spec.size: Required value",
                "spec.list[0].n: Invalid value: \"integer\": spec.list[0].n in body must be of type string: \"integer\"",
                "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\"",
                "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            ]
        );
    }
}
