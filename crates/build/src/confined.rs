//! Archives unpacked by confined workers: layers, and what `ADD` names. Joins what a worker does with how one is started. An
//! archive that breaks its worker fails that pull or step, with the cause, and nothing else.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use windlass_oci::layer::{UnpackOptions, Unpacked, worker};
use windlass_oci::media::Compression;
use windlass_oci::{Error, Unpacker};
use windlass_sandbox::{Host, Rootfs, Scratch, Upper, Work};

use crate::error::Fault;
use crate::extract;
use crate::view::{Owner, View};

/// `argv[0]` of the worker that unpacks for `ADD`.
const ADD_ROLE: &str = "windlass-add";
/// No file of an archive gets larger.
const ADD_BYTES_MAX: u64 = 64 << 30;

/// Runs the role in which this program was executed by itself, and answers its exit code; `None` for the user's own
/// invocation. Call it first in `main`, before any thread is started.
pub fn early() -> Option<i32> {
    match std::env::args().next().as_deref() {
        Some(worker::ROLE) => Some(worker::main()),
        Some(ADD_ROLE) => Some(add_main()),
        _ => None,
    }
}

/// Unpacks each layer in a worker of its own, which sees the layer's directory and nothing else.
pub struct ConfinedUnpacker {
    host: Host,
    runtime: Handle,
}

impl ConfinedUnpacker {
    /// With workers of this host. Call it within the runtime, which must have several threads: unpacking blocks one.
    pub fn new(host: Host) -> Self {
        Self { host, runtime: Handle::current() }
    }
}

impl Unpacker for ConfinedUnpacker {
    fn unpack(
        &self,
        blob: File,
        compression: Compression,
        target: &Path,
        options: &UnpackOptions,
    ) -> windlass_oci::Result<Unpacked> {
        let failed = |detail: String| Error::Io {
            what: "unpacking a layer in a confined worker".to_owned(),
            source: io::Error::other(detail),
        };
        let request = worker::Request { compression, options: *options };
        let work = Work {
            role: worker::ROLE.to_owned(),
            request: serde_json::to_string(&request).map_err(|e| failed(e.to_string()))?,
            rootfs: Rootfs::Dir(target.to_owned()),
            input: blob.into(),
            file_bytes_max: options.limits.bytes_max,
        };
        // A thread of its own: whoever calls may be within the runtime, which cannot be waited for from there.
        let worked = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| self.runtime.block_on(self.host.work(work)));
            waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let worked = worked.map_err(|e| failed(e.to_string()))?;
        worker::finish(&worked.answer, target, options).unwrap_or_else(|| Err(failed(worked.cause())))
    }
}

/// What the worker of `ADD` is asked for. The archive is its standard input, the stage's root filesystem its root.
#[derive(Serialize, Deserialize)]
struct Add {
    /// What the archive is called in messages.
    name: String,
    dest: PathBuf,
    owner: Option<(u32, u32)>,
}

#[derive(Serialize, Deserialize)]
enum Added {
    /// With the devices that could not be made.
    Unpacked(Vec<PathBuf>),
    /// It only begins like one.
    NoArchive,
    Failed(String),
}

fn add_main() -> i32 {
    let request = std::env::args().nth(1).unwrap_or_default();
    match serde_json::from_str::<Add>(&request).map_err(io::Error::other).and_then(add_here) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("unpacking: {error}");
            1
        }
    }
}

fn add_here(request: Add) -> io::Result<()> {
    let mut archive = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let root = View::directory_of(Path::new("/"))?;
    let owner = request.owner.map(|(uid, gid)| Owner { uid, gid });
    let added = extract::sniff(&mut archive, &request.name).and_then(|found| match found {
        None => Ok(Added::NoArchive),
        Some(compression) => extract::unpack(archive, compression, &root, &request.dest, owner).map(Added::Unpacked),
    });
    let added = added.unwrap_or_else(|fault| Added::Failed(fault.to_string()));
    let mut out = io::stdout().lock();
    out.write_all(&serde_json::to_vec(&added)?)?;
    out.flush()
}

/// Unpacks an archive into a stage's root filesystem, which must not be mounted elsewhere meanwhile; answers the devices that
/// could not be made, or `None` where the file is no archive after all.
pub(crate) async fn add(
    host: &Host,
    archive: File,
    name: &str,
    lowers: Vec<PathBuf>,
    scratch: &Scratch,
    dest: &Path,
    owner: Option<Owner>,
) -> Result<Option<Vec<PathBuf>>, Fault> {
    let owner = owner.map(|owner| (owner.uid, owner.gid));
    let request = Add { name: name.to_owned(), dest: dest.to_owned(), owner };
    let work = Work {
        role: ADD_ROLE.to_owned(),
        request: serde_json::to_string(&request).map_err(|e| Fault::said(e.to_string()))?,
        rootfs: Rootfs::Overlay { lowers, upper: Upper::Existing(scratch.clone()) },
        input: archive.into(),
        file_bytes_max: ADD_BYTES_MAX,
    };
    let worked = host.work(work).await?;
    match serde_json::from_slice(&worked.answer) {
        Ok(Added::Unpacked(skipped)) => Ok(Some(skipped)),
        Ok(Added::NoArchive) => Ok(None),
        Ok(Added::Failed(why)) => Err(Fault::said(why)),
        Err(_) => Err(Fault::said(format!("unpacking {name} in a confined worker: {}", worked.cause()))),
    }
}
