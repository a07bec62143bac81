//! The repositories that the articles clone, as bare ones beneath one directory, and git over HTTP in front of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::deliveries::git;
use crate::hosts::Host;

/// Bare repositories, each with a work tree that pushes to it.
pub(crate) struct Repositories {
    root: PathBuf,
}

impl Repositories {
    pub(crate) fn new(root: PathBuf) -> Self {
        std::fs::create_dir_all(root.join("bare")).unwrap();
        Self { root }
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.root.join("bare")
    }

    /// All of them, over HTTP.
    pub(crate) fn serve(&self) -> Host {
        Host::git(&self.bare(), Arc::new(AtomicBool::new(true)))
    }

    /// A repository of these files on this branch; its work tree.
    pub(crate) fn make(&self, name: &str, branch: &str, files: &[(&str, &str)]) -> PathBuf {
        let bare = self.bare().join(format!("{name}.git"));
        let tree = self.root.join("trees").join(name);
        std::fs::create_dir_all(&bare).unwrap();
        std::fs::create_dir_all(tree.parent().unwrap()).unwrap();
        git(&bare, &["init", "-q", "--bare", "-b", branch]);
        git(self.root.as_path(), &["clone", "-q", bare.to_str().unwrap(), tree.to_str().unwrap()]);
        git(&tree, &["checkout", "-q", "-B", branch]);
        commit(&tree, files);
        push(&tree, branch);
        tree
    }
}

/// Commits these files; the commit.
pub(crate) fn commit(tree: &Path, files: &[(&str, &str)]) -> String {
    for (name, text) in files {
        let path = tree.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(tree, &["add", "-A"]);
    git(tree, &["commit", "-q", "-m", "change"]);
    git(tree, &["rev-parse", "HEAD"])
}

/// Pushes a branch or a tag.
pub(crate) fn push(tree: &Path, what: &str) {
    git(tree, &["push", "-q", "origin", what]);
}
