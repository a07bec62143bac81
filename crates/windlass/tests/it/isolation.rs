//! What a step can see of the machine that runs it: nothing.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::house::{House, kill, until};

const NAMESPACES: [&str; 5] = ["mnt", "pid", "net", "ipc", "uts"];

#[test]
fn a_step_sees_nothing_of_the_host() {
    let Some(house) = House::new("isolation") else { return };
    let marker = "86399.271828";
    let mut sleeper = Command::new("sleep").arg(marker).stdin(Stdio::null()).spawn().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let any = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    any.set_nonblocking(true).unwrap();
    let file = house.workflow(
        "isolated",
        &format!(
            "entrypoint: look
templates:
- name: look
  script:
    image: busybox
    command: [sh]
    source: |
      for ns in {namespaces}; do echo \"$ns=$(busybox readlink /proc/self/ns/$ns)\"; done
      echo processes=$(busybox ls /proc | busybox grep -c '^[0-9]')
      busybox grep -l {marker} /proc/[0-9]*/cmdline
      for to in 127.0.0.1 10.42.0.1 10.96.0.1; do
        busybox nc -w 1 $to {port} < /dev/null && echo \"reached $to\"
      done
      busybox cat /written 2> /dev/null || echo clean
      echo mine > /written && busybox cat /written
      echo evil > /usr/bin/busybox
      exit 0
",
            namespaces = NAMESPACES.join(" "),
        ),
    );
    let first = house.windlass(&["run", &file, "--log"]);
    let second = house.windlass(&["run", &file, "--log"]);
    kill(&sleeper, Signal::KILL);
    sleeper.wait().unwrap();
    for done in [first.ok(), second.ok()] {
        let lines = done.stdout.lines().filter(|l| l.starts_with("isolated-"));
        let said = lines.filter_map(|l| l.split_once(": ")).map(|(_, l)| format!("{l}\n")).collect::<String>();
        for ns in NAMESPACES {
            let ours = std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
            let theirs = said.lines().find_map(|l| l.strip_prefix(&format!("{ns}="))).unwrap();
            assert!(theirs.starts_with(&format!("{ns}:[")), "{said}");
            assert_ne!(theirs, ours.to_str().unwrap(), "the step is in the host's {ns} namespace");
        }
        assert!(!said.contains("cmdline"), "the step sees the host's processes: {said}");
        assert!(!said.contains("reached"), "the step reaches the host's loopback: {said}");
        assert!(said.contains("\nclean\nmine"), "what a step writes to / stays: {said}");
    }
    assert!(listener.accept().is_err(), "a step reached a listener on the host's loopback");
}

#[test]
fn two_containers_of_a_pod_meet_on_loopback() {
    let Some(house) = House::new("two containers") else { return };
    let pod = house.file(
        "pod.yaml",
        "apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: server
    image: busybox
    command: [sh, -c, 'echo hello over loopback > /w/index.html; busybox httpd -f -p 127.0.0.1:8000 -h /w']
    volumeMounts: [{name: shared, mountPath: /w}]
  - name: client
    image: busybox
    command: [sh, -c, 'for i in $(seq 50); do busybox wget -q -O - http://127.0.0.1:8000/ && exit 0; busybox sleep 0.1; done; exit 1']
",
    );
    let hello = house.workflow("hello", crate::run::HELLO);
    let _up = house.up(&[]);
    house.windlass(&["run", &pod, &hello]).ok();
    let logs = house.home().join("logs");
    until("the client's line", Duration::from_secs(15), || {
        let dirs = std::fs::read_dir(&logs).ok()?;
        let dir = dirs.filter_map(Result::ok).find(|d| d.file_name().to_string_lossy().contains("_pair_"))?;
        let text = std::fs::read_to_string(dir.path().join("client.log")).ok()?;
        text.contains("hello over loopback").then_some(())
    });
}
