//! One container a case.

use std::{
    io::Read,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use windlass_sandbox::{
    Capabilities, CgroupDriver, Container, Error, ExecSpec, Exit, Host, Mount, Namespace, Network, PidNamespace, Probe,
    Resources, Rlimit, Rootfs, SeccompProfile, Spec, Stdio, UidMap, Upper, User,
};

use crate::{Bench, List};

impl Bench {
    pub(crate) fn spec(&self, args: &[&str]) -> Spec {
        Spec {
            rootfs: Rootfs::Overlay { lowers: vec![self.layer.clone()], upper: Upper::Scratch },
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            ..Spec::default()
        }
    }

    pub(crate) fn sh(&self, script: &str) -> Spec {
        self.spec(&["sh", "-c", script])
    }

    /// Run to the end: exit, standard output and error together.
    pub(crate) async fn run(&self, spec: Spec) -> (Exit, String) {
        let (stdio, output) = piped();
        let container = self.host.spawn(spec, stdio).await.unwrap();
        let exit = container.wait().await;
        (exit, output.await)
    }

    pub(crate) async fn output(&self, spec: Spec) -> String {
        let (exit, output) = self.run(spec).await;
        assert_eq!(exit.code, 0, "{output}");
        output.trim_end().to_owned()
    }

    async fn fails(&self, spec: Spec) -> Error {
        self.host.spawn(spec, Stdio::null()).await.unwrap_err()
    }
}

/// Standard output and error into a pipe, and what came out of it.
pub(crate) fn piped() -> (Stdio, impl Future<Output = String>) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let second = OwnedFd::from(writer.try_clone().unwrap());
    let stdio = Stdio { stdin: None, stdout: Some(writer.into()), stderr: Some(second), terminal: false };
    let output = async move {
        let read = move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        };
        tokio::task::spawn_blocking(read).await.unwrap().unwrap()
    };
    (stdio, output)
}

fn always(_: &Probe) -> Result<(), String> {
    Ok(())
}

fn several_users(probe: &Probe) -> Result<(), String> {
    match probe.uid_map {
        UidMap::Single => Err("only one user id here".into()),
        _ => Ok(()),
    }
}

fn needs(condition: bool, what: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(format!("{what} here")) }
}

macro_rules! list {
    ($($name:ident: $possible:expr,)*) => {
        vec![$((stringify!($name), $possible, |bench| Box::pin($name(bench)))),*]
    };
}

pub(crate) fn list() -> List {
    list! {
        exit_codes_and_signals: always,
        messages_of_failed_starts: always,
        own_namespaces: always,
        host_is_not_visible: always,
        writes_go_to_the_upper: always,
        upper_used_again: always,
        layers_hide_each_other: always,
        empty_and_plain_roots: always,
        binds: always,
        mount_targets_stay_beneath_the_root: always,
        proc_is_no_mount_target: always,
        readonly_root: always,
        users: several_users,
        other_users_are_refused_by_name: |p| needs(p.uid_map == UidMap::Single, "several user ids"),
        privileges: always,
        filtered_calls: always,
        masked_paths: always,
        devices: always,
        privileged: |p| needs(p.root, "not root"),
        privileged_has_cgroups_of_its_own: |p| {
            needs(p.root, "not root")?;
            needs(!matches!(p.cgroup, CgroupDriver::None(_)), "no cgroups")
        },
        environment_and_directory: always,
        limits: always,
        out_of_memory: |p| needs(p.memory_limit, "no memory limit"),
        processes_are_limited: |p| needs(p.pids_limit, "no process limit"),
        stop_with_grace: always,
        stop_kills_the_whole_namespace: always,
        exec_into: always,
        shared_namespaces: always,
        executable_by_descriptor: always,
        large_specification: always,
        many_at_once: always,
    }
}

async fn exit_codes_and_signals(bench: Bench) {
    assert_eq!(bench.run(bench.spec(&["true"])).await.0.code, 0);
    assert_eq!(bench.run(bench.sh("exit 7")).await.0.code, 7);
    let (exit, _) = bench.run(bench.sh("sh -c 'kill -9 $$'; exit $?")).await;
    assert_eq!((exit.code, exit.signal), (137, None), "a child's end is the shell's code");
    let container = bench.host.spawn(bench.spec(&["sleep", "100"]), Stdio::null()).await.unwrap();
    assert_eq!(container.exit(), None);
    container.signal(9).unwrap();
    let exit = container.wait().await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert_eq!(container.exit(), Some(exit));
    container.signal(9).unwrap();
    assert_eq!(container.pid(), None);
    let (exit, _) = bench.run(bench.sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")).await;
    assert!(exit.user_time > Duration::ZERO && exit.max_rss > 100_000, "{exit:?}");
}

async fn messages_of_failed_starts(bench: Bench) {
    let message = |error: Error| (error.to_string(), error.exit_code());
    let of = |args: &[&str]| bench.spec(args);
    assert_eq!(message(bench.fails(of(&["/bin/foo"])).await), ("exec /bin/foo: No such file or directory".into(), 127));
    assert_eq!(message(bench.fails(of(&["foo"])).await), ("exec foo: No such file or directory".into(), 127));
    let denied = ("exec /bin/not-executable: Permission denied".into(), 126);
    assert_eq!(message(bench.fails(of(&["/bin/not-executable"])).await), denied);
    assert_eq!(message(bench.fails(of(&["/tmp"])).await), ("exec /tmp: Permission denied".into(), 126));
    let none = "no command: neither the image nor the specification has one";
    assert_eq!(message(bench.fails(of(&[])).await), (none.into(), 128));
    let mut spec = of(&["true"]);
    spec.mounts.push(Mount::bind("/nowhere/at/all", "/x"));
    let missing = "mount /x from /nowhere/at/all: No such file or directory";
    assert_eq!(message(bench.fails(spec).await), (missing.into(), 128));
    let mut spec = of(&["true"]);
    spec.cwd = PathBuf::from("/etc/motd");
    assert_eq!(message(bench.fails(spec).await), ("working directory /etc/motd: Not a directory".into(), 128));
    let mut spec = of(&["true"]);
    spec.rootfs = Rootfs::Overlay { lowers: vec![bench.layer.join("nope")], upper: Upper::Scratch };
    let (text, code) = message(bench.fails(spec).await);
    assert_eq!((text.as_str(), code), ("mount root filesystem of 1 layers: No such file or directory", 128));
}

async fn own_namespaces(bench: Bench) {
    let kinds = "for n in mnt pid ipc uts net; do readlink /proc/self/ns/$n; done";
    let mut spec = bench.sh(kinds);
    spec.hostname = Some("inside".into());
    let inside = bench.output(spec.clone()).await;
    let mut distinct: Vec<&str> = inside.lines().collect();
    let host: Vec<String> = ["mnt", "pid", "ipc", "uts", "net"]
        .iter()
        .map(|n| std::fs::read_link(format!("/proc/self/ns/{n}")).unwrap().display().to_string())
        .collect();
    distinct.extend(host.iter().map(String::as_str));
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 10, "{inside} {host:?}");
    spec.args[2] = "hostname; echo $$".into();
    assert_eq!(bench.output(spec).await, "inside\n1");
    let mut spec = bench.sh("readlink /proc/self/ns/net");
    spec.network = Network::Host;
    assert_eq!(bench.output(spec).await, host[4]);
}

async fn host_is_not_visible(bench: Bench) {
    assert_eq!(bench.output(bench.sh("cd /proc; echo [0-9]*")).await, "1");
    let root = bench.output(bench.sh("ls /")).await;
    assert_eq!(root.split_whitespace().collect::<Vec<_>>().join(" "), "bin dev etc proc root run sys tmp var");
    let mounts = bench.output(bench.sh("cat /proc/self/mountinfo")).await;
    assert!(!mounts.contains("/home") && mounts.lines().count() < 40, "{mounts}");
    let open = bench.output(bench.sh("ls /proc/self/fd")).await;
    assert_eq!(open.split_whitespace().collect::<Vec<_>>().join(" "), "0 1 2 3", "3 is the directory that ls reads");
    let links = bench.output(bench.sh("ip -o link | wc -l; ip addr show lo | head -1")).await;
    assert!(links.starts_with("1\n") && links.contains("UP"), "{links}");
}

async fn writes_go_to_the_upper(bench: Bench) {
    let script =
        "echo new >/etc/new && echo changed >/etc/motd && rm /bin/ps 2>/dev/null || busybox rm /bin/ps; cat /etc/motd";
    let (stdio, output) = piped();
    let container = bench.host.spawn(bench.sh(script), stdio).await.unwrap();
    assert_eq!(container.wait().await.code, 0);
    assert_eq!(output.await, "changed\n");
    assert_eq!(std::fs::read_to_string(bench.layer.join("etc/motd")).unwrap(), "hello\n");
    assert!(!bench.layer.join("etc/new").exists() && bench.layer.join("bin/ps").is_symlink());
    let upper = container.scratch().unwrap().upper().to_owned();
    assert_eq!(std::fs::read_to_string(upper.join("etc/new")).unwrap(), "new\n");
    let whiteout = std::fs::symlink_metadata(upper.join("bin/ps")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::rdev(&whiteout), 0);
    drop(container);
    let begin = Instant::now();
    while upper.exists() {
        assert!(begin.elapsed() < Duration::from_secs(5), "the scratch directory stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn upper_used_again(bench: Bench) {
    let scratch = bench.host.scratch().unwrap();
    for number in 0..3 {
        let mut spec = bench.sh(&format!("echo {number} >>/log; wc -l </log"));
        let upper = Upper::Existing(scratch.clone());
        spec.rootfs = Rootfs::Overlay { lowers: vec![bench.layer.clone()], upper };
        assert_eq!(bench.output(spec).await.trim(), (number + 1).to_string());
    }
    let (upper, work) = (bench.scratch.join("keep"), bench.scratch.join("keep-work"));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    let mut spec = bench.sh("echo kept >/kept");
    let persistent = Upper::Persistent { upper: upper.clone(), work };
    spec.rootfs = Rootfs::Overlay { lowers: vec![bench.layer.clone()], upper: persistent };
    bench.output(spec).await;
    assert_eq!(std::fs::read_to_string(upper.join("kept")).unwrap(), "kept\n");
}

async fn layers_hide_each_other(bench: Bench) {
    let mut lowers = vec![bench.layer.clone()];
    for number in 0..40 {
        let layer = bench.scratch.join(format!("layer{number}"));
        std::fs::create_dir_all(layer.join("etc")).unwrap();
        if number == 0 {
            // A read-only root must have its mount targets.
            for directory in ["proc", "sys", "dev"] {
                std::fs::create_dir(layer.join(directory)).unwrap();
            }
        }
        std::fs::write(layer.join("etc/top"), number.to_string()).unwrap();
        std::fs::write(layer.join(format!("etc/l{number}")), "").unwrap();
        lowers.push(layer);
    }
    // A path that the newer mount call does not take.
    let long = bench.scratch.join("x".repeat(200)).join("y".repeat(100));
    std::fs::create_dir_all(long.join("etc")).unwrap();
    for upper in [Upper::Scratch, Upper::ReadOnly] {
        let mut spec = bench.sh("cat /etc/top; ls /etc | wc -l");
        spec.rootfs = Rootfs::Overlay { lowers: lowers.clone(), upper };
        assert_eq!(bench.output(spec).await, "3945", "39 and 45 files");
    }
    let mut spec = bench.sh("cat /etc/top");
    let few = vec![lowers[0].clone(), lowers[7].clone(), long];
    spec.rootfs = Rootfs::Overlay { lowers: few, upper: Upper::Scratch };
    assert_eq!(bench.output(spec).await, "6");
}

async fn empty_and_plain_roots(bench: Bench) {
    let mut spec = bench.spec(&["/busybox", "ls", "/"]);
    spec.rootfs = Rootfs::Overlay { lowers: vec![], upper: Upper::Scratch };
    spec.mounts.push(Mount::bind_ro(bench.layer.join("bin/busybox"), "/busybox"));
    let listed = bench.output(spec).await;
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>().join(" "), "busybox dev proc sys");
    for directory in ["proc", "sys", "dev"] {
        std::fs::create_dir_all(bench.layer.join(directory)).unwrap();
    }
    let mut spec = bench.sh("echo x >/tmp/plain && cat /tmp/plain");
    spec.rootfs = Rootfs::Dir(bench.layer.clone());
    assert_eq!(bench.output(spec).await, "x");
    assert!(bench.layer.join("tmp/plain").exists());
    let mut spec = bench.sh("touch /tmp/y");
    spec.rootfs = Rootfs::Overlay { lowers: vec![bench.layer.clone()], upper: Upper::ReadOnly };
    let (exit, output) = bench.run(spec).await;
    assert!(exit.code == 1 && output.contains("Read-only file system"), "{output}");
    for directory in ["proc", "sys", "dev"] {
        std::fs::remove_dir(bench.layer.join(directory)).unwrap();
    }
}

async fn binds(bench: Bench) {
    let volume = bench.scratch.join("volume");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("file"), "data").unwrap();
    let mut spec =
        bench.sh("cat /deep/new/dir/file; echo w >/deep/new/dir/out; cat /etc/one; echo x >/ro/no; echo x >/etc/one");
    spec.mounts = vec![
        Mount::bind(&volume, "/deep/new/dir"),
        Mount::bind_ro(&volume, "/ro"),
        Mount::bind_ro(volume.join("file"), "/etc/one"),
        Mount::tmpfs("/t", Some(1 << 20)),
    ];
    let (exit, output) = bench.run(spec.clone()).await;
    assert_eq!(exit.code, 1);
    assert!(output.starts_with("datadata") && output.matches("Read-only file system").count() == 2, "{output}");
    assert_eq!(std::fs::read_to_string(volume.join("out")).unwrap(), "w\n");
    spec.args[2] = "dd if=/dev/zero of=/t/big bs=1k count=2000 2>&1; stat -c %a /t".into();
    let output = bench.output(spec).await;
    assert!(output.contains("No space left") && output.ends_with("1777"), "{output}");
}

async fn mount_targets_stay_beneath_the_root(bench: Bench) {
    let volume = bench.scratch.join("secret");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("f"), "s").unwrap();
    for (target, inside) in
        [("/etc/escape/x", "/tmp/outside/x/f"), ("/var/run/secrets", "/run/secrets/f"), ("/../../../up", "/up/f")]
    {
        let mut spec = bench.spec(&["cat", inside]);
        spec.mounts.push(Mount::bind(&volume, target));
        assert_eq!(bench.output(spec).await, "s", "{target}");
    }
    assert!(!std::path::Path::new("/tmp/outside").exists());
    assert!(!bench.layer.join("run/secrets").exists());
}

async fn proc_is_no_mount_target(bench: Bench) {
    let mut spec = bench.spec(&["true"]);
    spec.mounts.push(Mount::bind(&bench.scratch, "/proc/sys"));
    let error = bench.fails(spec).await.to_string();
    assert!(error.starts_with("mount /proc/sys from ") && error.ends_with("Operation not permitted"), "{error}");
}

async fn readonly_root(bench: Bench) {
    let mut spec = bench.sh("echo x >/x; echo v >/v/x && cat /v/x");
    spec.readonly_root = true;
    spec.mounts.push(Mount::tmpfs("/v", None));
    let (_, output) = bench.run(spec).await;
    assert!(output.contains("Read-only file system") && output.ends_with("v\n"), "{output}");
}

async fn users(bench: Bench) {
    let mut spec = bench.sh("id; touch /tmp/denied; cat /proc/self/status");
    spec.user = Host::resolve_user(std::slice::from_ref(&bench.layer), "web").unwrap();
    let (_, output) = bench.run(spec).await;
    assert!(output.starts_with("uid=33(web) gid=33(web) groups=33(web),50(staff)"), "{output}");
    assert!(output.contains("Permission denied"), "{output}");
    assert!(output.contains("CapEff:\t0000000000000000"), "{output}");
    let mut spec = bench.sh("chown 5:6 /etc/motd && stat -c %u:%g /etc/motd");
    spec.user = User { groups: vec![7], ..User::default() };
    assert_eq!(bench.output(spec).await, "5:6");
}

async fn other_users_are_refused_by_name(bench: Bench) {
    let mut spec = bench.sh("id");
    spec.user = User { uid: 1000, ..User::default() };
    let error = bench.fails(spec).await.to_string();
    assert!(error.starts_with("user 1000:0: only one user id exists here; install newuidmap"), "{error}");
}

fn status(output: &str, field: &str) -> String {
    let line = output.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(":\t")).unwrap();
    line.to_owned()
}

async fn privileges(bench: Bench) {
    let output = bench.output(bench.spec(&["cat", "/proc/self/status"])).await;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&output, set), "00000000a80425fb");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(&output, set), "0000000000000000");
    }
    assert_eq!((status(&output, "NoNewPrivs"), status(&output, "Seccomp")), ("1".into(), "2".into()));
    assert_eq!((status(&output, "SigBlk"), status(&output, "SigIgn")), ("0".repeat(16), "0".repeat(16)));
    let mut spec = bench.spec(&["cat", "/proc/self/status"]);
    spec.capabilities = Capabilities::none().with(Capabilities::parse("KILL").unwrap());
    spec.no_new_privs = false;
    let output = bench.output(spec).await;
    assert_eq!(status(&output, "CapEff"), "0000000000000020");
    assert_eq!((status(&output, "NoNewPrivs"), status(&output, "Seccomp")), ("0".into(), "2".into()));
    assert_eq!(bench.output(bench.sh("umask")).await, "0022");
}

async fn filtered_calls(bench: Bench) {
    // All capabilities: only the filter is in the way. It allows what a capability is for, so those are left out.
    let script = "mount -t tmpfs x /tmp; unshare -m true; mknod /tmp/n c 1 3 && echo made";
    let mut spec = bench.sh(script);
    let (_, output) = bench.run(spec.clone()).await;
    assert_eq!(
        output.matches("Operation not permitted").count() + output.matches("permission denied").count(),
        if bench.host.probe().root { 2 } else { 3 },
        "{output}"
    );
    spec.seccomp = SeccompProfile::Unconfined;
    let (_, output) = bench.run(spec).await;
    assert!(output.to_lowercase().contains("permi"), "capabilities alone refuse too: {output}");
}

async fn masked_paths(bench: Bench) {
    let script = "wc -c </proc/keys; wc -c </proc/timer_list; ls /sys/firmware | wc -l; echo 1 >/proc/sys/vm/overcommit_memory; mkdir /sys/x; cat /proc/kcore | head -c 1 | wc -c";
    let (_, output) = bench.run(bench.sh(script)).await;
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
    let numbers: Vec<&str> = output.lines().filter(|l| l.parse::<u32>().is_ok()).collect();
    assert!(numbers.iter().all(|n| *n == "0") && numbers.len() >= 3, "{output}");
}

async fn devices(bench: Bench) {
    let script = "echo x >/dev/null; head -c 3 /dev/zero | wc -c; echo out >/dev/stdout; echo err >/dev/stderr; ls /dev; \
                  echo s >/dev/shm/s && cat /dev/shm/s; stat -c %a /dev/null";
    let output = bench.output(bench.sh(script)).await;
    let expected = "3 out err core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero s 666";
    let expected = expected.replace("core ", "");
    assert_eq!(output.split_whitespace().collect::<Vec<_>>().join(" "), expected);
}

async fn privileged(bench: Bench) {
    let mut spec = bench.sh("mount -t tmpfs x /tmp && echo mounted; cat /proc/self/status; ls /dev | wc -l");
    spec.privileged = true;
    let output = bench.output(spec).await;
    assert!(output.starts_with("mounted"), "{output}");
    assert_eq!((status(&output, "NoNewPrivs"), status(&output, "Seccomp")), ("0".into(), "0".into()));
    assert!(output.lines().last().unwrap().parse::<u32>().unwrap() > 15);
}

async fn privileged_has_cgroups_of_its_own(bench: Bench) {
    let script = "cat /proc/self/cgroup; find=0
        for d in /sys/fs/cgroup /sys/fs/cgroup/*; do
            [ -f $d/cgroup.procs ] || continue
            mkdir $d/inner || exit 1
            find=$((find+1)); echo $d
        done
        [ $find -gt 0 ] && echo all made";
    let mut spec = bench.sh(script);
    spec.privileged = true;
    spec.resources = Resources { memory: Some(64 << 20), ..Resources::default() };
    let container = bench.output(spec).await;
    let (roots, made): (Vec<&str>, Vec<&str>) = container.lines().partition(|l| l.contains(':'));
    assert!(!roots.is_empty() && roots.iter().all(|l| l.ends_with(":/")), "{container}");
    assert_eq!(made.last(), Some(&"all made"), "{container}");
    // What the container has made goes with it.
    let own = format!("windlass-{}", std::process::id());
    let left = || {
        let mut left = Vec::new();
        let mut open = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    let path = entry.path();
                    if entry.file_name() == "inner" && path.to_string_lossy().contains(&own) {
                        left.push(path.clone());
                    }
                    open.push(path);
                }
            }
        }
        left
    };
    let begin = std::time::Instant::now();
    while !left().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", left());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn environment_and_directory(bench: Bench) {
    let mut spec = bench.sh("pwd; echo $A; echo $PATH");
    spec.env = vec![("A".into(), "b c".into())];
    spec.cwd = "/job/made".into();
    assert_eq!(
        bench.output(spec).await,
        "/job/made\nb c\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    );
    let mut spec = bench.spec(&["busybox"]);
    spec.env = vec![("PATH".into(), "/nowhere:/opt".into())];
    spec.mounts.push(Mount::bind_ro(bench.layer.join("bin/busybox"), "/opt/busybox"));
    assert!(bench.output(spec).await.contains("BusyBox"));
}

async fn limits(bench: Bench) {
    let mut spec =
        bench.sh("ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/self/oom_score_adj");
    spec.rlimits = vec![(Rlimit::Nofile, 77, 77)];
    spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "42".into());
    spec.oom_score_adj = Some(500);
    let output = bench.output(spec).await;
    assert!(output.starts_with("77\n42\n"), "{output}");
    if bench.host.probe().root {
        assert!(output.ends_with("500"), "{output}");
    }
}

async fn out_of_memory(bench: Bench) {
    let mut spec = bench.sh("exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    spec.resources = Resources { memory: Some(32 << 20), ..Resources::default() };
    let (exit, output) = bench.run(spec.clone()).await;
    assert!(exit.oom_killed && exit.signal == Some(9), "{exit:?} {output}");
    spec.args[2] = "true".into();
    let (exit, _) = bench.run(spec).await;
    assert!(!exit.oom_killed && exit.code == 0);
}

async fn processes_are_limited(bench: Bench) {
    let mut spec = bench.sh("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait");
    spec.resources = Resources { pids: Some(4), cpu_millis: Some(500), ..Resources::default() };
    let (_, output) = bench.run(spec).await;
    assert!(output.contains("Resource temporarily unavailable"), "{output}");
}

async fn started(bench: &Bench, script: &str) -> Container {
    // The pipe tells when the script has begun: its first line is "ready".
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stdio = Stdio { stdout: Some(writer.into()), ..Stdio::null() };
    let container = bench.host.spawn(bench.sh(script), stdio).await.unwrap();
    let read = move || reader.read_exact(&mut [0; 6]);
    tokio::task::spawn_blocking(read).await.unwrap().unwrap();
    container
}

async fn stop_with_grace(bench: Bench) {
    let container = started(&bench, "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done").await;
    let exit = container.stop(Duration::from_secs(10)).await;
    assert_eq!((exit.code, exit.signal), (5, None));
    let container = started(&bench, "trap '' TERM; echo ready; while :; do sleep 1; done").await;
    let begin = Instant::now();
    let exit = container.stop(Duration::from_millis(100)).await;
    assert_eq!(exit.signal, Some(9));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

async fn stop_kills_the_whole_namespace(bench: Bench) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stdio = Stdio { stdout: Some(writer.into()), ..Stdio::null() };
    let script = "(trap '' TERM; while :; do sleep 1; done) & echo ready; wait";
    let container = bench.host.spawn(bench.sh(script), stdio).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    container.stop(Duration::ZERO).await;
    // The pipe ends only when nobody has it open any more.
    let read = move || reader.read_to_end(&mut Vec::new());
    tokio::time::timeout(Duration::from_secs(5), tokio::task::spawn_blocking(read)).await.unwrap().unwrap().unwrap();
}

async fn exec_into(bench: Bench) {
    let mut spec = bench.sh("echo mine >/marker; echo ready; sleep 100");
    spec.hostname = Some("target".into());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stdio = Stdio { stdout: Some(writer.into()), ..Stdio::null() };
    let container = bench.host.spawn(spec.clone(), stdio).await.unwrap();
    tokio::task::spawn_blocking(move || reader.read_exact(&mut [0; 6])).await.unwrap().unwrap();
    let run = async |script: &str| {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let (stdio, output) = piped();
        let process = container.exec(ExecSpec::like(&spec, args), stdio).await.unwrap();
        (process.wait().await.code, output.await)
    };
    assert_eq!(run("cat /marker; hostname; exit 3").await, (3, "mine\ntarget\n".into()));
    let (_, processes) = run("ps").await;
    assert!(processes.contains("sleep 100") && processes.lines().count() < 8, "{processes}");
    let (_, text) = run("cat /proc/self/status").await;
    assert_eq!(status(&text, "CapEff"), "00000000a80425fb");
    assert_eq!((status(&text, "Seccomp"), status(&text, "NoNewPrivs")), ("2".into(), "1".into()));
    let mut missing = ExecSpec::like(&spec, vec!["nothing".into()]);
    let error = container.exec(missing.clone(), Stdio::null()).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("exec nothing: No such file or directory", 127));
    // It ends with the container, and then nothing can be joined any more.
    missing.args = vec!["sleep".into(), "50".into()];
    let process = container.exec(missing.clone(), Stdio::null()).await.unwrap();
    container.stop(Duration::ZERO).await;
    assert_eq!(process.wait().await.signal, Some(9));
    assert!(container.exec(missing, Stdio::null()).await.is_err());
    assert_eq!(bench.output(bench.spec(&["echo", "still fine"])).await, "still fine");
}

async fn shared_namespaces(bench: Bench) {
    let (ipc, uts) = (windlass_sandbox::namespaces::ipc().unwrap(), windlass_sandbox::namespaces::uts("pod").unwrap());
    let join = |script: &str| {
        let mut spec = bench.sh(script);
        spec.ipc = Namespace::Join(ipc.clone());
        spec.uts = Namespace::Join(uts.clone());
        spec
    };
    let script = "hostname; readlink /proc/self/ns/ipc /proc/self/ns/uts; readlink /proc/self/ns/ipc";
    let first = bench.output(join(script)).await;
    assert_eq!(bench.output(join(script)).await, first);
    assert!(first.starts_with("pod\n"), "{first}");
    let first = started(&bench, "echo ready; sleep 100").await;
    let mut spec = bench.sh("ps");
    spec.pid = PidNamespace::Join(first.clone());
    let processes = bench.output(spec).await;
    assert!(processes.contains("sleep 100"), "{processes}");
    first.stop(Duration::ZERO).await;
}

async fn executable_by_descriptor(bench: Bench) {
    let mut spec = bench.spec(&["cat", "/etc/motd"]);
    spec.executable = Some(Arc::new(std::fs::File::open("/bin/busybox").unwrap().into()));
    std::fs::create_dir_all(bench.scratch.join("image/etc")).unwrap();
    std::fs::write(bench.scratch.join("image/etc/motd"), "no programs here").unwrap();
    spec.rootfs = Rootfs::Overlay { lowers: vec![bench.scratch.join("image")], upper: Upper::Scratch };
    assert_eq!(bench.output(spec).await, "no programs here");
}

async fn large_specification(bench: Bench) {
    let mut spec = bench.sh("echo ${#V0} ${#V39}; echo ${#1}");
    spec.args.extend(["x".into(), "a".repeat(100_000)]);
    spec.env = (0..40).map(|n| (format!("V{n}"), "v".repeat(10_000))).collect();
    assert_eq!(bench.output(spec).await, "10000 10000\n100000");
}

async fn many_at_once(bench: Bench) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let bench = bench.clone();
        tasks.spawn(async move {
            let output = bench.output(bench.sh(&format!("echo {number}"))).await;
            assert_eq!(output, number.to_string());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
