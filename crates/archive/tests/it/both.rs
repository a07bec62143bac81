//! What every archive does, wherever it keeps things.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use windlass_archive::{
    Archive, Login, Memory, Name, Outside, Page, Password, PostgresArchive, PostgresOptions, Selector, SqliteArchive,
    TlsMode, Wanted,
};

use crate::database::{PASSWORD, Postgres, USER};

trait Kept: Archive + Memory {}
impl Kept for SqliteArchive {}
impl Kept for PostgresArchive {}

/// The login of a case's server.
pub(crate) struct Known;

#[async_trait::async_trait]
impl Outside for Known {
    async fn login(&self) -> Result<Login, String> {
        Ok(Login { user: USER.to_owned(), password: Password::new(PASSWORD) })
    }
    async fn addresses(&self, host: &str, _: Duration) -> std::io::Result<Vec<IpAddr>> {
        addresses(host)
    }
}

/// The one name that these cases know.
pub(crate) fn addresses(host: &str) -> std::io::Result<Vec<IpAddr>> {
    match host {
        "localhost" => Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]),
        _ => Err(std::io::Error::other("nobody knows this name")),
    }
}

pub(crate) fn options(port: u16, database: &str) -> PostgresOptions {
    PostgresOptions {
        host: "127.0.0.1".to_owned(),
        port,
        database: database.to_owned(),
        tls: TlsMode::Disable,
        cluster: "default".to_owned(),
        instance: String::new(),
        namespace: None,
        makes_tables: true,
        offload_table: "argo_workflows".to_owned(),
        connections_max: 4,
        idle_max: 2,
        lifetime: None,
    }
}

/// Where a case keeps things.
enum Place {
    File(tempfile::TempDir),
    Server(Box<Postgres>),
}

impl Place {
    fn all(case: &str) -> Vec<Self> {
        let mut all = vec![Self::File(tempfile::tempdir().unwrap())];
        all.extend(Postgres::start(case).map(|server| Self::Server(Box::new(server))));
        all
    }

    /// As another process sees it.
    fn open(&self) -> Arc<dyn Kept> {
        match self {
            Self::File(dir) => Arc::new(SqliteArchive::new(dir.path().join("archive.db"))),
            Self::Server(server) => Arc::new(PostgresArchive::new(options(server.port, "postgres"), Arc::new(Known))),
        }
    }

    async fn with_some(&self) -> Arc<dyn Kept> {
        let archive = self.open();
        let all = vec![
            workflow("u1", "build-a", "ci", 1, json!({"team": "red", "n": "3"})),
            workflow("u2", "build-b", "ci", 2, json!({"team": "blue"})),
            workflow("u3", "nightly", "ops", 3, json!({"team": "red"})),
        ];
        archive.keep(all).await.unwrap();
        archive
    }
}

pub(crate) fn workflow(uid: &str, name: &str, namespace: &str, minute: u32, labels: Value) -> String {
    let at = format!("2026-11-21T12:{minute:02}:00Z");
    json!({
        "metadata": {"uid": uid, "name": name, "namespace": namespace, "labels": labels, "managedFields": [{}],
            "creationTimestamp": at},
        "spec": {"entrypoint": "main", "templates": [{"name": "main"}], "arguments": {}},
        "status": {"phase": "Succeeded", "startedAt": at, "finishedAt": at, "nodes": {"n": {"id": "n"}}},
    })
    .to_string()
}

pub(crate) fn names(page: &Page) -> Vec<String> {
    let name = |text: &String| {
        let item: Value = serde_json::from_str(text).unwrap();
        assert!(item["status"].get("nodes").is_none() && item["spec"].get("templates").is_none(), "{item}");
        item["metadata"]["name"].as_str().unwrap().to_owned()
    };
    page.items.iter().map(name).collect()
}

pub(crate) fn asked(text: &str) -> Wanted {
    Wanted { labels: Selector::parse(text).unwrap(), ..Wanted::default() }
}

#[tokio::test]
async fn lists_are_chosen_and_paged() {
    for place in Place::all("lists of a database") {
        let archive = place.with_some().await;
        let cases: Vec<(Wanted, &[&str])> = vec![
            (Wanted::default(), &["nightly", "build-b", "build-a"]),
            (Wanted { namespace: Some("ci".into()), ..Wanted::default() }, &["build-b", "build-a"]),
            (Wanted { name: Name::Exact("build-a".into()), ..Wanted::default() }, &["build-a"]),
            (Wanted { name: Name::Prefix("build".into()), ..Wanted::default() }, &["build-b", "build-a"]),
            (Wanted { name: Name::Prefix("b%d".into()), ..Wanted::default() }, &[]),
            (Wanted { name: Name::Contains("ight".into()), ..Wanted::default() }, &["nightly"]),
            (Wanted { name: Name::Contains("_".into()), ..Wanted::default() }, &[]),
            (
                Wanted { started_after: Some("2026-11-21T12:01:30Z".into()), ..Wanted::default() },
                &["nightly", "build-b"],
            ),
            (Wanted { started_before: Some("2026-11-21T12:02:00Z".into()), ..Wanted::default() }, &["build-a"]),
            (asked("team=red"), &["nightly", "build-a"]),
            (asked("team!=red"), &["build-b"]),
            (asked("team in (blue, green)"), &["build-b"]),
            (asked("n"), &["build-a"]),
            (asked("!n"), &["nightly", "build-b"]),
            (asked("n>2"), &["build-a"]),
            (asked("n<3"), &[]),
            (asked("team=red,n"), &["build-a"]),
            (asked("team=red' OR 1=1 --"), &[]),
        ];
        for (wanted, expected) in cases {
            assert_eq!(archive.count(wanted.clone()).await.unwrap(), expected.len() as u64, "{wanted:?}");
            let page = archive.list(wanted.clone()).await.unwrap();
            assert_eq!(names(&page), expected, "{wanted:?}");
            assert!(!page.more);
        }
        let first = archive.list(Wanted { limit: Some(2), ..Wanted::default() }).await.unwrap();
        assert_eq!((names(&first), first.more), (vec!["nightly".to_owned(), "build-b".to_owned()], true));
        let last = archive.list(Wanted { limit: Some(2), offset: 2, ..Wanted::default() }).await.unwrap();
        assert_eq!((names(&last), last.more), (vec!["build-a".to_owned()], false));
        let status = "workflows.argoproj.io/workflow-archiving-status";
        let one: Value = serde_json::from_str(&last.items[0]).unwrap();
        let at = "2026-11-21T12:01:00Z";
        let whole = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
            "metadata": {"name": "build-a", "namespace": "ci", "uid": "u1", "creationTimestamp": at,
                "labels": {"team": "red", "n": "3", status: "Persisted"}},
            "spec": {"arguments": {}},
            "status": {"phase": "Succeeded", "startedAt": at, "finishedAt": at},
        });
        assert_eq!(one, whole);
        assert_eq!(archive.label_values(None, "team".into()).await.unwrap(), ["blue", "red"]);
        assert_eq!(archive.label_values(Some("ops".into()), "team".into()).await.unwrap(), ["red"]);
        assert_eq!(archive.label_keys(None).await.unwrap(), ["n", "team", status]);
        assert_eq!(archive.label_keys(Some("ops".into())).await.unwrap(), ["team", status]);
    }
}

#[tokio::test]
async fn what_is_kept_survives_and_is_the_newest() {
    for place in Place::all("what a database keeps") {
        drop(place.with_some().await);
        // Another process, and the same run once more: it was retried.
        let archive = place.open();
        archive.keep(vec![workflow("u1", "build-a", "ci", 9, json!({"team": "green"}))]).await.unwrap();
        assert_eq!(archive.count(Wanted::default()).await.unwrap(), 3);
        assert_eq!(names(&archive.list(Wanted::default()).await.unwrap())[0], "build-a");
        assert_eq!(archive.label_values(None, "team".into()).await.unwrap(), ["blue", "green", "red"]);
        let whole: Value = serde_json::from_str(&archive.get("u1".into()).await.unwrap().unwrap()).unwrap();
        assert_eq!(whole["status"]["nodes"]["n"]["id"], "n");
        assert_eq!(whole["kind"], "Workflow");
        assert_eq!(whole["metadata"]["labels"]["workflows.argoproj.io/workflow-archiving-status"], "Persisted");
        assert!(whole["metadata"].get("managedFields").is_none());
        assert!(archive.get("nobody".into()).await.unwrap().is_none());
        // All or none.
        let refused = archive.keep(vec![workflow("u4", "x", "ci", 4, json!({})), "{}".into()]).await.unwrap_err();
        assert!(!refused.is_transient(), "{refused}");
        assert!(archive.get("u4".into()).await.unwrap().is_none());
        assert_eq!(archive.expire("2026-11-21T12:03:00Z".into()).await.unwrap(), 1);
        assert!(archive.get("u2".into()).await.unwrap().is_none());
        assert!(archive.remove("u3".into()).await.unwrap());
        assert!(!archive.remove("u3".into()).await.unwrap());
        // Their labels went with them.
        assert_eq!(archive.label_values(None, "team".into()).await.unwrap(), ["green"]);
    }
}

#[tokio::test]
async fn what_is_remembered_is_found_and_forgotten() {
    for place in Place::all("what a database remembers") {
        let memory = place.open();
        let s = str::to_owned;
        // Larger than any ConfigMap, and a key that is larger than any index takes.
        let (large, long) = ("x".repeat(3 << 20), "ключ ".repeat(4000));
        let entries = [("a", "c", "k", "1"), ("a", "c/d", "k", &large), ("b", "c", "k", "2"), ("b", "c", &long, "4")];
        for (namespace, cache, key, entry) in entries {
            memory.remember(s(namespace), s(cache), s(key), s(entry)).await.unwrap();
        }
        memory.remember(s("a"), s("c"), s("k"), s("3")).await.unwrap();
        let memory = place.open();
        assert_eq!(memory.recall(s("a"), s("c"), s("k")).await.unwrap().as_deref(), Some("3"));
        assert_eq!(memory.recall(s("b"), s("c"), s("k")).await.unwrap().as_deref(), Some("2"));
        assert_eq!(memory.recall(s("b"), s("c"), long.clone()).await.unwrap().as_deref(), Some("4"));
        assert_eq!(memory.recall(s("a"), s("c/d"), s("k")).await.unwrap().unwrap().len(), 3 << 20);
        assert_eq!(memory.recall(s("c"), s("c"), s("k")).await.unwrap(), None);
        let mut there: Vec<_> =
            memory.remembered(s("a")).await.unwrap().into_iter().map(|r| (r.cache, r.bytes, r.written.len())).collect();
        there.sort();
        assert_eq!(there, [(s("c"), 1, 20), (s("c/d"), 3 << 20, 20)]);
        assert_eq!(memory.forget(s("a"), Some(s("c")), None).await.unwrap(), 1);
        assert_eq!(memory.forget(s("a"), None, None).await.unwrap(), 1);
        assert_eq!(memory.remembered(s("a")).await.unwrap(), []);
        assert_eq!(memory.forget(s("b"), None, Some(s("k"))).await.unwrap(), 1);
    }
}
