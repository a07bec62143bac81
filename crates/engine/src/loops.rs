//! Loops: a step's items. Pure; how many run at a time is decided elsewhere.

use serde_json::Value;
use windlass_lang::go_json;
use windlass_model::template::{Sequence, WorkflowStep};

/// Whether the step has a loop.
pub(crate) fn has_loop(step: &WorkflowStep) -> bool {
    step.with_items.as_ref().is_some_and(|i| !i.is_empty()) || step.with_param.is_some() || step.with_sequence.is_some()
}

/// The step's items, its tags replaced.
pub(crate) fn items(step: &WorkflowStep) -> Result<Vec<Value>, String> {
    if let Some(items) = &step.with_items
        && !items.is_empty()
    {
        return Ok(items.clone());
    }
    if let Some(param) = &step.with_param {
        let wrong =
            |why: String| Err(format!("withParam value could not be parsed as a JSON list: {}: {why}", param.0.trim()));
        return match serde_json::from_str::<Value>(&param.0) {
            Ok(Value::Array(items)) => Ok(items),
            Ok(Value::Null) => Ok(Vec::new()),
            Ok(_) => wrong(format!(
                "json: cannot unmarshal {} into Go value of type []v1alpha1.Item",
                go_json::kind(&param.0)
            )),
            Err(e) => wrong(go_json::fault(&param.0).unwrap_or_else(|| e.to_string())),
        };
    }
    match &step.with_sequence {
        Some(sequence) => numbers(sequence),
        None => Ok(Vec::new()),
    }
}

fn numbers(sequence: &Sequence) -> Result<Vec<Value>, String> {
    let read = |what: &str, value: &Option<windlass_model::IntOrString>| match value {
        None => Ok(None),
        Some(v) => v.as_int().map(Some).ok_or_else(|| format!("withSequence.{what} is not a whole number: {v}")),
    };
    let start = read("start", &sequence.start)?.unwrap_or(0);
    let (first, last) = match (read("count", &sequence.count)?, read("end", &sequence.end)?) {
        (Some(count), _) if count <= 0 => return Ok(Vec::new()),
        (Some(count), _) => (start, start + count - 1),
        (None, Some(end)) => (start, end),
        (None, None) => return Err("withSequence needs either count or end".to_owned()),
    };
    let format = sequence.format.as_deref().filter(|f| !f.is_empty()).unwrap_or("%d");
    let text = |n: i64| Value::String(printf(format, n));
    Ok(if first <= last { (first..=last).map(text).collect() } else { (last..=first).rev().map(text).collect() })
}

/// One number in printf's form: `%d`, `%02x` and the like.
fn printf(format: &str, n: i64) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(f) = chars.next_if(|f| "0-+ #".contains(*f)) {
            flags.push(f);
        }
        let mut width = String::new();
        while let Some(w) = chars.next_if(char::is_ascii_digit) {
            width.push(w);
        }
        let width: usize = width.parse().unwrap_or(0);
        let digits = match chars.next() {
            Some('%') => {
                out.push('%');
                continue;
            }
            Some('x') => format!("{:x}", n.unsigned_abs()),
            Some('X') => format!("{:X}", n.unsigned_abs()),
            Some('o') => format!("{:o}", n.unsigned_abs()),
            Some('b') => format!("{:b}", n.unsigned_abs()),
            Some('c') => u32::try_from(n).ok().and_then(char::from_u32).map(String::from).unwrap_or_default(),
            Some('d' | 'v') => n.unsigned_abs().to_string(),
            Some(other) => {
                out.push_str(&format!("%!{other}(int={n})"));
                continue;
            }
            None => {
                out.push_str("%!(NOVERB)");
                continue;
            }
        };
        let sign = match (n < 0, flags.contains('+'), flags.contains(' ')) {
            (true, _, _) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let missing = width.saturating_sub(sign.len() + digits.chars().count());
        if flags.contains('-') {
            out.push_str(&format!("{sign}{digits}{}", " ".repeat(missing)));
        } else if flags.contains('0') {
            out.push_str(&format!("{sign}{}{digits}", "0".repeat(missing)));
        } else {
            out.push_str(&format!("{}{sign}{digits}", " ".repeat(missing)));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use windlass_model::IntOrString::Int;

    #[test]
    fn sequences_count_up_and_down() {
        let texts = |s: Sequence| {
            numbers(&s).unwrap().into_iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts(Sequence { count: Some(Int(3)), ..Sequence::default() }), ["0", "1", "2"]);
        assert_eq!(texts(Sequence { start: Some(Int(3)), end: Some(Int(1)), ..Sequence::default() }), ["3", "2", "1"]);
        let hex = Sequence { count: Some(Int(2)), format: Some("testuser%02X".to_owned()), ..Sequence::default() };
        assert_eq!(texts(hex), ["testuser00", "testuser01"]);
        assert!(texts(Sequence { count: Some(Int(0)), ..Sequence::default() }).is_empty());
    }
}
