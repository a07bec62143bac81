//! The fields of Pod parts, which the model keeps as JSON: read from a table beside this file.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;
use windlass_lang::yaml::child;

static TABLE: &str = include_str!("pod_types.txt");

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Any,
    Text,
    Int,
    Number,
    Bool,
    /// A number or a text.
    Loose,
    /// A number, or a text that is one with a suffix.
    Quantity,
    List(Box<Shape>),
    Map(Box<Shape>),
    Struct(&'static str),
}

impl Shape {
    /// Whether a value is of this kind; what lies within it is not looked at.
    pub(crate) fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Text => value.is_string(),
            Self::Int => value.as_i64().is_some() || value.as_f64().is_some_and(|f| f.fract() == 0.0),
            Self::Number => value.is_number(),
            Self::Bool => value.is_boolean(),
            Self::Loose => value.is_string() || value.is_number(),
            Self::Quantity => value.is_number() || value.as_str().is_some_and(is_quantity),
            Self::List(_) => value.is_array(),
            Self::Map(_) | Self::Struct(_) => value.is_object(),
        }
    }

    /// Where a value has something that Go's decoder would not put into this type: the place of the first such thing, as a
    /// JSON pointer. Fields that are not known are passed over, and `null` is anything.
    pub(crate) fn misfit(&self, value: &Value) -> Option<String> {
        if value.is_null() {
            return None;
        }
        if !self.holds(value) {
            return Some(String::new());
        }
        let below = |key: &str, shape: &Self, value: &Value| shape.misfit(value).map(|at| child("", key) + &at);
        match (self, value) {
            (Self::List(inner), Value::Array(items)) => {
                items.iter().enumerate().find_map(|(i, item)| below(&i.to_string(), inner, item))
            }
            (Self::Map(inner), Value::Object(map)) => map.iter().find_map(|(key, value)| below(key, inner, value)),
            (Self::Struct(name), Value::Object(map)) => fields(name)
                .into_iter()
                .flatten()
                .find_map(|(field, inner)| map.get(*field).and_then(|value| below(field, inner, value))),
            _ => None,
        }
    }
}

/// A number with at most a suffix: `500m`, `1Gi`, `1e3`.
fn is_quantity(text: &str) -> bool {
    let rest = text.trim_start_matches(['+', '-']);
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, suffix) = rest.split_at(digits);
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|e| e.parse::<i32>().is_ok());
    const SUFFIXES: [&str; 16] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    number.parse::<f64>().is_ok() && (exponent || SUFFIXES.contains(&suffix))
}

static TYPES: LazyLock<HashMap<&'static str, Vec<(&'static str, Shape)>>> = LazyLock::new(|| {
    let mut types: HashMap<&str, Vec<(&str, Shape)>> = HashMap::new();
    let mut current = "";
    for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
        match line.strip_prefix("  ").and_then(|l| l.split_once(' ')) {
            Some((name, shape)) => types.entry(current).or_default().push((name, parse(shape))),
            None => {
                let (name, base) = line.split_once(": ").unwrap_or((line, ""));
                let fields = types.get(base).cloned().unwrap_or_default();
                types.insert(name, fields);
                current = name;
            }
        }
    }
    types
});

fn parse(text: &'static str) -> Shape {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return Shape::List(Box::new(parse(inner)));
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        return Shape::Map(Box::new(parse(inner)));
    }
    match text {
        "string" => Shape::Text,
        "int" => Shape::Int,
        "number" => Shape::Number,
        "bool" => Shape::Bool,
        "quantity" => Shape::Quantity,
        "int-or-string" | "amount" => Shape::Loose,
        "any" => Shape::Any,
        name => Shape::Struct(name),
    }
}

/// The fields of a type.
pub(super) fn fields(name: &str) -> Option<&'static [(&'static str, Shape)]> {
    TYPES.get(name).map(Vec::as_slice)
}

/// What the JSON at `field` of the model's type `definition` is.
pub(super) fn shape_of(definition: &str, field: &str) -> Shape {
    let one = |name| Shape::Struct(name);
    let list = |name| Shape::List(Box::new(Shape::Struct(name)));
    match (definition, field) {
        ("Template", "container") => one("Container"),
        ("Template", "script") => one("ScriptTemplate"),
        ("Template", "initContainers" | "sidecars") => list("UserContainer"),
        ("ContainerSetTemplate", "containers") => list("ContainerNode"),
        ("ContainerSetTemplate", "volumeMounts") => list("VolumeMount"),
        ("Template" | "WorkflowSpec", "volumes") => list("Volume"),
        ("Template" | "WorkflowSpec", "tolerations") => list("Toleration"),
        ("Template" | "WorkflowSpec", "hostAliases") => list("HostAlias"),
        ("Template" | "WorkflowSpec", "affinity") => one("Affinity"),
        ("Template" | "WorkflowSpec", "securityContext") => one("PodSecurityContext"),
        ("Template" | "WorkflowSpec", "podResources") => one("ResourceRequirements"),
        ("Template" | "WorkflowSpec", "resourceClaims") => list("PodResourceClaim"),
        ("WorkflowSpec", "volumeClaimTemplates") => list("PersistentVolumeClaim"),
        ("WorkflowSpec", "imagePullSecrets") => list("LocalObjectReference"),
        ("WorkflowSpec", "dnsConfig") => one("PodDNSConfig"),
        ("WorkflowSpec", "podDisruptionBudget") => one("PodDisruptionBudgetSpec"),
        ("PodGc", "labelSelector") => one("LabelSelector"),
        ("RetryStrategy", "affinity") => one("RetryAffinity"),
        ("Metrics", "prometheus") => list("Prometheus"),
        _ => Shape::Any,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_named_type_is_there() {
        fn names(shape: &Shape, out: &mut Vec<&'static str>) {
            match shape {
                Shape::List(inner) | Shape::Map(inner) => names(inner, out),
                Shape::Struct(name) => out.push(name),
                _ => {}
            }
        }
        let mut all = Vec::new();
        TYPES.values().flatten().for_each(|(_, shape)| names(shape, &mut all));
        for name in all {
            assert!(fields(name).is_some(), "{name}");
        }
        assert!(fields("ScriptTemplate").unwrap().iter().any(|(n, _)| *n == "image"));
    }

    #[test]
    fn what_go_would_not_take_is_found() {
        use serde_json::json;
        let at = |value: &Value| Shape::Struct("PodSpec").misfit(value);
        assert_eq!(
            at(&json!({"containers": [{"name": "main", "env": [{"name": "A", "value": "y"}]}], "new": 1})),
            None
        );
        let bool = json!({"containers": [{"name": "main", "env": [{"name": "A", "value": true}]}]});
        assert_eq!(at(&bool).as_deref(), Some("/containers/0/env/0/value"));
        let memory = |text: &str| json!({"containers": [{"resources": {"limits": {"memory": text}}}]});
        assert_eq!(at(&memory("20Mi")), None);
        assert_eq!(at(&memory("lots")).as_deref(), Some("/containers/0/resources/limits/memory"));
        assert_eq!(
            at(&json!({"terminationGracePeriodSeconds": "3"})).as_deref(),
            Some("/terminationGracePeriodSeconds")
        );
        assert_eq!(at(&json!([])).as_deref(), Some(""));
    }
}
