//! Reading a repository on this machine's disk: its objects are copied and its references read, each file opened
//! beneath the allowed directory without following a link. The source's configuration and hooks are never used, and
//! nothing in it is written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use rustix::fs::{Mode, OFlags};

use super::GitError;
use super::remote::Refs;
use crate::allow::AllowPaths;
use crate::beneath::Root;
use crate::cancel::Cancel;

/// A git directory on disk.
pub(super) struct LocalRepo {
    dir: Root,
    shown: String,
}

const SMALL_BYTES_MAX: u64 = 64 << 20;

impl LocalRepo {
    /// Opens `path`: a bare repository, or a work tree with a `.git` directory.
    pub(super) fn open(path: &Path, shown: &str, allow: &AllowPaths) -> Result<Self, GitError> {
        let (root, rest) = allow.resolve(path)?;
        let root = Root::open(&root).map_err(GitError::io(&root))?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let top = Root::from_fd(root.open_strict(&rest, flags, Mode::empty()).map_err(GitError::io(path))?);
        let not_git =
            || GitError::BadUrl { url: shown.to_owned(), reason: "there is no git repository at this path".into() };
        let dir = match top.open_strict(Path::new(".git"), OFlags::RDONLY, Mode::empty()) {
            Ok(fd) => {
                if !File::from(fd.try_clone().map_err(GitError::io(path))?)
                    .metadata()
                    .map_err(GitError::io(path))?
                    .is_dir()
                {
                    return Err(unsupported(shown, "linked work trees are not read; give the main repository's path"));
                }
                Root::from_fd(fd)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => top,
            Err(source) => return Err(GitError::Io { path: path.to_owned(), source }),
        };
        let repo = Self { dir, shown: shown.to_owned() };
        if repo.small("HEAD")?.is_none() || repo.dir.sub(Path::new("objects")).is_err() {
            return Err(not_git());
        }
        if repo.small("objects/info/alternates")?.is_some() {
            return Err(unsupported(
                shown,
                "objects/info/alternates is not followed; repack it with `git repack -a -d`",
            ));
        }
        let config = repo.small("config")?.unwrap_or_default().to_ascii_lowercase();
        if config.contains("objectformat") && config.contains("sha256") {
            return Err(unsupported(shown, "SHA-256 repositories arrive later"));
        }
        if config.contains("refstorage") && config.contains("reftable") {
            return Err(unsupported(shown, "reftable repositories arrive later"));
        }
        Ok(repo)
    }

    /// A small text file of the git directory.
    fn small(&self, name: &str) -> Result<Option<String>, GitError> {
        let path = Path::new(name);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        match self.dir.open_strict(path, flags, Mode::empty()) {
            Ok(fd) => {
                let mut bytes = Vec::new();
                File::from(fd).take(SMALL_BYTES_MAX).read_to_end(&mut bytes).map_err(GitError::io(path))?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(GitError::Io { path: path.to_owned(), source }),
        }
    }

    /// All references.
    pub(super) fn refs(&self) -> Result<Refs, GitError> {
        let mut refs = Refs::default();
        for line in self.small("packed-refs")?.unwrap_or_default().lines() {
            if let Some((id, name)) = line.split_once(' ')
                && let Some(id) = object_id(id)
                && is_ref_name(name)
            {
                refs.names.insert(name.to_owned(), id);
            }
        }
        self.loose(&PathBuf::from("refs"), 0, &mut refs)?;
        let head = self.small("HEAD")?.unwrap_or_default();
        match head.trim().strip_prefix("ref:") {
            Some(name) => {
                let name = name.trim();
                refs.head_id = refs.names.get(name).copied();
                refs.head = refs.head_id.map(|_| name.to_owned());
            }
            None => refs.head_id = object_id(head.trim()),
        }
        Ok(refs)
    }

    fn loose(&self, path: &Path, depth: usize, refs: &mut Refs) -> Result<(), GitError> {
        let dir = match self.dir.open_strict(path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()) {
            Ok(fd) => Root::from_fd(fd),
            // Gone, or a link: not ours to follow.
            Err(_) => return Ok(()),
        };
        for name in dir.names().map_err(GitError::io(path))? {
            let child = path.join(&name);
            let Ok(fd) = dir.open_strict(Path::new(&name), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) else {
                continue;
            };
            let file = File::from(fd);
            let metadata = file.metadata().map_err(GitError::io(&child))?;
            if metadata.is_dir() && depth < 64 {
                self.loose(&child, depth + 1, refs)?;
            } else if metadata.is_file() {
                let mut text = String::new();
                let full = String::from_utf8_lossy(child.as_os_str().as_bytes()).into_owned();
                if file.take(4096).read_to_string(&mut text).is_ok()
                    && let Some(id) = object_id(text.trim())
                    && is_ref_name(&full)
                {
                    refs.names.insert(full, id);
                }
            }
        }
        Ok(())
    }

    /// Copies every object file that `objects` does not have yet. A pack's index comes after the pack.
    pub(super) fn copy_objects(&self, objects: &Path, cancel: &Cancel) -> Result<(), GitError> {
        let source = self.dir.sub(Path::new("objects")).map_err(GitError::io("objects"))?;
        // Packs first: an object that is packed in between would else be missed in both places.
        for round in ["loose", "pack", "loose"] {
            match round {
                "pack" => copy_dir(&source, Path::new("pack"), objects, &is_pack_file, cancel)?,
                _ => {
                    for name in source.names().map_err(GitError::io("objects"))? {
                        if name.len() == 2 && name.as_bytes().iter().all(u8::is_ascii_hexdigit) {
                            copy_dir(&source, Path::new(&name), objects, &is_loose_file, cancel)?;
                        }
                    }
                }
            }
        }
        if let Some(shallow) = self.small("shallow")?
            && let Some(git_dir) = objects.parent()
        {
            std::fs::write(git_dir.join("shallow"), shallow).map_err(GitError::io(git_dir))?;
        }
        Ok(())
    }

    /// The name for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }
}

fn unsupported(url: &str, what: &str) -> GitError {
    GitError::Unsupported { url: url.to_owned(), what: what.to_owned() }
}

fn object_id(text: &str) -> Option<ObjectId> {
    ObjectId::from_hex(text.as_bytes()).ok()
}

/// Only names that git itself would accept: they become paths on our side.
fn is_ref_name(name: &str) -> bool {
    name.starts_with("refs/") && gix::validate::reference::name(name.into()).is_ok()
}

fn is_loose_file(name: &[u8]) -> bool {
    name.len() == 38 && name.iter().all(u8::is_ascii_hexdigit)
}

fn is_pack_file(name: &[u8]) -> bool {
    name.starts_with(b"pack-") && (name.ends_with(b".pack") || name.ends_with(b".idx"))
}

fn copy_dir(
    source: &Root,
    path: &Path,
    into: &Path,
    wanted: &dyn Fn(&[u8]) -> bool,
    cancel: &Cancel,
) -> Result<(), GitError> {
    let Ok(fd) = source.open_strict(path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()) else { return Ok(()) };
    let dir = Root::from_fd(fd);
    let target = into.join(path);
    std::fs::create_dir_all(&target).map_err(GitError::io(&target))?;
    let mut names = dir.names().map_err(GitError::io(path))?;
    names.retain(|name| wanted(name.as_bytes()));
    // `.pack` before `.idx`: a pack without index is ignored, an index without pack is an error.
    names.sort_by_key(|name| name.as_bytes().ends_with(b".idx"));
    for name in names {
        if cancel.is_cancelled() {
            return Err(GitError::Cancelled);
        }
        let to = target.join(&name);
        if to.exists() {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let mut from = match dir.open_strict(Path::new(&name), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            // Repacked since the listing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(GitError::Io { path: path.join(&name), source }),
        };
        if !from.metadata().map_err(GitError::io(path))?.is_file() {
            continue;
        }
        let mut staged = tempfile::NamedTempFile::new_in(&target).map_err(GitError::io(&target))?;
        io::copy(&mut from, staged.as_file_mut()).map_err(GitError::io(&to))?;
        rustix::fs::fchmod(staged.as_file(), Mode::from_raw_mode(0o444)).map_err(|e| GitError::io(&to)(e.into()))?;
        staged.persist(&to).map_err(|error| GitError::Io { path: to.clone(), source: error.error })?;
    }
    Ok(())
}
