//! A started process: waiting for it, signalling it, joining it.

use std::time::Duration;

use crate::{Error, ExecSpec, Result, Scratch, Stdio};

/// A handle on a started process. Clones are the same process; dropping all of them does not end it.
#[derive(Debug, Clone)]
pub struct Container {
    scratch: Option<Scratch>,
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

impl Container {
    /// Wait until it has ended. May be called any number of times.
    pub async fn wait(&self) -> Exit {
        std::future::pending().await
    }

    /// How it ended, where it has.
    pub fn exit(&self) -> Option<Exit> {
        None
    }

    /// Its pid, as this process sees it.
    pub fn pid(&self) -> Option<u32> {
        None
    }

    /// Send a signal. One that has ended is no error.
    pub fn signal(&self, _signal: i32) -> Result<()> {
        Err(Error::Gone("not started".into()))
    }

    /// End it: TERM, and after `grace` KILL of everything in its pid namespace.
    pub async fn stop(&self, _grace: Duration) -> Exit {
        self.wait().await
    }

    /// Start a further process in its namespaces.
    pub async fn exec(&self, _spec: ExecSpec, _stdio: Stdio) -> Result<Container> {
        Err(Error::Gone("not started".into()))
    }

    /// The scratch directory that its writes go to, where its root filesystem has one.
    pub fn scratch(&self) -> Option<&Scratch> {
        self.scratch.as_ref()
    }
}
