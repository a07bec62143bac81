//! The store: many writers, full disks, names and the collector.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::json;
use windlass_oci::{Commit, Digest, Error, GcOptions, Image, Platform, Reference, Store, media};

use crate::model::{dir, file, layer};
use crate::{is_root, not_run};

pub fn image(store: &Store, name: &str, content: &'static str) -> Image {
    let layers = vec![layer(store, &[dir("etc"), file("etc/base", "base")]), layer(store, &[file("content", content)])];
    let config = json!({"config": {"Cmd": ["/bin/true"], "Env": ["A=b"], "Healthcheck": {"Test": ["NONE"]}}});
    let commit = Commit { config, layers, ..Commit::default() };
    store.commit_image(&commit, &[Reference::parse(name).unwrap()]).unwrap()
}

fn no_grace() -> GcOptions {
    GcOptions { grace: Duration::ZERO, ..GcOptions::default() }
}

#[test]
fn names_and_the_collector() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let one = image(&store, "app:1", "one");
    let two = image(&store, "registry.windlass.internal/a/b:2", "two");
    store.tag(&Reference::parse("localhost:5000/x").unwrap(), one.digest()).unwrap();
    let names: Vec<String> = store.list().unwrap().iter().map(|l| l.reference.familiar()).collect();
    assert_eq!(names, ["app:1", "localhost:5000/x", "registry.windlass.internal/a/b:2"]);
    assert!(store.resolve(&Reference::parse("app:1").unwrap()).unwrap().unwrap().made_here);
    let again = store.get(&Reference::parse("app:1").unwrap()).unwrap().unwrap();
    assert_eq!(again.digest(), one.digest());
    assert_eq!(again.config_json()["config"]["Healthcheck"]["Test"][0], "NONE", "Docker's additions survive");
    assert_eq!(again.platform(), Platform::host());
    let pinned = Reference::parse("app:1").unwrap().with_digest(one.digest().clone());
    assert_eq!(store.get(&pinned).unwrap().unwrap().digest(), one.digest());

    store.rootfs(&one).unwrap();
    store.rootfs(&two).unwrap();
    assert_eq!(store.gc(&no_grace()).unwrap().blobs, 0, "everything has a name");
    assert!(store.remove(&Reference::parse("app:1").unwrap()).unwrap());
    assert!(!store.remove(&Reference::parse("app:1").unwrap()).unwrap());
    assert_eq!(store.gc(&no_grace()).unwrap().blobs, 0, "the other name still leads there");
    store.remove(&Reference::parse("localhost:5000/x").unwrap()).unwrap();
    let keep = GcOptions { keep: vec![one.digest().clone()], ..no_grace() };
    assert_eq!(store.gc(&keep).unwrap().blobs, 0, "in use");
    assert_eq!(store.gc(&GcOptions::default()).unwrap().blobs, 0, "young");
    let report = store.gc(&no_grace()).unwrap();
    assert_eq!((report.blobs, report.layers), (3, 1), "manifest, configuration and one layer; the other is shared");
    assert!(store.is_complete(&two));
    store.rootfs(&two).unwrap();
    assert!(store.get(&pinned).unwrap().is_none());
}

#[test]
fn the_right_platform_of_an_index() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let image = image(&store, "one", "x");
    let entry = |architecture: &str, variant: Option<&str>, digest: &Digest| {
        let mut platform = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            platform["variant"] = json!(variant);
        }
        json!({"mediaType": media::OCI_MANIFEST, "digest": digest, "size": 1, "platform": platform})
    };
    let absent = Digest::of(b"absent");
    let index = json!({"schemaVersion": 2, "mediaType": media::DOCKER_INDEX, "manifests": [
        entry("unknown", None, &absent),
        entry("arm", Some("v6"), &absent),
        entry(&Platform::host().architecture, None, image.digest()),
        {"mediaType": media::OCI_MANIFEST, "digest": absent, "size": 1,
         "platform": {"os": "unknown", "architecture": "unknown"}},
    ]});
    let digest = store.put_blob(index.to_string().as_bytes()).unwrap();
    let name = Reference::parse("multi").unwrap();
    store.tag(&name, &digest).unwrap();
    assert_eq!(store.get(&name).unwrap().unwrap().digest(), image.digest());
    let v6: Platform = "linux/arm/v6".parse().unwrap();
    assert!(store.get_for(&name, &v6).unwrap().is_none(), "known, but not here");
    let error = store.get_for(&name, &"linux/s390x".parse().unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Platform { available, .. } if available.contains("linux/arm/v6")), "{error}");
}

#[test]
fn many_writers_of_one_blob() {
    let scratch = tempfile::tempdir().unwrap();
    // Each thread with a store of its own, as processes would have.
    let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let wanted = Digest::of(&content);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (dir, content, wanted) = (scratch.path(), &content, &wanted);
            scope.spawn(move || {
                let store = Store::open(dir).unwrap();
                let (digest, size) = store.put_blob_from(content.as_slice(), Some(wanted)).unwrap();
                assert_eq!((&digest, size), (wanted, content.len() as u64));
                let image = image(&store, &format!("app:{}", thread % 2), "same");
                store.rootfs(&image).unwrap();
                store.remove(&Reference::parse(&format!("gone:{thread}")).unwrap()).unwrap();
                store.gc(&GcOptions::default()).unwrap();
            });
        }
    });
    let store = Store::open(scratch.path()).unwrap();
    assert_eq!(fs::read_dir(scratch.path().join("tmp")).unwrap().count(), 0);
    store.verify_blob(&wanted).unwrap();
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn wrong_content_is_not_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let error = store.put_blob_from(&b"other"[..], Some(&Digest::of(b"wanted"))).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }));
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"half").unwrap();
    drop(writer);
    for dir in ["tmp", "blobs/sha256"] {
        assert_eq!(fs::read_dir(scratch.path().join(dir)).unwrap().count(), 0, "{dir}");
    }
}

struct Tmpfs(std::path::PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    if !is_root() {
        return not_run("a_full_disk_leaves_nothing_half_written", "needs root to mount a small tmpfs");
    }
    let scratch = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", scratch.path(), "tmpfs", flags, Some(c"size=2m")).unwrap();
    let _mounted = Tmpfs(scratch.path().to_owned());
    let store = Store::open(scratch.path().join("store")).unwrap();
    let small = image(&store, "small", "fits");
    store.rootfs(&small).unwrap();
    let error = store.put_blob(&vec![7; 8 << 20]).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    // A blob that fits, and unpacks to more than fits.
    let big: &[u8] = &vec![0; 8 << 20];
    let bomb = layer(&store, &[(windlass_oci::layer::Entry::file("zeros", 0o644, big.len() as u64), big)]);
    let error = store.unpack_layer(&bomb).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert!(!store.is_unpacked(&bomb.diff_id) && store.has_blob(&bomb.digest));
    assert_eq!(fs::read_dir(scratch.path().join("store/tmp")).unwrap().count(), 0);
    // There is room again at once, and what was there still is.
    assert!(store.get(&Reference::parse("small").unwrap()).unwrap().is_some());
    image(&store, "small2", "fits too");
}
