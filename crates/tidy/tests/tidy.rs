//! The house rules that a compiler does not check: arrows between the crates, licences, crates in two versions,
//! forbidden names. It reads `cargo metadata` and the files that git tracks, and changes nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may import whom. A crate that is not in the right-hand list of its row is a wall.
/// Floors 1 to 3 import only floors below; nothing imports `windlass`.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("lang", &[]),
    ("engine", &["model", "lang"]),
    ("schedule", &["model", "lang"]),
    ("rehearsal", &["model", "lang", "engine", "schedule"]),
    ("oci", &[]),
    ("sandbox", &[]),
    ("artifacts", &[]),
    ("archive", &["model"]),
    ("build", &["oci", "sandbox", "lang"]),
    ("apiserver", &["model"]),
    ("executor", &["model", "lang", "artifacts"]),
    ("node", &["model", "sandbox", "oci", "artifacts", "executor", "build"]),
    ("workloads", &["model", "schedule"]),
    ("control", &["model", "lang", "engine", "schedule", "artifacts", "archive"]),
    ("server", &["model", "lang", "schedule", "archive"]),
    // The harness of recorded and own cases: it sees the loops and a client, and no API server.
    ("conformance-argo", &["model", "lang", "engine", "control"]),
];

/// Crates that decide and therefore have no clock, no files, no network, no cluster in their dependency trees.
const PURE: &[&str] = &["model", "lang", "engine", "schedule", "rehearsal"];
const IMPURE: &[&str] = &["kube", "k8s-openapi", "tokio", "hyper", "reqwest", "rusqlite", "rustix", "gix"];

const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
    "bzip2-1.0.6",
];

/// Crates that the tree holds in two versions, each because of a dependency that we do not own. Shrink this list.
const DUPLICATES: &[&str] = &[
    "base64",
    "either",
    "fallible-iterator",
    "foldhash",
    "getrandom",
    "hashbrown",
    "num-bigint",
    "syn",
    "thiserror",
    "thiserror-impl",
    "tower-http",
];

const FORBIDDEN_MODULES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn metadata() -> Value {
    let out = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // Linux only: what other systems would pull in is neither built nor shipped, nor downloaded here.
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn strings<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    v[key].as_array().unwrap().iter()
}

/// Normal and build dependencies of each package id (tests may reach further than the product does).
fn edges(meta: &Value) -> BTreeMap<String, Vec<String>> {
    strings(&meta["resolve"], "nodes")
        .map(|n| {
            let deps = strings(n, "deps")
                .filter(|d| strings(d, "dep_kinds").any(|k| k["kind"].as_str() != Some("dev")))
                .map(|d| d["pkg"].as_str().unwrap().to_owned())
                .collect();
            (n["id"].as_str().unwrap().to_owned(), deps)
        })
        .collect()
}

fn names(meta: &Value) -> BTreeMap<String, String> {
    strings(meta, "packages")
        .map(|p| (p["id"].as_str().unwrap().to_owned(), p["name"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn arrows_point_down() {
    let meta = metadata();
    let (edges, names) = (edges(&meta), names(&meta));
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut faults = Vec::new();
    for id in strings(&meta, "workspace_members").map(|v| v.as_str().unwrap()) {
        let name = &names[id];
        if name == "windlass" || name == "tidy" {
            continue;
        }
        let room = name.strip_prefix("windlass-").unwrap_or(name);
        let Some(may) = allowed.get(room) else {
            faults.push(format!("{name} is not in the table of arrows: say what it may import"));
            continue;
        };
        for to in edges[id].iter().map(|d| &names[d]).filter(|n| n.starts_with("windlass")) {
            let to_room = to.strip_prefix("windlass-").unwrap_or("windlass");
            if !may.contains(&to_room) {
                faults.push(format!("{room} -> {to_room} is not an arrow of this house"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn pure_crates_stay_pure() {
    let meta = metadata();
    let (edges, names) = (edges(&meta), names(&meta));
    let by_name: BTreeMap<&str, &str> = names.iter().map(|(id, n)| (n.as_str(), id.as_str())).collect();
    let mut faults = Vec::new();
    for room in PURE {
        let start = by_name[format!("windlass-{room}").as_str()];
        let (mut seen, mut todo) = (BTreeSet::new(), vec![start.to_owned()]);
        while let Some(id) = todo.pop() {
            if seen.insert(id.clone()) {
                todo.extend(edges[&id].iter().cloned());
            }
        }
        for bad in seen.iter().map(|id| names[id].as_str()).filter(|n| IMPURE.contains(n)) {
            faults.push(format!("{room} reaches {bad}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn licences_are_allowed() {
    let meta = metadata();
    let mut faults = Vec::new();
    for p in strings(&meta, "packages") {
        let name = p["name"].as_str().unwrap();
        let Some(text) = p["license"].as_str() else {
            faults.push(format!("{name} names no licence"));
            continue;
        };
        // "A/B" is the old spelling of "A OR B"; every side of an AND must be allowed, one side of an OR suffices.
        let text = text.replace('/', " OR ").replace(['(', ')'], "");
        let fine = text.split(" OR ").any(|side| side.split(" AND ").all(|licence| LICENCES.contains(&licence.trim())))
            || text.split(" AND ").all(|part| part.split(" OR ").any(|l| LICENCES.contains(&l.trim())));
        if !fine {
            faults.push(format!("{name}: {text}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_new_duplicate_crates() {
    // `cargo tree`, because it knows which optional dependencies are switched on; metadata lists all of them.
    let out = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--locked", "-p", "windlass", "-e", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "cargo tree: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    // `name v1.2.3 (proc-macro) (*)`
    let packages: BTreeSet<(&str, &str)> =
        text.lines().filter_map(|l| l.split_once(' ')).map(|(n, v)| (n, v.split(' ').next().unwrap())).collect();
    assert!(packages.len() > 50, "cargo tree printed only {} packages", packages.len());
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in &packages {
        *count.entry(name).or_default() += 1;
    }
    let twice: Vec<_> = count
        .into_iter()
        .filter(|(n, c)| *c > 1 && !DUPLICATES.contains(n))
        .map(|(n, c)| format!("{n} is there in {c} versions"))
        .collect();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

fn tracked() -> Vec<PathBuf> {
    let out = Command::new("git").arg("ls-files").current_dir(root()).output().unwrap();
    assert!(out.status.success(), "git ls-files: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(PathBuf::from).collect()
}

#[test]
fn names_say_what_they_hold() {
    let faults: Vec<_> = tracked()
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .filter(|p| p.iter().any(|part| FORBIDDEN_MODULES.contains(&part.to_str().unwrap().trim_end_matches(".rs"))))
        .map(|p| format!("{}: a name that says less than it could", p.display()))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nothing_names_a_workplace_or_a_package_host() {
    // Spelled in halves, so that this file does not find itself.
    let words = [
        ["/wo", "rk/"].concat(),
        [".lib", "rary/"].concat(),
        ["deb.deb", "ian.org"].concat(),
        ["index.cra", "tes.io"].concat(),
        ["static.cra", "tes.io"].concat(),
        ["registry.npm", "js"].concat(),
        ["proxy.go", "lang"].concat(),
        ["files.python", "hosted"].concat(),
    ];
    let mut faults = Vec::new();
    for p in tracked() {
        let Ok(text) = std::fs::read_to_string(root().join(&p)) else { continue };
        for (n, line) in text.lines().enumerate() {
            if let Some(w) = words.iter().find(|w| line.contains(w.as_str())) {
                // The lock file names the package registry itself; a URL in it is cargo's, not ours.
                if p.ends_with("Cargo.lock") {
                    continue;
                }
                faults.push(format!("{}:{}: {w}", p.display(), n + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_module_opens_with_a_paragraph() {
    let faults: Vec<_> = tracked()
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs") && p.iter().any(|c| c == "src"))
        .filter(|p| {
            let text = std::fs::read_to_string(root().join(p)).unwrap_or_default();
            !text.trim_start().starts_with("//!")
        })
        .map(|p| format!("{}: opens without a //! paragraph", p.display()))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_lives_in_sandbox_only() {
    let faults: Vec<_> = tracked()
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs") && !p.starts_with("crates/sandbox"))
        .filter(|p| {
            let text = std::fs::read_to_string(root().join(p)).unwrap_or_default();
            let allow = ["allow(uns", "afe_code)"].concat();
            text.contains(&allow)
        })
        .map(|p| format!("{}: allows unsafe code", p.display()))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
