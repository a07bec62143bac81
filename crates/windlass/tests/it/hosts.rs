//! Hosts on this machine's loopback that cases need ill: away, silent, broken off, refusing; and well ones to compare.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a host is asked.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    headers: Vec<(String, String)>,
    /// So many requests with this method came before.
    pub(crate) before: usize,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What it does then.
pub(crate) enum Reply {
    /// A status, headers (each ending in a line break) and a body.
    Says(u16, String, Vec<u8>),
    /// Nothing, and the connection stays open.
    Silence,
    /// Reads a little of the body, and goes away.
    BreaksOff,
    /// What `git http-backend` says about the repositories beneath this directory.
    Git(PathBuf),
}

impl Reply {
    pub(crate) fn status(code: u16) -> Self {
        Self::Says(code, String::new(), Vec::new())
    }
}

/// A host. Its threads end with the test process.
pub(crate) struct Host {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// An address on which nobody listens: it was just given back.
pub(crate) fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Host {
    pub(crate) fn start(manner: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", manner)
    }

    /// Where others than this machine reach it, say.
    pub(crate) fn start_at(address: &str, manner: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, manner) = (asked.clone(), Arc::new(manner));
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (log, manner) = (log.clone(), manner.clone());
                // Whoever asks may go away in the middle: that ends the thread and nothing else.
                std::thread::spawn(move || while answer(&stream, &log, &*manner).is_ok_and(|more| more) {});
            }
        });
        Self { address, asked }
    }

    /// Takes every connection and never says a word.
    pub(crate) fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
        Self { address, asked: Arc::default() }
    }

    /// Repositories beneath `root`, once `open` is set; before that, silence.
    pub(crate) fn git(root: &Path, open: Arc<AtomicBool>) -> Self {
        let root = root.to_owned();
        Self::start(move |_| if open.load(Ordering::SeqCst) { Reply::Git(root.clone()) } else { Reply::Silence })
    }

    /// `METHOD path` of every request so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(stream: &TcpStream, log: &Mutex<Vec<String>>, manner: &dyn Fn(&Asked) -> Reply) -> std::io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(false);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("/").to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|l| l.split(' ').next() == Some(method.as_str())).count();
        log.push(format!("{method} {path}"));
        before
    };
    let asked = Asked { path: path.to_owned(), query: query.to_owned(), method, headers, before };
    let reply = manner(&asked);
    match reply {
        Reply::Silence => {
            // As long as the other side stays, and the test lives.
            stream.set_read_timeout(Some(Duration::from_secs(600)))?;
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
            Ok(false)
        }
        Reply::BreaksOff => {
            let _ = reader.read(&mut [0; 512])?;
            Ok(false)
        }
        Reply::Says(status, headers, content) => {
            body(&mut reader, &asked)?;
            say(stream, &format!("{status} x"), &headers, &content, asked.method == "HEAD")
        }
        Reply::Git(root) => {
            let body = body(&mut reader, &asked)?;
            let (status, headers, content) = http_backend(&root, &asked, body)?;
            say(stream, &status, &headers, &content, false)
        }
    }
}

fn say(mut stream: &TcpStream, status: &str, headers: &str, content: &[u8], head: bool) -> std::io::Result<bool> {
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", content.len())?;
    if !head {
        stream.write_all(content)?;
    }
    Ok(true)
}

fn body(reader: &mut impl BufRead, asked: &Asked) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if !asked.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
        body.resize(asked.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0), 0);
        reader.read_exact(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(body);
        }
    }
}

/// The CGI program that git brings along.
fn http_backend(root: &Path, asked: &Asked, body: Vec<u8>) -> std::io::Result<(String, String, Vec<u8>)> {
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &asked.path)
        .env("QUERY_STRING", &asked.query)
        .env("REQUEST_METHOD", &asked.method)
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("CONTENT_TYPE", asked.header("content-type").unwrap_or_default())
        .env("GIT_PROTOCOL", asked.header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    std::thread::spawn(move || stdin.write_all(&body));
    let mut answer = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut answer)?;
    child.wait()?;
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let status = head.lines().find_map(|l| l.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let headers = head.lines().filter(|l| !l.starts_with("Status:") && !l.is_empty());
    Ok((status, headers.map(|l| format!("{l}\r\n")).collect(), answer[split..].to_vec()))
}
