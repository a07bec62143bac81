//! What a repository's name means: a URL or path becomes a place to read from, after the remap table. It must never
//! let a credential into a message or a work tree.

use std::path::PathBuf;

use super::ssh::Address;
use super::{Credentials, GitAccess, GitError, GitSource};
use crate::remap::Server;
use crate::secret::Secret;

/// Where bytes come from.
pub(super) enum Place {
    /// http or https, without user information.
    Http(String),
    /// Behind ssh.
    Ssh(Address),
    /// An absolute path.
    Local(PathBuf),
}

/// A repository that can be read.
pub(super) struct Remote {
    /// For messages and for `origin`: as the user wrote it, without credentials, not remapped.
    pub(super) shown: String,
    pub(super) place: Place,
    pub(super) credentials: Option<Credentials>,
    /// For ssh.
    pub(super) ssh_key: Option<Secret>,
    pub(super) ignore_host_key: bool,
    pub(super) skip_tls_verify: bool,
    /// Whether a rule led somewhere else.
    pub(super) mapped: bool,
}

impl Remote {
    /// What is asked: a place's name for the cache.
    pub(super) fn key(&self) -> String {
        match &self.place {
            Place::Http(url) => url.clone(),
            Place::Ssh(to) => format!("ssh://{}@{}:{}/{}", to.user, to.host, to.port, to.path),
            Place::Local(path) => path.display().to_string(),
        }
    }

    /// An error as it may become a status: with no name that a rule led to.
    pub(super) fn tell(&self, error: GitError) -> GitError {
        if !self.mapped {
            return error;
        }
        let url = || self.shown.clone();
        match error {
            GitError::Unreachable { cause, help, .. } => {
                GitError::Unreachable { url: url(), cause: self.hide(&cause), help }
            }
            GitError::Denied { url, cause } => GitError::Denied { url, cause: self.hide(&cause) },
            GitError::Broken { url, cause } => GitError::Broken { url, cause: self.hide(&cause) },
            GitError::BadUrl { url, reason } => GitError::BadUrl { url, reason: self.hide(&reason) },
            GitError::Unsupported { url, what } => GitError::Unsupported { url, what: self.hide(&what) },
            GitError::Refused(refusal) => {
                tracing::warn!(url = %self.shown, error = %refusal, "a rule leads to a path that is not read");
                GitError::Denied {
                    url: url(),
                    cause: "--remap-git leads to a path of this machine that is not allowed, or is not there; the log                             names it (start with --allow-path PATH)"
                        .to_owned(),
                }
            }
            other => other,
        }
    }

    fn hide(&self, text: &str) -> String {
        let host = prefix(&self.shown).trim_end_matches(['/', ':']);
        match &self.place {
            Place::Http(asked) => {
                let text = text.replace(asked, &self.shown);
                let server = asked.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
                Server::parse(&server, true).map_or_else(|| text.clone(), |(to, _)| to.hide(&text, host))
            }
            Place::Ssh(to) => {
                let server = Server { secure: false, host: to.host.clone(), port: Some(to.port) };
                server.hide(&text.replace(&to.path, &self.shown), host)
            }
            Place::Local(path) => text.replace(&path.display().to_string(), &self.shown),
        }
    }

    /// Who else could answer, where nobody does.
    pub(super) fn help(&self) -> String {
        if self.mapped {
            return " (it is mapped by --remap-git: check that what answers for it runs, the log names it)".to_owned();
        }
        format!(" (check the URL and its host, or map it with --remap-git {}=URL)", prefix(&self.shown))
    }
}

/// The part of a URL that a rule would name: up to the host.
fn prefix(url: &str) -> &str {
    if let Some(at) = url.find("://") {
        let path = url[at + 3..].find('/').map_or(url.len(), |slash| at + 3 + slash + 1);
        return &url[..path];
    }
    url.find(':').map_or(url, |colon| &url[..=colon])
}

/// Makes TLS ready; every HTTP client of this crate calls it first.
pub fn ensure_tls() {
    // Fails where somebody installed a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Reads a source's repository, with what it is reached with.
pub(super) fn locate_source(source: &GitSource, access: &GitAccess) -> Result<Remote, GitError> {
    let mut remote = locate(&source.repo, source.credentials.as_ref(), access)?;
    remote.ssh_key.clone_from(&source.ssh_key);
    remote.ignore_host_key = source.ignore_host_key;
    remote.skip_tls_verify = source.skip_tls_verify;
    Ok(remote)
}

/// Reads `repo` as a URL or path.
pub(super) fn locate(repo: &str, credentials: Option<&Credentials>, access: &GitAccess) -> Result<Remote, GitError> {
    let bad = |reason: &str| GitError::BadUrl { url: without_credentials(repo), reason: reason.to_owned() };
    if repo.is_empty() {
        return Err(bad("the URL is empty"));
    }
    if repo.contains("{{") {
        return Err(bad("a tag in it was not resolved"));
    }
    if repo.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(bad("control characters and spaces are not allowed"));
    }
    let mapped = access.remap.apply(repo);
    if let Some(mapped) = &mapped {
        tracing::info!(from = %without_credentials(repo), to = %without_credentials(mapped), "git remap");
    }
    let mut was_mapped = mapped.is_some();
    let mut effective = mapped.unwrap_or_else(|| repo.to_owned());
    let mut shown = without_credentials(repo);
    if let Some(rest) = effective.strip_prefix("git://github.com/") {
        // GitHub switched the git protocol off in 2022; its webhooks still carry such URLs.
        effective = format!("https://github.com/{rest}");
        if repo.starts_with("git://github.com/") {
            shown.clone_from(&effective);
        }
        if let Some(again) = access.remap.apply(&effective) {
            tracing::info!(from = %effective, to = %without_credentials(&again), "git remap");
            was_mapped = true;
            effective = again;
        }
    }
    let (place, own) = place(&effective).map_err(|reason| bad(&reason))?;
    Ok(Remote {
        shown,
        place,
        credentials: credentials.cloned().or(own),
        ssh_key: None,
        ignore_host_key: false,
        skip_tls_verify: false,
        mapped: was_mapped,
    })
}

fn place(url: &str) -> Result<(Place, Option<Credentials>), String> {
    if url.starts_with('/') {
        return Ok((Place::Local(PathBuf::from(url)), None));
    }
    // git's own form for helpers, which would run programs.
    if url.contains("::") && !url.contains("://") && !url.contains('[') {
        return Err("remote helpers are not run; give an https or ssh URL".to_owned());
    }
    if let Some(address) = Address::parse(url) {
        return Ok((Place::Ssh(address?), None));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("it is neither a URL nor an absolute path".to_owned());
    };
    match scheme {
        "http" | "https" => {
            let mut parsed = url::Url::parse(url).map_err(|error| format!("not a URL: {error}"))?;
            let decode = |text: &str| Secret::new(percent_decode(text));
            let own = (!parsed.username().is_empty() || parsed.password().is_some()).then(|| Credentials {
                username: decode(parsed.username()),
                password: decode(parsed.password().unwrap_or_default()),
            });
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            Ok((Place::Http(parsed.to_string()), own))
        }
        "file" => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err("a file URL names an absolute path of this machine: file:///…".to_owned());
            }
            Ok((Place::Local(PathBuf::from(String::from_utf8_lossy(&percent_decode(path)).into_owned())), None))
        }
        "git" => {
            Err("the git protocol has no authentication and is not supported; give an https URL or a remap".to_owned())
        }
        other => Err(format!("scheme {other} is not supported; give an https URL or a remap")),
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// Cuts `user:password@` out of a URL; ssh's user is part of the address and stays.
pub(super) fn without_credentials(url: &str) -> String {
    if let Some((scheme, rest)) = url.split_once("://") {
        let end = rest.find('/').unwrap_or(rest.len());
        if let Some(at) = rest[..end].rfind('@') {
            if let (true, Some(user)) = (scheme.contains("ssh"), rest[..at].split(':').next()) {
                return format!("{scheme}://{user}@{}", &rest[at + 1..]);
            }
            return format!("{scheme}://{}", &rest[at + 1..]);
        }
    }
    url.to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::remap::Remap;

    #[test]
    fn places() {
        let access =
            GitAccess { remap: Remap::parse(["https://github.com/=file:///m/"]).unwrap(), ..GitAccess::default() };
        let at = |url: &str| match locate(url, None, &access) {
            Ok(remote) => match remote.place {
                Place::Http(url) => format!("{} <- {url}", remote.shown),
                Place::Local(path) => format!("{} <- {}", remote.shown, path.display()),
                Place::Ssh(to) => format!("{} <- ssh {}@{} {}", remote.shown, to.user, to.host_name(), to.path),
            },
            Err(error) => error.to_string(),
        };
        let lines = [
            "git://github.com/a/b.git",
            "https://github.com/a/b",
            "https://me:s3cret@example.org/a.git",
            "file:///srv/with%20space",
            "/srv/repo.git",
            "git@github.com:a/b.git",
            "ssh://git@host/x",
            "git://host/x",
            "srv/repo",
            "{{workflow.annotations.x}}",
            "ext::sh -c date",
            "ext::/bin/sh",
            "",
        ]
        .map(|url| format!("{url} => {}", at(url)));
        insta::assert_snapshot!(lines.join("\n"));
        for (url, rule) in [
            ("git@bitbucket.org:team/app.git", "git@bitbucket.org:"),
            ("ssh://git@host:2222/x/y", "ssh://git@host:2222/"),
            ("https://github.com/a/b", "https://github.com/"),
        ] {
            assert_eq!(prefix(url), rule);
        }
        let own = locate("https://me:s3%40@example.org/a.git", None, &access).unwrap().credentials.unwrap();
        assert!(own.password.matches(b"s3@"));
    }
}
