//! kubectl's JSONPath, as far as outputs use it: fields, indexes, `[*]`, quoted names, with or without braces. Filters and
//! ranges are refused by name.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
}

impl JsonPath {
    /// Reads `{.status.name}`, `.items[0].x`, `status['a.b']`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("jsonPath {text:?}: {what}");
        let trimmed = text.trim();
        let inner = match trimmed.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or_else(|| wrong("a closing brace is missing"))?,
            None => trimmed,
        };
        if inner.contains(['{', '}']) {
            return Err(wrong("only one expression is supported"));
        }
        let mut rest = inner.strip_prefix('$').unwrap_or(inner);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let end = after.find(']').ok_or_else(|| wrong("a closing bracket is missing"))?;
                let (inside, tail) = (&after[..end], &after[end + 1..]);
                let quoted = inside.strip_prefix('\'').and_then(|q| q.strip_suffix('\''));
                let quoted = quoted.or_else(|| inside.strip_prefix('"').and_then(|q| q.strip_suffix('"')));
                steps.push(match (quoted, inside) {
                    (Some(name), _) => Step::Field(name.to_owned()),
                    (None, "*") => Step::All,
                    (None, number) => {
                        Step::Index(number.parse().map_err(|_| wrong("filters and ranges are not supported"))?)
                    }
                });
                rest = tail;
                continue;
            }
            if rest.starts_with("..") {
                return Err(wrong("recursive descent is not supported"));
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let mut name = String::new();
            let mut chars = rest.char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '\\' => name.extend(chars.next().map(|(_, c)| c)),
                    '.' | '[' => {
                        end = at;
                        break;
                    }
                    c => name.push(c),
                }
            }
            rest = &rest[end..];
            match name.as_str() {
                "" => {}
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
        }
        Ok(Self { steps })
    }

    /// Everything the path leads to.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.steps {
            found = found
                .into_iter()
                .flat_map(|value| match step {
                    // Conditions write a list's places as names: `conditions.0.type`.
                    Step::Field(name) => match (value.as_array(), name.parse::<usize>()) {
                        (Some(items), Ok(at)) => items.get(at).into_iter().collect::<Vec<_>>(),
                        _ => value.get(name).into_iter().collect(),
                    },
                    Step::Index(index) => {
                        let items = value.as_array().map_or(&[][..], Vec::as_slice);
                        let at = if *index < 0 { items.len() as i64 + index } else { *index };
                        usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
                    }
                    Step::All => match value {
                        Value::Array(items) => items.iter().collect(),
                        Value::Object(fields) => fields.values().collect(),
                        _ => Vec::new(),
                    },
                })
                .collect();
        }
        found
    }

    /// What `kubectl -o jsonpath` prints; `None` where there is nothing.
    pub fn text(&self, value: &Value) -> Option<String> {
        let found = self.find(value);
        let texts = found.iter().map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        (!found.is_empty()).then(|| texts.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let value = json!({"status": {"name": "x", "n": 3, "a.b": true, "list": [{"k": 1}, {"k": 2}]}});
        let text = |path: &str| JsonPath::parse(path).unwrap().text(&value);
        assert_eq!(text("{.status.name}").unwrap(), "x");
        assert_eq!(text("status.n").unwrap(), "3");
        assert_eq!(text("{$.status['a.b']}").unwrap(), "true");
        assert_eq!(text(r"{.status.a\.b}").unwrap(), "true");
        assert_eq!(text("{.status.list[*].k}").unwrap(), "1 2");
        assert_eq!(text("{.status.list[-1].k}").unwrap(), "2");
        assert_eq!(text("{.none}"), None);
        for bad in ["{.a", "{.a[?(@.b==1)]}", "{..a}", "{.a}{.b}"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
