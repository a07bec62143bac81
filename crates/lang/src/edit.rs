//! Edits of a text by place: what is not edited stays as it is, to the byte. Knows no grammar.

use crate::diagnostic::Fix;

/// The text with every edit made; nothing when two of them overlap or a place is not in the text.
pub fn apply<'a>(text: &str, edits: impl IntoIterator<Item = &'a Fix>) -> Option<String> {
    let mut edits: Vec<&Fix> = edits.into_iter().collect();
    edits.sort_by_key(|e| (e.span.start, e.span.end));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        out.push_str(text.get(at..edit.span.start)?);
        text.get(edit.span.range())?;
        out.push_str(&edit.replacement);
        at = edit.span.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{SourceId, Span};

    #[test]
    fn edits_touch_nothing_else() {
        let edit = |range: std::ops::Range<usize>, text: &str| Fix {
            span: Span::new(SourceId::default(), range),
            replacement: text.to_owned(),
        };
        assert_eq!(apply("abcdef", &[edit(4..5, "E"), edit(1..2, ""), edit(2..2, "+")]).as_deref(), Some("a+cdEf"));
        assert_eq!(apply("abc", &[edit(0..2, "x"), edit(1..3, "y")]), None);
        assert_eq!(apply("aä", &[edit(2..3, "x")]), None);
    }
}
