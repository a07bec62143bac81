//! The image's tree while it is collected: links of this machine are kept as links, and what they lead to comes along.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use crate::error::Doing;
use crate::layer::{Entry, Kind, LayerWriter, Time};
use crate::{Error, Result};

pub(super) struct Tree {
    /// By path within the image, without a leading slash: parents sort before their children.
    items: BTreeMap<PathBuf, Item>,
}

struct Item {
    entry: Entry,
    content: Content,
}

enum Content {
    None,
    Bytes(Vec<u8>),
    File(PathBuf),
}

const LINKS_MAX: usize = 40;

impl Tree {
    pub(super) fn new() -> Self {
        Self { items: BTreeMap::new() }
    }

    /// What every image has, as this machine has it: merged directories, certificates.
    pub(super) fn base(&mut self) -> Result<()> {
        for path in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
            if Path::new(path).is_symlink() {
                self.host_path(Path::new(path))?;
            }
        }
        for path in
            ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/usr/share/zoneinfo/UTC"]
        {
            if Path::new(path).is_file() {
                self.host_path(Path::new(path))?;
            }
        }
        Ok(())
    }

    /// What every image needs and nothing else brought.
    pub(super) fn defaults(&mut self) {
        for (path, mode) in [
            ("dev", 0o755),
            ("etc", 0o755),
            ("home", 0o755),
            ("proc", 0o555),
            ("root", 0o700),
            ("run", 0o755),
            ("sys", 0o555),
            ("tmp", 0o1777),
            ("usr", 0o755),
            ("usr/bin", 0o755),
            ("var", 0o755),
            ("var/tmp", 0o1777),
        ] {
            self.directory(Path::new(path), mode);
        }
        let files = [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
            ),
            ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
            ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        ];
        for (path, text) in files {
            self.items.entry(PathBuf::from(path)).or_insert_with(|| Item {
                entry: Entry::file(path, 0o644, text.len() as u64),
                content: Content::Bytes(text.as_bytes().to_vec()),
            });
        }
    }

    /// Adds a directory of root's with its parents, where there is none yet.
    pub(super) fn directory(&mut self, path: &Path, mode: u32) {
        let path = path.strip_prefix("/").unwrap_or(path);
        let mut at = PathBuf::new();
        for part in path.components() {
            if let Component::Normal(word) = part {
                at.push(word);
                let mode = if at == path { mode } else { 0o755 };
                let entry = Entry::directory(&at, mode);
                self.items.entry(at.clone()).or_insert(Item { entry, content: Content::None });
            }
        }
    }

    /// Adds a path of this machine under the same name, with every link on the way and what it leads to. Gives the real
    /// path.
    pub(super) fn host_path(&mut self, path: &Path) -> Result<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut todo: VecDeque<OsString> = parts(path);
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let meta = next.symlink_metadata().doing("looking for", &next)?;
            if meta.is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::Host {
                        what: path.display().to_string(),
                        detail: "it has too many levels of symbolic links".to_owned(),
                    });
                }
                let target = fs::read_link(&next).doing("reading", &next)?;
                self.item(&next, &next, &meta, false)?;
                for part in parts(&target).into_iter().rev() {
                    todo.push_front(part);
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                continue;
            }
            self.item(&next, &next, &meta, false)?;
            at = next;
        }
        Ok(at)
    }

    /// Adds a file or tree of this machine at another place, as root's. Gives the executable files among them.
    pub(super) fn add(&mut self, from: &Path, to: &Path) -> Result<Vec<PathBuf>> {
        let meta = fs::metadata(from)
            .map_err(|error| Error::Host { what: format!("--add {}", from.display()), detail: error.to_string() })?;
        let mut executables = Vec::new();
        let to = &self.through_links(to);
        if let Some(parent) = to.parent() {
            self.directory(parent, 0o755);
        }
        if !meta.is_dir() {
            self.item(from, to, &meta, true)?;
            if meta.mode() & 0o111 != 0 {
                executables.push(from.to_owned());
            }
            return Ok(executables);
        }
        let root = from.canonicalize().doing("reading", from)?;
        for entry in walkdir::WalkDir::new(&root).sort_by_file_name() {
            let entry = entry.map_err(|e| Error::io(format!("reading {}", root.display()), io::Error::from(e)))?;
            let within = entry.path().strip_prefix(&root).unwrap_or(Path::new(""));
            let meta = entry.path().symlink_metadata().doing("reading", entry.path())?;
            // `join` with an empty path would add a slash.
            let place = if within.as_os_str().is_empty() { to.to_owned() } else { to.join(within) };
            self.item(entry.path(), &place, &meta, true)?;
            if meta.is_file() && meta.mode() & 0o111 != 0 {
                executables.push(entry.path().to_owned());
            }
        }
        Ok(executables)
    }

    /// Where a path of the image really is: its directories may be links (`/bin` is often `usr/bin`).
    fn through_links(&self, path: &Path) -> PathBuf {
        let mut at = PathBuf::new();
        let mut todo = parts(path);
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(part);
            let Some(Item { entry: Entry { kind: Kind::Symlink { target }, .. }, .. }) = self.items.get(&at) else {
                continue;
            };
            // The last word is what is put there, even in place of a link.
            if todo.is_empty() || links > LINKS_MAX {
                continue;
            }
            links += 1;
            at.pop();
            if target.is_absolute() {
                at = PathBuf::new();
            }
            for part in parts(target).into_iter().rev() {
                todo.push_front(part);
            }
        }
        at
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.items.contains_key(path.strip_prefix("/").unwrap_or(path))
    }

    fn item(&mut self, from: &Path, to: &Path, meta: &Metadata, as_root: bool) -> Result<()> {
        let path = to.strip_prefix("/").unwrap_or(to).to_owned();
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let kind = meta.file_type();
        let (kind, content) = if kind.is_dir() {
            (Kind::Directory, Content::None)
        } else if kind.is_symlink() {
            (Kind::Symlink { target: fs::read_link(from).doing("reading", from)? }, Content::None)
        } else if kind.is_file() {
            (Kind::File { size: meta.size() }, Content::File(from.to_owned()))
        } else if kind.is_fifo() {
            (Kind::Fifo, Content::None)
        } else {
            // Sockets and devices belong to the machine, not to an image.
            return Ok(());
        };
        // A directory's own times change with every file beside those taken along: they are not part of the image.
        let is_dir = kind == Kind::Directory;
        let mtime = if is_dir { Time::default() } else { Time { seconds: meta.mtime(), nanos: 0 } };
        let (uid, gid) = if as_root { (0, 0) } else { (meta.uid().into(), meta.gid().into()) };
        let mut xattrs = BTreeMap::new();
        if matches!(kind, Kind::File { .. })
            && let Ok(Some(value)) = xattr::get(from, "security.capability")
        {
            xattrs.insert("security.capability".to_owned(), value);
        }
        let entry = Entry { path: path.clone(), kind, mode: meta.mode() & 0o7777, uid, gid, mtime, xattrs };
        self.items.insert(path, Item { entry, content });
        Ok(())
    }

    pub(super) fn write(&self, writer: &mut LayerWriter) -> Result<()> {
        for item in self.items.values() {
            match &item.content {
                Content::None => writer.empty_entry(&item.entry)?,
                Content::Bytes(bytes) => writer.entry(&item.entry, &mut bytes.as_slice())?,
                Content::File(path) => {
                    let mut file = File::open(path).doing("opening", path)?;
                    // Read whole even if it grew: the entry says how much is taken.
                    writer.entry(&item.entry, &mut file)?;
                }
            }
        }
        Ok(())
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(word) => Some(word.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}
