//! `jsonpath(text, path)`: the paths people write in Argo manifests: `$`, `.name`, `['name']`, `[0]`, `[-1]`, `[a:b:c]`,
//! `[*]`, `.*`, `..name`. Filters and scripts are refused by name.

use super::value::Value;

/// The value at a path that leads to one place; a list of all values where it can lead to several.
pub(super) fn query(json: &str, path: &str) -> Result<Value, String> {
    let json: serde_json::Value = serde_json::from_str(json).map_err(|e| format!("this is no JSON: {e}"))?;
    let steps = parse(path)?;
    let mut found = vec![Value::decoded(&json)];
    let mut several = false;
    for step in &steps {
        several |= !matches!(step, Step::Name(_) | Step::Index(_));
        let mut next = Vec::new();
        for value in &found {
            step.take(value, &mut next);
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
}

impl Step {
    fn take(&self, value: &Value, out: &mut Vec<Value>) {
        match (self, value) {
            (Self::Name(name), Value::Map(map)) => out.extend(map.get(name).cloned()),
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
            (Self::Union(all), value) => all.iter().for_each(|s| s.take(value, out)),
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

/// The offset of the bracket's end, quotes respected.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
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
    if inner.starts_with(['?', '(']) {
        return Err(format!("`[{inner}]` is not supported: filters and scripts in a path"));
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
