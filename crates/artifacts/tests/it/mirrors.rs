use windlass_artifacts::git::{GitAccess, GitError, Mirrors, ReadRequest};
use windlass_artifacts::{AllowPaths, Cancel};

use crate::repo::{Fixture, Server, git, have_git};

fn request(url: &str, revision: Option<&str>, path: &str) -> ReadRequest {
    ReadRequest {
        url: url.to_owned(),
        revision: revision.map(str::to_owned),
        reference: Some("refs/heads/main".to_owned()),
        path: path.to_owned(),
        bytes_max: 1 << 20,
        ..ReadRequest::default()
    }
}

#[test]
fn reads_a_file_at_a_revision() {
    if !have_git() {
        return;
    }
    let fixture = Fixture::new();
    let cache = tempfile::tempdir().unwrap();
    let access = GitAccess { allow: AllowPaths::new([fixture.dir.path().to_owned()]), ..GitAccess::default() };
    let mirrors = Mirrors::new(cache.path().join("git"), access);
    let server = Server::start(fixture.dir.path(), None);
    for url in [format!("{}/app.git", server.url), fixture.bare().display().to_string()] {
        let read =
            |revision: Option<&str>, path: &str| mirrors.read_file(&request(&url, revision, path), &Cancel::new());
        let text = |revision: Option<&str>| String::from_utf8(read(revision, "VERSION").unwrap().bytes).unwrap();
        assert_eq!(text(None), "3\n");
        assert_eq!(text(Some(&fixture.commits[0])), "1\n");
        assert_eq!(text(Some("v1.0")), "2\n");
        assert_eq!(text(Some("feature/x")), "1\n");
        assert_eq!(text(Some(&fixture.commits[0][..8])), "1\n");
        assert_eq!(read(None, "./.ci/workflow.yaml").unwrap().bytes, b"kind: Workflow\n");
        assert!(matches!(read(None, "nothing"), Err(GitError::NoFile { .. })));
        assert!(matches!(read(None, "src"), Err(GitError::NoFile { .. })));
        assert!(matches!(read(Some("nothing"), "VERSION"), Err(GitError::NoRevision { .. })));
        assert!(matches!(
            read(Some(&"a".repeat(40)), "VERSION"),
            Err(GitError::NoRevision { .. }) | Err(GitError::Broken { .. })
        ));
        let small = ReadRequest { bytes_max: 1, ..request(&url, None, "VERSION") };
        assert!(matches!(mirrors.read_file(&small, &Cancel::new()), Err(GitError::Unsupported { .. })));
    }
    // A push later: the new commit is there, by branch and by id.
    let work = fixture.dir.path().join("work");
    std::fs::write(work.join("VERSION"), "4\n").unwrap();
    git(&work, &["commit", "-q", "-am", "four"]);
    git(&work, &["push", "-q", "../app.git", "main"]);
    let four = git(&work, &["rev-parse", "HEAD"]);
    for url in [format!("{}/app.git", server.url), fixture.bare().display().to_string()] {
        for revision in [None, Some("main"), Some(four.as_str())] {
            let found = mirrors.read_file(&request(&url, revision, "VERSION"), &Cancel::new()).unwrap();
            assert_eq!(
                (found.bytes.as_slice(), found.commit.as_str()),
                (&b"4\n"[..], four.as_str()),
                "{url} {revision:?}"
            );
        }
    }
    // What was read by id is answered while the host is away.
    let found = mirrors.read_file(&request(&format!("{}/app.git", server.url), Some(&four), "VERSION"), &Cancel::new());
    assert!(found.is_ok());
}

#[test]
fn many_at_once() {
    if !have_git() {
        return;
    }
    let fixture = Fixture::new();
    let cache = tempfile::tempdir().unwrap();
    let mirrors = Mirrors::new(cache.path().to_owned(), GitAccess::default());
    let url = format!("{}/app.git", Server::start(fixture.dir.path(), None).url);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (mirrors, url, commit) = (&mirrors, &url, &fixture.commits[n % 3]);
            scope.spawn(move || mirrors.read_file(&request(url, Some(commit), "VERSION"), &Cancel::new()).unwrap());
        }
    });
}
