//! What goes over the socket between host and spawner: a plain byte encoding, and packets with file descriptors.
//! Nothing here trusts lengths or indices: a packet that does not decode is an error, not a panic.

use std::{
    ffi::CString,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};

/// Packets above this size travel as a file.
pub(crate) const PACKET_MAX: usize = 60 << 10;
pub(crate) const FDS_MAX: usize = 32;

pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    fds: usize,
}

/// A packet that does not decode.
#[derive(Debug)]
pub(crate) struct Malformed;

impl<'a> Reader<'a> {
    /// `fds` is how many descriptors came along.
    pub(crate) fn new(bytes: &'a [u8], fds: usize) -> Self {
        Reader { bytes, fds }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or(Malformed)?;
        self.bytes = tail;
        Ok(head)
    }
}

pub(crate) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed>;
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Wire for $kind {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                let bytes = reader.take(size_of::<$kind>())?;
                Ok(<$kind>::from_le_bytes(bytes.try_into().map_err(|_| Malformed)?))
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(u8::get(reader)? != 0)
    }
}

impl Wire for CString {
    fn put(&self, out: &mut Vec<u8>) {
        let bytes = self.as_bytes();
        (bytes.len() as u32).put(out);
        out.extend_from_slice(bytes);
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let len = u32::get(reader)? as usize;
        CString::new(reader.take(len)?).map_err(|_| Malformed)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|item| item.put(out));
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let len = u32::get(reader)? as usize;
        // Every item takes at least one byte: a lying length cannot make us reserve more than the packet.
        let mut items = Vec::with_capacity(len.min(reader.bytes.len()));
        for _ in 0..len {
            items.push(T::get(reader)?);
        }
        Ok(items)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|item| item.put(out));
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        bool::get(reader)?.then(|| T::get(reader)).transpose()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::get(reader)?, B::get(reader)?))
    }
}

/// The index of a descriptor that came with the packet; checked to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fd(pub(crate) u32);

impl Wire for Fd {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let index = u32::get(reader)?;
        if (index as usize) < reader.fds { Ok(Fd(index)) } else { Err(Malformed) }
    }
}

/// Send one packet.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::TOOBIG);
        }
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            answer => return answer.map(drop),
        }
    }
}

/// Receive one packet into `buffer`; length 0 is the end.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(buffer)];
        match recvmsg(socket.as_fd(), &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
            Ok(answer) => {
                let mut fds = Vec::new();
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        fds.extend(rights);
                    }
                }
                return Ok((answer.bytes, fds));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got() {
        let value = (vec![(c"a".to_owned(), Some(7u64)), (c"".to_owned(), None)], Fd(1));
        let mut bytes = Vec::new();
        value.put(&mut bytes);
        let got = <(Vec<(CString, Option<u64>)>, Fd)>::get(&mut Reader::new(&bytes, 2)).unwrap();
        assert_eq!(got, value);
        for cut in 0..bytes.len() {
            let short = <(Vec<(CString, Option<u64>)>, Fd)>::get(&mut Reader::new(&bytes[..cut], 2));
            assert!(short.is_err(), "cut at {cut}");
        }
        assert!(<(Vec<(CString, Option<u64>)>, Fd)>::get(&mut Reader::new(&bytes, 1)).is_err(), "no such descriptor");
    }
}
