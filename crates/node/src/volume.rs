//! Volumes: what each one holds (pure), and its directory on this machine. It never follows a link that a container made,
//! and uses no path of this machine that was not allowed by name.

use crate::downward::{self, Surroundings};
use crate::env::Objects;
use crate::objects::Found;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume,
};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use windlass_artifacts::{AllowPaths, Owner, Root};
use windlass_sandbox::{Mount, Scratch};

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) content: Content,
}

/// What is in a file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// A ServiceAccount token for this audience, requested when the volume is written.
    Token {
        audience: Option<String>,
        expires_s: i64,
    },
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // May be a Secret's value.
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Token { audience, .. } => write!(f, "token for {audience:?}"),
        }
    }
}

/// What a volume is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A new empty directory, gone with the Pod.
    Empty { memory: bool },
    /// A directory of files, gone with the Pod.
    Files(Vec<File>),
    /// The volume that a claim of this name is bound to.
    Claim(String),
    /// A path of this machine.
    Host { path: PathBuf, kind: String },
}

/// Why a volume cannot be set up: the text is the kubelet's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {problem}")]
pub(crate) struct VolumeError {
    pub(crate) volume: String,
    pub(crate) problem: String,
    /// Never to be tried again: the Pod's policy does not allow it.
    pub(crate) refused: bool,
}

/// What is known when volumes are read.
pub(crate) struct Context<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) around: &'a Surroundings,
    pub(crate) found: &'a Found,
    pub(crate) allow: &'a AllowPaths,
}

impl Context<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    /// What `volume` is.
    pub(crate) fn read(&self, volume: &Volume) -> Result<Source, VolumeError> {
        self.source(volume).map_err(|(problem, refused)| VolumeError { volume: volume.name.clone(), problem, refused })
    }

    fn source(&self, volume: &Volume) -> Result<Source, (String, bool)> {
        let soon = |problem: String| (problem, false);
        if let Some(empty) = &volume.empty_dir {
            return Ok(Source::Empty { memory: empty.medium.as_deref() == Some("Memory") });
        }
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or("");
            let mode = mode(secret.default_mode, 0o644);
            return self
                .secret(name, secret.items.as_deref(), mode, secret.optional.unwrap_or(false))
                .map(Source::Files)
                .map_err(soon);
        }
        if let Some(map) = &volume.config_map {
            let mode = mode(map.default_mode, 0o644);
            return self
                .config_map(&map.name, map.items.as_deref(), mode, map.optional.unwrap_or(false))
                .map(Source::Files)
                .map_err(soon);
        }
        if let Some(downward) = &volume.downward_api {
            let mode = mode(downward.default_mode, 0o644);
            return self.downward(downward.items.as_deref(), mode).map(Source::Files).map_err(soon);
        }
        if let Some(projected) = &volume.projected {
            let mode = mode(projected.default_mode, 0o644);
            let mut files = Vec::new();
            for source in projected.sources.iter().flatten() {
                if let Some(s) = &source.secret {
                    files.extend(
                        self.secret(&s.name, s.items.as_deref(), mode, s.optional.unwrap_or(false)).map_err(soon)?,
                    );
                } else if let Some(c) = &source.config_map {
                    let optional = c.optional.unwrap_or(false);
                    files.extend(self.config_map(&c.name, c.items.as_deref(), mode, optional).map_err(soon)?);
                } else if let Some(d) = &source.downward_api {
                    files.extend(self.downward(d.items.as_deref(), mode).map_err(soon)?);
                } else if let Some(token) = &source.service_account_token {
                    files.push(token_file(token, mode).map_err(soon)?);
                } else {
                    return Err((
                        "only secret, configMap, downwardAPI and serviceAccountToken can be projected".into(),
                        true,
                    ));
                }
            }
            return Ok(Source::Files(files));
        }
        if let Some(host) = &volume.host_path {
            let path = Path::new(&host.path);
            let kind = host.type_.clone().unwrap_or_default();
            // What is still to be created has no real path yet: its parent decides.
            let creates = matches!(kind.as_str(), "DirectoryOrCreate" | "FileOrCreate") && !path.exists();
            let asked = if creates { path.parent().unwrap_or(path) } else { path };
            let (root, rest) = self.allow.resolve(asked).map_err(|e| (format!("hostPath: {e}"), true))?;
            let mut real = root.join(rest);
            if creates && let Some(name) = path.file_name() {
                real.push(name);
            }
            return Ok(Source::Host { path: real, kind });
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            return Ok(Source::Claim(claim.claim_name.clone()));
        }
        let kind = serde_json::to_value(volume).ok().and_then(|value| {
            let object = value.as_object()?;
            object.keys().find(|key| *key != "name").cloned()
        });
        match kind {
            Some(kind) => Err((format!("volumes of type {kind} are not supported on this node"), true)),
            None => Ok(Source::Empty { memory: false }),
        }
    }

    fn secret(&self, name: &str, items: Option<&[KeyToPath]>, mode: u32, optional: bool) -> Result<Vec<File>, String> {
        let secret: Option<&Secret> = self.found.secret(name);
        let Some(secret) = secret else {
            return if optional { Ok(Vec::new()) } else { Err(format!("secret {name:?} not found")) };
        };
        let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
        chosen(&data, items, mode, optional)
            .map_err(|key| format!("references non-existent secret key: {key} (secret {}/{name})", self.namespace()))
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: u32,
        optional: bool,
    ) -> Result<Vec<File>, String> {
        let map: Option<&ConfigMap> = self.found.config_map(name);
        let Some(map) = map else {
            return if optional { Ok(Vec::new()) } else { Err(format!("configmap {name:?} not found")) };
        };
        let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
        let data = text.chain(binary).collect();
        chosen(&data, items, mode, optional)
            .map_err(|key| format!("configmap references non-existent config key: {key} (configmap {name})"))
    }

    fn downward(&self, items: Option<&[DownwardAPIVolumeFile]>, default: u32) -> Result<Vec<File>, String> {
        let mut files = Vec::new();
        for item in items.unwrap_or(&[]) {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => downward::field(self.pod, self.around, field)?,
                (None, Some(resource)) => downward::resource(self.pod, self.around, None, resource)?,
                (None, None) => String::new(),
            };
            let path = inner_path(&item.path)?;
            files.push(File { path, mode: mode(item.mode, default), content: Content::Bytes(text.into_bytes()) });
        }
        Ok(files)
    }
}

fn token_file(token: &ServiceAccountTokenProjection, mode: u32) -> Result<File, String> {
    let content = Content::Token {
        audience: token.audience.clone().filter(|a| !a.is_empty()),
        expires_s: token.expiration_seconds.unwrap_or(3600),
    };
    Ok(File { path: inner_path(&token.path)?, mode, content })
}

fn mode(given: Option<i32>, default: u32) -> u32 {
    given.and_then(|m| u32::try_from(m).ok()).unwrap_or(default) & 0o777
}

/// The chosen keys of an object's data; the error is the key that is not there.
fn chosen(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default: u32,
    optional: bool,
) -> Result<Vec<File>, String> {
    let file = |path: PathBuf, mode, bytes: &[u8]| File { path, mode, content: Content::Bytes(bytes.to_vec()) };
    match items.filter(|items| !items.is_empty()) {
        None => data.iter().map(|(key, bytes)| Ok(file(inner_path(key)?, default, bytes))).collect(),
        Some(items) => {
            let mut files = Vec::new();
            for item in items {
                match data.get(&item.key) {
                    Some(bytes) => files.push(file(inner_path(&item.path)?, mode(item.mode, default), bytes)),
                    None if optional => {}
                    None => return Err(item.key.clone()),
                }
            }
            Ok(files)
        }
    }
}

/// A path inside a volume: relative, without `..`.
pub(crate) fn inner_path(path: &str) -> Result<PathBuf, String> {
    let given = Path::new(path);
    let plain = given.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if plain && !path.is_empty() { Ok(given.to_owned()) } else { Err(format!("invalid path {path:?}")) }
}

/// Writes `files` beneath `directory`, which is made. `group` may read them, where given.
pub(crate) fn write(directory: &Path, files: &[(File, Vec<u8>)], group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for (file, bytes) in files {
        let path = directory.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes)?;
        let mut mode = file.mode;
        if let Some(group) = group {
            std::os::unix::fs::chown(&path, None, Some(group))?;
            mode |= (mode & 0o400) >> 3;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A new directory that every user of the Pod may write, or the group where given.
pub(crate) fn empty(directory: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if let Some(group) = group {
        std::os::unix::fs::chown(directory, None, Some(group))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(directory, fs::Permissions::from_mode(mode))
}

/// Directories beneath `own` for the volumes that an image asks for, new for each start. Where something is mounted, or the
/// image has files of its own, the directory stays part of the root: written to it is as private there.
pub(crate) fn of_image(
    volumes: &[String],
    lowers: &[PathBuf],
    mounts: &[Mount],
    own: &Path,
) -> Result<Vec<Mount>, String> {
    let mut made = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let target = Path::new(volume);
        let Ok(inner) = target.strip_prefix("/") else { continue };
        let plain = inner.components().all(|c| matches!(c, Component::Normal(_))) && is_path(volume);
        let mounted = mounts.iter().any(|m| m.target.starts_with(target));
        if !plain || mounted || lowers.iter().any(|lower| has_files(&lower.join(inner))) {
            continue;
        }
        let path = own.join(index.to_string());
        let named = |e: io::Error| format!("volume {volume} of the image: {}: {e}", path.display());
        if path.exists() {
            fs::remove_dir_all(&path).map_err(named)?;
        }
        fs::create_dir_all(&path).map_err(named)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(named)?;
        made.push(Mount::bind(path, target));
    }
    Ok(made)
}

/// Anything but an empty directory.
fn has_files(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Checks a hostPath's type, and creates what it says to create.
pub(crate) fn check_host(path: &Path, kind: &str) -> Result<(), String> {
    let meta = path.metadata();
    let wrong = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    match kind {
        "" => meta.map(|_| ()).map_err(|e| format!("hostPath {}: {e}", path.display())),
        "DirectoryOrCreate" if meta.is_err() => {
            fs::create_dir_all(path).map_err(|e| format!("hostPath {}: {e}", path.display()))
        }
        "FileOrCreate" if meta.is_err() => {
            fs::File::create(path).map(|_| ()).map_err(|e| format!("hostPath {}: {e}", path.display()))
        }
        "Directory" | "DirectoryOrCreate" if !path.is_dir() => wrong("a directory"),
        "File" | "FileOrCreate" if !path.is_file() => wrong("a file"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" => Ok(()),
        other => Err(format!("hostPath type {other} is not supported on this node")),
    }
}

/// A `subPath`, bound to a place of its own for as long as it is held: what a container does to the volume meanwhile does
/// not change where it leads.
pub(crate) struct SubPath {
    point: PathBuf,
    mounted: bool,
    /// What the place is in stays for as long: nothing deletes beneath a mount.
    _within: Scratch,
}

impl SubPath {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for SubPath {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::DETACH)
        {
            tracing::warn!(path = %self.point.display(), %error, "a subPath stays mounted");
            return;
        }
        // The mount point is empty; what was mounted is not there any more.
        let _ = fs::remove_dir(&self.point).or_else(|_| fs::remove_file(&self.point));
    }
}

/// Binds a `subPath` of a volume to a place in `within`. It is opened beneath the volume without leaving it, whatever links are there,
/// and made where missing.
pub(crate) fn sub_path(volume: &Path, sub: &str, within: &Scratch) -> Result<SubPath, String> {
    let point = within.upper().join("sub-paths").join(uuid::Uuid::new_v4().simple().to_string());
    let named = |e: io::Error| format!("subPath {sub:?}: {e}");
    let (path, fd) = open_sub_path(volume, sub)?;
    if let Some(parent) = point.parent() {
        fs::create_dir_all(parent).map_err(named)?;
    }
    let is_dir = fs::File::from(fd.try_clone().map_err(named)?).metadata().map_err(named)?.is_dir();
    if is_dir { fs::create_dir(&point) } else { fs::File::create(&point).map(|_| ()) }.map_err(named)?;
    let mut held = SubPath { point, mounted: false, _within: within.clone() };
    rustix::mount::mount_bind_recursive(&path, &held.point).map_err(|e| named(e.into()))?;
    held.mounted = true;
    drop(fd);
    Ok(held)
}

fn open_sub_path(volume: &Path, sub: &str) -> Result<(PathBuf, OwnedFd), String> {
    let inner = inner_path(sub).map_err(|_| format!("subPath {sub:?} must be relative and without '..'"))?;
    let named = |e: io::Error| format!("subPath {sub:?}: {e}");
    let root = Root::open(volume).map_err(named)?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let empty = rustix::fs::Mode::empty();
    let fd = match root.open_at(&inner, flags, empty) {
        Ok(fd) => fd,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let owner: Option<Owner> = None;
            root.make_dirs(&inner, owner).map_err(named)?;
            root.open_at(&inner, flags, empty).map_err(named)?
        }
        Err(e) => return Err(named(e)),
    };
    // The very object that was opened, by whatever name it has by now.
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    Ok((path, fd))
}

/// Whether this text can be a path for the kernel.
pub(crate) fn is_path(text: &str) -> bool {
    text.starts_with('/') && CString::new(text).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(volume: serde_json::Value) -> Result<Source, String> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"a": "b"}}, "spec": {"containers": []}}),
        )
        .unwrap();
        let mut found = Found::default();
        let secret = json!({"metadata": {"name": "s"}, "data": {"k": "dg==", "l": "dw=="}});
        found.secrets.insert("s".into(), serde_json::from_value(secret).unwrap());
        let map = json!({"metadata": {"name": "c"}, "data": {"x": "1"}, "binaryData": {"y": "Mg=="}});
        found.config_maps.insert("c".into(), serde_json::from_value(map).unwrap());
        let around = Surroundings::default();
        let allow = AllowPaths::none();
        let context = Context { pod: &pod, around: &around, found: &found, allow: &allow };
        context.read(&serde_json::from_value(volume).unwrap()).map_err(|e| e.to_string())
    }

    fn files(volume: serde_json::Value) -> String {
        let Source::Files(files) = read(volume).unwrap() else { panic!("files") };
        let text = files.iter().map(|f| match &f.content {
            Content::Bytes(bytes) => {
                format!("{} {:o} {}", f.path.display(), f.mode, String::from_utf8_lossy(bytes))
            }
            Content::Token { .. } => format!("{} {:o} token", f.path.display(), f.mode),
        });
        text.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn contents() {
        assert_eq!(files(json!({"name": "v", "secret": {"secretName": "s"}})), "k 644 v; l 644 w");
        let items = json!([{"key": "k", "path": "d/f", "mode": 256}]);
        assert_eq!(files(json!({"name": "v", "secret": {"secretName": "s", "items": items}})), "d/f 400 v");
        assert_eq!(files(json!({"name": "v", "configMap": {"name": "c", "defaultMode": 493}})), "x 755 1; y 755 2");
        let projected = json!({"sources": [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "c"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]});
        assert_eq!(
            files(json!({"name": "v", "projected": projected})),
            "token 644 token; x 644 1; y 644 2; labels 644 a=\"b\""
        );
        assert_eq!(files(json!({"name": "v", "secret": {"secretName": "no", "optional": true}})), "");
        assert_eq!(
            read(json!({"name": "v", "emptyDir": {"medium": "Memory"}})).unwrap(),
            Source::Empty { memory: true }
        );
    }

    #[test]
    fn what_is_missing_or_refused_is_named() {
        let error = |volume| read(volume).unwrap_err();
        assert_eq!(
            error(json!({"name": "v", "secret": {"secretName": "no"}})),
            "MountVolume.SetUp failed for volume \"v\" : secret \"no\" not found"
        );
        let items = json!([{"key": "zz", "path": "f"}]);
        assert!(error(json!({"name": "v", "secret": {"secretName": "s", "items": items}})).contains("secret key: zz"));
        assert!(error(json!({"name": "v", "hostPath": {"path": "/etc"}})).contains("--allow-path /etc"));
        assert!(error(json!({"name": "v", "nfs": {"server": "a", "path": "/"}})).contains("type nfs"));
    }

    #[test]
    fn sub_paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(dir.path().join("secret"), "").unwrap();
        std::os::unix::fs::symlink("../", volume.join("up")).unwrap();
        let (path, fd) = open_sub_path(&volume, "new/dir").unwrap();
        assert_eq!(fs::canonicalize(&path).unwrap(), volume.join("new/dir").canonicalize().unwrap());
        drop(fd);
        let outside = dir.path().canonicalize().unwrap();
        if let Ok((path, _fd)) = open_sub_path(&volume, "up") {
            assert_ne!(fs::canonicalize(&path).unwrap(), outside, "left the volume");
        }
        assert!(open_sub_path(&volume, "../x").is_err());
        assert!(open_sub_path(&volume, "/x").is_err());
    }
}
