//! GitHub's events as we send them ourselves, from a `post-receive` hook. The shapes are GitHub's, so that any receiver
//! of theirs takes them; nothing here is sent or signed.

use serde_json::{Value, json};

use crate::github::is_zero;

/// A repository as its own hook knows it.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    /// `owner/name`.
    pub full_name: String,
    /// Where it is read from: `https://…` or `file:///…`.
    pub clone_url: String,
    /// `git://…`; the clone URL where there is none.
    pub git_url: String,
    /// `user@host:path`; the clone URL where there is none.
    pub ssh_url: String,
    /// Its page; the clone URL where there is none.
    pub html_url: String,
    /// The branch that `HEAD` names.
    pub default_branch: String,
}

/// One commit.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Its id.
    pub id: String,
    /// Its tree's id.
    pub tree_id: String,
    /// The whole message.
    pub message: String,
    /// RFC 3339.
    pub timestamp: String,
    /// Who wrote it.
    pub author: Person,
    /// Who committed it.
    pub committer: Person,
    /// Files that are new.
    pub added: Vec<String>,
    /// Files that are gone.
    pub removed: Vec<String>,
    /// Files that changed.
    pub modified: Vec<String>,
}

/// A name and an address.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

/// One line of a hook's input: a ref moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The commit before; zeros where the ref is new.
    pub before: String,
    /// The commit after; zeros where the ref is gone.
    pub after: String,
    /// The full name.
    pub ref_: String,
}

impl Update {
    /// Reads `old new ref`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.trim_end_matches(['\n', '\r']).splitn(3, ' ');
        let (before, after, ref_) = (words.next()?, words.next()?, words.next()?);
        let id = |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
        (id(before) && id(after) && ref_.starts_with("refs/")).then(|| Self {
            before: before.to_owned(),
            after: after.to_owned(),
            ref_: ref_.to_owned(),
        })
    }

    /// Whether the ref is gone.
    pub fn is_delete(&self) -> bool {
        is_zero(&self.after)
    }

    /// Whether the ref is new.
    pub fn is_create(&self) -> bool {
        is_zero(&self.before)
    }
}

/// What is known about a push besides the ref's move.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// Oldest first; at most 2048 are sent.
    pub commits: Vec<Commit>,
    /// The commit that the ref points to now.
    pub head: Option<Commit>,
    /// Whether the old commit is no ancestor of the new one.
    pub forced: bool,
    /// Who pushed.
    pub pusher: Person,
}

/// An event to send: the `X-GitHub-Event` header and the body.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The header.
    pub event: &'static str,
    /// The body.
    pub payload: Value,
}

const COMMITS_MAX: usize = 2048;

/// What GitHub sends when a ref moves: a push; for a deletion a push and a delete. Each needs a delivery id of its own.
pub fn events(repository: &Repository, update: &Update, push: &Push) -> Vec<Outgoing> {
    let mut events = vec![Outgoing { event: "push", payload: push_payload(repository, update, push) }];
    if update.is_delete()
        && let Some(payload) = delete_payload(repository, update, &push.pusher)
    {
        events.push(Outgoing { event: "delete", payload });
    }
    events
}

/// The body of a push event.
pub fn push_payload(repository: &Repository, update: &Update, push: &Push) -> Value {
    let shown = |commit: &Commit| self::commit(repository, commit);
    let head = match &push.head {
        Some(head) if !update.is_delete() => shown(head),
        _ => Value::Null,
    };
    let html = or(&repository.html_url, &repository.clone_url);
    let compare = match update.is_create() || update.is_delete() {
        true => format!("{html}/commit/{}", update.after),
        false => format!("{html}/compare/{}...{}", short(&update.before), short(&update.after)),
    };
    json!({
        "ref": update.ref_,
        "before": update.before,
        "after": update.after,
        "created": update.is_create(),
        "deleted": update.is_delete(),
        "forced": push.forced,
        "base_ref": null,
        "compare": compare,
        "commits": push.commits.iter().take(COMMITS_MAX).map(shown).collect::<Vec<_>>(),
        "head_commit": head,
        "repository": self::repository(repository),
        "pusher": {"name": push.pusher.name, "email": push.pusher.email},
        "sender": sender(&push.pusher),
    })
}

/// The body of a delete event; nothing for a ref that is neither branch nor tag.
pub fn delete_payload(repository: &Repository, update: &Update, pusher: &Person) -> Option<Value> {
    let (ref_type, name) = match update.ref_.strip_prefix("refs/heads/") {
        Some(name) => ("branch", name),
        None => ("tag", update.ref_.strip_prefix("refs/tags/")?),
    };
    Some(json!({
        "ref": name,
        "ref_type": ref_type,
        "pusher_type": "user",
        "repository": self::repository(repository),
        "sender": sender(pusher),
    }))
}

fn repository(repository: &Repository) -> Value {
    let full = &repository.full_name;
    let (owner, name) = full.rsplit_once('/').unwrap_or(("", full));
    json!({
        "name": name,
        "full_name": full,
        "private": true,
        "owner": {"name": owner, "login": owner},
        "html_url": or(&repository.html_url, &repository.clone_url),
        "clone_url": repository.clone_url,
        "git_url": or(&repository.git_url, &repository.clone_url),
        "ssh_url": or(&repository.ssh_url, &repository.clone_url),
        "default_branch": repository.default_branch,
        "master_branch": repository.default_branch,
    })
}

fn commit(repository: &Repository, commit: &Commit) -> Value {
    let person = |p: &Person| json!({"name": p.name, "email": p.email});
    json!({
        "id": commit.id,
        "tree_id": commit.tree_id,
        "distinct": true,
        "message": commit.message,
        "timestamp": commit.timestamp,
        "url": format!("{}/commit/{}", or(&repository.html_url, &repository.clone_url), commit.id),
        "author": person(&commit.author),
        "committer": person(&commit.committer),
        "added": commit.added,
        "removed": commit.removed,
        "modified": commit.modified,
    })
}

fn sender(person: &Person) -> Value {
    json!({"login": person.name, "type": "User"})
}

fn or<'a>(first: &'a str, second: &'a str) -> &'a str {
    if first.is_empty() { second } else { first }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
