//! `--node-field-selector`: which nodes somebody means. The fields are Argo's, and so is the form: `key=value` and
//! `key!=value`, all of them, separated by commas; a backslash takes a comma, an equals sign or a backslash as it is.

use windlass_model::NodeStatus;

/// Conditions on a node's fields; none fits every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl Selector {
    /// Reads a selector.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in split(text, ',') {
            if part.is_empty() {
                continue;
            }
            let Some(at) = part.find(['=', '!']) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            let (field, rest) = part.split_at(at);
            let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
                (false, value)
            } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
                (true, value)
            } else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            if split(value, '=').len() > 1 {
                return Err(format!("invalid selector: '{text}'; unescaped `=` in '{value}'"));
            }
            terms.push(Term { field: field.trim().to_owned(), equal, value: unescape(value) });
        }
        Ok(Self(terms))
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a node fits.
    pub fn matches(&self, node: &NodeStatus) -> bool {
        self.0.iter().all(|term| (field(node, &term.field).unwrap_or_default() == term.value) == term.equal)
    }
}

fn field(node: &NodeStatus, name: &str) -> Option<String> {
    let reference = node.template_ref.as_ref();
    match name {
        "displayName" => Some(node.display_name.clone()),
        "templateName" => reference.map(|r| r.template.clone()).or_else(|| node.template_name.clone()),
        "phase" => Some(node.phase.as_str().to_owned()),
        "name" => Some(node.name.clone()),
        "id" => Some(node.id.clone()),
        "templateRef.name" => reference.map(|r| r.name.clone()),
        "templateRef.template" => reference.map(|r| r.template.clone()),
        _ => {
            let parameter = name.strip_prefix("inputs.parameters.")?.strip_suffix(".value")?;
            let value = node.inputs.as_ref()?.parameter(parameter)?.value.as_ref()?;
            Some(value.as_str().to_owned())
        }
    }
}

/// The parts between separators that have no backslash before them.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == separator && !escaped {
            parts.push(&text[from..at]);
            from = at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&text[from..]);
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_argos() {
        let node: NodeStatus = serde_json::from_value(json!({
            "id": "w-1", "name": "w[0].a", "displayName": "a", "type": "Suspend", "phase": "Running", "templateName": "t",
            "inputs": {"parameters": [{"name": "x", "value": "a=b,c"}]},
        }))
        .unwrap();
        for (text, fits) in [
            ("", true),
            ("displayName=a", true),
            ("displayName==a", true),
            ("displayName!=a", false),
            ("displayName=a,phase=Running", true),
            ("displayName=a,phase=Failed", false),
            ("templateName=t,id=w-1,name=w[0].a", true),
            (r"inputs.parameters.x.value=a\=b\,c", true),
            ("inputs.parameters.y.value=a", false),
            ("nothing=", true),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&node), fits, "{text}");
        }
        for wrong in ["displayName", "a!b", "a=b=c"] {
            assert!(Selector::parse(wrong).is_err(), "{wrong}");
        }
    }
}
