//! Lint: one manifest a case, its rendered findings as a snapshot; and the verdicts of the real `argo lint` where the
//! recordings are at hand.

use std::path::{Path, PathBuf};

use windlass_engine::validate::{NoTemplates, is_ours, validate};
use windlass_lang::{Diagnostic, Sources, diagnostic, render, to_json, yaml};

fn lint(path: &Path, name: &str) -> (Vec<Diagnostic>, Sources, bool) {
    let mut sources = Sources::default();
    let id = sources.add(name, std::fs::read_to_string(path).unwrap());
    let loaded = yaml::load(&sources, id);
    let documents = yaml::flatten(loaded.documents);
    let ours = documents.iter().any(|d| is_ours(d) && d.value["kind"] != "WorkflowEventBinding");
    let mut all = loaded.diagnostics;
    all.extend(validate(&documents, &sources, &NoTemplates));
    (all, sources, ours)
}

fn manifests(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    all.sort();
    all
}

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../lint");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for path in manifests(&folder) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (diagnostics, sources, _) = lint(&path, name);
        let stem = path.file_stem().unwrap().to_str().unwrap();
        // Every finding has a place and a code, and the JSON form holds as many.
        for found in &diagnostics {
            assert!(found.code.contains("::") && found.span().is_some(), "{name}: {found:?}");
        }
        assert_eq!(to_json(&diagnostics, &sources).as_array().unwrap().len(), diagnostics.len());
        settings.bind(|| insta::assert_snapshot!(stem, render(&diagnostics, &sources, false)));
    }
}

/// Fixes must mend: applying one takes its finding away.
#[test]
fn fixes_mend() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint/several-but-typed.yaml");
    let (diagnostics, sources, _) = lint(&path, "x.yaml");
    let text = sources.iter().next().unwrap().1.text.clone();
    let mut fixes: Vec<_> = diagnostics.iter().filter_map(|d| d.fix.clone()).collect();
    fixes.sort_by_key(|f| std::cmp::Reverse(f.span.start));
    assert!(fixes.len() >= 4, "{fixes:?}");
    let mut mended = text;
    for fix in &fixes {
        mended.replace_range(fix.span.range(), &fix.replacement);
    }
    let mut sources = Sources::default();
    let id = sources.add("x.yaml", mended);
    let documents = yaml::load(&sources, id).documents;
    let left = validate(&documents, &sources, &NoTemplates);
    assert_eq!(left.iter().filter(|d| d.fix.is_some()).count(), 0, "{}", render(&left, &sources, false));
}

/// What Argo refuses and Windlass takes on purpose: Argo 3's spellings, with a warning.
const TAKEN: [&str; 2] = ["e2e-testdata__convert__convert-legacy-cron", "e2e-testdata__convert__convert-legacy-sync"];

#[test]
fn verdicts_are_argos() {
    // Any folder of manifests, each with its verdict beside it.
    let own = std::env::var_os("WINDLASS_LINT_CORPUS").map(PathBuf::from);
    let folder = own.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/argo/lint"));
    if !folder.is_dir() {
        eprintln!("NOT RUN: no recordings at {}", folder.display());
        return;
    }
    let (mut right, mut wrong) = (0, Vec::new());
    for path in manifests(&folder) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let recorded = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let recorded: serde_json::Value = serde_json::from_str(&recorded).unwrap();
        let (diagnostics, _, ours) = lint(&path, &name);
        let refused = diagnostic::has_errors(&diagnostics) || !ours;
        let taken = TAKEN.contains(&name.as_str()) && diagnostics.iter().any(|d| d.code == "argo::legacy-field");
        if refused == (recorded["rc"] != 0) || (taken && !refused) {
            right += 1;
        } else {
            let word = if refused { "false alarm" } else { "missed" };
            let first = diagnostics.iter().find(|d| d.is_error()).map(|d| d.message.clone());
            wrong.push(format!("{word}: {name} {first:?} {}", recorded["stdout"]));
        }
    }
    eprintln!(
        "lint: {right} of {} verdicts are Argo's (two of them by the list of what is taken)",
        right + wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
