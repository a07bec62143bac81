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

/// Seconds that nobody else sleeps for, not even these tests in another process.
fn marker(number: u32) -> String {
    format!("{number}.{}", std::process::id())
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
    for (number, more) in [(71001, None), (71002, Some("--log"))] {
        let marker = &marker(number);
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
    let marker = &marker(71003);
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
    let marker = &marker(71004);
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
fn a_second_run_on_a_home_waits_for_the_first_and_says_so() {
    let Some(house) = House::new("two runs") else { return };
    let marker = &marker(71005);
    let first = Running::begin(&mut house.command(&["run", &long(&house, marker)]));
    until("the container runs", Duration::from_secs(10), || runs(marker).then_some(()));
    let pid = first.child.id();
    let hello = house.workflow("hello", crate::run::HELLO);
    let second = Running::begin(&mut house.command(&["run", &hello]));
    let third = Running::begin(&mut house.command(&["run", &hello]));
    for running in [&second, &third] {
        until("the waiting is told", Duration::from_secs(10), || {
            let said = running.said();
            let all = ["waiting: another `windlass run`", &format!("process {pid}"), "--home", "windlass up"];
            all.iter().all(|text| said.contains(text)).then_some(())
        });
    }
    // Other verbs look into the first one.
    let seen = || house.windlass(&["list"]).ok().stdout.contains("Running").then_some(());
    until("the first one is told to run", Duration::from_secs(10), seen);
    house.windlass(&["up"]).exits(1).says(&["another windlass", &format!("process {pid}")]);
    // One that waits can be ended, also where SIGINT was ignored as these tests began.
    third.signal(Signal::INT);
    third.finish(Duration::from_secs(5)).exits(130).says(&["nothing was started"]);
    first.signal(Signal::INT);
    first.finish(Duration::from_secs(20)).exits(130);
    second.finish(Duration::from_secs(20)).exits(0).says(&["Succeeded"]);
    // Several that begin at the same moment.
    let all = [0, 1, 2].map(|_| Running::begin(&mut house.command(&["run", &hello])));
    for running in all {
        running.finish(Duration::from_secs(60)).exits(0).says(&["Succeeded"]);
    }
}

#[test]
fn an_up_that_ends_is_told_to_those_who_wait() {
    let Some(house) = House::new("up ends") else { return };
    let marker = &marker(71006);
    let up = house.up(&[]);
    let running = Running::begin(&mut house.command(&["run", &long(&house, marker)]));
    until("the container runs", Duration::from_secs(10), || runs(marker).then_some(()));
    up.crash();
    until("the silence is told", Duration::from_secs(10), || running.said().contains("does not answer").then_some(()));
    // The same address, within the patience: the workflow goes on and its watcher with it. Elsewhere: given up.
    let done = running.finish(Duration::from_secs(40)).exits(1);
    let done = done.says(&["the API has not answered for 20 s", "windlass up"]);
    assert!(done.stderr.lines().count() < 8, "a flood of words: {}", done.stderr);
    let up = house.up(&[]);
    // It died before the first status was written, maybe.
    let goes_on = || house.windlass(&["list"]).ok().stdout.contains("Running").then_some(());
    until("the workflow goes on", Duration::from_secs(10), goes_on);
    let name = house.windlass(&["list", "-o", "name"]).ok().stdout.trim().to_owned();
    house.windlass(&["terminate", &name]).ok();
    up.end().exits(0);
}
