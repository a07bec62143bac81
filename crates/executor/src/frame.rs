//! The frames between the confined worker and the agent: a tag, a length, bytes. The worker's output comes from a process
//! that shared a filesystem with the step, so the reader trusts no length.

use std::io::{self, Read, Write};

/// No frame is larger.
pub const FRAME_MAX: usize = 256 * 1024;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An artifact begins: a tree of files (plain tar) or one object.
    Begin {
        /// Whether it is a tree.
        tree: bool,
    },
    /// Bytes of it.
    Data(Vec<u8>),
    /// It is complete.
    End,
    /// It is not there.
    Missing,
    /// It cannot be read, and why.
    Failed(String),
}

impl Frame {
    /// Writes the frame.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (tag, bytes): (u8, &[u8]) = match self {
            Self::Begin { tree } => (b'B', if *tree { b"t" } else { b"f" }),
            Self::Data(bytes) => (b'D', bytes),
            Self::End => (b'E', b""),
            Self::Missing => (b'N', b""),
            Self::Failed(text) => (b'X', text.as_bytes()),
        };
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        out.write_all(&[tag])?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(bytes)
    }

    /// Reads one frame.
    pub fn read(from: &mut dyn Read) -> io::Result<Self> {
        let mut head = [0u8; 5];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > FRAME_MAX {
            return Err(bad("a frame is too large"));
        }
        let mut bytes = vec![0u8; length];
        from.read_exact(&mut bytes)?;
        match head[0] {
            b'B' => Ok(Self::Begin { tree: bytes == b"t" }),
            b'D' => Ok(Self::Data(bytes)),
            b'E' => Ok(Self::End),
            b'N' => Ok(Self::Missing),
            b'X' => Ok(Self::Failed(String::from_utf8_lossy(&bytes).into_owned())),
            _ => Err(bad("an unknown frame")),
        }
    }
}

pub(crate) fn bad(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Writes data frames.
pub struct DataWriter<'a> {
    out: &'a mut dyn Write,
    held: Vec<u8>,
}

impl<'a> DataWriter<'a> {
    /// Frames for `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, held: Vec::with_capacity(FRAME_MAX) }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let frame = Frame::Data(std::mem::take(&mut self.held));
        frame.write(self.out)?;
        if let Frame::Data(mut bytes) = frame {
            bytes.clear();
            self.held = bytes;
        }
        Ok(())
    }
}

impl Write for DataWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() >= FRAME_MAX {
            self.send()?;
        }
        let take = bytes.len().min(FRAME_MAX - self.held.len());
        self.held.extend_from_slice(&bytes[..take]);
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Reads the data frames of one item up to its end.
pub struct DataReader<'a> {
    from: &'a mut dyn Read,
    chunk: Vec<u8>,
    at: usize,
    /// How the item ended, once it has.
    pub ended: Option<Frame>,
}

impl<'a> DataReader<'a> {
    /// The data frames of `from`.
    pub fn new(from: &'a mut dyn Read) -> Self {
        Self { from, chunk: Vec::new(), at: 0, ended: None }
    }

    /// Reads to the end of the item, whatever is left of it.
    pub fn finish(&mut self) -> io::Result<()> {
        while self.ended.is_none() {
            match Frame::read(self.from)? {
                Frame::Data(_) => {}
                other => self.ended = Some(other),
            }
        }
        Ok(())
    }
}

impl Read for DataReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match &self.ended {
                Some(Frame::End) => return Ok(0),
                Some(Frame::Failed(text)) => return Err(io::Error::other(text.clone())),
                Some(_) => return Err(bad("a frame out of order")),
                None => {}
            }
            match Frame::read(self.from)? {
                Frame::Data(bytes) => {
                    self.chunk = bytes;
                    self.at = 0;
                }
                other => self.ended = Some(other),
            }
        }
        let take = buffer.len().min(self.chunk.len() - self.at);
        buffer[..take].copy_from_slice(&self.chunk[self.at..self.at + take]);
        self.at += take;
        Ok(take)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn data_goes_through_whole() {
        let data: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        let mut wire = Vec::new();
        let mut writer = DataWriter::new(&mut wire);
        writer.write_all(&data).unwrap();
        writer.flush().unwrap();
        Frame::End.write(&mut wire).unwrap();
        let mut source = &wire[..];
        let mut reader = DataReader::new(&mut source);
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        assert!(back == data);
    }

    #[test]
    fn a_cut_or_lying_stream_is_an_error() {
        let mut wire = Vec::new();
        Frame::Data(b"abc".to_vec()).write(&mut wire).unwrap();
        let mut source = &wire[..];
        assert!(DataReader::new(&mut source).read_to_end(&mut Vec::new()).is_err());
        assert!(Frame::read(&mut &b"D\xff\xff\xff\xff"[..]).is_err());
        let mut wire = Vec::new();
        Frame::Failed("disk".into()).write(&mut wire).unwrap();
        let mut source = &wire[..];
        let error = DataReader::new(&mut source).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "disk");
    }
}
