//! `windlass lint`: every fault of every file, each with its place and a way out; exit 1 when there is an error.

use std::process::ExitCode;

use anyhow::Result;
use windlass_engine::validate::{Templates, is_ours, validate};
use windlass_lang::diagnostic::has_errors;
use windlass_lang::yaml::Document;
use windlass_lang::{Diagnostic, Severity};

use crate::cli::{LintArgs, LintFormat};
use crate::manifest::{self, Manifests};
use crate::start::Session;
use crate::templates::Stored;

pub(super) async fn run(session: &Session, args: LintArgs) -> Result<ExitCode> {
    let files = manifest::find(&args.paths)?;
    let manifests = Manifests::read(&files)?;
    let others = match args.offline {
        true => Stored::default(),
        false => Stored::called_by(&manifests, &session.global).await?,
    };
    let mut faults = check(&manifests, &others);
    let wanted = kinds(&args.kinds)?;
    if let Some(wanted) = &wanted {
        let others: Vec<_> = manifests.documents.iter().filter(|d| !is_of(wanted, d)).collect();
        // A fault belongs to the object around it.
        faults.retain(|f| !others.iter().any(|d| surrounds(d, f)));
    }
    if !args.strict {
        for fault in faults.iter_mut().filter(|f| f.code == "argo::unknown-field") {
            fault.severity = Severity::Warning;
        }
    }
    let looked_at = |d: &&Document| is_ours(d) && wanted.as_ref().is_none_or(|w| is_of(w, d));
    let objects = manifests.documents.iter().filter(looked_at).count();
    match args.output {
        Some(LintFormat::Json) => {
            println!("{}", serde_json::to_string_pretty(&windlass_lang::to_json(&faults, &manifests.sources))?);
        }
        _ if objects == 0 && faults.is_empty() => {
            let paths: Vec<_> = args.paths.iter().map(|p| p.display().to_string()).collect();
            let kinds = if wanted.is_some() { "of these kinds" } else { "of Argo's kinds" };
            anyhow::bail!("nothing to lint: no object {kinds} in {} (*.yaml, *.yml, *.json)", paths.join(", "));
        }
        _ if faults.is_empty() => println!("✔ no linting errors found in {objects} objects of {} files", files.len()),
        Some(LintFormat::Simple) => faults.iter().for_each(|f| println!("{}", simple(f, &manifests))),
        _ => print!("{}", windlass_lang::render(&faults, &manifests.sources, session.look.color)),
    }
    Ok(if has_errors(&faults) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// `argo`'s words for kinds, as objects have them; nothing where all are meant.
fn kinds(words: &[String]) -> Result<Option<Vec<&'static str>>> {
    let mut out = Vec::new();
    for word in words {
        let plain = word.to_lowercase();
        out.push(match plain.trim_end_matches('s') {
            "all" => return Ok(None),
            "workflow" | "wf" => "Workflow",
            "workflowtemplate" | "wftmpl" => "WorkflowTemplate",
            "cronworkflow" | "cronwf" | "cwf" => "CronWorkflow",
            "clusterworkflowtemplate" | "cwft" => "ClusterWorkflowTemplate",
            "workfloweventbinding" | "wfeb" => "WorkflowEventBinding",
            _ => anyhow::bail!(
                "--kinds {word}: known are workflows, workflowtemplates, cronworkflows, clusterworkflowtemplates, \
                 workfloweventbindings, all"
            ),
        });
    }
    Ok(Some(out))
}

fn is_of(kinds: &[&str], document: &Document) -> bool {
    document.value["kind"].as_str().is_some_and(|k| kinds.contains(&k))
}

fn surrounds(document: &Document, fault: &Diagnostic) -> bool {
    let (Some(around), Some(at)) = (document.value_span(""), fault.span()) else { return false };
    around.source == at.source && around.start <= at.start && at.start < around.end
}

/// One fault in one line.
fn simple(fault: &Diagnostic, manifests: &Manifests) -> String {
    let place = fault.span().and_then(|span| {
        let source = manifests.sources.get(span.source)?;
        let at = source.position(span.start);
        Some(format!("{}:{}:{}: ", source.name, at.line, at.column))
    });
    let help = fault.help.as_deref().map(|h| format!(" ({})", h.replace('\n', " "))).unwrap_or_default();
    format!("{}{}[{}]: {}{help}", place.unwrap_or_default(), fault.severity.as_str(), fault.code, fault.message)
}

/// What is wrong with the text and with what it says.
pub(super) fn check(manifests: &Manifests, others: &dyn Templates) -> Vec<windlass_lang::Diagnostic> {
    let mut faults = manifests.faults.clone();
    faults.extend(manifests.documents.iter().filter_map(no_object));
    faults.extend(validate(&manifests.documents, &manifests.sources, others));
    faults
}

/// Stops a verb whose files have errors, after all of them have been shown; warnings are shown and pass. `others` are
/// templates that are not in the files.
pub(super) fn refuse_faulty(session: &Session, manifests: &Manifests, others: &dyn Templates) -> Result<bool> {
    let faults = check(manifests, others);
    if !faults.is_empty() {
        eprint!("{}", windlass_lang::render(&faults, &manifests.sources, session.look.color));
    }
    Ok(has_errors(&faults))
}

/// What every object of Kubernetes has; without it nobody can tell what a document is.
fn no_object(document: &Document) -> Option<Diagnostic> {
    let message = if !document.value.is_object() {
        "this is not an object: a map with `apiVersion`, `kind` and `metadata`".to_owned()
    } else {
        let missing: Vec<_> = ["apiVersion", "kind"].into_iter().filter(|k| !document.value[*k].is_string()).collect();
        if missing.is_empty() {
            return None;
        }
        format!("this object has no `{}`", missing.join("` and no `"))
    };
    let fault = Diagnostic::error("manifest::no-object", message);
    Some(match document.value_span("") {
        Some(span) => fault.at(span, ""),
        None => fault,
    })
}
