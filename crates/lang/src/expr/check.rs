//! What expr-lang refuses before it runs: operators between constants and names whose types cannot go together. Only
//! types that are certain are judged; what comes out of a list, a map or a function may be anything.

use super::Env;
use super::parse::{Kind, Node};
use super::value::Value;
use crate::source::Fault;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Any,
    Nil,
    Bool,
    Number,
    Text,
    List,
    Map,
}

/// Finds the first operator that can never work.
pub(super) fn check(node: &Node, env: &Env) -> Result<(), Fault> {
    type_of(node, env, &mut Vec::new()).map(drop)
}

fn of_value(value: &Value) -> Type {
    match value {
        Value::Null => Type::Nil,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) | Value::Float(_) => Type::Number,
        Value::Text(_) => Type::Text,
        Value::List(_) => Type::List,
        Value::Map(_) => Type::Map,
        Value::Time(_) | Value::Duration(_) | Value::Version(_) => Type::Any,
    }
}

fn type_of<'n>(node: &'n Node, env: &Env, bound: &mut Vec<&'n str>) -> Result<Type, Fault> {
    let fault = |message: &str| Fault::new(message, node.range.clone());
    Ok(match &node.kind {
        Kind::Constant(value) => of_value(value),
        Kind::Name(name) if bound.contains(&name.as_str()) => Type::Any,
        Kind::Name(name) => env.root(name).map_or(Type::Any, of_value),
        Kind::Pointer(_) => Type::Any,
        Kind::List(items) => {
            for item in items {
                type_of(item, env, bound)?;
            }
            Type::List
        }
        Kind::Map(pairs) => {
            for (key, value) in pairs {
                type_of(key, env, bound)?;
                type_of(value, env, bound)?;
            }
            Type::Map
        }
        Kind::Not(inner) => match type_of(inner, env, bound)? {
            Type::Bool | Type::Any => Type::Bool,
            _ => return Err(fault("`not` takes true or false")),
        },
        Kind::Negate(inner) | Kind::Plus(inner) => match type_of(inner, env, bound)? {
            number @ (Type::Number | Type::Any) => number,
            _ => return Err(fault("a sign takes a number")),
        },
        Kind::Binary(sign, left, right) => {
            let (a, b) = (type_of(left, env, bound)?, type_of(right, env, bound)?);
            // A list of constants of one type can only hold that type.
            let stranger =
                *sign == "in" && !matches!(a, Type::Any | Type::Nil) && constants(right).is_some_and(|only| only != a);
            if stranger || !fits(sign, a, b) {
                return Err(fault(&format!("`{sign}` cannot take values of these types")));
            }
            match *sign {
                "+" | "-" | "*" | "/" | "%" | "**" | "^" | "??" => Type::Any,
                ".." => Type::List,
                _ => Type::Bool,
            }
        }
        Kind::Choice(a, b, c) => {
            for part in [a, b, c] {
                type_of(part, env, bound)?;
            }
            Type::Any
        }
        Kind::Let(name, value, body) => {
            type_of(value, env, bound)?;
            bound.push(name);
            let result = type_of(body, env, bound);
            bound.pop();
            result?
        }
        Kind::Call(name, all) if name == "get" && all.len() == 2 => {
            let (of, key) = (type_of(&all[0], env, bound)?, type_of(&all[1], env, bound)?);
            let fits = match of {
                Type::Any => true,
                Type::List => matches!(key, Type::Number | Type::Any),
                Type::Map => matches!(key, Type::Text | Type::Any | Type::Nil),
                _ => false,
            };
            if !fits {
                return Err(fault("`get` cannot take from values of these types"));
            }
            Type::Any
        }
        Kind::Sequence(all) | Kind::Call(_, all) => {
            for part in all {
                type_of(part, env, bound)?;
            }
            Type::Any
        }
        Kind::Member { of, key, .. } => {
            if type_of(of, env, bound)? == Type::Text {
                return Err(fault("nothing can be taken from a text"));
            }
            type_of(key, env, bound)?;
            Type::Any
        }
        Kind::Slice(of, ..) | Kind::Chain(of) => {
            type_of(of, env, bound)?;
            Type::Any
        }
        Kind::Method(_, arguments) => {
            for part in arguments {
                type_of(part, env, bound)?;
            }
            Type::Any
        }
    })
}

/// The one type of a list that is written out in constants.
fn constants(node: &Node) -> Option<Type> {
    let Kind::List(items) = &node.kind else { return None };
    let mut types = items.iter().map(|n| match &n.kind {
        Kind::Constant(value) => Some(of_value(value)),
        _ => None,
    });
    let first = types.next()??;
    types.all(|t| t == Some(first)).then_some(first).filter(|t| *t != Type::Nil)
}

fn fits(sign: &str, a: Type, b: Type) -> bool {
    use Type::{Any, Bool, List, Map, Nil, Text};
    let may = |t: Type, wanted: Type| t == Any || t == wanted;
    match sign {
        "==" | "!=" => a == b || matches!(a, Any | Nil) || matches!(b, Any | Nil),
        "&&" | "and" | "||" | "or" => may(a, Bool) && may(b, Bool),
        "in" => matches!(b, Any | List) || (b == Map && matches!(a, Text | Any | Nil)),
        "contains" | "startsWith" | "endsWith" | "matches" => may(a, Text) && may(b, Text),
        _ => true,
    }
}
