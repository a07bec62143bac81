//! Who is asking: a name, groups and extras, as every later step sees them. Holds no secret and reads no request.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The group that may do everything without a look at RBAC.
pub const MASTERS: &str = "system:masters";
/// The group of everybody whose credential was accepted.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who sent no credential.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of everybody who sent no credential.
pub const ANONYMOUS: &str = "system:anonymous";

/// A user as the API knows it. In-process callers put one into the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user's name, `system:serviceaccount:NAMESPACE:NAME` for a ServiceAccount.
    pub user: String,
    /// The user's uid where it has one.
    pub uid: String,
    /// The groups, `system:authenticated` among them.
    pub groups: Vec<String>,
    /// Further facts, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// The administrator: what the static token of the kubeconfig is.
    #[must_use]
    pub fn admin() -> Self {
        Self::system("admin")
    }

    /// One of our own controllers, in this process: in `system:masters`, under its own name.
    #[must_use]
    pub fn system(user: &str) -> Self {
        Self { user: user.to_owned(), groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { user: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// A ServiceAccount.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            user: service_account_user(namespace, name),
            uid: uid.to_owned(),
            groups: service_account_groups(namespace),
            extra: BTreeMap::new(),
        }
    }

    /// Whether the user is in a group.
    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The `userInfo` object of the review kinds.
    #[must_use]
    pub fn user_info(&self) -> Value {
        let mut info = json!({"username": self.user, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// The user name of a ServiceAccount.
#[must_use]
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The groups of every ServiceAccount of a namespace.
#[must_use]
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}"), AUTHENTICATED.to_owned()]
}
