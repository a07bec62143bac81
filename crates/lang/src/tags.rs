//! `{{name}}` and `{{=expression}}`: found in text with their places, and replaced over a JSON value.
//!
//! Argo replaces over the JSON text of a template; here it is done string by string (keys too), which gives the same
//! result and can neither break the JSON nor run over the border of a string. What a name means is the caller's: this
//! module asks a [`Resolve`].

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::source::Fault;

/// One tag in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Bytes from `{{` to behind `}}`.
    pub range: Range<usize>,
    /// What stands in it.
    pub kind: TagKind,
}

/// What stands in a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// A name, trimmed. It may hold dots, slashes, dashes, and brackets.
    Name(String),
    /// An expression, with the range of its text (behind `{{=`).
    Expression(String, Range<usize>),
}

impl Tag {
    /// The name, when it is a simple tag.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            TagKind::Name(name) => Some(name),
            TagKind::Expression(..) => None,
        }
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// Known to have no value: the output of a step that was skipped. Not the same as the empty text.
    Absent,
    /// Not known (yet).
    Unknown,
}

/// What an expression gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluated {
    /// A text to put in: strings as they are, anything else as JSON.
    Text(String),
    /// It names something that is not known yet: it stays as it stands.
    Unknown,
    /// It cannot be evaluated.
    Failed(Fault),
}

/// Gives meaning to names and expressions.
pub trait Resolve {
    /// What a simple tag's name stands for.
    fn name(&self, name: &str) -> Lookup<'_>;
    /// What an expression gives. Without an answer of its own it stays as it stands.
    fn expression(&self, _text: &str) -> Evaluated {
        Evaluated::Unknown
    }
}

/// How to treat names that are not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Names that start with one of these and a dot must be known (`tasks`, `steps`); others stay as they stand.
    pub strict: &'a [&'a str],
    /// Every name must be known.
    pub strict_all: bool,
}

/// All tags in a text, in order, without tags inside tags.
///
/// A tag ends at the first `}}` behind its `{{`; `{{a.{{b}}}}` is found as its innermost tag `{{b}}`.
/// Expressions end at the first `}}` outside quotes and brackets, so that they may hold maps.
pub fn find(text: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find("{{").map(|i| at + i) {
        match tag_at(text, start) {
            Some(tag) => {
                at = tag.range.end;
                tags.push(tag);
            }
            None => break,
        }
    }
    tags
}

fn tag_at(text: &str, start: usize) -> Option<Tag> {
    let body = start + 2;
    if text[body..].starts_with('=') {
        let from = body + 1;
        let len = expression_end(&text[from..]).or_else(|| text[from..].find("}}"))?;
        let range = from..from + len;
        return Some(Tag {
            range: start..range.end + 2,
            kind: TagKind::Expression(text[range.clone()].to_owned(), range),
        });
    }
    let end = body + text[body..].find("}}")?;
    // The innermost opening counts.
    if let Some(inner) = text[body..end].rfind("{{").map(|i| body + i) {
        return tag_at(text, inner);
    }
    // `{{{a}}}`: the braces nearest to the name are the tag's.
    let start = start + text[body..end].bytes().take_while(|b| *b == b'{').count();
    let body = start + 2;
    Some(Tag { range: start..end + 2, kind: TagKind::Name(text[body..end].trim().to_owned()) })
}

/// Length of an expression up to its `}}`, with quotes and braces respected; nothing when they do not match up.
fn expression_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut i) = (0usize, 0);
    while i < bytes.len() {
        match bytes[i] {
            quote @ (b'"' | b'\'' | b'`') => {
                i += 1;
                while i < bytes.len() && bytes[i] != quote {
                    i += if bytes[i] == b'\\' && quote != b'`' { 2 } else { 1 };
                }
                if i >= bytes.len() {
                    return None;
                }
            }
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if bytes.get(i + 1) == Some(&b'}') => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// True when the whole text is exactly one simple tag: a pure reference.
pub fn pure_reference(text: &str) -> Option<String> {
    match find(text).as_slice() {
        [tag] if tag.range == (0..text.len()) => tag.name().map(str::to_owned),
        _ => None,
    }
}

/// Replaces the tags of one text. Faults have ranges within `text`.
pub fn substitute(text: &str, scope: &dyn Resolve, options: &Options<'_>) -> Result<String, Vec<Fault>> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let mut faults = Vec::new();
    let mut text = Cow::Borrowed(text);
    // Inside-out: as long as replacing made a new tag around what was replaced, replace that too.
    for depth in 0..8 {
        let mut nested = false;
        let out = pass(&text, scope, options, &mut faults, &mut nested);
        text = Cow::Owned(out);
        if !nested || !faults.is_empty() || depth == 7 {
            break;
        }
    }
    if faults.is_empty() { Ok(text.into_owned()) } else { Err(faults) }
}

fn pass(text: &str, scope: &dyn Resolve, options: &Options<'_>, faults: &mut Vec<Fault>, nested: &mut bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for tag in find(text) {
        out.push_str(&text[done..tag.range.start]);
        done = tag.range.end;
        let verbatim = &text[tag.range.clone()];
        match &tag.kind {
            TagKind::Expression(expression, range) => match scope.expression(expression) {
                Evaluated::Text(value) => out.push_str(&value),
                Evaluated::Unknown => out.push_str(verbatim),
                // Where nothing must be known yet, it may come out well later.
                Evaluated::Failed(_) if options.strict.is_empty() && !options.strict_all => out.push_str(verbatim),
                Evaluated::Failed(fault) => {
                    let start = range.start + fault.range.start.min(range.len());
                    let end = range.start + fault.range.end.min(range.len());
                    faults.push(Fault::new(fault.message, start..end.max(start)));
                }
            },
            TagKind::Name(name) => match scope.name(name) {
                Lookup::Text(value) => {
                    // An opening without its end before, and an end behind: the tag around this one is whole now.
                    let before = text[..tag.range.start].rfind("{{");
                    let closed = before.is_some_and(|b| !text[b..tag.range.start].contains("}}"));
                    *nested |= closed && text[tag.range.end..].contains("}}");
                    out.push_str(&value);
                }
                Lookup::Absent => {
                    let message = format!("`{name}` has no value: what should give it was skipped or omitted");
                    faults.push(Fault::new(message, tag.range.clone()));
                }
                Lookup::Unknown if is_strict(name, options) => {
                    faults.push(Fault::new(format!("failed to resolve {{{{{name}}}}}"), tag.range.clone()));
                }
                Lookup::Unknown => out.push_str(verbatim),
            },
        }
    }
    out.push_str(&text[done..]);
    out
}

fn is_strict(name: &str, options: &Options<'_>) -> bool {
    options.strict_all
        || options.strict.iter().any(|p| name.strip_prefix(p).is_some_and(|rest| rest.starts_with(['.', '['])))
}

/// Replaces the tags in every string of a value, keys included. Faults come with the pointer of their string.
pub fn substitute_value(
    value: &Value,
    scope: &dyn Resolve,
    options: &Options<'_>,
) -> Result<Value, Vec<(String, Fault)>> {
    let mut faults = Vec::new();
    let value = walk(value, scope, options, "", &mut faults);
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}

fn walk(
    value: &Value,
    scope: &dyn Resolve,
    options: &Options<'_>,
    pointer: &str,
    faults: &mut Vec<(String, Fault)>,
) -> Value {
    let text = |s: &str, faults: &mut Vec<(String, Fault)>| match substitute(s, scope, options) {
        Ok(text) => text,
        Err(all) => {
            faults.extend(all.into_iter().map(|f| (pointer.to_owned(), f)));
            s.to_owned()
        }
    };
    match value {
        Value::String(s) => Value::String(text(s, faults)),
        Value::Array(items) => Value::Array(
            items.iter().enumerate().map(|(i, v)| walk(v, scope, options, &format!("{pointer}/{i}"), faults)).collect(),
        ),
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, v) in map {
                let v = walk(v, scope, options, &crate::yaml::child(pointer, key), faults);
                let key = if key.contains("{{") { text(key, faults) } else { key.clone() };
                out.insert(key, v);
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

/// True when any string or key of the value holds a `{{`.
pub fn has_tags(value: &Value) -> bool {
    match value {
        Value::String(s) => s.contains("{{"),
        Value::Array(items) => items.iter().any(has_tags),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains("{{") || has_tags(v)),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Names(&'static [(&'static str, &'static str)]);

    impl Resolve for Names {
        fn name(&self, name: &str) -> Lookup<'_> {
            match self.0.iter().find(|(k, _)| *k == name) {
                Some((_, "<absent>")) => Lookup::Absent,
                Some((_, v)) => Lookup::Text(Cow::Borrowed(v)),
                None => Lookup::Unknown,
            }
        }
        fn expression(&self, text: &str) -> Evaluated {
            match text.trim() {
                "two" => Evaluated::Text("2".into()),
                "bad" => Evaluated::Failed(Fault::new("no", 0..3)),
                _ => Evaluated::Unknown,
            }
        }
    }

    const SCOPE: Names = Names(&[
        ("a", "A"),
        ("item", "x"),
        ("p.x", "deep"),
        ("workflow.annotations.k8s-webhook-handler.io/ref", "main"),
        ("q", "say \"hi\"\n"),
        ("gone", "<absent>"),
    ]);

    fn sub(text: &str) -> Result<String, Vec<Fault>> {
        substitute(text, &SCOPE, &Options { strict: &["tasks"], strict_all: false })
    }

    #[test]
    fn tags_are_replaced_or_left() {
        for (text, result) in [
            ("no tags", "no tags"),
            ("{{a}}", "A"),
            ("<{{ a }}{{a}}>", "<AA>"),
            ("{{workflow.annotations.k8s-webhook-handler.io/ref}}", "main"),
            ("{{unknown}} {{a}}", "{{unknown}} A"),
            ("{{ unknown }}", "{{ unknown }}"),
            ("{{p.{{item}}}}", "deep"),
            ("{{z.{{item}}}}", "{{z.x}}"),
            ("{{=two}}", "2"),
            ("{{= {\"a\": {\"b\": 1}} }}", "{{= {\"a\": {\"b\": 1}} }}"),
            ("{{= '}}' + two }}", "{{= '}}' + two }}"),
            ("{{ =two}}", "{{ =two}}"),
            ("{{a", "{{a"),
            ("a}}", "a}}"),
            ("{{{a}}}", "{A}"),
            ("{{q}}", "say \"hi\"\n"),
            ("{{}}", "{{}}"),
        ] {
            assert_eq!(sub(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn strict_names_and_absent_values_are_faults() {
        let faults = sub("x {{tasks.b.outputs.result}} {{=bad}} {{gone}}").unwrap_err();
        let ranges: Vec<_> = faults.iter().map(|f| f.range.clone()).collect();
        assert_eq!(ranges, [2..28, 32..35, 38..46]);
    }

    #[test]
    fn values_are_walked_with_keys() {
        let value = json!({"{{a}}": ["{{a}}", 1, null], "b/c": "{{tasks.x}}"});
        let options = Options { strict: &["tasks"], strict_all: false };
        assert_eq!(substitute_value(&value, &SCOPE, &options).unwrap_err()[0].0, "/b~1c");
        let value = substitute_value(&value, &SCOPE, &Options::default()).unwrap();
        assert_eq!(value, json!({"A": ["A", 1, null], "b/c": "{{tasks.x}}"}));
    }
}
