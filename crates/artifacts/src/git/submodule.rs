//! Submodules: each becomes a work tree of its own inside the one that names it, at the commit that is written there.
//! Their addresses are a repository's text: nothing in them runs, and credentials stay with the host they were given for.

use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use super::source::{self, Place};
use super::worktree::{Job, checkout_nested};
use super::{GitError, GitSource};
use crate::beneath::{Owner, Root};

/// As deep as go-git follows them, and thereby Argo.
const NESTING_MAX: u32 = 10;

impl Job<'_> {
    /// Checks out every submodule that the work tree at `dir` names.
    pub(super) fn bring_submodules(&self, repo: &gix::Repository, owner: Option<Owner>) -> Result<(), GitError> {
        let index = repo.index_or_empty().map_err(|e| self.broken(&e))?;
        let wanted: Vec<(String, gix::ObjectId)> = index
            .entries()
            .iter()
            .filter(|entry| entry.mode == gix::index::entry::Mode::COMMIT)
            .map(|entry| (entry.path(&index).to_string(), entry.id))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let fault = |cause: String| GitError::Broken { url: self.remote.shown.clone(), cause };
        if self.nesting >= NESTING_MAX {
            return Err(fault(format!("its submodules lie more than {NESTING_MAX} deep")));
        }
        let named = self.names(repo)?;
        let root = Root::open(self.dir).map_err(GitError::io(self.dir))?;
        let mut config = String::new();
        for (path, commit) in wanted {
            // Without an entry in .gitmodules git leaves it alone too.
            let Some((name, url)) = named.iter().find(|(_, at, _)| *at == path).map(|(n, _, u)| (n, u)) else {
                continue;
            };
            let target = PathBuf::from(&path);
            if !target.components().all(|part| matches!(part, Component::Normal(name) if name != ".git")) {
                return Err(fault(format!("the submodule path {path:?} is refused")));
            }
            let url = resolve(&self.remote.shown, url);
            let source = self.nested(&url, commit);
            self.progress.stage(&format!("submodule {path}"));
            checkout_nested(&source, self.access, &root, &target, owner, self.progress, self.cancel, self.nesting + 1)
                .map_err(|error| within(&path, error))?;
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let shown = source::without_credentials(&url);
            let _ = write!(config, "[submodule \"{}\"]\n\tactive = true\n\turl = \"{}\"\n", quote(name), quote(&shown));
        }
        let path = self.dir.join(".git/config");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).map_err(GitError::io(&path))?;
        std::io::Write::write_all(&mut file, config.as_bytes()).map_err(GitError::io(&path))
    }

    /// Name, path and URL of what `.gitmodules` names.
    fn names(&self, repo: &gix::Repository) -> Result<Vec<(String, String, String)>, GitError> {
        let Some(modules) = repo.submodules().map_err(|e| self.broken(&e))? else { return Ok(Vec::new()) };
        let read = |module: gix::Submodule<'_>| {
            let (path, url) = (module.path().ok()?.to_string(), module.url().ok()?.to_bstring().to_string());
            let name = module.name().to_string();
            // What could end a quoted name in a configuration file.
            (!name.contains(['\n', '\0']) && !url.contains(['\n', '\0'])).then_some((name, path, url))
        };
        Ok(modules.filter_map(read).collect())
    }

    fn nested(&self, url: &str, commit: gix::ObjectId) -> GitSource {
        let host = |url: &str| match source::locate(url, None, self.access).map(|remote| remote.place) {
            Ok(Place::Http(url)) => url::Url::parse(&url).ok().map(|u| u.origin().ascii_serialization()),
            _ => None,
        };
        let own = host(&self.source.repo);
        let same_host = own.is_some() && own == host(url);
        GitSource {
            repo: url.to_owned(),
            revision: Some(commit.to_string()),
            submodules: true,
            credentials: self.source.credentials.clone().filter(|_| same_host),
            ssh_key: self.source.ssh_key.clone(),
            ignore_host_key: self.source.ignore_host_key,
            skip_tls_verify: self.source.skip_tls_verify && same_host,
            ..GitSource::default()
        }
    }
}

/// Names the submodule in front of what was wrong with it.
fn within(path: &str, error: GitError) -> GitError {
    let name = |url: String| format!("{url} (submodule {path})");
    match error {
        GitError::BadUrl { url, reason } => GitError::BadUrl { url: name(url), reason },
        GitError::Unreachable { url, cause, help } => GitError::Unreachable { url: name(url), cause, help },
        GitError::Denied { url, cause } => GitError::Denied { url: name(url), cause },
        GitError::NoRevision { url, revision, hint } => GitError::NoRevision { url: name(url), revision, hint },
        GitError::Broken { url, cause } => GitError::Broken { url: name(url), cause },
        other => other,
    }
}

/// A relative address is beside the repository that names it, by git's rule.
fn resolve(base: &str, url: &str) -> String {
    if !(url.starts_with("./") || url.starts_with("../")) {
        return url.to_owned();
    }
    let (mut base, mut rest, mut join) = (base.trim_end_matches('/').to_owned(), url, '/');
    loop {
        if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            let floor = base.find("://").map_or(0, |at| at + 3);
            match base[floor..].rfind(['/', ':']) {
                Some(at) => {
                    join = if base.as_bytes()[floor + at] == b':' { ':' } else { '/' };
                    base.truncate(floor + at);
                }
                None => break,
            }
        } else if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else {
            break;
        }
    }
    format!("{base}{join}{}", Path::new(rest).display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn relative_addresses() {
        for (base, url, wanted) in [
            ("https://h/team/app.git", "../lib.git", "https://h/team/lib.git"),
            ("https://h/team/app.git/", "../../other/lib", "https://h/other/lib"),
            ("git@h:team/app.git", "../lib.git", "git@h:team/lib.git"),
            ("git@h:app.git", "../lib.git", "git@h:lib.git"),
            ("ssh://git@h:22/app.git", "./../lib.git", "ssh://git@h:22/lib.git"),
            ("/srv/git/app.git", "../lib.git", "/srv/git/lib.git"),
            ("https://h/app", "https://other/lib", "https://other/lib"),
        ] {
            assert_eq!(resolve(base, url), wanted, "{base} {url}");
        }
    }
}
