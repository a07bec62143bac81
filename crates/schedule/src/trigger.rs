//! An event and a manifest become submissions. Everything that decides whether and under which name something is
//! created stands here; event text becomes annotation values only and is never spliced into a manifest.

use serde_json::{Map, Value};
use windlass_lang::yaml::Document;
use windlass_lang::{Diagnostic, yaml};
use windlass_model::delivery::DeliveryEvent;

use crate::names;

/// Prefix of the eight annotations.
pub const PREFIX: &str = "k8s-webhook-handler.io/";
/// The https URL, which the eight do not have.
pub const CLONE_URL: &str = "windlass.dev/repo_clone_url";
/// The Delivery that an object comes from: tells our own object from somebody else's of the same name.
pub const DELIVERY: &str = "windlass.dev/delivery";

/// How a manifest may be submitted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where objects go. A manifest that names another namespace is refused.
    pub namespace: String,
    /// Kinds that may be created; `*` is any.
    pub kinds: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { namespace: "default".to_owned(), kinds: vec!["Workflow".to_owned()] }
    }
}

/// Where the manifest is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSource {
    /// The repository.
    pub url: String,
    /// The commit; nothing is the default branch.
    pub revision: Option<String>,
    /// The ref that holds the commit.
    pub reference: Option<String>,
}

/// The manifest's place for an event: the pushed commit, or the default branch for a deletion.
pub fn manifest_source(event: &DeliveryEvent) -> Result<ManifestSource, String> {
    let repo = &event.repo;
    let url = [&repo.clone_url, &repo.git_url, &repo.ssh_url].into_iter().find(|url| !url.is_empty());
    let Some(url) = url else {
        return Err("the event names no URL to read the repository from (repository.clone_url)".to_owned());
    };
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let revision = text(&event.revision);
    Ok(ManifestSource { url: url.clone(), reference: revision.as_ref().and_then(|_| text(&event.ref_)), revision })
}

/// The annotations that an event puts on every object, in the order of their documentation. Empty values are there, so
/// that `{{workflow.annotations…}}` resolves to nothing instead of staying as it is.
pub fn annotations(event: &DeliveryEvent, delivery: &str) -> Vec<(String, String)> {
    let own = [
        ("ref", &event.ref_),
        ("revision", &event.revision),
        ("before", &event.before),
        ("repo_name", &event.repo.full_name),
        ("repo_url", &event.repo.git_url),
        ("repo_ssh", &event.repo.ssh_url),
        ("event_type", &event.event),
        ("event_action", &event.action),
    ];
    let mut all: Vec<(String, String)> =
        own.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value.clone())).collect();
    all.push((CLONE_URL.to_owned(), event.repo.clone_url.clone()));
    all.push((DELIVERY.to_owned(), delivery.to_owned()));
    all
}

/// One object to create.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// `argoproj.io/v1alpha1`, …
    pub api_version: String,
    /// `Workflow`, …
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name: the manifest's own, or one that follows from the delivery.
    pub name: String,
    /// The whole object.
    pub object: Value,
}

/// What to do about an event.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// Objects in the manifest's order.
    pub objects: Vec<Planned>,
    /// Faults; where one is an error nothing is to be created.
    pub diagnostics: Vec<Diagnostic>,
}

/// Decides what a delivery submits. `delivery` is the Delivery object's name.
pub fn decide(event: &DeliveryEvent, delivery: &str, documents: Vec<Document>, policy: &Policy) -> Submission {
    let mut out = Submission::default();
    let annotations = annotations(event, delivery);
    let documents = yaml::flatten(documents);
    if documents.is_empty() {
        out.diagnostics
            .push(Diagnostic::error("trigger::empty", "the manifest holds no object").help("write a Workflow into it"));
    }
    for (index, document) in documents.into_iter().enumerate() {
        match plan(&document, index, delivery, &annotations, policy) {
            Ok(planned) => {
                if let Some(other) = out.objects.iter().find(|o| (&o.kind, &o.name) == (&planned.kind, &planned.name)) {
                    let message = format!("two objects of kind {} are named {}", other.kind, other.name);
                    out.diagnostics.push(at(
                        &document,
                        "/metadata/name",
                        Diagnostic::error("trigger::twice", message),
                        "again here",
                    ));
                } else {
                    out.objects.push(planned);
                }
            }
            Err(diagnostics) => out.diagnostics.extend(diagnostics),
        }
    }
    if windlass_lang::diagnostic::has_errors(&out.diagnostics) {
        out.objects.clear();
    }
    out
}

fn at(document: &Document, pointer: &str, diagnostic: Diagnostic, text: &str) -> Diagnostic {
    match document.value_span(pointer) {
        Some(span) => diagnostic.at(span, text),
        None => diagnostic,
    }
}

fn plan(
    document: &Document,
    index: usize,
    delivery: &str,
    annotations: &[(String, String)],
    policy: &Policy,
) -> Result<Planned, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let text = |pointer: &str| document.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    if !document.value.is_object() || api_version.is_empty() || kind.is_empty() {
        let fault = Diagnostic::error("trigger::no-kind", "this document is not a Kubernetes object")
            .help("every document needs apiVersion, kind and metadata");
        return Err(vec![at(document, "", fault, "no apiVersion or kind")]);
    }
    if !policy.kinds.iter().any(|allowed| allowed == "*" || *allowed == kind) {
        let message = format!("a delivery may not create objects of kind {kind}");
        let fault = Diagnostic::error("trigger::kind", message)
            .help(format!("allowed here: {}; let the workflow create other objects", policy.kinds.join(", ")));
        faults.push(at(document, "/kind", fault, "not allowed"));
    }
    let namespace = text("/metadata/namespace");
    if !namespace.is_empty() && namespace != policy.namespace {
        let message = format!(
            "the manifest asks for namespace {namespace}, but deliveries are submitted to {}",
            policy.namespace
        );
        let fault = Diagnostic::error("trigger::namespace", message).help("leave metadata.namespace out");
        faults.push(at(document, "/metadata/namespace", fault, "another namespace"));
    }
    let name = match (text("/metadata/name"), text("/metadata/generateName")) {
        (name, _) if !name.is_empty() => name,
        (_, prefix) if !prefix.is_empty() => names::submitted(&prefix, delivery, index),
        _ => {
            let fault =
                Diagnostic::error("trigger::no-name", "the object has neither metadata.name nor metadata.generateName")
                    .help("give it a generateName such as `ci-`: every delivery makes a new object");
            faults.push(at(document, "/metadata", fault, "no name"));
            String::new()
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut object = document.value.clone();
    let metadata = entry(&mut object, "metadata");
    metadata.remove("generateName");
    metadata.insert("name".to_owned(), Value::String(name.clone()));
    metadata.insert("namespace".to_owned(), Value::String(policy.namespace.clone()));
    let own = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    if !own.is_object() {
        *own = Value::Object(Map::new());
    }
    if let Value::Object(own) = own {
        own.extend(annotations.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))));
    }
    Ok(Planned { api_version, kind, namespace: policy.namespace.clone(), name, object })
}

fn entry<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object[key].is_object() {
        object[key] = Value::Object(Map::new());
    }
    object[key].as_object_mut().expect("invariant: made an object above")
}
