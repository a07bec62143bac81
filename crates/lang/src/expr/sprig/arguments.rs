//! The arguments of a call as the types that a function takes; what is of another is said by its place. Go gives a
//! function the zero of its type for nil.

use std::collections::BTreeMap;

use super::Value;

pub(super) fn text(v: &[Value], i: usize) -> Result<&str, String> {
    match v.get(i) {
        Some(Value::Text(t)) => Ok(t),
        Some(Value::Null) => Ok(""),
        Some(other) => Err(format!("argument {} must be text, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

pub(super) fn count(v: &[Value], i: usize) -> Result<i64, String> {
    match v.get(i) {
        Some(Value::Int(n)) => Ok(*n),
        Some(Value::Null) => Ok(0),
        Some(other) => Err(format!("argument {} must be a whole number, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

pub(super) fn list(v: &[Value], i: usize) -> Result<&[Value], String> {
    match v.get(i) {
        Some(Value::List(items)) => Ok(items),
        Some(other) => Err(format!("argument {} must be a list, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

pub(super) fn map(v: &[Value], i: usize) -> Result<BTreeMap<String, Value>, String> {
    match v.get(i) {
        Some(Value::Map(map)) => Ok(map.clone()),
        Some(Value::Null) => Ok(BTreeMap::new()),
        Some(other) => Err(format!("argument {} must be a map, and is {}", i + 1, other.kind())),
        None => Err(format!("argument {} is missing", i + 1)),
    }
}

pub(super) fn least(name: &str, v: &[Value], n: usize) -> Result<(), String> {
    if v.len() < n { Err(format!("`sprig.{name}` takes at least {n} arguments")) } else { Ok(()) }
}
