//! `windlass cp`: the artifacts of a run, copied into a directory. Reads the places that the status names: the built-in
//! store of this home, or a server that this machine can reach, with the Secrets that the place names.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Secret as SecretObject;
use kube::Api;
use serde_json::Value;
use windlass_artifacts::location::{Location, SecretRef, secret_refs};
use windlass_artifacts::store::{Content, LocalStore};
use windlass_artifacts::{Cancel, Outside, Secret};
use windlass_engine::repository::Repository;
use windlass_model::artifact::{Artifact, ArtifactLocation, LocalArtifact};
use windlass_model::{NodeStatus, Workflow};

use crate::cli::{CopyArgs, RemapArgs};
use crate::connect::{Connection, connect};
use crate::home::Home;
use crate::names::Names;
use crate::objects;
use crate::start::Session;

pub(super) async fn run(session: &Session, args: CopyArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let name = objects::resolve(&connection, &args.name).await?;
    let wf = objects::read_or_archived(&connection, &name).await?;
    let places = Places::of(session, &args.names, &wf)?;
    let found = chosen(&wf, &args);
    if found.is_empty() {
        bail!("workflow {name} has no such artifacts: `windlass get {name} -o wide` shows what its nodes made");
    }
    for (node, artifact) in found {
        let (place, key) = places.find(&connection, artifact).await?;
        let dir = args.to.join(folder(&args, &connection.namespace, &name, node, artifact)?);
        let file = Path::new(&key).file_name().map_or_else(|| artifact.name.clone().into(), ToOwned::to_owned);
        let places = places.clone();
        let copied = tokio::task::spawn_blocking(move || copy(places.open(&place)?, &dir, &file));
        let path = copied.await?.with_context(|| format!("artifact {} of {}", artifact.name, node.display_name))?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the artifacts of one run are, and how they are reached.
#[derive(Clone)]
pub(super) struct Places {
    store: Option<PathBuf>,
    outside: Outside,
    repository: ArtifactLocation,
}

impl Places {
    pub(super) fn of(session: &Session, names: &RemapArgs, wf: &Workflow) -> Result<Self> {
        let home = Home::find(session.global.home.as_deref())?;
        let outside = Names::read(names, &home)?.outside()?;
        let elsewhere = session.global.kubeconfig.is_some() || session.global.context.is_some();
        let store = (!elsewhere).then(|| home.artifacts());
        Ok(Self { store, outside, repository: repository(wf) })
    }

    /// The place of an artifact, with its Secrets, and its key.
    pub(super) async fn find(&self, c: &Connection, artifact: &Artifact) -> Result<(Location, String)> {
        let mut location = artifact.location();
        location.relocate(&self.repository);
        let key = location.key().unwrap_or_default().to_owned();
        let mut placed = artifact.clone();
        placed.set_location(location);
        let value = serde_json::to_value(&placed)?;
        let secrets = secrets(c, &value).await?;
        let place = Location::parse(&value, &|r: &SecretRef| secrets.get(&(r.name.clone(), r.key.clone())).cloned())?;
        Ok((place, key))
    }

    /// Opens it; this may take its time.
    pub(super) fn open(&self, place: &Location) -> Result<Content> {
        let store = match (place, self.store.as_deref()) {
            (Location::Local { .. }, None) => bail!("it is in the built-in store of another machine"),
            (_, Some(dir)) => LocalStore::look(dir).context("the built-in store cannot be read")?,
            // It is not asked for anything.
            (_, None) => LocalStore::look(Path::new("."))?,
        };
        Ok(place.driver(&store, &self.outside)?.load(&Cancel::new())?)
    }
}

/// The run's own repository; the built-in store where none is said.
fn repository(wf: &Workflow) -> ArtifactLocation {
    let reference = wf.status.as_ref().and_then(|s| s.artifact_repository_ref.as_ref());
    reference.and_then(Repository::of_status).map_or_else(
        || ArtifactLocation { local: Some(LocalArtifact::default()), ..ArtifactLocation::default() },
        |r| r.location,
    )
}

fn chosen<'w>(wf: &'w Workflow, args: &CopyArgs) -> Vec<(&'w NodeStatus, &'w Artifact)> {
    let fits = |wanted: &Option<String>, have: &str| wanted.as_ref().is_none_or(|w| w == have);
    let nodes = wf.status.iter().flat_map(|s| s.nodes.values());
    nodes
        .filter(|n| fits(&args.node_id, &n.id) && fits(&args.template_name, template(n)))
        .flat_map(|n| n.outputs.iter().flat_map(|o| &o.artifacts).map(move |a| (n, a)))
        .filter(|(_, a)| fits(&args.artifact_name, &a.name))
        .collect()
}

fn template(node: &NodeStatus) -> &str {
    let other = node.template_ref.as_ref().map(|r| r.template.as_str());
    other.or(node.template_name.as_deref()).unwrap_or_default()
}

/// The folder within the directory; never out of it.
fn folder(args: &CopyArgs, namespace: &str, name: &str, node: &NodeStatus, artifact: &Artifact) -> Result<PathBuf> {
    let path = args
        .path
        .replace("{namespace}", namespace)
        .replace("{workflowName}", name)
        .replace("{nodeId}", &node.id)
        .replace("{templateName}", template(node))
        .replace("{artifactName}", &artifact.name);
    let path = PathBuf::from(path);
    if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        bail!("--path {}: it must stay within the directory", path.display());
    }
    Ok(path)
}

async fn secrets(c: &Connection, artifact: &Value) -> Result<HashMap<(String, String), Secret>> {
    let api: Api<SecretObject> = Api::namespaced(c.client.clone(), &c.namespace);
    let mut found = HashMap::new();
    for SecretRef { name, key } in secret_refs(artifact) {
        let object = api.get(&name).await.with_context(|| format!("the artifact's Secret {name}"))?;
        if let Some(value) = object.data.as_ref().and_then(|d| d.get(&key)) {
            found.insert((name, key), Secret::new(value.0.clone()));
        }
    }
    Ok(found)
}

fn copy(content: Content, dir: &Path, file: &std::ffi::OsStr) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut path = dir.join(file);
    let mut from: Box<dyn Read + Send> = match content {
        Content::File(from) => from,
        Content::Tree(from) => {
            path.as_mut_os_string().push(".tar");
            from
        }
    };
    let mut to = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    std::io::copy(&mut from, &mut to)?;
    Ok(path)
}
