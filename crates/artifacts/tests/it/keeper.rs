//! An artifact plugin for tests: Argo's `ArtifactService` over files in the directory that an artifact's `configuration`
//! names. Written from `artifact.proto` alone, so that it is a check of our client. Some keys have it misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

type Body = UnsyncBoxBody<Bytes, Infallible>;
/// An answer, or a status of gRPC.
type Answer = Result<Vec<u8>, (u32, String)>;

/// How the plugin is.
#[derive(Clone, Copy)]
pub(crate) struct Keeper {
    /// It has `SaveStream`; else it does not know of it.
    pub(crate) streams: bool,
}

/// Serves at this socket until the process is told to end.
pub(crate) async fn serve(keeper: Keeper, socket: &Path) {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (hang_up, told) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let hang_up = hang_up.clone();
                async move { Ok::<_, Infallible>(respond(keeper, request, &hang_up).await) }
            });
            let mut told = told;
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                _ = told.wait_for(|now| *now) => {}
            }
        });
    }
}

async fn respond(
    keeper: Keeper,
    request: Request<Incoming>,
    hang_up: &tokio::sync::watch::Sender<bool>,
) -> Response<Body> {
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let mut body = request.into_body();
    let answer = match method.as_str() {
        "SaveStream" if keeper.streams => save_stream(&mut body, hang_up).await,
        "SaveStream" | "GetCapabilities" if !keeper.streams => Err((12, format!("unknown method {method}"))),
        "GetCapabilities" => Ok(vec![0x08, 1]),
        _ => match messages(&mut body).await.as_slice() {
            [message] => unary(&method, message),
            _ => Err((13, "not one message".to_owned())),
        },
    };
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    match answer {
        Ok(message) => {
            let mut framed = vec![0];
            framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            framed.extend(message);
            // In pieces, as a network has it.
            let rest = framed.split_off(3);
            frames.extend([framed, rest].map(|part| Ok(Frame::data(Bytes::from(part)))));
            trailers.insert("grpc-status", "0".parse().unwrap());
        }
        Err((code, text)) => {
            trailers.insert("grpc-status", code.to_string().parse().unwrap());
            trailers.insert("grpc-message", text.replace('%', "%25").replace('\n', "%0A").parse().unwrap());
            if text.starts_with("at once") {
                let mut response = Response::new(Pieces(Vec::new().into_iter()).boxed_unsync());
                response.headers_mut().extend(trailers);
                return response;
            }
        }
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let mut response = Response::new(Pieces(frames.into_iter()).boxed_unsync());
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

struct Pieces(std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.next())
    }
}

async fn messages(body: &mut Incoming) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().unwrap());
    }
    std::iter::from_fn(|| take(&mut bytes)).collect()
}

/// The next message, when it is there whole.
fn take(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().unwrap()) as usize;
    let message = bytes.get(5..5 + length)?.to_vec();
    bytes.drain(..5 + length);
    Some(message)
}

/// Length-delimited fields of a message; there are no others that matter here.
fn fields(mut bytes: &[u8]) -> HashMap<u64, Vec<u8>> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }
    let mut all = HashMap::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let number = varint(&mut bytes);
        if key & 7 == 2 {
            let (value, rest) = bytes.split_at(usize::try_from(number).unwrap());
            all.insert(key >> 3, value.to_vec());
            bytes = rest;
        } else {
            assert_eq!(key & 7, 0, "a field of another type");
        }
    }
    all
}

fn text(fields: &HashMap<u64, Vec<u8>>, field: u64) -> String {
    String::from_utf8(fields.get(&field).cloned().unwrap_or_default()).unwrap()
}

/// Where an artifact is, and its key.
fn place(artifact: &[u8]) -> (PathBuf, String) {
    let plugin = fields(&fields(artifact)[&5]);
    assert_eq!(text(&plugin, 1), "keeper");
    let key = text(&plugin, 4);
    (Path::new(&text(&plugin, 2)).join(&key), key)
}

fn refused(error: &str) -> Vec<u8> {
    let mut message = vec![0x12, u8::try_from(error.len()).unwrap()];
    message.extend(error.as_bytes());
    message
}

fn told(done: std::io::Result<()>) -> Answer {
    match done {
        Ok(()) => Ok(vec![0x08, 1]),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err((5, "100% not\nthere".to_owned())),
        Err(error) => Ok(refused(&error.to_string())),
    }
}

fn unary(method: &str, message: &[u8]) -> Answer {
    let request = fields(message);
    let (artifact, path) = match method {
        "Save" => (&request[&2], text(&request, 1)),
        _ => (&request[&1], text(&request, 2)),
    };
    let (kept, key) = place(artifact);
    let path = Path::new(&path);
    match (key.as_str(), method) {
        ("fails", _) => Ok(refused("the disk is full")),
        ("refuses", _) => Err((7, "at once: not for you".to_owned())),
        ("nothing", "Load") => Ok(vec![0x08, 1]),
        ("link", "Load") => told(std::os::unix::fs::symlink("/etc/hostname", path)),
        (_, "Load") => told(copy(&kept, path)),
        (_, "Save") => told(copy(path, &kept)),
        (_, "Delete") => told(match kept.is_dir() {
            true => std::fs::remove_dir_all(kept),
            false => std::fs::remove_file(kept),
        }),
        (_, "ListObjects") => {
            let mut message = Vec::new();
            for entry in std::fs::read_dir(kept).into_iter().flatten() {
                let name = format!("{key}/{}", entry.unwrap().file_name().to_str().unwrap());
                message.extend([0x0a, u8::try_from(name.len()).unwrap()]);
                message.extend(name.as_bytes());
            }
            Ok(message)
        }
        _ => Err((12, format!("unknown method {method}"))),
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if !from.is_dir() {
        return std::fs::copy(from, to).map(drop);
    }
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Nothing is kept of a stream that does not come to its end.
async fn save_stream(body: &mut Incoming, hang_up: &tokio::sync::watch::Sender<bool>) -> Answer {
    let (mut bytes, mut content, mut target) = (Vec::new(), Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err((1, "the stream broke off".to_owned())) };
        bytes.extend_from_slice(frame.data_ref().unwrap());
        while let Some(message) = take(&mut bytes) {
            let request = fields(&message);
            match &target {
                None => target = Some(place(&request[&1])),
                Some((_, key)) if key == "hangs-up" => {
                    let _ = hang_up.send(true);
                    std::future::pending::<()>().await;
                }
                Some((_, key)) if key == "early" => return Err((8, "at once: too large".to_owned())),
                Some(_) => content.extend_from_slice(&request[&2]),
            }
        }
    }
    let Some((kept, _)) = target else { return Err((3, "no artifact".to_owned())) };
    let kept_in = kept.parent().unwrap();
    told(std::fs::create_dir_all(kept_in).and_then(|()| std::fs::write(kept, content)))
}
