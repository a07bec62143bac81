//! `COPY`: files of one root filesystem (the context, a stage, an image) into another, straight into its overlay mount, and
//! the digest of what would be copied. Reads and writes beneath the two roots only.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::cache::Key;
use crate::error::{Doing, Fault};
use crate::glob;
use crate::ignore::Ignore;
use crate::view::{self, Owner, View, clean};

/// What is changed on the way.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Everything belongs to this owner; `None` keeps what the source says.
    pub(crate) owner: Option<Owner>,
    /// Everything has this mode.
    pub(crate) mode: Option<u32>,
    /// Left out, by the path from the source's root.
    pub(crate) ignore: Ignore,
}

/// The sources of one instruction, found.
#[derive(Debug)]
pub(crate) struct Found {
    paths: Vec<PathBuf>,
}

/// Looks up the sources as written; a pattern that fits nothing is a fault, as is a path that is not there.
pub(crate) fn find(from: &View, sources: &[String], ignore: &Ignore, place: &str) -> Result<Found, Fault> {
    let mut paths = Vec::new();
    for source in sources {
        let wanted = clean(Path::new(source));
        if !glob::is_pattern(source) {
            let ignored = ignore.is_ignored(&wanted.to_string_lossy());
            let open = from.open(&wanted, OFlags::PATH);
            if ignored && !(open.is_ok() && ignore.may_take_back_within(&wanted.to_string_lossy())) {
                return Err(Fault::said(format!("{source} is left out of {place} by its .dockerignore")));
            }
            match open {
                Ok(_) => paths.push(wanted),
                Err(Errno::NOENT | Errno::NOTDIR) => return Err(Fault::said(format!("{source} is not in {place}"))),
                Err(error) => return Err(Fault::io(format!("open {source} in {place}"), error)),
            }
            continue;
        }
        let mut found = vec![PathBuf::new()];
        for part in wanted.components() {
            let part = part.as_os_str().to_string_lossy();
            let mut next = Vec::new();
            for directory in found {
                if !glob::is_pattern(&part) {
                    next.push(directory.join(&*part));
                    continue;
                }
                let Ok(fd) = from.open(&directory, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
                for name in names(&fd).doing(|| format!("read {source} in {place}"))? {
                    match glob::matches(&part, &name.to_string_lossy()) {
                        Some(true) => next.push(directory.join(name)),
                        Some(false) => {}
                        None => return Err(Fault::said(format!("{source} is not a pattern"))),
                    }
                }
            }
            found = next;
        }
        found.retain(|path| {
            let name = path.to_string_lossy();
            from.exists(path) && (!ignore.is_ignored(&name) || ignore.may_take_back_within(&name))
        });
        if found.is_empty() {
            return Err(Fault::said(format!("nothing in {place} fits {source}")));
        }
        paths.extend(found);
    }
    Ok(Found { paths })
}

impl Found {
    /// One path that is there.
    pub(crate) fn one(path: &Path) -> Self {
        Self { paths: vec![path.to_owned()] }
    }

    /// These paths, which are there.
    pub(crate) fn these(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// The paths, from the source's root.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Adds to a key what would be copied: names, types, modes, owners, contents; not times.
    pub(crate) fn hash(&self, from: &View, rules: &Rules, key: &mut Key) -> Result<(), Fault> {
        for path in &self.paths {
            let what = || format!("read {}", path.display());
            key.text("source", &path.to_string_lossy());
            let fd = from.open(path, OFlags::PATH).doing(what)?;
            let stat = rustix::fs::fstat(&fd).doing(what)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let directory = from.open(path, OFlags::RDONLY | OFlags::DIRECTORY).doing(what)?;
                describe(&stat, rules, key);
                hash_directory(&directory, path, rules, key)?;
            } else {
                let open = |flags| from.open(path, flags);
                hash_item(&stat, open, path, rules, key)?;
            }
        }
        Ok(())
    }

    /// Copies everything to a destination in `to`; a destination that ends with `/` is a directory.
    pub(crate) fn copy(&self, from: &View, to: &View, dest: &str, rules: &Rules) -> Result<(), Fault> {
        let mut copier = Copier { to, rules, links: HashMap::new() };
        let parents = rules.owner.unwrap_or(Owner { uid: 0, gid: 0 });
        let path = clean(Path::new(dest));
        let as_directory = is_directory_text(dest) || self.paths.len() > 1 || to.is_directory(&path);
        for source in &self.paths {
            let what = || format!("read {}", source.display());
            let fd = from.open(source, OFlags::PATH).doing(what)?;
            let stat = rustix::fs::fstat(&fd).doing(what)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                // The directory itself is not copied, its content is; one that is made for it looks like it.
                let is_new = !to.is_directory(&path);
                let into = to.make_directory(&path, parents)?;
                let directory = from.open(source, OFlags::RDONLY | OFlags::DIRECTORY).doing(what)?;
                copier.directory(&directory, source, &into, &path)?;
                if is_new {
                    copier.finish_directory(&into, &stat).doing(|| format!("write /{}", path.display()))?;
                }
                continue;
            }
            let target = match source.file_name() {
                Some(name) if as_directory => path.join(name),
                _ => path.clone(),
            };
            if to.is_directory(&target) {
                return Err(Fault::said(format!("/{} is a directory, and cannot become a file", target.display())));
            }
            let (directory, target) = to.place(&target, parents)?;
            let name = target.file_name().unwrap_or_default().to_owned();
            copier.item(&stat, |flags| from.open(source, flags), None, &directory, &name, &target)?;
        }
        Ok(())
    }
}

/// Whether a destination is a directory by how it is written.
pub(crate) fn is_directory_text(dest: &str) -> bool {
    dest.is_empty()
        || dest.ends_with('/')
        || dest == "."
        || dest == ".."
        || dest.ends_with("/.")
        || dest.ends_with("/..")
}

/// The sorted names of a directory.
fn names(directory: impl AsFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What of a directory is copied: names with what they are. A directory that is left out is in it when something beneath
/// was taken back.
fn wanted(directory: &OwnedFd, path: &Path, ignore: &Ignore) -> Result<Vec<(OsString, Stat)>, Fault> {
    let what = || format!("read {}", path.display());
    let mut wanted = Vec::new();
    for name in names(directory).doing(what)? {
        let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).doing(what)?;
        if !ignore.is_empty() {
            let inner = path.join(&name);
            let text = inner.to_string_lossy();
            if ignore.is_ignored(&text) {
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                if !is_directory || !ignore.may_take_back_within(&text) {
                    continue;
                }
                let inside = open_directory(directory, &name).doing(what)?;
                if self::wanted(&inside, &inner, ignore)?.is_empty() {
                    continue;
                }
            }
        }
        wanted.push((name, stat));
    }
    Ok(wanted)
}

fn open_directory(above: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(above, name, flags, Mode::empty())
}

fn describe(stat: &Stat, rules: &Rules, key: &mut Key) {
    let mode = rules.mode.map_or(stat.st_mode, |mode| stat.st_mode & !0o7777 | mode);
    key.number("mode", u64::from(mode));
    let owner = rules.owner.unwrap_or(Owner { uid: stat.st_uid, gid: stat.st_gid });
    key.number("uid", u64::from(owner.uid));
    key.number("gid", u64::from(owner.gid));
}

fn hash_directory(directory: &OwnedFd, path: &Path, rules: &Rules, key: &mut Key) -> Result<(), Fault> {
    for (name, stat) in wanted(directory, path, &rules.ignore)? {
        let inner = path.join(&name);
        key.bytes("name", name.as_bytes());
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            describe(&stat, rules, key);
            let inside = open_directory(directory, &name).doing(|| format!("read {}", inner.display()))?;
            hash_directory(&inside, &inner, rules, key)?;
            key.text("end", "");
        } else {
            let open = |flags: OFlags| rustix::fs::openat(directory, &name, flags | OFlags::NOFOLLOW, Mode::empty());
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                describe(&stat, rules, key);
                let to = rustix::fs::readlinkat(directory, &name, Vec::new()).doing(|| inner.display().to_string())?;
                key.bytes("link", to.as_bytes());
            } else {
                hash_item(&stat, open, &inner, rules, key)?;
            }
        }
    }
    Ok(())
}

fn hash_item(
    stat: &Stat,
    open: impl FnOnce(OFlags) -> Result<OwnedFd, Errno>,
    path: &Path,
    rules: &Rules,
    key: &mut Key,
) -> Result<(), Fault> {
    describe(stat, rules, key);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let what = || format!("read {}", path.display());
            let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC).doing(what)?;
            key.number("links", if stat.st_nlink > 1 { stat.st_ino } else { 0 });
            for (name, value) in attributes(&file) {
                key.bytes(&name, &value);
            }
            key.content("content", File::from(file)).doing(what)?;
        }
        _ => key.number("device", stat.st_rdev),
    }
    Ok(())
}

/// The attributes that images keep.
fn attributes(file: impl AsFd) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0_u8; 1 << 16];
    let Ok(count) = rustix::fs::flistxattr(&file, &mut list[..]) else { return Vec::new() };
    let names = list[..count].split(|b| *b == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let kept = |name: &&str| {
        *name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."))
    };
    let mut found: Vec<(String, Vec<u8>)> = names
        .filter(kept)
        .filter_map(|name| {
            let mut value = vec![0_u8; 1 << 16];
            let count = rustix::fs::fgetxattr(&file, name, &mut value[..]).ok()?;
            value.truncate(count);
            Some((name.to_owned(), value))
        })
        .collect();
    found.sort();
    found
}

struct Copier<'a> {
    to: &'a View,
    rules: &'a Rules,
    /// The first copy of each file with several names, within this instruction.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copier<'_> {
    /// Copies what is in a directory into one that is there.
    fn directory(&mut self, from: &OwnedFd, path: &Path, into: &OwnedFd, into_path: &Path) -> Result<(), Fault> {
        for (name, stat) in wanted(from, path, &self.rules.ignore)? {
            let (inner, target) = (path.join(&name), into_path.join(&name));
            let what = || format!("write /{}", target.display());
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                let open = |flags: OFlags| rustix::fs::openat(from, &name, flags | OFlags::NOFOLLOW, Mode::empty());
                self.item(&stat, open, Some(from), into, &name, &target)?;
                continue;
            }
            match rustix::fs::mkdirat(into, &name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Fault::io(what(), error)),
            }
            let inside = match open_directory(into, &name) {
                Ok(fd) => fd,
                // A link to a directory of the target, such as /var/run.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    self.to.open(&target, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|_| {
                        Fault::said(format!("/{} is no directory, and cannot become one", target.display()))
                    })?
                }
                Err(error) => return Err(Fault::io(what(), error)),
            };
            let source = open_directory(from, &name).doing(|| format!("read {}", inner.display()))?;
            self.directory(&source, &inner, &inside, &target)?;
            self.finish_directory(&inside, &stat).doing(what)?;
        }
        Ok(())
    }

    fn owner(&self, stat: &Stat) -> Owner {
        self.rules.owner.unwrap_or(Owner { uid: stat.st_uid, gid: stat.st_gid })
    }

    fn mode(&self, stat: &Stat) -> Mode {
        Mode::from_raw_mode(self.rules.mode.unwrap_or(stat.st_mode) & 0o7777)
    }

    fn finish_directory(&self, directory: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
        view::own(directory, self.owner(stat))?;
        rustix::fs::fchmod(directory, self.mode(stat))?;
        rustix::fs::futimens(directory, &times(stat))
    }

    /// Copies anything but a directory. `above` is given where a symbolic link is copied as one.
    fn item(
        &mut self,
        stat: &Stat,
        open: impl Fn(OFlags) -> Result<OwnedFd, Errno>,
        above: Option<&OwnedFd>,
        into: &OwnedFd,
        name: &OsStr,
        target: &Path,
    ) -> Result<(), Fault> {
        let what = || format!("write /{}", target.display());
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            return Ok(());
        }
        match rustix::fs::unlinkat(into, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                return Err(Fault::said(format!("/{} is a directory, and cannot become a file", target.display())));
            }
            Err(error) => return Err(Fault::io(what(), error)),
        }
        let times = times(stat);
        let owner = self.owner(stat);
        if kind == FileType::RegularFile {
            let id = (stat.st_dev, stat.st_ino);
            if stat.st_nlink > 1
                && let Some(first) = self.links.get(&id)
                && let Some(directory) = first.parent().and_then(|dir| self.to.open(dir, OFlags::PATH).ok())
            {
                let first = first.file_name().unwrap_or_default();
                return rustix::fs::linkat(&directory, first, into, name, AtFlags::empty()).doing(what);
            }
            let mut source = File::from(open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC).doing(what)?);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(into, name, flags, Mode::from_raw_mode(0o600)).doing(what)?;
            let mut made = File::from(made);
            std::io::copy(&mut source, &mut made).doing(what)?;
            finish_file(&made, owner, self.mode(stat), &attributes(&source), &times).doing(what)?;
            if stat.st_nlink > 1 {
                self.links.insert(id, target.to_owned());
            }
            return Ok(());
        }
        if let (FileType::Symlink, Some(above)) = (kind, above) {
            let to = rustix::fs::readlinkat(above, name, Vec::new()).doing(what)?;
            rustix::fs::symlinkat(&to, into, name).doing(what)?;
        } else {
            rustix::fs::mknodat(into, name, kind, self.mode(stat), stat.st_rdev).doing(what)?;
            rustix::fs::chmodat(into, name, self.mode(stat), AtFlags::empty()).doing(what)?;
        }
        view::own_at(into, name, owner).doing(what)?;
        rustix::fs::utimensat(into, name, &times, AtFlags::SYMLINK_NOFOLLOW).doing(what)
    }
}

fn finish_file(
    file: &File,
    owner: Owner,
    mode: Mode,
    attributes: &[(String, Vec<u8>)],
    times: &Timestamps,
) -> Result<(), Errno> {
    // The owner first: changing it clears setuid and capabilities.
    view::own(file, owner)?;
    rustix::fs::fchmod(file, mode)?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty())?;
    }
    rustix::fs::futimens(file, times)
}

fn times(stat: &Stat) -> Timestamps {
    #[allow(clippy::cast_possible_wrap, clippy::unnecessary_cast, reason = "nanoseconds are below a thousand millions")]
    let time = Timespec { tv_sec: stat.st_mtime as i64, tv_nsec: stat.st_mtime_nsec as i64 };
    Timestamps { last_access: time, last_modification: time }
}

/// Writes a text that stands in the Dockerfile itself.
pub(crate) fn write_text(to: &View, dest: &str, name: &str, text: &str, rules: &Rules) -> Result<(), Fault> {
    let owner = rules.owner.unwrap_or(Owner { uid: 0, gid: 0 });
    let path = clean(Path::new(dest));
    let target = if is_directory_text(dest) || to.is_directory(&path) { path.join(name) } else { path };
    let (directory, target) = to.place(&target, owner)?;
    let what = || format!("write /{}", target.display());
    let file_name = target.file_name().unwrap_or_default();
    match rustix::fs::unlinkat(&directory, file_name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(Fault::io(what(), error)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file =
        File::from(rustix::fs::openat(&directory, file_name, flags, Mode::from_raw_mode(0o600)).doing(what)?);
    std::io::copy(&mut text.as_bytes().take(u64::MAX), &mut file).doing(what)?;
    view::own(&file, owner).doing(what)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(rules.mode.unwrap_or(0o644))).doing(what)
}
