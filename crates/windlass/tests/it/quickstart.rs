//! The whole story, as its user types it: as root, as somebody else, and without any network.

use std::process::Command;
use std::time::Duration;

use crate::house::{BINARY, House, Running, is_root, not_run, program};
use crate::users;

const WITHIN: Duration = Duration::from_secs(120);
const HEARD: [&str; 2] = ["github main branch", "argo test"];

fn can(case: &str) -> bool {
    let missing: Vec<_> = ["git", "perl"].into_iter().filter(|p| program(p).is_none()).collect();
    if !missing.is_empty() {
        not_run(case, &format!("there is no {}", missing.join(" and no ")));
    }
    missing.is_empty()
}

#[test]
fn the_story_without_any_network() {
    if !can("quickstart offline") {
        return;
    }
    let house = House::empty();
    let script = format!("ip link set lo up 2> /dev/null || busybox ip link set lo up; exec {BINARY} quickstart");
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["-n"][..] } else { &["-rn"] }).args(["sh", "-ec", &script]);
    command.env("HOME", house.path("")).current_dir(house.path(""));
    Running::begin(&mut command).finish(WITHIN).ok().says(&HEARD);
}

#[test]
fn the_story_of_a_user_who_is_not_root() {
    if !can("quickstart, not root") {
        return;
    }
    let Some((house, _)) = users::for_nobody("quickstart, not root") else { return };
    let mut command = users::as_nobody(&house, ":", "exec ./windlass quickstart");
    Running::begin(command.env_remove("WINDLASS_HOME")).finish(WITHIN).ok().says(&HEARD);
}

#[test]
fn the_story() {
    if !can("quickstart") {
        return;
    }
    let house = House::empty();
    let mut command = Command::new(BINARY);
    command.arg("quickstart").env("HOME", house.path("")).current_dir(house.path("")).env_remove("WINDLASS_HOME");
    Running::begin(&mut command).finish(WITHIN).ok().says(&HEARD);
}
