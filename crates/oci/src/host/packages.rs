//! Debian packages as installed here: which files they have and what they depend on, read from dpkg's own files.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::tree::Tree;
use crate::error::Doing;
use crate::{Error, Result};

pub(super) struct Packages {
    dpkg: PathBuf,
    installed: HashMap<String, Package>,
    /// Virtual packages, and who provides them.
    provided: HashMap<String, Vec<String>>,
}

#[derive(Default)]
struct Package {
    architecture: String,
    /// Each a list of alternatives.
    depends: Vec<Vec<String>>,
}

/// What no program needs to run.
const LEFT_OUT: [&str; 8] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/info/",
    "/usr/share/locale/",
    "/usr/share/lintian/",
    "/usr/share/bug/",
    "/usr/share/gnome/help/",
    "/usr/share/doc-base/",
];

impl Packages {
    pub(super) fn read() -> Result<Self> {
        Self::read_from(Path::new("/var/lib/dpkg"))
    }

    fn read_from(dpkg: &Path) -> Result<Self> {
        let status = fs::read_to_string(dpkg.join("status")).map_err(|error| Error::Host {
            what: "--package".to_owned(),
            detail: format!("this machine has no Debian packages ({error}): use --program or --add"),
        })?;
        let mut packages = Self { dpkg: dpkg.to_owned(), installed: HashMap::new(), provided: HashMap::new() };
        for paragraph in status.split("\n\n") {
            packages.paragraph(paragraph);
        }
        for providers in packages.provided.values_mut() {
            providers.sort();
        }
        Ok(packages)
    }

    fn paragraph(&mut self, paragraph: &str) {
        let mut fields: HashMap<&str, String> = HashMap::new();
        let mut last = "";
        for line in paragraph.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some(value) = fields.get_mut(last) {
                    value.push_str(line);
                }
            } else if let Some((key, value)) = line.split_once(':') {
                fields.insert(key, value.trim().to_owned());
                last = key;
            }
        }
        let field = |key: &str| fields.get(key).map_or("", String::as_str);
        if field("Package").is_empty() || !field("Status").ends_with(" installed") {
            return;
        }
        let name = field("Package").to_owned();
        for provided in field("Provides").split(',') {
            if let Some(provided) = bare_name(provided) {
                self.provided.entry(provided).or_default().push(name.clone());
            }
        }
        let depends = [field("Pre-Depends"), field("Depends")]
            .iter()
            .flat_map(|list| list.split(','))
            .map(|group| group.split('|').filter_map(bare_name).collect::<Vec<_>>())
            .filter(|group| !group.is_empty())
            .collect();
        self.installed.insert(name, Package { architecture: field("Architecture").to_owned(), depends });
    }

    /// These packages and everything that they depend on, sorted.
    fn closure(&self, names: &[String]) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        let mut queue: Vec<String> = Vec::new();
        for name in names {
            match self.installed_as(name) {
                Some(found) => queue.push(found),
                None => {
                    return Err(Error::Host {
                        what: format!("package `{name}`"),
                        detail: format!("it is not installed on this machine: `apt-get install {name}` first"),
                    });
                }
            }
        }
        while let Some(name) = queue.pop() {
            if !all.insert(name.clone()) {
                continue;
            }
            let Some(package) = self.installed.get(&name) else { continue };
            for group in &package.depends {
                // Installed packages have their dependencies met by one of the alternatives.
                queue.extend(group.iter().find_map(|name| self.installed_as(name)));
            }
        }
        Ok(all)
    }

    fn installed_as(&self, name: &str) -> Option<String> {
        let name = name.split(':').next().unwrap_or(name);
        if self.installed.contains_key(name) {
            return Some(name.to_owned());
        }
        self.provided.get(name).and_then(|providers| providers.first().cloned())
    }

    /// Adds the packages' files to the tree.
    pub(super) fn collect(&self, names: &[String], tree: &mut Tree) -> Result<()> {
        for name in self.closure(names)? {
            for path in self.files(&name)? {
                let left_out = LEFT_OUT.iter().any(|out| path.starts_with(out) || Path::new(&path) == Path::new(out));
                // Diverted or removed by the administrator: not part of this machine's state.
                if left_out || path == "/." || Path::new(&path).symlink_metadata().is_err() {
                    continue;
                }
                let path = Path::new(&path);
                if path.is_symlink() && !path.exists() {
                    continue;
                }
                if fs::File::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
                    tracing::warn!(package = name, path = %path.display(), "not readable for this user; left out");
                    continue;
                }
                tree.host_path(path)?;
            }
        }
        self.alternatives(tree)
    }

    fn files(&self, name: &str) -> Result<Vec<String>> {
        let architecture = self.installed.get(name).map_or("", |package| &package.architecture);
        let info = self.dpkg.join("info");
        let candidates = [info.join(format!("{name}.list")), info.join(format!("{name}:{architecture}.list"))];
        match candidates.iter().find(|path| path.exists()) {
            Some(path) => Ok(fs::read_to_string(path).doing("reading", path)?.lines().map(str::to_owned).collect()),
            None => Ok(Vec::new()),
        }
    }

    /// Links such as `/usr/bin/awk` belong to no package: they come along when what they lead to does.
    fn alternatives(&self, tree: &mut Tree) -> Result<()> {
        let dir = self.dpkg.join("alternatives");
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(()) };
        let mut groups: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        groups.sort();
        for group in groups {
            let text = fs::read_to_string(&group).unwrap_or_default();
            // The mode, then the link itself; names and links of its followers come in pairs up to an empty line.
            let mut lines = text.lines().skip(1).take_while(|line| !line.is_empty());
            let links: Vec<&str> = lines.by_ref().filter(|line| line.starts_with('/')).collect();
            for link in links {
                let link = Path::new(link);
                if LEFT_OUT.iter().any(|out| link.starts_with(out)) {
                    continue;
                }
                if let Ok(real) = link.canonicalize()
                    && tree.contains(&real)
                {
                    tree.host_path(link)?;
                }
            }
        }
        Ok(())
    }
}

/// `libc6:any (>= 2.34)` is `libc6`.
fn bare_name(text: &str) -> Option<String> {
    let name = text.trim().split([' ', ':', '(', '[']).next().unwrap_or_default();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_with_alternatives_and_virtual_packages() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("status"),
            "Package: a\nStatus: install ok installed\nArchitecture: all\nDepends: absent | b (>= 1),\n virtual\n\n\
             Package: b\nStatus: install ok installed\nPre-Depends: c:any\n\n\
             Package: c\nStatus: install ok installed\nDepends: a\n\n\
             Package: p\nStatus: install ok installed\nProvides: virtual (= 1), other\n\n\
             Package: gone\nStatus: deinstall ok config-files\n",
        )
        .unwrap();
        let packages = Packages::read_from(dir.path()).unwrap();
        let closure = packages.closure(&["a".to_owned()]).unwrap();
        assert_eq!(closure.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "p"]);
        let error = packages.closure(&["gone".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("apt-get install gone"), "{error}");
    }
}
