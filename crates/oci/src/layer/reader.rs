//! Reads layer archives: ustar, GNU long names and PAX, with bounded memory whatever the archive says. Must never
//! interpret a path: that is the unpacker's business.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Entry, Kind, Time};
use crate::media::Compression;
use crate::{Error, Result};

/// Long names and attributes of one entry may take this much.
const EXTENSION_BYTES_MAX: u64 = 4 << 20;

/// Undoes a layer's compression.
pub fn decompress<'a>(reader: impl Read + 'a, compression: Compression) -> Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(reader),
        // Several members are one stream: parallel compressors write such.
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, reader))),
        Compression::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::new(reader).map_err(|e| Error::malformed("zstd stream", e))?;
            // 128 MiB: what `zstd --long=27` needs. More would let an archive choose our memory.
            decoder.window_log_max(27).map_err(|e| Error::malformed("zstd stream", e))?;
            Box::new(decoder)
        }
    })
}

/// Undoes whatever compression the first bytes show (for archives of unknown origin).
pub(crate) fn decompress_sniffed<'a>(reader: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let compression = Compression::sniff(reader.fill_buf().map_err(|e| Error::io("reading an archive", e))?);
    decompress(reader, compression)
}

/// Iterates over an archive's entries; between two calls of [`ArchiveReader::next`] the entry's content can be read.
pub struct ArchiveReader<R: Read> {
    input: R,
    left: u64,
    padding: u64,
}

/// What extension headers say about the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads an archive that is not compressed.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry, if any; what was not read of the last one is skipped.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let mut header = [0_u8; 512];
            if !self.read_block(&mut header)? {
                return Ok(None);
            }
            if header.iter().all(|b| *b == 0) {
                // The end, whatever follows; it is still read, as it counts for the digest.
                io::copy(&mut self.input, &mut io::sink()).map_err(broken)?;
                return Ok(None);
            }
            check_sum(&header)?;
            let size = number(&header[124..136])?;
            let flag = header[156];
            match flag {
                b'x' => read_pax(&self.extension(size)?, &mut extensions)?,
                b'g' => {
                    self.extension(size)?;
                }
                b'L' => extensions.path = Some(until_zero(&self.extension(size)?).to_vec()),
                b'K' => extensions.link = Some(until_zero(&self.extension(size)?).to_vec()),
                _ => return self.entry(&header, flag, size, extensions).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &[u8; 512], flag: u8, size: u64, extensions: Extensions) -> Result<Entry> {
        let name = match extensions.path {
            Some(path) => path,
            None => {
                let name = until_zero(&header[0..100]);
                // Only POSIX archives have a prefix; GNU ones keep times there.
                let prefix = if &header[257..263] == b"ustar\0" { until_zero(&header[345..500]) } else { b"" };
                if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
            }
        };
        let size = extensions.size.unwrap_or(size);
        let link = extensions.link.unwrap_or_else(|| until_zero(&header[157..257]).to_vec());
        let target = PathBuf::from(OsStr::from_bytes(&link));
        let device = || -> Result<(u32, u32)> {
            let part = |range| number(&header[range]).and_then(|n| u32::try_from(n).map_err(|e| bad(e.to_string())));
            Ok((part(329..337)?, part(337..345)?))
        };
        let kind = match flag {
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File { size },
            b'1' => Kind::Hardlink { target },
            b'2' => Kind::Symlink { target },
            b'3' => device().map(|(major, minor)| Kind::Character { major, minor })?,
            b'4' => device().map(|(major, minor)| Kind::Block { major, minor })?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => {
                return Err(Error::Unsupported {
                    what: format!("sparse file `{}` in a layer", String::from_utf8_lossy(&name)),
                    detail: "build the layer without `tar --sparse`".to_owned(),
                });
            }
            other => return Err(bad(format!("entry of unknown type `{}`", other.escape_ascii()))),
        };
        // Only regular files have content here; some writers give links the size of their target.
        let content = if matches!(kind, Kind::File { .. }) { size } else { 0 };
        let content = if matches!(kind, Kind::Directory) && !matches!(flag, b'5') { size } else { content };
        self.left = content;
        self.padding = content.next_multiple_of(512) - content;
        Ok(Entry {
            path: PathBuf::from(OsStr::from_bytes(&name)),
            kind,
            mode: u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or_default(),
            uid: extensions.uid.map_or_else(|| number(&header[108..116]), Ok)?,
            gid: extensions.gid.map_or_else(|| number(&header[116..124]), Ok)?,
            mtime: match extensions.mtime {
                Some(time) => time,
                None => Time { seconds: signed(&header[136..148])?, nanos: 0 },
            },
            xattrs: extensions.xattrs.into_iter().collect(),
        })
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_BYTES_MAX {
            return Err(Error::TooLarge { limit: format!("{EXTENSION_BYTES_MAX} bytes for one entry's names") });
        }
        self.left = size;
        self.padding = size.next_multiple_of(512) - size;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(broken)?;
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> Result<()> {
        let rest = self.left + self.padding;
        self.left = 0;
        self.padding = 0;
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink()).map_err(broken)?;
        if skipped == rest { Ok(()) } else { Err(bad("it ends in the middle of an entry".to_owned())) }
    }

    /// Whether there was a block; an end in its middle is an error.
    fn read_block(&mut self, block: &mut [u8; 512]) -> Result<bool> {
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(bad("it ends in the middle of a header".to_owned())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(true)
    }
}

impl<R: Read> Read for ArchiveReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle of a file"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn bad(detail: String) -> Error {
    Error::malformed("layer archive", detail)
}

fn broken(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            bad(error.to_string())
        }
        _ => Error::io("reading a layer", error),
    }
}

fn check_sum(header: &[u8; 512]) -> Result<()> {
    let stated = number(&header[148..156])?;
    let in_sum = |(at, byte): (usize, &u8)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte });
    let actual: u64 = header.iter().enumerate().map(in_sum).sum();
    if stated == actual { Ok(()) } else { Err(bad("a header has a wrong checksum".to_owned())) }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

fn signed(field: &[u8]) -> Result<i64> {
    if field[0] & 0x80 != 0 {
        // Base 256, two's complement, from the second highest bit on.
        let start = if field[0] & 0x40 != 0 { -1_i128 } else { 0 };
        let first = i128::from(field[0] & 0x7f) | if start < 0 { !0x7f } else { 0 };
        let value = field[1..].iter().try_fold(first, |value, byte| {
            value.checked_mul(256).map(|v| v | i128::from(*byte)).filter(|v| i64::try_from(*v).is_ok())
        });
        return value.and_then(|v| i64::try_from(v).ok()).ok_or_else(|| bad("a number is too large".to_owned()));
    }
    let text: Vec<u8> = field.iter().copied().filter(|b| *b != 0 && *b != b' ').collect();
    if text.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(&text).map_err(|e| bad(e.to_string()))?;
    i64::from_str_radix(text, 8).map_err(|_| bad(format!("`{text}` is not an octal number")))
}

fn number(field: &[u8]) -> Result<u64> {
    u64::try_from(signed(field)?).map_err(|_| bad("a number is negative".to_owned()))
}

fn read_pax(mut records: &[u8], into: &mut Extensions) -> Result<()> {
    let broken = || bad("an extended header cannot be read".to_owned());
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).map_err(|_| broken());
    while !records.is_empty() {
        let space = records.iter().position(|b| *b == b' ').ok_or_else(broken)?;
        let length: usize = text(&records[..space])?.parse().map_err(|_| broken())?;
        let record = records.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(broken)?;
        records = &records[length..];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(broken)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let number = || text(value)?.parse::<u64>().map_err(|_| broken());
        match key {
            b"path" => into.path = Some(value.to_vec()),
            b"linkpath" => into.link = Some(value.to_vec()),
            b"size" => into.size = Some(number()?),
            b"uid" => into.uid = Some(number()?),
            b"gid" => into.gid = Some(number()?),
            b"mtime" => into.mtime = Some(read_time(&text(value)?).ok_or_else(broken)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::Unsupported {
                    what: "a sparse file in a layer".to_owned(),
                    detail: "build the layer without `tar --sparse`".to_owned(),
                });
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    into.xattrs.push((text(name)?, value.to_vec()));
                }
            }
        }
        if into.path.as_ref().or(into.link.as_ref()).is_some_and(|path| path.contains(&0)) {
            return Err(broken());
        }
    }
    Ok(())
}

fn read_time(text: &str) -> Option<Time> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    Some(match (negative, nanos) {
        (false, _) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos: 0 },
        (true, _) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}
