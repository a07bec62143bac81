//! Argo's three ClusterRoles that collect into `view`, `edit` and `admin`, as manifests: who may look at what is deployed in
//! a namespace may look at its workflows. Only the list; whoever starts a cluster writes it.

use serde_json::{Value, json};

use crate::ARGO_GROUP;

const RESOURCES: [&str; 5] =
    ["workflows", "workfloweventbindings", "workflowtemplates", "cronworkflows", "clusterworkflowtemplates"];
const LOOK: [&str; 3] = ["get", "list", "watch"];
const CHANGE: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `argo-aggregate-to-view`, `-edit` and `-admin`.
#[must_use]
pub fn manifests() -> Vec<Value> {
    let resources: Vec<String> = RESOURCES.iter().flat_map(|r| [(*r).to_owned(), format!("{r}/finalizers")]).collect();
    [("view", &LOOK[..]), ("edit", &CHANGE), ("admin", &CHANGE)]
        .map(|(role, verbs)| {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{role}");
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": format!("argo-aggregate-to-{role}"), "labels": {label: "true"}},
                "rules": [{"apiGroups": [ARGO_GROUP], "resources": resources, "verbs": verbs}],
            })
        })
        .to_vec()
}

#[cfg(test)]
mod tests {
    #[test]
    fn who_views_only_looks() {
        let all = super::manifests();
        assert_eq!(all[0]["rules"][0]["verbs"], serde_json::json!(["get", "list", "watch"]));
        assert_eq!(all[2]["metadata"]["name"], "argo-aggregate-to-admin");
        assert_eq!(all[1]["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
    }
}
