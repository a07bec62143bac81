use std::path::Path;

use windlass_artifacts::archive::{ExtractOptions, Limits, Strategy};
use windlass_artifacts::git::GitAccess;
use windlass_artifacts::store::LocalStore;
use windlass_artifacts::transfer::{self, Access};
use windlass_artifacts::{Cancel, Location, Outside, Root};

fn location(json: serde_json::Value) -> Location {
    Location::parse(&json, &|_| None).unwrap()
}

#[test]
fn from_one_step_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalStore::open(&dir.path().join("store")).unwrap();
    std::fs::create_dir_all(dir.path().join("one/out/sub")).unwrap();
    std::fs::write(dir.path().join("one/out/sub/file"), "content").unwrap();
    let (from, to) = (Root::open(&dir.path().join("one")).unwrap(), Root::open(dir.path()).unwrap());
    let cancel = Cancel::new();
    let access = Access { local: &local, git: &GitAccess::default(), outside: &Outside::default() };
    for (n, strategy) in [Strategy::default(), Strategy::None].into_iter().enumerate() {
        let here = location(serde_json::json!({"name": "a", "local": {"key": format!("wf/pod/{n}")}}));
        let saved =
            transfer::save(&here, &access, &from, Path::new("/out"), strategy, &Limits::default(), &cancel).unwrap();
        assert!(saved.bytes > 0);
        let target = format!("two/{n}/in");
        transfer::load(&here, &access, &to, Path::new(&target), &ExtractOptions::default(), &cancel).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(target).join("sub/file")).unwrap(), "content");
    }
    let raw = location(serde_json::json!({"name": "a", "raw": {"data": "hello"}}));
    transfer::load(&raw, &access, &to, Path::new("/raw/text"), &ExtractOptions::default(), &cancel).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("raw/text")).unwrap(), "hello");
    let gone = location(serde_json::json!({"name": "a", "local": {"key": "wf/gone"}}));
    let error =
        transfer::load(&gone, &access, &to, Path::new("/x/y"), &ExtractOptions::default(), &cancel).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    // A failed packer publishes nothing.
    let small = Limits { bytes_max: 3, entries_max: 100 };
    let here = location(serde_json::json!({"name": "a", "local": {"key": "wf/pod/cut"}}));
    for path in ["/out", "/out/sub/file", "/nothing"] {
        assert!(transfer::save(&here, &access, &from, Path::new(path), Strategy::default(), &small, &cancel).is_err());
        assert!(!here.driver(&local, &Outside::default()).unwrap().exists(&cancel).unwrap(), "{path}");
    }
}
