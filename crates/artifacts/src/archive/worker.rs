//! Unpacking in a process that sees one directory and nothing else: its side of the conversation, and the side that asks.
//! How such a process is started is not known here. Must never open a path of the host.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ArchiveError, ExtractOptions, Extracted, Strategy, extract, extract_tree, placing};
use crate::beneath::Root;
use crate::cancel::Cancel;

/// `argv[0]` of the worker.
pub const ROLE: &str = "windlass-extract";

/// What a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A file, perhaps an archive: the options say.
    File,
    /// The tar of a tree.
    Tree,
}

/// Who unpacks.
pub trait Extract {
    /// Unpacks a stream at `target`, as [`extract()`] and [`extract_tree`] do.
    fn extract(
        &self,
        reader: &mut dyn Read,
        shape: Shape,
        target: &Path,
        options: &ExtractOptions,
        cancel: &Cancel,
    ) -> Result<Extracted, ArchiveError>;
}

/// This process itself, beneath a directory.
pub struct Here<'a>(pub &'a Root);

impl Extract for Here<'_> {
    fn extract(
        &self,
        reader: &mut dyn Read,
        shape: Shape,
        target: &Path,
        options: &ExtractOptions,
        cancel: &Cancel,
    ) -> Result<Extracted, ArchiveError> {
        match shape {
            Shape::File => extract(reader, self.0, target, options, cancel),
            Shape::Tree => extract_tree(reader, self.0, target, options, cancel),
        }
    }
}

/// Starts workers.
pub trait Workers: Send + Sync {
    /// Executes this program in a role, with `directory` as its root, this input and request; waits for its end.
    fn work(&self, directory: &Path, role: &str, request: String, input: OwnedFd, bytes_max: u64)
    -> io::Result<Worked>;
}

/// How a worker ended.
pub struct Worked {
    /// What it answered.
    pub answer: Vec<u8>,
    /// Why there may be no answer.
    pub cause: String,
}

/// A confined worker, beneath a directory.
pub struct Confined<'a> {
    /// Starts it.
    pub workers: &'a dyn Workers,
    /// The directory.
    pub directory: &'a Path,
    /// The same, open.
    pub root: &'a Root,
}

#[derive(Serialize, Deserialize)]
struct Request {
    shape: Shape,
    target: PathBuf,
    options: ExtractOptions,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Extracted(Extracted),
    NotFound(PathBuf),
    Refused { entry: String, reason: String },
    TooLarge(String),
    Damaged { errno: Option<i32>, text: String },
    Io { path: PathBuf, errno: Option<i32>, text: String },
    Unsupported(String),
}

impl From<Result<Extracted, ArchiveError>> for Answer {
    fn from(result: Result<Extracted, ArchiveError>) -> Self {
        match result {
            Ok(extracted) => Self::Extracted(extracted),
            Err(ArchiveError::NotFound(path)) => Self::NotFound(path),
            Err(ArchiveError::Refused { entry, reason }) => Self::Refused { entry, reason: reason.into_owned() },
            Err(ArchiveError::TooLarge(limit)) => Self::TooLarge(limit),
            Err(ArchiveError::Damaged(e)) => Self::Damaged { errno: e.raw_os_error(), text: e.to_string() },
            Err(ArchiveError::Io { path, source }) => {
                Self::Io { path, errno: source.raw_os_error(), text: source.to_string() }
            }
            Err(ArchiveError::Unsupported(why)) => Self::Unsupported(why),
            Err(ArchiveError::Cancelled) => Self::Unsupported("cancelled".to_owned()),
        }
    }
}

impl From<Answer> for Result<Extracted, ArchiveError> {
    fn from(answer: Answer) -> Self {
        let io = |errno: Option<i32>, text| errno.map_or_else(|| io::Error::other(text), io::Error::from_raw_os_error);
        Err(match answer {
            Answer::Extracted(extracted) => return Ok(extracted),
            Answer::NotFound(path) => ArchiveError::NotFound(path),
            Answer::Refused { entry, reason } => ArchiveError::Refused { entry, reason: reason.into() },
            Answer::TooLarge(limit) => ArchiveError::TooLarge(limit),
            Answer::Damaged { errno, text } => ArchiveError::Damaged(io(errno, text)),
            Answer::Io { path, errno, text } => ArchiveError::Io { path, source: io(errno, text) },
            Answer::Unsupported(why) => ArchiveError::Unsupported(why),
        })
    }
}

/// The worker's `main`: the exit code. It answers failures too, with exit code 0.
pub fn main() -> i32 {
    let request = std::env::args().nth(1).unwrap_or_default();
    let answered = io::stdin().as_fd().try_clone_to_owned().and_then(|input| {
        let answer = serve(&request, input, Path::new("/"))?;
        let mut out = io::stdout().lock();
        out.write_all(&answer)?;
        out.flush()
    });
    match answered {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("unpacking: {error}");
            1
        }
    }
}

/// Does what a request says beneath a directory; the answer.
pub fn serve(request: &str, input: OwnedFd, directory: &Path) -> io::Result<Vec<u8>> {
    let Request { shape, target, options } = serde_json::from_str(request)?;
    let root = Root::open(directory)?;
    let extracted = Here(&root).extract(&mut File::from(input), shape, &target, &options, &Cancel::new());
    Ok(serde_json::to_vec(&Answer::from(extracted))?)
}

impl Extract for Confined<'_> {
    fn extract(
        &self,
        reader: &mut dyn Read,
        shape: Shape,
        target: &Path,
        options: &ExtractOptions,
        cancel: &Cancel,
    ) -> Result<Extracted, ArchiveError> {
        let mut start = [0; 2];
        let mut count = 0;
        while count < start.len() {
            match reader.read(&mut start[count..]).map_err(ArchiveError::Damaged)? {
                0 => break,
                more => count += more,
            }
        }
        let mut whole = io::Cursor::new(start).take(count as u64).chain(reader);
        // Bytes that are only copied need nobody to read them.
        let is_copied = match options.strategy {
            Some(strategy) => strategy == Strategy::None,
            None => start[..count] != [0x1f, 0x8b],
        };
        if shape == Shape::File && is_copied {
            return Here(self.root).extract(&mut whole, shape, target, options, cancel);
        }
        let options = ExtractOptions { tag: placing::unique(), ..options.clone() };
        let io = |source| ArchiveError::Io { path: target.to_owned(), source };
        let request = Request { shape, target: target.to_owned(), options: options.clone() };
        let request = serde_json::to_string(&request).map_err(|e| io(e.into()))?;
        let (input, mut feed) = io::pipe().map_err(io)?;
        let (fed, worked) = std::thread::scope(|scope| {
            let bytes_max = options.limits.bytes_max;
            let worker = scope.spawn(move || self.workers.work(self.directory, ROLE, request, input.into(), bytes_max));
            let fed = pump(&mut whole, &mut feed, cancel);
            // Its input ends, so it does.
            drop(feed);
            (fed, worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let result = match worked.map(|worked| (serde_json::from_slice::<Answer>(&worked.answer), worked.cause)) {
            Ok((Ok(answer), _)) => answer.into(),
            Ok((Err(_), cause)) => Err(io(io::Error::other(format!("unpacking in a confined worker: {cause}")))),
            Err(error) => Err(io(error)),
        };
        if result.is_err() {
            // What it had gathered, where it was killed.
            placing::sweep(self.root, target, &options.tag);
        }
        // What stopped the stream is the reason for whatever came of it.
        fed.and(result)
    }
}

/// Hands the stream on. A worker that takes no more says itself why.
fn pump(from: &mut dyn Read, to: &mut dyn Write, cancel: &Cancel) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        if cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) if to.write_all(&buffer[..count]).is_err() => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::Damaged(error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The worker's side in this process.
    struct Threads;

    impl Workers for Threads {
        fn work(&self, directory: &Path, role: &str, request: String, input: OwnedFd, _: u64) -> io::Result<Worked> {
            assert_eq!(role, ROLE);
            Ok(Worked { answer: serve(&request, input, directory)?, cause: String::new() })
        }
    }

    /// Gathers something, and is killed.
    struct Killed;

    impl Workers for Killed {
        fn work(&self, directory: &Path, _: &str, request: String, input: OwnedFd, _: u64) -> io::Result<Worked> {
            let request: Request = serde_json::from_str(&request)?;
            let staging = directory.join(format!("in/.windlass-{}-0", request.options.tag));
            std::fs::create_dir_all(staging.join("half"))?;
            std::fs::write(staging.join("half/file"), "ha")?;
            File::from(input).read_exact(&mut [0; 10])?;
            Ok(Worked { answer: b"{\"Extr".to_vec(), cause: "it was killed by signal 9".to_owned() })
        }
    }

    fn tgz(names: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(4);
            header.set_mode(0o640);
            // Past the checks of a writer that means well.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, &b"text"[..]).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn through(workers: &dyn Workers, bytes: &[u8], directory: &Path) -> Result<Extracted, ArchiveError> {
        let root = Root::open(directory).unwrap();
        let confined = Confined { workers, directory, root: &root };
        let options = ExtractOptions { mode: Some(0o600), ..ExtractOptions::default() };
        confined.extract(&mut &*bytes, Shape::File, Path::new("/in/it"), &options, &Cancel::new())
    }

    #[test]
    fn as_without_a_worker() {
        let dir = tempfile::tempdir().unwrap();
        let done = through(&Threads, &tgz(&["d/a", "d/b"]), dir.path()).unwrap();
        assert_eq!((done.bytes, done.directory), (8, true));
        assert_eq!(std::fs::read_to_string(dir.path().join("in/it/b")).unwrap(), "text");
        let errors = |bytes: &[u8]| {
            let other = tempfile::tempdir().unwrap();
            let here = Here(&Root::open(other.path()).unwrap()).extract(
                &mut &*bytes,
                Shape::File,
                Path::new("/in/it"),
                &ExtractOptions::default(),
                &Cancel::new(),
            );
            (through(&Threads, bytes, dir.path()).unwrap_err().to_string(), here.unwrap_err().to_string())
        };
        let mut cut = tgz(&["a", "b"]);
        cut.truncate(cut.len() - 20);
        for bytes in [tgz(&["../out"]), tgz(&["/out"]), cut] {
            let (there, here) = errors(&bytes);
            assert_eq!(there, here);
        }
        assert!(!dir.path().join("out").exists());
    }

    #[test]
    fn what_is_only_copied_needs_no_worker() {
        struct Nobody;
        impl Workers for Nobody {
            fn work(&self, _: &Path, _: &str, _: String, _: OwnedFd, _: u64) -> io::Result<Worked> {
                Err(io::Error::other("a worker was asked for"))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        for bytes in [&b"plain text"[..], b"x", b""] {
            through(&Nobody, bytes, dir.path()).unwrap();
            assert_eq!(std::fs::read(dir.path().join("in/it")).unwrap(), bytes);
        }
        assert!(through(&Nobody, &tgz(&["a"]), dir.path()).is_err());
    }

    #[test]
    fn nothing_of_a_killed_worker_stays() {
        let dir = tempfile::tempdir().unwrap();
        let error = through(&Killed, &tgz(&["a"]), dir.path()).unwrap_err();
        assert!(error.to_string().contains("killed by signal 9"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path().join("in")).unwrap().count(), 0);
    }
}
