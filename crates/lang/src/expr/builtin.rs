//! expr-lang's own functions, and Argo's `asInt`, `asFloat` and `toJson`. No clock: `now` is refused.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;

use super::value::Value;
use super::{codec, time};

/// Most bytes a text may be repeated to.
const TEXT_MAX: usize = 1_000_000;

fn count(values: &[Value], least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&values.len()) {
        return Ok(());
    }
    let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
    Err(format!("this takes {wanted} arguments, and is given {}", values.len()))
}

fn text(values: &[Value], i: usize) -> Result<&str, String> {
    match values.get(i) {
        Some(Value::Text(text)) => Ok(text),
        Some(other) => Err(format!("argument {} must be text, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

fn list(values: &[Value], i: usize) -> Result<&[Value], String> {
    match values.get(i) {
        Some(Value::List(items)) => Ok(items),
        Some(other) => Err(format!("argument {} must be a list, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

fn map(values: &[Value], i: usize) -> Result<&BTreeMap<String, Value>, String> {
    match values.get(i) {
        Some(Value::Map(map)) => Ok(map),
        Some(other) => Err(format!("argument {} must be a map, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

fn int(values: &[Value], i: usize) -> Result<i64, String> {
    match values.get(i) {
        Some(Value::Int(n)) => Ok(*n),
        Some(other) => Err(format!("argument {} must be a whole number, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

fn number(values: &[Value], i: usize) -> Result<f64, String> {
    let value = values.get(i).ok_or_else(|| format!("argument {} is missing", i + 1))?;
    value.as_f64().ok_or_else(|| format!("argument {} must be a number, and is {}", i + 1, value.kind()))
}

fn texts(parts: impl Iterator<Item = impl Into<String>>) -> Value {
    Value::List(parts.map(|p| Value::Text(p.into())).collect())
}

/// `asInt`, `asFloat`, `toJson`.
pub(super) fn argo(name: &str, values: &[Value]) -> Result<Value, String> {
    count(values, 1, 1)?;
    let value = &values[0];
    match (name, value) {
        ("toJson", value) => value.json_text(true).map(Value::Text).ok_or_else(|| "JSON cannot hold this".to_owned()),
        ("asInt", Value::Int(n)) => Ok(Value::Int(*n)),
        ("asInt", Value::Float(n)) => Ok(Value::Int(*n as i64)),
        ("asInt", Value::Text(t)) => t.parse().map(Value::Int).map_err(|_| format!("`{t}` is not a whole number")),
        ("asFloat", Value::Int(n)) => Ok(Value::Float(*n as f64)),
        ("asFloat", Value::Float(n)) => Ok(Value::Float(*n)),
        ("asFloat", Value::Text(t)) => go_float(t).map(Value::Float).ok_or_else(|| format!("`{t}` is not a number")),
        (_, other) => Err(format!("`{name}` cannot take {}", other.kind())),
    }
}

/// Go's `ParseFloat`, as far as people write numbers.
pub(super) fn go_float(text: &str) -> Option<f64> {
    let plain = text.trim_start_matches(['+', '-']);
    if plain.is_empty() || plain.starts_with(['+', '-']) || text != text.trim() {
        return None;
    }
    text.parse().ok()
}

/// A function by name.
pub(super) fn call(name: &str, values: &[Value]) -> Result<Value, String> {
    let v = values;
    Ok(match name {
        "len" => {
            count(v, 1, 1)?;
            Value::Int(match &v[0] {
                Value::Text(t) => t.chars().count() as i64,
                Value::List(items) => items.len() as i64,
                Value::Map(map) => map.len() as i64,
                other => return Err(format!("`len` cannot take {}", other.kind())),
            })
        }
        "type" => {
            count(v, 1, 1)?;
            Value::from(match &v[0] {
                Value::Null => "nil",
                Value::Bool(_) => "bool",
                Value::Int(_) => "int",
                Value::Float(_) => "float",
                Value::Text(_) => "string",
                Value::List(_) => "array",
                Value::Map(_) => "map",
                Value::Time(_) => "time.Time",
                Value::Duration(_) => "time.Duration",
                Value::Version(_) => "semver.Version",
            })
        }
        "abs" => {
            count(v, 1, 1)?;
            match &v[0] {
                Value::Int(n) => Value::Int(n.wrapping_abs()),
                _ => Value::Float(number(v, 0)?.abs()),
            }
        }
        "ceil" | "floor" | "round" => {
            count(v, 1, 1)?;
            let n = number(v, 0)?;
            Value::Float(match name {
                "ceil" => n.ceil(),
                "floor" => n.floor(),
                _ => n.round(),
            })
        }
        "int" | "float" => {
            count(v, 1, 1)?;
            match (&v[0], name) {
                (Value::Text(t), "int") => Value::Int(t.parse().map_err(|_| format!("`{t}` is not a whole number"))?),
                (Value::Text(t), _) => Value::Float(go_float(t).ok_or_else(|| format!("`{t}` is not a number"))?),
                (Value::Int(n) | Value::Duration(n), "int") => Value::Int(*n),
                (_, "int") => Value::Int(number(v, 0)? as i64),
                _ => Value::Float(number(v, 0)?),
            }
        }
        "string" => {
            count(v, 1, 1)?;
            Value::Text(v[0].go_text())
        }
        "trim" => {
            count(v, 1, 2)?;
            let t = text(v, 0)?;
            match v.len() {
                1 => Value::from(t.trim()),
                _ => {
                    let set = text(v, 1)?;
                    Value::from(t.trim_matches(|c| set.contains(c)))
                }
            }
        }
        "trimPrefix" | "trimSuffix" => {
            count(v, 1, 2)?;
            let (t, cut) = (text(v, 0)?, if v.len() == 2 { text(v, 1)? } else { " " });
            let cut = if name == "trimPrefix" { t.strip_prefix(cut) } else { t.strip_suffix(cut) };
            Value::from(cut.unwrap_or(t))
        }
        "upper" | "lower" => {
            count(v, 1, 1)?;
            let t = text(v, 0)?;
            Value::Text(if name == "upper" { t.to_uppercase() } else { t.to_lowercase() })
        }
        "split" | "splitAfter" => {
            count(v, 2, 3)?;
            let n = if v.len() == 3 { int(v, 2)? } else { -1 };
            let parts = split(text(v, 0)?, text(v, 1)?, n, name == "splitAfter");
            if n == 0 { Value::Null } else { texts(parts.into_iter()) }
        }
        "replace" => {
            count(v, 3, 4)?;
            let (t, from, to) = (text(v, 0)?, text(v, 1)?, text(v, 2)?);
            let n = if v.len() == 4 { int(v, 3)? } else { -1 };
            let result = if n < 0 { t.replace(from, to) } else { t.replacen(from, to, n as usize) };
            if result.len() > TEXT_MAX {
                return Err("this becomes too long".to_owned());
            }
            Value::Text(result)
        }
        "repeat" => {
            count(v, 2, 2)?;
            let (t, n) = (text(v, 0)?, int(v, 1)?);
            let n = usize::try_from(n).map_err(|_| "a text cannot be repeated less than 0 times".to_owned())?;
            if n > TEXT_MAX || t.len().saturating_mul(n) > TEXT_MAX {
                return Err("this becomes too long".to_owned());
            }
            Value::Text(t.repeat(n))
        }
        "join" => {
            count(v, 1, 2)?;
            let glue = if v.len() == 2 { text(v, 1)? } else { "" };
            let items = list(v, 0)?;
            let parts: Vec<&str> = (0..items.len()).map(|i| text(items, i)).collect::<Result<_, _>>()?;
            Value::Text(parts.join(glue))
        }
        "indexOf" | "lastIndexOf" => {
            count(v, 2, 2)?;
            let (t, part) = (text(v, 0)?, text(v, 1)?);
            let at = if name == "indexOf" { t.find(part) } else { t.rfind(part) };
            Value::Int(at.map_or(-1, |i| i as i64))
        }
        "hasPrefix" => {
            count(v, 2, 2)?;
            Value::Bool(text(v, 0)?.starts_with(text(v, 1)?))
        }
        "hasSuffix" => {
            count(v, 2, 2)?;
            Value::Bool(text(v, 0)?.ends_with(text(v, 1)?))
        }
        "max" | "min" | "mean" | "median" | "sum" => return aggregate(name, v),
        "count" => {
            count(v, 1, 1)?;
            let items = list(v, 0)?;
            let mut n = 0;
            for item in items {
                match item {
                    Value::Bool(b) => n += i64::from(*b),
                    other => return Err(format!("`count` counts booleans, not {}", other.kind())),
                }
            }
            Value::Int(n)
        }
        "toJSON" => {
            count(v, 1, 1)?;
            Value::Text(v[0].json_pretty(true).ok_or_else(|| "JSON cannot hold this".to_owned())?)
        }
        "fromJSON" => {
            count(v, 1, 1)?;
            let json: serde_json::Value =
                serde_json::from_str(text(v, 0)?).map_err(|e| format!("this is no JSON: {e}"))?;
            Value::decoded(&json)
        }
        "toBase64" => {
            count(v, 1, 1)?;
            Value::Text(STANDARD.encode(text(v, 0)?))
        }
        "fromBase64" => {
            count(v, 1, 1)?;
            let bytes = codec::unbase64(text(v, 0)?)?;
            Value::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        "first" | "last" => {
            count(v, 1, 1)?;
            let items = list(v, 0)?;
            let item = if name == "first" { items.first() } else { items.last() };
            item.cloned().unwrap_or(Value::Null)
        }
        "get" => {
            count(v, 2, 2)?;
            match (&v[0], &v[1]) {
                (Value::List(items), Value::Int(i)) => {
                    let at = if *i < 0 { items.len() as i64 + i } else { *i };
                    usize::try_from(at).ok().and_then(|at| items.get(at)).cloned().unwrap_or(Value::Null)
                }
                (Value::Map(map), Value::Text(key)) => map.get(key).cloned().unwrap_or(Value::Null),
                (Value::Null, _) => Value::Null,
                (of, _) => return Err(format!("`get` cannot take from {}", of.kind())),
            }
        }
        "take" => {
            count(v, 2, 2)?;
            let (items, n) = (list(v, 0)?, int(v, 1)?);
            let n = usize::try_from(n).map_err(|_| "fewer than none cannot be taken".to_owned())?;
            Value::List(items[..n.min(items.len())].to_vec())
        }
        "keys" => {
            count(v, 1, 1)?;
            texts(map(v, 0)?.keys())
        }
        "values" => {
            count(v, 1, 1)?;
            Value::List(map(v, 0)?.values().cloned().collect())
        }
        "toPairs" => {
            count(v, 1, 1)?;
            let pairs = map(v, 0)?.iter().map(|(k, v)| Value::List(vec![Value::Text(k.clone()), v.clone()]));
            Value::List(pairs.collect())
        }
        "fromPairs" => {
            count(v, 1, 1)?;
            let mut out = BTreeMap::new();
            for pair in list(v, 0)? {
                match pair {
                    Value::List(pair) if pair.len() == 2 => out.insert(pair[0].go_text(), pair[1].clone()),
                    other => return Err(format!("`fromPairs` takes pairs, not {}", other.kind())),
                };
            }
            Value::Map(out)
        }
        "reverse" => {
            count(v, 1, 1)?;
            Value::List(list(v, 0)?.iter().rev().cloned().collect())
        }
        "uniq" => {
            count(v, 1, 1)?;
            let mut out: Vec<Value> = Vec::new();
            for item in list(v, 0)? {
                if !out.iter().any(|o| o.equals(item)) {
                    out.push(item.clone());
                }
            }
            Value::List(out)
        }
        "concat" => {
            count(v, 1, usize::MAX)?;
            let mut out = Vec::new();
            for i in 0..v.len() {
                out.extend_from_slice(list(v, i)?);
            }
            // Go's list of nothing is nil.
            if out.is_empty() { Value::Null } else { Value::List(out) }
        }
        "flatten" => {
            count(v, 1, 1)?;
            let mut out = Vec::new();
            flatten(list(v, 0)?, &mut out);
            Value::List(out)
        }
        "sort" => {
            count(v, 1, 2)?;
            let down = match v.get(1) {
                None => false,
                Some(_) if text(v, 1)? == "asc" => false,
                Some(_) if text(v, 1)? == "desc" => true,
                Some(_) => return Err("the order is `asc` or `desc`".to_owned()),
            };
            let mut items = list(v, 0)?.to_vec();
            let mut wrong = false;
            items.sort_by(|a, b| {
                let order = a.order(b).unwrap_or_else(|| {
                    wrong = true;
                    std::cmp::Ordering::Equal
                });
                if down { order.reverse() } else { order }
            });
            if wrong {
                return Err("these cannot be put in order".to_owned());
            }
            Value::List(items)
        }
        "bitand" | "bitor" | "bitxor" | "bitnand" | "bitshl" | "bitshr" | "bitushr" => {
            count(v, 2, 2)?;
            let (a, b) = (int(v, 0)?, int(v, 1)?);
            if name.starts_with("bits") || name.starts_with("bitu") {
                let Ok(by) = u32::try_from(b) else { return Err("bits cannot be shifted by less than 0".to_owned()) };
                return Ok(Value::Int(match name {
                    "bitshl" => a.checked_shl(by).unwrap_or(0),
                    "bitshr" => a.checked_shr(by).unwrap_or(if a < 0 { -1 } else { 0 }),
                    _ => (a as u64).checked_shr(by).unwrap_or(0) as i64,
                }));
            }
            Value::Int(match name {
                "bitand" => a & b,
                "bitor" => a | b,
                "bitxor" => a ^ b,
                _ => a & !b,
            })
        }
        "bitnot" => {
            count(v, 1, 1)?;
            Value::Int(!int(v, 0)?)
        }
        "date" => {
            count(v, 1, 3)?;
            let zone = if v.len() == 3 { time::zone(text(v, 2)?)? } else { TimeZone::UTC };
            let at =
                if v.len() == 1 { time::guess(text(v, 0)?)? } else { time::parse(text(v, 1)?, text(v, 0)?, &zone)? };
            Value::Time(Box::new(at))
        }
        "duration" => {
            count(v, 1, 1)?;
            Value::Duration(time::duration(text(v, 0)?)?)
        }
        // A zone is known by its name.
        "timezone" => {
            count(v, 1, 1)?;
            time::zone(text(v, 0)?)?;
            v[0].clone()
        }
        "now" => return Err("`now` is not supported: an expression must come out the same whenever it is asked".into()),
        _ => return Err(format!("there is no function `{name}`")),
    })
}

/// Go's `strings.SplitN`: a negative count means all, 0 means nothing; an empty separator splits characters.
pub(super) fn split(text: &str, by: &str, n: i64, after: bool) -> Vec<String> {
    if n == 0 {
        return Vec::new();
    }
    let limit = usize::try_from(n).unwrap_or(usize::MAX);
    if by.is_empty() {
        let chars: Vec<char> = text.chars().collect();
        let mut out: Vec<String> = chars.iter().take(limit.saturating_sub(1)).map(char::to_string).collect();
        if chars.len() > out.len() {
            out.push(chars[out.len()..].iter().collect());
        }
        return out;
    }
    let mut out: Vec<String> = text.splitn(limit, by).map(str::to_owned).collect();
    if after {
        let last = out.len().saturating_sub(1);
        out[..last].iter_mut().for_each(|part| part.push_str(by));
    }
    out
}

fn flatten(items: &[Value], out: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::List(inner) => flatten(inner, out),
            other => out.push(other.clone()),
        }
    }
}

fn aggregate(name: &str, values: &[Value]) -> Result<Value, String> {
    if values.is_empty() {
        return Err(format!("`{name}` needs at least one argument"));
    }
    let mut all = Vec::new();
    flatten(values, &mut all);
    // The longest and the shortest of durations, the last and the first of times.
    let alike = |kind: fn(&Value) -> bool| all.iter().all(kind);
    let timely = matches!(name, "max" | "min")
        && (alike(|v| matches!(v, Value::Duration(_))) || alike(|v| matches!(v, Value::Time(_))));
    let bad = all.iter().find(|v| v.as_f64().is_none() && !timely);
    if let Some(bad) = bad {
        return Err(format!("`{name}` takes numbers, not {}", bad.kind()));
    }
    let floats: Vec<f64> = all.iter().filter_map(Value::as_f64).collect();
    Ok(match name {
        "max" | "min" => {
            let better = |a: &Value, b: &Value| {
                let order = a.order(b);
                if name == "max" { order.is_some_and(|o| o.is_lt()) } else { order.is_some_and(|o| o.is_gt()) }
            };
            let mut best: Option<Value> = None;
            for value in all {
                if best.as_ref().is_none_or(|b| better(b, &value)) {
                    best = Some(value);
                }
            }
            best.unwrap_or(Value::Null)
        }
        "sum" => {
            count(values, 1, 1)?;
            let Value::List(_) = &values[0] else { return Err("`sum` takes a list".to_owned()) };
            all.iter().try_fold(Value::Int(0), |a, b| super::eval::operate("+", &a, b))?
        }
        "mean" if floats.is_empty() => Value::Float(0.0),
        "mean" => Value::Float(floats.iter().sum::<f64>() / floats.len() as f64),
        _ => {
            let mut floats = floats;
            floats.sort_by(f64::total_cmp);
            let n = floats.len();
            Value::Float(match n {
                0 => 0.0,
                n if n % 2 == 1 => floats[n / 2],
                n => (floats[n / 2 - 1] + floats[n / 2]) / 2.0,
            })
        }
    })
}
