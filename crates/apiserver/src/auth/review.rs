//! The reviews: questions about identities and permissions that are POSTed and answered, never stored. Pure over the
//! evaluator and the authenticator.

use super::{Attributes, Authenticator, Decision, Identity, Rbac, Rule, token::ISSUER};
use crate::answer::{ApiError, FieldError};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The anonymous may see these, and nothing else whatever roles say.
const PUBLIC: [&str; 5] = ["/version", "/version/", "/healthz", "/livez", "/readyz"];

/// Whether a path tells nothing but version and health.
#[must_use]
pub fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path) || ["/healthz/", "/livez/", "/readyz/"].iter().any(|p| path.starts_with(p))
}

/// May this identity do that? One decision for requests and reviews.
#[must_use]
pub fn decide(rbac: &Rbac, who: &Identity, what: &Attributes) -> Decision {
    if !what.is_resource && what.verb == "get" && is_public(&what.path) {
        return Decision::Allow { reason: String::new() };
    }
    if who.user == super::identity::ANONYMOUS {
        return Decision::Deny { reason: String::new() };
    }
    rbac.decide(who, what)
}

/// Answers one of the reviews of `authorization.k8s.io` and `authentication.k8s.io`. `None`: not one of those.
#[must_use]
pub fn answer(
    rbac: &Rbac,
    authenticator: &Authenticator,
    who: &Identity,
    what: &Attributes,
    body: &Value,
    now: Timestamp,
) -> Option<Result<Value, ApiError>> {
    let answered = match (what.group.as_str(), what.version.as_str(), what.resource.as_str()) {
        ("authentication.k8s.io", "v1", "selfsubjectreviews") => {
            Ok(with_status("authentication.k8s.io/v1", "SelfSubjectReview", body, json!({"userInfo": who.user_info()})))
        }
        ("authentication.k8s.io", "v1", "tokenreviews") => Ok(token_review(authenticator, body, now)),
        ("authorization.k8s.io", "v1", "selfsubjectaccessreviews") => {
            access_review(rbac, "SelfSubjectAccessReview", who, body, "")
        }
        ("authorization.k8s.io", "v1", "subjectaccessreviews") => {
            subject(body).and_then(|who| access_review(rbac, "SubjectAccessReview", &who, body, ""))
        }
        ("authorization.k8s.io", "v1", "localsubjectaccessreviews") => {
            let about = &what.namespace;
            subject(body).and_then(|who| access_review(rbac, "LocalSubjectAccessReview", &who, body, about))
        }
        ("authorization.k8s.io", "v1", "selfsubjectrulesreviews") => rules_review(rbac, who, body),
        _ => return None,
    };
    Some(answered)
}

fn with_status(api_version: &str, kind: &str, body: &Value, status: Value) -> Value {
    let mut answer = json!({"kind": kind, "apiVersion": api_version, "metadata": {"creationTimestamp": null}});
    if let Some(spec) = body.get("spec").filter(|s| !s.is_null()) {
        answer["spec"] = spec.clone();
    }
    answer["status"] = status;
    answer
}

fn invalid(kind: &str, field: &str, message: &str) -> ApiError {
    let error = FieldError { reason: "FieldValueInvalid", field: field.to_owned(), message: message.to_owned() };
    ApiError::invalid_kind("authorization.k8s.io", kind, "", &[error])
}

/// The subject that a SubjectAccessReview asks about.
fn subject(body: &Value) -> Result<Identity, ApiError> {
    let spec = &body["spec"];
    let strings = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let user = spec["user"].as_str().unwrap_or_default().to_owned();
    let groups = strings(&spec["groups"]);
    if user.is_empty() && groups.is_empty() {
        let why = "Invalid value: \"\": at least one of user or group must be specified";
        return Err(invalid("SubjectAccessReview", "spec.user", why));
    }
    let extra: BTreeMap<String, Vec<String>> =
        spec["extra"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), strings(v))).collect();
    Ok(Identity { user, uid: spec["uid"].as_str().unwrap_or_default().to_owned(), groups, extra })
}

fn access_review(rbac: &Rbac, kind: &str, who: &Identity, body: &Value, local: &str) -> Result<Value, ApiError> {
    let spec = &body["spec"];
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_null() == path.is_null() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let why = if resource.is_null() {
            format!("Invalid value: \"null\": {why}")
        } else {
            format!("Invalid value: {resource}: cannot be specified in combination with nonResourceAttributes")
        };
        return Err(invalid(kind, "spec.resourceAttributes", &why));
    }
    let text = |v: &Value, k: &str| v[k].as_str().unwrap_or_default().to_owned();
    let what = if resource.is_null() {
        Attributes { verb: text(path, "verb"), path: text(path, "path"), ..Attributes::default() }
    } else {
        let namespace = text(resource, "namespace");
        if !local.is_empty() && namespace != local {
            let why = format!("Invalid value: {namespace:?}: must match metadata.namespace");
            return Err(invalid(kind, "spec.resourceAttributes.namespace", &why));
        }
        Attributes {
            verb: text(resource, "verb"),
            is_resource: true,
            path: String::new(),
            group: text(resource, "group"),
            version: text(resource, "version"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace,
            name: text(resource, "name"),
        }
    };
    let status = match decide(rbac, who, &what) {
        Decision::Allow { reason } if reason.is_empty() => json!({"allowed": true}),
        Decision::Allow { reason } => json!({"allowed": true, "reason": reason}),
        Decision::Deny { reason } if reason.is_empty() => json!({"allowed": false}),
        Decision::Deny { reason } => json!({"allowed": false, "reason": reason}),
    };
    Ok(with_status("authorization.k8s.io/v1", kind, body, status))
}

fn rules_review(rbac: &Rbac, who: &Identity, body: &Value) -> Result<Value, ApiError> {
    let namespace = body["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let (rules, missing) = if who.in_group(super::identity::MASTERS) {
        let any = vec!["*".to_owned()];
        let all = Rule { verbs: any.clone(), api_groups: any.clone(), resources: any.clone(), ..Rule::default() };
        (vec![all, Rule { verbs: any.clone(), non_resource_urls: any, ..Rule::default() }], Vec::new())
    } else {
        rbac.rules_for(who, namespace)
    };
    let (resource, path): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|r| r.non_resource_urls.is_empty());
    let mut status = json!({"resourceRules": resource, "nonResourceRules": path, "incomplete": false});
    if !missing.is_empty() {
        status["evaluationError"] = json!(missing.join(", "));
    }
    let mut answer = with_status("authorization.k8s.io/v1", "SelfSubjectRulesReview", body, status);
    answer["spec"] = json!({});
    Ok(answer)
}

fn token_review(authenticator: &Authenticator, body: &Value, now: Timestamp) -> Value {
    let spec = &body["spec"];
    let mut audiences: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let status = match authenticator.identify(spec["token"].as_str().unwrap_or_default(), &audiences, now) {
        Ok((who, audiences)) => json!({"authenticated": true, "user": who.user_info(), "audiences": audiences}),
        Err(_) => json!({"user": {}, "error": "invalid bearer token"}),
    };
    with_status("authentication.k8s.io/v1", "TokenReview", body, status)
}
