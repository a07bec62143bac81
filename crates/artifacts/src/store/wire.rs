//! One cloud's server, and requests to it: each is made anew, signature and all, as often as it is sent, and sent again
//! where that may help. Errors say the name that the user wrote, and the store's own code. It must never print a credential.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::{RequestBuilder, Response};
use url::Url;

use super::StoreError;
use crate::cancel::Cancel;
use crate::outside::{Client, Hidden, Outside, cause};
use crate::remap::Server;

const ATTEMPTS: u32 = 5;
/// The largest answer that is text.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// A server. Clones share the connections.
#[derive(Clone)]
pub(super) struct Wire {
    client: Arc<Client>,
    base: Url,
    shown: String,
    hidden: Hidden,
    help: String,
}

impl Wire {
    /// A way to the server that `base` names, or to the one that stands in for it. `shown` is the location in messages.
    pub(super) fn new(base: &Url, shown: &str, outside: &Outside) -> Result<Self, StoreError> {
        let refuse = |reason| StoreError::BadKey { key: base.to_string(), reason };
        let named = Server {
            secure: base.scheme() == "https",
            host: base.host_str().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase(),
            port: base.port(),
        };
        if !matches!(base.scheme(), "http" | "https") || named.host.is_empty() {
            return Err(refuse("it is no http or https URL"));
        }
        let mapped = outside.map(&named);
        let mut asked = base.clone();
        if let Some(to) = &mapped {
            let to_url = Url::parse(&to.to_string()).map_err(|_| refuse("it is mapped to what is no host"))?;
            let set = asked.set_scheme(to_url.scheme()).and_then(|()| asked.set_port(to.port));
            if set.is_err() || asked.set_host(to_url.host_str()).is_err() {
                return Err(refuse("it is mapped to what is no host"));
            }
        }
        let help = Outside::help(&named, mapped.as_ref());
        let hidden = Hidden::of(&named, mapped.clone());
        let shown = format!("{shown} at {named}");
        let client = outside.client(mapped.as_ref().unwrap_or(&named), None);
        let client = client.map_err(|message| StoreError::Http {
            method: "GET",
            url: shown.clone(),
            message: format!("{}; {help}", hidden.hide(&message)),
            retry: false,
        })?;
        Ok(Self { client: Arc::new(client), base: asked, shown, hidden, help })
    }

    /// The address of a path beneath the server's own; each part is one part of it, whatever is in it.
    pub(super) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Sends until there is a good answer, or no reason to try again. What is not there is [`StoreError::NotFound`].
    pub(super) fn send(
        &self,
        cancel: &Cancel,
        make: &dyn Fn(&reqwest::blocking::Client) -> Result<RequestBuilder, StoreError>,
    ) -> Result<Response, StoreError> {
        let mut attempt = 0;
        loop {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            let request = make(&self.client.http)?;
            let failed = match request.send() {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    let text = self.text(answer).unwrap_or_default();
                    self.fault(status, &text)
                }
                Err(error) => self.unreached(&error),
            };
            attempt += 1;
            if attempt >= ATTEMPTS || !failed.is_retryable() {
                return Err(failed);
            }
            tracing::debug!(location = self.shown, attempt, error = %failed, "asking again");
            std::thread::sleep(Duration::from_millis(100 << attempt));
        }
    }

    fn unreached(&self, error: &reqwest::Error) -> StoreError {
        let text = cause(error);
        let final_word = ["resolved", "TLS", "ertificate"].iter().any(|word| text.contains(word));
        StoreError::Http {
            method: "asking",
            url: self.shown.clone(),
            message: format!("{}; {}", self.hidden.hide(&text), self.help),
            retry: !error.is_timeout() && !final_word,
        }
    }

    /// An answer's text.
    pub(super) fn text(&self, answer: Response) -> Result<String, StoreError> {
        let mut text = Vec::new();
        let read = answer.take(TEXT_BYTES_MAX).read_to_end(&mut text);
        read.map_err(|source| StoreError::Io { key: self.shown.clone(), source })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The store's error document, XML or JSON, or the status alone (HEAD has no body).
    fn fault(&self, status: u16, text: &str) -> StoreError {
        let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let error = &json["error"];
        let told = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let code = first(text, "Code").or_else(|| told(&error["errors"][0]["reason"])).or_else(|| told(error));
        let code = code.unwrap_or_else(|| format!("status {status}"));
        if status == 404 && !matches!(code.as_str(), "NoSuchBucket" | "ContainerNotFound" | "AccountNotFound") {
            return StoreError::NotFound(self.shown.clone());
        }
        let message = first(text, "Message").or_else(|| told(&error["message"]));
        let message = message.or_else(|| told(&json["error_description"])).unwrap_or_else(|| "refused".to_owned());
        StoreError::Refused {
            url: self.shown.clone(),
            status,
            code,
            message: message.lines().next().unwrap_or_default().to_owned(),
            retry: status == 429 || status >= 500,
        }
    }

    /// An answer that is not what was asked for.
    pub(super) fn strange(&self, what: &str) -> StoreError {
        StoreError::Http {
            method: "asking",
            url: self.shown.clone(),
            message: format!("strange: {what}"),
            retry: false,
        }
    }
}

/// The texts of all elements of this name that hold nothing but text, in their order.
pub(super) fn texts(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some((_, after)) = rest.split_once(&open) {
        let Some((text, after)) = after.split_once(&close) else { break };
        found.push(unescaped(text));
        rest = after;
    }
    found
}

/// The first of them.
pub(super) fn first(xml: &str, name: &str) -> Option<String> {
    texts(xml, name).into_iter().next()
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let Some((name, after)) = after.split_once(';') else {
            out.push('&');
            rest = after;
            continue;
        };
        let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        });
        match (name, number.and_then(char::from_u32)) {
            ("amp", _) => out.push('&'),
            ("lt", _) => out.push('<'),
            ("gt", _) => out.push('>'),
            ("quot", _) => out.push('"'),
            ("apos", _) => out.push('\''),
            (_, Some(c)) => out.push(c),
            _ => {
                out.push('&');
                out.push_str(name);
                out.push(';');
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The time as HTTP's headers write it.
pub(super) fn http_date() -> String {
    jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        let xml = "<A><Name>a &amp; b</Name><B><Name>&lt;&#228;&#xe4;&gt;</Name></B><Name>x&y;</Name></A>";
        assert_eq!(texts(xml, "Name"), ["a & b", "<ää>", "x&y;"]);
        assert_eq!(first(xml, "None"), None);
        assert_eq!(texts("<Name>open", "Name"), Vec::<String>::new());
    }

    #[test]
    fn dates() {
        let text = http_date();
        assert!(text.len() == 29 && text.ends_with(" GMT"), "{text}");
    }
}
