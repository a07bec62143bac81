//! Archives that want out, or want too much. Whatever they say, nothing changes outside the directory.

use std::fs;
use std::path::Path;

use windlass_oci::layer::{Entry, Kind, Limits, Marks, UnpackOptions, unpack};
use windlass_oci::media::Compression;
use windlass_oci::{Error, Store};

use crate::model::{archive, describe, dir, file, gzip, hardlink, layer, symlink};

/// An entry and its content.
type Item = (Entry, &'static [u8]);

fn try_unpack(entries: &[Item]) -> (String, String) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(scratch.path().join("outside"), "untouched").unwrap();
    fs::create_dir(scratch.path().join("victim")).unwrap();
    let marks = Marks::probe(scratch.path());
    let options = UnpackOptions { marks, limits: Limits::default() };
    let result = unpack(archive(entries).as_slice(), Compression::None, &root, &options);
    assert_eq!(fs::read_to_string(scratch.path().join("outside")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(scratch.path().join("victim")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 3, "nothing new beside the root");
    assert!(!Path::new("/tmp/windlass-escaped").exists());
    let said = match result {
        Ok(_) => "unpacked".to_owned(),
        Err(error) => error.to_string().replace(&scratch.path().display().to_string(), "SCRATCH"),
    };
    (said, describe(&root, false))
}

#[test]
fn nothing_leaves_the_root() {
    let char00 =
        Entry { path: "hidden".into(), kind: Kind::Character { major: 0, minor: 0 }, mode: 0o666, ..Entry::default() };
    let mut redirect = dir("redirect");
    redirect.0.xattrs.insert("trusted.overlay.redirect".into(), b"/etc".to_vec());
    redirect.0.xattrs.insert("user.overlay.opaque".into(), b"y".to_vec());
    redirect.0.xattrs.insert("user.fine".into(), b"1".to_vec());
    let cases: Vec<(&str, Vec<Item>)> = vec![
        ("dot dot", vec![file("../outside", "evil")]),
        ("inner dot dot", vec![dir("a"), file("a/../../outside", "evil")]),
        ("absolute", vec![file("/tmp/windlass-escaped", "inside")]),
        ("absolute link, then through it", vec![symlink("l", "/tmp"), file("l/windlass-escaped", "evil")]),
        ("absolute link to a directory within", vec![dir("tmp"), symlink("l", "/tmp"), file("l/in", "in")]),
        ("relative link out", vec![symlink("l", "../victim"), file("l/x", "evil")]),
        ("link chain", vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "evil")]),
        ("file through its own link", vec![symlink("f", "../outside"), file("f", "evil")]),
        ("directory over link", vec![symlink("l", "../victim"), dir("l"), file("l/x", "x")]),
        ("hard link out", vec![hardlink("h", "../outside"), file("h", "evil")]),
        ("hard link to absolute", vec![hardlink("h", "/etc/passwd")]),
        ("hard link through a link", vec![symlink("l", "../"), hardlink("h", "l/outside")]),
        ("hard link to a link", vec![symlink("s", "/etc/passwd"), hardlink("h", "s")]),
        ("hard link to the root", vec![hardlink("h", "/")]),
        ("proc link", vec![symlink("p", "/proc/self/cwd"), file("p/windlass-escaped", "evil")]),
        ("whiteout of nothing", vec![file(".wh.", "")]),
        ("whiteout of dot dot", vec![file(".wh...", "")]),
        ("whiteout out", vec![file("../.wh.outside", "")]),
        ("file as directory", vec![file("f", "f"), file("f/x", "x")]),
        ("overlay attributes", vec![redirect]),
        ("overlay device", vec![(char00, b"")]),
        ("same file twice keeps the hard link apart", vec![file("a", "1"), hardlink("b", "a"), file("a", "2")]),
        ("a file in place of a tree", vec![dir("t"), dir("t/u"), file("t/u/f", "f"), file("t", "now a file")]),
    ];
    let mut all = String::new();
    for (name, entries) in cases {
        let (said, tree) = try_unpack(&entries);
        // The redirect attribute needs privileges that differ; that it is absent is what counts.
        all.push_str(&format!("== {name}: {said}\n{tree}"));
    }
    let who = format!(" {}:{} ", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    insta::assert_snapshot!(all.replace(&who, " me "));
}

#[test]
fn limits() {
    let scratch = tempfile::tempdir().unwrap();
    let zeros = gzip(&archive(&[(Entry::file("zeros", 0o644, 50 << 20), &vec![0; 50 << 20])]));
    assert!(zeros.len() < 1 << 20, "a bomb");
    let options =
        UnpackOptions { marks: Marks::probe(scratch.path()), limits: Limits { bytes_max: 10 << 20, entries_max: 2 } };
    let unpack_in = |name: &str, bytes: &[u8], compression| {
        let root = scratch.path().join(name);
        fs::create_dir(&root).unwrap();
        unpack(bytes, compression, &root, &options).unwrap_err()
    };
    let error = unpack_in("bytes", &zeros, Compression::Gzip);
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let many = archive(&[dir("a"), dir("b"), dir("c")]);
    let error = unpack_in("entries", &many, Compression::None);
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    // A header that promises gigabytes of names.
    let mut header = many[..512].to_vec();
    header[156] = b'x';
    header[124..135].copy_from_slice(b"77777777777");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let error = unpack_in("names", &header, Compression::None);
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn damage_is_found_and_forgotten() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let good = layer(&store, &[dir("a"), file("a/x", "some content that compresses little 0123456789")]);
    let path = scratch.path().join("blobs/sha256").join(good.digest.hex());
    let whole = fs::read(&path).unwrap();
    for damage in ["cut", "flipped", "longer"] {
        let mut bytes = whole.clone();
        match damage {
            "cut" => bytes.truncate(whole.len() / 2),
            "flipped" => bytes[whole.len() / 2] ^= 0x10,
            _ => bytes.extend_from_slice(b"more"),
        }
        fs::write(&path, &bytes).unwrap();
        let error = store.unpack_layer(&good).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{damage}: {error}");
        assert!(!store.has_blob(&good.digest), "{damage}: the damaged blob is gone");
        assert!(!store.is_unpacked(&good.diff_id));
        store.put_blob(&whole).unwrap();
    }
    store.unpack_layer(&good).unwrap();
    // A layer whose diff id is a lie.
    let other = layer(&store, &[file("b", "b")]);
    let lie = windlass_oci::Layer { diff_id: windlass_oci::Digest::of(b"lie"), ..other };
    assert!(matches!(store.unpack_layer(&lie).unwrap_err(), Error::DigestMismatch { .. }));
    assert!(!store.is_unpacked(&lie.diff_id));
    let left: Vec<_> = fs::read_dir(scratch.path().join("layers").join(if store.marks() == Marks::Trusted {
        "trusted"
    } else {
        "user"
    }))
    .unwrap()
    .map(|e| e.unwrap().file_name().into_string().unwrap())
    .filter(|name| name.starts_with("tmp"))
    .collect();
    assert_eq!(left, Vec::<String>::new(), "nothing half-unpacked stays");
}
