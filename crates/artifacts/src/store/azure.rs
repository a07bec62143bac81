//! Argo's `azure` driver: Azure's blob service, signed with the account's key or by a SAS token. It must never print
//! either; identities of machines and pods are not asked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::blocking::{Body, RequestBuilder, Response};
use sha2::Sha256;
use url::Url;

use super::object::{self, Bucket, ObjectDriver};
use super::spool::Spool;
use super::wire::{Wire, first, http_date, texts};
use super::{Driver, StoreError};
use crate::cancel::Cancel;
use crate::outside::Outside;
use crate::secret::Secret;

const VERSION: &str = "2021-08-06";
const BLOB: &str = "application/octet-stream";
/// What goes in one piece, and the size of the pieces of what does not; there may be 50,000.
const WHOLE_BYTES_MAX: u64 = 32 << 20;
const BLOCK_BYTES_MIN: u64 = 32 << 20;
const BLOCKS_MAX: u64 = 50_000;

/// Where a blob is, and with what it is reached.
#[derive(Clone)]
pub struct AzureSource {
    /// The account's address: `https://ACCOUNT.blob.core.windows.net`.
    pub endpoint: String,
    /// The container.
    pub container: String,
    /// The blob.
    pub blob: String,
    /// The account's key, or a SAS token.
    pub key: Option<Secret>,
}

/// How requests are let in.
#[derive(Clone)]
pub enum AzureKey {
    /// The account's name, and its key.
    Shared(String, Secret),
    /// The query of a shared access signature.
    Signature(Secret),
}

impl AzureKey {
    /// As Argo tells them apart: a token is a query.
    fn read(secret: &Secret, endpoint: &Url, shown: &str) -> Result<Self, StoreError> {
        let wrong = |what: &str| StoreError::Unsupported(format!("{shown}: {what}"));
        let text = secret.expose_str().ok_or_else(|| wrong("accountKeySecret is no text"))?.trim();
        if text.contains('&') || text.starts_with('?') {
            return Ok(Self::Signature(Secret::from(text.trim_start_matches('?'))));
        }
        let host = endpoint.host_str().unwrap_or_default();
        let of_path = || endpoint.path_segments().and_then(|mut parts| parts.next()).unwrap_or_default().to_owned();
        let account = match host.starts_with("127.0.0.1") || host == "localhost" {
            true => of_path(),
            false => host.split('.').next().unwrap_or_default().to_owned(),
        };
        if account.is_empty() {
            return Err(wrong("its endpoint does not name the account"));
        }
        let key = STANDARD.decode(text).map_err(|_| wrong("accountKeySecret is neither a key nor a SAS token"))?;
        Ok(Self::Shared(account, Secret::new(key)))
    }
}

impl AzureSource {
    /// The driver for this source. Nothing is asked yet.
    pub fn driver(&self, outside: &Outside) -> Result<Box<dyn Driver>, StoreError> {
        Ok(Box::new(ObjectDriver::new(self.bucket(outside)?, &self.blob, self.shown())?))
    }

    /// The names beneath the source's blob, sorted.
    pub fn list(&self, outside: &Outside, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        object::list(&self.bucket(outside)?, &self.blob, cancel)
    }

    fn shown(&self) -> String {
        format!("azure container {}, blob {}", self.container, self.blob)
    }

    fn bucket(&self, outside: &Outside) -> Result<Azure, StoreError> {
        let shown = self.shown();
        let bad = |reason| StoreError::BadKey { key: self.endpoint.clone(), reason };
        let endpoint = Url::parse(&self.endpoint).map_err(|_| bad("an azure endpoint is a URL"))?;
        let Some(key) = &self.key else {
            return Err(StoreError::Unsupported(format!(
                "{shown}: no credentials: give accountKeySecret (useSDKCreds: identities are not asked)"
            )));
        };
        let key = AzureKey::read(key, &endpoint, &shown)?;
        let wire = Wire::new(&endpoint, &shown, outside)?;
        Ok(Azure { wire, key, container: self.container.clone() })
    }
}

struct Azure {
    wire: Wire,
    key: AzureKey,
    container: String,
}

/// One request but for its signature.
struct Asked<'a> {
    method: reqwest::Method,
    url: Url,
    /// Headers that begin with `x-ms-`.
    headers: Vec<(&'static str, &'static str)>,
    content: Option<(&'static str, u64)>,
    body: &'a dyn Fn() -> Result<Body, StoreError>,
}

impl Asked<'_> {
    /// What the account's key signs.
    fn signed_text(&self, account: &str, date: &str) -> String {
        let (kind, length) = match self.content {
            Some((kind, 0)) => (kind, String::new()),
            Some((kind, bytes)) => (kind, bytes.to_string()),
            None => ("", String::new()),
        };
        let mut headers = self.headers.clone();
        headers.push(("x-ms-date", date));
        headers.push(("x-ms-version", VERSION));
        headers.sort_unstable();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let mut query: Vec<(String, String)> =
            self.url.query_pairs().map(|(k, v)| (k.to_lowercase(), v.into_owned())).collect();
        query.sort();
        let query: String = query.iter().map(|(name, value)| format!("\n{name}:{value}")).collect();
        let method = self.method.as_str();
        format!("{method}\n\n\n{length}\n\n{kind}\n\n\n\n\n\n\n{headers}/{account}{}{query}", self.url.path())
    }
}

fn nothing() -> Result<Body, StoreError> {
    Ok(Body::from(""))
}

impl Azure {
    fn send(&self, asked: &Asked<'_>, cancel: &Cancel) -> Result<Response, StoreError> {
        self.wire.send(cancel, &|client| self.request(client, asked))
    }

    fn request(&self, client: &reqwest::blocking::Client, asked: &Asked<'_>) -> Result<RequestBuilder, StoreError> {
        let date = http_date();
        let mut url = asked.url.clone();
        if let AzureKey::Signature(token) = &self.key {
            let pairs = token.expose_str().unwrap_or_default();
            url.query_pairs_mut().extend_pairs(url::form_urlencoded::parse(pairs.as_bytes()));
        }
        let mut request = client.request(asked.method.clone(), url);
        request = request.header("x-ms-date", &date).header("x-ms-version", VERSION);
        for (name, value) in &asked.headers {
            request = request.header(*name, *value);
        }
        if let Some((kind, _)) = asked.content {
            request = request.header(reqwest::header::CONTENT_TYPE, kind).body((asked.body)()?);
        }
        if let AzureKey::Shared(account, key) = &self.key {
            let mut mac = Hmac::<Sha256>::new_from_slice(key.expose())
                .map_err(|_| self.wire.strange("the account's key is of no use"))?;
            mac.update(asked.signed_text(account, &date).as_bytes());
            let signature = STANDARD.encode(mac.finalize().into_bytes());
            request = request.header(reqwest::header::AUTHORIZATION, format!("SharedKey {account}:{signature}"));
        }
        Ok(request)
    }

    fn url(&self, key: &str) -> Url {
        self.wire.url(std::iter::once(self.container.as_str()).chain(key.split('/')))
    }

    fn plain(&self, method: reqwest::Method, url: Url, cancel: &Cancel) -> Result<Response, StoreError> {
        self.send(&Asked { method, url, headers: Vec::new(), content: None, body: &nothing }, cancel)
    }

    /// In blocks, which are put together in the end.
    fn put_blocks(&self, key: &str, spool: &Spool, cancel: &Cancel) -> Result<(), StoreError> {
        let size = BLOCK_BYTES_MIN.max(spool.bytes.div_ceil(BLOCKS_MAX));
        let mut names = Vec::new();
        let mut from = 0;
        while from < spool.bytes {
            let bytes = size.min(spool.bytes - from);
            let name = STANDARD.encode(format!("{:08}", names.len()));
            let mut url = self.url(key);
            url.query_pairs_mut().append_pair("comp", "block").append_pair("blockid", &name);
            let body = || spool.part(from, bytes);
            let content = Some((BLOB, bytes));
            self.send(&Asked { method: reqwest::Method::PUT, url, headers: Vec::new(), content, body: &body }, cancel)?;
            names.push(name);
            from += bytes;
        }
        let list: String = names.iter().map(|name| format!("<Latest>{name}</Latest>")).collect();
        let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>");
        let mut url = self.url(key);
        url.query_pairs_mut().append_pair("comp", "blocklist");
        let body = || Ok(Body::from(list.clone()));
        let content = Some(("application/xml", list.len() as u64));
        self.send(&Asked { method: reqwest::Method::PUT, url, headers: Vec::new(), content, body: &body }, cancel)
            .map(drop)
    }
}

impl Bucket for Azure {
    fn get(&self, key: &str, cancel: &Cancel) -> Result<Response, StoreError> {
        self.plain(reqwest::Method::GET, self.url(key), cancel)
    }

    fn put(&self, key: &str, spool: &Spool, cancel: &Cancel) -> Result<(), StoreError> {
        if spool.bytes > WHOLE_BYTES_MAX {
            return self.put_blocks(key, spool, cancel);
        }
        let asked = Asked {
            method: reqwest::Method::PUT,
            url: self.url(key),
            headers: vec![("x-ms-blob-type", "BlockBlob")],
            content: Some((BLOB, spool.bytes)),
            body: &|| spool.body(),
        };
        self.send(&asked, cancel).map(drop)
    }

    fn delete(&self, key: &str, cancel: &Cancel) -> Result<(), StoreError> {
        self.plain(reqwest::Method::DELETE, self.url(key), cancel).map(drop)
    }

    fn keys(&self, prefix: &str, enough: usize, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        let (mut keys, mut marker) = (Vec::new(), String::new());
        loop {
            let mut url = self.wire.url([self.container.as_str()]);
            url.query_pairs_mut()
                .append_pair("restype", "container")
                .append_pair("comp", "list")
                .append_pair("prefix", prefix);
            if !marker.is_empty() {
                url.query_pairs_mut().append_pair("marker", &marker);
            }
            let answer = self.plain(reqwest::Method::GET, url, cancel)?;
            let text = self.wire.text(answer)?;
            keys.extend(texts(&text, "Name"));
            marker = first(&text, "NextMarker").unwrap_or_default();
            if marker.is_empty() || keys.len() >= enough {
                return Ok(keys);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed() {
        let url = Url::parse("https://acc.blob.core.windows.net/box?restype=container&comp=list&prefix=a%2Fb").unwrap();
        let asked = Asked { method: reqwest::Method::GET, url, headers: Vec::new(), content: None, body: &nothing };
        let date = "Fri, 26 Jun 2015 23:39:12 GMT";
        assert_eq!(
            asked.signed_text("acc", date),
            format!(
                "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{VERSION}\n/acc/box\ncomp:list\nprefix:a/b\n\
                 restype:container"
            )
        );
        let url = Url::parse("https://acc.blob.core.windows.net/box/k").unwrap();
        let headers = vec![("x-ms-blob-type", "BlockBlob")];
        let asked = Asked { method: reqwest::Method::PUT, url, headers, content: Some((BLOB, 11)), body: &nothing };
        assert!(
            asked.signed_text("acc", date).starts_with(
                "PUT\n\n\n11\n\napplication/octet-stream\n\n\n\n\n\n\nx-ms-blob-type:BlockBlob\nx-ms-date:"
            )
        );
    }

    #[test]
    fn whose_key() {
        let read = |key: &str, endpoint: &str| {
            AzureKey::read(&key.into(), &Url::parse(endpoint).unwrap(), "x").map(|key| match key {
                AzureKey::Shared(account, _) => account,
                AzureKey::Signature(token) => token.expose_str().unwrap().to_owned(),
            })
        };
        assert_eq!(read("a2V5", "https://acc.blob.core.windows.net").unwrap(), "acc");
        assert_eq!(read("a2V5\n", "http://127.0.0.1:10000/dev").unwrap(), "dev");
        assert_eq!(read("?sv=1&sig=2", "https://acc.blob.core.windows.net").unwrap(), "sv=1&sig=2");
        assert!(read("no key", "https://acc.blob.core.windows.net").is_err());
        assert!(read("a2V5", "http://localhost:1").is_err());
    }
}
