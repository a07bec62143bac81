//! What an ssh URL means: `ssh://user@host:port/path` and the short form `user@host:path`. Pure.

/// Where a repository is, behind ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::git) struct Address {
    /// The user; `git` where none is named, as in Argo.
    pub(in crate::git) user: String,
    /// The host, without brackets.
    pub(in crate::git) host: String,
    /// The port.
    pub(in crate::git) port: u16,
    /// The path as the server's shell gets it.
    pub(in crate::git) path: String,
}

impl Address {
    /// Reads a URL; `None` where it is not one of ssh.
    pub(in crate::git) fn parse(url: &str) -> Option<Result<Self, String>> {
        match url.split_once("://") {
            Some(("ssh" | "git+ssh" | "ssh+git", rest)) => Some(Self::long(rest)),
            Some(_) => None,
            None => {
                let (before, path) = Self::short(url)?;
                Some(Self::read(before, None, path))
            }
        }
    }

    /// `user@host:path`: the first colon outside of brackets, with no slash before it.
    fn short(url: &str) -> Option<(&str, &str)> {
        let bracket = url.find(']').filter(|_| url.rsplit('@').next_back().is_some() && url.contains('[')).unwrap_or(0);
        let colon = bracket + url[bracket..].find(':')?;
        (!url[..colon].contains('/')).then(|| (&url[..colon], &url[colon + 1..]))
    }

    fn long(rest: &str) -> Result<Self, String> {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => return Err("it has no path".to_owned()),
        };
        // What stands before the host may hold a password: no message quotes it.
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let (before, port) = match authority[at..].rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (&authority[..at + host.len()], Some(port.parse().map_err(|_| format!("`{port}` is not a port"))?))
            }
            _ => (authority, None),
        };
        // `/~user/x` is beneath a home; every other path is absolute.
        Self::read(before, port, if path.starts_with("/~") { &path[1..] } else { path })
    }

    fn read(before: &str, port: Option<u16>, path: &str) -> Result<Self, String> {
        let (user, host) = match before.rsplit_once('@') {
            Some((user, host)) => (user.split(':').next().unwrap_or_default(), host),
            None => ("git", before),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || user.is_empty() {
            return Err("it names no host or no user".to_owned());
        }
        if host.starts_with('-') || path.starts_with('-') {
            return Err("a host or path that begins with `-` is refused".to_owned());
        }
        if path.trim_matches('/').is_empty() {
            return Err("it has no path".to_owned());
        }
        let text = |t: &str| t.to_owned();
        Ok(Self { user: text(user), host: host.to_ascii_lowercase(), port: port.unwrap_or(22), path: text(path) })
    }

    /// The host as known-hosts files write it.
    pub(in crate::git) fn host_name(&self) -> String {
        if self.port == 22 { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }

    /// The server's command, its argument quoted for a shell.
    pub(super) fn command(&self, program: &str) -> String {
        format!("{program} '{}'", self.path.replace('\'', "'\\''").replace('!', "'\\!'"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let lines = [
            "git@github.com:a/b.git",
            "bitbucket.org:team/app.git",
            "me@[::1]:/srv/x",
            "ssh://git@127.0.0.1:2222/srv/git/a b.git",
            "ssh://[::1]:2222/~me/x",
            "ssh://git:secret@Host/x",
            "git+ssh://h/it's!.git",
            "ssh://host",
            "ssh://host:x/y",
            "git@-oProxyCommand=x:y",
            "git@host:--upload-pack=x",
            "https://host/x",
            "/srv/a:b",
            "srv/a:b",
        ]
        .map(|url| {
            let read = match Address::parse(url) {
                None => "not ssh".to_owned(),
                Some(Err(why)) => why,
                Some(Ok(a)) => format!("{} at {} runs {}", a.user, a.host_name(), a.command("git-upload-pack")),
            };
            format!("{url} => {read}")
        });
        insta::assert_snapshot!(lines.join("\n"));
    }
}
