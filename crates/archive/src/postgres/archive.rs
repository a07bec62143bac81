//! The port of finished runs over Argo's tables. A list reads the heads of the rows that are on its page and no others; what it
//! shows is what the file of one machine shows.

use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::connect::within;
use super::query::{Asked, Given, time};
use super::{PostgresArchive, nul};
use crate::record::Record;
use crate::{Archive, Error, Page, Wanted};

/// What a workflow says that never ended, or began: Argo's word for it.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The heads of the rows of a page. Each workflow is read once, and its nodes are left where they are.
const HEADS: &str = "SELECT jsonb_build_object(
    'name', m.name, 'namespace', m.namespace, 'uid', m.uid, 'labels', m.labels, 'annotations', m.annotations,
    'creationTimestamp', m.\"creationTimestamp\")::text,
  jsonb_build_object('suspend', s.suspend, 'arguments', s.arguments, 'priority', s.priority)::text,
  jsonb_build_object('phase', t.phase, 'startedAt', t.\"startedAt\", 'finishedAt', t.\"finishedAt\",
    'progress', t.progress, 'message', t.message, 'estimatedDuration', t.\"estimatedDuration\",
    'resourcesDuration', t.\"resourcesDuration\")::text
FROM page p
CROSS JOIN LATERAL jsonb_to_record(p.workflow::jsonb) AS w(metadata jsonb, spec jsonb, status jsonb)
CROSS JOIN LATERAL jsonb_to_record(coalesce(w.metadata, '{}')) AS m(name jsonb, namespace jsonb, uid jsonb, labels jsonb,
  annotations jsonb, \"creationTimestamp\" jsonb)
CROSS JOIN LATERAL jsonb_to_record(coalesce(w.spec, '{}')) AS s(suspend jsonb, arguments jsonb, priority jsonb)
CROSS JOIN LATERAL jsonb_to_record(coalesce(w.status, '{}')) AS t(phase jsonb, \"startedAt\" jsonb, \"finishedAt\" jsonb,
  progress jsonb, message jsonb, \"estimatedDuration\" jsonb, \"resourcesDuration\" jsonb)
ORDER BY p.startedat DESC, p.uid DESC";

/// One item of a list.
fn item(metadata: &str, spec: &str, status: &str) -> Result<String, Error> {
    let part = |text: &str| -> Result<Value, Error> {
        let mut part: Value = serde_json::from_str(&nul::with(text)).map_err(|e| Error::Unreadable(e.to_string()))?;
        if let Some(fields) = part.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        Ok(part)
    };
    let api_version = "argoproj.io/v1alpha1";
    let item = json!({
        "apiVersion": api_version, "kind": "Workflow",
        "metadata": part(metadata)?, "spec": part(spec)?, "status": part(status)?,
    });
    Ok(item.to_string())
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl PostgresArchive {
    async fn strings(&self, query: &str, asked: &Asked) -> Result<Vec<String>, Error> {
        let held = self.held().await?;
        let rows = within(held.client.query_typed(query, &asked.values())).await?;
        held.give_back();
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn delete(&self, asked: Asked) -> Result<u64, Error> {
        let held = self.held().await?;
        let query = format!("DELETE FROM argo_archived_workflows w{}", asked.conditions());
        let count = within(held.client.execute_typed(&query, &asked.values())).await?;
        held.give_back();
        Ok(count)
    }
}

#[async_trait::async_trait]
impl Archive for PostgresArchive {
    async fn keep(&self, workflows: Vec<String>) -> Result<(), Error> {
        let mut records = workflows.iter().map(|text| Record::read(text)).collect::<Result<Vec<_>, _>>()?;
        // In one order, so that two who write the same do not wait for each other in a circle.
        records.sort_by(|a, b| a.uid.cmp(&b.uid));
        let mut held = self.held().await?;
        let (creation, created) = match held.has_creation {
            true => (", creationtimestamp", format!(", {}", time("$10"))),
            false => ("", String::new()),
        };
        let (began, ended) = (time("$7"), time("$8"));
        let also = if held.has_creation { ", creationtimestamp = EXCLUDED.creationtimestamp" } else { "" };
        // A uid is of one workflow, whoever kept it before.
        let row = format!(
            "INSERT INTO argo_archived_workflows \
             (clustername, instanceid, uid, name, namespace, phase, startedat, finishedat, workflow{creation}) \
             VALUES ($1, $2, $3, $4, $5, $6, {began}, {ended}, $9::jsonb{created}) \
             ON CONFLICT (clustername, uid) DO UPDATE SET instanceid = EXCLUDED.instanceid, name = EXCLUDED.name, \
             namespace = EXCLUDED.namespace, phase = EXCLUDED.phase, startedat = EXCLUDED.startedat, \
             finishedat = EXCLUDED.finishedat, workflow = EXCLUDED.workflow{also}"
        );
        let old = "DELETE FROM argo_archived_workflows_labels WHERE clustername = $1 AND uid = $2";
        let labels = "INSERT INTO argo_archived_workflows_labels (clustername, uid, name, value) \
                      SELECT $1, $2, * FROM unnest($3::text[], $4::text[])";
        let has_creation = held.has_creation;
        let options = self.pool.options();
        let transaction = within(held.client.transaction()).await?;
        for record in &records {
            let at = |text: &str| if text.is_empty() { NO_TIME.to_owned() } else { text.to_owned() };
            let mut values = [&options.cluster, &options.instance, &record.uid, &record.name, &record.namespace]
                .map(|text| Given::Text(text.clone()))
                .into_iter()
                .collect::<Vec<_>>();
            values.push(Given::Text(record.phase.clone()));
            values.extend([at(&record.started), at(&record.finished), nul::without(&record.workflow)].map(Given::Text));
            if has_creation {
                values.push(Given::Text(at(&record.created)));
            }
            let mut asked = Asked::default();
            values.into_iter().for_each(|value| drop(asked.mark(value)));
            within(transaction.execute_typed(&row, &asked.values())).await?;
            let of_row = [&options.cluster, &record.uid];
            within(transaction.execute_typed(old, &[(of_row[0], Type::TEXT), (of_row[1], Type::TEXT)])).await?;
            let (names, values): (Vec<&String>, Vec<&String>) = record.labels.iter().unzip();
            let given = [
                (of_row[0] as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT),
                (of_row[1], Type::TEXT),
                (&names, Type::TEXT_ARRAY),
                (&values, Type::TEXT_ARRAY),
            ];
            within(transaction.execute_typed(labels, &given)).await?;
        }
        within(transaction.commit()).await?;
        held.give_back();
        Ok(())
    }

    async fn list(&self, wanted: Wanted) -> Result<Page, Error> {
        let mut asked = Asked::wanted(self.pool.options(), &wanted);
        let conditions = asked.conditions();
        // One more than was asked for says whether there are more.
        let limit = match wanted.limit {
            Some(limit) => format!(" LIMIT {}", asked.mark(Given::Number(number(limit.saturating_add(1))))),
            None => String::new(),
        };
        let offset = asked.mark(Given::Number(number(wanted.offset)));
        let query = format!(
            "WITH page AS MATERIALIZED (SELECT w.uid, w.startedat, w.workflow FROM argo_archived_workflows w{conditions} \
             ORDER BY w.startedat DESC, w.uid DESC{limit} OFFSET {offset}) {HEADS}"
        );
        let held = self.held().await?;
        let rows = within(held.client.query_typed(&query, &asked.values())).await?;
        held.give_back();
        let limit = wanted.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let items = rows.iter().take(limit).map(|row| item(row.get(0), row.get(1), row.get(2)));
        Ok(Page { items: items.collect::<Result<_, _>>()?, more: rows.len() > limit })
    }

    async fn count(&self, wanted: Wanted) -> Result<u64, Error> {
        let asked = Asked::wanted(self.pool.options(), &wanted);
        let query = format!("SELECT count(*) FROM argo_archived_workflows w{}", asked.conditions());
        let held = self.held().await?;
        let row = within(held.client.query_typed_one(&query, &asked.values())).await?;
        held.give_back();
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    async fn get(&self, uid: String) -> Result<Option<String>, Error> {
        let mut asked = Asked::ours(self.pool.options());
        asked.text("w.uid = ?", &uid);
        let query = format!("SELECT w.workflow::text FROM argo_archived_workflows w{}", asked.conditions());
        let found = self.strings(&query, &asked).await?;
        Ok(found.into_iter().next().map(|text| nul::with(&text)))
    }

    async fn remove(&self, uid: String) -> Result<bool, Error> {
        let mut asked = Asked::ours(self.pool.options());
        asked.text("w.uid = ?", &uid);
        Ok(self.delete(asked).await? > 0)
    }

    async fn expire(&self, finished_before: String) -> Result<usize, Error> {
        let mut asked = Asked::ours(self.pool.options());
        asked.text(&format!("w.finishedat < {}", time("?")), &finished_before);
        Ok(usize::try_from(self.delete(asked).await?).unwrap_or(usize::MAX))
    }

    async fn label_keys(&self, namespace: Option<String>) -> Result<Vec<String>, Error> {
        let asked = Asked::wanted(self.pool.options(), &Wanted { namespace, ..Wanted::default() });
        // In the order of their bytes, whatever language the database speaks.
        let query = format!(
            "SELECT DISTINCT l.name COLLATE \"C\" FROM argo_archived_workflows_labels l \
             JOIN argo_archived_workflows w USING (clustername, uid){} ORDER BY 1",
            asked.conditions()
        );
        self.strings(&query, &asked).await
    }

    async fn label_values(&self, namespace: Option<String>, key: String) -> Result<Vec<String>, Error> {
        let mut asked = Asked::wanted(self.pool.options(), &Wanted { namespace, ..Wanted::default() });
        asked.text("l.name = ?", &key);
        let query = format!(
            "SELECT DISTINCT l.value COLLATE \"C\" FROM argo_archived_workflows_labels l \
             JOIN argo_archived_workflows w USING (clustername, uid){} ORDER BY 1",
            asked.conditions()
        );
        self.strings(&query, &asked).await
    }
}
