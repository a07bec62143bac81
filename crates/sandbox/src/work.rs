//! Confined work: this program, executed again in one of its own roles over one root filesystem and nothing else. Bytes come
//! in through a descriptor, a small answer goes out. For what reads other people's formats: a fault in it stays in there.
//!
//! The worker has new mount, pid, network, ipc and uts namespaces, and where this process is the real root a user namespace
//! too; no `/proc`, `/dev` or `/sys`; the rights that making files takes, the filter and `no_new_privs`. It must never be
//! given a secret or a directory that holds one.

use std::{io, os::fd::OwnedFd, sync::Arc};

use tokio::io::AsyncReadExt;

use crate::{
    Capabilities, Container, Error, Exit, Host, Network, Result, Rlimit, Rootfs, Spec, Stdio, enter, error::Step, sys,
};

/// More of an answer is a fault of the worker.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// What of its complaints is kept.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// Memory of its own.
const DATA_BYTES_MAX: u64 = 1 << 30;
/// More than any path is deep that the kernel takes in one call.
const FILES_MAX: u64 = 4096;
/// What making files of any owner takes.
const RIGHTS: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"];

/// One piece of work.
#[derive(Debug)]
pub struct Work {
    /// `argv[0]`, by which the program knows its role.
    pub role: String,
    /// `argv[1]`: what is to be done. Others may read it.
    pub request: String,
    /// All that the worker sees.
    pub rootfs: Rootfs,
    /// Its standard input.
    pub input: OwnedFd,
    /// No file gets larger.
    pub file_bytes_max: u64,
}

/// How the work ended.
#[derive(Debug)]
pub struct Worked {
    /// What came through its standard output.
    pub answer: Vec<u8>,
    /// How it ended.
    pub exit: Exit,
    /// The end of what came through its standard error.
    pub complaint: String,
}

impl Worked {
    /// Why there may be no answer, in words.
    pub fn cause(&self) -> String {
        let how = match (self.exit.signal, self.exit.code) {
            (Some(31), _) => "it made a system call that it may not make".to_owned(),
            (Some(signal), _) => format!("it was killed by signal {signal}"),
            (None, code) => format!("it ended with exit code {code}"),
        };
        match self.complaint.trim().lines().last() {
            Some(line) => format!("{how}: {line}"),
            None => how,
        }
    }
}

/// Ends the worker when nobody waits for it any more.
struct Held(Container);

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.exit().is_none() {
            // It may have ended meanwhile.
            let _ = self.0.signal(libc::SIGKILL);
        }
    }
}

impl Host {
    /// Has a piece of work done. The program must answer to the role in its `main`, before anything else. Dropped, the
    /// worker is killed.
    pub async fn work(&self, work: Work) -> Result<Worked> {
        let rights = RIGHTS.iter().filter_map(|name| Capabilities::parse(name));
        let spec = Spec {
            rootfs: work.rootfs,
            args: vec![work.role, work.request],
            executable: Some(self.program()?),
            capabilities: rights.fold(Capabilities::none(), Capabilities::with),
            bare: true,
            network: Network::None,
            rlimits: vec![
                (Rlimit::Core, 0, 0),
                (Rlimit::Data, DATA_BYTES_MAX, DATA_BYTES_MAX),
                (Rlimit::Fsize, work.file_bytes_max, work.file_bytes_max),
                (Rlimit::Nofile, FILES_MAX, FILES_MAX),
            ],
            ..Spec::default()
        };
        let (out, stdout) = pipe()?;
        let (err, stderr) = pipe()?;
        let stdio = Stdio { stdin: Some(work.input), stdout: Some(stdout), stderr: Some(stderr), ..Stdio::null() };
        let worker = Held(self.spawn(spec, stdio).await?);
        let mut answer = Vec::new();
        let reading = async {
            let read = out.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut answer).await;
            if !matches!(read, Ok(count) if count as u64 <= ANSWER_BYTES_MAX) {
                // Nobody reads on: it would wait for ever.
                let _ = worker.0.signal(libc::SIGKILL);
            }
        };
        let (exit, (), complaint) = tokio::join!(worker.0.wait(), reading, last_words(err));
        Ok(Worked { answer, exit, complaint })
    }
}

/// The end of what comes.
async fn last_words(mut from: tokio::net::unix::pipe::Receiver) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if kept.len() > 2 * COMPLAINT_BYTES_MAX {
            kept.drain(..kept.len() - COMPLAINT_BYTES_MAX);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn pipe() -> Result<(tokio::net::unix::pipe::Receiver, OwnedFd)> {
    let made = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (read, write) = made.step(|| "make a pipe".into())?;
    rustix::io::ioctl_fionbio(&read, true).step(|| "make a pipe".into())?;
    let read = tokio::net::unix::pipe::Receiver::from_owned_fd(read).step(|| "make a pipe".into())?;
    Ok((read, write))
}

/// A user namespace in which every id is itself: who is in it has no right over the host's mounts, networks and devices,
/// whatever its capabilities say.
pub(crate) fn identity_namespace() -> Result<Arc<OwnedFd>> {
    let failed = |errno| Error::io("make a user namespace", io::Error::from_raw_os_error(errno));
    // SAFETY: like fork. The child only waits to be killed; it makes no other call, as other threads may have held locks.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0) };
    let pid = match pid {
        -1 => return Err(failed(sys::errno())),
        0 => loop {
            // SAFETY: a plain system call.
            unsafe { libc::pause() };
        },
        pid => pid,
    };
    let made = enter::map_ids(pid, "0 0 4294967295").and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        std::fs::File::open(&path).step(|| format!("open {path}"))
    });
    // SAFETY: our own child, which nobody else waits for.
    unsafe {
        libc::kill(pid as i32, libc::SIGKILL);
        libc::waitpid(pid as i32, std::ptr::null_mut(), libc::__WALL);
    }
    made.map(|file| Arc::new(file.into()))
}
