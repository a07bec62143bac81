use std::path::Path;
use std::time::{Duration, Instant};

use windlass_artifacts::git::{
    Checkout, Credentials, GitAccess, GitError, GitSource, NoProgress, checkout, checkout_at,
};
use windlass_artifacts::{AllowPaths, Cancel, Owner, Remap, Root, Secret};

use crate::repo::{Fixture, Server, command, git, have_git};

fn access(dir: &Path) -> GitAccess {
    GitAccess { allow: AllowPaths::new([dir.to_owned()]), ..GitAccess::default() }
}

fn source(repo: &str, revision: Option<&str>) -> GitSource {
    GitSource { repo: repo.to_owned(), revision: revision.map(str::to_owned), submodules: true, ..GitSource::default() }
}

fn run(source: &GitSource, access: &GitAccess, into: &Path) -> Result<Checkout, GitError> {
    checkout(source, access, into, &NoProgress, &Cancel::new())
}

/// What git itself says about the result.
fn is_whole(tree: &Path, commit: &str) {
    assert_eq!(git(tree, &["status", "--porcelain"]), "", "work tree is clean");
    assert_eq!(git(tree, &["rev-parse", "HEAD"]), commit);
    assert!(commit.starts_with(&git(tree, &["rev-parse", "--short", "HEAD"])));
    git(tree, &["fsck", "--no-dangling"]);
}

fn both(fixture: &Fixture) -> [String; 2] {
    let server = Server::start(fixture.dir.path(), None);
    [format!("{}/app.git", server.url), fixture.bare().display().to_string()]
}

#[test]
fn every_kind_of_revision() {
    if !have_git() {
        return;
    }
    let fixture = Fixture::new();
    let access = access(fixture.dir.path());
    let feature = git(&fixture.bare(), &["rev-parse", "feature/x"]);
    let [one, two, three] = [&fixture.commits[0], &fixture.commits[1], &fixture.commits[2]];
    let cases: Vec<(Option<&str>, &str, bool)> = vec![
        (None, three, true),
        (Some("HEAD"), three, true),
        (Some("main"), three, false),
        (Some("refs/heads/main"), three, false),
        (Some("origin/main"), three, false),
        (Some("feature/x"), &feature, false),
        (Some("light"), one, false),
        (Some("v1.0"), two, false),
        (Some("refs/tags/v1.0"), two, false),
        (Some(one), one, false),
        (Some(&two[..7]), two, false),
        (Some("main~2"), one, false),
        (Some("refs/pull/7/head"), &fixture.pull, false),
        (Some(&fixture.pull), &fixture.pull, false),
    ];
    for url in both(&fixture) {
        for depth in [None, Some(1)] {
            for (n, (revision, commit, on_branch)) in cases.iter().enumerate() {
                let out = tempfile::tempdir().unwrap();
                let tree = out.path().join("src");
                let what = format!("{url} {revision:?} depth {depth:?}");
                let done = run(&GitSource { depth, ..source(&url, *revision) }, &access, &tree)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(&done.commit, commit, "{what}");
                is_whole(&tree, commit);
                assert_eq!(done.branch.as_deref(), on_branch.then_some("main"), "{what}");
                let head = command(&tree).args(["symbolic-ref", "-q", "HEAD"]).output().unwrap().status.success();
                assert_eq!(head, *on_branch, "{what}: HEAD");
                assert_eq!(git(&tree, &["remote", "get-url", "origin"]), url);
                if n == 0 {
                    assert_eq!(
                        git(&tree, &["rev-list", "--count", "HEAD"]),
                        if depth.is_some() { "1" } else { "3" },
                        "{what}"
                    );
                    assert_eq!(std::fs::read_link(tree.join("link")).unwrap(), Path::new("src/deep"));
                    assert_eq!(std::fs::read_to_string(tree.join("VERSION")).unwrap(), "3\n");
                }
                // Nothing is left beside the tree.
                assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "{what}");
            }
        }
    }
}

#[test]
fn single_branch_and_fetch_refs() {
    if !have_git() {
        return;
    }
    let fixture = Fixture::new();
    let feature = git(&fixture.bare(), &["rev-parse", "feature/x"]);
    for url in both(&fixture) {
        let out = tempfile::tempdir().unwrap();
        let tree = out.path().join("src");
        let single = GitSource { single_branch: true, branch: Some("feature/x".into()), ..source(&url, None) };
        assert_eq!(run(&single, &access(fixture.dir.path()), &tree).unwrap().branch.as_deref(), Some("feature/x"));
        is_whole(&tree, &feature);
        assert_eq!(git(&tree, &["branch", "-r"]).trim(), "origin/feature/x", "{url}");
        let tree = out.path().join("more");
        let more =
            GitSource { fetch: vec!["+refs/pull/*:refs/remotes/origin/pull/*".into()], ..source(&url, Some("main")) };
        run(&more, &access(fixture.dir.path()), &tree).unwrap();
        assert_eq!(git(&tree, &["rev-parse", "origin/pull/7/head"]), fixture.pull, "{url}");
        is_whole(&tree, &fixture.commits[2]);
    }
}

#[test]
fn errors_name_the_url_and_the_cause_and_leave_nothing() {
    if !have_git() {
        return;
    }
    let fixture = Fixture::new();
    let server = Server::start(fixture.dir.path(), None);
    let secret = Server::start(fixture.dir.path(), Some(("me", "pass")));
    let out = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fail = |repo: &str, revision: Option<&str>| {
        let began = Instant::now();
        let error = run(&source(repo, revision), &access(fixture.dir.path()), &out.path().join("src")).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(8), "{repo}: {:?}", began.elapsed());
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "{repo}");
        (error.to_string(), error.is_retryable())
    };
    let bare = fixture.bare().display().to_string();
    let (text, retry) = fail(&format!("http://me:hidden@{closed}/app.git"), None);
    assert!(
        text.contains(&format!("http://{closed}/app.git")) && text.to_lowercase().contains("refused") && retry,
        "{text}"
    );
    assert!(!text.contains("hidden"));
    let (text, retry) = fail(&format!("{}/nothing.git", server.url), None);
    assert!(text.contains("404") && !retry, "{text}");
    let (text, retry) = fail(&format!("{}/app.git", secret.url), None);
    assert!(text.contains("asks for credentials") && !retry, "{text}");
    let (text, _) = fail("http://no-such-host.invalid/app.git", None);
    assert!(text.contains("no-such-host.invalid"), "{text}");
    for url in [format!("{}/app.git", server.url), bare.clone()] {
        let (text, retry) = fail(&url, Some("nothing"));
        assert!(text.contains("\"nothing\" does not exist; branches: feature/x, main") && !retry, "{text}");
        let (text, _) = fail(&url, Some(&"1".repeat(40)));
        assert!(text.contains("does not exist"), "{text}");
    }
    let (text, _) = fail("/etc", None);
    assert!(text.contains("--allow-path"), "{text}");
    let (text, _) = fail(&fixture.dir.path().join("work/src").display().to_string(), None);
    assert!(text.contains("no git repository"), "{text}");
}

#[test]
fn credentials_remap_and_origin() {
    if !have_git() {
        return;
    }
    let fixture = Fixture::new();
    let server = Server::start(fixture.dir.path(), Some(("me", "pa:ss")));
    let out = tempfile::tempdir().unwrap();
    let mut access = access(fixture.dir.path());
    access.remap = Remap::parse([format!("https://github.com/acme/={}/", server.url)]).unwrap();
    let credentials = Credentials { username: Secret::from("me"), password: Secret::from("pa:ss\n") };
    let given = GitSource { credentials: Some(credentials), ..source("git://github.com/acme/app.git", None) };
    let tree = out.path().join("src");
    run(&given, &access, &tree).unwrap();
    is_whole(&tree, &fixture.commits[2]);
    assert_eq!(git(&tree, &["remote", "get-url", "origin"]), "https://github.com/acme/app.git");
    // In the URL: used, and not written down.
    let url = format!("{}/app.git", server.url.replace("http://", "http://me:pa%3Ass@"));
    let tree = out.path().join("two");
    run(&source(&url, None), &access, &tree).unwrap();
    assert_eq!(git(&tree, &["remote", "get-url", "origin"]), format!("{}/app.git", server.url));
    assert!(!std::fs::read_to_string(tree.join(".git/config")).unwrap().contains("pa"));
}

#[test]
fn local_paths_do_not_lead_out() {
    if !have_git() {
        return;
    }
    let fixture = Fixture::new();
    let allowed = fixture.dir.path().join("allowed");
    std::fs::create_dir(&allowed).unwrap();
    let access = access(&allowed);
    let out = tempfile::tempdir().unwrap();
    let fail = |repo: &Path| {
        run(&source(&repo.display().to_string(), None), &access, &out.path().join("x")).unwrap_err().to_string()
    };
    std::os::unix::fs::symlink(fixture.bare(), allowed.join("link.git")).unwrap();
    assert!(fail(&allowed.join("link.git")).contains("--allow-path"));
    assert!(fail(&fixture.bare()).contains("--allow-path"));
    // A repository whose objects, or whose .git, are links to somewhere else.
    git(&allowed, &["clone", "-q", "--bare", "../app.git", "a.git"]);
    std::fs::write(allowed.join("a.git/objects/info/alternates"), "/etc\n").unwrap();
    assert!(fail(&allowed.join("a.git")).contains("alternates"));
    std::fs::create_dir(allowed.join("b")).unwrap();
    std::os::unix::fs::symlink(fixture.bare(), allowed.join("b/.git")).unwrap();
    assert!(!fail(&allowed.join("b")).is_empty());
    git(&allowed, &["clone", "-q", "--bare", "../app.git", "c.git"]);
    std::fs::remove_dir_all(allowed.join("c.git/objects")).unwrap();
    std::os::unix::fs::symlink(fixture.bare().join("objects"), allowed.join("c.git/objects")).unwrap();
    assert!(!fail(&allowed.join("c.git")).is_empty());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    // A work tree with .git is read too.
    git(&allowed, &["clone", "-q", "../app.git", "work"]);
    run(&source(&format!("file://{}", allowed.join("work").display()), Some("v1.0")), &access, &out.path().join("x"))
        .unwrap();
    is_whole(&out.path().join("x"), &fixture.commits[1]);
}

#[test]
fn submodules_and_theirs() {
    if !have_git() {
        return;
    }
    let fixture = Fixture::new();
    let root = fixture.dir.path();
    let add = |work: &Path, url: &str, path: &str| {
        git(work, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, path]);
        git(work, &["commit", "-q", "-m", "sub"]);
    };
    for (name, of, path) in [("lib", "app.git", "deep/app"), ("top", "lib.git", "vendor/lib")] {
        git(root, &["clone", "-q", "app.git", name]);
        add(&root.join(name), &format!("../{of}"), path);
        git(root, &["clone", "-q", "--mirror", name, &format!("{name}.git")]);
    }
    let out = tempfile::tempdir().unwrap();
    let server = Server::start(root, None);
    for (n, url) in [format!("{}/top.git", server.url), root.join("top.git").display().to_string()].iter().enumerate() {
        let into = out.path().join(n.to_string());
        let done = run(&source(url, Some("main")), &access(root), &into).unwrap();
        is_whole(&into, &done.commit);
        assert_eq!(std::fs::read_to_string(into.join("vendor/lib/deep/app/VERSION")).unwrap(), "3\n");
        assert_eq!(
            git(&into, &["submodule", "status", "--recursive"]).lines().filter(|l| !l.starts_with(' ')).count(),
            0
        );
        let without = out.path().join(format!("{n}-without"));
        run(&GitSource { submodules: false, ..source(url, Some("main")) }, &access(root), &without).unwrap();
        assert_eq!(git(&without, &["status", "--porcelain"]), "");
        assert!(!without.join("vendor/lib/VERSION").exists());
    }
    // What is said of a submodule that is not there names it; and nothing stays.
    let gone = root.join("gone");
    git(root, &["clone", "-q", "top", "gone"]);
    std::fs::remove_dir_all(root.join("lib.git")).unwrap();
    let error = run(&source(&gone.display().to_string(), None), &access(root), &out.path().join("gone")).unwrap_err();
    assert!(error.to_string().contains("vendor/lib") || error.to_string().contains("lib.git"), "{error}");
    assert!(!out.path().join("gone").exists());
}

#[test]
fn given_to_the_steps_user_into_a_filled_directory() {
    if !have_git() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("!!! NOT RUN: giving files away needs root");
        return;
    }
    let fixture = Fixture::new();
    let out = tempfile::tempdir().unwrap();
    let root = Root::open(out.path()).unwrap();
    let owner = Some(Owner { uid: 12345, gid: 12346 });
    std::fs::create_dir_all(out.path().join("volume/src")).unwrap();
    std::fs::write(out.path().join("volume/src/kept"), "").unwrap();
    let url = fixture.bare().display().to_string();
    for target in ["volume/src", "volume/new/src"] {
        checkout_at(
            &source(&url, Some("main")),
            &access(fixture.dir.path()),
            &root,
            Path::new(target),
            owner,
            &NoProgress,
            &Cancel::new(),
        )
        .unwrap();
        let tree = out.path().join(target);
        // As that user: git refuses to look at somebody else's repository.
        use std::os::unix::process::CommandExt;
        std::fs::set_permissions(out.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let status =
            command(&tree).args(["status", "--porcelain"]).uid(12345).gid(12346).env("HOME", "/").output().unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        let expected = if target == "volume/src" { "?? kept\n" } else { "" };
        assert_eq!(String::from_utf8_lossy(&status.stdout), expected);
    }
    assert!(out.path().join("volume/src/kept").exists());
    let owned =
        |path: &str| std::os::unix::fs::MetadataExt::uid(&std::fs::symlink_metadata(out.path().join(path)).unwrap());
    assert_eq!(owned("volume/new"), 12345);
    assert_eq!(owned("volume/new/src/link"), 12345);
    assert_eq!(owned("volume/new/src/.git/index"), 12345);
}

#[test]
fn cancelled_and_silent_hosts_end() {
    if !have_git() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/app.git", listener.local_addr().unwrap());
    let access = GitAccess { read_timeout: Duration::from_secs(2), ..GitAccess::default() };
    let began = Instant::now();
    let error = run(&source(&url, None), &access, &out.path().join("x")).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let fixture = Fixture::new();
    let cancel = Cancel::new();
    cancel.cancel();
    for url in both(&fixture) {
        let error = checkout(
            &source(&url, None),
            &self::access(fixture.dir.path()),
            &out.path().join("x"),
            &NoProgress,
            &cancel,
        );
        assert!(matches!(error, Err(GitError::Cancelled)), "{url}: {error:?}");
    }
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}
