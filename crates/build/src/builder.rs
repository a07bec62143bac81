//! The builder's door: a request in, an image out. Decides which stages are needed and lets them run side by side; what a
//! stage does is in `stage.rs`, where the image goes in `output.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use windlass_lang::{Diagnostic, Sources, Span, suggest::nearest};
use windlass_oci::client::{Client, ClientOptions};
use windlass_oci::media::Compression;
use windlass_oci::{Digest, Family, Image, Platform, Reference, Store};
use windlass_sandbox::{Host, Network};

use crate::cache::Cache;
use crate::dockerfile::{self, Dockerfile, Kind};
use crate::error::{BuildError, Doing, Fault};
use crate::shop::{Base, Shop};
use crate::stage::{Stage, StageFuture};
use crate::{Context, Ignore, Log, expand, output};

/// Builds images. Cheap to clone; builds run side by side.
#[derive(Clone)]
pub struct Builder {
    host: Host,
    store: Store,
    pull: ClientOptions,
    push: ClientOptions,
    cache: PathBuf,
}

/// What to build.
#[derive(Clone)]
pub struct Request {
    /// The directory that `COPY` and `ADD` read.
    pub context: Context,
    /// What the Dockerfile is called.
    pub dockerfile_name: String,
    /// Its text.
    pub dockerfile: String,
    /// The text that decides instead of the context's `.dockerignore` (`Dockerfile.dockerignore`).
    pub dockerignore: Option<String>,
    /// Build arguments.
    pub build_args: Vec<(String, String)>,
    /// Stop at this stage, by name or number.
    pub target: Option<String>,
    /// Where the image is pushed, in this order.
    pub destinations: Vec<Reference>,
    /// Names that it gets in the local store.
    pub names: Vec<Reference>,
    /// Labels of the result.
    pub labels: Vec<(String, String)>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Use the layer cache.
    pub cache: bool,
    /// One layer for everything that the last stage does.
    pub single_snapshot: bool,
    /// Times of new layers and of the image are at most this, in seconds since 1970.
    pub epoch: Option<i64>,
    /// The media types; those of the base where not given.
    pub family: Option<Family>,
    /// How new layers are compressed.
    pub compression: Compression,
    /// Ask each destination before the build whether it may be pushed to.
    pub check_push: bool,
    /// Opens the network of `RUN`; asked once, when the first one starts. Without, there is loopback only.
    pub network: Option<OpenNetwork>,
    /// Where output goes.
    pub log: Log,
    /// Set to stop the build.
    pub cancel: watch::Receiver<bool>,
}

impl Request {
    /// A build of this Dockerfile over this context, with the defaults: cached, no network, nowhere pushed to.
    pub fn new(context: Context, dockerfile_name: impl Into<String>, dockerfile: impl Into<String>) -> Self {
        let (sender, cancel) = watch::channel(false);
        drop(sender);
        Self {
            context,
            dockerfile_name: dockerfile_name.into(),
            dockerfile: dockerfile.into(),
            dockerignore: None,
            build_args: Vec::new(),
            target: None,
            destinations: Vec::new(),
            names: Vec::new(),
            labels: Vec::new(),
            annotations: BTreeMap::new(),
            cache: true,
            single_snapshot: false,
            epoch: None,
            family: None,
            compression: Compression::Gzip,
            check_push: true,
            network: None,
            log: Log::none(),
            cancel,
        }
    }
}

/// Opens a network for the commands of one build.
pub type OpenNetwork = Arc<dyn Fn() -> BoxFuture<'static, Opened> + Send + Sync>;

/// The network of a build's commands.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The namespace.
    pub network: Network,
    /// The `/etc/resolv.conf` within.
    pub resolv_conf: String,
}

impl Opened {
    /// Loopback only.
    pub fn none() -> Self {
        Self { network: Network::None, resolv_conf: String::new() }
    }
}

/// A built image.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image, in the local store.
    pub image: Image,
    /// Where it was pushed, with the digest that the name has there.
    pub pushed: Vec<(Reference, Digest)>,
    /// Steps that changed the root filesystem, or could have.
    pub steps: usize,
    /// Those of them that the cache answered.
    pub cached: usize,
}

impl Built {
    /// The image's digest.
    pub fn digest(&self) -> &Digest {
        self.image.digest()
    }
}

/// Arguments that are known without being declared, and that no cache key depends on.
pub(crate) const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

impl Builder {
    /// A builder on this host and store. `cache` is a directory for the records of the layer cache.
    pub fn new(host: Host, store: Store, client: ClientOptions, cache: impl Into<PathBuf>) -> Self {
        Self { host, store, pull: client.clone(), push: client, cache: cache.into() }
    }

    /// The same builder that reaches registries in another way when it pushes.
    #[must_use]
    pub fn with_push(mut self, client: ClientOptions) -> Self {
        self.push = client;
        self
    }

    /// Builds, and pushes to each destination.
    pub async fn build(&self, request: Request) -> Result<Built, BuildError> {
        let begun = Instant::now();
        let mut sources = Sources::default();
        let source = sources.add(&request.dockerfile_name, &request.dockerfile);
        let (file, mut diagnostics) = dockerfile::parse(&request.dockerfile, source);
        let ignore = self.ignore(&request, &mut diagnostics);
        let platform_args = platform_args();
        let build_args: BTreeMap<String, String> = request.build_args.iter().cloned().collect();
        let globals = globals(&file, &build_args, &platform_args, &mut diagnostics);
        let bases = bases(&file, &globals, &platform_args, &mut diagnostics);
        let target = self.target(&file, request.target.as_deref(), &mut diagnostics);
        forward_references(&file, &mut diagnostics);
        let unknown = undeclared(&file, &build_args);
        let (Some(target), false) = (target, windlass_lang::diagnostic::has_errors(&diagnostics)) else {
            return Err(BuildError::Invalid { diagnostics, sources });
        };
        for name in unknown {
            request.log.line(format!("warning: build argument {name} was given, and no ARG takes it"));
        }

        let output = |doing: &str, cause: Fault| BuildError::Output { doing: doing.to_owned(), cause };
        let pull =
            Client::new(self.store.clone(), self.pull.clone()).map_err(|e| output("prepare pulling", e.into()))?;
        let push =
            Client::new(self.store.clone(), self.push.clone()).map_err(|e| output("prepare pushing", e.into()))?;
        if request.check_push {
            for destination in &request.destinations {
                let doing = format!("check the right to push to {destination}");
                push.check_push(destination).await.map_err(|e| output(&doing, e.into()))?;
            }
        }

        let needed = needed(&file, &bases, target);
        let counts: Vec<usize> = (0..file.stages.len())
            .map(|at| if needed.contains(&at) { 1 + file.stages[at].instructions.len() } else { 0 })
            .collect();
        let total = counts.iter().sum();
        let ground = self.host.scratch().map_err(|e| output("prepare the build", e.into()))?;
        prepare(ground.upper()).map_err(|e| output("prepare the build", e))?;
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let shop = Arc::new(Shop {
            host: self.host.clone(),
            store: self.store.clone(),
            cache: Cache::new(self.cache.clone(), self.store.clone()),
            client: pull,
            ignore,
            platform_args,
            build_args,
            globals,
            target,
            sources,
            ground,
            network: tokio::sync::OnceCell::new(),
            containers: Semaphore::new(cores),
            file,
            request,
            steps: Default::default(),
            cached: Default::default(),
        });
        let mut running = JoinSet::new();
        let mut stages: Vec<StageFuture> = Vec::new();
        let mut first = 1;
        for (at, base) in bases.into_iter().enumerate() {
            let stage = Stage::new(shop.clone(), at, base, stages.clone(), (first, total));
            first += counts[at];
            let future = stage.build().boxed().shared();
            if needed.contains(&at) {
                running.spawn(future.clone());
            }
            stages.push(future);
        }
        // The first fault is the one that counts; what else runs ends with `running`.
        while let Some(ended) = running.join_next().await {
            if let Ok(Err(error)) = ended {
                return Err(error);
            }
        }
        let finished = stages[target].clone().await?;
        let image = output::commit(&shop, &finished).await.map_err(|e| output("put the image together", e))?;
        let request = &shop.request;
        let (steps, cached) = shop.counts();
        let ms = begun.elapsed().as_millis();
        request.log.line(format!("Built {} in {ms} ms, {cached} of {steps} steps from the cache", image.digest()));
        let mut pushed = Vec::new();
        for destination in &request.destinations {
            let digest = output::push(&push, &image, destination, &finished)
                .await
                .map_err(|e| output(&format!("push to {destination}"), e))?;
            request.log.line(format!("Pushed {}@{digest}", destination.name()));
            pushed.push((destination.clone(), digest));
        }
        for stage in needed {
            if let Some(Ok(finished)) = stages[stage].peek() {
                shop.adopt(finished).await;
            }
        }
        Ok(Built { image, pushed, steps, cached })
    }

    fn ignore(&self, request: &Request, diagnostics: &mut Vec<Diagnostic>) -> Ignore {
        let (name, text) = match &request.dockerignore {
            Some(text) => ("the Dockerfile's .dockerignore", text.clone()),
            None => (".dockerignore", request.context.read(Path::new(".dockerignore")).unwrap_or_default()),
        };
        Ignore::parse(&text).unwrap_or_else(|why| {
            diagnostics.push(Diagnostic::error("dockerignore::pattern", format!("{name}: {why}")));
            Ignore::default()
        })
    }

    fn target(&self, file: &Dockerfile, target: Option<&str>, diagnostics: &mut Vec<Diagnostic>) -> Option<usize> {
        let Some(target) = target.filter(|target| !target.is_empty()) else { return file.stages.len().checked_sub(1) };
        let found = file.stage(target, usize::MAX);
        if found.is_none() && !file.stages.is_empty() {
            let names: Vec<&str> = file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            let fault = Diagnostic::error("dockerfile::target", format!("there is no stage `{target}`"));
            diagnostics.push(match nearest(target, names.iter().copied()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None if names.is_empty() => fault.help("no stage of this Dockerfile has a name: number them from 0"),
                None => fault.help(format!("the stages are {}", names.join(", "))),
            });
        }
        found
    }
}

/// Files that containers need, beneath the build's own scratch directory.
fn prepare(ground: &Path) -> Result<(), Fault> {
    crate::run::skeleton(&ground.join("skeleton"))?;
    let empty = ground.join("empty");
    std::fs::create_dir(&empty).doing(|| format!("make {}", empty.display()))?;
    let hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 build\n";
    for (name, text) in [("hosts", hosts), ("hostname", "build\n")] {
        let path = ground.join(name);
        std::fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The arguments that say what is built for what.
fn platform_args() -> BTreeMap<String, String> {
    let platform = Platform::host();
    let mut args = BTreeMap::new();
    for side in ["TARGET", "BUILD"] {
        args.insert(format!("{side}PLATFORM"), platform.to_string());
        args.insert(format!("{side}OS"), platform.os.clone());
        args.insert(format!("{side}ARCH"), platform.architecture.clone());
        args.insert(format!("{side}VARIANT"), platform.variant.clone().unwrap_or_default());
    }
    args
}

/// The `ARG`s before the first `FROM`.
fn globals(
    file: &Dockerfile,
    build_args: &BTreeMap<String, String>,
    platform_args: &BTreeMap<String, String>,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<String, String> {
    let mut globals: BTreeMap<String, String> = BTreeMap::new();
    for arg in &file.globals {
        let known = globals.clone();
        let lookup = |name: &str| known.get(name).or_else(|| platform_args.get(name)).cloned();
        let value = match (build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => match expand(default, file.escape, &lookup) {
                Ok(value) => Some(value),
                Err(fault) => {
                    diagnostics.push(Diagnostic::error("dockerfile::expansion", format!("ARG {}: {fault}", arg.name)));
                    None
                }
            },
            (None, None) => None,
        };
        if let Some(value) = value {
            globals.insert(arg.name.clone(), value);
        }
    }
    globals
}

/// What each stage is based on.
fn bases(
    file: &Dockerfile,
    globals: &BTreeMap<String, String>,
    platform_args: &BTreeMap<String, String>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Base> {
    let lookup = |name: &str| globals.get(name).or_else(|| platform_args.get(name)).cloned();
    let mut bases = Vec::new();
    for (at, stage) in file.stages.iter().enumerate() {
        let fault = |code: &'static str, text: String| Diagnostic::error(code, text).at(stage.span, "");
        let mut platform = Platform::host();
        if let Some(text) = &stage.platform {
            match expand(text, file.escape, &lookup)
                .map_err(|e| e.to_string())
                .and_then(|text| text.parse::<Platform>().map_err(|e| e.to_string()))
            {
                Ok(wanted) if Platform::host().satisfies(&wanted) => platform = wanted,
                Ok(wanted) => diagnostics.push(
                    fault(
                        "dockerfile::platform",
                        format!("this machine is {} and cannot build for {wanted}", Platform::host()),
                    )
                    .help("build it on a machine of that platform"),
                ),
                Err(why) => diagnostics.push(fault("dockerfile::platform", why)),
            }
        }
        let base = match expand(&stage.base, file.escape, &lookup) {
            Err(why) => {
                diagnostics.push(fault("dockerfile::expansion", why.to_string()));
                Base::Scratch
            }
            Ok(name) if name == "scratch" => Base::Scratch,
            Ok(name) => {
                let lower = name.to_lowercase();
                let earlier = file.stages[..at].iter().rposition(|s| s.name.as_deref() == Some(lower.as_str()));
                match (earlier, Reference::parse(&name)) {
                    (Some(stage), _) => Base::Stage(stage),
                    (None, Ok(reference)) => Base::Image(reference, platform),
                    (None, Err(_)) if stage.base.is_empty() => Base::Scratch,
                    (None, Err(why)) => {
                        let help = match name.is_empty() {
                            true => "give the ARG that it is made of a default, or set it with --build-arg",
                            false => "",
                        };
                        let found = fault("dockerfile::image", why.to_string());
                        diagnostics.push(if help.is_empty() { found } else { found.help(help) });
                        Base::Scratch
                    }
                }
            }
        };
        bases.push(base);
    }
    bases
}

/// A `--from` that names a stage which comes later, or its own.
fn forward_references(file: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    for (at, stage) in file.stages.iter().enumerate() {
        for instruction in &stage.instructions {
            let Kind::Copy(copy) = &instruction.kind else { continue };
            let Some(from) = copy.from.as_deref() else { continue };
            if file.stage(from, at).is_some() {
                continue;
            }
            let is_number = from.bytes().all(|b| b.is_ascii_digit()) && !from.is_empty();
            let later = file.stage(from, usize::MAX);
            if later.is_none() && !is_number {
                if !from.contains('$') && Reference::parse(from).is_err() {
                    let fault =
                        Diagnostic::error("dockerfile::from", format!("`{from}` is neither a stage nor an image"));
                    diagnostics.push(fault.at(instruction.span, ""));
                }
                continue;
            }
            let fault = Diagnostic::error("dockerfile::from", format!("no stage before this one is `{from}`"));
            let fault = fault.at(instruction.span, "");
            diagnostics.push(match later {
                Some(later) if later != at => fault.also(file.stages[later].span, "this one comes later"),
                _ => fault,
            });
        }
    }
}

/// The stages that the target needs, itself too.
fn needed(file: &Dockerfile, bases: &[Base], target: usize) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(at) = open.pop() {
        if !needed.insert(at) {
            continue;
        }
        if let Base::Stage(base) = bases[at] {
            open.push(base);
        }
        for instruction in &file.stages[at].instructions {
            if let Kind::Copy(copy) = &instruction.kind
                && let Some(stage) = copy.from.as_deref().and_then(|from| file.stage(from, at))
            {
                open.push(stage);
            }
        }
    }
    needed
}

/// Build arguments that nothing takes.
fn undeclared(file: &Dockerfile, build_args: &BTreeMap<String, String>) -> Vec<String> {
    let mut declared: BTreeSet<&str> = file.globals.iter().map(|arg| arg.name.as_str()).collect();
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        if let Kind::Arg(args) = &instruction.kind {
            declared.extend(args.iter().map(|arg| arg.name.as_str()));
        }
    }
    let known = |name: &&String| {
        !declared.contains(name.as_str())
            && !PROXY_ARGS.contains(&name.as_str())
            && *name != "SOURCE_DATE_EPOCH"
            && !name.starts_with("BUILDKIT_")
    };
    build_args.keys().filter(known).cloned().collect()
}

/// One fault of the Dockerfile that shows only while building.
pub(crate) fn invalid(sources: &Sources, span: Span, code: &'static str, message: impl Into<String>) -> BuildError {
    let diagnostic = Diagnostic::error(code, message).at(span, "");
    BuildError::Invalid { diagnostics: vec![diagnostic], sources: sources.clone() }
}
