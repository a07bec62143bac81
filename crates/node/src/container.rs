//! One container, from its image to its end: the effects behind `Action::Start` and `Action::Stop`. It decides nothing; it
//! tells the Pod's worker what happened.

use crate::agent::Agent;
use crate::audience::{Audience, Heard, Voice};
use crate::ends::Ends;
use crate::env;
use crate::image::Ready;
use crate::kaniko::{self, BuildFailure, BuildRequest, LogSink, PathMap};
use crate::lifecycle::Exit;
use crate::log;
use crate::objects;
use crate::plan::{self, ImageConfig, Process};
use crate::session::Running;
use crate::setup::{self, Setup};
use crate::step::Step;
use crate::volume;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use windlass_executor::inputs::VolumeMount;
use windlass_model::kaniko::{arguments, is_kaniko};
use windlass_sandbox::{Host, Mount, MountSource, Namespace, Network, Rootfs, Spec, Upper, User};

/// How much of standard output is kept for `outputs.result`.
const RESULT_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: u64 = 4096;
const FALLBACK_BYTES_MAX: usize = 2048;
const FALLBACK_LINES_MAX: u64 = 80;
/// Certificates of authorities, where distributions keep them.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// How long a log may still come in after its container has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// A Pod and what was made for it.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) agent: Agent,
    pub(crate) pod: Arc<Pod>,
    pub(crate) setup: Arc<Setup>,
    pub(crate) step: Option<Arc<Step>>,
}

/// A running container.
#[derive(Clone)]
pub(crate) struct Live {
    /// Not for builds: those run in the agent.
    pub(crate) process: Option<(windlass_sandbox::Container, Arc<Spec>)>,
    pub(crate) stop_signal: i32,
    pub(crate) id: String,
    pub(crate) image_id: String,
    pub(crate) pulled: bool,
}

/// What is left of a container that has ended, for collecting a step's outputs.
#[derive(Clone, Default)]
pub(crate) struct Remains {
    pub(crate) spec: Option<Arc<Spec>>,
    pub(crate) stdout: String,
    /// The mounts of `spec` stay valid for as long.
    _held: Arc<Vec<volume::SubPath>>,
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartError {
    /// It waits for something: tried again.
    Blocked { reason: String, message: String },
    /// It was tried and failed: counts as an end.
    Failed(Box<Exit>),
}

impl From<env::ConfigError> for StartError {
    fn from(error: env::ConfigError) -> Self {
        Self::Blocked { reason: "CreateContainerConfigError".into(), message: error.0 }
    }
}

impl From<crate::image::ImageError> for StartError {
    fn from(error: crate::image::ImageError) -> Self {
        Self::Blocked { reason: error.reason.into(), message: error.message }
    }
}

fn config_error(message: impl Into<String>) -> StartError {
    StartError::Blocked { reason: "CreateContainerConfigError".into(), message: message.into() }
}

/// What a container runs from.
enum Base {
    Image(Ready),
    /// The running program itself, in an empty root: in a role, or as its command says.
    Executor {
        role: Option<&'static str>,
    },
    /// Our builder, in the agent.
    Builder(Vec<String>),
}

/// The mounts of a container's volumes, what keeps them valid, and where they are on this machine.
pub(crate) struct VolumeMounts {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) places: Vec<VolumeMount>,
    held: Vec<volume::SubPath>,
}

/// The mounts that `container` asks for.
pub(crate) fn volume_mounts(
    setup: &Setup,
    container: &Container,
    variables: &[(String, String)],
) -> Result<VolumeMounts, String> {
    let known: BTreeMap<String, String> = variables.iter().cloned().collect();
    let mut all = VolumeMounts { mounts: Vec::new(), places: Vec::new(), held: Vec::new() };
    for wanted in container.volume_mounts.iter().flatten() {
        let source = setup
            .volumes
            .get(&wanted.name)
            .ok_or_else(|| format!("volumeMount {:?}: the pod has no volume of that name", wanted.name))?;
        if !volume::is_path(&wanted.mount_path) {
            return Err(format!("volumeMount {:?}: mountPath {:?} is not absolute", wanted.name, wanted.mount_path));
        }
        let sub = match (&wanted.sub_path, &wanted.sub_path_expr) {
            (Some(sub), _) if !sub.is_empty() => Some(sub.clone()),
            (_, Some(expression)) if !expression.is_empty() => Some(env::expand(expression, &known)),
            _ => None,
        };
        let directory = match sub {
            Some(sub) => {
                let held = volume::sub_path(source, &sub, &setup.files)
                    .map_err(|e| format!("volumeMount {:?}: {e}", wanted.name))?;
                let path = held.path().to_owned();
                all.held.push(held);
                path
            }
            None => source.clone(),
        };
        let readonly = wanted.read_only.unwrap_or(false) || setup.readonly.contains(&wanted.name);
        let path = kaniko::clean(Path::new(&wanted.mount_path));
        let source = MountSource::Bind { path: directory.clone(), recursive: true };
        all.mounts.push(Mount { target: path.clone(), source, readonly });
        all.places.push(VolumeMount { path, directory, readonly });
    }
    Ok(all)
}

/// The user of `container`, by its Pod and its image.
pub(crate) fn user(process: &Process, lowers: &[PathBuf]) -> Result<User, StartError> {
    let resolved = Host::resolve_user(lowers, &process.user).map_err(|e| config_error(e.to_string()))?;
    let mut user = User { groups: [resolved.groups, process.groups.clone()].concat(), ..resolved };
    if let Some(gid) = process.group {
        user.gid = gid;
    }
    if process.non_root && user.uid == 0 {
        return Err(config_error("container has runAsNonRoot and image will run as root"));
    }
    Ok(user)
}

impl Context {
    fn base_of(&self, container: &Container) -> Result<Option<Base>, StartError> {
        let image = container.image.as_deref().unwrap_or("");
        let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        if windlass_executor::is_executor_image(image) {
            // Only the step's own container does its work; others of our image say what they are.
            let works = words(&container.command).get(2).is_none_or(|role| role == windlass_model::places::WORK);
            if works && self.step.as_ref().is_some_and(|s| s.task.is_ours()) {
                return Ok(Some(Base::Executor { role: Some(windlass_executor::WORK_ROLE) }));
            }
            // The pod form: the roles are named by the command.
            if words(&container.command).get(1).is_some_and(|verb| verb == windlass_model::places::VERB) {
                return Ok(Some(Base::Executor { role: None }));
            }
            return Err(config_error(format!("image {image:?} only runs parts of steps")));
        }
        if is_kaniko(image)
            && let Some(args) = arguments(&words(&container.command), &words(&container.args))
        {
            if self.agent.config().builder.is_none() {
                return Err(config_error("this node has no builder for kaniko steps"));
            }
            return Ok(Some(Base::Builder(args)));
        }
        Ok(None)
    }

    /// The image of `container` and its user; for staging a step's inputs before anything runs.
    pub(crate) async fn owner(&self, container: &Container) -> Result<User, StartError> {
        if self.base_of(container)?.is_some() {
            return Ok(User::default());
        }
        let ready = self.agent.images().get(container, &self.setup.found, &self.setup.pull_secrets).await?;
        let variables = self.setup.environment(&self.pod, container, &self.setup.found)?;
        let process = plan::process(&self.pod, container, &ready.config, &variables, &self.setup.hostname)?;
        user(&process, &ready.lowers)
    }

    /// Runs `container` to its end. `started` is called once it runs; `cancel` ends a pull or a build.
    pub(crate) async fn run(
        &self,
        container: &Container,
        restarts: i32,
        mut cancel: watch::Receiver<bool>,
        started: impl Fn(Live),
    ) -> Result<(Exit, Remains), StartError> {
        let cancelled = || StartError::Blocked { reason: "ContainerCreating".into(), message: "stopped".into() };
        let variables = match self.setup.environment(&self.pod, container, &self.setup.found) {
            Ok(variables) => variables,
            // What was missing when the Pod was set up may be there by now.
            Err(_) => {
                let (client, accounts) = (&self.agent.config().client, self.agent.accounts());
                let found = objects::find(client, accounts, &self.pod, &objects::named(&self.pod)).await;
                let found = found.map_err(|e| config_error(e.to_string()))?;
                self.setup.environment(&self.pod, container, &found)?
            }
        };
        let base = match self.base_of(container)? {
            Some(base) => base,
            None => {
                let images = self.agent.images();
                let get = images.get(container, &self.setup.found, &self.setup.pull_secrets);
                tokio::select! {
                    ready = get => Base::Image(ready?),
                    () = raised(&mut cancel) => return Err(cancelled()),
                }
            }
        };
        if *cancel.borrow() {
            return Err(cancelled());
        }
        let directory = self.agent.log_directory(&self.pod);
        let open = || -> std::io::Result<log::Writer> {
            std::fs::create_dir_all(&directory)?;
            let path = log::file(&directory, &container.name, false);
            if restarts > 0 && path.exists() {
                std::fs::rename(&path, log::file(&directory, &container.name, true))?;
            }
            log::Writer::create(&path)
        };
        let writer = Arc::new(open().map_err(|e| config_error(format!("{}: {e}", directory.display())))?);
        let followed = self.agent.follow(&self.pod, &container.name, writer.follow());
        let outcome = match base {
            Base::Builder(args) => self.build(container, &args, &variables, &writer, cancel, started).await,
            Base::Executor { role } => {
                let ready = Ready {
                    config: ImageConfig::default(),
                    lowers: Vec::new(),
                    id: format!("{}:{}", windlass_executor::EXECUTOR_IMAGE, env!("CARGO_PKG_VERSION")),
                    pulled: false,
                };
                self.spawn(container, ready, Some(role), &variables, &writer, Upper::Scratch, &started).await
            }
            Base::Image(ready) => self.try_out(container, ready, &variables, &writer, cancel, &started).await,
        };
        writer.close();
        drop(followed);
        outcome
    }

    /// Runs the command, and again in the same root where a container set says so: no new container, no restart.
    async fn try_out(
        &self,
        container: &Container,
        ready: Ready,
        variables: &[(String, String)],
        writer: &Arc<log::Writer>,
        mut cancel: watch::Receiver<bool>,
        started: &impl Fn(Live),
    ) -> Result<(Exit, Remains), StartError> {
        let set = self.step.as_ref().and_then(|s| s.task.container_set.as_ref());
        let set = set.filter(|set| set.container(&container.name).is_some());
        let pause = Duration::from_millis(set.map_or(0, |s| s.pause_ms));
        let mut left = set.map_or(1, |s| s.attempts.max(1));
        let (mut upper, mut printed) = (Upper::Scratch, String::new());
        loop {
            left -= 1;
            let ended = self.spawn(container, ready.clone(), None, variables, writer, upper, started).await;
            let (exit, mut remains) = ended?;
            // Its last newline was taken off.
            if !printed.is_empty() && !remains.stdout.is_empty() {
                printed.push('\n');
            }
            printed.push_str(&remains.stdout);
            if exit.code == 0 || left == 0 || *cancel.borrow() {
                remains.stdout = printed;
                return Ok((exit, remains));
            }
            upper = match remains.spec.as_ref().map(|spec| &spec.rootfs) {
                Some(Rootfs::Overlay { upper, .. }) => upper.clone(),
                _ => Upper::Scratch,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = raised(&mut cancel) => {
                    remains.stdout = printed;
                    return Ok((exit, remains));
                }
            }
        }
    }

    fn termination_file(&self, container: &Container) -> std::io::Result<PathBuf> {
        let directory = self.setup.small("termination");
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(&container.name);
        std::fs::write(&path, b"")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        Ok(path)
    }

    #[allow(clippy::too_many_arguments)]
    async fn spawn(
        &self,
        container: &Container,
        ready: Ready,
        executor: Option<Option<&'static str>>,
        variables: &[(String, String)],
        writer: &Arc<log::Writer>,
        upper: Upper,
        started: &impl Fn(Live),
    ) -> Result<(Exit, Remains), StartError> {
        let mut process = if let Some(Some(role)) = executor {
            let mut own = container.clone();
            own.command = Some(vec![role.to_owned()]);
            own.args = None;
            plan::process(&self.pod, &own, &ready.config, variables, &self.setup.hostname)?
        } else {
            plan::process(&self.pod, container, &ready.config, variables, &self.setup.hostname)?
        };
        let user = user(&process, &ready.lowers)?;
        if !process.env.iter().any(|(name, _)| name == "HOME") {
            let home = user.home.clone().unwrap_or_else(|| if user.uid == 0 { "/root".into() } else { "/".into() });
            process.env.push(("HOME".to_owned(), home));
        }
        if let Some(variable) = self.step.as_ref().and_then(|step| step.environment(container)) {
            process.env.push(variable);
        }
        let termination = self.termination_file(container).map_err(|e| config_error(e.to_string()))?;
        let volumes = volume_mounts(&self.setup, container, variables).map_err(config_error)?;
        let mut mounts = self.mounts(container, &volumes);
        let message_path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        mounts.push(Mount::bind(&termination, message_path));
        if executor.is_some() && !mounts.iter().any(|m| m.target.starts_with("/etc/ssl")) {
            // Our own image holds nothing but the program: whom to trust is what this machine says.
            let known = AUTHORITIES.iter().find(|file| Path::new(file).is_file());
            mounts.extend(known.map(|file| Mount::bind_ro(Path::new(file), AUTHORITIES[0])));
        }
        let own = self.setup.directory.join("image-volumes").join(&container.name);
        mounts.extend(volume::of_image(&ready.config.volumes, &ready.lowers, &mounts, &own).map_err(config_error)?);
        let network = match (&self.setup.attachment, self.agent.config().policy.host_network) {
            (Some(attachment), _) => attachment.netns().network(),
            (None, true) => Network::Host,
            (None, false) => Network::None,
        };
        let executable = match executor.is_some() {
            true => Some(self.agent.executable().map_err(|e| config_error(e.to_string()))?),
            false => None,
        };
        let account = mounts.iter().any(|m| m.target == Path::new(setup::ACCOUNT_DIR));
        if container.tty.unwrap_or(false) && !process.env.iter().any(|(name, _)| name == "TERM") {
            process.env.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        let spec = Spec {
            rootfs: Rootfs::Overlay { lowers: self.agent.root_layers(&ready.lowers, account), upper },
            mounts,
            args: process.args.clone(),
            executable,
            env: process.env.clone(),
            cwd: PathBuf::from(&process.cwd),
            user,
            hostname: Some(self.setup.hostname.clone()),
            capabilities: process.capabilities,
            no_new_privs: process.no_new_privs,
            seccomp: process.seccomp,
            readonly_root: process.readonly_root,
            privileged: process.privileged,
            network,
            ipc: self.setup.ipc.clone().map_or(Namespace::New, Namespace::Join),
            resources: process.resources.clone(),
            ..Spec::default()
        };
        let begun = Timestamp::now();
        let start_failed = |error: &windlass_sandbox::Error| {
            StartError::Failed(Box::new(Exit {
                code: error.exit_code(),
                signal: None,
                reason: "StartError".into(),
                message: Some(format!("failed to start container {:?}: {error}", container.name)),
                started: Some(begun),
                finished: Timestamp::now(),
                container_id: None,
            }))
        };
        let io = |error: std::io::Error| config_error(format!("streams of the container: {error}"));
        let audience = Audience::default();
        let (stdio, mut ends) = Ends::make(container).map_err(io)?;
        let stdout = Arc::new(Mutex::new(log::Captured::new(self.captured(container))));
        let stderr = Arc::new(Mutex::new(log::Captured::new(0)));
        let mut kept = spec.clone();
        let running = self.agent.config().host.spawn(spec, stdio).await.map_err(|e| start_failed(&e))?;
        if let Some(terminal) = running.terminal() {
            ends.terminal(terminal, container).map_err(io)?;
        }
        // One task, standard output first: what a program says last, on standard error, then stands last in its log.
        let out = Heard::new(ends.stdout, Voice::Out, audience.clone());
        let out = log::pump(out, "stdout", writer.clone(), stdout.clone());
        let err = Heard::new(ends.stderr, Voice::Err, audience.clone());
        let err = log::pump(err, "stderr", writer.clone(), stderr);
        let pumps = [tokio::spawn(async move {
            futures::join!(out, err);
        })];
        if let (Some(scratch), Rootfs::Overlay { upper, .. }) = (running.scratch(), &mut kept.rootfs) {
            *upper = Upper::Existing(scratch.clone());
        }
        let kept = Arc::new(kept);
        let keyboard = ends.keyboard;
        let listed = self.agent.sessions().list(
            self.pod.metadata.uid.as_deref().unwrap_or_default(),
            &container.name,
            Running { process: running.clone(), spec: kept.clone(), audience, keyboard: keyboard.clone() },
        );
        let id = format!("windlass://{}", uuid::Uuid::new_v4().simple());
        started(Live {
            process: Some((running.clone(), kept.clone())),
            stop_signal: stop_signal(ready.config.stop_signal.as_deref()),
            id: id.clone(),
            image_id: ready.id.clone(),
            pulled: ready.pulled,
        });
        let ended = running.wait().await;
        let finished = Timestamp::now();
        for mut pump in pumps {
            // Never only the pipe's end: something may still hold it.
            if tokio::time::timeout(DRAIN, &mut pump).await.is_err() {
                pump.abort();
            }
        }
        drop(listed);
        if let Some(keyboard) = keyboard {
            keyboard.close().await;
        }
        let reason = match (ended.oom_killed, ended.code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        let exit = Exit {
            code: ended.code,
            signal: ended.signal,
            reason: reason.into(),
            message: self.message(container, &termination, ended.code != 0),
            started: Some(begun),
            finished,
            container_id: Some(id),
        };
        let stdout = stdout.lock().unwrap_or_else(PoisonError::into_inner).text();
        Ok((exit, Remains { spec: Some(kept), stdout, _held: Arc::new(volumes.held) }))
    }

    /// How much of standard output to keep.
    fn captured(&self, container: &Container) -> usize {
        let wanted = self.step.as_ref().is_some_and(|s| s.task.include_result && s.main == container.name);
        if wanted { RESULT_BYTES_MAX } else { 0 }
    }

    fn mounts(&self, container: &Container, volumes: &VolumeMounts) -> Vec<Mount> {
        let mut mounts = volumes.mounts.clone();
        if let Some(step) = &self.step {
            mounts.extend(step.mounts(container));
        }
        // Parents before what is mounted inside them.
        mounts.sort_by_key(|m| m.target.components().count());
        let own = self.setup.mounts.iter().filter(|m| !mounts.iter().any(|o| o.target == m.target)).cloned();
        own.chain(mounts.iter().cloned()).collect()
    }

    fn message(&self, container: &Container, file: &Path, failed: bool) -> Option<String> {
        let mut bytes = Vec::new();
        if let Ok(file) = std::fs::File::open(file) {
            let _ = file.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !text.is_empty() {
            return Some(text);
        }
        let fallback = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if !(failed && fallback) {
            return None;
        }
        let log = log::file(&self.agent.log_directory(&self.pod), &container.name, false);
        log::last_lines(&log, FALLBACK_LINES_MAX, FALLBACK_BYTES_MAX)
    }

    /// A kaniko step: our builder, in this process, over the Pod's directories.
    async fn build(
        &self,
        container: &Container,
        args: &[String],
        variables: &[(String, String)],
        writer: &Arc<log::Writer>,
        mut cancel: watch::Receiver<bool>,
        started: impl Fn(Live),
    ) -> Result<(Exit, Remains), StartError> {
        let Some(builder) = self.agent.config().builder.clone() else {
            return Err(config_error("this node has no builder for kaniko steps"));
        };
        let known: BTreeMap<String, String> = variables.iter().cloned().collect();
        let args: Vec<String> = args.iter().map(|arg| env::expand(arg, &known)).collect();
        let io = |error: std::io::Error| config_error(error.to_string());
        let termination = self.termination_file(container).map_err(io)?;
        let volumes = volume_mounts(&self.setup, container, variables).map_err(config_error)?;
        let root = self.setup.directory.join("root").join(&container.name);
        std::fs::create_dir_all(&root).map_err(io)?;
        let mut mounts = self.mounts(container, &volumes);
        let message_path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        mounts.push(Mount::bind(&termination, message_path));
        let placed = mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind { path, .. } => Some((mount.target.clone(), path.clone(), mount.readonly)),
            MountSource::Tmpfs { .. } => None,
        });
        let paths = PathMap::new(placed.collect(), root.clone());
        let config_dir = known.get("DOCKER_CONFIG").map_or("/kaniko/.docker", String::as_str);
        let docker_config = std::fs::read(paths.place(&Path::new(config_dir).join("config.json")).path()).ok();
        let cwd = container.working_dir.clone().filter(|d| !d.is_empty()).unwrap_or_else(|| "/".into());
        let sink = {
            let writer = writer.clone();
            LogSink::new(move |error, text| writer.text(if error { "stderr" } else { "stdout" }, text))
        };
        let meta = &self.pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let request = BuildRequest {
            args,
            env: variables.to_vec(),
            cwd: cwd.into(),
            paths,
            docker_config,
            log: sink,
            cancel: cancel.clone(),
            pod: (text(&meta.namespace), text(&meta.name), text(&meta.uid)),
        };
        let begun = Timestamp::now();
        let id = format!("windlass://{}", uuid::Uuid::new_v4().simple());
        started(Live {
            process: None,
            stop_signal: libc_term(),
            id: id.clone(),
            image_id: container.image.clone().unwrap_or_default(),
            pulled: false,
        });
        // Its own task: a builder that panics must not take the Pod's worker with it.
        let mut work = tokio::spawn(async move { builder.build(request).await });
        let ended = tokio::select! {
            ended = &mut work => Some(ended),
            () = raised(&mut cancel) => None,
        };
        let ended = match ended {
            Some(ended) => Some(ended),
            None => match tokio::time::timeout(Duration::from_secs(10), &mut work).await {
                Ok(ended) => Some(ended),
                Err(_) => {
                    work.abort();
                    None
                }
            },
        };
        let (code, cause) = match ended {
            Some(Ok(Ok(()))) => (0, None),
            Some(Ok(Err(BuildFailure { code, message }))) => {
                writer.text("stderr", &format!("{message}\n"));
                (code, message.lines().next().map(str::to_owned))
            }
            Some(Err(_)) => (1, Some("the builder ended with a fault of ours; see the log of windlass".to_owned())),
            None => (137, None),
        };
        let exit = Exit {
            code,
            signal: None,
            reason: if code == 0 { "Completed".into() } else { "Error".into() },
            message: self.message(container, &termination, code != 0).or(cause),
            started: Some(begun),
            finished: Timestamp::now(),
            container_id: Some(id),
        };
        // Outputs by path are read over the same directories.
        let spec = Spec { rootfs: Rootfs::Dir(root), mounts, ..Spec::default() };
        Ok((exit, Remains { spec: Some(Arc::new(spec)), stdout: String::new(), _held: Arc::new(volumes.held) }))
    }
}

/// Waits until the flag is raised; a dropped one is never raised.
async fn raised(flag: &mut watch::Receiver<bool>) {
    let raised = flag.wait_for(|raised| *raised).await.is_ok();
    if !raised {
        std::future::pending::<()>().await;
    }
}

fn libc_term() -> i32 {
    rustix::process::Signal::TERM.as_raw()
}

/// An image's `STOPSIGNAL`, by number or name.
fn stop_signal(text: Option<&str>) -> i32 {
    use rustix::process::Signal;
    let Some(text) = text.map(str::trim).filter(|t| !t.is_empty()) else { return libc_term() };
    if let Ok(number) = text.parse() {
        return number;
    }
    let upper = text.to_ascii_uppercase();
    let signal = match upper.strip_prefix("SIG").unwrap_or(&upper) {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "KILL" => Signal::KILL,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        _ => Signal::TERM,
    };
    signal.as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals() {
        assert_eq!(stop_signal(None), 15);
        assert_eq!(stop_signal(Some("SIGQUIT")), 3);
        assert_eq!(stop_signal(Some("2")), 2);
        assert_eq!(stop_signal(Some("int")), 2);
    }
}
