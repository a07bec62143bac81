//! The articles that Windlass was asked for: every manifest of `conformance/seeds` is the article's own block but for the
//! repairs that its table lists, and lints without an error.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use windlass_engine::validate::{NoTemplates, validate};
use windlass_lang::diagnostic::Severity;
use windlass_lang::{Sources, render, yaml};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    file: String,
    articles: Vec<String>,
    parts: Vec<Part>,
    #[serde(default)]
    repairs: Vec<Repair>,
    #[serde(default)]
    with: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    block: usize,
    lines: Option<(usize, usize)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repair {
    from: String,
    to: String,
    /// Read by people.
    why: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/seeds")
}

fn table() -> Vec<Entry> {
    let mut sources = Sources::default();
    let id = sources.add("table.yaml", std::fs::read_to_string(folder().join("table.yaml")).unwrap());
    let loaded = yaml::load(&sources, id);
    assert!(loaded.diagnostics.is_empty(), "{}", render(&loaded.diagnostics, &sources, false));
    let table: Vec<Entry> = serde_json::from_value(loaded.documents[0].value.clone()).unwrap();
    assert!(table.iter().flat_map(|e| &e.repairs).all(|r| !r.why.is_empty()));
    table
}

/// The code blocks of an article: between fences where it has any, else runs of lines that begin with four spaces.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let mut out = Vec::new();
    let mut current: Vec<&str> = Vec::new();
    if text.contains("```") {
        let mut inside = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                if inside {
                    out.push(std::mem::take(&mut current));
                }
                inside = !inside;
            } else if inside {
                current.push(line);
            }
        }
        return out;
    }
    for line in text.lines().chain([""; 1]).chain(["end"; 1]) {
        if line.starts_with("    ") || (line.trim().is_empty() && !current.is_empty()) {
            current.push(line);
        } else if !current.is_empty() {
            while current.last().is_some_and(|l| l.trim().is_empty()) {
                current.pop();
            }
            let block = std::mem::take(&mut current);
            // One or two lines that stand in by chance are not a manifest.
            if block.len() > 3 {
                out.push(block);
            }
        }
    }
    out
}

#[test]
fn every_manifest_is_in_the_table() {
    let listed: Vec<String> = table().into_iter().map(|e| e.file).collect();
    for article in ["000", "002", "003"] {
        for entry in std::fs::read_dir(folder().join(article)).unwrap() {
            let name = format!("{article}/{}", entry.unwrap().file_name().to_str().unwrap());
            assert!(listed.contains(&name), "{name} is not in table.yaml");
        }
    }
}

#[test]
fn manifests_are_the_articles_own() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/seeds");
    if !seeds.is_dir() {
        eprintln!("NOT RUN: no articles at {}", seeds.display());
        return;
    }
    let article = |number: &str| {
        let path = std::fs::read_dir(&seeds)
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with(&format!("{number}_")))
            .unwrap();
        std::fs::read_to_string(path).unwrap()
    };
    for entry in table() {
        let file = std::fs::read_to_string(folder().join(&entry.file)).unwrap();
        let ours: Vec<&str> = file.lines().map(str::trim_start).collect();
        for number in &entry.articles {
            let text = article(number);
            let blocks = blocks(&text);
            let mut theirs = Vec::new();
            for part in &entry.parts {
                let (first, last) = part.lines.unwrap_or((1, blocks[part.block].len()));
                theirs.extend(blocks[part.block][first - 1..last].iter().map(|l| l.trim_start().to_owned()));
            }
            for repair in &entry.repairs {
                let mut used = false;
                for line in &mut theirs {
                    if line.contains(&repair.from) {
                        *line = line.replace(&repair.from, &repair.to);
                        used = true;
                    }
                }
                assert!(used, "{}: nothing to repair for {:?} in article {number}", entry.file, repair.from);
            }
            assert_eq!(ours, theirs, "{} is not article {number}'s block", entry.file);
        }
    }
}

#[test]
fn all_lint_without_errors() {
    let mut linted = 0;
    for entry in table() {
        let mut sources = Sources::default();
        let mut documents = Vec::new();
        let mut found = Vec::new();
        for name in std::iter::once(&entry.file).chain(&entry.with) {
            let id = sources.add(name.clone(), std::fs::read_to_string(folder().join(name)).unwrap());
            let loaded = yaml::load(&sources, id);
            found.extend(loaded.diagnostics);
            documents.extend(yaml::flatten(loaded.documents));
        }
        found.extend(validate(&documents, &sources, &NoTemplates));
        let errors: Vec<_> = found.into_iter().filter(|d| d.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{}:\n{}", entry.file, render(&errors, &sources, false));
        linted += documents.len();
    }
    assert!(linted >= 17, "{linted}");
}

/// The recordings of the real Argo tell the id of every node: ours is the same for the same names.
#[test]
fn nodes_have_argos_ids() {
    #[derive(Deserialize)]
    struct Recorded {
        workflow: String,
        nodes: std::collections::BTreeMap<String, serde_json::Value>,
    }
    let files = std::fs::read_dir(folder().join("tables")).unwrap().map(|e| e.unwrap().path());
    let is_table = |p: &PathBuf| !p.ends_with("rules.yaml") && !p.ends_with("differences.yaml");
    let (mut tables, mut ids) = (0, 0);
    for path in files.filter(is_table) {
        let mut sources = Sources::default();
        let id = sources.add(path.display().to_string(), std::fs::read_to_string(&path).unwrap());
        let loaded = yaml::load(&sources, id);
        assert!(loaded.diagnostics.is_empty(), "{}", render(&loaded.diagnostics, &sources, false));
        let recorded: Recorded = serde_json::from_value(loaded.documents[0].value.clone()).unwrap();
        for (name, node) in &recorded.nodes {
            let name = name.replace('@', &recorded.workflow);
            assert_eq!(node["id"], windlass_engine::node_id(&recorded.workflow, &name), "{}: {name}", path.display());
            ids += 1;
        }
        tables += 1;
    }
    assert_eq!((tables, ids), (10, 30), "every manifest that runs has its table");
}
