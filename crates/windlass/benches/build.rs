//! `windlass build` beside `buildah`, in one run, on the same files, from and to the same registry. Prints, asserts nothing.
//!
//! `build [--cases a,b,c] [--runs N] [--windlass PROGRAM] [--gib N] [--trace]`
//!
//! - **a**: ten small `RUN`s on busybox.
//! - **b**: `WORKDIR`, `COPY` of 2,000 files, a `RUN` over them, on Debian with a C compiler (one gzip layer).
//! - **c**: four stages that sleep a second and compile on that Debian, and one that copies their results.
//! - **big**: one `RUN` that writes `--gib` GiB which cannot be compressed: memory.
//!
//! Each is process start to exit and ends in the registry: *empty* with no image and no cache on the machine, *base* with the
//! base there and the cache not used, *warm* with everything there. Registry: Debian's `docker-registry` where it is
//! installed, else the built-in one in this process. buildah: `bud` and `push`, overlay driver, with each isolation that
//! works here; the better one counts.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use windlass_oci::client::{Client, ClientOptions, PushOptions};
use windlass_oci::host::HostSpec;
use windlass_oci::layer::{ArchiveReader, decompress};
use windlass_oci::media::Compression;
use windlass_oci::{Commit, Family, Reference, Store, registry};

const APPLETS: [&str; 10] = ["sh", "echo", "mkdir", "find", "wc", "touch", "cat", "ls", "dd", "rm"];
/// What `debootstrap --variant=minbase --include=gcc,libc6-dev` installs, without what the dependencies bring anyway.
const DEBIAN: [&str; 22] = [
    "apt",
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "gcc",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "libc6-dev",
    "login",
    "mount",
    "perl-base",
    "sed",
    "tar",
    "util-linux",
];

/// What is on the machine already.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Empty,
    Base,
    Warm,
}

struct Ground {
    directory: PathBuf,
    registry: String,
    windlass: String,
    runs: usize,
    trace: bool,
}

/// One program's way of building.
trait Tool {
    fn name(&self) -> String;
    /// Builds the context and pushes it there, from this state of the machine.
    fn build(&self, context: &Path, to: &str, state: State) -> Ended;
    /// Forgets everything.
    fn wipe(&self);
}

/// How it went.
#[derive(Clone, Copy, Default)]
struct Ended {
    wall: Duration,
    /// User and system time, of the children that were waited for too.
    cpu: Duration,
    rss_kib: u64,
}

fn main() {
    windlass_sandbox::early();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given =
        |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1)).map(String::as_str);
    let directory = tempfile::Builder::new().prefix("windlass-build-bench-").tempdir().unwrap();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (registry, _served) = serve(directory.path(), &runtime);
    let ground = Ground {
        directory: directory.path().to_owned(),
        registry,
        windlass: given("--windlass").unwrap_or(env!("CARGO_BIN_EXE_windlass")).to_owned(),
        runs: given("--runs").map_or(5, |n| n.parse().unwrap()),
        trace: arguments.iter().any(|a| a == "--trace"),
    };
    let cases: Vec<&str> = given("--cases").unwrap_or("a,b,c,big").split(',').collect();
    ground.bases(&runtime, cases.iter().any(|c| ["b", "c"].contains(c)));
    let ours = Windlass { ground: &ground };
    let theirs = Buildah::all(&ground);
    if theirs.is_empty() {
        println!("buildah is not installed, or runs nothing here: no ratios");
    }
    for case in cases {
        let context = ground.context(case, given("--gib").map_or(1, |n| n.parse().unwrap()));
        for (state, word) in [(State::Empty, "empty"), (State::Base, "base"), (State::Warm, "warm")] {
            if case == "big" && state != State::Empty {
                continue;
            }
            let mine = ground.measure(&ours, &context, case, state);
            print!("{case} {word:5}: {}", show(&mine));
            let best = theirs
                .iter()
                .filter(|_| case != "big")
                .map(|tool| (ground.measure(tool, &context, case, state), tool.name()))
                .min_by_key(|(ended, _)| ended.wall);
            match best {
                Some((ended, name)) => println!(
                    "; {name} {}; ratio {:.3}",
                    show(&ended),
                    mine.wall.as_secs_f64() / ended.wall.as_secs_f64()
                ),
                None => println!(),
            }
        }
        ours.wipe();
        theirs.iter().for_each(|tool| tool.wipe());
    }
}

fn show(ended: &Ended) -> String {
    let Ended { wall, cpu, rss_kib } = ended;
    format!("{:.3} s (cpu {:.2} s, {} MiB)", wall.as_secs_f64(), cpu.as_secs_f64(), rss_kib / 1024)
}

/// A registry on a free port, for as long as the second value lives.
fn serve(directory: &Path, runtime: &tokio::runtime::Runtime) -> (String, Option<Ending>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let root = directory.join("registry");
    if Command::new("docker-registry").arg("--version").output().is_ok() {
        drop(listener);
        let config = directory.join("registry.yaml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = Ending(command.spawn().unwrap());
        while std::net::TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("registry: docker-registry");
        return (address, Some(child));
    }
    struct Anyone;
    impl registry::Authorize for Anyone {
        fn allow(&self, _: Option<&registry::Credentials>, _: registry::Action, _: &str) -> bool {
            true
        }
    }
    let router = registry::router(Store::open(root).unwrap(), std::sync::Arc::new(Anyone));
    listener.set_nonblocking(true).unwrap();
    runtime.spawn(async move { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await });
    println!("registry: the built-in one, in this process");
    (address, None)
}

/// Ended with its handle.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ground {
    /// The median by wall time.
    fn measure(&self, tool: &dyn Tool, context: &Path, case: &str, state: State) -> Ended {
        let to = |run: usize| {
            let tag = tool.name().replace(' ', "-");
            format!("{}/out/{case}-{tag}-{}-{run}:t", self.registry, state as usize)
        };
        if state != State::Empty {
            tool.build(context, &to(1000), state);
        }
        let runs = if case == "big" { 1 } else { self.runs };
        let mut all: Vec<Ended> = (0..runs)
            .map(|run| {
                if state == State::Empty {
                    tool.wipe();
                }
                rustix::fs::sync();
                let ended = tool.build(context, &to(run), state);
                if self.trace {
                    eprintln!("  {case} {} {}: {}", tool.name(), state as usize, show(&ended));
                }
                ended
            })
            .collect();
        all.sort_by_key(|ended| ended.wall);
        all[all.len() / 2]
    }

    /// Makes the bases out of this machine's own files and pushes them, each as one gzip layer.
    fn bases(&self, runtime: &tokio::runtime::Runtime, debian: bool) {
        let store = Store::open(self.directory.join("bases")).unwrap();
        let programs = self.directory.join("programs");
        std::fs::create_dir_all(&programs).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).unwrap();
        std::fs::copy(busybox, programs.join("busybox")).unwrap();
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", programs.join(applet)).unwrap();
        }
        let to = if Path::new("/bin").is_symlink() { "/usr/bin" } else { "/bin" };
        let mut specs = BTreeMap::new();
        specs.insert("busybox", HostSpec { add: vec![(programs, to.into())], ..HostSpec::default() });
        if debian {
            let packages = DEBIAN.iter().map(ToString::to_string).collect();
            specs.insert("debian", HostSpec { packages, ..HostSpec::default() });
        }
        for (name, spec) in specs {
            let made = windlass_oci::host::build(&store, &spec, &[]).unwrap();
            let layer = &made.layers()[0];
            let compression = Compression::of_layer(&layer.media_type).unwrap();
            let mut plain = decompress(store.open_blob(&layer.digest).unwrap(), compression).unwrap();
            let mut from = ArchiveReader::new(&mut plain);
            let mut writer = store.layer_writer(Compression::Gzip).unwrap();
            let (mut entries, mut bytes) = (0, 0);
            while let Some(entry) = from.next().unwrap() {
                entries += 1;
                if let windlass_oci::layer::Kind::File { size } = entry.kind {
                    bytes += size;
                }
                writer.entry(&entry, &mut from).unwrap();
            }
            let layer = writer.finish().unwrap();
            let mib = |bytes: u64| bytes / (1 << 20);
            println!("base {name}: {entries} entries, {} MiB, {} MiB as one layer", mib(bytes), mib(layer.size));
            // buildah counts layers by it.
            let history = [serde_json::json!({"created": "1970-01-01T00:00:00Z", "created_by": "bench"})];
            let config = serde_json::json!({
                "created": "1970-01-01T00:00:00Z",
                "config": { "Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"] },
                "history": history,
            });
            let commit = Commit { config, layers: vec![layer], family: Family::Oci, annotations: BTreeMap::new() };
            let image = store.commit_image(&commit, &[]).unwrap();
            let client = Client::new(store.clone(), ClientOptions::new()).unwrap();
            let reference = Reference::parse(&format!("{}/base/{name}:latest", self.registry)).unwrap();
            runtime.block_on(client.push(image.digest(), &reference, &PushOptions::default())).unwrap();
        }
    }

    fn context(&self, case: &str, gib: u64) -> PathBuf {
        let context = self.directory.join("context").join(case);
        std::fs::create_dir_all(&context).unwrap();
        let registry = &self.registry;
        let mut text;
        match case {
            "a" => {
                text = format!("FROM {registry}/base/busybox:latest\n");
                for i in 1..=10 {
                    text += &format!("RUN echo step{i} > /f{i} && mkdir -p /d{i} && echo x > /d{i}/x\n");
                }
            }
            "b" => {
                files(&context);
                text = format!(
                    "FROM {registry}/base/debian:latest\nWORKDIR /src\nCOPY files/ /src/\n\
                     RUN find /src -type f | wc -l > /count && find /src -name '*7.txt' -exec touch {{}} +\n"
                );
            }
            "c" => {
                std::fs::write(context.join("hello.c"), HELLO).unwrap();
                text = String::new();
                for i in 1..=4 {
                    text += &format!(
                        "FROM {registry}/base/debian:latest AS s{i}\nWORKDIR /w\nCOPY hello.c .\n\
                         RUN sleep 1 && gcc -O2 -DWHO=\\\"s{i}\\\" -o /out{i} hello.c\n"
                    );
                }
                text += &format!("FROM {registry}/base/busybox:latest\n");
                for i in 1..=4 {
                    text += &format!("COPY --from=s{i} /out{i} /bin/out{i}\n");
                }
                text += "CMD [\"/bin/out1\"]\n";
            }
            "big" => {
                text = format!(
                    "FROM {registry}/base/busybox:latest\nRUN dd if=/dev/urandom of=/big bs=1M count={}\n",
                    gib * 1024
                );
            }
            other => panic!("there is no case {other}"),
        }
        std::fs::write(context.join("Dockerfile"), text).unwrap();
        context
    }

    /// Runs commands one after the other.
    fn run(&self, commands: Vec<Command>) -> Ended {
        let before = children();
        let begun = Instant::now();
        let mut rss_kib = 0;
        for mut command in commands {
            let log = std::fs::File::create(self.directory.join("log")).unwrap();
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            let mut child = command.spawn().unwrap();
            let status = format!("/proc/{}/status", child.id());
            let ended = loop {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok());
                rss_kib = rss_kib.max(kib.unwrap_or(0));
                if let Some(ended) = child.try_wait().unwrap() {
                    break ended;
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            let said = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(ended.success(), "{command:?}: {}", said());
        }
        let wall = begun.elapsed();
        Ended { wall, cpu: children() - before, rss_kib }
    }
}

/// The processor time of every child that ended.
fn children() -> Duration {
    // Fields 16 and 17, in ticks of 10 ms; the second field may contain anything but ends with the last bracket.
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

const HELLO: &str = r#"#include <stdio.h>
#include <stdlib.h>
static int by(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(void) {
    int n[] = {5, 3, 9, 1, 7};
    qsort(n, 5, sizeof *n, by);
    for (int i = 0; i < 5; i++) printf("%s %d\n", WHO, n[i]);
    return 0;
}
"#;

/// 2,000 files of 4,096 letters in 40 directories, the same each time.
fn files(context: &Path) {
    let mut seed = 42_u64;
    for i in 0..2000 {
        let path = context.join(format!("files/d{}", i % 40));
        std::fs::create_dir_all(&path).unwrap();
        let text: String = (0..4096)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                char::from(b'a' + u8::try_from(seed % 26).unwrap())
            })
            .collect();
        std::fs::write(path.join(format!("{i}.txt")), text).unwrap();
    }
}

struct Windlass<'a> {
    ground: &'a Ground,
}

impl Tool for Windlass<'_> {
    fn name(&self) -> String {
        "windlass".to_owned()
    }

    fn build(&self, context: &Path, to: &str, state: State) -> Ended {
        let mut command = Command::new(&self.ground.windlass);
        command.arg("--home").arg(self.ground.directory.join("home")).arg("build").arg(context).args(["-t", to]);
        command.args((state != State::Warm).then_some("--no-cache"));
        self.ground.run(vec![command])
    }

    fn wipe(&self) {
        let _ = std::fs::remove_dir_all(self.ground.directory.join("home"));
    }
}

struct Buildah<'a> {
    ground: &'a Ground,
    isolation: &'static [&'static str],
}

impl<'a> Buildah<'a> {
    /// Those that can build case a here.
    fn all(ground: &'a Ground) -> Vec<Self> {
        let ways: [&[&str]; 3] = [&["oci", "--runtime", "runc"], &["oci", "--runtime", "crun"], &["chroot"]];
        let context = ground.context("a", 0);
        let works = |isolation: &&'static [&'static str]| {
            let buildah = Buildah { ground, isolation };
            let mut command = buildah.command();
            command.args(buildah.bud(&context, State::Empty));
            let output = command.stdin(Stdio::null()).output();
            buildah.wipe();
            let said = match &output {
                Ok(output) if output.status.success() => return true,
                Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned(),
                Err(error) => error.to_string(),
            };
            println!("{} does not work here: {said}", buildah.name());
            false
        };
        ways.into_iter().filter(works).map(|isolation| Buildah { ground, isolation }).collect()
    }

    fn command(&self) -> Command {
        let root = self.ground.directory.join("buildah");
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "overlay", "--root"]).arg(root.join("root"));
        command.arg("--runroot").arg(root.join("run"));
        command
    }

    fn bud(&self, context: &Path, state: State) -> Vec<String> {
        let mut words: Vec<String> = vec!["bud".into(), "--isolation".into()];
        words.extend(self.isolation.iter().map(ToString::to_string));
        words.extend(
            ["--network", "host", "--tls-verify=false", "--layers", "--format", "oci", "-t", "img"].map(Into::into),
        );
        words.extend((state != State::Warm).then(|| "--no-cache".to_owned()));
        words.push(context.display().to_string());
        words
    }
}

impl Tool for Buildah<'_> {
    fn name(&self) -> String {
        format!("buildah {}", self.isolation.last().unwrap())
    }

    fn build(&self, context: &Path, to: &str, state: State) -> Ended {
        let mut bud = self.command();
        bud.args(self.bud(context, state));
        let mut push = self.command();
        push.args(["push", "--tls-verify=false", "img"]).arg(format!("docker://{to}"));
        self.ground.run(vec![bud, push])
    }

    fn wipe(&self) {
        // Its overlay mounts end with it; what it left mounted is in its run directory.
        let _ = self.command().args(["rmi", "--all", "--force"]).output();
        let _ = std::fs::remove_dir_all(self.ground.directory.join("buildah"));
    }
}
