//! Layers and real overlay mounts: what a container changed, packed, unpacked and mounted again, is the same.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink as link};
use std::path::{Path, PathBuf};

use windlass_oci::layer::{Entry, Kind, Marks, PackOptions};
use windlass_oci::{Layer, Store};

use crate::model::{describe, dir, file, hardlink, layer, symlink};
use crate::{is_root, not_run};

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Mounts lower directories (bottom first) with a fresh upper.
fn mount(lowers: &[PathBuf], base: &Path) -> (Mounted, PathBuf) {
    let (upper, work, merged) = (base.join("upper"), base.join("work"), base.join("merged"));
    for path in [&upper, &work, &merged] {
        fs::create_dir_all(path).unwrap();
    }
    let stack: Vec<String> = lowers.iter().rev().map(|lower| lower.display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
        stack.join(":"),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", &merged, "overlay", flags, Some(options.as_c_str())).unwrap();
    (Mounted(merged), upper)
}

fn base(store: &Store) -> Layer {
    let mut tool = file("bin/tool", "tool");
    tool.0.mode = 0o4755;
    tool.0.xattrs.insert("security.capability".into(), CAP_NET_RAW.to_vec());
    tool.0.xattrs.insert("user.note".into(), b"kept\n\0 all".to_vec());
    tool.0.mtime = windlass_oci::layer::Time { seconds: 1_000_000_000, nanos: 123_456_789 };
    let mut owned = file("home/u/f", "mine");
    (owned.0.uid, owned.0.gid) = (1234, 3_000_000);
    let long = "d/".to_owned() + &"x".repeat(180);
    let mut deep = file("deep", "");
    deep.0.path = long.into();
    layer(
        store,
        &[
            dir("bin"),
            tool,
            hardlink("bin/tool2", "bin/tool"),
            symlink("bin/sh", "tool"),
            symlink("abs", "/bin/tool"),
            dir("d"),
            deep,
            dir("gone"),
            file("gone/a", "a"),
            dir("home"),
            dir("home/u"),
            owned,
            dir("opq"),
            file("opq/low", "low"),
            dir("swap"),
            file("swap/x", "x"),
            file("was-file", "f"),
            (Entry { path: "pipe".into(), kind: Kind::Fifo, mode: 0o600, ..Entry::default() }, b""),
            (
                Entry {
                    path: "null".into(),
                    kind: Kind::Character { major: 1, minor: 3 },
                    mode: 0o666,
                    ..Entry::default()
                },
                b"",
            ),
        ],
    )
}

/// `cap_net_raw=ep`, version 2.
const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn what_a_container_changed_comes_back_the_same() {
    if !is_root() {
        return not_run("what_a_container_changed_comes_back_the_same", "needs root to mount an overlay");
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path().join("store")).unwrap();
    assert_eq!(store.marks(), Marks::Trusted);
    let base = base(&store);
    let lowers = store.unpack_layers(std::slice::from_ref(&base)).unwrap();
    insta::assert_snapshot!("base", describe(&lowers[0], false));

    let (mounted, upper) = mount(&lowers, &scratch.path().join("one"));
    let root = &mounted.0;
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::remove_dir_all(root.join("opq")).unwrap();
    fs::create_dir(root.join("opq")).unwrap();
    fs::write(root.join("opq/high"), "high").unwrap();
    fs::remove_dir_all(root.join("swap")).unwrap();
    fs::write(root.join("swap"), "now a file").unwrap();
    fs::remove_file(root.join("was-file")).unwrap();
    fs::create_dir(root.join("was-file")).unwrap();
    fs::write(root.join("was-file/in"), "in").unwrap();
    fs::remove_file(root.join("bin/sh")).unwrap();
    link("tool2", root.join("bin/sh")).unwrap();
    fs::write(root.join("bin/new"), "new").unwrap();
    fs::hard_link(root.join("bin/new"), root.join("bin/another")).unwrap();
    fs::set_permissions(root.join("bin/new"), fs::Permissions::from_mode(0o2750)).unwrap();
    xattr::set(root.join("bin/new"), "user.k", b"v").unwrap();
    fs::set_permissions(root.join("home/u"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(root.join("null")).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    fs::create_dir_all(root.join("resolv/x")).unwrap();
    fs::remove_file(root.join("socket")).unwrap();
    fs::write(root.join("came-and-went"), "").unwrap();
    fs::remove_file(root.join("came-and-went")).unwrap();
    fs::remove_dir_all(root.join("resolv/x")).unwrap();
    let wanted = describe(root, true);
    drop(mounted);

    let options = PackOptions { exclude: vec!["/resolv".into()], ..PackOptions::upper(store.marks()) };
    let wanted: String = wanted.lines().filter(|line| !line.starts_with("resolv ")).map(|l| format!("{l}\n")).collect();
    let change = store.commit_layer(&upper, &options).unwrap();
    assert!(!upper.exists(), "the upper became the unpacked layer");
    assert!(store.is_unpacked(&change.diff_id));
    let stack = [base.clone(), change.clone()];

    // Once with the directory that was moved, once unpacked from the blob in another store.
    let (again, _) = mount(&store.unpack_layers(&stack).unwrap(), &scratch.path().join("two"));
    similar(&wanted, &describe(&again.0, true));
    let other = Store::open(scratch.path().join("other")).unwrap();
    for layer in &stack {
        other.put_blob_from(store.open_blob(&layer.digest).unwrap(), Some(&layer.digest)).unwrap();
    }
    let (third, _) = mount(&other.unpack_layers(&stack).unwrap(), &scratch.path().join("three"));
    similar(&wanted, &describe(&third.0, true));

    // And what was unpacked packs to the same bytes.
    let copy = other.unpack_layer(&change).unwrap();
    let repacked =
        other.commit_layer(&copy, &PackOptions { keep: false, ..PackOptions::upper(other.marks()) }).unwrap();
    assert_eq!(repacked, change);
}

/// Equal but for the hard-link groups' numbers and the times of the root's own entries that mounting touches.
fn similar(wanted: &str, got: &str) {
    if wanted != got {
        let differing: Vec<String> =
            wanted.lines().zip(got.lines()).filter(|(a, b)| a != b).map(|(a, b)| format!("- {a}\n+ {b}")).collect();
        panic!("{} / {} lines\n{}", wanted.lines().count(), got.lines().count(), differing.join("\n"));
    }
}

#[test]
fn whiteouts_in_any_order() {
    if !is_root() {
        return not_run("whiteouts_in_any_order", "needs root for trusted attributes");
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let opaque = |path: &str| (Entry::opaque(Path::new(path)), &b""[..]);
    let gone = |path: &str| (Entry::whiteout(Path::new(path)), &b""[..]);
    let changed = layer(
        &store,
        &[
            // Opaque mark before and after its siblings.
            dir("a"),
            file("a/x", "x"),
            opaque("a"),
            opaque("b"),
            file("b/x", "x"),
            // Deleted and made again, in both orders, as file and as directory.
            gone("f1"),
            file("f1", "1"),
            file("f2", "2"),
            gone("f2"),
            gone("d1"),
            dir("d1"),
            file("d1/x", "x"),
            dir("d2"),
            file("d2/x", "x"),
            gone("d2"),
            // Deleted, then used without being described.
            gone("d3"),
            file("d3/x", "x"),
            gone("just-gone"),
            // Not a deletion: aufs' own.
            file(".wh..wh.plnk", ""),
        ],
    );
    let unpacked = store.unpack_layer(&changed).unwrap();
    insta::assert_snapshot!(describe(&unpacked, false));
}

#[test]
fn implied_directories_look_as_below() {
    if !is_root() {
        return not_run("implied_directories_look_as_below", "needs root to set owners");
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let mut tmp = dir("tmp");
    tmp.0.mode = 0o1777;
    let mut home = dir("home");
    (home.0.uid, home.0.mode) = (7, 0o750);
    let below = layer(&store, &[tmp, home]);
    let above = layer(&store, &[file("tmp/x", "x"), file("home/y", "y"), file("fresh/z", "z")]);
    let alone = store.unpack_layers(std::slice::from_ref(&above)).unwrap();
    let stacked = store.unpack_layers(&[below, above]).unwrap();
    assert_ne!(alone[0], stacked[1], "the same layer on other layers is another directory");
    insta::assert_snapshot!(format!("{}--\n{}", describe(&alone[0], false), describe(&stacked[1], false)));
}

/// Within a user namespace of one id: other owners and devices cannot be made, everything else can.
#[test]
fn one_mapped_id() {
    const INNER: &str = "WINDLASS_OCI_TEST_ONE_ID";
    if let Some(dir) = std::env::var_os(INNER) {
        let store = Store::open(Path::new(&dir).join("inner")).unwrap();
        assert_eq!(store.marks(), Marks::User);
        let base = base(&store);
        let fs_dir = store.unpack_layer(&base).unwrap();
        let told = store.unpacked(&base.diff_id).unwrap();
        assert!(told.owners_dropped > 0);
        assert_eq!(told.skipped, [PathBuf::from("null")]);
        assert_eq!(fs::read_to_string(fs_dir.join("home/u/f")).unwrap(), "mine");
        let gone = layer(&store, &[(Entry::whiteout(Path::new("bin")), b""), (Entry::opaque(Path::new("d")), b"")]);
        println!("{}", describe(&store.unpack_layer(&gone).unwrap(), false));
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "overlay::one_mapped_id", "--nocapture"]).env(INNER, scratch.path());
    match command.output() {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare failed") => {
            not_run("one_mapped_id", "no user namespaces here");
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            let shown: Vec<&str> =
                said.lines().filter(|line| line.starts_with("bin ") || line.starts_with("d ")).collect();
            insta::assert_snapshot!(shown.join("\n"));
        }
        Err(error) => not_run("one_mapped_id", &format!("unshare: {error}")),
    }
}
