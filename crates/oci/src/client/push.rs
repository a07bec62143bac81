//! Pushing: blobs that the registry lacks, mounted from another of its repositories where possible, then the manifest.

use futures::{StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::patience::{Moved, retry_after};
use super::target::Target;
use super::transport::percent;
use super::{Client, OnProgress, Progress, blocking};
use crate::store::descriptors;
use crate::{Digest, Error, Reference, Result, media};

/// How to push.
#[derive(Clone, Default)]
pub struct PushOptions {
    /// Other repositories where the registry may already have blobs; those on another registry are ignored.
    pub mount_from: Vec<Reference>,
    /// How many blobs at a time; 0 means four.
    pub parallel: usize,
    /// Told what happens.
    pub progress: Option<OnProgress>,
}

/// Chunks of an upload that cannot go in one piece.
const CHUNK_BYTES: u64 = 16 << 20;

impl Client {
    /// Pushes a manifest (or index) of the store with everything that it needs, under this name. For the built-in
    /// registry that is only a name in the store. Gives the digest that the name then has.
    pub async fn push(&self, manifest: &Digest, to: &Reference, options: &PushOptions) -> Result<Digest> {
        let place = self.transport.place(to);
        if place.is_local() {
            let (store, digest) = (self.store.clone(), manifest.clone());
            return blocking(move || store.tag(&place, &digest).map(|()| digest)).await;
        }
        let mut target = Target::new(to, &place, "pull,push");
        let from: Vec<String> = options
            .mount_from
            .iter()
            .map(|reference| self.transport.options.remap.apply(reference).map_or(reference.clone(), |m| m.reference))
            .filter(|reference| {
                reference.registry() == place.registry() && reference.repository() != place.repository()
            })
            .map(|reference| reference.repository().to_owned())
            .collect();
        target.scopes.extend(from.iter().map(|repository| format!("repository:{repository}:pull")));
        self.push_manifest(&target, manifest, Some(&place), &from, options).await?;
        Ok(manifest.clone())
    }

    /// Asks whether pushing there is allowed, by starting an upload and cancelling it: better known before a build.
    pub async fn check_push(&self, to: &Reference) -> Result<()> {
        let place = self.transport.place(to);
        if place.is_local() {
            return Ok(());
        }
        let target = Target::new(to, &place, "pull,push");
        let response = self.start_upload(&target, "").await?;
        if !response.status().is_success() {
            return Err(self.transport.failed(&target, "checking the right to push", response).await);
        }
        if let Ok(url) = location(&target, &response) {
            // Registries forget abandoned uploads anyway, and not all can cancel one.
            let _ = self.transport.send_url(&target, Method::DELETE, &url, |r| r).await;
        }
        Ok(())
    }

    async fn push_manifest(
        &self,
        target: &Target,
        digest: &Digest,
        name: Option<&Reference>,
        from: &[String],
        options: &PushOptions,
    ) -> Result<()> {
        let (store, wanted) = (self.store.clone(), digest.clone());
        let bytes = blocking(move || store.read_blob(&wanted)).await?;
        let document: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed(format!("manifest {digest}"), e))?;
        let media_type = media::of_manifest(&document)
            .ok_or_else(|| Error::malformed(format!("blob {digest}"), "it is not a manifest"))?
            .to_owned();
        for member in descriptors(&document, "manifests") {
            if !self.store.has_blob(&member) {
                return Err(Error::Unsupported {
                    what: format!("pushing the multi-platform index {digest}"),
                    detail: format!("its member {member} was not pulled here; push the image of one platform"),
                });
            }
            Box::pin(self.push_manifest(target, &member, None, from, options)).await?;
        }
        let config = document.pointer("/config/digest").and_then(Value::as_str).and_then(|d| d.parse().ok());
        let mut blobs: Vec<Digest> = descriptors(&document, "layers").into_iter().chain(config).collect();
        let mut seen = std::collections::HashSet::new();
        blobs.retain(|blob| seen.insert(blob.clone()));
        let parallel = if options.parallel == 0 { 4 } else { options.parallel };
        futures::stream::iter(blobs)
            .map(|blob| self.push_blob(target, blob, from, options))
            .buffer_unordered(parallel)
            .try_collect::<Vec<()>>()
            .await?;
        let version = name.and_then(Reference::tag).unwrap_or(digest.as_str());
        let path = format!("{}/manifests/{version}", target.repository);
        let response = self
            .transport
            .send(target, Method::PUT, &path, |r| r.header(CONTENT_TYPE, &media_type).body(bytes.clone()))
            .await?;
        if !response.status().is_success() {
            return Err(self.transport.failed(target, "putting the manifest", response).await);
        }
        Ok(())
    }

    async fn push_blob(&self, target: &Target, digest: Digest, from: &[String], options: &PushOptions) -> Result<()> {
        let tell = |what: Progress| options.progress.iter().for_each(|progress| progress(what.clone()));
        let size = self.store.blob_size(&digest);
        let path = format!("{}/blobs/{digest}", target.repository);
        let response = self.transport.send(target, Method::HEAD, &path, |r| r).await?;
        let present = match response.status() {
            StatusCode::NOT_FOUND => false,
            status if status.is_success() => true,
            _ => return Err(self.transport.failed(target, &format!("asking for blob {digest}"), response).await),
        };
        tell(Progress::Started { digest: digest.clone(), size: size.unwrap_or_default(), present });
        if !present {
            self.upload(target, &digest, size, from, options).await?;
        }
        tell(Progress::Done { digest });
        Ok(())
    }

    async fn upload(
        &self,
        target: &Target,
        digest: &Digest,
        size: Option<u64>,
        from: &[String],
        options: &PushOptions,
    ) -> Result<()> {
        let doing = format!("uploading blob {digest}");
        let mut started = None;
        for repository in from {
            let query = format!("?mount={digest}&from={}", percent(repository));
            let response = self.start_upload(target, &query).await?;
            match response.status() {
                StatusCode::CREATED => return Ok(()),
                // Not there: the registry starts an ordinary upload instead.
                StatusCode::ACCEPTED => started = Some(response),
                _ => {}
            }
        }
        let Some(size) = size else { return Err(Error::BlobMissing { digest: digest.clone() }) };
        let mut attempt = 0;
        loop {
            let response = match started.take() {
                Some(response) => response,
                None => self.start_upload(target, "").await?,
            };
            if !response.status().is_success() {
                return Err(self.transport.failed(target, &doing, response).await);
            }
            let url = location(target, &response)?;
            let mut told = None;
            let error = match self.put_whole(target, &url, digest, size, options).await {
                Ok(response) if response.status().is_success() => return Ok(()),
                // A proxy with a limit, or a registry that wants pieces.
                Ok(response)
                    if matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::LENGTH_REQUIRED) =>
                {
                    return self.put_chunks(target, digest, size, options).await;
                }
                Ok(response) => {
                    told = retry_after(&response);
                    self.transport.failed(target, &doing, response).await
                }
                Err(error) => error,
            };
            if !error.is_transient() || attempt >= self.transport.options.retries {
                return Err(match error {
                    Error::Unreachable { registry, detail, help } => {
                        Error::Unreachable { registry, detail: format!("{doing}: {detail}"), help }
                    }
                    other => other,
                });
            }
            // What the broken upload left there is nobody's: a new one begins.
            self.transport.pause(target, attempt, told).await;
            attempt += 1;
        }
    }

    async fn put_whole(
        &self,
        target: &Target,
        url: &str,
        digest: &Digest,
        size: u64,
        options: &PushOptions,
    ) -> Result<Response> {
        let url = with_digest(url, digest);
        // The file is opened anew for each attempt.
        let (store, blob) = (self.store.clone(), digest.clone());
        let progress = options.progress.clone();
        let moved = Moved::nothing_of(size);
        let counter = moved.clone();
        let body = move || {
            let file = store.open_blob(&blob)?;
            let (progress, blob, counter) = (progress.clone(), blob.clone(), counter.clone());
            let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 1 << 17).inspect(move |chunk| {
                let Ok(bytes) = chunk else { return };
                counter.add(bytes.len() as u64);
                if let Some(progress) = &progress {
                    progress(Progress::Moved { digest: blob.clone(), bytes: bytes.len() as u64 });
                }
            });
            Ok::<_, Error>(reqwest::Body::wrap_stream(stream))
        };
        body()?;
        self.transport
            .upload(target, &url, &moved, |request| {
                let request = request.header(CONTENT_LENGTH, size).header(CONTENT_TYPE, "application/octet-stream");
                match body() {
                    Ok(body) => request.body(body),
                    // Gone since it was looked at: the registry will refuse the empty upload by its digest.
                    Err(_) => request,
                }
            })
            .await
    }

    async fn put_chunks(&self, target: &Target, digest: &Digest, size: u64, options: &PushOptions) -> Result<()> {
        let doing = format!("uploading blob {digest} in pieces");
        let response = self.start_upload(target, "").await?;
        if !response.status().is_success() {
            return Err(self.transport.failed(target, &doing, response).await);
        }
        let mut url = location(target, &response)?;
        let mut file = tokio::fs::File::from_std(self.store.open_blob(digest)?);
        let mut sent = 0;
        while sent < size {
            let count = CHUNK_BYTES.min(size - sent);
            let mut chunk = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
            let failed = |e| Error::io(format!("reading blob {digest}"), e);
            file.seek(std::io::SeekFrom::Start(sent)).await.map_err(failed)?;
            file.read_exact(&mut chunk).await.map_err(failed)?;
            let range = format!("{sent}-{}", sent + count - 1);
            let chunk = bytes::Bytes::from(chunk);
            let response = self
                .transport
                .send_url(target, Method::PATCH, &url, |request| {
                    request
                        .header(CONTENT_RANGE, &range)
                        .header(CONTENT_LENGTH, count)
                        .header(CONTENT_TYPE, "application/octet-stream")
                        .body(chunk.clone())
                })
                .await?;
            if !response.status().is_success() {
                return Err(self.transport.failed(target, &doing, response).await);
            }
            url = location(target, &response)?;
            sent += count;
            if let Some(progress) = &options.progress {
                progress(Progress::Moved { digest: digest.clone(), bytes: count });
            }
        }
        let url = with_digest(&url, digest);
        let response = self.transport.send_url(target, Method::PUT, &url, |r| r.header(CONTENT_LENGTH, 0)).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.transport.failed(target, &doing, response).await) }
    }

    async fn start_upload(&self, target: &Target, query: &str) -> Result<Response> {
        let path = format!("{}/blobs/uploads/{query}", target.repository);
        self.transport.send(target, Method::POST, &path, |request| request.header(CONTENT_LENGTH, 0)).await
    }
}

/// Where an upload goes on: absolute, or relative to the request.
fn location(target: &Target, response: &Response) -> Result<String> {
    let given = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let url = given.and_then(|given| response.url().join(given).ok());
    url.map(String::from).ok_or_else(|| {
        let (registry, repository) = target.shown();
        let (doing, status) = ("starting an upload".to_owned(), response.status().as_u16());
        Error::Registry { registry, repository, doing, status, detail: ": the answer has no Location".to_owned() }
    })
}

fn with_digest(url: &str, digest: &Digest) -> String {
    let join = if url.contains('?') { '&' } else { '?' };
    format!("{url}{join}digest={}", percent(digest.as_str()))
}
