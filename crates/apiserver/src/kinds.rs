//! The kinds that are served: one table of the built-in ones, and the registry that CustomResourceDefinitions add to.
//! Holds names and traits of kinds only; must never hold objects, nor know what a field means.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One column of `kubectl get` that a CustomResourceDefinition asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterColumn {
    /// Heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// `int32`, `date-time`, … or empty.
    pub format: String,
    /// What `kubectl explain`-like readers see.
    pub description: String,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: i64,
    /// Kubernetes' JSONPath, without braces: `.status.phase`.
    pub json_path: String,
}

/// Where the scale subresource finds its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// Wanted replicas: `.spec.replicas`.
    pub spec_replicas: String,
    /// Replicas that are there: `.status.replicas`.
    pub status_replicas: String,
    /// The selector as text or as a label selector: `.spec.selector`.
    pub selector: Option<String>,
}

/// One served resource in one version.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: String,
    /// Version: `v1`.
    pub version: String,
    /// Kind: `Pod`.
    pub kind: String,
    /// Kind of a list: `PodList`.
    pub list_kind: String,
    /// Plural, as in paths: `pods`.
    pub plural: String,
    /// Singular: `pod`.
    pub singular: String,
    /// Short names: `po`.
    pub short_names: Vec<String>,
    /// Categories: `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether `/status` is served (and `status` protected from plain writes).
    pub status: bool,
    /// Whether `/scale` is served, and from where.
    pub scale: Option<Scale>,
    /// Whether `metadata.generation` is kept.
    pub generation: bool,
    /// Whether a PUT to a name that is not there makes the object.
    pub create_on_update: bool,
    /// Whether a delete answers the deleted object rather than a Status.
    pub returns_deleted: bool,
    /// Fields, as dotted paths, that field selectors may name beside `metadata.name` and `metadata.namespace`.
    pub selectable: Arc<[String]>,
    /// The table that objects are kept in. Two versions or aliases of a kind share one: `pods`, `deployments.apps`.
    pub storage: String,
    /// `apiVersion` of the bytes in that table.
    pub storage_api_version: String,
    /// True for the built-in table below.
    pub builtin: bool,
    /// A custom kind's `openAPIV3Schema`.
    pub schema: Option<Arc<Value>>,
    /// A custom kind's columns.
    pub columns: Vec<PrinterColumn>,
}

impl Resource {
    /// `v1` or `group/version`.
    #[must_use]
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The resource as error texts name it: `pods`, `deployments.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether this is the built-in resource of that group and plural.
    #[must_use]
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.builtin && self.group == group && self.plural == plural
    }

    /// The verbs that discovery lists.
    #[must_use]
    pub fn verbs(&self) -> &'static [&'static str] {
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    }

    /// The subresources that are served, with the verbs of each.
    #[must_use]
    pub fn subresources(&self) -> Vec<(&'static str, &'static [&'static str])> {
        const RW: &[&str] = &["get", "patch", "update"];
        let mut list = Vec::new();
        if self.is("", "namespaces") {
            list.push(("finalize", &["update"] as &[_]));
        }
        if self.is("", "pods") {
            const STREAM: &[&str] = &["create", "get"];
            list.push(("attach", STREAM));
            list.push(("eviction", &["create"] as &[_]));
            list.push(("exec", STREAM));
            list.push(("log", &["get"] as &[_]));
            list.push(("portforward", STREAM));
        }
        if self.scale.is_some() {
            list.push(("scale", RW));
        }
        if self.status {
            list.push(("status", RW));
        }
        if self.is("", "serviceaccounts") {
            list.push(("token", &["create"] as &[_]));
        }
        list
    }
}

/// `v1` or `group/version`.
#[must_use]
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// One line of the built-in table.
struct Line {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    /// n namespaced, s status, g generation, c create on update, d returns the deleted object, r scale, a category
    /// `all`.
    traits: &'static str,
    selectable: &'static [&'static str],
}

const fn line(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    traits: &'static str,
    selectable: &'static [&'static str],
) -> Line {
    Line { group, version: "v1", kind, plural, short, traits, selectable }
}

const RBAC: &str = "rbac.authorization.k8s.io";

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// The list in `docs/kubernetes-api.md` is made from this one.
const BUILTIN: &[Line] = &[
    line("", "ConfigMap", "configmaps", &["cm"], "n", &[]),
    line("", "Endpoints", "endpoints", &["ep"], "nc", &[]),
    line("", "Event", "events", &["ev"], "nc", EVENT_FIELDS),
    line("", "Namespace", "namespaces", &["ns"], "s", &["status.phase"]),
    line("", "Node", "nodes", &["no"], "s", &["spec.unschedulable"]),
    line("", "PersistentVolume", "persistentvolumes", &["pv"], "sd", &[]),
    line("", "PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], "nsd", &[]),
    line(
        "",
        "Pod",
        "pods",
        &["po"],
        "nsda",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    line("", "Secret", "secrets", &[], "n", &["type"]),
    line("", "Service", "services", &["svc"], "nsda", &["spec.clusterIP", "spec.type"]),
    line("", "ServiceAccount", "serviceaccounts", &["sa"], "nd", &[]),
    line("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", &["crd", "crds"], "sgx", &[]),
    line("apps", "Deployment", "deployments", &["deploy"], "nsgra", &[]),
    line("apps", "ReplicaSet", "replicasets", &["rs"], "nsgra", &["status.replicas"]),
    line("batch", "CronJob", "cronjobs", &["cj"], "nsga", &[]),
    line("batch", "Job", "jobs", &[], "nsga", &["status.successful"]),
    line("coordination.k8s.io", "Lease", "leases", &[], "nc", &[]),
    line("discovery.k8s.io", "EndpointSlice", "endpointslices", &[], "ng", &[]),
    line("events.k8s.io", "Event", "events", &["ev"], "nc", EVENT_FIELDS),
    line("policy", "PodDisruptionBudget", "poddisruptionbudgets", &["pdb"], "nsg", &[]),
    line(RBAC, "ClusterRole", "clusterroles", &[], "c", &[]),
    line(RBAC, "ClusterRoleBinding", "clusterrolebindings", &[], "c", &[]),
    line(RBAC, "Role", "roles", &[], "nc", &[]),
    line(RBAC, "RoleBinding", "rolebindings", &[], "nc", &[]),
    line("storage.k8s.io", "StorageClass", "storageclasses", &["sc"], "d", &[]),
];

impl Line {
    fn resource(&self) -> Resource {
        let has = |c| self.traits.contains(c);
        // events.k8s.io/v1 is another face of the core Event: one table, converted on the way in and out.
        let group_of_storage = if self.group == "events.k8s.io" { "" } else { self.group };
        let mut categories = Vec::new();
        if has('a') {
            categories.push("all".to_owned());
        }
        if has('x') {
            categories.push("api-extensions".to_owned());
        }
        Resource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            kind: self.kind.to_owned(),
            list_kind: format!("{}List", self.kind),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            short_names: self.short.iter().map(|&s| s.to_owned()).collect(),
            categories,
            namespaced: has('n'),
            status: has('s'),
            scale: has('r').then(|| Scale {
                spec_replicas: ".spec.replicas".to_owned(),
                status_replicas: ".status.replicas".to_owned(),
                selector: Some(".spec.selector".to_owned()),
            }),
            generation: has('g'),
            create_on_update: has('c'),
            returns_deleted: has('d'),
            selectable: self.selectable.iter().map(|&s| s.to_owned()).collect(),
            storage: if group_of_storage.is_empty() {
                self.plural.to_owned()
            } else {
                format!("{}.{group_of_storage}", self.plural)
            },
            storage_api_version: api_version(group_of_storage, self.version),
            builtin: true,
            schema: None,
            columns: Vec::new(),
        }
    }
}

/// What is served at one moment. Cheap to share; replaced as a whole when a CustomResourceDefinition changes.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    by_path: BTreeMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    /// The built-in kinds alone.
    #[must_use]
    pub fn builtin() -> Self {
        let mut it = Self::default();
        for line in BUILTIN {
            it.insert(line.resource());
        }
        it
    }

    /// Adds or replaces one resource.
    pub fn insert(&mut self, resource: Resource) {
        let key = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        self.by_path.insert(key, Arc::new(resource));
    }

    /// Takes away every custom resource of a group and plural.
    pub fn remove_custom(&mut self, group: &str, plural: &str) {
        self.by_path.retain(|(g, _, p), r| r.builtin || g != group || p != plural);
    }

    /// The resource at a path.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The resource of a kind.
    #[must_use]
    pub fn find_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.by_path.values().find(|r| r.kind == kind && r.api_version() == api_version)
    }

    /// The resource that a table's bytes are written as.
    #[must_use]
    pub fn of_storage(&self, storage: &str) -> Option<&Arc<Resource>> {
        self.by_path.values().find(|r| r.storage == storage && r.storage_api_version == r.api_version())
    }

    /// Everything, ordered by group, version and plural.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_path.values()
    }

    /// The groups and their versions, the core group first as the empty name.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (group, version, _) in self.by_path.keys() {
            let versions = groups.entry(group.clone()).or_default();
            if !versions.contains(version) {
                versions.push(version.clone());
            }
        }
        groups
    }
}
