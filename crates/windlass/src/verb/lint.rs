//! `windlass lint`: every fault of every file, each with its place and a way out; exit 1 when there is an error.

use std::process::ExitCode;

use anyhow::Result;
use windlass_engine::validate::{NoTemplates, Templates, validate};
use windlass_lang::Diagnostic;
use windlass_lang::diagnostic::has_errors;
use windlass_lang::yaml::Document;

use crate::cli::{Format, LintArgs};
use crate::manifest::{self, Manifests};
use crate::start::Session;

pub(super) async fn run(session: &Session, args: LintArgs) -> Result<ExitCode> {
    let files = manifest::find(&args.paths)?;
    let manifests = Manifests::read(&files)?;
    let faults = check(&manifests, &NoTemplates);
    match args.output {
        Some(Format::Json) => {
            println!("{}", serde_json::to_string_pretty(&windlass_lang::to_json(&faults, &manifests.sources))?);
        }
        _ if manifests.documents.is_empty() && faults.is_empty() => {
            let paths: Vec<_> = args.paths.iter().map(|p| p.display().to_string()).collect();
            anyhow::bail!("no objects in {}: `lint` reads *.yaml, *.yml and *.json", paths.join(", "));
        }
        _ if faults.is_empty() => {
            let (files, objects) = (files.len(), manifests.documents.len());
            println!("✔ no linting errors found in {objects} objects of {files} files");
        }
        _ => print!("{}", windlass_lang::render(&faults, &manifests.sources, session.look.color)),
    }
    Ok(if has_errors(&faults) { ExitCode::from(1) } else { ExitCode::SUCCESS })
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
