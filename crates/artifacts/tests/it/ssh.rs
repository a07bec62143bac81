//! Git over ssh against OpenSSH's own `sshd`, started here on loopback.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use windlass_artifacts::git::{Checkout, GitAccess, GitError, GitSource, Mirrors, NoProgress, ReadRequest, checkout};
use windlass_artifacts::{Cancel, Remap, Secret};

use crate::repo::{Fixture, git, have_git};

pub(crate) fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|p| p.is_file())
}

pub(crate) fn have_sshd() -> bool {
    let why = match (program("sshd"), program("ssh-keygen"), rustix::process::geteuid().is_root()) {
        (None, ..) | (_, None, _) => "sshd or ssh-keygen is missing; install openssh-server",
        // As another user it would look for that user's shell and account, which containers often do not have.
        (.., false) => "sshd needs root to sign anybody in",
        _ => return have_git(),
    };
    eprintln!("!!! NOT RUN: {why}");
    false
}

/// An `sshd` for one user with one key. It ends with the value.
pub(crate) struct Sshd {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn keygen(args: &[&str]) {
    let done = Command::new("ssh-keygen").arg("-q").args(args).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

impl Sshd {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        keygen(&["-t", "ed25519", "-N", "", "-f", &path("host")]);
        keygen(&["-t", "rsa", "-b", "2048", "-N", "", "-f", &path("host_rsa")]);
        for (name, args) in [
            ("ed25519", &["-t", "ed25519"][..]),
            ("ecdsa", &["-t", "ecdsa", "-b", "384"]),
            ("rsa", &["-t", "rsa", "-b", "2048"]),
            ("rsa_pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
            ("ecdsa_pem", &["-t", "ecdsa", "-m", "PEM"]),
            ("rsa_pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]),
            ("stranger", &["-t", "ed25519"]),
        ] {
            keygen(&[args, &["-N", "", "-f", &path(name)]].concat());
        }
        keygen(&["-t", "ed25519", "-N", "words", "-f", &path("locked")]);
        keygen(&["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "words", "-f", &path("locked_pem")]);
        let allowed: String = ["ed25519", "ecdsa", "rsa", "rsa_pem", "ecdsa_pem", "rsa_pkcs8"]
            .iter()
            .map(|name| std::fs::read_to_string(path(&format!("{name}.pub"))).unwrap())
            .collect();
        std::fs::write(path("authorized_keys"), allowed).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\nAcceptEnv GIT_PROTOCOL\n",
            path("host"),
            path("host_rsa"),
            path("authorized_keys")
        );
        std::fs::write(path("sshd_config"), config).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let sshd = program("sshd").unwrap();
        let mut child = Command::new(sshd)
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let line = log.next().unwrap_or_else(|| panic!("sshd ended: {said:?}")).unwrap();
            if line.contains("listening") {
                break;
            }
            said.push(line);
        }
        // Read on, or it would stand still one day.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, port, dir }
    }

    pub(crate) fn url(&self, repo: &Path) -> String {
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        format!("ssh://{user}@127.0.0.1:{}{}", self.port, repo.display())
    }

    pub(crate) fn key(&self, name: &str) -> Secret {
        Secret::new(std::fs::read(self.dir.path().join(name)).unwrap())
    }

    pub(crate) fn known(&self, name: &str) -> String {
        let public = std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        format!("[127.0.0.1]:{} {public}", self.port)
    }
}

fn access(known_hosts: &Path) -> GitAccess {
    GitAccess { known_hosts: vec![known_hosts.to_owned()], ..GitAccess::default() }
}

pub(crate) fn run(source: &GitSource, access: &GitAccess, into: &Path) -> Result<Checkout, GitError> {
    checkout(source, access, into, &NoProgress, &Cancel::new())
}

#[test]
fn every_kind_of_key_and_what_it_brings() {
    if !have_sshd() {
        return;
    }
    let (fixture, sshd, out) = (Fixture::new(), Sshd::start(), tempfile::tempdir().unwrap());
    let hosts = out.path().join("known");
    std::fs::write(&hosts, sshd.known("host.pub")).unwrap();
    let access = access(&hosts);
    let source = |key: &str, revision: Option<&str>| GitSource {
        repo: sshd.url(&fixture.bare()),
        revision: revision.map(str::to_owned),
        ssh_key: Some(sshd.key(key)),
        submodules: true,
        ..GitSource::default()
    };
    let revisions = [None, Some("v1.0"), Some("feature/x"), Some(fixture.pull.as_str()), Some("light"), Some("main")];
    for (key, revision) in ["ed25519", "ecdsa", "rsa", "rsa_pem", "ecdsa_pem", "rsa_pkcs8"].iter().zip(revisions) {
        let into = out.path().join(key);
        let done = run(&source(key, revision), &access, &into).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(git(&into, &["rev-parse", "HEAD"]), done.commit);
        assert_eq!(git(&into, &["status", "--porcelain"]), "", "{key}");
        git(&into, &["fsck", "--no-dangling"]);
        assert_eq!(git(&into, &["config", "remote.origin.url"]), sshd.url(&fixture.bare()));
    }
    let shallow = GitSource { depth: Some(1), ..source("ed25519", Some("main")) };
    run(&shallow, &access, &out.path().join("shallow")).unwrap();
    assert_eq!(git(&out.path().join("shallow"), &["rev-list", "--count", "HEAD"]), "1");
    let single = GitSource {
        single_branch: true,
        branch: Some("feature/x".into()),
        fetch: vec!["refs/pull/7/head:refs/pull/7/head".into()],
        ..source("ed25519", None)
    };
    run(&single, &access, &out.path().join("single")).unwrap();
    assert_eq!(git(&out.path().join("single"), &["rev-parse", "refs/pull/7/head"]), fixture.pull);

    let fail = |source: &GitSource| {
        let into = out.path().join("fails");
        let error = run(source, &access, &into).unwrap_err();
        assert!(!into.exists() && !error.is_retryable(), "{error}");
        error.to_string()
    };
    for (key, text) in [
        ("locked", "has a passphrase"),
        ("locked_pem", "has a passphrase"),
        ("ed25519.pub", "it is the public key"),
        ("stranger", "the host refused the ssh key ssh-ed25519 SHA256:"),
    ] {
        let error = fail(&source(key, None));
        assert!(error.contains(text), "{key}: {error}");
    }
    assert!(fail(&GitSource { ssh_key: None, ..source("rsa", None) }).contains("sshPrivateKeySecret"));
    let gone = GitSource { repo: sshd.url(Path::new("/no/such.git")), ..source("rsa", None) };
    assert!(fail(&gone).contains("the host said"), "{}", fail(&gone));
    assert!(fail(&source("rsa", Some("nowhere"))).contains("branches: feature/x, main"));
}

#[test]
fn host_keys_are_checked() {
    if !have_sshd() {
        return;
    }
    let (fixture, sshd, out) = (Fixture::new(), Sshd::start(), tempfile::tempdir().unwrap());
    let hosts = out.path().join("ssh_known_hosts");
    let source =
        GitSource { repo: sshd.url(&fixture.bare()), ssh_key: Some(sshd.key("ed25519")), ..GitSource::default() };
    let into = out.path().join("x");
    let error = run(&source, &access(&hosts), &into).unwrap_err().to_string();
    // The message holds the whole line: pasted, it is enough.
    let line = error.lines().find(|l| l.trim().starts_with("[127.0.0.1]")).unwrap().trim();
    assert!(error.contains("is not known: ssh-ed25519 SHA256:") && error.contains("insecureIgnoreHostKey"), "{error}");
    assert!(error.contains(&hosts.display().to_string()), "{error}");
    std::fs::write(&hosts, format!("{line}\n")).unwrap();
    run(&source, &access(&hosts), &into).unwrap();
    // Where only the RSA key is known, the host is asked for that one.
    std::fs::write(&hosts, sshd.known("host_rsa.pub")).unwrap();
    run(&source, &access(&hosts), &out.path().join("rsa")).unwrap();
    std::fs::write(&hosts, sshd.known("stranger.pub")).unwrap();
    let error = run(&source, &access(&hosts), &out.path().join("y")).unwrap_err().to_string();
    assert!(error.contains("is not the one that is known"), "{error}");
    let trusting = GitSource { ignore_host_key: true, ..source };
    run(&trusting, &access(&hosts), &out.path().join("y")).unwrap();
}

#[test]
fn remapped_and_mirrored() {
    if !have_sshd() {
        return;
    }
    let (fixture, sshd, out) = (Fixture::new(), Sshd::start(), tempfile::tempdir().unwrap());
    let hosts = out.path().join("known");
    std::fs::write(&hosts, sshd.known("host.pub")).unwrap();
    let base = sshd.url(fixture.dir.path());
    let remap = Remap::parse([format!("git@bitbucket.org:team/={base}/")]).unwrap();
    let access = GitAccess { remap, ..access(&hosts) };
    let source = GitSource {
        repo: "git@bitbucket.org:team/app.git".into(),
        ssh_key: Some(sshd.key("rsa")),
        ..GitSource::default()
    };
    run(&source, &access, &out.path().join("x")).unwrap();
    let config = std::fs::read_to_string(out.path().join("x/.git/config")).unwrap();
    assert!(config.contains("git@bitbucket.org:team/app.git") && !config.contains("127.0.0.1"), "{config}");
    let mirrors = Mirrors::new(out.path().join("mirrors"), access);
    let request = ReadRequest {
        url: source.repo.clone(),
        path: "VERSION".into(),
        ssh_key: source.ssh_key.clone(),
        bytes_max: 100,
        ..ReadRequest::default()
    };
    assert_eq!(mirrors.read_file(&request, &Cancel::new()).unwrap().bytes, b"3\n");
}

#[test]
fn nobody_there_is_told_in_time() {
    let out = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    if program("ssh-keygen").is_none() {
        eprintln!("!!! NOT RUN: ssh-keygen is missing; install openssh-client");
        return;
    }
    let key = dir.path().join("key");
    keygen(&["-t", "ed25519", "-N", "", "-f", &key.display().to_string()]);
    let key = Secret::new(std::fs::read(key).unwrap());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let access = GitAccess { read_timeout: Duration::from_secs(1), ..GitAccess::default() };
    for (url, text) in [
        ("git@windlass.invalid:a/b.git".to_owned(), "--remap-git git@windlass.invalid:=URL"),
        (format!("ssh://git@{closed}/a"), "refused"),
        (format!("ssh://git@{}/a", silent.local_addr().unwrap()), "no ssh answer within 1 s"),
        ("https://windlass.invalid/a/b".to_owned(), "--remap-git https://windlass.invalid/=URL"),
    ] {
        let begun = Instant::now();
        let source = GitSource { repo: url.clone(), ssh_key: Some(key.clone()), ..GitSource::default() };
        let error = run(&source, &access, &out.path().join("x")).unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains(text), "{url}: {error}");
        // The promise that issue 4 makes; the patience that is configured is 4 s.
        assert!(begun.elapsed() < Duration::from_secs(5), "{url}: {:?}", begun.elapsed());
    }
}
