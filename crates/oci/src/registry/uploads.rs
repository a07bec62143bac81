//! Uploads under way: a half-written blob each, in memory only by its name. After a restart the client starts again,
//! which every client does; nothing half-written stays.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::StreamExt;
use http::StatusCode;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};

use super::fault::Fault;
use super::{Action, Credentials, Served, blocking};
use crate::{BlobWriter, Digest, Error};

/// The uploads under way.
#[derive(Default)]
pub struct Uploads {
    open: Mutex<HashMap<String, Upload>>,
}

struct Upload {
    repository: String,
    /// Taken while a request writes to it.
    blob: Option<BlobWriter>,
    touched: Instant,
}

/// An upload that nobody touched for so long is forgotten.
const IDLE_MAX: Duration = Duration::from_secs(3600);

impl Uploads {
    fn open(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, repository: &str, blob: BlobWriter) -> String {
        let id = hex::encode(rand::random::<[u8; 16]>());
        let mut open = self.open();
        open.retain(|_, upload| upload.touched.elapsed() < IDLE_MAX);
        let upload = Upload { repository: repository.to_owned(), blob: Some(blob), touched: Instant::now() };
        open.insert(id.clone(), upload);
        id
    }

    fn take(&self, repository: &str, id: &str) -> Result<BlobWriter, Fault> {
        let mut open = self.open();
        let upload = open.get_mut(id).filter(|upload| upload.repository == repository).ok_or_else(unknown)?;
        upload.touched = Instant::now();
        upload.blob.take().ok_or_else(|| {
            Fault::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", "another request is writing to this upload")
        })
    }

    fn give_back(&self, id: &str, blob: BlobWriter) {
        if let Some(upload) = self.open().get_mut(id) {
            upload.blob = Some(blob);
            upload.touched = Instant::now();
        }
    }

    fn forget(&self, id: &str) {
        self.open().remove(id);
    }
}

fn unknown() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "no such upload; start again")
}

/// `POST …/blobs/uploads/`: an upload, a whole blob at once (`?digest=`), or a blob that is already here (`?mount=`).
pub(super) async fn start(
    served: &Served,
    repository: &str,
    query: &HashMap<String, String>,
    request: Request,
) -> Result<Response, Fault> {
    if let Some(mount) = query.get("mount") {
        let digest: Digest = mount.parse()?;
        let from = query.get("from").map_or(repository, String::as_str);
        let given = request.headers().get(http::header::AUTHORIZATION).and_then(Credentials::of);
        if served.store.has_blob(&digest) && served.authorize.allow(given.as_ref(), Action::Pull, from) {
            return created(repository, &digest);
        }
    }
    let store = served.store.clone();
    let blob = blocking(move || Ok(store.blob_writer()?)).await?;
    if let Some(digest) = query.get("digest") {
        let digest: Digest = digest.parse()?;
        let (blob, received) = receive(blob, request).await?;
        received?;
        return finish(repository, blob, digest).await;
    }
    let id = served.uploads.start(repository, blob);
    progress(StatusCode::ACCEPTED, repository, &id, 0)
}

/// `PATCH`: more bytes, at the end of what is there.
pub(super) async fn patch(served: &Served, repository: &str, id: &str, request: Request) -> Result<Response, Fault> {
    let blob = served.uploads.take(repository, id)?;
    let start = request.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).and_then(|text| {
        text.trim_start_matches("bytes ").trim_start_matches("bytes=").split('-').next()?.parse().ok()
    });
    if start.is_some_and(|start: u64| start != blob.size()) {
        let size = blob.size();
        served.uploads.give_back(id, blob);
        return progress(StatusCode::RANGE_NOT_SATISFIABLE, repository, id, size);
    }
    let (blob, received) = receive(blob, request).await?;
    let size = blob.size();
    match received {
        Ok(()) => served.uploads.give_back(id, blob),
        Err(Received::Client(fault)) => {
            // What came stays: the client asks how much that was, and goes on there.
            served.uploads.give_back(id, blob);
            return Err(fault);
        }
        Err(Received::Disk(fault)) => {
            served.uploads.forget(id);
            return Err(fault);
        }
    }
    progress(StatusCode::ACCEPTED, repository, id, size)
}

/// `PUT ?digest=`: the rest, and the end.
pub(super) async fn put(
    served: &Served,
    repository: &str,
    id: &str,
    query: &HashMap<String, String>,
    request: Request,
) -> Result<Response, Fault> {
    let digest: Digest = match query.get("digest") {
        Some(digest) => digest.parse()?,
        None => return Err(Fault::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the digest is missing")),
    };
    let blob = served.uploads.take(repository, id)?;
    let (blob, received) = receive(blob, request).await?;
    served.uploads.forget(id);
    received?;
    finish(repository, blob, digest).await
}

/// `GET`: how much is there.
pub(super) fn status(served: &Served, repository: &str, id: &str) -> Result<Response, Fault> {
    let size = {
        let open = served.uploads.open();
        let upload = open.get(id).filter(|upload| upload.repository == repository).ok_or_else(unknown)?;
        upload.blob.as_ref().map_or(0, BlobWriter::size)
    };
    progress(StatusCode::NO_CONTENT, repository, id, size)
}

/// `DELETE`: nothing of it stays.
pub(super) fn cancel(served: &Served, repository: &str, id: &str) -> Result<Response, Fault> {
    drop(served.uploads.take(repository, id)?);
    served.uploads.forget(id);
    build(Response::builder().status(StatusCode::NO_CONTENT))
}

/// Why a body did not arrive whole.
enum Received {
    Client(Fault),
    Disk(Fault),
}

impl From<Received> for Fault {
    fn from(received: Received) -> Self {
        match received {
            Received::Client(fault) | Received::Disk(fault) => fault,
        }
    }
}

/// Writes a request's body to the blob, on a thread that may wait for the disk.
async fn receive(mut blob: BlobWriter, request: Request) -> Result<(BlobWriter, Result<(), Received>), Fault> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(16);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(bytes) = receiver.blocking_recv() {
            if let Err(error) = std::io::Write::write_all(&mut blob, &bytes) {
                return (blob, Err(Error::io("writing a blob", error)));
            }
        }
        (blob, Ok(()))
    });
    let mut body = request.into_body().into_data_stream();
    let mut broken = false;
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => {
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    drop(sender);
    let (blob, written) = writer
        .await
        .map_err(|_| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry has a fault"))?;
    let outcome = match (written, broken) {
        (Err(error), _) => Err(Received::Disk(error.into())),
        (Ok(()), true) => {
            let message = "the connection broke off";
            Err(Received::Client(Fault::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)))
        }
        (Ok(()), false) => Ok(()),
    };
    Ok((blob, outcome))
}

async fn finish(repository: &str, blob: BlobWriter, digest: Digest) -> Result<Response, Fault> {
    let expected = digest.clone();
    blocking(move || Ok(blob.finish(Some(&expected))?)).await?;
    created(repository, &digest)
}

fn created(repository: &str, digest: &Digest) -> Result<Response, Fault> {
    build(
        Response::builder()
            .status(StatusCode::CREATED)
            .header(LOCATION, format!("/v2/{repository}/blobs/{digest}"))
            .header("docker-content-digest", digest.as_str()),
    )
}

fn progress(status: StatusCode, repository: &str, id: &str, size: u64) -> Result<Response, Fault> {
    build(
        Response::builder()
            .status(status)
            .header(LOCATION, format!("/v2/{repository}/blobs/uploads/{id}"))
            .header("docker-upload-uuid", id)
            .header(RANGE, format!("0-{}", size.saturating_sub(1))),
    )
}

fn build(builder: http::response::Builder) -> Result<Response, Fault> {
    builder.body(Body::empty()).map_err(|e| Error::malformed("response", e).into())
}
