//! The places where the request pipeline asks the rooms around it: authorization, discovery, protobuf, defaults, field
//! validation, tables, reviews and tokens. Each function is one question; the answers live in those rooms. Never reads
//! the store by itself.
//!
//! Order of one request: identity (a request extension, set by the in-process client or by the listener) →
//! [`authorize`] → [`non_resource`] or the resource path → [`virtual_create`] for kinds that are asked, not stored →
//! [`decode`] → [`check_shape`] → [`default_object`] → [`validate_object`] → store → [`render_table`] where a table is
//! wanted.

use crate::ApiServer;
use crate::answer::{ApiError, Body, FieldError, bytes_response};
use crate::auth::authn::RequestRefused;
use crate::auth::bootstrap as auth_bootstrap;
use crate::auth::{Attributes, Decision, Identity, escalation, identity, rbac, review};
use crate::discovery::{self, Aggregated};
use crate::edge;
use crate::kinds::Resource;
use crate::openapi::{self, Finding};
use crate::{defaults, proto, table};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use jiff::Timestamp;
use serde_json::Value;

/// May this identity do that? `Err` is the 403 (or 401).
pub(crate) fn authorize(server: &ApiServer, who: &Identity, what: &Attributes) -> Result<(), ApiError> {
    match review::decide(&server.edge().rbac, who, what) {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { reason } => Err(edge::forbidden(what, who, &reason)),
    }
}

/// Paths that name no resource: `/version`, `/healthz`, discovery, OpenAPI. `None` is a 404.
pub(crate) fn non_resource(server: &ApiServer, parts: &Parts) -> Option<Response<Body>> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return None;
    }
    let registry = server.registry();
    let accept = parts.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let path: Vec<&str> = parts.uri.path().split('/').filter(|p| !p.is_empty()).collect();
    let document = match path[..] {
        ["version"] => discovery::version(),
        ["healthz" | "livez" | "readyz"] => return Some(health(path[0], parts.uri.query())),
        ["healthz" | "livez" | "readyz", "ping"] => {
            return Some(bytes_response(200, "text/plain; charset=utf-8", Bytes::from_static(b"ok")));
        }
        ["api" | "apis"] => {
            let core = path[0] == "api";
            if let Some(form) = Aggregated::of_accept(accept) {
                let body = discovery::aggregated(&registry, form, core).to_string();
                return Some(cached(parts, form.content_type(), body));
            }
            if core { discovery::core_versions() } else { discovery::groups(&registry) }
        }
        ["api", version] => discovery::resources(&registry, "", version)?,
        ["apis", group] => discovery::group(&registry, group)?,
        ["apis", group, version] => discovery::resources(&registry, group, version)?,
        ["openapi", "v3"] => openapi::index(&registry),
        ["openapi", "v3", "api", version] => openapi::of_group_version(&registry, "", version)?,
        ["openapi", "v3", "apis", group, version] => openapi::of_group_version(&registry, group, version)?,
        _ => return None,
    };
    Some(cached(parts, "application/json", document.to_string()))
}

/// `ok`, or with `?verbose` what was looked at.
fn health(which: &str, query: Option<&str>) -> Response<Body> {
    let verbose = query.is_some_and(|q| q.split('&').any(|p| p == "verbose" || p.starts_with("verbose=")));
    let text = if verbose { format!("[+]ping ok\n{which} check passed\n") } else { "ok".to_owned() };
    bytes_response(200, "text/plain; charset=utf-8", Bytes::from(text))
}

/// A document with its hash, and 304 for whoever has it already.
fn cached(parts: &Parts, content_type: &'static str, body: String) -> Response<Body> {
    let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
    let tag = format!("\"{}\"", hex::encode_upper(digest.as_ref()));
    let known = parts.headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = bytes_response(200, content_type, if known { Bytes::new() } else { Bytes::from(body) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// A POST to a resource that is asked and not stored: the reviews of `authorization.k8s.io` and
/// `authentication.k8s.io`, and the subresource `serviceaccounts/token`. `None`: not one of those.
pub(crate) fn virtual_create(
    server: &ApiServer,
    who: &Identity,
    what: &Attributes,
    headers: &HeaderMap,
    body: &Bytes,
) -> Option<Result<Value, ApiError>> {
    let is_token =
        (what.group.as_str(), what.resource.as_str(), what.subresource.as_str()) == ("", "serviceaccounts", "token");
    let is_review =
        discovery::ASKED.iter().any(|(group, _, _, plural, _)| *group == what.group && *plural == what.resource);
    if !is_token && !is_review {
        return None;
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    let body = match decode(content_type, body) {
        Ok(body) if body.is_object() => body,
        Ok(_) => return Some(Err(ApiError::bad_request("the object provided is unrecognized"))),
        Err(error) => return Some(Err(error)),
    };
    if is_token {
        return Some(issue_token(server, what, &body));
    }
    let edge = server.edge();
    review::answer(&edge.rbac, &edge.authenticator, who, what, &body, Timestamp::now())
}

fn issue_token(server: &ApiServer, what: &Attributes, body: &Value) -> Result<Value, ApiError> {
    let registry = server.registry();
    let named = |resource: &str, name: &str| match registry.find("", "v1", resource) {
        Some(r) => ApiError::not_found(r, name),
        None => ApiError::no_such_path(),
    };
    let account = server
        .stored("serviceaccounts", &what.namespace, &what.name)
        .ok_or_else(|| named("serviceaccounts", &what.name))?;
    server.edge().authenticator.issue(&account, body, Timestamp::now()).map_err(|refused| match refused {
        RequestRefused::Invalid { field, problem } => {
            let error = FieldError { reason: "FieldValueInvalid", field: field.to_owned(), message: problem };
            ApiError::invalid_kind("authentication.k8s.io", "TokenRequest", "", &[error])
        }
        RequestRefused::NotFound { resource, name } => named(resource, &name),
        RequestRefused::Uid { .. } => match registry.find("", "v1", "serviceaccounts") {
            Some(r) => ApiError::conflict(r, &what.name, &refused.to_string()),
            None => ApiError::no_such_path(),
        },
        RequestRefused::Internal(why) => ApiError::internal(why),
    })
}

/// A request body: JSON, YAML or protobuf, by its content type, as a JSON object.
pub(crate) fn decode(content_type: &str, body: &Bytes) -> Result<Value, ApiError> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    match media {
        "" | "application/json" | "*/*" => json_of(body),
        "application/yaml" | "application/apply-patch+yaml" => {
            // JSON is what clients mostly send under this name, and cheaper.
            json_of(body).or_else(|_| {
                let text = std::str::from_utf8(body).map_err(|e| ApiError::bad_request(e.to_string()))?;
                serde_saphyr::from_str(text)
                    .map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: {e}")))
            })
        }
        proto::CONTENT_TYPE => proto::decode(body).map_err(|e| ApiError::bad_request(e.to_string())),
        _ if media.ends_with("+json") => json_of(body),
        _ => Err(ApiError::unsupported_media_type(&["application/json", "application/yaml", proto::CONTENT_TYPE])),
    }
}

fn json_of(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|e| ApiError::bad_request(format!("the object provided is unrecognized (must be of type json): {e}")))
}

/// Fields that a JSON body names twice. Where nobody insists, large bodies are not looked through a second time.
pub(crate) fn duplicate_fields(content_type: &str, body: &Bytes, insist: bool) -> Vec<String> {
    const CASUAL_BYTES_MAX: usize = 32 << 10;
    if content_type.starts_with(proto::CONTENT_TYPE) || (!insist && body.len() > CASUAL_BYTES_MAX) {
        return Vec::new();
    }
    openapi::duplicate_fields(body)
}

/// Refuses a built-in object whose fields have other types than its kind gives them; takes away the fields that the kind
/// does not have, and tells their paths: `spec.foo`. `old` is the form that was stored.
pub(crate) fn check_shape(r: &Resource, object: &mut Value, old: Option<&Value>) -> Result<Vec<String>, ApiError> {
    if !r.builtin {
        return Ok(Vec::new());
    }
    let version = r.api_version();
    let mut unknown = Vec::new();
    for finding in openapi::check(&version, &r.kind, object, old) {
        match finding {
            Finding::Unknown(path) => unknown.push(path),
            Finding::Type(why) => {
                let (kind, version) = (&r.kind, &r.version);
                let why = format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}");
                return Err(ApiError::bad_request(why));
            }
        }
    }
    if !unknown.is_empty() {
        openapi::prune(&version, &r.kind, object);
    }
    Ok(unknown)
}

/// Whether the caller may write this object, beyond the verb: RBAC escalation checks. `old` is absent on creation.
pub(crate) fn admit(
    server: &ApiServer,
    who: &Identity,
    r: &Resource,
    namespace: &str,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !r.builtin || r.group != rbac::GROUP || who.in_group(identity::MASTERS) {
        return Ok(());
    }
    let evaluator = &server.edge().rbac;
    let may = |verb: &str, resource: &str, name: &str| {
        let what = Attributes {
            verb: verb.to_owned(),
            is_resource: true,
            group: rbac::GROUP.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        evaluator.decide(who, &what).allowed()
    };
    let wanted = match r.plural.as_str() {
        "roles" | "clusterroles" => {
            let same =
                old.is_some_and(|o| o["rules"] == object["rules"] && o["aggregationRule"] == object["aggregationRule"]);
            if same || may("escalate", &r.plural, name) {
                return Ok(());
            }
            let mut rules = rbac::rules_of(object);
            if object["aggregationRule"].is_object() {
                // Whoever collects rules by label may collect any.
                let any = || vec!["*".to_owned()];
                rules.push(rbac::Rule { verbs: any(), api_groups: any(), resources: any(), ..rbac::Rule::default() });
                rules.push(rbac::Rule { verbs: any(), non_resource_urls: any(), ..rbac::Rule::default() });
            }
            rules
        }
        _ => {
            let same = old.is_some_and(|o| o["roleRef"] == object["roleRef"] && o["subjects"] == object["subjects"]);
            let kind = object["roleRef"]["kind"].as_str().unwrap_or_default();
            let role = object["roleRef"]["name"].as_str().unwrap_or_default();
            let resource = if kind == "Role" { "roles" } else { "clusterroles" };
            if same || may("bind", resource, role) {
                return Ok(());
            }
            match evaluator.role_rules(kind, role, namespace) {
                Ok(rules) => rules,
                // Kubernetes answers 404 here, with the binding's resource and the role's name.
                Err(_) => return Err(ApiError::not_found(r, role)),
            }
        }
    };
    let (owned, _) = evaluator.rules_for(who, namespace);
    let missing = escalation::missing(&owned, &wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = who.groups.iter().map(|g| format!("{g:?}")).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        who.user,
        groups.join(" "),
        missing.join("\n")
    );
    Err(ApiError::forbidden(r, name, &why))
}

/// Makes the roles and bindings that every cluster has, where they are not there.
pub(crate) async fn bootstrap(server: &ApiServer) -> Result<(), ApiError> {
    let registry = server.registry();
    for object in auth_bootstrap::objects() {
        let kind = object["kind"].as_str().unwrap_or_default();
        let Some(r) = registry.find_kind("rbac.authorization.k8s.io/v1", kind) else { continue };
        let path = format!("/apis/{}/{}/{}", r.group, r.version, r.plural);
        match server.internal(Method::POST, &path, "application/json", &object).await {
            Err(error) if error.reason != "AlreadyExists" => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Fills in the defaults of a built-in kind. Custom kinds are defaulted by their schema, elsewhere.
pub(crate) fn default_object(r: &Resource, object: &mut Value) {
    defaults::fill(r, object);
}

/// The faults of a built-in kind, beyond metadata. `old` is absent on creation.
pub(crate) fn validate_object(r: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    defaults::faults(r, object, old)
}

/// Whether the `Accept` header prefers a Table.
pub(crate) fn wants_table(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(table::preferred)
}

/// Objects as a `Table`. `include` is the query parameter `includeObject`: `None`, `Metadata` (default) or `Object`.
/// `list_meta` is the list's metadata (resourceVersion, continue, …). `headings` is false for watch events after the
/// first.
pub(crate) fn render_table(
    r: &Resource,
    objects: &[Bytes],
    list_meta: Value,
    include: &str,
    headings: bool,
) -> Result<Value, ApiError> {
    table::render(r, objects, list_meta, include, headings, Timestamp::now()).map_err(ApiError::internal)
}
