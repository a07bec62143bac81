//! `jsonpath(text, path)`: the paths people write in Argo manifests: `$`, `.name`, `['name']`, `[0]`, `[-1]`, `[a:b:c]`,
//! `[*]`, `.*`, `..name`, `.length`, filters `[?(@.price > 10)]` and scripts `[(@.length-1)]`.

use std::cell::Cell;

use super::parse::parse as parse_expression;
use super::value::Value;
use super::{Env, eval};

/// The value at a path that leads to one place; a list of all values where it can lead to several.
pub(super) fn query(json: &str, path: &str) -> Result<Value, String> {
    let json: serde_json::Value = serde_json::from_str(json).map_err(|e| format!("this is no JSON: {e}"))?;
    walk(&Value::decoded(&json), path, &Cell::new(STEPS_MAX))
}

/// Most values that are looked at, those of filters included.
const STEPS_MAX: usize = 2_000_000;

fn walk(root: &Value, path: &str, left: &Cell<usize>) -> Result<Value, String> {
    let steps = parse(path)?;
    let mut found = vec![root.clone()];
    let mut several = false;
    for step in &steps {
        let ranged = !several && matches!(step, Step::Slice(..));
        several |= !matches!(step, Step::Name(_) | Step::Index(_) | Step::Script(_));
        let mut next = Vec::new();
        for value in &found {
            if ranged && !matches!(value, Value::List(_)) {
                return Err(format!("{} has no range: `{path}`", value.kind()));
            }
            left.set(left.get().saturating_sub(value.weight()));
            if left.get() == 0 {
                return Err("this looks at too much".to_owned());
            }
            step.take(value, (root, left), &mut next);
        }
        if next.is_empty() && !several {
            return Err(format!("nothing is at `{path}`"));
        }
        if next.iter().map(Value::weight).sum::<usize>() > 1_000_000 {
            return Err("this finds too much".to_owned());
        }
        found = next;
    }
    Ok(if several { Value::List(found) } else { found.into_iter().next().unwrap_or(Value::Null) })
}

enum Step {
    Name(String),
    Index(i64),
    All,
    Slice(Option<i64>, Option<i64>, i64),
    Union(Vec<Step>),
    /// `..`: this value and everything below it.
    Below,
    /// `?(…)`: the items for which it holds.
    Filter(String),
    /// `(…)`: the item that it comes out as.
    Script(String),
}

impl Step {
    fn take(&self, value: &Value, root: (&Value, &Cell<usize>), out: &mut Vec<Value>) {
        match (self, value) {
            (Self::Name(name), Value::Map(map)) if map.contains_key(name) => out.extend(map.get(name).cloned()),
            (Self::Name(name), value) if name == "length" => match value {
                Value::Map(map) => out.push(Value::Int(map.len() as i64)),
                Value::List(items) => out.push(Value::Int(items.len() as i64)),
                Value::Text(text) => out.push(Value::Int(text.len() as i64)),
                _ => {}
            },
            (Self::Filter(text), Value::List(items)) => {
                out.extend(items.iter().filter(|item| holds(text, item, root)).cloned());
            }
            (Self::Filter(text), Value::Map(map)) => {
                out.extend(map.values().filter(|item| holds(text, item, root)).cloned());
            }
            (Self::Script(text), value) => match script(text, value, root) {
                Some(Value::Int(i)) => Self::Index(i).take(value, root, out),
                Some(Value::Float(f)) if f.fract() == 0.0 => Self::Index(f as i64).take(value, root, out),
                Some(Value::Text(name)) => Self::Name(name).take(value, root, out),
                _ => {}
            },
            (Self::Index(i), Value::List(items)) => {
                let at = if *i < 0 { items.len() as i64 + i } else { *i };
                out.extend(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned());
            }
            (Self::All, Value::Map(map)) => out.extend(map.values().cloned()),
            (Self::All, Value::List(items)) => out.extend(items.iter().cloned()),
            (Self::Slice(from, to, step), Value::List(items)) => {
                let len = items.len() as i64;
                let fix = |n: i64| (if n < 0 { len + n } else { n }).clamp(0, len);
                let (from, to) = (fix(from.unwrap_or(0)), fix(to.unwrap_or(len)));
                let mut at = from;
                while at < to && *step > 0 {
                    out.push(items[at as usize].clone());
                    at = at.saturating_add(*step);
                }
            }
            (Self::Union(all), value) => all.iter().for_each(|s| s.take(value, root, out)),
            (Self::Below, value) => below(value, out),
            _ => {}
        }
    }
}

fn below(value: &Value, out: &mut Vec<Value>) {
    out.push(value.clone());
    match value {
        Value::List(items) => items.iter().for_each(|v| below(v, out)),
        Value::Map(map) => map.values().for_each(|v| below(v, out)),
        _ => {}
    }
}

fn parse(path: &str) -> Result<Vec<Step>, String> {
    let path = path.trim();
    let mut rest = path.strip_prefix('$').ok_or_else(|| format!("`{path}` does not begin with `$`"))?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Below);
            rest = after;
            if rest.starts_with('[') {
                continue;
            }
            let (step, after) = word(rest, path)?;
            steps.push(step);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let (step, after) = word(after, path)?;
            steps.push(step);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after).ok_or_else(|| format!("a bracket in `{path}` is not closed"))?;
            steps.push(bracket(&after[..end], path)?);
            rest = &after[end + 1..];
        } else {
            return Err(format!("`{rest}` has no meaning in `{path}`"));
        }
    }
    Ok(steps)
}

fn word<'p>(rest: &'p str, path: &str) -> Result<(Step, &'p str), String> {
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    match name {
        "" => Err(format!("a name is missing in `{path}`")),
        "*" => Ok((Step::All, after)),
        name => Ok((Step::Name(name.to_owned()), after)),
    }
}

/// The offset of the bracket's end, quotes and brackets within respected.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth > 0 => depth -= 1,
            (None, ']') => return Some(i),
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str, path: &str) -> Result<Step, String> {
    let inner = inner.trim();
    let quoted = |t: &str| {
        let t = t.trim();
        let q = t.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        t.strip_prefix(q)?.strip_suffix(q).filter(|n| !n.contains(q)).map(str::to_owned)
    };
    if let Some(name) = quoted(inner) {
        return Ok(Step::Name(name));
    }
    if inner == "*" {
        return Ok(Step::All);
    }
    let braced = |t: &str| t.trim().strip_prefix('(')?.strip_suffix(')').map(str::to_owned);
    if let Some(filter) = inner.strip_prefix('?') {
        let filter = braced(filter).ok_or_else(|| format!("the filter `[{inner}]` needs parentheses"))?;
        return Ok(Step::Filter(filter));
    }
    if inner.starts_with('(') {
        return braced(inner).map(Step::Script).ok_or_else(|| format!("`[{inner}]` has no meaning in `{path}`"));
    }
    if inner.contains(',') {
        return Ok(Step::Union(inner.split(',').map(|part| bracket(part, path)).collect::<Result<_, _>>()?));
    }
    let number = |t: &str| t.trim().parse::<i64>().map_err(|_| format!("`[{inner}]` has no meaning in `{path}`"));
    if inner.contains(':') {
        let parts: Vec<&str> = inner.split(':').collect();
        let part = |i: usize| parts.get(i).filter(|t| !t.trim().is_empty()).map(|t| number(t)).transpose();
        return Ok(Step::Slice(part(0)?, part(1)?, part(2)?.unwrap_or(1)));
    }
    number(inner).map(Step::Index)
}

/// Longest script.
const SCRIPT_MAX: usize = 2_000;

fn holds(text: &str, item: &Value, root: (&Value, &Cell<usize>)) -> bool {
    match script(text, item, root) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Text(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

/// What a script comes out as: `@` and `$` with the path behind them are names for what they lead to. Nothing when it
/// does not work out.
fn script(text: &str, item: &Value, (root, left): (&Value, &Cell<usize>)) -> Option<Value> {
    if text.len() > SCRIPT_MAX {
        return None;
    }
    let mut env = Env::default();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let len = match c {
            '\'' | '"' => {
                let len = rest[1..].find(c).map_or(rest.len(), |end| end + 2);
                plain.push_str(&rest[..len]);
                len
            }
            '@' | '$' => {
                let len = path_len(rest);
                let from = if c == '@' { item } else { root };
                let name = format!("found{at}");
                env.set(&name, walk(from, &format!("${}", &rest[1..len]), left).ok()?);
                plain.push_str(&name);
                len
            }
            '=' if rest.starts_with("=~") => {
                plain.push_str(" matches ");
                2
            }
            c => {
                plain.push(c);
                c.len_utf8()
            }
        };
        at += len;
    }
    // `in` never holds in this library's filters.
    if plain.split_whitespace().any(|word| word == "in") {
        return None;
    }
    eval::evaluate(&parse_expression(&plain).ok()?, &env).ok()
}

/// The bytes of a path that begins with `@` or `$`.
fn path_len(text: &str) -> usize {
    let mut at = 1;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '[' => match closing(&text[at + 1..]) {
                Some(end) => at += end + 2,
                None => return text.len(),
            },
            c if c.is_alphanumeric() || matches!(c, '.' | '_') => at += c.len_utf8(),
            _ => break,
        }
    }
    at
}
