//! A real S3 server: where its program is, an image of it for pods, and one that runs beside a test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::house::{House, LONG, Running, kill, program, until};

/// MinIO, as `.ci/run` keeps it.
pub(crate) fn minio() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let kept = cache.map(|dir| dir.join("windlass-ci/bin/minio")).filter(|path| path.is_file());
    let found = program("minio").or(kept);
    if found.is_none() {
        println!("NOT RUN: there is no minio; `.ci/run` builds it where Go is installed");
        eprintln!("NOT RUN: there is no minio; `.ci/run` builds it where Go is installed");
    }
    found
}

/// Makes the image `minio/minio` in a home; its program's path there, which is the one here.
pub(crate) fn image(house: &House) -> Option<String> {
    let program = minio()?;
    let dirs = format!("{}:{}", program.parent()?.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = house.command(&["image", "from-host", "minio/minio", "--program", "minio"]);
    Running::begin(command.env("PATH", dirs)).finish(LONG * 3).ok();
    Some(program.to_str()?.to_owned())
}

/// The server as a process of this machine. Its user is `root-user`, the password `root-password`.
pub(crate) struct Minio {
    child: Child,
    pub(crate) port: u16,
    /// A directory for each bucket.
    data: PathBuf,
}

impl Minio {
    /// Starts it on a free port of this address: loopback, or all where pods of a cluster ask it.
    pub(crate) fn start_at(house: &House, address: &str) -> Option<Self> {
        let server = minio()?;
        let port = std::net::TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let data = house.path("minio");
        std::fs::create_dir_all(&data).unwrap();
        let child = Command::new(server)
            .args(["server", "--quiet", "--address", &format!("{address}:{port}")])
            .arg(&data)
            .envs([("MINIO_ROOT_USER", "root-user"), ("MINIO_ROOT_PASSWORD", "root-password")])
            .envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let minio = Self { child, port, data };
        until("the S3 server answers", Duration::from_secs(30), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Some(minio)
    }

    /// Whether there is an object of this key.
    pub(crate) fn has(&self, bucket: &str, key: &str) -> bool {
        self.data.join(bucket).join(key).exists()
    }

    /// Makes a bucket, as by hand.
    pub(crate) fn make_bucket(&self, bucket: &str) {
        std::fs::create_dir_all(self.data.join(bucket)).unwrap();
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        kill(&self.child, Signal::KILL);
        let _ = self.child.wait();
    }
}
