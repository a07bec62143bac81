//! One artifact, whole: from its location to a path of a step, and back. It decides nothing; it joins stores,
//! archives and git.

use std::io::Read;
use std::path::Path;

use crate::archive::worker::{Extract, Here, Shape};
use crate::archive::{self, ArchiveError, ExtractOptions, Strategy};
use crate::beneath::Root;
use crate::cancel::Cancel;
use crate::git::{self, GitAccess, GitError};
use crate::location::Location;
use crate::outside::Outside;
use crate::store::{Content, LocalStore, Payload, Saved, StoreError};

/// Why an artifact did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The repository.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl TransferError {
    /// The artifact is not there: an `optional` input is then left out.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotFound(_)))
    }

    /// Whether trying again later may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Git(error) => error.is_retryable(),
            Self::Archive(_) => false,
        }
    }

    /// Whether it was stopped from outside.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::Cancelled)
                | Self::Git(GitError::Cancelled)
                | Self::Archive(ArchiveError::Cancelled)
        )
    }
}

/// What loading needs from the outside.
pub struct Access<'a> {
    /// The store on this machine.
    pub local: &'a LocalStore,
    /// Where git may read, and how.
    pub git: &'a GitAccess,
    /// How S3 and HTTP servers are reached.
    pub outside: &'a Outside,
}

/// Brings an artifact to `target` beneath `root`; missing parents are made, nothing half-written stays.
/// A git repository becomes a whole work tree owned by `options.owner`.
pub fn load(
    location: &Location,
    access: &Access<'_>,
    root: &Root,
    target: &Path,
    options: &ExtractOptions,
    cancel: &Cancel,
) -> Result<(), TransferError> {
    load_with(location, access, root, &Here(root), target, options, cancel)
}

/// As [`load`], with somebody else to unpack beneath the same root.
pub fn load_with(
    location: &Location,
    access: &Access<'_>,
    root: &Root,
    extract: &dyn Extract,
    target: &Path,
    options: &ExtractOptions,
    cancel: &Cancel,
) -> Result<(), TransferError> {
    if let Location::Git(source) = location {
        git::checkout_at(source, access.git, root, target, options.owner, &git::NoProgress, cancel)?;
        return Ok(());
    }
    match location.driver(access.local, access.outside)?.load(cancel)? {
        Content::File(mut reader) => extract.extract(&mut reader, Shape::File, target, options, cancel)?,
        Content::Tree(mut reader) => extract.extract(&mut reader, Shape::Tree, target, options, cancel)?,
    };
    Ok(())
}

/// Stores `path` beneath `root`. A directory with [`Strategy::None`] becomes a tree of objects beneath the key.
pub fn save(
    location: &Location,
    access: &Access<'_>,
    root: &Root,
    path: &Path,
    strategy: Strategy,
    limits: &archive::Limits,
    cancel: &Cancel,
) -> Result<Saved, TransferError> {
    let driver = location.driver(access.local, access.outside)?;
    let is_dir = {
        let flags = rustix::fs::OFlags::PATH;
        let fd = root.open_at(path, flags, rustix::fs::Mode::empty()).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => ArchiveError::NotFound(path.to_owned()),
            _ => ArchiveError::Io { path: path.to_owned(), source: error },
        })?;
        std::fs::File::from(fd).metadata().map_err(ArchiveError::io(path))?.is_dir()
    };
    // The packer writes while the store reads: constant memory, no second copy on disk.
    let (mut reader, mut writer) = std::io::pipe().map_err(ArchiveError::io(path))?;
    std::thread::scope(|scope| {
        let tree = is_dir && strategy == Strategy::None;
        let packer = scope.spawn(move || match tree {
            true => archive::create_tar(root, path, &mut writer, limits, cancel),
            false => archive::create(root, path, strategy, &mut writer, limits, cancel),
        });
        let (sender, receiver) = std::sync::mpsc::channel::<ArchiveError>();
        let mut joined = Joined { reader: &mut reader, packer: Some(packer), failed: sender };
        let payload = if tree { Payload::Tree(&mut joined) } else { Payload::File(&mut joined) };
        let saved = driver.save(payload, cancel);
        // Where the store gave up first, the packer must not wait for a reader.
        let Joined { packer, .. } = joined;
        drop(reader);
        if let Some(packer) = packer {
            let _ = packer.join();
        }
        match receiver.try_recv() {
            Ok(error) => Err(error.into()),
            Err(_) => Ok(saved?),
        }
    })
}

/// Turns a failed packer into a failed read, so that the store does not publish a cut archive.
struct Joined<'scope, 'reader> {
    reader: &'reader mut std::io::PipeReader,
    packer: Option<std::thread::ScopedJoinHandle<'scope, Result<archive::Created, ArchiveError>>>,
    failed: std::sync::mpsc::Sender<ArchiveError>,
}

impl Read for Joined<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.reader.read(buffer)?;
        if got == 0
            && let Some(packer) = self.packer.take()
        {
            match packer.join() {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    let text = error.to_string();
                    let _ = self.failed.send(error);
                    return Err(std::io::Error::other(text));
                }
                Err(_) => return Err(std::io::Error::other("packing stopped")),
            }
        }
        Ok(got)
    }
}
