//! The sizes of semaphores that are kept in a database: Argo's table `sync_limit`, a name (`namespace/key`) and a number.
//! Who holds a lock is not here: that is in the workflows' statuses.

use rusqlite::OptionalExtension;

use crate::{Error, SqliteArchive};

/// Limits by name.
#[async_trait::async_trait]
pub trait Limits: Send + Sync + std::fmt::Debug {
    /// How many places there are; nothing when nobody has said.
    async fn limit(&self, name: String) -> Result<Option<u32>, Error>;
    /// Says it for the first time; false when it was said before.
    async fn create_limit(&self, name: String, limit: u32) -> Result<bool, Error>;
    /// Says it anew; false when nobody has said it yet.
    async fn update_limit(&self, name: String, limit: u32) -> Result<bool, Error>;
    /// Takes it back; false when nobody has said it.
    async fn delete_limit(&self, name: String) -> Result<bool, Error>;
}

pub(crate) const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS sync_limit (name TEXT NOT NULL PRIMARY KEY, sizelimit INTEGER NOT NULL) WITHOUT ROWID;";

#[async_trait::async_trait]
impl Limits for SqliteArchive {
    async fn limit(&self, name: String) -> Result<Option<u32>, Error> {
        let query = "SELECT sizelimit FROM sync_limit WHERE name = ?1";
        self.with(move |c| Ok(c.prepare_cached(query)?.query_row([&name], |row| row.get(0)).optional()?)).await
    }

    async fn create_limit(&self, name: String, limit: u32) -> Result<bool, Error> {
        let query = "INSERT OR IGNORE INTO sync_limit (name, sizelimit) VALUES (?1, ?2)";
        self.with(move |c| Ok(c.execute(query, rusqlite::params![name, limit])? > 0)).await
    }

    async fn update_limit(&self, name: String, limit: u32) -> Result<bool, Error> {
        let query = "UPDATE sync_limit SET sizelimit = ?2 WHERE name = ?1";
        self.with(move |c| Ok(c.execute(query, rusqlite::params![name, limit])? > 0)).await
    }

    async fn delete_limit(&self, name: String) -> Result<bool, Error> {
        let query = "DELETE FROM sync_limit WHERE name = ?1";
        self.with(move |c| Ok(c.execute(query, [&name])? > 0)).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn limits_are_said_once_and_anew() {
        let dir = tempfile::tempdir().unwrap();
        let name = || "ns/key".to_owned();
        let limits = SqliteArchive::new(dir.path().join("archive.db"));
        assert_eq!(limits.limit(name()).await.unwrap(), None);
        assert!(!limits.update_limit(name(), 3).await.unwrap());
        assert!(limits.create_limit(name(), 3).await.unwrap());
        assert!(!limits.create_limit(name(), 4).await.unwrap());
        assert_eq!(limits.limit(name()).await.unwrap(), Some(3));
        assert!(limits.update_limit(name(), 5).await.unwrap());
        let limits = SqliteArchive::new(dir.path().join("archive.db"));
        assert_eq!(limits.limit(name()).await.unwrap(), Some(5));
        assert!(limits.delete_limit(name()).await.unwrap());
        assert!(!limits.delete_limit(name()).await.unwrap());
    }
}
