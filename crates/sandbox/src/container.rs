//! A started process: waiting for it, signalling it, joining it.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::watch;

use crate::{
    Error, ExecSpec, Host, Result, Scratch, Stdio, Terminal,
    cgroup::Cgroup,
    host::Belongings,
    plan,
    scratch::{Job, Reaper},
    sys,
};

/// A handle on a started process. Clones are the same process; dropping all of them does not end it, as long as there
/// is a handle on its [`Host`].
#[derive(Debug, Clone)]
pub struct Container(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) host: Host,
    /// Which spawner started it: only that one can start something in its pid namespace.
    pub(crate) spawner: usize,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) exit: watch::Receiver<Option<Exit>>,
    pub(crate) scratch: Option<Scratch>,
    pub(crate) cgroup: Arc<HeldCgroup>,
    /// The kinds of namespace it does not share with the host.
    pub(crate) kinds: i32,
    pub(crate) terminal: Option<Terminal>,
}

/// A cgroup until its process has ended.
#[derive(Debug)]
pub(crate) struct HeldCgroup {
    pub(crate) cgroup: Mutex<Option<Cgroup>>,
    pub(crate) reaper: Reaper,
}

impl HeldCgroup {
    /// Called once, when the process has ended: whether memory ran out; the cgroup goes.
    pub(crate) fn finish(&self) -> bool {
        let taken = self.cgroup.lock().map_or(None, |mut c| c.take());
        let Some(cgroup) = taken else { return false };
        let oom_killed = cgroup.oom_killed();
        self.reaper.send(Job::Cgroup(cgroup));
        oom_killed
    }
}

impl Drop for HeldCgroup {
    fn drop(&mut self) {
        self.finish();
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed a process of its cgroup for lack of memory.
    pub oom_killed: bool,
    /// CPU time in user mode, of it and the children it waited for.
    pub user_time: Duration,
    /// CPU time in the kernel.
    pub system_time: Duration,
    /// Largest resident set in bytes.
    pub max_rss: u64,
}

impl Exit {
    /// Of a process that ended with its spawner: by SIGKILL, nothing else known.
    pub(crate) fn lost() -> Exit {
        let zero = Duration::ZERO;
        Exit { code: 137, signal: Some(9), oom_killed: false, user_time: zero, system_time: zero, max_rss: 0 }
    }
}

impl Container {
    /// Wait until it has ended. May be called any number of times.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.0.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(value) => value.clone().unwrap_or_else(Exit::lost),
            Err(_) => Exit::lost(),
        }
    }

    /// How it ended, where it has.
    pub fn exit(&self) -> Option<Exit> {
        self.0.exit.borrow().clone()
    }

    /// Its pid, as this process sees it; nothing once it has ended.
    pub fn pid(&self) -> Option<u32> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.pidfd.as_raw_fd())).ok()?;
        let pid = info.lines().find_map(|l| l.strip_prefix("Pid:"))?;
        pid.trim().parse().ok().filter(|pid| *pid != 0)
    }

    /// Send a signal to the process. One that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let named = Signal::from_named_raw(signal).ok_or_else(|| Error::Spec(format!("no signal {signal}")))?;
        match pidfd_send_signal(&self.0.pidfd, named) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(Error::io(format!("send signal {signal}"), e)),
        }
    }

    /// Send a signal to the process and to all of its process group: every process is started as the head of one, so
    /// that these are its children, unless they have gone their own way. Kernels before 6.9 reach the process alone.
    pub fn signal_group(&self, signal: i32) -> Result<()> {
        match sys::pidfd_signal_group(self.0.pidfd.as_raw_fd(), signal) {
            Err(libc::EINVAL) => self.signal(signal),
            Ok(()) | Err(libc::ESRCH) => Ok(()),
            Err(errno) => {
                let cause = std::io::Error::from_raw_os_error(errno);
                Err(Error::io(format!("send signal {signal} to a process group"), cause))
            }
        }
    }

    /// End it: TERM, and after `grace` KILL. With the first process of a pid namespace everything in it ends.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.stop_with(libc::SIGTERM, grace).await
    }

    /// As [`Container::stop`], beginning with another signal.
    pub async fn stop_with(&self, signal: i32, grace: Duration) -> Exit {
        if !grace.is_zero() {
            if let Err(error) = self.signal(signal) {
                tracing::warn!(%error, "cannot ask a process to end");
            }
            if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
                return exit;
            }
        }
        if let Err(error) = self.signal(libc::SIGKILL) {
            tracing::warn!(%error, "cannot kill a process");
        }
        self.wait().await
    }

    /// Start a further process in its namespaces.
    pub async fn exec(&self, spec: ExecSpec, stdio: Stdio) -> Result<Container> {
        let inner = &self.0;
        let (streams, terminal) = inner.host.streams(stdio)?;
        let cgroups = inner.cgroup.cgroup.lock().map_or(Vec::new(), |c| c.as_ref().map_or(Vec::new(), Cgroup::procs));
        let ready = plan::joining(inner.host.ground(), &spec, inner.pidfd.clone(), inner.kinds, cgroups, streams)?;
        let belongings = Belongings { scratch: inner.scratch.clone(), cgroup: None, kinds: inner.kinds, terminal };
        inner.host.start(inner.spawner, ready, belongings).await
    }

    /// Our end of its terminal, where it was started with one.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.0.terminal.as_ref()
    }

    /// The scratch directory that its writes go to, where its root filesystem has one.
    pub fn scratch(&self) -> Option<&Scratch> {
        self.0.scratch.as_ref()
    }
}
