//! The newer spelling by edits: one YAML file a case, and the text that came of it as a snapshot. What the edited text
//! says is what the conversion means, value by value.

use std::path::Path;

use windlass_engine::convert::{convert, converted_value};
use windlass_lang::{Sources, edit, yaml};

#[test]
fn texts_come_out_as_their_snapshots() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut sources = Sources::default();
        let id = sources.add(file.file_name().unwrap().to_string_lossy(), text.clone());
        let loaded = yaml::load(&sources, id);
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        let all: Vec<_> = loaded.documents.iter().map(|d| convert(d, &sources)).collect();
        let edits = all.iter().flat_map(|c| &c.changes).flat_map(|c| &c.edits);
        let new = edit::apply(&text, edits).expect("edits fit together");
        let mut out = new.clone();
        for change in all.iter().flat_map(|c| &c.changes) {
            let at = sources.get(id).unwrap().position(change.span.start);
            out.push_str(&format!("== {}:{} {}\n", at.line, at.column, change.what));
        }
        for fault in all.iter().flat_map(|c| &c.by_hand) {
            out.push_str(&windlass_lang::render(std::slice::from_ref(fault), &sources, false));
        }
        let again = yaml::load_str(&new);
        assert!(again.diagnostics.is_empty(), "{new}\n{:?}", again.diagnostics);
        let values: Vec<_> = again.documents.iter().map(|d| d.value.clone()).collect();
        let wanted: Vec<_> = loaded.documents.iter().zip(&all).map(|(d, c)| converted_value(d, c)).collect();
        assert_eq!(values, wanted);
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({snapshot_path => "../convert", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, out);
        });
    }
}
