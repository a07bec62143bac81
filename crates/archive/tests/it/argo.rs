//! Argo's tables: as Argo leaves them, as we make them, and whose rows are whose.

use std::sync::Arc;

use serde_json::{Value, json};
use windlass_archive::{Archive, Memory, PostgresArchive, PostgresOptions, Wanted};

use crate::both::{Known, asked, names, options, workflow};
use crate::database::Postgres;

fn open(options: PostgresOptions) -> PostgresArchive {
    PostgresArchive::new(options, Arc::new(Known))
}

/// What Argo's controllers have made over the years: those up to 3.5 kept `json`, and knew no time of creation.
const OLDER: &str = "
CREATE TABLE argo_archived_workflows (uid varchar(128) NOT NULL, name varchar(256) NOT NULL, phase varchar(25) NOT NULL,
  namespace varchar(256) NOT NULL, workflow json NOT NULL, startedat timestamp NOT NULL, finishedat timestamp NOT NULL,
  clustername varchar(64) NOT NULL, instanceid varchar(64) NOT NULL, PRIMARY KEY (clustername, uid));
CREATE TABLE argo_archived_workflows_labels (clustername varchar(64) NOT NULL, uid varchar(128) NOT NULL,
  name varchar(317) NOT NULL, value varchar(63) NOT NULL, PRIMARY KEY (clustername, uid, name),
  FOREIGN KEY (clustername, uid) REFERENCES argo_archived_workflows (clustername, uid) ON DELETE CASCADE);
CREATE TABLE schema_history (schema_version integer PRIMARY KEY);
INSERT INTO schema_history VALUES (59);";

/// A row as Argo writes it; its word stands for a NUL.
fn row(cluster: &str, instance: &str, uid: &str) -> String {
    let workflow = json!({
        "kind": "Workflow", "apiVersion": "argoproj.io/v1alpha1",
        "metadata": {"name": "of-argo", "namespace": "ci", "uid": uid, "creationTimestamp": "2026-11-20T10:00:00Z",
            "labels": {"team": "red", "workflows.argoproj.io/workflow-archiving-status": "Persisted"}},
        "spec": {"templates": [{"name": "main"}], "entrypoint": "main", "suspend": false,
            "arguments": {"parameters": [{"name": "who", "value": "a ARGO_POSTGRES_NULL_REPLACEMENT b"}]}},
        "status": {"phase": "Failed", "startedAt": "2026-11-20T10:00:01Z", "finishedAt": "2026-11-20T10:00:02Z",
            "progress": "1/2", "message": "it's gone", "nodes": {"n": {"id": "n"}}, "resourcesDuration": {"cpu": 1}},
    });
    let text = workflow.to_string().replace('\'', "''");
    format!(
        "INSERT INTO argo_archived_workflows (clustername, instanceid, uid, name, namespace, phase, startedat, \
         finishedat, workflow) VALUES ('{cluster}', '{instance}', '{uid}', 'of-argo', 'ci', 'Failed', \
         '2026-11-20 10:00:01', '2026-11-20 10:00:02', '{text}'); \
         INSERT INTO argo_archived_workflows_labels VALUES ('{cluster}', '{uid}', 'team', 'red')"
    )
}

#[tokio::test]
async fn rows_of_argo_are_read_and_ours_lie_beside_them() {
    let Some(server) = Postgres::start("rows of Argo") else { return };
    for (database, change) in [
        ("older", ""),
        (
            "newer",
            "ALTER TABLE argo_archived_workflows ALTER workflow TYPE jsonb; \
             ALTER TABLE argo_archived_workflows ADD creationtimestamp timestamp DEFAULT CURRENT_TIMESTAMP",
        ),
    ] {
        server.ask("postgres", &format!("CREATE DATABASE {database}"));
        server.ask(database, OLDER);
        server.ask(database, change);
        server.ask(database, &row("default", "", "argo-1"));
        server.ask(database, &row("elsewhere", "", "argo-2"));
        server.ask(database, &row("default", "another", "argo-3"));
        // Nobody but their owner may change these tables.
        let archive = open(PostgresOptions { makes_tables: false, ..options(server.port, database) });
        let mut ours: Value = serde_json::from_str(&workflow("u1", "ours", "ci", 5, json!({"team": "blue"}))).unwrap();
        ours["status"]["message"] = json!("\0 \\u0000");
        archive.keep(vec![ours.to_string()]).await.unwrap();
        let all = archive.list(Wanted::default()).await.unwrap();
        assert_eq!(names(&all), ["ours", "of-argo"], "{database}");
        let listed: Value = serde_json::from_str(&all.items[0]).unwrap();
        assert_eq!(listed["status"]["message"], ours["status"]["message"]);
        let listed: Value = serde_json::from_str(&all.items[1]).unwrap();
        assert_eq!(listed["status"]["message"], "it's gone");
        assert_eq!(listed["status"]["resourcesDuration"]["cpu"], 1);
        assert_eq!(listed["spec"]["arguments"]["parameters"][0]["value"], "a \0 b");
        assert_eq!(names(&archive.list(asked("team=red")).await.unwrap()), ["of-argo"]);
        let whole: Value = serde_json::from_str(&archive.get("argo-1".into()).await.unwrap().unwrap()).unwrap();
        assert_eq!(whole["status"]["nodes"]["n"]["id"], "n");
        assert_eq!(whole["spec"]["arguments"]["parameters"][0]["value"], "a \0 b");
        // Other clusters' and other controllers' are not ours to see, to delete, or to let expire.
        for uid in ["argo-2", "argo-3"] {
            assert_eq!(archive.get(uid.into()).await.unwrap(), None, "{database} {uid}");
            assert!(!archive.remove(uid.into()).await.unwrap());
        }
        assert_eq!(archive.expire("2026-11-21T00:00:00Z".into()).await.unwrap(), 1);
        assert_eq!(server.ask(database, "SELECT uid FROM argo_archived_workflows ORDER BY uid"), "argo-2\nargo-3\nu1");
        // The time that others' questions are about is UTC's clock, whatever zone the server has.
        let written = "SELECT clustername, instanceid, phase, startedat, finishedat, workflow->'status'->>'message' \
                       FROM argo_archived_workflows WHERE uid = 'u1'";
        let at = "2026-11-21 12:05:00";
        let message = "ARGO_POSTGRES_NULL_REPLACEMENT \\u0000";
        assert_eq!(server.ask(database, written), format!("default||Succeeded|{at}|{at}|{message}"));
        assert_eq!(server.ask(database, "SELECT schema_version FROM schema_history"), "59");
        // A controller of one namespace has that namespace's.
        let scoped = open(PostgresOptions { namespace: Some("ops".to_owned()), ..options(server.port, database) });
        assert_eq!(scoped.count(Wanted::default()).await.unwrap(), 0);
        assert_eq!(scoped.get("u1".into()).await.unwrap(), None);
        assert_eq!(scoped.expire("2027-01-01T00:00:00Z".into()).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn tables_are_made_once_as_argo_has_them() {
    let Some(server) = Postgres::start("tables that are made") else { return };
    server.ask("postgres", "ALTER DATABASE postgres SET timezone TO 'Asia/Tokyo'");
    let archive = || open(options(server.port, "postgres"));
    let not_made = PostgresOptions { makes_tables: false, ..options(server.port, "postgres") };
    let refused = open(not_made.clone()).check().await.unwrap_err();
    assert!(refused.to_string().contains("skipMigration") && refused.is_transient(), "{refused}");
    // Several begin at once.
    let (a, b, c) = (archive(), archive(), archive());
    let remember = |archive: PostgresArchive| async move {
        archive.check().await?;
        archive.remember("ns".into(), "c".into(), "k".into(), "{}".into()).await
    };
    let (a, b, c) = tokio::join!(remember(a), remember(b), remember(c));
    for made in [a, b, c] {
        made.unwrap();
    }
    open(not_made).check().await.unwrap();
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    assert_eq!(
        server.ask("postgres", tables),
        "argo_archived_workflows\nargo_archived_workflows_labels\nargo_workflows\nschema_history\nwindlass_remembered"
    );
    // Where Argo's migrations end, which go on from this number.
    assert_eq!(server.ask("postgres", "SELECT schema_version FROM schema_history"), "68");
    let indexes = "SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'argo%'";
    assert_eq!(server.ask("postgres", indexes), "10");
    archive().keep(vec![workflow("u1", "w", "ci", 5, json!({}))]).await.unwrap();
    let at = "SELECT startedat, creationtimestamp FROM argo_archived_workflows";
    assert_eq!(server.ask("postgres", at), "2026-11-21 12:05:00|2026-11-21 12:05:00");
    let after = |text: &str| Wanted { started_after: Some(text.to_owned()), ..Wanted::default() };
    assert_eq!(archive().count(after("2026-11-21T12:04:59Z")).await.unwrap(), 1);
    assert_eq!(archive().count(after("2026-11-21T14:05:00+02:00")).await.unwrap(), 0);
}

#[tokio::test]
async fn tables_that_are_half_made_are_left_alone() {
    let Some(server) = Postgres::start("tables that are half made") else { return };
    server.ask("postgres", "CREATE DATABASE begun");
    server.ask("begun", "CREATE TABLE schema_history (schema_version integer); INSERT INTO schema_history VALUES (3)");
    let refused = open(options(server.port, "begun")).check().await.unwrap_err();
    assert!(refused.to_string().contains("start Argo's controller") && refused.is_transient(), "{refused}");
    server.ask("begun", "CREATE TABLE argo_archived_workflows (uid text, name text, workflow text)");
    let refused = open(options(server.port, "begun")).check().await.unwrap_err();
    assert!(refused.to_string().contains("has no column namespace"), "{refused}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.ask("begun", tables), "2");
}
