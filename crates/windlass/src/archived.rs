//! Archived workflows as this command line reads them: through the door of the cluster that it talks to, or at the
//! address that `--argo-server` names. A cluster without an archive has none, and says so.

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::Value;
use windlass_model::Workflow;

use crate::connect::Connection;

const ROOT: &str = "/api/v1/archived-workflows";

/// What is asked of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) field_selector: Option<String>,
    pub(crate) chunk_size: Option<u32>,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default)]
    metadata: Meta,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(rename = "continue", default)]
    more: Option<String>,
}

pub(crate) async fn ask<T: serde::de::DeserializeOwned>(c: &Connection, method: &str, path: &str) -> Result<T> {
    let request = http::Request::builder().method(method).uri(path).body(Vec::new())?;
    let client = match &c.server {
        Some(server) => server.client()?,
        None => c.client.clone(),
    };
    client.request(request).await.map_err(told)
}

/// What the other side says that it does not do, in its own words.
#[derive(Debug)]
struct Refused {
    code: u16,
    message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// Whether this says that there is no archive at all, or that it is not for us: nothing to fall back to.
pub(crate) fn has_none(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| matches!(refused.code, 403 | 404))
}

pub(crate) fn told(error: kube::Error) -> anyhow::Error {
    let kube::Error::Api(status) = error else { return anyhow!(error) };
    let (code, message) = (status.code, status.message.clone());
    let is_told = code != 404 || message.starts_with("there is no ");
    let refused = anyhow!(Refused { code, message });
    match is_told {
        true => refused,
        false => refused.context(
            "this cluster keeps no such thing: `windlass up` does, and a controller with a database, at the address of its \
             --events-listen (--argo-server HOST:PORT)",
        ),
    }
}

/// Everything that fits, the newest run first, page by page; as they are listed, without nodes.
pub(crate) async fn list(c: &Connection, query: &Query) -> Result<Vec<Workflow>> {
    let mut words = url::form_urlencoded::Serializer::new(String::new());
    let chunk = query.chunk_size.map(|n| n.to_string());
    let (name, filter) = match (&query.name, &query.prefix) {
        (Some(name), _) => (Some(name), Some("Exact")),
        (None, Some(prefix)) => (Some(prefix), Some("Prefix")),
        (None, None) => (None, None),
    };
    for (key, value) in [
        ("namespace", query.namespace.as_deref()),
        ("listOptions.labelSelector", query.selector.as_deref()),
        ("listOptions.fieldSelector", query.field_selector.as_deref()),
        ("listOptions.limit", chunk.as_deref()),
        ("namePrefix", name.map(String::as_str)),
        ("nameFilter", filter),
    ] {
        if let Some(value) = value {
            words.append_pair(key, value);
        }
    }
    let words = words.finish();
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{ROOT}?{words}{after}");
        let page: List<Workflow> = ask(c, "GET", &path).await?;
        all.extend(page.items);
        match page.metadata.more.filter(|more| !more.is_empty()) {
            Some(more) => after = format!("&listOptions.continue={more}"),
            None => return Ok(all),
        }
    }
}

/// The uid of a name or uid; a name that several runs had is asked about again.
pub(crate) async fn uid(c: &Connection, text: &str, as_uid: bool, as_name: bool) -> Result<String> {
    if as_uid || (!as_name && is_uid(text)) {
        return Ok(text.to_owned());
    }
    let query = Query { namespace: Some(c.namespace.clone()), name: Some(text.to_owned()), ..Query::default() };
    let found = list(c, &query).await?;
    let uid = |wf: &Workflow| wf.metadata.uid.clone().unwrap_or_default();
    match found.as_slice() {
        [] => bail!(
            "archived workflow \"{text}\" not found in namespace {}: `windlass archive list` shows all there are",
            c.namespace
        ),
        [one] => Ok(uid(one)),
        several => {
            let lines = several.iter().map(|wf| {
                let finished = wf.status.as_ref().and_then(|s| s.finished_at).map(|t| t.0.to_string());
                format!("\n  {}  finished {}", uid(wf), finished.unwrap_or_else(|| "never".to_owned()))
            });
            bail!(
                "{} archived workflows had the name \"{text}\"; say which by its uid:{}",
                several.len(),
                lines.collect::<String>()
            )
        }
    }
}

/// The newest archived run of a name.
pub(crate) async fn newest(c: &Connection, name: &str) -> Result<Option<Value>> {
    let query = Query { namespace: Some(c.namespace.clone()), name: Some(name.to_owned()), ..Query::default() };
    let found = list(c, &query).await?;
    match found.first().and_then(|wf| wf.metadata.uid.clone()) {
        Some(uid) => get(c, &uid).await.map(Some),
        None => Ok(None),
    }
}

/// The whole workflow.
pub(crate) async fn get(c: &Connection, uid: &str) -> Result<Value> {
    ask(c, "GET", &format!("{ROOT}/{}", part(uid))).await
}

/// Takes it out of the archive.
pub(crate) async fn delete(c: &Connection, uid: &str) -> Result<()> {
    ask::<Value>(c, "DELETE", &format!("{ROOT}/{}", part(uid))).await.map(drop)
}

/// The keys of all labels.
pub(crate) async fn label_keys(c: &Connection, namespace: Option<&str>) -> Result<Vec<String>> {
    let mut words = url::form_urlencoded::Serializer::new(String::new());
    words.extend_pairs(namespace.map(|n| ("namespace", n)));
    let list: List<String> = ask(c, "GET", &format!("{ROOT}-label-keys?{}", words.finish())).await?;
    Ok(list.items)
}

/// The values of one label.
pub(crate) async fn label_values(c: &Connection, namespace: Option<&str>, key: &str) -> Result<Vec<String>> {
    let mut words = url::form_urlencoded::Serializer::new(String::new());
    words.append_pair("listOptions.labelSelector", key);
    words.extend_pairs(namespace.map(|n| ("namespace", n)));
    let list: List<String> = ask(c, "GET", &format!("{ROOT}-label-values?{}", words.finish())).await?;
    Ok(list.items)
}

/// The typed form.
pub(crate) fn typed(wf: &Value) -> Result<Workflow> {
    serde_json::from_value(wf.clone()).context("this archived Workflow cannot be read")
}

fn part(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Eight, four, four, four and twelve hexadecimal digits.
fn is_uid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths = groups.iter().map(|g| g.len());
    lengths.eq([8, 4, 4, 4, 12]) && groups.iter().all(|g| g.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_told_from_names() {
        assert!(is_uid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
        assert!(!is_uid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1x") && !is_uid("nightly") && !is_uid("a-b-c-d-e"));
    }
}
