//! `windlass sync …`: the sizes of semaphores, in the database through the door of the cluster, or in ConfigMaps.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::archived::told;
use crate::cli::{SyncArgs, SyncType, SyncVerb};
use crate::connect::{Connection, connect};
use crate::start::Session;

pub(super) async fn run(session: &Session, verb: SyncVerb) -> Result<ExitCode> {
    let c = connect(&session.global).await?;
    match verb {
        SyncVerb::Create(args) => {
            let limit = put(&c, &args.which, args.limit, true).await?;
            println!("Sync limit created");
            print(&c, &args.which, limit);
        }
        SyncVerb::Update(args) => {
            let limit = put(&c, &args.which, args.limit, false).await?;
            println!("Sync limit updated");
            print(&c, &args.which, limit);
        }
        SyncVerb::Get(which) => {
            let limit = match which.kind {
                SyncType::Database => {
                    let answer = ask(&c, "GET", &path(&c, Some(&which.key)), Value::Null).await?;
                    answer["limit"].as_u64().unwrap_or(0)
                }
                SyncType::Configmap => read(&c, &which).await?.context("there is no such key in the ConfigMap")?,
            };
            print(&c, &which, limit);
        }
        SyncVerb::Delete(which) => {
            match which.kind {
                SyncType::Database => drop(ask(&c, "DELETE", &path(&c, Some(&which.key)), Value::Null).await?),
                SyncType::Configmap => write(&c, &which, Value::Null).await?,
            }
            println!("Sync limit deleted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn put(c: &Connection, which: &SyncArgs, limit: u32, new: bool) -> Result<u64> {
    let sent = json!({"namespace": c.namespace, "key": which.key, "limit": limit, "type": "DATABASE"});
    match which.kind {
        SyncType::Database if new => drop(ask(c, "POST", &path(c, None), sent).await?),
        SyncType::Database => drop(ask(c, "PUT", &path(c, Some(&which.key)), sent).await?),
        SyncType::Configmap => {
            match read(c, which).await? {
                Some(_) if new => bail!("there is a limit of {:?} in the ConfigMap already; update it", which.key),
                None if !new => bail!("there is no limit of {:?} in the ConfigMap yet; create it", which.key),
                _ => {}
            }
            write(c, which, json!(limit.to_string())).await?;
        }
    }
    Ok(u64::from(limit))
}

fn print(c: &Connection, which: &SyncArgs, limit: u64) {
    println!("Key: {}", which.key);
    match (which.kind, &which.cm_name) {
        (SyncType::Configmap, Some(name)) => println!("Type: configmap\nConfigMap Name: {name}"),
        _ => println!("Type: database"),
    }
    println!("Namespace: {}\nLimit: {limit}", c.namespace);
}

fn path(c: &Connection, key: Option<&str>) -> String {
    let part = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let key = key.map(|key| format!("/{}", part(key))).unwrap_or_default();
    format!("/api/v1/sync/{}{key}", part(&c.namespace))
}

async fn ask(c: &Connection, method: &str, path: &str, body: Value) -> Result<Value> {
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body)? };
    c.client.request(request.body(body)?).await.map_err(told)
}

fn maps(c: &Connection) -> Api<ConfigMap> {
    Api::namespaced(c.client.clone(), &c.namespace)
}

async fn read(c: &Connection, which: &SyncArgs) -> Result<Option<u64>> {
    let map = maps(c).get_opt(which.cm_name.as_deref().unwrap_or_default()).await?;
    let text = map.and_then(|map| map.data?.get(&which.key).cloned());
    text.map(|text| text.trim().parse().with_context(|| format!("`{text}` is no number"))).transpose()
}

async fn write(c: &Connection, which: &SyncArgs, limit: Value) -> Result<()> {
    let name = which.cm_name.as_deref().unwrap_or_default();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {which.key.clone(): limit},
    });
    match maps(c).patch(name, &PatchParams::default(), &Patch::Merge(&map)).await {
        Err(kube::Error::Api(status)) if status.code == 404 && !limit.is_null() => {
            maps(c).create(&PostParams::default(), &serde_json::from_value(map)?).await?;
        }
        answer => drop(answer?),
    }
    Ok(())
}
