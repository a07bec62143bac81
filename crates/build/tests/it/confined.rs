//! Layers unpacked by confined workers: the same result as without, whatever the archive wants, and nothing left of what
//! went wrong.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use windlass_build::ConfinedUnpacker;
use windlass_oci::layer::{ArchiveWriter, Entry, Kind, Limits, Time, UnpackOptions, Unpacked};
use windlass_oci::media::Compression;
use windlass_oci::{Error, InProcess, Layer, Store, Unpacker};

use crate::Bench;

type Item = (Entry, &'static [u8]);

fn file(path: &str, content: &'static str) -> Item {
    (Entry::file(path, 0o644, content.len() as u64), content.as_bytes())
}

fn link(path: &str, kind: fn(PathBuf) -> Kind, target: &str) -> Item {
    (Entry { path: path.into(), kind: kind(target.into()), ..Entry::default() }, b"")
}

fn hard(target: PathBuf) -> Kind {
    Kind::Hardlink { target }
}

fn soft(target: PathBuf) -> Kind {
    Kind::Symlink { target }
}

fn archive(items: &[Item]) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(Vec::new());
    for (entry, content) in items {
        writer.entry(entry, &mut &**content).unwrap();
    }
    writer.finish().unwrap()
}

/// An archive as an open file.
fn opened(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

/// Every path with what it is.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let what = if kind.is_dir() {
                open.push(path.clone());
                "dir".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_file() {
                format!("{:?} of {}", String::from_utf8_lossy(&fs::read(&path).unwrap()), meta.nlink())
            } else {
                format!("char {} fifo {} {}", kind.is_char_device(), kind.is_fifo(), meta.rdev())
            };
            let mut attributes = vec![0; 4096];
            let count = rustix::fs::llistxattr(&path, &mut attributes[..]).unwrap_or(0);
            let names = attributes[..count].split(|b| *b == 0).filter(|name| !name.is_empty());
            let mut attributes: Vec<(String, Vec<u8>)> = names
                .map(|name| {
                    let name = String::from_utf8(name.to_vec()).unwrap();
                    let mut value = vec![0; 256];
                    let count = rustix::fs::lgetxattr(&path, name.as_str(), &mut value[..]).unwrap();
                    (name, value[..count].to_vec())
                })
                .collect();
            attributes.sort();
            // What no entry says has the time at which it was made.
            let time = Some((meta.mtime(), meta.mtime_nsec())).filter(|(seconds, _)| *seconds < 1_500_000_000);
            let owner = (meta.mode() & 0o7777, meta.uid(), meta.gid(), time);
            all.insert(path.strip_prefix(root).unwrap().to_owned(), format!("{what} {owner:?} {attributes:?}"));
        }
    }
    all
}

fn directories(bench: &Bench, names: [&str; 2]) -> [PathBuf; 2] {
    names.map(|name| {
        let path = bench.directory.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    })
}

pub(crate) async fn confined_as_without(bench: Bench) {
    let mut owned = file("home/me/file", "mine");
    (owned.0.uid, owned.0.gid, owned.0.mode) = (1000, 1001, 0o4755);
    owned.0.mtime = Time { seconds: 1_000_000_007, nanos: 42 };
    owned.0.xattrs.insert("user.said".into(), b"yes".to_vec());
    // cap_net_raw+ep, as `setcap` writes it.
    let capability = vec![1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut capable = file("bin/ping", "program");
    capable.0.mode = 0o755;
    capable.0.xattrs.insert("security.capability".into(), capability);
    let mut closed = (Entry::directory("closed", 0o500), &b""[..]);
    closed.0.uid = 77;
    let items = [
        owned,
        capable,
        closed,
        file("closed/inside", "in"),
        link("home/me/soft", soft, "../../etc/passwd"),
        link("home/me/hard", hard, "home/me/file"),
        (Entry { path: "pipe".into(), kind: Kind::Fifo, mode: 0o620, ..Entry::default() }, b""),
        (Entry::whiteout(Path::new("etc/gone")), b""),
        (Entry::directory("opaque", 0o711), b""),
        (Entry::opaque(Path::new("opaque")), b""),
        file("opaque/new", "new"),
        (Entry::whiteout(Path::new("was")), b""),
        (Entry::directory("was", 0o755), b""),
        link("way", soft, "opaque"),
        (Entry::directory("opaque/deeper", 0o755), b""),
        (Entry::opaque(Path::new("way/deeper")), b""),
    ];
    let bytes = archive(&items);
    let options = UnpackOptions { marks: bench.store.marks(), limits: Limits::default() };
    let [here, there] = directories(&bench, ["here", "there"]);
    let expected = InProcess.unpack(opened(&bytes), Compression::None, &here, &options).unwrap();
    let confined = ConfinedUnpacker::new(bench.host.clone());
    let got = confined.unpack(opened(&bytes), Compression::None, &there, &options).unwrap();
    assert_eq!(describe(&here), describe(&there));
    assert_eq!(got, Unpacked { opaque: got.opaque.clone(), ..expected });
    for path in ["opaque", "was", "opaque/deeper"] {
        let mut value = [0; 8];
        let count = rustix::fs::lgetxattr(there.join(path), options.marks.opaque(), &mut value[..]);
        assert_eq!(count.map(|count| value[..count].to_vec()), Ok(b"y".to_vec()), "{path}");
    }
}

pub(crate) async fn confined_attacks(bench: Bench) {
    let device = |major, minor| Kind::Block { major, minor };
    let node = |path: &str, kind| (Entry { path: path.into(), kind, mode: 0o666, ..Entry::default() }, &b""[..]);
    let confined = ConfinedUnpacker::new(bench.host.clone());
    let options = UnpackOptions { marks: bench.store.marks(), limits: Limits::default() };
    let outside = bench.directory.join("outside");
    fs::write(&outside, "untouched").unwrap();
    let far = bench.directory.to_string_lossy().into_owned();
    let cases: Vec<(&str, Vec<Item>)> = vec![
        ("dot dot", vec![file("../outside", "evil")]),
        ("absolute", vec![file("/outside", "inside")]),
        ("link out", vec![link("l", soft, ".."), file("l/outside", "evil")]),
        ("absolute link", vec![link("l", soft, &far), file("l/outside", "evil")]),
        ("hard link out", vec![link("h", hard, "../outside"), file("h", "evil")]),
        ("hard link to a file of the host", vec![link("h", hard, "/etc/passwd")]),
        ("proc", vec![link("p", soft, "/proc/1/root"), file("p/outside", "evil")]),
        ("disk", vec![node("disk", device(8, 0)), node("null", Kind::Character { major: 1, minor: 3 })]),
    ];
    for (name, items) in cases {
        let target = bench.directory.join(name);
        fs::create_dir(&target).unwrap();
        let bytes = archive(&items);
        let said = confined.unpack(opened(&bytes), Compression::None, &target, &options);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched", "{name}");
        assert!(!Path::new("/outside").exists());
        for (path, what) in describe(&target) {
            assert!(!what.contains("char true"), "{name}: {path:?} {what}");
        }
        match name {
            "dot dot" | "hard link out" | "hard link to a file of the host" => {
                assert!(matches!(said, Err(Error::Refused { .. })), "{name}: {said:?}");
            }
            // As root within its user namespace it may not make any; and whoever may, gets none that can be opened.
            "disk" => {
                assert!(said.unwrap().skipped.len() == 2 || !target.join("disk").exists(), "{name}");
            }
            _ => assert!(said.is_ok(), "{name}: {said:?}"),
        }
    }
}

fn layer(store: &Store, content: impl std::io::Read, size: u64) -> Layer {
    let mut writer = store.layer_writer(Compression::Gzip).unwrap();
    writer.empty_entry(&Entry::directory("d", 0o755)).unwrap();
    let mut content = content;
    writer.entry(&Entry::file("d/f", 0o644, size), &mut content).unwrap();
    writer.finish().unwrap()
}

/// What of unfinished work is in the store.
fn leftovers(store: &Store) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for marks in fs::read_dir(store.dir().join("layers")).unwrap() {
        let names = fs::read_dir(marks.unwrap().path()).unwrap().map(|entry| entry.unwrap().path());
        found.extend(names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("tmp-")));
    }
    found
}

pub(crate) async fn confined_bombs(bench: Bench) {
    let store = Store::open(bench.directory.join("own")).unwrap();
    let store = store.with_unpacker(std::sync::Arc::new(ConfinedUnpacker::new(bench.host.clone())));
    let small = store.with_limits(Limits { bytes_max: 4 << 20, entries_max: 10 });
    let bomb = layer(&store, std::io::repeat(0), 1 << 30);
    assert!(bomb.size < 4 << 20, "{} bytes", bomb.size);
    let error = small.unpack_layer(&bomb).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    // A file that says it is larger than everything.
    let mut bytes = archive(&[file("huge", "little")]);
    bytes[124..136].copy_from_slice(b"77777777777\0");
    bytes[148..156].copy_from_slice(b"        ");
    let sum: u32 = bytes[..512].iter().map(|b| u32::from(*b)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let [target, sparse] = directories(&bench, ["target", "sparse"]);
    let confined = ConfinedUnpacker::new(bench.host.clone());
    let options = UnpackOptions { marks: bench.store.marks(), limits: Limits::default() };
    let error = confined.unpack(opened(&bytes), Compression::None, &target, &options).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    // GNU's sparse files name more than they bring.
    bytes[156] = b'S';
    let sum = sum - u32::from(b'0') + u32::from(b'S');
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let error = confined.unpack(opened(&bytes), Compression::None, &sparse, &options).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert_eq!(leftovers(&store), Vec::<PathBuf>::new());
    assert!(!store.is_unpacked(&bomb.diff_id));
}

/// Feeds a worker half of its archive, and kills it then.
struct Killing(ConfinedUnpacker);

impl Unpacker for Killing {
    fn unpack(
        &self,
        mut blob: File,
        compression: Compression,
        target: &Path,
        options: &UnpackOptions,
    ) -> Result<Unpacked, Error> {
        let (read, mut write) = std::io::pipe().unwrap();
        let half = blob.metadata().unwrap().len() / 2;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::io::copy(&mut std::io::Read::take(&mut blob, half), &mut write).unwrap();
                let begun = Instant::now();
                // Until something of it is there.
                while fs::read_dir(target).unwrap().next().is_none() && begun.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                assert!(kill_workers() > 0, "the worker is not to be found");
            });
            let read = File::from(std::os::fd::OwnedFd::from(read));
            self.0.unpack(read, compression, target, options)
        })
    }
}

/// Kills the workers that this process has started through its spawners.
fn kill_workers() -> usize {
    let parent = |pid: &str| -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned)
    };
    let me = std::process::id().to_string();
    let mut killed = 0;
    for entry in fs::read_dir("/proc").unwrap() {
        let pid = entry.unwrap().file_name().to_string_lossy().into_owned();
        let ours = || parent(&parent(&pid)?).filter(|grandparent| *grandparent == me);
        let name = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if name.starts_with(b"windlass-unpack") && ours().is_some() {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            killed += usize::from(rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok());
        }
    }
    killed
}

pub(crate) async fn confined_killed(bench: Bench) {
    let plain = Store::open(bench.directory.join("own")).unwrap();
    // Not to be compressed, so that half of it is half of the file.
    let mut seed = 99_u64;
    let random: Vec<u8> = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 24) as u8
    })
    .take(8 << 20)
    .collect();
    let layer = layer(&plain, &random[..], random.len() as u64);
    let killing = Killing(ConfinedUnpacker::new(bench.host.clone()));
    let store = plain.with_unpacker(std::sync::Arc::new(killing));
    let error = store.unpack_layer(&layer).unwrap_err();
    assert!(error.to_string().contains("killed by signal 9"), "{error}");
    assert_eq!(leftovers(&plain), Vec::<PathBuf>::new());
    assert!(!plain.is_unpacked(&layer.diff_id) && plain.has_blob(&layer.digest));
    // Nobody else was harmed: the same host unpacks the same blob.
    let again = plain.with_unpacker(std::sync::Arc::new(ConfinedUnpacker::new(bench.host.clone())));
    let unpacked = again.unpack_layer(&layer).unwrap();
    assert!(fs::read(unpacked.join("d/f")).unwrap() == random);
}
