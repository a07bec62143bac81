//! The places in a container's root over which the agent mounts, made once: a layer below those of every image. Without
//! it each container would make them in its own upper directory, copying their parents up, and they would have to be
//! deleted with it. It holds empty directories and files and nothing else.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use windlass_sandbox::{Host, Scratch};

const DIRECTORIES: [&str; 4] = ["dev", "proc", "sys", "etc"];
const FILES: [&str; 3] = ["etc/hosts", "etc/resolv.conf", "etc/hostname"];
const ACCOUNT: &str = "secrets/kubernetes.io/serviceaccount";

/// The layers, made with the first container that needs one.
#[derive(Debug, Default)]
pub(crate) struct Skeleton {
    usual: OnceLock<Option<Scratch>>,
    /// For images in which `/var/run` is a link to `/run`.
    linked: OnceLock<Option<Scratch>>,
    /// Without a place for a ServiceAccount.
    bare: OnceLock<Option<Scratch>>,
}

impl Skeleton {
    /// An image's layers, bottom first, on the one that fits them and the Pod; alone where it cannot be made, which only
    /// costs time.
    pub(crate) fn below(&self, host: &Host, layers: &[PathBuf], account: bool) -> Vec<PathBuf> {
        let (made, run) = match (account, account && runs_by_link(layers)) {
            (false, _) => (&self.bare, None),
            (true, true) => (&self.linked, Some("run")),
            (true, false) => (&self.usual, Some("var/run")),
        };
        let scratch = made.get_or_init(|| {
            let scratch = host.scratch().inspect_err(|error| tracing::debug!(%error, "no skeleton")).ok()?;
            fill(scratch.upper(), run).inspect_err(|error| tracing::debug!(%error, "no skeleton")).ok()?;
            Some(scratch)
        });
        let own = scratch.iter().map(|scratch| scratch.upper().to_owned());
        own.chain(layers.iter().cloned()).collect()
    }
}

/// Whether `/var/run` of these layers, bottom first, is a link.
fn runs_by_link(layers: &[PathBuf]) -> bool {
    let found = layers.iter().rev().find_map(|layer| layer.join("var/run").symlink_metadata().ok());
    found.is_some_and(|meta| meta.is_symlink())
}

fn fill(root: &Path, run: Option<&str>) -> io::Result<()> {
    let directory = |path: &str| fs::create_dir_all(root.join(path));
    DIRECTORIES.iter().try_for_each(|path| directory(path))?;
    run.map_or(Ok(()), |run| directory(&format!("{run}/{ACCOUNT}")))?;
    FILES.iter().try_for_each(|path| File::create(root.join(path)).map(drop))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn where_run_is() {
        let top = tempfile::tempdir().unwrap();
        let layer = |name: &str, make: &dyn Fn(&Path)| {
            let path = top.path().join(name);
            fs::create_dir_all(path.join("var")).unwrap();
            make(&path);
            path
        };
        let none = layer("none", &|_| ());
        let link = layer("link", &|path| std::os::unix::fs::symlink("/run", path.join("var/run")).unwrap());
        let real = layer("real", &|path| fs::create_dir(path.join("var/run")).unwrap());
        assert!(!runs_by_link(&[]) && !runs_by_link(std::slice::from_ref(&none)));
        assert!(runs_by_link(&[link.clone(), none.clone()]) && runs_by_link(&[real.clone(), link.clone()]));
        assert!(!runs_by_link(&[link, real]));
        fill(&none, None).unwrap();
        assert!(!none.join("run").exists());
        fill(&none, Some("run")).unwrap();
        assert!(none.join("run/secrets/kubernetes.io/serviceaccount").is_dir() && none.join("etc/hosts").is_file());
    }
}
