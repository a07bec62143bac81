//! Places inside a step's pod of the `pod` form, as the engine names them in the pod and the executor finds them. Only
//! names.

/// The executor's own directory, writable for every container of the pod: the supervisor's socket, the log to be kept,
/// and the exchange of a step that is our own work.
pub const RUN_DIR: &str = "/var/run/windlass";
/// The supervisor's socket.
pub const SOCKET: &str = "/var/run/windlass/supervisor.sock";
/// The log of a container that is to be kept.
pub fn kept_log(container: &str) -> String {
    format!("{RUN_DIR}/{container}.log")
}

/// The variable that names the file into which a step writes its progress, `N/M`.
pub const PROGRESS_VARIABLE: &str = "ARGO_PROGRESS_FILE";
/// That file's name.
pub const PROGRESS_FILE: &str = "progress";
/// Its directory, where the node agent gives one: Argo's.
pub const PROGRESS_DIR: &str = "/var/run/argo";

/// A script's source, before it is mounted; beneath [`RUN_DIR`].
pub const SCRIPT_FILE: &str = "script";
/// Where this program is in every container of the pod.
pub const BIN_DIR: &str = "/var/run/windlass-bin";
/// This program there.
pub const PROGRAM: &str = "/var/run/windlass-bin/windlass";
/// This program in its own image.
pub const IMAGE_PROGRAM: &str = "/windlass";
/// The step's task, out of the pod's annotation.
pub const TASK_DIR: &str = "/var/run/windlass-task";
/// The file in [`TASK_DIR`].
pub const TASK_FILE: &str = "task.json";
/// Secrets of artifact locations: `NAME/KEY`, in the executor's containers only.
pub const SECRETS_DIR: &str = "/var/run/windlass-secrets";
/// Inputs that are in no volume of the step: `INDEX/content`.
pub const INPUTS_DIR: &str = "/var/run/windlass-inputs";
/// Where the executor sees the step's own volumes: followed by their path in the step's container.
pub const VOLUMES_DIR: &str = "/var/run/windlass-volumes";
/// Where a step that builds an image does so.
pub const BUILD_DIR: &str = "/var/run/windlass-build";
/// Where a pod finds the token of a ServiceAccount.
pub const ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The executor's verb in the pod: `windlass executor ROLE`.
pub const VERB: &str = "executor";
/// Role: brings this program and the inputs.
pub const INIT: &str = "init";
/// Role: stands beside the step, takes its outputs and reports them.
pub const SUPERVISE: &str = "supervise";
/// Role: runs the step's own command.
pub const MAIN: &str = "main";
/// Role: runs the command of one container of a set; the next word is its name.
pub const MEMBER: &str = "member";
/// Role: runs a sidecar's command until the step has ended.
pub const SIDECAR: &str = "sidecar";
/// Role: carries out a `resource`, `http`, `data` or `plugin` template.
pub const WORK: &str = "work";

/// Role: makes the tokens of executor plugins; the next words are the plugins' containers.
pub const TOKENS: &str = "plugin-tokens";
/// Where a plugin finds its `token`, and who asks them finds all of them: `NAME/token`.
pub const PLUGIN_DIR: &str = "/var/run/argo";

/// Role: builds an image with kaniko's flags.
pub const BUILD: &str = "kaniko";

/// Exit code of the executor's own failures.
pub const EXIT_EXECUTOR: i32 = 64;
/// Environment: rules `FROM=TO` of git URLs, one a line.
pub const REMAP_GIT: &str = "WINDLASS_REMAP_GIT";
/// Environment: rules `FROM=TO` of S3 and HTTP servers, one a line.
pub const REMAP_ENDPOINT: &str = "WINDLASS_REMAP_ENDPOINT";
/// Environment: rules `FROM=TO` of registries, one a line.
pub const REMAP_REGISTRY: &str = "WINDLASS_REMAP_REGISTRY";
/// Environment: registries without TLS, one a line.
pub const INSECURE_REGISTRY: &str = "WINDLASS_INSECURE_REGISTRY";

/// The beginning of the names of an artifact plugin's container and of the volume with its socket.
pub const ARTIFACT_PLUGIN: &str = "artifact-plugin-";
/// An artifact plugin's socket, in its directory.
pub const ARTIFACT_SOCKET: &str = "socket";
/// The directory that an artifact plugin shares with who moves artifacts: Argo's.
pub fn artifact_plugin_dir(name: &str) -> String {
    format!("/tmp/artifact-plugins/{name}")
}
