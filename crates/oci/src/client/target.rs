//! What a request is about, and by which name people know it: a rule may have led to another place, and messages and
//! credentials must not tell or use that one's name.

use super::{Credential, DockerConfig};
use crate::{Reference, Result};

/// What a request is about: for credentials and for messages.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) registry: String,
    pub(super) repository: String,
    /// Registry and repository as the image was named, where a rule sent the request elsewhere.
    pub(super) named: Option<(String, String)>,
    /// The token scopes, `repository:app:pull`.
    pub(super) scopes: Vec<String>,
}

impl Target {
    /// A request about `named`, sent to `place`.
    pub(super) fn new(named: &Reference, place: &Reference, actions: &str) -> Self {
        let repository = place.repository().to_owned();
        let scopes = vec![format!("repository:{repository}:{actions}")];
        let moved = named.name() != place.name();
        let named = moved.then(|| (named.registry().to_owned(), named.repository().to_owned()));
        Self { registry: place.registry().to_owned(), repository, named, scopes }
    }

    /// The registry and the repository as messages have them: as the image was named. Where a rule leads is in the log.
    pub(super) fn shown(&self) -> (String, String) {
        self.named.clone().unwrap_or_else(|| (self.registry.clone(), self.repository.clone()))
    }

    /// A text of a lower layer without the name that a rule led to.
    pub(super) fn hide(&self, text: &str) -> String {
        let Some((named, _)) = &self.named else { return text.to_owned() };
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        text.replace(&self.registry, named).replace(host.trim_matches(['[', ']']), named)
    }

    /// The credential for it. A mapped registry is known to the step's configuration by its own name; programs are not
    /// asked about it: theirs is the registry that is not asked.
    pub(super) fn credential(&self, config: &DockerConfig) -> Result<Option<Credential>> {
        let Some((registry, repository)) = &self.named else {
            return config.credential(&self.registry, &self.repository);
        };
        match config.written(registry, repository)? {
            Some(found) => Ok(Some(found)),
            None => config.written(&self.registry, &self.repository),
        }
    }
}
