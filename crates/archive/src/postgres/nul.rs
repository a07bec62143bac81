//! The character NUL, which PostgreSQL has in no text: Argo writes a word for it and reads the word back, and so must we, so
//! that either reads what the other wrote. Knows texts and nothing else.

/// Argo's word.
const WORD: &str = "ARGO_POSTGRES_NULL_REPLACEMENT";
const ESCAPE: &str = "\\u0000";

/// JSON without any NUL in its texts.
pub(super) fn without(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find(ESCAPE) {
        let before = rest.get(..at).unwrap_or_default();
        let slashes = before.len() - before.trim_end_matches('\\').len();
        out.push_str(before);
        // After an odd number of them this one is a backslash of the text, and what follows are letters.
        out.push_str(if slashes % 2 == 0 { WORD } else { ESCAPE });
        rest = rest.get(at + ESCAPE.len()..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// JSON with them again.
pub(super) fn with(json: &str) -> String {
    json.replace(WORD, ESCAPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_nul_stays() {
        let value = json!({"a\0": "b\0\0", "c": "\\u0000", "d": "\\\\u0000 \\\\\\\0"});
        let text = without(&value.to_string());
        assert!(!text.replace("\\\\u0000", "").contains(ESCAPE), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&with(&text)).ok(), Some(value));
    }
}
