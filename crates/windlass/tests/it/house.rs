//! A temporary home, the binary run on it, and the `up` that is ended with the case. Processes end by their own id.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_windlass");
/// No single command of a case may take longer; each is a second or two where nothing is wrong.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Says loudly that a case was not run, and why.
pub(crate) fn not_run(case: &str, why: &str) {
    println!("NOT RUN: {case}: {why}");
    eprintln!("NOT RUN: {case}: {why}");
    assert!(std::env::var_os("CI").is_none(), "NOT RUN where everything must run: {case}: {why}");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where a program of this machine is.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(name)).find(|p| p.is_file())
}

/// How a command ended, and all it said.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Both streams hold, together, every one of these texts.
    #[track_caller]
    pub(crate) fn says(self, wanted: &[&str]) -> Self {
        for text in wanted {
            let both = format!("{}\n--- stderr\n{}", self.stdout, self.stderr);
            assert!(both.contains(text), "{text:?} is not in\n{both}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

/// A child that does not outlive a test which failed.
pub(crate) struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            kill(&self.0, Signal::TERM);
            if ended(&mut self.0, Duration::from_secs(15)).is_none() {
                kill(&self.0, Signal::KILL);
                let _ = self.0.wait();
            }
        }
    }
}

impl std::ops::Deref for Kept {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// A command under way whose output is being read.
pub(crate) struct Running {
    pub(crate) child: Kept,
    stdout: Reader,
    stderr: Reader,
}

/// Reads a pipe to its end; what has come so far can be looked at.
struct Reader {
    text: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Reader {
    fn of(mut from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = text.clone();
        let thread = std::thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(count @ 1..) = from.read(&mut part) {
                into.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Self { text, thread }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn whole(self) -> String {
        self.thread.join().unwrap();
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }
}

impl Running {
    pub(crate) fn begin(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (stdout, stderr) = (Reader::of(child.stdout.take().unwrap()), Reader::of(child.stderr.take().unwrap()));
        Self { child: Kept(child), stdout, stderr }
    }

    /// What it has said so far, on both streams.
    pub(crate) fn said(&self) -> String {
        self.stdout.so_far() + &self.stderr.so_far()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(&self.child, signal);
    }

    #[track_caller]
    pub(crate) fn finish(mut self, within: Duration) -> Done {
        let status = ended(&mut self.child, within);
        if status.is_none() {
            kill(&self.child, Signal::TERM);
            if ended(&mut self.child, Duration::from_secs(15)).is_none() {
                kill(&self.child, Signal::KILL);
                let _ = self.child.wait();
            }
        }
        let (stdout, stderr) = (self.stdout.whole(), self.stderr.whole());
        let Some(status) = status else {
            panic!("not done after {within:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
        };
        Done { code: status.code(), stdout, stderr }
    }
}

pub(crate) fn kill(child: &Child, signal: Signal) {
    if let Some(pid) = Pid::from_raw(i32::try_from(child.id()).unwrap()) {
        let _ = kill_process(pid, signal);
    }
}

fn ended(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Done {
    Running::begin(command).finish(LONG)
}

/// Tries until something is there.
#[track_caller]
pub(crate) fn until<T>(what: &str, within: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "after {within:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A place of its own for one case.
pub(crate) struct House {
    dir: tempfile::TempDir,
    home: PathBuf,
}

impl House {
    /// An empty home.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("windlass-it-").tempdir().unwrap();
        let home = dir.path().join("home");
        Self { dir, home }
    }

    /// A home that has the image `busybox`, or nothing where this machine has no busybox.
    pub(crate) fn new(case: &str) -> Option<Self> {
        let house = Self::empty();
        house.has_busybox(case).then_some(house)
    }

    /// A home in this directory.
    pub(crate) fn at(home: PathBuf) -> Self {
        Self { home, ..Self::empty() }
    }

    /// Makes the image `busybox`.
    pub(crate) fn has_busybox(&self, case: &str) -> bool {
        if program("busybox").is_none() {
            not_run(case, "there is no busybox (package busybox-static)");
            return false;
        }
        self.image("busybox", &["busybox", "sh", "echo", "seq", "cat", "mkdir"]);
        true
    }

    pub(crate) fn image(&self, name: &str, programs: &[&str]) {
        let mut args = vec!["image", "from-host", name];
        for program in programs {
            args.extend(["--program", program]);
        }
        self.windlass(&args).ok();
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file beside the home.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A Workflow of these templates, as a file.
    pub(crate) fn workflow(&self, name: &str, spec: &str) -> String {
        let indented: String = spec.lines().map(|l| format!("  {l}\n")).collect();
        let head = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n";
        self.file(&format!("{name}.yaml"), &format!("{head}metadata:\n  generateName: {name}-\nspec:\n{indented}"))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).env("WINDLASS_HOME", &self.home).env_remove("KUBECONFIG").env("NO_COLOR", "1");
        command.current_dir(self.dir.path());
        command
    }

    /// Runs one verb to its end.
    #[track_caller]
    pub(crate) fn windlass(&self, args: &[&str]) -> Done {
        run(&mut self.command(args))
    }

    /// Starts `up` on free ports.
    pub(crate) fn up(&self, more: &[&str]) -> Up {
        Up::of(self.up_command(more), &self.home)
    }

    pub(crate) fn up_command(&self, more: &[&str]) -> Command {
        let free = "127.0.0.1:0";
        let mut args = vec!["up", "--api-listen", free, "--registry-listen", free, "--webhook-listen", free];
        args.extend(more);
        self.command(&args)
    }
}

/// A running `up`.
pub(crate) struct Up {
    running: Option<Running>,
    pub(crate) ports: Value,
}

impl Up {
    /// Starts it, and waits until it says where it listens.
    pub(crate) fn of(mut command: Command, home: &Path) -> Self {
        let mut running = Running::begin(command.process_group(0));
        let pid = running.child.id();
        let deadline = Instant::now() + Duration::from_secs(30);
        let ports = loop {
            let text = std::fs::read(home.join("run/ports.json")).unwrap_or_default();
            let ports: Value = serde_json::from_slice(&text).unwrap_or_default();
            if ports["pid"] == pid {
                break ports;
            }
            if running.child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                let done = running.finish(Duration::ZERO);
                panic!("`up` did not come up: {done:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { running: Some(running), ports }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().child.id()
    }

    pub(crate) fn webhooks(&self) -> String {
        self.ports["webhooks"].as_str().unwrap().to_owned()
    }

    /// What it has said so far, on both streams.
    pub(crate) fn said(&self) -> String {
        self.running.as_ref().map(Running::said).unwrap_or_default()
    }

    /// kill -9
    pub(crate) fn crash(mut self) {
        let running = self.running.take().unwrap();
        running.signal(Signal::KILL);
        running.finish(Duration::from_secs(20));
    }

    /// Asks it to end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Done {
        let running = self.running.take().unwrap();
        running.signal(Signal::TERM);
        running.finish(Duration::from_secs(20))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.signal(Signal::TERM);
        let Running { mut child, .. } = running;
        if ended(&mut child, Duration::from_secs(15)).is_none() {
            kill(&child, Signal::KILL);
            let _ = child.wait();
        }
    }
}
