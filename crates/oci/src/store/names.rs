//! Names: one small file a tag (`refs/<registry>/<repository>/_tags/<tag>`) or pinned manifest (`_manifests/<digest>`),
//! replaced by rename. Repository words never start with `_`, so the two kinds of directory cannot collide.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Store, sync_dir};
use crate::error::Doing;
use crate::{Digest, Error, Reference, Result, media};

/// What a name points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pointer {
    /// The manifest or index.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Made on this machine: answers before the network does, whatever the pull policy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made_here: bool,
}

/// One name of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub reference: Reference,
    /// What it points to.
    pub pointer: Pointer,
    /// When it was last set.
    pub set: std::time::SystemTime,
}

impl Store {
    fn repository_dir(&self, reference: &Reference) -> PathBuf {
        self.refs_dir().join(reference.registry()).join(reference.repository())
    }

    fn name_paths(&self, reference: &Reference) -> Vec<PathBuf> {
        let dir = self.repository_dir(reference);
        let tag = reference.tag().map(|tag| dir.join("_tags").join(tag));
        let digest = reference.digest().map(|digest| dir.join("_manifests").join(digest.hex()));
        tag.into_iter().chain(digest).collect()
    }

    /// What a name points to. A digest is answered by any manifest here that has it.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Pointer>> {
        if let Some(digest) = reference.digest() {
            if let Some(pointer) = read_pointer(&self.repository_dir(reference).join("_manifests").join(digest.hex()))?
            {
                return Ok(Some(pointer));
            }
            return if self.has_blob(digest) { self.pointer_to(digest).map(Some) } else { Ok(None) };
        }
        match self.name_paths(reference).first() {
            Some(path) => read_pointer(path),
            None => Ok(None),
        }
    }

    /// Describes a manifest that is in the store.
    pub fn pointer_to(&self, manifest: &Digest) -> Result<Pointer> {
        let bytes = self.read_blob(manifest)?;
        let document: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed(format!("manifest {manifest}"), e))?;
        let media_type = media::of_manifest(&document)
            .ok_or_else(|| Error::malformed(format!("blob {manifest}"), "it is not an image manifest"))?;
        Ok(Pointer {
            digest: manifest.clone(),
            media_type: media_type.to_owned(),
            size: bytes.len() as u64,
            made_here: false,
        })
    }

    /// Names a manifest that is in the store. A reference with tag and digest sets both.
    pub fn tag(&self, reference: &Reference, manifest: &Digest) -> Result<()> {
        self.point(reference, &self.pointer_to(manifest)?)
    }

    /// Names a manifest made on this machine: it then answers before the network does.
    pub fn tag_made_here(&self, reference: &Reference, manifest: &Digest) -> Result<()> {
        self.point(reference, &Pointer { made_here: true, ..self.pointer_to(manifest)? })
    }

    pub(crate) fn point(&self, reference: &Reference, pointer: &Pointer) -> Result<()> {
        let _lock = self.lock(false)?;
        if !self.has_blob(&pointer.digest) {
            return Err(Error::BlobMissing { digest: pointer.digest.clone() });
        }
        let bytes = serde_json::to_vec(pointer).map_err(|e| Error::malformed("pointer", e))?;
        for path in self.name_paths(reference) {
            let dir = path.parent().unwrap_or(&path);
            let tmp = self.tmp_dir();
            let mut file = tempfile::Builder::new().prefix("name-").tempfile_in(&tmp).doing("writing in", &tmp)?;
            file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).doing("writing", &path)?;
            // A concurrent removal may take an empty directory away between the two steps.
            let mut file = Some(file);
            for attempt in 0.. {
                fs::create_dir_all(dir).doing("creating", dir)?;
                let Some(now) = file.take() else { break };
                match now.persist(&path) {
                    Ok(_) => break,
                    Err(failed) if failed.error.kind() == io::ErrorKind::NotFound && attempt < 10 => {
                        file = Some(failed.file);
                    }
                    Err(failed) => return Err(Error::io(format!("writing {}", path.display()), failed.error)),
                }
            }
            sync_dir(dir)?;
        }
        Ok(())
    }

    /// Forgets a name; contents go with the next [`Store::gc`]. Tells whether there was one.
    pub fn remove(&self, reference: &Reference) -> Result<bool> {
        let _lock = self.lock(false)?;
        let mut found = false;
        for path in self.name_paths(reference) {
            match fs::remove_file(&path) {
                Ok(()) => found = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).doing("removing", &path),
            }
            // Empty directories go too, so that a catalogue does not list repositories without images.
            let refs = self.refs_dir();
            for dir in path.ancestors().skip(1).take_while(|dir| *dir != refs) {
                if fs::remove_dir(dir).is_err() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// All names, sorted.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        let refs = self.refs_dir();
        for registry in entries(&refs)? {
            walk(&refs.join(&registry), &registry, "", &mut all)?;
        }
        all.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(all)
    }

    /// The repositories of one registry, sorted.
    pub fn repositories(&self, registry: &str) -> Result<Vec<String>> {
        let mut names: Vec<String> = self
            .list()?
            .into_iter()
            .filter(|listed| listed.reference.registry() == registry)
            .map(|listed| listed.reference.repository().to_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    /// The tags of the reference's repository, sorted; none when there is no such repository.
    pub fn tags(&self, repository: &Reference) -> Result<Option<Vec<String>>> {
        let dir = self.repository_dir(repository);
        let known = dir.join("_tags").is_dir() || dir.join("_manifests").is_dir();
        if !known {
            return Ok(None);
        }
        let mut tags = entries(&dir.join("_tags"))?;
        tags.sort();
        Ok(Some(tags))
    }

    /// Manifests pinned by digest in the reference's repository.
    pub(crate) fn pinned(&self, repository: &Reference) -> Result<Vec<Pointer>> {
        let dir = self.repository_dir(repository).join("_manifests");
        let mut all = Vec::new();
        for name in entries(&dir)? {
            all.extend(read_pointer(&dir.join(name))?);
        }
        Ok(all)
    }
}

fn walk(dir: &Path, registry: &str, repository: &str, all: &mut Vec<Listed>) -> Result<()> {
    for name in entries(dir)? {
        let path = dir.join(&name);
        if name == "_tags" || name == "_manifests" {
            for leaf in entries(&path)? {
                let text = if name == "_tags" {
                    format!("{registry}/{repository}:{leaf}")
                } else {
                    format!("{registry}/{repository}@sha256:{leaf}")
                };
                let file = path.join(&leaf);
                let (Ok(reference), Some(pointer)) = (Reference::parse(&text), read_pointer(&file)?) else { continue };
                let set = fs::metadata(&file).and_then(|meta| meta.modified()).doing("reading", &file)?;
                all.push(Listed { reference, pointer, set });
            }
        } else {
            let deeper = if repository.is_empty() { name.clone() } else { format!("{repository}/{name}") };
            walk(&path, registry, &deeper, all)?;
        }
    }
    Ok(())
}

/// The names in a directory; none when it does not exist.
fn entries(dir: &Path) -> Result<Vec<String>> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).doing("reading", dir),
    };
    let mut names = Vec::new();
    for entry in listing {
        names.extend(entry.doing("reading", dir)?.file_name().into_string());
    }
    Ok(names)
}

fn read_pointer(path: &Path) -> Result<Option<Pointer>> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::malformed(path.display().to_string(), e))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).doing("reading", path),
    }
}
