//! Where an artifact lives, whichever driver it is of: its key, whether it says enough to be found, and what it takes
//! from a repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::drivers::{
    ArtifactoryArtifact, AzureArtifact, GcsArtifact, GitArtifact, HdfsArtifact, HttpArtifact, LocalArtifact,
    OssArtifact, PluginArtifact, RawArtifact, S3Artifact,
};

/// Where an artifact lives: at most one driver is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ArtifactLocation {
    /// Whether logs are kept as artifacts (locations of logs only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_logs: Option<bool>,
    /// Windlass' own store, on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalArtifact>,
    /// An S3 bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Artifact>,
    /// A git repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitArtifact>,
    /// An HTTP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpArtifact>,
    /// Text written in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawArtifact>,
    /// A Google Cloud Storage bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsArtifact>,
    /// An Azure blob container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureArtifact>,
    /// An Alibaba Cloud bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oss: Option<OssArtifact>,
    /// A Hadoop file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hdfs: Option<HdfsArtifact>,
    /// A JFrog Artifactory address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifactory: Option<ArtifactoryArtifact>,
    /// A driver outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginArtifact>,
}

impl ArtifactLocation {
    /// Whether a driver is named at all, complete or not.
    pub fn has_driver(&self) -> bool {
        self.local.is_some()
            || self.s3.is_some()
            || self.git.is_some()
            || self.http.is_some()
            || self.raw.is_some()
            || self.gcs.is_some()
            || self.azure.is_some()
            || self.oss.is_some()
            || self.hdfs.is_some()
            || self.artifactory.is_some()
            || self.plugin.is_some()
    }

    /// Whether the location says enough to be found (Argo's rules, driver by driver).
    pub fn has_location(&self) -> bool {
        let set = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
        self.local.as_ref().is_some_and(|l| !l.key.is_empty())
            || self.s3.as_ref().is_some_and(|s| set(&s.endpoint) && set(&s.bucket) && set(&s.key))
            || self.git.as_ref().is_some_and(|g| !g.repo.is_empty())
            || self.http.as_ref().is_some_and(|h| !h.url.is_empty())
            || self.raw.is_some()
            || self.gcs.as_ref().is_some_and(|g| set(&g.bucket) && set(&g.key))
            || self.azure.as_ref().is_some_and(|a| set(&a.endpoint) && set(&a.container) && set(&a.blob))
            || self.oss.as_ref().is_some_and(|a| set(&a.endpoint) && set(&a.bucket) && set(&a.key))
            || self.hdfs.as_ref().is_some_and(|h| !h.addresses.is_empty())
            || self.artifactory.as_ref().is_some_and(|a| a.username_secret.is_some())
            || self.plugin.as_ref().is_some_and(|p| !p.name.is_empty() && set(&p.configuration) && set(&p.key))
    }

    /// The key under which the artifact is stored, for drivers that have one.
    pub fn key(&self) -> Option<&str> {
        if let Some(l) = &self.local {
            return Some(&l.key);
        }
        if let Some(s) = &self.s3 {
            return s.key.as_deref();
        }
        if let Some(g) = &self.gcs {
            return g.key.as_deref();
        }
        if let Some(a) = &self.azure {
            return a.blob.as_deref();
        }
        if let Some(a) = &self.oss {
            return a.key.as_deref();
        }
        if let Some(h) = &self.hdfs {
            return h.path.as_deref();
        }
        if let Some(a) = &self.artifactory {
            return Some(&a.url);
        }
        if let Some(h) = &self.http {
            return Some(&h.url);
        }
        self.plugin.as_ref().and_then(|p| p.key.as_deref())
    }

    /// Sets the key, for drivers that have one; answers whether there was such a driver.
    pub fn set_key(&mut self, key: &str) -> bool {
        if let Some(l) = &mut self.local {
            l.key = key.to_owned();
        } else if let Some(s) = &mut self.s3 {
            s.key = Some(key.to_owned());
        } else if let Some(g) = &mut self.gcs {
            g.key = Some(key.to_owned());
        } else if let Some(a) = &mut self.azure {
            a.blob = Some(key.to_owned());
        } else if let Some(a) = &mut self.oss {
            a.key = Some(key.to_owned());
        } else if let Some(h) = &mut self.hdfs {
            h.path = Some(key.to_owned());
        } else if let Some(a) = &mut self.artifactory {
            a.url = key.to_owned();
        } else if let Some(h) = &mut self.http {
            h.url = key.to_owned();
        } else if let Some(p) = &mut self.plugin {
            p.key = Some(key.to_owned());
        } else {
            return false;
        }
        true
    }

    /// Leaves only the key, where all the rest is what the repository says: so Argo writes it in node tables.
    pub fn reduce(&mut self, repository: &ArtifactLocation) {
        let Some(key) = self.key().map(str::to_owned) else { return };
        let mut whole = ArtifactLocation { archive_logs: self.archive_logs, ..repository.clone() };
        if !whole.set_key(&key) || whole != *self {
            return;
        }
        // An address is its own key.
        self.s3 = self.s3.take().map(|_| S3Artifact::default());
        self.gcs = self.gcs.take().map(|_| GcsArtifact::default());
        self.azure = self.azure.take().map(|_| AzureArtifact::default());
        self.oss = self.oss.take().map(|_| OssArtifact::default());
        self.plugin = self.plugin.take().map(|_| PluginArtifact::default());
        self.set_key(&key);
    }

    /// Fills what a key-only location leaves out from the repository.
    ///
    /// A key-only `s3` against another kind of repository becomes that kind with the same key, as Argo does.
    pub fn relocate(&mut self, repository: &ArtifactLocation) {
        if self.has_location() {
            return;
        }
        // Whether logs are kept is not about this artifact.
        let repository = ArtifactLocation { archive_logs: self.archive_logs, ..repository.clone() };
        if !self.has_driver() {
            *self = repository;
            return;
        }
        let Some(key) = self.key().map(str::to_owned) else { return };
        let mut filled = repository;
        if filled.set_key(&key) {
            *self = filled;
        }
    }
}
