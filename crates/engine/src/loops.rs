//! Loops: a step's items, and what is seen of one in tags and names. Pure; how many run at a time is decided elsewhere.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use windlass_lang::go_json;
use windlass_model::template::{Sequence, WorkflowStep};

/// One item of a loop, as the JSON text that it came as: numbers keep their digits, and what lies deeper keeps its order.
///
/// What is seen of it is what Go makes of such a text (Argo v4.1, `Item`): texts lose their quotes but keep their escapes
/// wherever they are a part of something else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item(Box<str>);

impl From<&Value> for Item {
    fn from(value: &Value) -> Self {
        Self(go_json::compact(&value.to_string()).into())
    }
}

impl From<&RawValue> for Item {
    fn from(value: &RawValue) -> Self {
        Self(go_json::compact(value.get()).into())
    }
}

/// A raw value with its quotes taken away and `<`, `>` and `&` as they are.
fn bare(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    inner.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")
}

impl Item {
    /// The members of one that is a map, each as its text.
    pub(crate) fn members(&self) -> Option<BTreeMap<String, &str>> {
        let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(&self.0).ok()?;
        Some(members.into_iter().map(|(key, value)| (key, value.get())).collect())
    }

    fn list(&self) -> Option<Vec<&RawValue>> {
        if &*self.0 == "null" { Some(Vec::new()) } else { serde_json::from_str(&self.0).ok() }
    }

    /// What `{{item}}` stands for.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self.0.as_bytes().first() {
            Some(b'"') => Cow::Owned(serde_json::from_str(&self.0).unwrap_or_default()),
            // A map is written anew: its own keys are in order.
            Some(b'{') => {
                let key = |key: &String| go_json::compact(&Value::from(key.as_str()).to_string());
                let members = self.members().unwrap_or_default();
                let members: Vec<String> = members.iter().map(|(k, v)| format!("{}:{v}", key(k))).collect();
                Cow::Owned(format!("{{{}}}", members.join(",")))
            }
            _ => Cow::Borrowed(&self.0),
        }
    }

    /// What `{{item.KEY}}` stands for.
    pub(crate) fn member(&self, key: &str) -> Option<String> {
        self.members()?.get(key).map(|text| bare(text))
    }

    /// What its node's name says of it: `name(INDEX:THIS)`.
    pub(crate) fn description(&self) -> String {
        if let Some(members) = self.members() {
            let mut pairs: Vec<String> = members.iter().map(|(k, v)| format!("{k}:{}", bare(v))).collect();
            pairs.sort();
            return pairs.join(",");
        }
        match self.list() {
            Some(items) => format!("[{}]", items.iter().map(|i| bare(i.get())).collect::<Vec<_>>().join(" ")),
            None => bare(&self.0),
        }
    }
}

/// Whether the step has a loop.
pub(crate) fn has_loop(step: &WorkflowStep) -> bool {
    step.with_items.as_ref().is_some_and(|i| !i.is_empty()) || step.with_param.is_some() || step.with_sequence.is_some()
}

/// The step's items, its tags replaced.
pub(crate) fn items(step: &WorkflowStep) -> Result<Vec<Item>, String> {
    if let Some(items) = &step.with_items
        && !items.is_empty()
    {
        return Ok(items.iter().map(Item::from).collect());
    }
    if let Some(param) = &step.with_param {
        let wrong =
            |why: String| Err(format!("withParam value could not be parsed as a JSON list: {}: {why}", param.0.trim()));
        return match serde_json::from_str::<Option<Vec<&RawValue>>>(&param.0) {
            Ok(items) => Ok(items.into_iter().flatten().map(Item::from).collect()),
            Err(e) => wrong(go_json::fault(&param.0).unwrap_or_else(|| {
                // It is JSON, so it is no list.
                debug_assert!(e.is_data());
                format!("json: cannot unmarshal {} into Go value of type []v1alpha1.Item", go_json::kind(&param.0))
            })),
        };
    }
    match &step.with_sequence {
        Some(sequence) => numbers(sequence),
        None => Ok(Vec::new()),
    }
}

fn numbers(sequence: &Sequence) -> Result<Vec<Item>, String> {
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
    let text = |n: i64| Item::from(&Value::String(printf(format, n)));
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
    fn items_are_what_go_sees_of_them() {
        // The text, `{{item}}`, what the name says.
        for (json, text, description) in [
            (r#""a \"b\" <c>\n""#, "a \"b\" <c>\n", r#"a \"b\" <c>\n"#),
            ("2.50", "2.50", "2.50"),
            ("true", "true", "true"),
            ("null", "null", "[]"),
            (
                r#"{ "b": 1e3, "a": {"z": [1, null], "y": "<"} }"#,
                r#"{"a":{"z":[1,null],"y":"\u003c"},"b":1e3}"#,
                r#"a:{"z":[1,null],"y":"<"},b:1e3"#,
            ),
            (r#"[1.0, "x y", {"k": "v"}]"#, r#"[1.0,"x y",{"k":"v"}]"#, r#"[1.0 x y {"k":"v"}]"#),
        ] {
            let item = Item::from(serde_json::from_str::<&RawValue>(json).unwrap());
            assert_eq!((item.text().as_ref(), item.description().as_str()), (text, description), "{json}");
        }
        let item = Item::from(&serde_json::json!({"a": "x\"y", "b": {"c": 1}, "n": null}));
        let of = |key: &str| item.member(key);
        assert_eq!(of("a").as_deref(), Some(r#"x\"y"#));
        assert_eq!(of("b").as_deref(), Some(r#"{"c":1}"#));
        assert_eq!((of("n").as_deref(), of("z")), (Some("null"), None));
    }

    #[test]
    fn sequences_count_up_and_down() {
        let texts = |s: Sequence| numbers(&s).unwrap().iter().map(|item| item.text().into_owned()).collect::<Vec<_>>();
        assert_eq!(texts(Sequence { count: Some(Int(3)), ..Sequence::default() }), ["0", "1", "2"]);
        assert_eq!(texts(Sequence { start: Some(Int(3)), end: Some(Int(1)), ..Sequence::default() }), ["3", "2", "1"]);
        let hex = Sequence { count: Some(Int(2)), format: Some("testuser%02X".to_owned()), ..Sequence::default() };
        assert_eq!(texts(hex), ["testuser00", "testuser01"]);
        assert!(texts(Sequence { count: Some(Int(0)), ..Sequence::default() }).is_empty());
    }
}
