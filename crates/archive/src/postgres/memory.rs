//! Remembered outputs in a table of our own beside Argo's: one row a key, of one cluster, whichever of its controllers wrote
//! it. What an entry says is its writer's business.

use sha2::{Digest, Sha256};

use super::PostgresArchive;
use super::connect::{soon, within};
use super::query::{Asked, Given};
use crate::{Error, Memory, Remembered};

/// What a key is found by, however long it is.
fn digest(cache: &str, key: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(cache.len().to_be_bytes());
    digest.update(cache);
    digest.update(key);
    hex::encode(digest.finalize())
}

impl PostgresArchive {
    fn of_namespace(&self, namespace: &str) -> Asked {
        let mut asked = Asked::default();
        asked.text("clustername = ?", &self.pool.options().cluster);
        asked.text("namespace = ?", namespace);
        asked
    }
}

#[async_trait::async_trait]
impl Memory for PostgresArchive {
    async fn recall(&self, namespace: String, cache: String, key: String) -> Result<Option<String>, Error> {
        let mut asked = self.of_namespace(&namespace);
        asked.text("digest = ?", &digest(&cache, &key));
        let query = format!("SELECT entry FROM windlass_remembered{}", asked.conditions());
        let held = self.held_memory().await?;
        let row = soon(held.client.query_typed_opt(&query, &asked.values())).await?;
        held.give_back();
        Ok(row.map(|row| row.get(0)))
    }

    async fn remember(&self, namespace: String, cache: String, key: String, entry: String) -> Result<(), Error> {
        let query = "INSERT INTO windlass_remembered (clustername, namespace, digest, cache, key, entry) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (clustername, namespace, digest) \
                     DO UPDATE SET entry = EXCLUDED.entry, written = EXCLUDED.written";
        let mut asked = Asked::default();
        let digest = digest(&cache, &key);
        for text in [self.pool.options().cluster.clone(), namespace, digest, cache, key, entry] {
            asked.mark(Given::Text(text));
        }
        let held = self.held_memory().await?;
        within(held.client.execute_typed(query, &asked.values())).await?;
        held.give_back();
        Ok(())
    }

    async fn remembered(&self, namespace: String) -> Result<Vec<Remembered>, Error> {
        let asked = self.of_namespace(&namespace);
        let query = format!(
            "SELECT cache, key, octet_length(entry)::bigint, \
             to_char(written AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM windlass_remembered{} \
             ORDER BY written DESC, cache, key",
            asked.conditions()
        );
        let held = self.held_memory().await?;
        let rows = within(held.client.query_typed(&query, &asked.values())).await?;
        held.give_back();
        let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        let entry = |row: &tokio_postgres::Row| Remembered {
            cache: row.get(0),
            key: row.get(1),
            bytes: bytes(row.get(2)),
            written: row.get(3),
        };
        Ok(rows.iter().map(entry).collect())
    }

    async fn forget(&self, namespace: String, cache: Option<String>, key: Option<String>) -> Result<usize, Error> {
        let mut asked = self.of_namespace(&namespace);
        for (condition, text) in [("cache = ?", cache), ("key = ?", key)] {
            if let Some(text) = text {
                asked.text(condition, &text);
            }
        }
        let query = format!("DELETE FROM windlass_remembered{}", asked.conditions());
        let held = self.held_memory().await?;
        let count = within(held.client.execute_typed(&query, &asked.values())).await?;
        held.give_back();
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}
