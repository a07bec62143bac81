//! Argo 3's spellings as Argo 4 has them, by edits of the text: comments, order and quotes stay. What cannot be edited
//! safely is left and told. Text in, edits out; nothing is written here.

use serde_json::{Value, json};
use windlass_lang::yaml::{Document, Style, child};
use windlass_lang::{Diagnostic, Fix, Sources, Span};

/// What is to be changed in one document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversion {
    /// The changes, each with its words.
    pub changes: Vec<Change>,
    /// What is left for people.
    pub by_hand: Vec<Diagnostic>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The field's place before.
    pub span: Span,
    /// What was done.
    pub what: String,
    /// The edits of the text.
    pub edits: Vec<Fix>,
    /// The field that changed, as a JSON pointer, and its new name.
    field: (String, &'static str),
}

/// Finds what is spelled as Argo 3 has it.
pub fn convert(document: &Document, sources: &Sources) -> Conversion {
    let mut out = Conversion::default();
    if !crate::validate::is_ours(document) {
        return out;
    }
    let text = document.value_span("").and_then(|s| sources.get(s.source)).map_or("", |s| s.text.as_str());
    let kind = document.value["kind"].as_str().unwrap_or_default();
    let mut owners = Vec::new();
    walk(&document.value["spec"], "/spec", &mut owners);
    if kind == "CronWorkflow" {
        field(document, text, "/spec/schedule", "schedules", &mut out);
    }
    for owner in &owners {
        let at = child(owner, "synchronization");
        field(document, text, &child(&at, "mutex"), "mutexes", &mut out);
        field(document, text, &child(&at, "semaphore"), "semaphores", &mut out);
    }
    for base in ["/spec/podPriority", "/spec/workflowSpec/podPriority"] {
        if document.value.pointer(base).is_some_and(|v| !v.is_null()) {
            let why = "a number has no counterpart: name the PriorityClass that has it, in `podPriorityClassName`";
            by_hand(document, base, why, &mut out);
        }
    }
    out
}

/// The value as it must be after the changes: what an edited text is held against.
pub fn converted_value(document: &Document, conversion: &Conversion) -> Value {
    let mut value = document.value.clone();
    for change in &conversion.changes {
        let (pointer, newer) = &change.field;
        let Some((parent, old)) = pointer.rsplit_once('/') else { continue };
        let Some(map) = value.pointer_mut(parent).and_then(Value::as_object_mut) else { continue };
        if let Some(one) = map.remove(old) {
            map.insert((*newer).to_owned(), json!([one]));
        }
    }
    value
}

/// Every place that may have `synchronization`: the spec and its templates, inline ones too.
fn walk(value: &Value, at: &str, owners: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if map.get("synchronization").is_some_and(Value::is_object) {
                owners.push(at.to_owned());
            }
            for key in ["templates", "templateDefaults", "workflowSpec", "steps", "dag", "tasks", "inline"] {
                if let Some(inner) = map.get(key) {
                    walk(inner, &child(at, key), owners);
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                walk(item, &format!("{at}/{i}"), owners);
            }
        }
        _ => {}
    }
}

/// One field with one value becomes a field with a list of it.
fn field(document: &Document, text: &str, pointer: &str, newer: &'static str, out: &mut Conversion) {
    let Some(value) = document.value.pointer(pointer).filter(|v| !v.is_null()) else { return };
    let old = pointer.rsplit('/').next().unwrap_or_default();
    let sibling = pointer.rsplit_once('/').map(|(parent, _)| child(parent, newer)).unwrap_or_default();
    if document.value.pointer(&sibling).is_some_and(|v| !v.is_null()) {
        by_hand(document, pointer, &format!("`{newer}` is there too: put both into one list"), out);
        return;
    }
    match edits(document, text, pointer, newer, value) {
        Some((span, edits)) => {
            let what = format!("`{old}` is now `{newer}`, a list");
            out.changes.push(Change { span, what, edits, field: (pointer.to_owned(), newer) });
        }
        None => by_hand(document, pointer, &format!("write `{newer}`, a list with this as its one entry"), out),
    }
}

fn edits(document: &Document, text: &str, pointer: &str, newer: &str, value: &Value) -> Option<(Span, Vec<Fix>)> {
    let place = document.place(pointer)?;
    let key = place.key?;
    // Between key and value there may be nothing but blanks and comments: no anchor, no tag, and no alias, whose value
    // stands elsewhere.
    let between = text.get(key.end..place.value.start)?;
    let mut lines = between.strip_prefix(':')?.lines();
    if !lines.all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
        return None;
    }
    let raw = text.get(place.value.range())?.trim_end();
    let whole = Span::new(place.value.source, place.value.start..place.value.start + raw.len());
    let quote = text.get(key.range()).and_then(|k| k.chars().next()).filter(|c| matches!(c, '"' | '\''));
    let quote = quote.map(String::from).unwrap_or_default();
    let rename = Fix { span: key, replacement: format!("{quote}{newer}{quote}") };
    let is_flow = raw.starts_with('{') || (place.style == Style::Flow && !value.is_object());
    if is_flow {
        // Plain words mean other things within brackets.
        let one = if raw.starts_with(['"', '\'', '{']) { raw.to_owned() } else { json!(value.as_str()?).to_string() };
        return Some((key, vec![rename, Fix { span: whole, replacement: format!("[{one}]") }]));
    }
    if !value.is_object() {
        return None;
    }
    // A block: its first key moves behind a dash, which takes two of the blanks in front of it.
    let start = whole.start;
    let line = text[..start].rfind('\n').map_or(0, |i| i + 1);
    let key_line = text[..key.start].rfind('\n').map_or(0, |i| i + 1);
    let indented = text[line..start].bytes().all(|b| b == b' ');
    if line <= key.end || !indented || start - line < key.start - key_line + 2 {
        return None;
    }
    let dash = Fix { span: Span::new(whole.source, start - 2..start), replacement: "- ".to_owned() };
    Some((key, vec![rename, dash]))
}

fn by_hand(document: &Document, pointer: &str, help: &str, out: &mut Conversion) {
    let old = pointer.rsplit('/').next().unwrap_or_default();
    let fault = Diagnostic::warning("argo::legacy-field", format!("`{old}` was not converted")).help(help);
    out.by_hand.push(match document.key_span(pointer) {
        Some(span) => fault.at(span, ""),
        None => fault,
    });
}
