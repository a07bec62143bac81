//! `windlass test`: a workflow against its cases, without containers. Each case is one line when it passed; else what was
//! expected, what came, and where in the case file. Exit 1 when one failed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use windlass_engine::Config;
use windlass_engine::validate::Templates;
use windlass_lang::diagnostic::has_errors;
use windlass_lang::{Diagnostic, Sources};
use windlass_model::WorkflowSpec;
use windlass_rehearsal::{Case, Outcome, Subject};

use crate::cli::{Format, TestArgs};
use crate::manifest::{self, Manifests};
use crate::print;
use crate::start::Session;
use crate::verb::lint;

/// Templates that may be in a case's own files: lint does not ask for them, the run does.
struct Elsewhere;

impl Templates for Elsewhere {
    fn template(&self, _cluster: bool, _namespace: Option<&str>, _name: &str) -> Option<WorkflowSpec> {
        None
    }

    fn complete(&self) -> bool {
        false
    }
}

/// A case and what came of it.
struct Played {
    file: String,
    case: Case,
    outcome: Outcome,
}

pub(super) fn run(session: &Session, args: &TestArgs) -> Result<ExitCode> {
    let begun = std::time::Instant::now();
    let manifests = Manifests::read(std::slice::from_ref(&args.file))?;
    let mut sources = manifests.sources.clone();
    let files = if args.cases.is_empty() { vec![beside(&args.file)?] } else { manifest::find(&args.cases)? };
    let mut faults = lint::check(&manifests, &Elsewhere);
    // A case gives arguments too; where it does not, the run itself says what it lacks.
    faults.retain(|f| f.is_error() && f.code != "argo::argument-without-value");
    let objects: Vec<Value> = manifests.documents.iter().map(|d| d.value.clone()).collect();
    let mut played = Vec::new();
    if !has_errors(&faults) {
        for file in &files {
            play_file(args, file, &objects, &mut sources, &mut faults, &mut played)?;
        }
        if played.is_empty() && faults.is_empty() {
            bail!("no case has {:?} in its name", args.only.as_deref().unwrap_or_default());
        }
    }
    let well = !has_errors(&faults) && played.iter().all(|p| p.outcome.passed());
    if args.output == Some(Format::Json) {
        println!("{}", serde_json::to_string_pretty(&as_json(&played, &faults, &sources))?);
    } else {
        tell(session, args, &played, &faults, &sources);
        let failed = played.iter().filter(|p| !p.outcome.passed()).count();
        let ms = begun.elapsed().as_millis();
        println!("{} passed, {failed} failed, in {ms} ms", played.len() - failed);
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// `NAME.test.yaml` beside `NAME.yaml`.
fn beside(file: &Path) -> Result<PathBuf> {
    let Some(stem) = file.file_stem().filter(|_| file != Path::new("-")) else {
        bail!("name the files with the cases: windlass test FILE CASE…");
    };
    let found = file.with_file_name(format!("{}.test.yaml", stem.to_string_lossy()));
    if !found.is_file() {
        bail!(
            "there is no {}: write one (docs/testing-workflows.md), or name the files with the cases",
            found.display()
        );
    }
    Ok(found)
}

fn play_file(
    args: &TestArgs,
    file: &Path,
    objects: &[Value],
    sources: &mut Sources,
    faults: &mut Vec<Diagnostic>,
    played: &mut Vec<Played>,
) -> Result<()> {
    let name = file.display().to_string();
    let id = sources.add(name.clone(), manifest::text_of(file)?.1);
    let (cases, wrong) = windlass_rehearsal::read(sources, id);
    let broken = has_errors(&wrong);
    faults.extend(wrong);
    if broken {
        return Ok(());
    }
    let mut shared_told = false;
    for case in cases {
        if args.only.as_ref().is_some_and(|text| !case.name.value.contains(text.as_str())) {
            continue;
        }
        let mut with = Vec::new();
        for other in &case.with {
            let path = file.with_file_name(&other.value);
            let id = match manifest::text_of(&path) {
                Ok((name, text)) => sources.add(name, text),
                Err(error) => {
                    let fault = Diagnostic::error("case::unreadable", format!("{error:#}"));
                    faults.push(match other.span {
                        Some(span) => fault.at(span, "named here"),
                        None => fault,
                    });
                    continue;
                }
            };
            let loaded = windlass_lang::yaml::load(sources, id);
            faults.extend(loaded.diagnostics);
            with.extend(windlass_lang::yaml::flatten(loaded.documents).into_iter().map(|d| d.value));
        }
        let subject = Subject { manifest: objects, with: &with };
        if !std::mem::replace(&mut shared_told, true) {
            faults.extend(windlass_rehearsal::check_shared(&case, subject));
        }
        let outcome = windlass_rehearsal::rehearse(&case, subject, &Config::default());
        played.push(Played { file: name.clone(), case, outcome });
    }
    Ok(())
}

fn tell(session: &Session, args: &TestArgs, played: &[Played], faults: &[Diagnostic], sources: &Sources) {
    if !faults.is_empty() {
        print!("{}", windlass_lang::render(faults, sources, session.look.color));
    }
    for one in played {
        print!("{}", print::rehearsal::draw(&one.case.name.value, &one.outcome, sources, session.look, args.show));
    }
}

fn as_json(played: &[Played], faults: &[Diagnostic], sources: &Sources) -> Value {
    let passed = played.iter().filter(|p| p.outcome.passed()).count();
    let cases: Vec<Value> = played
        .iter()
        .map(|p| {
            let status = p.outcome.workflow.as_ref().and_then(|w| w.status.as_ref());
            json!({
                "file": p.file,
                "name": p.case.name.value,
                "passed": p.outcome.passed(),
                "seconds": p.outcome.took.as_secs_f64(),
                "pods": p.outcome.pods,
                "phase": status.map(|s| s.phase),
                "message": status.and_then(|s| s.message.clone()),
                "diagnostics": windlass_lang::to_json(&p.outcome.faults, sources),
            })
        })
        .collect();
    json!({
        "passed": passed,
        "failed": played.len() - passed,
        "cases": cases,
        "diagnostics": windlass_lang::to_json(faults, sources),
    })
}
