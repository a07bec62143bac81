//! Argo's artifact plugins: a driver that is somebody else's program. It runs beside the step in a container of its own and
//! answers at a unix socket in a directory that both share; files and directories change hands in that directory. What a
//! plugin puts there is read by [`Root`], so no link of its making leads out.

mod channel;
mod message;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde_json::Value;

use self::channel::{Address, Channel, Fault};
use self::message::{Malformed, Writer};
use super::{Content, Driver, Payload, Saved, StoreError};
use crate::archive::{self, ExtractOptions, Limits};
use crate::beneath::Root;
use crate::cancel::Cancel;

/// The socket's name in the shared directory.
const SOCKET: &str = "socket";
/// The name of what changes hands, in a directory of its own.
const CONTENT: &str = "content";
/// A chunk of a stream, well below what a gRPC message may be.
const CHUNK_BYTES: usize = 1 << 20;
/// So long Argo waits for a plugin's socket.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which plugins run beside this step.
#[derive(Clone, Debug)]
pub struct Plugins {
    shared: BTreeMap<String, Share>,
    /// How long to wait for a plugin's socket to be there.
    pub patience: Duration,
}

#[derive(Clone, Debug)]
struct Share {
    here: PathBuf,
    there: PathBuf,
}

impl Default for Plugins {
    fn default() -> Self {
        Self { shared: BTreeMap::new(), patience: PATIENCE }
    }
}

impl Plugins {
    /// Tells of a plugin: the directory that is shared with it, by its path here and by its path in its container.
    pub fn add(&mut self, name: impl Into<String>, here: impl Into<PathBuf>, there: impl Into<PathBuf>) {
        self.shared.insert(name.into(), Share { here: here.into(), there: there.into() });
    }
}

/// An artifact that a plugin keeps.
#[derive(Clone, Debug)]
pub struct PluginSource {
    /// The plugin's name.
    pub plugin: String,
    /// How long to wait until it answers at its socket.
    pub timeout: Duration,
    /// The artifact's name and key, for messages.
    pub shown: String,
    /// The whole artifact, which the plugin is told (Argo's JSON).
    pub artifact: Value,
}

/// The driver of one artifact.
pub struct PluginDriver {
    source: PluginSource,
    share: Share,
    patience: Duration,
}

impl PluginDriver {
    /// The driver of this artifact; an error where its plugin does not run here.
    pub fn new(source: &PluginSource, plugins: &Plugins) -> Result<Self, StoreError> {
        let share = plugins.shared.get(&source.plugin).cloned().ok_or_else(|| {
            let plugin = &source.plugin;
            StoreError::Unsupported(format!("artifact plugin {plugin} does not run here: it runs beside steps only"))
        })?;
        Ok(Self { source: source.clone(), share, patience: plugins.patience })
    }

    /// What lies beneath the key.
    pub fn list(&self, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        const DOING: &str = "list objects";
        let answer = self.call(&mut self.open(cancel)?, "ListObjects", &self.alone(), DOING, cancel)?;
        message::objects(&answer).map_err(|e| self.malformed(DOING, e))?.map_err(|e| self.failed(DOING, e, false))
    }

    fn open(&self, cancel: &Cancel) -> Result<Channel, StoreError> {
        let address = Address {
            directory: &self.share.here,
            name: SOCKET,
            shown: self.share.there.join(SOCKET),
            patience: self.patience,
            timeout: self.source.timeout,
        };
        Channel::open(&address, &self.source.plugin, cancel).map_err(|fault| match fault {
            Fault::Cancelled => StoreError::Cancelled,
            Fault::Socket(message) => StoreError::Plugin { message, retry: false },
            fault => self.failed("connection", fault.to_string(), true),
        })
    }

    fn failed(&self, doing: &str, why: impl std::fmt::Display, retry: bool) -> StoreError {
        StoreError::Plugin { message: format!("plugin {} {doing} failed: {why}", self.source.plugin), retry }
    }

    fn malformed(&self, doing: &str, _: Malformed) -> StoreError {
        self.failed(doing, "its answer cannot be read", false)
    }

    fn fault(&self, doing: &str, fault: Fault) -> StoreError {
        match fault {
            Fault::Cancelled => StoreError::Cancelled,
            Fault::Source(source) => StoreError::Io { key: self.source.shown.clone(), source },
            fault if fault.is("NotFound") => StoreError::NotFound(format!("{} ({fault})", self.source.shown)),
            fault => self.failed(doing, &fault, fault.is("Unavailable")),
        }
    }

    fn call(
        &self,
        channel: &mut Channel,
        method: &str,
        message: &[u8],
        doing: &str,
        cancel: &Cancel,
    ) -> Result<Vec<u8>, StoreError> {
        channel.call(method, message, cancel).map_err(|fault| self.fault(doing, fault))
    }

    fn done(&self, doing: &str, answer: &[u8]) -> Result<(), StoreError> {
        message::done(answer).map_err(|e| self.malformed(doing, e))?.map_err(|e| self.failed(doing, e, false))
    }

    fn artifact(&self) -> Vec<u8> {
        message::artifact(&self.source.artifact)
    }

    /// A request that holds the artifact and nothing else.
    fn alone(&self) -> Vec<u8> {
        Writer::default().message(1, &self.artifact()).done()
    }

    fn io(&self) -> impl Fn(io::Error) -> StoreError + '_ {
        |source| StoreError::Io { key: self.source.shown.clone(), source }
    }

    fn exchange(&self) -> Result<Exchange, StoreError> {
        Exchange::new(&self.share).map_err(self.io())
    }

    /// Hands over what lies in the exchange.
    fn save_path(&self, channel: &mut Channel, exchange: &Exchange, cancel: &Cancel) -> Result<(), StoreError> {
        let path = exchange.there.join(CONTENT);
        let request = Writer::default().text(1, &path.to_string_lossy()).message(2, &self.artifact()).done();
        self.done("save", &self.call(channel, "Save", &request, "save", cancel)?)
    }

    /// Whether it takes a stream; one that does not know the question does not.
    fn takes_streams(&self, channel: &mut Channel, cancel: &Cancel) -> Result<bool, StoreError> {
        const DOING: &str = "get capabilities";
        match channel.call("GetCapabilities", &[], cancel) {
            Ok(answer) => message::capabilities(&answer).map_err(|e| self.malformed(DOING, e)),
            Err(fault) if fault.is("Unimplemented") => Ok(false),
            Err(fault) => Err(self.fault(DOING, fault)),
        }
    }

    fn save_stream(&self, channel: &mut Channel, from: &mut dyn Read, cancel: &Cancel) -> Result<u64, StoreError> {
        const DOING: &str = "save stream";
        let mut first = Some(self.alone());
        let mut bytes = 0;
        let next = || {
            if let Some(first) = first.take() {
                return Ok(Some(first));
            }
            let mut chunk = Vec::with_capacity(64 << 10);
            bytes += from.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)? as u64;
            Ok((!chunk.is_empty()).then(|| Writer::default().bytes(2, &chunk).done()))
        };
        let answer = channel.send("SaveStream", next, cancel).map_err(|fault| self.fault(DOING, fault))?;
        self.done(DOING, &answer)?;
        Ok(bytes)
    }
}

impl Driver for PluginDriver {
    fn load(&self, cancel: &Cancel) -> Result<Content, StoreError> {
        let exchange = self.exchange()?;
        let path = exchange.there.join(CONTENT);
        let request = Writer::default().message(1, &self.artifact()).text(2, &path.to_string_lossy()).done();
        self.done("load", &self.call(&mut self.open(cancel)?, "Load", &request, "load", cancel)?)?;
        let loaded = exchange.root.open_at(Path::new(CONTENT), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        let loaded = File::from(loaded.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.failed("load", "it says that it is done, and there is nothing", false),
            _ => self.io()(error),
        })?);
        let kind = loaded.metadata().map_err(self.io())?.file_type();
        if kind.is_file() {
            return Ok(Content::File(Box::new(Loaded { inner: loaded, _exchange: exchange })));
        }
        if !kind.is_dir() {
            return Err(self.failed("load", "what it has loaded is neither a file nor a directory", false));
        }
        let root = exchange.root.sub(Path::new(".")).map_err(self.io())?;
        let (reader, mut writer) = io::pipe().map_err(self.io())?;
        let cancel = cancel.clone();
        let packer = std::thread::spawn(move || {
            archive::create_tar(&root, Path::new(CONTENT), &mut writer, &Limits::default(), &cancel)
        });
        let inner = Packed { reader, packer: Some(packer) };
        Ok(Content::Tree(Box::new(Loaded { inner, _exchange: exchange })))
    }

    fn save(&self, payload: Payload<'_>, cancel: &Cancel) -> Result<Saved, StoreError> {
        let mut channel = self.open(cancel)?;
        let bytes = match payload {
            Payload::File(from) => {
                if self.takes_streams(&mut channel, cancel)? {
                    self.save_stream(&mut channel, from, cancel)?
                } else {
                    let exchange = self.exchange()?;
                    let bytes = exchange.fill(from).map_err(self.io())?;
                    self.save_path(&mut channel, &exchange, cancel)?;
                    bytes
                }
            }
            Payload::Tree(tar) => {
                let exchange = self.exchange()?;
                let options = ExtractOptions::default();
                let made = archive::extract_tree(tar, &exchange.root, Path::new(CONTENT), &options, cancel)?;
                readable(&exchange.root).map_err(self.io())?;
                self.save_path(&mut channel, &exchange, cancel)?;
                made.bytes
            }
        };
        Ok(Saved { bytes, digest: None })
    }

    fn delete(&self, cancel: &Cancel) -> Result<(), StoreError> {
        match self.call(&mut self.open(cancel)?, "Delete", &self.alone(), "delete", cancel) {
            Ok(answer) => self.done("delete", &answer),
            Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn exists(&self, cancel: &Cancel) -> Result<bool, StoreError> {
        match self.list(cancel) {
            Ok(objects) => Ok(!objects.is_empty()),
            Err(StoreError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A directory in the shared one, for one artifact: anybody's, since the plugin runs as whoever its image says. It goes
/// with this; what the plugin made may be its own and stay until the Pod goes.
struct Exchange {
    parent: Root,
    name: OsString,
    root: Root,
    there: PathBuf,
}

impl Exchange {
    fn new(share: &Share) -> io::Result<Self> {
        let parent = Root::open(&share.here)?;
        for number in 0_u32.. {
            let name = OsString::from(format!("artifact-{number}"));
            match rustix::fs::mkdirat(parent.fd(), &name, Mode::from_raw_mode(0o777)) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            }
            let root = Root::from_fd(parent.open_strict(
                Path::new(&name),
                OFlags::DIRECTORY | OFlags::RDONLY,
                Mode::empty(),
            )?);
            // Whatever this process's umask is.
            rustix::fs::fchmod(root.fd(), Mode::from_raw_mode(0o777))?;
            let there = share.there.join(&name);
            return Ok(Self { parent, name, root, there });
        }
        Err(io::Error::other("no name is left"))
    }

    fn fill(&self, from: &mut dyn Read) -> io::Result<u64> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let file = self.root.open_strict(Path::new(CONTENT), flags, Mode::from_raw_mode(0o644))?;
        let mut file = File::from(file);
        let bytes = io::copy(from, &mut file)?;
        file.flush()?;
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(0o644))?;
        Ok(bytes)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = self.parent.remove(&self.name);
    }
}

/// Lets everybody read what is beneath, in this directory that is shared with nobody but the plugin.
fn readable(root: &Root) -> io::Result<()> {
    for name in root.names()? {
        let fd = match root.open_strict(Path::new(&name), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
            Ok(fd) => fd,
            // A link says of its target.
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => continue,
            Err(error) => return Err(error),
        };
        let mode = rustix::fs::fstat(&fd)?.st_mode;
        match FileType::from_raw_mode(mode) {
            FileType::Directory => {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777 | 0o555))?;
                readable(&Root::from_fd(fd))?;
            }
            FileType::RegularFile => {
                let execute = (mode & 0o100) >> 3 | (mode & 0o100) >> 6;
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777 | 0o444 | execute))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What was loaded, with the directory that it lies in.
struct Loaded<R> {
    inner: R,
    _exchange: Exchange,
}

impl<R: Read> Read for Loaded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

/// The tar of a directory; an error of its maker ends the reading with that error.
struct Packed {
    reader: io::PipeReader,
    packer: Option<std::thread::JoinHandle<Result<archive::Created, archive::ArchiveError>>>,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        if got == 0
            && let Some(packer) = self.packer.take()
        {
            packer.join().map_err(|_| io::Error::other("packing stopped"))?.map_err(io::Error::other)?;
        }
        Ok(got)
    }
}
