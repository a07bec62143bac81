//! sprig's generic functions, as `sprig.NAME(…)`. What needs a clock, dice, the environment, the network or keys is not
//! there, as in Argo, nor is sprig's cryptography but for checksums. Dates are in `dates`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};

use super::builtin::go_float;
use super::semver::{self, Version};
use super::value::Value;
use super::{codec, dates, url};

type Answer = Result<Value, String>;

/// Most bytes of a text that is made.
const TEXT_MAX: usize = 1_000_000;

/// Functions with a fixed number of arguments: name and number.
const FIXED: &[(&str, usize)] = &[
    ("abbrev", 2),
    ("trim", 1),
    ("trimAll", 2),
    ("trimall", 2),
    ("trimPrefix", 2),
    ("trimSuffix", 2),
    ("upper", 1),
    ("lower", 1),
    ("title", 1),
    ("untitle", 1),
    ("repeat", 2),
    ("substr", 3),
    ("trunc", 2),
    ("contains", 2),
    ("hasPrefix", 2),
    ("hasSuffix", 2),
    ("replace", 3),
    ("nospace", 1),
    ("swapcase", 1),
    ("snakecase", 1),
    ("camelcase", 1),
    ("kebabcase", 1),
    ("indent", 2),
    ("nindent", 2),
    ("plural", 3),
    ("initials", 1),
    ("wrap", 2),
    ("wrapWith", 3),
    ("b64enc", 1),
    ("b64dec", 1),
    ("b32enc", 1),
    ("b32dec", 1),
    ("atoi", 1),
    ("int", 1),
    ("int64", 1),
    ("float64", 1),
    ("toString", 1),
    ("toStrings", 1),
    ("toDecimal", 1),
    ("join", 2),
    ("sortAlpha", 1),
    ("split", 2),
    ("splitList", 2),
    ("splitn", 3),
    ("add1", 1),
    ("add1f", 1),
    ("sub", 2),
    ("div", 2),
    ("mod", 2),
    ("ceil", 1),
    ("floor", 1),
    ("ternary", 3),
    ("empty", 1),
    ("fromJson", 1),
    ("mustFromJson", 1),
    ("toJson", 1),
    ("mustToJson", 1),
    ("toPrettyJson", 1),
    ("mustToPrettyJson", 1),
    ("toRawJson", 1),
    ("mustToRawJson", 1),
    ("deepCopy", 1),
    ("mustDeepCopy", 1),
    ("deepEqual", 2),
    ("typeOf", 1),
    ("typeIs", 2),
    ("typeIsLike", 2),
    ("kindOf", 1),
    ("kindIs", 2),
    ("get", 2),
    ("set", 3),
    ("unset", 2),
    ("hasKey", 2),
    ("values", 1),
    ("first", 1),
    ("mustFirst", 1),
    ("last", 1),
    ("mustLast", 1),
    ("rest", 1),
    ("mustRest", 1),
    ("initial", 1),
    ("mustInitial", 1),
    ("append", 2),
    ("mustAppend", 2),
    ("push", 2),
    ("mustPush", 2),
    ("prepend", 2),
    ("mustPrepend", 2),
    ("reverse", 1),
    ("mustReverse", 1),
    ("uniq", 1),
    ("mustUniq", 1),
    ("has", 2),
    ("mustHas", 2),
    ("compact", 1),
    ("mustCompact", 1),
    ("chunk", 2),
    ("mustChunk", 2),
    ("base", 1),
    ("dir", 1),
    ("clean", 1),
    ("ext", 1),
    ("isAbs", 1),
    ("osBase", 1),
    ("osDir", 1),
    ("osClean", 1),
    ("osExt", 1),
    ("osIsAbs", 1),
    ("regexMatch", 2),
    ("mustRegexMatch", 2),
    ("regexFind", 2),
    ("mustRegexFind", 2),
    ("regexFindAll", 3),
    ("mustRegexFindAll", 3),
    ("regexReplaceAll", 3),
    ("mustRegexReplaceAll", 3),
    ("regexReplaceAllLiteral", 3),
    ("mustRegexReplaceAllLiteral", 3),
    ("regexSplit", 3),
    ("mustRegexSplit", 3),
    ("regexQuoteMeta", 1),
    ("fail", 1),
    ("until", 1),
    ("abbrevboth", 3),
    ("adler32sum", 1),
    ("sha1sum", 1),
    ("sha256sum", 1),
    ("sha512sum", 1),
    ("semver", 1),
    ("semverCompare", 2),
    ("urlParse", 1),
    ("urlJoin", 1),
    ("date", 2),
    ("dateInZone", 3),
    ("date_in_zone", 3),
    ("htmlDate", 1),
    ("htmlDateInZone", 2),
    ("unixEpoch", 1),
    ("toDate", 2),
    ("mustToDate", 2),
    ("dateModify", 2),
    ("mustDateModify", 2),
    ("duration", 1),
    ("durationRound", 1),
    ("untilStep", 3),
    ("hello", 0),
];

/// A function by name.
pub(super) fn call(name: &str, v: &[Value], now: Option<jiff::Zoned>) -> Answer {
    if let Some((_, n)) = FIXED.iter().find(|(f, _)| *f == name)
        && *n != v.len()
    {
        return Err(format!("`sprig.{name}` takes {n} arguments, and is given {}", v.len()));
    }
    let result = numbers(name, v).or_else(|| texts(name, v)).or_else(|| lists(name, v)).or_else(|| maps(name, v));
    let result = result.or_else(|| dates::call(name, v, now));
    let value = result.unwrap_or_else(|| Err(format!("there is no function `sprig.{name}`")))?;
    if value.weight() > TEXT_MAX {
        return Err("this becomes too big".to_owned());
    }
    Ok(value)
}

fn text(v: &[Value], i: usize) -> Result<&str, String> {
    match v.get(i) {
        Some(Value::Text(t)) => Ok(t),
        // Go gives a function the zero of its type for nil.
        Some(Value::Null) => Ok(""),
        Some(other) => Err(format!("argument {} must be text, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

fn count(v: &[Value], i: usize) -> Result<i64, String> {
    match v.get(i) {
        Some(Value::Int(n)) => Ok(*n),
        Some(Value::Null) => Ok(0),
        Some(other) => Err(format!("argument {} must be a whole number, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

fn list(v: &[Value], i: usize) -> Result<&[Value], String> {
    match v.get(i) {
        Some(Value::List(items)) => Ok(items),
        Some(other) => Err(format!("argument {} must be a list, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

fn map(v: &[Value], i: usize) -> Result<BTreeMap<String, Value>, String> {
    match v.get(i) {
        Some(Value::Map(map)) => Ok(map.clone()),
        Some(Value::Null) => Ok(BTreeMap::new()),
        Some(other) => Err(format!("argument {} must be a map, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

/// Anything as a whole number; what is none is 0.
fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        Value::Float(n) => *n as i64,
        Value::Bool(b) => i64::from(*b),
        Value::Text(t) => whole(t).unwrap_or(0),
        _ => 0,
    }
}

/// What Go's `Atoi` gives beside its error, which sprig passes over.
fn out_of_range(error: &std::num::ParseIntError) -> i64 {
    match error.kind() {
        std::num::IntErrorKind::PosOverflow => i64::MAX,
        std::num::IntErrorKind::NegOverflow => i64::MIN,
        _ => 0,
    }
}

/// Text as a whole number, a fraction of zeros cut off, prefixes of other bases known.
fn whole(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((head, zeros)) if zeros.bytes().all(|b| b == b'0') => head,
        _ => text,
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let value = match lower.get(..2) {
        Some("0x") => i64::from_str_radix(&lower[2..], 16),
        Some("0o") => i64::from_str_radix(&lower[2..], 8),
        Some("0b") => i64::from_str_radix(&lower[2..], 2),
        Some(_) if lower.starts_with('0') => i64::from_str_radix(&lower[1..], 8),
        _ => lower.parse(),
    };
    value.ok().map(|n: i64| n * sign)
}

fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(n) => *n as f64,
        Value::Float(n) => *n,
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::Text(t) => go_float(t).unwrap_or(0.0),
        _ => 0.0,
    }
}

/// sprig's `toString`.
fn shown(value: &Value) -> String {
    value.go_text()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Int(n) => *n == 0,
        Value::Float(n) => *n == 0.0,
        Value::Text(t) => t.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Duration(n) => *n == 0,
        Value::Time(_) | Value::Version(_) => false,
    }
}

fn least(name: &str, v: &[Value], n: usize) -> Result<(), String> {
    if v.len() < n { Err(format!("`sprig.{name}` takes at least {n} arguments")) } else { Ok(()) }
}

fn numbers(name: &str, v: &[Value]) -> Option<Answer> {
    let ints = || v.iter().map(to_int);
    let floats = || v.iter().map(to_float);
    Some(match name {
        "add" => Ok(Value::Int(ints().fold(0, i64::wrapping_add))),
        "add1" => Ok(Value::Int(to_int(&v[0]).wrapping_add(1))),
        "sub" => Ok(Value::Int(to_int(&v[0]).wrapping_sub(to_int(&v[1])))),
        "div" | "mod" => match (to_int(&v[0]), to_int(&v[1])) {
            (_, 0) => Err("division by 0".to_owned()),
            (a, b) if name == "div" => Ok(Value::Int(a.wrapping_div(b))),
            (a, b) => Ok(Value::Int(a.wrapping_rem(b))),
        },
        "mul" | "max" | "biggest" | "min" | "addf" | "subf" | "divf" | "mulf" | "maxf" | "minf" => {
            let first = match name {
                "addf" => 0,
                _ => 1,
            };
            if let Err(fault) = least(name, v, first) {
                return Some(Err(fault));
            }
            let float = |f: fn(f64, f64) -> f64| Value::Float(floats().reduce(f).unwrap_or(0.0));
            let int = |f: fn(i64, i64) -> i64| Value::Int(ints().reduce(f).unwrap_or(0));
            Ok(match name {
                "mul" => int(i64::wrapping_mul),
                "max" | "biggest" => int(i64::max),
                "min" => int(i64::min),
                "addf" => float(|a, b| a + b),
                "subf" => float(|a, b| a - b),
                "divf" if floats().skip(1).any(|b| b == 0.0) => return Some(Err("division by 0".to_owned())),
                "divf" => float(divided),
                "mulf" => float(|a, b| a * b),
                "maxf" => float(f64::max),
                _ => float(f64::min),
            })
        }
        "add1f" => Ok(Value::Float(to_float(&v[0]) + 1.0)),
        "ceil" => Ok(Value::Float(to_float(&v[0]).ceil())),
        "floor" => Ok(Value::Float(to_float(&v[0]).floor())),
        "round" => round(v),
        "int" | "int64" => Ok(Value::Int(to_int(&v[0]))),
        "float64" => Ok(Value::Float(to_float(&v[0]))),
        "atoi" => text(v, 0).map(|t| Value::Int(t.parse().unwrap_or_else(|e| out_of_range(&e)))),
        "toDecimal" => Ok(Value::Int(i64::from_str_radix(&shown(&v[0]), 8).unwrap_or(0))),
        "until" => count(v, 0).map(|n| {
            let n = n.clamp(-100_000, 100_000);
            Value::List(if n < 0 {
                (n + 1..=0).rev().map(Value::Int).collect()
            } else {
                (0..n).map(Value::Int).collect()
            })
        }),
        "untilStep" => {
            let (from, to, step) = match (count(v, 0), count(v, 1), count(v, 2)) {
                (Ok(from), Ok(to), Ok(step)) => (from, to, step),
                (Err(message), ..) | (_, Err(message), _) | (.., Err(message)) => return Some(Err(message)),
            };
            let mut out = Vec::new();
            let mut at = from;
            while out.len() < 100_000 && ((step > 0 && at < to) || (step < 0 && at > to)) {
                out.push(Value::Int(at));
                at = at.saturating_add(step);
            }
            Ok(Value::List(out))
        }
        "seq" => {
            let n: Vec<i64> = match (0..v.len()).map(|i| count(v, i)).collect() {
                Ok(n) => n,
                Err(message) => return Some(Err(message)),
            };
            let (from, step, to) = match n.as_slice() {
                [to] => (1, if *to < 1 { -1 } else { 1 }, *to),
                [from, to] => (*from, if to < from { -1 } else { 1 }, *to),
                [from, step, to] => (*from, *step, *to),
                _ => return Some(Ok(Value::from(""))),
            };
            let mut out = Vec::new();
            let mut at = from;
            while out.len() < 100_000 && ((step > 0 && at <= to) || (step < 0 && at >= to)) {
                out.push(at.to_string());
                at = at.saturating_add(step);
            }
            Ok(Value::Text(out.join(" ")))
        }
        _ => return None,
    })
}

/// Divides as decimals, to 16 places; floats where the numbers are too long for that.
fn divided(a: f64, b: f64) -> f64 {
    let decimal = |n: f64| {
        let text = format!("{n}");
        let (whole, places) = text.split_once('.').unwrap_or((&text, ""));
        Some((format!("{whole}{places}").parse::<i128>().ok()?, places.len() as u32))
    };
    let exact = || {
        let ((a, a_places), (b, b_places)) = (decimal(a)?, decimal(b)?);
        let a = a.checked_mul(10i128.checked_pow(16 + b_places)?)?;
        let b = b.checked_mul(10i128.checked_pow(a_places)?)?;
        let (whole, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
        let up = rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs();
        let away = if (a < 0) == (b < 0) { 1 } else { -1 };
        format!("{}e-16", if up { whole + away } else { whole }).parse().ok()
    };
    exact().unwrap_or(a / b)
}

fn round(v: &[Value]) -> Answer {
    if !(2..=3).contains(&v.len()) {
        return Err("`sprig.round` takes 2 or 3 arguments".to_owned());
    }
    let places = count(v, 1)?;
    let half = match v.get(2) {
        Some(Value::Float(f)) => *f,
        None => 0.5,
        Some(other) => return Err(format!("argument 3 must be a float, and is {}", other.kind())),
    };
    let power = 10f64.powi(places.clamp(-400, 400) as i32);
    let digit = power * to_float(&v[0]);
    let rest = digit.fract();
    Ok(Value::Float(if rest >= half { digit.ceil() } else { digit.floor() } / power))
}

fn texts(name: &str, v: &[Value]) -> Option<Answer> {
    texts_inner(name, v).transpose()
}

fn texts_inner(name: &str, v: &[Value]) -> Result<Option<Value>, String> {
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
        "snakecase" => out(super::words::parted(text(v, 0)?, '_')),
        "kebabcase" => out(super::words::parted(text(v, 0)?, '-')),
        "camelcase" => out(super::words::joined(text(v, 0)?)),
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
        "b64enc" => out(STANDARD.encode(text(v, 0)?)),
        // What is wrong with it is the value, as in sprig.
        "b64dec" => out(codec::unbase64(text(v, 0)?).map_or_else(|why| why, lossy)),
        "b32dec" => out(codec::unbase32(text(v, 0)?).map_or_else(|why| why, lossy)),
        "sha1sum" => out(hex::encode(Sha1::digest(text(v, 0)?))),
        "sha256sum" => out(hex::encode(Sha256::digest(text(v, 0)?))),
        "sha512sum" => out(hex::encode(Sha512::digest(text(v, 0)?))),
        "wrap" => out(wrap(text(v, 1)?, count(v, 0)?, "\n", false)),
        "wrapWith" => out(wrap(text(v, 2)?, count(v, 0)?, text(v, 1)?, true)),
        "semver" => Value::Version(Box::new(Version::parse(text(v, 0)?)?)),
        "semverCompare" => Value::Bool(semver::fits(text(v, 0)?, text(v, 1)?)?),
        "urlParse" => url::parse(text(v, 0)?)?,
        "urlJoin" => url::join(&map(v, 0)?)?,
        "b32enc" => out(codec::base32(text(v, 0)?.as_bytes())),
        "adler32sum" => {
            let (a, b) = text(v, 0)?.bytes().fold((1u32, 0u32), |(a, b), byte| {
                let a = (a + u32::from(byte)) % 65_521;
                (a, (b + a) % 65_521)
            });
            out(((b << 16) | a).to_string())
        }
        "toJson" | "mustToJson" => out(v[0].json_text(true).unwrap_or_default()),
        "toPrettyJson" | "mustToPrettyJson" => out(v[0].json_pretty(true).unwrap_or_default()),
        "toRawJson" | "mustToRawJson" => out(v[0].json_text(false).unwrap_or_default()),
        "fromJson" | "mustFromJson" => match serde_json::from_str::<serde_json::Value>(text(v, 0)?) {
            Ok(json) => Value::decoded(&json),
            Err(_) if name == "fromJson" => Value::Null,
            Err(error) => return Err(format!("this is no JSON: {error}")),
        },
        "fail" => return Err(text(v, 0)?.to_owned()),
        "base" | "osBase" => {
            let t = text(v, 0)?;
            let cut = t.trim_end_matches('/');
            Value::from(match (t, cut) {
                ("", _) => ".",
                (_, "") => "/",
                (_, cut) => cut.rsplit('/').next().unwrap_or(cut),
            })
        }
        "dir" | "osDir" => {
            let t = text(v, 0)?;
            out(clean(t.rfind('/').map_or("", |i| &t[..=i])))
        }
        "clean" | "osClean" => out(clean(text(v, 0)?)),
        "ext" | "osExt" => {
            let t = text(v, 0)?;
            let last = t.rsplit('/').next().unwrap_or("");
            Value::from(last.rfind('.').map_or("", |i| &last[i..]))
        }
        "isAbs" | "osIsAbs" => Value::Bool(text(v, 0)?.starts_with('/')),
        name if name.starts_with("regex") || name.starts_with("mustRegex") => return patterns(name, v).map(Some),
        _ => return Ok(None),
    }))
}

fn patterns(name: &str, v: &[Value]) -> Answer {
    if name == "regexQuoteMeta" {
        return Ok(Value::Text(text(v, 0)?.chars().fold(String::new(), |mut out, c| {
            if r"\.+*?()|[]{}^$".contains(c) {
                out.push('\\');
            }
            out.push(c);
            out
        })));
    }
    let pattern = text(v, 0)?;
    let subject = text(v, 1)?;
    let Ok(regex) = Regex::new(pattern) else {
        // `regexMatch` alone takes a bad pattern for one that does not match.
        return if name == "regexMatch" {
            Ok(Value::Bool(false))
        } else {
            Err(format!("`{pattern}` is not a regular expression"))
        };
    };
    let limit = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    let all = |items: Vec<String>| Value::List(items.into_iter().map(Value::Text).collect());
    let bare = name.strip_prefix("must").map_or(name, |n| n);
    Ok(match bare.to_ascii_lowercase().as_str() {
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
    })
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
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

/// Go's `path.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        match (part, out.last()) {
            ("..", Some(last)) if *last != ".." => {
                out.pop();
            }
            ("..", None) if rooted => {}
            _ => out.push(part),
        }
    }
    match (rooted, out.is_empty()) {
        (true, _) => format!("/{}", out.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => out.join("/"),
    }
}

fn lists(name: &str, v: &[Value]) -> Option<Answer> {
    lists_inner(name, v).transpose()
}

fn lists_inner(name: &str, v: &[Value]) -> Result<Option<Value>, String> {
    let bare = match name.strip_prefix("must") {
        Some(rest) => {
            let mut chars = rest.chars();
            chars.next().map_or(String::new(), |c| c.to_ascii_lowercase().to_string() + chars.as_str())
        }
        None => name.to_owned(),
    };
    Ok(Some(match bare.as_str() {
        "list" | "tuple" => Value::List(v.to_vec()),
        "first" => list(v, 0)?.first().cloned().unwrap_or(Value::Null),
        "last" => list(v, 0)?.last().cloned().unwrap_or(Value::Null),
        "rest" => match list(v, 0)? {
            [] => Value::Null,
            items => Value::List(items[1..].to_vec()),
        },
        "initial" => match list(v, 0)? {
            [] => Value::Null,
            items => Value::List(items[..items.len() - 1].to_vec()),
        },
        "append" | "push" => {
            let mut items = list(v, 0)?.to_vec();
            items.push(v[1].clone());
            Value::List(items)
        }
        "prepend" => {
            let mut items = vec![v[1].clone()];
            items.extend_from_slice(list(v, 0)?);
            Value::List(items)
        }
        "reverse" => Value::List(list(v, 0)?.iter().rev().cloned().collect()),
        "uniq" => {
            let mut out: Vec<Value> = Vec::new();
            list(v, 0)?.iter().for_each(|item| {
                if !out.contains(item) {
                    out.push(item.clone());
                }
            });
            Value::List(out)
        }
        "compact" => Value::List(list(v, 0)?.iter().filter(|x| !is_empty(x)).cloned().collect()),
        "without" => {
            least(name, v, 1)?;
            Value::List(list(v, 0)?.iter().filter(|x| !v[1..].contains(x)).cloned().collect())
        }
        "has" => match &v[1] {
            Value::Null => Value::Bool(false),
            _ => Value::Bool(list(v, 1)?.contains(&v[0])),
        },
        "slice" => {
            least(name, v, 1)?;
            let items = list(v, 0)?;
            let from = v.get(1).map_or(0, to_int);
            let to = v.get(2).map_or(items.len() as i64, to_int);
            let bounds = usize::try_from(from).ok().zip(usize::try_from(to).ok());
            if items.is_empty() {
                return Ok(Some(Value::Null));
            }
            match bounds.and_then(|(a, b)| items.get(a..b)) {
                Some(part) => Value::List(part.to_vec()),
                None => return Err("this part is not in the list".to_owned()),
            }
        }
        "chunk" => {
            let n = match count(v, 0)? {
                0 => return Err("chunks need a size above 0".to_owned()),
                n if n < 0 => return list(v, 1).map(|_| Some(Value::List(Vec::new()))),
                n => n as usize,
            };
            Value::List(list(v, 1)?.chunks(n).map(|c| Value::List(c.to_vec())).collect())
        }
        "concat" if v.is_empty() => Value::Null,
        "concat" => {
            let mut out = Vec::new();
            for i in 0..v.len() {
                out.extend_from_slice(list(v, i)?);
            }
            if out.is_empty() { Value::Null } else { Value::List(out) }
        }
        "join" => {
            let items: Vec<String> = match &v[1] {
                Value::List(items) => items.iter().filter(|x| **x != Value::Null).map(shown).collect(),
                Value::Null => Vec::new(),
                other => vec![shown(other)],
            };
            Value::Text(items.join(text(v, 0)?))
        }
        "sortAlpha" => {
            let mut items: Vec<String> = match &v[0] {
                Value::List(items) => items.iter().filter(|x| **x != Value::Null).map(shown).collect(),
                other => vec![shown(other)],
            };
            items.sort();
            Value::List(items.into_iter().map(Value::Text).collect())
        }
        "toStrings" => Value::List(match &v[0] {
            Value::List(items) => items.iter().filter(|x| **x != Value::Null).map(|x| Value::Text(shown(x))).collect(),
            Value::Null => Vec::new(),
            other => vec![Value::Text(shown(other))],
        }),
        "splitList" => Value::List(
            super::builtin::split(text(v, 1)?, text(v, 0)?, -1, false).into_iter().map(Value::Text).collect(),
        ),
        "split" | "splitn" => {
            let (t, n) = if name == "split" { (text(v, 1)?, -1) } else { (text(v, 2)?, count(v, 1)?) };
            let parts = super::builtin::split(t, text(v, 0)?, n, false);
            Value::Map(parts.into_iter().enumerate().map(|(i, p)| (format!("_{i}"), Value::Text(p))).collect())
        }
        "all" => Value::Bool(!v.iter().any(is_empty)),
        "any" => Value::Bool(v.iter().any(|x| !is_empty(x))),
        "coalesce" => v.iter().find(|x| !is_empty(x)).cloned().unwrap_or(Value::Null),
        "default" => {
            least(name, v, 1)?;
            match v.get(1) {
                Some(given) if !is_empty(given) => given.clone(),
                _ => v[0].clone(),
            }
        }
        "empty" => Value::Bool(is_empty(&v[0])),
        "ternary" => match &v[2] {
            Value::Bool(true) => v[0].clone(),
            Value::Bool(false) | Value::Null => v[1].clone(),
            other => return Err(format!("argument 3 must be true or false, and is {}", other.kind())),
        },
        _ => return Ok(None),
    }))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        Value::Time(_) => "time.Time",
        Value::Duration(_) => "time.Duration",
        Value::Version(_) => "*semver.Version",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Time(_) => "struct",
        Value::Duration(_) => "int64",
        Value::Version(_) => "ptr",
        other => type_of(other),
    }
}

fn maps(name: &str, v: &[Value]) -> Option<Answer> {
    maps_inner(name, v).transpose()
}

fn maps_inner(name: &str, v: &[Value]) -> Result<Option<Value>, String> {
    Ok(Some(match name {
        "dict" => {
            let mut out = BTreeMap::new();
            for pair in v.chunks(2) {
                out.insert(shown(&pair[0]), pair.get(1).cloned().unwrap_or_else(|| Value::from("")));
            }
            Value::Map(out)
        }
        "get" => map(v, 0)?.remove(text(v, 1)?).unwrap_or_else(|| Value::from("")),
        "set" => {
            let mut out = map(v, 0)?;
            if v[0] == Value::Null {
                return Err("nothing can be set in nil".to_owned());
            }
            out.insert(text(v, 1)?.to_owned(), v[2].clone());
            Value::Map(out)
        }
        "unset" if v[0] == Value::Null => {
            text(v, 1)?;
            Value::Null
        }
        "unset" => {
            let mut out = map(v, 0)?;
            out.remove(text(v, 1)?);
            Value::Map(out)
        }
        "hasKey" => Value::Bool(map(v, 0)?.contains_key(text(v, 1)?)),
        "keys" => {
            let mut out = Vec::new();
            for i in 0..v.len() {
                out.extend(map(v, i)?.into_keys().map(Value::Text));
            }
            Value::List(out)
        }
        "values" => Value::List(map(v, 0)?.into_values().collect()),
        "pick" | "omit" => {
            least(name, v, 1)?;
            let keys: Vec<&str> = (1..v.len()).map(|i| text(v, i)).collect::<Result<_, _>>()?;
            let all = map(v, 0)?.into_iter();
            Value::Map(all.filter(|(k, _)| keys.contains(&k.as_str()) == (name == "pick")).collect())
        }
        "pluck" => {
            least(name, v, 1)?;
            let key = text(v, 0)?;
            let mut out = Vec::new();
            for i in 1..v.len() {
                out.extend(map(v, i)?.remove(key));
            }
            Value::List(out)
        }
        "merge" | "mustMerge" | "mergeOverwrite" | "mustMergeOverwrite" => {
            least(name, v, 1)?;
            if v.iter().all(|x| *x == Value::Null) {
                return Ok(Some(Value::Null));
            }
            let mut out = map(v, 0)?;
            for i in 1..v.len() {
                merge(&mut out, map(v, i)?, name.ends_with("Overwrite"));
            }
            Value::Map(out)
        }
        "dig" => {
            if v.len() < 3 {
                return Err("`sprig.dig` takes at least 3 arguments".to_owned());
            }
            let mut at = Value::Map(map(v, v.len() - 1)?);
            for i in 0..v.len() - 2 {
                let Value::Text(key) = &v[i] else { return Err("the keys must be text".to_owned()) };
                at = match at {
                    Value::Map(mut map) => match map.remove(key) {
                        Some(next) => next,
                        None => return Ok(Some(v[v.len() - 2].clone())),
                    },
                    other => return Err(format!("nothing can be taken from {}", other.kind())),
                };
            }
            at
        }
        "deepCopy" | "mustDeepCopy" => match &v[0] {
            Value::Null => return Err("nil cannot be copied".to_owned()),
            value => value.clone(),
        },
        "deepEqual" => Value::Bool(v[0] == v[1]),
        "typeOf" => Value::from(type_of(&v[0])),
        "kindOf" => Value::from(kind_of(&v[0])),
        "typeIs" | "typeIsLike" => {
            let wanted = text(v, 0)?;
            Value::Bool(type_of(&v[1]) == wanted)
        }
        "kindIs" => Value::Bool(kind_of(&v[1]) == text(v, 0)?),
        _ => return Ok(None),
    }))
}

/// Brings keys that are not there (or, overwriting, all that are not empty), maps within maps too.
fn merge(into: &mut BTreeMap<String, Value>, from: BTreeMap<String, Value>, overwrite: bool) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Map(inner)), Value::Map(value)) => merge(inner, value, overwrite),
            (Some(there), value) if is_empty(there) || (overwrite && !is_empty(&value)) => *there = value,
            (Some(_), _) => {}
            (None, value) => {
                into.insert(key, value);
            }
        }
    }
}
