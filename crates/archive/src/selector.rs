//! Label selectors as conditions of a query. Their grammar is [`windlass_model::label_selector`]'s. Holds no rows.

use rusqlite::types::Value;
use windlass_model::label_selector::{Requirement, Wanted, requirements};

use crate::Error;

/// Which labels are asked for; the empty one asks for none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// Reads the usual text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |part: &str| {
            Error::Question(format!("`{part}` is no label requirement: write a=b, a!=b, a in (b,c), a or !a"))
        };
        let mut all = Vec::new();
        for (part, requirement) in requirements(text) {
            all.push(requirement.ok().filter(has_key).ok_or_else(|| refused(part))?);
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

    /// What it asks for.
    pub(crate) fn requirements(&self) -> &[Requirement] {
        &self.0
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

/// Whether its key can be a label's. A value that cannot be one just finds nothing.
fn has_key(requirement: &Requirement) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    !requirement.key.is_empty() && requirement.key.chars().all(plain)
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
