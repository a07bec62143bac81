//! Discovery: what is served, in the old form (one document a group version) and in the aggregated one, and the paths
//! that tell version and health. Reads the registry only; holds no list of kinds of its own but the reviews, which are
//! asked and never stored.

use crate::kinds::{Registry, Resource, api_version};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The version that `/version` tells.
pub const GIT_VERSION: &str = "v1.33.0+windlass";

/// Kinds that a POST asks and that are never stored: group, version, kind, plural, namespaced.
pub const ASKED: [(&str, &str, &str, &str, bool); 6] = [
    ("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", false),
    ("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", false),
    ("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", true),
    ("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", false),
    ("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", false),
    ("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", false),
];

/// The two forms of aggregated discovery, as media types name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregated {
    /// `apidiscovery.k8s.io/v2`.
    V2,
    /// `apidiscovery.k8s.io/v2beta1`, for clients before 1.30.
    V2Beta1,
}

impl Aggregated {
    /// What an `Accept` header asks for, if it asks for an aggregated form first.
    #[must_use]
    pub fn of_accept(accept: &str) -> Option<Self> {
        for media in accept.split(',') {
            let mut parts = media.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            if !matches!(kind, "application/json" | "*/*" | "application/*" | "") {
                continue;
            }
            let parameters: BTreeMap<&str, &str> = parts.filter_map(|p| p.split_once('=')).collect();
            match (parameters.get("as"), parameters.get("g"), parameters.get("v")) {
                (None, ..) => return None,
                (Some(&"APIGroupDiscoveryList"), Some(&"apidiscovery.k8s.io"), Some(&"v2")) => return Some(Self::V2),
                (Some(&"APIGroupDiscoveryList"), Some(&"apidiscovery.k8s.io"), Some(&"v2beta1")) => {
                    return Some(Self::V2Beta1);
                }
                _ => {}
            }
        }
        None
    }

    /// The content type of the answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }
}

/// `/version`.
#[must_use]
pub fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1", "minor": "33", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": format!("linux/{arch}"),
    })
}

/// `/api`.
#[must_use]
pub fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
#[must_use]
pub fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> =
        named_groups(registry).iter().map(|(name, versions)| group_entry(name, versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
#[must_use]
pub fn group(registry: &Registry, name: &str) -> Option<Value> {
    let groups = named_groups(registry);
    let mut entry = group_entry(name, groups.get(name)?);
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    Some(entry)
}

fn group_entry(name: &str, versions: &[String]) -> Value {
    let entry = |v: &String| json!({"groupVersion": api_version(name, v), "version": v});
    let all: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": name, "preferredVersion": all.first(), "versions": all})
}

/// The groups but the core one, each with its versions in Kubernetes' order.
fn named_groups(registry: &Registry) -> BTreeMap<String, Vec<String>> {
    let mut groups = registry.groups();
    groups.remove("");
    for (group, version, ..) in ASKED {
        let versions = groups.entry(group.to_owned()).or_default();
        if !versions.iter().any(|v| v == version) {
            versions.push(version.to_owned());
        }
    }
    for versions in groups.values_mut() {
        versions.sort_by(|a, b| compare_versions(a, b));
    }
    groups
}

/// GA before beta before alpha, higher before lower, other words last and by name.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    fn parse(v: &str) -> Option<(u8, u64, u64)> {
        let rest = v.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        match &rest[digits..] {
            "" => Some((2, major, 0)),
            tail => {
                let (rank, minor) = match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                    (Some(n), _) => (1, n),
                    (_, Some(n)) => (0, n),
                    _ => return None,
                };
                Some((rank, major, if minor.is_empty() { 0 } else { minor.parse().ok()? }))
            }
        }
    }
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// The kind behind a subresource, if it is not the resource's own.
fn subresource_kind(r: &Resource, subresource: &str) -> (String, String, String) {
    let of = |g: &str, v: &str, k: &str| (g.to_owned(), v.to_owned(), k.to_owned());
    match subresource {
        "scale" => of("autoscaling", "v1", "Scale"),
        "eviction" => of("policy", "v1", "Eviction"),
        "exec" => of("", "v1", "PodExecOptions"),
        "attach" => of("", "v1", "PodAttachOptions"),
        "portforward" => of("", "v1", "PodPortForwardOptions"),
        "token" => of("authentication.k8s.io", "v1", "TokenRequest"),
        _ => of(&r.group, &r.version, &r.kind),
    }
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
#[must_use]
pub fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for r in registry.iter().filter(|r| r.group == group && r.version == version) {
        let mut entry = json!({
            "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": r.verbs(),
        });
        if !r.short_names.is_empty() {
            entry["shortNames"] = json!(r.short_names);
        }
        if !r.categories.is_empty() {
            entry["categories"] = json!(r.categories);
        }
        list.push(entry);
        for (name, verbs) in r.subresources() {
            let (of_group, of_version, kind) = subresource_kind(r, name);
            let mut entry = json!({
                "name": format!("{}/{name}", r.plural), "singularName": "", "namespaced": r.namespaced,
                "kind": kind, "verbs": verbs,
            });
            if (of_group.as_str(), of_version.as_str()) != (group, version) {
                entry["group"] = json!(of_group);
                entry["version"] = json!(of_version);
            }
            list.push(entry);
        }
    }
    for (_, _, kind, plural, namespaced) in ASKED.iter().filter(|(g, v, ..)| *g == group && *v == version) {
        let singular = kind.to_lowercase();
        list.push(json!({
            "name": plural, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": ["create"],
        }));
    }
    if list.is_empty() {
        return None;
    }
    let api_version = api_version(group, version);
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": list}))
}

/// `/api` (`core`) or `/apis` in the aggregated form.
#[must_use]
pub fn aggregated(registry: &Registry, form: Aggregated, core: bool) -> Value {
    let groups = if core { BTreeMap::from([(String::new(), vec!["v1".to_owned()])]) } else { named_groups(registry) };
    let item = |(name, versions): (&String, &Vec<String>)| {
        let versions: Vec<Value> = versions
            .iter()
            .map(
                |v| json!({"version": v, "resources": aggregated_resources(registry, name, v), "freshness": "Current"}),
            )
            .collect();
        let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
        json!({"metadata": metadata, "versions": versions})
    };
    let items: Vec<Value> = groups.iter().map(item).collect();
    let version = if form == Aggregated::V2 { "v2" } else { "v2beta1" };
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items,
    })
}

fn aggregated_resources(registry: &Registry, group: &str, version: &str) -> Vec<Value> {
    let scope = |namespaced| if namespaced { "Namespaced" } else { "Cluster" };
    let stored = registry.iter().filter(|r| r.group == group && r.version == version).map(|r| {
        let subresources: Vec<Value> = r
            .subresources()
            .into_iter()
            .map(|(name, verbs)| {
                let (group, version, kind) = subresource_kind(r, name);
                let kind = json!({"group": group, "version": version, "kind": kind});
                json!({"subresource": name, "responseKind": kind, "verbs": verbs})
            })
            .collect();
        let mut entry = json!({
            "resource": r.plural,
            "responseKind": {"group": group, "version": version, "kind": r.kind},
            "scope": scope(r.namespaced),
            "singularResource": r.singular,
            "verbs": r.verbs(),
        });
        if !r.short_names.is_empty() {
            entry["shortNames"] = json!(r.short_names);
        }
        if !r.categories.is_empty() {
            entry["categories"] = json!(r.categories);
        }
        if !subresources.is_empty() {
            entry["subresources"] = json!(subresources);
        }
        entry
    });
    let asked = ASKED.iter().filter(|(g, v, ..)| *g == group && *v == version);
    let asked = asked.map(|(_, _, kind, plural, namespaced)| {
        json!({
            "resource": plural,
            "responseKind": {"group": group, "version": version, "kind": kind},
            "scope": scope(*namespaced),
            "singularResource": kind.to_lowercase(),
            "verbs": ["create"],
        })
    });
    stored.chain(asked).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers_choose_the_form() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(Aggregated::of_accept(kubectl), Some(Aggregated::V2));
        assert_eq!(Aggregated::of_accept("application/json"), None);
        assert_eq!(Aggregated::of_accept(""), None);
    }

    #[test]
    fn versions_are_ordered_as_kubernetes_orders_them() {
        let mut versions = ["v1beta1", "v1alpha1", "v2", "foo", "v10", "v1", "v1beta2"];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }

    #[test]
    fn both_forms_name_the_same_resources() {
        let registry = Registry::builtin();
        let old = resources(&registry, "apps", "v1").unwrap();
        let names: Vec<&str> =
            old["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status"
            ]
        );
        let new = aggregated(&registry, Aggregated::V2, false);
        let apps = new["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "apps").unwrap();
        assert_eq!(apps["versions"][0]["resources"].as_array().unwrap().len(), 2);
        assert!(resources(&registry, "nothing", "v1").is_none());
    }
}
