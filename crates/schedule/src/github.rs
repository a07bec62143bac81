//! GitHub's webhook events, reduced. The parser trusts nothing: any body gives an event, a reason or a complaint, and
//! never a panic. What it answers holds no text that was not checked.

use serde_json::Value;
use windlass_model::delivery::{DeliveryEvent, DeliveryRepo};

pub use crate::forge::{Parsed, is_zero};
use crate::forge::{Reader, ignored, invalid, is_ref, is_repository, payload, ref_type, without_credentials};

/// What the request said about the body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `X-GitHub-Event`.
    pub event: Option<&'a str>,
    /// `X-GitHub-Delivery`: the same on a redelivery.
    pub delivery: Option<&'a str>,
}

/// Events that GitHub has and nothing here starts from (yet).
const KNOWN: &[&str] = &[
    "branch_protection_rule",
    "commit_comment",
    "create",
    "deployment",
    "deployment_status",
    "fork",
    "gollum",
    "installation",
    "installation_repositories",
    "issue_comment",
    "issues",
    "label",
    "member",
    "membership",
    "merge_group",
    "meta",
    "milestone",
    "organization",
    "package",
    "page_build",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "registry_package",
    "release",
    "repository",
    "repository_dispatch",
    "star",
    "status",
    "team",
    "watch",
    "workflow_dispatch",
    "workflow_job",
    "workflow_run",
];

/// Reads one request.
pub fn parse(headers: Headers<'_>, body: &[u8]) -> Parsed {
    let Some(event) = headers.event.filter(|e| !e.is_empty()) else {
        return invalid("the X-GitHub-Event header is missing");
    };
    let Some(delivery) =
        headers.delivery.filter(|d| !d.is_empty() && d.len() <= 256 && d.bytes().all(|b| b.is_ascii_graphic()))
    else {
        return invalid("the X-GitHub-Delivery header is missing or malformed");
    };
    let payload = match payload(body) {
        Ok(payload) => payload,
        Err(message) => return invalid(message),
    };
    match event {
        "ping" => Parsed::Ping,
        "push" | "delete" | "check_run" | "check_suite" => match Reader(&payload).event(event, delivery) {
            Ok(parsed) => parsed,
            Err(message) => invalid(message),
        },
        _ if KNOWN.contains(&event) => ignored(
            "UnsupportedEvent",
            format!("{event} events start nothing; push, delete, check_run and check_suite do"),
        ),
        _ => {
            ignored("UnknownEvent", "this event is not known; push, delete, check_run and check_suite start workflows")
        }
    }
}

impl Reader<'_> {
    fn repo(&self) -> Result<DeliveryRepo, String> {
        let full_name = self.required("/repository/full_name")?;
        if !is_repository(&full_name) {
            return Err("repository.full_name is not a repository's name".to_owned());
        }
        let (owner, name) = full_name.split_once('/').unwrap_or(("", &full_name));
        let (owner, name) = (owner.to_owned(), name.to_owned());
        Ok(DeliveryRepo {
            owner,
            name,
            default_branch: self.text("/repository/default_branch")?,
            html_url: without_credentials(self.text("/repository/html_url")?),
            clone_url: without_credentials(self.text("/repository/clone_url")?),
            git_url: without_credentials(self.text("/repository/git_url")?),
            ssh_url: without_credentials(self.text("/repository/ssh_url")?),
            full_name,
        })
    }

    fn event(&self, event: &str, delivery: &str) -> Result<Parsed, String> {
        let mut reduced = DeliveryEvent {
            provider: "github".to_owned(),
            event: event.to_owned(),
            delivery_id: delivery.to_owned(),
            repo: self.repo()?,
            ..DeliveryEvent::default()
        };
        match event {
            "push" => {
                reduced.ref_ = self.required("/ref")?;
                reduced.revision = self.object_id("/after", true)?;
                reduced.before = self.object_id("/before", false)?;
                if !reduced.ref_.starts_with("refs/") {
                    return Err("ref does not begin with refs/".to_owned());
                }
                reduced.ref_type = ref_type(&reduced.ref_);
                if is_zero(&reduced.revision) || self.0.get("deleted") == Some(&Value::Bool(true)) {
                    return Ok(ignored(
                        "PushOfDeletion",
                        format!(
                            "{} was deleted; the delete event that comes with this push is the one that counts",
                            reduced.ref_
                        ),
                    ));
                }
            }
            "delete" => {
                let name = self.required("/ref")?;
                reduced.ref_type = self.required("/ref_type")?;
                reduced.ref_ = match reduced.ref_type.as_str() {
                    "branch" => format!("refs/heads/{name}"),
                    "tag" => format!("refs/tags/{name}"),
                    _ => return Err("ref_type is neither branch nor tag".to_owned()),
                };
            }
            _ => {
                let (branch, revision, before) = match event {
                    "check_run" => ("/check_run/check_suite/head_branch", "/check_run/head_sha", ""),
                    _ => ("/check_suite/head_branch", "/check_suite/after", "/check_suite/before"),
                };
                let branch = self.text(branch)?;
                if !branch.is_empty() {
                    reduced.ref_ = format!("refs/heads/{branch}");
                    reduced.ref_type = "branch".to_owned();
                }
                reduced.revision = self.object_id(revision, false)?;
                if !before.is_empty() {
                    reduced.before = self.object_id(before, false)?;
                }
                reduced.action = self.text("/action")?;
            }
        }
        if !reduced.ref_.is_empty() && !is_ref(&reduced.ref_) {
            return Err("ref is not a name that git accepts".to_owned());
        }
        Ok(Parsed::Event(Box::new(reduced)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_body_is_answered() {
        let headers = Headers { event: Some("push"), delivery: Some("d") };
        for body in
            ["", "[]", "{}", "nul", "{\"ref\":1}", "{\"repository\":{\"full_name\":\"../x\"}}", &"[".repeat(100_000)]
        {
            assert!(matches!(parse(headers, body.as_bytes()), Parsed::Invalid { .. }), "{:.20}", body);
        }
        assert!(matches!(parse(Headers::default(), b"{}"), Parsed::Invalid { .. }));
    }
}
