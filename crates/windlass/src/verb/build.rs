//! `windlass build`: a Dockerfile and its context become an image, here, without a daemon. Progress goes to standard error,
//! the result to standard output; the exit code is that of the command that failed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use windlass_build::{BuildError, Builder, ConfinedUnpacker, Context, Log, Request, Stream};
use windlass_node::LogSink;
use windlass_oci::client::ClientOptions;
use windlass_oci::{Reference, Store};

use super::image::credentials;
use crate::cli::{BuildArgs, Format};
use crate::cluster::BuildNetwork;
use crate::names::Names;
use crate::start::Session;

pub(super) async fn run(session: Session, args: BuildArgs) -> Result<ExitCode> {
    let (Some(host), Some(home)) = (session.host, session.home) else { bail!("the build's host was not entered") };
    let names = Names::read(&args.cluster.names, &home)?;
    let store = Store::open(home.images()).context("cannot open the image store")?;
    let store = store.with_unpacker(Arc::new(ConfinedUnpacker::new(host.clone())));
    let context =
        Context::open(&args.context).with_context(|| format!("cannot open the context {}", args.context.display()))?;
    let (name, text, ignore) = dockerfile(&args, &context)?;
    let destinations = if args.destination.is_empty() {
        vec![default_destination(&args.context)?]
    } else {
        args.destination.iter().map(|name| Reference::parse(name)).collect::<Result<Vec<_>, _>>()?
    };

    let mut request = Request::new(context, name, text);
    request.dockerignore = ignore;
    for argument in &args.build_arg {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (argument.as_str(), std::env::var(argument).unwrap_or_default()),
        };
        if name == "SOURCE_DATE_EPOCH" {
            request.epoch = Some(value.parse().context("SOURCE_DATE_EPOCH is a number of seconds since 1970")?);
        }
        request.build_args.push((name.to_owned(), value));
    }
    request.target = args.target;
    request.cache = !args.no_cache;
    if args.no_push {
        // Still to be found by its name on this machine.
        request.names = destinations;
    } else {
        request.destinations = destinations;
    }
    let write = |stream: Stream, text: &str| {
        let mut err = std::io::stderr().lock();
        // Nobody reads it any more: the build goes on.
        let _ = match stream {
            Stream::Progress => writeln!(err, "{text}"),
            Stream::Out | Stream::Err => err.write_all(text.as_bytes()),
        };
    };
    request.log = Log::new(write);
    let network = Arc::new(BuildNetwork::default());
    request.network = Some(network.opener(LogSink::new(|_, text| eprint!("{text}"))));
    let (stop, cancel) = tokio::sync::watch::channel(false);
    request.cancel = cancel;
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = stop.send(true);
        }
        // Kept: a closed channel would look as if nobody could stop the build.
        std::future::pending::<()>().await;
    });

    let client = ClientOptions {
        credentials: credentials(args.docker_config.as_deref())?,
        insecure: names.insecure().to_vec(),
        remap: names.registries()?,
        ..ClientOptions::new()
    };
    let given: Vec<Reference> = request.names.iter().chain(&request.destinations).cloned().collect();
    let builder = Builder::new(host, store, client, home.root().join("build"));
    let built = match builder.build(request).await {
        Ok(built) => built,
        Err(error) => {
            match &error {
                BuildError::Invalid { diagnostics, sources } => {
                    eprint!("{}", windlass_lang::render(diagnostics, sources, session.look.color));
                }
                _ => eprintln!("error: {error}"),
            }
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)));
        }
    };
    if args.output == Some(Format::Json) {
        let names: Vec<String> = given.iter().map(ToString::to_string).collect();
        let pushed: Vec<String> = built.pushed.iter().map(|(name, _)| name.to_string()).collect();
        let result = json!({
            "names": names,
            "digest": built.digest().to_string(),
            "pushed": pushed,
            "steps": built.steps,
            "cached": built.cached,
        });
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        given.iter().for_each(|name| println!("{}@{}", name.name(), built.digest()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The Dockerfile's name and text, and the text of its own `.dockerignore`: within the context, or else as given.
fn dockerfile(args: &BuildArgs, context: &Context) -> Result<(String, String, Option<String>)> {
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from("Dockerfile"));
    let mut ignore = path.clone().into_os_string();
    ignore.push(".dockerignore");
    let name = path.display().to_string();
    if path.is_relative()
        && let Ok(text) = context.read(&path)
    {
        return Ok((name, text, context.read(Path::new(&ignore)).ok()));
    }
    let looked = if path.is_relative() { format!("{} or ", args.context.join(&path).display()) } else { String::new() };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("there is no Dockerfile {looked}{}: name it with -f FILE", path.display()))?;
    Ok((name, text, std::fs::read_to_string(&ignore).ok()))
}

/// `registry.windlass.internal/DIRECTORY:latest`
fn default_destination(context: &Path) -> Result<Reference> {
    let path = context.canonicalize().with_context(|| format!("cannot open {}", context.display()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    Reference::local(&name, "latest")
        .with_context(|| format!("`{name}` cannot be an image's name: give one with -t IMAGE"))
}
