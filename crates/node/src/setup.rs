//! What a Pod needs before its first container: its objects, network, volumes, ServiceAccount token and files. Made once; a
//! part that is missing is named, and tried again.

use crate::agent::Agent;
use crate::claim;
use crate::downward::Surroundings;
use crate::env;
use crate::network::{self, Attachment};
use crate::objects::{self, Found};
use crate::volume::{self, Content, Context, File, Source};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, PodSpec, ServiceAccount};
use kube::api::{Api, PostParams};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use windlass_sandbox::{Mount, Scratch};

/// Where containers find their ServiceAccount.
pub(crate) const ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A Pod that is set up.
pub(crate) struct Setup {
    pub(crate) found: Found,
    pub(crate) pull_secrets: Vec<String>,
    /// By volume name: the directory (or file) on this machine.
    pub(crate) volumes: BTreeMap<String, PathBuf>,
    /// Volumes that nobody may write to.
    pub(crate) readonly: BTreeSet<String>,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) around: Surroundings,
    pub(crate) hostname: String,
    pub(crate) services: Vec<(String, String)>,
    /// Small files of the Pod: on the scratch tmpfs where there is one, gone with the Pod.
    pub(crate) files: Scratch,
    /// The Pod's directory on disk; made by who puts something there.
    pub(crate) directory: PathBuf,
    /// Mounts that every container gets.
    pub(crate) mounts: Vec<Mount>,
    pub(crate) ipc: Option<std::sync::Arc<std::os::fd::OwnedFd>>,
}

/// Why a Pod cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SetupError {
    /// The Event's reason.
    pub(crate) event: &'static str,
    pub(crate) message: String,
    /// No retry can help.
    pub(crate) refused: bool,
}

impl SetupError {
    fn soon(event: &'static str, message: impl ToString) -> Self {
        Self { event, message: message.to_string(), refused: false }
    }
}

fn io(what: &Path) -> impl FnOnce(std::io::Error) -> SetupError + '_ {
    move |error| SetupError::soon("FailedMount", format!("{}: {error}", what.display()))
}

/// Sets `pod` up.
pub(crate) async fn prepare(agent: &Agent, pod: &Pod) -> Result<Setup, SetupError> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let config = agent.config();
    let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".into());
    let named = objects::named(pod);
    let host_network = spec.host_network.unwrap_or(false);
    let find = async {
        let found = objects::find(&config.client, agent.accounts(), pod, &named).await;
        found.map_err(|e| SetupError::soon("FailedMount", e))
    };
    let attach = async {
        let attached = match (host_network, config.policy.host_network) {
            (true, true) => return Ok(None),
            (true, false) => agent.fabric().attach_shared().await,
            (false, _) => agent.fabric().attach().await,
        };
        attached.map(Some).map_err(|e| SetupError::soon("FailedCreatePodSandBox", e))
    };
    let (found, attachment) = tokio::try_join!(find, attach)?;
    let Some(account) = &found.account else {
        let message = format!("serviceaccount {:?} not found in namespace {namespace:?}", named.account);
        return Err(SetupError::soon("FailedMount", message));
    };
    let address = attachment.as_ref().map_or(Ipv4Addr::LOCALHOST, |a| a.address);
    let around = Surroundings {
        node: config.name.clone(),
        host_ip: agent.host_ip().to_string(),
        pod_ip: address.to_string(),
        cpu_milli: agent.capacity().cpu_milli,
        memory_bytes: agent.capacity().memory_bytes,
    };
    let files = config.host.scratch().map_err(|e| SetupError::soon("FailedCreatePodSandBox", e))?;
    let directory = agent.pod_directory(pod);
    let group = spec.security_context.as_ref().and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok());
    let mut services = agent.fabric().service_variables(&namespace, spec.enable_service_links.unwrap_or(true));
    if attachment.is_none() {
        // The addresses of Services are not there in this machine's own network; the API is.
        services = env::api_at(config.api);
    }
    let mut setup = Setup {
        pull_secrets: objects::pull_secrets(pod, &found),
        volumes: BTreeMap::new(),
        readonly: readonly(spec),
        hostname: if host_network { config.name.clone() } else { hostname(pod) },
        services,
        mounts: Vec::new(),
        ipc: None,
        around,
        files,
        directory,
        attachment,
        found: found.clone(),
    };
    let context = Context { pod, around: &setup.around, found: &found, allow: &config.allow_paths };
    let mut sources = Vec::new();
    for wanted in spec.volumes.iter().flatten() {
        let source = context.read(wanted).map_err(|e| SetupError {
            event: "FailedMount",
            refused: e.refused,
            message: e.to_string(),
        })?;
        sources.push((wanted.name.clone(), source));
    }
    for (name, source) in sources {
        let path = setup.volume(agent, pod, account, &name, source, group).await?;
        setup.volumes.insert(name, path);
    }
    setup.system_files(spec, &namespace, host_network)?;
    if automounts(spec, account) && !has_own_token(spec) {
        setup.account_files(agent, pod, account, group).await?;
    }
    if spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len) > 1 {
        // Containers of one Pod share SysV and POSIX IPC.
        setup.ipc = windlass_sandbox::namespaces::ipc().map_err(|e| SetupError::soon("FailedCreatePodSandBox", e)).ok();
    }
    Ok(setup)
}

/// The names of volumes whose claim is used for reading only.
fn readonly(spec: &PodSpec) -> BTreeSet<String> {
    let closed = |v: &&k8s_openapi::api::core::v1::Volume| {
        v.persistent_volume_claim.as_ref().is_some_and(|c| c.read_only == Some(true))
    };
    spec.volumes.iter().flatten().filter(closed).map(|v| v.name.clone()).collect()
}

/// The Pod's host name.
pub(crate) fn hostname(pod: &Pod) -> String {
    let given = pod.spec.as_ref().and_then(|s| s.hostname.clone()).filter(|h| !h.is_empty());
    let name = given.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    // A host name has at most 63 characters and does not end in a dash or dot.
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn automounts(spec: &PodSpec, account: &ServiceAccount) -> bool {
    spec.automount_service_account_token.or(account.automount_service_account_token).unwrap_or(true)
}

/// Whether every container has something of its own at the usual place of the token. Who has nothing gets the Pod's.
fn has_own_token(spec: &PodSpec) -> bool {
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.all(|c| c.volume_mounts.iter().flatten().any(|m| m.mount_path.trim_end_matches('/') == ACCOUNT_DIR))
}

impl Setup {
    /// A directory for small files.
    pub(crate) fn small(&self, name: &str) -> PathBuf {
        self.files.upper().join(name)
    }

    async fn volume(
        &self,
        agent: &Agent,
        pod: &Pod,
        account: &ServiceAccount,
        name: &str,
        source: Source,
        group: Option<u32>,
    ) -> Result<PathBuf, SetupError> {
        match source {
            Source::Empty { memory } => {
                let base = if memory { self.small("memory") } else { self.directory.join("empty") };
                let path = base.join(name);
                volume::empty(&path, group).map_err(io(&path))?;
                Ok(path)
            }
            Source::Files(files) => {
                let path = self.small("volumes").join(name);
                let mut content = Vec::new();
                for file in files {
                    let bytes = match &file.content {
                        Content::Bytes(bytes) => bytes.clone(),
                        Content::Token { audience, expires_s } => {
                            token(agent, pod, account, audience.as_deref(), *expires_s).await?.into_bytes()
                        }
                    };
                    content.push((file, bytes));
                }
                volume::write(&path, &content, group).map_err(io(&path))?;
                Ok(path)
            }
            Source::Claim(claim) => {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
                let path = claim::place(agent, namespace, &claim).await.map_err(|(problem, refused)| {
                    let message = volume::VolumeError { volume: name.to_owned(), problem, refused }.to_string();
                    SetupError { event: "FailedMount", message, refused }
                })?;
                if !path.exists() {
                    volume::empty(&path, group).map_err(io(&path))?;
                }
                Ok(path)
            }
            Source::Host { path, kind } => {
                volume::check_host(&path, &kind).map_err(|e| SetupError::soon("FailedMount", e))?;
                Ok(path)
            }
        }
    }

    fn system_files(&mut self, spec: &PodSpec, namespace: &str, host_network: bool) -> Result<(), SetupError> {
        let directory = self.small("etc");
        std::fs::create_dir_all(&directory).map_err(io(&directory))?;
        let aliases: Vec<(String, Vec<String>)> = spec
            .host_aliases
            .iter()
            .flatten()
            .map(|alias| (alias.ip.clone(), alias.hostnames.clone().unwrap_or_default()))
            .collect();
        let subdomain = spec.subdomain.as_deref().filter(|s| !s.is_empty()).map(|s| (s, namespace));
        let hosts = network::hosts_file(&self.around.pod_ip, &self.hostname, subdomain, &aliases);
        let dns = spec.dns_config.as_ref();
        let list = |values: Option<&Vec<String>>| values.cloned().unwrap_or_default();
        let servers = list(dns.and_then(|d| d.nameservers.as_ref()));
        let searches = list(dns.and_then(|d| d.searches.as_ref()));
        let options: Vec<String> = dns
            .iter()
            .flat_map(|d| d.options.iter().flatten())
            .map(|o| match (&o.name, &o.value) {
                (Some(name), Some(value)) => format!("{name}:{value}"),
                (name, _) => name.clone().unwrap_or_default(),
            })
            .collect();
        let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
        let resolv = match policy {
            "None" => {
                let mut text = servers.iter().map(|s| format!("nameserver {s}\n")).collect::<String>();
                if !searches.is_empty() {
                    text.push_str(&format!("search {}\n", searches.join(" ")));
                }
                if !options.is_empty() {
                    text.push_str(&format!("options {}\n", options.join(" ")));
                }
                text
            }
            "Default" => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            "ClusterFirst" if self.attachment.is_none() => {
                std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
            }
            "ClusterFirst" if host_network => network::node_resolv_conf(),
            _ => network::resolv_conf(namespace, &servers, &searches, &options),
        };
        for (name, text) in [("hosts", hosts), ("resolv.conf", resolv), ("hostname", format!("{}\n", self.hostname))] {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(io(&path))?;
            self.mounts.push(Mount::bind(path, format!("/etc/{name}")));
        }
        Ok(())
    }

    async fn account_files(
        &mut self,
        agent: &Agent,
        pod: &Pod,
        account: &ServiceAccount,
        group: Option<u32>,
    ) -> Result<(), SetupError> {
        let token = token(agent, pod, account, None, 3607).await?;
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let file = |name: &str| File { path: name.into(), mode: 0o644, content: Content::Bytes(Vec::new()) };
        let content = [
            (file("token"), token.into_bytes()),
            (file("ca.crt"), agent.config().ca_pem.clone()),
            (file("namespace"), namespace.into_bytes()),
        ];
        let path = self.small("account");
        volume::write(&path, &content, group).map_err(io(&path))?;
        self.mounts.push(Mount::bind_ro(path, ACCOUNT_DIR));
        Ok(())
    }

    /// The container's environment.
    pub(crate) fn environment(
        &self,
        pod: &Pod,
        container: &k8s_openapi::api::core::v1::Container,
        found: &Found,
    ) -> Result<Vec<(String, String)>, env::ConfigError> {
        env::resolve(pod, container, &self.around, found, &self.services)
    }
}

/// A token of the Pod's ServiceAccount, bound to the Pod: it dies with it.
async fn token(
    agent: &Agent,
    pod: &Pod,
    account: &ServiceAccount,
    audience: Option<&str>,
    expires_s: i64,
) -> Result<String, SetupError> {
    let failed = |error: &dyn std::fmt::Display| {
        let name = account.metadata.name.as_deref().unwrap_or("");
        SetupError::soon("FailedMount", format!("token of serviceaccount {name:?}: {error}"))
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(agent.config().client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: audience.map(str::to_owned).into_iter().collect(),
            expiration_seconds: Some(expires_s.max(600)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let name = account.metadata.name.as_deref().unwrap_or("default");
    /// The part of the answer that matters.
    #[derive(serde::Deserialize)]
    struct Answer {
        status: Option<Issued>,
    }
    #[derive(serde::Deserialize)]
    struct Issued {
        token: String,
    }
    let answer: Answer =
        api.create_subresource("token", name, &PostParams::default(), &request).await.map_err(|e| failed(&e))?;
    answer.status.map(|s| s.token).ok_or_else(|| failed(&"the API gave none"))
}

/// When a Pod that could not be set up is tried again.
pub(crate) fn retry_at(now: Timestamp, attempt: u32) -> Timestamp {
    // A missing object often comes a moment later: first tries are quick, then every two minutes as the kubelet's.
    let seconds = [1, 2, 4, 8, 16, 32, 64, 122][usize::try_from(attempt).unwrap_or(7).min(7)];
    now.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now)
}
