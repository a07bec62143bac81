//! A full disk: what cannot be written is refused with the cause, nothing half-written stays, and with space it goes on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::house::{House, LONG, Running, is_root, not_run, run, until};

/// A small file system; unmounted with the case.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Self {
        std::fs::create_dir(&at).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "windlass-it"]).arg(&at)).ok();
        Self(at)
    }

    /// Leaves this many bytes.
    fn fill_up_to(&self, bytes: u64) -> PathBuf {
        let path = self.0.join("ballast");
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let mut left = (stat.f_bavail * stat.f_frsize).saturating_sub(bytes);
        let mut file = File::create(&path).unwrap();
        while left > 0 {
            let part = left.min(1 << 16);
            file.write_all(&vec![1; usize::try_from(part).unwrap()]).unwrap();
            left -= part;
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        match entry.path() {
            path if path.is_dir() => all.extend(files(&path)),
            path => all.push(path),
        }
    }
    all.sort();
    all
}

/// What came of an image before the disk was full may stay for the next attempt: whole blobs, no name, no layer.
#[track_caller]
fn only_whole_blobs_more(house: &House, before: &[PathBuf]) {
    let images = house.home().join("images");
    let lock = |path: &PathBuf| path.extension().is_some_and(|e| e == "lock") && path.metadata().unwrap().len() == 0;
    for path in files(&images).into_iter().filter(|path| !before.contains(path) && !lock(path)) {
        let digest = hex::encode(Sha256::digest(std::fs::read(&path).unwrap()));
        assert_eq!(path, images.join("blobs/sha256").join(digest), "something half-written stayed");
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_half_written() {
    if !is_root() {
        return not_run("full disk", "only root mounts a small file system");
    }
    let outer = House::empty();
    let small = Small::mount(outer.path("small"), "48m");
    let house = House::at(small.0.join("home"));
    if !house.has_busybox("full disk") {
        return;
    }
    let file = house.workflow(
        "large",
        "entrypoint: main
templates:
- name: main
  container:
    image: busybox
    command: [sh, -c, 'busybox dd if=/dev/urandom of=/large bs=1M count=8 2> /dev/null; echo made']
  outputs:
    artifacts: [{name: large, path: /large}]
",
    );
    // A registry with an image that is too large for what will be left.
    outer.image("registry.windlass.internal/more:v1", &["git", "perl"]);
    let registry = outer.up(&[]);
    let more = format!("{}/more:v1", registry.ports["registry"].as_str().unwrap());
    let pulls = house.workflow(
        "pulls",
        &format!("entrypoint: main\ntemplates:\n- name: main\n  container: {{image: \"{more}\", command: [git]}}\n"),
    );
    let large: Vec<u8> = (0..8 << 20).map(|_| rand::random()).collect();
    house.file("context/Dockerfile", "FROM scratch\nCOPY large /\n");
    std::fs::write(house.path("context/large"), large).unwrap();

    let up = house.up(&[]);
    house.windlass(&["run", &file]).ok();
    let artifacts = house.home().join("artifacts");
    let before = files(&artifacts);

    let ballast = small.fill_up_to(3 << 20);
    house.windlass(&["run", &file]).exits(1).says(&["No space left on device", "large"]);
    assert_eq!(before, files(&artifacts), "something half-written stayed");
    let images = files(&house.home().join("images"));
    let refused = house.windlass(&["image", "from-host", "more", "--program", "git", "--program", "perl"]);
    refused.exits(1).says(&["No space left on device"]);
    assert_eq!(images, files(&house.home().join("images")), "something half-written stayed");
    house.windlass(&["image", "pull", &more]).exits(1).says(&["No space left on device"]);
    only_whole_blobs_more(&house, &images);
    let waits = Running::begin(&mut house.command(&["run", &pulls]));
    until("the pull's cause is told", LONG, || {
        let said = waits.said();
        (said.contains("ErrImagePull") && said.contains("No space left on device")).then_some(())
    });
    waits.signal(Signal::INT);
    waits.finish(LONG).exits(130);
    only_whole_blobs_more(&house, &images);
    let built = house.windlass(&["build", "context", "-t", "registry.windlass.internal/large:v1"]);
    built.exits(1).says(&["No space left on device"]);
    only_whole_blobs_more(&house, &images);

    // Nothing at all is left: the state refuses, and says why.
    std::fs::remove_file(&ballast).unwrap();
    small.fill_up_to(0);
    let hello = house.workflow("hello", crate::run::HELLO);
    let mut refused = false;
    for _ in 0..200 {
        let done = house.windlass(&["submit", &hello]);
        if done.code != Some(0) {
            let said = done.stderr.to_lowercase();
            assert!(said.contains("space") || said.contains("full"), "{said}");
            refused = true;
            break;
        }
    }
    assert!(refused, "the store took 200 workflows without space");
    // Reading goes on.
    house.windlass(&["list"]).ok().says(&["large-", "Succeeded"]);
    let last = house.windlass(&["list", "-o", "name"]).ok().stdout.lines().last().unwrap().to_owned();
    house.windlass(&["get", &last]).ok();
    house.windlass(&["image", "ls"]).ok().says(&["busybox"]);
    std::fs::remove_file(&ballast).unwrap();
    house.windlass(&["run", &file]).ok().says(&["Succeeded"]);
    house.windlass(&["run", &hello]).ok();
    house.windlass(&["build", "context", "-t", "registry.windlass.internal/large:v1"]).ok();
    house.windlass(&["image", "rm", "registry.windlass.internal/large:v1"]).ok();
    house.windlass(&["image", "pull", &more]).ok();
    up.end().exits(0);
    house.windlass(&["run", &hello]).ok();
}
