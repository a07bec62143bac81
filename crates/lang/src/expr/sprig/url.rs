//! sprig's `urlParse` and `urlJoin`: a URL's parts as a map, by Go's rules. Only text: nothing is looked up.

use std::collections::BTreeMap;

use super::Value;

fn unescape(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' {
            let hex = text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
            out.push(hex.ok_or_else(|| format!("`{text}` has an escape that is none"))?);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn escape(text: &str, plain: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || plain.as_bytes().contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

const PATH: &str = "$&+,/:;=@";

/// The parts of a URL.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let wrong = |why: &str| format!("`{text}` is no URL: {why}");
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(wrong("it holds a control character"));
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = scheme(rest).ok_or_else(|| wrong("its scheme is missing"))?;
    let mut part = BTreeMap::new();
    for name in ["fragment", "host", "hostname", "opaque", "path", "query", "scheme", "userinfo"] {
        part.insert(name, String::new());
    }
    part.insert("scheme", scheme.to_ascii_lowercase());
    part.insert("fragment", unescape(fragment)?);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    part.insert("query", query.to_owned());
    let mut path = rest;
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            part.insert("opaque", rest.to_owned());
            path = "";
        } else if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err(wrong("its first part holds a colon"));
        }
    } else if let Some(after) = rest.strip_prefix("//")
        && (!scheme.is_empty() || !rest.starts_with("///"))
    {
        let (authority, below) = after.split_at(after.find('/').unwrap_or(after.len()));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
        if let Some(user) = user {
            part.insert("userinfo", user.to_owned());
        }
        let bracketed = host.starts_with('[');
        let (name, port) = if bracketed {
            let end = host.find(']').ok_or_else(|| wrong("a `]` is missing in its host"))?;
            (&host[1..end], &host[end + 1..])
        } else {
            host.split_at(host.find(':').unwrap_or(host.len()))
        };
        let good_port =
            port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
        if !good_port {
            return Err(wrong("its port is no number"));
        }
        if !bracketed && name.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']) {
            return Err(wrong("a character does not belong in a host"));
        }
        part.insert("host", unescape(host)?);
        part.insert("hostname", unescape(name)?);
        path = below;
    }
    part.insert("path", unescape(path)?);
    Ok(Value::Map(part.into_iter().map(|(k, v)| (k.to_owned(), Value::Text(v))).collect()))
}

/// The scheme, and what follows it; nothing when there is a colon but no scheme before it.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return None,
            ':' => return Some((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Some(("", text))
}

/// A URL of parts.
pub(super) fn join(parts: &BTreeMap<String, Value>) -> Result<Value, String> {
    let part = |name: &str| match parts.get(name) {
        None => Ok(""),
        Some(Value::Text(text)) => Ok(text.as_str()),
        Some(other) => Err(format!("`{name}` of a URL must be text, and is {}", other.kind())),
    };
    let (scheme, opaque, host, path) = (part("scheme")?, part("opaque")?, part("host")?, part("path")?);
    let (user, query, fragment) = (part("userinfo")?, part("query")?, part("fragment")?);
    let mut out = String::new();
    if !scheme.is_empty() {
        out.push_str(scheme);
        out.push(':');
    }
    if !opaque.is_empty() {
        out.push_str(opaque);
    } else {
        if !scheme.is_empty() || !host.is_empty() || !user.is_empty() {
            if !host.is_empty() || !path.is_empty() || !user.is_empty() {
                out.push_str("//");
            }
            if !user.is_empty() {
                out.push_str(user);
                out.push('@');
            }
            out.push_str(&escape(host, "!$&'()*+,;=:[]<>\""));
        }
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            out.push('/');
        }
        if out.is_empty() && path.split('/').next().is_some_and(|first| first.contains(':')) {
            out.push_str("./");
        }
        out.push_str(&escape(path, PATH));
    }
    if !query.is_empty() {
        out.push('?');
        out.push_str(query);
    }
    if !fragment.is_empty() {
        out.push('#');
        out.push_str(&escape(fragment, "!$&'()*+,/:;=?@"));
    }
    Ok(Value::Text(out))
}
