//! sprig's functions of numbers, and the lists of numbers that are made by counting.

use super::arguments::{count, least, text};
use super::cast::{out_of_range, shown, to_float, to_int};
use super::{Found, Value};

/// A function by name; nothing when it is none of numbers.
pub(super) fn call(name: &str, v: &[Value]) -> Found {
    let ints = || v.iter().map(to_int);
    let floats = || v.iter().map(to_float);
    Ok(Some(match name {
        "add" => Value::Int(ints().fold(0, i64::wrapping_add)),
        "add1" => Value::Int(to_int(&v[0]).wrapping_add(1)),
        "sub" => Value::Int(to_int(&v[0]).wrapping_sub(to_int(&v[1]))),
        "div" | "mod" => match (to_int(&v[0]), to_int(&v[1])) {
            (_, 0) => return Err("division by 0".to_owned()),
            (a, b) if name == "div" => Value::Int(a.wrapping_div(b)),
            (a, b) => Value::Int(a.wrapping_rem(b)),
        },
        "mul" | "max" | "biggest" | "min" | "addf" | "subf" | "divf" | "mulf" | "maxf" | "minf" => {
            let first = match name {
                "addf" => 0,
                _ => 1,
            };
            least(name, v, first)?;
            let float = |f: fn(f64, f64) -> f64| Value::Float(floats().reduce(f).unwrap_or(0.0));
            let int = |f: fn(i64, i64) -> i64| Value::Int(ints().reduce(f).unwrap_or(0));
            match name {
                "mul" => int(i64::wrapping_mul),
                "max" | "biggest" => int(i64::max),
                "min" => int(i64::min),
                "addf" => float(|a, b| a + b),
                "subf" => float(|a, b| a - b),
                "divf" if floats().skip(1).any(|b| b == 0.0) => return Err("division by 0".to_owned()),
                "divf" => float(divided),
                "mulf" => float(|a, b| a * b),
                "maxf" => float(f64::max),
                _ => float(f64::min),
            }
        }
        "add1f" => Value::Float(to_float(&v[0]) + 1.0),
        "ceil" => Value::Float(to_float(&v[0]).ceil()),
        "floor" => Value::Float(to_float(&v[0]).floor()),
        "round" => round(v)?,
        "int" | "int64" => Value::Int(to_int(&v[0])),
        "float64" => Value::Float(to_float(&v[0])),
        "atoi" => Value::Int(text(v, 0)?.parse().unwrap_or_else(|e| out_of_range(&e))),
        "toDecimal" => Value::Int(i64::from_str_radix(&shown(&v[0]), 8).unwrap_or(0)),
        "until" => {
            let n = count(v, 0)?.clamp(-100_000, 100_000);
            Value::List(if n < 0 {
                (n + 1..=0).rev().map(Value::Int).collect()
            } else {
                (0..n).map(Value::Int).collect()
            })
        }
        "untilStep" => {
            let (from, to, step) = (count(v, 0)?, count(v, 1)?, count(v, 2)?);
            let mut out = Vec::new();
            let mut at = from;
            while out.len() < 100_000 && ((step > 0 && at < to) || (step < 0 && at > to)) {
                out.push(Value::Int(at));
                at = at.saturating_add(step);
            }
            Value::List(out)
        }
        "seq" => {
            let n = (0..v.len()).map(|i| count(v, i)).collect::<Result<Vec<i64>, _>>()?;
            let (from, step, to) = match n.as_slice() {
                [to] => (1, if *to < 1 { -1 } else { 1 }, *to),
                [from, to] => (*from, if to < from { -1 } else { 1 }, *to),
                [from, step, to] => (*from, *step, *to),
                _ => return Ok(Some(Value::from(""))),
            };
            let mut out = Vec::new();
            let mut at = from;
            while out.len() < 100_000 && ((step > 0 && at <= to) || (step < 0 && at >= to)) {
                out.push(at.to_string());
                at = at.saturating_add(step);
            }
            Value::Text(out.join(" "))
        }
        _ => return Ok(None),
    }))
}

/// Divides as decimals, to 16 places; floats where the numbers are too long for that.
fn divided(a: f64, b: f64) -> f64 {
    let decimal = |n: f64| {
        let text = format!("{n}");
        let (whole, places) = text.split_once('.').unwrap_or((&text, ""));
        Some((format!("{whole}{places}").parse::<i128>().ok()?, places.len() as u32))
    };
    let exact = || {
        let ((a, a_places), (b, b_places)) = (decimal(a)?, decimal(b)?);
        let a = a.checked_mul(10i128.checked_pow(16 + b_places)?)?;
        let b = b.checked_mul(10i128.checked_pow(a_places)?)?;
        let (whole, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
        let up = rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs();
        let away = if (a < 0) == (b < 0) { 1 } else { -1 };
        format!("{}e-16", if up { whole + away } else { whole }).parse().ok()
    };
    exact().unwrap_or(a / b)
}

fn round(v: &[Value]) -> Result<Value, String> {
    if !(2..=3).contains(&v.len()) {
        return Err("`sprig.round` takes 2 or 3 arguments".to_owned());
    }
    let places = count(v, 1)?;
    let half = match v.get(2) {
        Some(Value::Float(f)) => *f,
        None => 0.5,
        Some(other) => return Err(format!("argument 3 must be a float, and is {}", other.kind())),
    };
    let power = 10f64.powi(places.clamp(-400, 400) as i32);
    let digit = power * to_float(&v[0]);
    let rest = digit.fract();
    Ok(Value::Float(if rest >= half { digit.ceil() } else { digit.floor() } / power))
}
