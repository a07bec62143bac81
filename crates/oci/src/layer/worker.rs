//! Unpacking in a process that sees nothing but the layer's directory: its side of the conversation, and how the other side
//! asks and reads the answer. How such a process is started is not known here. Must never open a path of the host.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::unpack::{mark_opaque, unpack_leaving_marks};
use super::{UnpackOptions, Unpacked};
use crate::media::Compression;
use crate::{Error, Result};

/// `argv[0]` of the worker.
pub const ROLE: &str = "windlass-unpack";

/// What the worker is asked for. The archive is its standard input, the directory its root.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Request {
    /// How the archive is compressed.
    pub compression: Compression,
    /// How to unpack.
    pub options: UnpackOptions,
}

/// What it answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    Unpacked(Unpacked),
    Failed(Failure),
}

/// The errors that unpacking has, as bytes.
#[derive(Serialize, Deserialize)]
enum Failure {
    Io { what: String, errno: Option<i32>, text: String },
    Malformed { what: String, detail: String },
    Unsupported { what: String, detail: String },
    Refused { entry: String, detail: String },
    TooLarge { limit: String },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { what, source } => Self::Io { what, errno: source.raw_os_error(), text: source.to_string() },
            Error::Malformed { what, detail } => Self::Malformed { what, detail },
            Error::Unsupported { what, detail } => Self::Unsupported { what, detail },
            Error::Refused { entry, detail } => Self::Refused { entry, detail },
            Error::TooLarge { limit } => Self::TooLarge { limit },
            other => Self::Malformed { what: "layer archive".to_owned(), detail: other.to_string() },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io { what, errno: Some(errno), .. } => Self::io(what, io::Error::from_raw_os_error(errno)),
            Failure::Io { what, errno: None, text } => Self::io(what, io::Error::other(text)),
            Failure::Malformed { what, detail } => Self::Malformed { what, detail },
            Failure::Unsupported { what, detail } => Self::Unsupported { what, detail },
            Failure::Refused { entry, detail } => Self::Refused { entry, detail },
            Failure::TooLarge { limit } => Self::TooLarge { limit },
        }
    }
}

/// The worker's `main`: the exit code. It answers failures too, with exit code 0.
pub fn main() -> i32 {
    let request = std::env::args().nth(1).unwrap_or_default();
    let served = serde_json::from_str::<Request>(&request).map_err(io::Error::other).and_then(serve);
    match served {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("unpacking: {error}");
            1
        }
    }
}

fn serve(request: Request) -> io::Result<()> {
    let archive = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let answer = match unpack_leaving_marks(archive, request.compression, Path::new("/"), &request.options) {
        Ok(unpacked) => Answer::Unpacked(unpacked),
        Err(error) => Answer::Failed(error.into()),
    };
    let mut out = io::stdout().lock();
    out.write_all(&serde_json::to_vec(&answer)?)?;
    out.flush()
}

/// Reads a worker's answer and does what it had no right to: setting marks in `target`. `None` where that is no whole
/// answer.
pub fn finish(answer: &[u8], target: &Path, options: &UnpackOptions) -> Option<Result<Unpacked>> {
    match serde_json::from_slice(answer).ok()? {
        Answer::Unpacked(unpacked) => Some(mark_opaque(target, &unpacked.opaque, options.marks).map(|()| unpacked)),
        Answer::Failed(failure) => Some(Err(failure.into())),
    }
}
