//! A step's Pod: inputs staged before its containers, outputs collected after, one `WorkflowTaskResult`. The protocol lives
//! in `windlass-executor`; this module gives it directories, a sandbox and the API.

use crate::container::{Context, Remains, StartError, volume_mounts};
use crate::log;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::api::Api;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;
use windlass_artifacts::archive::worker::{Worked, Workers};
use windlass_artifacts::{Cancel, Owner};
use windlass_executor::inputs::{self, Place, Secrets};
use windlass_executor::{COLLECT_ROLE, EXCHANGE_DIR, ExecutorError, outputs, progress, report, work};
use windlass_model::parameter::Outputs;
use windlass_model::task::{SCRIPT_PATH, Task};
use windlass_model::{Artifact, labels, places};
use windlass_sandbox::{Capabilities, Host, Mount, Namespace, Network, Resources, Rootfs, Spec, Stdio, User, Work};

const OUTPUTS_BYTES_MAX: u64 = 4 << 20;

/// A step that is staged.
pub(crate) struct Step {
    pub(crate) task: Task,
    /// The name of the step's own container.
    pub(crate) main: String,
    secrets: Secrets,
    /// The inputs that are there, once they are.
    filled: OnceCell<Vec<Place>>,
    script: Option<PathBuf>,
    exchange: Option<PathBuf>,
    /// The directory into which the step writes its progress.
    progress: Option<PathBuf>,
}

/// The task of a Pod; an error where its annotation cannot be read.
pub(crate) fn task(pod: &Pod) -> Option<Result<Task, ExecutorError>> {
    let text = pod.metadata.annotations.as_ref()?.get(labels::TASK)?;
    Some(serde_json::from_str(text).map_err(|e| ExecutorError::Task(e.to_string())))
}

/// The step's own container: `main`, else the first.
pub(crate) fn main_container(pod: &Pod) -> Option<&Container> {
    let containers = &pod.spec.as_ref()?.containers;
    containers.iter().find(|c| c.name == "main").or_else(|| containers.first())
}

/// Why a step could not be staged.
#[derive(Debug)]
pub(crate) enum StageError {
    /// The container waits for its image or configuration.
    Start(StartError),
    /// The inputs: the Pod fails with this message.
    Inputs(String),
}

/// Stages the inputs of `context`'s Pod.
pub(crate) async fn stage(context: &Context, task: Task, cancel: Cancel) -> Result<Step, StageError> {
    let failed = |error: &dyn std::fmt::Display| StageError::Inputs(error.to_string());
    let main = main_container(&context.pod).ok_or_else(|| failed(&"the pod has no container"))?.clone();
    if task.container_set.is_some() && main.name != "main" && !task.inputs.is_empty() {
        return Err(failed(&"inputs of a container set belong to its container main, and there is none"));
    }
    let mut step = Step {
        // Nobody's, where a container set has no such container.
        main: if task.container_set.is_some() { "main".to_owned() } else { main.name.clone() },
        secrets: read_secrets(context, &task).await.map_err(|e| failed(&e))?,
        filled: OnceCell::new(),
        script: None,
        exchange: None,
        progress: None,
        task,
    };
    if !step.task.is_ours() {
        let path = context.setup.small("progress");
        let made = std::fs::create_dir_all(&path)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)));
        made.map_err(|e| failed(&format!("progress: {e}")))?;
        step.progress = Some(path);
    }
    if let Some(source) = &step.task.script {
        let path = context.setup.small("script");
        let write = || -> std::io::Result<()> {
            std::fs::write(&path, source)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        };
        write().map_err(|e| failed(&format!("script: {e}")))?;
        step.script = Some(path);
    }
    if step.task.is_ours() {
        let path = context.setup.small("exchange");
        let json = serde_json::to_vec(&step.task).map_err(|e| failed(&e))?;
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
            std::fs::write(path.join(work::TASK_FILE), json)
        };
        write().map_err(|e| failed(&format!("task: {e}")))?;
        step.exchange = Some(path);
    }
    // A plugin brings them when it runs; all else is there before anything runs.
    if step.task.plugins_before().is_empty() {
        step.load(context, cancel).await?;
    }
    Ok(step)
}

/// Workers of this agent's host.
struct HostWorkers {
    host: Host,
    runtime: tokio::runtime::Handle,
}

impl Workers for HostWorkers {
    fn work(
        &self,
        directory: &Path,
        role: &str,
        request: String,
        input: OwnedFd,
        bytes_max: u64,
    ) -> std::io::Result<Worked> {
        let work = Work {
            role: role.to_owned(),
            request,
            rootfs: Rootfs::Dir(directory.to_owned()),
            input,
            file_bytes_max: bytes_max,
        };
        let worked = self.runtime.block_on(self.host.work(work)).map_err(std::io::Error::other)?;
        Ok(Worked { cause: worked.cause(), answer: worked.answer })
    }
}

async fn read_secrets(context: &Context, task: &Task) -> Result<Secrets, String> {
    let wanted = inputs::secrets_needed(task).map_err(|e| e.to_string())?;
    let namespace = context.pod.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<Secret> = Api::namespaced(context.agent.config().client.clone(), namespace);
    let mut secrets = Secrets::new();
    for reference in wanted {
        // What is missing is named by whoever needs it.
        if let Some(secret) = api.get_opt(&reference.name).await.map_err(|e| e.to_string())?
            && let Some(value) = secret.data.as_ref().and_then(|d| d.get(&reference.key))
        {
            secrets.insert(reference, windlass_artifacts::Secret::new(value.0.clone()));
        }
    }
    Ok(secrets)
}

impl Step {
    /// Brings the inputs, unless they are there.
    pub(crate) async fn load(&self, context: &Context, cancel: Cancel) -> Result<(), StageError> {
        self.filled.get_or_try_init(|| self.load_now(context, cancel)).await.map(drop)
    }

    async fn load_now(&self, context: &Context, cancel: Cancel) -> Result<Vec<Place>, StageError> {
        let failed = |error: &dyn std::fmt::Display| StageError::Inputs(error.to_string());
        if let Some(exchange) = self.exchange.as_ref().filter(|_| self.task.has_source()) {
            let (task, secrets, stores) = (self.task.clone(), self.secrets.clone(), self.stores(context));
            let cancel = cancel.clone();
            let listed = tokio::task::spawn_blocking(move || work::source(&task, &stores, &secrets, &cancel));
            let source = listed.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?.unwrap_or_default();
            let written = std::fs::write(exchange.join(work::SOURCE_FILE), source.to_string());
            written.map_err(|e| failed(&format!("{}: {e}", work::SOURCE_FILE)))?;
        }
        if self.task.inputs.is_empty() {
            return Ok(Vec::new());
        }
        let main = main_container(&context.pod).ok_or_else(|| failed(&"the pod has no container"))?;
        let user = context.owner(main).await.map_err(StageError::Start)?;
        let variables = context.setup.environment(&context.pod, main, &context.setup.found);
        let variables = variables.map_err(|e| StageError::Start(e.into()))?;
        let volumes = volume_mounts(&context.setup, main, &variables).map_err(|e| failed(&e))?;
        let private = context.setup.directory.join("inputs");
        let places = inputs::places(&self.task, &volumes.places, &private).map_err(|e| failed(&e))?;
        let (task, secrets, stores) = (self.task.clone(), self.secrets.clone(), self.stores(context));
        let owner = Some(Owner { uid: user.uid, gid: user.gid });
        let workers =
            HostWorkers { host: context.agent.config().host.clone(), runtime: tokio::runtime::Handle::current() };
        let staged = tokio::task::spawn_blocking(move || {
            let staged = inputs::stage(&task, &places, owner, &stores, &secrets, &workers, &cancel);
            drop(volumes);
            staged
        });
        staged.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
    }

    /// What the artifacts of this step are moved with: names are looked up as in its Pod, its plugins run in it.
    fn stores(&self, context: &Context) -> inputs::Stores {
        let namespace = context.pod.metadata.namespace.as_deref().unwrap_or("default");
        let mut stores = context.agent.config().stores.clone().with_inside(context.agent.fabric().names(namespace));
        let volumes = context.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        // One with anything else in it is none of ours.
        let volumes: Vec<&str> = volumes.filter(|v| v.empty_dir.is_some()).map(|v| v.name.as_str()).collect();
        for name in self.task.plugins_before().into_iter().chain(self.task.plugins_after()) {
            let volume = format!("{}{name}", places::ARTIFACT_PLUGIN);
            if let Some(directory) = context.setup.volumes.get(&volume).filter(|_| volumes.contains(&volume.as_str())) {
                stores.outside.plugins.add(name, directory, places::artifact_plugin_dir(name));
            }
        }
        stores
    }

    /// What the step's inputs add to the mounts of `container`.
    pub(crate) fn mounts(&self, container: &Container) -> Vec<Mount> {
        if container.name != self.main {
            return Vec::new();
        }
        let mut mounts: Vec<Mount> = self
            .filled
            .get()
            .into_iter()
            .flatten()
            .filter(|p| p.mounted)
            .map(|place| Mount::bind(place.root.join(&place.target), &place.path))
            .collect();
        mounts.extend(self.script.iter().map(|path| Mount::bind_ro(path, SCRIPT_PATH)));
        mounts.extend(self.exchange.iter().map(|path| Mount::bind(path, EXCHANGE_DIR)));
        let told = self.progress.iter().filter(|_| self.tells_progress(container));
        mounts.extend(told.map(|path| Mount::bind(path, places::PROGRESS_DIR)));
        mounts
    }

    /// What the step's own container finds in its environment.
    pub(crate) fn environment(&self, container: &Container) -> Option<(String, String)> {
        self.tells_progress(container).then(|| {
            let file = format!("{}/{}", places::PROGRESS_DIR, places::PROGRESS_FILE);
            (places::PROGRESS_VARIABLE.to_owned(), file)
        })
    }

    /// Whether this container is the step's own, and has nothing of the user's where its progress is written.
    fn tells_progress(&self, container: &Container) -> bool {
        let mut mounts = container.volume_mounts.iter().flatten();
        let taken = mounts.any(|m| m.mount_path.trim_end_matches('/') == places::PROGRESS_DIR);
        container.name == self.main && self.progress.is_some() && !taken
    }

    fn progress(&self) -> Option<String> {
        progress::read(&self.progress.as_ref()?.join(places::PROGRESS_FILE))
    }

    /// Tells the step's progress as it changes. Ends when it is dropped.
    pub(crate) async fn follow_progress(&self, context: &Context) {
        let namespace = context.pod.metadata.namespace.as_deref().unwrap_or("default");
        let mut last = None;
        loop {
            tokio::time::sleep(progress::PAUSE).await;
            let now = self.progress();
            if let Some(text) = now.as_deref().filter(|text| last.as_deref() != Some(*text)) {
                let sent = report::send_progress(&context.agent.config().client, namespace, &self.task, text).await;
                // What is not told now is told with the next change, or in the end.
                if let Err(problem) = sent {
                    tracing::debug!(step = self.task.node_id, problem, "progress");
                }
                last = now;
            }
        }
    }

    /// Collects the outputs after the step's own container has ended, and reports them. Answers what went wrong with them;
    /// after a failure of the step itself nothing more can go wrong with its outputs.
    pub(crate) async fn finish(
        &self,
        context: &Context,
        remains: Option<&Remains>,
        succeeded: bool,
        cancel: Cancel,
    ) -> Result<(), String> {
        let (mut collected, problem) = self.collect(context, remains, cancel.clone()).await;
        if self.task.include_result
            && !self.task.is_ours()
            && let Some(remains) = remains
        {
            collected.result = Some(remains.stdout.clone());
        }
        let mut problem = problem;
        for (container, artifact) in self.task.logs() {
            let container = if self.task.container_set.is_some() { container } else { &self.main };
            match self.keep_log(context, container, artifact, cancel.clone()).await {
                Ok(true) => collected.artifacts.push(artifact.clone()),
                Ok(false) => {}
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        // A container that failed says why by its exit code; outputs that it did not make are no reason.
        let message = problem.as_deref().filter(|_| !succeeded && self.exchange.is_some());
        if let Some(object) = report::task_result(&self.task, &collected, message, self.progress().as_deref()) {
            let namespace = context.pod.metadata.namespace.as_deref().unwrap_or("default");
            report::send(&context.agent.config().client, namespace, &self.task.node_id, object).await?;
        }
        match problem {
            Some(problem) if succeeded => Err(problem),
            _ => Ok(()),
        }
    }

    async fn collect(&self, context: &Context, remains: Option<&Remains>, cancel: Cancel) -> (Outputs, Option<String>) {
        if let Some(exchange) = &self.exchange {
            return match read_exchange(&exchange.join(work::OUTPUTS_FILE)) {
                Ok(outputs) => (outputs, None),
                Err(error) => (Outputs::default(), Some(error)),
            };
        }
        let request = match outputs::request(&self.task) {
            Ok(Some(request)) => request,
            Ok(None) => return (Outputs::default(), None),
            Err(error) => return (Outputs::default(), Some(error.to_string())),
        };
        let Some(spec) = remains.and_then(|r| r.spec.clone()) else {
            return (Outputs::default(), Some("outputs: the step's container never ran".to_owned()));
        };
        match self.collect_with_worker(context, &spec, &request, cancel).await {
            Ok((outputs, problem)) => (outputs, problem.map(|p| p.to_string())),
            Err(error) => (Outputs::default(), Some(format!("reading the step's outputs: {error}"))),
        }
    }

    /// Runs the confined worker over the step's filesystem and reads its frames.
    async fn collect_with_worker(
        &self,
        context: &Context,
        spec: &Spec,
        request: &windlass_executor::worker::Request,
        cancel: Cancel,
    ) -> Result<(Outputs, Option<ExecutorError>), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let worker = Spec {
            rootfs: spec.rootfs.clone(),
            mounts: spec.mounts.clone(),
            args: vec![COLLECT_ROLE.to_owned()],
            executable: Some(context.agent.executable().map_err(|e| text(&e))?),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: User::default(),
            // Root's eyes, nothing else: files of any owner are outputs.
            capabilities: capabilities(&["DAC_OVERRIDE", "DAC_READ_SEARCH"]),
            no_new_privs: true,
            network: Network::None,
            ipc: Namespace::New,
            resources: Resources::default(),
            ..Spec::default()
        };
        let mut stdin = tempfile::tempfile().map_err(|e| text(&e))?;
        let json = serde_json::to_vec(request).map_err(|e| text(&e))?;
        stdin.write_all(&json).and_then(|()| stdin.rewind()).map_err(|e| text(&e))?;
        let (mut reader, writer) = std::io::pipe().map_err(|e| text(&e))?;
        let stdio = Stdio { stdin: Some(stdin.into()), stdout: Some(writer.into()), stderr: None, terminal: false };
        let running = context.agent.config().host.spawn(worker, stdio).await.map_err(|e| text(&e))?;
        let (task, secrets) = (self.task.clone(), self.secrets.clone());
        let stores = self.stores(context);
        let reading = tokio::task::spawn_blocking({
            let cancel = cancel.clone();
            move || outputs::collect(&task, &mut reader, &stores, &secrets, &cancel)
        });
        let result = reading.await.map_err(|e| text(&e));
        let _ = running.signal(9);
        running.wait().await;
        result
    }

    /// False where the container never ran.
    async fn keep_log(
        &self,
        context: &Context,
        container: &str,
        artifact: &Artifact,
        cancel: Cancel,
    ) -> Result<bool, String> {
        use futures::TryStreamExt;
        let artifact = artifact.clone();
        let path = log::file(&context.agent.log_directory(&context.pod), container, false);
        if !path.exists() {
            return Ok(false);
        }
        let stream = log::open(&path, log::LogOptions::default(), None).map_err(|e| format!("log: {e}"))?;
        let reader = tokio_util::io::StreamReader::new(stream.map_ok(|bytes| bytes));
        let mut reader = tokio_util::io::SyncIoBridge::new(Box::pin(reader));
        let (secrets, stores) = (self.secrets.clone(), self.stores(context));
        let saving = tokio::task::spawn_blocking(move || {
            outputs::save_stream(&artifact, &mut reader, &stores, &secrets, &cancel)
        });
        saving.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        Ok(true)
    }
}

fn capabilities(names: &[&str]) -> Capabilities {
    names.iter().filter_map(|n| Capabilities::parse(n)).fold(Capabilities::none(), Capabilities::with)
}

fn read_exchange(path: &Path) -> Result<Outputs, String> {
    use std::io::Read;
    let file = match rustix::fs::open(
        path,
        // The container could have put a link there.
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    ) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(Outputs::default()),
        Err(error) => return Err(format!("outputs: {error}")),
    };
    let mut bytes = Vec::new();
    file.take(OUTPUTS_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| format!("outputs: {e}"))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("outputs: {e}"))
}
