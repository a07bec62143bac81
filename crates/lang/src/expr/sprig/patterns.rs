//! sprig's functions of regular expressions.

use regex::Regex;

use super::arguments::{count, text};
use super::{Found, Value};

/// A function by name; nothing when it is none of patterns.
pub(super) fn call(name: &str, v: &[Value]) -> Found {
    if !name.starts_with("regex") && !name.starts_with("mustRegex") {
        return Ok(None);
    }
    if name == "regexQuoteMeta" {
        return Ok(Some(Value::Text(text(v, 0)?.chars().fold(String::new(), |mut out, c| {
            if r"\.+*?()|[]{}^$".contains(c) {
                out.push('\\');
            }
            out.push(c);
            out
        }))));
    }
    let pattern = text(v, 0)?;
    let subject = text(v, 1)?;
    let Ok(regex) = Regex::new(pattern) else {
        // `regexMatch` alone takes a bad pattern for one that does not match.
        return if name == "regexMatch" {
            Ok(Some(Value::Bool(false)))
        } else {
            Err(format!("`{pattern}` is not a regular expression"))
        };
    };
    let limit = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    let all = |items: Vec<String>| Value::List(items.into_iter().map(Value::Text).collect());
    let bare = name.strip_prefix("must").map_or(name, |n| n);
    Ok(Some(match bare.to_ascii_lowercase().as_str() {
        "regexmatch" => Value::Bool(regex.is_match(subject)),
        "regexfind" => Value::from(regex.find(subject).map_or("", |m| m.as_str())),
        "regexfindall" => {
            let n = count(v, 2)?;
            all(regex.find_iter(subject).take(limit(n)).map(|m| m.as_str().to_owned()).collect())
        }
        "regexreplaceall" => Value::Text(regex.replace_all(subject, text(v, 2)?).into_owned()),
        "regexreplaceallliteral" => Value::Text(regex.replace_all(subject, regex::NoExpand(text(v, 2)?)).into_owned()),
        "regexsplit" => match count(v, 2)? {
            0 => Value::List(Vec::new()),
            n => all(regex.splitn(subject, limit(n)).map(str::to_owned).collect()),
        },
        _ => return Err(format!("there is no function `sprig.{name}`")),
    }))
}
