//! Writes layer archives: PAX, no names of owners, no times but the entries' own, so that equal input gives equal
//! bytes. Digests are computed in the same pass. Must never hold a file in memory.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::gzip::GzipWriter;
use super::{Entry, Kind, Layer};
use crate::digest::Hasher;
use crate::error::Doing;
use crate::media::{self, Compression};
use crate::{BlobWriter, Error, Result, Store};

/// Writes tar entries to any writer.
pub struct ArchiveWriter<W: Write> {
    out: W,
}

impl<W: Write> ArchiveWriter<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds an entry; a regular file's bytes come from `content`, exactly as many as its size says.
    pub fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let (flag, size, link) = match &entry.kind {
            Kind::Directory => (b'5', 0, None),
            Kind::File { size } => (b'0', *size, None),
            Kind::Symlink { target } => (b'2', 0, Some(target.as_os_str().as_bytes())),
            Kind::Hardlink { target } => (b'1', 0, Some(relative(target).as_os_str().as_bytes())),
            Kind::Character { .. } => (b'3', 0, None),
            Kind::Block { .. } => (b'4', 0, None),
            Kind::Fifo => (b'6', 0, None),
        };
        let mut path = relative(&entry.path).as_os_str().as_bytes().to_vec();
        if entry.kind == Kind::Directory {
            path.push(b'/');
        }
        let mut records = Vec::new();
        let mut record = |key: &str, value: &[u8]| pax_record(&mut records, key, value);
        let mut header = [0_u8; 512];
        if path.len() > 100 || !path.is_ascii() {
            record("path", &path);
        }
        put(&mut header[0..100], &path);
        put_octal(&mut header[100..108], u64::from(entry.mode & 0o7777));
        for (range, key, id) in [(108..116, "uid", entry.uid), (116..124, "gid", entry.gid)] {
            if id > 0o777_7777 {
                record(key, id.to_string().as_bytes());
            }
            put_octal(&mut header[range], id & 0o777_7777);
        }
        if size > 0o777_7777_7777 {
            record("size", size.to_string().as_bytes());
            put_octal(&mut header[124..136], 0);
        } else {
            put_octal(&mut header[124..136], size);
        }
        let seconds = entry.mtime.seconds;
        if entry.mtime.nanos != 0 || !(0..=0o777_7777_7777).contains(&seconds) {
            record("mtime", decimal_time(seconds, entry.mtime.nanos).as_bytes());
        }
        put_octal(&mut header[136..148], seconds.clamp(0, 0o777_7777_7777).unsigned_abs());
        header[156] = flag;
        if let Some(link) = link {
            if link.len() > 100 || !link.is_ascii() {
                record("linkpath", link);
            }
            put(&mut header[157..257], link);
        }
        if let Kind::Character { major, minor } | Kind::Block { major, minor } = entry.kind {
            put_octal(&mut header[329..337], u64::from(major));
            put_octal(&mut header[337..345], u64::from(minor));
        }
        for (name, value) in &entry.xattrs {
            record(&format!("SCHILY.xattr.{name}"), value);
        }
        if !records.is_empty() {
            let mut pax = [0_u8; 512];
            put(&mut pax[0..100], b"PaxHeaders.0/entry");
            put_octal(&mut pax[100..108], 0o644);
            put_octal(&mut pax[108..116], 0);
            put_octal(&mut pax[116..124], 0);
            put_octal(&mut pax[124..136], records.len() as u64);
            put_octal(&mut pax[136..148], 0);
            pax[156] = b'x';
            self.write_header(&mut pax)?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.write_header(&mut header)?;
        if size > 0 {
            let copied = io::copy(&mut content.take(size), &mut self.out)?;
            if copied != size {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{} became shorter while it was read ({copied} of {size} bytes)", entry.path.display()),
                ));
            }
            self.pad(size)?;
        }
        Ok(())
    }

    /// Ends the archive and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        Ok(self.out)
    }

    fn write_header(&mut self, header: &mut [u8; 512]) -> io::Result<()> {
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].copy_from_slice(b"        ");
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
        put_octal(&mut header[148..155], sum);
        header[155] = b' ';
        self.out.write_all(header)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = (size % 512) as usize;
        if rest > 0 { self.out.write_all(&[0; 512][rest..]) } else { Ok(()) }
    }
}

/// A path as archives have it: without a leading slash.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn put(field: &mut [u8], value: &[u8]) {
    let count = value.len().min(field.len());
    field[..count].copy_from_slice(&value[..count]);
}

/// Octal digits, a terminating zero byte.
fn put_octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    field[..digits.len()].copy_from_slice(digits.as_bytes());
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn pax_record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Decimal seconds with a fraction, without trailing zeros. Before 1970 the fraction counts backwards.
fn decimal_time(seconds: i64, nanos: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes one layer straight into the store: archive, diff id, compression, blob and digest in one pass.
pub struct LayerWriter {
    archive: ArchiveWriter<Hashing>,
    compression: Compression,
}

/// Hashes what goes to the compressor.
struct Hashing {
    hasher: Hasher,
    out: Compressor,
}

enum Compressor {
    None(BlobWriter),
    Gzip(Box<GzipWriter<BlobWriter>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, BlobWriter>>),
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.out {
            Compressor::None(out) => out.write(bytes),
            Compressor::Gzip(out) => out.write(bytes),
            Compressor::Zstd(out) => out.write(bytes),
        }?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerWriter {
    /// Adds an entry; a regular file's bytes come from `content`.
    pub fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.archive.entry(entry, content).doing("packing", &entry.path)
    }

    /// Adds an entry that has no content.
    pub fn empty_entry(&mut self, entry: &Entry) -> Result<()> {
        self.entry(entry, &mut io::empty())
    }

    /// Ends the layer; it is then in the store.
    pub fn finish(self) -> Result<Layer> {
        let failed = |error: io::Error| Error::io("writing a layer", error);
        let hashing = self.archive.finish().map_err(failed)?;
        let diff_id = hashing.hasher.finish();
        let blob = match hashing.out {
            Compressor::None(out) => out,
            Compressor::Gzip(out) => out.finish().map_err(failed)?,
            Compressor::Zstd(out) => out.finish().map_err(failed)?,
        };
        let (digest, size) = blob.finish(None)?;
        let media_type = match self.compression {
            Compression::None => media::OCI_LAYER,
            Compression::Gzip => media::OCI_LAYER_GZIP,
            Compression::Zstd => media::OCI_LAYER_ZSTD,
        };
        Ok(Layer { digest, size, media_type: media_type.to_owned(), diff_id })
    }
}

impl Store {
    /// Starts a layer of this store.
    pub fn layer_writer(&self, compression: Compression) -> Result<LayerWriter> {
        let blob = self.blob_writer()?;
        let out = match compression {
            Compression::None => Compressor::None(blob),
            Compression::Gzip => {
                Compressor::Gzip(Box::new(GzipWriter::new(blob).map_err(|e| Error::io("writing a layer", e))?))
            }
            Compression::Zstd => Compressor::Zstd(Box::new(
                zstd::stream::write::Encoder::new(blob, 3).map_err(|e| Error::io("starting zstd", e))?,
            )),
        };
        Ok(LayerWriter { archive: ArchiveWriter::new(Hashing { hasher: Hasher::new(), out }), compression })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pax_lengths_count_themselves() {
        for size in [1, 80, 90, 91, 92, 93, 94, 95, 985, 986, 987, 988, 989, 990] {
            let mut records = Vec::new();
            pax_record(&mut records, "path", &vec![b'x'; size]);
            let text = String::from_utf8(records).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), text.len(), "{size}");
        }
    }

    #[test]
    fn times_before_1970() {
        assert_eq!(decimal_time(-1, 500_000_000), "-0.5");
        assert_eq!(decimal_time(12, 0), "12");
        assert_eq!(decimal_time(12, 10), "12.00000001");
    }
}
