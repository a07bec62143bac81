//! A repository becomes a work tree with `.git`, in a staging directory that is moved to its place when it is whole.
//! It must never leave a credential in `.git`, nor anything behind after an error.

use std::fmt::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::local::LocalRepo;
use super::mirror::with_identity;
use super::remote::{self, Fetch, Refs};
use super::revision::{self, Resolved, tracking};
use super::source::{self, Place, Remote};
use super::{Checkout, GitAccess, GitError, GitSource, Progress};
use crate::archive::placing::Placing;
use crate::beneath::{Owner, Root};
use crate::cancel::Cancel;

const HEADS: &str = "+refs/heads/*:refs/remotes/origin/*";
const TAGS: &str = "+refs/tags/*:refs/tags/*";

/// See [`super::checkout_at`].
pub(super) fn checkout(
    source: &GitSource,
    access: &GitAccess,
    root: &Root,
    target: &Path,
    owner: Option<Owner>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Checkout, GitError> {
    checkout_nested(source, access, root, target, owner, progress, cancel, 0)
}

/// The same, `nesting` submodules deep.
#[allow(clippy::too_many_arguments)]
pub(super) fn checkout_nested(
    source: &GitSource,
    access: &GitAccess,
    root: &Root,
    target: &Path,
    owner: Option<Owner>,
    progress: &dyn Progress,
    cancel: &Cancel,
    nesting: u32,
) -> Result<Checkout, GitError> {
    // Bad names and forbidden paths are said before anything is made.
    let remote = source::locate_source(source, access)?;
    let local = match &remote.place {
        Place::Local(path) => {
            Some(LocalRepo::open(path, &remote.shown, &access.allow).map_err(|error| remote.tell(error))?)
        }
        Place::Http(_) | Place::Ssh(_) => None,
    };
    let placing = Placing::begin(root, target, owner, "").map_err(GitError::io(target))?;
    // The staging directory by its descriptor: nobody can move it away under this path.
    let dir = PathBuf::from(format!("/proc/self/fd/{}", placing.staging().fd().as_raw_fd()));
    let job = Job { source, access, remote: &remote, local: local.as_ref(), dir: &dir, progress, cancel, nesting };
    match job.run(owner) {
        Ok(done) => {
            placing.finish().map_err(GitError::io(target))?;
            Ok(done)
        }
        Err(error) => {
            placing.abandon();
            Err(if cancel.is_cancelled() { GitError::Cancelled } else { remote.tell(error) })
        }
    }
}

pub(super) struct Job<'a> {
    pub(super) source: &'a GitSource,
    pub(super) access: &'a GitAccess,
    pub(super) remote: &'a Remote,
    local: Option<&'a LocalRepo>,
    pub(super) dir: &'a Path,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) nesting: u32,
}

impl Job<'_> {
    fn run(&self, owner: Option<Owner>) -> Result<Checkout, GitError> {
        let repo = gix::ThreadSafeRepository::init_opts(
            self.dir,
            gix::create::Kind::WithWorktree,
            gix::create::Options::default(),
            gix::open::Options::isolated(),
        )
        .map_err(|e| self.broken(&e))?;
        let repo = with_identity(repo.to_thread_local());
        self.progress.stage(&format!("fetching {}", self.remote.shown));
        let (refs, resolved) = match (self.local, &self.remote.place) {
            (Some(local), _) => self.fetch_local(&repo, local)?,
            (None, Place::Http(_) | Place::Ssh(_)) => self.fetch_remote(&repo)?,
            (None, Place::Local(_)) => unreachable!("invariant local-opened: checkout() opens every local place"),
        };
        self.describe_origin(&resolved)?;
        self.point_head(&refs, &resolved)?;
        // Read again: packs, references and configuration have changed on disk.
        let repo = self.reopen()?;
        let files = self.write_tree(&repo, resolved.commit, owner)?;
        if self.source.submodules {
            self.bring_submodules(&repo, owner)?;
        }
        Ok(Checkout { commit: resolved.commit.to_string(), branch: resolved.branch, files })
    }

    pub(super) fn broken(&self, error: &gix::Error) -> GitError {
        let cause = error.iter_errors().last().map_or_else(|| error.to_string(), ToString::to_string);
        GitError::Broken { url: self.remote.shown.clone(), cause }
    }

    pub(super) fn reopen(&self) -> Result<gix::Repository, GitError> {
        let repo =
            gix::open::Options::isolated().with(gix::sec::Trust::Full).open(self.dir).map_err(|e| self.broken(&e))?;
        Ok(with_identity(repo.to_thread_local()))
    }

    /// The revision to look for: the artifact's, else its branch, else the default.
    fn wanted(&self) -> Option<&str> {
        self.source.revision.as_deref().filter(|revision| !revision.is_empty())
    }

    fn resolve(&self, repo: &gix::Repository, refs: &Refs) -> Result<Option<Resolved>, GitError> {
        let url = &self.remote.shown;
        match (self.wanted(), self.source.branch.as_deref().filter(|_| self.source.single_branch)) {
            (None, Some(branch)) => {
                let name = format!("refs/heads/{branch}");
                let found = revision::resolve(repo, refs, Some(&name), url)?;
                Ok(found.map(|found| Resolved { branch: Some(branch.to_owned()), ..found }))
            }
            (wanted, _) => revision::resolve(repo, refs, wanted, url),
        }
    }

    /// The one reference that a shallow or single-branch fetch is about.
    fn one_ref(&self, refs: &Refs) -> Option<String> {
        let source = self.source;
        if source.single_branch {
            return source.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
        }
        source.depth?;
        match self.wanted() {
            wanted if revision::is_default(wanted) => refs.head.clone(),
            wanted => {
                revision::candidates(wanted.unwrap_or_default()).into_iter().find(|name| refs.names.contains_key(name))
            }
        }
    }

    fn fetch_remote(&self, repo: &gix::Repository) -> Result<(Refs, Resolved), GitError> {
        let source = self.source;
        let fetch = |specs: &[String], depth| {
            remote::fetch(repo, self.remote, self.access, &Fetch { specs, depth }, self.cancel)
        };
        let narrow = source.single_branch || source.depth.is_some();
        let mut refs = if narrow { remote::list(repo, self.remote, self.access)? } else { Refs::default() };
        let one = narrow.then(|| self.one_ref(&refs)).flatten();
        if let (true, Some(name)) = (source.single_branch, &one)
            && !refs.names.contains_key(name)
        {
            return Err(revision::missing(&refs, source.branch.as_deref(), &self.remote.shown));
        }
        let id = self.wanted().and_then(revision::full_id);
        let mut specs = match (&one, id) {
            (Some(name), _) => vec![format!("+{name}:{}", tracking(name))],
            (None, Some(id)) if narrow => vec![id.to_string()],
            _ => vec![HEADS.to_owned(), TAGS.to_owned()],
        };
        let everything = specs.len() == 2;
        if everything && let Some(name) = self.wanted().filter(|name| name.starts_with("refs/")) {
            specs.push(format!("+{name}:{}", tracking(name)));
        }
        specs.extend(source.fetch.iter().cloned());
        // A cut history cannot be searched for a short id: then depth gives way.
        let depth = source.depth.filter(|_| !everything);
        let shown = fetch(&specs, depth)?;
        refs = shown;
        if let Some(found) = self.resolve(&self.reopen()?, &refs)? {
            return Ok((refs, found));
        }
        // A commit that no branch or tag leads to, or a reference outside of both: ask for exactly that.
        let wanted = self.wanted().unwrap_or_default();
        let outside = revision::candidates(wanted).into_iter().find(|name| refs.names.contains_key(name));
        if let Some(spec) = id.map(|id| id.to_string()).or(outside.map(|name| format!("+{name}:{}", tracking(&name)))) {
            match fetch(&[spec], source.depth) {
                Ok(_) => {}
                Err(GitError::Broken { .. }) => {
                    return Err(revision::missing(&refs, self.wanted(), &self.remote.shown));
                }
                Err(error) => return Err(error),
            }
            if let Some(found) = self.resolve(&self.reopen()?, &refs)? {
                return Ok((refs, found));
            }
        }
        Err(revision::missing(&refs, self.wanted(), &self.remote.shown))
    }

    fn fetch_local(&self, repo: &gix::Repository, local: &LocalRepo) -> Result<(Refs, Resolved), GitError> {
        let refs = local.refs()?;
        let git_dir = repo.git_dir();
        local.copy_objects(&git_dir.join("objects"), self.cancel)?;
        let specs = match self.one_ref(&refs) {
            Some(name) => vec![format!("+{name}:{}", tracking(&name))],
            None => vec![HEADS.to_owned(), TAGS.to_owned()],
        };
        let mut kept = std::collections::BTreeMap::new();
        for spec in specs.iter().chain(&self.source.fetch) {
            for (name, id) in &refs.names {
                if let Some(to) = matched(spec, name) {
                    kept.insert(to, *id);
                }
            }
        }
        // Only what leads to a copied object: a reference to nothing makes git complain for ever.
        let with_objects = self.reopen()?;
        let mut text = String::from("# pack-refs with: sorted \n");
        for (name, id) in kept.iter().filter(|(_, id)| with_objects.has_object(id)) {
            let _ = writeln!(text, "{id} {name}");
        }
        std::fs::write(git_dir.join("packed-refs"), text).map_err(GitError::io(git_dir))?;
        let repo = self.reopen()?;
        let found = self.resolve(&repo, &refs)?;
        let found = found.ok_or_else(|| revision::missing(&refs, self.wanted(), &self.remote.shown))?;
        if let Some(depth) = self.source.depth {
            cut_history(&repo, found.commit, depth).map_err(|e| self.broken(&e))?;
        }
        Ok((refs, found))
    }

    /// `origin`, as `git clone` writes it, under the name the user gave.
    fn describe_origin(&self, resolved: &Resolved) -> Result<(), GitError> {
        let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let url = &self.remote.shown;
        let branch = self.source.branch.as_ref().filter(|_| self.source.single_branch);
        let spec = match branch {
            Some(branch) => format!("+refs/heads/{branch}:refs/remotes/origin/{branch}"),
            None => HEADS.to_owned(),
        };
        let mut text = format!("[remote \"origin\"]\n\turl = {}\n\tfetch = {}\n", quote(url), quote(&spec));
        if let Some(branch) = &resolved.branch {
            let merge = quote(&format!("refs/heads/{branch}"));
            let _ = write!(text, "[branch {}]\n\tremote = origin\n\tmerge = {merge}\n", quote(branch));
        }
        let path = self.dir.join(".git/config");
        let mut config = std::fs::OpenOptions::new().append(true).open(&path).map_err(GitError::io(&path))?;
        std::io::Write::write_all(&mut config, text.as_bytes()).map_err(GitError::io(&path))
    }

    /// `HEAD`: the branch where none was asked for, else detached, as Argo leaves it.
    fn point_head(&self, refs: &Refs, resolved: &Resolved) -> Result<(), GitError> {
        let git_dir = self.dir.join(".git");
        let write = |name: &str, text: String| {
            let path = git_dir.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(GitError::io(parent))?;
            }
            std::fs::write(&path, text).map_err(GitError::io(&path))
        };
        if let Some(default) = refs.head.as_deref().and_then(|head| head.strip_prefix("refs/heads/"))
            && gix::validate::reference::name(format!("refs/heads/{default}").as_str().into()).is_ok()
        {
            let repo = self.reopen()?;
            if matches!(repo.try_find_reference(format!("refs/remotes/origin/{default}").as_str()), Ok(Some(_))) {
                write("refs/remotes/origin/HEAD", format!("ref: refs/remotes/origin/{default}\n"))?;
            }
        }
        match &resolved.branch {
            Some(branch) if gix::validate::reference::name(format!("refs/heads/{branch}").as_str().into()).is_ok() => {
                write(&format!("refs/heads/{branch}"), format!("{}\n", resolved.commit))?;
                write("HEAD", format!("ref: refs/heads/{branch}\n"))
            }
            _ => write("HEAD", format!("{}\n", resolved.commit)),
        }
    }

    fn write_tree(&self, repo: &gix::Repository, commit: ObjectId, owner: Option<Owner>) -> Result<usize, GitError> {
        let tree =
            repo.find_commit(commit).and_then(|c| c.tree_id().map(gix::Id::detach)).map_err(|e| self.broken(&e))?;
        let mut index = repo.index_from_tree(&tree).map_err(|e| self.broken(&e))?;
        let files = index.entries().len();
        self.progress.stage(&format!("checking out {files} files"));
        let mut options = repo
            .checkout_options(gix::worktree::stack::state::attributes::Source::IdMapping)
            .map_err(|e| self.broken(&e))?;
        options.destination_is_initially_empty = true;
        let objects =
            repo.objects.clone().into_arc().map_err(|source| GitError::Io { path: self.dir.to_owned(), source })?;
        let discard = gix::progress::Discard;
        let outcome = gix::worktree::state::checkout(
            &mut index,
            self.dir,
            objects,
            &discard,
            &discard,
            self.cancel.flag(),
            options,
        )
        .map_err(|e| self.broken(&e))?;
        if self.cancel.is_cancelled() {
            return Err(GitError::Cancelled);
        }
        let failed = outcome.errors.first().map(|record| format!("{}: {}", record.path, record.error));
        let clash = outcome.collisions.first().map(|clash| format!("{}: is there already", clash.path));
        if let Some(cause) = failed.or(clash) {
            return Err(GitError::Broken { url: self.remote.shown.clone(), cause });
        }
        if let Some(owner) = owner {
            give(self.dir, owner)?;
            refresh(&mut index, self.dir);
        }
        index.write(gix::index::write::Options::default()).map_err(|e| self.broken(&e))?;
        if let Some(owner) = owner {
            give(&self.dir.join(".git"), owner)?;
        }
        Ok(files)
    }
}

/// Where a refspec puts a name.
fn matched(spec: &str, name: &str) -> Option<String> {
    let spec = spec.trim_start_matches('+');
    let (from, to) = spec.split_once(':')?;
    match from.split_once('*') {
        None => (from == name && !to.is_empty()).then(|| to.to_owned()),
        Some((before, after)) => {
            let middle = name.strip_prefix(before)?.strip_suffix(after)?;
            let to = to.replacen('*', middle, 1);
            (to.starts_with("refs/") && gix::validate::reference::name(to.as_str().into()).is_ok()).then_some(to)
        }
    }
}

/// Marks the commits at which history ends, as a shallow fetch would.
fn cut_history(repo: &gix::Repository, tip: ObjectId, depth: u32) -> gix::Result<()> {
    let mut level = vec![tip];
    for _ in 1..depth {
        let mut next = Vec::new();
        for id in &level {
            next.extend(repo.find_commit(*id)?.parent_ids().map(gix::Id::detach));
        }
        if next.is_empty() {
            return Ok(());
        }
        next.sort();
        next.dedup();
        level = next;
    }
    let mut text = String::new();
    for id in level {
        if repo.find_commit(id)?.parent_ids().next().is_some() {
            let _ = writeln!(text, "{id}");
        }
    }
    if !text.is_empty() {
        std::fs::write(repo.git_dir().join("shallow"), text).map_err(gix::Error::from_error)?;
    }
    Ok(())
}

/// Gives everything beneath `dir` to `owner`; links themselves, not what they lead to.
fn give(dir: &Path, owner: Owner) -> Result<(), GitError> {
    // The staging directory is reached through a link in /proc: its content is walked, it is owned by its placing.
    let start = dir.join(".");
    for entry in walkdir::WalkDir::new(&start).follow_links(false) {
        let entry = entry.map_err(|error| GitError::Io { path: dir.to_owned(), source: error.into() })?;
        std::os::unix::fs::lchown(entry.path(), Some(owner.uid), Some(owner.gid))
            .map_err(GitError::io(entry.path()))?;
    }
    Ok(())
}

/// The owner and the change time have changed: the index must know the files as they are now.
fn refresh(index: &mut gix::index::File, dir: &Path) {
    for (entry, path) in index.entries_mut_with_paths() {
        let path = dir.join(std::ffi::OsStr::from_bytes(path));
        if let Ok(metadata) = gix::index::fs::Metadata::from_path_no_follow(&path)
            && let Ok(stat) = gix::index::entry::Stat::from_fs(&metadata)
        {
            entry.stat = stat;
        }
    }
}
