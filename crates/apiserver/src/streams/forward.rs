//! Ports of a pod and their caller: two channels a port over WebSocket, or two streams a connection over SPDY. A port
//! that cannot be reached is told on its error channel; the others go on.

use super::channels::{self, Received, Sent};
use super::session::{Duplex, Ports};
use super::upgrade::{Channels, Io, Protocol};
use super::{Query, spdy};
use crate::answer::ApiError;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt, TryStreamExt};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

const CHUNK: usize = 32 << 10;
const QUEUE: usize = 8;
/// Two channels each, and a channel is one byte.
const PORTS_MAX: usize = 127;

/// The ports that a query names.
pub(super) fn ports(query: &Query) -> Result<Vec<u16>, ApiError> {
    let words = query.all("ports").flat_map(|list| list.split(','));
    if words.clone().count() > PORTS_MAX {
        return Err(ApiError::bad_request(format!("at most {PORTS_MAX} ports can be forwarded at once")));
    }
    words
        .map(|word| {
            let number: u64 = word.parse().map_err(|_| {
                let why = format!("cannot convert to []int32: strconv.ParseUint: parsing {word:?}: invalid syntax");
                ApiError::bad_request(why)
            })?;
            let port = u16::try_from(number).ok().filter(|p| *p > 0);
            port.ok_or_else(|| ApiError::bad_request(format!("port {word:?} must be > 0 and < 65536")))
        })
        .collect()
}

/// Carries connections until the caller has gone, or all that it asked for have ended.
pub(super) async fn run(protocol: Protocol, io: Io, wanted: Vec<u16>, ports: Arc<dyn Ports>) {
    match protocol {
        Protocol::WebSocket(_, channels) => over_channels(io, channels, wanted, ports).await,
        Protocol::Spdy(..) => spdy::forward(io, ports).await,
        Protocol::Tunnel => {
            let (sink, stream) = channels::open(io).await.split();
            let bytes = stream.map_err(io::Error::other).try_filter_map(async |message| {
                Ok(match message {
                    Message::Binary(bytes) => Some(bytes),
                    Message::Text(text) => Some(Bytes::from(text)),
                    _ => None,
                })
            });
            let sink = sink
                .sink_map_err(io::Error::other)
                .with(async |bytes: Bytes| Ok::<_, io::Error>(Message::Binary(bytes)));
            let reader = StreamReader::new(Box::pin(bytes));
            let writer = SinkWriter::new(CopyToBytes::new(Box::pin(sink)));
            spdy::forward(tokio::io::join(reader, writer), ports).await;
        }
    }
}

/// Port by port: an even channel for data, the next for what went wrong. Both begin with the port's number.
async fn over_channels(io: Io, channels: Channels, wanted: Vec<u16>, ports: Arc<dyn Ports>) {
    let (to_us, mut received) = mpsc::channel(QUEUE);
    let (sent, from_us) = mpsc::channel(QUEUE);
    let talk = async {
        for (index, port) in wanted.iter().enumerate() {
            for channel in [2 * index, 2 * index + 1] {
                let number = Bytes::copy_from_slice(&port.to_le_bytes());
                let _ = sent.send(Sent::Data(u8::try_from(channel).unwrap_or(u8::MAX), number)).await;
            }
        }
        let (mut inputs, mut all) = (Vec::new(), Vec::new());
        for (index, port) in wanted.iter().enumerate() {
            let (input, data) = mpsc::channel(QUEUE);
            inputs.push(Some(input));
            let (ports, sent) = (ports.clone(), sent.clone());
            let channel = u8::try_from(2 * index).unwrap_or(u8::MAX);
            all.push(async move {
                let why = match ports.connect(*port).await {
                    Ok(stream) => both_ways(stream, data, channel, &sent).await,
                    Err(why) => Some(why),
                };
                if let Some(why) = why {
                    let _ = sent.send(Sent::Data(channel + 1, why.into())).await;
                }
            });
        }
        let forward = futures::future::join_all(all);
        let feed = async {
            while let Some(event) = received.recv().await {
                let Received::Data(channel, data) = event else { continue };
                let input = inputs.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
                if let Some(slot) = input
                    && let Some(input) = slot
                    && input.send(data).await.is_err()
                {
                    *slot = None;
                }
            }
        };
        tokio::select! {
            _ = forward => drop(sent.send(Sent::End).await),
            () = feed => {}
        }
        drop(sent);
        std::future::pending().await
    };
    // A caller who has gone takes his connections with him, whatever they wait for.
    tokio::select! {
        () = channels::carry(io, channels, to_us, from_us) => {}
        () = talk => {}
    }
}

/// One connection, until the pod has closed its side. A sentence where it broke.
async fn both_ways(
    stream: Box<dyn Duplex>,
    mut data: mpsc::Receiver<Bytes>,
    channel: u8,
    sent: &mpsc::Sender<Sent>,
) -> Option<String> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let upwards = async {
        while let Some(bytes) = data.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // Reading tells how it ended.
        std::future::pending::<()>().await;
    };
    let downwards = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return None,
                Err(error) => return Some(format!("reading from the pod: {error}")),
                Ok(_) => {}
            }
            if sent.send(Sent::Data(channel, buffer.split().freeze())).await.is_err() {
                return None;
            }
        }
    };
    tokio::select! {
        () = upwards => None,
        why = downwards => why,
    }
}
