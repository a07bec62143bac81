use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use windlass_artifacts::store::{Content, Driver, HttpAuth, HttpDriver, OAuth2, Payload, StoreError};
use windlass_artifacts::{Cancel, Endpoints, Outside, Secret};

/// One object behind basic authentication, one request a connection.
fn serve() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/bucket/key?sig=hidden", listener.local_addr().unwrap());
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    std::thread::spawn(move || {
        let mut object: Option<Vec<u8>> = None;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap() == 0 {
                    break;
                }
            }
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|l| l.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            let method = head.split(' ').next().unwrap().to_owned();
            seen.lock().unwrap().push(head.clone());
            let allowed = lower.contains("authorization: basic bwu6cgfzcw==");
            let (status, content) = match method.as_str() {
                _ if !allowed => ("403 Forbidden", None),
                "PUT" => {
                    object = Some(body);
                    ("201 Created", None)
                }
                "DELETE" => {
                    object = None;
                    ("204 No Content", None)
                }
                _ if object.is_none() => ("404 Not Found", None),
                "GET" => ("200 OK", object.clone()),
                _ => ("200 OK", None),
            };
            let content = content.unwrap_or_default();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len())
                .unwrap();
            stream.write_all(&content).unwrap();
        }
    });
    (url, log)
}

#[test]
fn put_get_head_delete() {
    let (url, log) = serve();
    let auth = || Some(HttpAuth::Basic { username: "me".into(), password: "pass".into() });
    let driver =
        HttpDriver::new(&url, vec![("X-Trace".into(), Secret::from("1"))], auth(), &Outside::default()).unwrap();
    let cancel = Cancel::new();
    assert!(!driver.exists(&cancel).unwrap());
    assert!(matches!(driver.load(&cancel), Err(StoreError::NotFound(_))));
    assert_eq!(driver.save(Payload::File(&mut &b"bytes"[..]), &cancel).unwrap().bytes, 5);
    assert!(driver.exists(&cancel).unwrap());
    let Content::File(reader) = driver.load(&cancel).unwrap() else { panic!("a file") };
    assert_eq!(std::io::read_to_string(reader).unwrap(), "bytes");
    driver.delete(&cancel).unwrap();
    assert!(!driver.exists(&cancel).unwrap());
    assert!(log.lock().unwrap().iter().all(|head| head.to_ascii_lowercase().contains("x-trace: 1")));
    let error =
        HttpDriver::new(&url, vec![], None, &Outside::default()).unwrap().load(&cancel).err().unwrap().to_string();
    assert!(error.contains("403") && !error.contains("hidden"), "{error}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = HttpDriver::new(&format!("http://{closed}/x"), vec![], auth(), &Outside::default()).unwrap();
    let error = away.load(&cancel).err().unwrap();
    assert!(error.is_retryable() && error.to_string().contains("refused"), "{error}");
    assert!(error.to_string().contains("--remap-endpoint 127.0.0.1:"), "{error}");
    // A server that stands in for another: asked there, told by the name that the workflow has.
    let port = url.split(['/', ':']).nth(4).unwrap();
    let outside = Outside {
        endpoints: Endpoints::parse([format!("files.example.org=http://127.0.0.1:{port}")]).unwrap(),
        ..Outside::default()
    };
    let mapped = HttpDriver::new("https://files.example.org/bucket/key", vec![], auth(), &outside).unwrap();
    assert!(!mapped.exists(&cancel).unwrap());
    assert!(mapped.load(&cancel).err().unwrap().to_string().contains("files.example.org"));
    assert!(HttpDriver::new("ftp://x/y", vec![], None, &Outside::default()).is_err());
}

/// A server of tokens that only knows clients by the body, and an object for who has a token.
#[test]
fn a_token_is_asked_for_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|l| l.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            let form = "grant_type=client_credentials&scope=read+write&audience=a%26b&client_id=me&client_secret=s%3Ds";
            let (status, content) = match head.split(' ').nth(1).unwrap() {
                "/token" if body == form.as_bytes() => ("200 OK", r#"{"access_token": "t0ken"}"#),
                "/token" => ("401 Unauthorized", ""),
                _ if lower.contains("authorization: bearer t0ken") => ("200 OK", "behind the token"),
                _ => ("403 Forbidden", ""),
            };
            let length = content.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}")
                .unwrap();
        }
    });
    let load = |secret: &str| {
        let oauth = OAuth2 {
            client_id: "me".into(),
            client_secret: secret.into(),
            token_url: format!("http://{address}/token").as_str().into(),
            scopes: vec!["read".into(), "write".into()],
            parameters: vec![("audience".into(), "a&b".into())],
        };
        let auth = Some(HttpAuth::OAuth2(Box::new(oauth)));
        let url = format!("http://{address}/object");
        HttpDriver::new(&url, vec![], auth, &Outside::default()).unwrap().load(&Cancel::new())
    };
    let Ok(Content::File(reader)) = load("s=s") else { panic!("a file") };
    assert_eq!(std::io::read_to_string(reader).unwrap(), "behind the token");
    let error = load("hidden").err().unwrap().to_string();
    assert!(error.contains("/token: no token: 401") && !error.contains("hidden"), "{error}");
    let bad = Some(HttpAuth::Certificate("no certificate".into()));
    let error = HttpDriver::new("https://example.invalid/x", vec![], bad, &Outside::default()).err().unwrap();
    assert!(error.to_string().contains("client certificate"), "{error}");
}
