//! SPDY/3.1 frames as client-go and kubectl send them: streams, data, pings. Encodes and decodes; keeps nothing but the
//! state of header compression, which one connection has once for each direction.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::io;

/// What headers are compressed with beforehand, by the protocol's own text.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
const HEADER_BYTES: usize = 8;
/// The largest frame that is kept whole; data comes in pieces.
const CONTROL_BYTES_MAX: usize = 64 << 10;
const HEADERS_BYTES_MAX: usize = 256 << 10;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;
const CANCEL: u32 = 5;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream.
    Stream { id: u32, headers: Vec<(String, String)>, last: bool },
    /// A piece of data; `last` is its stream's end.
    Data { id: u32, data: Bytes, last: bool },
    /// A stream is given up.
    Reset { id: u32 },
    /// To be answered with the same.
    Ping { id: u32 },
    /// No new streams will come.
    GoAway,
}

/// What goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out {
    Reply { id: u32 },
    Data { id: u32, data: Bytes, last: bool },
    Reset { id: u32 },
    Ping { id: u32 },
}

/// The reading side of one connection.
pub(super) struct Decoder {
    inflate: Decompress,
    /// Data of this stream is still to come: so many bytes, and whether they are the last.
    rest: Option<(u32, usize, bool)>,
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY: {why}"))
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new(true), rest: None }
    }

    /// The next frame, where enough of it is there. Frames that need no answer are passed over.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
        loop {
            if let Some((id, rest, last)) = self.rest {
                if rest > 0 && buffer.is_empty() {
                    return Ok(None);
                }
                let data = buffer.split_to(rest.min(buffer.len())).freeze();
                let rest = rest - data.len();
                self.rest = (rest > 0).then_some((id, rest, last));
                return Ok(Some(Frame::Data { id, data, last: last && rest == 0 }));
            }
            let Some(mut header) = buffer.get(..HEADER_BYTES) else { return Ok(None) };
            let (word, flags) = (header.get_u32(), header.get_u8());
            let length = usize::try_from(header.get_uint(3)).unwrap_or(usize::MAX);
            if word >> 31 == 0 {
                buffer.advance(HEADER_BYTES);
                self.rest = Some((word, length, flags & FIN != 0));
                continue;
            }
            if word >> 16 != 0x8003 {
                return Err(broken("a frame of another version"));
            }
            if length > CONTROL_BYTES_MAX {
                return Err(broken("a frame that is too large"));
            }
            if buffer.len() < HEADER_BYTES + length {
                return Ok(None);
            }
            buffer.advance(HEADER_BYTES);
            let body = buffer.split_to(length).freeze();
            if let Some(frame) = self.control((word & 0xffff) as u16, flags, body)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> io::Result<Option<Frame>> {
        let id = |body: &mut Bytes| match body.remaining() {
            4.. => Ok(body.get_u32() & 0x7fff_ffff),
            _ => Err(broken("a frame that is too short")),
        };
        Ok(match kind {
            SYN_STREAM => {
                let id = id(&mut body)?;
                if body.remaining() < 6 {
                    return Err(broken("a stream that is too short"));
                }
                body.advance(6);
                Some(Frame::Stream { id, headers: self.headers(&body)?, last: flags & FIN != 0 })
            }
            // Their headers mean nothing here, but what follows is compressed with them in mind.
            SYN_REPLY | HEADERS => {
                id(&mut body)?;
                self.headers(&body)?;
                None
            }
            RST_STREAM => Some(Frame::Reset { id: id(&mut body)? }),
            PING if body.remaining() >= 4 => Some(Frame::Ping { id: body.get_u32() }),
            GOAWAY => Some(Frame::GoAway),
            // Settings and window updates: nobody on the other side has windows either.
            _ => None,
        })
    }

    fn headers(&mut self, block: &[u8]) -> io::Result<Vec<(String, String)>> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            if plain.len() > HEADERS_BYTES_MAX {
                return Err(broken("headers that are too large"));
            }
            plain.reserve(1024);
            let before = (self.inflate.total_in(), plain.len());
            match self.inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(broken("headers that end")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.inflate.set_dictionary(DICTIONARY);
                    set.map_err(|_| broken("headers with another dictionary"))?;
                }
                Err(_) => return Err(broken("headers that cannot be read")),
            }
            let read = usize::try_from(self.inflate.total_in() - before.0).unwrap_or(usize::MAX);
            rest = rest.get(read..).unwrap_or_default();
            if rest.is_empty() && plain.len() < plain.capacity() {
                break;
            }
            if read == 0 && plain.len() == before.1 && before.0 > 2 {
                return Err(broken("headers that cannot be read"));
            }
        }
        pairs(Bytes::from(plain))
    }
}

fn pairs(mut plain: Bytes) -> io::Result<Vec<(String, String)>> {
    let short = || broken("headers that are too short");
    let number = |plain: &mut Bytes| match plain.remaining() {
        4.. => Ok(plain.get_u32() as usize),
        _ => Err(short()),
    };
    let count = number(&mut plain)?;
    let mut all = Vec::new();
    for _ in 0..count {
        let mut text = || {
            let length = number(&mut plain)?;
            if plain.remaining() < length {
                return Err(short());
            }
            Ok(String::from_utf8_lossy(&plain.split_to(length)).into_owned())
        };
        all.push((text()?.to_ascii_lowercase(), text()?));
    }
    Ok(all)
}

/// The writing side of one connection.
pub(super) struct Encoder {
    deflate: Compress,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { deflate: Compress::new(Compression::fast(), true) }
    }

    pub(super) fn put(&mut self, frame: &Out, buffer: &mut BytesMut) -> io::Result<()> {
        let control = |buffer: &mut BytesMut, kind: u16, length: usize| {
            buffer.put_u16(0x8003);
            buffer.put_u16(kind);
            buffer.put_u8(0);
            buffer.put_uint(length as u64, 3);
        };
        match frame {
            Out::Reply { id } => {
                // No headers: their number, which is none.
                let mut block = Vec::with_capacity(64);
                self.deflate
                    .compress_vec(&[0; 4], &mut block, FlushCompress::Sync)
                    .map_err(|e| broken(&e.to_string()))?;
                control(buffer, SYN_REPLY, 4 + block.len());
                buffer.put_u32(*id);
                buffer.put_slice(&block);
            }
            Out::Data { id, data, last } => {
                buffer.put_u32(*id);
                buffer.put_u8(if *last { FIN } else { 0 });
                buffer.put_uint(data.len() as u64, 3);
                buffer.put_slice(data);
            }
            Out::Reset { id } => {
                control(buffer, RST_STREAM, 8);
                buffer.put_u32(*id);
                buffer.put_u32(CANCEL);
            }
            Out::Ping { id } => {
                control(buffer, PING, 4);
                buffer.put_u32(*id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// A new stream as a client writes it: with the dictionary.
    pub(crate) fn stream(deflate: &mut Compress, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(text.len() as u32);
            plain.put_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 1024);
        deflate.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
        let mut frame = Vec::new();
        frame.put_u32(0x8003_0001);
        frame.put_u32(10 + block.len() as u32);
        frame.put_u32(id);
        frame.put_u32(0);
        frame.put_u16(0);
        frame.put_slice(&block);
        frame
    }

    pub(crate) fn deflate() -> Compress {
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(DICTIONARY).unwrap();
        deflate
    }

    #[test]
    fn frames_come_in_any_pieces() {
        let mut deflate = deflate();
        let mut bytes = stream(&mut deflate, 1, &[("Streamtype", "error"), ("Port", "80")]);
        // Settings, which are passed over.
        bytes.extend([0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0]);
        bytes.extend(stream(&mut deflate, 3, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]));
        bytes.extend([0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i', 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]);
        bytes.extend([0, 0, 0, 1, 1, 0, 0, 0, 0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5]);
        for step in [1, 7, bytes.len()] {
            let (mut decoder, mut buffer, mut frames) = (Decoder::new(), BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = decoder.next(&mut buffer).unwrap() {
                    frames.push(frame);
                }
            }
            let headers = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
            assert_eq!(
                frames[..2],
                [
                    Frame::Stream { id: 1, headers: headers(&[("streamtype", "error"), ("port", "80")]), last: false },
                    Frame::Stream {
                        id: 3,
                        headers: headers(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
                        last: false
                    },
                ],
            );
            let data: Vec<u8> = frames
                .iter()
                .flat_map(|f| if let Frame::Data { id: 3, data, .. } = f { data.to_vec() } else { vec![] })
                .collect();
            assert_eq!(data, b"hi", "in pieces of {step}");
            assert_eq!(
                frames[frames.len() - 3..],
                [Frame::Ping { id: 9 }, Frame::Data { id: 1, data: Bytes::new(), last: true }, Frame::Reset { id: 3 }]
            );
        }
    }

    #[test]
    fn large_headers_are_read_and_larger_ones_refused() {
        let value = "x".repeat(20_000);
        let mut buffer = BytesMut::from(&stream(&mut deflate(), 1, &[("a", &value)])[..]);
        let Some(Frame::Stream { headers, .. }) = Decoder::new().next(&mut buffer).unwrap() else {
            panic!("no stream")
        };
        assert_eq!(headers, [("a".to_owned(), value)]);
        let bomb = "x".repeat(1 << 20);
        let mut deflate = deflate();
        let mut bytes = Vec::new();
        let mut block = Vec::with_capacity(1 << 20);
        deflate.compress_vec(bomb.as_bytes(), &mut block, FlushCompress::Sync).unwrap();
        bytes.put_u32(0x8003_0001);
        bytes.put_u32(10 + block.len() as u32);
        bytes.put_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.put_slice(&block);
        assert!(Decoder::new().next(&mut BytesMut::from(&bytes[..])).is_err());
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for bytes in [
            &[0x80, 2, 0, 1, 0, 0, 0, 0][..],
            &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
            &[0x80, 3, 0, 1, 0, 0, 0, 2, 1, 2],
            &[0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        ] {
            assert!(Decoder::new().next(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn replies_are_read_by_an_inflater() {
        let mut encoder = Encoder::new();
        let mut inflate = Decompress::new(true);
        for id in [1, 3] {
            let mut buffer = BytesMut::new();
            encoder.put(&Out::Reply { id }, &mut buffer).unwrap();
            assert_eq!(buffer[..4], [0x80, 3, 0, 2]);
            let mut plain = Vec::with_capacity(64);
            inflate.decompress_vec(&buffer[12..], &mut plain, FlushDecompress::Sync).unwrap();
            assert_eq!(plain, [0; 4]);
        }
        let mut buffer = BytesMut::new();
        encoder.put(&Out::Data { id: 5, data: "hi".into(), last: true }, &mut buffer).unwrap();
        assert_eq!(&buffer[..], [0, 0, 0, 5, 1, 0, 0, 2, b'h', b'i']);
    }
}
