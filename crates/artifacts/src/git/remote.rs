//! Reading over HTTP and ssh with gix: list references, fetch packs. It must never ask a person or a helper program for a
//! credential, nor wait for ever.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gix::ObjectId;
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::{Transport, http};
use gix::protocol::transport::client::git::{ConnectMode, blocking_io};
use gix::remote::{Direction, fetch};

use super::source::{Place, Remote};
use super::ssh::{self, Address, Session};
use super::{GitAccess, GitError};
use crate::cancel::Cancel;
use crate::dial::Tunnel;

/// The references a repository shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Refs {
    /// The branch `HEAD` names, in full.
    pub(super) head: Option<String>,
    /// The commit `HEAD` leads to.
    pub(super) head_id: Option<ObjectId>,
    /// Full names and what they point to, tags unpeeled.
    pub(super) names: BTreeMap<String, ObjectId>,
}

/// What to bring.
pub(super) struct Fetch<'a> {
    pub(super) specs: &'a [String],
    pub(super) depth: Option<u32>,
}

/// Lists what is there.
pub(super) fn list(repo: &gix::Repository, remote: &Remote, access: &GitAccess) -> Result<Refs, GitError> {
    let (map, _) = with_remote(repo, remote, access, &["HEAD".to_owned()], |connection| {
        connection.ref_map(gix::progress::Discard, all_refs())
    })?;
    Ok(refs(&map))
}

/// Fetches into `repo`; answers what the remote shows.
pub(super) fn fetch(
    repo: &gix::Repository,
    remote: &Remote,
    access: &GitAccess,
    wanted: &Fetch<'_>,
    cancel: &Cancel,
) -> Result<Refs, GitError> {
    let shallow = match wanted.depth.and_then(NonZeroU32::new) {
        Some(depth) => fetch::Shallow::DepthAtRemote(depth),
        None => fetch::Shallow::NoChange,
    };
    let outcome = with_remote(repo, remote, access, wanted.specs, |connection| {
        connection
            .prepare_fetch(gix::progress::Discard, all_refs())?
            .with_shallow(shallow)
            .with_write_packed_refs_only(true)
            .receive(gix::progress::Discard, cancel.flag())
    });
    if cancel.is_cancelled() {
        return Err(GitError::Cancelled);
    }
    Ok(refs(&outcome?.ref_map))
}

/// The whole listing: revisions are looked up in it, whatever the specs name.
fn all_refs() -> gix::remote::ref_map::Options {
    gix::remote::ref_map::Options { prefix_from_spec_as_filter_on_remote: false, ..Default::default() }
}

type Connection<'a, 'repo> = gix::remote::Connection<'a, 'a, 'repo, Box<dyn Transport + Send>>;

fn with_remote<T>(
    repo: &gix::Repository,
    remote: &Remote,
    access: &GitAccess,
    specs: &[String],
    act: impl FnOnce(Connection<'_, '_>) -> gix::Result<T>,
) -> Result<T, GitError> {
    super::ensure_tls();
    let prepare = |url: &str| -> gix::Result<gix::Remote<'_>> {
        let specs = specs.iter().map(gix::bstr::BStr::new);
        let origin = repo.remote_at_without_url_rewrite(url)?.with_refspecs(specs, Direction::Fetch)?;
        Ok(origin.with_fetch_tags(fetch::Tags::None))
    };
    match &remote.place {
        Place::Http(url) => {
            let tunnel = tunnel(url, remote, access)?;
            let work = || {
                let origin = prepare(url)?;
                let connection = origin
                    .connect(Direction::Fetch)?
                    .with_credentials(|action| Ok(credentials(remote, action)))
                    .with_transport_options(Box::new(options(access, remote, url, tunnel.as_ref())));
                act(connection)
            };
            work().map_err(|error| describe(remote, access, &error))
        }
        Place::Ssh(to) => {
            let session = open(to, remote, access)?;
            let work = || {
                // The transport is ours: the URL is only a name.
                let origin = prepare("ssh://remote/repository")?;
                let (reader, writer) = session.halves().map_err(gix::Error::from_error)?;
                let none = None::<(&str, _)>;
                let path = to.path.as_str();
                let process = ConnectMode::Process;
                let transport = blocking_io::Connection::new(reader, writer, Protocol::V2, path, none, process, false);
                act(origin.to_connection_with_transport(Box::new(transport) as Box<dyn Transport + Send>))
            };
            work().map_err(|error| match session.complaint() {
                Some(complaint) => complaint.about(&remote.shown, remote.help()),
                None => describe(remote, access, &error),
            })
        }
        Place::Local(_) => unreachable!("invariant local-opened: local places are read by `local`"),
    }
}

fn open(to: &Address, remote: &Remote, access: &GitAccess) -> Result<Session, GitError> {
    let options = ssh::Options {
        key: remote.ssh_key.as_ref(),
        mapped: remote.mapped,
        ignore_host_key: remote.ignore_host_key,
        known_hosts: &access.known_hosts,
        connect_timeout: access.connect_timeout,
        read_timeout: access.read_timeout,
        inside: &access.inside,
    };
    Session::open(to, "git-upload-pack", &options).map_err(|error| error.about(&remote.shown, remote.help()))
}

/// The way to a host inside the cluster, where this is one.
fn tunnel(url: &str, remote: &Remote, access: &GitAccess) -> Result<Option<Tunnel>, GitError> {
    let Ok(parsed) = url::Url::parse(url) else { return Ok(None) };
    let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else { return Ok(None) };
    access.inside.tunnel(host, port, access.connect_timeout).map_err(|error| GitError::Unreachable {
        url: remote.shown.clone(),
        cause: error.to_string(),
        help: remote.help(),
    })
}

fn credentials(
    remote: &Remote,
    action: gix::credentials::helper::Action,
) -> Option<gix::credentials::protocol::Outcome> {
    let gix::credentials::helper::Action::Get(context) = action else { return None };
    let own = remote.credentials.as_ref()?;
    Some(gix::credentials::protocol::Outcome {
        identity: gix::sec::identity::Account {
            username: own.username.expose_str()?.to_owned(),
            password: own.password.expose_str()?.to_owned(),
            oauth_refresh_token: None,
        },
        next: context.into(),
    })
}

fn options(access: &GitAccess, remote: &Remote, url: &str, tunnel: Option<&Tunnel>) -> http::Options {
    let (connect, read) = (access.connect_timeout, access.read_timeout);
    let (unchecked, socket) = (remote.skip_tls_verify, tunnel.map(Tunnel::path));
    // Over plain http gix sends no credentials at all; git and Argo do. With a header of ours no redirect is followed.
    let clear = remote.credentials.as_ref().filter(|_| url.starts_with("http://")).and_then(basic);
    if clear.is_some() {
        tracing::warn!(url = %remote.shown, "credentials are sent in clear text over http");
    }
    let configure_request = clear.map(|header| -> Box<http::reqwest::ConfigureRequestFn> {
        Box::new(move |request| {
            request.headers_mut().insert(reqwest::header::AUTHORIZATION, header.clone());
            Ok(())
        })
    });
    let backend = http::reqwest::Options {
        configure_client: Some(Box::new(move |builder| {
            let builder = builder.connect_timeout(connect).timeout(read).tls_danger_accept_invalid_certs(unchecked);
            Ok(match &socket {
                Some(path) => builder.unix_socket(path.as_path()),
                None => builder,
            })
        })),
        configure_request,
    };
    http::Options { connect_timeout: Some(connect), backend: Some(Arc::new(Mutex::new(backend))), ..Default::default() }
}

/// The header of basic authentication.
fn basic(credentials: &super::Credentials) -> Option<reqwest::header::HeaderValue> {
    let text = format!("{}:{}", credentials.username.expose_str()?, credentials.password.expose_str()?);
    let mut header = reqwest::header::HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text))).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn refs(map: &fetch::RefMap) -> Refs {
    use gix::protocol::handshake::Ref;
    let mut refs = Refs::default();
    for entry in &map.remote_refs {
        match entry {
            Ref::Direct { full_ref_name, object } if full_ref_name == "HEAD" => refs.head_id = Some(*object),
            Ref::Symbolic { full_ref_name, target, object, .. } if full_ref_name == "HEAD" => {
                refs.head = Some(target.to_string());
                refs.head_id = Some(*object);
            }
            Ref::Unborn { .. } => {}
            Ref::Direct { full_ref_name, object } => {
                refs.names.insert(full_ref_name.to_string(), *object);
            }
            Ref::Symbolic { full_ref_name, tag, object, .. } => {
                refs.names.insert(full_ref_name.to_string(), tag.unwrap_or(*object));
            }
            Ref::Peeled { full_ref_name, tag, .. } => {
                refs.names.insert(full_ref_name.to_string(), *tag);
            }
        }
    }
    refs
}

/// gix's chain of causes becomes one line and one decision.
fn describe(remote: &Remote, access: &GitAccess, error: &gix::Error) -> GitError {
    let (url, had_credentials) = (remote.shown.clone(), remote.credentials.is_some());
    let texts = causes(error);
    let mentions = |needle: &str| texts.iter().any(|text| text.contains(needle));
    let innermost = texts.last().cloned().unwrap_or_else(|| error.to_string());
    if mentions("HTTP status 404") {
        return GitError::Denied { url, cause: "not found (404): no such repository, or it needs credentials".into() };
    }
    if mentions("HTTP status 403") {
        return GitError::Denied { url, cause: "forbidden (403)".into() };
    }
    if error.is_permission_denied() || error.is_unauthenticated() || mentions("credential") || mentions("uthenticat") {
        let cause = match had_credentials {
            true => "the host refused the credentials (401)",
            false => "the host asks for credentials (401), and none were given (usernameSecret, passwordSecret)",
        };
        return GitError::Denied { url, cause: cause.to_owned() };
    }
    let network = error.is_retryable()
        || mentions("HTTP status 5")
        || mentions("error sending request")
        || mentions("timed out")
        || mentions("connection");
    let timed_out = mentions("timed out") || mentions("deadline has elapsed");
    let cause = match timed_out {
        true if mentions("(Connect)") => format!("no connection within {} s", access.connect_timeout.as_secs()),
        true => format!("it said nothing for {} s", access.read_timeout.as_secs()),
        false if mentions("dns error") => "its name cannot be resolved".to_owned(),
        false => innermost.clone(),
    };
    match network || timed_out {
        true => GitError::Unreachable { url, cause, help: remote.help() },
        false => GitError::Broken { url, cause: innermost },
    }
}

fn causes(error: &gix::Error) -> Vec<String> {
    let mut texts = Vec::new();
    for cause in error.iter_errors() {
        let mut next: Option<&dyn std::error::Error> = Some(cause);
        while let Some(inner) = next {
            let text = inner.to_string();
            if texts.last() != Some(&text) && !text.is_empty() {
                texts.push(text);
            }
            next = inner.source();
        }
    }
    texts
}
