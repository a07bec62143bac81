//! Where templates are found: in the workflow, or in resources that were fetched and then frozen in the status.
//! Never fetches: what is missing is answered as such, and becomes a command.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;
use windlass_model::Template;
use windlass_model::template::{StepGroup, TemplateRef};
use windlass_model::workflow::WorkflowSpec;

use crate::nodes::Target;

/// Why there is no template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Missing {
    /// The resource must be fetched first.
    Resource { cluster: bool, name: String },
    /// There is none.
    Never(String),
}

/// A template that was found, and where names inside it are looked up.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub template: Arc<Template>,
    pub scope: Arc<str>,
    /// The key under which it is frozen in the status, when it is of another resource.
    pub stored: Option<String>,
}

/// A resource's templates by name.
type ByName = HashMap<String, Arc<Template>>;

/// The templates of a run.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    local: ByName,
    /// `(cluster, name)` to templates; nothing when the API has no such resource.
    resources: BTreeMap<(bool, String), Option<ByName>>,
    /// Frozen templates, by `scope/resource/template`.
    frozen: BTreeMap<String, Arc<Template>>,
    defaults: Option<Value>,
    local_scope: Arc<str>,
}

impl Templates {
    /// The templates of a spec, and those that a status froze.
    pub(crate) fn new(spec: &WorkflowSpec, scope: &str, frozen: &BTreeMap<String, Template>) -> Self {
        let defaults = spec.template_defaults.as_ref().and_then(|t| serde_json::to_value(t).ok());
        let mut this = Self { defaults, local_scope: Arc::from(scope), ..Self::default() };
        for template in &spec.templates {
            let merged = this.with_defaults(template);
            this.local.insert(template.name.clone(), merged);
        }
        for (key, template) in frozen {
            let merged = this.with_defaults(template);
            this.frozen.insert(key.clone(), merged);
        }
        this
    }

    /// The scope of the workflow's own templates.
    pub(crate) fn local_scope(&self) -> Arc<str> {
        self.local_scope.clone()
    }

    /// Takes in a fetched resource's templates; nothing when there is none of that name.
    pub(crate) fn add_resource(&mut self, cluster: bool, name: &str, templates: Option<&[Template]>) {
        let merged =
            templates.map(|list| list.iter().map(|t| (t.name.clone(), self.with_defaults(t))).collect::<ByName>());
        self.resources.insert((cluster, name.to_owned()), merged);
    }

    fn with_defaults(&self, template: &Template) -> Arc<Template> {
        let Some(defaults) = &self.defaults else { return Arc::new(template.clone()) };
        let (Ok(own), Some(kind)) = (serde_json::to_value(template), template.kind()) else {
            return Arc::new(template.clone());
        };
        let mut base = defaults.clone();
        let kept = serde_json::to_value(kind_key(kind)).unwrap_or_default();
        if let Value::Object(map) = &mut base {
            map.remove("name");
            map.retain(|key, _| !KIND_KEYS.contains(&key.as_str()) || kept == Value::String(key.clone()));
        }
        crate::merge::strategic(&mut base, &own);
        serde_json::from_value(base).map(Arc::new).unwrap_or_else(|_| Arc::new(template.clone()))
    }

    /// Finds a call's template.
    pub(crate) fn find(&self, target: &Target, scope: &Arc<str>) -> Result<Found, Missing> {
        match target {
            Target::Inline(template) => {
                Ok(Found { template: self.with_defaults(template), scope: scope.clone(), stored: None })
            }
            Target::Ref(reference) => self.find_in(reference.cluster_scope, &reference.name, &reference.template),
            Target::Name(name) => match scope.split_once('/') {
                Some(("cluster", resource)) => self.find_in(true, resource, name),
                Some(("namespaced", resource)) => self.find_in(false, resource, name),
                _ => match self.local.get(name) {
                    Some(template) => Ok(Found { template: template.clone(), scope: scope.clone(), stored: None }),
                    None => Err(Missing::Never(format!("template {name} not found"))),
                },
            },
        }
    }

    fn find_in(&self, cluster: bool, resource: &str, template: &str) -> Result<Found, Missing> {
        let key = format!("{}/{resource}/{template}", kind(cluster));
        let scope: Arc<str> = Arc::from(format!("{}/{resource}", kind(cluster)));
        if let Some(template) = self.frozen.get(&key) {
            return Ok(Found { template: template.clone(), scope, stored: Some(key) });
        }
        match self.resources.get(&(cluster, resource.to_owned())) {
            None => Err(Missing::Resource { cluster, name: resource.to_owned() }),
            Some(None) => Err(Missing::Never(not_found(cluster, resource))),
            Some(Some(templates)) => match templates.get(template) {
                Some(template) => Ok(Found { template: template.clone(), scope, stored: Some(key) }),
                None => Err(Missing::Never(format!("template reference {resource}.{template} not found"))),
            },
        }
    }

    /// Freezes a template: from now on it is what it is, whatever becomes of its resource.
    pub(crate) fn freeze(&mut self, key: &str, template: &Arc<Template>) -> bool {
        if self.frozen.contains_key(key) {
            return false;
        }
        self.frozen.insert(key.to_owned(), template.clone());
        true
    }

    /// The resources that templates reachable from an entry name and that are not known yet.
    pub(crate) fn unknown_resources(&self, entries: &[Target]) -> BTreeSet<(bool, String)> {
        let mut unknown = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut queue: Vec<(Target, Arc<str>)> =
            entries.iter().map(|t| (t.clone(), self.local_scope.clone())).collect();
        while let Some((target, scope)) = queue.pop() {
            let key = match &target {
                Target::Name(name) => format!("{scope}/{name}"),
                Target::Ref(r) => format!("{}/{}/{}", kind(r.cluster_scope), r.name, r.template),
                Target::Inline(_) => String::new(),
            };
            let tagged = key.contains("{{");
            if tagged || (!key.is_empty() && !seen.insert(key)) {
                continue;
            }
            match self.find(&target, &scope) {
                Err(Missing::Resource { cluster, name }) => {
                    unknown.insert((cluster, name));
                }
                Err(Missing::Never(_)) => {}
                Ok(found) => {
                    for (_, called) in calls(&found.template) {
                        queue.push((called, found.scope.clone()));
                    }
                }
            }
        }
        unknown
    }
}

/// The API server's words for a resource that is not there.
pub(crate) fn not_found(cluster: bool, name: &str) -> String {
    let plural = if cluster { "clusterworkflowtemplates" } else { "workflowtemplates" };
    format!("{plural}.argoproj.io \"{name}\" not found")
}

fn kind(cluster: bool) -> &'static str {
    if cluster { "cluster" } else { "namespaced" }
}

const KIND_KEYS: [&str; 10] =
    ["container", "script", "steps", "dag", "suspend", "resource", "http", "plugin", "data", "containerSet"];

fn kind_key(kind: windlass_model::template::TemplateKind) -> &'static str {
    use windlass_model::template::TemplateKind as K;
    match kind {
        K::Container => "container",
        K::Script => "script",
        K::Steps => "steps",
        K::Dag => "dag",
        K::Suspend => "suspend",
        K::Resource => "resource",
        K::Http => "http",
        K::Plugin => "plugin",
        K::Data => "data",
        K::ContainerSet => "containerSet",
    }
}

/// What a step or task runs.
pub(crate) fn target(name: &Option<String>, reference: &Option<TemplateRef>, inline: Option<&Template>) -> Target {
    match (inline, reference) {
        (Some(template), _) => Target::Inline(Box::new(template.clone())),
        (None, Some(reference)) => Target::Ref(reference.clone()),
        (None, None) => Target::Name(name.clone().unwrap_or_default()),
    }
}

/// Every call in a template, with its path.
fn calls(template: &Template) -> Vec<(String, Target)> {
    let mut out = Vec::new();
    for (i, StepGroup(group)) in template.steps.iter().flatten().enumerate() {
        for step in group {
            out.push((
                format!(".steps[{i}].{}", step.name),
                target(&step.template, &step.template_ref, step.inline.as_deref()),
            ));
            for hook in step.hooks.values() {
                out.push((format!(".steps[{i}].{}", step.name), target(&hook.template, &hook.template_ref, None)));
            }
        }
    }
    for task in template.dag.iter().flat_map(|d| &d.tasks) {
        out.push((format!(".tasks.{}", task.name), target(&task.template, &task.template_ref, task.inline.as_deref())));
        for hook in task.hooks.values() {
            out.push((format!(".tasks.{}", task.name), target(&hook.template, &hook.template_ref, None)));
        }
    }
    out
}
