//! Which local paths a repository may be read from. Nothing is allowed unless it was named.

use std::path::{Path, PathBuf};

/// Directories beneath which local git repositories may be read (`--allow-path`).
#[derive(Clone, Debug, Default)]
pub struct AllowPaths {
    roots: Vec<PathBuf>,
}

/// Why a local path was refused.
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    /// Not beneath any allowed directory.
    #[error("local path {path} is not beneath an allowed directory ({}); start with --allow-path {path}", list(.roots))]
    NotAllowed {
        /// The path as given.
        path: PathBuf,
        /// The allowed directories.
        roots: Vec<PathBuf>,
    },
    /// It does not exist, or cannot be read.
    #[error("local path {path}: {source}")]
    Io {
        /// The path as given.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

fn list(roots: &[PathBuf]) -> String {
    if roots.is_empty() {
        return "none is".to_owned();
    }
    roots.iter().map(|r| r.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl AllowPaths {
    /// Allows these directories and all beneath them. Each is resolved now; one that does not exist is kept as written.
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        let roots = roots.into_iter().map(|root| root.canonicalize().unwrap_or(root)).collect();
        Self { roots }
    }

    /// Allows nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// The allowed directories.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Resolves every symbolic link in `path` and answers the allowed root and the path relative to it.
    ///
    /// The caller opens the relative path beneath the root with [`crate::Root`], so that a link put there after
    /// this check leads nowhere.
    pub fn resolve(&self, path: &Path) -> Result<(PathBuf, PathBuf), AllowError> {
        if self.roots.is_empty() || !path.is_absolute() {
            return Err(AllowError::NotAllowed { path: path.to_owned(), roots: self.roots.clone() });
        }
        let real = match path.canonicalize() {
            Ok(real) => real,
            // What lies outside must not be told apart by existing or not.
            Err(source) if self.roots.iter().any(|root| path.starts_with(root)) => {
                return Err(AllowError::Io { path: path.to_owned(), source });
            }
            Err(_) => return Err(AllowError::NotAllowed { path: path.to_owned(), roots: self.roots.clone() }),
        };
        for root in &self.roots {
            if let Ok(rest) = real.strip_prefix(root) {
                return Ok((root.clone(), rest.to_owned()));
            }
        }
        Err(AllowError::NotAllowed { path: path.to_owned(), roots: self.roots.clone() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        std::fs::create_dir_all(inside.join("repo")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("../out", inside.join("link")).unwrap();
        let allow = AllowPaths::new([inside.clone()]);
        assert_eq!(allow.resolve(&inside.join("repo")).unwrap().1, Path::new("repo"));
        assert!(matches!(allow.resolve(&inside.join("link")), Err(AllowError::NotAllowed { .. })));
        assert!(matches!(allow.resolve(&inside.join("../out")), Err(AllowError::NotAllowed { .. })));
        assert!(matches!(allow.resolve(&inside.join("nothing")), Err(AllowError::Io { .. })));
        assert!(matches!(allow.resolve(&dir.path().join("nothing")), Err(AllowError::NotAllowed { .. })));
        assert!(matches!(AllowPaths::none().resolve(&inside), Err(AllowError::NotAllowed { .. })));
    }
}
