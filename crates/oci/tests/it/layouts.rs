//! Images as files: out of one store, into another, and back.

use std::process::Command;

use windlass_oci::{Reference, Store, layout};

use crate::not_run;
use crate::store::image;

#[test]
fn every_form_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path().join("store")).unwrap();
    let name = Reference::parse("team/app:1").unwrap();
    let made = image(&store, "team/app:1", "hello");
    let names = std::slice::from_ref(&name);
    let dir = scratch.path().join("layout");
    layout::export_dir(&store, made.digest(), names, &dir).unwrap();
    layout::export_dir(&store, made.digest(), names, &dir).unwrap();
    let mut tar = Vec::new();
    layout::export_tar(&store, made.digest(), names, &mut tar).unwrap();
    let mut docker = Vec::new();
    layout::export_docker_archive(&store, &made, names, &mut docker).unwrap();

    for form in ["dir", "tar", "docker"] {
        let other = Store::open(scratch.path().join(format!("other-{form}"))).unwrap();
        let imported = match form {
            "dir" => layout::import_dir(&other, &dir, &[]),
            "tar" => layout::import_tar(&other, tar.as_slice(), &[]),
            _ => layout::import_tar(&other, docker.as_slice(), &[]),
        }
        .unwrap();
        assert_eq!(imported.len(), 1, "{form}");
        assert_eq!(imported[0].names, names, "{form}");
        let back = other.get(&name).unwrap().unwrap();
        assert_eq!(back.config_json()["config"], made.config_json()["config"], "{form}");
        let diff_ids =
            |image: &windlass_oci::Image| image.layers().iter().map(|l| l.diff_id.clone()).collect::<Vec<_>>();
        assert_eq!(diff_ids(&back), diff_ids(&made), "{form}");
        if form != "docker" {
            assert_eq!(back.digest(), made.digest(), "{form}");
        }
        let lowers = other.rootfs(&back).unwrap();
        assert_eq!(std::fs::read_to_string(lowers[1].join("content")).unwrap(), "hello", "{form}");
        let renamed = Reference::parse("other:2").unwrap();
        layout::import_tar(&other, docker.as_slice(), std::slice::from_ref(&renamed)).unwrap();
        assert!(other.get(&renamed).unwrap().is_some());
    }
    assert!(layout::import_tar(&store, &b"no archive at all"[..], &[]).is_err());

    // Another tool's opinion of them.
    if Command::new("skopeo").arg("--version").output().is_err() {
        return not_run("every_form_comes_back (skopeo's reading)", "skopeo is not installed");
    }
    std::fs::write(scratch.path().join("oci.tar"), &tar).unwrap();
    std::fs::write(scratch.path().join("docker.tar"), &docker).unwrap();
    for source in [
        format!("oci:{}:{name}", dir.display()),
        format!("oci-archive:{}/oci.tar:{name}", scratch.path().display()),
        format!("docker-archive:{}/docker.tar:team/app:1", scratch.path().display()),
    ] {
        let output = Command::new("skopeo").args(["inspect", "--config", &source]).output().unwrap();
        assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("/bin/true"), "{source}");
    }
    let saved = scratch.path().join("skopeo.tar");
    let target = format!("docker-archive:{}:a/b:c", saved.display());
    let source = format!("oci:{}:{name}", dir.display());
    let output = Command::new("skopeo").args(["copy", "--insecure-policy", &source, &target]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let other = Store::open(scratch.path().join("from-skopeo")).unwrap();
    let imported = layout::import_tar(&other, std::fs::File::open(saved).unwrap(), &[]).unwrap();
    assert_eq!(imported[0].names, [Reference::parse("a/b:c").unwrap()]);
    other.rootfs(&other.get(&imported[0].names[0]).unwrap().unwrap()).unwrap();
}
