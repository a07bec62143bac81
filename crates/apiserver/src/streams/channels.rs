//! Channels over WebSocket: one byte says which, the rest is data. Reads and writes messages; what a channel means is
//! the business of whoever holds it.

use super::IDLE;
use super::upgrade::{Channels, Io};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The channel on which version 5 closes another one.
const CLOSE: u8 = 255;
/// How long a caller has to go once everything was said.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// How often one is looked for whose input waits for the process, so that nothing is read from it.
pub(super) const LOOK: Duration = Duration::from_secs(5);
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What a caller sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// To a channel.
    Data(u8, Bytes),
    /// No more will come on it.
    Closed(u8),
}

/// What a caller gets.
#[derive(Debug)]
pub(super) enum Sent {
    /// From a channel.
    Data(u8, Bytes),
    /// The end of everything.
    End,
}

/// When something last went over a connection, and whether what came waits to be taken, so that nothing more is read and
/// nobody would see its caller go.
pub(super) struct Pulse {
    begun: Instant,
    last_ms: AtomicU64,
    waits: AtomicBool,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), last_ms: AtomicU64::new(0), waits: AtomicBool::new(false) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn beat(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    pub(super) fn quiet(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }
}

/// A WebSocket on a connection that was upgraded.
pub(super) async fn open(io: Io) -> WebSocketStream<Io> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    config.read_buffer_size = 32 << 10;
    config.write_buffer_size = 0;
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Carries messages until the end was said or the caller has gone; the latter is told by `received` being closed.
pub(super) async fn carry(
    io: Io,
    channels: Channels,
    received: mpsc::Sender<Received>,
    mut sent: mpsc::Receiver<Sent>,
) {
    let (mut sink, mut stream) = open(io).await.split();
    let pulse = Pulse::new();
    let ended = {
        let reader = read(&mut stream, channels, received, &pulse);
        let writer = write(&mut sink, channels, &mut sent, &pulse);
        tokio::select! {
            () = reader => false,
            ended = writer => ended,
        }
    };
    drop(sent);
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let said = match ended {
        true => sink.send(Message::Close(Some(close))).await,
        // Who said good-bye gets an answer.
        false => tokio::time::timeout(LINGER, sink.flush()).await.unwrap_or(Ok(())),
    };
    if said.is_ok()
        && ended
        && let Ok(mut socket) = sink.reunite(stream)
    {
        hang_up(socket.get_mut()).await;
    }
}

/// Says that nothing more will come, and reads what still does: closing before would take from the caller what was said
/// last.
pub(super) async fn hang_up(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let rest = async {
        io.shutdown().await?;
        let mut lost = vec![0; 4096];
        while io.read(&mut lost).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

async fn read(
    stream: &mut SplitStream<WebSocketStream<Io>>,
    channels: Channels,
    received: mpsc::Sender<Received>,
    pulse: &Pulse,
) {
    while let Some(Ok(message)) = stream.next().await {
        pulse.beat();
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            _ => continue,
        };
        let Some(event) = decode(channels, &bytes) else { continue };
        pulse.waits(true);
        // Nobody may be interested any more; the end is still waited for.
        let _ = received.send(event).await;
        pulse.waits(false);
    }
}

/// Whether the end was said, as opposed to the caller having gone.
async fn write(
    sink: &mut SplitSink<WebSocketStream<Io>, Message>,
    channels: Channels,
    sent: &mut mpsc::Receiver<Sent>,
    pulse: &Pulse,
) -> bool {
    let mut look = tokio::time::interval(LOOK);
    loop {
        let message = tokio::select! {
            next = sent.recv() => match next {
                Some(Sent::Data(channel, data)) => encode(channels, channel, &data),
                Some(Sent::End) | None => return true,
            },
            _ = look.tick() => {
                if pulse.quiet() > IDLE {
                    return false;
                }
                if !pulse.is_waiting() {
                    continue;
                }
                Message::Ping(Bytes::new())
            }
        };
        pulse.beat();
        if sink.send(message).await.is_err() {
            return false;
        }
    }
}

fn decode(channels: Channels, bytes: &Bytes) -> Option<Received> {
    let channel = *bytes.first()?;
    if !channels.base64 {
        if channels.closes && channel == CLOSE {
            return bytes.get(1).map(|which| Received::Closed(*which));
        }
        return Some(Received::Data(channel, bytes.slice(1..)));
    }
    let channel = channel.checked_sub(b'0').filter(|c| *c < 10)?;
    let data = STANDARD.decode(&bytes[1..]).ok()?;
    Some(Received::Data(channel, data.into()))
}

fn encode(channels: Channels, channel: u8, data: &[u8]) -> Message {
    if channels.base64 {
        return Message::Text(format!("{}{}", char::from(b'0' + channel % 10), STANDARD.encode(data)).into());
    }
    let mut message = BytesMut::with_capacity(1 + data.len());
    message.put_u8(channel);
    message.put_slice(data);
    Message::Binary(message.freeze())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BINARY: Channels = Channels { base64: false, status: true, closes: true };
    const TEXT: Channels = Channels { base64: true, status: true, closes: false };

    #[test]
    fn messages_say_their_channel() {
        let of = |channels, bytes: &'static [u8]| decode(channels, &Bytes::from_static(bytes));
        assert_eq!(of(BINARY, b"\x00abc"), Some(Received::Data(0, "abc".into())));
        assert_eq!(of(BINARY, b"\xff\x00"), Some(Received::Closed(0)));
        assert_eq!(of(BINARY, b"\xff"), None);
        assert_eq!(of(BINARY, b""), None);
        let older = Channels { closes: false, ..BINARY };
        assert_eq!(of(older, b"\xff\x00"), Some(Received::Data(255, Bytes::from_static(b"\x00"))));
        assert_eq!(of(TEXT, b"0aGVsbG8K"), Some(Received::Data(0, "hello\n".into())));
        assert_eq!(of(TEXT, b"0!!"), None);
        assert_eq!(of(TEXT, b"xaGVsbG8K"), None);
        assert_eq!(encode(BINARY, 1, b"hi"), Message::Binary(Bytes::from_static(b"\x01hi")));
        assert_eq!(encode(TEXT, 3, b"hi"), Message::Text("3aGk=".into()));
        assert_eq!(encode(TEXT, 1, b""), Message::Text("1".into()));
    }
}
