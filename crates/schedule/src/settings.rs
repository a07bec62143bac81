//! What people set about webhooks: where a repository's manifest is, and where their Bitbucket Server answers. Read from
//! the ConfigMap `windlass-webhooks`, key `settings.yaml`. Only words and their meaning; who reads the ConfigMap is not
//! known here.

use serde_json::{Map, Value};
use windlass_lang::yaml::Document;
use windlass_lang::{Diagnostic, Sources, yaml};
use windlass_model::delivery::DeliveryEvent;

use crate::bitbucket;

/// The ConfigMap's name.
pub const CONFIG_MAP: &str = "windlass-webhooks";
/// Its key.
pub const KEY: &str = "settings.yaml";
/// Where a manifest is when nobody says otherwise.
pub const MANIFEST: &str = ".ci/workflow.yaml";

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The manifest's path in repositories that no rule names.
    pub manifest: Option<String>,
    /// Rules by repository; the first that fits counts.
    pub repositories: Vec<Rule>,
    /// The Bitbucket Server that sends webhooks.
    pub bitbucket_server: Option<BitbucketServer>,
}

/// What is different for some repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `owner/name`, where `*` stands for any text without a slash.
    pub name: String,
    /// Only events of this provider.
    pub provider: Option<String>,
    /// The manifest's path.
    pub manifest: Option<String>,
    /// The key that it is read with over ssh. There are no passwords: an event names its URL itself, and could name
    /// another host to send them to.
    pub ssh_private_key: Option<SecretKey>,
}

/// A key of a Secret in the webhooks' namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretKey {
    /// The Secret.
    pub name: String,
    /// Its key.
    pub key: String,
}

/// Where a Bitbucket Server answers. Its payloads do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitbucketServer {
    /// `https://git.example.org`, with its context path where it has one.
    pub url: String,
    /// `ssh://git@git.example.org:7999`.
    pub ssh: String,
}

impl Settings {
    /// Reads the settings' text; with a fault there are none, since half of them would start the wrong thing.
    pub fn parse(text: &str) -> Result<Self, (Vec<Diagnostic>, Sources)> {
        let mut sources = Sources::default();
        let id = sources.add(KEY, text.to_owned());
        let loaded = yaml::load(&sources, id);
        let mut faults = loaded.diagnostics;
        let mut settings = Self::default();
        if let [document] = loaded.documents.as_slice() {
            Reader { document, faults: &mut faults }.settings(&mut settings);
        } else if loaded.documents.len() > 1 {
            faults.push(Diagnostic::error("settings::documents", "the settings are one YAML document"));
        }
        match windlass_lang::diagnostic::has_errors(&faults) {
            true => Err((faults, sources)),
            false => Ok(settings),
        }
    }

    /// The path of an event's manifest; `default` where nothing is set.
    pub fn manifest<'a>(&'a self, event: &DeliveryEvent, default: &'a str) -> &'a str {
        let rule = self.rule(event).and_then(|rule| rule.manifest.as_deref());
        rule.or(self.manifest.as_deref()).unwrap_or(default)
    }

    /// The key that an event's repository is read with over ssh.
    pub fn ssh_private_key(&self, event: &DeliveryEvent) -> Option<&SecretKey> {
        self.rule(event)?.ssh_private_key.as_ref()
    }

    fn rule(&self, event: &DeliveryEvent) -> Option<&Rule> {
        let fits = |rule: &&Rule| {
            rule.provider.as_ref().is_none_or(|provider| *provider == event.provider)
                && matches(&rule.name, &event.repo.full_name)
        };
        self.repositories.iter().find(fits)
    }

    /// Fills what the payload could not say: the URLs of a Bitbucket Server's repository.
    pub fn complete(&self, event: &mut DeliveryEvent) -> Result<(), String> {
        if event.provider != bitbucket::SERVER || !event.repo.clone_url.is_empty() {
            return Ok(());
        }
        let Some(server) = &self.bitbucket_server else {
            return Err(format!(
                "Bitbucket Server's events hold no URL: set bitbucketServer.url in {KEY} of the ConfigMap {CONFIG_MAP}, \
                 and redeliver"
            ));
        };
        let repo = &mut event.repo;
        // A project's key is upper case on the page and lower case in URLs.
        let path = format!("{}/{}.git", repo.owner.to_lowercase(), repo.name);
        repo.clone_url = format!("{}/scm/{path}", server.url);
        repo.git_url.clone_from(&repo.clone_url);
        repo.ssh_url = format!("{}/{path}", server.ssh);
        repo.html_url = match repo.owner.strip_prefix('~') {
            Some(user) => format!("{}/users/{user}/repos/{}", server.url, repo.name),
            None => format!("{}/projects/{}/repos/{}", server.url, repo.owner, repo.name),
        };
        Ok(())
    }
}

/// Whether `*` in a pattern can be filled so that it is the text; no `*` crosses a slash. Forges do not tell the case
/// of names apart.
fn matches(pattern: &str, text: &str) -> bool {
    fn one(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => {
                let end = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
                (0..=end).any(|n| one(rest, &text[n..]))
            }
            Some((byte, rest)) => text.first().is_some_and(|b| b.eq_ignore_ascii_case(byte)) && one(rest, &text[1..]),
        }
    }
    // So many stars only slow things down.
    pattern.bytes().filter(|b| *b == b'*').count() <= 4 && one(pattern.as_bytes(), text.as_bytes())
}

const SSH_KEY: &str = "sshPrivateKeySecret";

struct Reader<'a> {
    document: &'a Document,
    faults: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn fault(&mut self, at: &str, code: &'static str, message: String, help: &str) {
        let fault = Diagnostic::error(code, message).help(help);
        self.faults.push(match self.document.value_span(at) {
            Some(span) => fault.at(span, "here"),
            None => fault,
        });
    }

    fn settings(&mut self, settings: &mut Settings) {
        let Some(root) = self.map("", &self.document.value.clone(), &["manifest", "repositories", "bitbucketServer"])
        else {
            return;
        };
        settings.manifest = root.get("manifest").and_then(|path| self.path("/manifest", path));
        if let Some(server) = root.get("bitbucketServer")
            && let Some(server) = self.map("/bitbucketServer", server, &["url", "ssh"])
        {
            settings.bitbucket_server = self.server(&server);
        }
        match root.get("repositories") {
            None | Some(Value::Null) => {}
            Some(Value::Array(rules)) => {
                for (index, rule) in rules.iter().enumerate() {
                    let at = format!("/repositories/{index}");
                    settings.repositories.extend(self.rule(&at, rule));
                }
            }
            Some(_) => {
                let help = "write `repositories:` and below it `- name: owner/name`";
                self.fault("/repositories", "settings::type", "repositories is not a list".to_owned(), help);
            }
        }
    }

    fn map(&mut self, at: &str, value: &Value, known: &[&str]) -> Option<Map<String, Value>> {
        let Value::Object(map) = value else {
            if !value.is_null() {
                self.fault(at, "settings::type", "this is not a map".to_owned(), &known.join(", "));
            }
            return None;
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let help = format!("known here: {}", known.join(", "));
            self.fault(&format!("{at}/{key}"), "settings::unknown-field", format!("there is no setting {key}"), &help);
        }
        Some(map.clone())
    }

    fn text(&mut self, at: &str, value: Option<&Value>) -> Option<String> {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(_) => {
                self.fault(at, "settings::type", "this is not a text".to_owned(), "write it in quotes");
                None
            }
        }
    }

    fn path(&mut self, at: &str, value: &Value) -> Option<String> {
        let path = self.text(at, Some(value))?;
        let inside = !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !inside {
            let message = format!("`{path}` is not a path inside a repository");
            self.fault(at, "settings::path", message, "write it from the repository's root: argo.yml");
            return None;
        }
        Some(path)
    }

    fn rule(&mut self, at: &str, value: &Value) -> Option<Rule> {
        let map = self.map(at, value, &["name", "provider", "manifest", SSH_KEY])?;
        let name = self.text(&format!("{at}/name"), map.get("name"));
        let manifest = map.get("manifest").and_then(|path| self.path(&format!("{at}/manifest"), path));
        let provider = self.text(&format!("{at}/provider"), map.get("provider"));
        let ssh_private_key = self.secret(&format!("{at}/{SSH_KEY}"), map.get(SSH_KEY));
        let has = |fields: &[&str]| fields.iter().any(|field| map.contains_key(*field));
        for (field, missing) in [("name", !has(&["name"])), ("manifest", !has(&["manifest", SSH_KEY]))] {
            if missing {
                let help = "a rule is {name: owner/name, manifest: argo.yml}";
                self.fault(at, "settings::missing-field", format!("a rule needs {field}"), help);
            }
        }
        const PROVIDERS: [&str; 3] = ["github", bitbucket::CLOUD, bitbucket::SERVER];
        if let Some(other) = provider.as_deref().filter(|p| !PROVIDERS.contains(p)) {
            let help = format!("providers are {}", PROVIDERS.join(", "));
            self.fault(&format!("{at}/provider"), "settings::provider", format!("`{other}` is no provider"), &help);
        }
        Some(Rule { name: name?, provider, manifest, ssh_private_key })
    }

    fn secret(&mut self, at: &str, value: Option<&Value>) -> Option<SecretKey> {
        let map = self.map(at, value?, &["name", "key"])?;
        let name = self.text(&format!("{at}/name"), map.get("name"));
        let key = self.text(&format!("{at}/key"), map.get("key"));
        let found = name.zip(key).map(|(name, key)| SecretKey { name, key });
        if found.is_none() {
            let message = "a Secret is named by name and key".to_owned();
            self.fault(at, "settings::missing-field", message, "write {name: bitbucket-creds, key: id_rsa}");
        }
        found
    }

    fn server(&mut self, map: &Map<String, Value>) -> Option<BitbucketServer> {
        let url = self.text("/bitbucketServer/url", map.get("url"));
        let ssh = self.text("/bitbucketServer/ssh", map.get("ssh"));
        let Some(url) = url else {
            let help = "write the address of its pages: https://git.example.org";
            self.fault("/bitbucketServer", "settings::missing-field", "bitbucketServer needs url".to_owned(), help);
            return None;
        };
        let url = url.trim_end_matches('/').to_owned();
        let rest = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "https" | "http" | "file"));
        let Some((_, rest)) = rest else {
            let message = format!("`{url}` is no address");
            self.fault("/bitbucketServer/url", "settings::url", message, "it begins with https://");
            return None;
        };
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        let ssh = ssh.map_or_else(|| format!("ssh://git@{host}:7999"), |ssh| ssh.trim_end_matches('/').to_owned());
        Some(BitbucketServer { url, ssh })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("acme/app", "acme/app", true),
            ("Acme/App", "acme/app", true),
            ("acme/*", "acme/app", true),
            ("*/*", "acme/app", true),
            ("*", "acme/app", false),
            ("acme/*-api", "acme/shop-api", true),
            ("acme/*-api", "acme/shop", false),
            ("acme/app", "acme/app2", false),
            ("*****/app", "acme/app", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
