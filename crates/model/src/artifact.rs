//! Artifacts and where they live: Argo's drivers, and `local`, the store that is built in. Never moves a byte.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::null_as_default;

/// One key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct SecretKeySelector {
    /// The Secret's name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The key in it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

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

/// A key in the built-in artifact store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct LocalArtifact {
    /// The key.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub key: String,
}

/// Text written in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct RawArtifact {
    /// The text.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub data: String,
}

/// An S3 object or prefix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct S3Artifact {
    /// Host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether to speak plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// The access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_secret: Option<SecretKeySelector>,
    /// The secret key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_secret: Option<SecretKeySelector>,
    /// A session token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token_secret: Option<SecretKeySelector>,
    /// A role to assume.
    #[serde(rename = "roleARN", skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Whether credentials come from the environment.
    #[serde(rename = "useSDKCreds", skip_serializing_if = "Option::is_none")]
    pub use_sdk_creds: Option<bool>,
    /// Whether to make the bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_bucket_if_not_present: Option<CreateBucketOptions>,
    /// Encryption on the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_options: Option<S3EncryptionOptions>,
    /// An own certificate authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKeySelector>,
    /// `path`, `virtual-hosted` or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressing_style: Option<String>,
    /// The form of keys (repositories only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_format: Option<String>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// How to make a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct CreateBucketOptions {
    /// With object locking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_locking: Option<bool>,
}

/// Encryption on the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct S3EncryptionOptions {
    /// A KMS key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    /// Its context, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_encryption_context: Option<String>,
    /// Whether to encrypt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_encryption: Option<bool>,
    /// An own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_side_customer_key_secret: Option<SecretKeySelector>,
}

/// A git repository, checked out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct GitArtifact {
    /// Its address.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub repo: String,
    /// Branch, tag or commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The branch of a single-branch clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Whether only that branch is fetched.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub single_branch: bool,
    /// How many commits are fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// More refs to fetch.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub fetch: Vec<String>,
    /// The user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret: Option<SecretKeySelector>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKeySelector>,
    /// A key for ssh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_private_key_secret: Option<SecretKeySelector>,
    /// Whether any host key goes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub insecure_ignore_host_key: bool,
    /// Whether any certificate goes.
    #[serde(
        rename = "insecureSkipTLS",
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub insecure_skip_tls: bool,
    /// Whether submodules are left out.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub disable_submodules: bool,
}

/// An HTTP address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct HttpArtifact {
    /// The address.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Headers of the request.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// How to sign in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<HttpAuth>,
}

/// One header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Header {
    /// Its name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its value.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// How to sign in over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct HttpAuth {
    /// By certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<ClientCertAuth>,
    /// By OAuth2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Auth>,
    /// By user name and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
}

/// User name and password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret: Option<SecretKeySelector>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKeySelector>,
}

/// A client certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ClientCertAuth {
    /// The certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<SecretKeySelector>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_secret: Option<SecretKeySelector>,
}

/// OAuth2 client credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct OAuth2Auth {
    /// The client's id.
    #[serde(rename = "clientIDSecret", skip_serializing_if = "Option::is_none")]
    pub client_id_secret: Option<SecretKeySelector>,
    /// The client's secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_secret: Option<SecretKeySelector>,
    /// Where tokens come from.
    #[serde(rename = "tokenURLSecret", skip_serializing_if = "Option::is_none")]
    pub token_url_secret: Option<SecretKeySelector>,
    /// Scopes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// More parameters.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub endpoint_params: Vec<OAuth2EndpointParam>,
}

/// One parameter of a token request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct OAuth2EndpointParam {
    /// Its name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Its value.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// A Google Cloud Storage object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct GcsArtifact {
    /// The bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The key of a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_key_secret: Option<SecretKeySelector>,
    /// The form of keys (repositories only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_format: Option<String>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// An Azure blob.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct AzureArtifact {
    /// The account's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The account's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_key_secret: Option<SecretKeySelector>,
    /// Whether credentials come from the environment.
    #[serde(rename = "useSDKCreds", skip_serializing_if = "Option::is_none")]
    pub use_sdk_creds: Option<bool>,
    /// The form of names (repositories only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob_name_format: Option<String>,
    /// The blob's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
}

/// An Alibaba Cloud object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct OssArtifact {
    /// The endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_secret: Option<SecretKeySelector>,
    /// The secret key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_secret: Option<SecretKeySelector>,
    /// Whether to make the bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_bucket_if_not_present: Option<bool>,
    /// A token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_token: Option<String>,
    /// When objects age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle_rule: Option<OssLifecycleRule>,
    /// Whether credentials come from the environment.
    #[serde(rename = "useSDKCreds", skip_serializing_if = "Option::is_none")]
    pub use_sdk_creds: Option<bool>,
    /// The form of keys (repositories only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_format: Option<String>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// When objects age.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct OssLifecycleRule {
    /// Days to cold storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark_infrequent_access_after_days: Option<i32>,
    /// Days to deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark_deletion_after_days: Option<i32>,
}

/// A Hadoop file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct HdfsArtifact {
    /// Name nodes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The form of paths (repositories only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_format: Option<String>,
    /// Whether to overwrite.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hdfs_user: Option<String>,
    /// Protection of transfers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_transfer_protection: Option<String>,
    /// A Kerberos cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub krb_c_cache_secret: Option<SecretKeySelector>,
    /// A Kerberos keytab.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub krb_keytab_secret: Option<SecretKeySelector>,
    /// The Kerberos user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub krb_username: Option<String>,
    /// The realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub krb_realm: Option<String>,
    /// The Kerberos configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub krb_config_config_map: Option<SecretKeySelector>,
    /// The principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub krb_service_principal_name: Option<String>,
}

/// A JFrog Artifactory address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ArtifactoryArtifact {
    /// The address.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret: Option<SecretKeySelector>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKeySelector>,
    /// The form of keys (repositories only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_format: Option<String>,
}

/// A driver outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct PluginArtifact {
    /// The plugin's name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// How long to wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_timeout_seconds: Option<i32>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
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
