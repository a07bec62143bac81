//! Rule: every field is known and of the right type. Walks the document against the model's schemas, all faults at once.

use std::sync::LazyLock;

use serde_json::Value;
use windlass_lang::Severity;
use windlass_lang::yaml::{Document, child};
use windlass_model::crds::schema_for;
use windlass_model::{ARGO_API_VERSION, WorkflowSpec};

use super::object::Object;
use super::pod_types::{self, Shape};
use super::report::Report;
use super::{KINDS, is_ours};

static SCHEMAS: LazyLock<Vec<(&'static str, Value)>> =
    LazyLock::new(|| KINDS.iter().filter_map(|kind| Some((*kind, schema_for(kind)?))).collect());

/// Checks one document; gives the object when its types are good enough to look further.
pub(super) fn check<'d>(document: &'d Document, report: &mut Report<'_>) -> Option<Object<'d>> {
    if !is_ours(document) {
        return None;
    }
    let kind = document.value.get("kind").and_then(Value::as_str)?;
    let kind = *KINDS.iter().find(|k| **k == kind)?;
    if document.value.get("apiVersion").and_then(Value::as_str) != Some(ARGO_API_VERSION) {
        report.error("argo::unknown-version", "/apiVersion", format!("{kind} is served as {ARGO_API_VERSION} only"));
    }
    let (_, schema) = SCHEMAS.iter().find(|(k, _)| *k == kind)?;
    let mut walker = Walker { root: schema, report, wrong: Vec::new() };
    walker.node(schema, "", &document.value, "");
    if let Some(metadata) = document.value.get("metadata") {
        walker.shape(&Shape::Struct("ObjectMeta"), metadata, "/metadata");
    }
    let wrong = walker.wrong;
    let base = match kind {
        "CronWorkflow" => "/spec/workflowSpec",
        "WorkflowEventBinding" => return Some(Object::new(document, kind, "/spec", None)),
        _ => "/spec",
    };
    let raw = document.value.pointer(base).cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let raw = if raw.is_null() { Value::Object(serde_json::Map::new()) } else { raw };
    let spec = match serde_json::from_value::<WorkflowSpec>(raw.clone()) {
        Ok(spec) => Some(spec),
        Err(error) if wrong.is_empty() => {
            report.error("argo::wrong-type", base, format!("this {kind} cannot be read: {error}"));
            None
        }
        // Without what is wrong the rest can still be looked at.
        Err(_) => serde_json::from_value(without(raw, base, &wrong)).ok(),
    };
    Some(Object::new(document, kind, base, spec))
}

/// The value without the fields that hold these places. Lists keep their lengths, so that places stay right.
fn without(mut value: Value, base: &str, wrong: &[String]) -> Value {
    for pointer in wrong {
        let Some(mut at) = pointer.strip_prefix(base) else { continue };
        while let Some((parent, key)) = at.rsplit_once('/') {
            if let Some(Value::Object(map)) = value.pointer_mut(parent) {
                map.remove(&key.replace("~1", "/").replace("~0", "~"));
                break;
            }
            at = parent;
        }
    }
    value
}

struct Walker<'s, 'r, 'd> {
    root: &'s Value,
    report: &'r mut Report<'d>,
    /// Places of wrong types.
    wrong: Vec<String>,
}

impl<'s> Walker<'s, '_, '_> {
    /// Follows `$ref` and the one side of `anyOf` that is not `null`; tells the definition's name.
    fn resolve(&self, schema: &'s Value, name: &'s str) -> (&'s Value, &'s str) {
        let (mut schema, mut name) = (schema, name);
        loop {
            if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
                name = target.rsplit('/').next().unwrap_or(name);
                match self.root.pointer(target.trim_start_matches('#')) {
                    Some(next) => schema = next,
                    None => return (schema, name),
                }
                continue;
            }
            let sides = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
            let side = sides.and_then(|sides| {
                let real: Vec<_> =
                    sides.iter().filter(|s| s.get("type").and_then(Value::as_str) != Some("null")).collect();
                if real.len() == 1 { real.first().copied() } else { None }
            });
            match side {
                Some(side) => schema = side,
                None => return (schema, name),
            }
        }
    }

    fn node(&mut self, schema: &'s Value, name: &'s str, value: &Value, pointer: &str) {
        let (schema, name) = self.resolve(schema, name);
        // Go's decoder takes null for anything.
        if value.is_null() || schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
            return;
        }
        if schema.get("x-kubernetes-int-or-string").is_some() {
            if !value.is_string() && !value.is_number() {
                self.mismatch(pointer, "a number or a string", value);
            }
            return;
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(t)) => vec![t.as_str()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
            _ => return,
        };
        let Some(kind) = types.first() else { return };
        if !types.iter().any(|t| fits(t, value)) {
            return self.mismatch(pointer, word(kind), value);
        }
        match value {
            Value::Object(map) => self.object(schema, name, map, pointer),
            Value::Array(items) => {
                let Some(inner) = schema.get("items") else { return };
                for (i, item) in items.iter().enumerate() {
                    self.node(inner, name, item, &format!("{pointer}/{i}"));
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, schema: &'s Value, name: &'s str, map: &serde_json::Map<String, Value>, pointer: &str) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let extra = schema.get("additionalProperties");
        for (key, value) in map {
            let at = child(pointer, key);
            match properties.and_then(|p| p.get(key)) {
                Some(inner) if is_open(inner) => self.shape(&pod_types::shape_of(name, key), value, &at),
                Some(inner) => self.node(inner, name, value, &at),
                None => match extra {
                    Some(Value::Bool(false)) => {
                        let known = properties.into_iter().flatten().map(|(k, _)| k.as_str());
                        self.unknown(key, &at, pointer, known);
                    }
                    Some(inner) if inner.is_object() => self.node(inner, name, value, &at),
                    _ => {}
                },
            }
        }
    }

    fn shape(&mut self, shape: &Shape, value: &Value, pointer: &str) {
        if value.is_null() {
            return;
        }
        if *shape == Shape::Any {
            return;
        }
        let fits = shape.holds(value);
        if !fits {
            let wanted = match shape {
                Shape::Text => word("string"),
                Shape::Int => word("integer"),
                Shape::Number => word("number"),
                Shape::Bool => word("boolean"),
                Shape::Loose => "a number or a string",
                Shape::Quantity => "a quantity such as `500m`, `2` or `1Gi`",
                Shape::List(_) => word("array"),
                _ => word("object"),
            };
            return self.mismatch(pointer, wanted, value);
        }
        match (shape, value) {
            (Shape::List(inner), Value::Array(items)) => {
                for (i, item) in items.iter().enumerate() {
                    self.shape(inner, item, &format!("{pointer}/{i}"));
                }
            }
            (Shape::Map(inner), Value::Object(map)) => {
                for (key, value) in map {
                    self.shape(inner, value, &child(pointer, key));
                }
            }
            (Shape::Struct(name), Value::Object(map)) => {
                let Some(fields) = pod_types::fields(name) else { return };
                for (key, value) in map {
                    let at = child(pointer, key);
                    match fields.iter().find(|(f, _)| f == key) {
                        Some((_, inner)) => self.shape(inner, value, &at),
                        None => self.unknown(key, &at, pointer, fields.iter().map(|(f, _)| *f)),
                    }
                }
            }
            _ => {}
        }
    }

    fn unknown<'n>(&mut self, key: &str, at: &str, parent: &str, known: impl Iterator<Item = &'n str>) {
        let owner = super::report::dotted(parent);
        let message = match owner.as_str() {
            "" => format!("there is no field `{key}` here"),
            owner => format!("there is no field `{key}` in `{owner}`"),
        };
        // Below a step Argo passes over what it does not know.
        let severity = if below_step(parent) { Severity::Warning } else { Severity::Error };
        self.report.key(severity, "argo::unknown-field", at, message);
        self.report.suggest(key, known);
    }

    fn mismatch(&mut self, pointer: &str, wanted: &str, value: &Value) {
        self.wrong.push(pointer.to_owned());
        let found = match value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "a mapping",
        };
        let message = format!("this must be {wanted}, and is {found}");
        let span = self.report.error("argo::wrong-type", pointer, message).span();
        if wanted == "a string" && (value.is_number() || value.is_boolean()) {
            // As it was written: `y` and `014` mean something else once read.
            let written = span.and_then(|s| self.report.text(s)).map_or_else(|| value.to_string(), str::to_owned);
            self.report.help(format!("put it in quotes: \"{written}\""));
            if let Some(span) = span {
                self.report.replace(span, format!("\"{written}\""));
            }
        }
    }
}

/// Whether a place is within a step, not the step itself.
fn below_step(pointer: &str) -> bool {
    let parts: Vec<&str> = pointer.split('/').collect();
    let numbers = |a: &str, b: &str| [a, b].iter().all(|p| p.bytes().all(|b| b.is_ascii_digit()));
    parts.windows(4).any(|w| w[0] == "steps" && numbers(w[1], w[2]))
}

/// A schema that says nothing: the model keeps JSON there.
fn is_open(schema: &Value) -> bool {
    match schema {
        Value::Bool(open) => *open,
        Value::Object(map) => {
            let items_open = map.get("items").is_some_and(is_open);
            let typed = ["type", "$ref", "anyOf", "oneOf", "x-kubernetes-int-or-string"];
            items_open
                || (!typed.iter().any(|k| map.contains_key(*k))
                    && !map.contains_key("x-kubernetes-preserve-unknown-fields"))
        }
        _ => false,
    }
}

fn fits(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_i64().is_some() || value.as_f64().is_some_and(|f| f.fract() == 0.0),
        _ => true,
    }
}

fn word(kind: &str) -> &'static str {
    match kind {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    }
}
