//! Packs a directory into a layer: an overlay's upper directory, whose deletions become whiteout entries, or a plain
//! tree. Entries come sorted, so that the same directory always gives the same bytes. Must never follow a link.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::marks::is_overlay_attribute;
use super::{Entry, Kind, LayerWriter, Marks, Time};
use crate::error::Doing;
use crate::media::Compression;
use crate::{Error, Result};

/// How to pack a directory.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// The directory is an overlay's upper, with deletions written so. `None`: a plain tree.
    pub overlay: Option<Marks>,
    /// Paths (from the directory's root) left out with all that is in them: what was mounted there while running.
    pub exclude: Vec<PathBuf>,
    /// Later times become this one (`SOURCE_DATE_EPOCH`).
    pub mtime_max: Option<Time>,
    /// Everything belongs to this user and group.
    pub owner: Option<(u32, u32)>,
    /// Whether the root directory itself is an entry; it is only of interest when a build changed it.
    pub root_entry: bool,
    /// How to compress.
    pub compression: Compression,
    /// The directory may become the unpacked layer (see [`crate::Store::commit_layer`]); it is gone afterwards.
    pub keep: bool,
}

impl PackOptions {
    /// For an overlay's upper directory, which becomes the unpacked layer.
    pub fn upper(marks: Marks) -> Self {
        Self { overlay: Some(marks), keep: true, ..Self::default() }
    }

    /// Whether the archive says something else than the directory.
    pub(crate) fn rewrites(&self) -> bool {
        self.mtime_max.is_some() || self.owner.is_some()
    }
}

/// Writes a directory's entries to a layer.
pub fn pack(dir: &Path, options: &PackOptions, writer: &mut LayerWriter) -> Result<()> {
    let mut packer = Packer { root: dir, options, writer, links: HashMap::new() };
    let meta = dir.symlink_metadata().doing("reading", dir)?;
    if !meta.is_dir() {
        return Err(Error::io(format!("packing {}", dir.display()), io::Error::from(io::ErrorKind::NotADirectory)));
    }
    if options.root_entry {
        let entry = packer.describe(Path::new(""), dir, &meta, Kind::Directory)?;
        packer.writer.empty_entry(&Entry { path: PathBuf::from("./"), ..entry })?;
    }
    packer.directory(Path::new(""))
}

struct Packer<'a> {
    root: &'a Path,
    options: &'a PackOptions,
    writer: &'a mut LayerWriter,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Packer<'_> {
    fn directory(&mut self, within: &Path) -> Result<()> {
        let dir = self.root.join(within);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).doing("reading", &dir)? {
            names.push(entry.doing("reading", &dir)?.file_name());
        }
        names.sort();
        for name in names {
            let path = within.join(&name);
            let excluded = |out: &PathBuf| out.strip_prefix("/").unwrap_or(out) == path;
            if !self.options.exclude.iter().any(excluded) {
                self.item(&path, &name)?;
            }
        }
        Ok(())
    }

    fn item(&mut self, path: &Path, name: &OsStr) -> Result<()> {
        let full = self.root.join(path);
        let meta = full.symlink_metadata().doing("reading", &full)?;
        let kind = meta.file_type();
        if let Some(marks) = self.options.overlay
            && is_whiteout(&full, &meta, marks)?
        {
            // The kernel shares one device between deletions: its time says nothing.
            return self.writer.empty_entry(&Entry::whiteout(path));
        }
        if name.as_bytes().starts_with(b".wh.") {
            return Err(Error::Unsupported {
                what: format!("file name `{}`", path.display()),
                detail: "names that start with `.wh.` mean deletions in layers; rename the file".to_owned(),
            });
        }
        if kind.is_dir() {
            let entry = self.describe(path, &full, &meta, Kind::Directory)?;
            self.writer.empty_entry(&entry)?;
            if let Some(marks) = self.options.overlay
                && is_opaque(&full, marks)?
            {
                self.writer.empty_entry(&Entry::opaque(path))?;
            }
            return self.directory(path);
        }
        if kind.is_socket() {
            return Ok(());
        }
        if meta.nlink() > 1 {
            if let Some(first) = self.links.get(&(meta.dev(), meta.ino())) {
                let kind = Kind::Hardlink { target: first.clone() };
                let entry = self.describe(path, &full, &meta, kind)?;
                return self.writer.empty_entry(&Entry { xattrs: Default::default(), ..entry });
            }
            self.links.insert((meta.dev(), meta.ino()), path.to_owned());
        }
        if kind.is_file() {
            let entry = self.describe(path, &full, &meta, Kind::File { size: meta.size() })?;
            let mut file = File::open(&full).doing("opening", &full)?;
            return self.writer.entry(&entry, &mut file);
        }
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let kind = if kind.is_symlink() {
            Kind::Symlink { target: fs::read_link(&full).doing("reading", &full)? }
        } else if kind.is_char_device() {
            Kind::Character { major, minor }
        } else if kind.is_block_device() {
            Kind::Block { major, minor }
        } else {
            Kind::Fifo
        };
        let entry = self.describe(path, &full, &meta, kind)?;
        self.writer.empty_entry(&entry)
    }

    fn describe(&self, path: &Path, full: &Path, meta: &Metadata, kind: Kind) -> Result<Entry> {
        let mut entry = Entry {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
            uid: u64::from(meta.uid()),
            gid: u64::from(meta.gid()),
            ..Entry::default()
        };
        if let Some((uid, gid)) = self.options.owner {
            (entry.uid, entry.gid) = (u64::from(uid), u64::from(gid));
        }
        if matches!(kind, Kind::File { .. } | Kind::Directory) {
            for name in list_attributes(full)? {
                let wanted =
                    (name.starts_with("user.") || name == "security.capability" || name.starts_with("system."))
                        && !is_overlay_attribute(name.as_bytes());
                if wanted && let Some(value) = xattr::get(full, &name).doing("reading attributes of", full)? {
                    entry.xattrs.insert(name, value);
                }
            }
        }
        entry.kind = kind;
        Ok(self.clamped(entry, meta))
    }

    fn clamped(&self, mut entry: Entry, meta: &Metadata) -> Entry {
        let time = Time { seconds: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap_or_default() };
        entry.mtime = self.options.mtime_max.map_or(time, |max| time.min(max));
        entry
    }
}

fn list_attributes(path: &Path) -> Result<Vec<String>> {
    match xattr::list(path) {
        Ok(names) => {
            let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
            names.sort();
            Ok(names)
        }
        // Some filesystems have none.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Vec::new()),
        Err(error) => Err(error).doing("reading attributes of", path),
    }
}

fn is_whiteout(path: &Path, meta: &Metadata, marks: Marks) -> Result<bool> {
    if meta.file_type().is_char_device() {
        return Ok(meta.rdev() == 0);
    }
    if meta.is_file() && meta.size() == 0 {
        return Ok(attribute(path, marks.whiteout())?.is_some());
    }
    Ok(false)
}

fn is_opaque(path: &Path, marks: Marks) -> Result<bool> {
    // `x` only says that the directory has whiteouts written as attributes.
    Ok(attribute(path, marks.opaque())?.as_deref() == Some(b"y"))
}

fn attribute(path: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    match xattr::get(path, name) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        other => other.doing("reading attributes of", path),
    }
}
