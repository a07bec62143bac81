//! Images made from this machine's own programs, packages and files, for work without any registry. The same machine
//! state gives the same digest. Must never run a program or change anything outside the store.

mod elf;
mod packages;
mod tree;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::Doing;
use crate::media::Compression;
use crate::{Commit, Error, Family, Image, Reference, Result, Store};
use elf::Libraries;
use packages::Packages;
use tree::Tree;

/// Where programs are looked for, and the image's `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What goes into an image from this machine.
#[derive(Clone, Debug, Default)]
pub struct HostSpec {
    /// Programs by name or path, with the shared libraries and interpreters that they need.
    pub programs: Vec<String>,
    /// Debian packages with everything that they depend on, without documentation and translations.
    pub packages: Vec<String>,
    /// Files and directories: where they are here, where they go.
    pub add: Vec<(PathBuf, PathBuf)>,
    /// The image's entrypoint.
    pub entrypoint: Vec<String>,
    /// The image's command.
    pub cmd: Vec<String>,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    /// The working directory; it is made.
    pub workdir: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// Directories that want storage of their own in each container, as `VOLUME` says it; they are made.
    pub volumes: Vec<String>,
    /// Where programs are looked for, such as `$PATH`; [`DEFAULT_PATH`] where empty.
    pub search_path: Vec<PathBuf>,
}

impl HostSpec {
    /// Reads `SRC:DST` as given to `--add`; `SRC` alone means the same path in the image.
    pub fn parse_add(text: &str) -> Result<(PathBuf, PathBuf)> {
        let (from, to) = text.split_once(':').unwrap_or((text, text));
        if from.is_empty() || !to.starts_with('/') {
            return Err(Error::Host {
                what: format!("--add {text}"),
                detail: "expected SRC:DST, where DST is an absolute path in the image".to_owned(),
            });
        }
        // As with `cp`: into a directory that is named so.
        let to = match (to.ends_with('/'), Path::new(from).file_name()) {
            (true, Some(name)) => Path::new(to).join(name),
            _ => PathBuf::from(to),
        };
        Ok((PathBuf::from(from), to))
    }
}

/// Makes the image and gives it its names, under which it answers before any registry does.
pub fn build(store: &Store, spec: &HostSpec, names: &[Reference]) -> Result<Image> {
    let mut collector = Collector {
        tree: Tree::new(),
        libraries: Libraries::read(),
        search: if spec.search_path.is_empty() {
            std::env::split_paths(DEFAULT_PATH).collect()
        } else {
            spec.search_path.clone()
        },
        seen: Default::default(),
    };
    collector.tree.base()?;
    if !spec.packages.is_empty() {
        let packages = Packages::read()?;
        packages.collect(&spec.packages, &mut collector.tree)?;
    }
    for program in &spec.programs {
        collector.program(program)?;
    }
    for (from, to) in &spec.add {
        let tree = from.is_dir();
        for executable in collector.tree.add(from, to)? {
            match collector.needs(&executable) {
                // A tree, such as that of a compiler, also holds programs and scripts for other systems.
                Err(error @ Error::Host { .. }) if tree => tracing::debug!(%error, "passed over"),
                done => done?,
            }
        }
    }
    if collector.libraries.used_cache {
        collector.tree.host_path(Path::new("/etc/ld.so.cache"))?;
    }
    if let Some(dir) = &spec.workdir {
        collector.tree.directory(Path::new(dir), 0o755);
    }
    for dir in &spec.volumes {
        collector.tree.directory(Path::new(dir), 0o755);
    }
    collector.tree.defaults();

    // Not pushed anywhere usually: zstd packs and unpacks several times faster than gzip.
    let mut writer = store.layer_writer(Compression::Zstd)?;
    collector.tree.write(&mut writer)?;
    let layer = writer.finish()?;

    let mut env = spec.env.clone();
    if !env.iter().any(|pair| pair.starts_with("PATH=")) {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    let mut config = json!({ "Env": env });
    let mut set = |key: &str, value: serde_json::Value, given: bool| {
        if given {
            config[key] = value;
        }
    };
    set("Entrypoint", json!(spec.entrypoint), !spec.entrypoint.is_empty());
    set("Cmd", json!(spec.cmd), !spec.cmd.is_empty());
    set("WorkingDir", json!(spec.workdir), spec.workdir.is_some());
    set("User", json!(spec.user), spec.user.is_some());
    let volumes: serde_json::Map<_, _> = spec.volumes.iter().map(|dir| (dir.clone(), json!({}))).collect();
    set("Volumes", json!(volumes), !spec.volumes.is_empty());
    let epoch = "1970-01-01T00:00:00Z";
    let config = json!({
        "created": epoch,
        "config": config,
        "history": [{"created": epoch, "created_by": "windlass image from-host"}],
    });
    store.commit_image(&Commit { config, layers: vec![layer], family: Family::Oci, ..Commit::default() }, names)
}

struct Collector {
    tree: Tree,
    libraries: Libraries,
    search: Vec<PathBuf>,
    /// Files whose needs are already met.
    seen: std::collections::HashSet<PathBuf>,
}

impl Collector {
    fn program(&mut self, name: &str) -> Result<()> {
        let path = self.find(name)?;
        let real = self.tree.host_path(&path)?;
        self.needs(&real)
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        if name.contains('/') {
            let path = std::path::absolute(name).doing("looking for", Path::new(name))?;
            if path.is_file() {
                return Ok(path);
            }
        } else if let Some(path) = self.search.iter().map(|dir| dir.join(name)).find(|path| is_executable(path)) {
            return Ok(path);
        }
        let places: Vec<String> = self.search.iter().map(|dir| dir.display().to_string()).collect();
        Err(Error::Host {
            what: format!("program `{name}`"),
            detail: if name.contains('/') {
                "there is no such file on this machine".to_owned()
            } else {
                format!("it is in none of {}: install it here, or give its path", places.join(", "))
            },
        })
    }

    /// Adds what a program needs to start: libraries and their needs, or a script's interpreter.
    fn needs(&mut self, program: &Path) -> Result<()> {
        let mut queue = vec![program.to_owned()];
        while let Some(path) = queue.pop() {
            if !self.seen.insert(path.clone()) {
                continue;
            }
            let mut start = Vec::new();
            let file = fs::File::open(&path).doing("opening", &path)?;
            file.take(4096).read_to_end(&mut start).doing("reading", &path)?;
            if start.starts_with(b"#!") {
                for interpreter in self.interpreters(&start, &path)? {
                    queue.push(self.tree.host_path(&interpreter)?);
                }
            } else if start.starts_with(b"\x7fELF") {
                for library in self.libraries.needed_by(&path)? {
                    queue.push(self.tree.host_path(&library)?);
                }
            }
        }
        Ok(())
    }

    /// The programs of a `#!` line: the interpreter, and with `env` also the one that it looks for.
    fn interpreters(&self, start: &[u8], script: &Path) -> Result<Vec<PathBuf>> {
        let line = start[2..].split(|b| *b == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { return Ok(Vec::new()) };
        let missing = |name: &str| Error::Host {
            what: format!("script {}", script.display()),
            detail: format!("its interpreter `{name}` is not on this machine"),
        };
        let mut found = vec![self.find(first).map_err(|_| missing(first))?];
        if Path::new(first).file_name().is_some_and(|name| name == "env") {
            let name = words.find(|word| !word.starts_with('-') && !word.contains('='));
            if let Some(name) = name {
                found.push(self.find(name).map_err(|_| missing(name))?);
            }
        }
        Ok(found)
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
