//! What the `pod` form has around it, as the recordings had: MinIO with the bucket `my-bucket` as the repository of
//! artifacts, behind a Service, and in each namespace the account by which executors report.

use serde_json::{Value, json};

/// Where the server runs.
pub(crate) const STORE: &str = "store";
/// Who reports.
pub(crate) const EXECUTOR: &str = "windlass-executor";
/// The controller's own namespace.
const CONTROLLER: &str = "windlass-system";

const CONFIG: &str = "artifactRepository:
  archiveLogs: false
  s3:
    bucket: my-bucket
    endpoint: minio.store:9000
    insecure: true
    createBucketIfNotPresent: {}
    accessKeySecret: {name: my-minio-cred, key: accesskey}
    secretKeySecret: {name: my-minio-cred, key: secretkey}
";

/// What the controller reads when it starts.
pub(crate) fn configuration() -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CONTROLLER}}),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "workflow-controller-configmap", "namespace": CONTROLLER},
            "data": {"config": CONFIG},
        }),
    ]
}

/// The server, and the right of executors to report.
pub(crate) fn server(program: &str) -> [Value; 4] {
    let at = |name: &str| json!({"name": name, "namespace": STORE, "labels": {"app": "minio"}});
    let probe = json!({"httpGet": {"path": "/minio/health/ready", "port": 9000}, "periodSeconds": 1});
    let container = json!({
        "name": "minio", "image": "minio/minio", "command": [program, "server", "--quiet", "/data"],
        "env": [{"name": "MINIO_BROWSER", "value": "off"}, {"name": "MINIO_UPDATE", "value": "off"}],
        "readinessProbe": probe,
    });
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STORE}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": at("minio"), "spec": {"containers": [container]}}),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": at("minio"),
            "spec": {"selector": {"app": "minio"}, "ports": [{"port": 9000}]},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": EXECUTOR},
            "rules": [{
                "apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"],
            }],
        }),
    ]
}

/// The account of a namespace's executors.
pub(crate) fn account(namespace: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": EXECUTOR}}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": EXECUTOR},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": EXECUTOR},
            "subjects": [{"kind": "ServiceAccount", "name": EXECUTOR, "namespace": namespace}],
        }),
    ]
}

/// Its token, as executors mount it.
pub(crate) fn token(namespace: &str, token: &Value, authority: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "windlass-executor-token"},
        "stringData": {"token": token, "ca.crt": authority, "namespace": namespace},
    })
}
