//! The one renderer of diagnostics: for terminals, pages and statuses, and as JSON for machines. Decides nothing about
//! what is wrong.

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{Sources, Span};

/// Renders diagnostics with the lines they talk about, errors and warnings in the order given, and a count at the end.
///
/// `color` adds ANSI escapes; the caller knows whether the output is a terminal.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&one(diagnostic, sources, &renderer));
        out.push_str("\n\n");
    }
    if let Some(line) = summary(diagnostics) {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// `2 errors, 1 warning`, or nothing when there is nothing.
pub fn summary(diagnostics: &[Diagnostic]) -> Option<String> {
    let mut parts = Vec::new();
    for (severity, word) in [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")] {
        match diagnostics.iter().filter(|d| d.severity == severity).count() {
            0 => {}
            1 => parts.push(format!("1 {word}")),
            n => parts.push(format!("{n} {word}s")),
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn one(diagnostic: &Diagnostic, sources: &Sources, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_title(level.primary_title(&diagnostic.message).id(diagnostic.code.as_ref()));
    let mut seen: Vec<crate::SourceId> = Vec::new();
    for label in &diagnostic.labels {
        let id = label.span.source;
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        let Some(source) = sources.get(id) else { continue };
        let mut snippet = Snippet::source(&source.text).path(&source.name).fold(true);
        for label in diagnostic.labels.iter().filter(|l| l.span.source == id) {
            let kind = if label.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation = kind.span(visible(&source.text, label.span));
            snippet = snippet.annotation(match label.text.as_str() {
                "" => annotation,
                text => annotation.label(text),
            });
        }
        group = group.element(snippet);
    }
    let mut report = Vec::new();
    match (&diagnostic.help, &diagnostic.fix) {
        (help, Some(fix)) if sources.get(fix.span.source).is_some() => {
            let source = sources.get(fix.span.source).expect("invariant: checked by the guard");
            report.push(group);
            let title = help.as_deref().unwrap_or("write this instead");
            report.push(
                Level::HELP.secondary_title(title).element(
                    Snippet::source(&source.text)
                        .path(&source.name)
                        .fold(true)
                        .patch(Patch::new(clamp(&source.text, fix.span), fix.replacement.as_str())),
                ),
            );
        }
        (Some(help), _) => report.push(group.element(Level::HELP.message(help))),
        (None, _) => report.push(group),
    }
    renderer.render(&report)
}

/// Cuts a span to the text and to whole characters, so that no place can make the renderer fail.
fn clamp(text: &str, span: Span) -> std::ops::Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

/// A label over several lines shows only its first line: a whole block underlined says less than its head.
fn visible(text: &str, span: Span) -> std::ops::Range<usize> {
    let range = clamp(text, span);
    match text[range.clone()].find('\n') {
        Some(end) if end > 0 => range.start..range.start + end,
        _ => range,
    }
}

/// The machine-readable form: an array of objects with `code`, `severity`, `message`, `labels` (each with `file`,
/// `start` and `end` as line and column, `offset` and `length` in bytes), `help` and `fix`.
pub fn to_json(diagnostics: &[Diagnostic], sources: &Sources) -> Value {
    Value::Array(diagnostics.iter().map(|d| json_one(d, sources)).collect())
}

fn json_one(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let mut object = json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity.as_str(),
        "message": diagnostic.message,
        "labels": diagnostic.labels.iter().map(|label| {
            let mut place = json_span(label.span, sources);
            place["text"] = json!(label.text);
            place["primary"] = json!(label.primary);
            place
        }).collect::<Vec<_>>(),
    });
    if let Some(help) = &diagnostic.help {
        object["help"] = json!(help);
    }
    if let Some(fix) = &diagnostic.fix {
        object["fix"] = json_span(fix.span, sources);
        object["fix"]["replacement"] = json!(fix.replacement);
    }
    object
}

fn json_span(span: Span, sources: &Sources) -> Value {
    let mut object = json!({ "offset": span.start, "length": span.end - span.start });
    if let Some(source) = sources.get(span.source) {
        object["file"] = json!(source.name);
        object["start"] = json!(source.position(span.start));
        object["end"] = json!(source.position(span.end));
    }
    object
}
