//! Steps whose image is kaniko's executor: their command line, over the Pod's own directories, given to our builder. Files
//! that the step could have changed are opened beneath its mounts, never by plain path.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use windlass_build::{BuildError, Builder, Built, Context, Log, Opened, Request, Stream, kaniko::Options};
use windlass_lang::{Sources, render};
use windlass_node::{BuildFailure, BuildRequest, LogSink, PathMap, Place, StepBuilder};
use windlass_oci::client::{ClientOptions, DockerConfig, Remap};
use windlass_oci::{Reference, Store, layout};
use windlass_sandbox::Host;

use super::outward::BuildNetwork;

/// Runs kaniko's command lines.
pub(crate) struct Kaniko {
    host: Host,
    store: Store,
    registries: ClientOptions,
    /// The rules that `registries` were made with: a step's own mirrors come after them.
    remap: Vec<String>,
    cache: PathBuf,
    network: Network,
}

/// The network of a build's commands.
enum Network {
    /// One of its own for each build.
    Own(Arc<BuildNetwork>),
    /// This process's own: a pod's.
    Here,
}

impl Kaniko {
    /// For steps on this host; `cache` keeps the records of the layer cache.
    pub(crate) fn new(host: Host, store: Store, registries: ClientOptions, remap: Vec<String>, cache: PathBuf) -> Self {
        Self { host, store, registries, remap, cache, network: Network::Own(Arc::default()) }
    }

    /// The same, where this process is in the step's own container: its network is the pod's.
    pub(crate) fn in_pod(self) -> Self {
        Self { network: Network::Here, ..self }
    }

    async fn run(&self, request: &BuildRequest) -> Result<(), (i32, String)> {
        let fail = |text: String| (1, text);
        let options = Options::parse(&request.args)
            .map_err(|faults| fail(render(&faults, &Sources::default(), false).trim_end().to_owned()))?;
        for (name, reason) in &options.ignored {
            request.log.err(&format!("--{name} has no effect here: {reason}\n"));
        }
        let prepared = self.prepare(request, &options).await.map_err(fail)?;
        let (builder, build) = prepared;
        let built = builder.build(build).await.map_err(|error| {
            let text = match &error {
                BuildError::Invalid { .. } => error.to_string(),
                _ => format!("error building image: {error}"),
            };
            (error.exit_code(), text)
        })?;
        self.write(request, &options, &built).map_err(fail)
    }

    async fn prepare(&self, request: &BuildRequest, options: &Options) -> Result<(Builder, Request), String> {
        let place = |path: &str| request.paths.place(&request.cwd.join(path));
        // kaniko's own working directory is /workspace.
        let context = options.context.as_deref().unwrap_or("/workspace");
        let context_place = place(context.strip_prefix("dir://").unwrap_or(context));
        let mut context = Context::open_beneath(&context_place.base, &context_place.rest)
            .map_err(|e| format!("the context {context} cannot be opened: {e}"))?;
        if let Some(sub_path) = &options.context_sub_path {
            let opened = context.within(Path::new(sub_path));
            context = opened.map_err(|e| format!("--context-sub-path {sub_path} cannot be opened: {e}"))?;
        }
        let name = options.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned());
        // As given, then within the context.
        let as_given = place(&name);
        let (text, ignore) = match read(&as_given) {
            Ok(text) => {
                let beside = Place { rest: with_suffix(&as_given.rest, ".dockerignore"), ..as_given.clone() };
                (text, read(&beside).ok())
            }
            Err(_) => {
                let text = context.read(Path::new(&name));
                let text = text.map_err(|e| format!("the Dockerfile {name} cannot be read: {e}"))?;
                (text, context.read(&with_suffix(Path::new(&name), ".dockerignore")).ok())
            }
        };
        let mut build = Request::new(context, name, text);
        build.dockerignore = ignore;
        let environment = |name: &str| request.env.iter().find(|(known, _)| known == name).map(|(_, v)| v.clone());
        let arguments = options.build_args.iter();
        build.build_args = arguments
            .map(|(name, value)| (name.clone(), value.clone().or_else(|| environment(name)).unwrap_or_default()))
            .collect();
        let epoch = build.build_args.iter().find(|(name, _)| name == "SOURCE_DATE_EPOCH");
        build.epoch = epoch.and_then(|(_, value)| value.parse().ok()).or(options.reproducible.then_some(0));
        build.target.clone_from(&options.target);
        build.labels.clone_from(&options.labels);
        build.annotations = options.annotations.iter().cloned().collect();
        build.cache = options.cache.unwrap_or(true);
        build.single_snapshot = options.single_snapshot;
        build.family = options.format.map(Into::into);
        build.compression = options.compression.map(Into::into).unwrap_or_default();
        build.check_push = !options.skip_push_check;
        if !options.no_push {
            if matches!(self.network, Network::Here)
                && let Some(nowhere) = options.destinations.iter().find(|d| d.is_local())
            {
                return Err(format!(
                    "{nowhere}: the built-in registry is one machine's; push to one that the cluster reaches"
                ));
            }
            build.destinations.clone_from(&options.destinations);
        }
        build.network = Some(match &self.network {
            Network::Own(network) => network.opener(request.log.clone()),
            Network::Here => Arc::new(|| {
                let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
                Box::pin(async move { Opened { network: windlass_sandbox::Network::Host, resolv_conf } })
            }),
        });
        build.log = log(&request.log);
        build.cancel = request.cancel.clone();

        let credentials = match &request.docker_config {
            Some(bytes) => DockerConfig::parse(bytes).map_err(|e| format!("the docker config.json: {e}"))?,
            None => self.registries.credentials.clone(),
        };
        let mut common = ClientOptions { credentials, ..self.registries.clone() };
        common.insecure.extend(options.insecure_registries.iter().cloned());
        common.skip_tls_verify.extend(options.skip_tls_verify_registries.iter().cloned());
        for (_, path) in &options.certificates {
            let pem = read(&place(path)).map_err(|e| format!("--registry-certificate {path}: {e}"))?;
            common.extra_roots.push(pem.into_bytes());
        }
        let rules = self.remap.iter().chain(&options.maps);
        let pull = ClientOptions {
            insecure_all: options.insecure_pull || common.insecure_all,
            skip_tls_verify_all: options.skip_tls_verify_pull || common.skip_tls_verify_all,
            retries: common.retries.max(options.pull_retry),
            remap: Remap::parse(rules).map_err(|e| e.to_string())?,
            ..common.clone()
        };
        let push = ClientOptions {
            insecure_all: options.insecure || common.insecure_all,
            skip_tls_verify_all: options.skip_tls_verify || common.skip_tls_verify_all,
            retries: common.retries.max(options.push_retry),
            ..common
        };
        let builder = Builder::new(self.host.clone(), self.store.clone(), pull, self.cache.clone()).with_push(push);
        Ok((builder, build))
    }

    /// The files that the step asked for.
    fn write(&self, request: &BuildRequest, options: &Options, built: &Built) -> Result<(), String> {
        let file = |path: &str| create(&request.paths, &request.cwd.join(path)).map_err(|e| format!("{path}: {e}"));
        let text = |path: &str, text: String| {
            file(path)?.write_all(text.as_bytes()).map_err(|e| format!("{path} cannot be written: {e}"))
        };
        let digest = built.digest();
        if let Some(path) = &options.digest_file {
            text(path, digest.to_string())?;
        }
        if let Some(path) = &options.name_digest_file {
            text(path, options.destinations.iter().map(|d| format!("{}@{digest}\n", d.name())).collect())?;
        }
        if let Some(path) = &options.name_tag_digest_file {
            let line = |d: &Reference| format!("{}:{}@{digest}\n", d.name(), d.tag().unwrap_or("latest"));
            text(path, options.destinations.iter().map(line).collect())?;
        }
        if let Some(path) = &options.tar_path {
            let unnamed = Reference::parse("unset-repo/unset-image-name:latest").map_err(|e| e.to_string())?;
            let names = if options.destinations.is_empty() { vec![unnamed] } else { options.destinations.clone() };
            layout::export_docker_archive(&self.store, &built.image, &names, file(path)?).map_err(|e| e.to_string())?;
        }
        if let Some(path) = &options.oci_layout_path {
            // Written where nobody else can reach, and then copied beneath the mount.
            let scratch = self.host.scratch().map_err(|e| e.to_string())?;
            let own = scratch.upper().join("layout");
            layout::export_dir(&self.store, digest, &options.destinations, &own).map_err(|e| e.to_string())?;
            copy_tree(&own, &request.paths, &request.cwd.join(path)).map_err(|e| format!("{path}: {e}"))?;
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl StepBuilder for Kaniko {
    async fn build(&self, request: BuildRequest) -> Result<(), BuildFailure> {
        self.run(&request).await.map_err(|(code, message)| BuildFailure { code, message })
    }
}

fn log(sink: &LogSink) -> Log {
    let sink = sink.clone();
    Log::new(move |stream, text| match stream {
        Stream::Progress => sink.err(&format!("{text}\n")),
        Stream::Out => sink.out(text),
        Stream::Err => sink.err(text),
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

fn open_beneath(base: &File, path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::openat2(base, path, flags | OFlags::CLOEXEC, mode, resolve)?.into())
}

/// A text file at a place; links are followed within its mount only.
fn read(place: &Place) -> io::Result<String> {
    if place.rest.as_os_str().is_empty() {
        // The mount itself is this file: a ConfigMap's key, say.
        return if place.base.is_file() {
            std::fs::read_to_string(&place.base)
        } else {
            Err(io::ErrorKind::NotFound.into())
        };
    }
    let base = File::from(rustix::fs::openat(CWD, &place.base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    let file = open_beneath(&base, &place.rest, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    io::read_to_string(file)
}

/// Makes a file at a path of the container, and the directories above it.
fn create(paths: &PathMap, path: &Path) -> io::Result<File> {
    let place = paths.place(path);
    if place.readonly {
        return Err(io::Error::other("it is on a read-only mount"));
    }
    if place.rest.as_os_str().is_empty() {
        // The mount itself, such as /dev/termination-log.
        return File::options().write(true).truncate(true).open(&place.base);
    }
    let base = File::from(rustix::fs::openat(CWD, &place.base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    let mut above = PathBuf::new();
    for part in place.rest.parent().into_iter().flat_map(Path::components) {
        let directory = open_beneath(&base, &above, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        match rustix::fs::mkdirat(&directory, part.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => above.push(part),
            Err(e) => return Err(e.into()),
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
    let file = open_beneath(&base, &place.rest, flags, Mode::from_raw_mode(0o644))?;
    let own = rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH)?;
    if rustix::fs::FileType::from_raw_mode(own.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Copies a small tree of plain files beneath a path of the container.
fn copy_tree(from: &Path, paths: &PathMap, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), paths, &target)?;
        } else {
            io::copy(&mut File::open(entry.path())?, &mut create(paths, &target)?)?;
        }
    }
    Ok(())
}
