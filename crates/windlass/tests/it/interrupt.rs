//! Ctrl-C, and several processes on one home.

use std::time::Duration;

use rustix::process::Signal;

use crate::house::{House, Running, until};

fn long(house: &House, marker: &str) -> String {
    house.workflow(
        "long",
        &format!(
            "entrypoint: main\ntemplates:\n- name: main\n  container:\n    image: busybox\n    command: [sh, -c, 'echo begun; exec busybox sleep {marker}']\n"
        ),
    )
}

/// Whether a process of this machine has this in its command line.
fn runs(marker: &str) -> bool {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let text = |dir: std::fs::DirEntry| std::fs::read(dir.path().join("cmdline")).unwrap_or_default();
    all.map(text).any(|line| {
        let words: Vec<_> = line.split(|b| *b == 0).collect();
        words.len() >= 3 && words[words.len() - 2] == marker.as_bytes()
    })
}

#[test]
fn an_interrupted_run_stops_its_containers_and_says_so() {
    let Some(house) = House::new("interrupt") else { return };
    for (marker, more) in [("71001.5", None), ("71002.5", Some("--log"))] {
        let file = long(&house, marker);
        let mut args = vec!["run", &file];
        args.extend(more);
        let running = Running::begin(&mut house.command(&args));
        until("the container runs", Duration::from_secs(10), || runs(marker).then_some(()));
        running.signal(Signal::INT);
        let done = running.finish(Duration::from_secs(20)).exits(130);
        done.says(&["interrupted: ending the containers of workflow long-", "was terminated"]);
        assert!(!runs(marker), "a container outlived its `run`");
    }
}

#[test]
fn a_killed_run_leaves_no_container() {
    let Some(house) = House::new("kill -9 of run") else { return };
    let marker = "71003.5";
    let running = Running::begin(&mut house.command(&["run", &long(&house, marker)]));
    until("the container runs", Duration::from_secs(10), || runs(marker).then_some(()));
    running.signal(Signal::KILL);
    running.finish(Duration::from_secs(10));
    until("the container is gone", Duration::from_secs(5), || (!runs(marker)).then_some(()));
    let hello = house.workflow("hello", crate::run::HELLO);
    house.windlass(&["run", &hello]).ok();
}

#[test]
fn one_home_one_up() {
    let Some(house) = House::new("one up") else { return };
    let up = house.up(&[]);
    let pid = up.pid().to_string();
    house.windlass(&["up"]).exits(1).says(&["another windlass", &format!("process {pid}"), "--home"]);
    // `run` uses it.
    let hello = house.workflow("hello", crate::run::HELLO);
    house.windlass(&["run", &hello]).ok().says(&["Succeeded"]);
    house.windlass(&["list"]).ok().says(&["hello-", "Succeeded"]);
    // Ctrl-C on such a run ends its workflow and leaves `up` alone.
    let marker = "71004.5";
    let running = Running::begin(&mut house.command(&["run", &long(&house, marker)]));
    until("the container runs", Duration::from_secs(10), || runs(marker).then_some(()));
    running.signal(Signal::INT);
    running.finish(Duration::from_secs(20)).exits(130).says(&["was terminated"]);
    until("the container is gone", Duration::from_secs(2), || (!runs(marker)).then_some(()));
    house.windlass(&["run", &hello]).ok();
    up.end().exits(0);
    house.windlass(&["list"]).exits(1).says(&["no `windlass up` runs on"]);
}

#[test]
fn a_second_run_on_a_home_uses_the_first_one_or_is_told() {
    let Some(house) = House::new("two runs") else { return };
    let marker = "71005.5";
    let first = Running::begin(&mut house.command(&["run", &long(&house, marker)]));
    until("the container runs", Duration::from_secs(10), || runs(marker).then_some(()));
    let hello = house.workflow("hello", crate::run::HELLO);
    house.windlass(&["run", &hello]).ok().says(&["Succeeded"]);
    first.signal(Signal::INT);
    first.finish(Duration::from_secs(20)).exits(130);
    // Two that begin at the same moment: both end, and well or with a word about the other.
    let both = [0, 1].map(|_| Running::begin(&mut house.command(&["run", &hello])));
    let both = both.map(|r| r.finish(Duration::from_secs(30)));
    assert!(both.iter().any(|d| d.code == Some(0)), "{both:?}");
    for done in both.into_iter().filter(|d| d.code != Some(0)) {
        done.exits(1).says(&["another windlass", "--home"]);
    }
}
