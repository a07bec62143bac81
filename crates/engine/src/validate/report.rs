//! Collects diagnostics with their places. Decides nothing.

use std::ops::Range;

use windlass_lang::yaml::Document;
use windlass_lang::{Diagnostic, Fix, Severity, Sources, Span};

pub(super) struct Report<'a> {
    document: &'a Document,
    sources: &'a Sources,
    out: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(super) fn new(document: &'a Document, sources: &'a Sources) -> Self {
        Self { document, sources, out: Vec::new() }
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.out
    }

    /// An error at the value of `pointer`.
    pub(super) fn error(&mut self, code: &'static str, pointer: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, code, pointer, message.into())
    }

    /// A warning at the value of `pointer`.
    pub(super) fn warning(&mut self, code: &'static str, pointer: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, code, pointer, message.into())
    }

    /// An error at the key of `pointer`, for what lacks something.
    pub(super) fn error_key(
        &mut self,
        code: &'static str,
        pointer: &str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.key(Severity::Error, code, pointer, message.into())
    }

    /// A warning at the key of `pointer`.
    pub(super) fn warning_key(
        &mut self,
        code: &'static str,
        pointer: &str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.key(Severity::Warning, code, pointer, message.into())
    }

    /// A finding at the key of `pointer`.
    pub(super) fn key(
        &mut self,
        severity: Severity,
        code: &'static str,
        pointer: &str,
        message: String,
    ) -> &mut Diagnostic {
        let message = self.worded(message, pointer);
        let mut diagnostic = Diagnostic::new(severity, code, message);
        if let Some(span) = self.document.key_span(pointer) {
            diagnostic = diagnostic.at(span, "");
        }
        self.push(diagnostic)
    }

    /// An error at a part of the text at `pointer`.
    pub(super) fn error_in(
        &mut self,
        code: &'static str,
        pointer: &str,
        range: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.part(Severity::Error, code, pointer, range, message.into())
    }

    /// A warning at a part of the text at `pointer`.
    pub(super) fn warning_in(
        &mut self,
        code: &'static str,
        pointer: &str,
        range: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.part(Severity::Warning, code, pointer, range, message.into())
    }

    /// A finding at a part of the text at `pointer`.
    pub(super) fn part(
        &mut self,
        severity: Severity,
        code: &'static str,
        pointer: &str,
        range: Range<usize>,
        message: String,
    ) -> &mut Diagnostic {
        match self.document.text_span(self.sources, pointer, range) {
            Some(span) => self.push(Diagnostic::new(severity, code, message).at(span, "")),
            None => self.add(severity, code, pointer, message),
        }
    }

    /// A finding at the value of `pointer`.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        pointer: &str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let message = self.worded(message.into(), pointer);
        let mut diagnostic = Diagnostic::new(severity, code, message);
        if let Some(span) = self.document.value_span(pointer) {
            diagnostic = diagnostic.at(span, "");
        }
        self.push(diagnostic)
    }

    fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.out.push(diagnostic);
        self.out.last_mut().expect("invariant: just pushed")
    }

    /// Where there is no text to point into, the path says where.
    fn worded(&self, message: String, pointer: &str) -> String {
        if self.document.has_places() || pointer.is_empty() {
            return message;
        }
        format!("{message} (at {})", dotted(pointer))
    }

    /// Adds a place for context to what was just reported.
    pub(super) fn also(&mut self, pointer: &str, text: &str) {
        if let (Some(span), Some(last)) = (self.document.value_span(pointer), self.out.last_mut()) {
            *last = std::mem::replace(last, Diagnostic::error("", "")).also(span, text);
        }
    }

    /// Adds help to what was just reported.
    pub(super) fn help(&mut self, text: impl Into<String>) {
        if let Some(last) = self.out.last_mut() {
            last.help = Some(text.into());
        }
    }

    /// What is written at a place.
    pub(super) fn text(&self, span: Span) -> Option<&'a str> {
        written(self.sources, span)
    }

    /// Offers a replacement as the fix of what was just reported.
    pub(super) fn replace(&mut self, span: Span, replacement: String) {
        if let Some(last) = self.out.last_mut() {
            last.fix = Some(Fix { span, replacement });
        }
    }

    /// Offers the suggestion that was just made for `wrong`, which is a part of the place, as a fix of that part.
    pub(super) fn fix_within(&mut self, wrong: &str) {
        let Some(last) = self.out.last_mut() else { return };
        let near = last.help.as_deref().and_then(|h| h.strip_prefix("did you mean `")?.strip_suffix("`?"));
        let Some(span) = last.labels.first().map(|l| l.span) else { return };
        let raw = written(self.sources, span);
        if let (Some(near), Some(at)) = (near, raw.and_then(|r| r.find(wrong))) {
            let replacement = near.to_owned();
            last.fix = Some(Fix { span: span.slice(at..at + wrong.len()), replacement });
        }
    }

    /// Offers the nearest of `candidates` for `wrong`, as help and as a fix of the first place.
    pub(super) fn suggest<'n>(&mut self, wrong: &str, candidates: impl IntoIterator<Item = &'n str>) -> bool {
        let Some(near) = windlass_lang::suggest::nearest(wrong, candidates) else { return false };
        let Some(last) = self.out.last_mut() else { return false };
        last.help = Some(format!("did you mean `{near}`?"));
        let span = last.labels.first().map(|l| l.span);
        if let Some(span) = span {
            let raw = written(self.sources, span);
            if raw == Some(wrong) {
                last.fix = Some(Fix { span, replacement: near.to_owned() });
            }
        }
        true
    }
}

fn written(sources: &Sources, span: Span) -> Option<&str> {
    sources.get(span.source).and_then(|s| s.text.get(span.range()))
}

/// `/spec/templates/0/name` as people write it: `spec.templates[0].name`.
pub(super) fn dotted(pointer: &str) -> String {
    let mut out = String::new();
    for part in pointer.split('/').skip(1) {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            out.push_str(&format!("[{part}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    out
}
