//! A directory without an archive: one object a file beneath a prefix, and back to a tar with one top-level directory.
//! Links and empty directories have no place among objects and are left out, as in Argo.

use std::io::{self, Read, Write};
use std::path::{Component, Path};

use super::StoreError;

const MODE: u32 = 0o644;

/// Stores the regular files of a tar.
pub(super) fn save(
    tar: &mut dyn Read,
    prefix: &str,
    shown: &str,
    put: &mut dyn FnMut(&str, &mut dyn Read) -> Result<u64, StoreError>,
) -> Result<u64, StoreError> {
    let io = |source| StoreError::Io { key: shown.to_owned(), source };
    let mut archive = tar::Archive::new(tar);
    let mut bytes = 0;
    for entry in archive.entries().map_err(io)? {
        let mut entry = entry.map_err(io)?;
        let path = entry.path().map_err(io)?.into_owned();
        // The top-level directory is the key itself.
        let rest: Vec<&str> = path.components().skip(1).filter_map(|c| c.as_os_str().to_str()).collect();
        let name = rest.join("/");
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous if !name.is_empty() => {
                bytes += put(&format!("{prefix}{name}"), &mut entry)?;
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                tracing::warn!(location = shown, file = name, "links are not kept in an unpacked directory");
            }
            _ => {}
        }
    }
    // The padding after the last entry: whoever writes must not wait for a reader.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(io)?;
    Ok(bytes)
}

/// The objects as a tar that is made while it is read; `get` opens one.
pub(super) fn load(
    prefix: String,
    keys: Vec<String>,
    get: impl Fn(&str) -> Result<reqwest::blocking::Response, StoreError> + Send + 'static,
) -> io::Result<Objects> {
    let (reader, writer) = io::pipe()?;
    let thread = std::thread::spawn(move || {
        let mut tar = tar::Builder::new(writer);
        directory(&mut tar, "tree/")?;
        for key in keys {
            let name = key.strip_prefix(&prefix).unwrap_or(&key);
            let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
            if name.is_empty() || !plain {
                // The directory's own marker, or a name that no file can have.
                continue;
            }
            let path = format!("tree/{name}");
            if name.ends_with('/') {
                directory(&mut tar, &path)?;
                continue;
            }
            let answer = get(&key).map_err(io::Error::other)?;
            let size = answer.content_length().ok_or_else(|| io::Error::other(format!("{key}: no Content-Length")))?;
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(MODE);
            header.set_cksum();
            tar.append_data(&mut header, &path, answer)?;
        }
        tar.into_inner()?.flush()
    });
    Ok(Objects { reader, thread: Some(thread) })
}

fn directory(tar: &mut tar::Builder<io::PipeWriter>, path: &str) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    header.set_cksum();
    tar.append_data(&mut header, path, io::empty())
}

/// The tar; an error of its maker ends the reading with that error.
pub(super) struct Objects {
    reader: io::PipeReader,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl Read for Objects {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        if got == 0
            && let Some(thread) = self.thread.take()
        {
            thread.join().map_err(|_| io::Error::other("reading objects stopped"))??;
        }
        Ok(got)
    }
}
