//! Logical lines: continuations joined, comments and blank lines left out, heredocs taken along, and each byte's place in
//! the text kept. Knows no instruction except those that may have heredocs.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use windlass_lang::{Diagnostic, SourceId, Span};

use super::Heredoc;

/// One logical line.
#[derive(Debug)]
pub(super) struct Line {
    /// The text, joined.
    pub(super) text: String,
    /// Where pieces of it come from: offset here, offset in the source.
    pieces: Vec<(usize, usize)>,
    source: SourceId,
    /// The texts that follow.
    pub(super) heredocs: Vec<Heredoc>,
}

impl Line {
    /// The place of a part of this line.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self.place(range.start);
        let end = if range.end > range.start { self.place(range.end - 1) + 1 } else { start };
        Span::new(self.source, start..end)
    }

    /// The place of all of it.
    pub(super) fn whole(&self) -> Span {
        self.span(0..self.text.trim_end().len())
    }

    fn place(&self, offset: usize) -> usize {
        let at = self.pieces.partition_point(|(here, _)| *here <= offset);
        self.pieces.get(at.saturating_sub(1)).map_or(0, |(here, there)| there + (offset - here))
    }
}

/// What the first lines say about the file itself.
pub(super) struct Read {
    pub(super) lines: Vec<Line>,
    pub(super) escape: char,
    pub(super) faults: Vec<Diagnostic>,
}

/// A physical line: offset, and text without its end.
fn physical(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut at = 0;
    for piece in text.split_inclusive('\n') {
        let line = piece.strip_suffix('\n').unwrap_or(piece);
        lines.push((at, line.strip_suffix('\r').unwrap_or(line)));
        at += piece.len();
    }
    if let Some(first) = lines.first_mut()
        && let Some(rest) = first.1.strip_prefix('\u{feff}')
    {
        *first = (first.0 + '\u{feff}'.len_utf8(), rest);
    }
    lines
}

pub(super) fn read(text: &str, source: SourceId) -> Read {
    let physical = physical(text);
    let mut faults = Vec::new();
    let (mut at, escape) = directives(&physical, source, &mut faults);
    let mut lines = Vec::new();
    while at < physical.len() {
        if is_skipped(physical[at].1) {
            at += 1;
            continue;
        }
        let mut line = Line { text: String::new(), pieces: Vec::new(), source, heredocs: Vec::new() };
        let mut first = true;
        while at < physical.len() {
            let (offset, raw) = physical[at];
            at += 1;
            if !first && is_skipped(raw) {
                continue;
            }
            let skip = if first { raw.len() - raw.trim_start().len() } else { 0 };
            first = false;
            let piece = &raw[skip..];
            line.pieces.push((line.text.len(), offset + skip));
            match continued(piece, escape) {
                Some(kept) => line.text.push_str(kept),
                None => {
                    line.text.push_str(piece);
                    break;
                }
            }
        }
        line.text.truncate(line.text.trim_end().len());
        if line.text.is_empty() {
            continue;
        }
        let word = line.text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if matches!(word.as_str(), "RUN" | "COPY" | "ADD") {
            at = heredocs(&mut line, &physical, at, &mut faults);
        }
        lines.push(line);
    }
    Read { lines, escape, faults }
}

fn is_skipped(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The line without its continuation mark, if it has one. Two escape characters are not one.
fn continued(line: &str, escape: char) -> Option<&str> {
    let kept = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!kept.ends_with(escape)).then_some(kept)
}

/// `# syntax=`, `# escape=`, `# check=`: only before anything else, each once.
fn directives(lines: &[(usize, &str)], source: SourceId, faults: &mut Vec<Diagnostic>) -> (usize, char) {
    static DIRECTIVE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\s*#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$").expect("invariant: the pattern is valid")
    });
    let mut escape = '\\';
    let mut seen: Vec<String> = Vec::new();
    for (at, (offset, line)) in lines.iter().enumerate() {
        let Some(found) = DIRECTIVE.captures(line) else { return (at, escape) };
        let name = found[1].to_lowercase();
        if !["syntax", "escape", "check"].contains(&name.as_str()) {
            return (at, escape);
        }
        let span = Span::new(source, *offset..offset + line.len());
        if seen.contains(&name) {
            let fault = Diagnostic::error("dockerfile::directive", format!("the directive `{name}` is given twice"));
            faults.push(fault.at(span, "").help("keep one of them"));
        }
        if name == "escape" {
            match &found[2] {
                "\\" => {}
                "`" => escape = '`',
                other => faults.push(
                    Diagnostic::error("dockerfile::directive", format!("`{other}` cannot be the escape character"))
                        .at(span, "")
                        .help("it is `\\` or a backtick"),
                ),
            }
        }
        seen.push(name);
    }
    (lines.len(), escape)
}

/// Takes the bodies of the line's heredocs from the lines after it.
fn heredocs(line: &mut Line, lines: &[(usize, &str)], mut at: usize, faults: &mut Vec<Diagnostic>) -> usize {
    static MARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"^\d*<<(-?)(?:([A-Za-z_][\w.-]*)|"([\w.-]+)"|'([\w.-]+)')"#)
            .expect("invariant: the pattern is valid")
    });
    let mut marks = Vec::new();
    for range in unquoted_words(&line.text) {
        let Some(found) = MARK.captures(&line.text[range.clone()]) else { continue };
        let name = found.get(2).or(found.get(3)).or(found.get(4)).map_or("", |m| m.as_str());
        marks.push((range, name.to_owned(), found.get(2).is_some(), &found[1] == "-"));
    }
    for (range, name, expand, strip) in marks {
        let mut body = String::new();
        let mut ended = false;
        while at < lines.len() {
            let raw = lines[at].1;
            at += 1;
            let kept = if strip { raw.trim_start_matches('\t') } else { raw };
            if kept == name {
                ended = true;
                break;
            }
            body.push_str(kept);
            body.push('\n');
        }
        if !ended {
            let fault =
                Diagnostic::error("dockerfile::heredoc", format!("the text that starts here has no end `{name}`"));
            let fault = fault.at(line.span(range), "");
            faults.push(fault.help(format!("put `{name}` on a line of its own after the text")));
        }
        line.heredocs.push(Heredoc { name, expand, strip, body });
    }
    at
}

/// Words by blanks outside of quotes; only those that start outside of quotes.
fn unquoted_words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let (mut start, mut quote, mut escaped) = (None, None, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match (quote, c) {
            (Some('\''), '\'') => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => escaped = true,
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, c) if c.is_whitespace() => {
                if let Some(start) = start.take() {
                    words.push(start..at);
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (None, _) => {}
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|start| start..text.len()));
    words
}
