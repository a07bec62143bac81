//! What a revision means: a name as people and webhooks write it becomes a commit. It only reads what was fetched.

use gix::ObjectId;

use super::GitError;
use super::remote::Refs;

/// The commit, and the branch where the revision was left empty.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) commit: ObjectId,
    pub(super) branch: Option<String>,
}

/// Where a remote's reference lies on our side.
pub(super) fn tracking(name: &str) -> String {
    match name.strip_prefix("refs/heads/") {
        Some(branch) => format!("refs/remotes/origin/{branch}"),
        None => name.to_owned(),
    }
}

/// The full names a revision may stand for, in git's order.
pub(super) fn candidates(revision: &str) -> Vec<String> {
    let mut names = Vec::new();
    if revision.starts_with("refs/") {
        names.push(revision.to_owned());
        return names;
    }
    names.push(format!("refs/tags/{revision}"));
    names.push(format!("refs/heads/{revision}"));
    names.push(format!("refs/{revision}"));
    let branch = revision.strip_prefix("origin/").or_else(|| revision.strip_prefix("remotes/origin/"));
    names.extend(branch.map(|branch| format!("refs/heads/{branch}")));
    names
}

/// A commit id in full.
pub(super) fn full_id(revision: &str) -> Option<ObjectId> {
    ObjectId::from_hex(revision.as_bytes()).ok()
}

/// Whether the revision means the default branch.
pub(super) fn is_default(revision: Option<&str>) -> bool {
    matches!(revision, None | Some("" | "HEAD"))
}

/// Finds the commit among the objects of `repo`. `Ok(None)`: not there (yet).
pub(super) fn resolve(
    repo: &gix::Repository,
    refs: &Refs,
    revision: Option<&str>,
    url: &str,
) -> Result<Option<Resolved>, GitError> {
    if is_default(revision) {
        let branch = refs.head.as_deref().and_then(|head| head.strip_prefix("refs/heads/"));
        let commit = refs.head_id.and_then(|id| peel(repo, id));
        return Ok(commit.map(|commit| Resolved { commit, branch: branch.map(str::to_owned) }));
    }
    let revision = revision.unwrap_or_default();
    if let Some(commit) = full_id(revision).and_then(|id| peel(repo, id)) {
        return Ok(Some(Resolved { commit, branch: None }));
    }
    for name in candidates(revision) {
        if let Some(commit) = refs.names.get(&name).and_then(|id| peel(repo, *id)) {
            return Ok(Some(Resolved { commit, branch: None }));
        }
    }
    // What is left is short ids and expressions such as `v1.0~2`.
    for text in [revision.to_owned(), format!("origin/{revision}")] {
        if let Ok(id) = repo.rev_parse_single(text.as_str())
            && let Some(commit) = peel(repo, id.detach())
        {
            return Ok(Some(Resolved { commit, branch: None }));
        }
    }
    if revision.len() >= 4
        && let Ok(prefix) = gix::hash::Prefix::from_hex(revision)
        && let Ok(Some(Err(()))) = repo.objects.lookup_prefix(prefix, None)
    {
        return Err(GitError::NoRevision {
            url: url.to_owned(),
            revision: revision.to_owned(),
            hint: ": this short commit id is ambiguous".to_owned(),
        });
    }
    Ok(None)
}

fn peel(repo: &gix::Repository, id: ObjectId) -> Option<ObjectId> {
    let object = repo.try_find_object(id).ok()??;
    object.peel_to_kind(gix::object::Kind::Commit).ok().map(|commit| commit.id)
}

/// The error for a revision that is not there, with names that are near.
pub(super) fn missing(refs: &Refs, revision: Option<&str>, url: &str) -> GitError {
    let wanted = revision.filter(|r| !r.is_empty()).unwrap_or("HEAD");
    let mut branches: Vec<&str> = refs.names.keys().filter_map(|name| name.strip_prefix("refs/heads/")).collect();
    branches.truncate(8);
    let hint = match branches.is_empty() {
        true => ": the repository has no branches".to_owned(),
        false => format!("; branches: {}", branches.join(", ")),
    };
    GitError::NoRevision { url: url.to_owned(), revision: wanted.to_owned(), hint }
}
