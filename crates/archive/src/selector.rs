//! Label selectors as text (`a=b,c!=d,e in (f,g),!h,i`), and as conditions of a query. Holds no rows.

use rusqlite::types::Value;

use crate::Error;

/// Which labels are asked for; the empty one asks for none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

impl Selector {
    /// Reads the usual text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut all = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self(all));
        }
        for part in parts(text) {
            all.push(requirement(part.trim()).ok_or_else(|| {
                Error::Question(format!("`{part}` is no label requirement: write a=b, a!=b, a in (b,c), a or !a"))
            })?);
        }
        Ok(Self(all))
    }

    /// The key, where it is asked for one label only, whatever its value.
    pub fn only_key(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Requirement { key, wanted: Wanted::Exists }] => Some(key),
            _ => None,
        }
    }

    /// Adds its conditions on the row `w`, and their values.
    pub(crate) fn conditions(&self, conditions: &mut Vec<String>, values: &mut Vec<Value>) {
        for Requirement { key, wanted } in &self.0 {
            let row = "SELECT 1 FROM argo_archived_workflows_labels l WHERE l.uid = w.uid AND l.name = ?";
            let (not, more, given): (&str, String, Vec<Value>) = match wanted {
                Wanted::In(list) | Wanted::NotIn(list) => {
                    let marks = vec!["?"; list.len()].join(", ");
                    let not = if matches!(wanted, Wanted::NotIn(_)) { "NOT " } else { "" };
                    (not, format!(" AND l.value IN ({marks})"), list.iter().cloned().map(Value::Text).collect())
                }
                Wanted::Exists => ("", String::new(), Vec::new()),
                Wanted::Absent => ("NOT ", String::new(), Vec::new()),
                Wanted::Greater(n) => ("", " AND CAST(l.value AS INTEGER) > ?".to_owned(), vec![Value::Integer(*n)]),
                Wanted::Less(n) => ("", " AND CAST(l.value AS INTEGER) < ?".to_owned(), vec![Value::Integer(*n)]),
            };
            conditions.push(format!("{not}EXISTS ({row}{more})"));
            values.push(Value::Text(key.clone()));
            values.extend(given);
        }
    }
}

fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let of = |key: &str, wanted: Wanted| {
        let key = key.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        (!key.is_empty() && key.chars().all(plain)).then(|| Requirement { key: key.to_owned(), wanted })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some(key) = part.strip_prefix('!') {
        return of(key, Wanted::Absent);
    }
    if let Some(list) = part.strip_suffix(')') {
        let (head, list) = list.split_once('(')?;
        let list = list.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => of(key, Wanted::In(list)),
            "notin" => of(key, Wanted::NotIn(list)),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return of(key, Wanted::NotIn(one(value)));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return of(key, Wanted::In(one(value)));
    }
    if let Some((key, value)) = part.split_once('>') {
        return of(key, Wanted::Greater(value.trim().parse().ok()?));
    }
    if let Some((key, value)) = part.split_once('<') {
        return of(key, Wanted::Less(value.trim().parse().ok()?));
    }
    of(part, Wanted::Exists)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_or_refused() {
        for (text, count) in [("", 0), ("a", 1), ("!a", 1), ("a=b, c!=d,e in (f, g),h notin (i)", 4), ("n>3,n<5", 2)] {
            assert_eq!(Selector::parse(text).unwrap().0.len(), count, "{text}");
        }
        assert_eq!(Selector::parse("x.io/a").unwrap().only_key(), Some("x.io/a"));
        assert_eq!(Selector::parse("a=b").unwrap().only_key(), None);
        for text in [",", "a=b,", "a of (b)", "a b", "n>x", "(a)", "='b'"] {
            let refused = Selector::parse(text).unwrap_err();
            assert!(refused.to_string().contains("no label requirement"), "{text}: {refused}");
        }
    }
}
