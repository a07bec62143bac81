//! A part of a spec as the JSON text that Argo makes of it: its types' fields in their order, what is empty left out or
//! written as zero. The order decides which of several unknown tags is the first. The table is data: it tells Argo's types
//! as they go over the wire.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;

/// One field of a type.
struct Field {
    key: &'static str,
    /// The type of what is in it, where it is one of the table's.
    of: Option<&'static str>,
    /// Whether it holds a map of that type.
    map: bool,
    /// Whether it is written even when what is in it is empty.
    pointer: bool,
    /// What is written where there is nothing.
    zero: Option<&'static str>,
}

/// `TYPE FIELD[:[%]TYPE][?][=ZERO] …`, one type a line.
static TYPES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let lines = include_str!("wire.txt").lines();
    let types = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.map(field).collect()))
    });
    types.collect()
});

fn field(word: &'static str) -> Field {
    let (word, zero) = match word.split_once('=') {
        Some((word, zero)) => (word, Some(zero)),
        None => (word, None),
    };
    let (word, pointer) = match word.strip_suffix('?') {
        Some(word) => (word, true),
        None => (word, false),
    };
    let (key, of) = match word.split_once(':') {
        Some((key, of)) => (key, Some(of)),
        None => (word, None),
    };
    let map = of.is_some_and(|of| of.starts_with('%'));
    Field { key, of: of.map(|of| of.trim_start_matches('%')), map, pointer, zero }
}

/// The text of something of one of the table's types, or of a list of it.
pub(super) fn text<T: Serialize>(part: &T, of: &str) -> String {
    let value = serde_json::to_value(part).unwrap_or_default();
    let mut out = String::new();
    write(&value, TYPES.get(of).map(Vec::as_slice), &mut out);
    out
}

fn write(value: &Value, of: Option<&[Field]>, out: &mut String) {
    match (value, of) {
        (Value::Object(map), Some(fields)) => {
            out.push('{');
            let begin = out.len();
            for field in fields {
                let value = map.get(field.key).filter(|v| !v.is_null() && (field.pointer || !is_empty(v)));
                if value.is_none() && field.zero.is_none() {
                    continue;
                }
                if out.len() > begin {
                    out.push(',');
                }
                string(field.key, out);
                out.push(':');
                let inner = field.of.and_then(|of| TYPES.get(of)).map(Vec::as_slice);
                match (value, field.zero) {
                    (Some(Value::Object(map)), _) if field.map => {
                        object(map.iter().map(|(key, value)| (key.as_str(), value, inner)), out);
                    }
                    (Some(value), _) => write(value, inner, out),
                    (None, Some("{}")) => write(&Value::Object(serde_json::Map::new()), inner, out),
                    (None, zero) => out.push_str(zero.unwrap_or_default()),
                }
            }
            out.push('}');
        }
        (Value::Object(map), None) => object(map.iter().map(|(key, value)| (key.as_str(), value, None)), out),
        (Value::Array(list), of) => {
            out.push('[');
            for (i, value) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(value, of, out);
            }
            out.push(']');
        }
        (Value::String(text), _) => string(text, out),
        (other, _) => out.push_str(&other.to_string()),
    }
}

/// A map of anything: by its keys.
fn object<'v>(fields: impl Iterator<Item = (&'v str, &'v Value, Option<&'static [Field]>)>, out: &mut String) {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(key, ..)| *key);
    out.push('{');
    for (i, (key, value, of)) in fields.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(key, out);
        out.push(':');
        write(value, of, out);
    }
    out.push('}');
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// A text as JSON, with what HTML would take amiss written as numbers.
fn string(text: &str, out: &mut String) {
    let quoted = Value::String(text.to_owned()).to_string();
    if !quoted.contains(['<', '>', '&']) {
        out.push_str(&quoted);
        return;
    }
    for c in quoted.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            c => out.push(c),
        }
    }
}
