use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use windlass_artifacts::archive::{ArchiveError, ExtractOptions, Limits, Strategy, create, extract};
use windlass_artifacts::{Cancel, Root};

fn unpack(bytes: &[u8], root: &Path, target: &str, options: &ExtractOptions) -> Result<(), ArchiveError> {
    extract(&mut &*bytes, &Root::open(root).unwrap(), Path::new(target), options, &Cancel::new()).map(drop)
}

fn pack(root: &Path, path: &str, strategy: Strategy) -> Vec<u8> {
    let mut out = Vec::new();
    create(&Root::open(root).unwrap(), Path::new(path), strategy, &mut out, &Limits::default(), &Cancel::new())
        .unwrap();
    out
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, tar).unwrap();
    gzip.finish().unwrap()
}

/// A tar with raw names, as an attacker writes it.
fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        let data: &[u8] = if kind.is_file() { content.as_bytes() } else { b"" };
        if !kind.is_file() {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("rootfs/job/out");
    std::fs::create_dir_all(out.join("empty")).unwrap();
    std::fs::write(out.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(out.join("run"), PermissionsExt::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", out.join("abs")).unwrap();
    std::fs::write(out.join(format!("{}.txt", "long".repeat(60))), "l").unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(out.join("fifo")).status();
    // The path a step names may go through links of its own image.
    std::os::unix::fs::symlink("/job", dir.path().join("rootfs/w")).unwrap();
    let rootfs = dir.path().join("rootfs");
    for (target, strategy) in
        [("/in/a", None), ("/in/deep/b", Some(Strategy::default())), ("/in/z", Some(Strategy::Zip))]
    {
        let bytes = pack(&rootfs, "/w/out", strategy.unwrap_or_default());
        unpack(&bytes, dir.path(), target, &ExtractOptions { strategy, ..Default::default() }).unwrap();
        let got = dir.path().join(&target[1..]);
        assert!(got.join("empty").is_dir());
        assert_eq!(std::fs::metadata(got.join("run")).unwrap().permissions().mode() & 0o7777, 0o750);
        assert_eq!(std::fs::read_link(got.join("abs")).unwrap(), Path::new("/etc/passwd"));
        assert!(got.join(format!("{}.txt", "long".repeat(60))).exists());
        assert!(!got.join("fifo").exists() || fifo.is_err());
    }
    // A file, packed and plain; what is there is replaced.
    for strategy in [Strategy::default(), Strategy::None, Strategy::TarGzip { level: Some(0) }, Strategy::Zip] {
        let bytes = pack(&rootfs, "/job/out/run", strategy);
        // Found out by itself, but for a zip, as in Argo.
        let told = (strategy == Strategy::Zip).then_some(strategy);
        let options = ExtractOptions { mode: Some(0o400), strategy: told, ..Default::default() };
        unpack(&bytes, dir.path(), "file", &options).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "#!/bin/sh\n");
        assert_eq!(std::fs::metadata(dir.path().join("file")).unwrap().permissions().mode() & 0o7777, 0o400);
    }
    let mut none = Vec::new();
    let missing = create(
        &Root::open(&rootfs).unwrap(),
        Path::new("/no"),
        Strategy::None,
        &mut none,
        &Limits::default(),
        &Cancel::new(),
    );
    assert!(matches!(missing, Err(ArchiveError::NotFound(_))));
}

#[test]
fn argos_rules_on_load() {
    use tar::EntryType::Regular;
    let dir = tempfile::tempdir().unwrap();
    let text = |path: &str| std::fs::read_to_string(dir.path().join(path)).unwrap();
    let auto = ExtractOptions::default();
    let several = gzip(&tar_of(&[("a", Regular, "1"), ("b", Regular, "2")]));
    unpack(&several, dir.path(), "several", &auto).unwrap();
    assert_eq!(text("several/a") + &text("several/b"), "12");
    let single = gzip(&tar_of(&[("whatever", Regular, "1")]));
    unpack(&single, dir.path(), "single", &auto).unwrap();
    assert_eq!(text("single"), "1");
    // Not told, gzip but no tar: a file as it is. A plain tar is a file too.
    let plain = gzip(b"just text, not a tar");
    unpack(&plain, dir.path(), "plain", &auto).unwrap();
    assert_eq!(std::fs::read(dir.path().join("plain")).unwrap(), plain);
    let tar = tar_of(&[("a", Regular, "1")]);
    unpack(&tar, dir.path(), "tar", &auto).unwrap();
    assert_eq!(std::fs::read(dir.path().join("tar")).unwrap(), tar);
    // Told: obeyed.
    unpack(&single, dir.path(), "raw", &ExtractOptions { strategy: Some(Strategy::None), ..Default::default() })
        .unwrap();
    assert_eq!(std::fs::read(dir.path().join("raw")).unwrap(), single);
    let told = ExtractOptions { strategy: Some(Strategy::default()), ..Default::default() };
    assert!(matches!(unpack(b"no gzip", dir.path(), "x", &told), Err(ArchiveError::Damaged(_))));
    assert!(!dir.path().join("x").exists());
    // A filled directory takes the entries in.
    unpack(&several, dir.path(), "several", &auto).unwrap();
    unpack(&gzip(&tar_of(&[("c", Regular, "3"), ("d", Regular, "")])), dir.path(), "several", &auto).unwrap();
    assert_eq!(text("several/a") + &text("several/c"), "13");
    let mode = |p: &str| std::fs::metadata(dir.path().join(p)).unwrap().permissions().mode() & 0o7777;
    unpack(
        &several,
        dir.path(),
        "modes",
        &ExtractOptions { mode: Some(0o700), recurse_mode: true, ..Default::default() },
    )
    .unwrap();
    assert_eq!((mode("modes"), mode("modes/a")), (0o700, 0o700));
    // Set-user-id bits do not survive.
    assert_eq!(mode("several/a"), 0o755);
}

#[test]
fn attacks_stay_inside() {
    use tar::EntryType::{Char, Link, Regular, Symlink};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(dir.path().join("victim"), "safe").unwrap();
    let attacks: Vec<Vec<(&str, tar::EntryType, &str)>> = vec![
        vec![("../victim", Regular, "bad")],
        vec![("/victim", Regular, "bad")],
        vec![("a/../../victim", Regular, "bad")],
        vec![("l", Symlink, ".."), ("l/victim", Regular, "bad")],
        vec![("l", Symlink, "../.."), ("l/x", Link, "l")],
        vec![("h", Link, "../victim"), ("h", Regular, "bad")],
        vec![("h", Link, "/etc/passwd")],
        vec![("d", Symlink, "."), ("d/e", Symlink, "../.."), ("d/e/victim", Regular, "bad")],
        vec![("l", Symlink, "../../victim"), ("h", Link, "l/x")],
        vec![("dev", Char, "")],
        vec![("f", Regular, "x"), ("f/g", Regular, "x")],
    ];
    for (n, attack) in attacks.iter().enumerate() {
        let result = unpack(&gzip(&tar_of(attack)), &root, "target", &ExtractOptions::default());
        assert!(result.is_err(), "attack {n}");
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "attack {n} left something");
    }
    // A link is replaced by a file of the same name, not followed.
    let replace = tar_of(&[("l", Symlink, "../../victim"), ("l", Regular, "mine"), ("other", Regular, "")]);
    unpack(&gzip(&replace), &root, "target", &ExtractOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("target/l")).unwrap(), "mine");
    // The target itself is resolved inside the root.
    std::os::unix::fs::symlink("/..", root.join("up")).unwrap();
    unpack(&gzip(&tar_of(&[("a", Regular, "1")])), &root, "up/victim", &ExtractOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("victim")).unwrap(), "1");
    assert_eq!(std::fs::read_to_string(dir.path().join("victim")).unwrap(), "safe");
}

#[test]
fn limits_and_cut_archives() {
    use tar::EntryType::Regular;
    let dir = tempfile::tempdir().unwrap();
    let big = "x".repeat(10_000);
    let bytes = gzip(&tar_of(&[("a", Regular, &big), ("b", Regular, &big)]));
    let limits =
        |bytes_max, entries_max| ExtractOptions { limits: Limits { bytes_max, entries_max }, ..Default::default() };
    assert!(matches!(unpack(&bytes, dir.path(), "t", &limits(15_000, 10)), Err(ArchiveError::TooLarge(_))));
    assert!(matches!(unpack(&bytes, dir.path(), "t", &limits(50_000, 1)), Err(ArchiveError::TooLarge(_))));
    for cut in [1, 20, bytes.len() / 2, bytes.len() - 4] {
        let told = ExtractOptions { strategy: Some(Strategy::default()), ..Default::default() };
        assert!(unpack(&bytes[..cut], dir.path(), "t", &told).is_err(), "cut at {cut}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    unpack(&bytes, dir.path(), "t", &limits(20_000, 2)).unwrap();
}

#[test]
fn zips_of_others() {
    use std::io::Write;
    use zip::write::SimpleFileOptions;
    let dir = tempfile::tempdir().unwrap();
    let options = ExtractOptions { strategy: Some(Strategy::Zip), ..ExtractOptions::default() };
    let zip_of = |entries: &[(&str, &str)]| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, text) in entries {
            let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            zip.start_file(*name, stored).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    unpack(&zip_of(&[("a/b.txt", "1"), ("c", "2")]), dir.path(), "several", &options).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("several/a/b.txt")).unwrap(), "1");
    unpack(&zip_of(&[("only.txt", "3")]), dir.path(), "one", &options).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("one")).unwrap(), "3");
    for bad in ["../out", "/etc/x", "a/../../out"] {
        let error = unpack(&zip_of(&[(bad, "x")]), dir.path(), "bad", &options).unwrap_err().to_string();
        assert!(error.contains("leads out"), "{bad}: {error}");
        assert!(!dir.path().join("bad").exists() && !dir.path().join("out").exists());
    }
    let whole = zip_of(&[("a", "1"), ("b", "2")]);
    assert!(matches!(unpack(&whole[..whole.len() - 30], dir.path(), "cut", &options), Err(ArchiveError::Damaged(_))));
    let small = ExtractOptions { limits: Limits { bytes_max: 200, entries_max: 1 }, ..options };
    assert!(matches!(
        unpack(&whole, dir.path(), "many", &small),
        Err(ArchiveError::TooLarge(_) | ArchiveError::Damaged(_))
    ));
}
