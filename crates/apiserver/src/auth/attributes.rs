//! What is asked for: verb, group, resource and name, read from method and path alone, as Kubernetes does it. Never
//! looks at bodies and never decides.

use super::Identity;

/// One request, as authorization sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method
    /// otherwise.
    pub verb: String,
    /// Whether the path names a resource; if not, only `path` counts.
    pub is_resource: bool,
    /// The path as sent.
    pub path: String,
    /// The API group, empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The plural name of the resource.
    pub resource: String,
    /// `status`, `log`, …; empty if none.
    pub subresource: String,
    /// The namespace, empty at cluster scope.
    pub namespace: String,
    /// The object's name, empty if none is named.
    pub name: String,
}

/// Subresources of a namespace: `/namespaces/x/status` is not a resource called `status` in the namespace `x`.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl Attributes {
    /// Reads a request line.
    #[must_use]
    pub fn of(method: &http::Method, uri: &http::Uri) -> Self {
        let path = uri.path();
        let verb = match *method {
            http::Method::POST => "create",
            http::Method::GET | http::Method::HEAD => "get",
            http::Method::PUT => "update",
            http::Method::PATCH => "patch",
            http::Method::DELETE => "delete",
            _ => "",
        };
        let lower = method.as_str().to_ascii_lowercase();
        let mut it = Self { verb: lower, path: path.to_owned(), ..Self::default() };
        let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(decode).collect();
        let mut rest: &[String] = &parts;
        match rest.first().map(String::as_str) {
            Some("api") if rest.len() >= 3 => {
                it.version = rest[1].clone();
                rest = &rest[2..];
            }
            Some("apis") if rest.len() >= 4 => {
                it.group = rest[1].clone();
                it.version = rest[2].clone();
                rest = &rest[3..];
            }
            _ => return it,
        }
        it.is_resource = true;
        it.verb = verb.to_owned();
        if rest.len() > 1 && rest[0] == "watch" {
            it.verb = "watch".to_owned();
            rest = &rest[1..];
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            it.namespace = rest[1].clone();
            if rest.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&rest[2].as_str()) {
                rest = &rest[2..];
            }
        }
        it.resource = rest[0].clone();
        it.name = rest.get(1).cloned().unwrap_or_default();
        it.subresource = rest.get(2).cloned().unwrap_or_default();
        if it.name.is_empty() {
            let query = uri.query().unwrap_or_default();
            match it.verb.as_str() {
                "get" => it.verb = if asks_watch(query) { "watch" } else { "list" }.to_owned(),
                "delete" => it.verb = "deletecollection".to_owned(),
                _ => {}
            }
            if matches!(it.verb.as_str(), "list" | "watch" | "deletecollection") {
                it.name = name_selector(query).unwrap_or_default();
            }
        }
        it
    }

    /// The resource with its subresource, as RBAC rules write it: `pods/log`.
    #[must_use]
    pub fn combined(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The sentence of a refusal, without its reason.
    #[must_use]
    pub fn refusal(&self, who: &Identity) -> String {
        if !self.is_resource {
            return format!("User {:?} cannot {} path {:?}", who.user, self.verb, self.path);
        }
        let what = format!(
            "User {:?} cannot {} resource {:?} in API group {:?}",
            who.user,
            self.verb,
            self.combined(),
            self.group
        );
        if self.namespace.is_empty() {
            format!("{what} at the cluster scope")
        } else {
            format!("{what} in the namespace {:?}", self.namespace)
        }
    }
}

fn asks_watch(query: &str) -> bool {
    url::form_urlencoded::parse(query.as_bytes())
        .any(|(k, v)| k == "watch" && !matches!(v.as_ref(), "false" | "0" | "False" | "FALSE" | "f" | "F"))
}

fn name_selector(query: &str) -> Option<String> {
    let (_, selector) = url::form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == "fieldSelector")?;
    let name = selector.split(',').find_map(|s| s.strip_prefix("metadata.name="))?;
    Some(name.trim_start_matches('=').to_owned())
}

fn decode(part: &str) -> String {
    if !part.contains('%') {
        return part.to_owned();
    }
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| part.get(at + 1..at + 3)).flatten();
        if let Some(value) = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(value);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(method: &str, uri: &str) -> String {
        let a = Attributes::of(&method.parse().unwrap(), &uri.parse().unwrap());
        if !a.is_resource {
            return format!("{} {}", a.verb, a.path);
        }
        format!("{} {:?} {} ns={:?} name={:?}", a.verb, a.group, a.combined(), a.namespace, a.name)
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        for (method, uri, want) in [
            ("GET", "/version", "get /version"),
            ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
            ("GET", "/api/v1/pods", "list \"\" pods ns=\"\" name=\"\""),
            ("GET", "/api/v1/namespaces/a/pods?watch=1", "watch \"\" pods ns=\"a\" name=\"\""),
            ("GET", "/api/v1/namespaces/a/pods?watch=false", "list \"\" pods ns=\"a\" name=\"\""),
            ("GET", "/api/v1/namespaces/a/pods/p/log", "get \"\" pods/log ns=\"a\" name=\"p\""),
            ("GET", "/api/v1/namespaces/a", "get \"\" namespaces ns=\"a\" name=\"a\""),
            ("PUT", "/api/v1/namespaces/a/finalize", "update \"\" namespaces/finalize ns=\"a\" name=\"a\""),
            ("GET", "/api/v1/namespaces", "list \"\" namespaces ns=\"\" name=\"\""),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection \"apps\" deployments ns=\"a\" name=\"\"",
            ),
            (
                "POST",
                "/apis/argoproj.io/v1alpha1/namespaces/a/workflows",
                "create \"argoproj.io\" workflows ns=\"a\" name=\"\"",
            ),
            (
                "GET",
                "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Ds",
                "list \"\" secrets ns=\"a\" name=\"s\"",
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:x%3Ay",
                "get \"rbac.authorization.k8s.io\" clusterroles ns=\"\" name=\"system:x:y\"",
            ),
        ] {
            assert_eq!(of(method, uri), want, "{method} {uri}");
        }
    }
}
