//! One request to S3: signed anew for each attempt, and tried again where Argo would. Errors carry S3's own code.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::blocking::Response;
use rusty_s3::{Bucket, Method, S3Action};
use url::Url;

use crate::cancel::Cancel;
use crate::outside::{Client, Hidden, cause};
use crate::store::StoreError;

/// What may go away by itself: the codes that Argo tries again.
const TRANSIENT: [&str; 9] = [
    "RequestError",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "InternalError",
    "SlowDown",
    "ServiceUnavailable",
];
const ATTEMPTS: u32 = 5;
/// A signature must outlive the slowest part.
const SIGNED: Duration = Duration::from_secs(3600);
/// The largest answer that is text.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// A signed request.
pub(super) struct Signed {
    method: &'static str,
    url: Url,
    headers: Vec<(String, String)>,
}

/// Signs an action.
pub(super) fn sign<'a, A: S3Action<'a>>(mut action: A) -> Signed {
    let method = match A::METHOD {
        Method::Head => "HEAD",
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    };
    let headers = action.headers_mut().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Signed { method, url: action.sign(SIGNED), headers }
}

/// Sends requests to one bucket. Clones share the connections.
#[derive(Clone)]
pub(super) struct Requests {
    client: Arc<Client>,
    /// With the region that was found to be right.
    bucket: Arc<Mutex<Bucket>>,
    shown: String,
    hidden: Hidden,
    help: String,
}

impl Requests {
    pub(super) fn new(client: Client, bucket: Bucket, shown: String, hidden: Hidden, help: String) -> Self {
        Self { client: Arc::new(client), bucket: Arc::new(Mutex::new(bucket)), shown, hidden, help }
    }

    pub(super) fn bucket(&self) -> Bucket {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends until there is an answer, or no reason to try again.
    pub(super) fn send(
        &self,
        cancel: &Cancel,
        body: Option<Vec<u8>>,
        make: impl Fn(&Bucket) -> Signed,
    ) -> Result<Response, StoreError> {
        let body = body.map(bytes::Bytes::from);
        let mut attempt = 0;
        let mut moved = false;
        loop {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            let failed = match self.once(&make(&self.bucket()), body.clone()) {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    if !moved && self.change_region(&response) {
                        moved = true;
                        continue;
                    }
                    let status = response.status().as_u16();
                    let text = self.text(response).unwrap_or_default();
                    self.fault(status, &text)
                }
                Err(error) => error,
            };
            attempt += 1;
            if attempt >= ATTEMPTS || !failed.is_retryable() {
                return Err(failed);
            }
            tracing::debug!(location = self.shown, attempt, error = %failed, "asking again");
            pause(Duration::from_millis(100 << attempt), cancel);
        }
    }

    fn once(&self, signed: &Signed, body: Option<bytes::Bytes>) -> Result<Response, StoreError> {
        let fail = |message: String, retry: bool| StoreError::Http {
            method: signed.method,
            url: self.shown.clone(),
            message,
            retry,
        };
        let method = reqwest::Method::from_bytes(signed.method.as_bytes()).map_err(|e| fail(e.to_string(), false))?;
        let mut request = self.client.http.request(method, signed.url.clone());
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().map_err(|error| {
            let text = cause(&error);
            // Refused: the server may be starting. A name that is not there, and silence, were waited for already.
            let retry = !error.is_timeout()
                && !text.contains("resolved")
                && !text.contains("TLS")
                && !text.contains("ertificate");
            fail(format!("{}; {}", self.hidden.hide(&text), self.help), retry)
        })
    }

    /// AWS names the region that a bucket is really in.
    fn change_region(&self, response: &Response) -> bool {
        let told = response.headers().get("x-amz-bucket-region").and_then(|r| r.to_str().ok()).map(str::to_owned);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(region) = told.filter(|region| region != bucket.region()) else { return false };
        let (host, style) = match bucket.base_url().host_str() {
            Some(host) if host.ends_with("amazonaws.com") => {
                (host.to_owned(), host.starts_with(&format!("{}.", bucket.name())))
            }
            _ => return false,
        };
        let style = if style { rusty_s3::UrlStyle::VirtualHost } else { rusty_s3::UrlStyle::Path };
        tracing::debug!(%host, %region, "the bucket is in another region");
        let Ok(url) = Url::parse(&format!("{}://s3.{region}.amazonaws.com", bucket.base_url().scheme())) else {
            return false;
        };
        match Bucket::new(url, style, bucket.name().to_owned(), region) {
            Ok(right) => {
                *bucket = right;
                true
            }
            Err(_) => false,
        }
    }

    /// An answer's text.
    pub(super) fn text(&self, response: Response) -> Result<String, StoreError> {
        use std::io::Read;
        let mut text = Vec::new();
        let read = response.take(TEXT_BYTES_MAX).read_to_end(&mut text);
        read.map_err(|source| StoreError::Io { key: self.shown.clone(), source })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// S3's error document, or the status alone where there is none (HEAD has no body).
    pub(super) fn fault(&self, status: u16, text: &str) -> StoreError {
        let field = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            let (value, _) = rest.split_once(&format!("</{name}>"))?;
            Some(
                value
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&quot;", "\"")
                    .replace("&#39;", "'")
                    .replace("&amp;", "&"),
            )
        };
        let code =
            field("Code").unwrap_or_else(|| if status == 404 { "NotFound".into() } else { format!("HTTP {status}") });
        let advice = match code.as_str() {
            "NoSuchBucket" => "; make the bucket, or set createBucketIfNotPresent: {}",
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => "; check accessKeySecret and secretKeySecret",
            "AccessDenied" => "; the keys are known, their policy does not allow this",
            _ => "",
        };
        let retry = TRANSIENT.contains(&code.as_str()) || matches!(status, 408 | 429 | 500..=504);
        let message = format!("{}{advice}", field("Message").unwrap_or_default());
        StoreError::S3 { url: self.shown.clone(), status, code, message, retry }
    }

    /// An answer that S3 does not give.
    pub(super) fn strange(&self, what: &str) -> StoreError {
        StoreError::Http {
            method: "POST",
            url: self.shown.clone(),
            message: format!("{what} cannot be used: is this an S3 server?"),
            retry: false,
        }
    }
}

/// Waits, and not longer when it is stopped.
fn pause(time: Duration, cancel: &Cancel) {
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until && !cancel.is_cancelled() {
        std::thread::sleep(Duration::from_millis(20));
    }
}
