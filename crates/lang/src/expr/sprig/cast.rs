//! What any value counts as, for functions that take anything: a whole number, a float, text, empty or not. Nothing
//! here fails.

use super::super::builtin::go_float;
use super::Value;

/// Anything as a whole number; what is none is 0.
pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        Value::Float(n) => *n as i64,
        Value::Bool(b) => i64::from(*b),
        Value::Text(t) => whole(t).unwrap_or(0),
        _ => 0,
    }
}

/// What Go's `Atoi` gives beside its error, which sprig passes over.
pub(super) fn out_of_range(error: &std::num::ParseIntError) -> i64 {
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

pub(super) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(n) => *n as f64,
        Value::Float(n) => *n,
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::Text(t) => go_float(t).unwrap_or(0.0),
        _ => 0.0,
    }
}

/// sprig's `toString`.
pub(super) fn shown(value: &Value) -> String {
    value.go_text()
}

pub(super) fn is_empty(value: &Value) -> bool {
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
