//! Names of labels, annotations and finalizers. Only names: nothing here is computed.

/// Label: the workflow a pod or task result belongs to.
pub const WORKFLOW: &str = "workflows.argoproj.io/workflow";
/// Label: the `instanceID` of the controller whose it is.
pub const INSTANCE: &str = "workflows.argoproj.io/controller-instanceid";
/// Label: whether the workflow or the pod's node has ended.
pub const COMPLETED: &str = "workflows.argoproj.io/completed";
/// Label: how far a finished workflow's archiving has come: `Pending`, `Archived`; on the copy that is kept `Persisted`.
pub const ARCHIVING_STATUS: &str = "workflows.argoproj.io/workflow-archiving-status";
/// Label: the workflow's phase.
pub const PHASE: &str = "workflows.argoproj.io/phase";
/// Label: the WorkflowTemplate a workflow was made from.
pub const WORKFLOW_TEMPLATE: &str = "workflows.argoproj.io/workflow-template";
/// Label: the ClusterWorkflowTemplate a workflow was made from.
pub const CLUSTER_WORKFLOW_TEMPLATE: &str = "workflows.argoproj.io/cluster-workflow-template";
/// Label: the CronWorkflow a workflow was made by.
pub const CRON_WORKFLOW: &str = "workflows.argoproj.io/cron-workflow";
/// Label: the WorkflowEventBinding a workflow was made by.
pub const EVENT_BINDING: &str = "workflows.argoproj.io/workflow-event-binding";
/// Label: a resubmitted workflow's origin.
pub const RESUBMITTED_FROM: &str = "workflows.argoproj.io/resubmitted-from-workflow";
/// Label: the pod belongs to an exit handler.
pub const ON_EXIT: &str = "workflows.argoproj.io/on-exit";
/// Label: who made the workflow.
pub const CREATOR: &str = "workflows.argoproj.io/creator";
/// Label: what a pod of the system is for.
pub const COMPONENT: &str = "workflows.argoproj.io/component";
/// Label: what a ConfigMap holds (`Parameter`, `Cache`).
pub const CONFIGMAP_TYPE: &str = "workflows.argoproj.io/configmap-type";
/// Label on a WorkflowTaskResult: whether the outputs are all reported.
pub const REPORT_OUTPUTS_COMPLETED: &str = "workflows.argoproj.io/report-outputs-completed";
/// Value of [`COMPONENT`] on pods that remove artifacts.
pub const ARTIFACT_GC: &str = "artifact-gc";
/// Annotation on such a pod and on its ledger: when the artifacts go.
pub const ARTIFACT_GC_STRATEGY: &str = "workflows.argoproj.io/artifact-gc-strategy";
/// Annotation of workflows and pods: the trace of the run, in hexadecimal digits.
pub const TRACE_ID: &str = "workflows.argoproj.io/trace-id";
/// Annotation of workflows and pods: their span in it.
pub const SPAN_ID: &str = "workflows.argoproj.io/span-id";
/// Finalizer that Argo's controller keeps on a workflow with artifacts to remove. Ours never puts it on, and takes it off.
pub const ARTIFACT_GC_FINALIZER: &str = "workflows.argoproj.io/artifact-gc";
/// Label on a workflow that has made artifacts to remove, and with the workflow's name on what removes them.
pub const GARBAGE: &str = "windlass.dev/artifact-gc";
/// Annotation on a ledger: the workflow's uid.
pub const GARBAGE_OF: &str = "windlass.dev/workflow-uid";
/// Label on a workflow whose node table lies on pages, and on those ConfigMaps.
pub const NODE_TABLE: &str = "windlass.dev/node-table";
/// Label on a ledger: artifacts stayed, its status says which and why. Without it they are tried again.
pub const ORPHANS: &str = "windlass.dev/orphans";
/// Annotation on a pod: the node's id.
pub const NODE_ID: &str = "workflows.argoproj.io/node-id";
/// Annotation on a pod: the node's name.
pub const NODE_NAME: &str = "workflows.argoproj.io/node-name";
/// Annotation on a workflow: how pods are named.
pub const POD_NAME_FORMAT: &str = "workflows.argoproj.io/pod-name-format";
/// Annotation on a template: overrides a node's display name.
pub const DISPLAY_NAME: &str = "workflows.argoproj.io/display-name";
/// Annotation on a workflow: when its schedule meant it to run.
pub const SCHEDULED_TIME: &str = "workflows.argoproj.io/scheduled-time";
/// Annotation on a workflow or a template: outputs are remembered by what they are made of. `true`, `false`, or how long.
pub const CACHE: &str = "windlass.dev/cache";
/// Annotation: a title for people.
pub const TITLE: &str = "workflows.argoproj.io/title";
/// Annotation: a description for people.
pub const DESCRIPTION: &str = "workflows.argoproj.io/description";
/// Annotation on a pod: the progress (`N/M`) that its node begins with.
pub const PROGRESS: &str = "workflows.argoproj.io/progress";
/// Annotation on a pod: the container `kubectl logs` shows by default.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Annotation on a pod: the [`Task`](crate::task::Task) for the executor, as JSON.
pub const TASK: &str = "windlass.dev/task";
/// Annotation on a pod of the `pod` form: the same [`Task`](crate::task::Task), for the executor in the pod itself.
pub const POD_TASK: &str = "windlass.dev/pod-task";
/// Annotation on a pod: the attempt of the infrastructure (0 is the first), to tell pods of one name apart.
pub const ATTEMPT: &str = "windlass.dev/attempt";
/// Finalizer on a pod: its result is not in the workflow's status yet.
pub const POD_FINALIZER: &str = "workflows.argoproj.io/status";
/// Prefix of the annotations by which a workflow tells the event that started it.
pub const WEBHOOK_PREFIX: &str = "k8s-webhook-handler.io/";
