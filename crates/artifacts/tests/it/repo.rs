//! A repository made by the git program, and a server for it: `git http-backend` behind a few lines of HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Whether git is there; the tests that need it say so when it is not.
pub(crate) fn have_git() -> bool {
    let have = Command::new("git").arg("--version").output().is_ok_and(|o| o.status.success());
    if !have {
        eprintln!("!!! NOT RUN: the git program is missing; install git to run this test");
    }
    have
}

pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let output = command(dir).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.org");
    command
}

/// `<dir>/app.git`, bare: three commits on main, `feature/x`, a light and an annotated tag, `refs/pull/7/head`.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) commits: Vec<String>,
    pub(crate) pull: String,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        git(&work, &["init", "-q", "-b", "main"]);
        let mut commits = Vec::new();
        for n in 1..=3 {
            std::fs::create_dir_all(work.join("src/deep")).unwrap();
            std::fs::write(work.join("VERSION"), format!("{n}\n")).unwrap();
            std::fs::write(work.join("src/deep/main.txt"), "text\n").unwrap();
            if n == 1 {
                std::fs::write(work.join("run.sh"), "#!/bin/sh\n").unwrap();
                std::fs::write(work.join("crlf.txt"), "a\r\nb\r\n").unwrap();
                std::fs::write(work.join(".gitattributes"), "*.txt text=auto\ncrlf.txt -text\n").unwrap();
                std::os::unix::fs::symlink("src/deep", work.join("link")).unwrap();
                let mut mode = std::fs::metadata(work.join("run.sh")).unwrap().permissions();
                std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
                std::fs::set_permissions(work.join("run.sh"), mode).unwrap();
                std::fs::create_dir(work.join(".ci")).unwrap();
                std::fs::write(work.join(".ci/workflow.yaml"), "kind: Workflow\n").unwrap();
            }
            git(&work, &["add", "-A"]);
            git(&work, &["commit", "-q", "-m", &format!("commit {n}")]);
            commits.push(git(&work, &["rev-parse", "HEAD"]));
        }
        git(&work, &["tag", "light", &commits[0]]);
        git(&work, &["tag", "-a", "-m", "one", "v1.0", &commits[1]]);
        git(&work, &["checkout", "-q", "-b", "feature/x", &commits[0]]);
        std::fs::write(work.join("feature"), "x").unwrap();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "feature"]);
        git(&work, &["checkout", "-q", "--detach", &commits[2]]);
        git(&work, &["commit", "-q", "--allow-empty", "-m", "pull"]);
        let pull = git(&work, &["rev-parse", "HEAD"]);
        git(&work, &["update-ref", "refs/pull/7/head", &pull]);
        git(&work, &["checkout", "-q", "main"]);
        git(dir.path(), &["clone", "-q", "--mirror", "work", "app.git"]);
        Self { dir, commits, pull }
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.dir.path().join("app.git")
    }
}

/// Serves every repository beneath a directory. Threads end with the test process.
pub(crate) struct Server {
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(root: &Path, login: Option<(&str, &str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let root = root.to_owned();
        let login: Option<Arc<str>> = login.map(|(user, password)| Arc::from(format!("{user}:{password}")));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (root, login) = (root.clone(), login.clone());
                std::thread::spawn(move || {
                    if let Ok(stream) = stream {
                        let _ = answer(stream, &root, login.as_deref());
                    }
                });
            }
        });
        Self { url }
    }
}

fn answer(stream: TcpStream, root: &Path, login: Option<&str>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    let mut line = String::new();
    reader.read_line(&mut line)?;
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
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    if let Some(login) = login {
        let given = header("authorization").and_then(|v| v.strip_prefix("Basic ")).map(decode64).unwrap_or_default();
        if given != login.as_bytes() {
            return out.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    }
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else {
        body.resize(header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0), 0);
        reader.read_exact(&mut body)?;
    }
    let mut child = command(root)
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", &method)
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
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
    let status = head.lines().find_map(|l| l.strip_prefix("Status: ")).unwrap_or("200 OK");
    let rest: String =
        head.lines().filter(|l| !l.starts_with("Status:") && !l.is_empty()).map(|l| format!("{l}\r\n")).collect();
    let content = &answer[split..];
    write!(out, "HTTP/1.1 {status}\r\n{rest}Content-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
    out.write_all(content)
}

fn decode64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::new());
    for digit in text.bytes().filter_map(value) {
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
