//! Images as files: OCI layout (directory or tar) and docker-archive. Must never trust a file's name: what comes in is
//! checked against its digest like anything from a registry.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Doing;
use crate::layer::{ArchiveReader, ArchiveWriter, Entry, Kind};
use crate::media::{self, Compression};
use crate::store::{DOCUMENT_BYTES_MAX, descriptors};
use crate::{Commit, Digest, Error, Family, Image, Layer, Reference, Result, Store};

/// An image that came out of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its manifest or index.
    pub digest: Digest,
    /// The names that it now has in the store.
    pub names: Vec<Reference>,
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes an OCI layout directory with this manifest (or index) under these names. An existing layout gains the image.
pub fn export_dir(store: &Store, manifest: &Digest, names: &[Reference], dir: &Path) -> Result<()> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).doing("creating", &blobs)?;
    for digest in contents(store, manifest)? {
        let path = blobs.join(digest.hex());
        if path.exists() {
            continue;
        }
        let mut file = tempfile::NamedTempFile::new_in(&blobs).doing("writing in", &blobs)?;
        io::copy(&mut store.open_blob(&digest)?, &mut file).doing("writing", &path)?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(readable).doing("writing", &path)?;
        file.persist(&path).map_err(|e| Error::io(format!("writing {}", path.display()), e.error))?;
    }
    let index_path = dir.join("index.json");
    let mut index: Value = match fs::read(&index_path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed(index_path.display().to_string(), e))?
        }
        Err(_) => json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []}),
    };
    let fresh = index_entries(store, manifest, names)?;
    if let Some(list) = index.get_mut("manifests").and_then(Value::as_array_mut) {
        let name = |entry: &Value| entry.pointer("/annotations").and_then(|a| a.get(REF_NAME)).cloned();
        list.retain(|old| !fresh.iter().any(|new| name(new) == name(old)));
        list.extend(fresh);
    }
    write_json(&index_path, &index)?;
    let layout = dir.join("oci-layout");
    fs::write(&layout, LAYOUT).doing("writing", &layout)
}

/// Writes an OCI layout as a tar archive.
pub fn export_tar(store: &Store, manifest: &Digest, names: &[Reference], out: impl Write) -> Result<()> {
    let mut tar = Tar { archive: ArchiveWriter::new(out) };
    tar.directory("blobs")?;
    tar.directory("blobs/sha256")?;
    for digest in contents(store, manifest)? {
        tar.blob(store, &digest, &format!("blobs/sha256/{}", digest.hex()))?;
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "manifests": index_entries(store, manifest, names)?,
    });
    tar.bytes("index.json", index.to_string().as_bytes())?;
    tar.bytes("oci-layout", LAYOUT.as_bytes())?;
    tar.finish()
}

/// Writes a docker-archive, as `docker load` reads it. Layers are stored decompressed there.
pub fn export_docker_archive(store: &Store, image: &Image, names: &[Reference], out: impl Write) -> Result<()> {
    let mut tar = Tar { archive: ArchiveWriter::new(out) };
    let config = format!("{}.json", image.config_digest().hex());
    tar.bytes(&config, &store.read_blob(image.config_digest())?)?;
    let mut files = Vec::new();
    for layer in image.layers() {
        let name = format!("{}.tar", layer.diff_id.hex());
        if !files.contains(&name) {
            let compression = Compression::of_layer(&layer.media_type)?;
            // The header needs the size first; decompressing twice costs less than a copy on the disk.
            let open = || crate::layer::decompress(store.open_blob(&layer.digest)?, compression);
            let broken = |e| Error::io(format!("decompressing layer {}", layer.digest), e);
            let size = io::copy(&mut open()?, &mut io::sink()).map_err(broken)?;
            tar.entry(&Entry::file(&name, 0o644, size), &mut open()?)?;
        }
        files.push(name);
    }
    // Docker's own notation: without `docker.io/library/`, always with a tag.
    let tags: Vec<String> = names
        .iter()
        .filter_map(|name| {
            let tag = name.tag()?;
            let plain = name.name();
            let plain = plain.strip_prefix("docker.io/").unwrap_or(&plain);
            Some(format!("{}:{tag}", plain.strip_prefix("library/").unwrap_or(plain)))
        })
        .collect();
    let manifest = json!([{"Config": config, "RepoTags": tags, "Layers": files}]);
    tar.bytes("manifest.json", manifest.to_string().as_bytes())?;
    tar.finish()
}

/// Reads an OCI layout directory. With `names`, its single image gets these; otherwise each image gets the names that
/// the layout gives it.
pub fn import_dir(store: &Store, dir: &Path, names: &[Reference]) -> Result<Vec<Imported>> {
    let index_path = dir.join("index.json");
    let bytes = fs::read(&index_path).doing("reading", &index_path)?;
    let blobs = dir.join("blobs/sha256");
    for entry in fs::read_dir(&blobs).doing("reading", &blobs)? {
        let entry = entry.doing("reading", &blobs)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Ok(digest) = format!("sha256:{name}").parse::<Digest>()
            && !store.has_blob(&digest)
        {
            let file = File::open(entry.path()).doing("opening", &entry.path())?;
            store.put_blob_from(file, Some(&digest))?;
        }
    }
    name_index(store, &bytes, names)
}

/// Reads an image from a tar archive, compressed or not: an OCI layout or a docker-archive.
pub fn import_tar(store: &Store, archive: impl Read, names: &[Reference]) -> Result<Vec<Imported>> {
    let mut reader = ArchiveReader::new(crate::layer::decompress_sniffed(archive)?);
    // Small documents by name; large files are blobs of the store at once, whatever they turn out to be.
    let mut documents: HashMap<PathBuf, Vec<u8>> = HashMap::new();
    let mut files: HashMap<PathBuf, Digest> = HashMap::new();
    let mut links: HashMap<PathBuf, PathBuf> = HashMap::new();
    while let Some(entry) = reader.next()? {
        let path = plain(&entry.path);
        match &entry.kind {
            Kind::File { size } => {
                let expected = path
                    .strip_prefix("blobs/sha256")
                    .ok()
                    .and_then(|hex| format!("sha256:{}", hex.display()).parse::<Digest>().ok());
                let is_document = path.extension().is_some_and(|ext| ext == "json") && *size <= DOCUMENT_BYTES_MAX;
                if is_document {
                    let mut bytes = Vec::new();
                    reader.read_to_end(&mut bytes).map_err(|e| Error::io("reading an image archive", e))?;
                    files.insert(path.clone(), store.put_blob(&bytes)?);
                    documents.insert(path, bytes);
                } else {
                    let (digest, _) = store.put_blob_from(&mut reader, expected.as_ref())?;
                    files.insert(path, digest);
                }
            }
            Kind::Symlink { target } => {
                let parent = path.parent().unwrap_or(Path::new(""));
                links.insert(path.clone(), plain(&parent.join(target)));
            }
            Kind::Hardlink { target } => {
                links.insert(path, plain(target));
            }
            _ => {}
        }
    }
    for (link, target) in links {
        if let Some(digest) = files.get(&target).cloned() {
            files.insert(link, digest);
        }
    }
    // Newer Docker writes both kinds into one archive; its manifest.json has the names.
    if let Some(bytes) = documents.get(Path::new("manifest.json")) {
        return docker_archive(store, bytes, &files, names);
    }
    match documents.get(Path::new("index.json")) {
        Some(bytes) => name_index(store, bytes, names),
        None => Err(Error::malformed(
            "image archive",
            "it has neither index.json (OCI layout) nor manifest.json (docker-archive)",
        )),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: PathBuf,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

fn docker_archive(
    store: &Store,
    manifest: &[u8],
    files: &HashMap<PathBuf, Digest>,
    names: &[Reference],
) -> Result<Vec<Imported>> {
    let entries: Vec<DockerEntry> =
        serde_json::from_slice(manifest).map_err(|e| Error::malformed("manifest.json of the image archive", e))?;
    only_one(entries.len(), names)?;
    let find = |path: &Path| {
        files.get(&plain(path)).cloned().ok_or_else(|| {
            Error::malformed("image archive", format!("its manifest.json names {}, which is absent", path.display()))
        })
    };
    let mut imported = Vec::new();
    for entry in entries {
        let config_bytes = store.read_blob(&find(&entry.config)?)?;
        let config: Value =
            serde_json::from_slice(&config_bytes).map_err(|e| Error::malformed("image configuration", e))?;
        let empty = Vec::new();
        let diff_ids = config.pointer("/rootfs/diff_ids").and_then(Value::as_array).unwrap_or(&empty);
        if diff_ids.len() != entry.layers.len() {
            return Err(Error::malformed("image archive", "configuration and manifest.json differ in their layers"));
        }
        let mut layers = Vec::new();
        for (path, diff_id) in entry.layers.iter().zip(diff_ids) {
            let digest = find(path)?;
            let mut start = Vec::new();
            store.open_blob(&digest)?.take(4).read_to_end(&mut start).map_err(|e| Error::io("reading a layer", e))?;
            let media_type = match Compression::sniff(&start) {
                Compression::None => media::OCI_LAYER,
                Compression::Gzip => media::OCI_LAYER_GZIP,
                Compression::Zstd => media::OCI_LAYER_ZSTD,
            };
            let diff_id: Digest = diff_id.as_str().unwrap_or_default().parse()?;
            if media_type == media::OCI_LAYER && diff_id != digest {
                return Err(Error::DigestMismatch {
                    what: format!("layer {}", path.display()),
                    expected: diff_id,
                    actual: digest,
                });
            }
            let size = store.blob_size(&digest).unwrap_or_default();
            layers.push(Layer { digest, size, media_type: media_type.to_owned(), diff_id });
        }
        let given: Vec<Reference> = if names.is_empty() {
            entry.repo_tags.unwrap_or_default().iter().filter_map(|tag| Reference::parse(tag).ok()).collect()
        } else {
            names.to_vec()
        };
        let commit = Commit { config, layers, family: Family::Oci, annotations: BTreeMap::new() };
        let image = store.commit_image(&commit, &given)?;
        imported.push(Imported { digest: image.digest().clone(), names: given });
    }
    Ok(imported)
}

/// Gives names to the images of a layout's index.
fn name_index(store: &Store, index: &[u8], names: &[Reference]) -> Result<Vec<Imported>> {
    let index: Value =
        serde_json::from_slice(index).map_err(|e| Error::malformed("index.json of the image layout", e))?;
    let empty = Vec::new();
    let list = index.get("manifests").and_then(Value::as_array).unwrap_or(&empty);
    let mut found: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for entry in list {
        let Some(digest) = entry.get("digest").and_then(Value::as_str) else { continue };
        let annotation = |key: &str| entry.get("annotations")?.get(key)?.as_str();
        let own = annotation(IMAGE_NAME).or_else(|| annotation(REF_NAME).filter(|name| name.contains(['/', ':'])));
        found.entry(digest.parse()?).or_default().extend(own.and_then(|name| Reference::parse(name).ok()));
    }
    only_one(found.len(), names)?;
    let mut imported = Vec::new();
    for (digest, own) in found {
        let names = if names.is_empty() { own } else { names.to_vec() };
        contents(store, &digest)?;
        for name in &names {
            store.tag_made_here(name, &digest)?;
        }
        imported.push(Imported { digest, names });
    }
    Ok(imported)
}

fn only_one(count: usize, names: &[Reference]) -> Result<()> {
    if count == 0 || (count > 1 && !names.is_empty()) {
        return Err(Error::malformed(
            "image archive",
            format!(
                "it has {count} images{}",
                if count > 1 { ", so it cannot be imported under one name" } else { "" }
            ),
        ));
    }
    Ok(())
}

/// All blobs of a manifest or index, each once, sorted. All must be here, except members of an index for other
/// platforms.
fn contents(store: &Store, manifest: &Digest) -> Result<Vec<Digest>> {
    let bytes = store.read_blob(manifest)?;
    let document: Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::malformed(format!("manifest {manifest}"), e))?;
    let mut all = vec![manifest.clone()];
    for member in descriptors(&document, "manifests") {
        if store.has_blob(&member) {
            all.extend(contents(store, &member)?);
        }
    }
    let config = document.pointer("/config/digest").and_then(Value::as_str).map(str::parse).transpose()?;
    for blob in descriptors(&document, "layers").into_iter().chain(config) {
        if !store.has_blob(&blob) {
            return Err(Error::BlobMissing { digest: blob });
        }
        all.push(blob);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn index_entries(store: &Store, manifest: &Digest, names: &[Reference]) -> Result<Vec<Value>> {
    let pointer = store.pointer_to(manifest)?;
    let entry = json!({"mediaType": pointer.media_type, "digest": pointer.digest, "size": pointer.size});
    if names.is_empty() {
        return Ok(vec![entry]);
    }
    let named = |name: &Reference| {
        let mut entry = entry.clone();
        // The whole name: a tag alone could not be imported again.
        entry["annotations"] = json!({REF_NAME: name.to_string(), IMAGE_NAME: name.to_string()});
        entry
    };
    Ok(names.iter().map(named).collect())
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).doing("writing in", dir)?;
    file.write_all(value.to_string().as_bytes()).doing("writing", path)?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).doing("writing", path)?;
    file.persist(path).map_err(|e| Error::io(format!("writing {}", path.display()), e.error))?;
    Ok(())
}

/// The path without `.` and with `..` taken back, never above the start.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(word) => plain.push(word),
            Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    plain
}

struct Tar<W: Write> {
    archive: ArchiveWriter<W>,
}

impl<W: Write> Tar<W> {
    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.archive.entry(entry, content).doing("writing to an archive", &entry.path)
    }

    fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(&Entry::directory(path, 0o755), &mut io::empty())
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.entry(&Entry::file(path, 0o644, bytes.len() as u64), &mut &*bytes)
    }

    fn blob(&mut self, store: &Store, digest: &Digest, path: &str) -> Result<()> {
        let mut file = store.open_blob(digest)?;
        let size = store.blob_size(digest).unwrap_or_default();
        self.entry(&Entry::file(path, 0o644, size), &mut file)
    }

    fn finish(self) -> Result<()> {
        let mut out = self.archive.finish().map_err(|e| Error::io("writing an archive", e))?;
        out.flush().map_err(|e| Error::io("writing an archive", e))
    }
}
