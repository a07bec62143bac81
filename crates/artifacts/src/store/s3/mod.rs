//! Argo's `s3` driver, for AWS and every server that speaks its API. `rusty-s3` signs, `request` sends and decides what is
//! tried again. It must never print a key of any kind.

mod request;

use std::io::Read;

use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::{Content, Driver, Payload, Saved, StoreError, tree};
use crate::cancel::Cancel;
use crate::outside::{Ambient, Hidden, Outside};
use crate::remap::Server;
use crate::secret::Secret;
use request::Requests;

/// Smallest and usual size of a part; S3 takes 10,000 of them.
const PART_BYTES: usize = 16 << 20;
/// From so many parts on they grow, so that the count is never what ends an upload.
const PARTS_SMALL: usize = 1000;

/// Where an object is, and with what it is reached.
#[derive(Clone, Default)]
pub struct S3Source {
    /// `host[:port]`.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The region; found out where it is empty.
    pub region: String,
    /// Plain HTTP.
    pub insecure: bool,
    /// The access key and the secret key.
    pub keys: Option<(Secret, Secret)>,
    /// A session's token.
    pub session_token: Option<Secret>,
    /// Authorities to trust, PEM.
    pub ca: Option<Secret>,
    /// How the bucket stands in the URL; `None` decides by the host.
    pub style: Option<Style>,
    /// Make the bucket before saving.
    pub create_bucket: Option<CreateBucket>,
    /// Headers that ask for encryption on the server.
    pub encryption: Vec<(&'static str, String)>,
}

/// How the bucket stands in the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `host/bucket/key`
    Path,
    /// `bucket.host/key`
    VirtualHosted,
}

/// How a bucket is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct CreateBucket {
    /// With object locking.
    pub object_locking: bool,
}

/// One key in a bucket.
pub struct S3Driver {
    source: S3Source,
    requests: Requests,
    credentials: Credentials,
    /// `s3://bucket/key`, for messages.
    shown: String,
}

impl S3Driver {
    /// A driver for this source, reached as `outside` says. Nothing is asked yet.
    pub fn new(source: &S3Source, outside: &Outside) -> Result<Self, StoreError> {
        let shown = format!("s3://{}/{}", source.bucket, source.key);
        check_key(&source.key).map_err(|reason| StoreError::BadKey { key: shown, reason })?;
        Self::at(source, outside)
    }

    /// The keys of everything beneath the source's key, sorted; in the whole bucket where it is empty.
    pub fn list(source: &S3Source, outside: &Outside, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        let prefix = match source.key.trim_matches('/') {
            "" => String::new(),
            _ => {
                let shown = || format!("s3://{}/{}", source.bucket, source.key);
                check_key(&source.key).map_err(|reason| StoreError::BadKey { key: shown(), reason })?;
                format!("{}/", source.key.trim_end_matches('/'))
            }
        };
        let mut keys = Self::at(source, outside)?.keys_beneath(&prefix, usize::MAX, cancel)?;
        keys.sort();
        Ok(keys)
    }

    fn at(source: &S3Source, outside: &Outside) -> Result<Self, StoreError> {
        let shown = format!("s3://{}/{}", source.bucket, source.key);
        let refuse = |reason| StoreError::BadKey { key: shown.clone(), reason };
        let credentials = credentials(source, &outside.ambient)?;
        let (named, _) = Server::parse(&source.endpoint, !source.insecure).ok_or(StoreError::BadKey {
            key: source.endpoint.clone(),
            reason: "an S3 endpoint is HOST or HOST:PORT",
        })?;
        let mapped = outside.map(&named);
        let region = if source.region.is_empty() { "us-east-1" } else { &source.region };
        let server = mapped.clone().unwrap_or_else(|| regional(&named, region));
        let style = match source.style.unwrap_or_else(|| style(&server, &source.bucket)) {
            Style::Path => UrlStyle::Path,
            Style::VirtualHosted => UrlStyle::VirtualHost,
        };
        let url = url::Url::parse(&server.to_string()).map_err(|_| refuse("its endpoint is not a host"))?;
        let bucket = Bucket::new(url, style, source.bucket.clone(), region.to_owned())
            .map_err(|_| refuse("its bucket cannot stand in a host name; set addressingStyle: path"))?;
        let help = Outside::help(&named, mapped.as_ref());
        let hidden = Hidden::of(&named, mapped);
        let client = outside.client(&server, source.ca.as_ref());
        let client = client.map_err(|message| StoreError::Http {
            method: "GET",
            url: format!("{shown} at {named}"),
            message: format!("{}; {help}", hidden.hide(&message)),
            retry: false,
        })?;
        let requests = Requests::new(client, bucket, format!("{shown} at {named}"), hidden, help);
        Ok(Self { source: source.clone(), requests, credentials, shown })
    }

    fn keys(&self) -> Option<&Credentials> {
        Some(&self.credentials)
    }

    /// Stores one object from a stream: in one piece where it is small, else in parts.
    fn put(&self, key: &str, reader: &mut dyn Read, cancel: &Cancel) -> Result<u64, StoreError> {
        let first = self.part(key, reader, PART_BYTES, cancel)?;
        if first.len() < PART_BYTES {
            let bytes = first.len() as u64;
            self.requests.send(cancel, Some(first), |bucket| {
                let mut action = bucket.put_object(self.keys(), key);
                self.encrypt(&mut action);
                request::sign(action)
            })?;
            return Ok(bytes);
        }
        let answer = self.requests.send(cancel, Some(Vec::new()), |bucket| {
            let mut action = bucket.create_multipart_upload(self.keys(), key);
            self.encrypt(&mut action);
            request::sign(action)
        })?;
        let text = self.requests.text(answer)?;
        let created = CreateMultipartUpload::parse_response(&text)
            .map_err(|_| self.requests.strange("the answer to the begin of an upload"))?;
        let upload = created.upload_id();
        let done = self.parts(key, upload, first, reader, cancel);
        if done.is_err() {
            // Parts that are kept cost money; where even this fails, the bucket's own rules clean up.
            let quiet = Cancel::new();
            let _ = self
                .requests
                .send(&quiet, None, |bucket| request::sign(bucket.abort_multipart_upload(self.keys(), key, upload)));
        }
        done
    }

    fn parts(
        &self,
        key: &str,
        upload: &str,
        first: Vec<u8>,
        reader: &mut dyn Read,
        cancel: &Cancel,
    ) -> Result<u64, StoreError> {
        let (mut tags, mut bytes, mut part) = (Vec::new(), 0, first);
        while !part.is_empty() {
            bytes += part.len() as u64;
            let number = u16::try_from(tags.len() + 1).map_err(|_| self.requests.strange("an object this large"))?;
            let answer = self.requests.send(cancel, Some(part), |bucket| {
                request::sign(bucket.upload_part(self.keys(), key, number, upload))
            })?;
            let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
            tags.push(tag.ok_or_else(|| self.requests.strange("a part's answer without ETag"))?);
            part = self.part(key, reader, PART_BYTES * (1 + tags.len() / PARTS_SMALL), cancel)?;
        }
        let names = || tags.iter().map(String::as_str);
        let bucket = self.requests.bucket();
        let body = bucket.complete_multipart_upload(self.keys(), key, upload, names()).body();
        let answer = self.requests.send(cancel, Some(body.into_bytes()), |bucket| {
            request::sign(bucket.complete_multipart_upload(self.keys(), key, upload, names()))
        })?;
        // The one answer of S3 that can be an error with status 200.
        let text = self.requests.text(answer)?;
        if text.contains("<Error>") {
            return Err(self.requests.fault(200, &text));
        }
        Ok(bytes)
    }

    /// So many bytes, or fewer at the end.
    fn part(&self, key: &str, reader: &mut dyn Read, size: usize, cancel: &Cancel) -> Result<Vec<u8>, StoreError> {
        let mut part = Vec::new();
        let mut buffer = vec![0; 128 << 10];
        while part.len() < size {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            let room = buffer.len().min(size - part.len());
            match reader.read(&mut buffer[..room]) {
                Ok(0) => break,
                Ok(got) => part.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::Io { key: key.to_owned(), source }),
            }
        }
        Ok(part)
    }

    fn encrypt<'a, A: S3Action<'a>>(&'a self, action: &mut A) {
        for (name, value) in &self.source.encryption {
            action.headers_mut().insert(*name, value.as_str());
        }
    }

    fn make_bucket(&self, options: CreateBucket, cancel: &Cancel) -> Result<(), StoreError> {
        let body = self.requests.bucket().create_bucket(&self.credentials).body();
        let made = self.requests.send(cancel, Some(body.into_bytes()), |bucket| {
            let mut action = bucket.create_bucket(&self.credentials);
            if options.object_locking {
                action.headers_mut().insert("x-amz-bucket-object-lock-enabled", "true");
            }
            request::sign(action)
        });
        match made {
            Ok(_) => Ok(()),
            Err(StoreError::S3 { code, .. })
                if matches!(code.as_str(), "BucketAlreadyOwnedByYou" | "BucketAlreadyExists") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The keys beneath a prefix that ends with a slash; at most `max`.
    fn keys_beneath(&self, prefix: &str, max: usize, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let answer = self.requests.send(cancel, None, |bucket| {
                let mut action = bucket.list_objects_v2(self.keys());
                action.with_prefix(prefix);
                action.with_max_keys(max.clamp(1, 1000));
                if let Some(token) = &token {
                    action.with_continuation_token(token.clone());
                }
                request::sign(action)
            })?;
            let text = self.requests.text(answer)?;
            let listed =
                ListObjectsV2::parse_response(&text).map_err(|_| self.requests.strange("the answer to a listing"))?;
            keys.extend(listed.contents.into_iter().map(|object| object.key));
            token = listed.next_continuation_token;
            if token.is_none() || keys.len() >= max {
                return Ok(keys);
            }
        }
    }

    fn prefix(&self) -> String {
        format!("{}/", self.source.key.trim_end_matches('/'))
    }
}

impl Driver for S3Driver {
    fn load(&self, cancel: &Cancel) -> Result<Content, StoreError> {
        let key = self.source.key.as_str();
        if !key.ends_with('/') {
            match self.requests.send(cancel, None, |bucket| request::sign(bucket.get_object(self.keys(), key))) {
                Ok(answer) => return Ok(Content::File(Box::new(answer))),
                Err(StoreError::S3 { code, .. }) if code == "NoSuchKey" => {}
                Err(error) => return Err(error),
            }
        }
        let keys = self.keys_beneath(&self.prefix(), usize::MAX, cancel)?;
        if keys.is_empty() {
            return Err(StoreError::NotFound(self.shown.clone()));
        }
        // Opened again: the tree is read on a thread of its own.
        let (requests, credentials, cancel) = (self.requests.clone(), self.credentials.clone(), cancel.clone());
        let get = move |key: &str| {
            requests.send(&cancel, None, |bucket| request::sign(bucket.get_object(Some(&credentials), key)))
        };
        let reader = tree::load(self.prefix(), keys, get)
            .map_err(|source| StoreError::Io { key: self.shown.clone(), source })?;
        Ok(Content::Tree(Box::new(reader)))
    }

    fn save(&self, payload: Payload<'_>, cancel: &Cancel) -> Result<Saved, StoreError> {
        if let Some(options) = self.source.create_bucket {
            self.make_bucket(options, cancel)?;
        }
        let bytes = match payload {
            Payload::File(reader) => self.put(&self.source.key, reader, cancel)?,
            Payload::Tree(tar) => {
                tree::save(tar, &self.prefix(), &self.shown, &mut |key, reader| self.put(key, reader, cancel))?
            }
        };
        Ok(Saved { bytes, digest: None })
    }

    fn delete(&self, cancel: &Cancel) -> Result<(), StoreError> {
        let mut keys = self.keys_beneath(&self.prefix(), usize::MAX, cancel)?;
        if !self.source.key.ends_with('/') {
            keys.push(self.source.key.clone());
        }
        for key in keys {
            self.requests.send(cancel, None, |bucket| request::sign(bucket.delete_object(self.keys(), &key)))?;
        }
        Ok(())
    }

    fn exists(&self, cancel: &Cancel) -> Result<bool, StoreError> {
        let key = self.source.key.as_str();
        match self.requests.send(cancel, None, |bucket| request::sign(bucket.head_object(self.keys(), key))) {
            Ok(_) => Ok(true),
            Err(StoreError::S3 { status: 404, .. }) => Ok(!self.keys_beneath(&self.prefix(), 1, cancel)?.is_empty()),
            Err(error) => Err(error),
        }
    }
}

fn credentials(source: &S3Source, ambient: &Ambient) -> Result<Credentials, StoreError> {
    let text = |secret: &Secret, what: &'static str| match secret.expose_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(StoreError::BadKey { key: what.to_owned(), reason: "it is empty, or not text" }),
    };
    let (access, secret, token) = match (&source.keys, ambient) {
        (Some((access, secret)), _) => (access, secret, source.session_token.as_ref()),
        (None, Ambient::Keys { access, secret, token }) => (access, secret, token.as_ref()),
        (None, Ambient::Unsupported(what)) => {
            return Err(StoreError::Unsupported(format!(
                "s3://{}: {what} is not asked for credentials; give accessKeySecret and secretKeySecret",
                source.bucket
            )));
        }
        (None, Ambient::None) => {
            return Err(StoreError::Unsupported(format!(
                "s3://{}: no credentials: give accessKeySecret and secretKeySecret, or start windlass with \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (instance metadata is not asked)",
                source.bucket
            )));
        }
    };
    let (access, secret) = (text(access, "the S3 access key")?, text(secret, "the S3 secret key")?);
    Ok(match token {
        Some(token) => Credentials::new_with_token(access, secret, text(token, "the S3 session token")?),
        None => Credentials::new(access, secret),
    })
}

/// Keys that a URL cannot say: `rusty-s3` would ask for another object.
pub(super) fn check_key(key: &str) -> Result<(), &'static str> {
    if key.trim_matches('/').is_empty() {
        return Err("empty");
    }
    if key.contains("{{") {
        return Err("a tag in it was not resolved");
    }
    if key.len() > 1024 {
        return Err("longer than 1024 bytes");
    }
    if key.split('/').any(|part| matches!(part, "." | "..")) || key.chars().any(char::is_control) {
        return Err("`.`, `..` and control characters are not key parts");
    }
    Ok(())
}

/// AWS answers for other regions at another name.
fn regional(named: &Server, region: &str) -> Server {
    match named.host.as_str() {
        "s3.amazonaws.com" if region != "us-east-1" => {
            Server { host: format!("s3.{region}.amazonaws.com"), ..named.clone() }
        }
        _ => named.clone(),
    }
}

/// Argo's rule: names of AWS, Google and Alibaba hold the bucket, where TLS and the bucket's name allow; all others do not.
fn style(server: &Server, bucket: &str) -> Style {
    let host = server.host.as_str();
    let hosted = ["amazonaws.com", "amazonaws.com.cn", "storage.googleapis.com", "aliyuncs.com"];
    let known = hosted.iter().any(|name| host == *name || host.ends_with(&format!(".{name}")));
    let plain = bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if known && plain { Style::VirtualHosted } else { Style::Path }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn where_the_bucket_stands() {
        let of = |host: &str, bucket: &str| style(&Server::parse(host, true).unwrap().0, bucket);
        assert_eq!(of("s3.amazonaws.com", "b"), Style::VirtualHosted);
        assert_eq!(of("s3.eu-west-1.amazonaws.com", "with.dots"), Style::Path);
        assert_eq!(of("minio:9000", "b"), Style::Path);
        assert_eq!(of("notamazonaws.com", "b"), Style::Path);
        let aws = Server::parse("s3.amazonaws.com", true).unwrap().0;
        assert_eq!(regional(&aws, "eu-west-1").host, "s3.eu-west-1.amazonaws.com");
        assert_eq!(regional(&aws, "us-east-1").host, "s3.amazonaws.com");
    }

    #[test]
    fn refusals_name_the_way_out() {
        let fail = |source: S3Source, ambient: Ambient| {
            let outside = Outside { ambient, ..Outside::default() };
            S3Driver::new(&source, &outside).err().unwrap().to_string()
        };
        let source =
            || S3Source { endpoint: "minio:9000".into(), bucket: "b".into(), key: "k".into(), ..S3Source::default() };
        assert!(fail(source(), Ambient::None).contains("AWS_ACCESS_KEY_ID"));
        assert!(fail(source(), Ambient::Unsupported("a role")).contains("a role is not asked"));
        let keys = || Ambient::Keys { access: "a".into(), secret: "s".into(), token: None };
        assert!(fail(S3Source { key: "a/../../b".into(), ..source() }, keys()).contains("refused"));
        assert!(fail(S3Source { endpoint: "http://x/y".into(), ..source() }, keys()).contains("HOST:PORT"));
        assert!(S3Driver::new(&source(), &Outside { ambient: keys(), ..Outside::default() }).is_ok());
    }
}
