//! `windlass image`: what this machine's image store holds, and how images come in and go out. It works on the store of
//! `--home` directly, whether an `up` runs on it or not: the store takes several processes at once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::json;
use windlass_oci::client::{Client, ClientOptions, DockerConfig, OnProgress, Progress, PullOptions, PushOptions};
use windlass_oci::{Reference, Store, host, layout};

use crate::cli::{Format, FromHostArgs, ImagePullArgs, ImagePushArgs, ImageVerb, OutputArgs, RegistryArgs, RemapArgs};
use crate::home::Home;
use crate::names::Names;
use crate::print::{columns, time};
use crate::start::Session;

pub(super) async fn run(session: &Session, verb: ImageVerb) -> Result<ExitCode> {
    let home = Home::find(session.global.home.as_deref())?;
    home.create()?;
    let store = Store::open(home.images())?;
    match verb {
        ImageVerb::Ls(args) => list(&store, args)?,
        ImageVerb::Pull(args) => pull(store, &home, args).await?,
        ImageVerb::Push(args) => push(store, &home, args).await?,
        ImageVerb::Import { path, name } => import(&store, &path, name)?,
        ImageVerb::Export { name, path } => export(&store, &name, &path)?,
        ImageVerb::Rm { name } => remove(&store, &name)?,
        ImageVerb::FromHost(args) => from_host(&store, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(store: &Store, args: OutputArgs) -> Result<()> {
    let mut all = store.list()?;
    all.sort_by_key(|l| l.reference.to_string());
    match args.output {
        Some(Format::Json) => {
            let list: Vec<_> = all
                .iter()
                .map(|l| json!({"name": l.reference.to_string(), "digest": l.pointer.digest.to_string()}))
                .collect();
            println!("{}", serde_json::to_string_pretty(&list)?);
        }
        Some(Format::Name) => all.iter().for_each(|l| println!("{}", l.reference.familiar())),
        _ if all.is_empty() => println!("No images: `windlass image pull NAME` or `windlass image from-host NAME …`"),
        _ => {
            let mut rows = vec![["NAME", "DIGEST", "SIZE", "AGE"].map(str::to_owned).to_vec()];
            for l in &all {
                let size = store.get(&l.reference)?.map_or_else(|| "?".to_owned(), |i| bytes(i.size()));
                let age = l.set.elapsed().map_or(0, |a| i64::try_from(a.as_secs()).unwrap_or(i64::MAX));
                rows.push(vec![l.reference.familiar(), l.pointer.digest.short().to_owned(), size, time::short(age)]);
            }
            print!("{}", columns(&rows));
        }
    }
    Ok(())
}

/// `512 B`, `1.2 MiB`.
fn bytes(n: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 || unit == "GiB" {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    unreachable!("the last unit answers")
}

/// A docker config.json: the named one, or the user's own where there is one.
pub(super) fn credentials(named: Option<&Path>) -> Result<DockerConfig> {
    let path = match named {
        Some(path) => Some(path.to_owned()),
        None => std::env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".docker")))
            .map(|dir| dir.join("config.json"))
            .filter(|p| p.exists()),
    };
    let Some(path) = path else { return Ok(DockerConfig::default()) };
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    DockerConfig::parse(&text).with_context(|| format!("{} is not a docker config", path.display()))
}

fn client(store: Store, home: &Home, args: &RegistryArgs) -> Result<Client> {
    let names = Names::read(&RemapArgs { remap_registry: args.remap_registry.clone(), ..RemapArgs::default() }, home)?;
    let options = ClientOptions {
        credentials: credentials(args.docker_config.as_deref())?,
        insecure: names.insecure().to_vec(),
        insecure_all: args.insecure,
        remap: names.registries()?,
        ..ClientOptions::new()
    };
    Ok(Client::new(store, options)?)
}

/// A bar on a terminal, nothing on a pipe.
fn progress() -> (OnProgress, ProgressBar) {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let total = Arc::new(AtomicU64::new(0));
    let shown = bar.clone();
    let on: OnProgress = Arc::new(move |p| match p {
        Progress::Started { size, present: false, .. } => {
            shown.set_length(total.fetch_add(size, Ordering::Relaxed) + size);
        }
        Progress::Moved { bytes, .. } => shown.inc(bytes),
        _ => {}
    });
    (on, bar)
}

async fn pull(store: Store, home: &Home, args: ImagePullArgs) -> Result<()> {
    let name = Reference::parse(&args.name)?;
    let client = client(store, home, &args.registry)?;
    let (on, bar) = progress();
    // Unpacking is left to whoever runs the image: it depends on the user namespace that it runs in.
    let options = PullOptions { always: true, unpack: false, progress: Some(on), ..Default::default() };
    let image = client.pull(&name, &options).await?;
    bar.finish_and_clear();
    println!("{} {} ({})", name.familiar(), image.digest(), bytes(image.size()));
    Ok(())
}

async fn push(store: Store, home: &Home, args: ImagePushArgs) -> Result<()> {
    let name = Reference::parse(&args.name)?;
    let to = args.to.as_deref().map_or_else(|| Ok(name.clone()), Reference::parse)?;
    let Some(pointer) = store.resolve(&name)? else { bail!("{}", unknown(&name)) };
    let client = client(store, home, &args.registry)?;
    let (on, bar) = progress();
    let digest = client.push(&pointer.digest, &to, &PushOptions { progress: Some(on), ..Default::default() }).await?;
    bar.finish_and_clear();
    println!("{}@{digest}", to.familiar());
    Ok(())
}

fn unknown(name: &Reference) -> String {
    format!("no image {} here: `windlass image ls` shows all there are", name.familiar())
}

fn import(store: &Store, path: &Path, name: Option<String>) -> Result<()> {
    let names = name.as_deref().map(Reference::parse).transpose()?.into_iter().collect::<Vec<_>>();
    let imported = if path.is_dir() {
        layout::import_dir(store, path, &names)?
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        layout::import_tar(store, file, &names)?
    };
    for image in imported {
        for name in &image.names {
            println!("{} {}", name.familiar(), image.digest);
        }
        if image.names.is_empty() {
            println!("{} (no name: give one as the last argument)", image.digest);
        }
    }
    Ok(())
}

fn export(store: &Store, name: &str, path: &Path) -> Result<()> {
    let name = Reference::parse(name)?;
    let Some(pointer) = store.resolve(&name)? else { bail!("{}", unknown(&name)) };
    if path.extension().is_some_and(|e| e == "tar") {
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        layout::export_tar(store, &pointer.digest, std::slice::from_ref(&name), &mut file)?;
        file.persist(path)?;
    } else {
        layout::export_dir(store, &pointer.digest, std::slice::from_ref(&name), path)?;
    }
    println!("{} → {}", name.familiar(), path.display());
    Ok(())
}

fn remove(store: &Store, name: &str) -> Result<()> {
    let name = Reference::parse(name)?;
    if !store.remove(&name)? {
        bail!("{}", unknown(&name));
    }
    println!("removed {}", name.familiar());
    Ok(())
}

fn from_host(store: &Store, args: FromHostArgs) -> Result<()> {
    let begun = Timestamp::now();
    let name = Reference::parse(&args.name)?;
    let add = args.add.iter().map(|a| host::HostSpec::parse_add(a)).collect::<windlass_oci::Result<Vec<_>>>()?;
    let spec = host::HostSpec {
        programs: args.program,
        packages: args.package,
        add,
        entrypoint: args.entrypoint,
        cmd: args.cmd,
        env: args.env,
        workdir: args.workdir,
        user: args.user,
        volumes: args.volume,
        search_path: std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default(),
    };
    let image = host::build(store, &spec, std::slice::from_ref(&name))?;
    let took = Timestamp::now().duration_since(begun).as_millis();
    println!("{} {} ({}, {took} ms)", name.familiar(), image.digest(), bytes(image.size()));
    Ok(())
}
