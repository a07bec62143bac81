//! A registry of the outside world: Debian's `docker-registry` on a loopback port, with basic auth for everything.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::hosts::nobody;
use crate::house::{Done, run, until};

/// The account of the articles.
pub(crate) const USER: &str = "your-name";
pub(crate) const PASSWORD: &str = "your-pw";
/// That password, by bcrypt.
const HASHED: &str = "$2y$05$abcdefghijklmnopqrstuu9Udw0tkqLwpHeU8.bqoRnN3bh3K20im";

/// It ends with the value.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
    dir: PathBuf,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub(crate) fn start(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        let address = nobody();
        std::fs::write(dir.join("htpasswd"), format!("{USER}:{HASHED}\n")).unwrap();
        let at = dir.display();
        std::fs::write(
            dir.join("config.yml"),
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
                 http: {{addr: '{address}'}}\nauth: {{htpasswd: {{realm: seeds, path: {at}/htpasswd}}}}\n"
            ),
        )
        .unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Self { child, address, dir };
        until("the registry answers", Duration::from_secs(30), || super::get(&registry.address, "/v2/"));
        registry
    }

    /// Fetches an image with skopeo, as somebody or as nobody.
    pub(crate) fn skopeo(&self, name: &str, credentials: Option<&str>, into: &Path) -> Done {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--src-tls-verify=false", "--quiet"]);
        match credentials {
            Some(credentials) => command.args(["--src-creds", credentials]),
            None => command.arg("--src-no-creds"),
        };
        command.arg(format!("docker://{}/{name}", self.address)).arg(format!("dir:{}", into.display()));
        // Never the credentials of whoever runs the test.
        command.env("REGISTRY_AUTH_FILE", self.dir.join("nobody.json"));
        run(&mut command)
    }

    fn fetched(&self, name: &str, credentials: Option<&str>) -> serde_json::Value {
        let into = self.place(name);
        self.skopeo(name, credentials, &into).ok();
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(into.join(name)).unwrap()).unwrap()
        };
        let manifest = read("manifest.json");
        let digest = manifest["config"]["digest"].as_str().unwrap();
        read(digest.strip_prefix("sha256:").unwrap())
    }

    fn place(&self, name: &str) -> PathBuf {
        let into = self.dir.join("pulled").join(name.replace(['/', ':'], "_"));
        std::fs::create_dir_all(&into).unwrap();
        into
    }

    /// The image is there for who has the password, and for nobody else; its configuration.
    #[track_caller]
    pub(crate) fn has(&self, name: &str) -> serde_json::Value {
        let into = self.place(name);
        let refused = self.skopeo(name, None, &into).exits(1);
        assert!(
            refused.stderr.contains("unauthorized") || refused.stderr.contains("authentication required"),
            "{refused:?}"
        );
        let wrong = self.skopeo(name, Some(&format!("{USER}:other")), &into).exits(1);
        assert!(wrong.stderr.contains("unauthorized") || wrong.stderr.contains("authentication"), "{wrong:?}");
        self.fetched(name, Some(&format!("{USER}:{PASSWORD}")))
    }
}
