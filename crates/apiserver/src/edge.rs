//! The state of the edge: the RBAC evaluator and the authenticator of one server, over its store. Opens keys and
//! tokens, gives requests from outside their identity; decides nothing by itself.

use crate::ApiServer;
use crate::answer::ApiError;
use crate::auth::{Attributes, Authenticator, Identity, Objects, Rbac, SigningKey, StaticToken, review};
use crate::store::{Store, key_of};
use crate::streams;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde_json::Value;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What authentication and authorization keep.
pub(crate) struct Edge {
    pub(crate) rbac: Rbac,
    pub(crate) authenticator: Authenticator,
    pub(crate) admin: Option<StaticToken>,
}

impl Edge {
    /// Keys and tokens come from `run` (made there if absent, 0600); without it the signing key lives as long as the
    /// process and there is no administrator's token.
    pub(crate) fn open(run: Option<&Path>, store: Arc<Store>) -> io::Result<Self> {
        let (admin, key) = match run {
            Some(dir) => (
                Some(StaticToken::load_or_create(&dir.join("token"))?),
                SigningKey::load_or_create(&dir.join("sa.key"))?,
            ),
            None => (None, SigningKey::ephemeral()?),
        };
        let objects: Arc<dyn Objects> = store;
        let rbac = Rbac::new(objects.clone());
        Ok(Self { rbac, authenticator: Authenticator::new(admin.clone(), key, objects), admin })
    }
}

fn storage(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// The store as authentication and authorization read it.
impl Objects for Store {
    fn get(&self, group: &str, resource: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        let table = self.table(&storage(group, resource));
        table.get(&key_of(namespace.unwrap_or_default(), name)).map(|o| o.value())
    }

    fn list(&self, group: &str, resource: &str) -> Vec<Value> {
        let table = self.table(&storage(group, resource));
        table.snapshot(None, None, None).unwrap_or_default().0.iter().map(|o| o.value()).collect()
    }

    fn version(&self, group: &str, resource: &str) -> u64 {
        self.table(&storage(group, resource)).rv()
    }
}

/// The identity of a request from outside: its token's, or whom that one impersonates.
pub(crate) fn identify(server: &ApiServer, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let edge = server.edge();
    let with_token = subprotocol_token(headers);
    let shown = with_token.as_ref().unwrap_or(headers);
    let who = edge.authenticator.authenticate(shown, Timestamp::now()).map_err(|_| ApiError::unauthorized())?;
    impersonated(edge, who, headers)
}

/// Browsers cannot set headers for a WebSocket: their token is among the subprotocols. The headers with it in its usual
/// place, where that is so.
fn subprotocol_token(headers: &HeaderMap) -> Option<HeaderMap> {
    if headers.contains_key(header::AUTHORIZATION) {
        return None;
    }
    let token = URL_SAFE_NO_PAD.decode(streams::bearer(headers)?).ok()?;
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.as_slice()].concat()).ok()?;
    value.set_sensitive(true);
    let mut with_token = headers.clone();
    with_token.insert(header::AUTHORIZATION, value);
    Some(with_token)
}

fn impersonated(edge: &Edge, who: Identity, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let texts = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok().map(str::to_owned)).collect()
    };
    let (user, groups) = (texts("impersonate-user").into_iter().next(), texts("impersonate-group"));
    let uid = texts("impersonate-uid").into_iter().next().unwrap_or_default();
    let Some(user) = user else {
        if groups.is_empty() && uid.is_empty() {
            return Ok(who);
        }
        return Err(ApiError::bad_request("requested impersonation of a group or uid without impersonating a user"));
    };
    let may = |resource: &str, namespace: &str, name: &str| {
        let what = Attributes {
            verb: "impersonate".to_owned(),
            is_resource: true,
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        if review::decide(&edge.rbac, &who, &what).allowed() {
            return Ok(());
        }
        Err(forbidden(&what, &who, ""))
    };
    let mut parts = user.strip_prefix("system:serviceaccount:").into_iter().flat_map(|rest| rest.split(':'));
    let account = match (parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some(name), None) => Some((namespace, name)),
        _ => None,
    };
    match account {
        Some((namespace, name)) => may("serviceaccounts", namespace, name)?,
        None => may("users", "", &user)?,
    }
    for group in &groups {
        may("groups", "", group)?;
    }
    if !uid.is_empty() {
        may("uids", "", &uid)?;
    }
    let mut as_whom = match account {
        Some((namespace, name)) => Identity::service_account(namespace, name, &uid),
        None => Identity { user: user.clone(), uid, ..Identity::default() },
    };
    if !groups.is_empty() {
        as_whom.groups = groups;
    }
    let everyone = match user.as_str() {
        crate::auth::identity::ANONYMOUS => crate::auth::identity::UNAUTHENTICATED,
        _ => crate::auth::identity::AUTHENTICATED,
    };
    if !as_whom.in_group(everyone) {
        as_whom.groups.push(everyone.to_owned());
    }
    Ok(as_whom)
}

/// The 403 for a request, in Kubernetes' words.
pub(crate) fn forbidden(what: &Attributes, who: &Identity, reason: &str) -> ApiError {
    let mut sentence = what.refusal(who);
    if !reason.is_empty() {
        sentence = format!("{sentence}: {reason}");
    }
    if !what.is_resource {
        return ApiError::new(403, "Forbidden", format!("forbidden: {sentence}")).with_details(serde_json::json!({}));
    }
    let qualified =
        if what.group.is_empty() { what.resource.clone() } else { format!("{}.{}", what.resource, what.group) };
    let message = if what.name.is_empty() {
        format!("{qualified} is forbidden: {sentence}")
    } else {
        format!("{qualified} {:?} is forbidden: {sentence}", what.name)
    };
    ApiError::new(403, "Forbidden", message).with_details(crate::answer::details(
        &what.group,
        &what.resource,
        &what.name,
    ))
}
