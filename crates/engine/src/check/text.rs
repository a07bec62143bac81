//! Tags in the JSON text of a template, found as Argo finds them: from `{{` to the next `}}`, also over the border of a
//! string. Verdict and words depend on that; everything that runs uses [`windlass_lang::tags`], which is kinder.

/// Calls `look` with what stands in each tag.
pub(super) fn tags(text: &str, mut look: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    let all = split(text)?;
    all.iter().try_for_each(|(_, tag)| look(tag))
}

/// The text with something else for each tag.
pub(super) fn replace(
    text: &str,
    mut with: impl FnMut(&str, &mut String) -> Result<(), String>,
) -> Result<String, String> {
    let all = split(text)?;
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (before, tag) in all {
        out.push_str(before);
        done += before.len() + tag.len() + 4;
        with(tag, &mut out)?;
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Every tag with the text in front of it.
fn split(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let body = &rest[start + 2..];
        let Some(end) = body.find("}}") else {
            let (text, body) = (quote(text), quote(body));
            return Err(format!("Cannot find end tag=\"}}}}\" in the template=\"{text}\" starting from \"{body}\""));
        };
        all.push((&rest[..start], &body[..end]));
        rest = &body[end + 2..];
    }
    Ok(all)
}

/// A text as Go quotes it, without the quotes. Not always JSON: a bell is `\a`.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (0x80..0xa0).contains(&(c as u32)) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Whether a text stays JSON when it is quoted Go's way.
pub(super) fn quotes_well(text: &str) -> bool {
    text.bytes().all(|b| (b >= 0x20 && b != 0x7f) || matches!(b, b'\n' | b'\r' | b'\t' | 8 | 12))
}
