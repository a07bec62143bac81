//! The user's text: YAML with spans, diagnostics, tags, expressions.
