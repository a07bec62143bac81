//! Limits by cgroup v1 or v2, whichever is there and lets us. What cannot be enforced is said in the probe, once.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
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
        Driver { kind, parents, v2: None }
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
        Ok(Some(Driver { kind, parents, v2: Some(parent) }))
    }

    pub(crate) fn enforces(&self, controller: &str) -> bool {
        self.parents.contains_key(controller)
    }

    /// A cgroup with these limits, and the files that a process joins it through. Limits without a controller are
    /// left out: the probe has said so.
    pub(crate) fn create(&self, id: u64, resources: &Resources) -> Result<Option<(Cgroup, Vec<Arc<OwnedFd>>)>> {
        if resources.is_empty() || self.parents.is_empty() {
            return Ok(None);
        }
        let mut cgroup = Cgroup { directories: Vec::new(), memory: None, v2: self.v2.is_some() };
        let outcome = self.fill(&mut cgroup, id, resources);
        match outcome {
            Ok(procs) => Ok(Some((cgroup, procs))),
            Err(error) => {
                cgroup.remove();
                Err(error)
            }
        }
    }

    fn fill(&self, cgroup: &mut Cgroup, id: u64, resources: &Resources) -> Result<Vec<Arc<OwnedFd>>> {
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
        cgroup.directories.iter().map(open).collect()
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
            for _ in 0..100 {
                match fs::remove_dir(directory) {
                    Err(e) if e.kind() == ErrorKind::ResourceBusy => std::thread::sleep(Duration::from_millis(10)),
                    _ => break,
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for parent in self.parents.values() {
            drop(fs::remove_dir(parent));
        }
    }
}

/// Remove what agents that are no more left in `directory`.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.strip_prefix("windlass-")) else { continue };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            for child in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                if child.path().is_dir() {
                    drop(fs::remove_dir(child.path()));
                }
            }
            drop(fs::remove_dir(entry.path()));
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
}
