//! The value of a tree. Types are checked as govaluate checks them, and in its words: numbers are floats, and only `+`
//! mixes types.

use std::cmp::Ordering;
use std::ops::Range;

use regex::Regex;

use super::parse::{Node, Op};
use crate::source::Fault;

/// What a condition or a part of it comes out as.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A number; all are floats.
    Number(f64),
    /// A text.
    Text(String),
    /// What a comma makes.
    List(Vec<Value>),
    /// No value.
    Null,
}

/// A value, or the pattern behind `=~`.
enum Operand<'t> {
    Value(Value),
    Pattern(&'t Regex),
}

pub(super) fn evaluate(node: &Node, words: &dyn Fn(&str) -> Option<Value>) -> Result<Value, Fault> {
    Ok(match node {
        Node::Number(n) => Value::Number(*n),
        Node::Bool(b) => Value::Bool(*b),
        Node::Text(t) => Value::Text(t.clone()),
        Node::Pattern(p) => Value::Text(p.as_str().to_owned()),
        Node::Nothing => Value::Null,
        Node::Word(word, range) => {
            words(word).ok_or_else(|| Fault::new(format!("`{word}` is not known here"), range.clone()))?
        }
        Node::Dotted(word, range) => {
            let message = format!("`{word}` has a dot, so it is no plain word; put it in quotes");
            return Err(Fault::new(message, range.clone()));
        }
        Node::Prefix(sign, inner, range) => prefix(*sign, evaluate(inner, words)?, range)?,
        Node::Chain(first, rest) => {
            let mut left = evaluate(first, words)?;
            for (op, range, right) in rest {
                left = step(left, *op, range, right, words)?;
            }
            left
        }
    })
}

fn prefix(sign: char, value: Value, range: &Range<usize>) -> Result<Value, Fault> {
    match (sign, &value) {
        ('!', Value::Bool(b)) => Ok(Value::Bool(!b)),
        ('-', Value::Number(n)) => Ok(Value::Number(-n)),
        ('~', Value::Number(n)) => Ok(Value::Number(!to_i64(*n) as f64)),
        _ => Err(Fault::new(format!("Value '{value}' cannot be used with the prefix '{sign}'"), range.clone())),
    }
}

fn step(
    left: Value,
    op: Op,
    range: &Range<usize>,
    right: &Node,
    words: &dyn Fn(&str) -> Option<Value>,
) -> Result<Value, Fault> {
    // What decides by itself leaves its right side alone.
    match (op, &left) {
        (Op::And, Value::Bool(false)) => return Ok(left),
        (Op::Or, Value::Bool(true)) => return Ok(left),
        (Op::Then, Value::Bool(false)) => return Ok(Value::Null),
        (Op::Coalesce | Op::Else, value) if *value != Value::Null => return Ok(left),
        _ => {}
    }
    let right = match right {
        Node::Pattern(regex) => Operand::Pattern(regex),
        node => Operand::Value(evaluate(node, words)?),
    };
    apply(left, op, right).map_err(|message| Fault::new(message, range.clone()))
}

/// What a value of the wrong kind is told.
fn unfit(value: &Value, op: Op) -> String {
    let (role, wants) = match op {
        Op::And | Op::Or => ("logical operator", "bool"),
        Op::Then | Op::Else | Op::Coalesce => ("ternary operator", "bool"),
        Op::Equal | Op::NotEqual | Op::Matches | Op::NotMatches | Op::In => ("comparator", "number"),
        Op::Greater | Op::GreaterEqual | Op::Less | Op::LessEqual => ("comparator", "number"),
        _ => ("modifier", "number"),
    };
    format!("Value '{value}' cannot be used with the {role} '{}', it is not a {wants}", op.sign())
}

fn apply(left: Value, op: Op, right: Operand<'_>) -> Result<Value, String> {
    let right = match right {
        Operand::Pattern(regex) => return matches(&left, op, regex),
        Operand::Value(value) => value,
    };
    let bool = |b| Ok(Value::Bool(b));
    match op {
        Op::Comma => Ok(Value::List(match left {
            Value::List(mut items) => {
                items.push(right);
                items
            }
            left => vec![left, right],
        })),
        Op::Then => match left {
            Value::Bool(true) => Ok(right),
            left => Err(unfit(&left, op)),
        },
        Op::Else | Op::Coalesce => Ok(right),
        Op::And | Op::Or => match (&left, &right) {
            (Value::Bool(_), Value::Bool(b)) => bool(*b),
            (Value::Bool(_), other) | (other, _) => Err(unfit(other, op)),
        },
        Op::Equal => bool(left == right),
        Op::NotEqual => bool(left != right),
        Op::Greater | Op::GreaterEqual | Op::Less | Op::LessEqual => compare(&left, op, &right),
        Op::Matches | Op::NotMatches => match &right {
            Value::Text(text) => match Regex::new(text) {
                Ok(regex) => matches(&left, op, &regex),
                Err(_) => Err(format!("`{text}` is not a regular expression")),
            },
            other => Err(unfit(if matches!(left, Value::Text(_)) { other } else { &left }, op)),
        },
        Op::In => contains(&left, &right),
        Op::Plus => match (&left, &right) {
            (Value::Number(a), Value::Number(b)) => Ok(Value::Number(a + b)),
            (Value::Text(_), _) | (_, Value::Text(_)) => Ok(Value::Text(format!("{left}{right}"))),
            _ => Err(unfit(&left, op)),
        },
        _ => match (&left, &right) {
            (Value::Number(a), Value::Number(b)) => Ok(Value::Number(arithmetic(*a, op, *b))),
            (Value::Number(_), other) | (other, _) => Err(unfit(other, op)),
        },
    }
}

fn compare(left: &Value, op: Op, right: &Value) -> Result<Value, String> {
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ => return Err(unfit(left, op)),
    };
    Ok(Value::Bool(match op {
        Op::Greater => order == Some(Ordering::Greater),
        Op::GreaterEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Op::Less => order == Some(Ordering::Less),
        _ => matches!(order, Some(Ordering::Less | Ordering::Equal)),
    }))
}

fn matches(left: &Value, op: Op, regex: &Regex) -> Result<Value, String> {
    match left {
        Value::Text(text) => Ok(Value::Bool(regex.is_match(text) == (op == Op::Matches))),
        other => Err(unfit(other, op)),
    }
}

fn contains(left: &Value, right: &Value) -> Result<Value, String> {
    let Value::List(items) = right else {
        return Err(unfit(right, Op::In));
    };
    for item in items {
        if matches!((left, item), (Value::List(_), Value::List(_))) {
            return Err("`in` cannot look for a list".to_owned());
        }
        if left == item {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn arithmetic(a: f64, op: Op, b: f64) -> f64 {
    match op {
        Op::Minus => a - b,
        Op::Times => a * b,
        Op::Divide => a / b,
        Op::Modulo => a % b,
        Op::Power => a.powf(b),
        Op::BitXor => (to_i64(a) ^ to_i64(b)) as f64,
        Op::BitAnd => (to_i64(a) & to_i64(b)) as f64,
        Op::BitOr => (to_i64(a) | to_i64(b)) as f64,
        Op::ShiftRight => shift(a, b, u64::checked_shr),
        _ => shift(a, b, u64::checked_shl),
    }
}

fn shift(a: f64, b: f64, by: fn(u64, u32) -> Option<u64>) -> f64 {
    u32::try_from(to_u64(b)).ok().and_then(|b| by(to_u64(a), b)).unwrap_or(0) as f64
}

/// Go's conversion on amd64: out of range is the least number.
fn to_i64(n: f64) -> i64 {
    if n.is_nan() || !(-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&n) {
        return i64::MIN;
    }
    n as i64
}

/// Go's conversion on amd64: negative numbers wrap.
fn to_u64(n: f64) -> u64 {
    const HALF: f64 = 9.223_372_036_854_776e18;
    if n < HALF { to_i64(n) as u64 } else { (to_i64(n - HALF) as u64) ^ (1 << 63) }
}

/// A float as Go's `%v` prints it: an exponent from a million on and below a ten-thousandth.
pub(super) fn number_text(n: f64) -> String {
    crate::expr::number::go_text(n)
}
