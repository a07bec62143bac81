//! Values of expressions, with whole numbers and floats told apart.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Number};

use super::{number, semver, time};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map with text as keys, sorted by them.
    Map(BTreeMap<String, Value>),
    /// A time.
    Time(Box<jiff::Zoned>),
    /// A duration in nanoseconds.
    Duration(i64),
    /// A semantic version.
    Version(Box<semver::Version>),
}

impl From<&serde_json::Value> for Value {
    /// JSON as Go programs give it to expressions: whole numbers stay whole.
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(b) => Self::Bool(*b),
            serde_json::Value::Number(n) => {
                n.as_i64().map_or_else(|| Self::Float(n.as_f64().unwrap_or(0.0)), Self::Int)
            }
            serde_json::Value::String(s) => Self::Text(s.clone()),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(map) => Self::Map(map.iter().map(|(k, v)| (k.clone(), Self::from(v))).collect()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Value {
    /// JSON as Go's decoder reads it without a type: every number is a float.
    pub(crate) fn decoded(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Number(n) => Self::Float(n.as_f64().unwrap_or(0.0)),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::decoded).collect()),
            serde_json::Value::Object(map) => {
                Self::Map(map.iter().map(|(k, v)| (k.clone(), Self::decoded(v))).collect())
            }
            other => Self::from(other),
        }
    }

    /// The value as JSON. Nothing for numbers that JSON cannot hold.
    pub fn to_json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(b) => serde_json::Value::Bool(*b),
            Self::Int(n) => serde_json::Value::Number(Number::from(*n)),
            Self::Float(n) => serde_json::Value::Number(Number::from_f64(*n)?),
            Self::Text(s) => serde_json::Value::String(s.clone()),
            Self::Time(at) => serde_json::Value::String(time::json_text(at)),
            Self::Duration(n) => serde_json::Value::Number(Number::from(*n)),
            Self::Version(version) => serde_json::Value::String(version.text()),
            Self::List(items) => serde_json::Value::Array(items.iter().map(Self::to_json).collect::<Option<_>>()?),
            Self::Map(map) => {
                let pairs = map.iter().map(|(k, v)| Some((k.clone(), v.to_json()?)));
                serde_json::Value::Object(pairs.collect::<Option<Map<_, _>>>()?)
            }
        })
    }

    /// Compact JSON text with numbers and `<`, `>`, `&` as Go's encoder writes them.
    pub fn json_text(&self, escape_html: bool) -> Option<String> {
        let mut out = String::new();
        self.write_json(&mut out, escape_html, None, 0)?;
        Some(out)
    }

    /// JSON text over several lines.
    pub(crate) fn json_pretty(&self, escape_html: bool) -> Option<String> {
        let mut out = String::new();
        self.write_json(&mut out, escape_html, Some("  "), 0)?;
        Some(out)
    }

    fn write_json(&self, out: &mut String, html: bool, indent: Option<&str>, depth: usize) -> Option<()> {
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Int(n) => out.push_str(&n.to_string()),
            Self::Float(n) => out.push_str(&number::json_text(*n)?),
            Self::Text(s) => write_text(out, s, html),
            Self::Time(at) => write_text(out, &time::json_text(at), html),
            Self::Duration(n) => out.push_str(&n.to_string()),
            Self::Version(version) => write_text(out, &version.text(), html),
            Self::List(items) if items.is_empty() => out.push_str("[]"),
            Self::Map(map) if map.is_empty() => out.push_str("{}"),
            Self::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    line(out, depth + 1);
                    item.write_json(out, html, indent, depth + 1)?;
                }
                line(out, depth);
                out.push(']');
            }
            Self::Map(map) => {
                out.push('{');
                for (i, (key, value)) in map.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    line(out, depth + 1);
                    write_text(out, key, html);
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    value.write_json(out, html, indent, depth + 1)?;
                }
                line(out, depth);
                out.push('}');
            }
        }
        Some(())
    }

    /// What a `{{=…}}` tag puts into the text: strings as they are, everything else as JSON.
    pub fn tag_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Time(at) => Some(time::json_text(at)),
            Self::Version(version) => Some(version.text()),
            other => other.json_text(true),
        }
    }

    /// The value as Go's `%v` prints it.
    pub fn go_text(&self) -> String {
        match self {
            Self::Null => "<nil>".to_owned(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Float(n) => number::go_text(*n),
            Self::Text(s) => s.clone(),
            Self::Time(at) => time::go_text(at),
            Self::Duration(n) => time::duration_text(*n),
            Self::Version(version) => version.text(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::go_text).collect::<Vec<_>>().join(" ")),
            Self::Map(map) => {
                let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k}:{}", v.go_text())).collect();
                format!("map[{}]", pairs.join(" "))
            }
        }
    }

    /// The kind in people's words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nil",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Time(_) => "a time",
            Self::Duration(_) => "a duration",
            Self::Version(_) => "a version",
        }
    }

    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::Float(n) => Some(*n),
            _ => None,
        }
    }

    /// Equality over kinds of numbers.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Float(b)) => *a as f64 == *b,
            (Self::Float(a), Self::Int(b)) => *a == *b as f64,
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (a, b) => a == b,
        }
    }

    /// Order of two numbers, texts, times or durations.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.timestamp().cmp(&b.timestamp())),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (a, b) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        }
    }

    /// A rough size, to bound what expressions can build.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Text(s) => 1 + s.len() / 16,
            Self::List(items) => 1 + items.iter().map(Self::weight).sum::<usize>(),
            Self::Map(map) => 1 + map.values().map(|v| 1 + v.weight()).sum::<usize>(),
            _ => 1,
        }
    }
}

fn write_text(out: &mut String, text: &str, html: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if html => out.push_str(&format!("\\u{:04x}", c as u32)),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}
