//! Where templates are looked up: in the workflow itself, or in a stored template that one of its calls names. Fetches
//! nothing: what the run asked for is here already.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use windlass_model::Template;
use windlass_model::meta::Metadata;
use windlass_model::template::{StepGroup, TemplateRef};
use windlass_model::workflow::WorkflowSpec;

use super::fill::PLACEHOLDER;

/// The fetched resources, by scope (true: the cluster's) and name; nothing where there is none of that name.
pub(crate) type Fetched = BTreeMap<(bool, String), Option<WorkflowSpec>>;

/// A place to look names up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The workflow.
    Local,
    /// A WorkflowTemplate.
    Namespaced,
    /// A ClusterWorkflowTemplate.
    Cluster,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Namespaced => "namespaced",
            Self::Cluster => "cluster",
        }
    }
}

/// One place to look names up.
pub(super) struct Base<'a> {
    pub kind: Kind,
    name: String,
    spec: &'a WorkflowSpec,
    places: HashMap<&'a str, usize>,
    ready: HashMap<usize, Rc<Template>>,
}

impl<'a> Base<'a> {
    fn new(kind: Kind, name: &str, spec: &'a WorkflowSpec) -> Self {
        let mut places = HashMap::new();
        for (place, template) in spec.templates.iter().enumerate() {
            places.entry(template.name.as_str()).or_insert(place);
        }
        Self { kind, name: name.to_owned(), spec, places, ready: HashMap::new() }
    }

    /// How it is called where templates are told apart.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.kind.word(), self.name)
    }

    /// What its templates leave out.
    pub(super) fn defaults(&self) -> Option<&Template> {
        self.spec.template_defaults.as_deref()
    }

    fn find(&mut self, name: &str) -> Option<Rc<Template>> {
        let place = *self.places.get(name)?;
        let spec = self.spec;
        let made = self.ready.entry(place).or_insert_with(|| {
            let mut template = spec.templates[place].clone();
            if let Some(Metadata { labels, annotations }) = &spec.pod_metadata {
                let own = &mut template.metadata;
                for (all, own) in [(labels, &mut own.labels), (annotations, &mut own.annotations)] {
                    for (key, value) in all {
                        own.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                }
            }
            Rc::new(template)
        });
        Some(made.clone())
    }
}

/// What a step or a task runs, as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call<'c> {
    pub member: &'c str,
    pub template: &'c str,
    pub reference: Option<&'c TemplateRef>,
    pub inline: Option<&'c Template>,
}

/// Why a call has no template.
#[derive(Debug)]
pub(super) enum Missing {
    /// Nobody can know before the run.
    NotYet,
    /// It is wrong, in these words.
    Wrong(String),
}

/// All places.
pub(super) struct Bases<'a> {
    all: Vec<Base<'a>>,
    places: HashMap<(bool, String), usize>,
    fetched: &'a Fetched,
    /// The spec that came out of the workflow and the template it refers to as a whole.
    merged: Option<&'a WorkflowSpec>,
    /// What other resources gave: that is what it stays, and a workflow's own calls find it by name too.
    stored: HashMap<String, Rc<Template>>,
    by_name: HashMap<String, Rc<Template>>,
}

/// The workflow's own place.
pub(super) const LOCAL: usize = 0;

impl<'a> Bases<'a> {
    pub(super) fn new(
        name: &str,
        spec: &'a WorkflowSpec,
        merged: Option<&'a WorkflowSpec>,
        fetched: &'a Fetched,
    ) -> Self {
        Self {
            all: vec![Base::new(Kind::Local, name, spec)],
            places: HashMap::new(),
            fetched,
            merged,
            stored: HashMap::new(),
            by_name: HashMap::new(),
        }
    }

    pub(super) fn get(&self, base: usize) -> &Base<'a> {
        &self.all[base]
    }

    fn of_resource(&mut self, cluster: bool, name: &str) -> Option<usize> {
        let key = (cluster, name.to_owned());
        if let Some(place) = self.places.get(&key) {
            return Some(*place);
        }
        let fetched = self.fetched;
        let spec = fetched.get(&key)?.as_ref()?;
        let kind = if cluster { Kind::Cluster } else { Kind::Namespaced };
        self.all.push(Base::new(kind, name, spec));
        self.places.insert(key, self.all.len() - 1);
        Some(self.all.len() - 1)
    }

    fn named(&mut self, base: usize, name: &str) -> Option<Rc<Template>> {
        if let Some(found) = self.all[base].find(name) {
            return Some(found);
        }
        if base != LOCAL {
            return None;
        }
        let merged = self.merged.and_then(|spec| spec.templates.iter().find(|t| t.name == name));
        merged.map(|t| Rc::new(t.clone())).or_else(|| self.by_name.get(name).cloned())
    }

    /// Finds what a call runs, and the place where names in it are looked up.
    pub(super) fn resolve(&mut self, call: Call<'_>, base: usize) -> Result<(usize, Rc<Template>), Missing> {
        let wrong = |text: &str| Err(Missing::Wrong(text.to_owned()));
        if let Some(reference) = call.reference {
            if !call.template.is_empty() {
                return wrong("template name cannot be specified with templateRef");
            }
            if reference.name.is_empty() {
                return wrong("resource name is required");
            }
            if reference.template.is_empty() {
                return wrong("template name is required");
            }
            let simple = |text: &str| {
                super::text::tags(text, |tag| match tag.starts_with('=') {
                    true => Ok(()),
                    false => Err(String::new()),
                })
            };
            if simple(&reference.name).and_then(|()| simple(&reference.template)).is_err() {
                return Err(Missing::NotYet);
            }
        } else if !call.template.is_empty() && self.named(base, call.template).is_none() {
            return Err(Missing::Wrong(format!("template name '{}' undefined", call.template)));
        }
        let key = self.storing_key(call, base);
        let template = match key.as_ref().and_then(|key| self.stored.get(key)) {
            Some(stored) => stored.clone(),
            None => {
                let found = self.look_up(call, base)?;
                if let Some(key) = key {
                    self.store(key, &found);
                }
                self.store_inline(call, base, &found);
                found
            }
        };
        let base = match call.reference {
            None => base,
            Some(reference) => match self.of_resource(reference.cluster_scope, &reference.name) {
                Some(base) => base,
                None => {
                    let message = crate::templates::not_found(reference.cluster_scope, &reference.name);
                    return Err(Missing::Wrong(message));
                }
            },
        };
        match template.kind() {
            Some(_) => Ok((base, template)),
            None => Err(Missing::Wrong(format!("template '{}' type is unknown", template.name))),
        }
    }

    fn look_up(&mut self, call: Call<'_>, base: usize) -> Result<Rc<Template>, Missing> {
        if let Some(inline) = call.inline {
            return Ok(Rc::new(inline.clone()));
        }
        let Some(reference) = call.reference else {
            let found = Some(call.template).filter(|t| !t.is_empty()).and_then(|name| self.named(base, name));
            return found.ok_or_else(|| Missing::Wrong("failed to get a template".to_owned()));
        };
        let place = self.of_resource(reference.cluster_scope, &reference.name);
        let found = place.and_then(|place| self.all[place].find(&reference.template));
        found.ok_or_else(|| match reference.template.contains(PLACEHOLDER) {
            true => Missing::NotYet,
            false => {
                let TemplateRef { name, template, .. } = reference;
                Missing::Wrong(format!("template reference {name}.{template} not found"))
            }
        })
    }

    /// Under which name a template of another resource is kept.
    fn storing_key(&self, call: Call<'_>, base: usize) -> Option<String> {
        let here = &self.all[base];
        match call.reference {
            Some(reference) => {
                let kind = if reference.cluster_scope { Kind::Cluster } else { Kind::Namespaced };
                Some(format!("{}/{}/{}", kind.word(), reference.name, reference.template))
            }
            None if here.kind == Kind::Local => None,
            None if call.inline.is_some() => Some(format!("{}/inline/{}", here.key(), call.member)),
            None => Some(format!("{}/{}", here.key(), call.template)),
        }
    }

    fn store(&mut self, key: String, template: &Rc<Template>) {
        if let Entry::Vacant(place) = self.stored.entry(key) {
            place.insert(template.clone());
            self.by_name.entry(template.name.clone()).or_insert_with(|| template.clone());
        }
    }

    fn store_inline(&mut self, call: Call<'_>, base: usize, template: &Template) {
        let key = match call.reference {
            Some(reference) => {
                let kind = if reference.cluster_scope { Kind::Cluster } else { Kind::Namespaced };
                format!("{}/{}", kind.word(), reference.name)
            }
            None if self.all[base].kind == Kind::Local => return,
            None => self.all[base].key(),
        };
        let steps = template.steps.iter().flatten().flat_map(|StepGroup(group)| group);
        let steps = steps.map(|s| (&s.name, &s.template_ref, &s.inline));
        let tasks = template.dag.iter().flat_map(|dag| &dag.tasks);
        let tasks = tasks.map(|t| (&t.name, &t.template_ref, &t.inline));
        for (name, reference, inline) in steps.chain(tasks) {
            if let (None, Some(inline)) = (reference, inline) {
                self.store(format!("{key}/inline/{name}"), &Rc::new((**inline).clone()));
            }
        }
    }
}
