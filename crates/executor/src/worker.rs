//! The confined worker: executed in a sandbox over the step's root filesystem and volumes, it reads what it is asked for
//! and writes frames. It opens nothing but paths of the step, holds no secret and has no network.

use crate::frame::{DataWriter, Frame};
use serde::{Deserialize, Serialize};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use windlass_artifacts::archive::{self, ArchiveError, Limits, Strategy};
use windlass_artifacts::{Cancel, Root};

/// What the worker is asked for, as JSON on its standard input.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// In this order.
    pub items: Vec<Item>,
}

/// One output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Item {
    /// The content of a file, at most `max` bytes.
    File {
        /// Its path in the container.
        path: PathBuf,
        /// More is an error.
        max: u64,
    },
    /// A file or directory, packed.
    Packed {
        /// Its path in the container.
        path: PathBuf,
        /// How.
        strategy: Strategy,
    },
}

/// Reads the request, answers it; the exit code.
pub fn main() -> i32 {
    let mut text = String::new();
    let served = io::stdin()
        .read_to_string(&mut text)
        .and_then(|_| serde_json::from_str::<Request>(&text).map_err(io::Error::other))
        .and_then(|request| {
            let root = Root::open(Path::new("/"))?;
            serve(&request, &root, &mut BufWriter::new(io::stdout().lock()))
        });
    match served {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("collecting outputs: {error}");
            1
        }
    }
}

/// Answers `request` with what is beneath `root`.
pub fn serve(request: &Request, root: &Root, out: &mut dyn Write) -> io::Result<()> {
    for item in &request.items {
        let ended = match item {
            Item::File { path, max } => file(root, path, *max, out)?,
            Item::Packed { path, strategy } => packed(root, path, *strategy, out)?,
        };
        ended.write(out)?;
    }
    out.flush()
}

fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn file(root: &Root, path: &Path, max: u64, out: &mut dyn Write) -> io::Result<Frame> {
    let mut file = match root.read(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Frame::Missing);
        }
        Err(error) => return Ok(Frame::Failed(format!("{}: {}", path.display(), words(&error)))),
    };
    let mut bytes = Vec::new();
    if let Err(error) = (&mut file).take(max + 1).read_to_end(&mut bytes) {
        return Ok(Frame::Failed(format!("{}: {}", path.display(), words(&error))));
    }
    if bytes.len() as u64 > max {
        return Ok(Frame::Failed(format!("{} is larger than {max} bytes; make it an artifact", path.display())));
    }
    let mut data = DataWriter::new(out);
    data.write_all(&bytes)?;
    data.flush()?;
    Ok(Frame::End)
}

fn packed(root: &Root, path: &Path, strategy: Strategy, out: &mut dyn Write) -> io::Result<Frame> {
    let flags = rustix::fs::OFlags::PATH;
    let is_dir = match root.open_at(path, flags, rustix::fs::Mode::empty()) {
        Ok(fd) => std::fs::File::from(fd).metadata()?.is_dir(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Frame::Missing);
        }
        Err(error) => return Ok(Frame::Failed(format!("{}: {}", path.display(), words(&error)))),
    };
    let tree = is_dir && strategy == Strategy::None;
    Frame::Begin { tree }.write(out)?;
    let (limits, cancel) = (Limits::default(), Cancel::new());
    let mut data = DataWriter::new(out);
    let done = match tree {
        true => archive::create_tar(root, path, &mut data, &limits, &cancel),
        false => archive::create(root, path, strategy, &mut data, &limits, &cancel),
    };
    data.flush()?;
    Ok(match done {
        Ok(_) => Frame::End,
        Err(ArchiveError::NotFound(path)) => Frame::Failed(format!("{} does not exist", path.display())),
        Err(error) => Frame::Failed(error.to_string()),
    })
}
