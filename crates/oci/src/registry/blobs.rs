//! Blobs of the registry. They belong to the store as a whole: whoever knows a digest may read it through any
//! repository that it may read.

use std::io::SeekFrom;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::fault::Fault;
use super::{Served, blocking};
use crate::{Digest, Error};

pub(super) async fn get(served: &Served, digest: &str, wanted_range: Option<&str>) -> Result<Response, Fault> {
    let digest: Digest = digest.parse()?;
    let (store, wanted) = (served.store.clone(), digest.clone());
    let (file, size) = blocking(move || {
        let file = store.open_blob(&wanted)?;
        let size = file.metadata().map_err(|e| Error::io(format!("reading blob {wanted}"), e))?.len();
        Ok((file, size))
    })
    .await?;
    let builder = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header("docker-content-digest", digest.as_str())
        .header(ACCEPT_RANGES, "bytes");
    let range = wanted_range.and_then(|text| range(text, size));
    let mut file = tokio::fs::File::from_std(file);
    let response = match range {
        Some(Err(())) => builder
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .header(CONTENT_RANGE, format!("bytes */{size}"))
            .body(Body::empty()),
        Some(Ok((from, to))) => {
            file.seek(SeekFrom::Start(from)).await.map_err(|e| Error::io(format!("reading blob {digest}"), e))?;
            let count = to - from + 1;
            let stream = ReaderStream::with_capacity(file.take(count), 1 << 17);
            builder
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_LENGTH, count)
                .header(CONTENT_RANGE, format!("bytes {from}-{to}/{size}"))
                .body(Body::from_stream(stream))
        }
        None => {
            let stream = ReaderStream::with_capacity(file, 1 << 17);
            builder.header(CONTENT_LENGTH, size).body(Body::from_stream(stream))
        }
    };
    response.map_err(|e| Error::malformed("response", e).into())
}

/// `bytes=a-b`, one range; others are ignored, as the specification allows.
fn range(text: &str, size: u64) -> Option<Result<(u64, u64), ()>> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let last = size.checked_sub(1);
    Some(match (from.parse::<u64>(), to.parse::<u64>(), last) {
        (_, _, None) => Err(()),
        (Ok(from), _, Some(last)) if from > last => Err(()),
        (Ok(from), Ok(to), Some(last)) if to >= from => Ok((from, to.min(last))),
        (Ok(from), Err(_), Some(last)) if to.is_empty() => Ok((from, last)),
        (Err(_), Ok(count), Some(last)) if from.is_empty() && count > 0 => Ok((size.saturating_sub(count), last)),
        _ => return None,
    })
}

pub(super) async fn delete(served: &Served, digest: &str) -> Result<Response, Fault> {
    let digest: Digest = digest.parse()?;
    let store = served.store.clone();
    blocking(move || {
        if !store.has_blob(&digest) {
            return Err(Error::BlobMissing { digest }.into());
        }
        if store.is_referenced(&digest)? {
            let message = "an image of this store needs the blob: delete its manifest first";
            return Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message));
        }
        store.remove_blob(&digest)?;
        let response = Response::builder().status(StatusCode::ACCEPTED).body(Body::empty());
        response.map_err(|e| Error::malformed("response", e).into())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges() {
        assert_eq!(range("bytes=0-9", 100), Some(Ok((0, 9))));
        assert_eq!(range("bytes=90-", 100), Some(Ok((90, 99))));
        assert_eq!(range("bytes=-10", 100), Some(Ok((90, 99))));
        assert_eq!(range("bytes=90-500", 100), Some(Ok((90, 99))));
        assert_eq!(range("bytes=100-", 100), Some(Err(())));
        assert_eq!(range("bytes=5-2", 100), None);
        assert_eq!(range("lines=5-2", 100), None);
    }
}
