//! sprig's functions of maps. A map that is given stays as it is; `set` and the like answer a new one.

use std::collections::BTreeMap;

use super::arguments::{least, map, text};
use super::cast::{is_empty, shown};
use super::{Found, Value};

/// A function by name; nothing when it is none of maps.
pub(super) fn call(name: &str, v: &[Value]) -> Found {
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
