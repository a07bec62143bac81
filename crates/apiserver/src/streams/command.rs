//! One command and its caller: standard streams, the terminal's size, and how it ended, over whatever protocol was
//! agreed. Waits for the process and for what it printed; a caller who leaves takes the process with him.

use super::channels::{self, Received, Sent};
use super::session::{End, Session, Wanted};
use super::spdy;
use super::upgrade::{Io, Protocol};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;

const CHUNK: usize = 32 << 10;
/// Messages under way in each direction.
const QUEUE: usize = 8;

/// Both ends of a caller, by channel.
pub(super) struct Wire {
    pub(super) received: mpsc::Receiver<Received>,
    pub(super) sent: mpsc::Sender<Sent>,
}

/// Carries `session` to its end. What could not begin is told on the error channel.
pub(super) async fn run(
    protocol: Protocol,
    io: Io,
    wanted: Wanted,
    words: Vec<String>,
    session: Result<Session, String>,
) {
    let (to_us, received) = mpsc::channel(QUEUE);
    let (sent, from_us) = mpsc::channel(QUEUE);
    let carry = async {
        match protocol {
            Protocol::WebSocket(_, channels) => channels::carry(io, channels, to_us, from_us).await,
            Protocol::Spdy(..) | Protocol::Tunnel => spdy::command(io, wanted, to_us, from_us).await,
        }
    };
    let talk = async {
        if let Protocol::WebSocket(..) = protocol {
            // It says that the streams are there, on the first that there is.
            let first = if wanted.stdout {
                STDOUT
            } else if wanted.stderr {
                STDERR
            } else {
                ERROR
            };
            let _ = sent.send(Sent::Data(first, Bytes::new())).await;
        }
        let wire = Wire { received, sent: sent.clone() };
        let end = match session {
            Ok(session) => converse(wire, session).await,
            Err(why) => Some(End::Failed(why)),
        };
        let Some(end) = end else { return std::future::pending().await };
        if let Some(text) = ending(&end, &words, protocol.status()) {
            let _ = sent.send(Sent::Data(ERROR, text)).await;
        }
        let _ = sent.send(Sent::End).await;
        drop(sent);
        std::future::pending().await
    };
    // A caller who has gone takes everything with him, whatever it waits for.
    tokio::select! {
        () = carry => {}
        () = talk => {}
    }
}

/// Until the command has ended; nothing where the caller went before.
async fn converse(wire: Wire, session: Session) -> Option<End> {
    let Session { mut stdin, stdout, stderr, resize, ended } = session;
    let Wire { mut received, sent } = wire;
    let typed = async {
        while let Some(event) = received.recv().await {
            match event {
                Received::Data(STDIN, data) => {
                    if let Some(writer) = &mut stdin
                        && (writer.write_all(&data).await.is_err() || writer.flush().await.is_err())
                    {
                        stdin = None;
                    }
                }
                Received::Closed(STDIN) => {
                    if let Some(mut writer) = stdin.take() {
                        let _ = writer.shutdown().await;
                    }
                }
                Received::Data(RESIZE, data) => {
                    if let (Some(resize), Some((columns, rows))) = (&resize, size(&data)) {
                        resize(columns, rows);
                    }
                }
                Received::Data(..) | Received::Closed(_) => {}
            }
        }
    };
    let printed = async {
        let (end, (), ()) = tokio::join!(ended, print(stdout, STDOUT, &sent), print(stderr, STDERR, &sent));
        end
    };
    tokio::select! {
        end = printed => Some(end),
        () = typed => None,
    }
}

async fn print(source: Option<Box<dyn AsyncRead + Send + Unpin>>, channel: u8, sent: &mpsc::Sender<Sent>) {
    let Some(mut source) = source else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        // A terminal whose last process has gone says so by an error.
        match source.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if sent.send(Sent::Data(channel, buffer.split().freeze())).await.is_err() {
            return;
        }
    }
}

/// Columns and rows of `{"Width":80,"Height":24}`.
fn size(text: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let number = |key: &str| u16::try_from(value[key].as_u64()?).ok().filter(|n| *n > 0);
    Some((number("Width")?, number("Height")?))
}

/// What the error channel says of an end.
fn ending(end: &End, words: &[String], status: bool) -> Option<Bytes> {
    let (message, value) = match end {
        End::Exited(0) | End::Left => {
            return status.then(|| json!({"metadata": {}, "status": "Success"}).to_string().into());
        }
        End::Exited(code) => {
            let message = format!(
                "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
                words.join(" ")
            );
            let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
            let value = json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
                "details": {"causes": causes},
            });
            (message, value)
        }
        End::Failed(why) => {
            let message = format!("Internal error occurred: {why}");
            let value = json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
                "details": {"causes": [{"message": why}]}, "code": 500,
            });
            (message, value)
        }
    };
    Some(if status { value.to_string().into() } else { message.into() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_the_words_of_their_version() {
        let words = ["sh".to_owned(), "-c".to_owned(), "exit 3".to_owned()];
        let of = |end, status| ending(&end, &words, status).map(|b| String::from_utf8(b.to_vec()).unwrap());
        assert_eq!(of(End::Exited(0), false), None);
        assert_eq!(of(End::Left, true).unwrap(), r#"{"metadata":{},"status":"Success"}"#);
        let text = "command terminated with non-zero exit code: error executing command [sh -c exit 3], exit code 3";
        assert_eq!(of(End::Exited(3), false).unwrap(), text);
        let value: Value = serde_json::from_str(&of(End::Exited(3), true).unwrap()).unwrap();
        assert_eq!(value["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(value["message"], text);
        let value: Value = serde_json::from_str(&of(End::Failed("no".into()), true).unwrap()).unwrap();
        assert_eq!(
            (value["code"].as_u64(), value["message"].as_str()),
            (Some(500), Some("Internal error occurred: no"))
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(size(br#"{"Width":0,"Height":24}"#), None);
        assert_eq!(size(b"{"), None);
        assert_eq!(size(br#"{"Width":70000,"Height":24}"#), None);
    }
}
