//! Bitbucket's push webhooks, reduced to the same event as GitHub's: Cloud (`repo:push`) and Server or Data Center
//! (`repo:refs_changed`). One request may tell of several refs; each becomes an event of its own, in the payload's order.
//! No URL is taken from a payload: Cloud's follow from the repository's name, a server's from the settings.

use serde_json::Value;
use sha2::{Digest, Sha256};
use windlass_model::delivery::{DeliveryEvent, DeliveryRepo};

use crate::forge::{Parsed, Reader, ignored, invalid, is_ref, is_repository, is_zero, payload, ref_type};

/// The provider of Bitbucket Cloud's events.
pub const CLOUD: &str = "bitbucket";
/// The provider of Bitbucket Server's and Data Center's events.
pub const SERVER: &str = "bitbucketserver";

/// What the request said about the body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `X-Event-Key`.
    pub event: Option<&'a str>,
    /// `X-Request-UUID` (Cloud) or `X-Request-Id` (Server): the same when a request is sent again.
    pub request: Option<&'a str>,
    /// `X-Hook-UUID`: which of the repository's webhooks (Cloud).
    pub hook: Option<&'a str>,
}

/// A push of more refs than this is a mirror being filled, not work for a pipeline.
const CHANGES_MAX: usize = 100;

/// Whether a request asks only if anybody is there, which Bitbucket Server does without a signature.
pub fn is_ping(headers: Headers<'_>) -> bool {
    headers.event == Some("diagnostics:ping")
}

/// Reads one request.
pub fn parse(headers: Headers<'_>, body: &[u8]) -> Parsed {
    let Some(event) = headers.event.filter(|e| !e.is_empty()) else {
        return invalid("the X-Event-Key header is missing");
    };
    if is_ping(headers) {
        return Parsed::Ping;
    }
    let payload = match payload(body) {
        Ok(payload) => payload,
        Err(message) => return invalid(message),
    };
    let request = match request_id(headers, body) {
        Ok(request) => request,
        Err(message) => return invalid(message),
    };
    let changes = match event {
        "repo:push" => cloud(&payload),
        "repo:refs_changed" => server(&payload),
        _ if ["repo:", "pr:", "pullrequest:", "issue:", "mirror:", "project:"].iter().any(|k| event.starts_with(k)) => {
            return ignored(
                "UnsupportedEvent",
                format!("{event:.64} events start nothing; repo:push and repo:refs_changed do"),
            );
        }
        _ => {
            let message = "this event is not known; repo:push and repo:refs_changed start workflows";
            return ignored("UnknownEvent", message);
        }
    };
    match changes {
        Err(message) => invalid(message),
        Ok(events) if events.is_empty() => ignored("NoChanges", "the push changed no branch and no tag"),
        Ok(events) if events.len() > CHANGES_MAX => {
            ignored("TooManyRefs", format!("one push of {} refs starts nothing; at most {CHANGES_MAX}", events.len()))
        }
        Ok(mut events) => {
            for (index, event) in events.iter_mut().enumerate() {
                event.delivery_id = format!("{request}#{index}");
            }
            Parsed::Events(events)
        }
    }
}

/// The id that a repeat of the same request carries. A sender without one is known by its hook and what it sent.
fn request_id(headers: Headers<'_>, body: &[u8]) -> Result<String, String> {
    if let Some(id) = headers.request.map(|id| id.trim_matches(['{', '}'])).filter(|id| !id.is_empty()) {
        let plain = id.len() <= 256 && id.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        return if plain { Ok(id.to_owned()) } else { Err("the X-Request-UUID header is malformed".to_owned()) };
    }
    let mut hash = Sha256::new();
    hash.update(headers.hook.unwrap_or_default().as_bytes());
    hash.update([0]);
    hash.update(body);
    Ok(hex::encode(hash.finalize())[..32].to_owned())
}

/// `repo:push`: each change has what a ref was (`old`) and what it is now (`new`); null is nothing.
fn cloud(payload: &Value) -> Result<Vec<DeliveryEvent>, String> {
    let full_name = Reader(payload).required("/repository/full_name")?;
    let repo = cloud_repo(&full_name, Reader(payload).text("/repository/mainbranch/name")?)?;
    let changes = payload.pointer("/push/changes").and_then(Value::as_array).ok_or("push.changes is not a list")?;
    let one = |change: &Value| {
        let reader = Reader(change);
        let side = if change.get("new").is_some_and(Value::is_object) { "/new" } else { "/old" };
        let prefix = match reader.required(&format!("{side}/type"))?.as_str() {
            "branch" | "named_branch" => "refs/heads/",
            "tag" | "annotated_tag" => "refs/tags/",
            _ => return Ok(None),
        };
        let name = format!("{prefix}{}", reader.required(&format!("{side}/name"))?);
        let revision = if side == "/new" { reader.object_id("/new/target/hash", true)? } else { String::new() };
        let before = reader.object_id("/old/target/hash", false)?;
        event(CLOUD, &repo, name, revision, before).map(Some)
    };
    changes.iter().filter_map(|change| one(change).transpose()).collect()
}

fn cloud_repo(full_name: &str, default_branch: String) -> Result<DeliveryRepo, String> {
    let (Some((owner, name)), true) = (full_name.split_once('/'), is_repository(full_name)) else {
        return Err("repository.full_name is not a repository's name".to_owned());
    };
    let clone_url = format!("https://bitbucket.org/{full_name}.git");
    Ok(DeliveryRepo {
        owner: owner.to_owned(),
        name: name.to_owned(),
        default_branch,
        html_url: format!("https://bitbucket.org/{full_name}"),
        // Bitbucket never spoke git's own protocol.
        git_url: clone_url.clone(),
        clone_url,
        ssh_url: format!("git@bitbucket.org:{full_name}.git"),
        full_name: full_name.to_owned(),
    })
}

/// `repo:refs_changed`: each change has a ref and two commits, forty zeros being nothing.
fn server(payload: &Value) -> Result<Vec<DeliveryEvent>, String> {
    let reader = Reader(payload);
    let (owner, name) = (reader.required("/repository/project/key")?, reader.required("/repository/slug")?);
    let full_name = format!("{owner}/{name}");
    if !is_repository(&full_name) || owner.contains('/') || name.contains('/') {
        return Err("repository.project.key and repository.slug are not a repository's name".to_owned());
    }
    let repo = DeliveryRepo { owner, name, full_name, ..DeliveryRepo::default() };
    let changes = payload.get("changes").and_then(Value::as_array).ok_or("changes is not a list")?;
    let one = |change: &Value| {
        let reader = Reader(change);
        let name = match change.pointer("/ref/id") {
            Some(_) => reader.required("/ref/id")?,
            None => reader.required("/refId")?,
        };
        let real = |id: String| if is_zero(&id) { String::new() } else { id };
        let before = real(reader.object_id("/fromHash", false)?);
        let revision = match reader.required("/type")?.as_str() {
            "DELETE" => String::new(),
            "ADD" | "UPDATE" => real(reader.object_id("/toHash", true)?),
            _ => return Err("type is none of ADD, UPDATE and DELETE".to_owned()),
        };
        match ref_type(&name).is_empty() {
            // Notes, pull requests' own refs and the like.
            true => Ok(None),
            false => event(SERVER, &repo, name, revision, before).map(Some),
        }
    };
    changes.iter().filter_map(|change| one(change).transpose()).collect()
}

fn event(
    provider: &str,
    repo: &DeliveryRepo,
    name: String,
    revision: String,
    before: String,
) -> Result<DeliveryEvent, String> {
    if !name.starts_with("refs/") || !is_ref(&name) {
        return Err("ref is not a name that git accepts".to_owned());
    }
    Ok(DeliveryEvent {
        provider: provider.to_owned(),
        event: if revision.is_empty() { "delete" } else { "push" }.to_owned(),
        repo: repo.clone(),
        ref_type: ref_type(&name),
        ref_: name,
        revision,
        before,
        ..DeliveryEvent::default()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_body_is_answered() {
        let bodies = [
            "",
            "[]",
            "{}",
            "nul",
            r#"{"push":1}"#,
            r#"{"repository":{"full_name":"../x"},"push":{"changes":[]}}"#,
            r#"{"repository":{"slug":"a/b","project":{"key":"K"}},"changes":[]}"#,
            r#"{"repository":{"full_name":"a/b"},"push":{"changes":[{"new":null,"old":null}]}}"#,
            r#"{"repository":{"full_name":"a/b"},"push":{"changes":[7]}}"#,
        ];
        for event in ["repo:push", "repo:refs_changed"] {
            let headers = Headers { event: Some(event), request: Some("r"), hook: None };
            for body in bodies {
                assert!(matches!(parse(headers, body.as_bytes()), Parsed::Invalid { .. }), "{event} {body}");
            }
            assert!(matches!(parse(headers, "[".repeat(100_000).as_bytes()), Parsed::Invalid { .. }));
        }
        assert!(matches!(parse(Headers::default(), b"{}"), Parsed::Invalid { .. }));
    }

    #[test]
    fn a_request_without_an_id_is_known_by_what_it_sent() {
        let id = |hook: &'static str, body: &[u8]| {
            request_id(Headers { event: None, request: None, hook: Some(hook) }, body).unwrap()
        };
        assert_eq!(id("a", b"x"), id("a", b"x"));
        assert_ne!(id("a", b"x"), id("b", b"x"));
        assert_ne!(id("a", b"x"), id("a", b"y"));
        let with = Headers { event: None, request: Some("{9f-1}"), hook: None };
        assert_eq!(request_id(with, b"x").unwrap(), "9f-1");
        assert!(request_id(Headers { request: Some("a#b"), ..with }, b"x").is_err());
    }
}
