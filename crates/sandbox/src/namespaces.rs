//! Namespaces made ahead of the processes that join them: a thread makes one, opens it and ends.

use std::{fs::File, io, os::fd::OwnedFd, sync::Arc};

use crate::{Error, Result, error::Step, sys};

/// A new ipc namespace.
pub fn ipc() -> Result<Arc<OwnedFd>> {
    make(libc::CLONE_NEWIPC, "ipc", || Ok(()))
}

/// A new uts namespace with this host name.
pub fn uts(hostname: &str) -> Result<Arc<OwnedFd>> {
    make(libc::CLONE_NEWUTS, "uts", || sys::sethostname(hostname.as_bytes()))
}

/// A new namespace of this kind, prepared by `prepare` on the thread that is in it.
pub(crate) fn make(
    kind: i32,
    name: &str,
    prepare: impl FnOnce() -> Result<(), sys::Errno> + Send,
) -> Result<Arc<OwnedFd>> {
    let what = || format!("create a {name} namespace");
    on_thread(|| {
        sys::unshare(kind).and_then(|()| prepare()).map_err(io::Error::from_raw_os_error).step(what)?;
        let file = File::open(format!("/proc/thread-self/ns/{name}")).step(what)?;
        Ok(Arc::new(OwnedFd::from(file)))
    })?
}

/// Run on a thread of its own, which ends with what was changed about it.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sandbox-namespace".into()).spawn_scoped(scope, work);
        let thread = thread.step(|| "start a thread".into())?;
        thread.join().map_err(|_| Error::Gone("a namespace thread panicked".into()))
    })
}
