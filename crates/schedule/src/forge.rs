//! What all forges have in common: what a request may mean, and a reader that trusts no payload. Any body gives an event,
//! a reason or a complaint, and never a panic; nothing that was not checked leaves this room.

use serde_json::Value;
use windlass_model::delivery::DeliveryEvent;

/// What a request means.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// Something happened.
    Event(Box<DeliveryEvent>),
    /// Several things happened at once, in this order: each is a delivery of its own.
    Events(Vec<DeliveryEvent>),
    /// The forge asks whether anybody is there.
    Ping,
    /// Authentic, and nothing to do.
    Ignored {
        /// One word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// Not something that the forge sends.
    Invalid {
        /// What is wrong.
        message: String,
    },
}

const TEXT_BYTES_MAX: usize = 1024;

/// The JSON object in a body.
pub(crate) fn payload(body: &[u8]) -> Result<Value, String> {
    let payload: Value = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not JSON: line {}, column {}", error.line(), error.column()))?;
    match payload.is_object() {
        true => Ok(payload),
        false => Err("the body is not a JSON object".to_owned()),
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Parsed {
    Parsed::Invalid { message: message.into() }
}

pub(crate) fn ignored(reason: &'static str, message: impl Into<String>) -> Parsed {
    Parsed::Ignored { reason, message: message.into() }
}

/// Whether an object id is git's "nothing": forty or sixty-four zeros.
pub fn is_zero(id: &str) -> bool {
    matches!(id.len(), 40 | 64) && id.bytes().all(|b| b == b'0')
}

/// A payload, read with suspicion.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a Value);

impl Reader<'_> {
    /// Text at a JSON pointer; empty where it is absent or null.
    pub(crate) fn text(&self, pointer: &str) -> Result<String, String> {
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

    /// Text that must be there.
    pub(crate) fn required(&self, pointer: &str) -> Result<String, String> {
        let text = self.text(pointer)?;
        match text.is_empty() {
            true => Err(format!("{} is missing", pointer.trim_start_matches('/').replace('/', "."))),
            false => Ok(text),
        }
    }

    /// A commit's id.
    pub(crate) fn object_id(&self, pointer: &str, required: bool) -> Result<String, String> {
        let id = if required { self.required(pointer)? } else { self.text(pointer)? };
        if id.is_empty() || (matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Ok(id);
        }
        Err(format!("{} is not a commit id", pointer.trim_start_matches('/').replace('/', ".")))
    }
}

/// `branch` or `tag`.
pub(crate) fn ref_type(name: &str) -> String {
    match name {
        _ if name.starts_with("refs/heads/") => "branch".to_owned(),
        _ if name.starts_with("refs/tags/") => "tag".to_owned(),
        _ => String::new(),
    }
}

/// `git check-ref-format`.
pub(crate) fn is_ref(name: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    !name.chars().any(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}

/// Whether a text can be `owner/name` of a repository, and nothing that walks elsewhere.
pub(crate) fn is_repository(full_name: &str) -> bool {
    let shape = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '~');
    full_name.chars().all(shape) && !full_name.split('/').any(|part| part.is_empty() || part == "..")
}

/// A URL without what somebody wrote before the `@`: an event is stored, shown and copied into annotations, so that it
/// holds no password. The user's name of `ssh://git@host/` stays.
pub(crate) fn without_credentials(url: String) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((user, host)) = rest[..end].rsplit_once('@') else { return url };
    let user = match user.split_once(':') {
        _ if scheme.starts_with("http") => String::new(),
        Some((name, _)) => format!("{name}@"),
        None => format!("{user}@"),
    };
    format!("{scheme}://{user}{host}{}", &rest[end..])
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
}
