//! Reads: get, list, watch. Everything comes from the caches.

use super::Call;
use super::form::Form;
use super::query::{Continue, Match};
use crate::answer::{ApiError, Body, FieldError, bytes_response};
use crate::selector::{Fields, Labels, Selectors};
use crate::store::{Obj, key_of};
use crate::watch::Watch;
use http::Response;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

impl Call {
    /// The object that the path names.
    pub(super) fn current(&self) -> Result<Arc<Obj>, ApiError> {
        let key = key_of(&self.what.namespace, &self.what.name);
        let table = self.server.store().table(&self.r.storage);
        table.get(&key).ok_or_else(|| ApiError::not_found(&self.r, &self.what.name))
    }

    pub(super) fn get(&self) -> Result<Response<Body>, ApiError> {
        if let Some(version) = self.query.version()? {
            self.not_from_the_future(version)?;
        }
        let obj = self.current()?;
        Ok(bytes_response(200, "application/json", self.form().bytes(&self.r, &obj, true)?))
    }

    fn not_from_the_future(&self, version: u64) -> Result<(), ApiError> {
        let current = self.server.store().rv();
        if version <= current {
            return Ok(());
        }
        let message = format!("Timeout: Too large resource version: {version}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Err(ApiError::new(504, "Timeout", message).with_details(json!({"causes": [cause], "retryAfterSeconds": 1})))
    }

    pub(super) fn selectors(&self) -> Result<Selectors, ApiError> {
        Ok(Selectors {
            labels: Labels::parse(self.query.text("labelSelector"))?,
            fields: Fields::parse(self.query.text("fieldSelector"), &self.r)?,
        })
    }

    fn namespace(&self) -> Option<&str> {
        Some(self.what.namespace.as_str()).filter(|ns| !ns.is_empty())
    }

    pub(super) fn list(&self) -> Result<Response<Body>, ApiError> {
        let selectors = self.selectors()?;
        let limit = usize::try_from(self.query.number("limit")?.unwrap_or(0)).unwrap_or(0);
        let more = self.query.continuation()?;
        let version = self.query.version()?;
        let matching = self.query.version_match()?;
        if more.is_some() && version.is_some_and(|v| v != 0) {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        let at = match (&more, version, matching) {
            (Some(more), _, _) => Some(more.rv),
            // With a limit and no match, a version is meant exactly: Kubernetes' oldest rule.
            (None, Some(v), Some(Match::Exact)) if v != 0 => Some(v),
            (None, Some(v), None) if v != 0 && limit > 0 => Some(v),
            _ => None,
        };
        if let Some(version) = version {
            self.not_from_the_future(version)?;
        }
        let store = self.server.store();
        // Before the table is read: every event up to this version is in it.
        let certain = store.rv();
        let table = store.table(&self.r.storage);
        let after = more.as_ref().map(|m| m.after.as_str());
        let (all, shown) = table.snapshot(self.namespace(), after, at).map_err(|_| {
            ApiError::expired(if more.is_some() {
                "The provided continue parameter is too old to display a consistent list result. You can start a new \
                 list without the continue parameter."
            } else {
                "The resourceVersion for the provided list is too old."
            })
        })?;
        let rv = at.unwrap_or(shown.max(certain));
        let mut items = Vec::new();
        let mut rest = 0;
        for obj in all {
            if !selectors.matches(&obj.meta) {
                continue;
            }
            if limit == 0 || items.len() < limit {
                items.push(obj);
            } else {
                rest += 1;
                if !selectors.is_empty() {
                    break;
                }
            }
        }
        let mut meta = json!({"resourceVersion": rv.to_string()});
        if rest > 0
            && let Some(last) = items.last()
        {
            meta["continue"] = json!(Continue { rv, after: last.meta.key() }.text());
            if selectors.is_empty() {
                meta["remainingItemCount"] = json!(rest);
            }
        }
        Ok(bytes_response(200, "application/json", self.form().list(&self.r, &items, meta)?))
    }

    pub(super) fn watch(&self) -> Result<Response<Body>, ApiError> {
        let selectors = self.selectors()?;
        let version = self.query.version()?;
        let matching = self.query.version_match()?;
        let streaming = self.query.flag("sendInitialEvents");
        let refuse = |e: FieldError| Err(ApiError::invalid_kind("meta.k8s.io", "ListOptions", "", &[e]));
        if streaming && matching != Some(Match::NotOlderThan) {
            return refuse(FieldError::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        let said = !self.query.text("sendInitialEvents").is_empty();
        if matching.is_some() && !said {
            return refuse(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        let form = self.form();
        let seconds = self.query.number("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).filter(|&s| s > 0);
        // Without a wish, half an hour to an hour, so that not all watchers come back at once.
        let length = Duration::from_secs(seconds.unwrap_or_else(|| rand::random_range(1800..3600)));
        let store = self.server.store().clone();
        let table = store.table(&self.r.storage);
        let from_now = version.unwrap_or(0) == 0;
        let initial = streaming || (from_now && !said);
        let certain = store.rv();
        let (objects, start) = if initial {
            if let Some(version) = version {
                self.not_from_the_future(version)?;
            }
            // No version is asked for, so nothing can be gone.
            let (objects, shown) = table.snapshot(self.namespace(), None, None).unwrap_or_default();
            (objects, shown.max(certain))
        } else if from_now {
            (Vec::new(), certain.max(table.rv()))
        } else {
            (Vec::new(), version.unwrap_or(0))
        };
        let objects: Vec<_> = objects.into_iter().filter(|o| selectors.matches(&o.meta)).collect();
        let mut watch = Watch::new(store, self.r.clone(), form.clone(), table.cursor(start), length);
        watch.namespace = self.namespace().map(str::to_owned);
        watch.selectors = selectors;
        watch.bookmarks = self.query.flag("allowWatchBookmarks");
        watch.bookmark_every = self.server.bookmark_every();
        watch.next_bookmark = tokio::time::Instant::now() + watch.bookmark_every;
        watch.initial = objects.into_iter();
        watch.initial_end = streaming && watch.bookmarks;
        if let Form::Table(_) = form {
            watch.headings = true;
        }
        let mut response = Response::new(watch.body());
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        Ok(response)
    }
}
