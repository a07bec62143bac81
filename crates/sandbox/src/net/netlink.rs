//! Just enough netlink: messages with attributes, sent as one batch, every one acknowledged.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const ACK: u16 = libc::NLM_F_REQUEST as u16 | libc::NLM_F_ACK as u16;

/// A netlink socket of the namespace that the calling thread was in when it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

/// Messages to be sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// What each message that is acknowledged does, by its sequence number.
    words: Vec<(u32, String)>,
    next: u32,
}

/// A message under construction.
pub(crate) struct Message<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Message<'_> {
    /// Raw bytes: the fixed part of a message.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// One attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind, |m| {
            m.raw(value);
        })
    }

    /// One attribute that is a number in the machine's byte order.
    pub(crate) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// One attribute that is a terminated string.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.nest(kind, |m| {
            m.raw(value.as_bytes()).raw(&[0]);
        })
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Message<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        fill(&mut Message { bytes: self.bytes });
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}

impl Batch {
    /// Add a message whose outcome is reported as `words`.
    pub(crate) fn add(&mut self, words: &str, kind: u16, flags: u16, fill: impl FnOnce(&mut Message<'_>)) {
        self.words.push((self.next, words.to_owned()));
        self.frame(kind, ACK | flags, fill);
    }

    /// Add a message that is not acknowledged (the ends of an nftables transaction).
    pub(crate) fn add_silent(&mut self, kind: u16, fill: impl FnOnce(&mut Message<'_>)) {
        self.frame(kind, libc::NLM_F_REQUEST as u16, fill);
    }

    fn frame(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Message<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 16]);
        fill(&mut Message { bytes: &mut self.bytes });
        let len = (self.bytes.len() - start) as u32;
        let header = &mut self.bytes[start..start + 16];
        header[..4].copy_from_slice(&len.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&flags.to_ne_bytes());
        header[8..12].copy_from_slice(&self.next.to_ne_bytes());
        self.next += 1;
    }
}

impl Socket {
    /// Open for `NETLINK_ROUTE`, `NETLINK_NETFILTER`, ….
    pub(crate) fn open(protocol: i32) -> io::Result<Socket> {
        // SAFETY: only numbers are passed; the descriptor is owned by nobody else.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // An answer that never comes must not stop the caller for good.
        let timeout = libc::timeval { tv_sec: 5, tv_usec: 0 };
        // SAFETY: the pointer and size are those of `timeout`.
        unsafe {
            let size = size_of::<libc::timeval>() as u32;
            let value = std::ptr::from_ref(&timeout).cast();
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, size);
        }
        Ok(Socket { fd })
    }

    /// Send the batch; the first failure, with the words for it.
    pub(crate) fn send(&self, batch: Batch) -> Result<(), (String, io::Error)> {
        let whole = |e| ("netlink".to_owned(), e);
        // SAFETY: the pointer and length are those of `bytes`.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), batch.bytes.as_ptr().cast(), batch.bytes.len(), 0) };
        if sent < 0 {
            return Err(whole(io::Error::last_os_error()));
        }
        let mut first = None;
        let mut open = batch.words;
        let mut buffer = vec![0u8; 16 << 10];
        while !open.is_empty() {
            // SAFETY: the kernel writes at most `buffer.len()` bytes.
            let len = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Ok(len) = usize::try_from(len) else { return Err(whole(io::Error::last_os_error())) };
            let mut rest = buffer.get(..len).unwrap_or_default();
            while let Some((kind, sequence, body, after)) = split(rest) {
                rest = after;
                if i32::from(kind) != libc::NLMSG_ERROR {
                    continue;
                }
                let code = body.first_chunk::<4>().map_or(-libc::EIO, |b| i32::from_ne_bytes(*b));
                // A transaction that fails as a whole answers for its first message, which is not acknowledged.
                let at = open.iter().position(|(n, _)| *n == sequence);
                let words = at.map_or_else(|| "netlink".to_owned(), |at| open.remove(at).1);
                if code != 0 {
                    let failure = (words, io::Error::from_raw_os_error(-code));
                    if at.is_none() {
                        return Err(failure);
                    }
                    first.get_or_insert(failure);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// The first message: kind, sequence number, body, and what is after it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(16..len)?;
    Some((kind, sequence, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}
