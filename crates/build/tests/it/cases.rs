//! The cases: each builds, and most checks are commands of the Dockerfile itself.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use windlass_build::{BuildError, Built};
use windlass_oci::client::{ClientOptions, DockerConfig, Secret};
use windlass_oci::registry::{TokenAuthorize, router};
use windlass_oci::{Reference, Store};

use crate::confined::{confined_as_without, confined_attacks, confined_bombs, confined_killed};
use crate::{Bench, Case};

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn list() -> Vec<(&'static str, Case)> {
            vec![$((stringify!($name), |bench| Box::pin($name(bench)))),*]
        }
    };
}

cases![
    runs_and_layers,
    cached,
    copies,
    context_ownership,
    deletes_and_links,
    stages,
    failing_command,
    ignored_files,
    escapes,
    archives,
    heredocs,
    arguments,
    configuration,
    single_snapshot,
    onbuild,
    pushes,
    faults,
    background,
    confined_as_without,
    confined_attacks,
    confined_bombs,
    confined_killed,
];

/// The topmost layer's directory, unpacked.
fn top(bench: &Bench, built: &Built) -> PathBuf {
    bench.store.rootfs(&built.image).unwrap().pop().unwrap()
}

async fn runs_and_layers(bench: Bench) {
    let built = bench
        .build("FROM bb\nRUN echo hello > /a && echo seen\nWORKDIR /w/x\nRUN [\"sh\", \"-c\", \"pwd > here; id -u\"]\n")
        .await;
    assert!(bench.log().contains("Step 2/4 : RUN echo hello"), "{}", bench.log());
    assert!(bench.log().contains("seen"));
    assert_eq!(built.image.layers().len(), 4);
    assert_eq!(std::fs::read_to_string(top(&bench, &built).join("w/x/here")).unwrap(), "/w/x\n");
    // What was mounted for the command is in no layer.
    for path in ["etc", "proc", "dev", "sys"] {
        assert!(!top(&bench, &built).join(path).exists(), "{path}");
    }
    let history = built.image.config().history().clone().unwrap_or_default();
    let layers = history.iter().filter(|entry| !entry.empty_layer().unwrap_or(false)).count();
    assert_eq!(layers, built.image.layers().len());
}

async fn cached(bench: Bench) {
    bench.file("a", "one");
    let text = "FROM bb AS s\nWORKDIR /w\nCOPY a .\nRUN cat a > b\nFROM bb\nCOPY --from=s /w/b /\nCMD [\"x\"]\n";
    let first = bench.build(text).await;
    assert_eq!((first.steps, first.cached), (4, 0));
    let second = bench.build(text).await;
    assert_eq!((second.steps, second.cached), (4, 4), "{}", bench.log());
    assert_eq!(first.digest(), second.digest(), "the same image, to the digest");
    // Another time is no change, another content is; what is copied from the stage is then the same again.
    bench.file("a", "one");
    assert_eq!(bench.build(text).await.cached, 4);
    let more = text.replace("cat a > b", "cat a > b; touch c");
    let third = bench.build(&more).await;
    assert_eq!(third.cached, 3, "COPY --from by content: {}", bench.log());
    bench.file("a", "two");
    assert_eq!(bench.build(text).await.cached, 1);
    let mut request = bench.request(text);
    request.cache = false;
    assert_eq!(bench.builder(ClientOptions::new()).build(request).await.unwrap().cached, 0);
}

async fn copies(bench: Bench) {
    for (path, text) in [("d/x", "x"), ("d/sub/y", "y"), ("one.txt", "1"), ("two.txt", "2"), ("three.md", "3")] {
        bench.file(path, text);
    }
    symlink("x", bench.context().join("d/link")).unwrap();
    symlink("d/x", bench.context().join("named")).unwrap();
    bench
        .build(concat!(
            "FROM bb\n",
            "RUN mkdir -m 700 /kept && mkdir /real && ln -s /real /dirlink && echo old > /target && ln -s target /filelink\n",
            "COPY d /kept\nRUN test -f /kept/x -a -f /kept/sub/y -a -L /kept/link && test $(stat -c %a /kept) = 700\n",
            "COPY *.txt /texts/\nRUN test $(ls /texts | wc -l) = 2\n",
            "COPY one.txt /dirlink/\nRUN test -f /real/one.txt -a -L /dirlink\n",
            "COPY two.txt /filelink\nRUN test -L /filelink && test $(cat /target) = 2\n",
            "COPY named /followed\nRUN test -f /followed -a ! -L /followed\n",
            "WORKDIR /deep/er\nCOPY one.txt .\nCOPY one.txt two.txt rel/\nRUN test -f /deep/er/one.txt -a -f rel/two.txt\n",
            "COPY --chown=12:34 --chmod=4750 one.txt /new/dir/owned\n",
            "RUN test $(stat -c %u:%g:%a /new/dir/owned) = 12:34:4750 && test $(stat -c %u /new/dir) = 12\n",
            "COPY --chown=77 one.txt /n\nRUN test $(stat -c %u:%g /n) = 77:77\n",
            "COPY --exclude=*.md --exclude=d . /all/\nRUN test ! -e /all/three.md -a ! -e /all/d -a -f /all/one.txt\n",
            "COPY one.txt /proc-like/..//x/../y\nRUN test -f /y\n",
        ))
        .await;
    let missing = bench.try_build("FROM bb\nCOPY absent /\n").await.unwrap_err();
    assert!(missing.to_string().contains("absent is not in the context"), "{missing}");
}

async fn context_ownership(bench: Bench) {
    bench.file("f", "f");
    let path = bench.context().join("f");
    std::os::unix::fs::chown(&path, Some(1234), Some(1234)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let built = bench.build("FROM bb\nCOPY f /f\n").await;
    let meta = top(&bench, &built).join("f").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777, meta.mtime()), (0, 0, 0o640, 1_000_000_000));
}

async fn deletes_and_links(bench: Bench) {
    let built = bench
        .build(concat!(
            "FROM bb\n",
            "RUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b && echo x > /h1 && ln /h1 /h2 && echo s > /s && chmod 4755 /s\n",
            "RUN rm /d/a && rm -r /h1 && test -f /h2\n",
            "RUN rm -r /d && mkdir /d && echo 3 > /d/c\n",
            "RUN test ! -e /d/b -a -f /d/c -a ! -e /h1 && test $(stat -c %a /s) = 4755\n",
        ))
        .await;
    // As another store sees it: from the blobs alone.
    let other = Store::open(bench.directory.join("other")).unwrap();
    let layout = bench.directory.join("layout");
    windlass_oci::layout::export_dir(&bench.store, built.digest(), &[], &layout).unwrap();
    let name = Reference::parse("again").unwrap();
    windlass_oci::layout::import_dir(&other, &layout, std::slice::from_ref(&name)).unwrap();
    let layers = other.rootfs(&other.get(&name).unwrap().unwrap()).unwrap();
    let first = &layers[1];
    assert_eq!(first.join("h1").metadata().unwrap().ino(), first.join("h2").metadata().unwrap().ino());
    let check = Bench { store: other, ..bench.clone() };
    check.build("FROM again\nRUN test ! -e /d/a -a ! -e /d/b -a -f /d/c -a ! -e /h1 -a -f /h2 && test -u /s\n").await;
}

async fn stages(bench: Bench) {
    let built = bench
        .build(concat!(
            "FROM bb AS unused\nRUN exit 1\n",
            "FROM bb AS one\nRUN echo 1 > /one && ln /one /uno && mkdir -p /t/u && chown 5:6 /t/u && touch /t/u/f\n",
            "FROM bb AS two\nRUN echo 2 > /two\n",
            "FROM one AS three\nRUN test -f /one\n",
            "FROM scratch\nCOPY --from=one /one /uno /d/\nCOPY --from=2 /two /\nCOPY --from=three /t /t\n",
            "COPY --from=bb /bin/busybox /bin/\nRUN [\"/bin/busybox\", \"test\", \"-f\", \"/two\"]\n",
        ))
        .await;
    let layers = bench.store.rootfs(&built.image).unwrap();
    assert_eq!(layers.len(), 5);
    assert_eq!(layers[0].join("d/one").metadata().unwrap().nlink(), 2, "hard links stay");
    let meta = layers[2].join("t/u").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid()), (5, 6), "owners of a stage stay");
    assert!(!bench.log().contains("exit 1"), "unused stages are not built");
    assert!(!layers[4].join("proc").exists() && !layers[4].join("etc").exists());
}

async fn failing_command(bench: Bench) {
    let error = bench.try_build("FROM bb\nRUN echo before; exit 42\nRUN echo never\n").await.unwrap_err();
    assert_eq!(error.exit_code(), 42);
    assert!(matches!(&error, BuildError::Command { code: 42, step } if step == "Step 2/3 : RUN echo before; exit 42"));
    assert!(bench.log().contains("before") && !bench.log().contains("never"));
    let error = bench.try_build("FROM bb\nRUN [\"/none\"]\n").await.unwrap_err();
    assert_eq!(error.exit_code(), 127);
}

async fn ignored_files(bench: Bench) {
    for path in ["a.log", "keep.log", "src/x.rs", "src/gen/y.rs", "node_modules/m", "sub/node_modules/n"] {
        bench.file(path, "x");
    }
    bench.file(
        ".dockerignore",
        "# none of these\n*.log\n!keep.log\n**/node_modules\nsrc/gen\n!src/gen/y.rs\nDockerfile\n",
    );
    bench
        .build(concat!(
            "FROM bb\nCOPY . /c/\n",
            "RUN cd /c && test ! -e a.log -a -f keep.log -a -f src/x.rs -a -f src/gen/y.rs -a ! -e node_modules -a ! -e sub/node_modules\n",
        ))
        .await;
    let error = bench.try_build("FROM bb\nCOPY a.log /\n").await.unwrap_err();
    assert!(error.to_string().contains(".dockerignore"), "{error}");
}

async fn escapes(bench: Bench) {
    let outside = bench.directory.join("secret");
    std::fs::write(&outside, "secret").unwrap();
    symlink(&outside, bench.context().join("absolute")).unwrap();
    symlink("../secret", bench.context().join("relative")).unwrap();
    symlink("..", bench.context().join("up")).unwrap();
    bench.file("fine", "fine");
    for source in ["absolute", "relative", "up/secret", "../secret", "../../../../../../etc/hostname"] {
        let error = bench.try_build(&format!("FROM bb\nCOPY {source} /x\n")).await.unwrap_err();
        assert!(error.to_string().contains("is not in the context"), "{source}: {error}");
    }
    // Links of the image lead to places of the image.
    let victim = bench.directory.join("victim");
    std::fs::create_dir(&victim).unwrap();
    let text = format!(
        "FROM bb\nRUN ln -s {0} /out && ln -s ../../../../..{0}/f /file\nCOPY fine /out/\nCOPY fine /file\nADD fine /out/deeper/\n",
        victim.display()
    );
    bench.build(&text).await;
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
}

async fn archives(bench: Bench) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, link: Option<&str>, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(text.len() as u64);
        header.set_mode(if kind == tar::EntryType::Directory { 0o750 } else { 0o640 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    };
    add("in", tar::EntryType::Directory, None, "");
    add("in/f", tar::EntryType::Regular, None, "text");
    add("in/hard", tar::EntryType::Link, Some("in/f"), "");
    add("in/soft", tar::EntryType::Symlink, Some("/etc"), "");
    add("in/soft/through", tar::EntryType::Regular, None, "stays inside");
    add("in/device", tar::EntryType::Char, None, "");
    let bytes = tar.into_inner().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, &bytes).unwrap();
    std::fs::write(bench.context().join("a.bin"), gz.finish().unwrap()).unwrap();
    bench.file("plain.tar", "not a tar");
    bench
        .build(concat!(
            "FROM bb\nADD a.bin plain.tar /t/\nCOPY a.bin /c/\n",
            "RUN test $(stat -c %u:%g:%a /t/in/f) = 7:8:640 && test $(stat -c %a /t/in) = 750\n",
            "RUN test $(stat -c %h /t/in/f) = 2 -a -L /t/in/soft -a -f /etc/through -a -f /t/plain.tar -a -f /c/a.bin\n",
        ))
        .await;
    // Made or said, never dropped in silence.
    let made = bench.try_build("FROM bb\nADD a.bin /t/\nRUN test -c /t/in/device\n").await.is_ok();
    bench.try_build("FROM bb\nADD --chown=3 a.bin /u/\n").await.unwrap();
    assert_ne!(made, bench.log().contains("warning: devices of a.bin were left out: u/in/device"), "{}", bench.log());
}

async fn heredocs(bench: Bench) {
    bench
        .build(concat!(
            "FROM bb\nARG v=1\nENV e=two\n",
            "RUN <<EOF\necho first > /a\necho second >> /a\nEOF\n",
            "RUN test $(wc -l < /a) = 2\n",
            "RUN <<EOF\n#!/bin/cat\nEOF\n",
            "RUN cat <<A > /x && cat <<'B' > /y\nx$e\nA\ny$e\nB\n",
            "RUN test $(cat /x) = xtwo && test \"$(cat /y)\" = 'y$e'\n",
            "COPY <<one <<'two' /d/\nv=$v 'e'=\"${e}\"\none\n$v\ntwo\n",
            "RUN grep -q \"^v=1 'e'=\\\"two\\\"$\" /d/one && grep -q '^$v$' /d/two\n",
        ))
        .await;
}

async fn arguments(bench: Bench) {
    let text = concat!(
        "ARG tag=latest\nARG both=global\nFROM bb:${tag} AS s\nARG both\nARG own=def\nARG TARGETARCH\nARG TARGETOS=mine\nENV wins=env\nARG wins=arg\n",
        "RUN test $both = global -a $own = given -a -n \"$TARGETARCH\" -a $TARGETOS = mine -a $wins = env -a $HTTP_PROXY = p\n",
        "RUN test -z \"$tag\"\n",
        "FROM s\nRUN test $own = given\nENV a=1 b=$own\nENV a=2 c=$a\nRUN test $c = 1 && test $a = 2 && test -z \"$HOME\" -o $HOME = /root\n",
        "USER 1000:2000\nWORKDIR /mine/too\nRUN test $(stat -c %u:%g /mine) = 1000:2000 && test $(id -u):$(id -g) = 1000:2000 && touch ok\n",
        "RUN --network=none test $(ls /sys/class/net) = lo\n",
        "FROM bb\nRUN test -z \"$own\"\n",
    );
    let build = |args: &[(&str, &str)]| {
        let mut request = bench.request(text);
        request.build_args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        request.target = Some("1".to_owned());
        let builder = bench.builder(ClientOptions::new());
        async move { builder.build(request).await }
    };
    let built = build(&[("own", "given"), ("HTTP_PROXY", "p"), ("nobody", "x")]).await;
    assert!(built.is_ok(), "{}\n{}", built.unwrap_err(), bench.log());
    assert!(bench.log().contains("warning: build argument nobody was given"), "{}", bench.log());
    // A proxy is no part of a key.
    let built = build(&[("own", "given"), ("HTTP_PROXY", "q")]).await.unwrap();
    assert_eq!(built.steps, built.cached);
}

async fn configuration(bench: Bench) {
    let built = bench
        .build(concat!(
            "FROM bb AS base\nCMD inherited\nFROM base\n",
            "LABEL a=\"b c\" d=e\nEXPOSE 80 53/udp 8000-8001\nVOLUME [\"/data\"]\nSTOPSIGNAL SIGINT\nUSER 5\n",
            "SHELL [\"/bin/sh\", \"-ec\"]\nENTRYPOINT run me\nHEALTHCHECK --interval=1m30s --retries=2 CMD true\nMAINTAINER me\n",
        ))
        .await;
    assert_eq!(built.steps, 0);
    let mut config = built.image.config_json()["config"].clone();
    config["Env"].take();
    insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap());
}

async fn single_snapshot(bench: Bench) {
    bench.file("a", "a");
    let mut request = bench.request("FROM bb\nCOPY a /a\nRUN cat /a > /b && rm /a\nWORKDIR /w\nENV x=y\n");
    request.single_snapshot = true;
    request.epoch = Some(0);
    let built = bench.builder(ClientOptions::new()).build(request.clone()).await.unwrap();
    assert_eq!(built.image.layers().len(), 2);
    let top = top(&bench, &built);
    assert!(top.join("b").exists() && top.join("w").exists() && !top.join("a").is_file());
    assert_eq!(top.join("b").metadata().unwrap().mtime(), 0);
    let again = bench.builder(ClientOptions::new()).build(request).await.unwrap();
    assert_eq!(again.digest(), built.digest(), "reproducible");
}

async fn onbuild(bench: Bench) {
    bench.file("f", "f");
    let name = Reference::parse("triggers").unwrap();
    let mut request = bench.request("FROM bb\nONBUILD COPY f /from-trigger\nONBUILD RUN test -f /from-trigger\n");
    request.names = vec![name];
    bench.builder(ClientOptions::new()).build(request).await.unwrap();
    let built = bench.build("FROM triggers\nRUN test -f /from-trigger\n").await;
    assert!(built.image.config_json()["config"].get("OnBuild").is_none());
}

async fn pushes(bench: Bench) {
    let remote = Store::open(bench.directory.join("remote")).unwrap();
    let app = router(remote.clone(), Arc::new(TokenAuthorize::new(Secret::new("token"))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut request = bench.request("FROM bb\nRUN echo pushed > /x\n");
    let local = Reference::local("team/app", "latest").unwrap();
    request.destinations = vec![local.clone(), Reference::parse(&format!("{address}/team/app:1")).unwrap()];
    let denied = bench.builder(ClientOptions::new()).build(request.clone()).await.unwrap_err();
    assert!(denied.to_string().contains("check the right to push"), "{denied}");
    let credentials = DockerConfig::default().with_basic(&address, "me", Secret::new("token"));
    let builder = bench.builder(ClientOptions { credentials, ..ClientOptions::new() });
    let built = builder.build(request).await.unwrap();
    assert_eq!(built.pushed.len(), 2);
    assert!(bench.log().contains(&format!("Pushed {address}/team/app@{}", built.digest())), "{}", bench.log());
    assert_eq!(bench.store.get(&local).unwrap().unwrap().digest(), built.digest());
    let there = remote.get(&Reference::local("team/app", "1").unwrap()).unwrap().unwrap();
    assert_eq!(there.digest(), built.digest());
    server.abort();
}

async fn faults(bench: Bench) {
    let error = bench
        .try_build("FORM bb\nFROM bb AS one\nCOPPY a b\nRUN --mount=type=cache,target=/x true\nCOPY --from=two x /\nADD https://x/y /\n")
        .await
        .unwrap_err();
    insta::assert_snapshot!(error.to_string());
    assert_eq!(error.exit_code(), 1);
}

async fn background(bench: Bench) {
    bench.build("FROM bb\nRUN (sleep 1; touch /late) & true\nRUN sleep 1.5; test ! -e /late\n").await;
}
