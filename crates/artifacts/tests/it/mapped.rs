//! What a rule leads to is down, strange or forbidden: messages say the name that the user wrote, and never the other.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use windlass_artifacts::git::{GitAccess, GitSource};
use windlass_artifacts::outside::Outside;
use windlass_artifacts::store::{Driver, HttpDriver, S3Driver, S3Source};
use windlass_artifacts::{Cancel, Endpoints, Remap, Secret};

use crate::ssh::{Sshd, have_sshd, keygen, program, run};

/// A port that nobody listens on.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Something that is no git, no S3 and no TLS.
fn strange() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

#[test]
fn mapped_names_are_not_told() {
    let out = tempfile::tempdir().unwrap();
    if program("ssh-keygen").is_none() {
        eprintln!("!!! NOT RUN: ssh-keygen is missing; install openssh-client");
        return;
    }
    let key = out.path().join("key");
    keygen(&["-t", "ed25519", "-N", "", "-f", &key.display().to_string()]);
    let key = Secret::new(std::fs::read(key).unwrap());
    let forbidden = out.path().join("forbidden").display().to_string();
    let (mut told, cancel) = (Vec::new(), Cancel::new());
    for (repo, from, to, wanted) in [
        ("https://forge.example.org/a/b", "https://forge.example.org/", format!("http://{}/", closed()), "refused"),
        ("https://forge.example.org/a/b", "https://forge.example.org/", format!("http://{}/", strange()), "500"),
        ("https://forge.example.org/a/b", "https://forge.example.org/", format!("https://{}/", strange()), ""),
        ("git@forge.example.org:a/b", "git@forge.example.org:", format!("ssh://me@{}/", closed()), "refused"),
        (
            "git@forge.example.org:a/b",
            "git@forge.example.org:",
            "ssh://me@windlass-other.invalid/".into(),
            "--remap-git",
        ),
        ("git@forge.example.org:a/b", "git@forge.example.org:", format!("{forbidden}/"), "--allow-path"),
    ] {
        let access = GitAccess { remap: Remap::parse([format!("{from}={to}")]).unwrap(), ..GitAccess::default() };
        let source = GitSource { repo: repo.into(), ssh_key: Some(key.clone()), ..GitSource::default() };
        let error = run(&source, &access, &out.path().join("x")).unwrap_err().to_string();
        assert!(error.contains(repo) && error.contains(wanted), "{to}: {error}");
        told.push((to, error));
    }
    for (to, url) in [(closed(), "http"), (strange(), "https"), ("windlass-other.invalid:1".into(), "http")] {
        let rule = format!("files.example.org={url}://{to}");
        let outside = Outside { endpoints: Endpoints::parse([rule]).unwrap(), ..Outside::default() };
        let driver = HttpDriver::new("https://files.example.org/x", vec![], None, &outside).unwrap();
        let error = driver.load(&cancel).err().unwrap().to_string();
        assert!(error.contains("files.example.org is mapped by --remap-endpoint"), "{error}");
        told.push((to.clone(), error));
        let source = S3Source {
            endpoint: "files.example.org".into(),
            bucket: "b".into(),
            key: "k".into(),
            keys: Some(("a".into(), "b".into())),
            ..S3Source::default()
        };
        let error = S3Driver::new(&source, &outside).unwrap().load(&cancel).err().unwrap().to_string();
        assert!(error.contains("files.example.org is mapped by --remap-endpoint"), "{error}");
        told.push((to, error));
    }
    for (to, error) in &told {
        for hidden in ["127.0.0.1", "windlass-other", &forbidden] {
            assert!(!error.contains(hidden), "{to}: {error}");
        }
        println!("{error}");
    }
}

#[test]
fn a_strange_host_key_of_a_mapped_host_is_told_without_its_name() {
    if !have_sshd() {
        return;
    }
    let (sshd, out) = (Sshd::start(), tempfile::tempdir().unwrap());
    let hosts = out.path().join("known");
    let rule = format!("git@forge.example.org:={}/", sshd.url(out.path()));
    let source =
        GitSource { repo: "git@forge.example.org:none".into(), ssh_key: Some(sshd.key("rsa")), ..GitSource::default() };
    for (known, wanted) in [
        (String::new(), "the line that is in the log"),
        (sshd.known("stranger.pub"), "is not the one that is known"),
        (sshd.known("host.pub"), "the host said"),
    ] {
        std::fs::write(&hosts, known).unwrap();
        let access = GitAccess {
            remap: Remap::parse([rule.clone()]).unwrap(),
            known_hosts: vec![hosts.clone()],
            ..GitAccess::default()
        };
        let error = run(&source, &access, &out.path().join("x")).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("forge.example.org"), "{error}");
        assert!(!error.contains("127.0.0.1"), "{error}");
    }
}
