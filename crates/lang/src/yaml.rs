//! YAML as Kubernetes reads it, with the place of every key and value.
//!
//! The grammar is `granit-parser`'s; what plain words mean follows the YAML 1.1 resolver that `kubectl` and `argo` use
//! (`yes` and `on` are booleans, `014` is twelve, `2001-01-01` is text). Every document of a text is read and every fault
//! reported; a broken document does not hide the next one. Must never panic and never expand aliases without bound.

mod build;
mod scalar;

use std::collections::HashMap;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::source::{SourceId, Sources, Span};

/// How a scalar was written: what its bytes in the source mean for places within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A mapping or a sequence.
    Collection,
    /// A plain or quoted scalar.
    Flow,
    /// A literal (`|`) or folded (`>`) block.
    Block,
}

/// Where one value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key in front of it; nothing for a sequence's item and for the document itself.
    pub key: Option<Span>,
    /// The value. Empty where a value was left out.
    pub value: Span,
    /// How it was written.
    pub style: Style,
}

/// One document: a value and where its parts stand.
#[derive(Clone, Debug)]
pub struct Document {
    /// What the document says, with merge keys and aliases resolved.
    pub value: Value,
    /// The text it came from.
    pub source: SourceId,
    places: HashMap<String, Place>,
}

/// What one text holds.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The documents that could be read, without empty ones.
    pub documents: Vec<Document>,
    /// Every fault found.
    pub diagnostics: Vec<Diagnostic>,
}

impl Document {
    /// A document made by a program: it has a value and no places.
    pub fn unplaced(value: Value) -> Self {
        Self { value, source: SourceId::default(), places: HashMap::new() }
    }

    /// Where the value at a JSON pointer (`/spec/templates/0/name`, `""` for the whole document) stands.
    pub fn place(&self, pointer: &str) -> Option<Place> {
        self.places.get(pointer).copied()
    }

    /// The span of the value at a pointer, or of the nearest place around it.
    pub fn value_span(&self, pointer: &str) -> Option<Span> {
        if let Some(place) = self.place(pointer) {
            return Some(if place.value.start == place.value.end {
                place.key.unwrap_or(place.value)
            } else {
                place.value
            });
        }
        self.key_span(parent(pointer)?)
    }

    /// The span of the key at a pointer; of the value where there is no key; else of the nearest place around it.
    pub fn key_span(&self, pointer: &str) -> Option<Span> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.place(pointer) {
                return Some(place.key.unwrap_or(place.value));
            }
            pointer = parent(pointer)?;
        }
    }

    /// The span of a part of a text value: `range` counts bytes of the decoded text, of which `text` is the part.
    ///
    /// Escapes and block indentation shift places, so the part is searched for in the source, as the same occurrence
    /// that it is in the value; where that fails the whole value's span is given.
    pub fn text_span(&self, sources: &Sources, pointer: &str, range: std::ops::Range<usize>) -> Option<Span> {
        let whole = self.value_span(pointer)?;
        let place = self.place(pointer)?;
        let value = self.value.pointer(pointer)?.as_str()?;
        let raw = sources.get(whole.source)?.text.get(whole.range())?;
        let part = value.get(range.clone()).filter(|p| !p.is_empty())?;
        if place.style == Style::Flow && raw == value {
            return Some(whole.slice(range));
        }
        let nth = value.get(..range.start)?.matches(part).count();
        match raw.match_indices(part).nth(nth) {
            Some((at, _)) => Some(whole.slice(at..at + part.len())),
            None => Some(whole),
        }
    }

    /// True when this document has places, that is, when it was read from a text.
    pub fn has_places(&self) -> bool {
        !self.places.is_empty()
    }

    /// The document below `pointer` as one of its own, for the items of a `kind: List`.
    pub fn part(&self, pointer: &str) -> Option<Document> {
        let value = self.value.pointer(pointer)?.clone();
        let places = self
            .places
            .iter()
            .filter_map(|(at, place)| {
                let rest = at.strip_prefix(pointer)?;
                (rest.is_empty() || rest.starts_with('/')).then(|| (rest.to_owned(), *place))
            })
            .collect();
        Some(Document { value, source: self.source, places })
    }
}

/// Reads every document of a text.
pub fn load(sources: &Sources, id: SourceId) -> Loaded {
    match sources.get(id) {
        Some(source) => build::load(&source.text, id),
        None => Loaded::default(),
    }
}

/// Reads every document of a text that has no name and whose faults have places in [`SourceId`] 0.
pub fn load_str(text: &str) -> Loaded {
    build::load(text, SourceId::default())
}

/// Documents with the items of `kind: List` objects in their place.
pub fn flatten(documents: Vec<Document>) -> Vec<Document> {
    let mut out = Vec::with_capacity(documents.len());
    for document in documents {
        let is_list = document.value.get("kind").and_then(Value::as_str) == Some("List");
        match document.value.get("items").and_then(Value::as_array) {
            Some(items) if is_list => {
                out.extend((0..items.len()).filter_map(|i| document.part(&format!("/items/{i}"))));
            }
            _ => out.push(document),
        }
    }
    out
}

/// The pointer of a child, escaped as JSON pointers are.
pub fn child(pointer: &str, key: &str) -> String {
    if key.contains(['~', '/']) {
        format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
    } else {
        format!("{pointer}/{key}")
    }
}

fn parent(pointer: &str) -> Option<&str> {
    pointer.rfind('/').map(|i| &pointer[..i])
}
