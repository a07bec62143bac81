//! The root filesystem of the cases, and the cases about processes that outlive or do not outlive others.

use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, ExitCode, Stdio as Io},
    time::{Duration, Instant},
};

use windlass_sandbox::{EnterOptions, Host, Rootfs, Spec, Stdio, Upper};

use crate::List;

const APPLETS: [&str; 24] = [
    "sh", "true", "cat", "echo", "id", "ls", "sleep", "mount", "unshare", "hostname", "ps", "touch", "mkdir", "dd",
    "wc", "stat", "nc", "ip", "ping", "kill", "readlink", "head", "mknod", "chown",
];

/// A layer with busybox and the files that an image usually has.
pub(crate) fn build(layer: &Path) -> Result<(), String> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox = busybox.ok_or("no /bin/busybox")?;
    for directory in ["bin", "etc", "tmp", "root", "var", "run"] {
        std::fs::create_dir_all(layer.join(directory)).unwrap();
    }
    std::fs::copy(busybox, layer.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var:/bin/sh\n").unwrap();
    std::fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:33:\nstaff:x:50:web\n").unwrap();
    std::fs::write(layer.join("etc/motd"), "hello\n").unwrap();
    std::fs::write(layer.join("bin/not-executable"), "x").unwrap();
    symlink("/run", layer.join("var/run")).unwrap();
    symlink("../../../../../../../../tmp/outside", layer.join("etc/escape")).unwrap();
    Ok(())
}

pub(crate) fn list() -> List {
    vec![
        (
            "a_dropped_host_leaves_nothing",
            |_| Ok(()),
            |bench| {
                Box::pin(async move {
                    let program = std::env::current_exe().unwrap();
                    let mut command = tokio::process::Command::new(program);
                    let status = command.arg("--passing").arg(bench.scratch.join("passing")).status().await.unwrap();
                    assert!(status.success());
                })
            },
        ),
        (
            "containers_end_with_their_host",
            |_| Ok(()),
            |bench| {
                Box::pin(async move {
                    let program = std::env::current_exe().unwrap();
                    let scratch = bench.scratch.join("victim");
                    let mut child =
                        Command::new(program).arg("--victim").arg(&scratch).stdout(Io::piped()).spawn().unwrap();
                    let mut line = String::new();
                    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
                    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
                    let pids: Vec<u32> = line.split_whitespace().map(|p| p.parse().unwrap()).collect();
                    assert_eq!(pids.len(), 3, "{line:?}");
                    assert!(pids.iter().all(|pid| Path::new(&format!("/proc/{pid}")).exists()));
                    child.kill().unwrap();
                    child.wait().unwrap();
                    let begin = Instant::now();
                    let alive = |pid: &&u32| {
                        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                        !status.is_empty() && !status.contains("State:\tZ")
                    };
                    while let Some(pid) = pids.iter().find(alive) {
                        assert!(begin.elapsed() < Duration::from_secs(5), "{pid} is still alive");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                })
            },
        ),
    ]
}

/// The scratch directory of a host that was dropped is gone, and so is what it ran.
fn drops(scratch: &Path) {
    let left: Vec<_> = std::fs::read_dir(scratch).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Enter, start something, let go of the host.
pub(crate) fn passing(scratch: &Path) -> ExitCode {
    let layer = scratch.join("layer");
    build(&layer).unwrap();
    let host = Host::enter(EnterOptions::new(scratch.join("s"))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let spec = Spec {
        rootfs: Rootfs::Overlay { lowers: vec![layer], upper: Upper::Scratch },
        args: ["sleep", "1000"].map(str::to_owned).to_vec(),
        ..Spec::default()
    };
    let container = runtime.block_on(host.spawn(spec, Stdio::null())).unwrap();
    let pid = container.pid().unwrap();
    drop((host, container));
    let begin = Instant::now();
    while Path::new(&format!("/proc/{pid}/exe")).exists() {
        assert!(begin.elapsed() < Duration::from_secs(5), "it still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    drops(&scratch.join("s"));
    ExitCode::SUCCESS
}

/// A host that starts three containers, prints their pids and waits to be killed.
pub(crate) fn victim(scratch: &Path) -> ExitCode {
    let layer = scratch.join("layer");
    build(&layer).unwrap();
    let host = Host::enter(EnterOptions::new(scratch.join("s"))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut pids = Vec::new();
        for _ in 0..3 {
            let spec = Spec {
                rootfs: Rootfs::Overlay { lowers: vec![layer.clone()], upper: Upper::Scratch },
                args: ["sleep", "1000"].map(str::to_owned).to_vec(),
                ..Spec::default()
            };
            let container = host.spawn(spec, Stdio::null()).await.unwrap();
            pids.push(container.pid().unwrap().to_string());
        }
        println!("{}", pids.join(" "));
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}
