//! JSON as Go's `encoding/json` sees it: what it finds wrong with a text, in its own words, and how it writes a text that
//! is JSON already. Never parses into values.

/// Deeper than this Go refuses to look.
const DEPTH_MAX: usize = 10_000;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
}

/// What Go's decoder says of a text that is no JSON; nothing of one that is.
///
/// Matches `encoding/json` of Go 1.26: `invalid character 'x' looking for beginning of value` and its kin.
pub fn fault(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut open: Vec<u8> = Vec::new();
    let (mut next, mut at) = (Next::Value, 0);
    let wrong = |c: u8, context: &str| Some(format!("invalid character {} {context}", quoted(c)));
    while at < bytes.len() {
        let c = bytes[at];
        if c.is_ascii_whitespace() && c != 0x0c {
            at += 1;
            continue;
        }
        at += 1;
        next = match (next, c) {
            (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') => {
                open.pop();
                after(&open)
            }
            (Next::Key | Next::KeyOrEnd, b'"') => match string(bytes, &mut at) {
                Ok(()) => Next::Colon,
                Err(said) => return Some(said),
            },
            (Next::Key | Next::KeyOrEnd, _) => return wrong(c, "looking for beginning of object key string"),
            (Next::Colon, b':') => Next::Value,
            (Next::Colon, _) => return wrong(c, "after object key"),
            (Next::CommaOrEnd, b',') => {
                if open.last() == Some(&b'{') {
                    Next::Key
                } else {
                    Next::Value
                }
            }
            (Next::CommaOrEnd, b'}') if open.last() == Some(&b'{') => {
                open.pop();
                after(&open)
            }
            (Next::CommaOrEnd, b']') if open.last() == Some(&b'[') => {
                open.pop();
                after(&open)
            }
            (Next::CommaOrEnd, _) if open.last() == Some(&b'{') => return wrong(c, "after object key:value pair"),
            (Next::CommaOrEnd, _) => return wrong(c, "after array element"),
            (Next::Nothing, _) => return wrong(c, "after top-level value"),
            (Next::Value | Next::ValueOrEnd, b'{' | b'[') => {
                if open.len() == DEPTH_MAX {
                    return Some("exceeded max depth".to_owned());
                }
                open.push(c);
                if c == b'{' { Next::KeyOrEnd } else { Next::ValueOrEnd }
            }
            (Next::Value | Next::ValueOrEnd, _) => {
                let read = match c {
                    b'"' => string(bytes, &mut at),
                    b'-' | b'0'..=b'9' => number(bytes, c, &mut at),
                    b't' => word(bytes, "true", &mut at),
                    b'f' => word(bytes, "false", &mut at),
                    b'n' => word(bytes, "null", &mut at),
                    _ => return wrong(c, "looking for beginning of value"),
                };
                match read {
                    Ok(()) => after(&open),
                    Err(said) => return Some(said),
                }
            }
        };
    }
    (next != Next::Nothing).then(ended)
}

/// What a JSON text is for Go's error of a wrong kind: `object`, `array`, `string`, `number`, `bool`, `null`.
pub fn kind(text: &str) -> &'static str {
    match text.trim_start().bytes().next() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// A JSON text without blanks between its parts and with `<`, `>` and `&` escaped, as Go writes a raw message.
pub fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut within, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            ' ' | '\t' | '\n' | '\r' if !within => {}
            _ => out.push(c),
        }
        within = if escaped { within } else { within ^ (c == '"') };
        escaped = within && !escaped && c == '\\';
    }
    out
}

fn after(open: &[u8]) -> Next {
    if open.is_empty() { Next::Nothing } else { Next::CommaOrEnd }
}

fn ended() -> String {
    "unexpected end of JSON input".to_owned()
}

fn said(c: u8, context: &str) -> String {
    format!("invalid character {} {context}", quoted(c))
}

/// What stands there; Go's scanner ends a text with a blank of its own.
fn or_blank(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(b' ')
}

/// The rest of a string, whose first quote has been read.
fn string(bytes: &[u8], at: &mut usize) -> Result<(), String> {
    while let Some(&c) = bytes.get(*at) {
        *at += 1;
        match c {
            b'"' => return Ok(()),
            b'\\' => {
                let c = or_blank(bytes, *at);
                *at += 1;
                match c {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let c = or_blank(bytes, *at);
                            *at += 1;
                            if !c.is_ascii_hexdigit() {
                                return Err(said(c, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    _ => return Err(said(c, "in string escape code")),
                }
            }
            0..0x20 => return Err(said(c, "in string literal")),
            _ => {}
        }
    }
    Err(ended())
}

/// The rest of a number, whose first character has been read.
fn number(bytes: &[u8], first: u8, at: &mut usize) -> Result<(), String> {
    let digits = |at: &mut usize| {
        while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
            *at += 1;
        }
    };
    let one = |at: &mut usize, context: &str| match or_blank(bytes, *at) {
        c if c.is_ascii_digit() => {
            *at += 1;
            Ok(c)
        }
        c => Err(said(c, context)),
    };
    let first = if first == b'-' { one(at, "in numeric literal")? } else { first };
    if first != b'0' {
        digits(at);
    }
    if bytes.get(*at) == Some(&b'.') {
        *at += 1;
        one(at, "after decimal point in numeric literal")?;
        digits(at);
    }
    if matches!(bytes.get(*at), Some(b'e' | b'E')) {
        *at += 1;
        if matches!(bytes.get(*at), Some(b'+' | b'-')) {
            *at += 1;
        }
        one(at, "in exponent of numeric literal")?;
        digits(at);
    }
    Ok(())
}

/// The rest of a word, whose first letter has been read.
fn word(bytes: &[u8], word: &str, at: &mut usize) -> Result<(), String> {
    for expected in word.bytes().skip(1) {
        match or_blank(bytes, *at) {
            c if c == expected => *at += 1,
            c => return Err(said(c, &format!("in literal {word} (expecting {})", quoted(expected)))),
        }
    }
    Ok(())
}

/// A byte as Go shows it in such a message.
fn quoted(c: u8) -> String {
    match c {
        b'\'' => "'\\''".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        0x07 => "'\\a'".to_owned(),
        0x08 => "'\\b'".to_owned(),
        0x0b => "'\\v'".to_owned(),
        0x0c => "'\\f'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{c:02x}'"),
        // Go makes a rune of the byte alone.
        0x80..=0xa0 | 0xad => format!("'\\u{c:04x}'"),
        _ => format!("'{}'", char::from(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_gos() {
        for (text, want) in [
            ("gv", "invalid character 'g' looking for beginning of value"),
            ("", "unexpected end of JSON input"),
            ("  ", "unexpected end of JSON input"),
            ("[1,2", "unexpected end of JSON input"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1] x", "invalid character 'x' after top-level value"),
            ("{a: 1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("trUe", "invalid character 'U' in literal true (expecting 'u')"),
            ("heads", "invalid character 'h' looking for beginning of value"),
            ("tails", "invalid character 'a' in literal true (expecting 'r')"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e", "invalid character ' ' in exponent of numeric literal"),
            ("nul", "invalid character ' ' in literal null (expecting 'l')"),
            ("\"\\", "invalid character ' ' in string escape code"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
            ("é", "invalid character 'Ã' looking for beginning of value"),
        ] {
            assert_eq!(fault(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_json_has_no_fault() {
        for text in
            ["[]", "{}", " [1, 2] ", "0", "-0.5e+3", "null", "\"\\u00e9\"", "{\"a\":{\"b\":[true,{}]}}", "\"é\""]
        {
            assert_eq!(fault(text), None, "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
        let deep = "[".repeat(20_000);
        assert_eq!(fault(&deep).as_deref(), Some("exceeded max depth"));
    }

    #[test]
    fn blanks_go_and_markup_is_escaped() {
        assert_eq!(
            compact("{ \"b\" : [1, 2],\n\"a\": \"x <y> \\\" z\" }"),
            "{\"b\":[1,2],\"a\":\"x \\u003cy\\u003e \\\" z\"}"
        );
    }
}
