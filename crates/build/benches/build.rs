//! Cases a and b: ten small `RUN`s on busybox; `WORKDIR`, `COPY` of 2,000 files and a `RUN` over them. Cold (no cache, base
//! present) and warm, pushed into the local registry; beside buildah over runc where both are installed. Printed only.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use windlass_build::{Builder, Context, Request};
use windlass_oci::client::ClientOptions;
use windlass_oci::host::{HostSpec, build as from_host};
use windlass_oci::{Reference, Store, layout};
use windlass_sandbox::{EnterOptions, Host};

const ROUNDS: usize = 5;

fn main() {
    windlass_sandbox::early();
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        return;
    }
    let directory = tempfile::Builder::new().prefix("windlass-build-bench-").tempdir().unwrap();
    let host = Host::enter(EnterOptions::new(directory.path().join("scratch"))).unwrap();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let archive = directory.path().join("base.tar");
    base(&store, &archive);
    let mut a = String::from("FROM localhost/bb:latest\n");
    for i in 1..=10 {
        a += &format!("RUN echo step{i} > /f{i} && mkdir -p /d{i} && echo x > /d{i}/x\n");
    }
    let b = "FROM localhost/bb:latest\nWORKDIR /src\nCOPY files/ /src/\n\
             RUN find /src -type f | wc -l > /count && find /src -name '*7.txt' -exec touch {} +\n";
    println!("base: busybox; case b on busybox too (no debian base is made here)");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let peer = peer(directory.path(), &archive);
    for (name, text) in [("a", a.as_str()), ("b", b)] {
        let context = directory.path().join(name);
        files(&context, if name == "b" { 2000 } else { 0 });
        std::fs::write(context.join("Dockerfile"), text).unwrap();
        for (state, cache) in [("cold", false), ("warm", true)] {
            let builder =
                Builder::new(host.clone(), store.clone(), ClientOptions::new(), directory.path().join("cache"));
            let ours = median(|| {
                let mut request = Request::new(Context::open(&context).unwrap(), "Dockerfile", text);
                request.cache = cache;
                request.destinations = vec![Reference::local(&format!("bench/{name}"), "t").unwrap()];
                runtime.block_on(builder.build(request)).unwrap();
            });
            let theirs = peer.as_ref().map(|peer| median(|| peer.build(&context, cache)));
            match theirs {
                Some(theirs) => println!(
                    "{name} {state}: {ours:.3?}, buildah {theirs:.3?}, ratio {:.2}",
                    ours.as_secs_f64() / theirs.as_secs_f64()
                ),
                None => println!("{name} {state}: {ours:.3?} (buildah or runc is not installed: no ratio)"),
            }
        }
    }
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

fn files(context: &Path, count: usize) {
    let text: String = (0..4096).map(|i| char::from(b'a' + u8::try_from(i * 7919 % 26).unwrap())).collect();
    std::fs::create_dir_all(context).unwrap();
    for i in 0..count {
        let path = context.join(format!("files/d{}", i % 40));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(format!("{i}.txt")), format!("{i}{text}")).unwrap();
    }
}

fn base(store: &Store, archive: &Path) {
    let programs = tempfile::tempdir().unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).unwrap();
    std::fs::copy(busybox, programs.path().join("busybox")).unwrap();
    for applet in ["sh", "echo", "mkdir", "find", "wc", "touch"] {
        std::os::unix::fs::symlink("busybox", programs.path().join(applet)).unwrap();
    }
    let to = if Path::new("/bin").is_symlink() { "/usr/bin" } else { "/bin" };
    let spec = HostSpec { add: vec![(programs.path().to_owned(), to.into())], ..HostSpec::default() };
    let name = Reference::parse("localhost/bb:latest").unwrap();
    let image = from_host(store, &spec, std::slice::from_ref(&name)).unwrap();
    let file = std::fs::File::create(archive).unwrap();
    layout::export_tar(store, image.digest(), &[name], file).unwrap();
}

/// buildah, with an image store of its own.
struct Peer {
    root: PathBuf,
}

fn peer(directory: &Path, archive: &Path) -> Option<Peer> {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("buildah") || !there("runc") {
        return None;
    }
    let peer = Peer { root: directory.join("buildah") };
    let id = peer.command().args(["pull", "-q"]).arg(format!("oci-archive:{}", archive.display())).output().ok()?;
    let id = String::from_utf8_lossy(&id.stdout).trim().to_owned();
    let tagged = peer.command().args(["tag", &id, "localhost/bb:latest"]).status().ok()?;
    tagged.success().then_some(peer)
}

impl Peer {
    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "overlay", "--root"]).arg(&self.root);
        command.arg("--runroot").arg(self.root.with_extension("run"));
        command
    }

    fn build(&self, context: &Path, cache: bool) {
        let mut command = self.command();
        command.args(["bud", "--isolation", "oci", "--runtime", "/usr/sbin/runc", "--network", "host", "--layers"]);
        command.args(["--format", "oci", "-t", "img"]).args((!cache).then_some("--no-cache")).arg(context);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
