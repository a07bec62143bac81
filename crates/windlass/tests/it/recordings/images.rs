//! Stand-ins for the images of the recordings, made of this machine's own programs: what they hold is what the recordings'
//! own stand-ins held. Each is made once and given all its names in every home that wants it.

use std::path::{Path, PathBuf};

use crate::house::{House, LONG, Running, program, run};

/// What an image is made of, and the names of the upstream world that it answers to.
struct StandIn {
    name: &'static str,
    names: &'static [&'static str],
    more: &'static [&'static str],
}

/// A small distribution: every word of busybox.
const SHELL: StandIn = StandIn { name: "shell", names: &["busybox", "alpine", "alpine:3.23", "alpine:3.6"], more: &[] };
const SAYS: StandIn = StandIn { name: "says", names: &["argoproj/argosay:v2"], more: &["--entrypoint", "/argosay"] };
const SERVES: StandIn = StandIn {
    name: "serves",
    names: &["nginx:1.13"],
    more: &[
        "--entrypoint",
        "httpd",
        "--entrypoint",
        "-f",
        "--entrypoint",
        "-p",
        "--entrypoint",
        "80",
        "--entrypoint",
        "-h",
        "--entrypoint",
        "/www",
    ],
};
/// A larger one, with python, curl, jq and git.
const LARGE: StandIn = StandIn {
    name: "large",
    names: &[
        "python:alpine3.23",
        "debian:8.9",
        "debian:9.1",
        "debian:9.2",
        "ubuntu:17.10",
        "curlimages/curl:latest",
        "stedolan/jq:latest",
        "node:9.1-alpine",
    ],
    more: &[],
};
const COW: StandIn = StandIn { name: "cow", names: &["argoproj/argosay:v1"], more: &["--cmd", "cowsay"] };
const ALL: [&StandIn; 5] = [&SHELL, &SAYS, &SERVES, &LARGE, &COW];
/// Debian packages of the larger one: each is on a machine that builds us, or the image is not made.
const PACKAGES: [&str; 13] = [
    "bash",
    "coreutils",
    "dash",
    "sed",
    "grep",
    "findutils",
    "tar",
    "gzip",
    "hostname",
    "python3",
    "curl",
    "jq",
    "git",
];

/// The program that `argoproj/argosay:v2` is: it says, writes, reads, sleeps and exits as it is told.
const ARGOSAY: &str = r#"#!/bin/sh
set -eu
word=${1:-}
case "$word" in
'') echo 'hello argo' ;;
echo)
  if [ $# -le 2 ]; then echo "${2-hello argo}"; else mkdir -p "${3%/*}/"; echo "$2" >"$3"; fi ;;
cat) cat "$2" ;;
assert_contains) grep -F "$3" "$2" ;;
sleep) sleep "$2" ;;
sh) shift; sh "${1:-0}" ;;
exit) exit "${2:-0}" ;;
*) exit 1 ;;
esac
"#;

/// Images as OCI layouts in a directory.
pub(crate) struct Images {
    dir: PathBuf,
    made: Vec<&'static StandIn>,
}

impl Images {
    /// Makes what this machine has the programs for; nothing where it has no busybox.
    pub(crate) fn make(house: &House) -> Option<Self> {
        let busybox = program("busybox")?;
        let dir = house.path("layouts");
        std::fs::create_dir_all(&dir).unwrap();
        let tree = shell_tree(&house.path("tree"), &busybox);
        let shell = ["bin", "argosay", "www", "usr/bin/env"].map(|path| format!("{}/{path}:/{path}", tree.display()));
        let cowsay = house.file("cowsay", "#!/bin/sh\necho \"< $* >\"\n");
        executable(Path::new(&cowsay));
        let cowsay = format!("{cowsay}:/usr/local/bin/cowsay");
        let mut made = Vec::new();
        for image in ALL {
            let layout = dir.join(image.name);
            let mut args = vec!["image", "from-host", image.name];
            match image.name {
                "large" | "cow" => {
                    if PACKAGES.iter().any(|name| !is_installed(name)) {
                        continue;
                    }
                    args.extend(PACKAGES.iter().flat_map(|name| ["--package", name]));
                    args.extend(["--add", &cowsay, "--add", "/usr/bin/python3:/usr/bin/python"]);
                }
                _ => args.extend(shell.iter().flat_map(|add| ["--add", add.as_str()])),
            }
            args.extend(image.more);
            Running::begin(&mut house.command(&args)).finish(LONG * 5).ok();
            let export = ["image", "export", image.name, layout.to_str().unwrap()];
            Running::begin(&mut house.command(&export)).finish(LONG * 5).ok();
            made.push(image);
        }
        Some(Self { dir, made })
    }

    /// Whether an image of this name was made.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.made.iter().any(|image| image.names.contains(&name))
    }

    /// Gives a home all of them, under all their names.
    pub(crate) fn bring(&self, house: &House) {
        for image in &self.made {
            let layout = self.dir.join(image.name);
            for name in image.names {
                let import = ["image", "import", layout.to_str().unwrap(), name];
                Running::begin(&mut house.command(&import)).finish(LONG * 5).ok();
            }
        }
    }
}

fn is_installed(package: &str) -> bool {
    program("dpkg").is_some() && run(std::process::Command::new("dpkg").args(["-s", package])).code == Some(0)
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Every word of busybox in `/bin`, what `argosay` is, and a page to serve.
fn shell_tree(root: &Path, busybox: &Path) -> PathBuf {
    let bin = root.join("bin");
    for dir in [bin.clone(), root.join("usr/bin"), root.join("www")] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::copy(busybox, bin.join("busybox")).unwrap();
    let words = run(std::process::Command::new(busybox).arg("--list")).ok().stdout;
    for word in words.lines().filter(|word| *word != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(word)).unwrap();
    }
    std::os::unix::fs::symlink("../../bin/env", root.join("usr/bin/env")).unwrap();
    std::fs::write(root.join("argosay"), ARGOSAY).unwrap();
    executable(&root.join("argosay"));
    std::fs::write(root.join("www/index.html"), "<title>Welcome to nginx!</title>\n").unwrap();
    root.to_owned()
}
