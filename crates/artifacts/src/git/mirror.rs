//! One file of a repository at a revision, from a cached bare copy. Copies are keyed by URL and only grow by what is
//! asked for; a commit that is there is never fetched again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::local::LocalRepo;
use super::remote::{self, Fetch, Refs};
use super::source::{self, Place, Remote};
use super::{Credentials, GitAccess, GitError, revision};
use crate::cancel::Cancel;

/// A directory of bare copies.
pub struct Mirrors {
    dir: PathBuf,
    access: GitAccess,
    locks: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

/// Which file.
#[derive(Clone, Default)]
pub struct ReadRequest {
    /// URL or path.
    pub url: String,
    /// Commit id or name; `None` is the default branch.
    pub revision: Option<String>,
    /// A reference that holds the revision, for servers that do not give out single commits.
    pub reference: Option<String>,
    /// The file in the tree.
    pub path: String,
    /// For HTTP.
    pub credentials: Option<Credentials>,
    /// For ssh.
    pub ssh_key: Option<crate::Secret>,
    /// The largest file that is read.
    pub bytes_max: u64,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The commit it was read at.
    pub commit: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Mirrors {
    /// Keeps copies beneath `dir`, reading as `access` allows.
    pub fn new(dir: PathBuf, access: GitAccess) -> Self {
        Self { dir, access, locks: Mutex::default() }
    }

    /// How repositories are read.
    pub fn access(&self) -> &GitAccess {
        &self.access
    }

    /// Reads one file. Blocking; one fetch at a time for each repository.
    pub fn read_file(&self, request: &ReadRequest, cancel: &Cancel) -> Result<Found, GitError> {
        let mut remote = source::locate(&request.url, request.credentials.as_ref(), &self.access)?;
        remote.ssh_key.clone_from(&request.ssh_key);
        let key = hex::encode(Sha256::digest(remote.key().as_bytes()));
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.dir.join(format!("{}.git", &key[..32]));
        let repo = open(&dir)?;
        let (repo, resolved) = self.bring(repo, &remote, request, cancel).map_err(|error| remote.tell(error))?;
        read(&repo, resolved, request, &remote.shown)
    }

    fn bring(
        &self,
        repo: gix::Repository,
        remote: &Remote,
        request: &ReadRequest,
        cancel: &Cancel,
    ) -> Result<(gix::Repository, gix::ObjectId), GitError> {
        let wanted = request.revision.as_deref();
        let id = wanted.and_then(revision::full_id);
        let none = Refs::default();
        if let Place::Local(path) = &remote.place {
            // Opened on each call: a path that is no longer allowed is not answered from the copy.
            let local = LocalRepo::open(path, &remote.shown, &self.access.allow)?;
            let refs = local.refs()?;
            local.copy_objects(&repo.git_dir().join("objects"), cancel)?;
            let repo = reopen(&repo)?;
            let found = revision::resolve(&repo, &refs, wanted, local.shown())?;
            let found = found.ok_or_else(|| revision::missing(&refs, wanted, local.shown()))?;
            return Ok((repo, found.commit));
        }
        if id.is_some()
            && let Some(found) = revision::resolve(&repo, &none, wanted, &remote.shown)?
        {
            return Ok((repo, found.commit));
        }
        // The cheapest first: the one commit; else the branch; else everything.
        let mut attempts: Vec<(Vec<String>, Option<u32>)> = Vec::new();
        let mut refs = None;
        if let Some(id) = id {
            attempts.push((vec![id.to_string()], Some(1)));
            attempts.extend(request.reference.iter().map(|name| (vec![format!("+{name}:{}", kept(name))], None)));
        } else {
            let listed = remote::list(&repo, remote, &self.access)?;
            let name = match revision::is_default(wanted) {
                true => listed.head.clone().or_else(|| listed.head_id.map(|_| "HEAD".to_owned())),
                false => revision::candidates(wanted.unwrap_or_default())
                    .into_iter()
                    .find(|name| listed.names.contains_key(name)),
            };
            attempts.extend(name.map(|name| (vec![format!("+{name}:{}", kept(&name))], Some(1))));
            refs = Some(listed);
        }
        attempts.push((vec!["+refs/*:refs/windlass/all/*".to_owned()], None));
        let mut last = None;
        for (specs, depth) in attempts {
            let fetched = remote::fetch(&repo, remote, &self.access, &Fetch { specs: &specs, depth }, cancel);
            match fetched {
                Ok(shown) => {
                    let repo = reopen(&repo)?;
                    if let Some(found) = revision::resolve(&repo, &shown, wanted, &remote.shown)? {
                        return Ok((repo, found.commit));
                    }
                    refs = Some(shown);
                    last = None;
                }
                // Not the repository's fault: more of the same does not help.
                Err(error @ (GitError::Unreachable { .. } | GitError::Denied { .. } | GitError::Cancelled)) => {
                    return Err(error);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| revision::missing(&refs.unwrap_or_default(), wanted, &remote.shown)))
    }
}

/// Fetched references live apart from the names that revisions are looked up by.
fn kept(name: &str) -> String {
    format!("refs/windlass/{}", name.trim_start_matches("refs/"))
}

fn open(dir: &Path) -> Result<gix::Repository, GitError> {
    let broken = |error: gix::Error| GitError::Broken { url: dir.display().to_string(), cause: error.to_string() };
    if dir.join("HEAD").exists() {
        if let Ok(repo) = gix::open::Options::isolated().open_path_as_is(true).open(dir) {
            return Ok(with_identity(repo.to_thread_local()));
        }
        // A damaged copy is only a cache.
        std::fs::remove_dir_all(dir).map_err(GitError::io(dir))?;
    }
    std::fs::create_dir_all(dir).map_err(GitError::io(dir))?;
    let repo = gix::ThreadSafeRepository::init_opts(
        dir,
        gix::create::Kind::Bare,
        gix::create::Options::default(),
        gix::open::Options::isolated(),
    )
    .map_err(broken)?;
    Ok(with_identity(repo.to_thread_local()))
}

fn reopen(repo: &gix::Repository) -> Result<gix::Repository, GitError> {
    open(repo.git_dir())
}

/// References are written with a log entry, which needs some name.
pub(super) fn with_identity(mut repo: gix::Repository) -> gix::Repository {
    let _ = repo.committer_or_set_generic_fallback();
    repo
}

fn read(repo: &gix::Repository, commit: gix::ObjectId, request: &ReadRequest, url: &str) -> Result<Found, GitError> {
    let broken = |error: gix::Error| GitError::Broken { url: url.to_owned(), cause: error.to_string() };
    let missing = || GitError::NoFile { url: url.to_owned(), path: request.path.clone(), commit: commit.to_string() };
    let tree = repo.find_commit(commit).map_err(broken)?.tree().map_err(broken)?;
    let path = request.path.trim_start_matches("./").trim_matches('/');
    let entry = tree.lookup_entry_by_path(path).map_err(broken)?.ok_or_else(missing)?;
    if !entry.mode().is_blob() {
        return Err(missing());
    }
    let size = repo.find_header(entry.object_id()).map_err(broken)?.size();
    if size > request.bytes_max {
        let what = format!("{path} has {size} bytes, more than the {} that are read", request.bytes_max);
        return Err(GitError::Unsupported { url: url.to_owned(), what });
    }
    let blob = repo.find_blob(entry.object_id()).map_err(broken)?;
    Ok(Found { commit: commit.to_string(), bytes: blob.data.clone() })
}
