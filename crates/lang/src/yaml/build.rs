//! From parser events to values with places. Bounds depth and alias expansion; reports every fault it can get past.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span as RawSpan, Tag};
use serde_json::{Map, Value};

use super::scalar::{self, Resolved};
use super::{Document, Loaded, Place, Style, child};
use crate::diagnostic::Diagnostic;
use crate::source::{SourceId, Span};

/// Deepest nesting, aliases counted as what they stand for.
const DEPTH_MAX: usize = 256;
/// What aliases may add to one document, in nodes plus 32-byte pieces of text.
const ALIAS_WEIGHT_MAX: usize = 100_000;

pub(super) fn load(text: &str, source: SourceId) -> Loaded {
    let mut loaded = Loaded::default();
    let mut base = 0;
    // A syntax error ends the parser; reading goes on at the next document mark behind it.
    while let Some(rest) = text.get(base..) {
        let mut builder = Builder { source, base, text, parser: options(rest), diagnostics: Vec::new(), failed: None };
        builder.stream(&mut loaded.documents);
        loaded.diagnostics.append(&mut builder.diagnostics);
        let Some(at) = builder.failed else { break };
        match next_document(text, at.max(base)) {
            Some(next) if next > base => base = next,
            _ => break,
        }
    }
    loaded
}

fn options(text: &str) -> Parser<'_, granit_parser::StrInput<'_>> {
    Parser::new_from_str_with_options(
        text,
        granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true },
    )
}

/// The offset of the first `---` line that starts after `at`.
fn next_document(text: &str, at: usize) -> Option<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if offset > at && (line.starts_with("---") && line[3..].chars().next().is_none_or(char::is_whitespace)) {
            return Some(offset);
        }
        offset += line.len();
    }
    None
}

/// A finished node: what it says, how deep it is, and what copying it costs.
#[derive(Clone)]
struct Node {
    value: Value,
    span: Span,
    style: Style,
    depth: usize,
    weight: usize,
    /// Places below it, by pointers relative to it.
    places: Vec<(String, Place)>,
    /// Written as a plain `<<`.
    merge: bool,
}

struct Builder<'t> {
    source: SourceId,
    base: usize,
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    diagnostics: Vec<Diagnostic>,
    failed: Option<usize>,
}

/// State of one document.
#[derive(Default)]
struct State {
    anchors: HashMap<usize, Node>,
    alias_weight: usize,
}

impl Builder<'_> {
    fn stream(&mut self, documents: &mut Vec<Document>) {
        loop {
            match self.next() {
                Some((Event::DocumentStart(..), _)) => {
                    let mut state = State::default();
                    let Some(node) = self.node(&mut state, 0) else { return };
                    // An empty document is none.
                    if !node.value.is_null() {
                        documents.push(self.document(node));
                    }
                }
                Some((Event::StreamEnd, _)) | None => return,
                Some(_) => {}
            }
        }
    }

    fn document(&self, node: Node) -> Document {
        let mut places: HashMap<String, Place> = node.places.into_iter().collect();
        places.insert(String::new(), Place { key: None, value: node.span, style: node.style });
        Document { value: node.value, source: self.source, places }
    }

    fn next(&mut self) -> Option<(Event<'static>, Span)> {
        loop {
            return match self.parser.next()? {
                Ok((Event::Comment(..) | Event::Anchor(..), _)) => continue,
                Ok((event, span)) => {
                    let span = self.span(&span);
                    Some((own(event), span))
                }
                Err(error) => {
                    let at = self.base + error.marker().byte_offset().unwrap_or(0);
                    let at = at.min(self.text.len());
                    self.failed = Some(at);
                    self.diagnostics.push(
                        Diagnostic::error("yaml::syntax", format!("this is not valid YAML: {}", error.info()))
                            .at(Span::new(self.source, at..self.token_end(at)), ""),
                    );
                    None
                }
            };
        }
    }

    fn token_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or("");
        at + rest.find(char::is_whitespace).unwrap_or(rest.len())
    }

    fn span(&self, raw: &RawSpan) -> Span {
        let range = raw.byte_range().unwrap_or(0..0);
        let (start, mut end) = (self.base + range.start, self.base + range.end.max(range.start));
        // Block collections end where the next token begins: the blank between is not theirs.
        if let Some(text) = self.text.get(start..end) {
            end = start + text.trim_end().len();
        }
        Span::new(self.source, start..end)
    }

    fn fault(&mut self, code: &'static str, message: impl Into<String>, span: Span) {
        self.diagnostics.push(Diagnostic::error(code, message).at(span, ""));
    }

    fn node(&mut self, state: &mut State, depth: usize) -> Option<Node> {
        let (event, span) = self.next()?;
        self.event_node(state, event, span, depth)
    }

    fn event_node(&mut self, state: &mut State, event: Event<'static>, span: Span, depth: usize) -> Option<Node> {
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, self.scalar(&text, style, tag.as_deref(), span)),
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(state, span, depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(state, span, depth)?),
            Event::Alias(id) => return Some(self.alias(state, id, span)),
            Event::UnresolvedAlias(name) => {
                self.fault("yaml::unknown-alias", format!("there is no anchor `&{name}` before this alias"), span);
                return Some(leaf(Value::Null, span));
            }
            _ => return None,
        };
        if anchor != 0 {
            state.anchors.insert(anchor, node.clone());
        }
        Some(node)
    }

    fn alias(&mut self, state: &mut State, id: usize, span: Span) -> Node {
        let Some(node) = state.anchors.get(&id) else {
            self.fault("yaml::recursive-alias", "this alias stands inside its own anchor", span);
            return leaf(Value::Null, span);
        };
        state.alias_weight = state.alias_weight.saturating_add(node.weight);
        if state.alias_weight > ALIAS_WEIGHT_MAX || node.depth > DEPTH_MAX {
            // Said once a document; further aliases stay empty.
            if state.alias_weight != usize::MAX {
                self.fault("yaml::too-many-aliases", "the aliases of this document expand to too much", span);
            }
            state.alias_weight = usize::MAX;
            return leaf(Value::Null, span);
        }
        // What the alias stands for keeps its own places below; the value itself is where the alias is written.
        Node { span, ..node.clone() }
    }

    fn sequence(&mut self, state: &mut State, span: Span, depth: usize) -> Option<Node> {
        let (mut items, mut places, mut below, mut weight) = (Vec::new(), Vec::new(), 0, 1);
        let end = loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                break at;
            }
            let node = self.event_node(state, event, at, depth + 1)?;
            let pointer = format!("/{}", items.len());
            adopt(&mut places, &pointer, None, &node);
            below = below.max(node.depth);
            weight += node.weight;
            items.push(node.value);
        };
        self.closed(Value::Array(items), span, end, below, weight, places)
    }

    fn mapping(&mut self, state: &mut State, span: Span, depth: usize) -> Option<Node> {
        let (mut map, mut places, mut below, mut weight) = (Map::new(), Vec::new(), 0, 1);
        let mut keys: HashMap<String, Span> = HashMap::new();
        let mut merged: Vec<Node> = Vec::new();
        let end = loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break at;
            }
            let key = self.event_node(state, event, at, depth + 1)?;
            let value = self.node(state, depth + 1)?;
            below = below.max(value.depth);
            weight += 1 + value.weight;
            if key.merge {
                self.merge(value, &mut merged);
                continue;
            }
            let Some(name) = self.key(&key) else { continue };
            if let Some(first) = keys.insert(name.clone(), key.span) {
                self.diagnostics.push(
                    Diagnostic::error("yaml::duplicate-key", format!("the key `{name}` is given twice"))
                        .at(key.span, "given again here")
                        .also(first, "first given here"),
                );
                continue;
            }
            adopt(&mut places, &child("", &name), Some(key.span), &value);
            map.insert(name, value.value);
        };
        for node in merged {
            let Value::Object(from) = node.value else { continue };
            for (key, value) in from {
                if map.contains_key(&key) {
                    continue;
                }
                let pointer = child("", &key);
                places.extend(
                    node.places
                        .iter()
                        .filter(|(at, _)| {
                            at.strip_prefix(pointer.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
                        })
                        .cloned(),
                );
                map.insert(key, value);
            }
        }
        self.closed(Value::Object(map), span, end, below, weight, places)
    }

    fn merge(&mut self, value: Node, merged: &mut Vec<Node>) {
        match value.value {
            Value::Object(_) => merged.push(value),
            Value::Array(items) if items.iter().all(Value::is_object) => {
                for (i, item) in items.into_iter().enumerate() {
                    let prefix = format!("/{i}");
                    let places = value
                        .places
                        .iter()
                        .filter_map(|(at, place)| {
                            let rest = at.strip_prefix(prefix.as_str())?;
                            rest.starts_with('/').then(|| (rest.to_owned(), *place))
                        })
                        .collect();
                    merged.push(Node { value: item, places, ..leaf(Value::Null, value.span) });
                }
            }
            _ => self.fault("yaml::bad-merge", "`<<` takes a mapping or a list of mappings", value.span),
        }
    }

    /// Keys become text, as in JSON.
    fn key(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Number(n) => Some(n.to_string()),
            Value::Null => Some("null".to_owned()),
            _ => {
                self.fault("yaml::bad-key", "a key must be text, not a mapping or a list", node.span);
                None
            }
        }
    }

    fn closed(
        &mut self,
        value: Value,
        span: Span,
        end: Span,
        below: usize,
        weight: usize,
        places: Vec<(String, Place)>,
    ) -> Option<Node> {
        let depth = below + 1;
        // A flow collection ends with its bracket, a block collection with the last thing in it.
        let last = places.iter().map(|(_, p)| p.value).filter(|s| s.source == span.source && s.start >= span.start);
        let stop = last.map(|s| s.end).max().unwrap_or(span.end).max(if end.start < end.end { end.end } else { 0 });
        let span = Span::new(span.source, span.start..stop.max(span.end));
        if depth > DEPTH_MAX {
            self.fault("yaml::too-deep", "this is nested too deeply", span);
            self.failed = Some(span.start);
            return None;
        }
        Some(Node { value, span, style: Style::Collection, depth, weight, places, merge: false })
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Node {
        let place_style = match style {
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
            _ => Style::Flow,
        };
        let plain = matches!(style, ScalarStyle::Plain);
        let core = tag.map(|t| (t.handle(), t.suffix()));
        let value = match core {
            Some(("!", "")) => Value::String(text.to_owned()),
            Some(("tag:yaml.org,2002:", suffix)) => self.tagged(text, suffix, span),
            _ if plain => self.untagged(text, span),
            _ => Value::String(text.to_owned()),
        };
        Node { style: place_style, merge: plain && tag.is_none() && text == "<<", ..leaf(value, span) }
    }

    fn untagged(&mut self, text: &str, span: Span) -> Value {
        match scalar::resolve(text) {
            Resolved::Value(value) => value,
            Resolved::NotJson => {
                self.not_json(text, span);
                Value::Null
            }
        }
    }

    fn tagged(&mut self, text: &str, suffix: &str, span: Span) -> Value {
        let value = match suffix {
            "str" | "binary" => return Value::String(text.to_owned()),
            "float" | "int" | "bool" | "null" => self.untagged(text, span),
            _ => return Value::String(text.to_owned()),
        };
        let fits = match suffix {
            "bool" => value.is_boolean(),
            "null" => value.is_null(),
            _ => value.is_number() || scalar::resolve(text) == Resolved::NotJson,
        };
        if !fits {
            self.fault("yaml::bad-tag", format!("`{text}` is not a {suffix}"), span);
        }
        value
    }

    fn not_json(&mut self, text: &str, span: Span) {
        self.diagnostics.push(
            Diagnostic::error("yaml::not-json", format!("`{text}` is a number that JSON cannot hold"))
                .at(span, "")
                .help("put it in quotes if text is meant"),
        );
    }
}

fn leaf(value: Value, span: Span) -> Node {
    let weight = 1 + value.as_str().map_or(0, |s| s.len() / 32);
    Node { value, span, style: Style::Flow, depth: 1, weight, places: Vec::new(), merge: false }
}

/// Puts a child's places below `pointer`.
fn adopt(places: &mut Vec<(String, Place)>, pointer: &str, key: Option<Span>, node: &Node) {
    places.push((pointer.to_owned(), Place { key, value: node.span, style: node.style }));
    places.extend(node.places.iter().map(|(at, place)| (format!("{pointer}{at}"), *place)));
}

/// Events borrow the text; owning them keeps the parser free to go on.
fn own(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Scalar(text, style, anchor, tag) => {
            Event::Scalar(text.into_owned().into(), style, anchor, tag.map(|t| std::borrow::Cow::Owned(t.into_owned())))
        }
        Event::UnresolvedAlias(name) => Event::UnresolvedAlias(name.into_owned().into()),
        Event::SequenceStart(style, anchor, _) => Event::SequenceStart(style, anchor, None),
        Event::MappingStart(style, anchor, _) => Event::MappingStart(style, anchor, None),
        Event::DocumentStart(explicit, _) => Event::DocumentStart(explicit, None),
        Event::Alias(id) => Event::Alias(id),
        Event::SequenceEnd => Event::SequenceEnd,
        Event::MappingEnd => Event::MappingEnd,
        Event::DocumentEnd => Event::DocumentEnd,
        Event::StreamEnd => Event::StreamEnd,
        _ => Event::StreamStart,
    }
}
