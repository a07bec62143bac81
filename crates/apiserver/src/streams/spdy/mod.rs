//! What kubectl and client-go carry over SPDY/3.1: commands of older versions, and forwarded ports of all of them, there
//! inside a WebSocket. Only what those send: no windows, no streams that the server opens.

mod connection;
mod frame;

use super::channels::{Received, Sent};
use super::command::{ERROR, RESIZE, STDERR, STDIN, STDOUT};
use super::session::{Ports, Wanted};
use bytes::{Bytes, BytesMut};
use connection::{Stream, Streams, Writer};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// How long the streams that belong together may take to come.
const CREATION: Duration = Duration::from_secs(30);
const CHUNK: usize = 32 << 10;

/// A command: its streams become channels.
pub(super) async fn command(
    io: impl AsyncRead + AsyncWrite + Send,
    wanted: Wanted,
    received: mpsc::Sender<Received>,
    mut sent: mpsc::Receiver<Sent>,
) {
    let (mut streams, carry) = connection::open(io);
    let talk = async move {
        let Ok(Some(mut all)) = tokio::time::timeout(CREATION, gather(&mut streams, wanted)).await else { return };
        let writers: HashMap<u8, Writer> = all.iter().map(|(channel, s)| (*channel, s.writer.clone())).collect();
        let mut take = |channel| all.remove(&channel).map(|s| s.data);
        let (stdin, resize) = (take(STDIN), take(RESIZE));
        drop(all);
        let typed = async {
            tokio::join!(pass(stdin, STDIN, &received), pass_sizes(resize, &received));
            // The caller is there for as long as its connection.
            std::future::pending::<()>().await;
        };
        let printed = async {
            while let Some(Sent::Data(channel, data)) = sent.recv().await {
                if let Some(writer) = writers.get(&channel).filter(|_| !data.is_empty()) {
                    writer.write(data).await;
                }
            }
            for writer in writers.values() {
                writer.finish().await;
            }
        };
        tokio::select! {
            () = typed => {}
            () = printed => {}
        }
        // What was written goes out before the connection ends.
        drop((writers, streams));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = carry => {}
        () = talk => {}
    }
}

/// The streams that a command has, by channel.
async fn gather(streams: &mut Streams, wanted: Wanted) -> Option<HashMap<u8, Stream>> {
    let expected = 1 + [wanted.stdin, wanted.stdout, wanted.stderr].into_iter().filter(|w| *w).count();
    let mut all = HashMap::new();
    loop {
        // Versions before 3 have no sizes; later ones say by a terminal that they come.
        let sizes = usize::from(all.contains_key(&RESIZE));
        if all.len() >= expected + sizes {
            break;
        }
        let stream = streams.opened.recv().await?;
        let channel = match stream.header("streamtype") {
            "stdin" => STDIN,
            "stdout" => STDOUT,
            "stderr" => STDERR,
            "error" => ERROR,
            "resize" => RESIZE,
            _ => {
                stream.writer.reset().await;
                continue;
            }
        };
        all.insert(channel, stream);
    }
    // Sizes are the last to be opened and need not come.
    if wanted.tty
        && !all.contains_key(&RESIZE)
        && let Ok(Some(stream)) = tokio::time::timeout(Duration::from_millis(300), streams.opened.recv()).await
        && stream.header("streamtype") == "resize"
    {
        all.insert(RESIZE, stream);
    }
    Some(all)
}

async fn pass(data: Option<mpsc::Receiver<Bytes>>, channel: u8, received: &mpsc::Sender<Received>) {
    let Some(mut data) = data else { return };
    while let Some(bytes) = data.recv().await {
        if received.send(Received::Data(channel, bytes)).await.is_err() {
            return;
        }
    }
    let _ = received.send(Received::Closed(channel)).await;
}

/// Sizes come as one JSON value after the other, however they were cut.
async fn pass_sizes(data: Option<mpsc::Receiver<Bytes>>, received: &mpsc::Sender<Received>) {
    let Some(mut data) = data else { return };
    let mut text = BytesMut::new();
    while let Some(bytes) = data.recv().await {
        text.extend_from_slice(&bytes);
        while let Some(end) = text.iter().position(|b| *b == b'}') {
            let one = text.split_to(end + 1).freeze();
            if received.send(Received::Data(RESIZE, one)).await.is_err() {
                return;
            }
        }
        if text.len() > 1024 {
            return;
        }
    }
}

/// Forwarded ports: for each connection two streams with one request id.
pub(super) async fn forward(io: impl AsyncRead + AsyncWrite + Send, ports: Arc<dyn Ports>) {
    let (mut streams, carry) = connection::open(io);
    let talk = async move {
        let mut halves: HashMap<String, (Option<Stream>, Option<Stream>)> = HashMap::new();
        let mut running = tokio::task::JoinSet::new();
        while let Some(stream) = streams.opened.recv().await {
            let port = stream.header("port");
            // A client of an old version names no request: its streams come in pairs, error first.
            let id = match stream.header("requestid") {
                "" => format!("port {port}"),
                id => format!("request {id}"),
            };
            halves.retain(|_, (error, data)| {
                let mut both = [&*error, &*data].into_iter().flatten();
                both.all(|stream| !stream.gone.is_cancelled())
            });
            let (error, data) = halves.entry(id.clone()).or_default();
            match stream.header("streamtype") {
                "error" => *error = Some(stream),
                "data" => *data = Some(stream),
                _ => stream.writer.reset().await,
            }
            if error.is_some()
                && data.is_some()
                && let Some((Some(error), Some(data))) = halves.remove(&id)
            {
                running.spawn(one(error, data, ports.clone()));
            }
            while running.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = carry => {}
        () = talk => {}
    }
}

/// One connection to a port.
async fn one(error: Stream, data: Stream, ports: Arc<dyn Ports>) {
    let port = data.header("port").parse::<u16>().ok().filter(|p| *p > 0);
    let gone = data.gone.clone();
    let _ended = (gone.clone().drop_guard(), error.gone.clone().drop_guard());
    let writer = data.writer.clone();
    let carried = async {
        let Some(port) = port else { return Some(format!("{:?} is not a port", data.header("port"))) };
        match ports.connect(port).await {
            Ok(stream) => both_ways(stream, data.data, &writer).await,
            Err(why) => Some(why),
        }
    };
    let why = tokio::select! {
        why = carried => why,
        () = gone.cancelled() => None,
    };
    if let Some(why) = why {
        error.writer.write(why.into()).await;
    }
    writer.finish().await;
    error.writer.finish().await;
}

/// Until both sides have closed theirs. A sentence where it broke.
async fn both_ways(
    stream: Box<dyn super::session::Duplex>,
    mut data: mpsc::Receiver<Bytes>,
    out: &Writer,
) -> Option<String> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let upwards = async {
        while let Some(bytes) = data.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
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
            if !out.write(buffer.split().freeze()).await {
                return None;
            }
        }
    };
    let mut upwards = std::pin::pin!(upwards);
    let mut downwards = std::pin::pin!(downwards);
    tokio::select! {
        why = &mut downwards => {
            // What the pod says no more, it may still hear.
            out.finish().await;
            if why.is_none() {
                let _ = tokio::time::timeout(Duration::from_secs(1), upwards).await;
            }
            why
        }
        () = &mut upwards => downwards.await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::frame::tests::{deflate, stream};
    use super::*;
    use crate::streams::Duplex;

    /// Port 7 answers what it hears; nobody listens elsewhere.
    struct Echo;

    #[async_trait::async_trait]
    impl Ports for Echo {
        async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, String> {
            if port != 7 {
                return Err(format!("nobody listens on {port}"));
            }
            let (near, far) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(far);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
            Ok(Box::new(near))
        }
    }

    /// Data by stream id, with `.` for an end, as far as whole frames have come.
    fn data(mut bytes: &[u8]) -> HashMap<u32, String> {
        let mut all: HashMap<u32, String> = HashMap::new();
        while let [a, b, c, d, flags, x, y, z, ..] = *bytes {
            let word = u32::from_be_bytes([a, b, c, d]);
            let length = u32::from_be_bytes([0, x, y, z]) as usize;
            if bytes.len() < 8 + length {
                break;
            }
            if word >> 31 == 0 {
                let text = all.entry(word).or_default();
                text.push_str(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
                if flags == 1 {
                    text.push('.');
                }
            }
            bytes = &bytes[8 + length..];
        }
        all
    }

    #[tokio::test]
    async fn connections_go_to_their_ports_and_faults_to_their_error_streams() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(forward(server, Arc::new(Echo)));
        let mut deflate = deflate();
        for (index, port) in [(0, "7"), (1, "9"), (2, "x")] {
            let id = index.to_string();
            for (kind, stream_id) in [("error", 4 * index + 1), ("data", 4 * index + 3)] {
                let headers = [("streamtype", kind), ("port", port), ("requestid", &*id)];
                client.write_all(&stream(&mut deflate, stream_id, &headers)).await.unwrap();
            }
        }
        client.write_all(&[0, 0, 0, 3, 1, 0, 0, 5, b'h', b'e', b'l', b'l', b'o']).await.unwrap();
        let mut got = Vec::new();
        let ended = |got: &[u8]| data(got).values().filter(|t| t.ends_with('.')).count() == 6;
        while !ended(&got) {
            assert!(client.read_buf(&mut got).await.unwrap() > 0);
        }
        let got = data(&got);
        assert_eq!((&*got[&3], &*got[&1]), ("hello.", "."));
        assert_eq!((&*got[&7], &*got[&5]), (".", "nobody listens on 9."));
        assert_eq!((&*got[&11], &*got[&9]), (".", "\"x\" is not a port."));
        // Whoever goes takes the connection with him.
        drop(client);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_command_has_its_streams() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (to_us, mut received) = mpsc::channel(8);
        let (sent, from_us) = mpsc::channel(8);
        let wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: true };
        let serving = tokio::spawn(command(server, wanted, to_us, from_us));
        let mut deflate = deflate();
        for (kind, id) in [("error", 1), ("stdin", 3), ("stdout", 5), ("resize", 7)] {
            client.write_all(&stream(&mut deflate, id, &[("streamtype", kind)])).await.unwrap();
        }
        let sizes = br#"{"Width":80,"Height":24}{"Width":81,"#;
        client.write_all(&[&[0, 0, 0, 7, 0, 0, 0, sizes.len() as u8], &sizes[..]].concat()).await.unwrap();
        client.write_all(&[0, 0, 0, 7, 0, 0, 0, 12]).await.unwrap();
        client.write_all(br#""Height":25}"#).await.unwrap();
        client.write_all(&[0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i']).await.unwrap();
        let mut events = Vec::new();
        while events.len() < 4 {
            events.push(received.recv().await.unwrap());
        }
        assert!(events.contains(&Received::Data(RESIZE, r#"{"Width":80,"Height":24}"#.into())), "{events:?}");
        assert!(events.contains(&Received::Data(RESIZE, r#"{"Width":81,"Height":25}"#.into())), "{events:?}");
        assert!(events.contains(&Received::Data(STDIN, "hi".into())) && events.contains(&Received::Closed(STDIN)));
        sent.send(Sent::Data(STDOUT, "out".into())).await.unwrap();
        sent.send(Sent::Data(ERROR, "fine".into())).await.unwrap();
        sent.send(Sent::End).await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        let got = data(&got);
        assert_eq!((&*got[&5], &*got[&1]), ("out.", "fine."));
        drop(client);
        serving.await.unwrap();
    }
}
