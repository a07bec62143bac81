//! Lint: everything that can be known to be wrong with a manifest before it runs, each fault with its place.
//!
//! Pure: documents in, diagnostics out; templates of other files are asked for through [`Templates`]. One rule a file.
//! A manifest that Argo accepts must not get an error here; what Windlass does not run yet is refused by name
//! ([`unsupported`]).

mod arguments;
mod bindings;
mod calls;
mod conditions;
mod containers;
mod cron;
mod garbage;
pub(crate) mod graph;
mod injection;
mod kinds;
mod legacy;
mod locks;
mod loops;
mod memoize;
mod names;
mod object;
mod outputs;
mod own_outputs;
mod plugins;
mod pod_patch;
mod pod_types;
mod references;
mod refused;
mod report;
mod requests;
mod schema;
mod scope;
mod spec;
pub mod unsupported;
mod values;

use windlass_lang::yaml::Document;
use windlass_lang::{Diagnostic, Severity, Sources};
use windlass_model::WorkflowSpec;

pub(crate) use pod_patch::fault as pod_patch_fault;

use object::{Known, Object};
use report::Report;

/// Where templates of other resources are found.
pub trait Templates {
    /// The spec of a WorkflowTemplate (`cluster` false) or ClusterWorkflowTemplate, or nothing when there is none.
    fn template(&self, cluster: bool, namespace: Option<&str>, name: &str) -> Option<WorkflowSpec>;

    /// Whether a template that is not found is a fault. An offline look at one file may say no.
    fn complete(&self) -> bool {
        true
    }
}

/// No templates but those in the documents themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTemplates;

impl Templates for NoTemplates {
    fn template(&self, _cluster: bool, _namespace: Option<&str>, _name: &str) -> Option<WorkflowSpec> {
        None
    }
}

/// The kinds that are looked at; others are passed over.
pub const KINDS: [&str; 5] =
    ["Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow", "WorkflowEventBinding"];

/// Validates every document of Argo's kinds. Documents know each other's templates; `others` gives further ones.
pub fn validate(documents: &[Document], sources: &Sources, others: &dyn Templates) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let mut objects = Vec::new();
    for document in documents {
        let mut report = Report::new(document, sources);
        if let Some(object) = schema::check(document, &mut report) {
            objects.push(object);
        }
        out.extend(report.finish());
    }
    let has_error = |found: &[Diagnostic]| found.iter().any(|d| d.severity == Severity::Error);
    let mut is_faulty = has_error(&out);
    let known = Known::new(&objects, others);
    for object in &objects {
        let mut report = Report::new(object.document, sources);
        check(object, &known, &mut report);
        let found = report.finish();
        is_faulty |= has_error(&found);
        out.extend(found);
        if !is_faulty {
            let mut report = Report::new(object.document, sources);
            refused::check(object, &known, &mut report);
            out.extend(report.finish());
        }
    }
    out.sort_by_key(|d| d.span().map(|s| (s.source, s.start)));
    out
}

/// Whether a document is one of [`KINDS`].
pub fn is_ours(document: &Document) -> bool {
    let text = |key| document.value.get(key).and_then(|v| v.as_str()).unwrap_or("");
    text("apiVersion").starts_with("argoproj.io/") && KINDS.contains(&text("kind"))
}

fn check(object: &Object<'_>, known: &Known<'_>, report: &mut Report<'_>) {
    names::check(object, report);
    cron::check(object, report);
    bindings::check(object, known, report);
    let Some(spec) = &object.spec else { return };
    spec::check(object, spec, known, report);
    garbage::check_spec(object, spec, report);
    pod_patch::check_spec(object, spec, report);
    for template in object.templates() {
        kinds::check(object, &template, report);
        containers::check(object, &template, report);
        outputs::check(&template, report);
        calls::check(object, &template, known, report);
        own_outputs::check(&template, report);
        arguments::check(object, &template, known, report);
        loops::check(&template, report);
        conditions::check(&template, report);
        graph::check(object, &template, report);
        requests::check(&template, report);
        references::check(object, &template, known, report);
        injection::check(&template, report);
        memoize::check(&template, report);
        garbage::check(&template, report);
        pod_patch::check(&template, report);
    }
    memoize::check_whole(object, report);
    legacy::check(object, report);
    locks::check(object, report);
    plugins::check(object, report);
    unsupported::check(object, report);
}
