//! The words between the supervisor and who wraps a command: one line of JSON each, and after `Ended` the bytes that it
//! announces and the frames of [`crate::worker`]. Both ends are in one pod, but the user's program may write here too: the
//! supervisor trusts no length.

use std::io::{self, BufRead, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::worker::Request;

/// A line is no longer.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The wrapper's first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// `main`, `member` or `sidecar`.
    pub role: String,
    /// The container's name, of a member of a container set.
    #[serde(default)]
    pub name: String,
}

/// The supervisor's answer: the command may begin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Orders {
    /// Keep the end of standard output for the report.
    pub capture: bool,
    /// Where to keep the log, in the pod's shared directory.
    pub keep_log: Option<String>,
    /// What to read when the command has ended.
    pub request: Option<Request>,
    /// How often the command is tried in all; none is one.
    pub attempts: u32,
    /// The pause between tries.
    pub pause_ms: u64,
    /// The command will not begin, and this is why.
    pub never: Option<String>,
}

/// The wrapper's last word: the command has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ended {
    /// Its exit code; 128 and the signal where one ended it.
    pub code: i32,
    /// So many bytes of its standard output follow.
    pub result_bytes: u64,
}

/// Writes one word.
pub(super) fn say(out: &mut dyn Write, word: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(word).map_err(io::Error::other)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Reads one word; nothing where the other end is gone.
pub(super) fn hear<T: DeserializeOwned>(from: &mut dyn BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_go_through_and_ends_are_told() {
        let mut wire = Vec::new();
        say(&mut wire, &Ended { code: 3, result_bytes: 2 }).unwrap();
        wire.extend(b"hi");
        let mut from = &wire[..];
        assert_eq!(hear::<Ended>(&mut from).unwrap(), Some(Ended { code: 3, result_bytes: 2 }));
        assert_eq!(from, b"hi");
        assert_eq!(hear::<Hello>(&mut &b""[..]).unwrap(), None);
        assert!(hear::<Hello>(&mut &b"nonsense\n"[..]).is_err());
    }
}
