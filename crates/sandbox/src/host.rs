//! The hosting process: starting containers through its spawners, and hearing from them.

use std::{
    collections::HashMap,
    io::{Seek, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    Container, Error, Exit, PidNamespace, Probe, Result, Rootfs, Scratch, Spec, StartError, Stdio, Upper, User,
    container::{HeldCgroup, Inner as ContainerInner},
    enter::{self, Entered},
    error::Step,
    plan::{self, Ground, Ready, Streams, UpperDirs},
    pty::Awaited,
    scratch::Reaper,
    spawner::{self, Answer},
    user,
    wire::{self, Reader, Wire},
    work,
};

/// Starts of one spawner that are under way at a time; more would only wait in its socket.
const STARTS_MAX: usize = 4;

/// Handles the roles in which this program is executed by itself. Call it first in `main`; it returns in the program
/// that the user started.
pub fn early() {
    if std::env::args_os().next().is_some_and(|name| name == spawner::NAME) {
        spawner::main();
    }
}

/// How to enter.
#[derive(Debug, Clone)]
pub struct EnterOptions {
    /// A directory on disk for scratch data; created. Several processes may use one.
    pub scratch: PathBuf,
    /// Cap of the scratch tmpfs in bytes; `None` takes a quarter of the memory; `Some(0)` stays on disk.
    pub tmpfs_bytes: Option<u64>,
    /// Number of spawners; `None` takes one for each core, at most 4.
    pub spawners: Option<usize>,
}

impl EnterOptions {
    /// With scratch data in this directory.
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        EnterOptions { scratch: scratch.into(), tmpfs_bytes: None, spawners: None }
    }
}

/// A process that hosts containers. Clones, and the containers' handles, are the same host; with the last of them
/// everything that still runs is killed.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ground: Ground,
    probe: Probe,
    cgroups: crate::cgroup::Driver,
    base: PathBuf,
    uppers: PathBuf,
    volatile: bool,
    _lock: std::fs::File,
    ids: AtomicU64,
    next: AtomicUsize,
    spawners: Vec<Arc<Spawner>>,
    null: Arc<OwnedFd>,
    reaper: Reaper,
    /// Whether overlay uppers work on the disk beside `base`; tried when first asked for.
    disk: OnceLock<bool>,
    /// For workers, made with the first.
    inside: OnceLock<Option<Arc<OwnedFd>>>,
    program: OnceLock<Arc<OwnedFd>>,
}

impl Drop for Inner {
    /// Spawners end when their sockets do, and their containers with them.
    fn drop(&mut self) {
        for spawner in &self.spawners {
            let _gone_already = rustix::net::shutdown(&spawner.socket, rustix::net::Shutdown::Both);
        }
        enter::leave(&self.base);
    }
}

impl Host {
    /// Enter. The process must still have one thread only. What was opened before stays as it was; what is mounted
    /// later on the machine is not seen.
    pub fn enter(options: EnterOptions) -> Result<Host> {
        let entered = enter::enter(&options, options.spawners.unwrap_or_else(enter::cores).max(1))?;
        let Entered { ground, probe, cgroups, base, uppers, volatile, lock, sockets } = entered;
        let null = std::fs::File::options().read(true).write(true).open("/dev/null");
        let null = null.step(|| "open /dev/null".into())?;
        let spawners = sockets.into_iter().map(|socket| Arc::new(Spawner::new(socket))).collect();
        Ok(Host(Arc::new(Inner {
            ground,
            probe,
            cgroups,
            base,
            uppers,
            volatile,
            _lock: lock,
            ids: AtomicU64::new(1),
            next: AtomicUsize::new(0),
            spawners,
            null: Arc::new(null.into()),
            reaper: Reaper::default(),
            disk: OnceLock::new(),
            inside: OnceLock::new(),
            program: OnceLock::new(),
        })))
    }

    /// What works here, for `doctor`: enters as [`Host::enter`] does, and stays inside, but starts nothing.
    pub fn probe_only(scratch: &Path) -> Result<Probe> {
        let entered = enter::enter(&EnterOptions::new(scratch), 0)?;
        enter::leave(&entered.base);
        Ok(entered.probe)
    }

    /// What works here.
    pub fn probe(&self) -> &Probe {
        &self.0.probe
    }

    /// A new scratch directory, for [`Upper::Existing`].
    pub fn scratch(&self) -> Result<Scratch> {
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        Scratch::create(self.0.uppers.join(id.to_string()), self.0.volatile, self.0.reaper.clone())
    }

    /// A new scratch directory on the disk that [`EnterOptions::scratch`] is on: for what may be large, or is to be moved
    /// somewhere on that disk. Where overlays do not work there it is as [`Host::scratch`] gives it.
    pub fn disk_scratch(&self) -> Result<Scratch> {
        let directory = crate::scratch::on_disk(&self.0.base);
        if !*self.0.disk.get_or_init(|| enter::disk_works(&directory, self.0.probe.userxattr)) {
            return self.scratch();
        }
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        Scratch::create(directory.join(id.to_string()), true, self.0.reaper.clone())
    }

    /// Start a process. It has been executed when this returns; everything before is an error, with the step.
    pub async fn spawn(&self, spec: Spec, stdio: Stdio) -> Result<Container> {
        let (streams, terminal) = self.streams(stdio)?;
        let (scratch, upper) = self.upper(&spec.rootfs)?;
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let (cgroup, way) = self.0.cgroups.create(id, &spec.resources, spec.privileged)?.unzip();
        let held = HeldCgroup { cgroup: Mutex::new(cgroup), reaper: self.0.reaper.clone() };
        let (spawner, joined) = match &spec.pid {
            PidNamespace::New => (self.0.next.fetch_add(1, Ordering::Relaxed) % self.0.spawners.len(), None),
            PidNamespace::Join(container) => (container.0.spawner, Some(container.0.pidfd.clone())),
        };
        let inside = if spec.bare { self.inner_user_namespace() } else { None };
        let ready = plan::container(&self.0.ground, &spec, upper, way.unwrap_or_default(), joined, inside, streams)?;
        let kinds = plan::own_namespaces(&spec);
        self.start(spawner, ready, Belongings { scratch, cgroup: Some(held), kinds, terminal }).await
    }

    /// The user namespace of workers; none where this process is in one itself, or where none can be made.
    fn inner_user_namespace(&self) -> Option<Arc<OwnedFd>> {
        if self.0.ground.uid_map != crate::UidMap::Host {
            return None;
        }
        let made = self.0.inside.get_or_init(|| {
            work::identity_namespace().inspect_err(|error| tracing::info!(%error, "workers get no user namespace")).ok()
        });
        made.clone()
    }

    /// This program, as it was when it was started.
    pub(crate) fn program(&self) -> Result<Arc<OwnedFd>> {
        if let Some(program) = self.0.program.get() {
            return Ok(program.clone());
        }
        let program = Arc::new(enter::readonly_self()?);
        Ok(self.0.program.get_or_init(|| program).clone())
    }

    /// Resolve `user`, `user:group`, `1000`, `1000:1000` against `/etc/passwd` and `/etc/group` of a root filesystem
    /// given as its layers, bottom first. An empty string is root. Names that are not there are an error; numbers
    /// that are not there have group 0.
    pub fn resolve_user(lowers: &[PathBuf], user: &str) -> Result<User> {
        user::resolve(lowers, user)
    }

    pub(crate) fn ground(&self) -> &Ground {
        &self.0.ground
    }

    pub(crate) fn streams(&self, stdio: Stdio) -> Result<(Streams, Option<Awaited>)> {
        if stdio.terminal {
            let (awaited, theirs) = Awaited::pair()?;
            return Ok((Streams::Terminal(theirs), Some(awaited)));
        }
        let or_null = |fd: Option<OwnedFd>| fd.map_or_else(|| self.0.null.clone(), Arc::new);
        let fds = [or_null(stdio.stdin), or_null(stdio.stdout), or_null(stdio.stderr)];
        Ok((Streams::Given(fds), None))
    }

    fn upper(&self, rootfs: &Rootfs) -> Result<(Option<Scratch>, Option<UpperDirs>)> {
        let Rootfs::Overlay { upper, .. } = rootfs else { return Ok((None, None)) };
        match upper {
            Upper::ReadOnly => Ok((None, None)),
            Upper::Persistent { upper, work } => {
                Ok((None, Some(UpperDirs { upper: upper.clone(), work: work.clone(), volatile: false })))
            }
            Upper::Existing(scratch) => Ok((Some(scratch.clone()), Some(scratch.mount()?))),
            Upper::Scratch => {
                let scratch = self.scratch()?;
                let dirs = scratch.mount()?;
                Ok((Some(scratch), Some(dirs)))
            }
        }
    }

    pub(crate) async fn start(&self, index: usize, ready: Ready, belongings: Belongings) -> Result<Container> {
        let Belongings { scratch, cgroup, kinds, terminal } = belongings;
        let gone = || Error::Gone("it was killed or has crashed".into());
        let spawner = self.0.spawners.get(index).ok_or_else(gone)?;
        let held = |cgroup| HeldCgroup { cgroup: Mutex::new(cgroup), reaper: self.0.reaper.clone() };
        let cgroup = Arc::new(cgroup.unwrap_or_else(|| held(None)));
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let permit = spawner.starts.acquire().await.map_err(|_| gone())?;
        let (started, answer) = oneshot::channel();
        let (exit_sender, exit) = watch::channel(None);
        let entry =
            Entry { started: Some(started), exit: exit_sender, cgroup: cgroup.clone(), _scratch: scratch.clone() };
        spawner.request(id, &ready, entry)?;
        let answer = answer.await.map_err(|_| gone())?;
        drop(permit);
        match answer {
            Ok(pidfd) => {
                let terminal = terminal.map(Awaited::take).transpose()?;
                let host = self.clone();
                let inner = ContainerInner { host, spawner: index, pidfd, exit, scratch, cgroup, kinds, terminal };
                Ok(Container(Arc::new(inner)))
            }
            Err((step, errno)) => {
                let words = ready.words.get(step as usize).cloned().unwrap_or_else(|| "clone".into());
                let exec = words.starts_with("exec ") && step as usize + 1 == ready.words.len();
                Err(Error::Start(StartError { step: words, errno, exec }))
            }
        }
    }
}

/// What a process that is being started has beside its plan.
pub(crate) struct Belongings {
    pub(crate) scratch: Option<Scratch>,
    pub(crate) cgroup: Option<HeldCgroup>,
    /// The kinds of namespace it does not share with the host.
    pub(crate) kinds: i32,
    pub(crate) terminal: Option<Awaited>,
}

/// The host's side of one spawner.
#[derive(Debug)]
struct Spawner {
    socket: OwnedFd,
    starts: Semaphore,
    table: Mutex<Table>,
    listener: OnceLock<()>,
}

#[derive(Debug, Default)]
struct Table {
    gone: bool,
    entries: HashMap<u64, Entry>,
}

type Started = Result<Arc<OwnedFd>, (u32, i32)>;

/// A process that is being started or runs.
#[derive(Debug)]
struct Entry {
    started: Option<oneshot::Sender<Started>>,
    exit: watch::Sender<Option<Exit>>,
    cgroup: Arc<HeldCgroup>,
    /// Kept while the process runs, whoever else lets go of it.
    _scratch: Option<Scratch>,
}

impl Spawner {
    fn new(socket: OwnedFd) -> Spawner {
        Spawner { socket, starts: Semaphore::new(STARTS_MAX), table: Mutex::default(), listener: OnceLock::new() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(self: &Arc<Self>, id: u64, ready: &Ready, entry: Entry) -> Result<()> {
        self.listener.get_or_init(|| {
            // A thread and not a task: hosts need not be in a runtime when containers end.
            let listener = self.clone();
            let thread = std::thread::Builder::new().name("sandbox-listener".into());
            if thread.spawn(move || listener.listen()).is_err() {
                self.table().gone = true;
            }
        });
        {
            let mut table = self.table();
            if table.gone {
                return Err(Error::Gone("it was killed or has crashed".into()));
            }
            table.entries.insert(id, entry);
        }
        let sent = self.send(id, ready);
        if sent.is_err() {
            self.table().entries.remove(&id);
        }
        sent
    }

    fn send(&self, id: u64, ready: &Ready) -> Result<()> {
        let mut fds: Vec<_> = ready.fds.iter().map(|fd| fd.as_fd()).collect();
        let large = ready.bytes.len() > wire::PACKET_MAX;
        let mut packet = Vec::with_capacity(16 + ready.bytes.len());
        (id, large).put(&mut packet);
        let file;
        if large {
            let memory = rustix::fs::memfd_create(c"windlass-plan", rustix::fs::MemfdFlags::CLOEXEC);
            let mut memory = std::fs::File::from(memory.step(|| "memfd".into())?);
            let filled = memory.write_all(&ready.bytes).and_then(|()| memory.rewind());
            filled.step(|| "write a memfd".into())?;
            file = memory;
            fds.push(file.as_fd());
        } else {
            packet.extend_from_slice(&ready.bytes);
        }
        wire::send(self.socket.as_fd(), &packet, &fds).step(|| "send to the spawner".into())
    }

    fn listen(&self) {
        let mut buffer = [0u8; 256];
        loop {
            let Ok((len, fds)) = wire::receive(self.socket.as_fd(), &mut buffer) else { break };
            let packet = buffer.get(..len).unwrap_or_default();
            let Ok(answer) = Answer::get(&mut Reader::new(packet, fds.len())) else { break };
            self.hear(answer, fds);
        }
        // The kernel has ended everything in its pid namespace.
        let entries = {
            let mut table = self.table();
            table.gone = true;
            std::mem::take(&mut table.entries)
        };
        self.starts.close();
        for entry in entries.into_values() {
            entry.cgroup.finish();
            entry.exit.send_replace(Some(Exit::lost()));
        }
    }

    fn hear(&self, answer: Answer, fds: Vec<OwnedFd>) {
        match answer {
            Answer::Started { id } => {
                let Some(pidfd) = fds.into_iter().next().map(Arc::new) else { return };
                let mut table = self.table();
                let Some(entry) = table.entries.get_mut(&id) else { return };
                let abandoned = entry.started.take().is_some_and(|s| s.send(Ok(pidfd.clone())).is_err());
                if abandoned {
                    // Nobody waits for it any more, so that nobody could ever stop it.
                    let _ended = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
                }
            }
            Answer::Failed { id, step, errno } => {
                let entry = self.table().entries.remove(&id);
                if let Some(started) = entry.and_then(|e| e.started) {
                    let _abandoned = started.send(Err((step, errno)));
                }
            }
            Answer::Ended { id, status, user_us, system_us, max_rss } => {
                let Some(entry) = self.table().entries.remove(&id) else { return };
                let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
                let code = signal.map_or_else(|| libc::WEXITSTATUS(status), |s| 128 + s);
                let oom_killed = entry.cgroup.finish();
                entry.exit.send_replace(Some(Exit {
                    code,
                    signal,
                    oom_killed,
                    user_time: Duration::from_micros(user_us),
                    system_time: Duration::from_micros(system_us),
                    max_rss,
                }));
            }
        }
    }
}
