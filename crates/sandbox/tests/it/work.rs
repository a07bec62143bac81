//! Confined workers: what one sees and may do, and what its end means. The worker's side is in here too: it only tries.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    time::Duration,
};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid};
use windlass_sandbox::{Probe, Rootfs, UidMap, Work, Worked};

use crate::{Bench, List};

pub(crate) const ROLE: &str = "windlass-test-worker";

/// The worker: does what it is asked for, and says how that went.
pub(crate) fn main() -> ! {
    let request = std::env::args().nth(1).unwrap();
    let (word, rest) = request.split_once(' ').unwrap_or((&request, ""));
    match word {
        "look" => look(rest),
        "flood" => {
            let block = vec![0; 1 << 20];
            loop {
                std::io::stdout().write_all(&block).unwrap();
            }
        }
        "eat" => {
            let mut all = Vec::new();
            for _ in 0..64 {
                all.push(vec![1_u8; 64 << 20]);
            }
            println!("{}", all.len());
        }
        "fill" => {
            let mut file = std::fs::File::create("/large").unwrap();
            while file.write_all(&[1; 4096]).is_ok() {}
        }
        "complain" => {
            for i in 0..2000 {
                eprintln!("line {i}");
            }
            std::process::exit(3);
        }
        "wait" => std::thread::sleep(Duration::from_secs(1000)),
        other => panic!("what is {other}?"),
    }
    std::process::exit(0)
}

fn look(address: &str) {
    let said = |name: &str, what: Result<(), std::io::Error>| {
        println!("{name}: {}", what.map_or_else(|error| format!("{:?}", error.kind()), |()| "yes".to_owned()));
    };
    let mut names: Vec<String> =
        std::fs::read_dir("/").unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    println!("root: {names:?}");
    println!("pid: {}", std::process::id());
    println!("uid: {}", rustix::process::geteuid().as_raw());
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    println!("input: {input}");
    said("above", std::fs::metadata("/../etc/passwd").map(drop));
    said("connect", std::net::TcpStream::connect(address).map(drop));
    said(
        "mount",
        rustix::mount::mount(c"tmpfs", c"/", c"tmpfs", rustix::mount::MountFlags::empty(), None).map_err(Into::into),
    );
    said("directory", std::fs::create_dir("/made"));
    let node = rustix::fs::mknodat(CWD, "/made/disk", FileType::BlockDevice, Mode::RUSR, rustix::fs::makedev(8, 0));
    // If it can be made, it cannot be opened.
    said("disk", node.map_err(Into::into).and_then(|()| std::fs::File::open("/made/disk").map(drop)));
    let whiteout = rustix::fs::mknodat(CWD, "/made/whiteout", FileType::CharacterDevice, Mode::empty(), 0);
    said("whiteout", whiteout.map_err(Into::into));
    let (uid, gid) = (Some(Uid::from_raw(1000)), Some(Gid::from_raw(1000)));
    said("owner", rustix::fs::chownat(CWD, "/made", uid, gid, AtFlags::empty()).map_err(Into::into));
    said("execute", std::process::Command::new("/program").status().map(drop));
    said("thread", std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().unwrap()));
}

async fn work(bench: &Bench, request: &str, at: &Path) -> Worked {
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"from outside").unwrap();
    drop(write);
    let work = Work {
        role: ROLE.to_owned(),
        request: request.to_owned(),
        rootfs: Rootfs::Dir(at.to_owned()),
        input: read.into(),
        file_bytes_max: 1 << 20,
    };
    bench.host.work(work).await.unwrap()
}

/// A directory for one worker.
fn place(bench: &Bench, name: &str) -> std::path::PathBuf {
    let path = bench.scratch.join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

async fn sees_nothing(bench: Bench) {
    let at = place(&bench, "sees");
    std::fs::copy(bench.layer.join("bin/busybox"), at.join("program")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let worked = work(&bench, &format!("look {}", listener.local_addr().unwrap()), &at).await;
    let said = String::from_utf8(worked.answer).unwrap();
    let wanted = [
        "root: [\"program\"]",
        "pid: 1",
        "uid: 0",
        "input: from outside",
        "above: NotFound",
        "mount: PermissionDenied",
        "directory: yes",
        "disk: PermissionDenied",
        "whiteout: yes",
        "execute: PermissionDenied",
        "thread: yes",
    ];
    for line in wanted {
        assert!(said.lines().any(|l| l == line), "{line} is not in\n{said}{}", worked.complaint);
    }
    assert!(!said.contains("connect: yes"), "{said}");
    // With one id there is no other owner.
    let owner = bench.host.probe().uid_map != UidMap::Single;
    assert_eq!(said.contains("owner: yes"), owner, "{said}");
    assert_eq!(worked.exit.code, 0);
}

async fn ends(bench: Bench) {
    let worked = work(&bench, "complain", &place(&bench, "complains")).await;
    assert_eq!((worked.exit.code, worked.answer.len()), (3, 0));
    assert_eq!(worked.cause(), "it ended with exit code 3: line 1999");
    assert!(worked.complaint.len() <= 16 << 10);
    // It may not take all memory, nor fill the disk, nor ours by what it says.
    let worked = work(&bench, "eat", &place(&bench, "eats")).await;
    assert!(worked.exit.signal.is_some(), "{worked:?}");
    let at = place(&bench, "fills");
    let worked = work(&bench, "fill", &at).await;
    assert_eq!(worked.exit.code, 0, "{worked:?}");
    assert_eq!(std::fs::metadata(at.join("large")).unwrap().len(), 1 << 20);
    let worked = work(&bench, "flood", &place(&bench, "floods")).await;
    assert_ne!(worked.exit.code, 0, "{:?}", worked.exit);
    // Who does not wait any more has ended it: its directory can be unmounted, so removed.
    let at = place(&bench, "waits");
    let waiting = tokio::time::timeout(Duration::from_millis(300), work(&bench, "wait", &at)).await;
    assert!(waiting.is_err());
    let running = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let ours = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        all.filter(|entry| ours(&entry.file_name().to_string_lossy()) == format!("{ROLE}\0wait\0")).count()
    };
    let begun = std::time::Instant::now();
    while running() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it still waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn list() -> List {
    let always: fn(&Probe) -> Result<(), String> = |_| Ok(());
    vec![
        ("workers_see_nothing", always, |bench| Box::pin(sees_nothing(bench))),
        ("workers_end", always, |bench| Box::pin(ends(bench))),
    ]
}
