//! The store on this machine: one file per key beneath a directory. A key appears whole, by rename, after its bytes
//! are on disk. It must never reach outside its directory.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use super::{Content, Driver, Payload, Saved, StoreError};
use crate::archive::{self, ExtractOptions, Limits};
use crate::beneath::Root;
use crate::cancel::Cancel;

/// Longest key; S3 has the same.
const KEY_BYTES_MAX: usize = 1024;

/// A directory of artifacts (`<home>/artifacts`).
#[derive(Clone, Debug)]
pub struct LocalStore {
    root: Arc<Root>,
}

impl LocalStore {
    /// Opens the store; makes the directory (0700) where it is missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let root = Root::open(dir)?;
        // A crash leaves unfinished files only here.
        root.remove(OsString::from(STAGING).as_os_str())?;
        root.make_dirs(Path::new(STAGING), None)?;
        Ok(Self { root: Arc::new(root) })
    }

    /// Opens a store that another process keeps, to read from it: nothing is made, nothing is cleared away.
    pub fn look(dir: &Path) -> io::Result<Self> {
        Ok(Self { root: Arc::new(Root::open(dir)?) })
    }

    /// The keys of everything beneath a prefix, sorted; beneath the root where it is empty. Blocks.
    pub fn list(&self, prefix: &str, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        let fail = |source: io::Error| StoreError::Io { key: prefix.to_owned(), source };
        let start = match prefix.trim_matches('/') {
            "" => PathBuf::new(),
            prefix => names(prefix)?.iter().collect(),
        };
        let (mut keys, mut todo) = (Vec::new(), vec![start]);
        while let Some(at) = todo.pop() {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            let directory = match self.root.sub(&at) {
                Ok(directory) => directory,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // A file.
                Err(_) => {
                    keys.push(at.to_string_lossy().into_owned());
                    continue;
                }
            };
            let beneath = directory.names().map_err(fail)?;
            let is_ours = |name: &OsString| at.as_os_str().is_empty() && name == STAGING;
            todo.extend(beneath.into_iter().filter(|n| !is_ours(n)).map(|name| at.join(name)));
        }
        keys.sort();
        Ok(keys)
    }

    /// The driver for one key.
    pub fn at(&self, key: &str) -> Result<LocalObject, StoreError> {
        Ok(LocalObject { root: Arc::clone(&self.root), names: names(key)?, key: key.to_owned() })
    }
}

use std::os::unix::fs::DirBuilderExt as _;

const STAGING: &str = ".staging";

/// A key becomes path components; what could mean something to a filesystem is refused.
fn names(key: &str) -> Result<Vec<OsString>, StoreError> {
    let refuse = |reason| StoreError::BadKey { key: key.to_owned(), reason };
    if key.len() > KEY_BYTES_MAX {
        return Err(refuse("longer than 1024 bytes"));
    }
    if key.contains("{{") {
        return Err(refuse("a tag in it was not resolved"));
    }
    if key.chars().any(char::is_control) {
        return Err(refuse("control characters"));
    }
    let mut names = Vec::new();
    for part in key.split('/').filter(|part| !part.is_empty()) {
        match part {
            "." | ".." => return Err(refuse("`.` and `..` are not key parts")),
            STAGING if names.is_empty() => return Err(refuse("reserved name")),
            _ if part.len() > 255 => return Err(refuse("a part is longer than 255 bytes")),
            _ => names.push(OsString::from(part)),
        }
    }
    if names.is_empty() {
        return Err(refuse("empty"));
    }
    Ok(names)
}

/// One key in the local store.
#[derive(Clone, Debug)]
pub struct LocalObject {
    root: Arc<Root>,
    names: Vec<OsString>,
    key: String,
}

impl LocalObject {
    fn fail(&self) -> impl Fn(io::Error) -> StoreError + '_ {
        |source| StoreError::Io { key: self.key.clone(), source }
    }

    fn path(&self) -> PathBuf {
        self.names.iter().collect()
    }

    fn parent(&self) -> (PathBuf, &OsString) {
        let (last, parents) = self.names.split_last().expect("invariant key-not-empty: names() refuses empty keys");
        (parents.iter().collect(), last)
    }

    fn open(&self) -> Result<File, StoreError> {
        match self.root.open_strict(&self.path(), OFlags::RDONLY, Mode::empty()) {
            Ok(fd) => Ok(File::from(fd)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(StoreError::NotFound(self.key.clone()))
            }
            Err(error) => Err(self.fail()(error)),
        }
    }

    /// Moves what was staged to its key; the later writer of a key wins.
    fn publish(&self, staging: &Root, name: &OsString) -> io::Result<()> {
        let (parents, last) = self.parent();
        let parent = self.root.make_dirs(&parents, None)?;
        if staging.rename(name, &parent, last).is_err() {
            // A tree is in the way (or a file where a tree goes): it is replaced.
            parent.remove(last)?;
            staging.rename(name, &parent, last)?;
        }
        rustix::fs::fsync(parent.fd())?;
        Ok(())
    }
}

impl Driver for LocalObject {
    fn load(&self, cancel: &Cancel) -> Result<Content, StoreError> {
        let file = self.open()?;
        if file.metadata().map_err(self.fail())?.is_file() {
            return Ok(Content::File(Box::new(file)));
        }
        // A tree is packed on a thread of its own and read through a pipe: constant memory at any size.
        let (reader, mut writer) = io::pipe().map_err(self.fail())?;
        let (root, path, cancel) = (Arc::clone(&self.root), self.path(), cancel.clone());
        let thread = std::thread::spawn(move || {
            archive::create_tar(
                &root,
                &path,
                &mut writer,
                &Limits { bytes_max: u64::MAX, ..Limits::default() },
                &cancel,
            )
        });
        Ok(Content::Tree(Box::new(Packed { reader, thread: Some(thread) })))
    }

    fn save(&self, payload: Payload<'_>, cancel: &Cancel) -> Result<Saved, StoreError> {
        let staging = self.root.sub(Path::new(STAGING)).map_err(self.fail())?;
        let name = unique();
        let saved = match payload {
            Payload::File(reader) => write(reader, &staging, &name, cancel, self),
            Payload::Tree(tar) => {
                let options = ExtractOptions::default();
                archive::extract_tree(tar, &staging, Path::new(&name), &options, cancel)
                    .map(|done| Saved { bytes: done.bytes, digest: None })
                    .map_err(StoreError::from)
            }
        };
        let published = saved.and_then(|saved| {
            self.publish(&staging, &name).map_err(self.fail())?;
            Ok(saved)
        });
        if published.is_err() {
            let _ = staging.remove(&name);
        }
        published
    }

    fn delete(&self, _cancel: &Cancel) -> Result<(), StoreError> {
        let (parents, last) = self.parent();
        match self.root.sub(&parents) {
            Ok(parent) => parent.remove(last).map_err(self.fail()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.fail()(error)),
        }
    }

    fn exists(&self, _cancel: &Cancel) -> Result<bool, StoreError> {
        match self.open() {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn unique() -> OsString {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    OsString::from(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn write(
    reader: &mut dyn Read,
    staging: &Root,
    name: &OsString,
    cancel: &Cancel,
    object: &LocalObject,
) -> Result<Saved, StoreError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = staging.open_strict(Path::new(name), flags, Mode::from_raw_mode(0o600)).map_err(object.fail())?;
    let mut file = File::from(file);
    let mut hash = Sha256::new();
    let mut bytes = 0u64;
    let mut buffer = vec![0u8; 128 << 10];
    loop {
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled);
        }
        let got = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(object.fail()(error)),
        };
        hash.update(&buffer[..got]);
        file.write_all(&buffer[..got]).map_err(object.fail())?;
        bytes += got as u64;
    }
    file.sync_data().map_err(object.fail())?;
    Ok(Saved { bytes, digest: Some(format!("sha256:{}", hex::encode(hash.finalize()))) })
}

/// A tar that is made while it is read; an error of the maker ends the reading with that error.
struct Packed {
    reader: io::PipeReader,
    thread: Option<std::thread::JoinHandle<Result<archive::Created, archive::ArchiveError>>>,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        if got == 0
            && let Some(thread) = self.thread.take()
        {
            thread.join().map_err(|_| io::Error::other("packing stopped"))?.map_err(io::Error::other)?;
        }
        Ok(got)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for bad in ["", "/", "a/../b", "..", "./a", "a/{{workflow.name}}", "a\nb", ".staging/x"] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
        assert_eq!(names("wf//pod/main.tgz").unwrap(), ["wf", "pod", "main.tgz"].map(OsString::from));
    }

    #[test]
    fn saves_loads_replaces_deletes() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        let cancel = Cancel::new();
        let object = store.at("wf/pod/a.txt").unwrap();
        assert!(!object.exists(&cancel).unwrap());
        assert!(matches!(object.load(&cancel), Err(StoreError::NotFound(_))));
        let saved = object.save(Payload::File(&mut &b"hello"[..]), &cancel).unwrap();
        assert_eq!(saved.bytes, 5);
        assert!(
            saved
                .digest
                .unwrap()
                .starts_with("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
        );
        object.save(Payload::File(&mut &b"again"[..]), &cancel).unwrap();
        let Content::File(mut file) = object.load(&cancel).unwrap() else { panic!("a file") };
        assert_eq!(io::read_to_string(&mut file).unwrap(), "again");
        object.delete(&cancel).unwrap();
        object.delete(&cancel).unwrap();
        assert!(!object.exists(&cancel).unwrap());
        assert!(store.at("never/there").unwrap().delete(&cancel).is_ok());
    }

    #[test]
    fn a_failed_save_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk full"))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        let object = store.at("a/b").unwrap();
        assert!(object.save(Payload::File(&mut Broken), &Cancel::new()).is_err());
        assert!(!object.exists(&Cancel::new()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path().join(STAGING)).unwrap().count(), 0);
    }

    #[test]
    fn trees() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("src/site/css")).unwrap();
        std::fs::write(dir.path().join("src/site/css/a.css"), "a").unwrap();
        let source = Root::open(&dir.path().join("src")).unwrap();
        let mut tar = Vec::new();
        archive::create_tar(&source, Path::new("/site"), &mut tar, &Limits::default(), &Cancel::new()).unwrap();
        let store = LocalStore::open(&dir.path().join("store")).unwrap();
        let object = store.at("wf/pod/site").unwrap();
        object.save(Payload::Tree(&mut tar.as_slice()), &Cancel::new()).unwrap();
        let Content::Tree(mut tree) = object.load(&Cancel::new()).unwrap() else { panic!("a tree") };
        let out = Root::open(dir.path()).unwrap();
        archive::extract_tree(&mut tree, &out, Path::new("/out"), &ExtractOptions::default(), &Cancel::new()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("out/css/a.css")).unwrap(), "a");
    }
}
