//! The images that the articles name, made under their full names from this machine's own programs and Debian packages.

use std::process::Command;

use crate::house::{LONG, Running, run};
use crate::minio::minio;

use super::Reader;

/// Programs that a small distribution's image has.
const BASE: [&str; 28] = [
    "chmod",
    "chown",
    "whoami",
    "touch",
    "sh",
    "ls",
    "cat",
    "echo",
    "sleep",
    "mkdir",
    "rm",
    "cp",
    "mv",
    "test",
    "true",
    "env",
    "id",
    "date",
    "head",
    "tail",
    "cut",
    "tr",
    "sed",
    "grep",
    "sort",
    "sha256sum",
    "basename",
    "base64",
];

impl Reader {
    fn image(&self, name: &str, programs: &[&str], more: &[&str]) {
        let mut args = vec!["image", "from-host", name];
        // One that only the tests know of is a static program, and stands where kubectl is looked for.
        let kubectl = format!("{}:/usr/local/bin/kubectl", self.kubectl.display());
        for program in programs {
            match *program {
                "kubectl" if !self.kubectl.starts_with("/usr") => args.extend(["--add", &kubectl]),
                program => args.extend(["--program", program]),
            }
        }
        args.extend(more);
        Running::begin(&mut self.house.command(&args)).finish(LONG * 3).ok();
    }

    /// `bash`: a shell and the usual programs.
    pub(crate) fn bash(&self) {
        self.image("bash:latest", &[&BASE[..], &["bash"]].concat(), &[]);
    }

    /// An application that does nothing.
    pub(crate) fn sleeper(&self, name: &str) {
        self.image(name, &["sleep"], &["--cmd", "sleep", "--cmd", "100000"]);
    }

    /// Python with FastAPI and uvicorn, which the article's application installs from requirements.txt.
    pub(crate) fn python(&self) {
        self.image("python:3.9", &["sh"], &["--package", "python3-fastapi", "--package", "uvicorn"]);
    }

    /// kubectl and a shell; the image has no entrypoint.
    pub(crate) fn kubectl_image(&self, name: &str) {
        self.image(name, &[&BASE[..], &["kubectl"]].concat(), &[]);
    }

    /// The S3 server, with its program at /usr/bin/minio.
    pub(crate) fn minio(&self) {
        let program = minio().unwrap();
        let add = format!("{}:/usr/bin/minio", program.display());
        self.image("minio/minio", &["sh"], &["--add", &add, "--entrypoint", "/usr/bin/minio"]);
    }

    /// git; its entrypoint is git.
    pub(crate) fn git_image(&self, name: &str) {
        self.image(name, &[&BASE[..], &["git"]].concat(), &["--entrypoint", "git"]);
    }

    /// Go where the official image has it.
    pub(crate) fn golang(&self, name: &str) {
        let root = run(Command::new("go").args(["env", "GOROOT"])).ok().stdout;
        let add = format!("{}:/usr/local/go", root.trim());
        let path = "PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let more =
            ["--add", &add, "--env", path, "--env", "GOPATH=/go", "--env", "GOTOOLCHAIN=local", "--workdir", "/go"];
        self.image(name, &[&BASE[..], &["git"]].concat(), &more);
    }

    /// kubectl, curl, Python and the scripts of this directory.
    pub(crate) fn tools_image(&self, name: &str, scripts: &std::path::Path) {
        let mut add = Vec::new();
        for script in std::fs::read_dir(scripts).unwrap() {
            let path = script.unwrap().path();
            add.push(format!("{}:/usr/bin/{}", path.display(), path.file_name().unwrap().to_str().unwrap()));
        }
        let mut more = vec!["--package", "python3-minimal", "--package", "libpython3-stdlib"];
        for one in &add {
            more.extend(["--add", one]);
        }
        self.image(name, &[&BASE[..], &["kubectl", "curl"]].concat(), &more);
    }

    /// Ansible and kubectl.
    pub(crate) fn ansible(&self, name: &str) {
        // It runs in a locale with UTF-8 only.
        let more = ["--package", "ansible-core", "--add", "/usr/lib/locale/C.utf8", "--env", "LC_ALL=C.UTF-8"];
        self.image(name, &[&BASE[..], &["kubectl", "ansible-playbook"]].concat(), &more);
    }

    /// curl and a shell.
    pub(crate) fn curl(&self, name: &str) {
        self.image(name, &[&BASE[..], &["curl"]].concat(), &[]);
    }
}
