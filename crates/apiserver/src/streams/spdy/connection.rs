//! One SPDY/3.1 connection, the server's side: streams that the other side opens, each to be read and written. Answers
//! pings and opens; knows nothing of what streams are for.

use super::super::IDLE;
use super::super::channels::{LINGER, LOOK, Pulse};
use super::frame::{Decoder, Encoder, Frame, Out};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const QUEUE: usize = 8;
/// Pieces of data that wait on one stream before nothing more is read from the connection.
const WAITING: usize = 32;
/// How many streams one connection may have at a time.
const STREAMS_MAX: usize = 512;
const READ_BYTES: usize = 64 << 10;
const WRITE_BYTES: usize = 64 << 10;

/// A stream that the other side opened.
pub(super) struct Stream {
    pub(super) headers: Vec<(String, String)>,
    /// What comes, until the other side has closed it.
    pub(super) data: mpsc::Receiver<Bytes>,
    pub(super) writer: Writer,
    /// Cancelled when the stream is given up, or its connection ends; and by whoever has done with it.
    pub(super) gone: CancellationToken,
}

/// What is written to one stream.
#[derive(Clone)]
pub(super) struct Writer {
    id: u32,
    out: mpsc::Sender<Out>,
}

impl Stream {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
}

impl Writer {
    /// False where nobody is there any more.
    pub(super) async fn write(&self, data: Bytes) -> bool {
        self.out.send(Out::Data { id: self.id, data, last: false }).await.is_ok()
    }

    /// No more will be written.
    pub(super) async fn finish(&self) {
        let _ = self.out.send(Out::Data { id: self.id, data: Bytes::new(), last: true }).await;
    }

    /// Gives the stream up.
    pub(super) async fn reset(&self) {
        let _ = self.out.send(Out::Reset { id: self.id }).await;
    }
}

/// The streams of a connection as they come. While it is held, or a writer of it, the connection goes on.
pub(super) struct Streams {
    pub(super) opened: mpsc::Receiver<Stream>,
    _out: mpsc::Sender<Out>,
}

/// A connection: its streams, and what carries them, which ends when the other side has gone, or all writers and the
/// streams were dropped and what they wrote was sent.
pub(super) fn open(io: impl AsyncRead + AsyncWrite + Send) -> (Streams, impl Future<Output = ()> + Send) {
    let (out, outgoing) = mpsc::channel(QUEUE);
    let (opened, streams) = mpsc::channel(QUEUE);
    let weak = out.downgrade();
    let carry = async move {
        let (mut reader, mut writer) = tokio::io::split(io);
        let gone = CancellationToken::new();
        let _guard = gone.clone().drop_guard();
        let pulse = Pulse::new();
        let read = read(&mut reader, opened, weak, gone, &pulse);
        let mut read = std::pin::pin!(read);
        let done = {
            let write = write(&mut writer, outgoing, &pulse);
            tokio::select! {
                ended = &mut read => {
                    if let Err(error) = ended { tracing::debug!(%error, "a stream connection broke"); }
                    false
                }
                done = write => done,
            }
        };
        if done && writer.shutdown().await.is_ok() {
            // What the other side still sends must be read, or closing would take from it what was written last.
            let _ = tokio::time::timeout(LINGER, read).await;
        }
    };
    (Streams { opened: streams, _out: out }, carry)
}

struct Open {
    data: Option<mpsc::Sender<Bytes>>,
    gone: CancellationToken,
}

async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    opened: mpsc::Sender<Stream>,
    out: mpsc::WeakSender<Out>,
    gone: CancellationToken,
    pulse: &Pulse,
) -> io::Result<()> {
    let mut streams: HashMap<u32, Open> = HashMap::new();
    let (mut decoder, mut buffer) = (Decoder::new(), BytesMut::with_capacity(READ_BYTES));
    loop {
        while let Some(frame) = decoder.next(&mut buffer)? {
            pulse.beat();
            match frame {
                Frame::Stream { id, headers, last } => {
                    streams.retain(|_, open| !open.gone.is_cancelled());
                    let Some(out) = out.upgrade() else { continue };
                    if streams.len() >= STREAMS_MAX {
                        let _ = out.send(Out::Reset { id }).await;
                        continue;
                    }
                    let _ = out.send(Out::Reply { id }).await;
                    let (data, receiver) = mpsc::channel(WAITING);
                    let open = Open { data: (!last).then_some(data), gone: gone.child_token() };
                    let stream =
                        Stream { headers, data: receiver, writer: Writer { id, out }, gone: open.gone.clone() };
                    streams.insert(id, open);
                    let _ = opened.send(stream).await;
                }
                Frame::Data { id, data, last } => {
                    let Some(open) = streams.get_mut(&id) else { continue };
                    if let Some(sender) = &open.data
                        && !data.is_empty()
                    {
                        pulse.waits(true);
                        // Whoever reads no more loses nothing that he wants.
                        tokio::select! {
                            _ = sender.send(data) => {}
                            () = open.gone.cancelled() => {}
                        }
                        pulse.waits(false);
                    }
                    if last {
                        open.data = None;
                    }
                }
                Frame::Reset { id } => {
                    if let Some(open) = streams.remove(&id) {
                        open.gone.cancel();
                    }
                }
                Frame::Ping { id } => {
                    if let Some(out) = out.upgrade().filter(|_| id % 2 == 1) {
                        let _ = out.send(Out::Ping { id }).await;
                    }
                }
                Frame::GoAway => {}
            }
        }
        buffer.reserve(READ_BYTES);
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Whether all that there was to write was written.
async fn write(writer: &mut (impl AsyncWrite + Unpin), mut outgoing: mpsc::Receiver<Out>, pulse: &Pulse) -> bool {
    let (mut encoder, mut buffer) = (Encoder::new(), BytesMut::new());
    let mut look = tokio::time::interval(LOOK);
    let mut pings = 0u32;
    loop {
        let next = tokio::select! {
            next = outgoing.recv() => match next {
                Some(frame) => frame,
                None => return true,
            },
            _ = look.tick() => {
                if pulse.quiet() > IDLE {
                    return false;
                }
                if !pulse.is_waiting() {
                    continue;
                }
                pings = pings.wrapping_add(2);
                Out::Ping { id: pings }
            }
        };
        pulse.beat();
        let mut next = Some(next);
        while let Some(frame) = next {
            if encoder.put(&frame, &mut buffer).is_err() {
                return false;
            }
            next = if buffer.len() < WRITE_BYTES { outgoing.try_recv().ok() } else { None };
        }
        if writer.write_all_buf(&mut buffer).await.is_err() || writer.flush().await.is_err() {
            return false;
        }
    }
}
