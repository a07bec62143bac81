//! A directory tree as text, and small archives: what the tests compare.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use windlass_oci::layer::{ArchiveWriter, Entry, Kind};
use windlass_oci::media::Compression;
use windlass_oci::{Layer, Store};

/// Every path with type, mode, owner, size or target, attributes and hard-link group; times with `times`.
pub fn describe(root: &Path, times: bool) -> String {
    let mut text = String::new();
    let mut groups: HashMap<(u64, u64), usize> = HashMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path();
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            "dir".to_owned()
        } else if kind.is_symlink() {
            format!("link -> {}", fs::read_link(path).unwrap().display())
        } else if kind.is_file() {
            format!("file {:?}", String::from_utf8_lossy(&fs::read(path).unwrap()))
        } else if kind.is_char_device() {
            format!("char {}:{}", rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()))
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else {
            "other".to_owned()
        };
        let shown = path.strip_prefix(root).unwrap().display();
        write!(text, "{shown} {:o} {}:{} {what}", meta.mode() & 0o7777, meta.uid(), meta.gid()).unwrap();
        if !kind.is_dir() && meta.nlink() > 1 {
            let next = groups.len();
            write!(text, " group{}", groups.entry((meta.dev(), meta.ino())).or_insert(next)).unwrap();
        }
        if !kind.is_symlink() {
            let mut names: Vec<_> = xattr::list(path).unwrap().map(|n| n.into_string().unwrap()).collect();
            names.sort();
            for name in names.iter().filter(|name| !name.contains("overlay") || name.contains("opaque")) {
                let value = xattr::get(path, name).unwrap().unwrap_or_default();
                write!(text, " {name}={}", String::from_utf8_lossy(&value).escape_debug()).unwrap();
            }
        }
        if times {
            write!(text, " {}.{:09}", meta.mtime(), meta.mtime_nsec()).unwrap();
        }
        text.push('\n');
    }
    text
}

pub fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.entry(entry, &mut &**content).unwrap();
    }
    writer.finish().unwrap()
}

pub fn file(path: &str, content: &'static str) -> (Entry, &'static [u8]) {
    (Entry::file(path, 0o644, content.len() as u64), content.as_bytes())
}

pub fn dir(path: &str) -> (Entry, &'static [u8]) {
    (Entry::directory(path, 0o755), b"")
}

pub fn symlink(path: &str, target: &str) -> (Entry, &'static [u8]) {
    (Entry::symlink(path, target), b"")
}

pub fn hardlink(path: &str, target: &str) -> (Entry, &'static [u8]) {
    (Entry { path: path.into(), kind: Kind::Hardlink { target: target.into() }, ..Entry::default() }, b"")
}

/// A layer of the store with these entries.
pub fn layer(store: &Store, entries: &[(Entry, &[u8])]) -> Layer {
    let mut writer = store.layer_writer(Compression::Gzip).unwrap();
    for (entry, content) in entries {
        writer.entry(entry, &mut &**content).unwrap();
    }
    writer.finish().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
