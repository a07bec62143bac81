//! Whether a Pod may run on this node. Pure. One machine has no separate scheduler: the agent binds what fits itself and
//! says of the rest why it does not fit.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};
use std::collections::BTreeMap;

/// `None` when `pod` fits a node with these labels, else the scheduler's message.
pub(crate) fn misfit(pod: &Pod, node: &str, labels: &BTreeMap<String, String>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(scheduler) = spec.scheduler_name.as_deref().filter(|s| *s != "default-scheduler") {
        return Some(format!("no scheduler named {scheduler:?} runs here"));
    }
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let attracted = required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term_matches(t, node, labels)));
    (!selected || !attracted)
        .then(|| "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.".to_owned())
}

fn term_matches(term: &NodeSelectorTerm, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    // A term without any requirement matches nothing.
    if expressions.clone().next().is_none() && fields.clone().next().is_none() {
        return false;
    }
    expressions.into_iter().all(|e| requirement_holds(e, labels.get(&e.key).map(String::as_str)))
        && fields.into_iter().all(|f| f.key == "metadata.name" && requirement_holds(f, Some(node)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or(&[]);
    let among = value.is_some_and(|v| values.iter().any(|w| w == v));
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || Some((number(value?)?, number(values.first()?)?));
    match requirement.operator.as_str() {
        "In" => among,
        "NotIn" => !among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(a, b)| a > b),
        "Lt" => compared().is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(spec: serde_json::Value) -> bool {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned()), ("rank".to_owned(), "3".to_owned())]);
        misfit(&pod, "here", &labels).is_none()
    }

    #[test]
    fn selectors_and_affinity() {
        assert!(fits(json!({})));
        assert!(fits(json!({"nodeSelector": {"disk": "ssd"}})));
        assert!(!fits(json!({"nodeSelector": {"disk": "hdd"}})));
        assert!(!fits(json!({"schedulerName": "mine"})));
        let affinity = |terms: serde_json::Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": terms}}}})
        };
        let expression =
            |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        assert!(fits(affinity(json!([{"matchExpressions": [expression("rank", "Gt", &["2"])]}]))));
        assert!(!fits(affinity(json!([{"matchExpressions": [expression("rank", "Lt", &["2"])]}]))));
        assert!(fits(affinity(json!([{"matchExpressions": [expression("x", "Exists", &[])]},
            {"matchFields": [expression("metadata.name", "In", &["here"])]}]))));
        assert!(!fits(affinity(json!([{}]))));
    }
}
