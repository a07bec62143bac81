//! One YAML file a case: a workflow, what is around it, how its pods end; the outcome is a snapshot.

use std::path::Path;

use crate::world::{Script, World};

#[test]
fn cases_come_out_as_their_snapshots() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let script = Script::parse(&std::fs::read_to_string(&file).unwrap());
        let mut world = World::new(&script);
        world.run_out(|_| 0, |_| {});
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({snapshot_path => "../cases", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, world.told());
        });
    }
}
