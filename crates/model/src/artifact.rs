//! Artifacts and where they live: Argo's drivers, and `local`, the store that is built in. Never moves a byte.

mod drivers;
mod location;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use drivers::*;
pub use location::ArtifactLocation;

use crate::scalar::null_as_default;

/// Files or a directory that a step takes or makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Artifact {
    /// Its name, unique among a template's inputs or outputs.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it is in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// File mode bits after loading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<i32>,
    /// Whether `mode` goes for everything inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurse_mode: Option<bool>,
    /// A tag that names another step's artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// An expression that gives an artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_expression: Option<String>,
    /// Appended to the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// Also known as `workflow.outputs.artifacts.NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_name: Option<String>,
    /// Whether it may be missing.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// How it is packed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveStrategy>,
    /// Whether garbage collection has removed it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// When it is removed.
    #[serde(rename = "artifactGC", skip_serializing_if = "Option::is_none")]
    pub artifact_gc: Option<ArtifactGc>,
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

impl Artifact {
    /// The location part of the artifact.
    pub fn location(&self) -> ArtifactLocation {
        ArtifactLocation {
            archive_logs: self.archive_logs,
            local: self.local.clone(),
            s3: self.s3.clone(),
            git: self.git.clone(),
            http: self.http.clone(),
            raw: self.raw.clone(),
            gcs: self.gcs.clone(),
            azure: self.azure.clone(),
            oss: self.oss.clone(),
            hdfs: self.hdfs.clone(),
            artifactory: self.artifactory.clone(),
            plugin: self.plugin.clone(),
        }
    }

    /// Replaces the location part of the artifact.
    pub fn set_location(&mut self, location: ArtifactLocation) {
        self.archive_logs = location.archive_logs;
        self.local = location.local;
        self.s3 = location.s3;
        self.git = location.git;
        self.http = location.http;
        self.raw = location.raw;
        self.gcs = location.gcs;
        self.azure = location.azure;
        self.oss = location.oss;
        self.hdfs = location.hdfs;
        self.artifactory = location.artifactory;
        self.plugin = location.plugin;
    }

    /// Whether the artifact says enough to be found.
    pub fn has_location(&self) -> bool {
        self.location().has_location()
    }

    /// Whether a driver is named at all, complete or not.
    pub fn has_driver(&self) -> bool {
        self.location().has_driver()
    }
}

/// How an artifact is packed; `tar` with gzip when nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ArchiveStrategy {
    /// A tar archive, with gzip unless the level is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tar: Option<TarStrategy>,
    /// As it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none: Option<NoneStrategy>,
    /// A zip archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zip: Option<ZipStrategy>,
}

/// A tar archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct TarStrategy {
    /// gzip's level; 0 is none, absent the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
}

/// No packing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NoneStrategy {}

/// A zip archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ZipStrategy {}

/// When artifacts are removed, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ArtifactGc {
    /// `OnWorkflowCompletion`, `OnWorkflowDeletion` or `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Labels and annotations of the pod that removes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<crate::meta::Metadata>,
    /// Its ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
}

/// Which repository a workflow uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ArtifactRepositoryRef {
    /// The ConfigMap; `artifact-repositories` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// The key in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}
