//! One `RUN`: a container over the layers so far, its output to the log, its exit code. Everything that it started ends with
//! it. What is mounted for it never becomes part of the layer.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use windlass_sandbox::{Container, Host, Mount, Network, Rootfs, Scratch, Spec, Stdio, Upper, User};

use crate::error::{Doing, Fault};
use crate::log::{Log, Stream};

/// A directory with the places where something is mounted: the bottom of every container's layers, so that none of them has
/// to be made in the layer.
pub(crate) fn skeleton(directory: &Path) -> Result<(), Fault> {
    for name in ["proc", "dev", "sys", "etc"] {
        let path = directory.join(name);
        std::fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
    }
    for name in ["etc/hosts", "etc/resolv.conf", "etc/hostname"] {
        let path = directory.join(name);
        std::fs::write(&path, "").doing(|| format!("make {}", path.display()))?;
    }
    Ok(())
}

/// What to run.
pub(crate) struct Command {
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) scratch: Scratch,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: PathBuf,
    pub(crate) user: User,
    pub(crate) network: Network,
    pub(crate) mounts: Vec<Mount>,
}

/// Ends the container when nobody waits for it any more.
struct Held(Container);

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.exit().is_none() {
            // It may have ended meanwhile.
            let _ = self.0.signal(9);
        }
    }
}

/// Runs it to its end; answers the exit code.
pub(crate) async fn run(
    host: &Host,
    command: Command,
    log: &Log,
    mut cancel: watch::Receiver<bool>,
) -> Result<i32, Fault> {
    let spec = Spec {
        rootfs: Rootfs::Overlay { lowers: command.lowers, upper: Upper::Existing(command.scratch) },
        mounts: command.mounts,
        args: command.args,
        env: command.env,
        cwd: command.cwd,
        user: command.user,
        hostname: Some("build".to_owned()),
        // As container engines build: programs such as `su` and `ping` work.
        no_new_privs: false,
        network: command.network,
        ..Spec::default()
    };
    let (out, out_end) = pipe()?;
    let (err, err_end) = pipe()?;
    let stdio = Stdio { stdout: Some(out_end), stderr: Some(err_end), ..Stdio::null() };
    let container = Held(host.spawn(spec, stdio).await?);
    let streams = async { tokio::join!(copy(out, Stream::Out, log), copy(err, Stream::Err, log)) };
    let work = async {
        let waiting = async { container.0.wait().await };
        let (exit, _) = tokio::join!(waiting, streams);
        exit
    };
    let stopped = async {
        if cancel.wait_for(|stop| *stop).await.is_err() {
            // Nobody can stop it any more.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        exit = work => {
            if exit.oom_killed {
                return Err(Fault::said("the command was killed: memory ran out"));
            }
            Ok(exit.code)
        }
        () = stopped => {
            container.0.stop(std::time::Duration::ZERO).await;
            Err(Fault::Cancelled)
        }
    }
}

fn pipe() -> Result<(tokio::net::unix::pipe::Receiver, OwnedFd), Fault> {
    let what = || "make a pipe".to_owned();
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(what)?;
    rustix::io::ioctl_fionbio(&read, true).doing(what)?;
    Ok((tokio::net::unix::pipe::Receiver::from_owned_fd(read).doing(what)?, write))
}

/// Hands on what comes, cut only between characters.
async fn copy(mut from: tokio::net::unix::pipe::Receiver, stream: Stream, log: &Log) {
    let mut buffer = vec![0_u8; 1 << 14];
    let mut kept = 0;
    while let Ok(count) = from.read(&mut buffer[kept..]).await {
        if count == 0 {
            break;
        }
        let filled = kept + count;
        let whole = match std::str::from_utf8(&buffer[..filled]) {
            Ok(_) => filled,
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            Err(_) => filled,
        };
        log.write(stream, &String::from_utf8_lossy(&buffer[..whole]));
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
    if kept > 0 {
        log.write(stream, &String::from_utf8_lossy(&buffer[..kept]));
    }
}
