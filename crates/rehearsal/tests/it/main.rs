//! One pair of files a case: `NAME.yaml` is the manifest, `NAME.test.yaml` its case file; what is told is a snapshot.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use windlass_engine::Config;
use windlass_lang::{Sources, yaml};
use windlass_rehearsal::{Subject, check_shared, read, rehearse};

fn objects(sources: &mut Sources, path: &Path) -> Vec<Value> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let id = sources.add(name, std::fs::read_to_string(path).unwrap());
    yaml::load(sources, id).documents.into_iter().map(|d| d.value).collect()
}

fn told(manifest: &Path, cases: &Path) -> String {
    let mut sources = Sources::default();
    let manifest = objects(&mut sources, manifest);
    let id = sources.add(cases.file_name().unwrap().to_string_lossy(), std::fs::read_to_string(cases).unwrap());
    let (all, faults) = read(&sources, id);
    let mut out = windlass_lang::render(&faults, &sources, false);
    for (i, case) in all.iter().enumerate() {
        let with: Vec<Value> =
            case.with.iter().flat_map(|f| objects(&mut sources, &cases.with_file_name(&f.value))).collect();
        let subject = Subject { manifest: &manifest, with: &with };
        if i == 0 {
            out.push_str(&windlass_lang::render(&check_shared(case, subject), &sources, false));
        }
        let outcome = rehearse(case, subject, &Config::default());
        let word = if outcome.passed() { "passed" } else { "failed" };
        writeln!(out, "=== {} {word}: {:#}, {} pods", case.name.value, outcome.took, outcome.pods).unwrap();
        out.push_str(&windlass_lang::render(&outcome.faults, &sources, false));
    }
    out
}

#[test]
fn cases_come_out_as_their_snapshots() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.to_string_lossy().ends_with(".test.yaml"));
    files.sort();
    assert!(!files.is_empty());
    for cases in files {
        let name = cases.file_name().unwrap().to_string_lossy().replace(".test.yaml", "");
        let out = told(&folder.join(format!("{name}.yaml")), &cases);
        insta::with_settings!({snapshot_path => "../cases", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, out);
        });
    }
}
