//! The fields of Pod parts, which the model keeps as JSON: read from a table beside this file.

use std::collections::HashMap;
use std::sync::LazyLock;

static TABLE: &str = include_str!("pod_types.txt");

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
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
}
