//! Limits by cgroup v1 or v2, whichever is there and lets us. What cannot be enforced is said in the probe, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{CgroupDriver, Error, Resources, Result, error::Step, error::words};

const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Where containers' cgroups are made: one directory for each v1 controller, or one for all on v2.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) kind: CgroupDriver,
    parents: BTreeMap<String, PathBuf>,
    v2: Option<PathBuf>,
    /// Made later, for privileged containers, in the hierarchies that hold no limits.
    made: Mutex<BTreeSet<PathBuf>>,
}

/// How a process comes into its cgroups, and which of them it is shown as its own tree.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// Their `cgroup.procs`.
    pub(crate) procs: Vec<Arc<OwnedFd>>,
    /// For `/sys/fs/cgroup` of a privileged container.
    pub(crate) shown: Vec<Shown>,
}

/// A cgroup that a privileged container finds at `/sys/fs/cgroup`, as the root of that hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) directory: PathBuf,
    /// The name beneath `/sys/fs/cgroup`; none where it is that directory itself.
    pub(crate) name: Option<String>,
}

/// The cgroup of one container.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directories: Vec<PathBuf>,
    memory: Option<PathBuf>,
    v2: bool,
}

impl Driver {
    /// Try what is there, v2 first.
    pub(crate) fn detect() -> Driver {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let name = format!("windlass-{}", std::process::id());
        let mut why = "no cgroup filesystem is mounted".to_owned();
        match Driver::detect_v2(&mounts, &own, &name) {
            Ok(Some(driver)) => return driver,
            Ok(None) => {}
            Err(error) => why = error,
        }
        let mut parents = BTreeMap::new();
        for controller in CONTROLLERS {
            let Some(directory) = v1_directory(&mounts, &own, controller) else { continue };
            sweep(&directory);
            match fs::create_dir(directory.join(&name)) {
                Ok(()) => drop(parents.insert(controller.to_owned(), directory.join(&name))),
                Err(e) => why = format!("{}: {}", directory.display(), words(&e)),
            }
        }
        let kind = match parents.is_empty() {
            true => CgroupDriver::None(why),
            false => CgroupDriver::V1(parents.keys().cloned().collect()),
        };
        Driver { kind, parents, v2: None, made: Mutex::default() }
    }

    fn detect_v2(mounts: &str, own: &str, name: &str) -> Result<Option<Driver>, String> {
        let Some(mount) = mounts.lines().filter_map(Mount::parse).find(|m| m.kind == "cgroup2") else {
            return Ok(None);
        };
        let path = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/");
        let here = mount.directory(path);
        let available = fs::read_to_string(here.join("cgroup.controllers")).unwrap_or_default();
        let wanted: Vec<&str> =
            CONTROLLERS.into_iter().filter(|c| available.split(' ').any(|a| a.trim() == *c)).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let explain = |e: io::Error| format!("{}: {}", here.display(), words(&e));
        sweep(&here);
        let enable = |directory: &Path| -> io::Result<()> {
            let line: Vec<String> = wanted.iter().map(|c| format!("+{c}")).collect();
            fs::write(directory.join("cgroup.subtree_control"), line.join(" "))
        };
        // A cgroup with processes of its own cannot hand controllers down; only the root may. Ours moves to a leaf.
        if enable(&here).is_err() {
            let leaf = here.join("agent");
            match fs::create_dir(&leaf) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(explain(e)),
                _ => {}
            }
            fs::write(leaf.join("cgroup.procs"), "0").map_err(explain)?;
            enable(&here).map_err(explain)?;
        }
        let parent = here.join(name);
        fs::create_dir(&parent).and_then(|()| enable(&parent)).map_err(explain)?;
        let kind = CgroupDriver::V2(wanted.iter().map(|c| (*c).to_owned()).collect());
        let parents = wanted.iter().map(|c| ((*c).to_owned(), parent.clone())).collect();
        Ok(Some(Driver { kind, parents, v2: Some(parent), made: Mutex::default() }))
    }

    pub(crate) fn enforces(&self, controller: &str) -> bool {
        self.parents.contains_key(controller)
    }

    /// A cgroup with these limits, and the files that a process joins it through. Limits without a controller are
    /// left out: the probe has said so.
    ///
    /// With `whole` it has a cgroup in every hierarchy of this machine, limits or not: whoever starts containers in a
    /// container needs them.
    pub(crate) fn create(&self, id: u64, resources: &Resources, whole: bool) -> Result<Option<(Cgroup, Way)>> {
        if self.parents.is_empty() || resources.is_empty() && !whole {
            return Ok(None);
        }
        let mut cgroup = Cgroup { directories: Vec::new(), memory: None, v2: self.v2.is_some() };
        let outcome = self.fill(&mut cgroup, id, resources, whole);
        match outcome {
            Ok(way) => Ok(Some((cgroup, way))),
            Err(error) => {
                cgroup.remove();
                Err(error)
            }
        }
    }

    /// Makes this container's cgroup in every hierarchy that is mounted.
    fn fill_all(&self, cgroup: &mut Cgroup, id: u64) -> Result<Vec<Shown>> {
        let name = format!("windlass-{}", std::process::id());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut shown = Vec::new();
        for hierarchy in hierarchies(&mounts, &own) {
            let mut parent = hierarchy.directory.join(&name);
            if let (None, Some(v2)) = (&hierarchy.name, &self.v2) {
                // Controllers are handed down there.
                parent.clone_from(v2);
            } else if !self.parents.values().any(|known| *known == parent) {
                sweep(&hierarchy.directory);
                match fs::create_dir(&parent) {
                    Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                        // One hierarchy fewer is for what runs in the container to judge.
                        tracing::debug!(path = %parent.display(), error = %words(&e), "no cgroup for a privileged container");
                        continue;
                    }
                    _ => {}
                }
                let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                made.insert(parent.clone());
            }
            let directory = parent.join(format!("c{id}"));
            fs::create_dir(&directory).step(|| format!("create cgroup {}", directory.display()))?;
            cgroup.directories.push(directory.clone());
            for (from, to) in [(&hierarchy.directory, &parent), (&parent, &directory)] {
                inherit_cpuset(from, to);
            }
            shown.push(Shown { directory, name: hierarchy.name });
        }
        Ok(shown)
    }

    fn fill(&self, cgroup: &mut Cgroup, id: u64, resources: &Resources, whole: bool) -> Result<Way> {
        let shown = if whole { self.fill_all(cgroup, id)? } else { Vec::new() };
        let memory = resources.memory.is_some();
        let cpu = resources.cpu_millis.is_some() || resources.cpu_request_millis.is_some();
        let asked = [("memory", memory), ("pids", resources.pids.is_some()), ("cpu", cpu)];
        for (controller, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            let Some(parent) = self.parents.get(controller) else { continue };
            let directory = parent.join(format!("c{id}"));
            if !cgroup.directories.contains(&directory) {
                fs::create_dir(&directory).step(|| format!("create cgroup {}", directory.display()))?;
                cgroup.directories.push(directory.clone());
            }
            if controller == "memory" {
                cgroup.memory = Some(directory.clone());
            }
            cgroup.limit(&directory, controller, resources)?;
        }
        let open = |directory: &PathBuf| {
            let path = directory.join("cgroup.procs");
            let file = fs::OpenOptions::new().write(true).open(&path);
            file.map(|f| Arc::new(OwnedFd::from(f))).step(|| format!("open {}", path.display()))
        };
        let procs = cgroup.directories.iter().map(open).collect::<Result<_>>()?;
        Ok(Way { procs, shown })
    }
}

impl Cgroup {
    fn limit(&self, directory: &Path, controller: &str, resources: &Resources) -> Result<()> {
        let set = |name: &str, value: String| -> Result<()> {
            let path = directory.join(name);
            let file = fs::OpenOptions::new().write(true).open(&path);
            let written = file.and_then(|mut f| f.write_all(value.as_bytes()));
            written.step(|| format!("write {value} to {}", path.display()))
        };
        let set_if_there = |name: &str, value: String| match set(name, value) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            answer => answer,
        };
        match (controller, self.v2) {
            ("memory", v2) => {
                let Some(bytes) = resources.memory else { return Ok(()) };
                if v2 {
                    set("memory.max", bytes.to_string())?;
                    set_if_there("memory.swap.max", "0".into())
                } else {
                    set("memory.limit_in_bytes", bytes.to_string())?;
                    set_if_there("memory.memsw.limit_in_bytes", bytes.to_string())
                }
            }
            ("pids", _) => resources.pids.map_or(Ok(()), |n| set("pids.max", n.to_string())),
            (_, v2) => {
                const PERIOD_US: u64 = 100_000;
                if let Some(millis) = resources.cpu_millis {
                    let quota = (millis * PERIOD_US / 1000).max(1000);
                    if v2 {
                        set("cpu.max", format!("{quota} {PERIOD_US}"))?;
                    } else {
                        set("cpu.cfs_period_us", PERIOD_US.to_string())?;
                        set("cpu.cfs_quota_us", quota.to_string())?;
                    }
                }
                let Some(millis) = resources.cpu_request_millis else { return Ok(()) };
                let shares = (millis * 1024 / 1000).clamp(2, 262_144);
                if v2 {
                    set("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string())
                } else {
                    set("cpu.shares", shares.to_string())
                }
            }
        }
    }

    /// Whether the kernel killed something in it for lack of memory.
    pub(crate) fn oom_killed(&self) -> bool {
        let Some(directory) = &self.memory else { return false };
        let file = directory.join(if self.v2 { "memory.events" } else { "memory.oom_control" });
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|l| l.strip_prefix("oom_kill ")).any(|n| n.trim() != "0")
    }

    /// The files that a further process joins through.
    pub(crate) fn procs(&self) -> Vec<Arc<OwnedFd>> {
        let open = |d: &PathBuf| fs::OpenOptions::new().write(true).open(d.join("cgroup.procs")).ok();
        self.directories.iter().filter_map(open).map(|f| Arc::new(OwnedFd::from(f))).collect()
    }

    /// Remove it; its last processes may take a moment to be gone.
    pub(crate) fn remove(self) {
        for directory in &self.directories {
            remove_tree(directory);
        }
    }
}

/// Remove a cgroup and what a container has made in it.
fn remove_tree(directory: &Path) {
    for _ in 0..100 {
        match fs::remove_dir(directory) {
            Err(e) if e.kind() == ErrorKind::ResourceBusy => {}
            _ => return,
        }
        let inner = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut inner = inner.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).peekable();
        if inner.peek().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        inner.for_each(|entry| remove_tree(&entry.path()));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        for parent in self.parents.values().chain(made.iter()) {
            drop(fs::remove_dir(parent));
        }
    }
}

/// A cgroup hierarchy of this machine.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// This process's own cgroup in it.
    directory: PathBuf,
    /// Its name beneath `/sys/fs/cgroup`; none for the one that is all of it.
    name: Option<String>,
}

/// All hierarchies that are mounted, each once.
fn hierarchies(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse).filter(|m| matches!(m.kind, "cgroup" | "cgroup2")) {
        let path = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let among = |c: &str| mount.options.split(',').any(|o| o == c);
            let here = match mount.kind {
                "cgroup2" => controllers.is_empty(),
                _ => !controllers.is_empty() && controllers.split(',').all(among),
            };
            here.then_some(path)
        });
        let Some(path) = path else { continue };
        let name = Path::new(mount.at).strip_prefix("/sys/fs/cgroup").ok().and_then(Path::to_str);
        let Some(name) = name else { continue };
        let name = (!name.is_empty()).then(|| name.to_owned());
        if found.iter().all(|h| h.name != name) {
            found.push(Hierarchy { directory: mount.directory(path), name });
        }
    }
    found
}

/// A new cgroup of the old cpuset controller has no processor and takes no process before it is given some.
fn inherit_cpuset(from: &Path, to: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let empty = fs::read_to_string(to.join(file)).is_ok_and(|text| text.trim().is_empty());
        if empty
            && !from.join("cgroup.controllers").exists()
            && let Ok(text) = fs::read_to_string(from.join(file))
            && let Err(error) = fs::write(to.join(file), text.trim())
        {
            tracing::debug!(path = %to.display(), %error, "cpuset");
        }
    }
}

/// Remove what agents that are no more left in `directory`.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.strip_prefix("windlass-")) else { continue };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            remove_tree(&entry.path());
        }
    }
}

struct Mount<'a> {
    root: &'a str,
    at: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// One line of mountinfo.
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let mut fields = after.split(' ');
        let kind = fields.next()?;
        Some(Mount { root, at, kind, options: fields.nth(1).unwrap_or_default() })
    }

    /// The directory of cgroup `path` beneath this mount.
    fn directory(&self, path: &str) -> PathBuf {
        let below = path.strip_prefix(self.root).unwrap_or(path);
        Path::new(self.at).join(below.trim_start_matches('/'))
    }
}

fn v1_directory(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let of = |list: &str| list.split(',').any(|c| c == controller);
    let mount = mounts.lines().filter_map(Mount::parse).find(|m| m.kind == "cgroup" && of(m.options))?;
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        of(controllers).then_some(path)
    })?;
    Some(mount.directory(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn v1_directories_follow_the_mount_and_our_own_path() {
        let mounts = "30 29 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      31 29 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let own = "4:memory:/agents/one\n3:cpu,cpuacct:/docker/abc/sub\n0::/\n";
        let of = |c| v1_directory(mounts, own, c);
        assert_eq!(of("memory").unwrap(), Path::new("/sys/fs/cgroup/memory/agents/one"));
        assert_eq!(of("cpu").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/sub"));
        assert_eq!(of("pids"), None);
    }

    #[test]
    fn hierarchies_of_every_layout() {
        let told = |mounts: &str, own: &str| {
            let all = hierarchies(mounts, own).into_iter();
            all.map(|h| (h.directory.display().to_string(), h.name.unwrap_or_default())).collect::<Vec<_>>()
        };
        let text = |directory: &str, name: &str| (directory.to_owned(), name.to_owned());
        let hybrid = "1 0 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      2 1 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      3 1 0:3 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      4 1 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      5 1 0:2 / /mnt/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let own = "3:cpu,cpuacct:/a\n2:name=systemd:/\n0::/b\n";
        assert_eq!(
            told(hybrid, own),
            [
                text("/sys/fs/cgroup/cpu,cpuacct/a", "cpu,cpuacct"),
                text("/sys/fs/cgroup/systemd/", "systemd"),
                text("/sys/fs/cgroup/unified/b", "unified")
            ]
        );
        let new = "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(told(new, "0::/user/x\n"), [text("/sys/fs/cgroup/user/x", "")]);
    }
}
