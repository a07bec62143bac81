//! Kubernetes' dialect of JSONPath, as printer columns use it: fields, quoted fields, indexes, slices, `*`, `..` and
//! filters. Pure; anything it cannot read is an error, never a guess.

use serde_json::Value;

/// A path that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Any,
    Descend,
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Names(Vec<String>),
    Filter(Path, Option<(Compare, Operand)>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    Eq,
    Ne,
    Le,
    Ge,
    Lt,
    Gt,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Path),
}

/// Where a path stopped making sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized JSONPath {path:?} at {at}")]
pub struct PathError {
    /// The whole text.
    pub path: String,
    /// The byte at which reading stopped.
    pub at: usize,
}

impl Path {
    /// Reads a path, with or without its leading dot or `$`.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let mut reader = Reader { text, at: 0 };
        let trimmed = text.trim();
        if let Some(inner) = trimmed.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            return Self::parse(inner);
        }
        let path = reader.path(true)?;
        if reader.at < text.len() { Err(reader.error()) } else { Ok(path) }
    }

    /// Everything that the path finds, in order.
    #[must_use]
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.0 {
            found = found.into_iter().flat_map(|v| apply(step, v)).collect();
        }
        found
    }
}

fn apply<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Names(names) => names.iter().filter_map(|n| value.get(n)).collect(),
        Step::Any => match value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        },
        Step::Descend => {
            let mut all = vec![value];
            for inner in apply(&Step::Any, value) {
                all.extend(apply(&Step::Descend, inner));
            }
            all
        }
        Step::Index(index) => value
            .as_array()
            .and_then(|list| {
                usize::try_from(if *index < 0 { *index + len(list) } else { *index }).ok().and_then(|i| list.get(i))
            })
            .into_iter()
            .collect(),
        Step::Slice(from, to, by) => {
            let Some(list) = value.as_array() else { return Vec::new() };
            let place = |i: i64| (if i < 0 { i + len(list) } else { i }).clamp(0, len(list));
            let (mut at, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(len(list))));
            let mut out = Vec::new();
            while at < to {
                out.extend(usize::try_from(at).ok().and_then(|i| list.get(i)));
                at += (*by).max(1);
            }
            out
        }
        Step::Filter(left, test) => {
            let items = value.as_array().map(|l| l.iter().collect()).unwrap_or_else(|| vec![value]);
            items.into_iter().filter(|item| passes(item, left, test.as_ref())).collect()
        }
    }
}

fn len(list: &[Value]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

fn passes(item: &Value, left: &Path, test: Option<&(Compare, Operand)>) -> bool {
    let found = left.find(item);
    let Some((compare, operand)) = test else { return !found.is_empty() };
    let Some(left) = found.first().copied() else { return false };
    let right = match operand {
        Operand::Literal(v) => v,
        Operand::Path(path) => match path.find(item).first() {
            Some(v) => *v,
            None => return false,
        },
    };
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if a == b => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match compare {
        Compare::Eq => order.is_some_and(|o| o.is_eq()),
        Compare::Ne => !order.is_some_and(|o| o.is_eq()),
        Compare::Le => order.is_some_and(|o| o.is_le()),
        Compare::Ge => order.is_some_and(|o| o.is_ge()),
        Compare::Lt => order.is_some_and(|o| o.is_lt()),
        Compare::Gt => order.is_some_and(|o| o.is_gt()),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn error(&self) -> PathError {
        PathError { path: self.text.to_owned(), at: self.at }
    }

    fn eat(&mut self, token: &str) -> bool {
        let yes = self.rest().starts_with(token);
        if yes {
            self.at += token.len();
        }
        yes
    }

    fn spaces(&mut self) {
        while self.eat(" ") {}
    }

    /// `start`: a bare first field is allowed, as in `status.phase`.
    fn path(&mut self, start: bool) -> Result<Path, PathError> {
        let mut steps = Vec::new();
        let _ = self.eat("$") || self.eat("@");
        if start && !self.rest().starts_with(['.', '[']) && !self.rest().is_empty() {
            steps.push(Step::Field(self.field()?));
        }
        loop {
            if self.eat("..") {
                steps.push(Step::Descend);
                if !self.rest().starts_with('[') {
                    steps.push(self.dotted()?);
                }
            } else if self.eat(".") {
                if !self.rest().starts_with('[') && !self.rest().is_empty() {
                    steps.push(self.dotted()?);
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(Path(steps));
            }
        }
    }

    fn dotted(&mut self) -> Result<Step, PathError> {
        if self.eat("*") { Ok(Step::Any) } else { self.field().map(Step::Field) }
    }

    fn field(&mut self) -> Result<String, PathError> {
        let mut name = String::new();
        let mut chars = self.rest().char_indices();
        let mut used = self.rest().len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' | ']' | '(' | ')' | ' ' | '=' | '!' | '<' | '>' | ',' | '{' | '}' => {
                    used = at;
                    break;
                }
                other => name.push(other),
            }
        }
        self.at += used;
        if name.is_empty() { Err(self.error()) } else { Ok(name) }
    }

    fn bracket(&mut self) -> Result<Step, PathError> {
        self.spaces();
        let step = if self.eat("*") {
            Step::Any
        } else if self.eat("?(") {
            self.filter()?
        } else if self.rest().starts_with(['\'', '"']) {
            let mut names = vec![self.quoted()?];
            self.spaces();
            while self.eat(",") {
                self.spaces();
                names.push(self.quoted()?);
                self.spaces();
            }
            Step::Names(names)
        } else {
            let first = self.integer();
            if self.eat(":") {
                let to = self.integer();
                let by = if self.eat(":") { self.integer().unwrap_or(1) } else { 1 };
                Step::Slice(first, to, by)
            } else {
                Step::Index(first.ok_or_else(|| self.error())?)
            }
        };
        self.spaces();
        if self.eat("]") { Ok(step) } else { Err(self.error()) }
    }

    fn integer(&mut self) -> Option<i64> {
        let rest = self.rest();
        let used = rest
            .char_indices()
            .find(|(i, c)| !(c.is_ascii_digit() || (*i == 0 && *c == '-')))
            .map_or(rest.len(), |(i, _)| i);
        let value = rest[..used].parse().ok()?;
        self.at += used;
        Some(value)
    }

    fn quoted(&mut self) -> Result<String, PathError> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Err(self.error());
        };
        let mut out = String::new();
        let mut chars = self.rest()[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => out.extend(chars.next().map(|(_, c)| c)),
                c if c == quote => {
                    self.at += 1 + at + 1;
                    return Ok(out);
                }
                other => out.push(other),
            }
        }
        Err(self.error())
    }

    fn filter(&mut self) -> Result<Step, PathError> {
        self.spaces();
        let left = self.path(false)?;
        self.spaces();
        let compare = if self.eat("==") {
            Some(Compare::Eq)
        } else if self.eat("!=") {
            Some(Compare::Ne)
        } else if self.eat("<=") {
            Some(Compare::Le)
        } else if self.eat(">=") {
            Some(Compare::Ge)
        } else if self.eat("<") {
            Some(Compare::Lt)
        } else if self.eat(">") {
            Some(Compare::Gt)
        } else {
            None
        };
        let test = match compare {
            None => None,
            Some(compare) => {
                self.spaces();
                Some((compare, self.operand()?))
            }
        };
        self.spaces();
        if self.eat(")") { Ok(Step::Filter(left, test)) } else { Err(self.error()) }
    }

    fn operand(&mut self) -> Result<Operand, PathError> {
        if self.rest().starts_with(['\'', '"']) {
            return self.quoted().map(|s| Operand::Literal(Value::String(s)));
        }
        if self.rest().starts_with(['@', '$', '.']) {
            return self.path(false).map(Operand::Path);
        }
        let rest = self.rest();
        let used = rest.find([')', ' ']).unwrap_or(rest.len());
        let literal = serde_json::from_str(&rest[..used]).map_err(|_| self.error())?;
        self.at += used;
        Ok(Operand::Literal(literal))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_kubectl_finds() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "n": 3}, {"type": "Other", "status": "False", "n": 5}
            ]},
        });
        for (path, want) in [
            (".status.phase", json!(["Running"])),
            ("status.phase", json!(["Running"])),
            ("{.status.phase}", json!(["Running"])),
            (".status.conditions[0].type", json!(["Ready"])),
            (".status.conditions[-1].type", json!(["Other"])),
            (".status.conditions[*].type", json!(["Ready", "Other"])),
            (".status.conditions[0:1].type", json!(["Ready"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type == 'Other')].status", json!(["False"])),
            (".status.conditions[?(@.n>3)].type", json!(["Other"])),
            (".status.conditions[?(@.n)].type", json!(["Ready", "Other"])),
            (".metadata.labels.a\\.b/c", json!(["x"])),
            (".metadata.labels['a.b/c']", json!(["x"])),
            ("..type", json!(["Ready", "Other"])),
            (".status.missing", json!([])),
        ] {
            assert_eq!(json!(Path::parse(path).unwrap().find(&object)), want, "{path}");
        }
        for bad in [".a[", ".a[?(@.b=]", "a b", ".a['x"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }
}
