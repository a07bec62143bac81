//! How the lists of built-in kinds merge: by which key, as sets, or not at all. One table, by type, of what differs
//! from "maps merge, lists are replaced". Holds no logic of patches.

/// How a field's value merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// A struct of that type.
    Struct(&'static str),
    /// A list of structs of that type, merged by the key for strategic merge patches. Server-side apply may use more
    /// keys (`also`) to tell items apart.
    List { of: &'static str, key: &'static str, also: &'static [&'static str] },
    /// A list of plain values, merged as a set.
    Set,
    /// A struct of which the patch lists what shall stay (`$retainKeys`).
    Union(&'static str),
    /// Replaced as a whole, also by server-side apply.
    Atomic,
}

use Merge::{Atomic, List, Set, Struct, Union};

const fn list(of: &'static str, key: &'static str) -> Merge {
    List { of, key, also: &[] }
}

type Fields = &'static [(&'static str, Merge)];

const OBJECT_META: Fields =
    &[("ownerReferences", list("OwnerReference", "uid")), ("finalizers", Set), ("managedFields", Atomic)];

const CONTAINER: Fields = &[
    ("env", list("EnvVar", "name")),
    ("ports", List { of: "ContainerPort", key: "containerPort", also: &["protocol"] }),
    ("volumeMounts", list("VolumeMount", "mountPath")),
    ("volumeDevices", list("VolumeDevice", "devicePath")),
    ("resources", Struct("ResourceRequirements")),
    ("securityContext", Struct("SecurityContext")),
    ("command", Atomic),
    ("args", Atomic),
    ("envFrom", Atomic),
];

const POD_SPEC: Fields = &[
    ("containers", list("Container", "name")),
    ("initContainers", list("Container", "name")),
    ("ephemeralContainers", list("Container", "name")),
    ("volumes", list("Volume", "name")),
    ("imagePullSecrets", list("LocalObjectReference", "name")),
    ("hostAliases", list("HostAlias", "ip")),
    (
        "topologySpreadConstraints",
        List { of: "TopologySpreadConstraint", key: "topologyKey", also: &["whenUnsatisfiable"] },
    ),
    ("resourceClaims", list("PodResourceClaim", "name")),
    ("schedulingGates", list("PodSchedulingGate", "name")),
    ("securityContext", Struct("PodSecurityContext")),
    ("tolerations", Atomic),
    ("nodeSelector", Atomic),
];

/// Type → fields that are special. Types that are not here have none.
const TYPES: &[(&str, Fields)] = &[
    ("ObjectMeta", OBJECT_META),
    ("Container", CONTAINER),
    ("PodSpec", POD_SPEC),
    ("PodTemplateSpec", &[("metadata", Struct("ObjectMeta")), ("spec", Struct("PodSpec"))]),
    ("ResourceRequirements", &[("claims", list("ResourceClaim", "name"))]),
    ("EnvVar", &[("valueFrom", Struct("EnvVarSource"))]),
    (
        "EnvVarSource",
        &[("configMapKeyRef", Atomic), ("secretKeyRef", Atomic), ("fieldRef", Atomic), ("resourceFieldRef", Atomic)],
    ),
    ("Volume", &[("projected", Struct("ProjectedVolumeSource")), ("secret", Struct("")), ("configMap", Struct(""))]),
    (
        "PodStatus",
        &[
            ("conditions", list("Condition", "type")),
            ("podIPs", list("PodIP", "ip")),
            ("hostIPs", Atomic),
            ("containerStatuses", Atomic),
            ("initContainerStatuses", Atomic),
            ("ephemeralContainerStatuses", Atomic),
        ],
    ),
    ("Pod", &[("spec", Struct("PodSpec")), ("status", Struct("PodStatus"))]),
    ("NodeSpec", &[("podCIDRs", Set), ("taints", Atomic)]),
    (
        "NodeStatus",
        &[("addresses", list("NodeAddress", "type")), ("conditions", list("Condition", "type")), ("images", Atomic)],
    ),
    ("Node", &[("spec", Struct("NodeSpec")), ("status", Struct("NodeStatus"))]),
    ("NamespaceSpec", &[("finalizers", Atomic)]),
    ("NamespaceStatus", &[("conditions", list("Condition", "type"))]),
    ("Namespace", &[("spec", Struct("NamespaceSpec")), ("status", Struct("NamespaceStatus"))]),
    (
        "ServiceSpec",
        &[
            ("ports", List { of: "ServicePort", key: "port", also: &["protocol"] }),
            ("selector", Atomic),
            ("clusterIPs", Atomic),
            ("externalIPs", Atomic),
            ("ipFamilies", Atomic),
        ],
    ),
    ("ServiceStatus", &[("conditions", list("Condition", "type"))]),
    ("Service", &[("spec", Struct("ServiceSpec")), ("status", Struct("ServiceStatus"))]),
    ("ServiceAccount", &[("secrets", list("ObjectReference", "name")), ("imagePullSecrets", Atomic)]),
    ("Endpoints", &[("subsets", Atomic)]),
    ("PersistentVolumeClaimStatus", &[("conditions", list("Condition", "type"))]),
    ("PersistentVolumeClaim", &[("status", Struct("PersistentVolumeClaimStatus"))]),
    (
        "DeploymentSpec",
        &[("template", Struct("PodTemplateSpec")), ("strategy", Union("DeploymentStrategy")), ("selector", Atomic)],
    ),
    ("DeploymentStatus", &[("conditions", list("Condition", "type"))]),
    ("Deployment", &[("spec", Struct("DeploymentSpec")), ("status", Struct("DeploymentStatus"))]),
    ("ReplicaSetSpec", &[("template", Struct("PodTemplateSpec")), ("selector", Atomic)]),
    ("ReplicaSetStatus", &[("conditions", list("Condition", "type"))]),
    ("ReplicaSet", &[("spec", Struct("ReplicaSetSpec")), ("status", Struct("ReplicaSetStatus"))]),
    ("JobSpec", &[("template", Struct("PodTemplateSpec")), ("selector", Atomic)]),
    ("JobStatus", &[("conditions", list("Condition", "type"))]),
    ("Job", &[("spec", Struct("JobSpec")), ("status", Struct("JobStatus"))]),
    ("JobTemplateSpec", &[("metadata", Struct("ObjectMeta")), ("spec", Struct("JobSpec"))]),
    ("CronJobSpec", &[("jobTemplate", Struct("JobTemplateSpec"))]),
    ("CronJobStatus", &[("active", Atomic)]),
    ("CronJob", &[("spec", Struct("CronJobSpec")), ("status", Struct("CronJobStatus"))]),
    ("ClusterRole", &[("rules", Atomic), ("aggregationRule", Atomic)]),
    ("Role", &[("rules", Atomic)]),
    ("ClusterRoleBinding", &[("subjects", Atomic), ("roleRef", Atomic)]),
    ("RoleBinding", &[("subjects", Atomic), ("roleRef", Atomic)]),
    ("EndpointSlice", &[("endpoints", Atomic), ("ports", Atomic)]),
    ("CustomResourceDefinitionStatus", &[("conditions", list("Condition", "type")), ("storedVersions", Atomic)]),
    ("CustomResourceDefinition", &[("status", Struct("CustomResourceDefinitionStatus"))]),
];

/// How a field of a type merges, where the table says so. Every kind's `metadata` is an `ObjectMeta`.
pub(crate) fn of(type_name: &str, field: &str, root: bool) -> Option<Merge> {
    if root && field == "metadata" {
        return Some(Struct("ObjectMeta"));
    }
    // Volumes tell their sources apart by which one is there.
    let fields = TYPES.iter().find(|(name, _)| *name == type_name)?.1;
    fields.iter().find(|(name, _)| *name == field).map(|(_, merge)| *merge)
}
