//! S3 against a real server: MinIO, built from its Go module and started here on loopback.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass_artifacts::archive::{ExtractOptions, Limits, Strategy};
use windlass_artifacts::git::GitAccess;
use windlass_artifacts::store::{
    Content, CreateBucket, Driver, LocalStore, Payload, S3Driver, S3Source, StoreError, Style,
};
use windlass_artifacts::transfer::{self, Access};
use windlass_artifacts::{Ambient, Cancel, Dial, Endpoints, Inside, Location, Outside, Root};

/// Where CI keeps it: `.ci/run` builds it once.
fn program() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(cache.map(|dir| dir.join("windlass-ci/bin")));
    let found = dirs.map(|dir| dir.join("minio")).find(|p| p.is_file());
    if found.is_none() {
        eprintln!("!!! NOT RUN: there is no minio; `.ci/run` builds it where Go is installed");
    }
    found
}

/// A server with its own directory. It ends with the value.
struct Minio {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Minio {
    fn start() -> Option<Self> {
        let program = program()?;
        windlass_artifacts::git::ensure_tls();
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(program)
            .args(["server", "--quiet", "--address", &address.to_string()])
            .arg(dir.path().join("data"))
            .env("MINIO_ROOT_USER", "root-user")
            .env("MINIO_ROOT_PASSWORD", "root-password")
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("HOME", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut minio = Self { child, address, _dir: dir };
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(minio.child.try_wait().unwrap().is_none(), "minio ended");
            let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
            if client.get(format!("http://{address}/minio/health/ready")).send().is_ok_and(|r| r.status().is_success())
            {
                return Some(minio);
            }
            assert!(Instant::now() < until, "minio does not become ready");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn source(&self, key: &str) -> S3Source {
        S3Source {
            endpoint: self.address.to_string(),
            bucket: "argo-bucket".into(),
            key: key.into(),
            insecure: true,
            keys: Some(("root-user".into(), "root-password".into())),
            ..S3Source::default()
        }
    }

    fn at(&self, key: &str) -> S3Driver {
        S3Driver::new(&self.source(key), &Outside::default()).unwrap()
    }
}

fn text(driver: &S3Driver) -> String {
    match driver.load(&Cancel::new()).unwrap() {
        Content::File(reader) => std::io::read_to_string(reader).unwrap(),
        Content::Tree(_) => panic!("an object"),
    }
}

/// So many bytes that are not all the same.
struct Noise {
    left: u64,
    at: u8,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for byte in &mut buffer[..count] {
            self.at = self.at.wrapping_mul(31).wrapping_add(7);
            *byte = self.at;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[test]
fn objects_trees_and_refusals() {
    let Some(minio) = Minio::start() else { return };
    let cancel = Cancel::new();
    let put = |driver: &S3Driver, text: &str| driver.save(Payload::File(&mut text.as_bytes()), &cancel);

    // No bucket yet: the way out is named; with the option it is made, and again is no error.
    let error = put(&minio.at("a"), "x").unwrap_err();
    assert!(error.to_string().contains("NoSuchBucket") && error.to_string().contains("createBucket"), "{error}");
    assert!(!error.is_retryable());
    let making = S3Source { create_bucket: Some(CreateBucket::default()), ..minio.source("wf/pod/one.txt") };
    for _ in 0..2 {
        put(&S3Driver::new(&making, &Outside::default()).unwrap(), "one").unwrap();
    }
    let object = minio.at("wf/pod/one.txt");
    assert_eq!(text(&object), "one");
    assert!(object.exists(&cancel).unwrap());
    put(&object, "other").unwrap();
    assert_eq!(text(&object), "other");
    // Keys that need encoding.
    let odd = minio.at("wf/ä b/c+d&e=f?.txt");
    put(&odd, "odd").unwrap();
    assert_eq!(text(&odd), "odd");
    odd.delete(&cancel).unwrap();
    assert!(!odd.exists(&cancel).unwrap());
    odd.delete(&cancel).unwrap();
    assert!(matches!(odd.load(&cancel), Err(StoreError::NotFound(_))));

    // In parts, and back.
    let size = (16 << 20) * 2 + 12345;
    let large = minio.at("large");
    assert_eq!(large.save(Payload::File(&mut Noise { left: size, at: 1 }), &cancel).unwrap().bytes, size);
    let Content::File(mut back) = large.load(&cancel).unwrap() else { panic!("an object") };
    let (mut expected, mut got, mut total) = (Noise { left: size, at: 1 }, vec![0; 65536], 0);
    loop {
        let count = back.read(&mut got).unwrap();
        if count == 0 {
            break;
        }
        let mut wanted = vec![0; count];
        expected.read_exact(&mut wanted).unwrap();
        assert!(got[..count] == wanted[..], "differs near {total}");
        total += count as u64;
    }
    assert_eq!(total, size);

    // Wrong keys, and another way of writing the bucket.
    let wrong = S3Source { keys: Some(("root-user".into(), "nothing".into())), ..minio.source("large") };
    let error = S3Driver::new(&wrong, &Outside::default()).unwrap().load(&cancel).err().unwrap().to_string();
    assert!(error.contains("SignatureDoesNotMatch") && error.contains("secretKeySecret"), "{error}");
    assert!(!error.contains("root-password") && !error.contains("nothing"), "{error}");
    let hosted = S3Source { style: Some(Style::VirtualHosted), ..minio.source("large") };
    assert!(S3Driver::new(&hosted, &Outside::default()).is_err_and(|e| e.to_string().contains("addressingStyle")));
    let ambient = Ambient::Keys { access: "root-user".into(), secret: "root-password".into(), token: None };
    let keyless = S3Source { keys: None, ..minio.source("wf/pod/one.txt") };
    assert_eq!(text(&S3Driver::new(&keyless, &Outside { ambient, ..Outside::default() }).unwrap()), "other");
}

#[test]
fn every_archive_and_a_directory() {
    let Some(minio) = Minio::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("from/site/css")).unwrap();
    std::fs::write(dir.path().join("from/site/index.html"), "<p>").unwrap();
    std::fs::write(dir.path().join("from/site/css/a.css"), "a{}").unwrap();
    std::fs::write(dir.path().join("from/site/css/empty"), "").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let local = LocalStore::open(&dir.path().join("store")).unwrap();
    let access = Access { local: &local, git: &GitAccess::default(), outside: &Outside::default() };
    let cancel = Cancel::new();
    for (n, strategy) in [Strategy::default(), Strategy::None].into_iter().enumerate() {
        let source =
            S3Source { create_bucket: Some(CreateBucket::default()), ..minio.source(&format!("run/{n}/site")) };
        let here = Location::S3(Box::new(source));
        let from = Path::new("from/site");
        transfer::save(&here, &access, &root, from, strategy, &Limits::default(), &cancel).unwrap();
        let target = format!("to/{n}");
        transfer::load(&here, &access, &root, Path::new(&target), &ExtractOptions::default(), &cancel).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(&target).join(name)).unwrap();
        assert_eq!(
            (read("index.html"), read("css/a.css"), read("css/empty")),
            ("<p>".into(), "a{}".into(), String::new())
        );
    }
    // Without an archive every file is an object of its own.
    assert_eq!(text(&minio.at("run/1/site/css/a.css")), "a{}");
    let tree = minio.at("run/1/site");
    assert!(tree.exists(&cancel).unwrap());
    tree.delete(&cancel).unwrap();
    assert!(!tree.exists(&cancel).unwrap());
}

struct Service(SocketAddr);

impl Dial for Service {
    fn knows(&self, host: &str) -> bool {
        host == "minio"
    }
    fn dial(&self, _host: &str, port: u16, timeout: Duration) -> std::io::Result<TcpStream> {
        assert_eq!(port, 9000);
        TcpStream::connect_timeout(&self.0, timeout)
    }
}

#[test]
fn by_the_name_of_a_service_and_in_place_of_another() {
    let Some(minio) = Minio::start() else { return };
    let cancel = Cancel::new();
    let inside = Inside::new(Arc::new(Service(minio.address)));
    let named = S3Source {
        endpoint: "minio:9000".into(),
        create_bucket: Some(CreateBucket::default()),
        ..minio.source("by-name")
    };
    let outside = Outside { inside: inside.clone(), ..Outside::default() };
    let driver = S3Driver::new(&named, &outside).unwrap();
    driver.save(Payload::File(&mut &b"named"[..]), &cancel).unwrap();
    assert_eq!(text(&driver), "named");
    // AWS's name, answered by the Service.
    let aws = S3Source { endpoint: "s3.amazonaws.com".into(), insecure: false, ..named };
    let endpoints = Endpoints::parse(["s3.amazonaws.com=http://minio:9000"]).unwrap();
    let driver = S3Driver::new(&aws, &Outside { endpoints, inside, ..Outside::default() }).unwrap();
    assert_eq!(text(&driver), "named");
}

#[test]
fn nobody_there_is_told_in_time() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let source = |endpoint: &str| S3Source {
        endpoint: endpoint.into(),
        bucket: "b".into(),
        key: "k".into(),
        keys: Some(("a".into(), "s".into())),
        ..S3Source::default()
    };
    for (endpoint, text) in [
        ("s3.windlass.invalid".to_owned(), "--remap-endpoint s3.windlass.invalid=http://HOST:PORT"),
        (closed.to_string(), "refused"),
    ] {
        let begun = Instant::now();
        let error = S3Driver::new(&source(&endpoint), &Outside::default())
            .and_then(|driver| driver.load(&Cancel::new()).map(drop))
            .unwrap_err();
        assert!(error.to_string().contains(text), "{endpoint}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{endpoint}: {:?}", begun.elapsed());
    }
}
