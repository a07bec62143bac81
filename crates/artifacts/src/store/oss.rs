//! Argo's `oss` driver: Alibaba's object store, signed with its header signature (version 1). It must never print a key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use reqwest::blocking::{RequestBuilder, Response};
use sha1::Sha1;
use url::Url;

use super::object::{self, Bucket, ObjectDriver};
use super::spool::Spool;
use super::wire::{Wire, first, http_date, texts};
use super::{Driver, StoreError};
use crate::cancel::Cancel;
use crate::outside::Outside;
use crate::remap::Server;
use crate::secret::Secret;

const OBJECT: &str = "application/octet-stream";

/// Where an object is, and with what it is reached.
#[derive(Clone)]
pub struct OssSource {
    /// A host, or a URL; without a scheme plain HTTP, as Alibaba's own libraries have it.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The access key and the secret key.
    pub keys: Option<(Secret, Secret)>,
    /// A session's token.
    pub token: Option<Secret>,
    /// Make the bucket before saving.
    pub create_bucket: bool,
}

impl OssSource {
    /// The driver for this source. Nothing is asked yet.
    pub fn driver(&self, outside: &Outside) -> Result<Box<dyn Driver>, StoreError> {
        Ok(Box::new(ObjectDriver::new(self.bucket(outside)?, &self.key, self.shown())?))
    }

    /// The keys beneath the source's key, sorted.
    pub fn list(&self, outside: &Outside, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        object::list(&self.bucket(outside)?, &self.key, cancel)
    }

    fn shown(&self) -> String {
        format!("oss://{}/{}", self.bucket, self.key)
    }

    fn bucket(&self, outside: &Outside) -> Result<Oss, StoreError> {
        let shown = self.shown();
        let bad = |reason| StoreError::BadKey { key: self.endpoint.clone(), reason };
        let text = match self.endpoint.contains("://") {
            true => self.endpoint.clone(),
            false => format!("http://{}", self.endpoint),
        };
        let mut url = Url::parse(&text).map_err(|_| bad("an oss endpoint is a host or a URL"))?;
        let Some(keys) = &self.keys else {
            return Err(StoreError::Unsupported(format!(
                "{shown}: no credentials: give accessKeySecret and secretKeySecret (useSDKCreds: nobody else is asked)"
            )));
        };
        // The bucket is in the host's name, where it is a name; who stands in for another has it in the path.
        let host = url.host_str().unwrap_or_default().to_owned();
        let is_mapped = Server::parse(&text, false).is_some_and(|(named, _)| outside.endpoints.apply(&named).is_some());
        let is_hosted = !is_mapped && matches!(url.host(), Some(url::Host::Domain(name)) if name.contains('.'));
        if is_hosted {
            url.set_host(Some(&format!("{}.{host}", self.bucket))).map_err(|_| bad("its bucket is no name"))?;
        }
        let wire = Wire::new(&url, &shown, outside)?;
        Ok(Oss {
            wire,
            bucket: self.bucket.clone(),
            in_path: !is_hosted,
            keys: keys.clone(),
            token: self.token.clone(),
            create_bucket: self.create_bucket,
        })
    }
}

struct Oss {
    wire: Wire,
    bucket: String,
    in_path: bool,
    keys: (Secret, Secret),
    token: Option<Secret>,
    create_bucket: bool,
}

impl Oss {
    fn url(&self, key: &str) -> Url {
        let bucket = self.in_path.then_some(self.bucket.as_str());
        match key {
            "" if bucket.is_some() => self.wire.url(bucket.into_iter().chain([""])),
            "" => self.wire.url([]),
            key => self.wire.url(bucket.into_iter().chain(key.split('/'))),
        }
    }

    fn send(
        &self,
        method: &Method,
        (key, url): (&str, Url),
        body: Option<&Spool>,
        cancel: &Cancel,
    ) -> Result<Response, StoreError> {
        self.wire.send(cancel, &|client| {
            let date = http_date();
            let mut request = client.request(method.clone(), url.clone()).header(reqwest::header::DATE, &date);
            if let Some(body) = body {
                request = request.header(reqwest::header::CONTENT_TYPE, OBJECT).body(body.body()?);
            } else if *method == Method::PUT {
                request = request.header(reqwest::header::CONTENT_LENGTH, 0);
            }
            self.signed(request, method, key, body.is_some(), &date)
        })
    }

    fn signed(
        &self,
        mut request: RequestBuilder,
        method: &Method,
        key: &str,
        has_body: bool,
        date: &str,
    ) -> Result<RequestBuilder, StoreError> {
        let mut headers = String::new();
        if let Some(token) = self.token.as_ref().and_then(Secret::expose_str) {
            headers = format!("x-oss-security-token:{token}\n");
            let mut value = reqwest::header::HeaderValue::from_str(token)
                .map_err(|_| self.wire.strange("a token that no header can have"))?;
            value.set_sensitive(true);
            request = request.header("x-oss-security-token", value);
        }
        let kind = if has_body { OBJECT } else { "" };
        let text = format!("{method}\n\n{kind}\n{date}\n{headers}/{}/{key}", self.bucket);
        let (access, secret) = (&self.keys.0, &self.keys.1);
        let secret = secret.expose_str().unwrap_or_default();
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes())
            .map_err(|_| self.wire.strange("the secret key is of no use"))?;
        mac.update(text.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let access = access.expose_str().unwrap_or_default();
        Ok(request.header(reqwest::header::AUTHORIZATION, format!("OSS {access}:{signature}")))
    }
}

impl Bucket for Oss {
    fn get(&self, key: &str, cancel: &Cancel) -> Result<Response, StoreError> {
        self.send(&Method::GET, (key, self.url(key)), None, cancel)
    }

    fn put(&self, key: &str, body: &Spool, cancel: &Cancel) -> Result<(), StoreError> {
        self.send(&Method::PUT, (key, self.url(key)), Some(body), cancel).map(drop)
    }

    fn delete(&self, key: &str, cancel: &Cancel) -> Result<(), StoreError> {
        self.send(&Method::DELETE, (key, self.url(key)), None, cancel).map(drop)
    }

    fn keys(&self, prefix: &str, enough: usize, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        let (mut keys, mut marker) = (Vec::new(), String::new());
        loop {
            let mut url = self.url("");
            url.query_pairs_mut().append_pair("prefix", prefix).append_pair("max-keys", "1000");
            if !marker.is_empty() {
                url.query_pairs_mut().append_pair("marker", &marker);
            }
            let answer = self.send(&Method::GET, ("", url), None, cancel)?;
            let text = self.wire.text(answer)?;
            keys.extend(texts(&text, "Key"));
            marker = first(&text, "NextMarker").unwrap_or_default();
            if marker.is_empty() || keys.len() >= enough {
                return Ok(keys);
            }
        }
    }

    fn prepare(&self, cancel: &Cancel) -> Result<(), StoreError> {
        if !self.create_bucket {
            return Ok(());
        }
        match self.send(&Method::PUT, ("", self.url("")), None, cancel) {
            Ok(_) => Ok(()),
            Err(StoreError::Refused { code, .. }) if code == "BucketAlreadyExists" => Ok(()),
            Err(error) => Err(error),
        }
    }
}
