//! The project's own cases: one YAML file each, with the rows of the research table that it covers. Reads files only.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One case.
#[derive(Clone, Debug)]
pub struct Own {
    /// The file's name.
    pub name: String,
    /// Ids of the rows that it covers.
    pub covers: Vec<String>,
    /// The workflow.
    pub workflow: Value,
    /// Objects that are there before.
    pub objects: Vec<Value>,
    /// How the pods end, by node name.
    pub pods: Value,
    /// Why there is no recording of the real controller.
    pub unrecorded: Option<String>,
}

/// All of them.
pub fn all() -> std::io::Result<Vec<Own>> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let loaded = windlass_lang::yaml::load_str(&std::fs::read_to_string(&path)?);
        let Some(case) = loaded.documents.into_iter().next() else { continue };
        let case = case.value;
        let texts =
            |v: &Value| v.as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect();
        out.push(Own {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            covers: texts(&case["covers"]),
            workflow: case["workflow"].clone(),
            objects: case["objects"].as_array().cloned().unwrap_or_default(),
            pods: case["pods"].clone(),
            unrecorded: case["unrecorded"].as_str().map(str::to_owned),
        });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}
