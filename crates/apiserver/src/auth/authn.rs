//! Authentication: headers in, [`Identity`] out. A ServiceAccount token counts only while its ServiceAccount, and the
//! pod or secret that it is bound to, exist with the same uid. Never decides what the identity may do.

use super::token::{BoundObject, Claims, ISSUER, KubernetesClaim, SigningKey, StaticToken, TokenError};
use super::{Identity, Objects};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// The credential is not accepted. Why is in the log, not in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Unauthorized")]
pub struct Unauthorized;

/// Checks credentials, and makes ServiceAccount tokens.
pub struct Authenticator {
    admin: Option<StaticToken>,
    key: SigningKey,
    objects: Arc<dyn Objects>,
}

/// A TokenRequest that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefused {
    /// A field is wrong: path, reason (`Invalid value: 60`), detail.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field's path.
        field: &'static str,
        /// What is wrong with it, in Kubernetes' words.
        problem: String,
    },
    /// The object that it shall be bound to does not exist.
    #[error("{resource} {name:?} not found")]
    NotFound {
        /// The plural name.
        resource: &'static str,
        /// The object's name.
        name: String,
    },
    /// It exists, with another uid.
    #[error(
        "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
    )]
    Uid {
        /// The uid that was asked for.
        asked: String,
    },
    /// We could not sign.
    #[error("{0}")]
    Internal(String),
}

impl Authenticator {
    /// An authenticator over a store. Without a static token only ServiceAccounts come in.
    #[must_use]
    pub fn new(admin: Option<StaticToken>, key: SigningKey, objects: Arc<dyn Objects>) -> Self {
        Self { admin, key, objects }
    }

    /// Who sent these headers: anonymous without a credential, refused with a wrong one.
    pub fn authenticate(&self, headers: &http::HeaderMap, now: Timestamp) -> Result<Identity, Unauthorized> {
        let Some(header) = headers.get(http::header::AUTHORIZATION) else { return Ok(Identity::anonymous()) };
        let header = header.to_str().map_err(|_| Unauthorized)?;
        let Some((scheme, token)) = header.split_once(' ') else { return Err(Unauthorized) };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Unauthorized);
        }
        self.identify(token.trim(), &[ISSUER.to_owned()], now).map(|(who, _)| who)
    }

    /// Who holds a token that is meant for one of the audiences, and for which of them.
    pub fn identify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<(Identity, Vec<String>), Unauthorized> {
        if self.admin.as_ref().is_some_and(|t| t.is(token)) {
            return Ok((Identity::admin(), audiences.to_vec()));
        }
        let claims = self.key.verify(token, now).map_err(refuse)?;
        let shared: Vec<String> = claims.aud.iter().filter(|a| audiences.contains(a)).cloned().collect();
        if shared.is_empty() {
            tracing::debug!(subject = %claims.sub, "token refused: it is for another audience");
            return Err(Unauthorized);
        }
        self.alive(&claims)?;
        Ok((identity_of(&claims), shared))
    }

    fn alive(&self, claims: &Claims) -> Result<(), Unauthorized> {
        let k = &claims.kubernetes;
        let ns = k.namespace.as_str();
        let check = |resource: &str, namespace: Option<&str>, bound: Option<&BoundObject>| {
            let Some(bound) = bound else { return Ok(()) };
            let object = self.objects.get("", resource, namespace, &bound.name);
            if object.as_ref().and_then(uid) == Some(bound.uid.as_str()) {
                return Ok(());
            }
            tracing::debug!(subject = %claims.sub, resource, name = %bound.name, "token refused: its object is gone");
            Err(Unauthorized)
        };
        check("serviceaccounts", Some(ns), Some(&k.serviceaccount))?;
        check("pods", Some(ns), k.pod.as_ref())?;
        check("secrets", Some(ns), k.secret.as_ref())?;
        // The node of a pod's token is told, not checked; a token bound to a node alone dies with it.
        if k.pod.is_none() { check("nodes", None, k.node.as_ref()) } else { Ok(()) }
    }

    /// Answers `serviceaccounts/NAME/token`: the TokenRequest with its status filled in.
    pub fn issue(&self, account: &Value, request: &Value, now: Timestamp) -> Result<Value, RequestRefused> {
        let text = |v: &Value, p: &str| v.pointer(p).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (namespace, name) = (text(account, "/metadata/namespace"), text(account, "/metadata/name"));
        let mut audiences: Vec<String> = request
            .pointer("/spec/audiences")
            .and_then(Value::as_array)
            .map(|l| l.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        if audiences.is_empty() {
            audiences.push(ISSUER.to_owned());
        }
        let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
        if !(600..=1 << 32).contains(&seconds) {
            let bound = if seconds < 600 { "less than 10 minutes" } else { "larger than 2^32 seconds" };
            return Err(RequestRefused::Invalid {
                field: "spec.expirationSeconds",
                problem: format!("Invalid value: {seconds}: may not specify a duration {bound}"),
            });
        }
        let serviceaccount = BoundObject { name: name.clone(), uid: text(account, "/metadata/uid") };
        let mut kubernetes =
            KubernetesClaim { namespace: namespace.clone(), serviceaccount, pod: None, secret: None, node: None };
        if let Some(bound) = request.pointer("/spec/boundObjectRef").filter(|b| !b.is_null()) {
            self.bind(&mut kubernetes, bound)?;
        }
        let (iat, exp) = (now.as_second(), now.as_second() + seconds);
        let claims = Claims {
            aud: audiences.clone(),
            exp,
            iat,
            iss: ISSUER.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes,
            nbf: iat,
            sub: super::identity::service_account_user(&namespace, &name),
        };
        let token = self.key.sign(&claims).map_err(|e| RequestRefused::Internal(e.to_string()))?;
        let ends = Timestamp::from_second(exp).map_err(|e| RequestRefused::Internal(e.to_string()))?;
        let mut answer = request.clone();
        answer["apiVersion"] = json!("authentication.k8s.io/v1");
        answer["kind"] = json!("TokenRequest");
        answer["metadata"] = json!({"name": name, "namespace": namespace, "creationTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
        answer["spec"]["audiences"] = json!(audiences);
        answer["spec"]["expirationSeconds"] = json!(seconds);
        answer["status"] = json!({"token": token, "expirationTimestamp": ends.to_string()});
        Ok(answer)
    }

    fn bind(&self, claim: &mut KubernetesClaim, bound: &Value) -> Result<(), RequestRefused> {
        let text = |k: &str| bound.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, version, name, asked) = (text("kind"), text("apiVersion"), text("name"), text("uid"));
        let (resource, namespace) = match (kind.as_str(), version.as_str()) {
            ("Pod", "v1" | "") => ("pods", Some(claim.namespace.clone())),
            ("Secret", "v1" | "") => ("secrets", Some(claim.namespace.clone())),
            ("Node", "v1" | "") => ("nodes", None),
            _ => {
                return Err(RequestRefused::Invalid {
                    field: "spec.boundObjectRef",
                    problem: format!(
                        "Invalid value: \"{version}, Kind={kind}\": cannot bind token to object of this type"
                    ),
                });
            }
        };
        let object = self.objects.get("", resource, namespace.as_deref(), &name);
        let Some(object) = object else { return Err(RequestRefused::NotFound { resource, name }) };
        let uid = uid(&object).unwrap_or_default().to_owned();
        if !asked.is_empty() && asked != uid {
            return Err(RequestRefused::Uid { asked });
        }
        let account = object.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or("default");
        if resource == "pods" && account != claim.serviceaccount.name {
            return Err(RequestRefused::Invalid {
                field: "spec.boundObjectRef",
                problem: format!(
                    "Invalid value: {name:?}: cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    claim.serviceaccount.name
                ),
            });
        }
        let bound = Some(BoundObject { name, uid });
        match resource {
            "pods" => {
                let node = object.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty());
                claim.node = node.and_then(|node| {
                    let object = self.objects.get("", "nodes", None, node)?;
                    Some(BoundObject { name: node.to_owned(), uid: self::uid(&object)?.to_owned() })
                });
                claim.pod = bound;
            }
            "secrets" => claim.secret = bound,
            _ => claim.node = bound,
        }
        Ok(())
    }
}

fn uid(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid").and_then(Value::as_str)
}

fn refuse(why: TokenError) -> Unauthorized {
    tracing::debug!(%why, "token refused");
    Unauthorized
}

fn identity_of(claims: &Claims) -> Identity {
    let k = &claims.kubernetes;
    let mut who = Identity::service_account(&k.namespace, &k.serviceaccount.name, &k.serviceaccount.uid);
    let mut extra = |key: &str, value: String| {
        who.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    extra("credential-id", format!("JTI={}", claims.jti));
    for (kind, bound) in [("pod", &k.pod), ("node", &k.node)] {
        if let Some(bound) = bound {
            extra(&format!("{kind}-name"), bound.name.clone());
            extra(&format!("{kind}-uid"), bound.uid.clone());
        }
    }
    who
}
