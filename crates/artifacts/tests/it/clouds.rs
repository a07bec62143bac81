//! The drivers of clouds against stand-ins on loopback, which speak what the drivers use, check each signature anew from
//! the request as it came, page their listings and are out of order now and then.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use windlass_artifacts::archive::{self, ExtractOptions, Limits};
use windlass_artifacts::location::{self, Location};
use windlass_artifacts::store::{Content, Driver, LocalStore, Payload, StoreError};
use windlass_artifacts::{Cancel, Endpoints, Outside, Root, Secret};

const ACCOUNT_PEM: &str = include_str!("account.pem");

/// A request as it came.
struct Asked {
    method: String,
    url: url::Url,
    /// The path as it was written.
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn query(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(k, _)| k == name).map(|(_, v)| v.into_owned())
    }

    /// The decoded path's parts.
    fn parts(&self) -> Vec<String> {
        let decode = |part: &str| percent(part);
        self.path.trim_start_matches('/').split('/').map(decode).collect()
    }
}

fn percent(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte.unwrap()).to_digit(16).unwrap() as u8;
        bytes.push(if byte == b'%' { hex(rest.next()) * 16 + hex(rest.next()) } else { byte });
    }
    String::from_utf8(bytes).unwrap()
}

/// Status and body.
type Answer = (u16, String);

#[derive(Default)]
struct Store {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    blocks: Mutex<BTreeMap<String, Vec<u8>>>,
    tokens: AtomicUsize,
    requests: AtomicUsize,
}

/// Starts a stand-in; `answer` gets each request. Every seventh is refused for no reason.
fn serve(
    answer: impl Fn(&Asked, &Store) -> Result<Vec<u8>, Answer> + Send + Sync + 'static,
) -> (SocketAddr, Arc<Store>) {
    windlass_artifacts::git::ensure_tls();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let store = Arc::new(Store::default());
    let (shared, answer) = (store.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (store, answer) = (shared.clone(), answer.clone());
            std::thread::spawn(move || talk(stream.unwrap(), &store, &*answer));
        }
    });
    (address, store)
}

/// What a stand-in says to a request.
type Answers = dyn Fn(&Asked, &Store) -> Result<Vec<u8>, Answer>;

fn talk(mut stream: TcpStream, store: &Store, answer: &Answers) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |l| l.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let url = url::Url::parse(&format!("http://x{target}")).unwrap();
    let path = target.split('?').next().unwrap().to_owned();
    let asked = Asked { method, url, path, headers, body };
    let told = match store.requests.fetch_add(1, Ordering::SeqCst) % 7 {
        6 => Err((503, "<Error><Code>ServerBusy</Code></Error>".to_owned())),
        _ => answer(&asked, store),
    };
    let (status, body) = match told {
        Ok(body) => (200, body),
        Err((status, body)) => (status, body.into_bytes()),
    };
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
    if asked.method != "HEAD" {
        let _ = stream.write_all(&body);
    }
}

/// Two keys a page, after the marker.
fn page(store: &Store, prefix: &str, marker: Option<String>) -> (Vec<String>, Option<String>) {
    let objects = store.objects.lock().unwrap();
    let after = marker.unwrap_or_default();
    let all: Vec<String> = objects.keys().filter(|k| k.starts_with(prefix) && **k > after).cloned().collect();
    let page: Vec<String> = all.iter().take(2).cloned().collect();
    let next = (all.len() > 2).then(|| page[1].clone());
    (page, next)
}

fn object(asked: &Asked, store: &Store, key: &str, absent: Answer) -> Result<Vec<u8>, Answer> {
    let mut objects = store.objects.lock().unwrap();
    match asked.method.as_str() {
        "PUT" | "POST" => {
            objects.insert(key.to_owned(), asked.body.clone());
            Ok(Vec::new())
        }
        "DELETE" => objects.remove(key).map(|_| Vec::new()).ok_or(absent),
        _ => objects.get(key).cloned().ok_or(absent),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn driver(artifact: &Value, outside: &Outside, secret: &str) -> Box<dyn Driver> {
    let location = Location::parse(artifact, &|_| Some(Secret::from(secret))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    location.driver(&LocalStore::open(dir.path()).unwrap(), outside).unwrap()
}

fn text(driver: &dyn Driver) -> String {
    match driver.load(&Cancel::new()).unwrap() {
        Content::File(reader) => std::io::read_to_string(reader).unwrap(),
        Content::Tree(_) => panic!("an object"),
    }
}

/// What every store has to do; `at` is an artifact of this key, read with `secret`.
fn all_of_it(at: &dyn Fn(&str) -> Value, outside: &Outside, secret: &str) {
    let cancel = Cancel::new();
    let one = driver(&at("wf/pod/ä b+c&d.txt"), outside, secret);
    assert!(matches!(one.load(&cancel), Err(StoreError::NotFound(_))));
    assert!(!one.exists(&cancel).unwrap());
    assert_eq!(one.save(Payload::File(&mut &b"hello"[..]), &cancel).unwrap().bytes, 5);
    assert_eq!(text(&*one), "hello");
    one.save(Payload::File(&mut &b""[..]), &cancel).unwrap();
    assert_eq!(text(&*one), "");
    assert!(one.exists(&cancel).unwrap());

    // A directory, and next to it one whose name begins alike.
    let dir = tempfile::tempdir().unwrap();
    for (file, words) in [("site/a.txt", "a"), ("site/css/b.css", "b"), ("site/css/c.css", "c"), ("site/d", "d")] {
        let file = dir.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, words).unwrap();
    }
    let root = Root::open(dir.path()).unwrap();
    let mut tar = Vec::new();
    archive::create_tar(&root, Path::new("/site"), &mut tar, &Limits::default(), &cancel).unwrap();
    let site = driver(&at("wf/site"), outside, secret);
    assert_eq!(site.save(Payload::Tree(&mut tar.as_slice()), &cancel).unwrap().bytes, 4);
    let beside = driver(&at("wf/site-2"), outside, secret);
    beside.save(Payload::File(&mut &b"beside"[..]), &cancel).unwrap();
    let Content::Tree(mut tree) = site.load(&cancel).unwrap() else { panic!("a tree") };
    archive::extract_tree(&mut tree, &root, Path::new("/out"), &ExtractOptions::default(), &cancel).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("out/css/c.css")).unwrap(), "c");
    assert!(site.exists(&cancel).unwrap());

    let local = LocalStore::open(&dir.path().join("local")).unwrap();
    let list = |key: &str| location::list(&at(key), &|_| Some(secret.into()), &local, outside, &cancel).unwrap();
    assert_eq!(list("wf/site"), ["wf/site/a.txt", "wf/site/css/b.css", "wf/site/css/c.css", "wf/site/d"]);
    assert_eq!(list("").len(), 6);

    for _ in 0..2 {
        site.delete(&cancel).unwrap();
        one.delete(&cancel).unwrap();
    }
    assert!(!site.exists(&cancel).unwrap());
    assert_eq!(list(""), ["wf/site-2"]);
}

#[test]
fn gcs() {
    let der = PrivatePkcs8KeyDer::from_pem_slice(ACCOUNT_PEM.as_bytes()).unwrap();
    let pair = ring::signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public = pair.public().as_ref().to_vec();
    let absent = || (404, json!({"error": {"code": 404, "errors": [{"reason": "notFound"}]}}).to_string());
    let (address, store) = serve(move |asked, store| {
        let parts = asked.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if parts == ["token"] {
            let form: BTreeMap<_, _> = url::form_urlencoded::parse(&asked.body).into_owned().collect();
            assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
            let (text, signature) = form["assertion"].rsplit_once('.').unwrap();
            let key = ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, &public);
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            if key.verify(text.as_bytes(), &signature).is_err() {
                return Err((400, json!({"error": "invalid_grant", "error_description": "Bad signature"}).to_string()));
            }
            let claims = URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(
                (claims["iss"].as_str(), claims["aud"].as_str()),
                (Some("me@x"), Some("https://accounts.test/token"))
            );
            store.tokens.fetch_add(1, Ordering::SeqCst);
            return Ok(json!({"access_token": "t1", "expires_in": 3600}).to_string().into_bytes());
        }
        if asked.header("authorization") != "Bearer t1" {
            return Err((401, String::new()));
        }
        match parts.as_slice() {
            ["storage", "v1", "b", "box", "o"] => {
                let (keys, next) = page(store, &asked.query("prefix").unwrap(), asked.query("pageToken"));
                let items: Vec<Value> = keys.iter().map(|k| json!({"name": k})).collect();
                Ok(json!({"items": items, "nextPageToken": next}).to_string().into_bytes())
            }
            ["storage", "v1", "b", "box", "o", key] => {
                assert!(asked.method != "GET" || asked.query("alt").as_deref() == Some("media"));
                object(asked, store, key, absent())
            }
            ["upload", "storage", "v1", "b", "box", "o"] => {
                assert_eq!(asked.query("uploadType").as_deref(), Some("media"));
                object(asked, store, &asked.query("name").unwrap(), absent())
            }
            _ => Err(absent()),
        }
    });
    let rules = ["storage.googleapis.com", "accounts.test"].map(|host| format!("{host}=http://{address}"));
    let outside = Outside { endpoints: Endpoints::parse(rules).unwrap(), ..Outside::default() };
    let account = |pem: &str, kind: &str| {
        json!({
            "type": kind, "client_email": "me@x", "private_key_id": "1", "private_key": pem,
            "token_uri": "https://accounts.test/token",
        })
    };
    let secret = account(ACCOUNT_PEM, "service_account").to_string();
    let at = |bucket: &str, key: &str| {
        json!({
            "name": "a", "gcs": {"bucket": bucket, "key": key, "serviceAccountKeySecret": {"name": "s", "key": "k"}},
        })
    };
    all_of_it(&|key| at("box", key), &outside, &secret);
    let (tokens, requests) = (store.tokens.load(Ordering::SeqCst), store.requests.load(Ordering::SeqCst));
    assert!(tokens * 2 < requests, "{tokens} tokens for {requests} requests");

    let none = driver(&at("none", "k"), &outside, &secret).save(Payload::File(&mut &b"x"[..]), &Cancel::new());
    assert!(matches!(none, Err(StoreError::NotFound(_))), "{none:?}");
    let error = |secret: &str| {
        let location = Location::parse(&at("box", "k"), &|_| Some(secret.into())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let driver = location.driver(&LocalStore::open(dir.path()).unwrap(), &outside);
        driver.and_then(|d| d.exists(&Cancel::new())).unwrap_err().to_string()
    };
    assert!(error("{}").contains("not the key of a service account"));
    assert!(error(&account(ACCOUNT_PEM, "authorized_user").to_string()).contains("authorized_user"));
    assert!(error(&account("nothing", "service_account").to_string()).contains("private_key"));
    let other = account(ACCOUNT_PEM, "service_account").to_string().replace("/token", "/nowhere");
    assert!(error(&other).contains("gs://box/k"), "{}", error(&other));
}

#[test]
fn azure() {
    const KEY: &[u8] = b"the account's key";
    let absent = || (404, "<Error><Code>BlobNotFound</Code></Error>".to_owned());
    let (address, store) = serve(move |asked, store| {
        if asked.query("sig").as_deref() != Some("good/=") {
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY).unwrap();
            mac.update(signed_by_azure(asked).as_bytes());
            let signature = STANDARD.encode(mac.finalize().into_bytes());
            if asked.header("authorization") != format!("SharedKey acc:{signature}") {
                let message = "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate\nmore</Message></Error>";
                return Err((403, message.to_owned()));
            }
        }
        let parts = asked.parts();
        let (bucket, key) = (parts[0].as_str(), parts[1..].join("/"));
        if bucket != "box" {
            return Err((404, "<Error><Code>ContainerNotFound</Code><Message>no such</Message></Error>".to_owned()));
        }
        if asked.query("comp").as_deref() == Some("list") {
            let (keys, next) = page(store, &asked.query("prefix").unwrap(), asked.query("marker"));
            let blobs: String = keys.iter().map(|k| format!("<Blob><Name>{}</Name></Blob>", escaped(k))).collect();
            let next = next.map_or("<NextMarker/>".to_owned(), |n| format!("<NextMarker>{}</NextMarker>", escaped(&n)));
            return Ok(format!("<EnumerationResults><Blobs>{blobs}</Blobs>{next}</EnumerationResults>").into_bytes());
        }
        if asked.query("comp").as_deref() == Some("block") {
            store.blocks.lock().unwrap().insert(asked.query("blockid").unwrap(), asked.body.clone());
            return Ok(Vec::new());
        }
        if asked.query("comp").as_deref() == Some("blocklist") {
            let text = String::from_utf8(asked.body.clone()).unwrap();
            let names = text.split("<Latest>").skip(1).map(|rest| rest.split('<').next().unwrap());
            let mut blocks = store.blocks.lock().unwrap();
            let whole: Vec<u8> = names.flat_map(|name| blocks.remove(name).unwrap()).collect();
            store.objects.lock().unwrap().insert(key, whole);
            return Ok(Vec::new());
        }
        if asked.method == "PUT" && asked.header("x-ms-blob-type") != "BlockBlob" {
            return Err((400, "<Error><Code>MissingRequiredHeader</Code></Error>".to_owned()));
        }
        object(asked, store, &key, absent())
    });
    let rule = format!("acc.blob.test=http://{address}");
    let outside = Outside { endpoints: Endpoints::parse([rule]).unwrap(), ..Outside::default() };
    let at = |container: &str, key: &str| {
        json!({"name": "a", "azure": {
            "endpoint": "https://acc.blob.test", "container": container, "blob": key,
            "accountKeySecret": {"name": "s", "key": "k"},
        }})
    };
    all_of_it(&|key| at("box", key), &outside, &STANDARD.encode(KEY));
    store.objects.lock().unwrap().clear();
    all_of_it(&|key| at("box", key), &outside, "?sv=2021&sig=good%2F%3D");

    // What is large goes in blocks.
    let bytes: Vec<u8> = (0..33 << 20).map(|n: u32| (n / 7 % 251) as u8).collect();
    let large = driver(&at("box", "large"), &outside, &STANDARD.encode(KEY));
    large.save(Payload::File(&mut bytes.as_slice()), &Cancel::new()).unwrap();
    assert!(store.objects.lock().unwrap()["large"] == bytes);

    let error = |container: &str, secret: &str| {
        driver(&at(container, "k"), &outside, secret).exists(&Cancel::new()).unwrap_err().to_string()
    };
    let wrong = error("box", &STANDARD.encode("another"));
    assert!(
        wrong.contains("AuthenticationFailed: Server failed to authenticate") && !wrong.contains("more"),
        "{wrong}"
    );
    assert!(wrong.contains("acc.blob.test") && !wrong.contains("127.0.0.1"), "{wrong}");
    assert!(error("none", &STANDARD.encode(KEY)).contains("ContainerNotFound"));
}

/// What Azure's documentation has one sign, out of the request as it came.
fn signed_by_azure(asked: &Asked) -> String {
    let length = match asked.header("content-length") {
        "0" => "",
        length => length,
    };
    let ours = asked.headers.iter().filter(|(name, _)| name.starts_with("x-ms-"));
    let ours: String = ours.map(|(name, value)| format!("{name}:{value}\n")).collect();
    let query: BTreeMap<String, String> = asked.url.query_pairs().into_owned().collect();
    let query: String = query.iter().map(|(k, v)| format!("\n{}:{v}", k.to_lowercase())).collect();
    let kind = asked.header("content-type");
    format!("{}\n\n\n{length}\n\n{kind}\n\n\n\n\n\n\n{ours}/acc{}{query}", asked.method, asked.path)
}

#[test]
fn oss() {
    let absent = || (404, "<Error><Code>NoSuchKey</Code></Error>".to_owned());
    let (address, store) = serve(move |asked, store| {
        let parts = asked.parts();
        let (bucket, key) = (parts[0].as_str(), parts[1..].join("/"));
        assert_eq!(asked.header("x-oss-security-token"), "session");
        let kind = asked.header("content-type");
        let resource = format!("x-oss-security-token:session\n/{bucket}/{key}");
        let text = format!("{}\n\n{kind}\n{}\n{resource}", asked.method, asked.header("date"));
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"secret").unwrap();
        mac.update(text.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        if asked.header("authorization") != format!("OSS secret:{signature}") {
            return Err((403, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>".to_owned()));
        }
        if key.is_empty() && asked.method == "PUT" {
            store.blocks.lock().unwrap().insert(bucket.to_owned(), Vec::new());
            return Ok(Vec::new());
        }
        if !store.blocks.lock().unwrap().contains_key(bucket) {
            return Err((404, "<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>".to_owned()));
        }
        if key.is_empty() {
            let (keys, next) = page(store, &asked.query("prefix").unwrap(), asked.query("marker"));
            let keys: String = keys.iter().map(|k| format!("<Contents><Key>{}</Key></Contents>", escaped(k))).collect();
            let next = next.map(|n| format!("<NextMarker>{}</NextMarker>", escaped(&n))).unwrap_or_default();
            return Ok(format!("<ListBucketResult>{keys}{next}</ListBucketResult>").into_bytes());
        }
        object(asked, store, &key, absent())
    });
    let at = |bucket: &str, create: bool, key: &str| {
        json!({"name": "a", "oss": {
            "endpoint": address.to_string(), "bucket": bucket, "key": key, "securityToken": "session",
            "createBucketIfNotPresent": create,
            "accessKeySecret": {"name": "s", "key": "k"}, "secretKeySecret": {"name": "s", "key": "k"},
        }})
    };
    let outside = Outside::default();
    let missing = driver(&at("none", false, "k"), &outside, "secret").exists(&Cancel::new()).unwrap_err();
    assert!(missing.to_string().contains("NoSuchBucket"), "{missing}");
    driver(&at("box", true, "first"), &outside, "secret").save(Payload::File(&mut &b"x"[..]), &Cancel::new()).unwrap();
    store.objects.lock().unwrap().clear();
    all_of_it(&|key| at("box", false, key), &outside, "secret");
    let wrong = driver(&at("box", false, "k"), &outside, "wrong").exists(&Cancel::new()).unwrap_err();
    assert!(wrong.to_string().contains("SignatureDoesNotMatch"), "{wrong}");
}
