//! Builds for real. A host is entered while the process has one thread, so that this has its own `main`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod cases;
mod confined;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use windlass_build::{BuildError, Builder, Built, ConfinedUnpacker, Context, Log, Request};
use windlass_oci::client::ClientOptions;
use windlass_oci::host::{HostSpec, build as from_host};
use windlass_oci::{Reference, Store};
use windlass_sandbox::{EnterOptions, Host};

/// What every case gets: its own context, the host, and a store with the base `bb`.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) host: Host,
    pub(crate) store: Store,
    pub(crate) directory: PathBuf,
    pub(crate) log: Arc<Mutex<String>>,
}

pub(crate) type Case = fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>;

impl Bench {
    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.directory.join("context").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.directory.join("context")
    }

    pub(crate) fn builder(&self, client: ClientOptions) -> Builder {
        Builder::new(self.host.clone(), self.store.clone(), client, self.directory.join("cache"))
    }

    pub(crate) fn request(&self, dockerfile: &str) -> Request {
        self.log.lock().unwrap().clear();
        let log = self.log.clone();
        Request {
            log: Log::new(move |_, text| {
                let mut log = log.lock().unwrap();
                log.push_str(text);
                if !text.ends_with('\n') {
                    log.push('\n');
                }
            }),
            ..Request::new(Context::open(&self.context()).unwrap(), "Dockerfile", dockerfile)
        }
    }

    pub(crate) async fn try_build(&self, dockerfile: &str) -> Result<Built, BuildError> {
        self.builder(ClientOptions::new()).build(self.request(dockerfile)).await
    }

    pub(crate) async fn build(&self, dockerfile: &str) -> Built {
        match self.try_build(dockerfile).await {
            Ok(built) => built,
            Err(error) => panic!("{error}\n{}", self.log()),
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

fn main() -> ExitCode {
    windlass_sandbox::early();
    if let Some(code) = windlass_build::early() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let filter = std::env::args().nth(1).filter(|a| !a.starts_with('-')).unwrap_or_default();
    if std::env::args().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if !Path::new("/bin/busybox").exists() && !Path::new("/usr/bin/busybox").exists() {
        println!("NOT RUN: the builds need a static busybox (package busybox-static)");
        return ExitCode::from(u8::from(std::env::var_os("CI").is_some()));
    }
    let directory = tempfile::Builder::new().prefix("windlass-build-it-").tempdir().unwrap();
    let host = match Host::enter(EnterOptions::new(directory.path().join("scratch"))) {
        Ok(host) => host,
        Err(error) => {
            println!("NOT RUN: {error}");
            return ExitCode::FAILURE;
        }
    };
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let unpacker = runtime.block_on(async { ConfinedUnpacker::new(host.clone()) });
    let store = store.with_unpacker(Arc::new(unpacker));
    base(&store);
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in cases::list().into_iter().filter(|(name, _)| name.contains(&filter)) {
        let own = directory.path().join(name);
        std::fs::create_dir_all(own.join("context")).unwrap();
        let bench = Bench { host: host.clone(), store: store.clone(), directory: own, log: Arc::default() };
        let task = runtime.spawn(case(bench));
        match runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), task).await }) {
            Ok(Ok(())) => {
                println!("ok {name}");
                passed += 1;
            }
            Ok(Err(error)) => {
                println!("FAILED {name}: {error}");
                failed += 1;
            }
            Err(_) => {
                println!("FAILED {name}: not done after 60 s");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// `bb`: busybox with the applets that the cases use.
fn base(store: &Store) {
    let programs = tempfile::tempdir().unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).unwrap();
    std::fs::copy(busybox, programs.path().join("busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", programs.path().join(applet)).unwrap();
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(programs.path(), open).unwrap();
    // Where /bin is a link here, it is one in the image.
    let to = if Path::new("/bin").is_symlink() { "/usr/bin" } else { "/bin" };
    let spec = HostSpec { add: vec![(programs.path().to_owned(), to.into())], ..HostSpec::default() };
    from_host(store, &spec, &[Reference::parse("bb").unwrap()]).unwrap();
}

const APPLETS: [&str; 24] = [
    "sh", "cat", "echo", "ls", "ln", "rm", "mkdir", "chmod", "chown", "stat", "test", "[", "touch", "mv", "id",
    "sleep", "find", "wc", "env", "cp", "readlink", "grep", "true", "ip",
];
