//! Remembered outputs in the same file: one row a key, as many and as large as there are. What an entry says is its
//! writer's business; how old one may be decides who reads it.

use rusqlite::OptionalExtension;

use crate::{Error, SqliteArchive};

/// One thing remembered, without what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// The part of the cache.
    pub cache: String,
    /// Its key.
    pub key: String,
    /// How large it is.
    pub bytes: u64,
    /// When it was written last: when it was made, or found again.
    pub written: String,
}

/// Remembered outputs, by namespace, part of the cache, and key.
#[async_trait::async_trait]
pub trait Memory: Send + Sync + std::fmt::Debug {
    /// What is remembered under a key.
    async fn recall(&self, namespace: String, cache: String, key: String) -> Result<Option<String>, Error>;
    /// Remembers an entry, in place of what was there.
    async fn remember(&self, namespace: String, cache: String, key: String, entry: String) -> Result<(), Error>;
    /// All keys of a namespace, the newest first.
    async fn remembered(&self, namespace: String) -> Result<Vec<Remembered>, Error>;
    /// Forgets a key, a part, or all of a namespace; how many entries that were.
    async fn forget(&self, namespace: String, cache: Option<String>, key: Option<String>) -> Result<usize, Error>;
}

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS remembered (
  namespace TEXT NOT NULL, cache TEXT NOT NULL, key TEXT NOT NULL,
  written TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')), entry TEXT NOT NULL,
  PRIMARY KEY (namespace, cache, key));";

#[async_trait::async_trait]
impl Memory for SqliteArchive {
    async fn recall(&self, namespace: String, cache: String, key: String) -> Result<Option<String>, Error> {
        let query = "SELECT entry FROM remembered WHERE namespace = ?1 AND cache = ?2 AND key = ?3";
        self.with(move |c| {
            Ok(c.prepare_cached(query)?.query_row([&namespace, &cache, &key], |row| row.get(0)).optional()?)
        })
        .await
    }

    async fn remember(&self, namespace: String, cache: String, key: String, entry: String) -> Result<(), Error> {
        let query = "INSERT OR REPLACE INTO remembered (namespace, cache, key, entry) VALUES (?1, ?2, ?3, ?4)";
        self.with(move |c| Ok(c.prepare_cached(query)?.execute([&namespace, &cache, &key, &entry]).map(drop)?)).await
    }

    async fn remembered(&self, namespace: String) -> Result<Vec<Remembered>, Error> {
        let query = "SELECT cache, key, octet_length(entry), written FROM remembered WHERE namespace = ?1 \
                     ORDER BY written DESC, cache, key";
        self.with(move |c| {
            let mut prepared = c.prepare_cached(query)?;
            let rows = prepared.query_map([&namespace], |row| {
                let bytes: i64 = row.get(2)?;
                let bytes = u64::try_from(bytes).unwrap_or(0);
                Ok(Remembered { cache: row.get(0)?, key: row.get(1)?, bytes, written: row.get(3)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn forget(&self, namespace: String, cache: Option<String>, key: Option<String>) -> Result<usize, Error> {
        let query =
            "DELETE FROM remembered WHERE namespace = ?1 AND (?2 IS NULL OR cache = ?2) AND (?3 IS NULL OR key = ?3)";
        self.with(move |c| Ok(c.execute(query, rusqlite::params![namespace, cache, key])?)).await
    }
}
