//! The tables. Argo's are used as they are where Argo has made them. Where there are none they are made as Argo's migrations
//! would leave them, with the number of the last of these, so that an Argo that comes later goes on from there and does not
//! begin anew. It must never change a table that is there.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::PostgresOptions;
use super::connect::within;
use super::pool::Held;
use crate::Error;

/// The last change of Argo v4.1's `persistence` migrations.
const ARGO_VERSION: i32 = 68;
/// What has to be there for a row to be written and found.
const COLUMNS: [&str; 9] =
    ["uid", "name", "namespace", "phase", "workflow", "startedat", "finishedat", "clustername", "instanceid"];
/// Two processes that begin at once make one set of tables.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7741528104)";

const ARCHIVE: &str = "
CREATE TABLE argo_archived_workflows (
  uid varchar(128) NOT NULL, name varchar(256) NOT NULL, phase varchar(25) NOT NULL, namespace varchar(256) NOT NULL,
  workflow jsonb NOT NULL, startedat timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  finishedat timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, clustername varchar(64) NOT NULL,
  instanceid varchar(64) NOT NULL, creationtimestamp timestamp DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (clustername, uid));
CREATE INDEX argo_archived_workflows_i1 ON argo_archived_workflows (clustername, instanceid, namespace, startedat DESC);
CREATE INDEX argo_archived_workflows_i2 ON argo_archived_workflows (clustername, instanceid, finishedat);
CREATE INDEX argo_archived_workflows_i3 ON argo_archived_workflows (clustername, instanceid, name);
CREATE INDEX argo_archived_workflows_i4 ON argo_archived_workflows (clustername, startedat);
CREATE INDEX argo_archived_workflows_i5 ON argo_archived_workflows (creationtimestamp);
CREATE TABLE argo_archived_workflows_labels (
  clustername varchar(64) NOT NULL, uid varchar(128) NOT NULL, name varchar(317) NOT NULL, value varchar(63) NOT NULL,
  PRIMARY KEY (clustername, uid, name),
  FOREIGN KEY (clustername, uid) REFERENCES argo_archived_workflows (clustername, uid) ON DELETE CASCADE);
CREATE INDEX argo_archived_workflows_labels_i1 ON argo_archived_workflows_labels (name, value);
CREATE TABLE schema_history (schema_version integer NOT NULL, PRIMARY KEY (schema_version));";

/// A key may be larger than an entry of an index, so its digest is what is looked for.
const MEMORY: &str = "
CREATE TABLE windlass_remembered (
  clustername varchar(64) NOT NULL, namespace text NOT NULL, digest text NOT NULL, cache text NOT NULL,
  key text NOT NULL, written timestamptz NOT NULL DEFAULT now(), entry text NOT NULL,
  PRIMARY KEY (clustername, namespace, digest))";

/// Looks for the archive's tables, and makes them where there are none.
pub(super) async fn archive(held: &mut Held<'_>, options: &PostgresOptions) -> Result<(), Error> {
    let mut columns = columns(&held.client).await?;
    if columns.is_empty() {
        if !options.makes_tables {
            return Err(missing("argo_archived_workflows"));
        }
        make(&mut held.client, options).await?;
        columns = self::columns(&held.client).await?;
    }
    let there = |name: &str| columns.iter().any(|column| column == name);
    if let Some(name) = COLUMNS.into_iter().find(|name| !there(name)) {
        let why = format!(
            "the table argo_archived_workflows has no column {name}: an older Argo made it; let a newer Argo's controller \
             start once, or name another database"
        );
        return Err(Error::Postgres { why, transient: true });
    }
    held.has_creation = there("creationtimestamp");
    Ok(())
}

/// The same of what is remembered.
pub(super) async fn memory(held: &mut Held<'_>, options: &PostgresOptions) -> Result<(), Error> {
    if is_there(&held.client, "windlass_remembered").await? {
        return Ok(());
    }
    if !options.makes_tables {
        return Err(missing("windlass_remembered"));
    }
    let transaction = within(held.client.transaction()).await?;
    within(transaction.batch_execute(LOCK)).await?;
    if !is_there(transaction.client(), "windlass_remembered").await? {
        within(transaction.batch_execute(MEMORY)).await?;
    }
    within(transaction.commit()).await
}

fn missing(table: &str) -> Error {
    let why = format!("there is no table {table}, and persistence.skipMigration says that none is made");
    Error::Postgres { why, transient: true }
}

async fn is_there(client: &Client, table: &str) -> Result<bool, Error> {
    // Not by `to_regclass`, which may remember from before the lock that it was not there.
    let asked = "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = $1::text AND pg_table_is_visible(oid))";
    let row = within(client.query_typed_one(asked, &[(&table, Type::TEXT)])).await?;
    Ok(row.get(0))
}

async fn columns(client: &Client) -> Result<Vec<String>, Error> {
    let asked = "SELECT attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                 WHERE relname = 'argo_archived_workflows' AND pg_table_is_visible(c.oid) AND attnum > 0 AND NOT attisdropped";
    Ok(within(client.query_typed(asked, &[])).await?.iter().map(|row| row.get(0)).collect())
}

async fn make(client: &mut Client, options: &PostgresOptions) -> Result<(), Error> {
    let transaction = within(client.transaction()).await?;
    within(transaction.batch_execute(LOCK)).await?;
    if is_there(transaction.client(), "argo_archived_workflows").await? {
        return Ok(());
    }
    if is_there(transaction.client(), "schema_history").await? {
        let why = "there is a table schema_history and no argo_archived_workflows: Argo's controller is making its tables, \
                   or they were taken away; start Argo's controller, or name an empty database";
        return Err(Error::Postgres { why: why.to_owned(), transient: true });
    }
    within(transaction.batch_execute(ARCHIVE)).await?;
    let offload = &options.offload_table;
    let rest = format!(
        "CREATE TABLE IF NOT EXISTS {offload} (
           uid varchar(128) NOT NULL, namespace varchar(256) NOT NULL, creationtimestamp timestamp DEFAULT CURRENT_TIMESTAMP,
           clustername varchar(64) NOT NULL, version varchar(64) NOT NULL, nodes json NOT NULL,
           updatedat timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (clustername, uid, version));
         CREATE INDEX IF NOT EXISTS {offload}_i1 ON {offload} (clustername, namespace, updatedat);
         INSERT INTO schema_history VALUES ({ARGO_VERSION});"
    );
    within(transaction.batch_execute(&rest)).await?;
    within(transaction.commit()).await
}
