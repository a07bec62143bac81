//! The archive in one SQLite file, WAL and `synchronous=FULL`. The tables have the names and columns of Argo's, so that any
//! tool that reads those reads this; beside them a row has the short form that lists are made of, so that a list never
//! reads a workflow. The file is opened when it is first needed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use crate::record::Record;
use crate::{Archive, Error, Name, Page, Wanted};

const FORMAT: i64 = 1;

/// The columns that are read come before the one that is large: what is not asked for is not read from the disk.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS argo_archived_workflows (
  uid TEXT NOT NULL PRIMARY KEY, clustername TEXT NOT NULL DEFAULT 'default', instanceid TEXT NOT NULL DEFAULT '',
  name TEXT NOT NULL, namespace TEXT NOT NULL, phase TEXT NOT NULL, startedat TEXT NOT NULL, finishedat TEXT NOT NULL,
  creationtimestamp TEXT NOT NULL, summary TEXT NOT NULL, workflow TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS archived_by_start ON argo_archived_workflows (startedat, uid);
CREATE INDEX IF NOT EXISTS archived_by_namespace ON argo_archived_workflows (namespace, startedat, uid);
CREATE INDEX IF NOT EXISTS archived_by_name ON argo_archived_workflows (name, namespace);
CREATE INDEX IF NOT EXISTS archived_by_end ON argo_archived_workflows (finishedat);
CREATE TABLE IF NOT EXISTS argo_archived_workflows_labels (
  uid TEXT NOT NULL REFERENCES argo_archived_workflows (uid) ON DELETE CASCADE,
  name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (uid, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS archived_by_label ON argo_archived_workflows_labels (name, value);
PRAGMA user_version = 1;";

/// An archive in a file. A clone is the same archive.
#[derive(Clone, Debug)]
pub struct SqliteArchive {
    path: PathBuf,
    connection: Arc<Mutex<Option<Connection>>>,
}

impl SqliteArchive {
    /// The archive of this file, which is made when something is first asked of it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), connection: Arc::default() }
    }

    /// Works on the database, on a thread that may wait.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (path, connection) = (self.path.clone(), Arc::clone(&self.connection));
        let work = move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            if connection.is_none() {
                *connection = Some(open(&path)?);
            }
            work(connection.as_mut().ok_or(Error::Ended)?)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ended)?
    }
}

fn open(path: &std::path::Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > FORMAT {
        return Err(Error::TooNew { found, known: FORMAT });
    }
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch(crate::memory::SCHEMA)?;
    connection.execute_batch(crate::limits::SCHEMA)?;
    Ok(connection)
}

/// `WHERE …` of a question, with its values.
fn conditions(wanted: &Wanted) -> (String, Vec<Value>) {
    let (mut all, mut values) = (Vec::new(), Vec::new());
    let mut on = |condition: &str, given: &[&str]| {
        all.push(condition.to_owned());
        values.extend(given.iter().map(|text| Value::Text((*text).to_owned())));
    };
    if let Some(namespace) = &wanted.namespace {
        on("w.namespace = ?", &[namespace]);
    }
    match &wanted.name {
        Name::Any => {}
        Name::Exact(name) => on("w.name = ?", &[name]),
        // `~` comes after every character that a name may have.
        Name::Prefix(prefix) => on("w.name >= ? AND w.name < ? || '~'", &[prefix, prefix]),
        Name::Contains(part) => on("instr(w.name, ?) > 0", &[part]),
    }
    if let Some(time) = &wanted.started_after {
        on("w.startedat > ?", &[time]);
    }
    if let Some(time) = &wanted.started_before {
        on("w.startedat < ?", &[time]);
    }
    wanted.labels.conditions(&mut all, &mut values);
    let text = if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
    (text, values)
}

fn strings(connection: &Connection, query: &str, values: &[Value]) -> Result<Vec<String>, Error> {
    let mut prepared = connection.prepare_cached(query)?;
    let rows = prepared.query_map(params_from_iter(values), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[async_trait::async_trait]
impl Archive for SqliteArchive {
    async fn keep(&self, workflows: Vec<String>) -> Result<(), Error> {
        self.with(move |connection| {
            let records = workflows.iter().map(|text| Record::read(text)).collect::<Result<Vec<_>, _>>()?;
            let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for record in &records {
                transaction
                    .prepare_cached("DELETE FROM argo_archived_workflows WHERE uid = ?1")?
                    .execute([&record.uid])?;
                transaction
                    .prepare_cached(
                        "INSERT INTO argo_archived_workflows (uid, name, namespace, phase, startedat, finishedat, \
                         creationtimestamp, summary, workflow) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    )?
                    .execute(params![
                        record.uid,
                        record.name,
                        record.namespace,
                        record.phase,
                        record.started,
                        record.finished,
                        record.created,
                        record.summary,
                        record.workflow
                    ])?;
                let mut label = transaction.prepare_cached(
                    "INSERT INTO argo_archived_workflows_labels (uid, name, value) VALUES (?1, ?2, ?3)",
                )?;
                for (name, value) in &record.labels {
                    label.execute([&record.uid, name, value])?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    async fn list(&self, wanted: Wanted) -> Result<Page, Error> {
        self.with(move |connection| {
            let (conditions, mut values) = conditions(&wanted);
            let number = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
            // One more than was asked for says whether there are more; -1 is no limit.
            values.push(wanted.limit.map_or(Value::Integer(-1), |limit| number(limit.saturating_add(1))));
            values.push(number(wanted.offset));
            let query = format!(
                "SELECT w.summary FROM argo_archived_workflows w{conditions} \
                 ORDER BY w.startedat DESC, w.uid DESC LIMIT ? OFFSET ?"
            );
            let mut items = strings(connection, &query, &values)?;
            let limit = wanted.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
            let more = items.len() > limit;
            items.truncate(limit);
            Ok(Page { items, more })
        })
        .await
    }

    async fn count(&self, wanted: Wanted) -> Result<u64, Error> {
        self.with(move |connection| {
            let (conditions, values) = conditions(&wanted);
            let query = format!("SELECT count(*) FROM argo_archived_workflows w{conditions}");
            let count: i64 = connection.query_row(&query, params_from_iter(values), |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
        .await
    }

    async fn get(&self, uid: String) -> Result<Option<String>, Error> {
        let query = "SELECT workflow FROM argo_archived_workflows WHERE uid = ?1";
        self.with(move |connection| Ok(connection.query_row(query, [&uid], |row| row.get(0)).optional()?)).await
    }

    async fn remove(&self, uid: String) -> Result<bool, Error> {
        let query = "DELETE FROM argo_archived_workflows WHERE uid = ?1";
        self.with(move |connection| Ok(connection.execute(query, [&uid])? > 0)).await
    }

    async fn expire(&self, finished_before: String) -> Result<usize, Error> {
        let query = "DELETE FROM argo_archived_workflows WHERE finishedat < ?1";
        self.with(move |connection| Ok(connection.execute(query, [&finished_before])?)).await
    }

    async fn label_keys(&self, namespace: Option<String>) -> Result<Vec<String>, Error> {
        self.with(move |connection| {
            let values: Vec<Value> = namespace.into_iter().map(Value::Text).collect();
            let within =
                if values.is_empty() { "" } else { " JOIN argo_archived_workflows w USING (uid) WHERE namespace = ?" };
            let query = format!("SELECT DISTINCT l.name FROM argo_archived_workflows_labels l{within} ORDER BY 1");
            strings(connection, &query, &values)
        })
        .await
    }

    async fn label_values(&self, namespace: Option<String>, key: String) -> Result<Vec<String>, Error> {
        self.with(move |connection| {
            let mut values = vec![Value::Text(key)];
            let within = if namespace.is_some() { " AND w.namespace = ?" } else { "" };
            values.extend(namespace.map(Value::Text));
            let query = format!(
                "SELECT DISTINCT l.value FROM argo_archived_workflows_labels l \
                 JOIN argo_archived_workflows w USING (uid) WHERE l.name = ?{within} ORDER BY 1"
            );
            strings(connection, &query, &values)
        })
        .await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Lists are answered from indexes and rows' heads: the plan names no scan of the whole table, and the column with the
    /// workflows is not among those that are read.
    #[tokio::test]
    async fn a_list_reads_no_workflow() {
        let dir = tempfile::tempdir().unwrap();
        let archive = SqliteArchive::new(dir.path().join("archive.db"));
        let at = "2026-11-21T12:00:00Z";
        let workflow = json!({
            "metadata": {"uid": "u1", "name": "build", "namespace": "ci", "labels": {}},
            "status": {"phase": "Succeeded", "startedAt": at, "finishedAt": at},
        });
        archive.keep(vec![workflow.to_string()]).await.unwrap();
        let wanted = Wanted { namespace: Some("ci".into()), limit: Some(1), ..Wanted::default() };
        let (text, mut values) = conditions(&wanted);
        let query = format!(
            "EXPLAIN QUERY PLAN SELECT w.summary FROM argo_archived_workflows w{text} ORDER BY w.startedat DESC, w.uid DESC LIMIT 1"
        );
        let plan = archive
            .with(move |connection| {
                let mut prepared = connection.prepare(&query)?;
                let rows =
                    prepared.query_map(params_from_iter(std::mem::take(&mut values)), |row| row.get::<_, String>(3))?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?.join("; "))
            })
            .await
            .unwrap();
        assert_eq!(plan, "SEARCH w USING INDEX archived_by_namespace (namespace=?)");
    }

    #[tokio::test]
    async fn a_newer_file_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let refused = SqliteArchive::new(&path).get("u".into()).await.unwrap_err();
        assert!(matches!(refused, Error::TooNew { found: 99, .. }), "{refused}");
    }
}
