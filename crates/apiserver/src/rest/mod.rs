//! Requests: from path, verb and body to an answer. The order of the steps is told in `hooks`. Holds no state.

pub(crate) mod delete;
pub(crate) mod form;
pub(crate) mod metadata;
mod placement;
mod pods;
mod query;
mod read;
mod scale;
mod storage;
mod strategy;
pub(crate) mod write;

pub(crate) use query::{DeleteOptions, Propagation, Query};

use crate::ApiServer;
use crate::answer::{ApiError, Body, bytes_response};
use crate::auth::{Attributes, Identity};
use crate::hooks;
use crate::kinds::Resource;
use bytes::Bytes;
use form::Form;
use http::{HeaderMap, HeaderValue, Response, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use query::FieldValidation;
use serde_json::Value;
use std::sync::Arc;

/// One request that names a resource.
pub(crate) struct Call {
    pub(crate) server: ApiServer,
    pub(crate) who: Identity,
    pub(crate) what: Attributes,
    pub(crate) r: Arc<Resource>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The query as sent, for keys that come more than once.
    pub(crate) raw_query: String,
    /// What the connection can be made into, where that was asked for.
    pub(crate) upgrade: Option<OnUpgrade>,
}

/// The largest body that is read, as on every cluster.
pub(crate) const BODY_BYTES_MAX: usize = 3 << 20;

/// Answers a request whose body was read.
pub(crate) async fn serve(server: &ApiServer, parts: Parts, body: Bytes) -> Result<Response<Body>, ApiError> {
    let who = parts.extensions.get::<Identity>().cloned().unwrap_or_else(Identity::anonymous);
    let what = Attributes::of(&parts.method, &parts.uri);
    hooks::authorize(server, &who, &what)?;
    if !what.is_resource {
        return hooks::non_resource(server, &parts).ok_or_else(ApiError::no_such_path);
    }
    if what.verb == "create"
        && let Some(answer) = hooks::virtual_create(server, &who, &what, &parts.headers, &body)
    {
        return answer.map(|value| crate::answer::json_response(201, &value));
    }
    let registry = server.registry();
    let Some(r) = registry.find(&what.group, &what.version, &what.resource).cloned() else {
        return Err(ApiError::not_served(&what.group, &what.version, &what.resource));
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let mut what = what;
    if r.is("", "namespaces") {
        // Attributes carry a namespace's own name there, for authorization; its key has none.
        what.namespace = String::new();
    }
    if !r.namespaced && !what.namespace.is_empty() {
        return Err(ApiError::no_such_path());
    }
    if r.namespaced
        && what.namespace.is_empty()
        && !(what.name.is_empty() || matches!(what.verb.as_str(), "list" | "watch"))
    {
        return Err(ApiError::no_such_path());
    }
    let raw_query = parts.uri.query().unwrap_or_default().to_owned();
    let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
    let call = Call { server: server.clone(), who, what, r, query, headers: parts.headers, body, raw_query, upgrade };
    call.dispatch().await
}

impl Call {
    async fn dispatch(&self) -> Result<Response<Body>, ApiError> {
        let named = !self.what.name.is_empty();
        match (self.what.subresource.as_str(), self.what.verb.as_str()) {
            ("", "get") => self.get(),
            ("", "list") => self.list(),
            ("", "watch") => self.watch(),
            ("", "create") if !named && self.what.namespace.is_empty() != self.r.namespaced => {
                let object = self.decoded()?;
                self.create(object).await
            }
            ("", "update" | "patch") if named => self.update("").await,
            ("status", "get") if self.r.status => self.get(),
            ("status", "update" | "patch") if self.r.status => self.update("status").await,
            ("finalize", "update") if self.r.is("", "namespaces") => self.update("finalize").await,
            ("scale", verb @ ("get" | "update" | "patch")) if self.r.scale.is_some() => self.scale(verb).await,
            ("", "delete") if named => self.delete().await,
            ("", "deletecollection") => self.delete_collection().await,
            (sub, verb) if self.r.is("", "pods") && !sub.is_empty() => self.pod_subresource(sub, verb).await,
            ("", _) => Err(ApiError::method_not_allowed()),
            _ => Err(ApiError::no_such_path()),
        }
    }

    /// The body as an object.
    pub(crate) fn decoded(&self) -> Result<Value, ApiError> {
        let object = hooks::decode(self.content_type(), &self.body)?;
        if object.is_object() {
            return Ok(object);
        }
        Err(ApiError::bad_request(format!("the object provided is unrecognized (must be of type {})", self.r.kind)))
    }

    pub(crate) fn content_type(&self) -> &str {
        self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json")
    }

    pub(crate) fn form(&self) -> Form {
        Form::wanted(&self.headers, self.query.text("includeObject"))
    }

    /// What to do about fields that the kind does not have: tell, refuse, or nothing.
    pub(crate) fn judge_unknown(&self, unknown: &[String], warnings: &mut Vec<String>) -> Result<(), ApiError> {
        let wanted = self.query.field_validation()?;
        let duplicates = match wanted {
            FieldValidation::Ignore => Vec::new(),
            _ => hooks::duplicate_fields(self.content_type(), &self.body, wanted == FieldValidation::Strict),
        };
        if unknown.is_empty() && duplicates.is_empty() {
            return Ok(());
        }
        let patch = self.what.verb == "patch";
        let of = if patch && self.content_type().starts_with(crate::patch::JSON) { "json patch " } else { "" };
        let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
        let lines: Vec<String> =
            duplicates.iter().map(|path| format!("{of}duplicate field {path:?}")).chain(unknown).collect();
        match wanted {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => *warnings = lines,
            FieldValidation::Strict => {
                let list = lines.join(", ");
                if patch {
                    let given = Value::from(String::from_utf8_lossy(&self.body).into_owned());
                    let fault =
                        crate::answer::FieldError::invalid("patch", &given, &format!("strict decoding error: {list}"));
                    return Err(ApiError::invalid_kind("", "", "", &[fault]));
                }
                let kind = &self.r.kind;
                return Err(ApiError::bad_request(format!(
                    "{kind} in version {:?} cannot be handled as a {kind}: strict decoding error: {list}",
                    self.r.version
                )));
            }
        }
        Ok(())
    }
}

/// An object as an answer, with warnings for whoever typed it.
pub(crate) fn object_response(code: u16, bytes: Bytes, warnings: &[String]) -> Response<Body> {
    let mut response = bytes_response(code, "application/json", bytes);
    for warning in warnings {
        let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}
