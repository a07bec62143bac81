//! Images from this machine: they run in an empty root, and are the same each time.

use std::path::Path;
use std::process::Command;

use windlass_oci::host::{HostSpec, build};
use windlass_oci::{Platform, Reference, Store};

use crate::{is_root, not_run};

fn spec() -> HostSpec {
    HostSpec {
        programs: vec!["bash".into(), "sh".into(), "env".into(), "ls".into()],
        cmd: vec!["bash".into()],
        ..HostSpec::default()
    }
}

#[test]
fn programs_run_in_it() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path().join("store")).unwrap();
    let script = scratch.path().join("hello.sh");
    std::fs::write(&script, "#!/usr/bin/env -S bash\necho hello from $0\nls -d /tmp /bin\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let name = Reference::parse("docker.io/library/golang:1.14").unwrap();
    let spec = HostSpec {
        add: vec![HostSpec::parse_add(&format!("{}:/opt/", script.display())).unwrap()],
        workdir: Some("/job/dir".into()),
        ..spec()
    };
    let image = build(&store, &spec, std::slice::from_ref(&name)).unwrap();
    assert_eq!(build(&store, &spec, &[]).unwrap().digest(), image.digest(), "the same input, the same digest");
    assert!(store.resolve(&name).unwrap().unwrap().made_here);
    assert_eq!(image.platform(), Platform::host());
    let root = store.rootfs(&image).unwrap().remove(0);
    for path in ["etc/passwd", "etc/group", "etc/nsswitch.conf", "job/dir", "proc", "opt/hello.sh"] {
        assert!(root.join(path).symlink_metadata().is_ok(), "{path}");
    }
    assert_eq!(Path::new("/bin").is_symlink(), root.join("bin").is_symlink(), "merged as here");
    let mode = std::os::unix::fs::MetadataExt::mode(&root.join("tmp").metadata().unwrap());
    assert_eq!(mode & 0o7777, 0o1777);
    if !is_root() {
        return not_run("programs_run_in_it (the running)", "needs root for chroot");
    }
    let output =
        Command::new("/usr/sbin/chroot").arg(&root).args(["/opt/hello.sh"]).env_clear().env("PATH", "/bin").output();
    let output = output.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello from /opt/hello.sh\n/bin\n/tmp\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn packages_come_whole() {
    if !Path::new("/var/lib/dpkg/info/grep.list").exists() {
        return not_run("packages_come_whole", "not a Debian machine");
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let spec =
        HostSpec { packages: vec!["grep".into(), "mawk".into()], programs: vec!["sh".into()], ..HostSpec::default() };
    let image = build(&store, &spec, &[]).unwrap();
    let root = store.rootfs(&image).unwrap().remove(0);
    assert!(!root.join("usr/share/doc").exists() && !root.join("usr/share/man").exists());
    if Path::new("/etc/alternatives/awk").exists() {
        assert!(root.join("usr/bin/awk").is_symlink(), "the alternative's link comes along");
    }
    if !is_root() {
        return not_run("packages_come_whole (the running)", "needs root for chroot");
    }
    let output =
        Command::new("/usr/sbin/chroot").arg(&root).args(["/bin/sh", "-c", "echo abc | grep -o b"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_absent_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let broken = scratch.path().join("broken.sh");
    std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    let mut said = Vec::new();
    for program in ["no-such-program".to_owned(), "/no/such/path".to_owned(), broken.display().to_string()] {
        let error = build(&store, &HostSpec { programs: vec![program], ..HostSpec::default() }, &[]).unwrap_err();
        said.push(error.to_string().replace(&scratch.path().display().to_string(), "SCRATCH"));
    }
    said.push(HostSpec::parse_add("a:b").unwrap_err().to_string());
    // A file is named; a whole tree may hold what is for another system.
    let add = |from: &std::path::Path| {
        let add = vec![(from.to_owned(), std::path::PathBuf::from("/opt/x"))];
        build(&store, &HostSpec { add, ..HostSpec::default() }, &[])
    };
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(add(&broken).unwrap_err().to_string().contains("its interpreter `/no/such/interpreter`"));
    let tree = scratch.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::rename(&broken, tree.join("broken.sh")).unwrap();
    add(&tree).unwrap();
    insta::assert_snapshot!(said.join("\n"));
}
