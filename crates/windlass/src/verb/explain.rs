//! `windlass explain`: why a run's nodes are as they are. The engine gives the reasons; Events tell more of pods that are
//! pending in silence.

use std::process::ExitCode;

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use windlass_control::workflow;
use windlass_engine::Config;
use windlass_engine::explain::{Explanation, Reason, explain};
use windlass_engine::repository::{ControllerConfig, controller_config};
use windlass_lang::suggest::nearest;
use windlass_model::{WorkflowPhase, labels};
use windlass_schedule::throttle::Limits;

use crate::cli::{ExplainArgs, Format};
use crate::connect::{Connection, connect};
use crate::start::Session;
use crate::{objects, print};

pub(super) async fn run(session: &Session, mut args: ExplainArgs) -> Result<ExitCode> {
    let now = Timestamp::now();
    let explanation = if let Some(file) = &args.file {
        // The one word that stands beside a file is the node.
        if args.node.is_none() {
            args.node = args.name.take();
        }
        explain(&objects::from_file(file)?, &[], &Config::default(), now)
    } else {
        let connection = connect(&session.global).await?;
        let name = objects::resolve(&connection, args.name.as_deref().unwrap_or_default()).await?;
        let wf = objects::read(&connection, &name).await?;
        let pods = if objects::has_ended(&wf) { Vec::new() } else { pods(&connection, &name).await? };
        let mut explanation = explain(&wf, &pods, &Config::default(), now);
        tell_events(&connection, &mut explanation).await?;
        tell_limit(&connection, &mut explanation).await?;
        explanation
    };
    let wanted = match &args.node {
        Some(text) => {
            let found = explanation.find(text);
            if found.is_empty() {
                bail!("{}", no_node(&explanation, text));
            }
            found
        }
        None => explanation.nodes.iter().collect(),
    };
    match args.output {
        Some(Format::Json | Format::Yaml) => {
            let nodes: Vec<Value> = wanted.iter().map(|n| print::explanation::as_json(n)).collect();
            let value = json!({
                "workflow": explanation.workflow,
                "phase": explanation.phase,
                "message": explanation.message,
                "reasons": print::explanation::reasons(&explanation.reasons),
                "nodes": nodes,
            });
            match args.output {
                Some(Format::Yaml) => print!("{}", print::yaml(&value)?),
                _ => println!("{}", serde_json::to_string_pretty(&value)?),
            }
        }
        _ => {
            let all = args.all || args.node.is_some();
            print!("{}", print::explanation::draw(&explanation, &wanted, all, session.look));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn no_node(explanation: &Explanation, text: &str) -> String {
    let names = explanation.nodes.iter().map(|n| n.display_name.as_str());
    match nearest(text, names) {
        Some(meant) => format!("{} has no node {text}: did you mean {meant}?", explanation.workflow),
        None => format!("{0} has no node {text}: `windlass get {0}` shows all there are", explanation.workflow),
    }
}

async fn pods(connection: &Connection, name: &str) -> Result<Vec<Value>> {
    let api: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let own = ListParams::default().labels(&format!("{}={name}", labels::WORKFLOW));
    let found = api.list(&own).await?.items;
    Ok(found.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

/// Where the controller let it wait, the limit that is reached. What somebody may not see is left out.
async fn tell_limit(connection: &Connection, explanation: &mut Explanation) -> Result<()> {
    if explanation.phase != WorkflowPhase::Pending || explanation.message.as_deref() != Some(workflow::POSTPONED) {
        return Ok(());
    }
    let client = &connection.client;
    let controller = workflow::Settings::default().controller_namespace;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &controller);
    let config = match maybe(maps.get_opt(workflow::CONFIGURATION).await)?.flatten().and_then(|map| map.data) {
        Some(data) => controller_config(&data).unwrap_or_default(),
        None => ControllerConfig::default(),
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = maybe(namespaces.get_opt(&connection.namespace).await)?.flatten();
    let own = found.and_then(|ns| ns.metadata.labels).and_then(|labels| labels.get(workflow::LIMIT)?.parse().ok());
    let own = own.map(|limit| (connection.namespace.clone(), limit)).into_iter().collect();
    let limits = Limits { total: config.parallelism, namespace: config.namespace_parallelism, own };
    for (limit, namespace) in
        [(limits.in_all(), None), (limits.within(&connection.namespace), Some(connection.namespace.clone()))]
    {
        let Some(limit) = limit else { continue };
        let running = ListParams::default().labels(&format!("{}=Running", labels::PHASE));
        let list = objects::workflows(connection, namespace.is_none()).list_metadata(&running).await;
        let Some(running) = maybe(list)?.map(|list| list.items.len()) else { continue };
        if running >= limit {
            explanation.reasons.push(Reason::Limit { namespace, limit, running });
        }
    }
    Ok(())
}

/// Nothing where it may not be seen.
fn maybe<T>(answer: Result<T, kube::Error>) -> Result<Option<T>> {
    match answer {
        Err(kube::Error::Api(s)) if s.code == 403 => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// The newest warning of each pod that is pending and says nothing itself.
async fn tell_events(connection: &Connection, explanation: &mut Explanation) -> Result<()> {
    let silent = |r: &Reason| matches!(r, Reason::PodPending { message: None, .. });
    if !explanation.nodes.iter().flat_map(|n| &n.reasons).any(silent) {
        return Ok(());
    }
    let api: Api<Event> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let events = match api.list(&ListParams::default()).await {
        Ok(events) => events.items,
        // Whoever may not read Events is told the rest.
        Err(kube::Error::Api(s)) if s.code == 403 => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for reason in explanation.nodes.iter_mut().flat_map(|n| &mut n.reasons) {
        let Reason::PodPending { pod, message: message @ None, .. } = reason else { continue };
        let of_pod = |e: &&Event| {
            e.involved_object.kind.as_deref() == Some("Pod") && e.involved_object.name.as_deref() == Some(pod.as_str())
        };
        let newest = events.iter().filter(of_pod).max_by_key(|e| e.last_timestamp.as_ref().map(|t| t.0));
        *message = newest.and_then(|e| {
            let words = e.message.as_deref()?;
            Some(format!("{}: {words}", e.reason.as_deref().unwrap_or("Event")))
        });
    }
    Ok(())
}
