//! The driver of artifact plugins against a plugin that is not ours: over a real socket, with a real directory between them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use windlass_artifacts::archive::{ExtractOptions, Limits, Strategy};
use windlass_artifacts::git::GitAccess;
use windlass_artifacts::location;
use windlass_artifacts::store::{Content, Driver, LocalStore, Payload, StoreError};
use windlass_artifacts::transfer::{self, Access};
use windlass_artifacts::{Cancel, Location, Outside, Root};

use crate::keeper::{Keeper, serve};

/// A plugin, and what it shares with us.
struct Rig {
    dir: tempfile::TempDir,
    outside: Outside,
    local: LocalStore,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    /// Nobody serves yet. The path is longer than a socket's address may be.
    fn silent() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("x".repeat(120));
        for made in [&shared, &dir.path().join("kept"), &dir.path().join("root")] {
            std::fs::create_dir_all(made).unwrap();
        }
        let mut outside = Outside::default();
        outside.plugins.add("keeper", &shared, &shared);
        let local = LocalStore::open(&dir.path().join("local")).unwrap();
        Self { dir, outside, local, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    fn new(streams: bool) -> Self {
        let rig = Self::silent();
        rig.serve(Keeper { streams });
        rig
    }

    fn serve(&self, keeper: Keeper) {
        let dir = self.dir.path().to_owned();
        self.runtime.spawn(async move {
            // Beside it by a short name, as the plugin sees it in its container.
            let short = dir.join("s");
            std::os::unix::fs::symlink(dir.join("x".repeat(120)), &short).unwrap();
            serve(keeper, &short.join("socket")).await;
        });
    }

    fn artifact(&self, key: &str) -> serde_json::Value {
        json!({"name": "a", "path": "/a", "plugin": {"name": "keeper", "configuration": self.dir.path().join("kept"),
            "key": key, "connectionTimeoutSeconds": 1}})
    }

    fn location(&self, key: &str) -> Location {
        Location::parse(&self.artifact(key), &|_| None).unwrap()
    }

    fn driver(&self, key: &str) -> Box<dyn Driver> {
        self.location(key).driver(&self.local, &self.outside).unwrap()
    }

    fn save(&self, key: &str, mut from: &mut dyn Read) -> Result<u64, StoreError> {
        self.driver(key).save(Payload::File(&mut from), &Cancel::new()).map(|saved| saved.bytes)
    }

    fn load(&self, key: &str) -> Result<String, StoreError> {
        match self.driver(key).load(&Cancel::new())? {
            Content::File(mut reader) => {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                Ok(text)
            }
            Content::Tree(_) => panic!("it is a tree"),
        }
    }

    fn kept(&self, key: &str) -> PathBuf {
        self.dir.path().join("kept").join(key)
    }

    /// What is left in the shared directory beside the socket.
    fn left(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("x".repeat(120))).unwrap().count() - 1
    }
}

#[test]
fn files_go_there_and_come_back() {
    for streams in [false, true] {
        let rig = Rig::new(streams);
        // Several chunks, and a last one that is not whole.
        let text = "0123456789abcdef".repeat(150_000) + "end";
        assert_eq!(rig.save("wf/a", &mut text.as_bytes()).unwrap(), text.len() as u64);
        assert_eq!(rig.save("wf/empty", &mut &b""[..]).unwrap(), 0);
        assert_eq!(std::fs::read_to_string(rig.kept("wf/a")).unwrap(), text);
        assert_eq!(rig.load("wf/a").unwrap(), text);
        assert_eq!(rig.load("wf/empty").unwrap(), "");
        let cancel = Cancel::new();
        let mut keys = location::list(&rig.artifact("wf"), &|_| None, &rig.local, &rig.outside, &cancel).unwrap();
        keys.sort();
        assert_eq!(keys, ["wf/a", "wf/empty"]);
        for _ in 0..2 {
            rig.driver("wf/a").delete(&cancel).unwrap();
            assert!(!rig.kept("wf/a").exists());
        }
        assert_eq!(rig.left(), 0, "what changed hands is removed");
    }
}

#[test]
fn directories_and_archives_as_a_step_has_them() {
    let rig = Rig::new(true);
    let root = rig.dir.path().join("root");
    std::fs::create_dir_all(root.join("site/sub")).unwrap();
    std::fs::write(root.join("site/sub/f"), "file").unwrap();
    let (git, cancel) = (GitAccess::default(), Cancel::new());
    let access = Access { local: &rig.local, git: &git, outside: &rig.outside };
    let beneath = Root::open(&root).unwrap();
    for (key, strategy) in [("tree", Strategy::None), ("site.tgz", Strategy::TarGzip { level: None })] {
        let location = rig.location(key);
        let (site, limits) = (Path::new("site"), Limits::default());
        transfer::save(&location, &access, &beneath, site, strategy, &limits, &cancel).unwrap();
        let options = ExtractOptions::default();
        transfer::load(&location, &access, &beneath, Path::new(&format!("back/{key}")), &options, &cancel).unwrap();
        let back = std::fs::read_to_string(root.join("back").join(key).join("sub/f"));
        assert_eq!(back.unwrap(), "file", "{key}");
    }
    assert!(rig.kept("tree/sub/f").is_file() && rig.kept("site.tgz").is_file());
    assert_eq!(rig.left(), 0);
}

#[test]
fn what_a_plugin_says_is_told() {
    let rig = Rig::new(true);
    let told = |error: StoreError| format!("{error} ({})", error.is_retryable());
    let mut said = Vec::new();
    said.push(rig.load("gone").map_err(|error| {
        assert!(matches!(error, StoreError::NotFound(_)));
        told(error)
    }));
    said.extend(["fails", "refuses", "nothing"].map(|key| rig.load(key).map_err(told)));
    said.push(rig.save("early", &mut std::io::repeat(7).take(64 << 20)).map(|n| n.to_string()).map_err(told));
    let said: Vec<String> = said.into_iter().map(Result::unwrap_err).collect();
    assert_eq!(
        said,
        [
            "artifact a at gone (rpc error: code = NotFound desc = 100% not\nthere) does not exist (false)",
            "plugin keeper load failed: the disk is full (false)",
            "plugin keeper load failed: rpc error: code = PermissionDenied desc = at once: not for you (false)",
            "plugin keeper load failed: it says that it is done, and there is nothing (false)",
            "plugin keeper save stream failed: rpc error: code = ResourceExhausted desc = at once: too large (false)",
        ]
    );
    // A link that it makes leads nowhere.
    assert!(rig.load("link").is_err());
}

#[test]
fn a_plugin_that_hangs_up_and_a_source_that_breaks() {
    let rig = Rig::new(true);
    let error = rig.save("hangs-up", &mut std::io::repeat(7).take(64 << 20)).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("plugin keeper save stream failed: rpc error: code = Unavailable desc = "), "{text}");
    assert!(error.is_retryable());

    struct Breaks(usize);
    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("the step's disk"));
            }
            let count = buffer.len().min(self.0);
            self.0 -= count;
            Ok(count)
        }
    }
    let error = rig.save("cut", &mut Breaks(3 << 20)).unwrap_err().to_string();
    assert!(error.contains("the step's disk"), "{error}");
    // The call is over for the plugin too, when the next one is answered: it kept nothing.
    rig.save("after", &mut &b"x"[..]).unwrap();
    assert!(!rig.kept("cut").exists());
}

#[test]
fn a_plugin_that_comes_late_or_never() {
    let mut rig = Rig::silent();
    rig.outside.plugins.patience = Duration::ZERO;
    let never = rig.load("k").unwrap_err().to_string();
    assert!(
        never.starts_with("plugin keeper expected unix socket at \"") && never.contains("does not exist"),
        "{never}"
    );
    // A socket that nobody listens at any more.
    let (shared, short) = (rig.dir.path().join("x".repeat(120)), rig.dir.path().join("d"));
    std::os::unix::fs::symlink(&shared, &short).unwrap();
    drop(std::os::unix::net::UnixListener::bind(short.join("socket")).unwrap());
    let dead = rig.load("k").unwrap_err().to_string();
    assert!(dead.starts_with("timeout waiting for plugin keeper connection to become ready"), "{dead}");
    std::fs::remove_file(shared.join("socket")).unwrap();

    rig.outside.plugins.patience = Duration::from_secs(60);
    std::fs::write(rig.kept("k"), "late").unwrap();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| rig.load("k"));
        rig.serve(Keeper { streams: false });
        assert_eq!(load.join().unwrap().unwrap(), "late");
    });
    // Who is cancelled waits for nobody.
    let alone = Rig::silent();
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(alone.driver("k").load(&cancel), Err(StoreError::Cancelled)));
    // One that does not run here.
    let unknown = json!({"name": "a", "plugin": {"name": "other", "key": "k"}});
    let unknown = Location::parse(&unknown, &|_| None).unwrap().driver(&rig.local, &rig.outside);
    assert!(unknown.err().unwrap().to_string().contains("artifact plugin other does not run here"));
}
