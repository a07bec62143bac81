//! The query of a request, read once, with Kubernetes' refusals. Knows no store.

use crate::answer::{ApiError, FieldError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::HashMap;

/// How an asked-for resourceVersion is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// As of that version or later.
    NotOlderThan,
    /// As of that version.
    Exact,
}

/// What is done with fields that the kind does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How dependents are treated by a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// The parsed query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    values: HashMap<String, String>,
}

/// Where a paged list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continue {
    pub(crate) rv: u64,
    pub(crate) after: String,
}

impl Continue {
    /// The opaque text that clients send back.
    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": self.rv, "start": self.after}).to_string())
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        Some(Self { rv: value["rv"].as_u64()?, after: value["start"].as_str()?.to_owned() })
    }
}

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let mut values = HashMap::new();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            values.entry(key.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self { values }
    }

    /// A parameter's text; empty is the same as not given.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// A parameter that is true by being there, unless it says otherwise.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0" | "f"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let text = self.text(key);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    }

    /// The resourceVersion, `None` if not given.
    pub(crate) fn version(&self) -> Result<Option<u64>, ApiError> {
        let text = self.text("resourceVersion");
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            let error = FieldError::invalid(
                "resourceVersion",
                &json!(text),
                &format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
            );
            ApiError::bad_request(format!("invalid resource version: resourceVersion: {}", error.message))
        })
    }

    pub(crate) fn version_match(&self) -> Result<Option<Match>, ApiError> {
        let error = |e: FieldError| Err(ApiError::invalid_kind("meta.k8s.io", "ListOptions", "", &[e]));
        match self.text("resourceVersionMatch") {
            "" => Ok(None),
            text if self.text("resourceVersion").is_empty() && !self.flag("sendInitialEvents") => {
                let _ = text;
                error(FieldError::forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ))
            }
            "NotOlderThan" => Ok(Some(Match::NotOlderThan)),
            "Exact" if self.text("resourceVersion") == "0" => error(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            )),
            "Exact" => Ok(Some(Match::Exact)),
            text => error(FieldError::not_supported("resourceVersionMatch", &json!(text), &["Exact", "NotOlderThan"])),
        }
    }

    pub(crate) fn continuation(&self) -> Result<Option<Continue>, ApiError> {
        let text = self.text("continue");
        if text.is_empty() {
            return Ok(None);
        }
        Continue::parse(text).map(Some).ok_or_else(|| {
            ApiError::bad_request("invalid continue token: continue key is not valid: it was not made by this server")
        })
    }

    /// Whether the write shall only be tried.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.text("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(ApiError::invalid_kind(
                "meta.k8s.io",
                "CreateOptions",
                "",
                &[FieldError {
                    reason: "FieldValueNotSupported",
                    field: "dryRun".to_owned(),
                    message: format!("Unsupported value: []string{{{other:?}}}: supported values: \"All\""),
                }],
            )),
        }
    }

    pub(crate) fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.text("fieldValidation") {
            "" | "Warn" => Ok(FieldValidation::Warn),
            "Ignore" => Ok(FieldValidation::Ignore),
            "Strict" => Ok(FieldValidation::Strict),
            other => Err(ApiError::invalid_kind(
                "meta.k8s.io",
                "CreateOptions",
                "",
                &[FieldError::not_supported("fieldValidation", &json!(other), &["", "Ignore", "Strict", "Warn"])],
            )),
        }
    }
}

/// What a deletion asks for, from its body and its query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_s: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// The body counts where there is one, else the query.
    pub(crate) fn read(body: Option<&Value>, query: &Query) -> Result<Self, ApiError> {
        let mut options = Self { dry_run: query.dry_run()?, ..Self::default() };
        let body = body.filter(|b| b.as_object().is_some_and(|o| !o.is_empty()));
        let (propagation, orphan) = if let Some(body) = body {
            options.grace_s = body["gracePeriodSeconds"].as_i64();
            options.uid = body["preconditions"]["uid"].as_str().map(str::to_owned);
            options.version = body["preconditions"]["resourceVersion"].as_str().map(str::to_owned);
            options.dry_run |= body["dryRun"].as_array().is_some_and(|d| d.iter().any(|v| v == "All"));
            (body["propagationPolicy"].as_str().unwrap_or_default(), body["orphanDependents"].as_bool())
        } else {
            options.grace_s = query.number("gracePeriodSeconds")?;
            let orphan = query.text("orphanDependents");
            (query.text("propagationPolicy"), (!orphan.is_empty()).then(|| query.flag("orphanDependents")))
        };
        if options.grace_s.is_some_and(|g| g < 0) {
            // Kubernetes reads negative periods as one second.
            options.grace_s = Some(1);
        }
        options.propagation = match (propagation, orphan) {
            ("", None) => None,
            ("", Some(true)) | ("Orphan", None) => Some(Propagation::Orphan),
            ("", Some(false)) | ("Background", None) => Some(Propagation::Background),
            ("Foreground", None) => Some(Propagation::Foreground),
            (text, Some(_)) => {
                let _ = text;
                let error = FieldError::invalid(
                    "propagationPolicy",
                    &json!(text),
                    "orphanDependents and deletionPropagation cannot be both set",
                );
                return Err(ApiError::invalid_kind("meta.k8s.io", "DeleteOptions", "", &[error]));
            }
            (text, None) => {
                let error = FieldError::not_supported(
                    "propagationPolicy",
                    &json!(text),
                    &["Foreground", "Background", "Orphan", "nil"],
                );
                return Err(ApiError::invalid_kind("meta.k8s.io", "DeleteOptions", "", &[error]));
            }
        };
        Ok(options)
    }
}
