//! Whether a Pod may run on this node. Pure. One machine has no separate scheduler: the agent binds what fits itself and
//! says of the rest why it does not fit.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// This node as it is now: by its flags first, then as its object says.
pub(crate) struct Place {
    name: String,
    now: RwLock<Facts>,
}

#[derive(Default, PartialEq)]
struct Facts {
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    unschedulable: bool,
}

impl Place {
    /// A node of this name with these labels.
    pub(crate) fn new(name: &str, labels: &BTreeMap<String, String>) -> Self {
        let facts = Facts { labels: labels.clone(), ..Facts::default() };
        Self { name: name.to_owned(), now: RwLock::new(facts) }
    }

    /// Takes what the object says; whether that is new.
    pub(crate) fn learn(&self, node: &Node) -> bool {
        let spec = node.spec.as_ref();
        let facts = Facts {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|s| s.taints.clone()).unwrap_or_default(),
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
        };
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let new = *now != facts;
        *now = facts;
        new
    }

    /// `None` when `pod` fits, else kube-scheduler's message.
    pub(crate) fn misfit(&self, pod: &Pod) -> Option<String> {
        let spec = pod.spec.as_ref()?;
        if let Some(scheduler) = spec.scheduler_name.as_deref().filter(|s| *s != "default-scheduler") {
            return Some(format!("no scheduler named {scheduler:?} runs here"));
        }
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let reason = misfit(pod, &self.name, &now)?;
        let preemption = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        Some(format!("0/1 nodes are available: 1 node(s) {reason}. {preemption}"))
    }
}

/// The first thing that keeps the Pod away, in kube-scheduler's order.
fn misfit(pod: &Pod, name: &str, node: &Facts) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let tolerations = spec.tolerations.as_deref().unwrap_or(&[]);
    let cordon =
        Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
    if node.unschedulable && !tolerations.iter().any(|t| tolerates(t, &cordon)) {
        return Some("were unschedulable".to_owned());
    }
    let closed = |taint: &&Taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerations.iter().any(|t| tolerates(t, taint))
    };
    if let Some(taint) = node.taints.iter().find(closed) {
        let value = taint.value.as_deref().unwrap_or("");
        return Some(format!("had untolerated taint {{{}: {value}}}", taint.key));
    }
    let labels = &node.labels;
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let attracted = required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term_matches(t, name, labels)));
    (!selected || !attracted).then(|| "didn't match Pod's node affinity/selector".to_owned())
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let exists = toleration.operator.as_deref() == Some("Exists");
    given(&toleration.effect).is_none_or(|e| e == taint.effect)
        && given(&toleration.key).map_or(exists, |k| k == taint.key)
        && (exists || given(&toleration.value) == given(&taint.value))
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
        Place::new("here", &labels).misfit(&pod).is_none()
    }

    #[test]
    fn taints_and_cordons_as_the_scheduler_says_them() {
        let place = Place::new("here", &BTreeMap::new());
        let node = |spec: serde_json::Value| serde_json::from_value::<Node>(json!({"spec": spec})).unwrap();
        let pod = |spec: serde_json::Value| {
            let mut spec = spec;
            spec["containers"] = json!([]);
            place.misfit(&serde_json::from_value::<Pod>(json!({"spec": spec})).unwrap())
        };
        let tail = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        let says = |reason: &str| Some(format!("0/1 nodes are available: 1 node(s) {reason}. {tail}"));
        assert!(place.learn(&node(json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}))));
        assert_eq!(pod(json!({})), says("had untolerated taint {gpu: yes}"));
        for (toleration, fits) in [
            (json!({"key": "gpu", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "gpu", "value": "yes", "effect": "NoSchedule"}), true),
            (json!({"key": "gpu", "value": "no"}), false),
            (json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"value": "yes"}), false),
        ] {
            assert_eq!(pod(json!({"tolerations": [toleration]})).is_none(), fits, "{toleration}");
        }
        assert!(place.learn(&node(json!({"taints": [{"key": "a", "effect": "PreferNoSchedule"}]}))));
        assert_eq!(pod(json!({})), None);
        assert_eq!(pod(json!({"nodeSelector": {"a": "b"}})), says("didn't match Pod's node affinity/selector"));
        let cordoned = node(json!({"unschedulable": true}));
        assert!(place.learn(&cordoned) && !place.learn(&cordoned));
        assert_eq!(pod(json!({})), says("were unschedulable"));
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
