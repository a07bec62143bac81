//! Pulling: manifest, then blobs several at a time, each checked while it is written, resumed where it broke off. The
//! name is set last, so that a name always leads to a whole image.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::target::Target;
use super::{Client, OnProgress, Progress, blocking};
use crate::store::{Pointer, choose};
use crate::{Digest, Error, Image, Layer, Platform, Reference, Result, media};

/// How to pull.
#[derive(Clone)]
pub struct PullOptions {
    /// The platform; this machine's by default.
    pub platform: Platform,
    /// Ask the registry even when the image is here (pull policy `Always`). Images made on this machine are still
    /// answered from the store.
    pub always: bool,
    /// Bring the layers; without, only manifest and configuration come (see [`Client::fetch_layers`]).
    pub layers: bool,
    /// Unpack each layer as soon as it is there.
    pub unpack: bool,
    /// How many blobs at a time.
    pub parallel: usize,
    /// Told what happens.
    pub progress: Option<OnProgress>,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { platform: Platform::host(), always: false, layers: true, unpack: true, parallel: 4, progress: None }
    }
}

/// A manifest as the registry has it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes, exactly.
    pub bytes: Bytes,
}

impl Client {
    /// Brings an image into the store, under the name given. Names of the built-in registry, and images made on this
    /// machine, are answered from the store without asking any network.
    pub async fn pull(&self, reference: &Reference, options: &PullOptions) -> Result<Image> {
        if let Some(image) = self.local(reference, options).await? {
            return Ok(image);
        }
        let place = self.transport.place(reference);
        if place.is_local() {
            return self.answer_locally(&place, options).await;
        }
        let known = {
            let (store, reference) = (self.store.clone(), reference.clone());
            blocking(move || store.resolve(&reference)).await?
        };
        // Asking for the digest alone is cheaper, and does not count against pull limits.
        if let Some(pointer) = known
            && let Some(image) = self.here(reference, &options.platform).await?
            && self.head(reference).await?.is_some_and(|now| now.digest == pointer.digest)
        {
            return self.unpacked(image, options).await;
        }
        let top = self.manifest(reference).await?;
        let document: Value = parse(&top)?;
        let inner = if media::is_index(&top.media_type) {
            let chosen = choose(&document, &options.platform, &reference.to_string())?;
            Some(self.manifest(&reference.with_digest(chosen)).await?)
        } else {
            None
        };
        let image = inner.as_ref().unwrap_or(&top);
        let manifest: Value = parse(image)?;
        let about = describe(&manifest, "config")
            .ok_or_else(|| Error::malformed(format!("manifest {}", image.digest), "it has no configuration"))?;
        let target = Target::new(reference, &place, "pull");
        self.fetch_blob(&target, &about.0, about.1, None, None).await?;
        let (store, members) = (self.store.clone(), [Some(top.clone()), inner.clone()]);
        let (digest, platform) = (image.digest.clone(), options.platform.clone());
        let image = blocking(move || {
            for member in members.iter().flatten() {
                store.put_blob(&member.bytes)?;
            }
            store.image(&digest, &platform)
        })
        .await?;
        if options.layers {
            self.layers(reference, &place, &image, options).await?;
            let pointer = Pointer {
                digest: top.digest,
                media_type: top.media_type,
                size: top.bytes.len() as u64,
                made_here: false,
            };
            let (store, name) = (self.store.clone(), reference.clone());
            blocking(move || store.point(&name, &pointer)).await?;
            return self.unpacked(image, options).await;
        }
        Ok(image)
    }

    /// Brings the layers of an image whose manifest was pulled without them.
    pub async fn fetch_layers(&self, reference: &Reference, image: &Image, options: &PullOptions) -> Result<()> {
        let place = self.transport.place(reference);
        if !place.is_local() {
            self.layers(reference, &place, image, options).await?;
        }
        self.unpacked(image.clone(), options).await.map(drop)
    }

    /// Asks what a name points to in the registry; `None` when it does not exist there.
    pub async fn head(&self, reference: &Reference) -> Result<Option<Pointer>> {
        let place = self.transport.place(reference);
        if place.is_local() {
            let store = self.store.clone();
            return blocking(move || store.resolve(&place)).await;
        }
        let target = Target::new(reference, &place, "pull");
        let path = format!("{}/manifests/{}", place.repository(), place.version());
        let response = self.transport.send(&target, Method::HEAD, &path, |r| r.header(ACCEPT, media::ACCEPT)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(self.transport.failed(&target, "asking for the manifest", response).await);
        }
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let digest = header("docker-content-digest").and_then(|text| text.parse().ok());
        let size = header("content-length").and_then(|text| text.parse().ok());
        if let (Some(digest), Some(size), Some(media_type)) = (digest, size, header("content-type")) {
            return Ok(Some(Pointer { digest, media_type, size, made_here: false }));
        }
        let fetched = self.manifest(reference).await?;
        Ok(Some(Pointer {
            size: fetched.bytes.len() as u64,
            digest: fetched.digest,
            media_type: fetched.media_type,
            made_here: false,
        }))
    }

    /// Fetches a manifest or index without storing anything.
    pub async fn manifest(&self, reference: &Reference) -> Result<Fetched> {
        let place = self.transport.place(reference);
        if place.is_local() {
            let store = self.store.clone();
            return blocking(move || {
                let pointer = store.resolve(&place)?.ok_or_else(|| absent(&place))?;
                let bytes = store.read_blob(&pointer.digest)?.into();
                Ok(Fetched { digest: pointer.digest, media_type: pointer.media_type, bytes })
            })
            .await;
        }
        let target = Target::new(reference, &place, "pull");
        let path = format!("{}/manifests/{}", place.repository(), place.version());
        let response = self.transport.send(&target, Method::GET, &path, |r| r.header(ACCEPT, media::ACCEPT)).await?;
        if !response.status().is_success() {
            return Err(self.transport.failed(&target, "getting the manifest", response).await);
        }
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let stated = reference.digest().cloned().or_else(|| header("docker-content-digest")?.parse().ok());
        let said_type = header("content-type");
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = self.transport.next(&target, &mut stream).await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() as u64 > crate::store::DOCUMENT_BYTES_MAX {
                return Err(Error::TooLarge { limit: "8 MiB for a manifest".to_owned() });
            }
        }
        let digest = Digest::of(&bytes);
        if let Some(expected) = stated
            && expected != digest
        {
            return Err(Error::DigestMismatch { what: format!("manifest of {reference}"), expected, actual: digest });
        }
        let document: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed(format!("manifest of {reference}"), e))?;
        if document.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
            return Err(Error::Unsupported {
                what: format!("image {reference} (Docker manifest schema 1)"),
                detail: "push it again with a tool from after 2017".to_owned(),
            });
        }
        let media_type = media::of_manifest(&document).map(str::to_owned).or(said_type).unwrap_or_default();
        Ok(Fetched { digest, media_type, bytes: bytes.into() })
    }

    /// The tags of a repository.
    pub async fn tags(&self, repository: &Reference) -> Result<Vec<String>> {
        let place = self.transport.place(repository);
        if place.is_local() {
            let store = self.store.clone();
            return blocking(move || store.tags(&place)?.ok_or_else(|| absent(&place))).await;
        }
        let target = Target::new(repository, &place, "pull");
        let mut tags = Vec::new();
        let mut path = format!("{}/tags/list?n=1000", place.repository());
        loop {
            let response = self.transport.send(&target, Method::GET, &path, |r| r).await?;
            if !response.status().is_success() {
                return Err(self.transport.failed(&target, "listing tags", response).await);
            }
            let next = response.headers().get("link").and_then(|v| v.to_str().ok()).and_then(next_page);
            let mut page = Vec::new();
            let mut stream = response.bytes_stream();
            while let Some(part) = self.transport.next(&target, &mut stream).await {
                page.extend_from_slice(&part?);
            }
            let page: Value = serde_json::from_slice(&page)
                .map_err(|e| Error::malformed(format!("the list of tags from {}", repository.registry()), e))?;
            let list = page.get("tags").and_then(Value::as_array);
            tags.extend(list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            match next {
                Some(next) if next != path => path = next,
                _ => return Ok(tags),
            }
        }
    }

    /// What the store answers without a network, or says that it must.
    async fn local(&self, reference: &Reference, options: &PullOptions) -> Result<Option<Image>> {
        if reference.is_local() {
            return self.answer_locally(reference, options).await.map(Some);
        }
        let (store, name) = (self.store.clone(), reference.clone());
        let pointer = blocking(move || store.resolve(&name)).await?;
        if !pointer.is_some_and(|pointer| pointer.made_here || !options.always || reference.digest().is_some()) {
            return Ok(None);
        }
        match self.here(reference, &options.platform).await? {
            Some(image) => self.unpacked(image, options).await.map(Some),
            None => Ok(None),
        }
    }

    async fn here(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>> {
        let (store, name, platform) = (self.store.clone(), reference.clone(), platform.clone());
        blocking(move || match store.get_for(&name, &platform) {
            // The index is here, but was pulled for another platform.
            Err(Error::Platform { .. }) => Ok(None),
            other => other,
        })
        .await
    }

    async fn answer_locally(&self, reference: &Reference, options: &PullOptions) -> Result<Image> {
        match self.here(reference, &options.platform).await? {
            Some(image) => self.unpacked(image, options).await,
            None => Err(absent(reference)),
        }
    }

    async fn unpacked(&self, image: Image, options: &PullOptions) -> Result<Image> {
        if !options.unpack || !options.layers {
            return Ok(image);
        }
        let store = self.store.clone();
        blocking(move || store.rootfs(&image).map(|_| image)).await
    }

    async fn layers(
        &self,
        reference: &Reference,
        place: &Reference,
        image: &Image,
        options: &PullOptions,
    ) -> Result<()> {
        let target = &Target::new(reference, place, "pull");
        let work = image.layers().to_vec().into_iter().map(|layer| async move {
            let store = self.store.clone();
            if store.is_unpacked(&layer.diff_id) && !store.has_blob(&layer.digest) {
                return Ok(());
            }
            let unpack = options.unpack && !store.is_unpacked(&layer.diff_id);
            if !unpack || store.has_blob(&layer.digest) {
                self.fetch_blob(target, &layer.digest, layer.size, options.progress.as_ref(), None).await?;
            } else if self.fetch_unpacking(target, &layer, options).await? {
                return Ok(());
            }
            if options.unpack {
                blocking(move || store.unpack_layer(&layer)).await?;
            }
            Ok::<(), Error>(())
        });
        futures::stream::iter(work).buffer_unordered(options.parallel.max(1)).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    /// Brings a layer and unpacks it while it comes; false where somebody else is unpacking it. Nothing of it shows
    /// before its digests were right.
    async fn fetch_unpacking(&self, target: &Target, layer: &Layer, options: &PullOptions) -> Result<bool> {
        let pipe = || {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            // A small pipe only costs some more wakeups.
            let _ = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
            Ok::<_, rustix::io::Errno>((std::fs::File::from(read), std::fs::File::from(write)))
        };
        let (read, write) = pipe().map_err(|e| Error::io("making a pipe", e))?;
        let (store, wanted) = (self.store.clone(), layer.clone());
        let unpacking = tokio::task::spawn_blocking(move || store.unpack_stream(&wanted, read));
        let fetched = self.fetch_blob(target, &layer.digest, layer.size, options.progress.as_ref(), Some(write)).await;
        // The pipe has ended with the fetch, so this does too.
        let unpacked = unpacking.await.map_err(|e| Error::io("unpacking a layer", std::io::Error::other(e)))?;
        fetched?;
        unpacked
    }

    /// Brings one blob, going on where the connection broke off. `beside` gets the same bytes for as long as it takes
    /// them.
    async fn fetch_blob(
        &self,
        target: &Target,
        digest: &Digest,
        size: u64,
        progress: Option<&OnProgress>,
        mut beside: Option<std::fs::File>,
    ) -> Result<()> {
        let tell = |what: Progress| progress.iter().for_each(|progress| progress(what.clone()));
        let present = self.store.has_blob(digest);
        tell(Progress::Started { digest: digest.clone(), size, present });
        if present {
            tell(Progress::Done { digest: digest.clone() });
            return Ok(());
        }
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(16);
        let (store, expected) = (self.store.clone(), digest.clone());
        let writer = tokio::task::spawn_blocking(move || {
            let mut blob = store.blob_writer()?;
            while let Some(bytes) = receiver.blocking_recv() {
                std::io::Write::write_all(&mut blob, &bytes)
                    .map_err(|e| Error::io(format!("writing blob {expected}"), e))?;
                // Whoever closed the other end says why.
                beside = beside.filter(|mut beside| std::io::Write::write_all(&mut beside, &bytes).is_ok());
            }
            drop(beside);
            // A sender that gave up leaves less; the digest refuses that too.
            blob.finish(Some(&expected)).map(drop)
        });
        let moved = |bytes| tell(Progress::Moved { digest: digest.clone(), bytes });
        let received = self.receive(target, digest, size, &sender, &moved).await;
        drop(sender);
        let written = writer.await.map_err(|e| Error::io("writing a blob", std::io::Error::other(e)))?;
        match (received, written) {
            // The network failed; that the blob is then incomplete says nothing new.
            (Err(error), Ok(()) | Err(Error::DigestMismatch { .. })) => return Err(error),
            (_, Err(error)) => return Err(error),
            (Ok(()), Ok(())) => {}
        }
        tell(Progress::Done { digest: digest.clone() });
        Ok(())
    }

    async fn receive(
        &self,
        target: &Target,
        digest: &Digest,
        size: u64,
        sender: &tokio::sync::mpsc::Sender<Bytes>,
        moved: &(impl Fn(u64) + Sync),
    ) -> Result<()> {
        let path = format!("{}/blobs/{digest}", target.repository);
        let mut have = 0_u64;
        let mut broken = 0;
        'again: loop {
            let range = format!("bytes={have}-");
            let response = self
                .transport
                .send(target, Method::GET, &path, |r| if have > 0 { r.header(RANGE, &range) } else { r })
                .await?;
            let mut skip = match response.status() {
                StatusCode::OK => have,
                StatusCode::PARTIAL_CONTENT => 0,
                _ => return Err(self.transport.failed(target, &format!("getting blob {digest}"), response).await),
            };
            let mut stream = response.bytes_stream();
            loop {
                let mut chunk = match self.transport.next(target, &mut stream).await {
                    Some(Ok(chunk)) => chunk,
                    // An error after the last byte changes nothing.
                    _ if have >= size => return Ok(()),
                    ended => {
                        broken += 1;
                        if broken > self.transport.options.retries {
                            return Err(match ended {
                                Some(Err(error)) => error,
                                _ => Error::Unreachable {
                                    registry: target.shown().0,
                                    detail: format!("blob {digest} ended after {have} of {size} bytes"),
                                    help: "try again".to_owned(),
                                },
                            });
                        }
                        tracing::debug!(%digest, have, size, "a download broke off; going on");
                        self.transport.pause(target, broken, None).await;
                        continue 'again;
                    }
                };
                if skip > 0 {
                    let cut = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                    chunk = chunk.slice(cut..);
                    skip -= cut as u64;
                }
                have += chunk.len() as u64;
                if have > size {
                    return Err(Error::malformed(
                        format!("blob {digest} from {}", target.shown().0),
                        format!("it is longer than the {size} bytes that the manifest says"),
                    ));
                }
                moved(chunk.len() as u64);
                if sender.send(chunk).await.is_err() {
                    // The writer failed and knows why.
                    return Ok(());
                }
            }
        }
    }
}

fn absent(reference: &Reference) -> Error {
    let help = if reference.is_local() {
        format!(": push it to the built-in registry, or build it with destination {}", reference.name())
    } else {
        String::new()
    };
    Error::NotFound { reference: reference.to_string(), help }
}

fn parse(fetched: &Fetched) -> Result<Value> {
    serde_json::from_slice(&fetched.bytes).map_err(|e| Error::malformed(format!("manifest {}", fetched.digest), e))
}

fn describe(manifest: &Value, key: &str) -> Option<(Digest, u64)> {
    let part = manifest.get(key)?;
    Some((part.get("digest")?.as_str()?.parse().ok()?, part.get("size")?.as_u64()?))
}

/// The path below `/v2/` of `Link: </v2/app/tags/list?last=x>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (url, rest) = link.strip_prefix('<')?.split_once('>')?;
    let path = url.split_once("/v2/").map(|(_, path)| path)?;
    rest.contains("next").then(|| path.to_owned())
}
