//! The spawner: a small process of one thread that starts containers and waits for them. It is executed from a
//! read-only view of this program before the host has threads or secrets, and is the init of a pid namespace: when it
//! ends, by whatever means, the kernel ends everything that it started.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::event::epoll;

use crate::{
    child,
    op::Plan,
    sys::{self, Errno},
    wire::{self, Malformed, Reader, Wire},
};

/// The name under which this program is executed as a spawner.
pub(crate) const NAME: &str = "windlass-spawner";
/// The descriptor of its socket.
pub(crate) const SOCKET: RawFd = 3;

const STACK_BYTES: usize = 256 << 10;

/// What the spawner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Started; the pidfd comes along.
    Started { id: u64 },
    /// A step failed.
    Failed { id: u64, step: u32, errno: i32 },
    /// Ended.
    Ended { id: u64, status: i32, user_us: u64, system_us: u64, max_rss: u64 },
}

/// The step number of a failure before the first step.
pub(crate) const BEFORE: u32 = u32::MAX;

impl Wire for Answer {
    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Answer::Started { id } => (0u8, id).put(out),
            Answer::Failed { id, step, errno } => (1u8, (id, (step, errno))).put(out),
            Answer::Ended { id, status, user_us, system_us, max_rss } => {
                (2u8, (id, (status, (user_us, (system_us, max_rss))))).put(out);
            }
        }
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::get(reader)? {
            0 => Ok(Answer::Started { id: Wire::get(reader)? }),
            1 => {
                let (id, (step, errno)) = Wire::get(reader)?;
                Ok(Answer::Failed { id, step, errno })
            }
            2 => {
                let (id, (status, (user_us, (system_us, max_rss)))) = Wire::get(reader)?;
                Ok(Answer::Ended { id, status, user_us, system_us, max_rss })
            }
            _ => Err(Malformed),
        }
    }
}

/// Run as the spawner; never returns.
pub(crate) fn main() -> ! {
    // SAFETY: umask only takes a number; the host left the socket at this number and nobody else uses it.
    let socket = unsafe {
        libc::umask(0);
        OwnedFd::from_raw_fd(SOCKET)
    };
    let mut spawner = match Spawner::new(socket) {
        Ok(spawner) => spawner,
        Err(_) => sys::exit_now(70),
    };
    let code = match spawner.serve() {
        Ok(()) => 0,
        Err(_) => 71,
    };
    sys::exit_now(code)
}

struct Spawner {
    socket: OwnedFd,
    epoll: OwnedFd,
    own_pids: OwnedFd,
    stack: *mut u8,
    /// Shared with children that do not share our memory.
    cell: *const AtomicU64,
    running: HashMap<u64, (i32, OwnedFd)>,
    buffer: Vec<u8>,
}

impl Spawner {
    fn new(socket: OwnedFd) -> Result<Spawner, Errno> {
        let errno = |e: rustix::io::Errno| e.raw_os_error();
        // Opened before we become undumpable, which makes our own /proc files somebody else's.
        let own_pids = sys::openat(libc::AT_FDCWD, c"/proc/self/ns/pid", libc::O_RDONLY, 0)?;
        sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new anonymous mappings, the first with an inaccessible page below it; both are kept to the end.
        let (stack, cell) = unsafe {
            let stack = libc::mmap(ptr::null_mut(), STACK_BYTES, both, anonymous | libc::MAP_STACK, -1, 0);
            let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let cell = libc::mmap(ptr::null_mut(), 4096, both, shared, -1, 0);
            if stack == libc::MAP_FAILED || cell == libc::MAP_FAILED {
                return Err(sys::errno());
            }
            libc::mprotect(stack, 4096, libc::PROT_NONE);
            (stack.cast::<u8>(), cell.cast::<AtomicU64>().cast_const())
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(errno)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&epoll, &socket, data, epoll::EventFlags::IN).map_err(errno)?;
        Ok(Spawner {
            socket,
            epoll,
            // SAFETY: just opened, owned by nobody else.
            own_pids: unsafe { OwnedFd::from_raw_fd(own_pids) },
            stack,
            cell,
            running: HashMap::new(),
            buffer: vec![0; wire::PACKET_MAX + 64],
        })
    }

    fn serve(&mut self) -> Result<(), Errno> {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, None) {
                Err(rustix::io::Errno::INTR) => continue,
                answer => answer.map_err(|e| e.raw_os_error())?,
            };
            for event in &events {
                match event.data.u64() {
                    0 => {
                        if !self.request()? {
                            return Ok(());
                        }
                    }
                    id => self.ended(id)?,
                }
            }
        }
    }

    /// One request; false where the host is gone.
    fn request(&mut self) -> Result<bool, Errno> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = wire::receive(self.socket.as_fd(), &mut buffer);
        let answered = match received {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => Ok(false),
            Ok((len, fds)) => {
                let packet = buffer.get(..len).unwrap_or_default();
                self.decode(packet, fds).map(|()| true)
            }
            Err(e) => Err(e.raw_os_error()),
        };
        self.buffer = buffer;
        answered
    }

    fn decode(&mut self, packet: &[u8], mut fds: Vec<OwnedFd>) -> Result<(), Errno> {
        let mut reader = Reader::new(packet, fds.len());
        let Ok((id, large)) = <(u64, bool)>::get(&mut reader) else { return Err(libc::EBADMSG) };
        let plan = if large {
            // The plan is a file, the last descriptor.
            let file = fds.pop().ok_or(libc::EBADMSG)?;
            let mut bytes = Vec::new();
            let read = std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes);
            read.map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))?;
            Plan::get(&mut Reader::new(&bytes, fds.len()))
        } else {
            Plan::get(&mut reader)
        };
        let outcome = match plan {
            Ok(plan) => self.start(&plan, &fds),
            Err(Malformed) => Err((BEFORE, libc::EBADMSG)),
        };
        match outcome {
            Ok((pid, pidfd)) => {
                let data = epoll::EventData::new_u64(id);
                epoll::add(&self.epoll, &pidfd, data, epoll::EventFlags::IN).map_err(|e| e.raw_os_error())?;
                self.answer(Answer::Started { id }, &[pidfd.as_fd()])?;
                self.running.insert(id, (pid, pidfd));
                Ok(())
            }
            Err((step, errno)) => self.answer(Answer::Failed { id, step, errno }, &[]),
        }
    }

    fn answer(&self, answer: Answer, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut bytes = Vec::with_capacity(64);
        answer.put(&mut bytes);
        match wire::send(self.socket.as_fd(), &bytes, fds) {
            // The host is gone; the next receive says so.
            Err(rustix::io::Errno::PIPE) => Ok(()),
            answer => answer.map_err(|e| e.raw_os_error()),
        }
    }

    fn start(&mut self, plan: &Plan, fds: &[OwnedFd]) -> Result<(i32, OwnedFd), (u32, Errno)> {
        let before = |errno| (BEFORE, errno);
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        if let Some(index) = plan.pid_of {
            let target = raw.get(index.0 as usize).copied().unwrap_or(-1);
            sys::setns(target, libc::CLONE_NEWPID).map_err(before)?;
        }
        // SAFETY: the mapping lives as long as the process.
        let cell = unsafe { &*self.cell };
        cell.store(0, Ordering::SeqCst);
        let cloned = self.clone_child(plan, &raw, cell);
        if plan.pid_of.is_some() && sys::setns(self.own_pids.as_raw_fd(), libc::CLONE_NEWPID).is_err() {
            // Later children would land in somebody's container.
            sys::exit_now(72);
        }
        let (pid, pidfd) = cloned.map_err(before)?;
        match child::decode_failure(cell.load(Ordering::SeqCst)) {
            None => Ok((pid, pidfd)),
            Some(failure) => {
                let mut status = 0;
                // SAFETY: waits for our own child, which has ended.
                unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
                Err(failure)
            }
        }
    }

    fn clone_child(&self, plan: &Plan, fds: &[RawFd], cell: &AtomicU64) -> Result<(i32, OwnedFd), Errno> {
        struct Start<'a> {
            plan: &'a Plan,
            fds: &'a [RawFd],
            cell: &'a AtomicU64,
        }
        extern "C" fn entry(argument: *mut libc::c_void) -> libc::c_int {
            // SAFETY: `clone` hands over the pointer given to it below; the parent is stopped (CLONE_VFORK) and keeps
            // the value alive until this process has executed or ended.
            let start = unsafe { &*argument.cast::<Start<'_>>() };
            child::run(&start.plan.ops, start.fds, start.cell)
        }
        let start = Start { plan, fds, cell };
        let mut pidfd: RawFd = -1;
        let mut flags = plan.flags as i32 | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        if !plan.apart {
            flags |= libc::CLONE_VM;
        }
        // SAFETY: the child runs `entry` on a stack of its own, which nothing else uses: this process has one thread
        // and is stopped until the child has executed or ended. `entry` does not return, allocate or unwind. The
        // descriptor is written to `pidfd`.
        let pid = unsafe {
            libc::clone(
                entry,
                self.stack.add(STACK_BYTES).cast(),
                flags,
                ptr::from_ref(&start).cast_mut().cast(),
                &mut pidfd,
            )
        };
        if pid < 0 {
            return Err(sys::errno());
        }
        // SAFETY: the kernel made this descriptor for us.
        Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }

    fn ended(&mut self, id: u64) -> Result<(), Errno> {
        let Some((pid, _)) = self.running.get(&id) else { return Ok(()) };
        let mut status = 0;
        // SAFETY: an all-zero `rusage` is a valid value of it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers outlive the call; the pid is our child's and was not waited for.
        let answer = unsafe { libc::wait4(*pid, &mut status, libc::WNOHANG | libc::__WALL, &mut usage) };
        if answer == 0 {
            return Ok(());
        }
        if let Some((_, pidfd)) = self.running.remove(&id) {
            // The host has a copy: closing ours would not take it out of the set.
            epoll::delete(&self.epoll, &pidfd).map_err(|e| e.raw_os_error())?;
        }
        let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
        let (user_us, system_us) = (us(usage.ru_utime), us(usage.ru_stime));
        let max_rss = usage.ru_maxrss as u64 * 1024;
        self.answer(Answer::Ended { id, status, user_us, system_us, max_rss }, &[])
    }
}
