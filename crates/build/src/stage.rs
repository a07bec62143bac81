//! One stage: its instructions in order, each on the layers of those before. A step that the cache knows costs no file; from
//! the first one that it does not know on, the upper directories of the steps are stacked as they are, and packed beside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use serde_json::json;
use tokio::sync::Semaphore;
use windlass_lang::Sources;
use windlass_oci::client::{Client, PullOptions};
use windlass_oci::layer::{PackOptions, Time};
use windlass_oci::{Family, Layer, Platform, Reference, Store};
use windlass_sandbox::{Host, Mount, Network, Scratch, User};

use crate::builder::{Opened, PROXY_ARGS, Request, invalid};
use crate::cache::{Cache, Key, Record};
use crate::config::{Config, ports};
use crate::copy::{self, Rules, is_directory_text};
use crate::dockerfile::{Arg, Command, Dockerfile, Instruction, Kind, Run, Transfer, parse_trigger};
use crate::error::{BuildError, Doing, Fault};
use crate::log::Stream;
use crate::output::blocking;
use crate::view::{Owner, View};
use crate::{Ignore, confined, expand, extract, run, users};

/// What a stage gives to those that wait for it.
pub(crate) type StageFuture = Shared<BoxFuture<'static, Result<Arc<Finished>, BuildError>>>;

/// What all stages of a build share.
pub(crate) struct Shop {
    pub(crate) host: Host,
    pub(crate) store: Store,
    pub(crate) cache: Cache,
    pub(crate) client: Client,
    pub(crate) ignore: Ignore,
    pub(crate) platform_args: BTreeMap<String, String>,
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) globals: BTreeMap<String, String>,
    pub(crate) target: usize,
    pub(crate) sources: Sources,
    pub(crate) ground: Scratch,
    /// Opened with the first `RUN` that wants one.
    pub(crate) network: tokio::sync::OnceCell<Network>,
    pub(crate) containers: Semaphore,
    pub(crate) file: Dockerfile,
    pub(crate) request: Request,
    pub(crate) steps: AtomicUsize,
    pub(crate) cached: AtomicUsize,
}

impl Shop {
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.steps.load(Ordering::Relaxed), self.cached.load(Ordering::Relaxed))
    }

    fn ground(&self, name: &str) -> PathBuf {
        self.ground.upper().join(name)
    }

    fn userxattr(&self) -> bool {
        self.host.probe().userxattr
    }

    /// The network of commands, and the `resolv.conf` that goes with it.
    async fn network(&self) -> Result<Network, Fault> {
        let open = async || {
            let opened = match &self.request.network {
                Some(open) => open().await,
                None => Opened::none(),
            };
            let path = self.ground("resolv.conf");
            std::fs::write(&path, &opened.resolv_conf).doing(|| format!("write {}", path.display()))?;
            Ok::<_, Fault>(opened.network)
        };
        self.network.get_or_try_init(open).await.cloned()
    }

    fn pack_options(&self) -> PackOptions {
        PackOptions {
            overlay: Some(self.store.marks()),
            mtime_max: self.request.epoch.map(|seconds| Time { seconds, nanos: 0 }),
            compression: self.request.compression,
            ..PackOptions::default()
        }
    }

    /// Gives the directories of a stage that nobody mounts any more to the store, as the unpacked form of their layers:
    /// who runs or builds on the image does not unpack them again.
    pub(crate) async fn adopt(&self, finished: &Finished) {
        for item in &finished.items {
            let Item::Fresh { scratch, packed } = item else { continue };
            let Ok(layer) = packed.clone().await else { continue };
            let (store, options, scratch) = (self.store.clone(), self.pack_options(), scratch.clone());
            let moved = blocking(move || Ok(store.adopt_layer(scratch.upper(), &layer, &options)?)).await;
            if let Err(why) = moved {
                tracing::debug!(%why, "a layer will be unpacked when it is needed");
            }
        }
    }

    /// Layers as directories, bottom first; those of the store are unpacked where they are not yet.
    async fn lowers(&self, items: &[Item]) -> Result<Vec<PathBuf>, Fault> {
        let stored: Vec<Layer> = items.iter().map_while(|item| item.stored().cloned()).collect();
        let store = self.store.clone();
        let count = stored.len();
        let mut lowers = match count {
            0 => Vec::new(),
            _ => blocking(move || Ok(store.unpack_layers(&stored)?)).await?,
        };
        for item in &items[count..] {
            lowers.push(match item {
                Item::Fresh { scratch, .. } => scratch.upper().to_owned(),
                Item::Stored(layer) => {
                    let (store, layer) = (self.store.clone(), layer.clone());
                    blocking(move || Ok(store.unpack_layer(&layer)?)).await?
                }
            });
        }
        Ok(lowers)
    }

    async fn view(&self, items: &[Item]) -> Result<View, Fault> {
        View::read_only(&self.lowers(items).await?, self.userxattr(), &self.ground("empty"))
    }
}

/// What a stage is based on.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    Scratch,
    Stage(usize),
    Image(Reference, Platform),
}

type Packed = Shared<BoxFuture<'static, Result<Layer, Fault>>>;

/// One layer of a stage.
#[derive(Clone)]
pub(crate) enum Item {
    /// In the store.
    Stored(Layer),
    /// Made by this build: a directory, being packed.
    Fresh { scratch: Scratch, packed: Packed },
}

impl Item {
    fn stored(&self) -> Option<&Layer> {
        match self {
            Self::Stored(layer) => Some(layer),
            Self::Fresh { .. } => None,
        }
    }

    /// The layer, once it is packed.
    pub(crate) async fn layer(&self) -> Result<Layer, Fault> {
        match self {
            Self::Stored(layer) => Ok(layer.clone()),
            Self::Fresh { packed, .. } => packed.clone().await,
        }
    }
}

/// A stage that is done.
pub(crate) struct Finished {
    pub(crate) items: Vec<Item>,
    pub(crate) config: Config,
    pub(crate) family: Family,
    /// Images that it is made of, for mounting their blobs in a registry.
    pub(crate) bases: Vec<Reference>,
    args: BTreeMap<String, String>,
    executed: bool,
}

impl Finished {
    fn of_nothing() -> Self {
        Self {
            items: Vec::new(),
            config: Config::empty(),
            family: Family::Oci,
            bases: Vec::new(),
            args: BTreeMap::new(),
            executed: false,
        }
    }
}

/// A step whose record waits until the layers below it are packed.
struct Pending {
    /// How many layers are below.
    below: usize,
    digests: Vec<Definition>,
    /// The layer it made, by place; none where it changed nothing.
    made: Option<usize>,
    created: String,
}

/// What a step does, as a digest; with the layers that it reads, where those are part of it.
#[derive(Clone)]
struct Definition {
    digest: String,
    reads: Vec<Item>,
}

/// What a step of `COPY` reads.
enum From {
    Context,
    Finished(Arc<Finished>),
}

/// A stage at work.
pub(crate) struct Stage {
    shop: Arc<Shop>,
    at: usize,
    base: Base,
    earlier: Vec<StageFuture>,
    number: usize,
    total: usize,
    items: Vec<Item>,
    config: Config,
    family: Family,
    bases: Vec<Reference>,
    args: BTreeMap<String, String>,
    declared: BTreeSet<String>,
    executed: bool,
    cmd_set: bool,
    pending: Vec<Pending>,
    /// The one directory that everything goes to (`--single-snapshot`).
    single: Option<Scratch>,
    /// The step at work, for messages.
    step: String,
}

impl Stage {
    pub(crate) fn new(
        shop: Arc<Shop>,
        at: usize,
        base: Base,
        earlier: Vec<StageFuture>,
        (number, total): (usize, usize),
    ) -> Self {
        Self {
            shop,
            at,
            base,
            earlier,
            number,
            total,
            items: Vec::new(),
            config: Config::empty(),
            family: Family::Oci,
            bases: Vec::new(),
            args: BTreeMap::new(),
            declared: BTreeSet::new(),
            executed: false,
            cmd_set: false,
            pending: Vec::new(),
            single: None,
            step: String::new(),
        }
    }

    /// Does everything.
    pub(crate) async fn build(mut self) -> Result<Arc<Finished>, BuildError> {
        let shop = self.shop.clone();
        let stage = &shop.file.stages[self.at];
        self.announce(&stage.text);
        let base = self.base().await.map_err(|cause| self.failed(cause))?;
        self.items = base.items.clone();
        self.config = base.config.clone();
        self.family = base.family;
        self.bases = base.bases.clone();
        self.args = base.args.clone();
        self.declared = self.args.keys().cloned().collect();
        self.executed = base.executed;
        let base_layers = self.items.len();
        let base_history = self.config.history_len();
        if shop.request.single_snapshot && self.at == shop.target {
            self.single = Some(shop.host.disk_scratch().map_err(|e| self.failed(e.into()))?);
            self.executed = true;
        }
        let triggers = self.config.list("OnBuild");
        if !triggers.is_empty() {
            self.config.unset("OnBuild");
            for text in triggers {
                let mut sources = Sources::default();
                let id = sources.add("ONBUILD of the base", &text);
                let (instruction, diagnostics) = parse_trigger(&text, id);
                let Some(instruction) = instruction.filter(|_| diagnostics.is_empty()) else {
                    return Err(BuildError::Invalid { diagnostics, sources });
                };
                self.step = format!("ONBUILD {text}");
                shop.request.log.line(format!("Trigger : {text}"));
                self.instruction(&instruction).await?;
            }
        }
        for instruction in &stage.instructions {
            self.announce(&instruction.text);
            self.instruction(instruction).await?;
        }
        if let Some(scratch) = self.single.take() {
            let changed = std::fs::read_dir(scratch.upper()).is_ok_and(|mut entries| entries.next().is_some());
            if changed {
                let packed = self.pack(&scratch);
                self.items.push(Item::Fresh { scratch, packed });
            }
            self.config.squash_history(base_history, changed);
            self.pending.clear();
            debug_assert!(self.items.len() <= base_layers + 1);
        }
        self.record().await.map_err(|cause| self.failed(cause))?;
        Ok(Arc::new(Finished {
            items: self.items,
            config: self.config,
            family: self.family,
            bases: self.bases,
            args: self.args,
            executed: self.executed,
        }))
    }

    fn announce(&mut self, text: &str) {
        let first = text.lines().next().unwrap_or_default();
        self.step = format!("Step {}/{} : {first}", self.number, self.total);
        self.number += 1;
        self.shop.request.log.line(&self.step);
    }

    fn failed(&self, cause: Fault) -> BuildError {
        match cause {
            Fault::Cancelled => BuildError::Cancelled,
            Fault::Exit(code) => BuildError::Command { step: self.step.clone(), code },
            cause => BuildError::Step { step: self.step.clone(), cause },
        }
    }

    async fn base(&self) -> Result<Arc<Finished>, Fault> {
        match &self.base {
            Base::Scratch => Ok(Arc::new(Finished::of_nothing())),
            // Its own failure was reported where it happened.
            Base::Stage(at) => self.earlier[*at].clone().await.map_err(|e| waited(&e)),
            Base::Image(reference, platform) => self.image(reference, platform, self.needs_files()).await,
        }
    }

    /// Whether this stage has steps that work on files.
    fn needs_files(&self) -> bool {
        let works = |kind: &Kind| matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_));
        self.shop.file.stages[self.at].instructions.iter().any(|instruction| works(&instruction.kind))
    }

    async fn image(&self, reference: &Reference, platform: &Platform, files: bool) -> Result<Arc<Finished>, Fault> {
        let (store, name) = (self.shop.store.clone(), reference.clone());
        let known = blocking(move || Ok(store.resolve(&name)?.is_some())).await?;
        // What the cache could answer needs no files. It has nothing on an image that is new here: that one is unpacked
        // while it comes.
        let unpack = files && !(known && self.shop.request.cache);
        let options = PullOptions { unpack, platform: platform.clone(), ..PullOptions::default() };
        let image = self.shop.client.pull(reference, &options).await?;
        Ok(Arc::new(Finished {
            items: image.layers().iter().cloned().map(Item::Stored).collect(),
            config: Config::of(&image),
            family: Family::of(image.media_type()),
            bases: vec![reference.clone()],
            args: BTreeMap::new(),
            executed: false,
        }))
    }

    fn lookup(&self) -> impl Fn(&str) -> Option<String> + use<> {
        let mut known = self.args.clone();
        // ENV always wins over an ARG of the same name.
        known.extend(self.config.env());
        move |name: &str| known.get(name).cloned()
    }

    fn expanded(&self, instruction: &Instruction, text: &str) -> Result<String, BuildError> {
        expand(text, self.shop.file.escape, &self.lookup())
            .map_err(|e| invalid(&self.shop.sources, instruction.span, "dockerfile::expansion", e.0))
    }

    async fn instruction(&mut self, instruction: &Instruction) -> Result<(), BuildError> {
        if *self.shop.request.cancel.borrow() {
            return Err(BuildError::Cancelled);
        }
        let text = instruction.text.clone();
        let expanded = |stage: &Self, text: &str| stage.expanded(instruction, text);
        match &instruction.kind {
            Kind::Arg(args) => {
                for arg in args {
                    self.arg(instruction, arg)?;
                }
            }
            Kind::Env(pairs) => {
                let pairs = self.pairs(instruction, pairs)?;
                pairs.iter().for_each(|(name, value)| self.config.set_env(name, value));
            }
            Kind::Label(pairs) => {
                for (name, value) in self.pairs(instruction, pairs)? {
                    self.config.insert("Labels", &name, json!(value));
                }
            }
            Kind::Workdir(path) => {
                let path = expanded(self, path)?;
                let path = Path::new("/").join(self.absolute(&path));
                self.config.set("WorkingDir", json!(path.to_string_lossy()));
                return self.workdir(&text, &path).await.map_err(|cause| self.failed(cause));
            }
            Kind::User(user) => {
                let user = expanded(self, user)?;
                self.config.set("User", json!(user));
            }
            Kind::Expose(list) => {
                for given in list {
                    let given = expanded(self, given)?;
                    for word in given.split_whitespace() {
                        let Some(ports) = ports(word) else {
                            let message = format!("`{word}` is not a port, such as 80, 53/udp or 8000-8010");
                            return Err(invalid(&self.shop.sources, instruction.span, "dockerfile::port", message));
                        };
                        ports.iter().for_each(|port| self.config.insert("ExposedPorts", port, json!({})));
                    }
                }
            }
            Kind::Volume(list) => {
                for path in list {
                    let path = expanded(self, path)?;
                    self.config.insert("Volumes", &path, json!({}));
                }
            }
            Kind::StopSignal(signal) => {
                let signal = expanded(self, signal)?;
                let named = signal.starts_with("SIG") && signal.len() > 3;
                if !named && !signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n)) {
                    let message = format!("`{signal}` is not a signal, such as SIGTERM or 15");
                    return Err(invalid(&self.shop.sources, instruction.span, "dockerfile::signal", message));
                }
                self.config.set("StopSignal", json!(signal));
            }
            Kind::Shell(words) => self.config.set("Shell", json!(words)),
            Kind::Cmd(command) => {
                self.config.set("Cmd", json!(self.config.words(command)));
                self.cmd_set = true;
            }
            Kind::Entrypoint(command) => {
                self.config.set("Entrypoint", json!(self.config.words(command)));
                if !self.cmd_set {
                    self.config.unset("Cmd");
                }
            }
            Kind::Healthcheck(check) => self.config.set_healthcheck(check),
            Kind::Maintainer(author) => self.config.set_author(author),
            Kind::OnBuild(trigger) => {
                let mut triggers = self.config.list("OnBuild");
                triggers.push(trigger.clone());
                self.config.set("OnBuild", json!(triggers));
            }
            Kind::Run(run) => return self.run(run, &text).await.map_err(|cause| self.failed(cause)),
            Kind::Copy(transfer) => return self.transfer(instruction, transfer, false).await,
            Kind::Add(transfer) => return self.transfer(instruction, transfer, true).await,
        }
        self.config.remember(&text, None, true);
        Ok(())
    }

    fn arg(&mut self, instruction: &Instruction, arg: &Arg) -> Result<(), BuildError> {
        let shop = self.shop.clone();
        self.declared.insert(arg.name.clone());
        let value = match (shop.build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.expanded(instruction, default)?),
            (None, None) => shop.globals.get(&arg.name).or_else(|| shop.platform_args.get(&arg.name)).cloned(),
        };
        match value {
            Some(value) => self.args.insert(arg.name.clone(), value),
            None => self.args.remove(&arg.name),
        };
        Ok(())
    }

    fn pairs(
        &self,
        instruction: &Instruction,
        pairs: &[(String, String)],
    ) -> Result<Vec<(String, String)>, BuildError> {
        let each = |(name, value): &(String, String)| {
            Ok((self.expanded(instruction, name)?, self.expanded(instruction, value)?))
        };
        pairs.iter().map(each).collect()
    }

    /// A path from the working directory, without dots and the leading slash.
    fn absolute(&self, path: &str) -> PathBuf {
        crate::view::clean(&Path::new("/").join(self.config.text("WorkingDir").unwrap_or("/")).join(path))
    }

    // Steps that change files.

    /// The key of a step on these layers, once they are packed.
    async fn key(items: &[Item], definition: &Definition) -> Result<String, Fault> {
        let mut key = Key::new("step");
        for item in items {
            key.text("below", item.layer().await?.diff_id.as_str());
        }
        key.text("definition", &definition.digest);
        for item in &definition.reads {
            key.text("reads", item.layer().await?.diff_id.as_str());
        }
        Ok(key.finish())
    }

    /// Asks the cache; only while everything below came from it too, for otherwise nothing below is packed yet.
    async fn probe(&self, definition: &Definition) -> Result<Option<Record>, Fault> {
        if self.executed || !self.shop.request.cache {
            return Ok(None);
        }
        let key = Self::key(&self.items, definition).await?;
        Ok(self.shop.cache.get(&key))
    }

    fn count(&self) {
        self.shop.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn hit(&mut self, record: Record, text: &str) {
        self.shop.cached.fetch_add(1, Ordering::Relaxed);
        self.shop.request.log.line(" ---> cached");
        self.config.remember(text, Some(&record.created), record.layer.is_none());
        self.items.extend(record.layer.map(Item::Stored));
    }

    fn pack(&self, scratch: &Scratch) -> Packed {
        let (store, scratch) = (self.shop.store.clone(), scratch.clone());
        let options = self.shop.pack_options();
        let work = tokio::task::spawn_blocking(move || Ok(store.commit_layer(scratch.upper(), &options)?));
        async move {
            match work.await {
                Ok(result) => result,
                Err(failed) => Err(Fault::said(format!("packing a layer failed: {failed}"))),
            }
        }
        .boxed()
        .shared()
    }

    fn scratch(&self) -> Result<Scratch, Fault> {
        match &self.single {
            Some(single) => Ok(single.clone()),
            // On disk: a layer may be large, and becomes the store's unpacked one by being moved.
            None => Ok(self.shop.host.disk_scratch()?),
        }
    }

    /// The stage's layers as directories; with what `--single-snapshot` has gathered so far left to its own mount.
    async fn lowers(&self) -> Result<Vec<PathBuf>, Fault> {
        self.shop.lowers(&self.items).await
    }

    /// As [`Stage::lowers`], for looking up users: with everything that was written.
    fn with_single(&self, lowers: &[PathBuf]) -> Vec<PathBuf> {
        let single = self.single.iter().map(|scratch| scratch.upper().to_owned());
        lowers.iter().cloned().chain(single).collect()
    }

    fn writable(&self, lowers: &[PathBuf], scratch: &Scratch) -> Result<View, Fault> {
        let beside = scratch.upper().parent().unwrap_or(Path::new("/"));
        let work =
            tempfile::Builder::new().prefix("copy-").tempdir_in(beside).doing(|| "make a work directory".into())?;
        let empty = self.shop.ground("empty");
        // Deleted with the scratch directory: the kernel uses it as long as the mount lives.
        View::writable(lowers, scratch.upper(), &work.keep(), self.shop.userxattr(), &empty)
    }

    /// Takes a step's directory as the next layer.
    fn made(&mut self, text: &str, scratch: Option<Scratch>, digests: Vec<Definition>) {
        self.executed |= scratch.is_some();
        let created = jiff::Timestamp::now().to_string();
        self.config.remember(text, Some(&created), scratch.is_none());
        if self.single.is_some() {
            return;
        }
        let below = self.items.len();
        let made = scratch.map(|scratch| {
            let packed = self.pack(&scratch);
            self.items.push(Item::Fresh { scratch, packed });
            below
        });
        self.pending.push(Pending { below, digests, made, created });
    }

    /// Writes the records of what was made.
    async fn record(&mut self) -> Result<(), Fault> {
        for pending in std::mem::take(&mut self.pending) {
            let layer = match pending.made {
                Some(at) => Some(self.items[at].layer().await?),
                None => None,
            };
            let record = Record { layer, created: pending.created };
            for definition in &pending.digests {
                let key = Self::key(&self.items[..pending.below], definition).await?;
                self.shop.cache.put(&key, &record)?;
            }
        }
        Ok(())
    }

    fn user(&self, lowers: &[PathBuf]) -> Result<User, Fault> {
        let user = self.config.text("User").unwrap_or_default();
        Ok(Host::resolve_user(&self.with_single(lowers), user)?)
    }

    fn common(&self, kind: &str) -> Key {
        let mut key = Key::new(kind);
        key.text("user", self.config.text("User").unwrap_or_default());
        key.text("epoch", &format!("{:?}", self.shop.request.epoch));
        key.text("compression", &format!("{:?}", self.shop.request.compression));
        key
    }

    async fn workdir(&mut self, text: &str, path: &Path) -> Result<(), Fault> {
        self.count();
        let mut key = self.common("workdir");
        key.text("path", &path.to_string_lossy());
        let definition = Definition { digest: key.finish(), reads: Vec::new() };
        if let Some(record) = self.probe(&definition).await? {
            self.hit(record, text);
            return Ok(());
        }
        let lowers = self.lowers().await?;
        let user = self.user(&lowers)?;
        let scratch = self.scratch()?;
        let view = self.writable(&lowers, &scratch)?;
        if view.is_directory(path) {
            self.made(text, None, vec![definition]);
            return Ok(());
        }
        view.make_directory(path, Owner { uid: user.uid, gid: user.gid })?;
        drop(view);
        self.made(text, Some(scratch), vec![definition]);
        Ok(())
    }

    async fn run(&mut self, command: &Run, text: &str) -> Result<(), Fault> {
        self.count();
        let shop = self.shop.clone();
        let (words, script) = self.words(command);
        let mut env = self.config.env();
        let known = |env: &[(String, String)], name: &str| env.iter().any(|(known, _)| known == name);
        for (name, value) in &self.args {
            if !known(&env, name) {
                env.push((name.clone(), value.clone()));
            }
        }
        let mut key = self.common("run");
        words.iter().for_each(|word| key.text("word", word));
        env.iter().for_each(|(name, value)| {
            // Proxies change how something is reached, not what is made; unless the Dockerfile takes them itself.
            if self.declared.contains(name) || !PROXY_ARGS.contains(&name.as_str()) {
                key.text(name, value);
            }
        });
        key.text("script", script.as_deref().unwrap_or_default());
        key.text("workdir", self.config.text("WorkingDir").unwrap_or("/"));
        key.number("network", u64::from(!command.no_network));
        let definition = Definition { digest: key.finish(), reads: Vec::new() };
        if let Some(record) = self.probe(&definition).await? {
            self.hit(record, text);
            return Ok(());
        }

        let lowers = self.lowers().await?;
        let user = self.user(&lowers)?;
        for (name, value) in &shop.build_args {
            if PROXY_ARGS.contains(&name.as_str()) && !known(&env, name) {
                env.push((name.clone(), value.clone()));
            }
        }
        if !known(&env, "PATH") {
            env.push(("PATH".to_owned(), windlass_oci::host::DEFAULT_PATH.to_owned()));
        }
        if !known(&env, "HOME") {
            let unknown = if user.uid == 0 { "/root" } else { "/" };
            env.push(("HOME".to_owned(), user.home.clone().unwrap_or_else(|| unknown.to_owned())));
        }
        let mut mounts: Vec<Mount> = ["hosts", "resolv.conf", "hostname"]
            .map(|name| Mount::bind(shop.ground(name), Path::new("/etc").join(name)))
            .into();
        let scratch = self.scratch()?;
        let beside = scratch.upper().parent().unwrap_or(Path::new("/")).to_owned();
        let mut words = words;
        if let Some(script) = script {
            let path = beside.join("script");
            std::fs::write(&path, script).doing(|| "write the script".into())?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).doing(|| "write the script".into())?;
            mounts.push(Mount::bind_ro(path, "/dev/pipes/script"));
            words = vec!["/dev/pipes/script".to_owned()];
        }
        let mut all = vec![shop.ground("skeleton")];
        all.extend(lowers);
        // Asked for in any case: `resolv.conf` comes with it.
        let network = shop.network().await?;
        let network = if command.no_network { Network::None } else { network };
        let permit = shop.containers.acquire().await.map_err(|_| Fault::Cancelled)?;
        let command = run::Command {
            lowers: all,
            scratch: scratch.clone(),
            args: words,
            env,
            cwd: PathBuf::from(self.config.text("WorkingDir").unwrap_or("/")),
            user,
            network,
            mounts,
        };
        let code = run::run(&shop.host, command, &shop.request.log, shop.request.cancel.clone()).await?;
        drop(permit);
        if code != 0 {
            shop.request.log.write(Stream::Progress, &format!("{}: exit code {code}", self.step));
            return Err(Fault::Exit(code));
        }
        self.made(text, Some(scratch), vec![definition]);
        Ok(())
    }

    /// The words to execute; or a script, where a heredoc is one.
    fn words(&self, run: &Run) -> (Vec<String>, Option<String>) {
        let Command::Shell(text) = &run.command else { return (self.config.words(&run.command), None) };
        let shell = |text: String| self.config.words(&Command::Shell(text));
        match &run.heredocs[..] {
            [] => (shell(text.clone()), None),
            [only] if text.starts_with("<<") && !text.trim().contains(char::is_whitespace) => {
                if only.body.starts_with("#!") {
                    (Vec::new(), Some(only.body.clone()))
                } else {
                    (shell(only.body.clone()), None)
                }
            }
            // The shell reads them itself.
            several => {
                let mut all = text.clone();
                for heredoc in several {
                    all.push_str(&format!("\n{}{}", heredoc.body, heredoc.name));
                }
                all.push('\n');
                (shell(all), None)
            }
        }
    }

    async fn transfer(&mut self, instruction: &Instruction, transfer: &Transfer, add: bool) -> Result<(), BuildError> {
        let expanded = |text: &String| self.expanded(instruction, text);
        let mut wanted = transfer.clone();
        wanted.sources = transfer.sources.iter().map(expanded).collect::<Result<_, _>>()?;
        wanted.dest = self.expanded(instruction, &transfer.dest)?;
        wanted.chown = transfer.chown.as_ref().map(expanded).transpose()?;
        wanted.chmod = transfer.chmod.as_ref().map(expanded).transpose()?;
        for heredoc in &mut wanted.heredocs {
            if heredoc.expand {
                // Quotes mean nothing in such a text.
                let body = heredoc.body.replace('\'', "\u{1}").replace('"', "\u{2}");
                heredoc.body = self.expanded(instruction, &body)?.replace('\u{1}', "'").replace('\u{2}', "\"");
            }
        }
        self.copy(&instruction.text, &wanted, add).await.map_err(|cause| self.failed(cause))
    }

    async fn copy(&mut self, text: &str, wanted: &Transfer, add: bool) -> Result<(), Fault> {
        self.count();
        let shop = self.shop.clone();
        let from = self.from(wanted).await?;
        let mode = wanted.chmod.as_deref().map(users::mode).transpose()?;
        let absolute = format!("/{}", self.absolute(&wanted.dest).display());
        let dest = if is_directory_text(&wanted.dest) { format!("{absolute}/") } else { absolute };
        let mut key = self.common(if add { "add" } else { "copy" });
        key.text("dest", &dest);
        key.text("chown", wanted.chown.as_deref().unwrap_or_default());
        key.text("chmod", wanted.chmod.as_deref().unwrap_or_default());
        wanted.exclude.iter().for_each(|pattern| key.text("exclude", pattern));
        for heredoc in &wanted.heredocs {
            key.text(&heredoc.name, &heredoc.body);
        }

        let (place, ignore) = match &from {
            From::Context => ("the context".to_owned(), shop.ignore.clone()),
            From::Finished(_) => (wanted.from.clone().unwrap_or_default(), Ignore::default()),
        };
        let mut definitions = Vec::new();
        let mut first_probe = None;
        if let From::Finished(finished) = &from {
            // By the layers that are read: nothing needs to be unpacked for a hit.
            let mut by_layers = key.clone();
            wanted.sources.iter().for_each(|source| by_layers.text("path", source));
            let definition = Definition { digest: by_layers.finish(), reads: finished.items.clone() };
            if !finished.executed {
                first_probe = self.probe(&definition).await?;
            }
            definitions.push(definition);
        }
        if let Some(record) = first_probe {
            self.hit(record, text);
            return Ok(());
        }

        let view = match &from {
            From::Context => shop.request.context.view.clone(),
            From::Finished(finished) => shop.view(&finished.items).await?,
        };
        let mut ignore_all = ignore;
        if !wanted.exclude.is_empty() {
            ignore_all = ignore_all.with(&wanted.exclude).map_err(|why| Fault::said(format!("--exclude: {why}")))?;
        }
        let in_context = matches!(from, From::Context);
        let zero = Owner { uid: 0, gid: 0 };
        let plain = Rules { owner: (in_context || wanted.chown.is_some()).then_some(zero), mode, ignore: ignore_all };
        let (found, digest) = {
            let (view, rules, sources) = (view.clone(), plain.clone(), wanted.sources.clone());
            blocking(move || {
                let found = copy::find(&view, &sources, &rules.ignore, &place)?;
                found.hash(&view, &rules, &mut key)?;
                Ok((found, key.finish()))
            })
            .await?
        };
        let definition = Definition { digest, reads: Vec::new() };
        if let Some(record) = self.probe(&definition).await? {
            for other in &definitions {
                shop.cache.put(&Self::key(&self.items, other).await?, &record)?;
            }
            self.hit(record, text);
            return Ok(());
        }
        definitions.push(definition);

        let lowers = self.lowers().await?;
        let mut rules = plain;
        if let Some(chown) = &wanted.chown {
            rules.owner = Some(users::owner(&self.with_single(&lowers), chown)?);
        }
        let scratch = self.scratch()?;
        let chown = rules.owner.filter(|_| wanted.chown.is_some());
        let mut found = found;
        if add {
            let mut plain = Vec::new();
            for path in found.paths() {
                if !self.add_archive(&view, path, &lowers, &scratch, &dest, chown).await? {
                    plain.push(path.clone());
                }
            }
            found = copy::Found::these(plain);
        }
        let to = self.writable(&lowers, &scratch)?;
        let heredocs = wanted.heredocs.clone();
        blocking(move || {
            // One after the other where archives may have been among them: each is a source of its own.
            if add {
                found.paths().iter().try_for_each(|path| copy::Found::one(path).copy(&view, &to, &dest, &rules))?;
            } else if !found.paths().is_empty() {
                found.copy(&view, &to, &dest, &rules)?;
            }
            for heredoc in &heredocs {
                copy::write_text(&to, &dest, &heredoc.name, &heredoc.body, &rules)?;
            }
            Ok(())
        })
        .await?;
        self.made(text, Some(scratch), definitions);
        Ok(())
    }

    /// Unpacks a source of `ADD` that is an archive; false where it is none.
    async fn add_archive(
        &self,
        from: &View,
        path: &Path,
        lowers: &[PathBuf],
        scratch: &Scratch,
        dest: &str,
        owner: Option<Owner>,
    ) -> Result<bool, Fault> {
        let name = path.to_string_lossy();
        // A directory, say.
        let Ok(mut file) = from.file(path) else { return Ok(false) };
        if !extract::may_be_archive(&mut file).doing(|| format!("read {name}"))? {
            return Ok(false);
        }
        let (host, lowers) = (&self.shop.host, lowers.to_vec());
        let added = confined::add(host, file, &name, lowers, scratch, Path::new(dest), owner).await?;
        if let Some([first, rest @ ..]) = added.as_deref() {
            let others = if rest.is_empty() { String::new() } else { format!(" and {} others", rest.len()) };
            let text = format!("warning: devices of {name} were left out: {}{others}", first.display());
            self.shop.request.log.line(text);
        }
        Ok(added.is_some())
    }

    async fn from(&self, wanted: &Transfer) -> Result<From, Fault> {
        let Some(from) = &wanted.from else { return Ok(From::Context) };
        if let Some(stage) = self.shop.file.stage(from, self.at) {
            return self.earlier[stage].clone().await.map(From::Finished).map_err(|e| waited(&e));
        }
        let reference = Reference::parse(from).map_err(|e| Fault::said(e.to_string()))?;
        self.image(&reference, &Platform::host(), true).await.map(From::Finished)
    }
}

/// What a stage says that waited for one which failed.
fn waited(error: &BuildError) -> Fault {
    match error {
        BuildError::Cancelled => Fault::Cancelled,
        BuildError::Command { code, .. } => Fault::Exit(*code),
        other => Fault::said(format!("it needs a stage that failed: {other}")),
    }
}
