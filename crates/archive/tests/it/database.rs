//! A real PostgreSQL for a case: made in a temporary directory, on loopback, as a user who is nobody; ended by its own id.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Its one user and the password.
pub(crate) const USER: &str = "keeper";
pub(crate) const PASSWORD: &str = "only-for-this-case";

/// A server; dropped, it is gone with all that it held.
pub(crate) struct Postgres {
    child: Option<Child>,
    programs: PathBuf,
    dir: tempfile::TempDir,
    ids: Option<(u32, u32)>,
    pub(crate) port: u16,
}

/// Where Debian keeps the server, else where the PATH has it.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").ok();
    let mut all: Vec<PathBuf> = debian.into_iter().flatten().filter_map(|e| Some(e.ok()?.path().join("bin"))).collect();
    all.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    all.into_iter().rev().chain(std::env::split_paths(&path)).find(|dir| dir.join("initdb").is_file())
}

/// The server refuses root, so somebody else runs it.
fn unprivileged() -> Option<(u32, u32)> {
    rustix::process::geteuid().is_root().then(|| {
        let users = std::fs::read_to_string("/etc/passwd").unwrap();
        let of = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut numbers = line.split(':').skip(2).map(|n| n.parse().unwrap());
            Some((numbers.next()?, numbers.next()?))
        };
        of("postgres").or_else(|| of("nobody")).unwrap()
    })
}

impl Postgres {
    /// Starts one, if this machine has it.
    pub(crate) fn start(case: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            let why = "there is no PostgreSQL (package postgresql)";
            println!("NOT RUN: {case}: {why}");
            eprintln!("NOT RUN: {case}: {why}");
            assert!(std::env::var_os("CI").is_none(), "NOT RUN where everything must run: {case}: {why}");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("windlass-postgres-").tempdir().unwrap();
        let ids = unprivileged();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut server = Self { child: None, programs, dir, ids, port };
        std::fs::write(server.path("password"), PASSWORD).unwrap();
        server.own(&server.path("password"));
        server.own(server.dir.path());
        let (data, password) = (server.path("data"), server.path("password"));
        let made = server
            .command("initdb")
            .args(["-N", "-E", "UTF8", "--locale=C.UTF-8", "-A", "scram-sha-256", "-U", USER])
            .arg("-D")
            .arg(data)
            .arg(format!("--pwfile={}", password.display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.begin(&[]);
        Some(server)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn own(&self, path: &Path) {
        if let Some((uid, gid)) = self.ids {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path()).stdin(Stdio::null()).env("PGPASSWORD", PASSWORD);
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs it, with more settings.
    pub(crate) fn begin(&mut self, more: &[&str]) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.path("data")).arg("-k").arg(self.dir.path());
        command.args(["-F", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        for setting in more {
            command.args(["-c", setting]);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let begun = Instant::now();
        while !self.answers() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(30), "PostgreSQL does not start:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn answers(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
            && self.psql("postgres", "SELECT 1").status().unwrap().success()
    }

    /// Ends it at once; connections break.
    pub(crate) fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::INT).unwrap();
        child.wait().unwrap();
    }

    fn psql(&self, database: &str, text: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", USER]);
        command.args(["-v", "ON_ERROR_STOP=1", "-d", database, "-c", text]).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// What a question answers, a line a row; with `|` between the columns.
    #[track_caller]
    pub(crate) fn ask(&self, database: &str, text: &str) -> String {
        let out = self.psql(database, text).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    /// A file of the server's own, as it wants it.
    #[allow(dead_code, reason = "not every crate's cases have one")]
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path("data").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.own(&path);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}
