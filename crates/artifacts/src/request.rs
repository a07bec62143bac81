//! One HTTP request as an `http` template asks for it, and its answer whatever its status. It must never print a header's
//! value, and reads no more of an answer than it was told.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};

use crate::outside::cause;
use crate::secret::Secret;

/// What is asked.
pub struct Request {
    /// The method.
    pub method: String,
    /// The address.
    pub url: String,
    /// Headers; `Host` replaces the one that follows from the address.
    pub headers: Vec<(String, Secret)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long all of it may take; nothing is no limit.
    pub timeout: Option<Duration>,
    /// Any certificate goes.
    pub insecure: bool,
}

/// What was answered.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers by their canonical name (`Content-Type`).
    pub headers: BTreeMap<String, Vec<String>>,
    /// The body.
    pub body: Vec<u8>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks once; an error is a text that names the address. Blocks.
pub fn send(request: &Request, body_bytes_max: u64) -> Result<Response, String> {
    crate::git::ensure_tls();
    let method = match request.method.as_str() {
        "" => "GET",
        method => method,
    };
    let shown = shown(&request.url);
    let failed = |why: &str| format!("{method} {shown}: {why}");
    let verb = reqwest::Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no HTTP method"))?;
    let url = url::Url::parse(&request.url).map_err(|e| failed(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(failed("only http and https can be asked"));
    }
    let builder = || {
        let builder = reqwest::blocking::Client::builder()
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(request.timeout);
        if request.insecure { builder.tls_danger_accept_invalid_certs(true) } else { builder }
    };
    let client = match builder().build() {
        // Without authorities plain HTTP still goes.
        Err(_) if url.scheme() == "http" => builder().tls_certs_only([]).build(),
        built => built,
    };
    let client = client.map_err(|e| failed(&cause(&e)))?;
    let mut asked = client.request(verb, url);
    for (name, value) in &request.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| failed(&format!("{name:?} is no header")))?;
        let mut value = HeaderValue::from_bytes(value.expose())
            .map_err(|_| failed(&format!("the value of header {name} cannot be sent")))?;
        value.set_sensitive(true);
        asked = asked.header(header, value);
    }
    if !request.body.is_empty() {
        asked = asked.body(request.body.clone());
    }
    let answer = asked.send().map_err(|e| failed(&cause(&e)))?;
    let status = answer.status().as_u16();
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in answer.headers() {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(canonical(name.as_str())).or_default().push(text);
    }
    let mut body = Vec::new();
    answer.take(body_bytes_max + 1).read_to_end(&mut body).map_err(|e| failed(&e.to_string()))?;
    if body.len() as u64 > body_bytes_max {
        return Err(failed(&format!("the answer is longer than the {body_bytes_max} bytes that a result may have")));
    }
    Ok(Response { status, headers, body })
}

/// A header's name as Go writes it: `content-type` is `Content-Type`.
pub fn canonical(name: &str) -> String {
    let mut upper = true;
    let letter = |c: char| {
        let c = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        upper = c == '-';
        c
    };
    name.chars().map(letter).collect()
}

/// Without what may be a credential.
fn shown(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else { return format!("{url:?}") };
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};

    /// Answers once; what was asked comes back.
    fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let (mut asked, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some((_, text)) = line.split_once("ontent-length:").or(line.split_once("ontent-Length:")) {
                    length = text.trim().parse().unwrap();
                }
                asked.push_str(&line);
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            asked.push_str(&String::from_utf8(body).unwrap());
            (&stream).write_all(answer.as_bytes()).unwrap();
            asked
        });
        (address, thread)
    }

    fn request(method: &str, url: String) -> Request {
        let headers = vec![("X-Key".to_owned(), "k".into()), ("Host".to_owned(), "other.example".into())];
        Request { method: method.into(), url, headers, body: b"text".to_vec(), timeout: None, insecure: false }
    }

    #[test]
    fn any_answer_is_one() {
        let (address, asked) =
            serve("HTTP/1.1 418 teapot\r\ncontent-type: text/x\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 2\r\n\r\nhi");
        let answer = send(&request("PUT", format!("http://{address}/p?q=1")), 10).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (418, &b"hi"[..]));
        assert_eq!(answer.headers["Content-Type"], ["text/x"]);
        assert_eq!(answer.headers["X-A"], ["1", "2"]);
        let asked = asked.join().unwrap();
        let lower = asked.to_lowercase();
        assert!(asked.starts_with("PUT /p?q=1 HTTP/1.1\r\n") && asked.ends_with("\r\n\r\ntext"), "{asked}");
        assert!(lower.contains("host: other.example\r\n") && lower.contains("x-key: k\r\n"), "{asked}");
        assert!(!lower.contains(&format!("host: {address}")), "{asked}");
    }

    #[test]
    fn faults_name_the_address_without_credentials() {
        let (address, _asked) = serve("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nlonger text");
        assert!(send(&request("GET", format!("http://{address}")), 10).unwrap_err().contains("longer than the 10"));
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = send(&request("", format!("http://me:secret@{closed}/x")), 10).unwrap_err();
        assert!(error.starts_with(&format!("GET http://{closed}/x: ")) && !error.contains("secret"), "{error}");
        assert!(send(&request("GET", "ftp://x/".into()), 10).unwrap_err().contains("only http"));
        assert!(send(&request("B D", "http://x/".into()), 10).unwrap_err().contains("no HTTP method"));
    }
}
