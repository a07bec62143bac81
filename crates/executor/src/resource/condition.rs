//! Success and failure conditions: a label selector's syntax over an object's fields (`status.phase == Succeeded,
//! status.succeeded > 0`). Pure.

use super::path::JsonPath;
use serde_json::Value;

/// A condition: all of its requirements hold, or it does not.
#[derive(Clone, Debug)]
pub struct Condition {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug)]
struct Requirement {
    text: String,
    path: JsonPath,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Greater(f64),
    Less(f64),
}

impl Condition {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let (path, operator) = requirement(part).map_err(|what| format!("condition {text:?}: {what}"))?;
            requirements.push(Requirement { text: part.to_owned(), path: JsonPath::parse(path)?, operator });
        }
        if requirements.is_empty() {
            return Err(format!("condition {text:?} is empty"));
        }
        Ok(Self { requirements })
    }

    /// Whether all of it holds for `object`.
    pub fn holds(&self, object: &Value) -> bool {
        self.requirements.iter().all(|requirement| requirement.is_met(object))
    }

    /// The first of its parts that holds: one is enough for a failure, as in Argo.
    pub fn met(&self, object: &Value) -> Option<&str> {
        self.requirements.iter().find(|r| r.is_met(object)).map(|r| r.text.as_str())
    }
}

impl Requirement {
    fn is_met(&self, object: &Value) -> bool {
        let value = self.path.text(object);
        let number = || value.as_deref().and_then(|v| v.parse::<f64>().ok());
        match &self.operator {
            Operator::In(values) => value.as_ref().is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.as_ref().is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Greater(bound) => number().is_some_and(|v| v > *bound),
            Operator::Less(bound) => number().is_some_and(|v| v < *bound),
        }
    }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn requirement(part: &str) -> Result<(&str, Operator), String> {
    if let Some(path) = part.strip_prefix('!').filter(|p| !p.contains('=')) {
        return Ok((path.trim(), Operator::DoesNotExist));
    }
    for (sign, negative) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((path, value)) = part.split_once(sign) {
            let values = vec![unquoted(value)];
            let operator = if negative { Operator::NotIn(values) } else { Operator::In(values) };
            return Ok((path.trim(), operator));
        }
    }
    for sign in ['>', '<'] {
        if let Some((path, value)) = part.split_once(sign) {
            let bound = value.trim().parse().map_err(|_| format!("{:?} is not a number", value.trim()))?;
            return Ok((path.trim(), if sign == '>' { Operator::Greater(bound) } else { Operator::Less(bound) }));
        }
    }
    for (word, negative) in [(" notin ", true), (" in ", false)] {
        if let Some((path, list)) = part.split_once(word) {
            let inside = list.trim().strip_prefix('(').and_then(|l| l.strip_suffix(')')).ok_or("a list is (a, b)")?;
            let values = inside.split(',').map(unquoted).collect();
            return Ok((path.trim(), if negative { Operator::NotIn(values) } else { Operator::In(values) }));
        }
    }
    if part.contains(char::is_whitespace) {
        return Err(format!("{part:?} has no operator"));
    }
    Ok((part, Operator::Exists))
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    quoted.or_else(|| text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''))).unwrap_or(text).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions() {
        let object = json!({"status": {"phase": "Succeeded", "succeeded": 2, "list": [{"type": "Ready"}]}});
        let holds = |text: &str| Condition::parse(text).unwrap().holds(&object);
        assert!(holds("status.phase == Succeeded"));
        assert!(holds("status.phase=Succeeded, status.succeeded > 1"));
        assert!(!holds("status.succeeded > 2"));
        assert!(holds("status.phase in (Failed, Succeeded)"));
        assert!(holds("status.phase != Failed"));
        assert!(holds("status.failed notin (1)"));
        assert!(holds("status.phase"));
        assert!(!holds("!status.phase"));
        assert!(holds("status.list[0].type == Ready") && holds("status.list.0.type == Ready"));
        let failure = Condition::parse("status.phase == Failed, status.succeeded > 1").unwrap();
        assert_eq!(failure.met(&object), Some("status.succeeded > 1"), "one is enough");
        assert!(Condition::parse("").is_err());
        assert!(Condition::parse("status.n > x").is_err());
    }
}
