//! sprig's functions of lists, and of texts that are taken apart into one or joined from one.

use super::super::builtin;
use super::arguments::{count, least, list, text};
use super::cast::{is_empty, shown, to_int};
use super::{Found, Value};

/// A function by name; nothing when it is none of lists.
pub(super) fn call(name: &str, v: &[Value]) -> Found {
    Ok(Some(match name {
        "list" | "tuple" => Value::List(v.to_vec()),
        "first" | "mustFirst" => list(v, 0)?.first().cloned().unwrap_or(Value::Null),
        "last" | "mustLast" => list(v, 0)?.last().cloned().unwrap_or(Value::Null),
        "rest" | "mustRest" => match list(v, 0)? {
            [] => Value::Null,
            items => Value::List(items[1..].to_vec()),
        },
        "initial" | "mustInitial" => match list(v, 0)? {
            [] => Value::Null,
            items => Value::List(items[..items.len() - 1].to_vec()),
        },
        "append" | "mustAppend" | "push" | "mustPush" => {
            let mut items = list(v, 0)?.to_vec();
            items.push(v[1].clone());
            Value::List(items)
        }
        "prepend" | "mustPrepend" => {
            let mut items = vec![v[1].clone()];
            items.extend_from_slice(list(v, 0)?);
            Value::List(items)
        }
        "reverse" | "mustReverse" => Value::List(list(v, 0)?.iter().rev().cloned().collect()),
        "uniq" | "mustUniq" => {
            let mut out: Vec<Value> = Vec::new();
            list(v, 0)?.iter().for_each(|item| {
                if !out.contains(item) {
                    out.push(item.clone());
                }
            });
            Value::List(out)
        }
        "compact" | "mustCompact" => Value::List(list(v, 0)?.iter().filter(|x| !is_empty(x)).cloned().collect()),
        "without" | "mustWithout" => {
            least(name, v, 1)?;
            Value::List(list(v, 0)?.iter().filter(|x| !v[1..].contains(x)).cloned().collect())
        }
        "has" | "mustHas" => match &v[1] {
            Value::Null => Value::Bool(false),
            _ => Value::Bool(list(v, 1)?.contains(&v[0])),
        },
        "slice" | "mustSlice" => {
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
        "chunk" | "mustChunk" => {
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
        "splitList" => {
            Value::List(builtin::split(text(v, 1)?, text(v, 0)?, -1, false).into_iter().map(Value::Text).collect())
        }
        "split" | "splitn" => {
            let (t, n) = if name == "split" { (text(v, 1)?, -1) } else { (text(v, 2)?, count(v, 1)?) };
            let parts = builtin::split(t, text(v, 0)?, n, false);
            Value::Map(parts.into_iter().enumerate().map(|(i, p)| (format!("_{i}"), Value::Text(p))).collect())
        }
        _ => return Ok(None),
    }))
}
