//! Evaluates a tree. Steps and sizes are counted, so no text can keep it busy for long or fill the memory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

use regex::Regex;

use super::parse::{Kind, Node, PREDICATES};
use super::value::Value;
use super::{Env, builtin, jsonpath, sprig, time};
use crate::source::Fault;

/// Most steps of one evaluation.
const STEPS_MAX: usize = 2_000_000;
/// Most items of a range.
const RANGE_MAX: i64 = 1_000_000;

pub(super) fn evaluate(node: &Node, env: &Env) -> Result<Value, Fault> {
    Machine { env, steps: Cell::new(0) }.value(node, &Frame::default())
}

/// Local names and the closure around, innermost last.
#[derive(Clone, Default)]
struct Frame<'f> {
    lets: Vec<(&'f str, Value)>,
    item: Option<(Value, i64)>,
    acc: Option<Value>,
}

struct Machine<'e> {
    env: &'e Env,
    steps: Cell<usize>,
}

/// Marks that a `?.` found nil and the chain around it is nil.
const SHORT: &str = "\u{0}short";

fn fault(message: impl Into<String>, range: &Range<usize>) -> Fault {
    Fault::new(message, range.clone())
}

impl Machine<'_> {
    fn value<'n>(&self, node: &'n Node, frame: &Frame<'n>) -> Result<Value, Fault> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > STEPS_MAX {
            return Err(fault("this expression takes too long", &node.range));
        }
        let range = &node.range;
        Ok(match &node.kind {
            Kind::Constant(value) => value.clone(),
            Kind::Name(name) => return self.name(name, frame, range),
            Kind::Pointer(name) => match name.as_str() {
                "" => frame.item.as_ref().map(|(v, _)| v.clone()),
                "index" => frame.item.as_ref().map(|(_, i)| Value::Int(*i)),
                "acc" => frame.acc.clone(),
                _ => None,
            }
            .ok_or_else(|| fault(format!("`#{name}` is not known here"), range))?,
            Kind::List(items) => Value::List(items.iter().map(|n| self.value(n, frame)).collect::<Result<_, _>>()?),
            Kind::Map(pairs) => {
                let mut map = BTreeMap::new();
                for (key, value) in pairs {
                    let Value::Text(name) = self.value(key, frame)? else {
                        return Err(fault("a key must be text", &key.range));
                    };
                    map.insert(name, self.value(value, frame)?);
                }
                Value::Map(map)
            }
            Kind::Not(inner) => match self.value(inner, frame)? {
                Value::Bool(b) => Value::Bool(!b),
                other => return Err(fault(format!("`not` takes true or false, not {}", other.kind()), range)),
            },
            Kind::Negate(inner) => match self.value(inner, frame)? {
                Value::Int(n) => Value::Int(n.wrapping_neg()),
                Value::Float(n) => Value::Float(-n),
                other => return Err(fault(format!("`-` takes a number, not {}", other.kind()), range)),
            },
            Kind::Plus(inner) => match self.value(inner, frame)? {
                number @ (Value::Int(_) | Value::Float(_)) => number,
                other => return Err(fault(format!("`+` takes a number, not {}", other.kind()), range)),
            },
            Kind::Binary(sign, a, b) => return self.binary(sign, a, b, frame, range),
            Kind::Member { of, key, optional } => {
                let of_value = self.value(of, frame)?;
                if of_value == Value::Null && *optional {
                    return Err(fault(SHORT, range));
                }
                let key_value = self.value(key, frame)?;
                // Where the place matters to somebody it is the field, as in expr-lang.
                return member(&of_value, &key_value, &(key.range.start..range.end));
            }
            Kind::Chain(inner) => match self.value(inner, frame) {
                Err(short) if short.message == SHORT => Value::Null,
                other => return other,
            },
            Kind::Slice(of, from, to) => {
                let of = self.value(of, frame)?;
                let bound = |n: &'n Option<Box<Node>>| n.as_ref().map(|n| self.int(n, frame)).transpose();
                let (from, to) = (bound(from)?, bound(to)?);
                return slice(of, from, to, range);
            }
            Kind::Choice(condition, yes, no) => match self.value(condition, frame)? {
                Value::Bool(true) => return self.value(yes, frame),
                Value::Bool(false) => return self.value(no, frame),
                other => return Err(fault(format!("`?` takes true or false, not {}", other.kind()), range)),
            },
            Kind::Let(name, value, body) => {
                let value = self.value(value, frame)?;
                let mut frame = frame.clone();
                frame.lets.push((name, value));
                return self.value(body, &frame);
            }
            Kind::Sequence(nodes) => {
                let mut last = Value::Null;
                for node in nodes {
                    last = self.value(node, frame)?;
                }
                last
            }
            Kind::Call(name, arguments) => return self.call(name, arguments, frame, range),
            Kind::Method(of, arguments) => return self.method(of, arguments, frame, range),
        })
    }

    fn name(&self, name: &str, frame: &Frame<'_>, range: &Range<usize>) -> Result<Value, Fault> {
        if let Some((_, value)) = frame.lets.iter().rev().find(|(n, _)| *n == name) {
            return Ok(value.clone());
        }
        self.env.root(name).cloned().ok_or_else(|| fault(format!("`{name}` is not known here"), range))
    }

    fn int<'n>(&self, node: &'n Node, frame: &Frame<'n>) -> Result<i64, Fault> {
        match self.value(node, frame)? {
            Value::Int(n) => Ok(n),
            other => Err(fault(format!("this must be a whole number, not {}", other.kind()), &node.range)),
        }
    }

    fn binary<'n>(
        &self,
        sign: &str,
        a: &'n Node,
        b: &'n Node,
        frame: &Frame<'n>,
        range: &Range<usize>,
    ) -> Result<Value, Fault> {
        let left = match (sign, self.value(a, frame)) {
            // Left of `??` what cannot be reached is nothing.
            ("??", Err(short)) if short.message == SHORT => Value::Null,
            ("??", Err(_)) if matches!(a.kind, Kind::Member { .. } | Kind::Chain(_)) => Value::Null,
            (_, left) => left?,
        };
        match (sign, &left) {
            ("||" | "or", Value::Bool(true)) | ("&&" | "and", Value::Bool(false)) => return Ok(left),
            ("??", value) => return if *value == Value::Null { self.value(b, frame) } else { Ok(left) },
            _ => {}
        }
        let right = self.value(b, frame)?;
        operate(sign, &left, &right).map_err(|message| fault(message, range))
    }

    fn call<'n>(
        &self,
        name: &str,
        arguments: &'n [Node],
        frame: &Frame<'n>,
        range: &Range<usize>,
    ) -> Result<Value, Fault> {
        if PREDICATES.contains(&name) && (arguments.len() > 1 || !matches!(name, "sum" | "count")) {
            return self.predicate(name, arguments, frame, range);
        }
        let values: Vec<Value> = arguments.iter().map(|n| self.value(n, frame)).collect::<Result<_, _>>()?;
        let result = match name {
            "asInt" | "asFloat" | "toJson" => builtin::argo(name, &values),
            "jsonpath" => match values.as_slice() {
                [Value::Text(json), Value::Text(path)] => jsonpath::query(json, path),
                _ => Err("`jsonpath` takes a JSON text and a path".to_owned()),
            },
            "now" if values.is_empty() && self.env.now().is_some() => {
                Ok(self.env.now().map_or(Value::Null, |now| Value::Time(Box::new(now))))
            }
            _ => builtin::call(name, &values),
        };
        result.map_err(|message| fault(message, range))
    }

    fn method<'n>(
        &self,
        of: &'n Node,
        arguments: &'n [Node],
        frame: &Frame<'n>,
        range: &Range<usize>,
    ) -> Result<Value, Fault> {
        if let Kind::Member { of, key, .. } = &of.kind
            && let Kind::Constant(Value::Text(name)) = &key.kind
        {
            let values = || arguments.iter().map(|n| self.value(n, frame)).collect::<Result<Vec<Value>, _>>();
            if matches!(&of.kind, Kind::Name(root) if root == "sprig") {
                return sprig::call(name, &values()?, self.env.now()).map_err(|message| fault(message, range));
            }
            let result = match self.value(of, frame)? {
                Value::Time(at) => time::method(&at, name, &values()?),
                Value::Duration(nanos) => time::duration_method(nanos, name, &values()?),
                Value::Version(version) => version.method(name, &values()?),
                other => Err(format!("{} has no method `{name}`", other.kind())),
            };
            return result.map_err(|message| fault(message, range));
        }
        Err(fault("this is no function", &of.range))
    }

    fn predicate<'n>(
        &self,
        name: &str,
        arguments: &'n [Node],
        frame: &Frame<'n>,
        range: &Range<usize>,
    ) -> Result<Value, Fault> {
        let most = if matches!(name, "sortBy" | "reduce") { 3 } else { 2 };
        if arguments.len() < 2 || arguments.len() > most {
            return Err(fault(format!("`{name}` takes a list and a condition"), range));
        }
        let items = match self.value(&arguments[0], frame)? {
            Value::List(items) => items,
            _ => return Err(fault(format!("`{name}` takes a list"), &arguments[0].range)),
        };
        let each = |i: usize, item: &Value, acc: Option<Value>| {
            let frame = Frame { item: Some((item.clone(), i as i64)), acc, ..frame.clone() };
            self.value(&arguments[1], &frame)
        };
        let holds = |i: usize, item: &Value| match each(i, item, None)? {
            Value::Bool(b) => Ok(b),
            other => Err(fault(format!("this must be true or false, not {}", other.kind()), &arguments[1].range)),
        };
        Ok(match name {
            "filter" => {
                let mut out = Vec::new();
                for (i, item) in items.into_iter().enumerate() {
                    if holds(i, &item)? {
                        out.push(item);
                    }
                }
                Value::List(out)
            }
            "map" => {
                let all = items.iter().enumerate().map(|(i, item)| each(i, item, None));
                Value::List(all.collect::<Result<_, _>>()?)
            }
            "sum" => {
                let mut total = Value::Int(0);
                for (i, item) in items.iter().enumerate() {
                    let value = each(i, item, None)?;
                    total = operate("+", &total, &value).map_err(|m| fault(m, range))?;
                }
                total
            }
            "groupBy" => {
                let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
                for (i, item) in items.into_iter().enumerate() {
                    groups.entry(each(i, &item, None)?.go_text()).or_default().push(item);
                }
                Value::Map(groups.into_iter().map(|(k, v)| (k, Value::List(v))).collect())
            }
            "sortBy" => {
                let mut keyed = Vec::with_capacity(items.len());
                for (i, item) in items.into_iter().enumerate() {
                    keyed.push((each(i, &item, None)?, item));
                }
                let down = match arguments.get(2).map(|n| self.value(n, frame)).transpose()? {
                    None => false,
                    Some(Value::Text(order)) if order == "asc" => false,
                    Some(Value::Text(order)) if order == "desc" => true,
                    Some(_) => return Err(fault("the order is `asc` or `desc`", range)),
                };
                let mut wrong = false;
                keyed.sort_by(|(a, _), (b, _)| {
                    let order = a.order(b).unwrap_or_else(|| {
                        wrong = true;
                        std::cmp::Ordering::Equal
                    });
                    if down { order.reverse() } else { order }
                });
                if wrong {
                    return Err(fault("these cannot be put in order", &arguments[1].range));
                }
                Value::List(keyed.into_iter().map(|(_, v)| v).collect())
            }
            "reduce" => {
                let mut items = items.iter().enumerate();
                let mut acc = match arguments.get(2) {
                    Some(start) => self.value(start, frame)?,
                    None => match items.next() {
                        Some((_, first)) => first.clone(),
                        None => return Err(fault("there is nothing to reduce", range)),
                    },
                };
                for (i, item) in items {
                    acc = each(i, item, Some(acc))?;
                }
                acc
            }
            _ => {
                let backwards = matches!(name, "findLast" | "findLastIndex");
                let order: Vec<usize> =
                    if backwards { (0..items.len()).rev().collect() } else { (0..items.len()).collect() };
                let (mut count, mut found) = (0, None);
                for i in order {
                    if holds(i, &items[i])? {
                        count += 1;
                        found = found.or(Some(i));
                        if name.starts_with("find") || name == "any" {
                            break;
                        }
                    } else if name == "all" {
                        return Ok(Value::Bool(false));
                    }
                }
                match name {
                    "all" => Value::Bool(true),
                    "any" => Value::Bool(count > 0),
                    "none" => Value::Bool(count == 0),
                    "one" => Value::Bool(count == 1),
                    "count" => Value::Int(count),
                    "find" | "findLast" => found.map_or(Value::Null, |i| items[i].clone()),
                    "findIndex" | "findLastIndex" => found.map_or(Value::Null, |i| Value::Int(i as i64)),
                    _ => return Err(fault(format!("there is no function `{name}`"), range)),
                }
            }
        })
    }
}

fn member(of: &Value, key: &Value, range: &Range<usize>) -> Result<Value, Fault> {
    match (of, key) {
        (Value::Map(map), Value::Text(key)) => Ok(map.get(key).cloned().unwrap_or(Value::Null)),
        (Value::List(items), Value::Int(i)) => {
            let at = if *i < 0 { items.len() as i64 + i } else { *i };
            let found = usize::try_from(at).ok().and_then(|at| items.get(at));
            found.cloned().ok_or_else(|| fault(format!("there is no item {i}: the list has {}", items.len()), range))
        }
        (Value::List(_), Value::Float(f)) if f.fract() == 0.0 => member(of, &Value::Int(*f as i64), range),
        (Value::Text(text), Value::Int(i)) => {
            // A byte, as in Go.
            let at = if *i < 0 { text.len() as i64 + i } else { *i };
            let found = usize::try_from(at).ok().and_then(|at| text.as_bytes().get(at));
            found.map(|b| Value::Int(i64::from(*b))).ok_or_else(|| fault(format!("there is no byte {i}"), range))
        }
        (Value::Text(_), Value::Text(_)) => Err(fault("invalid operation: int(string)", range)),
        (Value::Null, key) => Err(fault(format!("cannot fetch {} from <nil>", key.go_text()), range)),
        _ => Err(fault(format!("{} cannot be taken from {}", key.kind(), of.kind()), range)),
    }
}

fn slice(of: Value, from: Option<i64>, to: Option<i64>, range: &Range<usize>) -> Result<Value, Fault> {
    let bounds = |len: usize| {
        let fix = |n: i64| (if n < 0 { len as i64 + n } else { n }).clamp(0, len as i64) as usize;
        let (from, to) = (fix(from.unwrap_or(0)), fix(to.unwrap_or(len as i64)));
        from.min(to)..to
    };
    match of {
        Value::List(items) => {
            let bounds = bounds(items.len());
            Ok(Value::List(items[bounds].to_vec()))
        }
        Value::Text(text) => {
            let bounds = bounds(text.len());
            Ok(Value::Text(String::from_utf8_lossy(&text.as_bytes()[bounds]).into_owned()))
        }
        other => Err(fault(format!("{} cannot be sliced", other.kind()), range)),
    }
}

/// One operator on two values.
pub(super) fn operate(sign: &str, a: &Value, b: &Value) -> Result<Value, String> {
    let wrong = || Err(format!("`{sign}` cannot take {} and {}", a.kind(), b.kind()));
    Ok(match (sign, a, b) {
        ("==", ..) => Value::Bool(a.equals(b)),
        ("!=", ..) => Value::Bool(!a.equals(b)),
        ("&&" | "and" | "||" | "or", Value::Bool(_), Value::Bool(b)) => Value::Bool(*b),
        ("<" | ">" | "<=" | ">=", ..) => {
            let comparable = matches!(
                (a, b),
                (Value::Text(_), Value::Text(_))
                    | (Value::Time(_), Value::Time(_))
                    | (Value::Duration(_), Value::Duration(_))
            ) || (a.as_f64().is_some() && b.as_f64().is_some());
            if !comparable {
                return wrong();
            }
            let order = a.order(b);
            Value::Bool(match sign {
                "<" => order.is_some_and(|o| o.is_lt()),
                ">" => order.is_some_and(|o| o.is_gt()),
                "<=" => order.is_some_and(|o| o.is_le()),
                _ => order.is_some_and(|o| o.is_ge()),
            })
        }
        ("+", Value::Time(at), Value::Duration(by)) | ("+", Value::Duration(by), Value::Time(at)) => {
            return time::moved(at, *by);
        }
        ("-", Value::Time(at), Value::Duration(by)) => return time::moved(at, by.wrapping_neg()),
        ("-", Value::Time(a), Value::Time(b)) => time::between(a, b),
        ("+", Value::Duration(a), Value::Duration(b)) => Value::Duration(a.wrapping_add(*b)),
        ("-", Value::Duration(a), Value::Duration(b)) => Value::Duration(a.wrapping_sub(*b)),
        ("*", Value::Duration(a), Value::Duration(b) | Value::Int(b)) | ("*", Value::Int(a), Value::Duration(b)) => {
            Value::Duration(a.wrapping_mul(*b))
        }
        ("*", Value::Duration(a), Value::Float(b)) | ("*", Value::Float(b), Value::Duration(a)) => {
            Value::Duration((*a as f64 * b) as i64)
        }
        ("+", Value::Text(a), Value::Text(b)) => Value::Text(format!("{a}{b}")),
        ("+", Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_add(*b)),
        ("-", Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_sub(*b)),
        ("*", Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_mul(*b)),
        ("%", Value::Int(_), Value::Int(0)) => return Err("there is no remainder of a division by 0".to_owned()),
        ("%", Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_rem(*b)),
        ("%", ..) => return wrong(),
        ("+" | "-" | "*" | "/" | "**" | "^", ..) => {
            let (Some(x), Some(y)) = (a.as_f64(), b.as_f64()) else { return wrong() };
            Value::Float(match sign {
                "+" => x + y,
                "-" => x - y,
                "*" => x * y,
                "/" => x / y,
                _ => x.powf(y),
            })
        }
        ("..", Value::Int(a), Value::Int(b)) => {
            if b.saturating_sub(*a) > RANGE_MAX {
                return Err("this range is too long".to_owned());
            }
            Value::List((*a..=*b).map(Value::Int).collect())
        }
        ("in", item, Value::List(items)) => Value::Bool(items.iter().any(|i| i.equals(item))),
        ("in", Value::Text(key), Value::Map(map)) => Value::Bool(map.contains_key(key)),
        ("in", _, Value::Null) => Value::Bool(false),
        ("contains" | "startsWith" | "endsWith" | "matches", Value::Text(a), Value::Text(b)) => {
            Value::Bool(match sign {
                "contains" => a.contains(b.as_str()),
                "startsWith" => a.starts_with(b.as_str()),
                "endsWith" => a.ends_with(b.as_str()),
                _ => Regex::new(b).map_err(|_| format!("`{b}` is not a regular expression"))?.is_match(a),
            })
        }
        ("contains" | "startsWith" | "endsWith" | "matches", Value::Null, Value::Text(_))
        | ("contains" | "startsWith" | "endsWith" | "matches", Value::Text(_) | Value::Null, Value::Null) => {
            Value::Bool(false)
        }
        _ => return wrong(),
    })
}
