//! Argo's `gcs` driver: Google's JSON API with the token of a service account, whose key signs the request for it. It must
//! never print a key or a token; the metadata of a machine is not asked.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::blocking::{RequestBuilder, Response};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use url::Url;

use super::object::{self, Bucket, ObjectDriver};
use super::spool::Spool;
use super::wire::Wire;
use super::{Driver, StoreError};
use crate::cancel::Cancel;
use crate::outside::Outside;
use crate::secret::Secret;

const API: &str = "https://storage.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// How long a token may be asked for, and how long before its end it is asked for anew.
const TOKEN_SECONDS: u64 = 3600;
const TOKEN_SPARE: Duration = Duration::from_secs(60);

/// Where an object is, and with what it is reached.
#[derive(Clone)]
pub struct GcsSource {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The key of a service account, as Google hands it out: JSON.
    pub account: Option<Secret>,
}

impl GcsSource {
    /// The driver for this source. Nothing is asked yet.
    pub fn driver(&self, outside: &Outside) -> Result<Box<dyn Driver>, StoreError> {
        Ok(Box::new(ObjectDriver::new(self.bucket(outside)?, &self.key, self.shown())?))
    }

    /// The keys beneath the source's key, sorted.
    pub fn list(&self, outside: &Outside, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        object::list(&self.bucket(outside)?, &self.key, cancel)
    }

    fn shown(&self) -> String {
        format!("gs://{}/{}", self.bucket, self.key)
    }

    fn bucket(&self, outside: &Outside) -> Result<Google, StoreError> {
        let shown = self.shown();
        let api = Url::parse(API).map_err(|_| StoreError::Unsupported(API.to_owned()))?;
        let Some(account) = &self.account else {
            return Err(StoreError::Unsupported(format!(
                "{shown}: no credentials: give serviceAccountKeySecret (workload identity and metadata are not asked)"
            )));
        };
        let account = Account::read(account, &shown)?;
        let tokens = Wire::new(&account.token_uri, &shown, outside)?;
        Ok(Google {
            wire: Wire::new(&api, &shown, outside)?,
            tokens,
            account,
            bucket: self.bucket.clone(),
            token: Mutex::default(),
        })
    }
}

/// What is needed of a service account's key.
struct Account {
    email: String,
    key_id: Option<String>,
    key: ring::signature::RsaKeyPair,
    token_uri: Url,
    /// As it is written: it is part of what is signed.
    audience: String,
}

impl Account {
    fn read(secret: &Secret, shown: &str) -> Result<Self, StoreError> {
        let wrong = |what: &str| StoreError::Unsupported(format!("{shown}: serviceAccountKeySecret: {what}"));
        let json: Value = serde_json::from_slice(secret.expose()).map_err(|_| wrong("it is no JSON"))?;
        match json["type"].as_str() {
            Some("service_account") => {}
            Some(other) => return Err(wrong(&format!("a key of type {other:?} is not one of a service account"))),
            None => return Err(wrong("it is not the key of a service account")),
        }
        let text = |field: &str| json[field].as_str().ok_or_else(|| wrong(&format!("it has no {field}")));
        let pem = text("private_key")?;
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong("its private_key is not PEM"))?;
        let key = ring::signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der());
        let audience = json["token_uri"].as_str().unwrap_or("https://oauth2.googleapis.com/token").to_owned();
        Ok(Self {
            email: text("client_email")?.to_owned(),
            key_id: json["private_key_id"].as_str().map(str::to_owned),
            key: key.map_err(|_| wrong("its private_key is no RSA key"))?,
            token_uri: Url::parse(&audience).map_err(|_| wrong("its token_uri is no URL"))?,
            audience,
        })
    }

    /// The signed wish for a token.
    fn assertion(&self, now: Duration) -> Option<String> {
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.key_id {
            header["kid"] = json!(id);
        }
        let now = now.as_secs();
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.audience, "iat": now, "exp": now + TOKEN_SECONDS,
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        self.key.sign(&ring::signature::RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).ok()?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

struct Google {
    wire: Wire,
    tokens: Wire,
    account: Account,
    bucket: String,
    /// The token, and until when it is good.
    token: Mutex<Option<(Secret, SystemTime)>>,
}

impl Google {
    fn token(&self, cancel: &Cancel) -> Result<Secret, StoreError> {
        let mut kept = self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = SystemTime::now();
        if let Some((token, until)) = &*kept
            && *until > now + TOKEN_SPARE
        {
            return Ok(token.clone());
        }
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let assertion = self.account.assertion(since).ok_or_else(|| self.tokens.strange("the key does not sign"))?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", &assertion)
            .finish();
        let answer = self.tokens.send(cancel, &|client| {
            let request = client.post(self.tokens.url([]));
            let request = request.header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            Ok(request.body(form.clone()))
        })?;
        let told: Value = serde_json::from_str(&self.tokens.text(answer)?).unwrap_or_default();
        let token = told["access_token"].as_str().ok_or_else(|| self.tokens.strange("an answer without a token"))?;
        let seconds = told["expires_in"].as_u64().unwrap_or(0);
        let token = Secret::from(token);
        *kept = Some((token.clone(), now + Duration::from_secs(seconds)));
        Ok(token)
    }

    fn send(
        &self,
        cancel: &Cancel,
        make: &dyn Fn(&reqwest::blocking::Client) -> Result<RequestBuilder, StoreError>,
    ) -> Result<Response, StoreError> {
        let token = self.token(cancel)?;
        self.wire.send(cancel, &|client| Ok(make(client)?.bearer_auth(token.expose_str().unwrap_or_default())))
    }

    fn object(&self, key: &str) -> Url {
        self.wire.url(["storage", "v1", "b", &self.bucket, "o", key])
    }
}

impl Bucket for Google {
    fn get(&self, key: &str, cancel: &Cancel) -> Result<Response, StoreError> {
        let mut url = self.object(key);
        url.query_pairs_mut().append_pair("alt", "media");
        self.send(cancel, &|client| Ok(client.get(url.clone())))
    }

    fn put(&self, key: &str, body: &Spool, cancel: &Cancel) -> Result<(), StoreError> {
        let mut url = self.wire.url(["upload", "storage", "v1", "b", &self.bucket, "o"]);
        url.query_pairs_mut().append_pair("uploadType", "media").append_pair("name", key);
        self.send(cancel, &|client| {
            let request = client.post(url.clone());
            Ok(request.header(reqwest::header::CONTENT_TYPE, "application/octet-stream").body(body.body()?))
        })
        .map(drop)
    }

    fn delete(&self, key: &str, cancel: &Cancel) -> Result<(), StoreError> {
        let url = self.object(key);
        self.send(cancel, &|client| Ok(client.delete(url.clone()))).map(drop)
    }

    fn keys(&self, prefix: &str, enough: usize, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
        let (mut keys, mut page) = (Vec::new(), None::<String>);
        loop {
            let mut url = self.wire.url(["storage", "v1", "b", &self.bucket, "o"]);
            url.query_pairs_mut().append_pair("prefix", prefix).append_pair("fields", "items/name,nextPageToken");
            if let Some(page) = &page {
                url.query_pairs_mut().append_pair("pageToken", page);
            }
            // Here it is the bucket that is not there.
            let answer = self.send(cancel, &|client| Ok(client.get(url.clone()))).map_err(|error| match error {
                StoreError::NotFound(url) => StoreError::Refused {
                    url,
                    status: 404,
                    code: "notFound".to_owned(),
                    message: format!("there is no bucket {}", self.bucket),
                    retry: false,
                },
                other => other,
            })?;
            let told: Value =
                serde_json::from_str(&self.wire.text(answer)?).map_err(|_| self.wire.strange("a listing"))?;
            let items = told["items"].as_array().into_iter().flatten();
            keys.extend(items.filter_map(|item| item["name"].as_str().map(str::to_owned)));
            page = told["nextPageToken"].as_str().map(str::to_owned);
            if page.is_none() || keys.len() >= enough {
                return Ok(keys);
            }
        }
    }
}
