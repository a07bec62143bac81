//! Terminals: made by the child in its container's own `/dev/pts`, so that the name it sees is there, and handed to the
//! host through a socket. The child's part allocates nothing. Nobody here copies bytes.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
};

use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
        socketpair,
    },
    termios::Winsize,
};

use crate::{
    Error, Result,
    error::Step,
    sys::{self, Errno},
};

const DEVPTS: i64 = 0x1cd1;
/// What `/dev/pts/ptmx` is.
const PTMX: (u32, u32) = (5, 2);

/// Our end of a process's terminal. What is written to it is typed; what is read was printed. A read after the last
/// process has let go of the other end is `EIO`.
#[derive(Debug)]
pub struct Terminal(OwnedFd);

impl Terminal {
    /// Tell the process how large the window is.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.0, size).step(|| "resize a terminal".into())
    }

    /// The same end once more; closed for the process when all are.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        self.0.try_clone().step(|| "duplicate a terminal".into())
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A terminal that a child will send.
#[derive(Debug)]
pub(crate) struct Awaited(OwnedFd);

impl Awaited {
    /// Where it comes out, and where the child puts it in.
    pub(crate) fn pair() -> Result<(Awaited, Arc<OwnedFd>)> {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).step(|| "socket pair".into())?;
        Ok((Awaited(ours), Arc::new(theirs)))
    }

    /// The terminal of a child that has executed: it has sent it before.
    pub(crate) fn take(self) -> Result<Terminal> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)
            .step(|| "receive a terminal".into())?;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let sent = fds.flatten().next();
        sent.map(Terminal).ok_or_else(|| Error::Gone("it sent no terminal".into()))
    }
}

/// In the child, in its container: a new terminal, both ends.
// The requests' type differs by C library.
#[allow(clippy::unnecessary_cast)]
pub(crate) fn open() -> Result<(RawFd, RawFd), Errno> {
    // No link is followed and the file looked at: what is sent to the host is a terminal and nothing else.
    let master = sys::open_plain(c"/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
    if sys::filesystem_kind(master)? != DEVPTS || sys::device(master)? != PTMX {
        return Err(libc::ENXIO);
    }
    let unlocked = 0i32;
    sys::ioctl(master, libc::TIOCSPTLCK as u64, std::ptr::from_ref(&unlocked) as u64)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let user = sys::ioctl(master, libc::TIOCGPTPEER as u64, flags as u64)?;
    Ok((master, user))
}

/// The terminal belongs to whoever works at it; its group stays.
pub(crate) fn give(user: RawFd, uid: u32) -> Result<(), Errno> {
    sys::fchown(user, uid)
}

/// Send a descriptor, without allocating.
pub(crate) fn send(socket: RawFd, fd: RawFd) -> Result<(), Errno> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        fd: RawFd,
        _padding: u32,
    }
    // SAFETY: an all-zero header is a valid value of it.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    let len = size_of::<libc::cmsghdr>() + size_of::<RawFd>();
    // The type differs by C library.
    #[allow(clippy::useless_conversion)]
    {
        header.cmsg_len = len.try_into().map_err(|_| libc::EINVAL)?;
    }
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    let control = Control { header, fd, _padding: 0 };
    sys::send_with(socket, std::ptr::from_ref(&control).cast(), size_of::<Control>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_descriptor_goes_through_the_socket() {
        let (awaited, theirs) = Awaited::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(theirs.as_raw_fd(), file.as_raw_fd()).unwrap();
        let Terminal(got) = awaited.take().unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(got.as_fd()), inode(file.as_fd()));
    }

    #[test]
    fn nothing_sent_is_an_error() {
        let (awaited, _theirs) = Awaited::pair().unwrap();
        assert!(awaited.take().is_err());
    }
}
