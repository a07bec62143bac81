//! GitHub's webhook events, reduced. The parser trusts nothing: any body gives an event, a reason or a complaint, and
//! never a panic. What it answers holds no text that was not checked.

use serde_json::Value;
use windlass_model::delivery::{DeliveryEvent, DeliveryRepo};

/// What the request said about the body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `X-GitHub-Event`.
    pub event: Option<&'a str>,
    /// `X-GitHub-Delivery`: the same on a redelivery.
    pub delivery: Option<&'a str>,
}

/// What a request means.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// Something happened.
    Event(Box<DeliveryEvent>),
    /// GitHub asks whether anybody is there.
    Ping,
    /// Authentic, and nothing to do.
    Ignored {
        /// One word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// Not something GitHub sends.
    Invalid {
        /// What is wrong.
        message: String,
    },
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

const TEXT_BYTES_MAX: usize = 1024;

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
    let payload: Value = match serde_json::from_slice(body) {
        Ok(payload) => payload,
        Err(error) => {
            return invalid(format!("the body is not JSON: line {}, column {}", error.line(), error.column()));
        }
    };
    if !payload.is_object() {
        return invalid("the body is not a JSON object");
    }
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

fn invalid(message: impl Into<String>) -> Parsed {
    Parsed::Invalid { message: message.into() }
}

fn ignored(reason: &'static str, message: impl Into<String>) -> Parsed {
    Parsed::Ignored { reason, message: message.into() }
}

/// Whether an object id is git's "nothing": forty or sixty-four zeros.
pub fn is_zero(id: &str) -> bool {
    matches!(id.len(), 40 | 64) && id.bytes().all(|b| b == b'0')
}

struct Reader<'a>(&'a Value);

impl Reader<'_> {
    /// Text at a JSON pointer; empty where it is absent or null.
    fn text(&self, pointer: &str) -> Result<String, String> {
        let name = || pointer.trim_start_matches('/').replace('/', ".");
        match self.0.pointer(pointer) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) if text.len() > TEXT_BYTES_MAX => Err(format!("{} is too long", name())),
            Some(Value::String(text)) if text.chars().any(char::is_control) => {
                Err(format!("{} holds control characters", name()))
            }
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("{} is not a text", name())),
        }
    }

    fn required(&self, pointer: &str) -> Result<String, String> {
        let text = self.text(pointer)?;
        match text.is_empty() {
            true => Err(format!("{} is missing", pointer.trim_start_matches('/').replace('/', "."))),
            false => Ok(text),
        }
    }

    fn object_id(&self, pointer: &str, required: bool) -> Result<String, String> {
        let id = if required { self.required(pointer)? } else { self.text(pointer)? };
        if id.is_empty() || (matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Ok(id);
        }
        Err(format!("{} is not a commit id", pointer.trim_start_matches('/').replace('/', ".")))
    }

    fn repo(&self) -> Result<DeliveryRepo, String> {
        let full_name = self.required("/repository/full_name")?;
        let (owner, name) = full_name.split_once('/').unwrap_or(("", &full_name));
        let (owner, name) = (owner.to_owned(), name.to_owned());
        let shape = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '~');
        if !full_name.chars().all(shape) || full_name.split('/').any(|part| part.is_empty() || part == "..") {
            return Err("repository.full_name is not a repository's name".to_owned());
        }
        Ok(DeliveryRepo {
            owner,
            name,
            default_branch: self.text("/repository/default_branch")?,
            html_url: self.text("/repository/html_url")?,
            clone_url: self.text("/repository/clone_url")?,
            git_url: self.text("/repository/git_url")?,
            ssh_url: self.text("/repository/ssh_url")?,
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

fn ref_type(name: &str) -> String {
    match name {
        _ if name.starts_with("refs/heads/") => "branch".to_owned(),
        _ if name.starts_with("refs/tags/") => "tag".to_owned(),
        _ => String::new(),
    }
}

/// `git check-ref-format`.
fn is_ref(name: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    !name.chars().any(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn refs() {
        for good in ["refs/heads/main", "refs/heads/Feature/ä-1", "refs/tags/v1.0"] {
            assert!(is_ref(good), "{good}");
        }
        for bad in [
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads//a",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a\n",
        ] {
            assert!(!is_ref(bad), "{bad:?}");
        }
    }

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
