//! Label selectors and field selectors: their text parsed once, then asked per object. Reads only what the store keeps
//! beside the bytes.

use crate::answer::ApiError;
use crate::kinds::Resource;
use crate::store::Meta;
use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// A label selector; the empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<(String, Wanted)>);

impl Labels {
    /// Parses `a=b,c!=d,e in (f,g),!h`.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let fail = |why: &str| ApiError::bad_request(format!("unable to parse requirement: {why}"));
        let mut list = Vec::new();
        for part in split_outside_parens(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(fail("found ',', expected: identifier after ','"));
            }
            list.push(requirement(part).map_err(|e| fail(&e))?);
        }
        Ok(Self(list))
    }

    /// The selector of a `LabelSelector` object, as text: how the scale subresource shows it.
    pub(crate) fn text_of(selector: &Value) -> String {
        let mut parts: Vec<String> = selector["matchLabels"]
            .as_object()
            .map(|m| m.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect())
            .unwrap_or_default();
        for e in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = e["key"].as_str().unwrap_or_default();
            let values: Vec<&str> = e["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let values = values.join(",");
            parts.push(match e["operator"].as_str().unwrap_or_default() {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "DoesNotExist" => format!("!{key}"),
                _ => key.to_owned(),
            });
        }
        parts.join(",")
    }

    pub(crate) fn matches(&self, meta: &Meta) -> bool {
        self.0.iter().all(|(key, wanted)| {
            let value = meta.label(key);
            match wanted {
                Wanted::In(list) => value.is_some_and(|v| list.iter().any(|w| w == v)),
                Wanted::NotIn(list) => value.is_none_or(|v| !list.iter().any(|w| w == v)),
                Wanted::Exists => value.is_some(),
                Wanted::Absent => value.is_none(),
                Wanted::Greater(n) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *n),
                Wanted::Less(n) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *n),
            }
        })
    }
}

fn split_outside_parens(text: &str) -> Vec<&str> {
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

fn requirement(part: &str) -> Result<(String, Wanted), String> {
    let checked = |key: &str| -> Result<String, String> {
        let key = key.trim();
        match crate::names::qualified_name(key) {
            None => Ok(key.to_owned()),
            Some(why) => Err(format!("<nil>: Invalid value: {key:?}: {why}")),
        }
    };
    let value = |text: &str| -> Result<String, String> {
        let text = text.trim();
        match crate::names::label_value(text) {
            None => Ok(text.to_owned()),
            Some(why) => Err(format!("values[0][]: Invalid value: {text:?}: {why}")),
        }
    };
    if let Some(key) = part.strip_prefix('!') {
        return Ok((checked(key)?, Wanted::Absent));
    }
    if let Some((key, text)) = part.split_once("!=") {
        return Ok((checked(key)?, Wanted::NotIn(vec![value(text)?])));
    }
    if let Some((key, text)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok((checked(key)?, Wanted::In(vec![value(text)?])));
    }
    for (sign, make) in [('>', Wanted::Greater as fn(i64) -> Wanted), ('<', Wanted::Less)] {
        if let Some((key, text)) = part.split_once(sign) {
            let number = text.trim().parse().map_err(|_| {
                format!(
                    "values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                    text.trim()
                )
            })?;
            return Ok((checked(key)?, make(number)));
        }
    }
    let mut words = part.splitn(2, char::is_whitespace);
    let key = words.next().unwrap_or_default();
    let Some(rest) = words.next().map(str::trim).filter(|r| !r.is_empty()) else {
        return Ok((checked(key)?, Wanted::Exists));
    };
    let (inside, list) = if let Some(list) = rest.strip_prefix("notin") {
        (false, list)
    } else if let Some(list) = rest.strip_prefix("in") {
        (true, list)
    } else {
        return Err(format!("found '{rest}', expected: in, notin, =, ==, !=, gt, lt"));
    };
    let list = list.trim().strip_prefix('(').and_then(|l| l.strip_suffix(')'));
    let list = list.ok_or_else(|| format!("found '{rest}', expected: '('"))?;
    let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
    Ok((checked(key)?, if inside { Wanted::In(values) } else { Wanted::NotIn(values) }))
}

/// A field selector; the empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, bool, String)>);

impl Fields {
    /// Parses `metadata.name=a,status.phase!=Running`; refuses fields that the kind cannot be selected by.
    pub(crate) fn parse(text: &str, r: &Resource) -> Result<Self, ApiError> {
        let mut list = Vec::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (key, equal, value) = if let Some((key, value)) = part.split_once("!=") {
                (key, false, value)
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (key, true, value)
            } else {
                return Err(ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            let known = key == "metadata.name"
                || (key == "metadata.namespace" && r.namespaced)
                || r.selectable.iter().any(|s| s == key);
            if !known {
                // Kinds without fields of their own have another sentence for it.
                return Err(ApiError::bad_request(if r.builtin && r.selectable.is_empty() {
                    format!("{key:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                } else {
                    format!("field label not supported: {key}")
                }));
            }
            list.push((key.to_owned(), equal, value.to_owned()));
        }
        Ok(Self(list))
    }

    pub(crate) fn matches(&self, meta: &Meta) -> bool {
        self.0.iter().all(|(key, equal, value)| (meta.field(key) == value) == *equal)
    }
}

/// Both selectors of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selectors {
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
}

impl Selectors {
    pub(crate) fn matches(&self, meta: &Meta) -> bool {
        self.labels.matches(meta) && self.fields.matches(meta)
    }

    /// Whether everything is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.0.is_empty() && self.fields.0.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn meta() -> Meta {
        let value = json!({"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b", "n": "5", "x.io/y": ""}},
            "status": {"phase": "Running"}});
        Meta::of(&value, &["status.phase".to_owned(), "spec.nodeName".to_owned()].into())
    }

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        for (text, want) in [
            ("", true),
            ("a", true),
            ("!a", false),
            ("a=b", true),
            ("a==b,c!=d", true),
            ("a!=b", false),
            ("a in (b, c)", true),
            ("a notin (b)", false),
            ("c notin (b)", true),
            ("n>4", true),
            ("n<4", false),
            ("x.io/y=", true),
            ("x.io/y", true),
            ("z", false),
        ] {
            assert_eq!(Labels::parse(text).unwrap().matches(&meta()), want, "{text}");
        }
        for text in ["a=b=c d", ",", "a in b", "-a", "a foo (b)"] {
            assert!(Labels::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn field_selectors_know_their_kind() {
        let registry = crate::Registry::builtin();
        let pods = registry.find("", "v1", "pods").unwrap();
        let fields = |text: &str| Fields::parse(text, pods);
        assert!(fields("status.phase=Running,metadata.name!=q").unwrap().matches(&meta()));
        assert!(fields("spec.nodeName=").unwrap().matches(&meta()));
        assert!(!fields("spec.nodeName=x").unwrap().matches(&meta()));
        let error = fields("spec.foo=x").unwrap_err();
        assert_eq!(error.message, "field label not supported: spec.foo");
        let maps = registry.find("", "v1", "configmaps").unwrap();
        assert_eq!(
            Fields::parse("foo=bar", maps).unwrap_err().message,
            "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }
}
