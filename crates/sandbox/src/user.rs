//! Users and groups by the image's own `/etc/passwd` and `/etc/group`, looked up in its layers without mounting them.

use std::{
    ffi::CString,
    fs::File,
    io::Read,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::{ffi::OsStrExt, fs::FileTypeExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

use crate::{Error, Result, User, error::Step, sys};

/// A passwd or group file above this size is cut.
const FILE_BYTES_MAX: u64 = 4 << 20;

pub(crate) fn resolve(layers: &[PathBuf], user: &str) -> Result<User> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let passwd = read(layers, "etc/passwd")?;
    let groups = read(layers, "etc/group")?;
    let number = name.parse::<u32>().ok();
    let wanted = if name.is_empty() { "0" } else { name };
    let entry = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| {
        let by_name = f.first() == Some(&wanted);
        by_name || f.get(2) == Some(&wanted)
    });
    let field = |at: usize| entry.as_ref().and_then(|f| f.get(at).copied());
    let uid = field(2).and_then(|u| u.parse().ok()).or(if name.is_empty() { Some(0) } else { number });
    let Some(uid) = uid else {
        return Err(Error::Spec(format!("user {name}: no such user in the image's /etc/passwd")));
    };
    let mut resolved = User { uid, gid: 0, groups: Vec::new(), home: field(5).map(str::to_owned) };
    let group_lines = || groups.lines().map(|l| l.split(':').collect::<Vec<_>>());
    if let Some(group) = group.filter(|g| !g.is_empty()) {
        let found = group_lines().find(|f| f.first() == Some(&group)).and_then(|f| f.get(2)?.parse().ok());
        let Some(gid) = found.or(group.parse().ok()) else {
            return Err(Error::Spec(format!("group {group}: no such group in the image's /etc/group")));
        };
        resolved.gid = gid;
        return Ok(resolved);
    }
    resolved.gid = field(3).and_then(|g| g.parse().ok()).unwrap_or(0);
    if let Some(login) = field(0) {
        let member = |f: &Vec<&str>| f.get(3).is_some_and(|m| m.split(',').any(|m| m == login));
        let ids = group_lines().filter(member).filter_map(|f| f.get(2)?.parse().ok());
        resolved.groups = ids.filter(|gid| *gid != resolved.gid).collect();
    }
    Ok(resolved)
}

/// The file's text from the topmost layer that has it; links are followed within that layer only. Empty where none has.
fn read(layers: &[PathBuf], path: &str) -> Result<String> {
    let c_path = CString::new(path).map_err(|e| Error::Spec(e.to_string()))?;
    for layer in layers.iter().rev() {
        let root = File::open(layer).step(|| format!("open layer {}", layer.display()))?;
        match sys::open_in_root(root.as_raw_fd(), &c_path, libc::O_PATH) {
            Err(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => {
                if hides(layer, path) {
                    break;
                }
            }
            Err(errno) => {
                let source = std::io::Error::from_raw_os_error(errno);
                return Err(Error::io(format!("open /{path} of the image"), source));
            }
            Ok(fd) => {
                // SAFETY: just opened, owned by nobody else.
                let probe = unsafe { File::from_raw_fd(fd) };
                let meta = probe.metadata().step(|| format!("look at /{path} of the image"))?;
                if meta.file_type().is_char_device() && meta.rdev() == 0 {
                    break; // deleted in this layer
                }
                if !meta.is_file() {
                    break; // a pipe or device would block or lie
                }
                let flags = libc::O_RDONLY | libc::O_NONBLOCK;
                let fd = sys::open_in_root(root.as_raw_fd(), &c_path, flags)
                    .map_err(|e| Error::io(format!("open /{path}"), std::io::Error::from_raw_os_error(e)))?;
                // SAFETY: just opened, owned by nobody else.
                let file = unsafe { File::from_raw_fd(fd) };
                let mut bytes = Vec::new();
                file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).step(|| format!("read /{path} of the image"))?;
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    Ok(String::new())
}

/// Whether this layer hides `etc` of the layers below: it was deleted, or is opaque.
fn hides(layer: &Path, path: &str) -> bool {
    let Some(directory) = Path::new(path).parent().map(|p| layer.join(p)) else { return false };
    let Ok(meta) = std::fs::symlink_metadata(&directory) else { return false };
    if !meta.is_dir() {
        return true;
    }
    let Ok(c_path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0u8; 4];
        rustix::fs::lgetxattr(&c_path, *name, &mut value).is_ok_and(|n| n == 1 && value[0] == b'y')
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn layer(root: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let layer = root.join(name);
        for (path, text) in files {
            let path = layer.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        layer
    }

    #[test]
    fn names_numbers_and_groups() {
        let root = tempfile::tempdir().unwrap();
        let bottom = layer(
            root.path(),
            "a",
            &[("etc/passwd", "old:x:1:1::/:\n"), ("etc/group", "staff:x:50:web,joe\nweb:x:33:\n")],
        );
        let top = layer(root.path(), "b", &[("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:\n")]);
        let layers = [bottom, top];
        let user = |text| resolve(&layers, text);
        let simple = |uid, gid| User { uid, gid, groups: vec![], home: None };
        assert_eq!(user("").unwrap(), User { home: Some("/root".into()), ..simple(0, 0) });
        assert_eq!(user("web").unwrap(), User { groups: vec![50], home: Some("/var/www".into()), ..simple(33, 33) });
        assert_eq!(user("33").unwrap().groups, [50]);
        assert_eq!(user("web:staff").unwrap(), User { home: Some("/var/www".into()), ..simple(33, 50) });
        assert_eq!(user("1000").unwrap(), simple(1000, 0));
        assert_eq!(user("1000:2000").unwrap(), simple(1000, 2000));
        assert_eq!(user("old").unwrap_err().to_string(), "user old: no such user in the image's /etc/passwd");
        assert_eq!(user("web:nope").unwrap_err().to_string(), "group nope: no such group in the image's /etc/group");
        assert_eq!(resolve(&[], "7").unwrap(), simple(7, 0));
    }

    #[test]
    fn a_link_out_of_the_image_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let image = layer(root.path(), "image", &[("etc/other", "x:x:5:5::/:\n")]);
        std::os::unix::fs::symlink("/etc/other", image.join("etc/passwd")).unwrap();
        assert_eq!(resolve(&[image], "x").unwrap().uid, 5, "an absolute link means the image's own root");
    }
}
