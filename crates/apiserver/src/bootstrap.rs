//! The objects that every cluster has: namespaces, their `default` ServiceAccount, the API's own Service. Made at
//! opening if they are not there; never changed.

use crate::ApiServer;
use crate::answer::ApiError;
use http::Method;
use serde_json::{Value, json};

/// Namespaces of a new cluster.
const NAMESPACES: [&str; 5] = ["default", "kube-node-lease", "kube-public", "kube-system", "windlass-system"];

/// Makes what is missing.
pub(crate) async fn run(server: &ApiServer) -> Result<(), ApiError> {
    for name in NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(server, "/api/v1/namespaces", &namespace).await?;
        default_account(server, name).await?;
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.1", "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}],
        },
    });
    ensure(server, "/api/v1/namespaces/default/services", &service).await
}

/// The ServiceAccount that pods have who name none.
pub(crate) async fn default_account(server: &ApiServer, namespace: &str) -> Result<(), ApiError> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    ensure(server, &format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account).await
}

async fn ensure(server: &ApiServer, path: &str, object: &Value) -> Result<(), ApiError> {
    match server.internal(Method::POST, path, "application/json", object).await {
        Err(error) if error.reason == "AlreadyExists" => Ok(()),
        other => other.map(|_| ()),
    }
}
