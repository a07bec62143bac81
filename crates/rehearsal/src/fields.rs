//! Reading a map of the user's text field by field: what is not known is a fault with a suggestion, what has the wrong
//! form is a fault with its place. Knows no field by name.

use serde_json::{Map, Value};
use windlass_lang::suggest::nearest;
use windlass_lang::yaml::{Document, child};
use windlass_lang::{Diagnostic, Span};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place; nothing for what was not written.
    pub span: Option<Span>,
}

/// A fault at a place, if there is one.
pub(crate) fn fault(code: &'static str, message: impl Into<String>, span: Option<Span>, label: &str) -> Diagnostic {
    let fault = Diagnostic::error(code, message);
    match span {
        Some(span) => fault.at(span, label),
        None => fault,
    }
}

/// One document that is being read.
pub(crate) struct Reader<'a> {
    pub(crate) document: &'a Document,
    pub(crate) faults: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(document: &'a Document) -> Self {
        Self { document, faults: Vec::new() }
    }

    pub(crate) fn value(&self, pointer: &str) -> Option<&'a Value> {
        self.document.value.pointer(pointer).filter(|v| !v.is_null())
    }

    pub(crate) fn span(&self, pointer: &str) -> Option<Span> {
        self.document.value_span(pointer)
    }

    pub(crate) fn key(&self, pointer: &str) -> Option<Span> {
        self.document.key_span(pointer)
    }

    pub(crate) fn wrong(&mut self, pointer: &str, wanted: &str) {
        let key = pointer.rsplit('/').next().unwrap_or_default();
        let message = format!("`{key}` must be {wanted}");
        self.faults.push(fault("case::wrong-type", message, self.span(pointer), ""));
    }

    /// The map at a place; keys that are not among `known` are faults.
    pub(crate) fn map(&mut self, pointer: &str, known: &[&str]) -> Option<&'a Map<String, Value>> {
        let map = self.any_map(pointer)?;
        for key in map.keys().filter(|k| !known.contains(&k.as_str())) {
            let at = self.key(&child(pointer, key));
            let mut unknown = fault("case::unknown-field", format!("unknown field `{key}`"), at, "");
            match nearest(key, known.iter().copied()) {
                Some(meant) => {
                    unknown = unknown.help(format!("did you mean `{meant}`?"));
                    if let Some(at) = at {
                        unknown = unknown.fix(at, meant);
                    }
                }
                None => unknown = unknown.help(format!("known here: {}", known.join(", "))),
            }
            self.faults.push(unknown);
        }
        Some(map)
    }

    /// The map at a place, with keys of the user's own.
    pub(crate) fn any_map(&mut self, pointer: &str) -> Option<&'a Map<String, Value>> {
        match self.value(pointer)? {
            Value::Object(map) => Some(map),
            _ => {
                self.wrong(pointer, "a map");
                None
            }
        }
    }

    pub(crate) fn text(&mut self, pointer: &str) -> Option<At<String>> {
        let span = self.span(pointer);
        match self.value(pointer)? {
            Value::Array(_) | Value::Object(_) => {
                self.wrong(pointer, "a text");
                None
            }
            value => Some(At { value: text_of(value), span }),
        }
    }

    pub(crate) fn whole(&mut self, pointer: &str) -> Option<At<i64>> {
        let span = self.span(pointer);
        match self.value(pointer)?.as_i64() {
            Some(value) => Some(At { value, span }),
            None => {
                self.wrong(pointer, "a whole number");
                None
            }
        }
    }

    pub(crate) fn flag(&mut self, pointer: &str) -> bool {
        match self.value(pointer) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.wrong(pointer, "true or false");
                false
            }
        }
    }

    /// A duration, in milliseconds.
    pub(crate) fn duration(&mut self, pointer: &str) -> Option<At<i64>> {
        let text = self.text(pointer)?;
        match windlass_engine::duration_ms(&text.value).filter(|ms| *ms >= 0) {
            Some(value) => Some(At { value, span: text.span }),
            None => {
                self.wrong(pointer, "a duration such as 90s, 5m or 1h30m");
                None
            }
        }
    }

    /// A list of texts; one text alone is a list of one.
    pub(crate) fn texts(&mut self, pointer: &str) -> Vec<At<String>> {
        let count = match self.value(pointer) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items.len(),
            Some(_) => return self.text(pointer).into_iter().collect(),
        };
        (0..count).filter_map(|i| self.text(&format!("{pointer}/{i}"))).collect()
    }

    /// A map of names to texts; what is not a text stands for its JSON.
    pub(crate) fn pairs(&mut self, pointer: &str) -> Vec<(At<String>, At<String>)> {
        let Some(map) = self.any_map(pointer) else { return Vec::new() };
        map.iter()
            .map(|(key, value)| {
                let at = child(pointer, key);
                let key = At { value: key.clone(), span: self.key(&at) };
                (key, At { value: text_of(value), span: self.span(&at) })
            })
            .collect()
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
