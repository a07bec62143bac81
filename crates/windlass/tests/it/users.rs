//! The same for a user who is not root, with one id and with a range of them, and without any network.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use crate::house::{BINARY, House, is_root, not_run, program, run, until};

const NOBODY: u32 = 65534;

/// A house that somebody else owns, with a copy of the binary that they can reach.
pub(crate) fn for_nobody(case: &str) -> Option<(House, PathBuf)> {
    if !is_root() {
        not_run(case, "only root becomes another user; the other cases ran as who you are");
        return None;
    }
    if program("setpriv").is_none() {
        not_run(case, "there is no setpriv (package util-linux)");
        return None;
    }
    let house = House::empty();
    let binary = house.path("windlass");
    std::fs::copy(BINARY, &binary).unwrap();
    let dir = house.path("");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
    Some((house, binary))
}

/// `words` as nobody; `before` runs as root, in a mount namespace of its own.
pub(crate) fn as_nobody(house: &House, before: &str, words: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!(
        "{before}\nexec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps=-all sh -ec '{words}'"
    );
    command.args(["-m", "sh", "-ec", &script]).env("WINDLASS_HOME", house.home()).env("HOME", house.path(""));
    command.env("NO_COLOR", "1").env_remove("XDG_DATA_HOME").env_remove("XDG_RUNTIME_DIR").current_dir(house.path(""));
    command
}

const STORY: &str =
    "./windlass image from-host busybox --program busybox --program sh --program echo --program cat --program mkdir
./windlass run hello.yaml --log
./windlass run story.yaml --log";

fn story(house: &House) {
    house.workflow("hello", crate::run::HELLO);
    house.workflow("story", include_str!("story.yaml"));
}

const HEARD: [&str; 3] = [": hello world", ": from the artifact: content fortytwo", ": fortytwo and 3"];

#[test]
fn a_user_with_one_id() {
    let Some((house, _)) = for_nobody("not root") else { return };
    story(&house);
    run(&mut as_nobody(&house, ":", STORY)).ok().says(&HEARD);
    // A user namespace of its own, beside all the others; and what that costs is said.
    house.workflow(
        "where",
        "entrypoint: main\ntemplates:\n- name: main\n  container:\n    image: busybox\n    command: [sh, -c, 'for ns in user mnt pid net ipc uts; do busybox readlink /proc/self/ns/$ns; done']\n",
    );
    let done = run(&mut as_nobody(&house, ":", "./windlass run where.yaml --log")).ok();
    for ns in ["user", "mnt", "pid", "net", "ipc", "uts"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
        let theirs =
            done.stdout.lines().find_map(|l| l.split_once(": ").filter(|(_, id)| id.starts_with(&format!("{ns}:["))));
        let (_, theirs) = theirs.unwrap_or_else(|| panic!("no {ns} in {done:?}"));
        assert_ne!(theirs, ours.to_str().unwrap(), "the step is in the host's {ns} namespace");
    }
    let doctor = run(&mut as_nobody(&house, ":", "./windlass doctor")).ok();
    doctor.says(&["outward", "none: only root can make a link", "pasta", "Steps can run here."]);
}

#[test]
fn the_doctor_tells_the_way_outward() {
    let house = House::empty();
    let findings = house.windlass(&["doctor", "-o", "json"]).json();
    let all = findings["findings"].as_array().unwrap().clone();
    let outward = all.iter().find(|f| f["what"] == "outward").unwrap_or_else(|| panic!("{findings:#}"));
    assert!(outward["found"].is_string() && outward["means"].as_str().is_some_and(|m| m.contains("RUN")), "{outward}");
    if !is_root() {
        assert_eq!(outward["good"], false, "{outward}");
        return not_run("doctor: the way outward as root", "you are not root");
    }
    // Where nothing leads out of the machine, that is what it says.
    let mut command = Command::new("unshare");
    command.args(["-n", BINARY, "doctor"]).env("WINDLASS_HOME", house.home()).env("NO_COLOR", "1");
    run(&mut command).says(&["outward", "no default route"]);
    // Trying leaves no link behind.
    let links = std::fs::read_to_string("/proc/net/dev").unwrap();
    until("the tried links are gone", std::time::Duration::from_secs(5), || {
        let now = std::fs::read_to_string("/proc/net/dev").unwrap();
        let more = now.lines().filter_map(|l| l.split(':').next()).filter(|n| n.trim().starts_with("windlass"));
        (more.count() <= links.matches("windlass").count()).then_some(())
    });
}

#[test]
fn a_user_with_a_range_of_ids() {
    let case = "not root, with a range of ids";
    if program("newuidmap").is_none()
        || !PathBuf::from("/etc/subuid").exists()
        || !PathBuf::from("/etc/subgid").exists()
    {
        return not_run(case, "there is no newuidmap (package uidmap), or no /etc/subuid");
    }
    let Some((house, _)) = for_nobody(case) else { return };
    story(&house);
    let range = house.file("range", "nobody:200000:65536\n");
    let bind = format!("mount --bind {range} /etc/subuid; mount --bind {range} /etc/subgid");
    run(&mut as_nobody(&house, &bind, STORY)).ok().says(&HEARD);
    // With a range, a step can be other users too.
    house.workflow(
        "who",
        "entrypoint: main\ntemplates:\n- name: main\n  container:\n    image: busybox\n    command: [sh, -c, 'busybox id -u; busybox touch /f && busybox chown 33:33 /f && busybox stat -c %u /f']\n    securityContext: {runAsUser: 0}\n",
    );
    run(&mut as_nobody(&house, &bind, "./windlass run who.yaml --log")).ok().says(&[": 0\n", ": 33\n"]);
}

#[test]
fn without_any_network() {
    let Some(house) = House::new("offline") else { return };
    story(&house);
    let script = format!(
        "ip link set lo up 2> /dev/null || busybox ip link set lo up; {BINARY} run hello.yaml --log && {BINARY} run story.yaml --log"
    );
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["-n"][..] } else { &["-rn"] }).args(["sh", "-ec", &script]);
    command.env("WINDLASS_HOME", house.home()).current_dir(house.path(""));
    run(&mut command).ok().says(&HEARD);
}
