//! What a plain word means: the YAML 1.1 resolver of Go's `yaml.v2`, which `sigs.k8s.io/yaml` is made of. Knows one word
//! at a time.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Number, Value};

/// A resolved scalar, or a word that JSON cannot hold.
#[derive(Debug, PartialEq)]
pub(super) enum Resolved {
    Value(Value),
    /// `.inf`, `.nan`: numbers that JSON has no form for.
    NotJson,
}

static FLOAT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$").expect("invariant: a constant pattern")
});

/// Resolves an untagged plain scalar.
pub(super) fn resolve(text: &str) -> Resolved {
    let value = match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Resolved::NotJson,
        _ => return number(text).unwrap_or_else(|| Resolved::Value(Value::String(text.to_owned()))),
    };
    Resolved::Value(value)
}

/// An integer or float; nothing when the word is text.
pub(super) fn number(text: &str) -> Option<Resolved> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let plain = text.replace('_', "");
    if let Some(int) = integer(&plain) {
        return Some(Resolved::Value(Value::Number(int)));
    }
    if FLOAT.is_match(&plain) {
        // What is too great for a float is text.
        let float = plain.parse::<f64>().ok().filter(|f| f.is_finite())?;
        return Some(Resolved::Value(float_value(float)));
    }
    None
}

/// Go's `ParseInt(s, 0, 64)` with its prefixes, then `ParseUint`.
fn integer(plain: &str) -> Option<Number> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match lower.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match negative {
        false => Some(Number::from(magnitude)),
        true if magnitude <= 1 << 63 => Some(Number::from((magnitude as i64).wrapping_neg())),
        true => None,
    }
}

/// Go prints whole floats without a point, so `1.0` reaches every reader as `1`.
fn float_value(float: f64) -> Value {
    if float.fract() == 0.0 && float.abs() < 9.007_199_254_740_992e15 {
        return Value::Number(Number::from(float as i64));
    }
    Number::from_f64(float).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_mean_what_kubernetes_says() {
        for (text, value) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!(true)),
            ("~", json!(null)),
            ("014", json!(12)),
            ("08", json!(8)),
            ("0o14", json!(12)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("-0b101", json!(-5)),
            ("+12", json!(12)),
            ("1_000", json!(1000)),
            ("1e3", json!(1000)),
            ("1.0", json!(1)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1.", json!(1)),
            ("18446744073709551615", json!(18446744073709551615u64)),
            ("-9223372036854775808", json!(-9223372036854775808i64)),
            ("2001-01-01", json!("2001-01-01")),
            ("1:30", json!("1:30")),
            ("1.2.3", json!("1.2.3")),
            ("0x", json!("0x")),
            ("-", json!("-")),
            ("yEs", json!("yEs")),
            ("500m", json!("500m")),
            ("12e", json!("12e")),
            ("1e999", json!("1e999")),
            ("1_", json!(1)),
            ("-014", json!(-12)),
            ("+0x1F", json!(31)),
            ("_1", json!("_1")),
        ] {
            assert_eq!(resolve(text), Resolved::Value(value), "{text}");
        }
        assert_eq!(resolve(".inf"), Resolved::NotJson);
    }
}
