//! The roles and bindings that every cluster has from its first day: `cluster-admin`, `admin`, `edit`, `view` and those
//! of the system, as Kubernetes makes them, cut down to what is served. Only the list; whoever opens the server writes
//! it.

use serde_json::Value;

/// The ClusterRoles and ClusterRoleBindings, in the order in which they are made.
#[must_use]
pub fn objects() -> Vec<Value> {
    serde_json::from_str(include_str!("bootstrap.json")).expect("invariant: the committed file is a JSON list")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_roles_are_there() {
        let objects = super::objects();
        for name in ["cluster-admin", "admin", "edit", "view", "system:discovery", "system:basic-user"] {
            assert!(objects.iter().any(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == name), "{name}");
        }
    }
}
