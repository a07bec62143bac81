//! The kubeconfig that `kubectl`, `argo` and everybody else uses: server, CA and token, one context called `windlass`.
//! Written 0600 and whole. Never reads the user's own kubeconfig and never touches it.

use crate::auth::token::write_private;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::io;
use std::path::Path;

/// The name of cluster, user and context.
pub const CONTEXT: &str = "windlass";

/// What a kubeconfig says.
pub struct Kubeconfig<'a> {
    /// `https://127.0.0.1:6470`.
    pub server: &'a str,
    /// The certificate authority, in PEM.
    pub ca_pem: &'a str,
    /// The bearer token.
    pub token: &'a str,
    /// The namespace of the context.
    pub namespace: &'a str,
}

impl Kubeconfig<'_> {
    /// The file's text. JSON is YAML, and nothing needs quoting rules.
    #[must_use]
    pub fn text(&self) -> String {
        let ca = STANDARD.encode(self.ca_pem);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": {"server": self.server, "certificate-authority-data": ca}}],
            "users": [{"name": CONTEXT, "user": {"token": self.token}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": self.namespace}}],
            "current-context": CONTEXT,
        });
        format!("{config:#}\n")
    }

    /// Writes the file, readable by its owner only.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, self.text().as_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn kube_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let config =
            Kubeconfig { server: "https://127.0.0.1:6470", ca_pem: "CA", token: "secret-token", namespace: "default" };
        config.write(&path).unwrap();
        config.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = kube::config::Kubeconfig::read_from(&path).unwrap();
        assert_eq!(read.current_context.as_deref(), Some(CONTEXT));
        assert_eq!(read.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://127.0.0.1:6470"));
    }
}
