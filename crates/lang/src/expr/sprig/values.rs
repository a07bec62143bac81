//! sprig's functions of any value: what to take where it is empty, and of which type it is.

use super::arguments::{least, text};
use super::cast::is_empty;
use super::{Found, Value};

/// A function by name; nothing when it is none of these.
pub(super) fn call(name: &str, v: &[Value]) -> Found {
    Ok(Some(match name {
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
