//! `retryStrategy.affinity.nodeAntiAffinity`: a later try goes to a host on which none has failed yet, as Argo v4.1 asks for it
//! in the pod's node affinity. Decides nothing about when there is another try.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use windlass_model::{NodePhase, NodeType};

use crate::nodes::Ix;
use crate::run::Run;

/// The label by which hosts are told apart.
const LABEL: &str = "kubernetes.io/hostname";

impl Run {
    /// The hosts that a pod is to keep away from: of the retry node right above it, or above the template that it is a part of.
    pub(crate) fn hosts_to_avoid(&self, ix: Ix) -> BTreeSet<String> {
        let node = &self.nodes.list[ix];
        let above = [Some(ix), node.boundary].into_iter().flatten();
        let tried = above.filter_map(|tried| Some((tried, self.nodes.list[tried].parent?)));
        let Some((tried, retry)) = tried.into_iter().find(|(_, p)| self.nodes.list[*p].status.type_ == NodeType::Retry)
        else {
            return BTreeSet::new();
        };
        let own = self.nodes.list[tried].template.as_deref().and_then(|t| t.retry_strategy.as_ref());
        let affinity = own.or(self.spec.retry_strategy.as_ref()).and_then(|s| s.affinity.as_ref());
        if affinity.is_none_or(|a| a["nodeAntiAffinity"].is_null()) {
            return BTreeSet::new();
        }
        let (mut hosts, mut seen, mut left) = (BTreeSet::new(), BTreeSet::new(), vec![retry]);
        while let Some(ix) = left.pop() {
            let row = &self.nodes.list[ix].status;
            let failed = matches!(row.phase, NodePhase::Failed | NodePhase::Error);
            if failed && row.type_ == NodeType::Pod {
                hosts.extend(row.host_node_name.clone().filter(|host| !host.is_empty()));
            }
            left.extend(row.children.iter().filter_map(|id| self.nodes.find(id)).filter(|child| seen.insert(*child)));
        }
        hosts
    }
}

/// An affinity that also keeps a pod away from hosts: in each of the terms, of which one is enough for the scheduler.
pub(crate) fn keep_away(affinity: Option<Value>, hosts: &BTreeSet<String>) -> Value {
    let wanted = json!({"key": LABEL, "operator": "NotIn", "values": hosts});
    let mut affinity = affinity.unwrap_or_default();
    let of_nodes = within(&mut affinity, "nodeAffinity");
    let terms = within(within(of_nodes, "requiredDuringSchedulingIgnoredDuringExecution"), "nodeSelectorTerms");
    match terms.as_array_mut() {
        Some(terms) if !terms.is_empty() => {
            for term in terms.iter_mut().filter(|term| term.is_object()) {
                match term["matchExpressions"].as_array_mut() {
                    Some(expressions) => expressions.push(wanted.clone()),
                    None => term["matchExpressions"] = json!([wanted]),
                }
            }
        }
        _ => *terms = json!([{"matchExpressions": [wanted]}]),
    }
    affinity
}

/// A field, whatever was in the place of what has fields.
fn within<'v>(value: &'v mut Value, key: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = json!({});
    }
    &mut value[key]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_term_keeps_away() {
        let hosts = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let wanted = json!({"key": LABEL, "operator": "NotIn", "values": ["a", "b"]});
        let terms = |affinity: Value| {
            affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].clone()
        };
        assert_eq!(terms(keep_away(None, &hosts)), json!([{"matchExpressions": [wanted]}]));
        let zone = json!({"key": "zone", "operator": "Exists"});
        let two = json!({"podAffinity": {}, "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [zone]}, {"matchFields": []}]}}});
        let both = keep_away(Some(two), &hosts);
        assert_eq!(both["podAffinity"], json!({}));
        assert_eq!(terms(both)[0], json!({"matchExpressions": [zone, wanted]}));
        for wrong in [
            json!("x"),
            json!({"nodeAffinity": 1}),
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}),
        ] {
            assert_eq!(terms(keep_away(Some(wrong), &hosts)), json!([{"matchExpressions": [wanted]}]));
        }
    }
}
