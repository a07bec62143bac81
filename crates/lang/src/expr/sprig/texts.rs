//! sprig's functions of plain text: cut, trimmed, cased, repeated, wrapped, quoted.

use super::arguments::{count, text};
use super::cast::shown;
use super::{Found, TEXT_MAX, Value, words};

/// A function by name; nothing when it is none of texts.
pub(super) fn call(name: &str, v: &[Value]) -> Found {
    let out = |t: String| Value::Text(t);
    Ok(Some(match name {
        "hello" => Value::from("Hello!"),
        "trim" => Value::from(text(v, 0)?.trim()),
        "trimAll" | "trimall" => {
            let set = text(v, 0)?;
            Value::from(text(v, 1)?.trim_matches(|c| set.contains(c)))
        }
        "trimPrefix" => {
            let t = text(v, 1)?;
            Value::from(t.strip_prefix(text(v, 0)?).unwrap_or(t))
        }
        "trimSuffix" => {
            let t = text(v, 1)?;
            Value::from(t.strip_suffix(text(v, 0)?).unwrap_or(t))
        }
        "upper" => out(text(v, 0)?.to_uppercase()),
        "lower" => out(text(v, 0)?.to_lowercase()),
        "title" => out(each_word(text(v, 0)?, |c| c.to_uppercase().collect())),
        "untitle" => out(each_word(text(v, 0)?, |c| c.to_lowercase().collect())),
        "repeat" => {
            let n = usize::try_from(count(v, 0)?).map_err(|_| "a text cannot be repeated less than 0 times")?;
            let t = text(v, 1)?;
            if t.len().saturating_mul(n) > TEXT_MAX {
                return Err("this becomes too long".to_owned());
            }
            out(t.repeat(n))
        }
        "substr" => {
            let (from, to, t) = (count(v, 0)?, count(v, 1)?, text(v, 2)?);
            let len = t.len() as i64;
            let range = if from < 0 {
                0..to.min(len)
            } else if to < 0 || to > len {
                from..len
            } else {
                from..to
            };
            let bytes = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let part = bytes.and_then(|(a, b)| t.get(a..b)).ok_or("this part is not in the text")?;
            Value::from(part)
        }
        "trunc" => {
            let (n, t) = (count(v, 0)?, text(v, 1)?);
            let len = t.len() as i64;
            let cut = if n < 0 && len + n > 0 {
                t.get((len + n) as usize..)
            } else if n >= 0 && len > n {
                t.get(..n as usize)
            } else {
                Some(t)
            };
            Value::from(cut.unwrap_or(t))
        }
        "abbrev" => {
            let (n, t) = (count(v, 0)?, text(v, 1)?);
            if n < 4 || (t.len() as i64) <= n {
                Value::from(t)
            } else {
                out(format!("{}...", t.get(..n as usize - 3).unwrap_or(t)))
            }
        }
        "contains" => Value::Bool(text(v, 1)?.contains(text(v, 0)?)),
        "hasPrefix" => Value::Bool(text(v, 1)?.starts_with(text(v, 0)?)),
        "hasSuffix" => Value::Bool(text(v, 1)?.ends_with(text(v, 0)?)),
        "replace" => {
            let result = text(v, 2)?.replace(text(v, 0)?, text(v, 1)?);
            if result.len() > TEXT_MAX {
                return Err("this becomes too long".to_owned());
            }
            out(result)
        }
        "nospace" => out(text(v, 0)?.chars().filter(|c| !c.is_whitespace()).collect()),
        "swapcase" => {
            let swap = |c: char| {
                if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() }
            };
            out(text(v, 0)?.chars().map(swap).collect())
        }
        "snakecase" => out(words::parted(text(v, 0)?, '_')),
        "kebabcase" => out(words::parted(text(v, 0)?, '-')),
        "camelcase" => out(words::joined(text(v, 0)?)),
        "indent" | "nindent" => {
            let n = usize::try_from(count(v, 0)?).map_err(|_| "an indent cannot be less than 0")?;
            let t = text(v, 1)?;
            if n.saturating_mul(t.matches('\n').count() + 1) > TEXT_MAX {
                return Err("this becomes too long".to_owned());
            }
            let pad = " ".repeat(n);
            let body = format!("{pad}{}", t.replace('\n', &format!("\n{pad}")));
            out(if name == "nindent" { format!("\n{body}") } else { body })
        }
        "plural" => {
            let one = count(v, 2)? == 1;
            Value::from(if one { text(v, 0)? } else { text(v, 1)? })
        }
        "initials" => out(text(v, 0)?.split_whitespace().filter_map(|w| w.chars().next()).collect()),
        "quote" | "squote" => {
            let quoted = v.iter().filter(|x| **x != Value::Null).map(|x| match name {
                "squote" => format!("'{}'", shown(x)),
                _ => go_quote(&shown(x)),
            });
            out(quoted.collect::<Vec<_>>().join(" "))
        }
        "cat" => out(v.iter().filter(|x| **x != Value::Null).map(shown).collect::<Vec<_>>().join(" ")),
        "toString" => out(shown(&v[0])),
        "wrap" => out(wrap(text(v, 1)?, count(v, 0)?, "\n", false)),
        "wrapWith" => out(wrap(text(v, 2)?, count(v, 0)?, text(v, 1)?, true)),
        "fail" => return Err(text(v, 0)?.to_owned()),
        _ => return Ok(None),
    }))
}

/// Words on lines of a width; words that are longer are cut where `hard`.
fn wrap(text: &str, width: i64, end: &str, hard: bool) -> String {
    let end = if end.is_empty() { "\n" } else { end };
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while chars.len() - at > width {
        if chars[at] == ' ' {
            at += 1;
            continue;
        }
        // The last blank on this line, else the next one behind it.
        let line = &chars[at..(at + width + 1).min(chars.len())];
        let mut cut = line.iter().rposition(|c| *c == ' ').map(|i| (at + i, 1));
        if cut.is_none() {
            cut = if hard {
                Some((at + width, 0))
            } else {
                chars[at + width..].iter().position(|c| *c == ' ').map(|i| (at + width + i, 1))
            };
        }
        let Some((to, skip)) = cut else { break };
        out.extend(&chars[at..to]);
        out.push_str(end);
        at = to + skip;
    }
    out.extend(&chars[at..]);
    out
}

fn each_word(text: &str, first: fn(char) -> String) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let begins = std::mem::replace(&mut start, !(c.is_alphanumeric() || c == '_' || c == '\''));
            if begins { first(c) } else { c.to_string() }
        })
        .collect()
}

/// Go's `%q`.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
