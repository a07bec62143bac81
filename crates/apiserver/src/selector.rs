//! Label selectors and field selectors: their text parsed once, then asked per object. The grammar of labels is
//! [`windlass_model::label_selector`]'s; Kubernetes' words for its faults are here. Reads only what the store keeps
//! beside the bytes.

use crate::answer::ApiError;
use crate::kinds::Resource;
use crate::store::Meta;
use serde_json::Value;
use windlass_model::label_selector::{Fault, Requirement, Wanted, requirements};

/// A label selector; the empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Requirement>);

impl Labels {
    /// Parses `a=b,c!=d,e in (f,g),!h`.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let fail = |why: String| ApiError::bad_request(format!("unable to parse requirement: {why}"));
        let list = requirements(text).map(|(_, read)| read.map_err(sentence).and_then(checked).map_err(fail));
        list.collect::<Result<_, _>>().map(Self)
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
        self.0.iter().all(|Requirement { key, wanted }| wanted.fits(meta.label(key)))
    }
}

/// Kubernetes' words for a part that cannot be read.
fn sentence(fault: Fault) -> String {
    match fault {
        Fault::Empty => "found ',', expected: identifier after ','".to_owned(),
        Fault::Number(text) => {
            format!("values[0]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer")
        }
        Fault::Operator(rest) => format!("found '{rest}', expected: in, notin, =, ==, !=, gt, lt"),
        Fault::List(rest) => format!("found '{rest}', expected: '('"),
    }
}

/// The requirement, where its key and values can be a label's.
fn checked(requirement: Requirement) -> Result<Requirement, String> {
    let Requirement { key, wanted } = &requirement;
    if let Some(why) = crate::names::qualified_name(key) {
        return Err(format!("<nil>: Invalid value: {key:?}: {why}"));
    }
    if let Wanted::In(values) | Wanted::NotIn(values) = wanted {
        for text in values {
            if let Some(why) = crate::names::label_value(text) {
                return Err(format!("values[0][]: Invalid value: {text:?}: {why}"));
            }
        }
    }
    Ok(requirement)
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
