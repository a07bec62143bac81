//! Role-based access control: may this identity do that? Rules come from the four RBAC kinds as they are stored; the
//! compiled form is kept until one of them changes. Never writes, never reads anything but those four kinds.

use super::{Attributes, Identity, Objects, identity::MASTERS};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The API group of the RBAC kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// One `rules:` entry of a role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs; `*` is any.
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// API groups; the empty one is the core group, `*` any.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources, `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Object names; none means every object.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths such as `/healthz` or `/logs/*`.
    #[serde(rename = "nonResourceURLs", deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn nullable<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(d)?.unwrap_or_default())
}

fn holds(list: &[String], value: &str) -> bool {
    list.iter().any(|v| v == "*" || v == value)
}

fn path_holds(list: &[String], path: &str) -> bool {
    list.iter().any(|v| v == "*" || v == path || v.strip_suffix('*').is_some_and(|p| path.starts_with(p)))
}

impl Rule {
    /// Whether this rule alone allows the request.
    #[must_use]
    pub fn allows(&self, what: &Attributes) -> bool {
        if !what.is_resource {
            return holds(&self.verbs, &what.verb) && path_holds(&self.non_resource_urls, &what.path);
        }
        holds(&self.verbs, &what.verb)
            && holds(&self.api_groups, &what.group)
            && resource_holds(&self.resources, &what.resource, &what.subresource)
            && (self.resource_names.is_empty() || self.resource_names.contains(&what.name))
    }
}

fn resource_holds(list: &[String], resource: &str, subresource: &str) -> bool {
    list.iter().any(|r| {
        if r == "*" {
            return true;
        }
        if subresource.is_empty() {
            return r == resource;
        }
        r.split_once('/').is_some_and(|(head, tail)| tail == subresource && (head == "*" || head == resource))
    })
}

/// The rules of a stored Role or ClusterRole.
#[must_use]
pub fn rules_of(role: &Value) -> Vec<Rule> {
    let Some(rules) = role.get("rules").and_then(Value::as_array) else { return Vec::new() };
    rules.iter().filter_map(|r| Rule::deserialize(r).ok()).collect()
}

/// What authorization answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow {
        /// Which binding allowed it, in Kubernetes' words.
        reason: String,
    },
    /// Refused.
    Deny {
        /// Why, beyond "nothing allows it": roles that bindings name and nobody has made. Mostly empty.
        reason: String,
    },
}

impl Decision {
    /// Whether the request may go on.
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

#[derive(Debug, Clone)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

impl Subject {
    fn of(value: &Value) -> Self {
        let text = |k: &str| value.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { kind: text("kind"), name: text("name"), namespace: text("namespace") }
    }

    fn is(&self, who: &Identity, binding_namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => who.user == self.name,
            "Group" => who.in_group(&self.name),
            "ServiceAccount" => {
                let ns = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                !ns.is_empty() && who.user == super::identity::service_account_user(ns, &self.name)
            }
            _ => false,
        }
    }

    fn describe(&self) -> String {
        if self.kind == "ServiceAccount" {
            format!("ServiceAccount {:?}", format!("{}/{}", self.name, self.namespace))
        } else {
            format!("{} {:?}", self.kind, self.name)
        }
    }
}

#[derive(Debug, Clone)]
struct Binding {
    name: String,
    namespace: String,
    role_kind: String,
    role_name: String,
    subjects: Vec<Subject>,
}

impl Binding {
    fn of(value: &Value) -> Self {
        let text = |p: &str| value.pointer(p).and_then(Value::as_str).unwrap_or_default().to_owned();
        let subjects = value.get("subjects").and_then(Value::as_array);
        Self {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            role_kind: text("/roleRef/kind"),
            role_name: text("/roleRef/name"),
            subjects: subjects.map(|s| s.iter().map(Subject::of).collect()).unwrap_or_default(),
        }
    }
}

/// Everything the four kinds say, at one moment.
#[derive(Debug, Default)]
struct Compiled {
    versions: [u64; 4],
    cluster_roles: HashMap<String, Arc<Vec<Rule>>>,
    roles: HashMap<(String, String), Arc<Vec<Rule>>>,
    cluster_bindings: Vec<Binding>,
    bindings: HashMap<String, Vec<Binding>>,
}

/// Roles that collect roles that collect roles: nobody goes deeper.
const AGGREGATION_DEPTH_MAX: usize = 8;

const KINDS: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

impl Compiled {
    fn read(objects: &dyn Objects, versions: [u64; 4]) -> Self {
        let name = |v: &Value| v.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let namespace =
            |v: &Value| v.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
        let cluster_list = objects.list(GROUP, KINDS[0]);
        let mut cluster_roles: HashMap<String, Arc<Vec<Rule>>> =
            cluster_list.iter().map(|r| (name(r), Arc::new(rules_of(r)))).collect();
        // What collects may be collected itself (`view` by `edit` by `admin`): again, until nothing is added.
        for _ in 0..AGGREGATION_DEPTH_MAX {
            let mut grown = false;
            for role in &cluster_list {
                let selectors = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
                let Some(selectors) = selectors else { continue };
                let picked = cluster_list
                    .iter()
                    .filter(|other| name(other) != name(role) && selectors.iter().any(|s| selector_matches(s, other)));
                let known = cluster_roles.get(&name(role)).cloned().unwrap_or_default();
                let mut rules = (*known).clone();
                for other in picked {
                    let theirs = cluster_roles.get(&name(other)).cloned().unwrap_or_default();
                    for rule in theirs.iter() {
                        if !rules.contains(rule) {
                            rules.push(rule.clone());
                        }
                    }
                }
                if rules.len() > known.len() {
                    grown = true;
                    cluster_roles.insert(name(role), Arc::new(rules));
                }
            }
            if !grown {
                break;
            }
        }
        let roles =
            objects.list(GROUP, KINDS[1]).iter().map(|r| ((namespace(r), name(r)), Arc::new(rules_of(r)))).collect();
        let cluster_bindings = objects.list(GROUP, KINDS[2]).iter().map(Binding::of).collect();
        let mut bindings: HashMap<String, Vec<Binding>> = HashMap::new();
        for binding in objects.list(GROUP, KINDS[3]).iter().map(Binding::of) {
            bindings.entry(binding.namespace.clone()).or_default().push(binding);
        }
        Self { versions, cluster_roles, roles, cluster_bindings, bindings }
    }
}

fn selector_matches(selector: &Value, object: &Value) -> bool {
    let labels = object.pointer("/metadata/labels");
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let by_labels = selector.get("matchLabels").and_then(Value::as_object);
    let by_expressions = selector.get("matchExpressions").and_then(Value::as_array);
    if by_labels.is_none() && by_expressions.is_none() {
        return false;
    }
    by_labels.is_none_or(|m| m.iter().all(|(k, v)| label(k) == v.as_str()))
        && by_expressions.is_none_or(|list| {
            list.iter().all(|e| {
                let value = e.get("key").and_then(Value::as_str).and_then(label);
                let among = e
                    .get("values")
                    .and_then(Value::as_array)
                    .is_some_and(|vs| vs.iter().any(|v| value.is_some() && v.as_str() == value));
                match e.get("operator").and_then(Value::as_str).unwrap_or_default() {
                    "In" => among,
                    "NotIn" => !among,
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
        })
}

/// The evaluator.
pub struct Rbac {
    objects: Arc<dyn Objects>,
    compiled: Mutex<Arc<Compiled>>,
}

impl Rbac {
    /// An evaluator over a store.
    #[must_use]
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects, compiled: Mutex::new(Arc::new(Compiled { versions: [u64::MAX; 4], ..Compiled::default() })) }
    }

    fn compiled(&self) -> Arc<Compiled> {
        let versions = KINDS.map(|k| self.objects.version(GROUP, k));
        let mut held = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if held.versions != versions {
            *held = Arc::new(Compiled::read(self.objects.as_ref(), versions));
        }
        held.clone()
    }

    /// Decides one request.
    #[must_use]
    pub fn decide(&self, who: &Identity, what: &Attributes) -> Decision {
        if who.in_group(MASTERS) {
            return Decision::Allow { reason: String::new() };
        }
        let mut allowed = None;
        let missing = self.visit(who, &what.namespace, |rules, why| {
            if allowed.is_none() && rules.iter().any(|r| r.allows(what)) {
                allowed = Some(why());
            }
            allowed.is_none()
        });
        match allowed {
            Some(why) => Decision::Allow { reason: format!("RBAC: allowed by {why}") },
            None => Decision::Deny { reason: resolution_error(&missing) },
        }
    }

    /// Every rule that an identity has in a namespace (the empty namespace: cluster-wide only), and what was missing.
    #[must_use]
    pub fn rules_for(&self, who: &Identity, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let mut all = Vec::new();
        let missing = self.visit(who, namespace, |rules, _| {
            all.extend(rules.iter().cloned());
            true
        });
        (all, missing)
    }

    /// The rules behind a `roleRef`, or what is missing.
    pub fn role_rules(&self, kind: &str, name: &str, namespace: &str) -> Result<Vec<Rule>, String> {
        let compiled = self.compiled();
        let found = match kind {
            "Role" => compiled.roles.get(&(namespace.to_owned(), name.to_owned())),
            _ => compiled.cluster_roles.get(name),
        };
        found.map(|r| r.as_ref().clone()).ok_or_else(|| not_found(kind, name))
    }

    /// Calls `each` with the rules of every binding that binds the identity, until it says stop.
    fn visit(
        &self,
        who: &Identity,
        namespace: &str,
        mut each: impl FnMut(&[Rule], &dyn Fn() -> String) -> bool,
    ) -> Vec<String> {
        let compiled = self.compiled();
        let mut missing = Vec::new();
        for binding in &compiled.cluster_bindings {
            let Some(subject) = binding.subjects.iter().find(|s| s.is(who, "")) else { continue };
            let Some(rules) = compiled.cluster_roles.get(&binding.role_name) else {
                missing.push(not_found("ClusterRole", &binding.role_name));
                continue;
            };
            let why = || {
                let (name, role) = (&binding.name, &binding.role_name);
                format!("ClusterRoleBinding {name:?} of ClusterRole {role:?} to {}", subject.describe())
            };
            if !each(rules, &why) {
                return missing;
            }
        }
        if namespace.is_empty() {
            return missing;
        }
        for binding in compiled.bindings.get(namespace).into_iter().flatten() {
            let Some(subject) = binding.subjects.iter().find(|s| s.is(who, namespace)) else { continue };
            let rules = match binding.role_kind.as_str() {
                "Role" => compiled.roles.get(&(namespace.to_owned(), binding.role_name.clone())),
                _ => compiled.cluster_roles.get(&binding.role_name),
            };
            let Some(rules) = rules else {
                missing.push(not_found(&binding.role_kind, &binding.role_name));
                continue;
            };
            let why = || {
                let (name, kind, role) =
                    (format!("{}/{namespace}", binding.name), &binding.role_kind, &binding.role_name);
                format!("RoleBinding {name:?} of {kind} {role:?} to {}", subject.describe())
            };
            if !each(rules, &why) {
                return missing;
            }
        }
        missing
    }
}

fn not_found(kind: &str, name: &str) -> String {
    format!("{}.{GROUP} {name:?} not found", kind.to_ascii_lowercase())
}

/// Kubernetes' words for roles that are bound and do not exist.
#[must_use]
pub fn resolution_error(missing: &[String]) -> String {
    match missing {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}
