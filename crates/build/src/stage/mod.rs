//! One stage: its instructions in order, each on the layers of those before. A step that the cache knows costs no file; from
//! the first one that it does not know on, the upper directories of the steps are stacked as they are, and packed beside.

mod execute;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use serde_json::json;
use windlass_lang::Sources;
use windlass_oci::client::PullOptions;
use windlass_oci::{Family, Platform, Reference};
use windlass_sandbox::{Host, Scratch, User};

use crate::builder::invalid;
use crate::cache::{Key, Record};
use crate::config::{Config, ports};
use crate::dockerfile::{Arg, Instruction, Kind, parse_trigger};
use crate::error::{BuildError, Doing, Fault};
use crate::expand;
use crate::output::blocking;
use crate::shop::{Base, Finished, Item, Packed, Shop};
use crate::view::View;

/// What a stage gives to those that wait for it.
pub(crate) type StageFuture = Shared<BoxFuture<'static, Result<Arc<Finished>, BuildError>>>;

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
            Base::Stage(at) => self.earlier[*at].clone().await.map_err(|e| transfer::waited(&e)),
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
}
